//! The door: what uWSGI finds when it loads the plugin, and what it calls.
//!
//! Everything that comes in from uWSGI is checked here, and no panic gets out.

#![allow(unsafe_code)]

use std::ffi::{CStr, c_char, c_int, c_void};
use std::panic::{self, AssertUnwindSafe, Location};
use std::process;
use std::ptr;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::commands;
use crate::config::LEGION_OPTIONS;
use crate::failover::{self, LONGEST_FLUSH, Turn};
use crate::hosters::{self, Hoster, Visitor};
use crate::process::PROCESS;
use crate::startup::{self, Reading};
use crate::sys::{LONGEST_END, end_commands, forget_ended, lock};
use crate::uwsgi::{self, Legion, UwsgiLegion, UwsgiOption, UwsgiPlugin, log};

/// The one symbol that uWSGI looks for. Mutable, because with `plugin = 17:hetzner` in the configuration uWSGI writes
/// `modifier1` into it.
#[unsafe(no_mangle)]
#[allow(non_upper_case_globals)]
pub static mut hetzner_plugin: UwsgiPlugin = UwsgiPlugin {
    name: c"hetzner".as_ptr(),
    alias: ptr::null(),
    modifier1: 0,
    data: ptr::null_mut(),
    on_load: Some(on_load),
    init: Some(init),
    post_init: None,
    post_fork: None,
    options: OPTIONS.0.as_ptr(),
    unused: [None; 9],
    master_cycle: Some(master_cycle),
    unused_too: [None; 20],
    master_cleanup: Some(master_cleanup),
    unused_rest: [None; 33],
};

/// The plugin's options, as uWSGI reads them.
struct OptionList([UwsgiOption; 16]);

// SAFETY: uWSGI only reads it, and its pointers lead to constants.
unsafe impl Sync for OptionList {}

static OPTIONS: OptionList = OptionList([
    option(
        c"hetzner-check",
        0,
        c"check every failover IP hook against the API without changing anything, and exit",
    ),
    option(
        c"hetzner-status",
        0,
        c"print where each failover IP is routed, and exit (0: here, 2: elsewhere, 1: unknown)",
    ),
    option(c"hetzner-takeover", 0, c"route each failover IP to this server, and exit"),
    option(c"hetzner-release", 0, c"delete the route of each failover IP that is here, and exit"),
    option(c"hetzner-legion", 1, c"restrict the hetzner commands to this Legion"),
    option(c"hetzner-json", 0, c"print the result of a hetzner command as one JSON document"),
    option(c"legion-nopreempt", 1, c"NAME: the Lord stays Lord when a node with a higher valor comes"),
    option(
        c"legion-preempt-delay",
        1,
        c"NAME SECONDS: a node with a higher valor becomes Lord only after it was there for so long",
    ),
    option(
        c"legion-check",
        1,
        c"NAME WHAT: this node is sick while http://HOST/PATH, tcp://HOST:PORT or a command fails",
    ),
    option(c"legion-check-interval", 1, c"NAME SECONDS: how often to check (default 5)"),
    option(c"legion-check-timeout", 1, c"NAME SECONDS: how long a check may take (default 3)"),
    option(c"legion-check-fall", 1, c"NAME N: failures in a row that make this node sick (default 3)"),
    option(c"legion-check-rise", 1, c"NAME N: passes in a row that make it healthy again (default 2)"),
    option(c"legion-drain-file", 1, c"NAME PATH: while this file is there, this node ranks as a sick one"),
    option(c"legion-silent-stop", 1, c"NAME: announce nothing when uWSGI ends"),
    UwsgiOption { name: ptr::null(), ..option(c"", 0, c"") },
]);

/// `kind`: 0 takes no argument, 1 takes one, as in getopt(3).
const fn option(name: &'static CStr, kind: c_int, help: &'static CStr) -> UwsgiOption {
    let (name, help) = (name.as_ptr(), help.as_ptr());
    UwsgiOption { name, kind, shortcut: 0, help, func: Some(note_option), data: ptr::null_mut(), flags: 0 }
}

