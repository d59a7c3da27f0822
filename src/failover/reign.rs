//! One time as Lord, as the guard of a failover IP sees it: who is in sight and votes for it, when to check, what was told.

use std::time::{Duration, Instant};

use crate::hosters::{Kind, Place};
use crate::uwsgi::{self, Peer, Uuid, View};

/// When to check after a change: at once, and again when another node that reacts to it should be done.
const AFTER_A_CHANGE: [Duration; 3] = [Duration::ZERO, Duration::from_secs(30), Duration::from_secs(120)];
/// Nodes that come or go cause checks up to this often in an hour, so that one that does so all the time does not use up
/// the hoster's limit.
const MOST_CHANGES: usize = 8;
const HOUR: Duration = Duration::from_secs(3600);
/// The pause after a failure, doubled from the first to the last.
const FIRST_RETRY: Duration = Duration::from_secs(15);
pub const LAST_RETRY: Duration = Duration::from_secs(120);

/// Whether this node and the peers that vote for it are more than half of `size` nodes.
pub fn has_majority(peers: &[Peer], size: usize) -> bool {
    votes(peers) * 2 > size
}

fn votes(peers: &[Peer]) -> usize {
    1 + peers.iter().filter(|peer| peer.votes_for_us).count()
}

/// What was logged last of a route that is not here.
#[derive(PartialEq, Eq)]
pub enum Trouble {
    Unknown(Kind),
    Elsewhere(Place),
    LeftAlone(Place),
    HeldBack,
}

/// One time as Lord.
pub struct Reign {
    /// Unix time, seconds: uWSGI sets it at each election.
    pub since: i64,
    pub verify: Duration,
    /// How many nodes a majority is counted of.
    pub size: usize,
    pub votes: usize,
    /// Whether a node with a higher valor is in sight, which will ask for the IP itself; or uWSGI's Legion is stuck, and
    /// the others may have elected another Lord.
    pub is_doubtful: bool,
    peers: Vec<Uuid>,
    /// The times of changes that caused checks, within the last hour.
    changes: Vec<Instant>,
    /// When to check next, for whatever reasons.
    due: Vec<Instant>,
    /// When to check next if nothing happens.
    timer: Option<Instant>,
    /// The pause after the next failure.
    next_pause: Duration,
    /// Since when a majority votes for this node without a break; `None` while there is none.
    agreed_since: Option<Instant>,
    /// Where the IP is instead of here, and since when.
    elsewhere: Option<(Place, Instant)>,
    pub trouble: Option<Trouble>,
}

impl Reign {
    pub fn new(view: &View, verify: Duration, failed: bool) -> Reign {
        let now = Instant::now();
        // The hook has just run, but a switch that was under way may complete after it. If the hook has failed, because it
        // may have heard a node with a higher valor, the check waits until uWSGI must have heard that node too.
        let mut after = AFTER_A_CHANGE[1..].to_vec();
        after.extend(failed.then(|| 3 * uwsgi::round()));
        Reign {
            since: view.lord_since,
            verify,
            size: 1,
            votes: 0,
            is_doubtful: false,
            peers: uuids(view),
            changes: Vec::new(),
            due: after.iter().map(|after| now + *after).collect(),
            timer: (!verify.is_zero()).then(|| now + verify),
            next_pause: FIRST_RETRY,
            // The election has just shown it.
            agreed_since: Some(now),
            elsewhere: None,
            trouble: None,
        }
    }

    /// Takes in what the Legion looks like now, and whether the process was frozen until now.
    pub fn observe(&mut self, view: &View, frozen: bool) {
        let now = Instant::now();
        let peers = uuids(view);
        // A node that leaves counts too, because it may have taken the IP just before.
        let changed = peers != self.peers;
        self.peers = peers;
        self.is_doubtful = view.is_outranked || view.is_stale();
        self.votes = votes(&view.peers);
        let had_majority = self.has_majority();
        let since = self.agreed_since.filter(|_| !frozen).unwrap_or(now);
        self.agreed_since = has_majority(&view.peers, self.size).then_some(since);
        self.changes.retain(|change| now.duration_since(*change) < HOUR);
        let changed = changed && self.changes.len() < MOST_CHANGES;
        self.changes.extend(changed.then_some(now));
        if changed || frozen || self.has_majority() && !had_majority {
            self.due.extend(AFTER_A_CHANGE.map(|after| now + after));
        }
    }

