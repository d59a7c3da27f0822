//! The argument of a hook: from text to checked values.
//!
//! Every problem is found before anything is sent, and all of them at once. No problem shows the password,
//! not even as the rest of one that holds an unescaped comma.

use std::ffi::OsStr;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::net::IpAddr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use ureq::http::Uri;
use ureq::http::uri::Authority;

use crate::keyval::{self, Item};
use crate::text::printable;

/// The longest `timeout`, in seconds: a switch takes a minute, so an hour is already a mistake.
const LONGEST_TIMEOUT: f64 = 3600.0;
/// A switch takes 40 to 60 s (Hetzner's documentation of failover IPs).
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(60);
/// The longest `deadline` and `verify`, in seconds.
const DAY: f64 = 24.0 * 3600.0;
/// Twelve checks an hour, of the hundred requests that the API allows.
pub const DEFAULT_VERIFY: Duration = Duration::from_secs(300);

/// What a hook asks for, for one of its failover IPs.
#[derive(Clone)]
pub struct Options {
    pub login: Login,
    /// The failover IP, or the net address of an IPv6 failover net.
    pub ip: IpAddr,
    /// Where to route it: a server's main IP, or for IPv6 the net address of its main net. Default: this host's own.
    pub active_ip: IpAddr,
    /// Where all requests go.
    pub url: Uri,
    /// For one request, from name resolution to the last byte of the body. Default: 60 s.
    pub timeout: Duration,
    /// For a whole takeover. Default: three times `timeout`.
    pub deadline: Duration,
    /// How often a Lord asks whether the IP is still here; zero is never. Default: 300 s.
    pub verify: Duration,
    /// Whether the API's TLS certificate is not verified.
    pub ssl_no_verify: bool,
    /// uWSGI's alarm to trigger when something is wrong with the route. Default: none.
    pub alarm: Option<String>,
}

/// The webservice user. Bytes, since nothing says that a password is UTF-8. Cannot be printed.
#[derive(Clone)]
pub struct Login {
    pub username: Vec<u8>,
    pub password: Password,
}

/// Where the password stands.
#[derive(Clone)]
pub enum Password {
    Given(Vec<u8>),
    /// Read at each takeover, so that a new one needs no restart.
    File(PathBuf),
}

/// Longer than any password, shorter than what a mistaken path may lead to.
const LONGEST_PASSWORD: u64 = 4096;

impl Password {
    /// The password, or a sentence that says why there is none.
    pub fn read(&self) -> Result<Vec<u8>, String> {
        let path = match self {
            Password::Given(password) => return Ok(password.clone()),
            Password::File(path) => path,
        };
        let named = |what: &str| format!("password_file={}: {what}", path.display());
        let mut password = Vec::new();
        let read =
            File::open(path).and_then(|file| file.take(LONGEST_PASSWORD + 1).read_to_end(&mut password));
        read.map_err(|error| named(&error.to_string()))?;
        if password.len() as u64 > LONGEST_PASSWORD {
            return Err(named("too long for a password"));
        }
        if password.last() == Some(&b'\n') {
            password.pop();
            if password.last() == Some(&b'\r') {
                password.pop();
            }
        }
        if password.is_empty() { Err(named("it is empty")) } else { Ok(password) }
    }
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
    PasswordFile,
    Ip,
    ActiveIp,
    Url,
    Timeout,
    Deadline,
    Verify,
    SslNoVerify,
    Alarm,
}

/// Every spelling; the first one of a key is its name.
const SPELLINGS: [(&str, Key); 14] = [
    ("username", Key::Username),
    ("user", Key::Username),
    ("password", Key::Password),
    ("pass", Key::Password),
    ("password_file", Key::PasswordFile),
    ("ip", Key::Ip),
    ("active_ip", Key::ActiveIp),
    ("active_server_ip", Key::ActiveIp),
    ("url", Key::Url),
    ("timeout", Key::Timeout),
    ("deadline", Key::Deadline),
    ("verify", Key::Verify),
    ("ssl_no_verify", Key::SslNoVerify),
    ("alarm", Key::Alarm),
];

impl Key {
    fn parse(spelling: &[u8]) -> Option<Key> {
        SPELLINGS.iter().find(|(known, _)| known.as_bytes() == spelling).map(|&(_, key)| key)
    }

    fn name(self) -> &'static str {
        SPELLINGS.iter().find(|&&(_, key)| key == self).map_or("", |&(name, _)| name)
    }
}

