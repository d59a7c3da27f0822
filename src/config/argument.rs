//! The items of a hook's argument, and the values that every hoster's keys may have.

use std::ffi::OsStr;
use std::net::IpAddr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::keyval::{self, Item};
use super::{Common, Key, Remark, Secret, Weight, key};
use crate::text::printable;

/// The items of known keys, each once, with the value that counts; and what there is to say of all that was read.
pub struct Argument {
    items: Vec<(Key, Option<Vec<u8>>)>,
    pub remarks: Vec<Remark>,
}

impl Argument {
    /// Reads the argument of a hook that has the keys `own` beside the common ones.
    pub fn read(text: &[u8], own: &[Key]) -> Argument {
        let keys = [own, &Common::KEYS].concat();
        let mut argument = Argument { items: Vec::new(), remarks: Vec::new() };
        // The secret that an unknown item may be the rest of.
        let mut behind = None;
        for Item { key: written, value } in keyval::split(text) {
            let known = keys.iter().find(|key| key.is(&written)).copied();
            let is_bare = value.is_none() && !known.is_some_and(|key| key.may_be_bare);
            let Some(key) = known.filter(|_| !is_bare || behind.is_none()) else {
                // A comma too many (`a=1,,b=2`) says nothing wrong.
                if !written.is_empty() || value.is_some() {
                    argument.remark(key::unknown(&written, value.is_some(), behind, &keys));
                }
                continue;
            };
            behind = Some(key).filter(|key| key.is_secret);
            if is_bare {
                argument.remark(Remark::NoValue(key));
            } else {
                argument.add(key, value);
            }
        }
        argument
    }

    fn add(&mut self, key: Key, mut value: Option<Vec<u8>>) {
        if let Some(value) = value.as_mut().filter(|value| !key.keeps_blanks && value.trim_ascii() != **value)
        {
            *value = value.trim_ascii().to_vec();
            self.remark(Remark::Blanks(key));
        }
        match self.items.iter().position(|(known, _)| *known == key) {
            Some(at) => {
                if self.items[at].1 != value {
                    self.remark(Remark::GivenTwice(key));
                }
                self.items[at].1 = value;
            }
            None => self.items.push((key, value)),
        }
    }

    /// Notes what there is to say, once.
    pub fn remark(&mut self, remark: impl Into<Remark>) {
        let remark = remark.into();
        if !self.remarks.contains(&remark) {
            self.remarks.push(remark);
        }
    }

    /// Whether it cannot work.
    pub fn is_wrong(&self) -> bool {
        self.remarks.iter().any(|remark| remark.weight() == Weight::Wrong)
    }

    pub fn has(&self, key: Key) -> bool {
        self.items.iter().any(|(known, _)| *known == key)
    }

    pub fn get(&self, key: Key) -> Option<&[u8]> {
        self.items.iter().find(|(known, _)| *known == key)?.1.as_deref()
    }

    /// What must be there, and not empty. `meaning` is what it says, for one that has left it out.
    pub fn required(&mut self, key: Key, meaning: &str) -> Option<Vec<u8>> {
        let is_empty = match self.get(key) {
            Some([]) => true,
            Some(value) => return Some(value.to_vec()),
            None => false,
        };
        self.remark(Remark::Missing { key, is_empty, meaning: meaning.into() });
        None
    }

    /// What is written there as `key`, or in a file that `file` names.
    pub fn secret(&mut self, key: Key, file: Key, meaning: &str) -> Option<Secret> {
        let Some(path) = self.get(file) else {
            let meaning = format!("{meaning}, or {file}=a file that holds it");
            return self.required(key, &meaning).map(Secret::Given);
        };
        let secret = Secret::in_file(Path::new(OsStr::from_bytes(path)), key, file);
        if self.has(key) {
            self.remark(Remark::BothGiven(key, file));
        }
        if let Err(why) = secret.read() {
            self.remark(Remark::Unreadable(why));
        }
        Some(secret)
    }

    /// The addresses of a list with semicolons; none where the key is missing or a value is none.
    pub fn addresses(&mut self, key: Key, meaning: &str) -> Vec<IpAddr> {
        let Some(value) = self.required(key, meaning) else { return Vec::new() };
        let mut addresses = Vec::new();
        for item in value.split(|byte| *byte == b';') {
            match parsed(item) {
                Some(address) if addresses.contains(&address) => {
                    self.remark(Remark::AddressTwice { shown: shown(key, &value), address });
                }
                Some(address) => addresses.push(address),
                None => {
                    self.remark(Remark::NoAddress { shown: shown(key, item), meaning: meaning.into() });
                }
            }
        }
        addresses
    }
}

/// `key=value` for a remark; never called for a secret.
pub fn shown(key: Key, value: &[u8]) -> String {
    format!("{key}={}", printable(&String::from_utf8_lossy(value), &[]))
}

pub fn parsed<T: std::str::FromStr>(value: &[u8]) -> Option<T> {
    std::str::from_utf8(value).ok()?.parse().ok()
}
