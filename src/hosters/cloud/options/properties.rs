//! What holds for every hook's argument. Checked with the random arguments below, and by `make fuzz`.

use std::net::IpAddr;
use std::time::Duration;

use super::{BASE_URL, Named, Options, Parsed, address, authorization, parse};
use crate::config::keyval::Item;
use crate::config::properties::{check_split, written};
use crate::config::{Common, Remark, Weight};

/// The token, or a piece of it, in arguments that test whether it is shown.
const SECRET: &str = "hunter2";

/// Checks `argument`, and returns what it was read as, if it was accepted.
pub fn check(argument: &[u8]) -> Option<Vec<Options>> {
    let items = check_split(argument);
    // No file of this machine is opened.
    if values(&items, "token_file").any(|path| path.contains(&b'/')) {
        return None;
    }
    let parsed = parse(argument);
    let Parsed { options, remarks, .. } = &parsed;
    check_remarks(argument, &items, remarks);
    if remarks.iter().any(|remark| remark.weight() != Weight::Doubtful) {
        assert!(remarks.iter().all(|remark| remark.weight() != Weight::Wrong) || options.is_empty());
        return None;
    }
    check_accepted(&items, &parsed);
    Some(parsed.options)
}

fn values<'a>(items: &'a [Item], key: &'a str) -> impl Iterator<Item = &'a [u8]> {
    items.iter().filter(move |item| item.key == key.as_bytes()).filter_map(|item| item.value.as_deref())
}

/// All that are documented.
const KEYS: &str = "token token_file ip floating_ip server url timeout deadline verify ssl_no_verify alarm";

fn is_known(key: &[u8]) -> bool {
    KEYS.split(' ').any(|known| known.as_bytes() == key)
}

fn check_accepted(items: &[Item], parsed: &Parsed) {
    let Parsed { common, options, remarks } = parsed;
    let is_comma_too_many = |item: &Item| item.key.is_empty() && item.value.is_none();
    let is_said = |item: &Item| is_known(&item.key) || is_comma_too_many(item) || !remarks.is_empty();
    assert!(items.iter().all(is_said), "no unknown key without a remark");
    // uWSGI takes the last of two.
    let given = |key: &str| values(items, key).last().map(|value| value.trim_ascii().to_vec());

    let ips = given("ip").expect("accepted, so it is there");
    let ips: Vec<IpAddr> =
        ips.split(|byte| *byte == b';').map(|one| address(one).expect("an address")).collect();
    assert_eq!(options.iter().map(|one| one.ip).collect::<Vec<_>>(), ips, "one for each IP, in order");
    assert!(ips.iter().enumerate().all(|(at, ip)| !ips[..at].contains(ip)), "no IP twice");

    let names: Vec<&Named> = options.iter().filter_map(|one| one.floating_ip.as_ref()).collect();
    assert_eq!(names.len(), if given("floating_ip").is_some() { ips.len() } else { 0 });
    assert!(names.iter().enumerate().all(|(at, name)| !names[..at].contains(name)), "none twice");
    for one in options {
        assert_eq!(one.server.is_some(), given("server").is_some());
        for named in one.server.iter().chain(&one.floating_ip) {
            match named {
                Named::Id(id) => assert!(*id > 0),
                Named::Name(name) => assert!(!name.is_empty() && name.parse::<u64>().is_err()),
            }
        }
        let token = one.token.read().expect("it is no file");
        let header = authorization(&token).expect("accepted, so it can be sent");
        assert_eq!(header.credentials().as_bytes(), token.trim_ascii());
        assert_eq!(one.base.trim_end_matches('/'), one.base);
        assert!(one.url.host().is_some_and(|host| !host.is_empty()), "a URL with a host");
        assert!(!one.url.authority().expect("it has a host").as_str().contains('@'), "a login in the URL");
        assert!(one.url.query().is_none());
        if given("url").is_none() {
            assert_eq!(one.base, BASE_URL);
        }
    }
    let (least, hour, day) =
        (Duration::from_millis(1), Duration::from_secs(3600), Duration::from_secs(24 * 3600));
    assert!((least..=hour).contains(&common.timeout));
    assert!((least..=day).contains(&common.deadline));
    assert!(common.verify.is_zero() || (least..=day).contains(&common.verify));

    let again = reprinted(items, parsed);
    let parsed_again = parse(&again);
    let accepted = parsed_again.remarks.iter().all(|remark| remark.weight() == Weight::Doubtful);
    assert!(accepted, "printed and not accepted again: {}", String::from_utf8_lossy(&again));
    assert_eq!(facts(&parsed_again), facts(parsed), "printed and parsed again");
}

