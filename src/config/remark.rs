//! What there is to say of an argument: the one place for its words, and for what they weigh.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use super::common::{LONGEST_DEADLINE, LONGEST_TIMEOUT, VERIFY};
use super::{Key, Unreadable};
use crate::text::printable;

/// An `Item` is `KEY=VALUE` as it may be shown, a `Meaning` what belongs there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Remark {
    NoValue(Key),
    Blanks(Key),
    GivenTwice(Key),
    /// What is written, and what is meant.
    Mistyped(String, &'static str),
    /// Right behind a secret, so it is not shown.
    MaybeSecret(Key),
    /// What is written, and what may be.
    Unknown(String, String),
    Missing(Key, Meaning),
    Empty(Key, Meaning),
    BothGiven(Key, Key),
    Unreadable(Unreadable),
    NoAddress(Item, Meaning),
    AddressTwice(Item, IpAddr),
    /// And as what it is taken.
    NoTimeout(Item, Duration),
    NoSeconds(Item, Key),
    NeitherYesNorNo(Item),
    UrlIsEmpty,
    /// And which is taken.
    UrlHasNoScheme(&'static str),
    /// And what is used instead.
    UrlHasALogin(&'static str),
    NoUrl,
    UrlHasNoHost,
    UrlHasNoPort,
    /// A hoster's own, in its words.
    OfHoster(Weight, String),
}

type Item = String;
type Meaning = String;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weight {
    /// It cannot work.
    Wrong,
    /// What it needs cannot be had now, and may be later.
    Away,
    /// It works, but perhaps not as was meant.
    Doubtful,
}

const A_URL: &str = "http://HOST/PATH or https://HOST/PATH";
const SECONDS: &str = "seconds, whole or decimal, above 0 and at most";

impl Remark {
    pub fn weight(&self) -> Weight {
        match self {
            Remark::OfHoster(weight, _) => *weight,
            Remark::Unreadable(_) => Weight::Away,
            Remark::Missing(..) | Remark::Empty(..) | Remark::BothGiven(..) => Weight::Wrong,
            Remark::NoAddress(..) | Remark::AddressTwice(..) | Remark::NoSeconds(..) => Weight::Wrong,
            Remark::NoUrl | Remark::UrlHasNoHost | Remark::UrlHasNoPort => Weight::Wrong,
            _ => Weight::Doubtful,
        }
    }
}

impl fmt::Display for Remark {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Remark::NoValue(key) => write!(f, "{key} has no value: write {key}=..."),
            Remark::Blanks(key) => write!(f, "{key} has blanks around its value: taken without them"),
            Remark::GivenTwice(key) => {
                let all = key.spellings.join("/");
                write!(f, "{all} is given twice with different values: the last one counts")
            }
            Remark::Mistyped(key, meant) => write!(f, "unknown key \"{key}\": did you mean {meant}?"),
            Remark::MaybeSecret(key) => write!(
                f,
                "an unknown key, not shown, right behind {key}: if the {key} has a comma, write it as \\,"
            ),
            Remark::Unknown(key, known) => write!(f, "unknown key \"{key}\": expected one of {known}"),
            Remark::Missing(key, meaning) => write!(f, "{key} is missing: write {key}={meaning}"),
            Remark::Empty(key, meaning) => write!(f, "{key} is empty: write {key}={meaning}"),
            Remark::BothGiven(key, other) => write!(f, "{key} and {other} are both given: keep one"),
            Remark::Unreadable(why) => {
                let (shown, key) = (printable(&why.to_string(), &[]), why.key);
                write!(f, "{shown}: expected a file that holds the {key}")
            }
            Remark::NoAddress(item, meaning) => {
                let hint = if item.contains('/') { ", without a prefix length" } else { "" };
                write!(f, "{item} is no IP address: expected {meaning}{hint}")
            }
            Remark::AddressTwice(item, address) => write!(f, "{item} names {address} twice"),
            Remark::NoTimeout(item, taken) => {
                let (taken, longest) = (taken.as_secs(), LONGEST_TIMEOUT);
                write!(f, "{item} is no timeout: taken as {taken}; expected {SECONDS} {longest}")
            }
            Remark::NoSeconds(item, key) => {
                let never = if *key == VERIFY { "0 (never), or " } else { "" };
                write!(f, "{item} is no {key}: expected {never}{SECONDS} {LONGEST_DEADLINE}")
            }
            Remark::NeitherYesNorNo(item) => write!(
                f,
                "{item} is neither yes nor no, so the API's TLS certificate is verified: expected 1, true, yes or on (no \
                 verification), or 0, false, no or off"
            ),
            Remark::UrlIsEmpty => write!(f, "url is empty, so the API's own is asked"),
            Remark::UrlHasNoScheme(taken) => {
                write!(f, "url has no scheme, so {taken}:// is taken: expected {A_URL}")
            }
            Remark::UrlHasALogin(used) => {
                write!(f, "url holds a login before its host, which is not used: {used}")
            }
            Remark::NoUrl => write!(f, "url is no URL: expected {A_URL}"),
            Remark::UrlHasNoHost => {
                write!(f, "url has no host, or a scheme that is not http or https: expected {A_URL}")
            }
            Remark::UrlHasNoPort => write!(f, "url names a port that is none: expected 1 to 65535"),
            Remark::OfHoster(_, text) => write!(f, "{text}"),
        }
    }
}
