//! Whether this node could take over the IP, found out in advance: on a standby, an expired password, a firewall or a
//! moved file would otherwise show only when the Lord is dead.
//!
//! Once a day each node, Lord or not, asks where each IP is. That takes everything that a takeover needs except the
//! switch. The answer to any other request counts as well, so while a guard checks every few minutes, nothing is asked
//! here. A change is reported once: an alarm when a takeover would fail, a line when it would succeed again.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::panic::{self, AssertUnwindSafe};
use std::ptr;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::{FailoverIp, Node};
use crate::hosters::{Failure, Kind, Need, Request};
use crate::metrics;
use crate::sys::{lock, spawn};
use crate::uwsgi;

/// When the next check comes: after the first time, and at most the second one later, by chance. Nodes that start
/// together then do not ask together.
type Pause = (Duration, Duration);
/// From the start, so that no check comes while the nodes elect their first Lord.
const FIRST: Pause = (Duration::from_secs(60), Duration::from_secs(30));
/// After a check that succeeded.
const WELL: Pause = (Duration::from_secs(23 * 3600), Duration::from_secs(2 * 3600));
/// After one that failed.
const UNWELL: Pause = (Duration::from_secs(55 * 60), Duration::from_secs(10 * 60));
/// After one that failed, when the next one may succeed.
const DOUBTFUL: Pause = (Duration::from_secs(60), Duration::from_secs(30));
/// When the system had no thread left.
const NO_THREAD: Pause = (Duration::from_secs(10), Duration::ZERO);
/// An API that is down for less than this is not reported.
const PATIENCE: Duration = Duration::from_secs(120);
/// From a takeover to the next check, because another takeover may follow.
const QUIET: Duration = Duration::from_secs(10);

/// What is logged when the thread's trouble is over.
const FINE: &str = "there is a thread for the daily check";

/// Whether this node could take over one failover IP in one Legion.
#[derive(Default)]
pub struct Readiness {
    /// What was reported last, if anything.
    ready: Option<bool>,
    /// When an answer last showed it.
    told: Option<Instant>,
    /// Since when requests have failed that may succeed again at any time.
    doubtful_since: Option<Instant>,
    next: Option<Instant>,
    /// Until when a takeover may run, or has run just now. It finds everything out itself, and checks of this process's
    /// other IPs can wait.
    busy_until: Option<Instant>,
}

fn at(now: Instant, (after, at_most_later): Pause) -> Instant {
    let share = RandomState::new().hash_one(now) as f64 / u64::MAX as f64;
    now + after + at_most_later.mul_f64(share)
}

impl Readiness {
    /// Takes in the answer to a request; returns whether this node is ready now, if that has to be reported.
    fn learn(&mut self, failure: Option<Kind>, now: Instant) -> Option<bool> {
        match failure {
            // No request was sent.
            Some(Kind::HeldBack) => return None,
            Some(Kind::NotSent | Kind::NotDone | Kind::Unknown | Kind::Locked)
                if self.ready != Some(false) =>
            {
                let since = *self.doubtful_since.get_or_insert(now);
                if now.duration_since(since) < PATIENCE {
                    self.next = Some(at(now, DOUBTFUL));
                    return None;
                }
            }
            Some(Kind::Final) | None => self.doubtful_since = None,
            Some(_) => {}
        }
        let ready = failure.is_none();
        self.told = Some(now);
        self.next = Some(at(now, if ready { WELL } else { UNWELL }));
        // A node is expected to be ready, so only that it is not is news the first time.
        let before = self.ready.replace(ready).unwrap_or(true);
        (before != ready).then_some(ready)
    }

    /// Whether it is time for a check. The first call is the start.
    fn is_due(&mut self, now: Instant) -> bool {
        now >= *self.next.get_or_insert_with(|| at(now, FIRST)) && !self.is_busy(now)
    }

    fn is_busy(&self, now: Instant) -> bool {
        self.busy_until.is_some_and(|until| now < until)
    }

    /// A takeover begins, and takes at most `longest`.
    pub fn set_busy(&mut self, longest: Duration) {
        self.busy_until = Some(Instant::now() + longest);
    }

    /// The takeover has ended. One that has failed has said so, and a check could not find out more.
    pub fn set_idle(&mut self, has_failed: bool) {
        let now = Instant::now();
        self.busy_until = Some(now + QUIET);
        if has_failed {
            self.next = Some(at(now, UNWELL));
        }
    }
}

/// Takes in what came of a request for this IP, for whatever purpose it was sent.
pub fn record(ip: &FailoverIp, failure: Option<&Failure>) {
    let (news, ready) = {
        let mut readiness = lock(&ip.record.readiness);
        (readiness.learn(failure.map(|failure| failure.kind), Instant::now()), readiness.ready)
    };
    if failure.is_none() {
        // The request was made in a thread.
        ip.well(FINE);
    }
    metrics::set(&ip.record.metrics.ready, ready);
    let name = ip.name();
    match (news, failure) {
        (Some(false), Some(Failure { sentence, .. })) => {
            let then = "a failover to this node would fail";
            ip.alarm(&format!("this node cannot take over {name}: {sentence}: {then}"));
        }
        (Some(true), _) => ip.log(&format!("this node can take over {name} again")),
        _ => {}
    }
}

