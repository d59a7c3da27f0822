//! The guard: while this node is Lord, it makes sure that the failover IP is here.
//!
//! uWSGI runs a lord hook once per election. It does not run it again when a Lord that was frozen or cut off comes back,
//! though another node may have been Lord meanwhile and taken the IP; nor when somebody moves the IP by hand; nor when the
//! hook has failed. The guard handles all of these, in one thread per failover IP that only reads a few numbers each
//! second until there is something to do.

use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use super::keeper::{Clock, Keeper};
use super::reign::{LAST_RETRY, Reign, Trouble, has_majority};
use super::{FailoverIp, Node, Verdict};
use crate::hosters::{Failure, Need, Place, Request};
use crate::metrics::count;
use crate::sys::{lock, spawn};
use crate::uwsgi;

/// How often the guard looks at the Legion. This sends no request.
const TICK: Duration = Duration::from_secs(1);

/// The guard of one failover IP. It lives as long as the process, asleep while this node is not Lord.
pub struct Guard {
    pub ip: FailoverIp,
    keeper: &'static Keeper,
    /// Whether the last run of the hook has failed: if this node is Lord anyway, it is Lord without the IP.
    failed: AtomicBool,
    /// Whether its thread runs.
    runs: AtomicBool,
}

impl Node {
    /// The guard of this failover IP. It is started when the hook first runs, because threads do not survive uWSGI's fork,
    /// and uWSGI runs hooks in the process that stays.
    pub fn guard(&'static self, ip: &FailoverIp) -> Arc<Guard> {
        let mut guards = lock(&self.guards);
        if let Some(guard) = guards.iter().find(|guard| Arc::ptr_eq(&guard.ip.remote, &ip.remote)) {
            return Arc::clone(guard);
        }
        let (failed, runs) = (AtomicBool::new(false), AtomicBool::new(false));
        let guard = Arc::new(Guard { ip: ip.clone(), keeper: &self.keeper, failed, runs });
        guards.push(Arc::clone(&guard));
        ip.remote.note_guard();
        guard.start();
        guard
    }

    /// Starts the guards for which the system had no thread. Called about once a second.
    pub fn start_missing_guards(&self) {
        lock(&self.guards).iter().for_each(Guard::start);
    }
}

impl Guard {
    fn start(self: &Arc<Guard>) {
        const FINE: &str = "there is a thread for the guard";
        if self.runs.swap(true, Ordering::Relaxed) {
            return;
        }
        let guard = Arc::clone(self);
        if spawn("hetzner", move || guard.keep_watch()).is_some() {
            return self.ip.well(FINE);
        }
        self.runs.store(false, Ordering::Relaxed);
        self.ip.trouble(
            FINE,
            "the system has no thread left for the guard: nothing checks that the IP stays here",
        );
    }

    /// Called with how the hook has ended, before uWSGI acts on it.
    pub fn set_failed(&self, failed: bool) {
        self.failed.store(failed, Ordering::Relaxed);
    }

    fn failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }

    /// Goes on after a panic, which is logged by then, because a Lord without its guard would be worse. But it waits
    /// first, because the same panic may follow each check, and each check is a request.
    fn keep_watch(&self) {
        while panic::catch_unwind(AssertUnwindSafe(|| self.watch())).is_err() {
            thread::sleep(LAST_RETRY);
        }
    }

    fn watch(&self) {
        let mut reign: Option<Reign> = None;
        let mut clock = Clock::start();
        loop {
            thread::sleep(TICK);
            if uwsgi::is_ending() {
                return;
            }
            // Taken off even where it does not matter.
            let is_doubted = self.ip.record.is_doubted.swap(false, Ordering::Relaxed);
            let frozen = clock.tick(TICK) || is_doubted;
            let view = self.ip.legion.view();
            if view.lord_since == 0 {
                reign = None;
                continue;
            }
            let reign = match &mut reign {
                Some(reign) if reign.since == view.lord_since => reign,
                other => other.insert(Reign::new(&view, self.ip.common.verify, self.failed())),
            };
            reign.size = self.keeper.voters(self.ip.legion);
            reign.observe(&view, frozen);
            reign.verify = self.ip.remote.check_pause();
            // A check waits while the lordship is in doubt: this node's hook may have heard a node that uWSGI does not
            // list yet.
            let is_doubtful = reign.is_doubtful || self.keeper.listening_time(self.ip.legion).is_some();
            if !is_doubtful && reign.is_due() {
                self.check(reign);
                // The time that this took is not a freeze.
                clock = Clock::start();
            }
        }
    }

    /// Asks where the IP is, and does what follows from that.
    fn check(&self, reign: &mut Reign) {
        let ip = self.ip.name();
        match self.ip.whereabouts() {
            Ok(place) if place.is_here() => {
                if reign.trouble.is_some() || self.failed() {
                    self.ip.log(&format!("{ip} is {place} again"));
                }
                self.set_failed(false);
                reign.is_here();
            }
            Ok(place) => self.is_elsewhere(reign, &place),
            Err(Failure { kind, sentence, .. }) => {
                // Logged once, not at each try.
                if reign.is_news(Trouble::Unknown(kind)) {
                    self.ip.log(&format!("this node is Lord, but the route of {ip} is unknown: {sentence}"));
                }
                reign.retry();
            }
        }
    }

    fn is_elsewhere(&self, reign: &mut Reign, place: &Place) {
        let ip = self.ip.name();
        let drift = |what: &str| {
            count(&self.ip.record.metrics.drifts);
            self.ip.alarm(&format!("{ip} is {place}, though this node is Lord: {what}"));
        };
        if self.failed() {
            // No other node will do it: a Lord on the other side of a network split is not in sight.
            self.take_back(reign, &format!("this node is Lord without {ip}, which is {place}: trying again"));
        } else if reign.has_stood_elsewhere(place) {
            self.take_back(reign, &format!("{ip} is {place}, and this node is Lord: taking it back"));
        } else if reign.has_majority() {
            let pause = 2 * uwsgi::round();
            if reign.is_news(Trouble::Elsewhere(place.clone())) {
                drift(&format!("checking the route again in {} s", pause.as_secs()));
            }
            reign.check_after(pause);
        } else if reign.is_news(Trouble::LeftAlone(place.clone())) {
            let (votes, size) = (reign.votes, reign.size);
            drift(&format!("left there, because only {votes} of {size} nodes vote for this node"));
        }
    }

    fn take_back(&self, reign: &mut Reign, why: &str) {
        if let Some(wait) = self.ip.remote.held_back_for(Request::Switch, Need::Takeover) {
            // Logged once, and not checked meanwhile, because that would change nothing.
            if reign.is_news(Trouble::HeldBack) {
                let seconds = wait.as_secs() + 1;
                self.ip.log(&format!("{why} in {seconds} s, because the last attempts failed"));
            }
            return reign.check_after(wait);
        }
        self.ip.log(why);
        let (since, size, alone) = (reign.since, reign.size, self.failed());
        // Asked again before each request, because a takeover can take minutes.
        let goes_on = || {
            let view = self.ip.legion.view();
            view.lord_since == since
                && !view.is_outranked
                && !view.is_stale()
                && (alone || has_majority(&view.peers, size))
        };
        if self.ip.take_over(Need::Takeover, None, &goes_on) == Verdict::Here {
            self.set_failed(false);
            reign.is_here();
        } else {
            reign.retry();
        }
    }
}
