//! The argument of a hook: from text to checked values.
//!
//! Everything is found before anything is sent, and all at once: what cannot work, and what works, but not as one may
//! think. What the C plugin took and what can still work is never refused, and has the C plugin's meaning where that is
//! safe: it read its argument by uWSGI's own keyval parser, which passes over unknown keys and takes the last of two
//! values, handed `timeout` to atoi() and everything else to curl. No remark shows the password, not even as the rest of
//! one that holds an unescaped comma.

// With their paths, since `make fuzz` takes this file in from elsewhere.
mod keys;
pub mod keyval;
mod password;
mod url;

use std::ffi::OsStr;
use std::net::IpAddr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use ureq::http::Uri;

use crate::text::printable;
pub use keys::distance;
use keys::{Key, unknown};
use keyval::Item;
pub use password::Password;
pub use url::{address_at_its_end, host_of};

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
    /// Where to route it: a server's main IP, or for IPv6 the net address of its main net. `None`, the default: this
    /// host's own.
    pub active_ip: Option<IpAddr>,
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

/// What there is to say of an argument, and how much it weighs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remark {
    pub weight: Weight,
    pub text: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weight {
    /// It cannot work.
    Wrong,
    /// What it needs cannot be had now, and may be later.
    Away,
    /// It works, but perhaps not as was meant.
    Doubtful,
}

fn wrong(text: String) -> Remark {
    Remark { weight: Weight::Wrong, text }
}

fn doubt(text: String) -> Remark {
    Remark { weight: Weight::Doubtful, text }
}

/// What an argument was read as.
pub struct Parsed {
    /// One for each failover IP, in order; none where something is wrong.
    pub options: Vec<Options>,
    pub remarks: Vec<Remark>,
    /// Also where something is wrong.
    pub alarm: Option<String>,
}

const IP_MEANING: &str = "the failover IP, like 4.4.4.4 or 2a01:4f8:fff1::";
pub const ACTIVE_IP_MEANING: &str = "the main IP of the server to route to, like 1.1.1.1, or for IPv6 its main net, like \
                                     2a01:4f8:0:5176::";

impl Options {
    /// Reads a hook's argument. Everything that is to be said of it is, not only the first.
    pub fn parse(argument: &[u8], base_url: &str) -> Parsed {
        let mut remarks = Vec::new();
        let given = Given::read(keyval::split(argument), &mut remarks);

        let username = given.required(Key::Username, "the Robot webservice user", &mut remarks);
        if username.is_some_and(|name| name.contains(&b':')) {
            remarks.push(doubt(
                "username has a colon: by the rules of HTTP Basic auth the API takes what is behind it for the start of \
                 the password"
                    .into(),
            ));
        }
        let password = given.password(&mut remarks);
        let url = given.url(&mut remarks);
        let ips = given.ips(url.as_deref(), &mut remarks);
        let targets = given.targets(&ips, &mut remarks);
        let timeout = given.timeout(&mut remarks);
        let deadline = given.seconds(Key::Deadline, DAY, &mut remarks).unwrap_or(timeout * 3);
        let verify = match given.value(Key::Verify) {
            Some(b"0") => Duration::ZERO,
            _ => given.seconds(Key::Verify, DAY, &mut remarks).unwrap_or(DEFAULT_VERIFY),
        };
        let ssl_no_verify = given.ssl_no_verify(&mut remarks);
        let alarm = given.value(Key::Alarm).map(|name| String::from_utf8_lossy(name).into_owned());

        let mut options = Vec::new();
        for &ip in &ips {
            let url = match &url {
                Some(url) => url::for_ip(url, ip, ips.len(), &mut remarks),
                // Digits, letters, points and colons: an IP address cannot make the URL invalid.
                None => Some(format!("{base_url}{ip}").parse().expect("an IP address fits into a URL")),
            };
            if let (Some(username), Some(password), Some(url)) = (username, &password, url) {
                options.push(Options {
                    login: Login { username: username.to_vec(), password: password.clone() },
                    ip,
                    active_ip: targets.iter().find(|target| target.is_ipv6() == ip.is_ipv6()).copied(),
                    url,
                    timeout,
                    deadline,
                    verify,
                    ssl_no_verify,
                    alarm: alarm.clone(),
                });
            }
        }
        // The same may be to say of each IP.
        remarks.dedup();
        if remarks.iter().any(|remark| remark.weight == Weight::Wrong) {
            options.clear();
        }
        Parsed { options, remarks, alarm }
    }
}

/// The items of known keys, each once, with the value that counts.
struct Given(Vec<(Key, Option<Vec<u8>>)>);

