//! A hook's way: takeovers in threads of their own, while the Legion is kept informed; or the release of the routes. Both
//! are called by uWSGI in the Legion's thread, or at its end in the master's.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use super::guard::Guard;
use super::ip::Wanted;
use super::keeper::Ended;
use super::{FailoverIp, GRACE, LONGEST_FLUSH, Node, Verdict};
use crate::hosters::{Failure, Need};
use crate::metrics::count;
use crate::uwsgi::{self, Election, Legion, Waited};

/// For a release, which waits at a node's end: it is given up before anybody gets impatient.
const LONGEST_RELEASE: Duration = Duration::from_secs(10);
/// How long a hook waits at its end for its lines to be written.
const SHORT_FLUSH: Duration = Duration::from_millis(200);

impl Node {
    /// Runs a lord hook; returns whether all its failover IPs are here now.
    pub fn take_over(&'static self, election: &Arc<Election>, ips: &[FailoverIp]) -> bool {
        let legion = election.legion();
        self.keeper.start();
        self.keeper.note_begin(legion);
        let longest = ips.iter().map(|ip| ip.common.deadline).max().unwrap_or_default();
        let guards: Vec<Arc<Guard>> = ips.iter().map(|ip| self.guards.of(ip, &self.keeper)).collect();
        let name = legion.name();
        if let Some(time) = self.keeper.listening_time(legion).filter(|_| !election.is_outvoted()) {
            uwsgi::log(&format!(
                "{name}: listening for {:.1} s first: others may be alive that were not heard yet",
                time.as_secs_f64()
            ));
            uwsgi::listen(election, time);
        }
        let is_given_up = Arc::new(AtomicBool::new(false));
        let run = Run { election: Arc::clone(election), is_given_up: Arc::clone(&is_given_up) };
        let watched = guards.clone();
        let waited =
            uwsgi::wait_for(election, &is_given_up, longest + GRACE, move || run.side_by_side(&watched));
        if election.is_outvoted() {
            uwsgi::log(&format!(
                "{name}: a node with a higher valor is alive after all: leaving it to the next election"
            ));
        } else if !matches!(waited, Waited::Done(_)) && !uwsgi::is_ending() {
            let why = match waited {
                Waited::TooLong => "the takeover did not end by its deadline: given up",
                _ => {
                    "it could not be begun, or has ended by a bug: is there a thread left? Check ulimit -u and TasksMax"
                }
            };
            for ip in ips {
                count(&ip.record.metrics.takeover_failures);
                ip.alarm(&format!("FAILED to route {} here: {why}", ip.name()));
            }
        }
        let mut all_here = true;
        for (position, guard) in guards.iter().enumerate() {
            let here = matches!(&waited, Waited::Done(verdicts) if verdicts[position] == Verdict::Here);
            guard.set_failed(!here);
            all_here &= here;
        }
        let ended = match () {
            () if all_here => Ended::Here,
            () if election.is_outvoted() => Ended::Outvoted,
            () => Ended::Failed,
        };
        self.keeper.note_end(legion, ended);
        // So that what uWSGI says of it stands behind our lines.
        uwsgi::flush_log(SHORT_FLUSH);
        all_here
    }

    /// Runs a hook that releases; returns whether none of its failover IPs is here now because of this node.
    pub fn release(&self, legion: Legion, ips: &[FailoverIp]) -> bool {
        // Another node moves the IP to itself. Released first it would be nowhere meanwhile; and released late, it would be
        // taken from the node that has it by then.
        let why = if self.keeper.had_another_candidate(legion) {
            Some("another node is in sight, and takes it over")
        } else if !uwsgi::is_ending() {
            Some("this node goes on")
        } else {
            None
        };
        if let Some(why) = why {
            for ip in ips {
                ip.log(&format!("{} is not released: {why}", ip.name()));
            }
            if uwsgi::is_ending() {
                uwsgi::flush_log(LONGEST_FLUSH);
            }
            return true;
        }
        // At its end uWSGI has stopped its Legions, and waits for this hook alone. Each is tried, whatever becomes of the
        // others. Here, not in threads: one that this thread starts would take uWSGI's signals.
        let release = |ip: &FailoverIp| {
            let failed = |failure: Failure| {
                ip.alarm(&format!("FAILED to release {}: {}", ip.name(), failure.sentence));
            };
            ip.release(LONGEST_RELEASE).map_err(failed).is_ok()
        };
        let failed = ips.iter().filter(|ip| !release(ip)).count();
        uwsgi::flush_log(LONGEST_FLUSH);
        failed == 0
    }
}

/// The takeovers of one run of a hook.
struct Run {
    election: Arc<Election>,
    is_given_up: Arc<AtomicBool>,
}

impl Wanted for Run {
    fn goes_on(&self) -> bool {
        !self.election.is_outvoted() && !self.is_given_up.load(Ordering::Relaxed)
    }

    fn has_company(&self) -> bool {
        self.election.has_company()
    }
}

impl Run {
    /// Takes all IPs over at the same time, so that it takes as long as the slowest.
    fn side_by_side(&self, guards: &[Arc<Guard>]) -> Vec<Verdict> {
        let take_over = |guard: &Guard| guard.ip.take_over(Need::Election, self);
        let [first, others @ ..] = guards else { return Vec::new() };
        thread::scope(|scope| {
            let start = |guard: &Arc<Guard>| {
                let guard = Arc::clone(guard);
                let of_thread = Arc::clone(&guard);
                let started = thread::Builder::new().spawn_scoped(scope, move || take_over(&of_thread));
                started.map_err(|_| guard)
            };
            let others: Vec<_> = others.iter().map(start).collect();
            let first = take_over(first);
            let rest = others.into_iter().map(|other| match other {
                Ok(other) => other.join().unwrap_or(Verdict::Failed { sent: true }),
                // The system has no thread left.
                Err(guard) => take_over(&guard),
            });
            std::iter::once(first).chain(rest).collect()
        })
    }
}
