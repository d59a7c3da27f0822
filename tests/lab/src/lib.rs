//! What the tests and the programs here share: real uWSGI nodes, started, watched and ended, and stand-ins for the APIs
//! that they ask.
//!
//! `uwsgi` is where a uWSGI and its plugin are, `node` one that runs (`process`, `log`, `clock`, `shim`), `legion` several
//! of them, with `links` between them; `robot` and `cloud` are the stand-ins, made of `standin` and, as programs, of `console`;
//! `exoscale` and `ovh` are small ones for the commands in examples/, which `script` calls, with `sums` for signatures, and `bind`
//! is a real DNS server. `hoster` is what they are to who plays with nodes, and `command` Robot's where a command asks it. `raw`
//! is a server that sends what it is told, `proxy` is in front of one. `checked` is what a node's health checks ask, `service`
//! what a node serves, and who asks for it. `scene` puts a Legion and a stand-in together; in `ranked` its nodes have ranks.
//! `reload` makes a node start anew, `remains` is what that leaves.

pub mod agents;
pub mod bind;
pub mod checked;
pub mod clock;
pub mod cloud;
pub mod command;
pub mod console;
pub mod exoscale;
pub mod growth;
pub mod hoster;
pub mod kvlist;
pub mod legion;
pub mod links;
pub mod log;
pub mod machine;
pub mod node;
pub mod ovh;
pub mod process;
pub mod proxy;
pub mod random;
pub mod ranked;
pub mod raw;
pub mod refusal;
pub mod reload;
pub mod remains;
pub mod robot;
pub mod scene;
pub mod script;
pub mod seal;
pub mod service;
pub mod shim;
pub mod standin;
pub mod strays;
pub mod sums;
pub mod svg;
pub mod timeline;
pub mod uwsgi;

use std::net::IpAddr;
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

/// The login of every hook in the tests. Plainly no real one.
pub const USERNAME: &str = "FOO";
/// See [`USERNAME`]; tokens of a Project are as long, and begin like this where there are several.
pub const TOKEN: &str = "NOTaREALtokenNOTaREALtokenNOTaREALtokenNOTaREALtokenNOTaREAL0000";
/// See [`USERNAME`].
pub const PASSWORD: &str = "NOT-A-REAL-PASSWORD";

/// Only what hangs takes longer, however busy the machine.
pub const LIMIT: Duration = Duration::from_secs(120);

/// For an address that is written in a test.
pub fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// Waits until `condition` holds; returns whether it did within `limit`, and before Ctrl-C. Whoever waits for longer asks
/// less often: dozens of tests that do so at the same time would leave the nodes little of the machine.
pub fn wait_until(limit: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let began = Instant::now();
    loop {
        if condition() {
            return true;
        }
        let waited = began.elapsed();
        if waited >= limit || process::interrupted() {
            return false;
        }
        thread::sleep((waited / 20).clamp(Duration::from_millis(10), Duration::from_millis(100)));
    }
}

/// Fails the test where a text that people read shows the password, or its base64 form, or a token.
#[track_caller]
pub fn assert_no_secret(text: &str) {
    assert!(!text.contains(&TOKEN[..13]), "a token is shown in:\n{text}");
    assert!(!text.contains(PASSWORD), "the password is shown in:\n{text}");
    for before in ["", "x", "xx"] {
        // In base64 it looks different by what stands before it; what its neighbours have a part in is left out.
        let encoded = BASE64.encode(format!("{before}{PASSWORD}"));
        let own = &encoded[4..encoded.len() - 4];
        assert!(!text.contains(own), "the password is shown in base64 in:\n{text}");
    }
}
