//! Single arguments, for a hoster that has only a token: what each is read as, and the remarks about it.

use std::net::IpAddr;
use std::time::Duration;

use ureq::http::Uri;

use super::*;

const TOKEN: Key = Key { spellings: &["token", "tok"], takes: Takes::Secret };
const TOKEN_FILE: Key = Key { spellings: &["token_file"], takes: Takes::Text };
const KEYS: [Key; 4] = [TOKEN, TOKEN_FILE, IP, URL];

const PACE: Pace = Pace {
    timeout: Duration::from_secs(40),
    verify: Duration::from_secs(200),
    longest_way: Duration::from_secs(5),
    longest_switch: Duration::from_secs(5),
    lock_tried_after: Duration::from_secs(1),
    shortest_deadline: Duration::from_secs(10),
};

const REQUIRED: &str = "token=BAR,ip=4.4.4.4";

struct Read {
    token: Option<Secret>,
    ips: Vec<IpAddr>,
    url: Option<Uri>,
    common: Common,
    remarks: Vec<Remark>,
}

impl Read {
    fn texts(&self) -> Vec<String> {
        self.remarks.iter().map(Remark::to_string).collect()
    }

    fn token(&self) -> Vec<u8> {
        self.token.as_ref().unwrap().read().unwrap()
    }
}

fn read(argument: &str) -> Read {
    let mut argument = Argument::read(argument.as_bytes(), &KEYS);
    let token = argument.secret(TOKEN, TOKEN_FILE, "the token");
    let ips = argument.addresses(IP, "the address");
    let url = argument.url("token is used instead").map(|url| checked_url(&url));
    let url = url.and_then(|url| url.map_err(|remark| argument.remark(remark)).ok());
    let common = argument.common(&PACE);
    Read { token, ips, url, common, remarks: argument.remarks }
}

/// Read without a remark.
#[track_caller]
fn good(argument: &str) -> Read {
    let read = read(argument);
    assert_eq!(read.texts(), [""; 0], "{argument}");
    read
}

/// Read with one remark.
#[track_caller]
fn check(argument: &str, weight: Weight, expected: &str) -> Read {
    let read = read(argument);
    assert_eq!(read.texts(), [expected], "{argument}");
    assert_eq!(read.remarks[0].weight(), weight, "{argument}");
    read
}

#[track_caller]
fn check_doubt(argument: &str, expected: &str) -> Read {
    check(argument, Weight::Doubtful, expected)
}

#[track_caller]
fn check_wrong(argument: &str, expected: &str) {
    check(argument, Weight::Wrong, expected);
}

#[test]
fn the_common_keys_have_defaults_and_bounds() {
    let Common { timeout, deadline, verify, ssl_no_verify, alarm } = good(REQUIRED).common;
    assert_eq!((timeout, deadline, verify), (PACE.timeout, 3 * PACE.timeout, PACE.verify));
    assert_eq!((ssl_no_verify, alarm), (false, None));
    let common = good(&format!("{REQUIRED},timeout=7,alarm=mail")).common;
    assert_eq!((common.deadline, common.alarm.as_deref()), (Duration::from_secs(21), Some("mail")));
    let common = good(&format!("{REQUIRED},timeout=0.5,deadline=2.5,verify=0")).common;
    let times = (common.timeout, common.deadline, common.verify);
    assert_eq!(times, (Duration::from_millis(500), Duration::from_millis(2500), Duration::ZERO));
    let seconds = "a number of seconds, whole or decimal, above 0 and at most 86400";
    let deadline = format!("deadline=0 is not valid: expected {seconds}");
    check_wrong(&format!("{REQUIRED},deadline=0"), &deadline);
    let verify = format!("verify=never is not valid: expected 0 (off) or {seconds}");
    check_wrong(&format!("{REQUIRED},verify=never"), &verify);
}

/// As C's atoi(), except that there is always a limit.
#[test]
fn reads_an_invalid_timeout_as_the_c_plugin_did() {
    let defaults = ["0", "0.0", "-1", "abc", "inf", ""].map(|value| (value, 40));
    let too_large = [("7200", 3600), ("99999999999999999999999", 3600)];
    let numbers = [("1e3", 1), ("60s", 60), ("30 seconds", 30), ("+5", 5), ("1.2.3", 1)];
    for (value, expected) in defaults.into_iter().chain(too_large).chain(numbers) {
        let expected_text = format!(
            "timeout={value} is not valid, so {expected} is used: expected a number of seconds, whole or decimal, above \
             0 and at most 3600"
        );
        let read = check_doubt(&format!("{REQUIRED},timeout={value}"), &expected_text);
        assert_eq!(read.common.timeout, Duration::from_secs(expected), "{value}");
    }
    assert_eq!(good(&format!("{REQUIRED},timeout=3600")).common.timeout, Duration::from_secs(3600));
}

#[test]
fn ssl_no_verify_is_on_only_when_said() {
    let is_on = |value: &str| good(&format!("{REQUIRED},ssl_no_verify{value}")).common.ssl_no_verify;
    assert!(["", "=1", "=true", "=Yes", "=on"].into_iter().all(is_on));
    assert!(!["=0", "=false", "=NO", "=off"].into_iter().any(is_on));
    let read = check_doubt(
        &format!("{REQUIRED},ssl_no_verify=maybe"),
        "ssl_no_verify=maybe is not valid, so the API's TLS certificate is verified: expected 1, true, yes or on (do \
         not verify), or 0, false, no or off (verify)",
    );
    assert!(!read.common.ssl_no_verify);
}

