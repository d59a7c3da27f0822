//! When a suspended node comes back.
//!
//! With `legion-death-on-lord-error = N` uWSGI suspends a node whose lord hook has failed, any hook, and never makes it a
//! member again. If it came back after N seconds, a node that always fails would take the lordship from the others again
//! and again. So it waits longer after each failure, and if the API was the reason, until a check of the route has
//! succeeded. A node that only left the IP to another node comes back at once.

use std::time::{Duration, Instant};

use crate::uwsgi;

/// How many seconds a node stays away at least after its first failure in a row, its second, and so on.
const PAUSES: [u64; 5] = [0, 30, 60, 120, 240];
/// After this long as a member a node counts as well: its next failure is a first one.
const WELL: Duration = Duration::from_secs(300);
/// Between two checks, doubled from the first to the last. They are frequent because there may be no Lord until the API is
/// back.
const FIRST_CHECK: Duration = Duration::from_secs(5);
const LAST_CHECK: Duration = Duration::from_secs(30);
/// For one check, which has limits of its own.
const LONGEST_CHECK: Duration = Duration::from_secs(120);

/// How a lord hook has ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ended {
    Here,
    /// It has heard a node with a higher valor.
    Outvoted,
    Failed,
}

/// This node's part in the Legion now.
#[derive(Clone, Copy, Default)]
pub struct Standing {
    /// Whether it cannot become Lord: uWSGI says that it is dead, or it only votes for now.
    pub is_away: bool,
    /// For how long uWSGI has suspended it.
    pub suspended: Duration,
    /// Whether a node with a higher valor is in sight.
    pub is_outranked: bool,
}

/// What to do now.
#[derive(PartialEq, Eq, Debug)]
pub enum Step {
    Nothing,
    /// Stay away; whether it may vote meanwhile, and what to log, if anything.
    StayAway {
        votes: bool,
        why: Option<String>,
    },
    /// Check whether a takeover could be made.
    Check,
    /// Become a member again, for this reason.
    Return(&'static str),
}

/// One Legion's memory of failures.
#[derive(Default)]
pub struct Comeback {
    /// How the last hook has ended, if that was not taken into account yet.
    ended: Option<Ended>,
    /// In a row.
    failures: usize,
    member_since: Option<Instant>,
    /// Whether a hook runs, which may still fail.
    is_tried: bool,
    /// How often in a row it was seen dead but not suspended: uWSGI sets the one a moment before the other.
    dead_for: u32,
    away: Option<Away>,
}

/// While this node is no member.
struct Away {
    /// Whether it left the IP to a node that it has heard: it comes back when uWSGI sees that node too.
    has_made_room: bool,
    not_before: Instant,
    /// Whether a check has to succeed first.
    checks: bool,
    checking_since: Option<Instant>,
    /// Until the check after the next failed one.
    pause: Duration,
    /// Whether the log says already that checks decide.
    is_told: bool,
    news: Option<String>,
}

impl Away {
    fn until(not_before: Instant, ended: Option<Ended>) -> Away {
        Away {
            has_made_room: ended == Some(Ended::Outvoted),
            not_before,
            checks: ended == Some(Ended::Failed),
            checking_since: None,
            pause: FIRST_CHECK,
            is_told: false,
            news: None,
        }
    }
}

impl Comeback {
    /// Whether a lord hook runs.
    pub fn is_tried(&self) -> bool {
        self.is_tried
    }

    /// For a node that knows at its start that a takeover would fail.
    pub fn begin_away(&mut self, now: Instant) {
        self.away = Some(Away::until(now, Some(Ended::Failed)));
    }

    pub fn begin(&mut self) {
        self.is_tried = true;
    }

    pub fn note(&mut self, ended: Ended) {
        (self.ended, self.is_tried) = (Some(ended), false);
    }

