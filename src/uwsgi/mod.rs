//! Everything that uWSGI does for the plugin, and the only place that knows its structs.

#![allow(unsafe_code)]

pub mod abi;
mod announcer;
mod compat;
mod election;
mod legion;
mod log;
mod start;
mod user;

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::io::Write;
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::atomic::AtomicI64;
use std::thread;

use abi::{UwsgiLegion, UwsgiLegionAction};
pub use announcer::Announcer;
pub use election::{Election, Waited, listen, wait_for};
pub use legion::{
    HookLine, Legion, Peer, Uuid, View, death_on_lord_error, is_ending, legions, now, round, tolerance,
};
pub use log::{flush as flush_log, line, log, may_have_threads, start_writer as start_log_writer};
pub use start::{
    LogFile, chroot, has_action, has_master, is_reload, log_files, options, syslog, try_to_read,
};
pub use user::{become_user, end_by_signals, user, user_name, user_to_be};

/// The function behind a Legion action: 0 is success.
pub type Action = extern "C" fn(*mut UwsgiLegion, *const c_char) -> c_int;

/// The function behind one of uWSGI's own hooks: 0 is success.
pub type Callback = extern "C" fn(*const c_char) -> c_int;

// src/uwsgi/calls.c
unsafe extern "C" {
    fn hetzner_host_cflags() -> *mut c_char;
    fn hetzner_host_register_action(name: *const c_char, func: Action) -> *mut UwsgiLegionAction;
    fn hetzner_host_call_asap(name: *const c_char, func: Callback);
    fn hetzner_host_register_metric(
        name: *const c_char,
        oid: *const c_char,
        is_counter: c_int,
        value: *mut i64,
    );
    fn hetzner_host_alarm(name: *const c_char, message: *const c_char, length: usize);
    fn hetzner_host_has_alarm(name: *const c_char) -> c_int;
}

/// Ends the process with what is printed, and nothing else. exit() would run what uWSGI has registered to clean up after
/// itself: it removes pidfiles and runs exit hooks, which are the running instance's while this process, with the same
/// ini, is none.
pub fn leave(code: c_int) -> ! {
    // A reader that has gone changes nothing.
    let _ = std::io::stdout().flush();
    // SAFETY: fflush() with NULL writes what C's own streams hold; both may be called at any time.
    unsafe {
        libc::fflush(ptr::null_mut());
        libc::_exit(code)
    }
}

/// Compares the uWSGI that this process is with the one that the plugin was built for.
pub fn check_layout() -> Result<(), String> {
    // SAFETY: takes nothing, and returns NULL or a NUL-terminated string from malloc() that is ours.
    let cflags = unsafe { hetzner_host_cflags() };
    if cflags.is_null() {
        return compat::check("");
    }
    // SAFETY: not NULL, so a string as above; it is not used after the free().
    unsafe {
        let result = compat::check(&CStr::from_ptr(cflags).to_string_lossy());
        libc::free(cflags.cast::<c_void>());
        result
    }
}

/// Makes `name` an action that hooks may call. `log_msg` is logged at each call in place of the hook itself,
/// which holds the password.
pub fn register_action(name: &'static CStr, log_msg: &'static CStr, func: Action) {
    // SAFETY: uWSGI keeps both pointers for ever, and they are static. It calls `func` with the Legion and
    // the argument of a hook. Called while it loads plugins, when it has but one thread. What it returns is its own
    // list's entry of that name, or NULL where there is no Legion.
    unsafe {
        let action = hetzner_host_register_action(name.as_ptr(), func);
        if let Some(action) = action.as_mut() {
            action.log_msg = log_msg.as_ptr();
        }
    }
}

/// Has uWSGI call `func` when its configuration is read, and nothing is bound, forked or in the background yet.
pub fn call_asap(name: &'static CStr, func: Callback) {
    // SAFETY: uWSGI keeps the name, which is static, and copies nothing else. Called while it loads plugins, when it
    // has but one thread.
    unsafe { hetzner_host_call_asap(name.as_ptr(), func) }
}

/// What a metric's number is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum MetricKind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
}

