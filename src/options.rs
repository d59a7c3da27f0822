//! The argument of a hook: from text to checked values.
//!
//! Every problem is found before anything is sent, and all of them at once. No problem shows the password,
//! not even as the rest of one that holds an unescaped comma.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

use ureq::http::Uri;

use crate::keyval::{self, Item};
use crate::text::printable;

/// The longest `timeout`, in seconds: a switch takes a minute, so an hour is already a mistake.
const LONGEST_TIMEOUT: f64 = 3600.0;
/// A switch takes 40 to 60 s (Hetzner's documentation of failover IPs).
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(60);
/// The longest `deadline` and `verify`, in seconds.
const DAY: f64 = 24.0 * 3600.0;
/// Twelve checks an hour, of the hundred requests that the API allows.
const DEFAULT_VERIFY: Duration = Duration::from_secs(300);

/// What one `hetzner-failoverip` hook asks for.
pub struct Options {
    pub login: Login,
    /// The failover IP, or the net address of an IPv6 failover net.
    pub ip: IpAddr,
    /// Where to route it: a server's main IP, or for IPv6 the net address of its main net.
    pub active_ip: IpAddr,
    /// Replaces the whole request URL.
    pub url: Option<Uri>,
    /// For one request, from name resolution to the last byte of the body. Default: 60 s.
    pub timeout: Duration,
    /// For a whole takeover. Default: three times `timeout`.
    pub deadline: Duration,
    /// How often a Lord asks whether the IP is still here; zero is never. Default: 300 s.
    pub verify: Duration,
    /// Whether the API's TLS certificate is not verified.
    pub ssl_no_verify: bool,
}

/// The webservice user. Bytes, since nothing says that a password is UTF-8. Cannot be printed.
#[derive(Clone)]
pub struct Login {
    pub username: Vec<u8>,
    pub password: Vec<u8>,
}

/// What is wrong with one key, and what to write instead.
#[derive(Debug, PartialEq, Eq)]
pub struct Problem(String);

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Key {
    Username,
    Password,
    Ip,
    ActiveIp,
    Url,
    Timeout,
    Deadline,
    Verify,
    SslNoVerify,
}

/// Every spelling; the first one of a key is its name.
const SPELLINGS: [(&str, Key); 12] = [
    ("username", Key::Username),
    ("user", Key::Username),
    ("password", Key::Password),
    ("pass", Key::Password),
    ("ip", Key::Ip),
    ("active_ip", Key::ActiveIp),
    ("active_server_ip", Key::ActiveIp),
    ("url", Key::Url),
    ("timeout", Key::Timeout),
    ("deadline", Key::Deadline),
    ("verify", Key::Verify),
    ("ssl_no_verify", Key::SslNoVerify),
];

impl Key {
    fn parse(spelling: &[u8]) -> Option<Key> {
        SPELLINGS.iter().find(|(known, _)| known.as_bytes() == spelling).map(|&(_, key)| key)
    }

    fn name(self) -> &'static str {
        SPELLINGS.iter().find(|&&(_, key)| key == self).map_or("", |&(name, _)| name)
    }
}

impl Options {
    /// Reads a hook's argument; every problem is reported, not only the first.
    pub fn parse(argument: &[u8]) -> Result<Options, Vec<Problem>> {
        let mut problems = Vec::new();
        let given = Given::read(keyval::split(argument), &mut problems);

        let username = given.required(Key::Username, "the Robot webservice user", &mut problems);
        let password = given.required(Key::Password, "the webservice user's password", &mut problems);
        if username.is_some_and(|name| name.contains(&b':')) {
            problems
                .push(Problem("username must not contain a colon: HTTP Basic auth cannot send it".into()));
        }
        let ip = given.address(Key::Ip, "the failover IP, like 4.4.4.4 or 2a01:4f8:fff1::", &mut problems);
        let active_ip = given.address(
            Key::ActiveIp,
            "the main IP of the server to route to, like 1.1.1.1, or for IPv6 its main net, like \
             2a01:4f8:0:5176::",
            &mut problems,
        );
        if let (Some(ip), Some(active_ip)) = (ip, active_ip) {
            if ip.is_ipv4() != active_ip.is_ipv4() {
                problems.push(Problem(format!(
                    "ip={ip} and active_ip={active_ip} are of different families: both must be IPv4 or both IPv6"
                )));
            }
        }
        let url = given.url(&mut problems);
        let timeout = given.seconds(Key::Timeout, LONGEST_TIMEOUT, &mut problems).unwrap_or(DEFAULT_TIMEOUT);
        let deadline = given.seconds(Key::Deadline, DAY, &mut problems).unwrap_or(timeout * 3);
        let verify = match given.value(Key::Verify) {
            Some(b"0") => Duration::ZERO,
            _ => given.seconds(Key::Verify, DAY, &mut problems).unwrap_or(DEFAULT_VERIFY),
        };
        let ssl_no_verify = given.ssl_no_verify(&mut problems);

        match (username, password, ip, active_ip) {
            (Some(username), Some(password), Some(ip), Some(active_ip)) if problems.is_empty() => {
                Ok(Options {
                    login: Login { username: username.to_vec(), password: password.to_vec() },
                    ip,
                    active_ip,
                    url,
                    timeout,
                    deadline,
                    verify,
                    ssl_no_verify,
                })
            }
            _ => Err(problems),
        }
    }
}