/// The same list, with the parsed values printed again.
fn reprinted(items: &[Item], Parsed { common, options, .. }: &Parsed) -> Vec<u8> {
    let joined = |list: Vec<String>| list.join(";");
    let seconds = |duration: Duration| duration.as_secs_f64().to_string();
    let printed = |Item { key, value }: &Item| {
        // Without a value the key is ignored.
        if value.is_none() && key != b"ssl_no_verify" {
            return Item { key: key.clone(), value: None };
        }
        let new = match key.as_slice() {
            b"ip" => joined(options.iter().map(|one| one.ip.to_string()).collect()),
            b"floating_ip" => {
                joined(options.iter().filter_map(|one| Some(one.floating_ip.as_ref()?.to_string())).collect())
            }
            b"server" => options[0].server.as_ref().expect("it is given").to_string(),
            b"timeout" => seconds(common.timeout),
            b"deadline" => seconds(common.deadline),
            b"verify" => seconds(common.verify),
            b"ssl_no_verify" => u8::from(common.ssl_no_verify).to_string(),
            _ => return Item { key: key.clone(), value: value.clone() },
        };
        Item { key: key.clone(), value: Some(new.into()) }
    };
    written(&items.iter().map(printed).collect::<Vec<_>>())
}

/// All that was read, in a form that can be compared.
fn facts(Parsed { common, options, .. }: &Parsed) -> impl PartialEq + std::fmt::Debug {
    let Common { timeout, deadline, verify, ssl_no_verify, alarm } = common.clone();
    let facts = |one: &Options| {
        let names = (one.floating_ip.clone(), one.server.clone());
        (one.ip, names, one.base.clone(), one.url.to_string(), one.token.read())
    };
    (timeout, deadline, verify, ssl_no_verify, alarm, options.iter().map(facts).collect::<Vec<_>>())
}

/// Each remark is one line, and does not show the token.
fn check_remarks(argument: &[u8], items: &[Item], remarks: &[Remark]) {
    let mut after_token = false;
    let may_be_shown = items.iter().any(|item| {
        match item.key.as_slice() {
            b"token" => after_token = true,
            key => after_token &= !is_known(key),
        }
        let text = [&item.key, item.value.as_deref().unwrap_or_default()].concat();
        !after_token && String::from_utf8_lossy(&text).contains(SECRET)
    });
    for text in remarks.iter().map(Remark::to_string) {
        assert!(!text.contains(|c: char| c.is_control()), "more than a line: {text:?}");
        // All addresses are shown, but of anything else no more than a line.
        assert!(text.len() < 2000 + 2 * argument.len(), "{} bytes: {text}", text.len());
        assert!(may_be_shown || !text.contains(SECRET), "the token is shown: {text}");
    }
}

#[cfg(test)]
mod tests {
    use fastrand::Rng;

    use super::*;
    use crate::config::properties::bytes;
    use lab::random::{Case, mutate, one, rng};

    const ADDRESSES: &str =
        "4.4.4.4 10.0.0.1 127.0.0.1 0.0.0.0 2001:db8::/64 2001:DB8:0:1::1 2a01:4f8:fff1:: ::1";

