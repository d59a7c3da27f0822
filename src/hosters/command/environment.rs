//! The environment of a command: uWSGI's, what `env_file` says, and what the call is about.

use std::collections::BTreeMap;
use std::ffi::{CString, OsString};
use std::os::unix::ffi::OsStringExt;

/// A secret is not shorter. A shorter value, like a number of seconds, may be shown.
const SHORTEST_SECRET: usize = 3;

/// Names and values, which are never shown.
#[derive(Default)]
pub struct Variables(Vec<(String, Vec<u8>)>);

impl Variables {
    /// Reads lines of `NAME=value`: a value may stand in quotes, a line that begins with `#` is a comment. What is wrong is
    /// said without showing any of it.
    pub fn read(content: &[u8]) -> Result<Variables, String> {
        let mut variables = Vec::new();
        // Some editors write this mark of UTF-8 before all else.
        let content = content.strip_prefix("\u{feff}".as_bytes()).unwrap_or(content);
        for (line, number) in content.split(|byte| *byte == b'\n').zip(1..) {
            let line = line.trim_ascii();
            if line.is_empty() || line.starts_with(b"#") {
                continue;
            }
            let hint = if line.starts_with(b"export ") { " without export" } else { "" };
            let variable = variable(line).ok_or_else(|| format!("line {number} is not NAME=value{hint}"))?;
            variables.push(variable);
        }
        Ok(Variables(variables))
    }

    /// What must not be shown, the longest first, so that no part of one is left. What stands in one of the `public` texts is
    /// no secret: the zone of a name, for example.
    pub fn secrets(&self, public: &[&str]) -> Vec<String> {
        let is_public = |value: &String| public.iter().any(|text| text.contains(value.as_str()));
        let values = self.0.iter().map(|(_, value)| String::from_utf8_lossy(value).into_owned());
        let mut secrets: Vec<String> =
            values.filter(|value| value.len() >= SHORTEST_SECRET && !is_public(value)).collect();
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        secrets
    }

    /// `NAME=value` for each variable that a command gets; `more` comes last.
    pub fn with(&self, more: &[(String, Vec<u8>)]) -> Vec<CString> {
        let own = std::env::vars_os().map(|(name, value)| (name, value.into_vec()));
        let given = self.0.iter().chain(more);
        let given = given.map(|(name, value)| (OsString::from(name), value.clone()));
        let all: BTreeMap<OsString, Vec<u8>> = own.chain(given).collect();
        let line = |(name, value): (OsString, Vec<u8>)| [name.into_vec(), b"=".to_vec(), value].concat();
        all.into_iter().filter_map(|variable| CString::new(line(variable)).ok()).collect()
    }
}

fn variable(line: &[u8]) -> Option<(String, Vec<u8>)> {
    let at = line.iter().position(|byte| *byte == b'=')?;
    let (name, value) = (line[..at].trim_ascii(), line[at + 1..].trim_ascii());
    if !is_name(name) || value.contains(&0) {
        return None;
    }
    let value = match value {
        [b'"', inner @ .., b'"'] | [b'\'', inner @ .., b'\''] => inner,
        _ => value,
    };
    Some((String::from_utf8(name.to_vec()).ok()?, value.to_vec()))
}

/// Whether a variable may have this name.
pub fn is_name(name: &[u8]) -> bool {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    name.first().is_some_and(|first| !first.is_ascii_digit()) && name.iter().all(is_plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_with_a_name_and_a_value_are_read() {
        let content =
            b"\xef\xbb\xbf# a comment\n\nA=1\n B = two words \r\nC=\"#in quotes\"\nD='x=y'\nE=\nF=\"\n";
        let Variables(read) = Variables::read(content).unwrap_or_else(|why| panic!("{why}"));
        let text = |value: &[u8]| String::from_utf8(value.to_vec()).unwrap();
        let read: Vec<String> = read.iter().map(|(name, value)| format!("{name}={}", text(value))).collect();
        assert_eq!(read, ["A=1", "B=two words", "C=#in quotes", "D=x=y", "E=", "F=\""]);
    }

    #[test]
    fn what_is_no_variable_is_said_without_showing_it() {
        for line in ["hunter2", "=hunter2", "1A=hunter2", "A B=hunter2", "A=hunt\0er2"] {
            let why = Variables::read(format!("A=1\n{line}\n").as_bytes()).err().expect(line);
            assert_eq!(why, "line 2 is not NAME=value", "{line}");
        }
        let why = Variables::read(b"export A=hunter2").err();
        assert_eq!(why.as_deref(), Some("line 1 is not NAME=value without export"));
    }

    #[test]
    fn what_comes_later_counts_and_the_rest_is_as_it_was() {
        let variables =
            Variables::read(b"HOME=/nowhere\nFAILOVER_IP=wrong").unwrap_or_else(|why| panic!("{why}"));
        let environment = variables.with(&[("FAILOVER_IP".into(), b"4.4.4.4".to_vec())]);
        let lines: Vec<&str> = environment.iter().map(|line| line.to_str().unwrap()).collect();
        let path = format!("PATH={}", std::env::var("PATH").unwrap());
        for line in ["HOME=/nowhere", "FAILOVER_IP=4.4.4.4", &path] {
            let name = line.split('=').next().unwrap();
            let all = lines.iter().filter(|other| other.split('=').next() == Some(name)).collect::<Vec<_>>();
            assert_eq!(all, [&line], "{name}");
        }
    }

    #[test]
    fn the_longest_secret_is_hidden_first_and_what_the_ini_says_is_none() {
        let content = b"A=abc\nB=abcdef\nC=60\nD=example.com";
        let variables = Variables::read(content).unwrap_or_else(|why| panic!("{why}"));
        assert_eq!(variables.secrets(&["www.example.com", "192.0.2.1"]), ["abcdef", "abc"]);
    }
}
