//! Nodes whose clocks are wrong, without a change of the machine's: a library that is loaded before the C library
//! shifts the time of day, and nothing else.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{self, Command};
use std::sync::OnceLock;

use super::uwsgi::checkout;

/// The environment of a node whose clock is so many seconds ahead.
pub fn environment(ahead: i64) -> [(String, String); 2] {
    let library = library().to_str().expect("UTF-8").to_string();
    [("LD_PRELOAD".into(), library), ("CLOCK_AHEAD".into(), ahead.to_string())]
}

/// The library, built once by each process that needs it.
fn library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let built = folder().join(format!("clock-{}.so", process::id()));
        let mut gcc = Command::new("gcc");
        gcc.args(["-shared", "-fPIC", "-O2", "-Wall", "-o"]).arg(&built);
        let built_well = gcc.arg(checkout().join("tests/lab/src/clock.c")).status().expect("there is a gcc");
        assert!(built_well.success(), "gcc does not build tests/lab/src/clock.c");
        // Put there whole, since another process may just be loading the one that is there.
        let library = folder().join("clock.so");
        fs::rename(&built, &library).expect("the target folder is writable");
        library
    })
}

/// Where the library is built.
pub fn folder() -> PathBuf {
    checkout().join("target")
}

#[cfg(test)]
mod tests {
    use std::time::{SystemTime, UNIX_EPOCH};

    use super::*;

    #[test]
    fn a_clock_can_be_ahead_or_behind() {
        for ahead in [-10, 0, 1000] {
            let mut python = Command::new("python3");
            python.args(["-c", "import time, datetime; print(int(time.time()), int(time.clock_gettime(0)))"]);
            let output = python.envs(environment(ahead)).output().expect("there is a Python");
            let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs() as i64;
            let text = String::from_utf8(output.stdout).expect("numbers");
            let said: Vec<i64> =
                text.split_whitespace().map(|word| word.parse().expect("a number")).collect();
            assert_eq!(said.len(), 2, "{text}");
            assert!(
                said.iter().all(|said| (now - 30..=now).contains(&(said - ahead))),
                "{text} {now} {ahead}"
            );
        }
    }
}