    /// Called several times a second.
    pub fn observe(&mut self, standing: &Standing, now: Instant) -> Step {
        if !standing.is_away {
            self.away = None;
            self.dead_for = 0;
            let since = *self.member_since.get_or_insert(now);
            if now.duration_since(since) >= WELL && !self.is_tried {
                self.failures = 0;
            }
            return Step::Nothing;
        }
        self.member_since = None;
        if self.away.is_none() {
            self.dead_for += 1;
            if standing.suspended.is_zero() && self.dead_for < 3 {
                return Step::Nothing;
            }
            let away = self.leave(standing.suspended, now);
            self.away = Some(away);
        }
        let Some(away) = &mut self.away else { return Step::Nothing };
        let votes = !away.has_made_room;
        if away.has_made_room && standing.is_outranked {
            return self.come_back("the IP was left to another node");
        }
        if away.not_before > now {
            return Step::StayAway { votes, why: away.news.take() };
        }
        // A check that never ends says nothing, and a node that never comes back is worse than one that fails.
        if !away.checks || away.checking_since.is_some_and(|since| now - since >= LONGEST_CHECK) {
            return self.come_back("the suspension is over");
        }
        if away.checking_since.is_some() {
            return Step::StayAway { votes, why: None };
        }
        away.checking_since = Some(now);
        Step::Check
    }

    /// A node that is dead after this has failed again, even if it was never seen alive in between.
    fn come_back(&mut self, why: &'static str) -> Step {
        self.away = None;
        self.dead_for = 0;
        Step::Return(why)
    }

    fn leave(&mut self, suspended: Duration, now: Instant) -> Away {
        let ended = self.ended.take();
        if ended == Some(Ended::Outvoted) {
            return Away::until(now + suspended.min(uwsgi::tolerance()), ended);
        }
        let pause = Duration::from_secs(PAUSES[self.failures.min(PAUSES.len() - 1)]);
        self.failures += 1;
        let mut away = Away::until(now + pause.max(suspended), ended);
        if pause > suspended {
            let (times, seconds) = (self.failures, pause.as_secs());
            away.news = Some(format!(
                "this node has failed {times} times in a row: for {seconds} s it only votes and cannot become Lord"
            ));
        }
        away
    }

