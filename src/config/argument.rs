//! The items of a hook's argument, and the kinds of values that any hoster's keys may have.

use std::ffi::OsStr;
use std::net::IpAddr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::keyval::{self, Item};
use super::{Common, Key, Remark, Secret, Takes, Weight, key};
use crate::text::printable;

/// The items with known keys, each key once, and the remarks about everything that was read.
pub struct Argument {
    items: Vec<(Key, Option<Vec<u8>>)>,
    /// Those whose keys begin as a family does, without that beginning.
    pub family: Vec<(String, Vec<u8>)>,
    pub remarks: Vec<Remark>,
}

impl Argument {
    /// Reads the argument of a hook whose hoster has the keys `own`.
    pub fn read(text: &[u8], own: &[Key]) -> Argument {
        Argument::read_with(text, own, None)
    }

    /// The same, where any key that begins with `family` is known.
    pub fn read_with(text: &[u8], own: &[Key], family: Option<&str>) -> Argument {
        let keys = [own, &Common::KEYS].concat();
        let mut argument = Argument { items: Vec::new(), family: Vec::new(), remarks: Vec::new() };
        // The key right before, if it takes a secret: an unknown item may be the rest of that.
        let mut secret = None;
        for Item { key: written, value } in keyval::split(text) {
            let name = family.and_then(|family| std::str::from_utf8(&written).ok()?.strip_prefix(family));
            if let (Some(name), Some(value)) = (name, &value) {
                argument.family.retain(|(known, _)| known != name);
                argument.family.push((name.into(), value.clone()));
                secret = None;
                continue;
            }
            let known = keys.iter().find(|key| key.is(&written)).copied();
            let is_bare = value.is_none() && known.is_none_or(|key| key.takes != Takes::Switch);
            let Some(key) = known.filter(|_| !is_bare || secret.is_none()) else {
                // An extra comma (`a=1,,b=2`) is harmless.
                if !written.is_empty() || value.is_some() {
                    argument.doubt(key::unknown(&written, value.is_some(), secret, &keys));
                }
                continue;
            };
            secret = Some(key).filter(|key| key.takes == Takes::Secret);
            if is_bare {
                argument.doubt(format!("{key} has no value: write {key}=..."));
            } else {
                argument.add(key, value);
            }
        }
        argument
    }

    fn add(&mut self, key: Key, mut value: Option<Vec<u8>>) {
        if let (Takes::Word | Takes::Switch, Some(value)) = (key.takes, &mut value) {
            if value.trim_ascii().len() < value.len() {
                *value = value.trim_ascii().to_vec();
                self.doubt(format!("{key} has whitespace around its value, which is ignored"));
            }
        }
        match self.items.iter().position(|(known, _)| *known == key) {
            Some(at) => {
                if self.items[at].1 != value {
                    let all = key.spellings.join("/");
                    self.doubt(format!("{all} is given twice with different values: the last one is used"));
                }
                self.items[at].1 = value;
            }
            None => self.items.push((key, value)),
        }
    }

    /// Adds a remark, unless it is there already.
    pub fn remark(&mut self, remark: Remark) {
        if !self.remarks.contains(&remark) {
            self.remarks.push(remark);
        }
    }

    pub fn wrong(&mut self, sentence: impl Into<String>) {
        self.remark(Remark::wrong(sentence));
    }

    pub fn doubt(&mut self, sentence: impl Into<String>) {
        self.remark(Remark::new(Weight::Doubtful, sentence));
    }

    pub fn is_wrong(&self) -> bool {
        self.remarks.iter().any(|remark| remark.weight() == Weight::Wrong)
    }

    pub fn has(&self, key: Key) -> bool {
        self.items.iter().any(|(known, _)| *known == key)
    }

    pub fn get(&self, key: Key) -> Option<&[u8]> {
        self.items.iter().find(|(known, _)| *known == key)?.1.as_deref()
    }

    /// A value that must not be missing or empty. `meaning` tells what to set the key to.
    pub fn required(&mut self, key: Key, meaning: &str) -> Option<Vec<u8>> {
        let problem = match self.get(key) {
            None => "missing",
            Some([]) => "empty",
            Some(value) => return Some(value.to_vec()),
        };
        self.wrong(format!("{key} is {problem}: set {key} to {meaning}"));
        None
    }

    /// The value of `key`, or the content of the file that the key `file` names.
    pub fn secret(&mut self, key: Key, file: Key, meaning: &str) -> Option<Secret> {
        let Some(path) = self.get(file) else {
            let meaning = format!("{meaning}, or {file} to a file that contains it");
            return self.required(key, &meaning).map(Secret::Given);
        };
        let secret = Secret::in_file(Path::new(OsStr::from_bytes(path)), file);
        if self.has(key) {
            self.wrong(format!("{key} and {file} are both given: keep one"));
        }
        if let Err(why) = secret.read() {
            let sentence = format!("{}: expected a file that contains the {key}", printable(&why, &[]));
            self.remark(Remark::new(Weight::Away, sentence));
        }
        Some(secret)
    }

    /// The addresses of a list with semicolons, without those that are not valid.
    pub fn addresses(&mut self, key: Key, meaning: &str) -> Vec<IpAddr> {
        self.addresses_by(key, meaning, parsed)
    }

    /// The same, where `read` knows how one may be written.
    pub fn addresses_by(
        &mut self,
        key: Key,
        meaning: &str,
        read: impl Fn(&[u8]) -> Option<IpAddr>,
    ) -> Vec<IpAddr> {
        let Some(value) = self.required(key, meaning) else { return Vec::new() };
        let mut addresses = Vec::new();
        for item in value.split(|byte| *byte == b';') {
            match read(item) {
                Some(address) if addresses.contains(&address) => {
                    self.wrong(format!("{} contains {address} twice", shown(key, &value)));
                }
                Some(address) => addresses.push(address),
                None => {
                    let hint = if item.contains(&b'/') { ", without a prefix length" } else { "" };
                    let item = shown(key, item);
                    self.wrong(format!("{item} is not an IP address: expected {meaning}{hint}"));
                }
            }
        }
        addresses
    }
}

/// `key=value` for a remark. Never called for a secret.
pub fn shown(key: Key, value: &[u8]) -> String {
    format!("{key}={}", printable(&String::from_utf8_lossy(value), &[]))
}

pub fn parsed<T: std::str::FromStr>(value: &[u8]) -> Option<T> {
    std::str::from_utf8(value).ok()?.parse().ok()
}
