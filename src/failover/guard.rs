//! The guard: while this node is Lord, it makes sure that the failover IP is here.
//!
//! uWSGI runs a lord hook once. It does not when a Lord that was frozen or cut off comes back, though another node
//! was Lord meanwhile and took the IP; nor when somebody moves the IP by hand; nor again when the hook has failed.
//! All that is mended here, in one thread a hook that only reads a few numbers once a second until there is something to
//! do.

use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::failover::hook::Hook;
use crate::failover::keeper::{self, Clock};
use crate::failover::takeover::{Verdict, place};
use crate::hosters::robot;
use crate::hosters::{Failure, Kind, Need, Route};
use crate::metrics::count;
use crate::sys::spawn;
use crate::uwsgi::{self, Peer, Uuid, View};

/// How often the guard looks at the Legion. No request is sent for it.
const TICK: Duration = Duration::from_secs(1);
/// When to ask after something has happened: at once, and when whoever else acted upon it is done.
/// So many nodes that come or go within an hour are looked after; a node that does so all the time must not use up the looks
/// of all.
const MOST_CHANGES: usize = 8;
const HOUR: Duration = Duration::from_secs(3600);
const AFTER_A_CHANGE: [Duration; 3] = [Duration::ZERO, Duration::from_secs(30), Duration::from_secs(120)];
/// Until the next try after the hook's takeover has failed, doubled from the first to the last.
const FIRST_RETRY: Duration = Duration::from_secs(15);
const LAST_RETRY: Duration = Duration::from_secs(120);

/// The guard of one hook. It lives as long as the process, asleep while this node is not Lord.
pub struct Guard {
    pub hook: Arc<Hook>,
    /// The hook's argument, which with the Legion and the IP tells it from others.
    argument: Vec<u8>,
    /// Whether the last run of the hook has failed, so that a Lord would be one without the IP.
    failed: AtomicBool,
    /// Whether its thread runs.
    watches: AtomicBool,
}

/// The guard of this hook of this Legion; it is started at the hook's first run, since threads do not survive
/// uWSGI's fork, and uWSGI runs hooks in the process that stays.
pub fn of(hook: Hook, argument: &[u8]) -> Arc<Guard> {
    let mut guards = GUARDS.lock().unwrap_or_else(PoisonError::into_inner);
    let known = |guard: &&Arc<Guard>| {
        guard.hook.legion == hook.legion
            && guard.hook.options.ip == hook.options.ip
            && guard.argument == argument
    };
    if let Some(guard) = guards.iter().find(known) {
        return Arc::clone(guard);
    }
    let (failed, watches) = (AtomicBool::new(false), AtomicBool::new(false));
    let guard = Arc::new(Guard { hook: Arc::new(hook), argument: argument.to_vec(), failed, watches });
    guards.push(Arc::clone(&guard));
    robot::note_guard(&guard.hook.options);
    guard.start();
    guard
}

static GUARDS: Mutex<Vec<Arc<Guard>>> = Mutex::new(Vec::new());

/// Starts the guards for which the system had no thread. Called about once a second.
pub fn start_missing() {
    GUARDS.lock().unwrap_or_else(PoisonError::into_inner).iter().for_each(Guard::start);
}

impl Guard {
    fn start(self: &Arc<Guard>) {
        const WHAT: &str = "a thread for the guard";
        if self.watches.swap(true, Ordering::Relaxed) {
            return;
        }
        let watched = Arc::clone(self);
        if spawn("hetzner", move || watched.keep_watch()).is_some() {
            return self.hook.well(WHAT);
        }
        self.watches.store(false, Ordering::Relaxed);
        self.hook.trouble(WHAT, "the system has no thread left: nobody looks whether the IP stays here");
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
        let configured_size = self.hook.legion.configured_size();
        let mut most_members = 1;
        let mut reign: Option<Reign> = None;
        let mut clock = Clock::start();
        while !uwsgi::is_ending() {
            thread::sleep(TICK);
            if uwsgi::is_ending() {
                break;
            }
            let frozen = clock.tick(TICK);
            let view = self.hook.legion.view();
            most_members = most_members.max(view.peers.len() + 1);
            if view.lord_since == 0 {
                reign = None;
                continue;
            }
            let reign = match &mut reign {
                Some(reign) if reign.since == view.lord_since => reign,
                other => other.insert(Reign::new(&view, self.hook.options.verify, self.failed())),
            };
            reign.size = keeper::voters(self.hook.legion, configured_size.unwrap_or(most_members));
            reign.observe(&view, frozen);
            reign.verify = robot::check_pause(&self.hook.options);
            // What is due waits until it is known whose the IP is to be: a node that this one's hook has heard may not be in
            // sight of uWSGI yet.
            let is_doubtful = reign.is_doubtful || keeper::listening_time(self.hook.legion).is_some();
            if !is_doubtful && reign.is_due() {
                self.look(reign);
                // The time that this took is no freeze.
                clock = Clock::start();
            }
        }
    }

