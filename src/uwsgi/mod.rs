//! Everything of uWSGI: its structs, its calls, its Legions, its log. Knows nothing of hosters, failover IPs or HTTP.

#![allow(unsafe_code)]

mod abi;
mod announcement;
mod announcer;
mod bridge;
mod calls;
mod compat;
mod election;
mod legion;
mod log;
mod start;
mod user;

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::io::Write;
use std::ptr;
use std::sync::atomic::AtomicI64;

pub use abi::{UwsgiLegion, UwsgiOption, UwsgiPlugin};
#[cfg(feature = "fuzz")]
pub use announcement::properties::check as check_announcement;
pub use announcer::Announcer;
pub use bridge::{Bridge, BridgeBuilder, LONGEST_BRIDGE};
use calls::*;
pub use election::{Election, Waited, listen, wait_beside, wait_for};
pub use legion::{
    HookLine, Legion, Peer, Uuid, View, checksum_part, death_on_lord_error, is_dying, is_ending,
    is_reloading, legions, now, round, tolerance,
};
pub use log::{flush as flush_log, line, log, may_have_threads, start_writer as start_log_writer};
pub use start::{
    LogFile, Need, chroot, exits_on_reload, has_action, has_master, ignore_reloads, is_reload, log_files,
    options, syslog, try_path, try_to_read,
};
pub use user::{become_user, end_by_signals, user, user_name, user_to_be};

/// Flushes what was printed and ends the process. exit() would run uWSGI's cleanup too: it removes pidfiles and runs exit
/// hooks, and with the same ini those belong to the instance that is running.
pub fn leave(code: c_int) -> ! {
    // If nobody reads it any more, nothing is lost.
    let _ = std::io::stdout().flush();
    // SAFETY: fflush() with NULL flushes C's own streams; both may be called at any time.
    unsafe {
        libc::fflush(ptr::null_mut());
        libc::_exit(code)
    }
}

/// Compares the uWSGI of this process with the one that the plugin was built for.
pub fn check_layout() -> Result<(), String> {
    // SAFETY: returns NULL, or a NUL-terminated string from malloc() that we own.
    let cflags = unsafe { hetzner_call_cflags() };
    if cflags.is_null() {
        return compat::check("");
    }
    // SAFETY: not NULL, so it is such a string; it is not used after the free().
    unsafe {
        let result = compat::check(&CStr::from_ptr(cflags).to_string_lossy());
        libc::free(cflags.cast::<c_void>());
        result
    }
}

/// Registers `name` as an action for hooks. uWSGI logs `log_msg` at each call instead of the hook's argument, which
/// contains the password. `func` returns 0 for success.
pub fn register_action(
    name: &'static CStr,
    log_msg: &'static CStr,
    func: extern "C" fn(*mut UwsgiLegion, *const c_char) -> c_int,
) {
    // SAFETY: uWSGI keeps both pointers forever, and they are static. It calls `func` with the Legion and the argument
    // of a hook. Called while uWSGI loads plugins, when it has one thread. Returns the entry in uWSGI's list, or NULL if
    // uWSGI has no Legion.
    unsafe {
        let action = hetzner_call_register_action(name.as_ptr(), func);
        if let Some(action) = action.as_mut() {
            action.log_msg = log_msg.as_ptr();
        }
    }
}

/// Adds a hook to a Legion, for when it starts: like `legion-setup = NAME HOOK` in the configuration. Before that.
pub fn add_setup_hook(legion: Legion, hook: &'static CStr) {
    // SAFETY: uWSGI keeps the text, which is static, and only reads it. Called while it has one thread.
    unsafe { hetzner_call_register_hook(legion.raw(), c"setup".as_ptr(), hook.as_ptr()) }
}

/// Has uWSGI call `func` once it has read its configuration, before it binds, forks or goes to the background. `func`
/// returns 0 for success.
pub fn call_asap(name: &'static CStr, func: extern "C" fn(*const c_char) -> c_int) {
    // SAFETY: uWSGI keeps the name, which is static. Called while it loads plugins, when it has one thread.
    unsafe { hetzner_call_asap(name.as_ptr(), func) }
}

/// How a metric's number behaves.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum MetricKind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
}

/// Registers a number as a metric, before uWSGI sets up its metrics. Does nothing if they are off.
pub fn register_metric(name: &str, oid: &str, kind: MetricKind, value: &'static AtomicI64) {
    let (Ok(name), Ok(oid)) = (CString::new(name), CString::new(oid)) else { return };
    let is_counter = kind == MetricKind::Counter;
    // SAFETY: uWSGI copies both texts, and only reads the number, which is static.
    unsafe { hetzner_call_register_metric(name.as_ptr(), oid.as_ptr(), is_counter, value.as_ptr()) }
}

/// Triggers uWSGI's alarm `name`.
pub fn alarm(name: &str, message: &str) {
    let Ok(name) = CString::new(name) else { return };
    let message = line(message);
    // SAFETY: uWSGI passes the message, of that length, to its alarm thread with one write to a pipe.
    unsafe { hetzner_call_alarm(name.as_ptr(), message.as_ptr().cast(), message.len()) }
}

/// Whether the configuration has an alarm of that name.
pub fn has_alarm(name: &str) -> bool {
    // SAFETY: reads a list that does not change once the configuration is read.
    CString::new(name).is_ok_and(|name| unsafe { hetzner_call_has_alarm(name.as_ptr()) })
}

/// The name of this machine in its announcements.
pub fn host_name() -> String {
    // SAFETY: a NUL-terminated string, set before plugins are loaded.
    unsafe { CStr::from_ptr(hetzner_call_name()) }.to_string_lossy().into_owned()
}

/// The bytes of a C string; `None` for NULL.
///
/// # Safety
/// `text` is NULL, or a NUL-terminated string that stays as it is for `'a`.
pub unsafe fn bytes<'a>(text: *const c_char) -> Option<&'a [u8]> {
    // SAFETY: not NULL, and the rest is the caller's promise.
    (!text.is_null()).then(|| unsafe { CStr::from_ptr(text) }.to_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn null_is_no_text_and_no_legion() {
        // SAFETY: NULL is allowed.
        unsafe {
            assert_eq!(bytes(ptr::null()), None);
            assert!(Legion::new(ptr::null_mut()).is_none());
        }
    }
}
