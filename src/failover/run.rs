//! Runs a hook: takeovers in threads of their own, while the Legion is kept informed; or a release. uWSGI calls both in the
//! Legion's thread, or in the master when it ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::guard::Guard;
use super::keeper::Ended;
use super::{FailoverIp, GRACE, LONGEST_FLUSH, Node, Verdict};
use crate::hosters::Need;
use crate::metrics::count;
use crate::sys::{lock, side_by_side};
use crate::uwsgi::{self, Election, Legion, Waited};

/// For each request of a release: uWSGI waits for it when it ends, and must not wait for long.
const LONGEST_RELEASE: Duration = Duration::from_secs(10);
/// For the check with which a takeover after a reload begins: it may not hold up a takeover that is needed.
const LONGEST_LOOK: Duration = Duration::from_secs(10);
/// How long a hook waits at its end for its lines to be written.
const SHORT_FLUSH: Duration = Duration::from_millis(200);

/// A lord hook whose turn it is, or will be next.
pub struct Turn {
    /// Where its argument is, which tells it from another hook with the same text.
    place: usize,
    ips: Vec<FailoverIp>,
}

impl Turn {
    /// `argument` is the very text that uWSGI passes.
    pub fn new(argument: &[u8], ips: &[FailoverIp]) -> Turn {
        Turn { place: argument.as_ptr() as usize, ips: ips.to_vec() }
    }

    pub fn is_empty(&self) -> bool {
        self.ips.is_empty()
    }
}

/// Each IP of these hooks once: two that ask for the same one at the same time would lock each other out.
fn distinct(hooks: &[Turn]) -> Vec<FailoverIp> {
    let mut found: Vec<FailoverIp> = Vec::new();
    for ip in hooks.iter().flat_map(|turn| &turn.ips) {
        if !found.iter().any(|known| known.remote.identity() == ip.remote.identity()) {
            found.push(ip.clone());
        }
    }
    found
}

impl Node {
    /// Runs a lord hook, the first one of `hooks`, unless an earlier one has done so; returns whether all its failover IPs are
    /// here now. The others are those that uWSGI runs right after it: their IPs are taken over at the same time.
    pub fn take_over(&'static self, election: &Arc<Election>, hooks: &[Turn]) -> bool {
        let legion = election.legion();
        let Some(first) = hooks.first() else { return false };
        let mut ahead = lock(&self.ahead);
        let done = |(of, at, _): &(Legion, usize, bool)| *of == legion && *at == first.place;
        if let Some(at) = ahead.iter().position(done) {
            return ahead.swap_remove(at).2;
        }
        drop(ahead);
        let ips = distinct(hooks);
        let here = self.take_all_over(election, &ips);
        let all_here = |turn: &Turn| {
            turn.ips.iter().all(|ip| {
                let it = |other: &&FailoverIp| other.remote.identity() == ip.remote.identity();
                ips.iter().zip(&here).any(|(other, here)| *here && it(&other))
            })
        };
        let results = hooks[1..].iter().map(|turn| (legion, turn.place, all_here(turn)));
        lock(&self.ahead).extend(results);
        all_here(first)
    }

    /// Takes these failover IPs over; returns which of them are here now.
    fn take_all_over(&'static self, election: &Arc<Election>, ips: &[FailoverIp]) -> Vec<bool> {
        let legion = election.legion();
        let log = |line: &str| uwsgi::log(&format!("{}: {line}", legion.name()));
        self.keeper.note_begin(legion);
        let guards: Vec<Arc<Guard>> = ips.iter().map(|ip| self.guard(ip)).collect();
        let mut verdicts = vec![None; ips.len()];
        if self.keeper.was_lord(legion) {
            let is_here = |still: bool| still.then_some(Verdict::Here);
            let had = self.keeper.had(legion);
            verdicts = are_here_still(election, ips, had).into_iter().map(is_here).collect();
        }
        let mut why = BROKEN;
        if verdicts.iter().any(Option::is_none) {
            if let Some(time) = self.keeper.listening_time(legion).filter(|_| !election.is_outvoted()) {
                let seconds = time.as_secs_f64();
                log(&format!(
                    "listening for {seconds:.1} s first: other nodes may be alive but not heard yet"
                ));
                uwsgi::listen(election, time);
            }
            match bring_here(election, ips, &verdicts) {
                Waited::Done(ended) => verdicts = ended,
                Waited::Gone => {}
                Waited::TooLong => why = "the takeover did not end by its deadline: given up",
            }
        }
        if election.is_outvoted() {
            log("a node with a higher valor is alive after all: leaving it to the next election");
        }
        for (guard, verdict) in guards.iter().zip(&verdicts) {
            if verdict.is_none() && !election.is_outvoted() && !uwsgi::is_ending() {
                count(&guard.ip.record.metrics.takeover_failures);
                guard.ip.alarm(&format!("FAILED to route {} here: {why}", guard.ip.name()));
            }
            guard.set_failed(*verdict != Some(Verdict::Here));
        }
        let here: Vec<bool> = verdicts.iter().map(|verdict| *verdict == Some(Verdict::Here)).collect();
        let ended = match () {
            () if here.iter().all(|here| *here) => Ended::Here,
            () if election.is_outvoted() => Ended::Outvoted,
            () => Ended::Failed,
        };
        self.keeper.note_end(legion, ended);
        // So that what uWSGI logs about the hook comes after the hook's own lines.
        uwsgi::flush_log(SHORT_FLUSH);
        here
    }