    /// Asks where the IP is, and does what follows from it.
    fn look(&self, reign: &mut Reign) {
        let options = &self.hook.options;
        let ip = options.ip;
        match self.hook.whereabouts() {
            Ok(Some(found)) if Ok(found) == self.hook.active_ip() => {
                if reign.trouble.is_some() || self.failed() {
                    self.hook.log(&format!("{ip} is routed to {found} again"));
                }
                self.set_failed(false);
                reign.is_here();
            }
            Ok(route) => self.is_elsewhere(reign, route),
            Err(Failure { kind, sentence, .. }) => {
                // Said once, not at each try.
                if reign.is_news(Trouble::Unknown(kind)) {
                    let line = format!("this node is Lord, and whether {ip} is here is unknown: {sentence}");
                    self.hook.log(&line);
                }
                reign.retry();
            }
        }
    }

    fn is_elsewhere(&self, reign: &mut Reign, route: Route) {
        let ip = self.hook.options.ip;
        let place = place(route);
        if self.failed() {
            // Nobody else will do it: whoever is Lord at the other side of a cut has its own trouble.
            self.take_back(reign, &format!("this node is Lord without {ip}, which is {place}: trying again"));
        } else if reign.has_stood_elsewhere(route) {
            self.take_back(reign, &format!("{ip} is {place}, and this node is Lord: taking it back"));
        } else if reign.majority {
            if reign.is_news(Trouble::Elsewhere(route)) {
                count(&self.hook.metrics.drifts);
                let pause = 2 * uwsgi::round().as_secs();
                let line = format!("{ip} is {place}, though this node is Lord: looking again in {pause} s");
                self.hook.alarm(&line);
            }
            reign.look_again_in_two_rounds();
        } else if reign.is_news(Trouble::LeftAlone(route)) {
            count(&self.hook.metrics.drifts);
            let (votes, size) = (reign.votes, reign.size);
            self.hook.alarm(&format!(
                "{ip} is {place}, though this node is Lord: left there, since only {votes} of {size} nodes in sight \
                 agree that it is"
            ));
        }
    }

    fn take_back(&self, reign: &mut Reign, why: &str) {
        if let Some(wait) = robot::switch_held_back_for(&self.hook.options) {
            // Said once, and not looked for meanwhile: it would change nothing.
            if reign.is_news(Trouble::HeldBack) {
                self.hook
                    .log(&format!("{why} in {} s, since the last tries brought nothing", wait.as_secs() + 1));
            }
            reign.look_after(wait);
            return;
        }
        self.hook.log(why);
        let legion = self.hook.legion;
        let (since, size, alone) = (reign.since, reign.size, self.failed());
        // Asked again before each POST, for it can take a minute until that.
        let goes_on = || {
            let view = legion.view();
            view.lord_since == since
                && !view.is_outranked
                && !view.is_stale()
                && (alone || has_majority(&view.peers, size))
        };
        match self.hook.take_over(Need::Takeover, &goes_on, &|| false) {
            Verdict::Here => {
                self.set_failed(false);
                reign.is_here();
            }
            Verdict::Failed { .. } | Verdict::Dropped => reign.retry(),
        }
    }
}

/// Whether this node and the peers that vote for it are more than half of `size` nodes.
fn has_majority(peers: &[Peer], size: usize) -> bool {
    votes(peers) * 2 > size
}

fn votes(peers: &[Peer]) -> usize {
    1 + peers.iter().filter(|peer| peer.votes_for_us).count()
}

/// What the log was told last of a route that is not here.
#[derive(PartialEq, Eq)]
enum Trouble {
    Unknown(Kind),
    Elsewhere(Route),
    LeftAlone(Route),
    HeldBack,
}

