//! What holds for every argument of any hoster.

use super::keyval::{self, Item};

/// Checks how `argument` is split, and returns its items.
pub fn check_split(argument: &[u8]) -> Vec<Item> {
    let items = keyval::split(argument);
    assert_eq!(items, model(argument), "split as the model does");
    assert_eq!(keyval::split(&written(&items)), items, "written and split again");
    items
}

/// As [`keyval::split`], but in units of a byte and the backslash before it.
fn model(list: &[u8]) -> Vec<Item> {
    let units = units(list);
    let mut items: Vec<Vec<u8>> = units
        .split(|unit| *unit == (false, b','))
        .map(|units| units.iter().map(|&(_, byte)| byte).collect())
        .collect();
    if items.last().is_some_and(Vec::is_empty) {
        items.pop();
    }
    items.iter().map(|item| model_item(item)).collect()
}

fn model_item(item: &[u8]) -> Item {
    let units = units(item);
    let end = units.iter().position(|unit| *unit == (false, b'='));
    let before = &units[..end.unwrap_or(units.len())];
    let key = before.iter().filter(|(escaped, _)| !escaped).map(|&(_, byte)| byte).collect();
    let length: usize = before.iter().map(|&(escaped, _)| 1 + usize::from(escaped)).sum();
    Item { key, value: end.map(|_| item[length + 1..].to_vec()) }
}

/// The bytes, and whether each was escaped. A backslash at the end is dropped.
fn units(mut text: &[u8]) -> Vec<(bool, u8)> {
    let mut units = Vec::new();
    loop {
        let (unit, rest) = match text {
            [] | [b'\\'] => return units,
            [b'\\', byte, rest @ ..] => ((true, *byte), rest),
            [byte, rest @ ..] => ((false, *byte), rest),
        };
        units.push(unit);
        text = rest;
    }
}

/// A list that is split into `items`.
pub fn written(items: &[Item]) -> Vec<u8> {
    let mut list = Vec::new();
    for Item { key, value } in items {
        let value = value.iter().flat_map(|value| [b"=", value.as_slice()].concat());
        for byte in key.iter().copied().chain(value) {
            if matches!(byte, b',' | b'\\') {
                list.push(b'\\');
            }
            list.push(byte);
        }
        list.push(b',');
    }
    list
}

#[cfg(test)]
/// At least one byte, and no NUL, which ends a C string.
pub fn bytes(rng: &mut fastrand::Rng) -> Vec<u8> {
    (0..rng.usize(1..9))
        .map(|_| if rng.bool() { lab::random::one(rng, b",=\\;: aZ") } else { rng.u8(1..) })
        .collect()
}

#[cfg(test)]
mod tests {
    use fastrand::Rng;

    use super::*;
    use lab::random::rng;

    #[test]
    fn any_items_are_split_as_they_were_written() {
        let mut rng = rng();
        for _ in 0..6_000 {
            let part = |rng: &mut Rng| if rng.u8(..4) == 0 { Vec::new() } else { bytes(rng) };
            let item = |rng: &mut Rng| Item {
                // uWSGI knows no way to write these into a key.
                key: part(rng).into_iter().filter(|byte| !matches!(byte, b'=' | b'\\')).collect(),
                value: rng.bool().then(|| part(rng)),
            };
            let items: Vec<Item> = (0..rng.usize(..5)).map(|_| item(&mut rng)).collect();
            assert_eq!(keyval::split(&written(&items)), items);
        }
    }
}