impl Node {
    /// Checks what is due, in a thread that ends then. Called about once a second.
    pub fn check_if_due(&'static self) {
        let now = Instant::now();
        let (mut due, mut is_busy) = (Vec::new(), false);
        for ip in self.ips() {
            let mut readiness = lock(&ip.record.readiness);
            let age = readiness.told.map(|told| now.duration_since(told).as_secs());
            let age = age.map_or(-1, |age| i64::try_from(age).unwrap_or(i64::MAX));
            ip.record.metrics.ready_age.store(age, Ordering::Relaxed);
            is_busy |= readiness.is_busy(now);
            if readiness.is_due(now) {
                due.push(ip);
            }
        }
        if is_busy || due.is_empty() || uwsgi::is_ending() || self.checks.swap(true, Ordering::Relaxed) {
            return;
        }
        let check = || {
            // A panic is logged by now, and none may keep the next check from being made.
            let _ = panic::catch_unwind(AssertUnwindSafe(|| self.check()));
            self.checks.store(false, Ordering::Relaxed);
        };
        if spawn("hetzner-look", check).is_some() {
            return due.iter().for_each(|ip| ip.well(FINE));
        }
        self.checks.store(false, Ordering::Relaxed);
        for ip in due {
            lock(&ip.record.readiness).next = Some(at(now, NO_THREAD));
            ip.trouble(
                FINE,
                "the system has no thread left for the daily check: a takeover by this node may fail too",
            );
        }
    }

    fn check(&self) {
        for ip in self.ips() {
            // Asked for each IP anew, because a rejected login counts for the next ones too.
            if uwsgi::is_ending() || !lock(&ip.record.readiness).is_due(Instant::now()) {
                continue;
            }
            let next = |pause| lock(&ip.record.readiness).next = Some(at(Instant::now(), pause));
            // Set first, so that a panic is not repeated each second.
            next(UNWELL);
            // A Lord's guard checks more often.
            if ip.legion.view().lord_since != 0 && !ip.common.verify.is_zero() {
                continue;
            }
            if let Some(remaining) = ip.remote.held_back_for(Request::Look, Need::Check) {
                next((remaining, Duration::from_secs(60)));
                continue;
            }
            let Some(failure) = ip.whereabouts().err().filter(Failure::is_rejected_login) else { continue };
            // The login is not tried for other IPs now, because a third rejected login locks this address out.
            for other in self.ips() {
                if !ptr::eq(other.record, ip.record) && other.remote.account() == ip.remote.account() {
                    record(other, Some(&failure));
                }
            }
        }
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
        let (mut readiness, start) = (Readiness::default(), Instant::now());
        assert!(
            !readiness.is_due(start)
                && !readiness.is_due(start + seconds(59))
                && readiness.is_due(start + seconds(91))
        );
        let hour = seconds(3600);
        let due_within = |readiness: &mut Readiness, now: Instant, from: Duration, to: Duration| {
            !readiness.is_due(now + from) && readiness.is_due(now + to)
        };
        assert_eq!(readiness.learn(None, start), None);
        assert!(due_within(&mut readiness, start, 22 * hour, 25 * hour));
        assert_eq!(readiness.learn(Some(Kind::Final), start), Some(false));
        assert!(due_within(&mut readiness, start, hour / 2, 2 * hour));
        readiness.busy_until = Some(start + 3 * hour);
        assert!(!readiness.is_due(start + 2 * hour) && readiness.is_due(start + 3 * hour));
    }

    #[test]
    fn a_change_is_told_once() {
        let (mut readiness, now) = (Readiness::default(), Instant::now());
        assert_eq!(readiness.learn(Some(Kind::HeldBack), now), None);
        assert_eq!((readiness.ready, readiness.told), (None, None));
        assert_eq!(readiness.learn(Some(Kind::Final), now), Some(false), "it never was ready");
        assert_eq!(readiness.learn(Some(Kind::Final), now), None);
        assert_eq!(readiness.learn(Some(Kind::NotSent), now), None);
        assert_eq!(readiness.learn(None, now), Some(true));
        assert_eq!(readiness.learn(None, now), None);
        assert_eq!(readiness.learn(Some(Kind::HeldBack), now), None);
        assert_eq!(readiness.ready, Some(true));
    }

    #[test]
    fn an_api_that_is_away_for_a_moment_is_no_news() {
        let (mut readiness, now) = (Readiness::default(), Instant::now());
        readiness.learn(None, now);
        assert_eq!(readiness.learn(Some(Kind::NotSent), now), None);
        assert!(readiness.is_due(now + seconds(91)), "it looks again soon");
        assert_eq!(readiness.learn(Some(Kind::Unknown), now + seconds(119)), None);
        assert_eq!(readiness.ready, Some(true));
        assert_eq!(readiness.learn(Some(Kind::NotDone), now + PATIENCE), Some(false));
        assert_eq!(readiness.learn(None, now + PATIENCE), Some(true));
        assert_eq!(readiness.learn(Some(Kind::NotSent), now + 2 * PATIENCE), None);
    }
}
