//! Starting threads, and sharing between them.

use std::ffi::c_int;
use std::mem::MaybeUninit;
use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::{ptr, thread};

/// Starts `work` in a thread with this name (for ps, top and gdb). It and the threads that it starts block all signals,
/// because uWSGI's handlers expect to run in uWSGI's own threads. `None` if the system has no thread left.
pub fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Option<()> {
    with_signals_blocked(|| thread::Builder::new().name(name.into()).spawn(work)).ok().map(drop)
}

/// Calls `work` while this thread takes no signals. Threads and processes that it starts inherit that.
pub(super) fn with_signals_blocked<T>(work: impl FnOnce() -> T) -> T {
    let mut before = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: the calls write to sets of ours.
    unsafe {
        let mut blocked = MaybeUninit::<libc::sigset_t>::uninit();
        libc::sigfillset(blocked.as_mut_ptr());
        // These report a fault of the thread itself. If they were blocked, uWSGI would die without its backtrace.
        for signal in FAULTS {
            libc::sigdelset(blocked.as_mut_ptr(), signal);
        }
        libc::pthread_sigmask(libc::SIG_SETMASK, blocked.as_ptr(), before.as_mut_ptr());
    }
    let result = work();
    // SAFETY: restores the mask that the call above has written.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, before.as_ptr(), ptr::null_mut()) };
    result
}

/// Calls `work` for all items at the same time, in this thread and `most - 1` others, or fewer if the system has none
/// left. `None` for an item whose call has panicked.
pub fn side_by_side<T: Sync, R: Send + Sync>(
    items: &[T],
    most: usize,
    work: impl Fn(&T) -> R + Sync,
) -> Vec<Option<R>> {
    let results: Vec<OnceLock<R>> = items.iter().map(|_| OnceLock::new()).collect();
    let next = AtomicUsize::new(0);
    let turns = || {
        let turn = || next.fetch_add(1, Ordering::Relaxed);
        while let Some((item, result)) = items.iter().zip(&results).nth(turn()) {
            if let Ok(done) = panic::catch_unwind(AssertUnwindSafe(|| work(item))) {
                let _ = result.set(done);
            }
        }
    };
    thread::scope(|scope| {
        for _ in 1..items.len().min(most) {
            let _ = thread::Builder::new().name("hetzner".into()).spawn_scoped(scope, turns);
        }
        turns();
    });
    results.into_iter().map(OnceLock::into_inner).collect()
}

/// Locks `mutex`, even if a thread has panicked while it held it: the plugin must go on, and nothing is left half changed
/// where it can panic.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The signals for a thread's own faults.
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
    fn each_item_has_its_result_however_many_threads_there_are() {
        for most in [1, 3, 9] {
            let results = side_by_side(&[1, 2, 3, 4, 5], most, |item| {
                assert_ne!(*item, 3, "on purpose");
                item * 2
            });
            assert_eq!(results, [Some(2), Some(4), None, Some(8), Some(10)], "{most} threads");
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
