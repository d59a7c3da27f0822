//! The door: what uWSGI finds when it loads the plugin, and what it calls.
//!
//! Everything that comes in is checked here, and no panic gets out.

#![allow(unsafe_code)]

use std::ffi::{c_char, c_int};
use std::panic::{self, AssertUnwindSafe, Location};
use std::process;
use std::ptr;

use crate::hook;
use crate::host::abi::{UwsgiLegion, UwsgiPlugin};
use crate::host::{self, Legion, log};

/// The one symbol that uWSGI looks for. Mutable, because uWSGI writes `modifier1` into it where the
/// configuration says `plugin = 17:hetzner`.
#[unsafe(no_mangle)]
#[allow(non_upper_case_globals)]
pub static mut hetzner_plugin: UwsgiPlugin = UwsgiPlugin {
    name: c"hetzner".as_ptr(),
    alias: ptr::null(),
    modifier1: 0,
    data: ptr::null_mut(),
    on_load: Some(on_load),
    init: None,
    post_init: None,
    post_fork: None,
    options: ptr::null(),
    unused: [None; 64],
};

extern "C" fn on_load() {
    panic::set_hook(Box::new(|info| log(&describe_panic(info.location()))));
    let registered = host::check_layout().and_then(|()| {
        let log_msg = c"moving the failover IP to this node...";
        let registered = host::register_action(c"hetzner-failoverip", log_msg, failoverip);
        registered.then_some(()).ok_or_else(|| "this uWSGI was built without SSL, so it has no Legion".into())
    });
    if let Err(sentence) = registered {
        log(&sentence);
        // A node without the action would become Lord all the same, and leave the IP where it is.
        process::exit(1);
    }
}

extern "C" fn failoverip(legion: *mut UwsgiLegion, argument: *const c_char) -> c_int {
    door(|| {
        // SAFETY: uWSGI calls an action with the Legion that the hook belongs to, and with the text behind the
        // action's name in the configuration; it changes neither.
        let (legion, argument) = unsafe { (Legion::new(legion), host::bytes(argument)) };
        legion.is_some_and(|legion| hook::run(legion, argument.unwrap_or_default()))
    })
}

/// Runs `action` and tells uWSGI how it went: 0, or -1 also where it panicked.
fn door(action: impl FnOnce() -> bool) -> c_int {
    match panic::catch_unwind(AssertUnwindSafe(action)) {
        Ok(true) => 0,
        Ok(false) | Err(_) => -1,
    }
}

/// The place only: the message of a panic may quote any text, a password too.
fn describe_panic(location: Option<&Location<'_>>) -> String {
    let place = location.map_or_else(|| "an unknown place".into(), ToString::to_string);
    format!("a bug in uwsgi-hetzner at {place}: this action fails; please report this line")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_a_failed_action() {
        assert_eq!(door(|| true), 0);
        assert_eq!(door(|| false), -1);
        assert_eq!(door(|| panic!("on purpose")), -1);
    }

    #[test]
    fn a_panic_is_described_by_its_place_alone() {
        let line = describe_panic(Some(Location::caller()));
        assert!(line.starts_with("a bug in uwsgi-hetzner at src/plugin.rs:"), "{line}");
        assert!(line.ends_with("this action fails; please report this line"));
    }

    #[test]
    fn null_fails_without_harm() {
        assert_eq!(failoverip(ptr::null_mut(), ptr::null()), -1);
    }

    #[cfg(feature = "header")]
    #[test]
    fn the_committed_header_is_fresh() {
        let committed = include_str!("../include/uwsgi_hetzner.h");
        let made = include_str!(concat!(env!("OUT_DIR"), "/uwsgi_hetzner.h"));
        assert!(committed == made, "include/uwsgi_hetzner.h is stale: run `make header`");
    }
}