/// The items of known keys, in order; of two for one key, both say the same.
struct Given(Vec<(Key, Option<Vec<u8>>)>);

impl Given {
    fn read(items: Vec<Item>, problems: &mut Vec<Problem>) -> Given {
        let mut given: Vec<(Key, Option<Vec<u8>>)> = Vec::new();
        let mut maybe_password = false;
        for Item { key, value } in items {
            let Some(known) = Key::parse(&key) else {
                // A comma too many (`a=1,,b=2`) says nothing wrong.
                if !key.is_empty() || value.is_some() {
                    problems.push(unknown(&key, value.is_some(), maybe_password));
                }
                continue;
            };
            maybe_password = known == Key::Password;
            if value.is_none() && known != Key::SslNoVerify {
                let name = known.name();
                problems.push(Problem(format!("{name} has no value: write {name}=...")));
                continue;
            }
            match given.iter().find(|(key, _)| *key == known) {
                Some((_, before)) if *before != value => problems.push(Problem(format!(
                    "{} is given twice with different values: keep one",
                    both_spellings(known)
                ))),
                Some(_) => {}
                None => given.push((known, value)),
            }
        }
        Given(given)
    }

    fn item(&self, key: Key) -> Option<Option<&[u8]>> {
        self.0.iter().find(|(known, _)| *known == key).map(|(_, value)| value.as_deref())
    }

    fn value(&self, key: Key) -> Option<&[u8]> {
        self.item(key).flatten()
    }

    fn required(&self, key: Key, meaning: &str, problems: &mut Vec<Problem>) -> Option<&[u8]> {
        let state = match self.value(key) {
            Some([]) => "is empty",
            Some(value) => return Some(value),
            None => "is missing",
        };
        let name = key.name();
        problems.push(Problem(format!("{name} {state}: write {name}={meaning}")));
        None
    }

    fn address(&self, key: Key, meaning: &str, problems: &mut Vec<Problem>) -> Option<IpAddr> {
        let value = self.required(key, meaning, problems)?;
        let address = parse_text(value);
        if address.is_none() {
            let hint = if value.contains(&b'/') { ", without a prefix length" } else { "" };
            problems
                .push(Problem(format!("{} is no IP address: expected {meaning}{hint}", shown(key, value))));
        }
        address
    }

    fn url(&self, problems: &mut Vec<Problem>) -> Option<Uri> {
        let value = self.value(Key::Url)?;
        let expected = "expected http://HOST/PATH or https://HOST/PATH";
        // The value itself is not shown: people put a login into it.
        let Some(uri) = parse_text::<Uri>(value) else {
            problems.push(Problem(format!("url is no URL: {expected}")));
            return None;
        };
        let known_scheme = matches!(uri.scheme_str(), Some("http" | "https"));
        if !known_scheme || uri.host().is_none_or(str::is_empty) {
            problems
                .push(Problem(format!("url has no host, or a scheme that is not http or https: {expected}")));
        } else if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
            problems
                .push(Problem("url holds a login before its host: put it into username and password".into()));
        }
        Some(uri)
    }

    fn seconds(&self, key: Key, longest: f64, problems: &mut Vec<Problem>) -> Option<Duration> {
        let value = self.value(key)?;
        // Only digits and a point: parse::<f64> alone would take `inf` and `1e3`.
        let plain = value.iter().all(|byte| byte.is_ascii_digit() || *byte == b'.');
        let seconds = parse_text::<f64>(value).filter(|s| plain && *s > 0.0 && *s <= longest);
        if seconds.is_none() {
            let off = if key == Key::Verify { "0 (never), or " } else { "" };
            problems.push(Problem(format!(
                "{} is no {}: expected {off}seconds, whole or decimal, above 0 and at most {longest}",
                shown(key, value),
                key.name()
            )));
        }
        // Not below what a socket can time.
        seconds.map(|seconds| Duration::from_secs_f64(seconds).max(Duration::from_millis(1)))
    }

    fn ssl_no_verify(&self, problems: &mut Vec<Problem>) -> bool {
        let Some(value) = self.item(Key::SslNoVerify) else { return false };
        let Some(value) = value else { return true };
        match value.to_ascii_lowercase().as_slice() {
            b"1" | b"true" | b"yes" | b"on" => true,
            b"0" | b"false" | b"no" | b"off" => false,
            _ => {
                problems.push(Problem(format!(
                    "{} is neither yes nor no: expected 1, true, yes or on (no verification), or 0, false, no \
                     or off",
                    shown(Key::SslNoVerify, value)
                )));
                false
            }
        }
    }
}

