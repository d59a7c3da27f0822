//! When a suspended node comes back.
//!
//! With `legion-death-on-lord-error = N` uWSGI suspends a node whose lord hook has failed, whichever hook that was, and never
//! makes it a member again. Back after N seconds, a node that fails each time would take the lordship from the others
//! each time: so it waits longer from one failure to the next, and where the API was the reason, until a look at the
//! route has succeeded. A node that only left the IP to another one is back at once.

use std::time::{Duration, Instant};

use crate::uwsgi;

/// How long a node stays away at least, from its second failure in a row on.
const PAUSES: [u64; 5] = [0, 30, 60, 120, 240];
/// A member for so long, it was well: the next failure is a first one.
const WELL: Duration = Duration::from_secs(300);
/// Between two looks, doubled from the first to the last. They wait for an API to come back, in which case every second
/// without a Lord counts.
const FIRST_LOOK: Duration = Duration::from_secs(5);
const LAST_LOOK: Duration = Duration::from_secs(30);
/// For one look, which has limits of its own.
const LONGEST_LOOK: Duration = Duration::from_secs(120);

/// How a lord hook of ours has ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ended {
    Here,
    /// A node that is to be Lord was heard.
    Outvoted,
    Failed,
}

/// What can be seen of this node.
#[derive(Clone, Copy, Default)]
pub struct Seen {
    /// Whether it is no candidate: dead, as uWSGI says, or an arbiter for now.
    pub is_away: bool,
    /// For how long uWSGI has suspended it.
    pub suspended: Duration,
    /// Whether a node that is to be Lord rather than this one is in sight.
    pub is_outranked: bool,
}

/// What to do now.
#[derive(PartialEq, Eq, Debug)]
pub enum Step {
    Nothing,
    /// No candidate for now, and why, where the log has not been told. Whether it may vote meanwhile.
    StayAway {
        votes: bool,
        why: Option<String>,
    },
    /// Ask whether a takeover could be made.
    Look,
    /// A member again, for this reason.
    Return(&'static str),
}

/// One Legion's memory of failures.
pub struct Comeback {
    /// How the last of our hooks has ended, if it is not known what came of that.
    ended: Option<Ended>,
    /// In a row.
    failures: usize,
    member_since: Option<Instant>,
    /// Whether a hook runs, which may fail yet.
    is_tried: bool,
    /// How often in a row it was seen dead and not suspended: uWSGI says the one a moment before the other.
    dead_for: u32,
    away: Option<Away>,
}

/// While this node is no member.
struct Away {
    /// For another one, that it has heard: it may be a member as soon as that one is in sight.
    has_made_room: bool,
    not_before: Instant,
    /// Whether a look has to succeed first.
    looks: bool,
    looking_since: Option<Instant>,
    pause: Duration,
    /// Whether the log knows that it is looked.
    is_told: bool,
    news: Option<String>,
}

impl Comeback {
    pub fn new() -> Comeback {
        Comeback { ended: None, failures: 0, member_since: None, is_tried: false, dead_for: 0, away: None }
    }

    /// A node that knows at its start that a takeover would fail.
    pub fn begin_away(&mut self, now: Instant) {
        let (has_made_room, looks, looking_since) = (false, true, None);
        let (is_told, news) = (false, None);
        self.away = Some(Away {
            has_made_room,
            not_before: now,
            looks,
            looking_since,
            pause: FIRST_LOOK,
            is_told,
            news,
        });
    }

    pub fn begin(&mut self) {
        self.is_tried = true;
    }

    pub fn note(&mut self, ended: Ended) {
        (self.ended, self.is_tried) = (Some(ended), false);
    }

    /// Called some times a second.
    pub fn observe(&mut self, seen: &Seen, now: Instant) -> Step {
        if !seen.is_away {
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
            if seen.suspended.is_zero() && self.dead_for < 3 {
                return Step::Nothing;
            }
            let away = self.leave(seen.suspended, now);
            self.away = Some(away);
        }
        let Some(away) = &mut self.away else { return Step::Nothing };
        if away.has_made_room && seen.is_outranked {
            return self.come_back("it has left the IP to another node");
        }
        let left = away.not_before.saturating_duration_since(now);
        if !left.is_zero() {
            return Step::StayAway { votes: !away.has_made_room, why: away.news.take() };
        }
        if !away.looks {
            return self.come_back("the suspension is over");
        }
        match away.looking_since {
            None => {
                away.looking_since = Some(now);
                Step::Look
            }
            // A look that never ends tells nothing, and a node that never comes back is worse than one that fails.
            Some(since) if now.duration_since(since) >= LONGEST_LOOK => {
                self.come_back("the suspension is over")
            }
            Some(_) => Step::StayAway { votes: !away.has_made_room, why: None },
        }
    }

    /// What is dead after this has failed anew, even if it was never seen alive in between.
    fn come_back(&mut self, why: &'static str) -> Step {
        self.away = None;
        self.dead_for = 0;
        Step::Return(why)
    }

    fn leave(&mut self, suspended: Duration, now: Instant) -> Away {
        let ended = self.ended.take();
        let (has_made_room, looks) = (ended == Some(Ended::Outvoted), ended == Some(Ended::Failed));
        let (looking_since, is_told) = (None, false);
        if has_made_room {
            let (not_before, news) = (now + suspended.min(uwsgi::tolerance()), None);
            return Away {
                has_made_room,
                not_before,
                looks,
                looking_since,
                pause: FIRST_LOOK,
                is_told,
                news,
            };
        }
        let pause = Duration::from_secs(PAUSES[self.failures.min(PAUSES.len() - 1)]);
        self.failures += 1;
        let news = (pause > suspended).then(|| {
            format!(
                "it has failed {} times in a row: for {} s it only votes, and is no candidate",
                self.failures,
                pause.as_secs()
            )
        });
        let not_before = now + pause.max(suspended);
        Away { has_made_room, not_before, looks, looking_since, pause: FIRST_LOOK, is_told, news }
    }