/// One time as Lord.
struct Reign {
    /// Unix time, seconds: what uWSGI tells one reign from another by.
    since: i64,
    verify: Duration,
    /// The Legion's size, to which a majority is held.
    size: usize,
    votes: usize,
    /// Whether a node in sight is to be Lord rather than this one, and will ask for the IP itself; or uWSGI's Legion is
    /// stuck, so that others may have elected another Lord.
    is_doubtful: bool,
    peers: Vec<Uuid>,
    /// When nodes came or went that were looked after, within the last hour.
    changes: Vec<Instant>,
    /// When to look next, for whatever reasons.
    due: Vec<Instant>,
    /// When to look next if nothing happens.
    timer: Option<Instant>,
    /// Until the next try after a failure.
    next_pause: Duration,
    /// Whether, when last seen, a majority agreed that this node is Lord, and since when without a break.
    majority: bool,
    agreed_since: Instant,
    /// Where the IP was first seen, and when, as long as it stays there.
    elsewhere: Option<(Route, Instant)>,
    trouble: Option<Trouble>,
}

impl Reign {
    fn new(view: &View, verify: Duration, failed: bool) -> Reign {
        let now = Instant::now();
        // The hook has just had its say; but a switch that was under way may end after it. And a Lord without the IP
        // waits until it has heard whether it is one: its hook may have heard that it is not.
        let mut after = AFTER_A_CHANGE[1..].to_vec();
        if failed {
            after.push(3 * uwsgi::round());
        }
        let mut reign = Reign {
            since: view.lord_since,
            verify,
            size: 1,
            votes: 0,
            is_doubtful: false,
            peers: uuids(view),
            changes: Vec::new(),
            due: after.iter().map(|after| now + *after).collect(),
            timer: None,
            next_pause: FIRST_RETRY,
            // The election has just shown it.
            majority: true,
            agreed_since: now,
            elsewhere: None,
            trouble: None,
        };
        reign.set_timer();
        reign
    }

    /// Takes in what the Legion looks like now, and whether the process was frozen until now.
    fn observe(&mut self, view: &View, frozen: bool) {
        let peers = uuids(view);
        // Who leaves may have taken the IP just before.
        let changed = peers != self.peers;
        self.peers = peers;
        self.is_doubtful = view.is_outranked || view.is_stale();
        self.votes = votes(&view.peers);
        let had_majority = std::mem::replace(&mut self.majority, has_majority(&view.peers, self.size));
        if frozen || !had_majority {
            self.agreed_since = Instant::now();
        }
        let changed = changed && self.is_worth_a_look(Instant::now());
        if changed || frozen || self.majority && !had_majority {
            self.due.extend(AFTER_A_CHANGE.map(|after| Instant::now() + after));
        }
    }

    /// Whether a node that has come or gone now is looked after. If so, it counts.
    fn is_worth_a_look(&mut self, now: Instant) -> bool {
        self.changes.retain(|change| now.duration_since(*change) < HOUR);
        let is_worth_it = self.changes.len() < MOST_CHANGES;
        if is_worth_it {
            self.changes.push(now);
        }
        is_worth_it
    }

    /// Whether it is time for a look; if so, that time is used up.
    fn is_due(&mut self) -> bool {
        let now = Instant::now();
        let before = self.due.len();
        self.due.retain(|due| *due > now);
        let due = self.due.len() < before || self.timer.is_some_and(|timer| timer <= now);
        if due {
            self.set_timer();
        }
        due
    }

    /// Notes a trouble; returns whether the log has not been told of it yet.
    fn is_news(&mut self, trouble: Trouble) -> bool {
        let known = self.trouble.as_ref() == Some(&trouble);
        self.trouble = Some(trouble);
        !known
    }

    fn set_timer(&mut self) {
        self.timer = (!self.verify.is_zero()).then(|| Instant::now() + self.verify);
    }

    fn is_here(&mut self) {
        self.elsewhere = None;
        self.trouble = None;
        self.next_pause = FIRST_RETRY;
    }

    fn retry(&mut self) {
        self.due.push(Instant::now() + self.next_pause);
        self.next_pause = (self.next_pause * 2).min(LAST_RETRY);
    }

    fn look_after(&mut self, time: Duration) {
        self.due.push(Instant::now() + time);
    }

    fn look_again_in_two_rounds(&mut self) {
        self.look_after(2 * uwsgi::round());
    }

    /// Notes that the IP is at `route`; returns whether it has stood there for two rounds in which a majority has
    /// agreed that this node is Lord. A rightful handover takes that long to be agreed.
    fn has_stood_elsewhere(&mut self, route: Route) -> bool {
        let now = Instant::now();
        let since = match self.elsewhere {
            Some((seen, since)) if seen == route => since,
            _ => {
                self.elsewhere = Some((route, now));
                now
            }
        };
        let long_ago = |at: Instant| now.duration_since(at) >= 2 * uwsgi::round();
        self.majority && long_ago(since) && long_ago(self.agreed_since)
    }
}