/// An item whose key nobody knows. Right behind the password it may be the rest of one with a comma in it:
/// then it is shown only where it is plainly a mistyped key.
fn unknown(key: &[u8], has_value: bool, maybe_password: bool) -> Problem {
    let name = String::from_utf8_lossy(key);
    let close = SPELLINGS
        .iter()
        .map(|&(known, _)| (distance(&name, known), known))
        .filter(|(distance, known)| has_value && *distance <= 2 && *distance < known.len() / 2)
        .min();
    let shown = printable(&name, &[]);
    match close {
        Some((_, known)) => Problem(format!("unknown key \"{shown}\": did you mean {known}?")),
        None if maybe_password => Problem(
            "an unknown key, not shown, right behind password: if the password has a comma, write it as \\,"
                .into(),
        ),
        None => {
            let known: Vec<&str> = SPELLINGS.iter().map(|&(name, _)| name).collect();
            Problem(format!("unknown key \"{shown}\": expected one of {}", known.join(", ")))
        }
    }
}

/// How many characters differ between two names (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, &cb) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(ca != cb);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

fn both_spellings(key: Key) -> String {
    let spellings: Vec<&str> = SPELLINGS.iter().filter(|(_, k)| *k == key).map(|&(name, _)| name).collect();
    spellings.join("/")
}

/// `key=value` for a problem; never called for the password.
fn shown(key: Key, value: &[u8]) -> String {
    format!("{}={}", key.name(), printable(&String::from_utf8_lossy(value), &[]))
}