/// Makes a number known as a metric, before uWSGI sets its metrics up. Does nothing where metrics are off.
pub fn register_metric(name: &str, oid: &str, kind: MetricKind, value: &'static AtomicI64) {
    let (Ok(name), Ok(oid)) = (CString::new(name), CString::new(oid)) else { return };
    let is_counter = c_int::from(kind == MetricKind::Counter);
    // SAFETY: uWSGI copies both texts, and only reads the number, which is there for ever.
    unsafe { hetzner_host_register_metric(name.as_ptr(), oid.as_ptr(), is_counter, value.as_ptr()) }
}

/// Triggers uWSGI's alarm `name`.
pub fn alarm(name: &str, message: &str) {
    let Ok(name) = CString::new(name) else { return };
    let message = format!("[hetzner-failoverip] {message}");
    // SAFETY: uWSGI hands the message, of that length, to its alarm thread by one write to a pipe.
    unsafe { hetzner_host_alarm(name.as_ptr(), message.as_ptr().cast(), message.len()) }
}

/// Whether the configuration has an alarm of that name.
pub fn has_alarm(name: &str) -> bool {
    // SAFETY: reads a list that is not changed once the configuration is read.
    CString::new(name).is_ok_and(|name| unsafe { hetzner_host_has_alarm(name.as_ptr()) != 0 })
}

/// The bytes of a C string; NULL has none.
///
/// # Safety
/// `text` is NULL, or a NUL-terminated string that stays as it is for `'a`.
pub unsafe fn bytes<'a>(text: *const c_char) -> Option<&'a [u8]> {
    // SAFETY: not NULL, so what the caller promises.
    (!text.is_null()).then(|| unsafe { CStr::from_ptr(text) }.to_bytes())
}

/// Starts `work` in a thread that takes no signals, nor does any thread that it starts: uWSGI's handlers expect to
/// run in uWSGI's own. `None` when the system has no thread left.
pub fn spawn(work: impl FnOnce() + Send + 'static) -> Option<()> {
    spawn_named("hetzner", work)
}

/// The same, by another name in ps, top and gdb.
pub fn spawn_named(name: &str, work: impl FnOnce() + Send + 'static) -> Option<()> {
    let mut before = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: the calls write into sets of ours. A thread starts with the mask of the one that starts it, so this
    // thread holds it for that moment.
    unsafe {
        let mut blocked = MaybeUninit::<libc::sigset_t>::uninit();
        libc::sigfillset(blocked.as_mut_ptr());
        // These say that the thread itself is broken; blocked, they would end uWSGI without its backtrace.
        for signal in FAULTS {
            libc::sigdelset(blocked.as_mut_ptr(), signal);
        }
        libc::pthread_sigmask(libc::SIG_SETMASK, blocked.as_ptr(), before.as_mut_ptr());
    }
    let started = thread::Builder::new().name(name.into()).spawn(work);
    // SAFETY: the mask that the call above has written.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, before.as_ptr(), ptr::null_mut()) };
    started.ok().map(drop)
}

/// What a thread gets for its own faults.
const FAULTS: [c_int; 5] = [libc::SIGSEGV, libc::SIGBUS, libc::SIGFPE, libc::SIGILL, libc::SIGTRAP];

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// The signals that the calling thread blocks.
    fn mask() -> Vec<c_int> {
        let mut set = MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: only reads the mask, into a set of ours.
        unsafe {
            libc::pthread_sigmask(libc::SIG_SETMASK, ptr::null(), set.as_mut_ptr());
            (1..32).filter(|signal| libc::sigismember(set.as_ptr(), *signal) == 1).collect()
        }
    }

    #[test]
    fn threads_of_ours_block_all_signals() {
        let before = mask();
        assert!(!before.contains(&libc::SIGTERM));
        let (tell, told) = mpsc::channel();
        spawn(move || tell.send((mask(), thread::spawn(mask).join().unwrap())).unwrap()).unwrap();
        let (ours, theirs) = told.recv().unwrap();
        for set in [ours, theirs] {
            // All but the two that nobody can block, and those that its own fault brings.
            assert_eq!(set.len(), 29 - FAULTS.len(), "{set:?}");
            assert!(!set.contains(&libc::SIGSEGV));
        }
        assert_eq!(mask(), before);
    }

    #[test]
    fn null_is_no_text_and_no_legion() {
        // SAFETY: NULL is allowed.
        unsafe {
            assert_eq!(bytes(ptr::null()), None);
            assert!(Legion::new(ptr::null_mut()).is_none());
        }
    }
}