fn uuids(view: &View) -> Vec<Uuid> {
    view.peers.iter().map(|peer| peer.uuid).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peers(votes: &[bool]) -> Vec<Peer> {
        let peer = |(number, &votes_for_us): (usize, &bool)| Peer {
            uuid: [u8::try_from(number).unwrap(); 36],
            valor: 1,
            votes_for_us,
            last_seen: 0,
        };
        votes.iter().enumerate().map(peer).collect()
    }

    fn view(votes: &[bool]) -> View {
        View { lord_since: 1, dead: false, suspended_until: 0, is_outranked: false, peers: peers(votes) }
    }

    #[test]
    fn a_majority_is_more_than_half_of_all_and_agrees() {
        for (votes, size, expected) in [
            (&[][..], 1, true),
            (&[], 2, false),
            (&[true], 2, true),
            (&[false], 2, false),
            (&[], 3, false),
            (&[true], 3, true),
            (&[false, false], 3, false),
            (&[true, false], 4, false),
            (&[true, true], 4, true),
        ] {
            assert_eq!(has_majority(&peers(votes), size), expected, "{votes:?} of {size}");
        }
    }

    fn reign(votes: &[bool], size: usize) -> Reign {
        Reign { size, ..Reign::new(&view(votes), Duration::ZERO, false) }
    }

    #[test]
    fn looks_at_once_when_a_node_joins_or_agrees_again_or_after_a_freeze() {
        let mut reign = reign(&[true], 3);
        reign.observe(&view(&[true]), false);
        assert!(!reign.is_due(), "nothing has happened");
        reign.observe(&view(&[true, true]), false);
        assert!(reign.is_due() && !reign.is_due(), "a node has joined: one look now");
        reign.observe(&view(&[false, false]), false);
        assert!(!reign.is_due() && !reign.majority);
        reign.observe(&view(&[true, false]), false);
        assert!(reign.is_due() && reign.majority, "one agrees again");
        reign.observe(&view(&[true, false]), true);
        assert!(reign.is_due(), "it was frozen");
        // Each of the three changes leaves its later looks, and the reign's own.
        assert_eq!(reign.due.len(), 2 + 3 * 2);
    }

    #[test]
    fn a_node_that_comes_and_goes_all_the_time_does_not_use_up_the_looks() {
        let mut reign = reign(&[true], 3);
        let looks = (0..100)
            .filter(|round| {
                let votes: &[bool] = if round % 2 == 0 { &[true, true] } else { &[true] };
                reign.observe(&view(votes), false);
                reign.is_due()
            })
            .count();
        assert_eq!(looks, MOST_CHANGES);
        reign.observe(&view(&[true, true]), true);
        assert!(reign.is_due(), "a freeze is looked after in any case");
    }

    #[test]
    fn a_lord_without_the_ip_looks_as_soon_as_it_can_have_heard_that_it_is_none() {
        let first_look = |failed| {
            let reign = Reign::new(&view(&[]), Duration::ZERO, failed);
            let first = *reign.due.iter().min().expect("it looks");
            first.duration_since(reign.agreed_since)
        };
        assert_eq!(first_look(false), Duration::from_secs(30));
        assert_eq!(first_look(true), 3 * uwsgi::round());
    }

    #[test]
    fn the_timer_is_one_however_often_something_happens() {
        let mut reign = Reign::new(&view(&[true]), Duration::from_secs(300), false);
        for _ in 0..10 {
            reign.observe(&view(&[true]), true);
            assert!(reign.is_due());
            reign.is_here();
        }
        reign.due.clear();
        assert!(!reign.is_due());
        reign.timer = Some(Instant::now());
        assert!(reign.is_due() && !reign.is_due());
    }

    #[test]
    fn what_has_just_moved_is_not_taken_back_yet() {
        let mut reign = reign(&[true], 3);
        let elsewhere = Some([2, 2, 2, 2].into());
        assert!(!reign.has_stood_elsewhere(elsewhere));
        let long_ago = Instant::now() - 2 * uwsgi::round();
        reign.elsewhere = Some((elsewhere, long_ago));
        assert!(!reign.has_stood_elsewhere(elsewhere), "agreed only since now");
        reign.agreed_since = long_ago;
        assert!(reign.has_stood_elsewhere(elsewhere));
        assert!(!reign.has_stood_elsewhere(None), "it has moved again");
        reign.elsewhere = Some((elsewhere, long_ago));
        reign.majority = false;
        assert!(!reign.has_stood_elsewhere(elsewhere));
    }
}
