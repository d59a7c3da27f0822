//! What to do after a request for a switch that was no clear success, and a look at where the IP is: a table in code.

use crate::hosters::Kind;

/// Switches that the hoster was asked for in one takeover; those that a lock has refused are not counted.
pub const MOST_SWITCHES: u32 = 3;
/// All of them: a lock whose end cannot be seen is tried three times.
pub const MOST_WITH_LOCKS: u32 = 2 * MOST_SWITCHES;
/// Pauses, fifteen seconds together, before the last request of a takeover that gets no sense from the hoster.
pub const SOME_PAUSES: usize = 4;

/// What became of the switches asked for so far.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    /// How the last one has failed.
    pub kind: Kind,
    /// How many were asked for, as far as the hoster can know of them; and those of them that a lock has refused.
    pub asked: u32,
    pub locks: u32,
    /// Pauses made so far.
    pub pauses: usize,
    /// Whether another request would be refused, or held back.
    pub is_barred: bool,
    /// Whether it is too late for another one.
    pub is_late: bool,
    /// Whether a switch of this takeover's own may yet be made.
    pub in_doubt: bool,
    pub lock: Lock,
}

/// How old the lock is that has refused the requests.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lock {
    Young,
    /// Old enough for a first try whether it has ended unseen.
    MayHaveEnded,
    /// A switch does not take that long: it must have ended by now.
    MustHaveEnded,
    /// It has refused a request although it must have ended.
    Overdue,
}

/// What a look has found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Seen {
    /// The IP, here or not; whether that has changed since the last request for a switch.
    Place { is_here: bool, has_moved: bool },
    /// Nothing.
    Nothing(Kind),
}

/// What to do next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// The IP is here: the takeover is done.
    Here,
    /// Ask for the switch again.
    Ask,
    /// Look again.
    Look,
    GiveUp,
}

pub fn decide(asked: &Asked, seen: Seen) -> Step {
    let is_over = asked.is_spent() && !asked.in_doubt;
    match seen {
        Seen::Place { is_here: true, .. } if !asked.may_leave(seen) || is_over => return Step::Here,
        Seen::Nothing(Kind::Final) => return Step::GiveUp,
        _ => {}
    }
    // Looks are counted apart from switches: one that may not be made keeps nobody from asking for a switch.
    let is_known = match seen {
        Seen::Place { .. } => true,
        Seen::Nothing(kind) => matches!(kind, Kind::HeldBack | Kind::Refused) && asked.pauses >= SOME_PAUSES,
    };
    if is_known && !asked.is_spent() && !asked.is_late && asked.wants_another(seen) {
        Step::Ask
    } else if is_over {
        // Looking on would only keep this node's Legions waiting; what moves the IP from now on is found by the guard, or
        // by the next node.
        Step::GiveUp
    } else {
        Step::Look
    }
}

impl Asked {
    /// Whether no other request is to follow.
    fn is_spent(&self) -> bool {
        self.is_barred
            || self.asked - self.locks >= MOST_SWITCHES
            || self.asked >= MOST_WITH_LOCKS
            || self.kind == Kind::Locked && self.lock == Lock::Overdue
    }

    /// A lock on an IP that is here, and was before, is of a switch that moves it away.
    pub fn may_leave(&self, seen: Seen) -> bool {
        self.kind == Kind::Locked && seen == Seen::Place { is_here: true, has_moved: false }
    }

