//! Single arguments: what each is read as, and the remarks about it.

use std::fs;

use super::*;
use crate::config::Weight;

const REQUIRED: &str = "token=SECRET,ip=4.4.4.4";

fn read(argument: &str) -> Parsed {
    parse(argument.as_bytes())
}

fn texts(parsed: &Parsed) -> Vec<String> {
    parsed.remarks.iter().map(|remark| remark.to_string()).collect()
}

/// Read without a remark.
#[track_caller]
fn all(argument: &str) -> Vec<Options> {
    let parsed = read(argument);
    assert_eq!(texts(&parsed), [""; 0], "{argument}");
    parsed.options
}

#[track_caller]
fn good(argument: &str) -> Options {
    all(argument).remove(0)
}

/// Refused, with this one remark.
#[track_caller]
fn check_bad(argument: &str, expected: &str) {
    let parsed = read(argument);
    assert_eq!(texts(&parsed), [expected], "{argument}");
    assert_ne!(parsed.remarks[0].weight(), Weight::Doubtful, "{argument}");
    assert!(parsed.options.is_empty(), "{argument}");
}

/// Accepted, with this one remark.
#[track_caller]
fn check_doubt(argument: &str, expected: &str) -> Options {
    let mut parsed = read(argument);
    assert_eq!(texts(&parsed), [expected], "{argument}");
    parsed.options.remove(0)
}

#[test]
fn reads_the_shortest_hook() {
    let options = good(REQUIRED);
    assert_eq!(options.token.read().unwrap(), b"SECRET");
    assert_eq!(options.ip.to_string(), "4.4.4.4");
    assert_eq!((options.floating_ip, options.server), (None, None));
    assert_eq!((&*options.base, options.url.to_string().as_str()), (BASE_URL, BASE_URL));
    let common = read(REQUIRED).common;
    assert_eq!((common.timeout, common.deadline), (Duration::from_secs(30), Duration::from_secs(90)));
    assert!(common.verify == Duration::from_secs(60) && !common.ssl_no_verify && common.alarm.is_none());
}

#[test]
fn reads_every_key() {
    let options = good(
        "token=a\\,b,ip=2001:db8:1:2::/64,floating_ip=web,server=42,url=http://127.0.0.1:8080/v1/,timeout=5,deadline=20,\
         verify=0,ssl_no_verify,alarm=mail",
    );
    assert_eq!(options.token.read().unwrap(), b"a,b");
    assert_eq!(options.ip.to_string(), "2001:db8:1:2::");
    assert_eq!(options.floating_ip, Some(Named::Name("web".into())));
    assert_eq!(options.server, Some(Named::Id(42)));
    assert_eq!(options.base, "http://127.0.0.1:8080/v1");
    assert_eq!(good(&format!("{REQUIRED},server=web-1")).server, Some(Named::Name("web-1".into())));
}

#[test]
fn an_ipv6_one_is_named_by_its_net() {
    for (text, expected) in [
        ("4.4.4.4", Some("4.4.4.4")),
        ("2001:db8:1:2::/64", Some("2001:db8:1:2::")),
        ("2001:db8:1:2::", Some("2001:db8:1:2::")),
        ("2001:DB8:1:2::1", Some("2001:db8:1:2::")),
        ("4.4.4.4/64", None),
        ("4.4.4.4/32", None),
        ("2001:db8:1:2::/56", None),
        ("/64", None),
        ("", None),
    ] {
        assert_eq!(address(text.as_bytes()).map(|ip| ip.to_string()).as_deref(), expected, "{text}");
    }
    check_bad(
        "token=SECRET,ip=2001:db8::1;2001:db8::/64",
        "ip=2001:db8::1;2001:db8::/64 contains 2001:db8:: twice",
    );
    check_bad(
        "token=SECRET,ip=4.4.4.4/32",
        "ip=4.4.4.4/32 is not an IP address: expected the floating IP, like 4.4.4.4, or its IPv6 net, like \
         2001:db8:1:2::/64, without a prefix length",
    );
}

#[test]
fn several_are_named_in_the_order_of_their_addresses() {
    let several = "token=SECRET,ip=4.4.4.4;2001:db8::/64,server=42";
    let named: Vec<_> =
        all(&format!("{several},floating_ip=7;web")).into_iter().map(|one| one.floating_ip).collect();
    assert_eq!(named, [Some(Named::Id(7)), Some(Named::Name("web".into()))]);
    assert!(all(several).iter().all(|one| one.floating_ip.is_none() && one.server == Some(Named::Id(42))));
    check_bad(
        &format!("{several},floating_ip=7"),
        "floating_ip=7 names 1: expected 2, one for each ip, in the same order",
    );
    check_bad(
        &format!("{REQUIRED},floating_ip=7;8"),
        "floating_ip=7;8 names 2: expected one, one for each ip, in the same order",
    );
    check_bad(
        &format!("{several},floating_ip=7;07"),
        "floating_ip=7 is there twice: expected one for each ip, in the same order",
    );
}

