//! The keeper: one thread that keeps this process a member of its Legions.
//!
//! uWSGI falls silent while datagrams come in faster than its own `legion-freq`; it says that a node is dead whenever it
//! reloads; it never lets a node back that it has suspended; and after a pause a process is elected by itself before it has
//! heard the others. So several times a second the keeper announces what is due (`voice`), with the rank that this node has
//! (`rank`), brings suspended nodes back (`comeback`), and notes which nodes are in sight and whether the process ran all the
//! time (`sight`). `kept` is one Legion with all of that.

mod comeback;
mod kept;
mod rank;
mod sight;
mod voice;

use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use std::sync::{Mutex, OnceLock, TryLockError};
use std::thread;
use std::time::{Duration, Instant};

use super::FailoverIp;
use crate::config::LegionOptions;
use crate::hosters::Kind;
use crate::sys::{lock, spawn};
use crate::uwsgi::{self, Legion};
pub use comeback::Ended;
use kept::Kept;
pub use kept::Lordship;
pub use sight::Clock;

const TICK: Duration = Duration::from_millis(250);
/// A keeper that has not come round for so long is stuck, and uWSGI announces the node again.
const STUCK: Duration = Duration::from_secs(4);
/// For how long a node that reloads remains a member: while uWSGI waits for its workers, and again while the new image loads
/// the application.
pub const LONGEST_RELOAD: Duration = uwsgi::LONGEST_BRIDGE;

/// What is known of this process's Legions beside what uWSGI keeps.
#[derive(Default)]
pub struct Keeper {
    kept: Mutex<Vec<Kept>>,
    /// Whether its thread runs; when it first did; and when it came round last, in milliseconds after that.
    runs: AtomicBool,
    begun: OnceLock<Instant>,
    beat: AtomicU64,
}

impl Keeper {
    fn with<T>(&self, legion: Legion, act: impl FnOnce(&mut Kept) -> T) -> Option<T> {
        lock(&self.kept).iter_mut().find(|kept| kept.legion == legion).map(act)
    }

    /// From uWSGI's main thread, which must never wait for long: nothing is done if the keeper is stuck.
    fn each_soon(&self, act: impl FnMut(&mut Kept)) {
        for _ in 0..100 {
            match self.kept.try_lock() {
                Ok(mut kept) => return kept.iter_mut().for_each(act),
                Err(TryLockError::Poisoned(kept)) => return kept.into_inner().iter_mut().for_each(act),
                Err(TryLockError::WouldBlock) => thread::sleep(Duration::from_millis(10)),
            }
        }
    }

    /// Notes every Legion of this process, with the failover IPs of its lord hooks, and its options. Before uWSGI starts
    /// its Legions.
    pub fn prepare(&self, lord_ips: &[FailoverIp], options: impl Fn(Legion) -> LegionOptions) {
        let keep = |(legion, number): (Legion, usize)| {
            let ips = lord_ips.iter().filter(|ip| ip.legion == legion).cloned().collect();
            Kept::new(legion, ips, &options(legion), number)
        };
        *lock(&self.kept) = uwsgi::legions().into_iter().zip(1..).map(keep).collect();
    }

    /// Starts the keeper's thread, if it does not run yet. In the process that stays.
    pub fn start(&'static self) {
        // Asked before any lock: uWSGI's main loop comes here each second, and must not wait.
        if self.runs.swap(true, Ordering::Relaxed) || uwsgi::legions().is_empty() {
            return;
        }
        uwsgi::start_log_writer();
        self.begun.get_or_init(|| {
            let now = Instant::now();
            lock(&self.kept).iter_mut().for_each(|kept| kept.begin(now));
            now
        });
        if spawn("hetzner-keeper", || self.keep()).is_none() {
            self.runs.store(false, Ordering::Relaxed);
        }
    }

    /// Called by uWSGI's main loop about once a second, and when something has happened.
    pub fn cycle(&'static self) {
        if uwsgi::is_reloading() {
            // uWSGI has just said that this node is dead, but to nobody.
            return self.each_soon(Kept::begin_reload);
        }
        if uwsgi::is_dying() {
            return;
        }
        self.start();
        let Some(begun) = self.begun.get() else { return };
        let beat = *begun + Duration::from_millis(self.beat.load(Ordering::Relaxed));
        if beat.elapsed() > STUCK
            && let Ok(mut kept) = self.kept.try_lock()
        {
            kept.iter_mut().for_each(Kept::let_uwsgi_speak);
        }
    }