    pub fn has_majority(&self) -> bool {
        self.agreed_since.is_some()
    }

    /// Whether it is time for a check; if so, that time is used up.
    pub fn is_due(&mut self) -> bool {
        let now = Instant::now();
        let before = self.due.len();
        self.due.retain(|due| *due > now);
        let due = self.due.len() < before || self.timer.is_some_and(|timer| timer <= now);
        if due {
            self.timer = (!self.verify.is_zero()).then(|| now + self.verify);
        }
        due
    }

    /// Notes a trouble; returns whether it has not been logged yet.
    pub fn is_news(&mut self, trouble: Trouble) -> bool {
        let known = self.trouble.as_ref() == Some(&trouble);
        self.trouble = Some(trouble);
        !known
    }

    pub fn is_here(&mut self) {
        self.elsewhere = None;
        self.trouble = None;
        self.next_pause = FIRST_RETRY;
    }

    pub fn retry(&mut self) {
        self.check_after(self.next_pause);
        self.next_pause = (self.next_pause * 2).min(LAST_RETRY);
    }

    pub fn check_after(&mut self, time: Duration) {
        self.due.push(Instant::now() + time);
    }

    /// Notes that the IP is at `place`; returns whether it has been there for two rounds in which a majority voted for
    /// this node. If another node has rightfully become Lord, the nodes agree on it within that time.
    pub fn has_stood_elsewhere(&mut self, place: &Place) -> bool {
        let now = Instant::now();
        if self.elsewhere.as_ref().is_none_or(|(seen, _)| seen != place) {
            self.elsewhere = Some((place.clone(), now));
        }
        let long_ago = |at: Instant| now.duration_since(at) >= 2 * uwsgi::round();
        self.elsewhere.as_ref().is_some_and(|(_, since)| long_ago(*since))
            && self.agreed_since.is_some_and(long_ago)
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
            votes_for: 0,
            checksum: 0,
            last_seen: 0,
        };
        votes.iter().enumerate().map(peer).collect()
    }

    fn view(votes: &[bool]) -> View {
        let (vote, peers) = ((0, [0; 36], 0), peers(votes));
        View { lord_since: 1, dead: false, suspended_until: 0, is_outranked: false, vote, peers }
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
        assert!(!reign.is_due() && !reign.has_majority());
        reign.observe(&view(&[true, false]), false);
        assert!(reign.is_due() && reign.has_majority(), "one agrees again");
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
        assert!(reign.is_due(), "a freeze causes a check in any case");
    }

    #[test]
    fn a_lord_without_the_ip_looks_as_soon_as_it_can_have_heard_that_it_is_none() {
        let first_look = |failed| {
            let reign = Reign::new(&view(&[]), Duration::ZERO, failed);
            let first = *reign.due.iter().min().expect("it looks");
            first.duration_since(reign.agreed_since.expect("elected"))
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
        let elsewhere = &Place::Elsewhere("2.2.2.2".into());
        assert!(!reign.has_stood_elsewhere(elsewhere));
        let long_ago = Instant::now() - 2 * uwsgi::round();
        reign.elsewhere = Some((elsewhere.clone(), long_ago));
        assert!(!reign.has_stood_elsewhere(elsewhere), "agreed only since now");
        reign.agreed_since = Some(long_ago);
        assert!(reign.has_stood_elsewhere(elsewhere));
        assert!(!reign.has_stood_elsewhere(&Place::Nowhere), "it has moved again");
        reign.elsewhere = Some((elsewhere.clone(), long_ago));
        reign.agreed_since = None;
        assert!(!reign.has_stood_elsewhere(elsewhere));
    }
}
