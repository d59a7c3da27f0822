//! Which nodes are in sight, and whether others may be alive.
//!
//! uWSGI elects among the nodes that it has heard. A process that did not run for a while has dropped them all, and one
//! that has just started has heard none: if it acted on its election, it would take the IP from a healthy Lord.

use std::time::{Duration, Instant, SystemTime};

use crate::uwsgi::{self, Peer, View};

/// A thread that runs this much too late was not running: a busy machine may delay it by a second.
const PAUSED: Duration = Duration::from_secs(2);

/// How much later than usual an announcement of a healthy node may come.
const LATE: Duration = Duration::from_millis(1500);

/// Notices when the process was not running, or the clock was set.
pub struct Clock {
    monotonic: Instant,
    wall: SystemTime,
}

impl Clock {
    pub fn start() -> Clock {
        Clock { monotonic: Instant::now(), wall: SystemTime::now() }
    }

    /// Called each `tick`; returns whether much more, or other, time has passed since the last call.
    pub fn tick(&mut self, tick: Duration) -> bool {
        let before = std::mem::replace(self, Clock::start());
        let passed = self.monotonic.duration_since(before.monotonic);
        // A clock that was set back counts too.
        let on_the_wall = self.wall.duration_since(before.wall).unwrap_or_default();
        passed > tick + PAUSED || passed.abs_diff(on_the_wall) > PAUSED
    }
}

/// One Legion's nodes, as they were seen.
pub struct Sight {
    /// As the ini says; `None` where any number may be.
    size: Option<usize>,
    /// When this process began to listen, and when it looked last.
    began: Instant,
    looked: Instant,
    /// When others were last found to be alive perhaps, because the process did not run.
    paused: Option<Instant>,
    peers: Vec<Seen>,
    /// How many nodes there were at the most, this one among them.
    most: usize,
    /// Whether all were ever there at once, and when one was last dropped for its silence.
    had_all: bool,
    lost: Option<Instant>,
    /// The longest time, lately, between two announcements of one node.
    longest_silence: Duration,
    /// The valors of nodes that have announced their death and have not come back.
    farewells: Vec<u64>,
}

/// Another node.
struct Seen {
    /// As uWSGI knew it last.
    peer: Peer,
    heard: Instant,
    /// The longest time between two of its announcements; it counts less as it gets older.
    silence: Duration,
    has_left: bool,
}

impl Sight {
    pub fn new(size: Option<usize>) -> Sight {
        let now = Instant::now();
        Sight {
            size,
            began: now,
            looked: now,
            paused: None,
            peers: Vec::new(),
            most: 1,
            had_all: false,
            lost: None,
            longest_silence: Duration::ZERO,
            farewells: Vec::new(),
        }
    }

    /// uWSGI's Legions have started.
    pub fn begin(&mut self, now: Instant) {
        (self.began, self.looked) = (now, now);
    }

    /// Takes in which nodes are in sight now, and whether the process has paused just before.
    pub fn observe(&mut self, view: &View, now: Instant, unix_time: i64, has_paused: bool) {
        // After a pause a hook may come here before the keeper, which measures pauses.
        if has_paused || now.duration_since(self.looked) > PAUSED {
            self.paused = Some(now);
        }
        self.looked = now;
        let tolerance = i64::try_from(uwsgi::tolerance().as_secs()).unwrap_or(i64::MAX);
        let is_gone = |seen: &Seen| view.peers.iter().all(|peer| peer.uuid != seen.peer.uuid);
        for gone in self.peers.iter().filter(|seen| is_gone(seen) && !seen.has_left) {
            // uWSGI drops a node before its time is over only if the node has announced its death.
            if unix_time - gone.peer.last_seen < tolerance {
                self.farewells.push(gone.peer.valor);
            } else {
                self.lost = Some(now);
            }
        }
        self.peers.retain(|seen| !is_gone(seen));
        for peer in view.peers.iter().filter(|peer| is_latest(&view.peers, peer)) {
            match self.peers.iter_mut().find(|seen| seen.peer.uuid == peer.uuid) {
                Some(seen) if seen.peer.last_seen == peer.last_seen => {}
                // A hook has heard the node announce its death, and uWSGI will drop it.
                Some(seen) if peer.last_seen == 0 => {
                    if !std::mem::replace(&mut seen.has_left, true) {
                        self.farewells.push(seen.peer.valor);
                    }
                }
                Some(seen) => {
                    // It has left only with the valor that it had before.
                    if std::mem::take(&mut seen.has_left) {
                        come_back(&mut self.farewells, seen.peer.valor);
                    }
                    if !has_paused {
                        seen.silence = now.duration_since(seen.heard).max(seen.silence * 7 / 8);
                    }
                    // The valor of a node may change to 0 and back, while it only votes.
                    (seen.peer, seen.heard) = (peer.clone(), now);
                }
                None => {
                    come_back(&mut self.farewells, peer.valor);
                    let (peer, silence) = (peer.clone(), Duration::ZERO);
                    self.peers.push(Seen { peer, heard: now, silence, has_left: false });
                }
            }
        }
        if let Some(longest) = self.peers.iter().map(|seen| seen.silence).max() {
            self.longest_silence = longest;
        }
        self.most = self.most.max(self.nodes());
        self.had_all |= !self.peers.is_empty() && self.size.is_none_or(|size| self.nodes() >= size);
    }

