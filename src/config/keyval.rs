//! Splits a keyval list exactly as uWSGI's own `uwsgi_kvlist_parse` does, odd corners included.
//!
//! The function itself cannot be used: it takes the keys to look for, and passes silently over every
//! other. Ours has to find the mistyped ones. Values are bytes, since a password need not be UTF-8.

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
    // An empty item counts between two commas, not behind the last.
    if !item.is_empty() {
        items.push(split_item(&item));
    }
    items
}

/// uWSGI reads backslashes a second time in a key, where it drops what they escape; a value is left alone.
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

    // What is right here is settled by uWSGI itself, in the next test.
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

    /// What random lists are made of: mostly what means something.
    const ALPHABET: &[u8] = b"aab,,==\\\\ 1";

    /// Of ten, one is any that C lets through and that ends neither a line nor a field of what uWSGI is asked.
    fn byte(rng: &mut Rng) -> u8 {
        match rng.u8(1..) {
            any if rng.u8(..10) == 0 && !matches!(any, b'\n' | b'\t') => any,
            _ => one(rng, ALPHABET),
        }
    }

    /// What uWSGI's function would hand out for each key: the last value wins.
    fn ours(list: &[u8]) -> Vec<Option<Vec<u8>>> {
        let items = split(list);
        let last =
            |key: &str| items.iter().rev().find(|item| item.key == key.as_bytes() && item.value.is_some());
        KEYS.iter().map(|key| last(key).and_then(|item| item.value.clone())).collect()
    }

    #[test]
    fn splits_as_uwsgis_own_function() {
        let lists = [
            "a=1",
            "a=1,b=2",
            "a=1,a=2",
            "a",
            "a=",
            "=1",
            "=",
            ",",
            ",,",
            "a=1,,b=2",
            "a=1,",
            ",a=1",
            "a=b=1",
            r"a=1\,2",
            r"a=1\\,b=2",
            r"a=1\",
            r"a\=1=2",
            r"a\\=b=2",
            r"a\\\\=b=2",
            r"\a=1",
            r"a=\1",
            r"a\b=1",
            r"a\\b=1",
            " a=1",
            "a =1",
            "a= 1",
            "a=1, b=2",
            r"\,a=1",
            r"a=\\\,",
            "ab=ab",
            r"a\\xb=3",
        ];
        let mut lists: Vec<Vec<u8>> = lists.map(|list| list.as_bytes().to_vec()).to_vec();
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