    /// A look has shown that a takeover could be made, or why not.
    pub fn looked(&mut self, unfit: Option<String>, now: Instant) {
        let Some(away) = &mut self.away else { return };
        away.looking_since = None;
        match unfit {
            None => away.looks = false,
            Some(why) => {
                away.not_before = now + away.pause;
                away.pause = (away.pause * 2).min(LAST_LOOK);
                if !away.is_told {
                    away.is_told = true;
                    away.news = Some(format!(
                        "a takeover would fail: {why}; until that has changed this node only votes, and is no candidate"
                    ));
                }
            }
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

    /// Away, and suspended for so long.
    fn dead(suspended: Duration) -> Seen {
        Seen { is_away: true, suspended, ..Seen::default() }
    }

    const MEMBER: Seen = Seen { is_away: false, suspended: Duration::ZERO, is_outranked: false };

    /// Fails at `now`; returns for how long the node is away, where no look is asked for.
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
        let (mut comeback, mut now) = (Comeback::new(), Instant::now());
        let away: Vec<u64> = (0..7).map(|_| fail(&mut comeback, &mut now)).collect();
        assert_eq!(away, [10, 30, 60, 120, 240, 240, 240]);
        now += WELL;
        assert_eq!(comeback.observe(&MEMBER, now), Step::Nothing);
        assert_eq!(fail(&mut comeback, &mut now), 10);
    }

    #[test]
    fn who_fails_again_before_anybody_looks_stays_away_too() {
        let (mut comeback, now) = (Comeback::new(), Instant::now());
        assert!(matches!(comeback.observe(&dead(N), now), Step::StayAway { .. }));
        assert!(matches!(comeback.observe(&dead(Duration::ZERO), now + N), Step::Return(_)));
        assert!(matches!(comeback.observe(&dead(N), now + N), Step::StayAway { why: Some(_), .. }));
    }

    #[test]
    fn who_left_the_ip_to_another_is_back_as_soon_as_that_one_is_in_sight() {
        let (mut comeback, now) = (Comeback::new(), Instant::now());
        comeback.note(Ended::Outvoted);
        assert!(matches!(comeback.observe(&dead(N), now), Step::StayAway { .. }));
        let outranked = Seen { is_outranked: true, ..dead(N) };
        assert_eq!(comeback.observe(&outranked, now), Step::Return("it has left the IP to another node"));
        comeback.observe(&MEMBER, now);
        // It counts for nothing, and for one time.
        let mut later = now;
        assert_eq!(fail(&mut comeback, &mut later), 10);
    }

    #[test]
    fn where_the_api_failed_a_look_decides() {
        let (mut comeback, now) = (Comeback::new(), Instant::now());
        comeback.note(Ended::Failed);
        assert!(matches!(comeback.observe(&dead(N), now), Step::StayAway { why: None, .. }));
        let now = now + N;
        assert_eq!(comeback.observe(&dead(Duration::ZERO), now), Step::Look);
        assert_eq!(comeback.observe(&dead(Duration::ZERO), now), Step::StayAway { votes: true, why: None });
        comeback.looked(Some("refused".into()), now);
        let Step::StayAway { why: Some(why), .. } = comeback.observe(&dead(Duration::ZERO), now) else {
            panic!("nothing is told");
        };
        assert!(why.contains("refused"), "{why}");
        assert_eq!(comeback.observe(&dead(Duration::ZERO), now + FIRST_LOOK), Step::Look);
        comeback.looked(None, now + FIRST_LOOK);
        assert_eq!(
            comeback.observe(&dead(Duration::ZERO), now + FIRST_LOOK),
            Step::Return("the suspension is over")
        );
    }

    #[test]
    fn a_look_that_never_ends_keeps_nobody_away() {
        let (mut comeback, now) = (Comeback::new(), Instant::now());
        comeback.note(Ended::Failed);
        assert!(matches!(comeback.observe(&dead(Duration::ZERO), now), Step::Nothing));
        assert!(matches!(comeback.observe(&dead(N), now), Step::StayAway { .. }));
        let now = now + N;
        assert_eq!(comeback.observe(&dead(Duration::ZERO), now), Step::Look);
        assert!(matches!(comeback.observe(&dead(N), now + LONGEST_LOOK / 2), Step::StayAway { .. }));
        assert!(matches!(comeback.observe(&dead(N), now + LONGEST_LOOK), Step::Return(_)));
    }

    #[test]
    fn a_death_that_is_just_being_said_is_no_suspension_yet() {
        let (mut comeback, now) = (Comeback::new(), Instant::now());
        assert_eq!(comeback.observe(&dead(Duration::ZERO), now), Step::Nothing);
        assert!(matches!(comeback.observe(&dead(N), now), Step::StayAway { .. }));
        let mut comeback = Comeback::new();
        assert_eq!(comeback.observe(&dead(Duration::ZERO), now), Step::Nothing);
        assert_eq!(comeback.observe(&dead(Duration::ZERO), now), Step::Nothing);
        assert!(matches!(comeback.observe(&dead(Duration::ZERO), now), Step::Return(_)));
    }
}