    /// The process ends: uWSGI is about to say farewell for this node.
    pub fn end(&self) {
        self.each_soon(Kept::end);
    }

    /// What this node is Lord of, and remains while it reloads.
    pub fn lordships(&self) -> Vec<Lordship> {
        let mut found = Vec::new();
        self.each_soon(|kept| found.extend(kept.lordship()));
        found
    }

    /// This process was that node before it was reloaded, and is so again. Before uWSGI starts this Legion.
    pub fn take_back(&self, legion: Legion, lordship: &Lordship) {
        self.with(legion, |kept| kept.take_back(lordship));
    }

    /// Whether this node was Lord before a reload, and is about to be elected again.
    pub fn was_lord(&self, legion: Legion) -> bool {
        self.with(legion, |kept| kept.was_lord()).unwrap_or_default()
    }

    /// The failover IPs that were here before that reload.
    pub fn had(&self, legion: Legion) -> Vec<String> {
        self.with(legion, |kept| kept.had()).unwrap_or_default()
    }

    /// For how long a hook has to listen before it may act, because nodes that are not in sight may be alive.
    pub fn listening_time(&self, legion: Legion) -> Option<Duration> {
        let view = legion.view();
        let listening_time = |kept: &mut Kept| {
            let now = Instant::now();
            kept.sight.observe(&view, now, uwsgi::now(), false);
            kept.sight.listening_time(now)
        };
        self.with(legion, listening_time).flatten()
    }

    /// How many nodes the Legion's majority is counted of.
    pub fn voters(&self, legion: Legion) -> usize {
        self.with(legion, |kept| kept.sight.voters()).unwrap_or(1)
    }

    /// Whether another node that can be Lord was there when the keeper looked last. When uWSGI ends, its own list must not
    /// be read.
    pub fn had_another_candidate(&self, legion: Legion) -> bool {
        self.with(legion, |kept| kept.sight.has_another_candidate()).unwrap_or_default()
    }

    /// A lord hook begins.
    pub fn note_begin(&'static self, legion: Legion) {
        self.start();
        self.with(legion, |kept| kept.comeback.begin());
    }

    /// A lord hook has ended; called before uWSGI acts on it.
    pub fn note_end(&self, legion: Legion, ended: Ended) {
        self.with(legion, |kept| kept.note_end(ended));
    }

    fn keep(&'static self) {
        // It goes on after a panic, which is logged by then, because a node that never comes back would be worse.
        while panic::catch_unwind(AssertUnwindSafe(|| self.watch())).is_err() {
            thread::sleep(TICK);
        }
    }

    fn watch(&'static self) {
        let mut clock = Clock::start();
        // A process that ends is looked at once more, for what its last hooks have to know.
        while !uwsgi::is_dying() {
            thread::sleep(TICK);
            self.note_beat();
            let has_paused = clock.tick(TICK);
            for legion in uwsgi::legions() {
                // Before the plugin's lock is held, because uWSGI's lock may take its time. And before it is asked whether
                // uWSGI reloads, which marks all nodes as dead, but says first that it reloads.
                let view = legion.view();
                fence(Ordering::Acquire);
                if uwsgi::is_reloading() {
                    self.with(legion, Kept::tick_in_reload);
                    continue;
                }
                let check = self.with(legion, |kept| kept.tick(&view, has_paused).then(|| kept.ips.clone()));
                if let Some(ips) = check.flatten() {
                    self.check(legion, ips);
                }
            }
        }
    }

    fn note_beat(&self) {
        let since = self.begun.get().map(Instant::elapsed).unwrap_or_default();
        self.beat.store(u64::try_from(since.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Checks, in a thread of its own, whether a takeover could be made now.
    fn check(&'static self, legion: Legion, ips: Vec<FailoverIp>) {
        let checked = move |unfit| self.with(legion, |kept| kept.comeback.checked(unfit, Instant::now()));
        let check = move || {
            let why_not = |ip: &FailoverIp| {
                let failure = ip.whereabouts().err()?;
                // If only checks are over the limit, a switch may still be accepted.
                (failure.kind != Kind::HeldBack).then_some(failure.sentence)
            };
            // A panic, which is logged, says nothing about the hoster.
            let unfit = panic::catch_unwind(AssertUnwindSafe(|| ips.iter().find_map(why_not)));
            checked(unfit.unwrap_or_default());
        };
        if spawn("hetzner", check).is_none() {
            checked(None);
        }
    }
}
