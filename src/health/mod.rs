//! Health: whether this node serves, found out by the checks of a Legion; and whether it is drained.
//!
//! A check may hang in any way, and so may a look at a file. So each check has a thread of its own, and so has the drain
//! file; what they have found is read without waiting for them. `probe` runs a check once, `tally` counts the results.
//! This room knows no failover IP and no hoster: the keeper asks for the state, and decides what follows.

mod drain;
mod probe;
mod tally;

use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, AtomicI8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use crate::config::{Check, LegionOptions};
use crate::sys::{lock, spawn};
use drain::Drain;
pub use drain::look_for;
use probe::Outcome;
pub use probe::Prober;
use tally::Tally;
pub use tally::Went;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// Before the first result of each check.
    Unknown,
    /// Also without any check.
    Healthy,
    Sick,
    /// The drain file is there, whatever the checks say.
    Drained,
}

impl std::fmt::Display for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            State::Unknown => "unknown",
            State::Healthy => "healthy",
            State::Sick => "sick",
            State::Drained => "drained",
        })
    }
}

/// The health of this node in one Legion.
pub struct Health {
    interval: Duration,
    timeout: Duration,
    /// `fall` and `rise`.
    limits: (u32, u32),
    checks: Vec<Watched>,
    drain: Option<Drain>,
    began: OnceLock<Instant>,
}

/// A check, and what came of it so far.
struct Watched {
    check: Check,
    tally: Mutex<Tally>,
    /// The tally's verdict: 1 passes, 0 does not, -1 unknown.
    verdict: AtomicI8,
    /// Whether its last result was a pass, and whether a failure has not been made up for by enough passes yet.
    has_passed: AtomicBool,
    is_doubted: AtomicBool,
    /// What came back last.
    last: Mutex<String>,
    /// How long it took last, in milliseconds.
    took: AtomicU64,
    runs: AtomicBool,
}

impl Health {
    pub fn new(options: &LegionOptions) -> Arc<Health> {
        let watch = |check: &Check| Watched {
            check: check.clone(),
            tally: Mutex::default(),
            verdict: AtomicI8::new(-1),
            has_passed: AtomicBool::new(false),
            is_doubted: AtomicBool::new(false),
            last: Mutex::default(),
            took: AtomicU64::new(0),
            runs: AtomicBool::new(false),
        };
        Arc::new(Health {
            interval: options.interval,
            timeout: options.timeout,
            limits: (options.fall, options.rise),
            checks: options.checks.iter().map(watch).collect(),
            drain: options.drain_file.clone().map(Drain::new),
            began: OnceLock::new(),
        })
    }

    /// Starts the threads that do not run yet. Called several times a second, and never waits for anything.
    pub fn start(self: &Arc<Self>) {
        self.began.get_or_init(Instant::now);
        for at in 0..self.checks.len() {
            let health = Arc::clone(self);
            start_once("hetzner-check", &self.checks[at].runs, move || health.watch(at));
        }
        if let Some(drain) = &self.drain {
            let health = Arc::clone(self);
            start_once("hetzner-drain", drain.runs(), move || health.drain.iter().for_each(Drain::watch));
        }
    }

    /// How this node is. Waits for nothing.
    pub fn state(&self) -> State {
        match (self.drained(), self.passes()) {
            (Some(true), _) => State::Drained,
            (_, Some(false)) => State::Sick,
            (None, _) | (_, None) => State::Unknown,
            (Some(false), Some(true)) => State::Healthy,
        }
    }

    /// Whether all checks pass, drained or not; `None` before that is known.
    pub fn passes(&self) -> Option<bool> {
        let verdicts = || self.checks.iter().map(|check| check.verdict.load(Ordering::Relaxed));
        match () {
            () if verdicts().any(|verdict| verdict == 0) => Some(false),
            () if verdicts().any(|verdict| verdict < 0) => None,
            () => Some(true),
        }
    }

    /// Whether the last result of each check was a pass, which may not be known as health yet.
    pub fn has_passed(&self) -> bool {
        self.checks.iter().all(|check| check.has_passed.load(Ordering::Relaxed))
    }

    /// Whether a check has failed of late, though not often enough to make this node sick.
    pub fn is_doubted(&self) -> bool {
        self.checks.iter().any(|check| check.is_doubted.load(Ordering::Relaxed))
    }

