//! The keys that every hook may have, whatever its hoster.

use std::time::Duration;

use super::argument::parsed;
use super::{Argument, Key, Takes, shown};

/// In seconds. A switch takes a minute, so more than an hour is a mistake.
const LONGEST_TIMEOUT: u64 = 3600;
/// A day; also for `verify`.
const LONGEST_DEADLINE: u64 = 24 * 3600;

const TIMEOUT: Key = Key::word(&["timeout"]);
const DEADLINE: Key = Key::word(&["deadline"]);
const VERIFY: Key = Key::word(&["verify"]);
const SSL_NO_VERIFY: Key = Key { spellings: &["ssl_no_verify"], takes: Takes::Switch };
const ALARM: Key = Key::word(&["alarm"]);

const SECONDS: &str = "a number of seconds, whole or decimal, above 0 and at most";

/// How long things take at a hoster.
pub struct Pace {
    /// The default of `timeout`.
    pub timeout: Duration,
    /// The default of `verify`.
    pub verify: Duration,
    /// How long after it was begun a request may reach the hoster, if it gets no answer.
    pub longest_way: Duration,
    pub longest_switch: Duration,
    /// How long after the first refusal by a lock to try whether the lock has ended unseen.
    pub lock_tried_after: Duration,
    /// The shortest `deadline` that leaves time to see a switch complete.
    pub shortest_deadline: Duration,
}

#[derive(Clone)]
pub struct Common {
    /// For one request, from name resolution to the last byte of the body. Default: the hoster's.
    pub timeout: Duration,
    /// For a whole takeover. Default: three times `timeout`.
    pub deadline: Duration,
    /// How often a Lord checks that the IP is still here; zero is never. Default: the hoster's.
    pub verify: Duration,
    /// Do not verify the API's TLS certificate. Default: off.
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

    /// The C plugin used atoi(), and took 0 as no limit at all.
    fn timeout(&mut self, default: Duration) -> Duration {
        let Some(value) = self.get(TIMEOUT) else { return default };
        if let Some(seconds) = seconds(value, LONGEST_TIMEOUT) {
            return seconds;
        }
        let used = match atoi(value) {
            0 => default,
            number => Duration::from_secs(number.min(LONGEST_TIMEOUT)),
        };
        let (item, seconds) = (shown(TIMEOUT, value), used.as_secs());
        self.doubt(format!(
            "{item} is not valid, so {seconds} is used: expected {SECONDS} {LONGEST_TIMEOUT}"
        ));
        used
    }

    fn seconds(&mut self, key: Key) -> Option<Duration> {
        let value = self.get(key)?;
        let seconds = seconds(value, LONGEST_DEADLINE);
        if seconds.is_none() {
            let (item, off) = (shown(key, value), if key == VERIFY { "0 (off) or " } else { "" });
            self.wrong(format!("{item} is not valid: expected {off}{SECONDS} {LONGEST_DEADLINE}"));
        }
        seconds
    }

    /// The C plugin took any value as yes, even `0`. A value that is not clearly yes keeps the password protected.
    fn ssl_no_verify(&mut self) -> bool {
        let Some(value) = self.get(SSL_NO_VERIFY) else { return self.has(SSL_NO_VERIFY) };
        match value.to_ascii_lowercase().as_slice() {
            b"1" | b"true" | b"yes" | b"on" | b"y" | b"t" | b"enable" | b"enabled" => true,
            b"0" | b"false" | b"no" | b"off" | b"n" | b"f" | b"disable" | b"disabled" => false,
            _ => {
                self.doubt(format!(
                    "{} is not valid, so the API's TLS certificate is verified: expected 1, true, yes or on (do not \
                     verify), or 0, false, no or off (verify)",
                    shown(SSL_NO_VERIFY, value)
                ));
                false
            }
        }
    }
}

fn seconds(value: &[u8], longest: u64) -> Option<Duration> {
    // parse::<f64>() alone would accept `inf` and `1e3`.
    let plain = value.iter().all(|byte| byte.is_ascii_digit() || *byte == b'.');
    let seconds = parsed::<f64>(value).filter(|s| plain && *s > 0.0 && *s <= longest as f64);
    // Sockets have no shorter timeouts.
    seconds.map(|seconds| Duration::from_secs_f64(seconds).max(Duration::from_millis(1)))
}

/// C's atoi() for a text without leading whitespace, but 0 for a negative number.
fn atoi(text: &[u8]) -> u64 {
    let digits = text.strip_prefix(b"+").unwrap_or(text).iter().take_while(|byte| byte.is_ascii_digit());
    digits.fold(0u64, |number, digit| number.saturating_mul(10).saturating_add(u64::from(digit - b'0')))
}
