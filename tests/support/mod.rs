//! What the tests and the demo share: real uWSGI nodes, started, watched and ended.

pub mod legion;
pub mod links;
pub mod node;
pub mod process;
pub mod proxy;
pub mod uwsgi;

use std::thread;
use std::time::{Duration, Instant};

/// The login of every hook in the tests. Plainly no real one.
pub const USERNAME: &str = "FOO";
/// See [`USERNAME`].
pub const PASSWORD: &str = "NOT-A-REAL-PASSWORD";
/// How the two travel in HTTP Basic auth: `FOO:NOT-A-REAL-PASSWORD` in base64.
pub const BASIC: &str = "Rk9POk5PVC1BLVJFQUwtUEFTU1dPUkQ=";

/// Waits until `condition` holds; returns whether it did within `limit`, and before Ctrl-C.
pub fn wait_until(limit: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + limit;
    loop {
        if condition() {
            return true;
        }
        if Instant::now() >= end || process::interrupted() {
            return false;
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// Fails the test where a text that people read shows the login.
#[track_caller]
pub fn assert_no_secret(text: &str) {
    for secret in [PASSWORD, BASIC] {
        assert!(!text.contains(secret), "the login is shown in:\n{text}");
    }
}