#[test]
fn suggests_the_key_that_was_meant() {
    check_doubt(&format!("{REQUIRED},timout=5"), "unknown key \"timout\": did you mean timeout?");
    check_doubt(&format!("{REQUIRED}, timeout=5"), "unknown key \" timeout\": did you mean timeout?");
    check_doubt(
        &format!("{REQUIRED},colour=red"),
        "unknown key \"colour\": expected one of token, tok, token_file, ip, url, timeout, deadline, verify, \
         ssl_no_verify, alarm",
    );
    check_doubt(&format!("{REQUIRED},url,url"), "url has no value: write url=...");
}

#[test]
fn never_shows_a_piece_of_a_secret() {
    for rest in ["hunter2", "hunter2=x", "a,hunter2", "ip2", "ip"] {
        check_doubt(
            &format!("token=BAR,{rest},ip=4.4.4.4"),
            "unknown key right after token, not shown because it may be part of the token: write a comma in the token \
             as \\,",
        );
    }
    check_doubt("token=BAR,timout=3,ip=4.4.4.4", "unknown key \"timout\": did you mean timeout?");
    let read = check_doubt(
        &format!("{REQUIRED},tok= hunter2"),
        "token/tok is given twice with different values: the last one is used",
    );
    assert_eq!(read.token(), b" hunter2", "whitespace may be part of it");
}

#[test]
fn a_secret_may_stand_in_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    let argument = format!("token_file={},ip=4.4.4.4", path.display());
    let away = |why: &str| {
        let expected =
            format!("token_file={}: {why}: expected a file that contains the token", path.display());
        check(&argument, Weight::Away, &expected);
    };
    away("No such file or directory (os error 2)");
    for (content, expected) in
        [("hunter2\n", "hunter2"), ("hunter2\r\n", "hunter2"), ("a\n\n", "a\n"), ("b", "b")]
    {
        std::fs::write(&path, content).unwrap();
        assert_eq!(good(&argument).token(), expected.as_bytes());
    }
    std::fs::write(&path, "\n").unwrap();
    away("the file is empty");
    std::fs::write(&path, "x".repeat(5000)).unwrap();
    away("longer than 4096 bytes");
    std::fs::write(&path, "x").unwrap();
    check_wrong(&format!("{argument},tok=x"), "token and token_file are both given: keep one");
    let how = "set token to the token, or token_file to a file that contains it";
    check_wrong("ip=4.4.4.4", &format!("token is missing: {how}"));
    check_wrong("token=,ip=4.4.4.4", &format!("token is empty: {how}"));
}

#[test]
fn a_list_of_addresses_has_each_once() {
    let ips = good("token=BAR,ip=4.4.4.4;2a01:4f8::").ips;
    assert_eq!(ips, ["4.4.4.4".parse::<IpAddr>().unwrap(), "2a01:4f8::".parse().unwrap()]);
    check_wrong("token=BAR,ip=4.4.4.4;4.4.4.4", "ip=4.4.4.4;4.4.4.4 contains 4.4.4.4 twice");
    check_wrong(
        "token=BAR,ip=4.4.4.4/32;5.5.5.5",
        "ip=4.4.4.4/32 is not an IP address: expected the address, without a prefix length",
    );
    let read = check_doubt("token=BAR,ip= 4.4.4.4", "ip has whitespace around its value, which is ignored");
    assert_eq!(read.ips, ips[..1]);
}

#[test]
fn a_url_is_read_as_curl_would_and_never_shown() {
    let url = |url: &str| read(&format!("{REQUIRED},url={url}"));
    let bad_hosts = ["ftp://host/", "https:///x", "http://u:hunter2@ho st/", "http://ho st/"];
    let bad_ports = ["http://host:99999/", "http://[::1]:0/"];
    for wrong in bad_hosts.into_iter().chain(bad_ports) {
        let read = url(wrong);
        assert_eq!(read.url, None, "{wrong}");
        assert!(read.remarks.iter().any(|remark| remark.weight() == Weight::Wrong), "{wrong}");
        for problem in read.texts() {
            assert!(problem.starts_with("url ") && !problem.contains("hunter2"), "{problem}");
        }
    }
    for (given, expected, said) in [
        ("https://host:8080/v1?x=y", "https://host:8080/v1?x=y", ""),
        ("host/v1", "https://host/v1", "url has no scheme, so https:// is used: "),
        ("127.0.0.1:80", "http://127.0.0.1:80/", "url has no scheme, so http:// is used: "),
        ("https://u:p@h/", "https://h/", "url contains a login, which is ignored: token is used instead"),
    ] {
        let read = url(given);
        assert_eq!(read.url.as_ref().unwrap(), expected, "{given}");
        let weights: Vec<Weight> = read.remarks.iter().map(Remark::weight).collect();
        assert_eq!(weights, [Weight::Doubtful][usize::from(said.is_empty())..], "{given}");
        assert!(read.texts().concat().starts_with(said), "{given}: {:?}", read.texts());
    }
    check_doubt(&format!("{REQUIRED},url="), "url is empty, so the default URL of the API is used");
    assert_eq!(host_of(&"http://[::1]:8080/".parse().unwrap()), "::1");
}
