//! What there is to say of an argument, and how much it weighs: the one place for its words.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use super::Key;
use super::common::VERIFY;
use super::secret::Unreadable;
use crate::text::printable;

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Remark {
    NoValue(Key),
    Blanks(Key),
    GivenTwice(Key),
    Mistyped {
        written: String,
        meant: &'static str,
    },
    /// Right behind a secret, so it is not shown.
    MaybeSecret(Key),
    Unknown {
        written: String,
        known: Vec<&'static str>,
    },
    Missing {
        key: Key,
        is_empty: bool,
        meaning: String,
    },
    /// A secret, and its file.
    BothGiven(Key, Key),
    Unreadable(Unreadable),
    NoAddress {
        shown: String,
        meaning: String,
    },
    AddressTwice {
        shown: String,
        address: IpAddr,
    },
    NoTimeout {
        shown: String,
        taken: Duration,
        longest: u64,
    },
    NoSeconds {
        key: Key,
        shown: String,
        longest: u64,
    },
    NeitherYesNorNo {
        shown: String,
    },
    UrlIsEmpty,
    UrlHasNoScheme {
        taken: &'static str,
    },
    UrlHasALogin {
        used: &'static str,
    },
    NoUrl,
    UrlHasNoHost,
    UrlHasNoPort,
    /// A hoster's own, in its words.
    OfHoster(Weight, String),
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

impl Remark {
    pub fn weight(&self) -> Weight {
        match self {
            Remark::NoValue(_)
            | Remark::Blanks(_)
            | Remark::GivenTwice(_)
            | Remark::Mistyped { .. }
            | Remark::MaybeSecret(_)
            | Remark::Unknown { .. }
            | Remark::NoTimeout { .. }
            | Remark::NeitherYesNorNo { .. }
            | Remark::UrlIsEmpty
            | Remark::UrlHasNoScheme { .. }
            | Remark::UrlHasALogin { .. } => Weight::Doubtful,
            Remark::Unreadable(_) => Weight::Away,
            Remark::Missing { .. }
            | Remark::BothGiven(..)
            | Remark::NoAddress { .. }
            | Remark::AddressTwice { .. }
            | Remark::NoSeconds { .. }
            | Remark::NoUrl
            | Remark::UrlHasNoHost
            | Remark::UrlHasNoPort => Weight::Wrong,
            Remark::OfHoster(weight, _) => *weight,
        }
    }
}

const EXPECTED_URL: &str = "expected http://HOST/PATH or https://HOST/PATH";
const EXPECTED_SECONDS: &str = "seconds, whole or decimal, above 0 and at most";

impl fmt::Display for Remark {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Remark::NoValue(key) => write!(f, "{key} has no value: write {key}=..."),
            Remark::Blanks(key) => write!(f, "{key} has blanks around its value: taken without them"),
            Remark::GivenTwice(key) => {
                let spellings = key.spellings.join("/");
                write!(f, "{spellings} is given twice with different values: the last one counts")
            }
            Remark::Mistyped { written, meant } => {
                write!(f, "unknown key \"{written}\": did you mean {meant}?")
            }
            Remark::MaybeSecret(key) => write!(
                f,
                "an unknown key, not shown, right behind {key}: if the {key} has a comma, write it as \\,"
            ),
            Remark::Unknown { written, known } => {
                write!(f, "unknown key \"{written}\": expected one of {}", known.join(", "))
            }
            Remark::Missing { key, is_empty, meaning } => {
                let state = if *is_empty { "empty" } else { "missing" };
                write!(f, "{key} is {state}: write {key}={meaning}")
            }
            Remark::BothGiven(key, file) => write!(f, "{key} and {file} are both given: keep one"),
            Remark::Unreadable(why) => {
                let (shown, key) = (printable(&why.to_string(), &[]), why.key);
                write!(f, "{shown}: expected a file that holds the {key}")
            }
            Remark::NoAddress { shown, meaning } => {
                let hint = if shown.contains('/') { ", without a prefix length" } else { "" };
                write!(f, "{shown} is no IP address: expected {meaning}{hint}")
            }
            Remark::AddressTwice { shown, address } => write!(f, "{shown} names {address} twice"),
            Remark::NoTimeout { shown, taken, longest } => {
                let taken = taken.as_secs();
                write!(f, "{shown} is no timeout: taken as {taken}; expected {EXPECTED_SECONDS} {longest}")
            }
            Remark::NoSeconds { key, shown, longest } => {
                let never = if *key == VERIFY { "0 (never), or " } else { "" };
                write!(f, "{shown} is no {key}: expected {never}{EXPECTED_SECONDS} {longest}")
            }
            Remark::NeitherYesNorNo { shown } => write!(
                f,
                "{shown} is neither yes nor no, so the API's TLS certificate is verified: expected 1, true, yes or on (no \
                 verification), or 0, false, no or off"
            ),
            Remark::UrlIsEmpty => f.write_str("url is empty, so the API's own is asked"),
            Remark::UrlHasNoScheme { taken } => {
                write!(f, "url has no scheme, so {taken}:// is taken: {EXPECTED_URL}")
            }
            Remark::UrlHasALogin { used } => {
                write!(f, "url holds a login before its host, which is not used: {used}")
            }
            Remark::NoUrl => write!(f, "url is no URL: {EXPECTED_URL}"),
            Remark::UrlHasNoHost => {
                write!(f, "url has no host, or a scheme that is not http or https: {EXPECTED_URL}")
            }
            Remark::UrlHasNoPort => f.write_str("url names a port that is none: expected 1 to 65535"),
            Remark::OfHoster(_, text) => f.write_str(text),
        }
    }
}
