//! The trust store: read ahead, so that the night itself needs no disk for it.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use super::Found;
use crate::hosters::robot;
use crate::sys::spawn;
use crate::uwsgi;

/// How often the trust store is read again, in seconds: it changes with the system's updates.
const A_DAY: i64 = 24 * 3600;

/// Whether there is a hook that needs the trust store.
static NEEDS_TRUST_STORE: AtomicBool = AtomicBool::new(false);
/// Whether it was read in another root than this process has now.
static READ_OUTSIDE: AtomicBool = AtomicBool::new(false);

fn is_needed(found: &[Found]) -> bool {
    found.iter().flat_map(|found| &found.hooks).any(|hook| robot::needs_trust_store(&hook.options))
}

/// Where there will be a chroot, what is outside can be read only now.
pub fn read_before_the_root_changes(found: &[Found]) {
    if uwsgi::chroot().is_some() && is_needed(found) && robot::read_trust_store().is_ok() {
        READ_OUTSIDE.store(true, Ordering::Relaxed);
    }
}

pub fn note_what_to_read_ahead(found: &[Found]) {
    let needed = is_needed(found) && !READ_OUTSIDE.load(Ordering::Relaxed);
    NEEDS_TRUST_STORE.store(needed, Ordering::Relaxed);
}

/// Reads the trust store in a thread; again each day. Called about once a second.
pub fn read_ahead() {
    static NEXT: AtomicI64 = AtomicI64::new(0);
    let now = uwsgi::now();
    if now < NEXT.load(Ordering::Relaxed) {
        return;
    }
    NEXT.store(now + A_DAY, Ordering::Relaxed);
    spawn("hetzner", || {
        if NEEDS_TRUST_STORE.load(Ordering::Relaxed) {
            if let Err(failure) = robot::read_trust_store() {
                uwsgi::log(&format!("warning: {}", failure.sentence));
            }
        }
    });
}
