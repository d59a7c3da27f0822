//! uWSGI's own `uwsgi_kvlist_parse`, which splits the arguments of its options and hooks, in a real uWSGI.

use std::fs;
use std::process::Command;

use crate::LIMIT;
use crate::node::Node;
use crate::uwsgi::{Uwsgi, checkout};

/// The keys that are asked for. `ab` and `b` may come out of odd escapes.
pub const KEYS: [&str; 4] = ["a", "b", "ab", ""];

/// What that uWSGI's function finds in each list for each of [`KEYS`]. Builds a plugin that asks it, and runs that.
pub fn parsed_by(uwsgi: Uwsgi, lists: &[Vec<u8>]) -> Vec<Vec<Option<Vec<u8>>>> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let at = |name: &str| folder.path().join(name);
    fs::write(at("uwsgi.h"), uwsgi.ask("--dot-h")).expect("a writable folder");
    let compiler = Command::new("sh")
        .args([
            "-c",
            &format!("cc -shared -fPIC -w {} -I. -o kv_plugin.so \"$0\"", uwsgi.ask("--cflags").trim()),
        ])
        .arg(checkout().join("tests/lab/src/kvlist.c"))
        .current_dir(&folder)
        .status();
    assert!(compiler.expect("cc starts").success());
    fs::write(at("lists"), [lists.join(&b'\n'), b"\n".to_vec()].concat()).expect("a writable folder");
    let plugin = format!("plugin = {}", at("kv_plugin.so").display());
    let env = [("LISTS", at("lists")), ("ANSWERS", at("answers"))];
    let env = env.each_ref().map(|(name, path)| (*name, path.to_str().expect("UTF-8")));
    let mut node = Node::start(uwsgi, folder.path(), &plugin, &env);
    let status = node.wait_for_exit(LIMIT).expect("it ends");
    assert!(status.success(), "{}", node.log());

    let answers = fs::read(at("answers")).expect("the plugin wrote them");
    let lines = answers.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let value = |field: &[u8]| (field != b"-").then(|| field[1..].to_vec());
    lines.map(|line| line.split(|byte| *byte == b'\t').map(value).collect()).collect()
}
