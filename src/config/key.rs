//! The keys of a hook's argument, as data: those that every hook has are here, a hoster's own with the hoster.

use std::fmt;

use super::Remark;
use crate::text::printable;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Key {
    /// The first one is its name.
    pub spellings: &'static [&'static str],
    /// Whether what stands right behind its value may be the rest of a secret with a comma in it.
    pub is_secret: bool,
    /// Whether blanks around its value may be part of it.
    pub keeps_blanks: bool,
    /// Whether it says something without a value.
    pub may_be_bare: bool,
}

pub const IP: Key = Key::new(&["ip"]);
pub const URL: Key = Key::new(&["url"]);

impl Key {
    pub const fn new(spellings: &'static [&'static str]) -> Key {
        Key { spellings, is_secret: false, keeps_blanks: false, may_be_bare: false }
    }

    pub const fn secret(self) -> Key {
        Key { is_secret: true, keeps_blanks: true, ..self }
    }

    pub const fn with_blanks(self) -> Key {
        Key { keeps_blanks: true, ..self }
    }

    pub const fn or_bare(self) -> Key {
        Key { may_be_bare: true, ..self }
    }

    pub fn is(&self, spelling: &[u8]) -> bool {
        self.spellings.iter().any(|known| known.as_bytes() == spelling)
    }
}

/// Its name.
impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(self.spellings[0])
    }
}

/// An item that says nothing to the plugin. Right behind a secret it may be the rest of one with a comma in it: then it is
/// shown only where it is plainly a mistyped key.
pub fn unknown(written: &[u8], has_value: bool, behind: Option<Key>, keys: &[Key]) -> Remark {
    let name = String::from_utf8_lossy(written);
    let known: Vec<&str> = keys.iter().flat_map(|key| key.spellings).copied().collect();
    let distances = known.iter().map(|known| (distance(&name, known), *known));
    let close = distances.filter(|(distance, known)| *distance <= 2 && *distance < known.len() / 2).min();
    let written = printable(&name, &[]);
    match (close, behind) {
        (Some((_, meant)), _) if has_value => Remark::Mistyped { written, meant },
        (_, Some(secret)) => Remark::MaybeSecret(secret),
        _ => Remark::Unknown { written, known },
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
