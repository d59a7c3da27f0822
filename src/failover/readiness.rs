//! Whether this node could take the IP over, known before the night it counts: an expired password, a firewall or a moved
//! file shows on a standby only when the Lord is dead.
//!
//! Each node asks once a day where each IP is, Lord or not, which needs all that a takeover needs but the POST. Whatever
//! else is asked counts as well: while a guard looks each few minutes, nothing is asked for this. What has changed is told
//! once: an alarm when a takeover would fail, a line when it would not any more.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use super::FailoverIp;
use crate::hosters::{Failure, Kind, Need, Request};
use crate::uwsgi;

/// The first look comes so long after the start, and at most so much later: nodes that are started together do not ask
/// together, nor while they elect their first Lord.
const FIRST: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(30));
/// From a look that succeeded to the next.
const WELL: (Duration, Duration) = (Duration::from_secs(23 * 3600), Duration::from_secs(2 * 3600));
/// From one that failed.
const UNWELL: (Duration, Duration) = (Duration::from_secs(55 * 60), Duration::from_secs(10 * 60));
/// From one that failed for the first time, where the next may succeed.
const DOUBTFUL: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(30));
/// An API that is away for less is no news.
const PATIENCE: Duration = Duration::from_secs(120);
/// From a takeover to the next look: another one may follow it.
const QUIET: Duration = Duration::from_secs(10);
/// Until there may be a thread.
const NO_THREAD: (Duration, Duration) = (Duration::from_secs(10), Duration::ZERO);

/// What may be missing.
const THREAD: &str = "a thread for the daily look";

/// What is known of one failover IP of one Legion.
#[derive(Default)]
pub struct Readiness(Mutex<State>);

#[derive(Default)]
struct State {
    /// What was told last; nothing yet.
    ready: Option<bool>,
    /// When somebody has last said something that tells.
    told: Option<Instant>,
    /// Since when nothing succeeds that may do so again at any time.
    doubtful_since: Option<Instant>,
    next: Option<Instant>,
    /// A takeover is under way, and over by then, or has ended just now: it finds out all by itself, and for what is
    /// asked for others of this process there is time later.
    busy_until: Option<Instant>,
}

/// What a look has changed.
#[derive(PartialEq, Eq, Debug)]
enum News {
    None,
    Unready,
    Ready,
}

fn at(now: Instant, (after, at_most_later): (Duration, Duration)) -> Instant {
    let share = RandomState::new().hash_one(now) as f64 / u64::MAX as f64;
    now + after + at_most_later.mul_f64(share)
}

impl State {
    fn learn(&mut self, failure: Option<Kind>, now: Instant) -> News {
        match failure {
            // Nobody was asked.
            Some(Kind::HeldBack) => return News::None,
            Some(Kind::Final) => self.doubtful_since = None,
            Some(Kind::NotSent | Kind::NotDone | Kind::Unknown | Kind::Locked)
                if self.ready != Some(false) =>
            {
                let since = *self.doubtful_since.get_or_insert(now);
                if now.duration_since(since) < PATIENCE {
                    self.next = Some(at(now, DOUBTFUL));
                    return News::None;
                }
            }
            Some(_) => {}
            None => self.doubtful_since = None,
        }
        let ready = failure.is_none();
        self.told = Some(now);
        self.next = Some(at(now, if ready { WELL } else { UNWELL }));
        match (self.ready.replace(ready), ready) {
            (Some(true) | None, false) => News::Unready,
            (Some(false), true) => News::Ready,
            _ => News::None,
        }
    }

    /// Whether it is time for a look. The first call is the start.
    fn is_due(&mut self, now: Instant) -> bool {
        now >= *self.next.get_or_insert_with(|| at(now, FIRST)) && !self.is_busy(now)
    }

    fn is_busy(&self, now: Instant) -> bool {
        self.busy_until.is_some_and(|until| now < until)
    }
}

impl Readiness {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A takeover begins, which takes so long at most.
    pub fn set_busy(&self, longest: Duration) {
        self.state().busy_until = Some(Instant::now() + longest);
    }

    /// It has ended. One that has failed has told so itself, and a look could not know better.
    pub fn set_idle(&self, has_failed: bool) {
        let (mut state, now) = (self.state(), Instant::now());
        state.busy_until = Some(now + QUIET);
        if has_failed {
            state.next = Some(at(now, UNWELL));
        }
    }
}

/// Takes in what came of a request for this IP, whoever has asked.
pub fn record(ip: &FailoverIp, failure: Option<&Failure>) {
    let (news, ready) = {
        let mut state = ip.record.readiness.state();
        (state.learn(failure.map(|failure| failure.kind), Instant::now()), state.ready)
    };
    if failure.is_none() {
        // Whoever has asked had one.
        ip.well(THREAD);
    }
    ip.record.metrics.ready.store(ready.map_or(-1, i64::from), Ordering::Relaxed);
    let name = ip.name();
    match (news, failure) {
        (News::Unready, Some(Failure { sentence, .. })) => ip
            .alarm(&format!("this node could not take {name} over: {sentence}: a failover to it would fail")),
        (News::Ready, _) => ip.log(&format!("this node could take {name} over again")),
        _ => {}
    }
}

/// The daily looks of this process.
pub struct Looks {
    /// At which IPs.
    ips: OnceLock<Vec<FailoverIp>>,
    /// Whether a thread is at it.
    runs: AtomicBool,
}