    /// What arguments are changed with, beside white space.
    const WORDS: &str = ", = \\ ; 4.4.4.4/32 4.4.4.4/64 4.4.4 :: ::/64 /64 2001:db8::/56 hunter2 ,hunter2 ,tokn=x \
         ,timeout=1e3 ,deadline=86400 ,verify=0 ,ssl_no_verify ,ssl_no_verify=No ,alarm=mail ,url=http://h:1/x/ \
         ,url=https://[::1]/v1?x ,url=http://u:hunter2@h/ ,floating_ip=0 ,floating_ip=1;1 ,server=0 ,server=18446744073709551616 \
         ,server= ,ip= ,token= ,token_file= \u{202e} ü";

    fn word(rng: &mut Rng, words: &'static str) -> &'static str {
        one(rng, &words.split(' ').collect::<Vec<_>>())
    }

    fn some(rng: &mut Rng) -> Named {
        if rng.bool() { Named::Id(rng.u64(1..)) } else { Named::Name(format!("web-{} é", rng.u8(..))) }
    }

    /// What a valid argument is about.
    #[derive(PartialEq, Debug)]
    struct Meant(IpAddr, Option<Named>, Option<Named>);

    /// A valid argument.
    fn argument(rng: &mut Rng) -> (Vec<u8>, Vec<Meant>) {
        let mut ips: Vec<&str> = Vec::new();
        for _ in 0..rng.usize(1..4) {
            let ip = word(rng, ADDRESSES);
            if !ips.iter().any(|known| address(known.as_bytes()) == address(ip.as_bytes())) {
                ips.push(ip);
            }
        }
        let mut names: Vec<Named> = Vec::new();
        while names.len() < ips.len() {
            let name = some(rng);
            if !names.contains(&name) {
                names.push(name);
            }
        }
        let (has_names, server) = (rng.bool(), rng.bool().then(|| some(rng)));
        let item = |key: &str, value: String| Item { key: key.into(), value: Some(value.into()) };
        let token: String = bytes(rng).into_iter().map(|byte| char::from(byte % 94 + 33)).collect();
        let mut items = vec![item("token", token), item("ip", ips.join(";"))];
        if has_names {
            let names: Vec<String> = names.iter().map(ToString::to_string).collect();
            items.push(item("floating_ip", names.join(";")));
        }
        items.extend(server.iter().map(|server| item("server", server.to_string())));
        for key in ["timeout", "deadline", "verify"] {
            if rng.bool() {
                items.push(item(key, (rng.f64() * 3599.0 + 0.001).to_string()));
            }
        }
        rng.shuffle(&mut items);
        let ips = ips.iter().map(|ip| address(ip.as_bytes()).expect("an address"));
        let meant = ips.zip(names).map(|(ip, name)| Meant(ip, has_names.then_some(name), server.clone()));
        (written(&items), meant.collect())
    }

    #[test]
    fn a_valid_argument_is_read_as_it_is_meant() {
        let mut rng = rng();
        for _ in 0..3_000 {
            let (argument, meant) = argument(&mut rng);
            let _case = Case(&argument);
            let options = check(&argument).expect("a valid argument is accepted");
            let found: Vec<_> =
                options.into_iter().map(|one| Meant(one.ip, one.floating_ip, one.server)).collect();
            assert_eq!(found, meant);
        }
    }

    #[test]
    fn whatever_comes_in_is_read_or_refused() {
        let mut rng = rng();
        let words: Vec<&str> = WORDS.split(' ').chain(["\n", " "]).collect();
        let (mut accepted, all) = (0, 6_000);
        for _ in 0..all {
            let (mut argument, _) = argument(&mut rng);
            mutate(&mut rng, &mut argument, &words);
            let _case = Case(&argument);
            accepted += usize::from(check(&argument).is_some());
        }
        assert!((all / 20..all * 3 / 4).contains(&accepted), "{accepted} of {all}: too few, or too many");
    }
}