    /// Whether the drain file is there; `None` before that is known.
    pub fn drained(&self) -> Option<bool> {
        self.drain.as_ref().map_or(Some(false), |drain| drain.is_there(self.began.get()))
    }

    /// For how long a sick node has to wait until others that became sick, or well, with it must know: they do one result
    /// later at the most, and a first result of them is enough.
    pub fn patience(&self) -> Duration {
        let took = self.checks.iter().map(|check| check.took.load(Ordering::Relaxed)).max();
        let cadence = self.interval.max(Duration::from_millis(took.unwrap_or_default()));
        let (fall, rise) = self.limits;
        cadence.saturating_sub(self.interval * (fall.min(rise) - 1))
    }

    /// Why the state is what it is: one line, with which check it is and what came back.
    pub fn why(&self) -> String {
        let of = |wanted: i8| {
            let all = self.checks.iter().filter(move |check| check.verdict.load(Ordering::Relaxed) == wanted);
            let said: Vec<String> =
                all.map(|check| format!("{}: {}", check.check.name(), lock(&check.last))).collect();
            said.join("; ")
        };
        match (self.state(), &self.drain) {
            (State::Drained, Some(drain)) => drain.describe(),
            (State::Sick, _) => of(0),
            (State::Healthy, _) if !self.checks.is_empty() => of(1),
            (State::Healthy, Some(drain)) => drain.describe_gone(),
            (State::Healthy, None) => "there is no check".into(),
            _ => "there is no result yet".into(),
        }
    }

    /// Goes on from the state before a reload: no check's next result is its first. Until the first success, and no longer
    /// than `excuse`, a failure without an answer does not count, because the app may still be loading.
    pub fn go_on(&self, state: State, excuse: Duration) {
        let verdict = match state {
            State::Healthy => Some(true),
            State::Sick => Some(false),
            State::Unknown | State::Drained => None,
        };
        for check in &self.checks {
            let mut tally = lock(&check.tally);
            tally.go_on(verdict, Instant::now() + excuse);
            check.publish(&tally);
        }
        if let Some(drain) = self.drain.as_ref().filter(|_| state != State::Unknown) {
            drain.go_on(state == State::Drained);
        }
    }

    /// Runs a check for as long as this process lives.
    fn watch(&self, at: usize) {
        let watched = &self.checks[at];
        let mut prober = Prober::new(&watched.check);
        loop {
            let began = Instant::now();
            // After a panic, which is logged by then, it goes on: a verdict that nothing changes any more would be worse.
            let run = panic::catch_unwind(AssertUnwindSafe(|| prober.run(self.timeout)));
            let Some(outcome) = run.unwrap_or_else(|_| Some(Outcome::bug())) else { return };
            let took = began.elapsed();
            watched.took.store(u64::try_from(took.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
            watched.note(&outcome, self.limits);
            thread::sleep(self.interval.saturating_sub(took));
        }
    }
}

impl Watched {
    fn note(&self, outcome: &Outcome, limits: (u32, u32)) {
        let mut tally = lock(&self.tally);
        let counts = tally.note(outcome.went, limits, Instant::now());
        if counts && tally.verdict() == Some(outcome.went == Went::Passed) {
            // What shows the verdict, and before the verdict, so that who sees that also sees why.
            (*lock(&self.last)).clone_from(&outcome.text);
        }
        self.publish(&tally);
    }

    fn publish(&self, tally: &Tally) {
        self.has_passed.store(tally.has_passed(), Ordering::Relaxed);
        self.is_doubted.store(tally.is_doubted(), Ordering::Relaxed);
        self.verdict.store(tally.verdict().map_or(-1, i8::from), Ordering::Release);
    }
}

/// Starts `work` in a thread, unless it runs already. If the system has no thread left, the next call tries again.
fn start_once(name: &str, runs: &AtomicBool, work: impl FnOnce() + Send + 'static) {
    if !runs.swap(true, Ordering::Relaxed) && spawn(name, work).is_none() {
        runs.store(false, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn why_it_is_so_names_the_drain_file() {
        for (state, why) in
            [(State::Drained, "/run/drain is there"), (State::Healthy, "/run/drain is not there")]
        {
            let options = LegionOptions { drain_file: Some("/run/drain".into()), ..LegionOptions::default() };
            let health = Health::new(&options);
            health.go_on(state, Duration::ZERO);
            assert_eq!((health.state(), health.why()), (state, why.to_string()));
        }
    }
}
