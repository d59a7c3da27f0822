//! Splits a keyval list exactly as uWSGI's own `uwsgi_kvlist_parse` does, including its odd cases.
//!
//! That function cannot be used here: it takes the keys to look for and silently ignores all others, while this plugin
//! has to find the mistyped ones. Values are bytes, because a password need not be UTF-8.

/// One item of the list, split at its first `=`. Without one, `value` is `None`.
#[derive(PartialEq, Eq, Debug)]
pub struct Item {
    pub key: Vec<u8>,
    pub value: Option<Vec<u8>>,
}

/// Splits `list` at its commas; `\,` is a comma in a value, and nothing is trimmed.
pub fn split(list: &[u8]) -> Vec<Item> {
    let mut items = Vec::new();
    let mut item = Vec::new();
    let mut escaped = false;
    for &byte in list {
        match byte {
            b',' if !escaped => items.push(split_item(&std::mem::take(&mut item))),
            b'\\' if !escaped => escaped = true,
            _ => {
                item.push(byte);
                escaped = false;
            }
        }
    }
    // An empty item counts between two commas, but not after the last one.
    if !item.is_empty() {
        items.push(split_item(&item));
    }
    items
}

/// In a key, uWSGI handles backslashes a second time and drops the characters that they escape. A value it leaves as it
/// is.
fn split_item(item: &[u8]) -> Item {
    let mut key = Vec::new();
    let mut escaped = false;
    for (at, &byte) in item.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'=' => return Item { key, value: Some(item[at + 1..].to_vec()) },
            b'\\' => escaped = true,
            _ => key.push(byte),
        }
    }
    Item { key, value: None }
}

#[cfg(test)]
mod tests {
    use fastrand::Rng;
    use lab::kvlist::{KEYS, parsed_by};
    use lab::random::{one, rng};
    use lab::uwsgi::Uwsgi;

    use super::*;

    #[track_caller]
    fn check(list: &str, expected: &[(&str, Option<&str>)]) {
        let found = split(list.as_bytes());
        let expected: Vec<Item> = expected
            .iter()
            .map(|(key, value)| Item {
                key: key.as_bytes().into(),
                value: value.map(|v| v.as_bytes().into()),
            })
            .collect();
        assert_eq!(found, expected, "{list}");
    }

    // The next test compares with uWSGI itself.
    #[test]
    fn splits_like_uwsgi() {
        check("", &[]);
        check("a=1", &[("a", Some("1"))]);
        check("a=1,b=2", &[("a", Some("1")), ("b", Some("2"))]);
        check("a=1,,b", &[("a", Some("1")), ("", None), ("b", None)]);
        check("a=1,", &[("a", Some("1"))]);
        check("a=x=y", &[("a", Some("x=y"))]);
        check(r"a=x\,y,b=2", &[("a", Some("x,y")), ("b", Some("2"))]);
        check(r"a=x\\y", &[("a", Some(r"x\y"))]);
        check(r"a=x\", &[("a", Some("x"))]);
        check(" a = 1 ", &[(" a ", Some(" 1 "))]);
        check(r"a\\=b=c", &[("ab", Some("c"))]);
    }

    /// Random lists are made mostly of characters with a meaning.
    const ALPHABET: &[u8] = b"aab,,==\\\\ 1";

    /// One in ten is any byte but NUL, which ends a C string, and what separates the lines and fields sent to uWSGI.
    fn byte(rng: &mut Rng) -> u8 {
        match rng.u8(1..) {
            any if rng.u8(..10) == 0 && !matches!(any, b'\n' | b'\t') => any,
            _ => one(rng, ALPHABET),
        }
    }

    /// What uWSGI's function returns for each key: the last value.
    fn ours(list: &[u8]) -> Vec<Option<Vec<u8>>> {
        let items = split(list);
        let last =
            |key: &str| items.iter().rev().find(|item| item.key == key.as_bytes() && item.value.is_some());
        KEYS.iter().map(|key| last(key).and_then(|item| item.value.clone())).collect()
    }

    #[test]
    fn splits_as_uwsgis_own_function() {
        let lists = [
            r"a=1|a=1,b=2|a=1,a=2|a|a=|=1|=|,|,,|a=1,,b=2|a=1,|,a=1|a=b=1|a=1\,2|a=1\\,b=2|a=1\|a\=1=2|a\\=b=2",
            r"a\\\\=b=2|\a=1|a=\1|a\b=1|a\\b=1| a=1|a =1|a= 1|a=1, b=2|\,a=1|a=\\\,|ab=ab|a\\xb=3",
        ];
        let lists = lists.iter().flat_map(|some| some.split('|')).map(|list| list.as_bytes().to_vec());
        let mut lists: Vec<Vec<u8>> = lists.collect();
        let mut rng = rng();
        for at in 0..20_000 {
            let length = if at % 10 == 0 { rng.usize(1..500) } else { rng.usize(1..14) };
            lists.push((0..length).map(|_| byte(&mut rng)).collect());
        }
        for uwsgi in Uwsgi::ALL {
            let theirs = parsed_by(uwsgi, &lists);
            assert_eq!(theirs.len(), lists.len());
            for (list, theirs) in lists.iter().zip(theirs) {
                assert_eq!(ours(list), theirs, "{uwsgi}: {}", list.escape_ascii());
            }
        }
    }
}