impl Given {
    fn read(items: Vec<Item>, remarks: &mut Vec<Remark>) -> Given {
        let mut given: Vec<(Key, Option<Vec<u8>>)> = Vec::new();
        let mut maybe_password = false;
        for Item { key, value } in items {
            let known = Key::parse(&key);
            let is_bare = value.is_none() && known != Some(Key::SslNoVerify);
            let Some(known) = known.filter(|_| !(is_bare && maybe_password)) else {
                // A comma too many (`a=1,,b=2`) says nothing wrong.
                if !key.is_empty() || value.is_some() {
                    remarks.push(unknown(&key, value.is_some(), maybe_password));
                }
                continue;
            };
            maybe_password = matches!(known, Key::Password);
            if is_bare {
                let name = known.name();
                remarks.push(doubt(format!("{name} has no value: write {name}=...")));
                continue;
            }
            let value = value.map(|value| trimmed(known, value, remarks));
            match given.iter_mut().find(|(key, _)| *key == known) {
                Some((_, before)) => {
                    if *before != value {
                        remarks.push(doubt(format!(
                            "{} is given twice with different values: the last one counts",
                            known.all_spellings()
                        )));
                    }
                    *before = value;
                }
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

    fn required(&self, key: Key, meaning: &str, remarks: &mut Vec<Remark>) -> Option<&[u8]> {
        let state = match self.value(key) {
            Some([]) => "is empty",
            Some(value) => return Some(value),
            None => "is missing",
        };
        let name = key.name();
        remarks.push(wrong(format!("{name} {state}: write {name}={meaning}")));
        None
    }

    fn password(&self, remarks: &mut Vec<Remark>) -> Option<Password> {
        let Some(path) = self.value(Key::PasswordFile) else {
            let meaning = "the webservice user's password, or password_file=a file that holds it";
            return self.required(Key::Password, meaning, remarks).map(|text| Password::Given(text.to_vec()));
        };
        if self.item(Key::Password).is_some() {
            remarks.push(wrong("password and password_file are both given: keep one".into()));
        }
        let password = Password::in_file(Path::new(OsStr::from_bytes(path)));
        if let Err(why) = password.read() {
            let text = format!("{}: expected a file that holds the password", printable(&why, &[]));
            remarks.push(Remark { weight: Weight::Away, text });
        }
        Some(password)
    }

    /// The text of `url`, with a scheme and without a login.
    fn url(&self, remarks: &mut Vec<Remark>) -> Option<String> {
        url::read(&String::from_utf8_lossy(self.value(Key::Url)?), remarks)
    }

    /// The failover IPs. A `url` replaces all, so what it ends in is the one that is moved.
    fn ips(&self, url: Option<&str>, remarks: &mut Vec<Remark>) -> Vec<IpAddr> {
        let in_url = url.and_then(address_at_its_end);
        let value = self.value(Key::Ip).unwrap_or_default();
        let is_other = |address: &IpAddr| parse_text(value) != Some(*address);
        // Of several each has its own place in the url.
        let is_one = !value.is_empty() && !value.contains(&b';');
        match in_url.filter(|address| is_one && is_other(address)) {
            Some(address) => {
                let shown = shown(Key::Ip, value);
                remarks.push(doubt(format!(
                    "url leads to {address}, and replaces {shown}: write ip={address}, or {{ip}} into the url"
                )));
                vec![address]
            }
            None => self.addresses(Key::Ip, IP_MEANING, remarks),
        }
    }

    /// The addresses of a list with semicolons; none where the key is missing or a value is none.
    fn addresses(&self, key: Key, meaning: &str, remarks: &mut Vec<Remark>) -> Vec<IpAddr> {
        let Some(value) = self.required(key, meaning, remarks) else { return Vec::new() };
        let mut addresses = Vec::new();
        for item in value.split(|byte| *byte == b';') {
            match parse_text(item) {
                Some(address) if addresses.contains(&address) => {
                    remarks.push(wrong(format!("{} names {address} twice", shown(key, value))));
                }
                Some(address) => addresses.push(address),
                None => {
                    let hint = if item.contains(&b'/') { ", without a prefix length" } else { "" };
                    let shown = shown(key, item);
                    remarks.push(wrong(format!("{shown} is no IP address: expected {meaning}{hint}")));
                }
            }
        }
        addresses
    }

    /// Where to route, one address a family; none where this host's own is meant.
    fn targets(&self, ips: &[IpAddr], remarks: &mut Vec<Remark>) -> Vec<IpAddr> {
        if self.item(Key::ActiveIp).is_none() {
            return Vec::new();
        }
        let targets = self.addresses(Key::ActiveIp, ACTIVE_IP_MEANING, remarks);
        for family in [false, true] {
            let of_family = |list: &[IpAddr]| list.iter().filter(|ip| ip.is_ipv6() == family).count();
            let (wanted, given) = (of_family(ips), of_family(&targets));
            let name = if family { "IPv6" } else { "IPv4" };
            let list = |list: &[IpAddr]| list.iter().map(ToString::to_string).collect::<Vec<_>>().join(";");
            if given > 1 {
                remarks.push(wrong(format!(
                    "active_ip={} has more than one of {name}: keep one",
                    list(&targets)
                )));
            } else if !ips.is_empty() && !targets.is_empty() && (wanted > 0) != (given > 0) {
                remarks.push(wrong(format!(
                    "ip={} and active_ip={} are of different families: there must be one active_ip of each family \
                     of ip",
                    list(ips),
                    list(&targets)
                )));
            }
        }
        for target in &targets {
            if let Some(ip) = ips.iter().find(|ip| net(**ip) == net(*target)) {
                let one = if ip == target { "the same address" } else { "of one /64 net" };
                remarks.push(wrong(format!(
                    "ip={ip} and active_ip={target} are {one}: a failover IP cannot be routed to itself; expected \
                     {ACTIVE_IP_MEANING}"
                )));
            }
        }
        targets
    }

    /// The C plugin left its reading to atoi(), and 0 was no limit at all.
    fn timeout(&self, remarks: &mut Vec<Remark>) -> Duration {
        let Some(value) = self.value(Key::Timeout) else { return DEFAULT_TIMEOUT };
        if let Some(seconds) = seconds(value, LONGEST_TIMEOUT) {
            return seconds;
        }
        let longest = Duration::from_secs_f64(LONGEST_TIMEOUT);
        let read = match atoi(value) {
            0 => DEFAULT_TIMEOUT,
            some => Duration::from_secs(some).min(longest),
        };
        remarks.push(doubt(format!(
            "{} is no timeout: taken as {}; expected {}",
            shown(Key::Timeout, value),
            read.as_secs(),
            expected_seconds(LONGEST_TIMEOUT)
        )));
        read
    }

    fn seconds(&self, key: Key, longest: f64, remarks: &mut Vec<Remark>) -> Option<Duration> {
        let value = self.value(key)?;
        let seconds = seconds(value, longest);
        if seconds.is_none() {
            let off = if key == Key::Verify { "0 (never), or " } else { "" };
            remarks.push(wrong(format!(
                "{} is no {}: expected {off}{}",
                shown(key, value),
                key.name(),
                expected_seconds(longest)
            )));
        }
        seconds
    }

    /// To the C plugin any value was a yes, `0` too. What is not plainly one leaves the password protected.
    fn ssl_no_verify(&self, remarks: &mut Vec<Remark>) -> bool {
        let Some(value) = self.item(Key::SslNoVerify) else { return false };
        let Some(value) = value else { return true };
        match value.to_ascii_lowercase().as_slice() {
            b"1" | b"true" | b"yes" | b"on" | b"y" | b"t" | b"enable" | b"enabled" => true,
            b"0" | b"false" | b"no" | b"off" | b"n" | b"f" | b"disable" | b"disabled" => false,
            _ => {
                remarks.push(doubt(format!(
                    "{} is neither yes nor no, so the API's TLS certificate is verified: expected 1, true, yes or on \
                     (no verification), or 0, false, no or off",
                    shown(Key::SslNoVerify, value)
                )));
                false
            }
        }
    }
}

/// The value without blanks around it, but for what may have some.
fn trimmed(key: Key, value: Vec<u8>, remarks: &mut Vec<Remark>) -> Vec<u8> {
    if matches!(key, Key::Username | Key::Password | Key::PasswordFile) {
        return value;
    }
    let without = value.trim_ascii();
    if without.len() == value.len() {
        return value;
    }
    remarks.push(doubt(format!("{} has blanks around its value: taken without them", key.name())));
    without.to_vec()
}

fn seconds(value: &[u8], longest: f64) -> Option<Duration> {
    // Only digits and a point: parse::<f64> alone would take `inf` and `1e3`.
    let plain = value.iter().all(|byte| byte.is_ascii_digit() || *byte == b'.');
    let seconds = parse_text::<f64>(value).filter(|s| plain && *s > 0.0 && *s <= longest);
    // Not below what a socket can time.
    seconds.map(|seconds| Duration::from_secs_f64(seconds).max(Duration::from_millis(1)))
}

fn expected_seconds(longest: f64) -> String {
    format!("seconds, whole or decimal, above 0 and at most {longest}")
}

/// As C's atoi() of a text without blanks at its start, with 0 for what is negative.
fn atoi(text: &[u8]) -> u64 {
    let digits = text.strip_prefix(b"+").unwrap_or(text).iter().take_while(|byte| byte.is_ascii_digit());
    digits.fold(0u64, |number, digit| number.saturating_mul(10).saturating_add(u64::from(digit - b'0')))
}

/// Of an IPv6 address, its /64: that is how Robot names a server, and a failover net.
pub fn net(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => std::net::Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
    }
}

/// `key=value` for a remark; never called for the password.
fn shown(key: Key, value: &[u8]) -> String {
    format!("{}={}", key.name(), printable(&String::from_utf8_lossy(value), &[]))
}

fn parse_text<T: FromStr>(value: &[u8]) -> Option<T> {
    std::str::from_utf8(value).ok()?.parse().ok()
}

#[cfg(test)]
mod properties;

#[cfg(test)]
mod tests;
