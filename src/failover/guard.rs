//! The guard: while this node is Lord, it makes sure that the failover IP is here.
//!
//! uWSGI runs a lord hook once. It does not when a Lord that was frozen or cut off comes back, though another node
//! was Lord meanwhile and took the IP; nor when somebody moves the IP by hand; nor again when the hook has failed.
//! All that is mended here, in one thread a failover IP that only reads a few numbers once a second until there is
//! something to do.

use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use super::keeper::Clock;
use super::reign::{LAST_RETRY, Reign, Trouble, has_majority};
use super::{FailoverIp, Keeper, Verdict};
use crate::hosters::{Failure, Need, Place, Request};
use crate::metrics::count;
use crate::uwsgi;

/// How often the guard looks at the Legion. No request is sent for it.
const TICK: Duration = Duration::from_secs(1);

/// The guard of one failover IP. It lives as long as the process, asleep while this node is not Lord.
pub struct Guard {
    pub ip: FailoverIp,
    keeper: &'static Keeper,
    /// Whether the last run of the hook has failed, so that a Lord would be one without the IP.
    failed: AtomicBool,
    /// Whether its thread runs.
    watches: AtomicBool,
}

/// All guards of this process.
pub struct Guards(Mutex<Vec<Arc<Guard>>>);

impl Guards {
    pub const fn new() -> Guards {
        Guards(Mutex::new(Vec::new()))
    }

    /// The guard of this failover IP; it is started at the hook's first run, since threads do not survive uWSGI's fork,
    /// and uWSGI runs hooks in the process that stays.
    pub fn of(&self, ip: &FailoverIp, keeper: &'static Keeper) -> Arc<Guard> {
        let mut guards = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(guard) = guards.iter().find(|guard| Arc::ptr_eq(&guard.ip.remote, &ip.remote)) {
            return Arc::clone(guard);
        }
        let (failed, watches) = (AtomicBool::new(false), AtomicBool::new(false));
        let guard = Arc::new(Guard { ip: ip.clone(), keeper, failed, watches });
        guards.push(Arc::clone(&guard));
        ip.remote.note_guard();
        guard.start();
        guard
    }

    /// Starts the guards for which the system had no thread. Called about once a second.
    pub fn start_missing(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().for_each(Guard::start);
    }
}

impl Guard {
    fn start(self: &Arc<Guard>) {
        const WHAT: &str = "a thread for the guard";
        if self.watches.swap(true, Ordering::Relaxed) {
            return;
        }
        let watched = Arc::clone(self);
        if uwsgi::spawn(move || watched.keep_watch()).is_some() {
            return self.ip.well(WHAT);
        }
        self.watches.store(false, Ordering::Relaxed);
        self.ip.trouble(WHAT, "the system has no thread left: nobody looks whether the IP stays here");
    }

    /// Called with how the hook has ended, before uWSGI acts upon it.
    pub fn set_failed(&self, failed: bool) {
        self.failed.store(failed, Ordering::Relaxed);
    }

    fn failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }

    /// A panic has been logged when it is caught here; a Lord without its guard would be worse. But what has panicked
    /// once may do so at each look, and each is a request.
    fn keep_watch(&self) {
        while panic::catch_unwind(AssertUnwindSafe(|| self.watch())).is_err() {
            thread::sleep(LAST_RETRY);
        }
    }

    fn watch(&self) {
        let configured_size = self.ip.legion.configured_size();
        let mut most_members = 1;
        let mut reign: Option<Reign> = None;
        let mut clock = Clock::start();
        while !uwsgi::is_ending() {
            thread::sleep(TICK);
            if uwsgi::is_ending() {
                break;
            }
            let frozen = clock.tick(TICK);
            let view = self.ip.legion.view();
            most_members = most_members.max(view.peers.len() + 1);
            if view.lord_since == 0 {
                reign = None;
                continue;
            }
            let reign = match &mut reign {
                Some(reign) if reign.since == view.lord_since => reign,
                other => other.insert(Reign::new(&view, self.ip.common.verify, self.failed())),
            };
            reign.size = self.keeper.voters(self.ip.legion, configured_size.unwrap_or(most_members));
            reign.observe(&view, frozen);
            reign.verify = self.ip.remote.check_pause();
            // What is due waits until it is known whose the IP is to be: a node that this one's hook has heard may not be in
            // sight of uWSGI yet.
            let is_doubtful = reign.is_doubtful || self.keeper.listening_time(self.ip.legion).is_some();
            if !is_doubtful && reign.is_due() {
                self.look(reign);
                // The time that this took is no freeze.
                clock = Clock::start();
            }
        }
    }

    /// Asks where the IP is, and does what follows from it.
    fn look(&self, reign: &mut Reign) {
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
                // Said once, not at each try.
                if reign.is_news(Trouble::Unknown(kind)) {
                    let line = format!("this node is Lord, and whether {ip} is here is unknown: {sentence}");
                    self.ip.log(&line);
                }
                reign.retry();
            }
        }
    }

    fn is_elsewhere(&self, reign: &mut Reign, place: &Place) {
        let ip = self.ip.name();
        if self.failed() {
            // Nobody else will do it: whoever is Lord at the other side of a cut has its own trouble.
            self.take_back(reign, &format!("this node is Lord without {ip}, which is {place}: trying again"));
        } else if reign.has_stood_elsewhere(place) {
            self.take_back(reign, &format!("{ip} is {place}, and this node is Lord: taking it back"));
        } else if reign.majority {
            if reign.is_news(Trouble::Elsewhere(place.clone())) {
                count(&self.ip.record.metrics.drifts);
                let pause = 2 * uwsgi::round().as_secs();
                let line = format!("{ip} is {place}, though this node is Lord: looking again in {pause} s");
                self.ip.alarm(&line);
            }
            reign.look_again_in_two_rounds();
        } else if reign.is_news(Trouble::LeftAlone(place.clone())) {
            count(&self.ip.record.metrics.drifts);
            let (votes, size) = (reign.votes, reign.size);
            self.ip.alarm(&format!(
                "{ip} is {place}, though this node is Lord: left there, since only {votes} of {size} nodes in sight \
                 agree that it is"
            ));
        }
    }

    fn take_back(&self, reign: &mut Reign, why: &str) {
        if let Some(wait) = self.ip.remote.held_back_for(Request::Switch, Need::Takeover) {
            // Said once, and not looked for meanwhile: it would change nothing.
            if reign.is_news(Trouble::HeldBack) {
                let seconds = wait.as_secs() + 1;
                self.ip.log(&format!("{why} in {seconds} s, since the last tries brought nothing"));
            }
            reign.look_after(wait);
            return;
        }
        self.ip.log(why);
        let legion = self.ip.legion;
        let (since, size, alone) = (reign.since, reign.size, self.failed());
        // Asked again before each request, for it can take a minute until that.
        let goes_on = || {
            let view = legion.view();
            view.lord_since == since
                && !view.is_outranked
                && !view.is_stale()
                && (alone || has_majority(&view.peers, size))
        };
        match self.ip.take_over(Need::Takeover, &goes_on) {
            Verdict::Here => {
                self.set_failed(false);
                reign.is_here();
            }
            Verdict::Failed { .. } | Verdict::Dropped => reign.retry(),
        }
    }
}
