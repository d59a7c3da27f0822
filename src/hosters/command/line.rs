//! One `start` or `stop` of an IP at a time: two of them side by side would end in any order, and leave the IP anywhere. A
//! `stop` ends the `start` that is under way, because this node is not to have the IP any more.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, TryLockError};
use std::thread;
use std::time::{Duration, Instant};

use crate::sys::lock;

const STEP: Duration = Duration::from_millis(20);

/// The lines of all IPs of this process, by their identity. Each hook has its own idea of an IP, but they share its line.
#[derive(Default)]
pub struct Lines(Mutex<BTreeMap<String, Arc<Line>>>);

impl Lines {
    pub const fn new() -> Lines {
        Lines(Mutex::new(BTreeMap::new()))
    }

    pub fn of(&self, identity: String) -> Arc<Line> {
        Arc::clone(lock(&self.0).entry(identity).or_default())
    }
}

#[derive(Default)]
pub struct Line {
    is_busy: Mutex<()>,
    /// How many calls of `stop` wait or run.
    stops: AtomicUsize,
}

impl Line {
    /// Calls `work` with what is left of `limit` when it is this one's turn; `None` if it is not, in that time or as long as
    /// `goes_on` says that it is wanted.
    pub fn start<T>(
        &self,
        limit: Duration,
        goes_on: &dyn Fn() -> bool,
        work: impl FnOnce(Duration, &dyn Fn() -> bool) -> T,
    ) -> Option<T> {
        let goes_on = || self.stops.load(Ordering::SeqCst) == 0 && goes_on();
        let (_turn, left) = self.wait(limit, &goes_on)?;
        Some(work(left, &goes_on))
    }

    pub fn stop<T>(&self, limit: Duration, work: impl FnOnce(Duration) -> T) -> Option<T> {
        let _stop = Stop::of(&self.stops);
        let (_turn, left) = self.wait(limit, &|| true)?;
        Some(work(left))
    }

    fn wait(&self, limit: Duration, goes_on: &dyn Fn() -> bool) -> Option<(MutexGuard<'_, ()>, Duration)> {
        let began = Instant::now();
        while goes_on() {
            let left = limit.saturating_sub(began.elapsed());
            match self.is_busy.try_lock() {
                Ok(turn) => return Some((turn, left)),
                Err(TryLockError::Poisoned(turn)) => return Some((turn.into_inner(), left)),
                Err(TryLockError::WouldBlock) if left.is_zero() => return None,
                Err(TryLockError::WouldBlock) => thread::sleep(STEP.min(left)),
            }
        }
        None
    }
}

struct Stop<'a>(&'a AtomicUsize);

impl Stop<'_> {
    fn of(stops: &AtomicUsize) -> Stop<'_> {
        stops.fetch_add(1, Ordering::SeqCst);
        Stop(stops)
    }
}

/// Also after a panic.
impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}