    /// A check has shown that a takeover could be made, or why not.
    pub fn checked(&mut self, unfit: Option<String>, now: Instant) {
        let Some(away) = &mut self.away else { return };
        away.checking_since = None;
        let Some(why) = unfit else {
            away.checks = false;
            return;
        };
        away.not_before = now + away.pause;
        away.pause = (away.pause * 2).min(LAST_CHECK);
        if !std::mem::replace(&mut away.is_told, true) {
            away.news = Some(format!(
                "a takeover would fail: {why}; until that changes, this node only votes and cannot become Lord"
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const N: Duration = Duration::from_secs(10);

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// Away, and suspended for this long.
    fn dead(suspended: Duration) -> Standing {
        Standing { is_away: true, suspended, ..Standing::default() }
    }

    const MEMBER: Standing = Standing { is_away: false, suspended: Duration::ZERO, is_outranked: false };

    /// Fails at `now`; returns for how long the node is away, if no check is asked for.
    fn fail(comeback: &mut Comeback, now: &mut Instant) -> u64 {
        let failed = *now;
        assert!(matches!(comeback.observe(&dead(N), *now), Step::StayAway { .. }));
        loop {
            *now += seconds(1);
            match comeback.observe(&dead(Duration::ZERO), *now) {
                Step::Return(why) => {
                    assert_eq!(why, "the suspension is over");
                    assert_eq!(comeback.observe(&MEMBER, *now), Step::Nothing);
                    return now.duration_since(failed).as_secs();
                }
                Step::StayAway { .. } => {}
                step => panic!("{step:?}"),
            }
        }
    }

    #[test]
    fn a_node_that_fails_again_stays_away_longer_until_it_was_well() {
        let (mut comeback, mut now) = (Comeback::default(), Instant::now());
        let away: Vec<u64> = (0..7).map(|_| fail(&mut comeback, &mut now)).collect();
        assert_eq!(away, [10, 30, 60, 120, 240, 240, 240]);
        now += WELL;
        assert_eq!(comeback.observe(&MEMBER, now), Step::Nothing);
        assert_eq!(fail(&mut comeback, &mut now), 10);
    }

    #[test]
    fn who_fails_again_before_it_is_noticed_stays_away_too() {
        let (mut comeback, now) = (Comeback::default(), Instant::now());
        assert!(matches!(comeback.observe(&dead(N), now), Step::StayAway { .. }));
        assert!(matches!(comeback.observe(&dead(Duration::ZERO), now + N), Step::Return(_)));
        assert!(matches!(comeback.observe(&dead(N), now + N), Step::StayAway { why: Some(_), .. }));
    }

    #[test]
    fn who_left_the_ip_to_another_is_back_as_soon_as_that_one_is_in_sight() {
        let (mut comeback, now) = (Comeback::default(), Instant::now());
        comeback.note(Ended::Outvoted);
        assert!(matches!(comeback.observe(&dead(N), now), Step::StayAway { .. }));
        let outranked = Standing { is_outranked: true, ..dead(N) };
        assert_eq!(comeback.observe(&outranked, now), Step::Return("the IP was left to another node"));
        comeback.observe(&MEMBER, now);
        // That is no failure, and counts only once.
        let mut later = now;
        assert_eq!(fail(&mut comeback, &mut later), 10);
    }

    #[test]
    fn where_the_api_failed_a_check_decides() {
        let (mut comeback, now) = (Comeback::default(), Instant::now());
        comeback.note(Ended::Failed);
        assert!(matches!(comeback.observe(&dead(N), now), Step::StayAway { why: None, .. }));
        let now = now + N;
        assert_eq!(comeback.observe(&dead(Duration::ZERO), now), Step::Check);
        assert_eq!(comeback.observe(&dead(Duration::ZERO), now), Step::StayAway { votes: true, why: None });
        comeback.checked(Some("refused".into()), now);
        let Step::StayAway { why: Some(why), .. } = comeback.observe(&dead(Duration::ZERO), now) else {
            panic!("nothing is told");
        };
        assert!(why.contains("refused"), "{why}");
        assert_eq!(comeback.observe(&dead(Duration::ZERO), now + FIRST_CHECK), Step::Check);
        comeback.checked(None, now + FIRST_CHECK);
        assert_eq!(
            comeback.observe(&dead(Duration::ZERO), now + FIRST_CHECK),
            Step::Return("the suspension is over")
        );
    }

    #[test]
    fn a_check_that_never_ends_keeps_nobody_away() {
        let (mut comeback, now) = (Comeback::default(), Instant::now());
        comeback.note(Ended::Failed);
        assert!(matches!(comeback.observe(&dead(Duration::ZERO), now), Step::Nothing));
        assert!(matches!(comeback.observe(&dead(N), now), Step::StayAway { .. }));
        let now = now + N;
        assert_eq!(comeback.observe(&dead(Duration::ZERO), now), Step::Check);
        assert!(matches!(comeback.observe(&dead(N), now + LONGEST_CHECK / 2), Step::StayAway { .. }));
        assert!(matches!(comeback.observe(&dead(N), now + LONGEST_CHECK), Step::Return(_)));
    }

    #[test]
    fn a_death_that_is_just_being_said_is_no_suspension_yet() {
        let (mut comeback, now) = (Comeback::default(), Instant::now());
        assert_eq!(comeback.observe(&dead(Duration::ZERO), now), Step::Nothing);
        assert!(matches!(comeback.observe(&dead(N), now), Step::StayAway { .. }));
        let mut comeback = Comeback::default();
        assert_eq!(comeback.observe(&dead(Duration::ZERO), now), Step::Nothing);
        assert_eq!(comeback.observe(&dead(Duration::ZERO), now), Step::Nothing);
        assert!(matches!(comeback.observe(&dead(Duration::ZERO), now), Step::Return(_)));
    }
}
