//! The keyval list: ours splits as uWSGI's own `uwsgi_kvlist_parse`, which is asked, in a real uWSGI.

use std::fs;
use std::process::Command;
use std::time::Duration;

use crate::support::node::Node;
use crate::support::uwsgi::{Uwsgi, checkout};

// The plugin is a cdylib, so its source is taken in whole.
#[allow(dead_code)]
#[path = "../src/config/keyval.rs"]
mod ours;
#[allow(dead_code)]
#[path = "../src/random.rs"]
mod random;

/// The keys that are asked for. `ab` and `b` may come out of odd escapes.
const KEYS: [&str; 4] = ["a", "b", "ab", ""];

/// What random lists are made of: mostly what means something.
const ALPHABET: &[u8] = b"aab,,==\\\\ 1";

/// Of ten, one is any that C lets through and that does not end the line of tests/keyval.c or a field of it.
fn byte(rng: &mut fastrand::Rng) -> u8 {
    match rng.u8(1..) {
        any if rng.u8(..10) == 0 && !matches!(any, b'\n' | b'\t') => any,
        _ => random::one(rng, ALPHABET),
    }
}

/// What uWSGI's function would hand out for each key: the last value wins.
fn ours(list: &[u8]) -> Vec<Option<Vec<u8>>> {
    let items = ours::split(list);
    let last = |key: &str| items.iter().rev().find(|item| item.key == key.as_bytes() && item.value.is_some());
    KEYS.iter().map(|key| last(key).and_then(|item| item.value.clone())).collect()
}

/// Builds a plugin that puts each list through the real function, and runs it in that uWSGI.
fn theirs(uwsgi: Uwsgi, lists: &[Vec<u8>]) -> Vec<Vec<Option<Vec<u8>>>> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let at = |name: &str| folder.path().join(name);
    fs::write(at("uwsgi.h"), uwsgi.ask("--dot-h")).expect("a writable folder");
    let compiler = Command::new("sh")
        .args([
            "-c",
            &format!("cc -shared -fPIC -w {} -I. -o kv_plugin.so \"$0\"", uwsgi.ask("--cflags").trim()),
        ])
        .arg(checkout().join("tests/keyval.c"))
        .current_dir(&folder)
        .status();
    assert!(compiler.expect("cc starts").success());
    fs::write(at("lists"), [lists.join(&b'\n'), b"\n".to_vec()].concat()).expect("a writable folder");
    let plugin = format!("plugin = {}", at("kv_plugin.so").display());
    let env = [("LISTS", at("lists")), ("ANSWERS", at("answers"))];
    let env = env.each_ref().map(|(name, path)| (*name, path.to_str().expect("UTF-8")));
    let mut node = Node::start(uwsgi, folder.path(), &plugin, &env);
    let status = node.wait_for_exit(Duration::from_secs(30)).expect("it ends");
    assert!(status.success(), "{}", node.log());

    let answers = fs::read(at("answers")).expect("the plugin wrote them");
    let lines = answers.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let value = |field: &[u8]| (field != b"-").then(|| field[1..].to_vec());
    lines.map(|line| line.split(|byte| *byte == b'\t').map(value).collect()).collect()
}

#[test]
fn splits_as_uwsgis_own_function() {
    let mut lists: Vec<Vec<u8>> = [
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
    ]
    .map(|list| list.as_bytes().to_vec())
    .to_vec();
    let mut rng = random::rng();
    for at in 0..20_000 {
        let length = if at % 10 == 0 { rng.usize(1..500) } else { rng.usize(1..14) };
        lists.push((0..length).map(|_| byte(&mut rng)).collect());
    }
    for uwsgi in Uwsgi::ALL {
        let theirs = theirs(uwsgi, &lists);
        assert_eq!(theirs.len(), lists.len());
        for (list, theirs) in lists.iter().zip(theirs) {
            assert_eq!(ours(list), theirs, "{uwsgi}: {}", list.escape_ascii());
        }
    }
}