    /// Runs a hook that releases; returns false if one of its failover IPs may still be here because of this node.
    pub fn release(&self, legion: Legion, ips: &[FailoverIp]) -> bool {
        // Another node takes the IP over by itself. Released first, the IP would be nowhere until then; released late, it
        // would be taken away from that node.
        let why = if self.keeper.had_another_candidate(legion) {
            Some("another node is in sight and takes it over")
        } else if !uwsgi::is_ending() {
            Some("this node keeps running")
        } else {
            None
        };
        if uwsgi::is_ending() || !ips.iter().any(|ip| ip.remote.is_of_this_host()) {
            // Not in threads: none should be started while the process ends.
            let released = ips.iter().filter(|ip| release(ip, why)).count();
            if uwsgi::is_ending() {
                uwsgi::flush_log(LONGEST_FLUSH);
            }
            return released == ips.len();
        }
        // The Legion goes on meanwhile.
        let all = ips.to_vec();
        let releases = move || side_by_side(&all, all.len(), |ip| release(ip, why));
        // Each asks up to three times.
        match uwsgi::wait_beside(legion, 3 * LONGEST_RELEASE + GRACE, releases) {
            Waited::Done(released) => released.iter().all(|released| *released == Some(true)),
            // What ends now is released then.
            Waited::Gone if uwsgi::is_ending() => false,
            Waited::Gone | Waited::TooLong => {
                let why = "it did not end in time, or the system has no thread left for it";
                ips.iter().for_each(|ip| ip.alarm(&format!("FAILED to release {}: {why}", ip.name())));
                false
            }
        }
    }
}

/// Releases an IP, or says why not; returns false if it may still be here because of this node. Others are tried whatever
/// became of it.
fn release(ip: &FailoverIp, why: Option<&str>) -> bool {
    if let Some(why) = why.filter(|_| !ip.remote.is_of_this_host()) {
        ip.log(&format!("{} is not released: {why}", ip.name()));
        return true;
    }
    let released = ip.release(LONGEST_RELEASE);
    if let Err(failure) = &released {
        ip.alarm(&format!("FAILED to release {}: {}", ip.name(), failure.sentence));
    }
    released.is_ok()
}

/// Which of the failover IPs are here still, for a node that was Lord before a reload, and `had` these: it needs no switch
/// for them.
fn are_here_still(election: &Arc<Election>, ips: &[FailoverIp], had: Vec<String>) -> Vec<bool> {
    let all: Vec<_> = ips.iter().cloned().map(|ip| (had.contains(&ip.claim()), ip)).collect();
    let were_here = all.iter().map(|(was_here, _)| *was_here).collect();
    let looks =
        move || side_by_side(&all, all.len(), |(was_here, ip)| ip.is_here_still(LONGEST_LOOK, *was_here));
    match uwsgi::wait_for(election, &AtomicBool::default(), LONGEST_LOOK + GRACE, looks) {
        Waited::Done(looked) => looked.into_iter().map(Option::unwrap_or_default).collect(),
        Waited::TooLong => were_here,
        Waited::Gone => vec![false; ips.len()],
    }
}

/// Takes over the failover IPs that have no verdict yet.
fn bring_here(
    election: &Arc<Election>,
    ips: &[FailoverIp],
    verdicts: &[Option<Verdict>],
) -> Waited<Vec<Option<Verdict>>> {
    let longest = ips.iter().map(|ip| ip.common.deadline).max().unwrap_or_default();
    let is_given_up = Arc::new(AtomicBool::new(false));
    let takeovers = {
        let all: Vec<_> = ips.iter().cloned().zip(verdicts.to_vec()).collect();
        let (election, is_given_up) = (Arc::clone(election), Arc::clone(&is_given_up));
        move || {
            let goes_on = || !election.is_outvoted() && !is_given_up.load(Ordering::Relaxed);
            let take_over = |ip: &FailoverIp| ip.take_over(Need::Election, Some(&election), &goes_on);
            // All at the same time, so that it takes as long as the slowest.
            side_by_side(&all, all.len(), |(ip, verdict)| verdict.clone().unwrap_or_else(|| take_over(ip)))
        }
    };
    uwsgi::wait_for(election, &is_given_up, longest + GRACE, takeovers)
}

const BROKEN: &str = "the takeover could not start, or ended because of a bug: check ulimit -u and TasksMax for the limit \
                      on threads";
