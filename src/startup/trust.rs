//! The trust store: read ahead, so that the night itself needs no disk for it.

use std::time::Instant;

use super::Found;
use crate::hosters::robot;
use crate::https::trust_store;
use crate::uwsgi;

fn is_needed(found: &[Found]) -> bool {
    found.iter().flat_map(|found| &found.hooks).any(|hook| robot::needs_trust_store(&hook.options))
}

/// Where there will be a chroot, what is outside can be read only now.
pub fn read_before_the_root_changes(found: &[Found]) {
    if uwsgi::chroot().is_some() && is_needed(found) {
        // What cannot be read outside is tried inside, where that is told.
        let _ = trust_store().read();
    }
}

pub fn note_what_to_read_ahead(found: &[Found]) {
    let was_read_outside = uwsgi::chroot().is_some() && trust_store().is_read();
    if is_needed(found) && !was_read_outside {
        trust_store().read_each_day();
    }
}

/// Reads the trust store in a thread, where that is due. Called about once a second.
pub fn read_ahead() {
    if trust_store().is_due(Instant::now()) {
        uwsgi::spawn(|| {
            if let Err(why) = trust_store().read() {
                uwsgi::log(&format!("warning: {why}"));
            }
        });
    }
}
