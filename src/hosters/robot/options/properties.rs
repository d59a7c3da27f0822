//! What holds for every hook's argument. Checked with the random arguments below, and by `make fuzz`.

use std::net::IpAddr;
use std::time::Duration;

use super::{BASE_URL, Options, Parsed, address_at_its_end, parse};
use crate::config::keyval::Item;
use crate::config::properties::{check_split, written};
use crate::config::{Common, Remark, Weight};

/// The password, or a piece of it, in arguments that test whether it is shown.
const SECRET: &str = "hunter2";

/// Checks `argument`, and returns what it was read as, if it was accepted.
pub fn check(argument: &[u8]) -> Option<Vec<Options>> {
    let items = check_split(argument);
    // No file of this machine is opened.
    let path = values(&items, &["password_file"]).any(|path| path.contains(&b'/'));
    if path {
        return None;
    }
    let parsed = parse(argument);
    let Parsed { options, remarks, .. } = &parsed;
    check_remarks(argument, &items, remarks);
    let refused = remarks.iter().any(|remark| remark.weight() != Weight::Doubtful);
    if refused {
        assert!(remarks.iter().all(|remark| remark.weight() != Weight::Wrong) || options.is_empty());
        return None;
    }
    check_accepted(&items, &parsed);
    Some(parsed.options)
}

fn values<'a>(items: &'a [Item], spellings: &'a [&str]) -> impl Iterator<Item = &'a [u8]> {
    let named = items.iter().filter(|item| spellings.iter().any(|key| key.as_bytes() == item.key));
    named.filter_map(|item| item.value.as_deref())
}

/// All that are documented.
const KEYS: &str = "username user password pass password_file ip active_ip active_server_ip url timeout deadline verify \
                    ssl_no_verify alarm";

fn is_known(key: &[u8]) -> bool {
    KEYS.split(' ').any(|known| known.as_bytes() == key)
}

const ACTIVE_IP: [&str; 2] = ["active_ip", "active_server_ip"];

fn addresses(value: &[u8]) -> Vec<IpAddr> {
    let text = std::str::from_utf8(value).expect("accepted, so it is UTF-8");
    text.split(';').map(|one| one.parse().expect("accepted, so each is an address")).collect()
}

fn check_accepted(items: &[Item], parsed: &Parsed) {
    let Parsed { common, options, remarks } = parsed;
    let is_comma_too_many = |item: &Item| item.key.is_empty() && item.value.is_none();
    let is_said = |item: &Item| is_known(&item.key) || is_comma_too_many(item) || !remarks.is_empty();
    assert!(items.iter().all(is_said), "no unknown key without a remark");
    // uWSGI takes the last of two.
    let given = |spellings: &[&str]| values(items, spellings).last().map(<[u8]>::to_vec);
    let required = |spellings: &[&str]| given(spellings).expect("accepted, so it is there");
    let trimmed = |spellings: &[&str]| given(spellings).map(|value| value.trim_ascii().to_vec());

    // An address at the end of the URL overrides ip.
    let of_url = trimmed(&["url"]).and_then(|url| {
        let text = String::from_utf8_lossy(&url);
        // Without a scheme it is given one.
        let whole = if text.contains("://") { text.into_owned() } else { format!("https://{text}") };
        address_at_its_end(&whole)
    });
    let ips = match of_url {
        Some(address) => vec![address],
        None => addresses(&trimmed(&["ip"]).expect("accepted, so it is there")),
    };
    assert_eq!(options.iter().map(|one| one.ip).collect::<Vec<_>>(), ips, "one for each IP, in order");
    assert!(ips.iter().enumerate().all(|(at, ip)| !ips[..at].contains(ip)), "no IP twice");

    match trimmed(&ACTIVE_IP).map(|value| addresses(&value)) {
        None => assert!(options.iter().all(|one| one.active_ip.is_none()), "the default"),
        Some(targets) => {
            for one in options {
                let of_family = targets.iter().filter(|target| target.is_ipv6() == one.ip.is_ipv6());
                let expected = one.active_ip.iter().collect::<Vec<_>>();
                assert_eq!(of_family.collect::<Vec<_>>(), expected, "the one target of its family");
                assert!(expected.iter().all(|target| **target != one.ip), "routed to itself");
            }
            let families: Vec<bool> = ips.iter().map(IpAddr::is_ipv6).collect();
            assert!(
                targets.iter().all(|target| families.contains(&target.is_ipv6())),
                "a target without an IP of its family"
            );
        }
    }

    for one in options {
        assert_eq!(one.login.username, required(&["username", "user"]));
        if let Some(password) = given(&["password", "pass"]) {
            assert_eq!(one.login.password.read(), Ok(password));
        }
        assert!(one.url.host().is_some_and(|host| !host.is_empty()), "a URL with a host");
        let authority = one.url.authority().expect("it has a host");
        assert!(!authority.as_str().contains('@'), "a login in the URL");
        let names_no_port = authority.as_str().trim_end_matches(':') == authority.host();
        assert!(names_no_port || authority.port_u16().is_some_and(|port| port > 0), "a valid port");
        if given(&["url"]).is_none() {
            assert_eq!(one.url, format!("{BASE_URL}{}", one.ip).as_str());
        }
    }
    let (least, hour, day) = (Duration::from_millis(1), 3600, 24 * 3600);
    assert!((least..=Duration::from_secs(hour)).contains(&common.timeout));
    // Its default is a multiple of the timeout.
    assert!((least..=Duration::from_secs(day)).contains(&common.deadline));
    assert!(common.verify.is_zero() || (least..=Duration::from_secs(day)).contains(&common.verify));

    let again = reprinted(items, parsed);
    let parsed_again = parse(&again);
    let accepted = parsed_again.remarks.iter().all(|remark| remark.weight() == Weight::Doubtful);
    assert!(accepted, "printed and not accepted again: {}", String::from_utf8_lossy(&again));
    assert_eq!(facts(&parsed_again), facts(parsed), "printed and parsed again");
}

