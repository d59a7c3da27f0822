//! Debian's OCF resource agents, below /usr/lib/ocf where the plugin wants them, though nothing is installed: who is to have
//! them runs in a mount namespace of its own, in which what `tests/lab/get-uwsgi.py` has unpacked lies over /usr.

use std::ffi::OsString;
use std::io::{Write as _, stderr};
use std::path::Path;
use std::process::Command;

use super::process::is_root;
use super::uwsgi::checkout;

const DUMMY: &str = "/usr/lib/ocf/resource.d/heartbeat/Dummy";

/// Words that run a program with the agents, and become it. `None`, and why, where there is no such way.
pub fn words() -> Option<Vec<OsString>> {
    if Path::new(DUMMY).exists() {
        return Some(vec!["env".into()]);
    }
    let unpacked = checkout().join("target/uwsgi/agents/usr");
    let is_there = unpacked.exists();
    assert!(
        is_there || !Path::new("/usr/bin/apt-get").exists(),
        "{} is missing: run `make test`",
        unpacked.display()
    );
    let mut words: Vec<OsString> = vec!["unshare".into(), "--mount".into()];
    if !is_root() {
        words.push("--map-root-user".into());
    }
    // What the kernel was asked for at the start, to end it with us, it forgets where the user changes.
    let script =
        "mount -t overlay overlay -o \"lowerdir=$0:/usr\" /usr && exec setpriv --pdeathsig KILL \"$@\"";
    words.extend(["sh".into(), "-c".into(), script.into(), unpacked.into()]);
    let tried = Command::new(&words[0]).args(&words[1..]).args(["test", "-x", DUMMY]).output();
    if is_there && tried.is_ok_and(|it| it.status.success()) {
        return Some(words);
    }
    // Past the harness, which shows what a test prints only when it fails.
    let why = if is_there { "no mount namespace, or no overlay in one" } else { "no Debian" };
    let _ = writeln!(stderr(), "skipped: no OCF agents: {why}");
    None
}
