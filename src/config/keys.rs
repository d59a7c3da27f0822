//! The keys of a hook's argument, and what is said of those that are none.

use super::{Remark, doubt};
use crate::text::printable;

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Key {
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
    pub fn parse(spelling: &[u8]) -> Option<Key> {
        SPELLINGS.iter().find(|(known, _)| known.as_bytes() == spelling).map(|&(_, key)| key)
    }

    pub fn name(self) -> &'static str {
        SPELLINGS.iter().find(|&&(_, key)| key == self).map_or("", |&(name, _)| name)
    }

    pub fn all_spellings(self) -> String {
        let spellings: Vec<&str> =
            SPELLINGS.iter().filter(|(_, key)| *key == self).map(|&(name, _)| name).collect();
        spellings.join("/")
    }
}

/// An item that says nothing to the plugin. Right behind the password it may be the rest of one with a comma in it: then
/// it is shown only where it is plainly a mistyped key.
pub fn unknown(key: &[u8], has_value: bool, maybe_password: bool) -> Remark {
    let name = String::from_utf8_lossy(key);
    let close = SPELLINGS
        .iter()
        .map(|&(known, _)| (distance(&name, known), known))
        .filter(|(distance, known)| has_value && *distance <= 2 && *distance < known.len() / 2)
        .min();
    let shown = printable(&name, &[]);
    match close {
        Some((_, known)) => doubt(format!("unknown key \"{shown}\": did you mean {known}?")),
        None if maybe_password => doubt(
            "an unknown key, not shown, right behind password: if the password has a comma, write it as \\,"
                .into(),
        ),
        None => {
            let known: Vec<&str> = SPELLINGS.iter().map(|&(name, _)| name).collect();
            doubt(format!("unknown key \"{shown}\": expected one of {}", known.join(", ")))
        }
    }
}

/// How many characters differ between two names (Levenshtein).
pub fn distance(a: &str, b: &str) -> usize {
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