    /// Whether another request is in order after looks that did not find the IP here to stay.
    fn wants_another(&self, seen: Seen) -> bool {
        match self.kind {
            // Where a lock ends, the switch that held it has moved the IP: away from here, or just now to here, and then
            // the next request will say so. If it has failed, nothing tells but another try.
            Kind::Locked => {
                let has_moved = matches!(seen, Seen::Place { has_moved: true, .. });
                let is_first = self.locks == 1;
                has_moved
                    || self.may_leave(seen) && self.asked == 1
                    || match self.lock {
                        Lock::Young => false,
                        Lock::MayHaveEnded => is_first,
                        Lock::MustHaveEnded | Lock::Overdue => true,
                    }
            }
            // What gives no sense now may do so later: the last one is kept until then.
            Kind::Unknown => self.asked - self.locks + 1 < MOST_SWITCHES || self.pauses >= SOME_PAUSES,
            _ => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Step::{Ask, GiveUp, Here, Look};
    use super::*;

    const HERE: Seen = Seen::Place { is_here: true, has_moved: true };
    /// It was here before the request, too.
    const STILL_HERE: Seen = Seen::Place { is_here: true, has_moved: false };
    const ELSEWHERE: Seen = Seen::Place { is_here: false, has_moved: false };
    const MOVED_ELSEWHERE: Seen = Seen::Place { is_here: false, has_moved: true };
    const UNKNOWN: Seen = Seen::Nothing(Kind::Unknown);
    const NO_LOOKS: Seen = Seen::Nothing(Kind::HeldBack);

    /// The first request has failed so.
    const fn first(kind: Kind) -> Asked {
        Asked {
            kind,
            asked: 1,
            locks: 0,
            pauses: 1,
            is_barred: false,
            is_late: false,
            in_doubt: false,
            lock: Lock::Young,
        }
    }

    const NOT_DONE: Asked = first(Kind::NotDone);
    /// It may yet be made.
    const DOUBT: Asked = Asked { in_doubt: true, ..first(Kind::Unknown) };
    const LAST_BUT_ONE_IN_DOUBT: Asked = Asked { asked: 2, ..DOUBT };
    const SPENT: Asked = Asked { asked: 3, ..NOT_DONE };
    const SPENT_IN_DOUBT: Asked = Asked { asked: 3, ..DOUBT };
    const LOCKED: Asked = Asked { locks: 1, ..first(Kind::Locked) };
    const LOCKED_TWICE: Asked = Asked { asked: 2, locks: 2, ..LOCKED };
    const LOCKED_TOO_LONG: Asked = Asked { lock: Lock::Overdue, ..LOCKED_TWICE };

    #[track_caller]
    fn check(name: &str, asked: Asked, expected: [(Seen, Step); 6]) {
        for (seen, step) in expected {
            assert_eq!(decide(&asked, seen), step, "{name}, {seen:?}");
        }
    }

    fn row(steps: [Step; 6]) -> [(Seen, Step); 6] {
        let mut steps = steps.into_iter();
        [HERE, STILL_HERE, ELSEWHERE, MOVED_ELSEWHERE, UNKNOWN, NO_LOOKS]
            .map(|seen| (seen, steps.next().expect("six of each")))
    }

    #[test]
    fn each_end_of_a_request_and_each_look_has_its_next_step() {
        for (name, asked, steps) in [
            // What the look finds:    here  still  elsewhere  moved  nothing  no looks
            ("it was not done", NOT_DONE, [Here, Here, Ask, Ask, Look, Look]),
            ("and it is late", Asked { is_late: true, ..NOT_DONE }, [Here, Here, Look, Look, Look, Look]),
            ("no look for long", Asked { pauses: 4, ..NOT_DONE }, [Here, Here, Ask, Ask, Look, Ask]),
            ("in doubt", DOUBT, [Here, Here, Ask, Ask, Look, Look]),
            ("in doubt twice", LAST_BUT_ONE_IN_DOUBT, [Here, Here, Look, Look, Look, Look]),
            (
                "in doubt twice, later",
                Asked { pauses: 4, ..LAST_BUT_ONE_IN_DOUBT },
                [Here, Here, Ask, Ask, Look, Ask],
            ),
            ("three brought nothing", SPENT, [Here, Here, GiveUp, GiveUp, GiveUp, GiveUp]),
            ("three, in doubt", SPENT_IN_DOUBT, [Here, Here, Look, Look, Look, Look]),
            (
                "another would be refused",
                Asked { is_barred: true, ..DOUBT },
                [Here, Here, Look, Look, Look, Look],
            ),
            ("locked", LOCKED, [Here, Ask, Look, Ask, Look, Look]),
            (
                "locked for a while",
                Asked { lock: Lock::MayHaveEnded, ..LOCKED },
                [Here, Ask, Ask, Ask, Look, Look],
            ),
            ("locked twice", LOCKED_TWICE, [Here, Look, Look, Ask, Look, Look]),
            (
                "locked twice, for a while",
                Asked { lock: Lock::MayHaveEnded, ..LOCKED_TWICE },
                [Here, Look, Look, Ask, Look, Look],
            ),
            (
                "locked for longer than a switch",
                Asked { lock: Lock::MustHaveEnded, ..LOCKED_TWICE },
                [Here, Ask, Ask, Ask, Look, Look],
            ),
            ("refused by an endless lock", LOCKED_TOO_LONG, [Here, Here, GiveUp, GiveUp, GiveUp, GiveUp]),
            (
                "six, by locks",
                Asked { asked: 6, locks: 5, ..LOCKED },
                [Here, Here, GiveUp, GiveUp, GiveUp, GiveUp],
            ),
        ] {
            check(name, asked, row(steps));
        }
    }

    #[test]
    fn what_no_look_can_change_ends_it() {
        for asked in [NOT_DONE, DOUBT, SPENT_IN_DOUBT, LOCKED] {
            assert_eq!(decide(&asked, Seen::Nothing(Kind::Final)), GiveUp, "{asked:?}");
        }
    }
}