extern "C" fn note_option(name: *const c_char, value: *const c_char, _: *mut c_void) {
    door(|| {
        // SAFETY: uWSGI passes the option's name, and its value or NULL, while it reads its configuration.
        let (name, value) = unsafe { (uwsgi::bytes(name), uwsgi::bytes(value)) };
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let name = text(name.unwrap_or_default());
        if LEGION_OPTIONS.contains(&name.as_str()) {
            lock(&PROCESS.legion_options).push((name, value.unwrap_or_default().to_vec()));
        } else {
            lock(&PROCESS.asked).note(&name, value.map(text).as_deref());
        }
        true
    });
}

extern "C" fn on_load() {
    panic::set_hook(Box::new(|info| log(&describe_panic(info.location()))));
    if let Err(sentence) = uwsgi::check_layout() {
        log(&sentence);
        failover::give_up();
        if !uwsgi::is_reload() {
            // Without the action this node would still become Lord, and leave the IP where it is.
            uwsgi::leave(1);
        }
        // uWSGI was upgraded under a running site, which has to go on serving. The hooks fail, and say why.
        let _ = PROCESS.unfit.set(sentence);
    }
    hosters::each(&mut Register);
    if is_fit() {
        uwsgi::call_asap(c"hetzner", asap);
        if uwsgi::is_reload() && PROCESS.node.find_bridge() {
            uwsgi::register_action(
                TAKE_BACK,
                c"taking back what this node was before the reload...",
                take_back,
            );
        }
    }
}

/// The action of a hook that is in no configuration: it runs when a Legion starts of which this node was Lord.
const TAKE_BACK: &CStr = c"hetzner-reload";
const TAKE_BACK_HOOK: &CStr = c"hetzner-reload:";

/// Whether this uWSGI is one that the plugin was built for.
fn is_fit() -> bool {
    PROCESS.unfit.get().is_none()
}

/// Registers each hoster's actions with uWSGI.
struct Register;

impl Visitor for Register {
    fn visit<H: Hoster>(&mut self) {
        let about = &H::ABOUT;
        uwsgi::register_action(about.takes_over, c"moving the failover IP to this node...", take_over::<H>);
        uwsgi::register_action(about.releases, c"releasing the failover IP...", release::<H>);
    }
}

/// uWSGI has read its configuration; nothing is bound, forked or in the background yet. Ends uWSGI after a command, or if a
/// hook is wrong; but a reload goes on.
extern "C" fn asap(_: *const c_char) -> c_int {
    door(|| {
        let asked = lock(&PROCESS.asked).clone();
        let reading = reading();
        if let Some(code) = commands::run(&asked, reading, &PROCESS.shared) {
            uwsgi::leave(code);
        }
        let problems = &reading.problems;
        if uwsgi::is_reload() {
            for problem in problems {
                log(&format!("{problem} (this is a reload, so uWSGI keeps running)"));
            }
        } else if !problems.is_empty() {
            startup::refuse(problems);
            uwsgi::leave(1);
        }
        startup::trust::prepare(&PROCESS.shared.trust, &reading.all_ips());
        for legion in PROCESS.node.cross_bridge() {
            uwsgi::add_setup_hook(legion, TAKE_BACK_HOOK);
        }
        true
    })
}

fn reading() -> &'static Reading {
    let read = || Reading::of_all(&PROCESS.shared, &PROCESS.node.records, &lock(&PROCESS.legion_options));
    PROCESS.reading.get_or_init(read)
}

/// uWSGI has opened its logs, and is about to set up its metrics.
extern "C" fn init() -> c_int {
    door(|| {
        if !is_fit() {
            return true;
        }
        let reading = reading();
        reading.warn();
        PROCESS.node.prepare(reading.lord_ips(None), |legion| reading.options_of(legion));
        true
    })
}

/// The master has forked its workers; from now on it calls this about once a second.
extern "C" fn master_cycle() {
    MASTER.store(process::id(), Ordering::Relaxed);
    door(|| {
        if is_fit() {
            PROCESS.node.before_cycle();
            PROCESS.node.keeper.cycle();
            PROCESS.node.end_bridge();
            PROCESS.first_cycle.call_once(|| reading().trigger_alarms());
            startup::trust::read_if_due(&PROCESS.shared.trust);
            PROCESS.node.start_missing_guards();
            PROCESS.node.check_if_due();
            forget_ended();
        }
        true
    });
}

/// The master's id, once it runs its loop.
static MASTER: AtomicU32 = AtomicU32::new(0);

