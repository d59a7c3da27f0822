//! What to do after a request for a switch that was no clear success, and a check of the route: a table in code.

use crate::hosters::Kind;

/// The most switches to ask for in one takeover, not counting requests that a lock has refused.
pub const MOST_SWITCHES: u32 = 3;
/// The most requests, because a lock whose end cannot be seen is tried three times.
pub const MOST_WITH_LOCKS: u32 = 2 * MOST_SWITCHES;
/// Pauses, fifteen seconds in all, before the last request to a hoster that gives no clear answer.
pub const SOME_PAUSES: usize = 4;

/// Where a takeover stands.
#[derive(Clone, Copy, Default, Debug)]
pub struct State {
    /// How the last request for a switch has failed.
    pub failure: Option<Kind>,
    /// Requests that the hoster may have got; and how many of them a lock has refused.
    pub requests: u32,
    pub locks: u32,
    /// Pauses made so far.
    pub pauses: usize,
    /// Whether another request would be refused, or held back.
    pub is_barred: bool,
    /// Whether it is too late for another request.
    pub is_late: bool,
    /// Whether a switch that this takeover asked for may still complete.
    pub in_doubt: bool,
    pub lock: LockAge,
}

/// How old the lock is that has refused requests.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub enum LockAge {
    #[default]
    Young,
    /// Old enough to try whether it has ended unseen.
    MayHaveEnded,
    /// It must have ended by now, because no switch takes that long.
    MustHaveEnded,
    /// It has refused a request although it must have ended.
    Overdue,
}

/// What a check has found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Seen {
    /// Where the IP is, and whether it has moved since the last request for a switch.
    Place { is_here: bool, has_moved: bool },
    /// Nothing, because the check failed like this.
    Nothing(Kind),
}

/// What to do next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// The IP is here: the takeover is done.
    Here,
    /// Ask for the switch again.
    Request,
    /// Check the route again.
    Check,
    GiveUp,
}

pub fn decide(state: &State, seen: Seen) -> Step {
    let is_over = state.is_spent() && !state.in_doubt;
    match seen {
        Seen::Place { is_here: true, .. } if !state.may_leave(seen) || is_over => return Step::Here,
        Seen::Nothing(Kind::Final) => return Step::GiveUp,
        _ => {}
    }
    // Hosters limit checks apart from switches, so a switch may be accepted where checks no longer are.
    let is_known = match seen {
        Seen::Place { .. } => true,
        Seen::Nothing(kind) => matches!(kind, Kind::HeldBack | Kind::Refused) && state.pauses >= SOME_PAUSES,
    };
    if is_known && !state.is_spent() && !state.is_late && state.wants_another(seen) {
        Step::Request
    } else if is_over {
        // More checks would only hold up this node's Legions. The guard, or the next node, finds what moves the IP later.
        Step::GiveUp
    } else {
        Step::Check
    }
}

impl State {
    /// Whether no other request may follow.
    fn is_spent(&self) -> bool {
        self.is_barred
            || self.requests - self.locks >= MOST_SWITCHES
            || self.requests >= MOST_WITH_LOCKS
            || self.failure == Some(Kind::Locked) && self.lock == LockAge::Overdue
    }

    /// Whether the switch that holds the lock may move the IP away: the IP is here, and was here before.
    pub fn may_leave(&self, seen: Seen) -> bool {
        self.failure == Some(Kind::Locked) && seen == Seen::Place { is_here: true, has_moved: false }
    }