    /// A node was heard that is not in sight.
    pub fn distrust(&mut self, now: Instant) {
        self.paused = Some(now);
    }

    /// Whether another node in sight can be Lord.
    pub fn has_another_candidate(&self) -> bool {
        self.peers.iter().any(|seen| seen.peer.valor > 0 && !seen.has_left)
    }

    /// How many nodes are in sight, this one among them.
    fn nodes(&self) -> usize {
        self.peers.len() + 1
    }

    /// For how long this process has listened.
    pub fn age(&self, now: Instant) -> Duration {
        now.duration_since(self.began)
    }

    /// Whether every other node is in sight, as far as it is known how many there are.
    pub fn sees_all(&self) -> bool {
        self.size.is_some_and(|size| self.nodes() >= size)
    }

    pub fn sees_majority(&self) -> bool {
        self.nodes() * 2 > self.voters()
    }

    /// How many nodes a majority is counted of: a node that has announced its death has no vote, but each node in sight has
    /// one. Where the ini does not say how many there are, the most that there ever were count.
    pub fn voters(&self) -> usize {
        self.size.unwrap_or(self.most).saturating_sub(self.farewells.len()).max(self.nodes())
    }

    /// For how long to listen before this node may act on its election: as long as any node is silent between two
    /// announcements.
    pub fn listening_time(&self, now: Instant) -> Option<Duration> {
        if self.size == Some(1) {
            return None;
        }
        let round = self.longest_silence.clamp(uwsgi::round(), uwsgi::tolerance().max(uwsgi::round())) + LATE;
        // Every healthy node is heard within the tolerance.
        let began = (!self.had_all).then(|| self.began + uwsgi::tolerance());
        let lost = self.lost.filter(|_| self.peers.is_empty()).map(|lost| lost + round);
        let paused = self.paused.map(|paused| paused + round);
        let left = began.max(lost).max(paused)?.saturating_duration_since(now);
        (!left.is_zero()).then_some(left)
    }
}

/// Whether a node has not been heard later with another valor: one whose valor changes is in sight with both for a moment.
fn is_latest(peers: &[Peer], peer: &Peer) -> bool {
    peers.iter().all(|other| other.uuid != peer.uuid || other.last_seen <= peer.last_seen)
}