fn parse_text<T: FromStr>(value: &[u8]) -> Option<T> {
    std::str::from_utf8(value).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const REQUIRED: &str = "username=FOO,password=BAR,ip=4.4.4.4,active_ip=1.1.1.1";

    #[track_caller]
    fn good(argument: &str) -> Options {
        match Options::parse(argument.as_bytes()) {
            Ok(options) => options,
            Err(problems) => panic!("{argument}: {problems:?}"),
        }
    }

    #[track_caller]
    fn bad(argument: &str) -> Vec<String> {
        match Options::parse(argument.as_bytes()) {
            Ok(_) => panic!("{argument} was accepted"),
            Err(problems) => problems.iter().map(ToString::to_string).collect(),
        }
    }

    /// One problem, and its whole text.
    #[track_caller]
    fn check_bad(argument: &str, expected: &str) {
        assert_eq!(bad(argument), [expected], "{argument}");
    }

    #[test]
    fn reads_the_seeds_configuration() {
        let options = good(REQUIRED);
        assert_eq!(options.login.username, b"FOO");
        assert_eq!(options.login.password, b"BAR");
        assert_eq!(options.ip.to_string(), "4.4.4.4");
        assert_eq!(options.active_ip.to_string(), "1.1.1.1");
        assert_eq!(options.timeout, Duration::from_secs(60));
        assert!(options.url.is_none() && !options.ssl_no_verify);
    }

    #[test]
    fn knows_the_older_spellings() {
        let options =
            good("user=u,pass=p\\,q=r,ip=2a01:4f8:fff1::,active_server_ip=2a01:4f8:0:5176::,timeout=0.5");
        assert_eq!(options.login.password, b"p,q=r");
        assert_eq!(options.timeout, Duration::from_millis(500));
        good(&format!("{REQUIRED},user=FOO,,"));
    }

    #[test]
    fn ssl_no_verify_is_on_only_when_said() {
        for (value, off) in [("", true), ("=1", true), ("=true", true), ("=Yes", true), ("=on", true)]
            .iter()
            .chain(&[("=0", false), ("=false", false), ("=NO", false), ("=off", false)])
        {
            assert_eq!(good(&format!("{REQUIRED},ssl_no_verify{value}")).ssl_no_verify, *off, "{value}");
        }
        check_bad(
            &format!("{REQUIRED},ssl_no_verify=maybe"),
            "ssl_no_verify=maybe is neither yes nor no: expected 1, true, yes or on (no verification), or 0, \
             false, no or off",
        );
    }

    #[test]
    fn names_every_problem_at_once() {
        let problems = bad("password=BAR,ip=4.4.4.444,timeout=never");
        assert_eq!(problems.len(), 4, "{problems:?}");
        for (problem, key) in problems.iter().zip(["username", "ip=4.4.4.444", "active_ip", "timeout=never"])
        {
            assert!(problem.starts_with(key), "{problem}");
        }
    }

    #[test]
    fn names_a_missing_or_empty_key() {
        check_bad(
            "username=FOO,password=,ip=4.4.4.4,active_ip=1.1.1.1",
            "password is empty: write password=the webservice user's password",
        );
        check_bad(
            "username,user=FOO,password=BAR,ip=4.4.4.4,active_ip=1.1.1.1",
            "username has no value: write username=...",
        );
    }

    #[test]
    fn suggests_the_key_that_was_meant() {
        check_bad(&format!("{REQUIRED},timout=5"), "unknown key \"timout\": did you mean timeout?");
        check_bad(&format!("{REQUIRED}, timeout=5"), "unknown key \" timeout\": did you mean timeout?");
        let problem = &bad(&format!("{REQUIRED},colour=red"))[0];
        assert!(problem.starts_with("unknown key \"colour\": expected one of username, user,"), "{problem}");
    }

    #[test]
    fn never_shows_a_piece_of_the_password() {
        let hidden =
            "an unknown key, not shown, right behind password: if the password has a comma, write it as \\,";
        for rest in ["hunter2", "hunter2=x", "a,hunter2", "ip2"] {
            let argument = format!("username=FOO,password=BAR,{rest},ip=4.4.4.4,active_ip=1.1.1.1");
            for problem in bad(&argument) {
                assert_eq!(problem, hidden, "{argument}");
            }
        }
        check_bad(
            "username=FOO,password=BAR,timout=3,ip=4.4.4.4,active_ip=1.1.1.1",
            "unknown key \"timout\": did you mean timeout?",
        );
        check_bad(
            &format!("{REQUIRED},pass=hunter2"),
            "password/pass is given twice with different values: keep one",
        );
    }

    #[test]
    fn rejects_what_is_no_address() {
        check_bad(
            "username=FOO,password=BAR,ip=2a01:4f8:fff1::/64,active_ip=2a01:4f8::",
            "ip=2a01:4f8:fff1::/64 is no IP address: expected the failover IP, like 4.4.4.4 or \
             2a01:4f8:fff1::, without a prefix length",
        );
        check_bad(
            "username=FOO,password=BAR,ip=4.4.4.4,active_ip=2a01:4f8::",
            "ip=4.4.4.4 and active_ip=2a01:4f8:: are of different families: both must be IPv4 or both IPv6",
        );
    }

    #[test]
    fn rejects_a_timeout_that_is_none() {
        for value in ["0", "0.0", "-1", "3601", "inf", "nan", "1e3", "60s", "", "1.2.3"] {
            let problem = &bad(&format!("{REQUIRED},timeout={value}"))[0];
            assert!(
                problem.starts_with(&format!("timeout={value} is no timeout: expected seconds")),
                "{problem}"
            );
        }
        assert_eq!(good(&format!("{REQUIRED},timeout=3600")).timeout, Duration::from_secs(3600));
    }

    #[test]
    fn deadline_and_verify_have_defaults_and_bounds() {
        let options = good(&format!("{REQUIRED},timeout=7"));
        assert_eq!((options.deadline, options.verify), (Duration::from_secs(21), Duration::from_secs(300)));
        let options = good(&format!("{REQUIRED},deadline=2.5,verify=0"));
        assert_eq!((options.deadline, options.verify), (Duration::from_millis(2500), Duration::ZERO));
        check_bad(
            &format!("{REQUIRED},deadline=0"),
            "deadline=0 is no deadline: expected seconds, whole or decimal, above 0 and at most 86400",
        );
        check_bad(
            &format!("{REQUIRED},verify=never"),
            "verify=never is no verify: expected 0 (never), or seconds, whole or decimal, above 0 and at most 86400",
        );
    }

    #[test]
    fn rejects_a_url_without_showing_it() {
        for url in ["robot", "ftp://host/", "https:///x", "http://u:hunter2@host/", "http://ho st/", ""] {
            let problem = &bad(&format!("{REQUIRED},url={url}"))[0];
            assert!(problem.starts_with("url ") && !problem.contains("hunter2"), "{problem}");
        }
        assert!(good(&format!("{REQUIRED},url=https://host:8080/failover/4.4.4.4?x=y")).url.is_some());
    }
}
