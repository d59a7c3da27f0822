//! As whom uWSGI runs: who it is now, who it is to be once it serves, and how a command becomes that.

use std::ffi::CStr;
use std::io;
use std::sync::OnceLock;

use super::calls::{hetzner_call_become_user, hetzner_call_user_to_be};

/// Who this process is: user and group.
pub fn user() -> (u32, u32) {
    // SAFETY: they read two numbers, and cannot fail.
    unsafe { (libc::geteuid(), libc::getegid()) }
}

/// Who it is to be, where `uid` says so and its master does not stay root.
pub fn user_to_be() -> Option<u32> {
    static FOUND: OnceLock<Option<u32>> = OnceLock::new();
    // SAFETY: reads the configuration, and the system's list of users: once, as that list is not for threads.
    *FOUND.get_or_init(|| u32::try_from(unsafe { hetzner_call_user_to_be() }).ok())
}

/// Becomes, for good, who uWSGI will be, in its root and its folder. A process that is not root only goes to the folder.
/// Or says which option fails, and why.
pub fn become_user() -> Result<(), String> {
    // SAFETY: a command has but one thread by now. NULL, or a static string.
    let failed = unsafe { super::bytes(hetzner_call_become_user()) };
    let why = io::Error::last_os_error();
    let Some(option) = failed else { return Ok(()) };
    let why =
        if why.raw_os_error() == Some(0) { "there is none of that name".into() } else { why.to_string() };
    Err(format!("{}: {why}", String::from_utf8_lossy(option)))
}

/// A user's name in the system's list.
pub fn user_name(uid: u32) -> Option<String> {
    // SAFETY: NULL, or an entry of which the name is read at once. Not for threads, since there is but one entry.
    unsafe {
        let entry = libc::getpwuid(uid);
        (!entry.is_null()).then(|| CStr::from_ptr((*entry).pw_name).to_string_lossy().into_owned())
    }
}

/// Lets the signals that uWSGI ignores while it starts end this process, as they do any command.
pub fn end_by_signals() {
    // SAFETY: sets them to what they were when the program was started.
    unsafe {
        for signal in [libc::SIGHUP, libc::SIGTERM] {
            libc::signal(signal, libc::SIG_DFL);
        }
    }
}
