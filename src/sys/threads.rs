//! Threads of ours.

use std::ffi::c_int;
use std::mem::MaybeUninit;
use std::{ptr, thread};

/// Starts `work` in a thread that takes no signals, nor does any thread that it starts: uWSGI's handlers expect to
/// run in uWSGI's own. It has this name in ps, top and gdb. `None` when the system has no thread left.
pub fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Option<()> {
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
        spawn("hetzner", move || tell.send((mask(), thread::spawn(mask).join().unwrap())).unwrap()).unwrap();
        let (ours, theirs) = told.recv().unwrap();
        for set in [ours, theirs] {
            // All but the two that nobody can block, and those that its own fault brings.
            assert_eq!(set.len(), 29 - FAULTS.len(), "{set:?}");
            assert!(!set.contains(&libc::SIGSEGV));
        }
        assert_eq!(mask(), before);
    }
}