/// The same list, with the parsed values printed again.
fn reprinted(items: &[Item], Parsed { common, options, .. }: &Parsed) -> Vec<u8> {
    assert!(!options.is_empty(), "accepted without an IP");
    let joined = |list: Vec<IpAddr>| list.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(";");
    let mut targets: Vec<IpAddr> = options.iter().filter_map(|one| one.active_ip).collect();
    targets.sort_unstable();
    targets.dedup();
    let seconds = |duration: Duration| duration.as_secs_f64().to_string();
    let printed = |Item { key, value }: &Item| {
        // Without a value the key is ignored.
        let is_bare = value.is_none() && key != b"ssl_no_verify";
        let new = match key.as_slice() {
            _ if is_bare => return Item { key: key.clone(), value: None },
            b"ip" => joined(options.iter().map(|one| one.ip).collect()),
            b"active_ip" | b"active_server_ip" => joined(targets.clone()),
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
        let login = (one.login.username.clone(), one.login.password.read());
        (one.ip, one.active_ip, one.url.to_string(), login)
    };
    (timeout, deadline, verify, ssl_no_verify, alarm, options.iter().map(facts).collect::<Vec<_>>())
}

/// Each remark is one line, and does not show the password.
fn check_remarks(argument: &[u8], items: &[Item], remarks: &[Remark]) {
    let mut after_password = false;
    let may_be_shown = items.iter().any(|item| {
        match item.key.as_slice() {
            b"password" | b"pass" => after_password = true,
            key => after_password &= !is_known(key),
        }
        let text = [&item.key, item.value.as_deref().unwrap_or_default()].concat();
        !after_password && String::from_utf8_lossy(&text).contains(SECRET)
    });
    for text in remarks.iter().map(Remark::to_string) {
        assert!(!text.contains(|c: char| c.is_control()), "more than a line: {text:?}");
        // All addresses are shown, but of anything else no more than a line.
        assert!(text.len() < 2000 + 2 * argument.len(), "{} bytes: {text}", text.len());
        assert!(may_be_shown || !text.contains(SECRET), "the password is shown: {text}");
    }
}

#[cfg(test)]
mod tests {
    use fastrand::Rng;

    use super::*;
    use crate::config::properties::bytes;
    use lab::random::{Case, mutate, one, rng};

    /// Of every kind that a server may have, also in a private network.
    const ADDRESSES: &str = "4.4.4.4 1.1.1.1 10.0.0.1 192.168.1.1 100.64.0.1 127.0.0.1 2a01:4f8:fff1:: 2a01:4f8:0:5176:: \
                             2001:db8::1 fd00::1";

    /// Addresses too, but not of a server.
    const ODD_ADDRESSES: &str = "0.0.0.0 224.0.0.1 255.255.255.255 169.254.1.1 :: ::1 ff02::1 ::ffff:4.4.4.4";

    const NOT_ADDRESSES: &str = "4.4.4 04.4.4.4 4.4.4.256 4.4.4.4/32 4.4.4.4:80 2a01:4f8:fff1::/64 [::1] fe80::1%eth0 \
                                 1:2:3:4:5:6:7:8:9 localhost \u{0664}.4.4.4";

    /// What arguments are changed with, beside white space.
    const WORDS: &str = ", = \\ ; 0.0.0.0 127.0.0.1 169.254.1.1 224.0.0.1 255.255.255.255 4.4.4.4/32 04.4.4.4 4.4.4 :: ::1 ff02::1 \
         fe80::1%eth0 ::ffff:4.4.4.4 2a01:4f8:fff1::/64 [::1] hunter2 ,hunter2 ,timout=5 ,timeout=0.5 ,timeout=1e3 \
         ,deadline=86400 ,verify=0 ,ssl_no_verify ,ssl_no_verify=No ,alarm=mail ,url=http://h:1/x \
         ,url=https://[::1]/{ip}?x ,url=http://u:hunter2@h/ ,active_server_ip= ,ip= ,pass= ,password_file= \u{202e} ü";

    fn word(rng: &mut Rng, words: &'static str) -> &'static str {
        one(rng, &words.split(' ').collect::<Vec<_>>())
    }

    /// An address in one of the ways in which it may be written.
    fn spelled(rng: &mut Rng, address: IpAddr) -> String {
        match address {
            IpAddr::V6(address) if rng.bool() => {
                address.segments().map(|segment| format!("{segment:04X}")).join(":")
            }
            _ => address.to_string(),
        }
    }

    fn address(rng: &mut Rng) -> IpAddr {
        word(rng, ADDRESSES).parse().expect("an address")
    }

    fn list(rng: &mut Rng, addresses: &[IpAddr]) -> String {
        addresses.iter().map(|address| spelled(rng, *address)).collect::<Vec<_>>().join(";")
    }

    /// A valid argument, and which IP it routes where.
    fn argument(rng: &mut Rng) -> (Vec<u8>, Vec<(IpAddr, Option<IpAddr>)>) {
        let mut ips: Vec<IpAddr> = Vec::new();
        for _ in 0..rng.usize(1..4) {
            let ip = address(rng);
            if !ips.contains(&ip) {
                ips.push(ip);
            }
        }
        let mut targets = Vec::new();
        for family in [false, true] {
            let targets_of_family = ips.iter().filter(|ip| ip.is_ipv6() == family).count().min(1);
            let any = std::iter::repeat_with(|| address(rng))
                .filter(|target| target.is_ipv6() == family && !ips.contains(target));
            targets.extend(any.take(targets_of_family));
        }
        let left_out = rng.u8(..4) == 0;
        let target = |ip: &IpAddr| {
            targets.iter().find(|target| target.is_ipv6() == ip.is_ipv6() && !left_out).copied()
        };
        let pairs = ips.iter().map(|ip| (*ip, target(ip))).collect();

        let item = |key: &str, value: Vec<u8>| Item { key: key.into(), value: Some(value) };
        let username = bytes(rng).into_iter().map(|byte| if byte == b':' { b'x' } else { byte }).collect();
        let mut items = vec![
            item(one(rng, &["username", "user"]), username),
            item(one(rng, &["password", "pass"]), bytes(rng)),
            item("ip", list(rng, &ips).into()),
        ];
        if !left_out {
            rng.shuffle(&mut targets);
            items.push(item(one(rng, &ACTIVE_IP), list(rng, &targets).into()));
        }
        for key in ["timeout", "deadline", "verify"] {
            if rng.bool() {
                let seconds = (rng.f64() * 3599.0 + 0.001).to_string();
                items.push(item(key, seconds.into()));
            }
        }
        rng.shuffle(&mut items);
        (written(&items), pairs)
    }

    #[test]
    fn a_valid_argument_routes_each_ip_to_the_target_of_its_family() {
        let mut rng = rng();
        for _ in 0..3_000 {
            let (argument, pairs) = argument(&mut rng);
            let _case = Case(&argument);
            let options = check(&argument).expect("a valid argument is accepted");
            let found: Vec<_> = options.iter().map(|one| (one.ip, one.active_ip)).collect();
            assert_eq!(found, pairs);
        }
    }

    /// Addresses, of which some are odd or invalid.
    fn words(rng: &mut Rng, most: usize) -> Vec<&'static str> {
        let any = |rng: &mut Rng| match rng.u8(..10) {
            0 => word(rng, ODD_ADDRESSES),
            1 if rng.u8(..10) == 0 => "",
            1 => word(rng, NOT_ADDRESSES),
            _ => word(rng, ADDRESSES),
        };
        (0..rng.usize(1..=most)).map(|_| any(rng)).collect()
    }

    #[test]
    fn a_list_is_accepted_if_each_is_an_address_once_and_the_families_match() {
        let mut rng = rng();
        for _ in 0..3_000 {
            let (ips, targets) = (words(&mut rng, 4), words(&mut rng, 2));
            let argument = format!("user=u,pass=p,ip={},active_ip={}", ips.join(";"), targets.join(";"));
            let _case = Case(argument.as_bytes());
            let accepted = check(argument.as_bytes()).is_some();
            let all = || ips.iter().chain(&targets);
            // These may be accepted or refused.
            let is_in = |list: &str, word: &&str| list.split(' ').any(|listed| listed == *word);
            if all().any(|word| is_in(ODD_ADDRESSES, word)) {
                continue;
            }
            let once = |words: &[&str]| (1..words.len()).all(|at| !words[..at].contains(&words[at]));
            let families = |words: &[&str]| {
                let mut families: Vec<bool> = words.iter().map(|word| word.contains(':')).collect();
                families.sort_unstable();
                families
            };
            let mut wanted = families(&ips);
            wanted.dedup();
            let right = !all().any(|word| word.is_empty() || is_in(NOT_ADDRESSES, word))
                && once(&ips)
                && wanted == families(&targets)
                && !targets.iter().any(|target| ips.contains(target));
            assert_eq!(accepted, right);
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
        assert!((all / 20..all / 2).contains(&accepted), "{accepted} of {all}: too few, or too many");
    }
}
