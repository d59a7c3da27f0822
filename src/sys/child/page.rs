//! The page of memory in which a minder leaves how its command has ended, and the end of its output.

use std::io;
use std::mem::size_of;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicI32, AtomicU8, AtomicU32, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use libc::c_long;

use super::timespec;

/// How much of a command's output is kept: the end, where a program says why it ends.
pub const KEPT: usize = 1024;

/// What the minder leaves in the shared page.
#[repr(C)]
pub struct Said {
    /// What has happened, or [`NOTHING`] so far; a futex.
    pub what: AtomicU32,
    pub value: AtomicI32,
    /// Not 0: nothing of the command is left, and the minder ends at once.
    pub is_clear: AtomicI32,
    /// How much the command has written, and the last of it, where each byte has its place by its number.
    written: AtomicUsize,
    output: [AtomicU8; KEPT],
}

pub const NOTHING: u32 = 0;
pub const EXITED: u32 = 1;
pub const SIGNALLED: u32 = 2;
pub const TIMED_OUT: u32 = 3;
pub const NOT_RUN: u32 = 4;
pub const NOT_STARTED: u32 = 5;
pub const STOPPED: u32 = 6;

impl Said {
    /// Before a minder is started.
    pub fn clear(&self) {
        self.value.store(0, Ordering::Relaxed);
        self.written.store(0, Ordering::Relaxed);
        self.what.store(NOTHING, Ordering::Relaxed);
    }

    /// In the minder.
    pub fn keep(&self, output: &[u8]) {
        let before = self.written.load(Ordering::Relaxed);
        let skipped = output.len().saturating_sub(KEPT);
        for (at, byte) in output.iter().enumerate().skip(skipped) {
            self.output[before.wrapping_add(at) % KEPT].store(*byte, Ordering::Relaxed);
        }
        self.written.store(before.wrapping_add(output.len()), Ordering::Relaxed);
    }

    /// The end of the command's output, once the minder has said how it has ended.
    pub fn output(&self) -> Vec<u8> {
        let end = self.written.load(Ordering::Relaxed);
        let byte = |at: usize| self.output[at % KEPT].load(Ordering::Relaxed);
        (end.saturating_sub(KEPT)..end).map(byte).collect()
    }

    /// In the minder.
    pub fn say(&self, what: u32, value: i32, is_clear: bool) {
        self.value.store(value, Ordering::Relaxed);
        self.is_clear.store(is_clear.into(), Ordering::Relaxed);
        self.what.store(what, Ordering::Release);
        // SAFETY: a futex of ours, in memory that is shared.
        unsafe { libc::syscall(libc::SYS_futex, self.what.as_ptr(), libc::FUTEX_WAKE, 1 as c_long) };
    }

    /// Waits until the minder has said something, but no longer than `limit`.
    pub fn wait(&self, limit: Duration) {
        let began = Instant::now();
        while self.what.load(Ordering::Acquire) == NOTHING {
            let left = limit.saturating_sub(began.elapsed());
            if left.is_zero() {
                return;
            }
            let (word, nothing) = (self.what.as_ptr(), c_long::from(NOTHING));
            // SAFETY: as above; it sleeps only as long as nothing is there.
            unsafe { libc::syscall(libc::SYS_futex, word, libc::FUTEX_WAIT, nothing, &timespec(left)) };
        }
    }
}

/// A page of memory that this process shares with its children.
pub struct Page(NonNull<Said>);

// SAFETY: it holds atomics only, and is unmapped once, by its owner.
unsafe impl Send for Page {}

impl Page {
    pub fn new() -> io::Result<Page> {
        let (access, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_ANONYMOUS);
        // SAFETY: a new mapping at an address of the kernel's choice, filled with zeros, which are a valid Said.
        let page = unsafe { libc::mmap(ptr::null_mut(), size_of::<Said>(), access, flags, -1, 0) };
        match NonNull::new(page.cast()) {
            Some(said) if page != libc::MAP_FAILED => Ok(Page(said)),
            _ => Err(io::Error::last_os_error()),
        }
    }

    pub fn said(&self) -> &Said {
        // SAFETY: mapped as long as this value lives.
        unsafe { self.0.as_ref() }
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        // SAFETY: mapped by new(), with this length.
        unsafe { libc::munmap(self.0.as_ptr().cast(), size_of::<Said>()) };
    }
}