    /// Whether to send another request after a check that did not find the IP here to stay.
    fn wants_another(&self, seen: Seen) -> bool {
        match self.failure {
            // When the IP has moved, the switch that held the lock is done: the IP has left, or has just come here, which
            // the next request will confirm. If that switch fails, only another request can tell.
            Some(Kind::Locked) => {
                let has_moved = matches!(seen, Seen::Place { has_moved: true, .. });
                has_moved
                    || self.may_leave(seen) && self.requests == 1
                    || match self.lock {
                        LockAge::Young => false,
                        LockAge::MayHaveEnded => self.locks == 1,
                        LockAge::MustHaveEnded | LockAge::Overdue => true,
                    }
            }
            // A hoster that gives no clear answer now may do so later: the last request is kept until then.
            Some(Kind::Unknown) => {
                self.requests - self.locks + 1 < MOST_SWITCHES || self.pauses >= SOME_PAUSES
            }
            _ => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::LockAge::{MayHaveEnded, MustHaveEnded, Overdue};
    use super::Step::{Check, GiveUp, Here, Request};
    use super::*;

    const HERE: Seen = Seen::Place { is_here: true, has_moved: true };
    /// It was here before the request, too.
    const STILL_HERE: Seen = Seen::Place { is_here: true, has_moved: false };
    const ELSEWHERE: Seen = Seen::Place { is_here: false, has_moved: false };
    const MOVED_ELSEWHERE: Seen = Seen::Place { is_here: false, has_moved: true };
    const UNKNOWN: Seen = Seen::Nothing(Kind::Unknown);
    const NO_CHECKS: Seen = Seen::Nothing(Kind::HeldBack);

    const NOTHING_YET: State = State {
        failure: None,
        requests: 0,
        locks: 0,
        pauses: 0,
        is_barred: false,
        is_late: false,
        in_doubt: false,
        lock: LockAge::Young,
    };

    /// After a first request.
    const fn first(failure: Kind) -> State {
        State { failure: Some(failure), requests: 1, pauses: 1, ..NOTHING_YET }
    }

    const NOT_DONE: State = first(Kind::NotDone);
    /// The switch may still be made.
    const DOUBT: State = State { in_doubt: true, ..first(Kind::Unknown) };
    const IN_DOUBT_TWICE: State = State { requests: 2, ..DOUBT };
    const SPENT: State = State { requests: 3, ..NOT_DONE };
    const SPENT_IN_DOUBT: State = State { requests: 3, ..DOUBT };
    const LOCKED: State = State { locks: 1, ..first(Kind::Locked) };
    const LOCKED_TWICE: State = State { requests: 2, locks: 2, ..LOCKED };

    #[test]
    fn each_end_of_a_request_and_each_check_has_its_next_step() {
        const SEEN: [Seen; 6] = [HERE, STILL_HERE, ELSEWHERE, MOVED_ELSEWHERE, UNKNOWN, NO_CHECKS];
        let late = State { is_late: true, ..NOT_DONE };
        let later = |state| State { pauses: SOME_PAUSES, ..state };
        let barred = State { is_barred: true, ..DOUBT };
        let lock = |lock, state| State { lock, ..state };
        let six = State { requests: 6, locks: 5, ..LOCKED };
        for (name, state, steps) in [
            // The check finds:        here still elsewhere moved nothing no checks
            ("it was not done", NOT_DONE, [Here, Here, Request, Request, Check, Check]),
            ("and it is late", late, [Here, Here, Check, Check, Check, Check]),
            ("no check for long", later(NOT_DONE), [Here, Here, Request, Request, Check, Request]),
            ("in doubt", DOUBT, [Here, Here, Request, Request, Check, Check]),
            ("in doubt twice", IN_DOUBT_TWICE, [Here, Here, Check, Check, Check, Check]),
            ("in doubt twice, later", later(IN_DOUBT_TWICE), [Here, Here, Request, Request, Check, Request]),
            ("three brought nothing", SPENT, [Here, Here, GiveUp, GiveUp, GiveUp, GiveUp]),
            ("three, in doubt", SPENT_IN_DOUBT, [Here, Here, Check, Check, Check, Check]),
            ("another would be refused", barred, [Here, Here, Check, Check, Check, Check]),
            ("locked", LOCKED, [Here, Request, Check, Request, Check, Check]),
            (
                "locked for a while",
                lock(MayHaveEnded, LOCKED),
                [Here, Request, Request, Request, Check, Check],
            ),
            ("locked twice", LOCKED_TWICE, [Here, Check, Check, Request, Check, Check]),
            (
                "twice, for a while",
                lock(MayHaveEnded, LOCKED_TWICE),
                [Here, Check, Check, Request, Check, Check],
            ),
            ("too long", lock(MustHaveEnded, LOCKED_TWICE), [Here, Request, Request, Request, Check, Check]),
            ("endless", lock(Overdue, LOCKED_TWICE), [Here, Here, GiveUp, GiveUp, GiveUp, GiveUp]),
            ("six, by locks", six, [Here, Here, GiveUp, GiveUp, GiveUp, GiveUp]),
        ] {
            assert_eq!(SEEN.map(|seen| decide(&state, seen)), steps, "{name}");
        }
    }

    #[test]
    fn what_no_check_can_change_ends_it() {
        for state in [NOT_DONE, DOUBT, SPENT_IN_DOUBT, LOCKED] {
            assert_eq!(decide(&state, Seen::Nothing(Kind::Final)), GiveUp, "{state:?}");
        }
    }
}