impl Looks {
    pub const fn new() -> Looks {
        Looks { ips: OnceLock::new(), runs: AtomicBool::new(false) }
    }

    /// Notes which IPs are to be looked at.
    pub fn prepare(&self, ips: Vec<FailoverIp>) {
        let _ = self.ips.set(ips);
    }

    fn ips(&self) -> &[FailoverIp] {
        self.ips.get().map_or(&[], Vec::as_slice)
    }

    /// Looks, in a thread that ends with it, where that is due. Called about once a second.
    pub fn look_if_due(&'static self) {
        let now = Instant::now();
        let (mut due, mut is_busy) = (Vec::new(), false);
        for ip in self.ips() {
            let mut state = ip.record.readiness.state();
            let age = state.told.map(|told| now.duration_since(told).as_secs());
            let age = age.map_or(-1, |age| i64::try_from(age).unwrap_or(i64::MAX));
            ip.record.metrics.ready_age.store(age, Ordering::Relaxed);
            is_busy |= state.is_busy(now);
            if state.is_due(now) {
                due.push(ip);
            }
        }
        if is_busy || due.is_empty() || uwsgi::is_ending() || self.runs.swap(true, Ordering::Relaxed) {
            return;
        }
        let looking = Reset(&self.runs);
        let started = uwsgi::spawn_named("hetzner-look", move || {
            let _looking = looking;
            self.look();
        });
        for ip in due {
            match started {
                Some(()) => ip.well(THREAD),
                None => {
                    ip.record.readiness.state().next = Some(at(now, NO_THREAD));
                    ip.trouble(
                        THREAD,
                        "the system has no thread left: a takeover by this node may fail, too",
                    );
                }
            }
        }
    }

    fn look(&self) {
        for ip in self.ips() {
            let state = || ip.record.readiness.state();
            // What one has found out of the login counts for the next ones too.
            if uwsgi::is_ending() || !state().is_due(Instant::now()) {
                continue;
            }
            // Should this panic, it is not asked again and again.
            state().next = Some(at(Instant::now(), UNWELL));
            // A Lord's guard looks more often by itself.
            if ip.legion.view().lord_since != 0 && !ip.common.verify.is_zero() {
                continue;
            }
            if let Some(remaining) = ip.remote.held_back_for(Request::Look, Need::Check) {
                state().next = Some(at(Instant::now(), (remaining, Duration::from_secs(60))));
                continue;
            }
            let found = ip.whereabouts();
            let Some(failure) = found.err().filter(Failure::is_rejected_login) else { continue };
            // Three rejected logins lock this address out, so nobody else tries this one now.
            for other in self.ips() {
                if !ptr::eq(other.record, ip.record) && other.remote.account() == ip.remote.account() {
                    record(other, Some(&failure));
                }
            }
        }
    }
}

/// Made false when this goes, also by a panic.
struct Reset(&'static AtomicBool);

impl Drop for Reset {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn looks_soon_then_daily_and_hourly_while_it_fails() {
        let (mut state, start) = (State::default(), Instant::now());
        assert!(
            !state.is_due(start) && !state.is_due(start + seconds(59)) && state.is_due(start + seconds(91))
        );
        let hour = seconds(3600);
        let due_within = |state: &mut State, now: Instant, from: Duration, to: Duration| {
            !state.is_due(now + from) && state.is_due(now + to)
        };
        assert_eq!(state.learn(None, start), News::None);
        assert!(due_within(&mut state, start, 22 * hour, 25 * hour));
        assert_eq!(state.learn(Some(Kind::Final), start), News::Unready);
        assert!(due_within(&mut state, start, hour / 2, 2 * hour));
        state.busy_until = Some(start + 3 * hour);
        assert!(!state.is_due(start + 2 * hour) && state.is_due(start + 3 * hour));
    }

    #[test]
    fn a_change_is_told_once() {
        let (mut state, now) = (State::default(), Instant::now());
        assert_eq!(state.learn(Some(Kind::HeldBack), now), News::None);
        assert_eq!((state.ready, state.told), (None, None));
        assert_eq!(state.learn(Some(Kind::Final), now), News::Unready, "it never was ready");
        assert_eq!(state.learn(Some(Kind::Final), now), News::None);
        assert_eq!(state.learn(Some(Kind::NotSent), now), News::None);
        assert_eq!(state.learn(None, now), News::Ready);
        assert_eq!(state.learn(None, now), News::None);
        assert_eq!(state.learn(Some(Kind::HeldBack), now), News::None);
        assert_eq!(state.ready, Some(true));
    }

    #[test]
    fn an_api_that_is_away_for_a_moment_is_no_news() {
        let (mut state, now) = (State::default(), Instant::now());
        state.learn(None, now);
        assert_eq!(state.learn(Some(Kind::NotSent), now), News::None);
        assert!(state.is_due(now + seconds(91)), "it looks again soon");
        assert_eq!(state.learn(Some(Kind::Unknown), now + seconds(119)), News::None);
        assert_eq!(state.ready, Some(true));
        assert_eq!(state.learn(Some(Kind::NotDone), now + PATIENCE), News::Unready);
        assert_eq!(state.learn(None, now + PATIENCE), News::Ready);
        assert_eq!(state.learn(Some(Kind::NotSent), now + 2 * PATIENCE), News::None);
    }
}