/// A node that is back with another valor takes the place of any that has left.
fn come_back(farewells: &mut Vec<u64>, valor: u64) {
    if !farewells.is_empty() {
        let same = farewells.iter().position(|left| *left == valor);
        farewells.remove(same.unwrap_or(0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn view(peers: &[(u8, i64)]) -> View {
        let peer = |&(number, last_seen): &(u8, i64)| Peer {
            uuid: [number; 36],
            valor: number.into(),
            votes_for_us: true,
            votes_for: 0,
            checksum: 0,
            last_seen,
        };
        View {
            lord_since: 0,
            dead: false,
            suspended_until: 0,
            is_outranked: false,
            vote: (0, [0; 36], 0),
            peers: peers.iter().map(peer).collect(),
        }
    }

    /// Without a uWSGI: a round is 3 s, the tolerance 15 s.
    fn sight() -> (Sight, Instant) {
        let sight = Sight::new(Some(2));
        let now = sight.began;
        (sight, now)
    }

    #[test]
    fn who_vanishes_before_its_time_has_said_farewell() {
        let (mut sight, now) = sight();
        sight.observe(&view(&[(1, 100), (2, 100)]), now, 100, false);
        sight.observe(&view(&[(2, 100)]), now, 103, false);
        assert_eq!(sight.farewells.len(), 1);
        sight.observe(&view(&[]), now, 116, false);
        assert_eq!(sight.farewells.len(), 1, "2 was silent for too long");
        sight.observe(&view(&[(1, 117)]), now, 117, false);
        assert_eq!(sight.farewells.len(), 0, "it is back");
        sight.observe(&view(&[(1, 0)]), now, 118, false);
        assert_eq!(sight.farewells.len(), 1, "a hook has heard it leave");
        sight.observe(&view(&[]), now, 119, false);
        assert_eq!((sight.farewells.len(), sight.lost.is_some()), (1, true), "once");
        sight.observe(&view(&[(7, 120)]), now, 120, false);
        assert_eq!(sight.farewells.len(), 0, "it is back with another valor");
    }

    #[test]
    fn who_changes_its_valor_has_not_left() {
        let (mut sight, now) = sight();
        let mut at = |unix_time, seen: &[(u64, i64)]| {
            let mut view = view(&vec![(1, 0); seen.len()]);
            for (peer, (valor, last_seen)) in view.peers.iter_mut().zip(seen) {
                (peer.valor, peer.last_seen) = (*valor, *last_seen);
            }
            sight.observe(&view, now, unix_time, false);
            (sight.farewells.len(), sight.has_another_candidate())
        };
        assert_eq!(at(100, &[(1, 100)]), (0, true));
        assert_eq!(at(101, &[(1, 100), (7, 0)]), (0, true), "uWSGI has not set the time yet");
        assert_eq!(at(101, &[(1, 100), (7, 101)]), (0, true));
        assert_eq!(at(102, &[(7, 101)]), (0, true));
        assert_eq!(at(103, &[(7, 0)]), (1, false), "a hook has heard that it is no 7 any more");
        assert_eq!(at(104, &[(7, 0)]), (1, false), "once");
        assert_eq!(at(105, &[(7, 0), (1, 105)]), (0, true), "but it is 1 again");
        assert_eq!(at(106, &[(1, 106)]), (0, true));
    }

    #[test]
    fn after_a_pause_it_listens_as_long_as_any_node_is_silent() {
        let (mut sight, now) = sight();
        let after = |seconds| now + SECOND * seconds;
        let seen = view(&[(1, 108)]);
        for second in 0..8 {
            sight.observe(&view(&[(1, 100)]), after(second), 100 + i64::from(second), false);
        }
        sight.observe(&seen, after(8), 108, false);
        assert_eq!(sight.listening_time(after(8)), None);
        sight.observe(&seen, after(9), 109, true);
        assert_eq!(sight.listening_time(after(9)), Some(8 * SECOND + LATE));
        for second in 10..=19 {
            sight.observe(&seen, after(second), 100 + i64::from(second), false);
        }
        assert_eq!(sight.listening_time(after(19)), None);
        sight.observe(&seen, after(30), 130, false);
        assert_eq!(sight.listening_time(after(30)), Some(8 * SECOND + LATE), "the keeper was paused, too");
    }

    #[test]
    fn where_the_last_one_fell_silent_it_listens_for_a_round() {
        let (mut sight, now) = sight();
        sight.observe(&view(&[(1, 100)]), now, 100, false);
        sight.observe(&view(&[]), now, 116, false);
        assert_eq!(sight.listening_time(now), Some(3 * SECOND + LATE));
        sight.observe(&view(&[]), now + SECOND, 117, false);
        assert_eq!(sight.listening_time(now + SECOND), Some(2 * SECOND + LATE));
        assert_eq!(sight.listening_time(now + 5 * SECOND), None);
    }

    #[test]
    fn where_the_last_one_has_said_farewell_it_acts_at_once() {
        let (mut sight, now) = sight();
        sight.observe(&view(&[(1, 100)]), now, 100, false);
        sight.observe(&view(&[]), now, 102, false);
        assert_eq!(sight.listening_time(now), None);
    }

    #[test]
    fn who_has_just_started_listens_until_all_would_have_been_heard() {
        for (size, all) in [(Some(3), false), (Some(2), true), (None, true)] {
            let mut sight = Sight::new(size);
            let now = sight.began;
            assert_eq!(sight.listening_time(now), Some(15 * SECOND));
            assert_eq!(sight.listening_time(now + 15 * SECOND), None);
            sight.observe(&view(&[(1, 100)]), now, 100, false);
            assert_eq!(sight.listening_time(now).is_none(), all, "one of {size:?} is there");
            sight.observe(&view(&[(1, 100), (2, 100)]), now, 100, false);
            assert_eq!(sight.listening_time(now), None, "all are there");
            sight.observe(&view(&[(1, 101)]), now, 101, false);
            assert_eq!(sight.listening_time(now), None, "and then one has left");
        }
        assert_eq!(Sight::new(Some(1)).listening_time(Instant::now()), None, "there is nobody");
    }

    #[test]
    fn a_clock_that_runs_is_no_pause() {
        let mut clock = Clock::start();
        assert!(!clock.tick(SECOND));
        clock.wall -= Duration::from_secs(60);
        assert!(clock.tick(SECOND), "the wall clock was set");
        clock.monotonic -= Duration::from_secs(60);
        clock.wall -= Duration::from_secs(60);
        assert!(clock.tick(SECOND), "the process did not run");
        assert!(!clock.tick(SECOND));
    }
}