const IP_MEANING: &str = "the failover IP, like 4.4.4.4 or 2a01:4f8:fff1::";
const ACTIVE_IP_MEANING: &str = "the main IP of the server to route to, like 1.1.1.1, or for IPv6 its main net, like \
                                 2a01:4f8:0:5176::";

/// Finds this host's own address for a request to a URL, of IPv6 if so said; or says why there is none.
pub type FindOwn<'a> = &'a dyn Fn(&Uri, bool) -> Result<IpAddr, String>;

impl Options {
    /// Reads a hook's argument: one for each failover IP. Every problem is reported, not only the first.
    pub fn parse(argument: &[u8], base_url: &str, own: FindOwn) -> Result<Vec<Options>, Vec<Problem>> {
        let mut problems = Vec::new();
        let given = Given::read(keyval::split(argument), &mut problems);

        let username = given.required(Key::Username, "the Robot webservice user", &mut problems);
        if username.is_some_and(|name| name.contains(&b':')) {
            problems
                .push(Problem("username must not contain a colon: HTTP Basic auth cannot send it".into()));
        }
        let password = given.password(&mut problems);
        let ips = given.addresses(Key::Ip, IP_MEANING, &mut problems);
        let targets = given.targets(&ips, &mut problems);
        let timeout = given.seconds(Key::Timeout, LONGEST_TIMEOUT, &mut problems).unwrap_or(DEFAULT_TIMEOUT);
        let deadline = given.seconds(Key::Deadline, DAY, &mut problems).unwrap_or(timeout * 3);
        let verify = match given.value(Key::Verify) {
            Some(b"0") => Duration::ZERO,
            _ => given.seconds(Key::Verify, DAY, &mut problems).unwrap_or(DEFAULT_VERIFY),
        };
        let ssl_no_verify = given.ssl_no_verify(&mut problems);
        let alarm = given.value(Key::Alarm).map(|name| String::from_utf8_lossy(name).into_owned());

        let mut options = Vec::new();
        for &ip in &ips {
            let url = given.url(ip, ips.len(), base_url, &mut problems);
            let target = match (targets.iter().find(|target| target.is_ipv6() == ip.is_ipv6()), &url) {
                (Some(target), _) => Some(*target),
                (None, Some(url)) if given.item(Key::ActiveIp).is_none() => own(url, ip.is_ipv6())
                    .map_err(|why| {
                        problems.push(Problem(format!("{why}: write active_ip={ACTIVE_IP_MEANING}")))
                    })
                    .ok(),
                _ => None,
            };
            if let (Some(username), Some(password), Some(active_ip), Some(url)) =
                (username, &password, target, url)
            {
                let login = Login { username: username.to_vec(), password: password.clone() };
                let alarm = alarm.clone();
                options.push(Options {
                    login,
                    ip,
                    active_ip,
                    url,
                    timeout,
                    deadline,
                    verify,
                    ssl_no_verify,
                    alarm,
                });
            }
        }
        // The same may be wrong for each IP.
        problems.dedup();
        if problems.is_empty() { Ok(options) } else { Err(problems) }
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
            maybe_password = matches!(known, Key::Password);
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

    fn password(&self, problems: &mut Vec<Problem>) -> Option<Password> {
        let Some(path) = self.value(Key::PasswordFile) else {
            let meaning = "the webservice user's password, or password_file=a file that holds it";
            return self
                .required(Key::Password, meaning, problems)
                .map(|text| Password::Given(text.to_vec()));
        };
        if self.item(Key::Password).is_some() {
            problems.push(Problem("password and password_file are both given: keep one".into()));
        }
        let password = Password::File(OsStr::from_bytes(path).into());
        if let Err(why) = password.read() {
            problems
                .push(Problem(format!("{}: expected a file that holds the password", printable(&why, &[]))));
        }
        Some(password)
    }

    /// The addresses of a list with semicolons; none where the key is missing or a value is none.
    fn addresses(&self, key: Key, meaning: &str, problems: &mut Vec<Problem>) -> Vec<IpAddr> {
        let Some(value) = self.required(key, meaning, problems) else { return Vec::new() };
        let mut addresses = Vec::new();
        for item in value.split(|byte| *byte == b';') {
            match parse_text(item) {
                Some(address) if addresses.contains(&address) => {
                    problems.push(Problem(format!("{} names {address} twice", shown(key, value))));
                }
                Some(address) => addresses.push(address),
                None => {
                    let hint = if item.contains(&b'/') { ", without a prefix length" } else { "" };
                    let shown = shown(key, item);
                    problems.push(Problem(format!("{shown} is no IP address: expected {meaning}{hint}")));
                }
            }
        }
        addresses
    }

    /// Where to route, one address a family; none where this host's own is meant.
    fn targets(&self, ips: &[IpAddr], problems: &mut Vec<Problem>) -> Vec<IpAddr> {
        if self.item(Key::ActiveIp).is_none() {
            return Vec::new();
        }
        let targets = self.addresses(Key::ActiveIp, ACTIVE_IP_MEANING, problems);
        for family in [false, true] {
            let of_family = |list: &[IpAddr]| list.iter().filter(|ip| ip.is_ipv6() == family).count();
            let (wanted, given) = (of_family(ips), of_family(&targets));
            let name = if family { "IPv6" } else { "IPv4" };
            let list = |list: &[IpAddr]| list.iter().map(ToString::to_string).collect::<Vec<_>>().join(";");
            if given > 1 {
                problems.push(Problem(format!(
                    "active_ip={} has more than one of {name}: keep one",
                    list(&targets)
                )));
            } else if !ips.is_empty() && !targets.is_empty() && (wanted > 0) != (given > 0) {
                problems.push(Problem(format!(
                    "ip={} and active_ip={} are of different families: there must be one active_ip of each family \
                     of ip",
                    list(ips),
                    list(&targets)
                )));
            }
        }
        targets
    }

    fn url(&self, ip: IpAddr, ips: usize, base_url: &str, problems: &mut Vec<Problem>) -> Option<Uri> {
        let Some(value) = self.value(Key::Url) else {
            // Digits, letters, points and colons: an IP address cannot make the URL invalid.
            return Some(format!("{base_url}{ip}").parse().expect("an IP address fits into a URL"));
        };
        let expected = "expected http://HOST/PATH or https://HOST/PATH";
        let text = String::from_utf8_lossy(value);
        if ips > 1 && !text.contains("{ip}") {
            problems.push(Problem(
                "url leads to one place, but there are several IPs: write {ip} where it stands".into(),
            ));
            return None;
        }
        // The value itself is not shown: people put a login into it.
        let Ok(uri) = text.replace("{ip}", &ip.to_string()).parse::<Uri>() else {
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
        } else if uri.authority().is_some_and(has_no_real_port) {
            problems.push(Problem("url names a port that is none: expected 1 to 65535".into()));
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

/// The host of a URL, an IPv6 address without its brackets.
pub fn host_of(url: &Uri) -> &str {
    url.host().unwrap_or_default().trim_matches(['[', ']'])
}

/// Whether a port is named that is none; requests would go to the scheme's own instead.
fn has_no_real_port(authority: &Authority) -> bool {
    let named = authority.as_str().strip_prefix(authority.host()).is_some_and(|port| port.len() > ":".len());
    named && authority.port_u16().is_none_or(|port| port == 0)
}

#[cfg(test)]
mod properties;

#[cfg(test)]
mod tests {
    use super::*;

    const REQUIRED: &str = "username=FOO,password=BAR,ip=4.4.4.4,active_ip=1.1.1.1";

    fn parse(argument: &str) -> Result<Vec<Options>, Vec<Problem>> {
        let own = |_: &Uri, ipv6: bool| match ipv6 {
            false => Ok([9, 9, 9, 9].into()),
            true => Err("active_ip is missing, and there is none".into()),
        };
        Options::parse(argument.as_bytes(), "https://robot/failover/", &own)
    }

    #[track_caller]
    fn all(argument: &str) -> Vec<Options> {
        parse(argument).unwrap_or_else(|problems| panic!("{argument}: {problems:?}"))
    }

    #[track_caller]
    fn good(argument: &str) -> Options {
        all(argument).remove(0)
    }

    fn password(options: &Options) -> Vec<u8> {
        options.login.password.read().unwrap()
    }

    #[track_caller]
    fn bad(argument: &str) -> Vec<String> {
        match parse(argument) {
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
        assert_eq!(password(&options), b"BAR");
        assert_eq!(options.ip.to_string(), "4.4.4.4");
        assert_eq!(options.active_ip.to_string(), "1.1.1.1");
        assert_eq!(options.timeout, Duration::from_secs(60));
        assert!(options.url == "https://robot/failover/4.4.4.4" && !options.ssl_no_verify);
    }

    #[test]
    fn knows_the_older_spellings() {
        let options =
            good("user=u,pass=p\\,q=r,ip=2a01:4f8:fff1::,active_server_ip=2a01:4f8:0:5176::,timeout=0.5");
        assert_eq!(password(&options), b"p,q=r");
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
        let problems = bad("password=BAR,ip=4.4.4.444,active_ip=x,timeout=never");
        assert_eq!(problems.len(), 4, "{problems:?}");
        for (problem, key) in
            problems.iter().zip(["username", "ip=4.4.4.444", "active_ip=x", "timeout=never"])
        {
            assert!(problem.starts_with(key), "{problem}");
        }
    }

    #[test]
    fn names_a_missing_or_empty_key() {
        check_bad(
            "username=FOO,password=,ip=4.4.4.4,active_ip=1.1.1.1",
            "password is empty: write password=the webservice user's password, or password_file=a file that holds it",
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
            "ip=4.4.4.4 and active_ip=2a01:4f8:: are of different families: there must be one active_ip of each \
             family of ip",
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
        for url in [
            "robot",
            "ftp://host/",
            "https:///x",
            "http://u:hunter2@host/",
            "http://ho st/",
            "",
            "http://host:99999/",
            "http://[::1]:0/",
        ] {
            let problem = &bad(&format!("{REQUIRED},url={url}"))[0];
            assert!(problem.starts_with("url ") && !problem.contains("hunter2"), "{problem}");
        }
        let url = "https://host:8080/failover/4.4.4.4?x=y";
        assert_eq!(good(&format!("{REQUIRED},url={url}")).url, url);
    }

    #[test]
    fn routes_to_this_host_where_nothing_else_is_said() {
        assert_eq!(good("user=u,pass=p,ip=4.4.4.4").active_ip.to_string(), "9.9.9.9");
        let problem = &bad("user=u,pass=p,ip=2a01:4f8:fff1::")[0];
        assert!(
            problem.starts_with("active_ip is missing, and there is none: write active_ip=the main IP"),
            "{problem}"
        );
    }

    #[test]
    fn one_hook_may_have_several_ips() {
        let several = "user=u,pass=p,ip=4.4.4.4;2a01:4f8:fff1::;5.5.5.5,active_ip=2a01:4f8::;1.1.1.1";
        let found = all(several);
        let pairs: Vec<String> = found.iter().map(|one| format!("{} → {}", one.ip, one.active_ip)).collect();
        assert_eq!(pairs, ["4.4.4.4 → 1.1.1.1", "2a01:4f8:fff1:: → 2a01:4f8::", "5.5.5.5 → 1.1.1.1"]);
        assert_eq!(all(&format!("{several},url=http://h/x/{{ip}}"))[1].url, "http://h/x/2a01:4f8:fff1::");
        check_bad(
            &format!("{several},url=http://h/x"),
            "url leads to one place, but there are several IPs: write {ip} where it stands",
        );
        check_bad(
            "user=u,pass=p,ip=4.4.4.4;4.4.4.4,active_ip=1.1.1.1",
            "ip=4.4.4.4;4.4.4.4 names 4.4.4.4 twice",
        );
        check_bad(
            "user=u,pass=p,ip=4.4.4.4,active_ip=1.1.1.1;2.2.2.2",
            "active_ip=1.1.1.1;2.2.2.2 has more than one of IPv4: keep one",
        );
    }

    #[test]
    fn a_password_may_stand_in_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("password");
        let argument = format!("user=u,password_file={},ip=4.4.4.4,active_ip=1.1.1.1", path.display());
        let expected = "No such file or directory (os error 2): expected a file that holds the password";
        check_bad(&argument, &format!("password_file={}: {expected}", path.display()));
        for (content, expected) in
            [("hunter2\n", "hunter2"), ("hunter2\r\n", "hunter2"), ("a\n\n", "a\n"), ("b", "b")]
        {
            std::fs::write(&path, content).unwrap();
            assert_eq!(password(&good(&argument)), expected.as_bytes());
        }
        std::fs::write(&path, "\n").unwrap();
        assert!(bad(&argument)[0].contains("it is empty"));
        std::fs::write(&path, "x".repeat(5000)).unwrap();
        assert!(bad(&argument)[0].contains("too long for a password"));
        std::fs::write(&path, "x").unwrap();
        check_bad(&format!("{argument},pass=x"), "password and password_file are both given: keep one");
    }
}