#[test]
fn says_what_is_missing_or_cannot_be_right() {
    let how = "set token to the Project's API token, or token_file to a file that contains it";
    let id = "expected the id or the name of each floating IP in ip";
    for (argument, expected) in [
        ("ip=4.4.4.4", format!("token is missing: {how}")),
        ("token=,ip=4.4.4.4", format!("token is empty: {how}")),
        ("token=SECRET", format!("ip is missing: set ip to {IP_MEANING}")),
        ("token=SECRET,ip=main", format!("ip=main is not an IP address: expected {IP_MEANING}")),
        ("token=SEC RET,ip=4.4.4.4", format!("token {NOT_A_TOKEN}")),
        ("token=SECR\u{c9}T,ip=4.4.4.4", format!("token {NOT_A_TOKEN}")),
        ("token= ,ip=4.4.4.4", format!("token {NOT_A_TOKEN}")),
        ("token=SECRET,ip=4.4.4.4,floating_ip=", format!("floating_ip= is not valid: {id}")),
        ("token=SECRET,ip=4.4.4.4,floating_ip=0", format!("floating_ip=0 is not valid: {id}")),
        ("token=SECRET,ip=4.4.4.4,floating_ip=7;", format!("floating_ip=7; is not valid: {id}")),
        ("token=SECRET,ip=4.4.4.4,server=", format!("server= is not valid: expected {SERVER_MEANING}")),
        ("token=SECRET,ip=4.4.4.4,server=0", format!("server=0 is not valid: expected {SERVER_MEANING}")),
        (
            "token=SECRET,ip=4.4.4.4,server=99999999999999999999",
            format!("server=99999999999999999999 is not valid: expected {SERVER_MEANING}"),
        ),
        (
            "token=SECRET,ip=4.4.4.4,url=https://h/v1?x=y",
            format!("url is not the base of the API: expected one like {BASE_URL}"),
        ),
        ("token=SECRET,ip=4.4.4.4,url=https://h:99999/", "url has an invalid port: expected 1 to 65535".into()),
        (
            "token=SECRET,ip=4.4.4.4,deadline=never",
            "deadline=never is not valid: expected a number of seconds, whole or decimal, above 0 and at most 86400"
                .into(),
        ),
    ] {
        check_bad(argument, &expected);
    }
    // All at once.
    assert_eq!(texts(&read("ip=x,server=0,floating_ip=0")).len(), 4);
}

#[test]
fn what_is_mistyped_is_told() {
    let unknown = "unknown key \"sever\": did you mean server?";
    assert_eq!(check_doubt(&format!("{REQUIRED},sever=42"), unknown).server, None);
    let robots = "unknown key \"active_ip\": expected one of token, token_file, ip, floating_ip, server, url, timeout, \
                  deadline, verify, ssl_no_verify, alarm";
    check_doubt("ip=4.4.4.4,token=SECRET,timeout=3,active_ip=1.1.1.1", robots);
    check_doubt(
        &format!("{REQUIRED},url=https://u:p@h/v1"),
        "url contains a login, which is ignored: token is used instead",
    );
    let hidden = "unknown key right after token, not shown because it may be part of the token: write a comma in the token as \
                  \\,";
    check_doubt("ip=4.4.4.4,token=a,hunter2", hidden);
}

#[test]
fn a_token_in_a_file_is_read_without_the_blanks_around_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    let hook = format!("token_file={},ip=4.4.4.4", path.display());
    let credentials = |options: &Options| {
        authorization(&options.token.read().unwrap()).map(|header| header.credentials().to_string())
    };
    fs::write(&path, " SECRET \r\n").unwrap();
    let options = good(&hook);
    assert_eq!(credentials(&options).as_deref(), Some("SECRET"));
    fs::write(&path, "two words\n").unwrap();
    assert_eq!(credentials(&options), None, "a new one, read at the takeover");
    let parsed = read(&hook);
    assert_eq!(texts(&parsed), [format!("token_file={} {NOT_A_TOKEN}", path.display())]);
    assert_eq!((parsed.remarks[0].weight(), parsed.options.len()), (Weight::Away, 1));
    fs::write(&path, "SECRET").unwrap();
    check_bad(&format!("{hook},token=SECRET"), "token and token_file are both given: keep one");
}
