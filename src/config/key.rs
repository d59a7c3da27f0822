//! The keys of a hook's argument, as data. Each hoster defines its own.

use std::fmt;

use crate::text::printable;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Key {
    /// The first one is the key's name.
    pub spellings: &'static [&'static str],
    pub takes: Takes,
}

/// The kind of value that a key takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Takes {
    /// Whitespace around it is dropped.
    Word,
    /// Whitespace around it belongs to it.
    Text,
    /// Text that is never shown. Neither is what follows it, which may be the rest of a secret with a comma in it.
    Secret,
    /// A word, or no value.
    Switch,
}

pub const IP: Key = Key::word(&["ip"]);
pub const URL: Key = Key::word(&["url"]);

impl Key {
    pub const fn word(spellings: &'static [&'static str]) -> Key {
        Key { spellings, takes: Takes::Word }
    }

    pub fn is(&self, spelling: &[u8]) -> bool {
        self.spellings.iter().any(|known| known.as_bytes() == spelling)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(self.spellings[0])
    }
}

/// The remark about an unknown key. Right after a `secret` it may be the rest of one with a comma in it, and is shown
/// only if it is clearly a mistyped key.
pub fn unknown(written: &[u8], has_value: bool, secret: Option<Key>, keys: &[Key]) -> String {
    let name = String::from_utf8_lossy(written);
    let known: Vec<&str> = keys.iter().flat_map(|key| key.spellings).copied().collect();
    let distances = known.iter().map(|known| (distance(&name, known), *known));
    let close = distances.filter(|(distance, known)| *distance <= 2 && *distance < known.len() / 2).min();
    let written = printable(&name, &[]);
    match (close, secret) {
        (Some((_, meant)), _) if has_value => format!("unknown key \"{written}\": did you mean {meant}?"),
        (_, Some(secret)) => format!(
            "unknown key right after {secret}, not shown because it may be part of the {secret}: write a comma in the \
             {secret} as \\,"
        ),
        _ => format!("unknown key \"{written}\": expected one of {}", known.join(", ")),
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
