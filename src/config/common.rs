//! What every hook has once, whoever its hoster is and however many IPs it names.

use std::time::Duration;

use super::argument::parsed;
use super::{Argument, Key, Remark, shown};

/// The longest `timeout`, in seconds: a switch takes a minute, so an hour is already a mistake.
const LONGEST_TIMEOUT: u64 = 3600;
/// The longest `deadline` and `verify`, in seconds.
const DAY: u64 = 24 * 3600;

const TIMEOUT: Key = Key::new(&["timeout"]);
const DEADLINE: Key = Key::new(&["deadline"]);
pub const VERIFY: Key = Key::new(&["verify"]);
const SSL_NO_VERIFY: Key = Key::new(&["ssl_no_verify"]).or_bare();
const ALARM: Key = Key::new(&["alarm"]);

/// How long things take with a hoster.
pub struct Pace {
    /// `timeout`, where none is given.
    pub timeout: Duration,
    /// `verify`, where none is given.
    pub verify: Duration,
    /// What a switch takes at most.
    pub longest_switch: Duration,
    /// The shortest `deadline` in which a switch can be seen to end.
    pub shortest_deadline: Duration,
}

#[derive(Clone)]
pub struct Common {
    /// For one request, from name resolution to the last byte of the body. Default: the hoster's.
    pub timeout: Duration,
    /// For a whole takeover. Default: three times `timeout`.
    pub deadline: Duration,
    /// How often a Lord asks whether the IP is still here; zero is never. Default: the hoster's.
    pub verify: Duration,
    /// Whether the API's TLS certificate is not verified.
    pub ssl_no_verify: bool,
    /// uWSGI's alarm to trigger when something is wrong with the route. Default: none.
    pub alarm: Option<String>,
}

impl Common {
    pub const KEYS: [Key; 5] = [TIMEOUT, DEADLINE, VERIFY, SSL_NO_VERIFY, ALARM];
}

impl Argument {
    pub fn common(&mut self, pace: &Pace) -> Common {
        let timeout = self.timeout(pace.timeout);
        let deadline = self.seconds(DEADLINE).unwrap_or(timeout * 3);
        let verify = match self.get(VERIFY) {
            Some(b"0") => Duration::ZERO,
            _ => self.seconds(VERIFY).unwrap_or(pace.verify),
        };
        let ssl_no_verify = self.ssl_no_verify();
        let alarm = self.get(ALARM).map(|name| String::from_utf8_lossy(name).into_owned());
        Common { timeout, deadline, verify, ssl_no_verify, alarm }
    }

    /// The C plugin left its reading to atoi(), and 0 was no limit at all.
    fn timeout(&mut self, default: Duration) -> Duration {
        let Some(value) = self.get(TIMEOUT) else { return default };
        if let Some(seconds) = seconds(value, LONGEST_TIMEOUT) {
            return seconds;
        }
        let taken = match atoi(value) {
            0 => default,
            some => Duration::from_secs(some.min(LONGEST_TIMEOUT)),
        };
        let shown = shown(TIMEOUT, value);
        self.remark(Remark::NoTimeout { shown, taken, longest: LONGEST_TIMEOUT });
        taken
    }

    fn seconds(&mut self, key: Key) -> Option<Duration> {
        let value = self.get(key)?;
        let seconds = seconds(value, DAY);
        if seconds.is_none() {
            self.remark(Remark::NoSeconds { key, shown: shown(key, value), longest: DAY });
        }
        seconds
    }

    /// To the C plugin any value was a yes, `0` too. What is not plainly one leaves what is secret protected.
    fn ssl_no_verify(&mut self) -> bool {
        let Some(value) = self.get(SSL_NO_VERIFY) else { return self.has(SSL_NO_VERIFY) };
        match value.to_ascii_lowercase().as_slice() {
            b"1" | b"true" | b"yes" | b"on" | b"y" | b"t" | b"enable" | b"enabled" => true,
            b"0" | b"false" | b"no" | b"off" | b"n" | b"f" | b"disable" | b"disabled" => false,
            _ => {
                self.remark(Remark::NeitherYesNorNo { shown: shown(SSL_NO_VERIFY, value) });
                false
            }
        }
    }
}

fn seconds(value: &[u8], longest: u64) -> Option<Duration> {
    // Only digits and a point: parse::<f64> alone would take `inf` and `1e3`.
    let plain = value.iter().all(|byte| byte.is_ascii_digit() || *byte == b'.');
    let seconds = parsed::<f64>(value).filter(|s| plain && *s > 0.0 && *s <= longest as f64);
    // Not below what a socket can time.
    seconds.map(|seconds| Duration::from_secs_f64(seconds).max(Duration::from_millis(1)))
}

/// As C's atoi() of a text without blanks at its start, with 0 for what is negative.
fn atoi(text: &[u8]) -> u64 {
    let digits = text.strip_prefix(b"+").unwrap_or(text).iter().take_while(|byte| byte.is_ascii_digit());
    digits.fold(0u64, |number, digit| number.saturating_mul(10).saturating_add(u64::from(digit - b'0')))
}