/// The master is about to end, or to reload.
extern "C" fn master_cleanup() {
    // A child of uWSGI's whose command cannot be run, as in a chroot without /bin/sh, ends as if it were the master.
    if ![0, process::id()].contains(&MASTER.load(Ordering::Relaxed)) {
        return;
    }
    door(|| {
        // A reload that has become an end is no reload any more.
        let reloads = uwsgi::is_reloading() && !uwsgi::is_dying() && !uwsgi::exits_on_reload();
        if is_fit() && reloads {
            uwsgi::ignore_reloads();
            PROCESS.node.build_bridge();
        } else if is_fit() {
            PROCESS.node.keeper.end();
        }
        end_commands(LONGEST_END);
        uwsgi::flush_log(LONGEST_FLUSH);
        true
    });
}

extern "C" fn take_over<H: Hoster>(legion: *mut UwsgiLegion, argument: *const c_char) -> c_int {
    act(legion, argument, |legion, argument| {
        // Even if the hook is wrong, because a later hook of the same election asks for the election too.
        let election = PROCESS.node.election(legion, argument);
        let hook = reading().hook(legion, (&H::ABOUT, false), argument);
        hook.known().is_some_and(|ips| {
            let mut turns = vec![Turn::new(argument, ips)];
            turns.extend(reading().next_turns(legion, argument));
            PROCESS.node.take_over(&election, &turns)
        })
    })
}

extern "C" fn release<H: Hoster>(legion: *mut UwsgiLegion, argument: *const c_char) -> c_int {
    act(legion, argument, |legion, argument| {
        let hook = reading().hook(legion, (&H::ABOUT, true), argument);
        hook.known().is_some_and(|ips| PROCESS.node.release(legion, ips))
    })
}

extern "C" fn take_back(legion: *mut UwsgiLegion, argument: *const c_char) -> c_int {
    act(legion, argument, |legion, _| {
        PROCESS.node.take_back(legion);
        true
    })
}

fn act(
    legion: *mut UwsgiLegion,
    argument: *const c_char,
    action: impl FnOnce(Legion, &[u8]) -> bool,
) -> c_int {
    door(|| {
        if let Some(sentence) = PROCESS.unfit.get() {
            log(sentence);
            return false;
        }
        // SAFETY: uWSGI calls an action with the hook's Legion and with the text after the action's name in the
        // configuration; it changes neither.
        let (legion, argument) = unsafe { (Legion::new(legion), uwsgi::bytes(argument)) };
        legion.is_some_and(|legion| action(legion, argument.unwrap_or_default()))
    })
}

/// Runs `action` and returns what uWSGI expects: 0, or -1 after a failure or a panic.
fn door(action: impl FnOnce() -> bool) -> c_int {
    match panic::catch_unwind(AssertUnwindSafe(action)) {
        Ok(true) => 0,
        Ok(false) | Err(_) => -1,
    }
}

/// Names only the place, because a panic's message may quote anything, even a password.
fn describe_panic(location: Option<&Location<'_>>) -> String {
    let place = location.map_or_else(|| "an unknown place".into(), ToString::to_string);
    format!("a bug in uwsgi-hetzner at {place}: this action fails; please report this line")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uwsgi_knows_every_option_of_a_legion() {
        // SAFETY: the last one has no name; the others are static.
        let name = |option: &UwsgiOption| unsafe { uwsgi::bytes(option.name) };
        let names: Vec<&[u8]> = OPTIONS.0.iter().filter_map(name).collect();
        assert_eq!(names.len() + 1, OPTIONS.0.len());
        let legion: Vec<&[u8]> = names.into_iter().filter(|name| name.starts_with(b"legion-")).collect();
        assert_eq!(legion, LEGION_OPTIONS.map(str::as_bytes));
    }

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
        struct CallIt;
        impl Visitor for CallIt {
            fn visit<H: Hoster>(&mut self) {
                assert_eq!(take_over::<H>(ptr::null_mut(), ptr::null()), -1);
                assert_eq!(release::<H>(ptr::null_mut(), ptr::null()), -1);
            }
        }
        hosters::each(&mut CallIt);
    }

    #[cfg(feature = "header")]
    #[test]
    fn the_committed_header_is_fresh() {
        let committed = include_str!("../include/uwsgi_hetzner.h");
        let made = include_str!(concat!(env!("OUT_DIR"), "/uwsgi_hetzner.h"));
        assert!(committed == made, "include/uwsgi_hetzner.h is stale: run `make header`");
    }
}
