//! The user that uWSGI runs as: now, and once it serves; and how a command becomes that user.

use std::ffi::CStr;
use std::io;
use std::sync::OnceLock;

use super::calls::{hetzner_call_become_user, hetzner_call_user_to_be};

/// The user and the group of this process.
pub fn user() -> (u32, u32) {
    // SAFETY: both read a number and cannot fail.
    unsafe { (libc::geteuid(), libc::getegid()) }
}

/// The user that uWSGI will be, if the option `uid` names one and the master does not stay root.
pub fn user_to_be() -> Option<u32> {
    static FOUND: OnceLock<Option<u32>> = OnceLock::new();
    // SAFETY: reads the configuration, and the system's list of users: only once, because that is not thread-safe.
    *FOUND.get_or_init(|| u32::try_from(unsafe { hetzner_call_user_to_be() }).ok())
}

/// Becomes the user that uWSGI will be, in its root and its working directory. A process that is not root only changes the
/// directory. The error says which option fails and why.
pub fn become_user() -> Result<(), String> {
    // SAFETY: a command has one thread at this point. Returns NULL or a static string.
    let failed = unsafe { super::bytes(hetzner_call_become_user()) };
    let why = io::Error::last_os_error();
    let Some(option) = failed else { return Ok(()) };
    let why =
        if why.raw_os_error() == Some(0) { "there is none of that name".into() } else { why.to_string() };
    Err(format!("{}: {why}", String::from_utf8_lossy(option)))
}

/// A user's name in the system's list.
pub fn user_name(uid: u32) -> Option<String> {
    // SAFETY: returns NULL, or an entry whose name is copied at once. Not thread-safe; a command has one thread.
    unsafe {
        let entry = libc::getpwuid(uid);
        (!entry.is_null()).then(|| CStr::from_ptr((*entry).pw_name).to_string_lossy().into_owned())
    }
}

/// Lets SIGHUP and SIGTERM, which uWSGI ignores while it starts, end this process as they end any command.
pub fn end_by_signals() {
    // SAFETY: restores the defaults.
    unsafe {
        for signal in [libc::SIGHUP, libc::SIGTERM] {
            libc::signal(signal, libc::SIG_DFL);
        }
    }
}
