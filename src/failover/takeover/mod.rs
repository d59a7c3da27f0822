//! One takeover: asks the hoster to switch the route until the IP is known to be here, or known not to come.
//!
//! A request without a clear answer may have moved the IP, or may still do so, and only a check of the route can tell. So
//! every further request comes after a check, and while a switch that this takeover asked for may still complete, it goes
//! on checking, whatever else went wrong.

mod decide;

use std::time::Duration;

use crate::config::Pace;
use crate::hosters::{Failure, Kind, Need, Place, Session};
use decide::{LockAge, Seen, State, Step, decide};

/// The pauses before the checks that follow a doubtful answer, in seconds; the last one repeats.
const PAUSES: [u64; 5] = [1, 2, 4, 8, 15];
/// The longest of them while nothing could be sent and another node waits to try.
const UNSENT_PAUSE: Duration = Duration::from_secs(5);
/// The time that a check needs; and the time for a check that a request leaves.
const CHECK: Duration = Duration::from_secs(2);
const PAUSE_AND_CHECK: Duration = Duration::from_secs(4);
/// The hoster is not asked more often than this.
const PAUSE_AT_LEAST: Duration = Duration::from_secs(1);
/// With less time left than this, a switch could only be given up.
const LATEST_REQUEST: Duration = Duration::from_secs(10);

/// Where a takeover runs: the hoster, the log, the time, and whether it may go on.
pub trait Setting {
    /// Gets what is needed to ask the hoster. What is missing now may be there a moment later.
    fn open(&self) -> Result<Box<dyn Session + '_>, Failure>;
    fn log(&self, line: &str);
    /// Time since the takeover began.
    fn elapsed(&self) -> Duration;
    fn sleep(&self, time: Duration);
    /// Asked before each step, because a node that is no longer Lord, or is ending, must not move the IP.
    fn goes_on(&self) -> bool;
    /// When a takeover that could send nothing fails, to let another node try; `None` if there is no such node now.
    fn hand_over_after(&self) -> Option<Duration>;
}

/// What is to be done.
pub struct Order<'a> {
    /// As it is written in the log.
    pub ip: &'a str,
    pub pace: &'a Pace,
    /// For the whole takeover.
    pub deadline: Duration,
    /// What the first request is for.
    pub need: Need,
}

/// How a takeover ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The failover IP is routed to the target.
    Here,
    /// It is not, or that is unknown: a line for the log.
    Failed(String),
    /// The takeover was no longer wanted.
    Dropped,
}

/// Whether the failover IP is here already, for a node that was Lord before a reload: by one check within `limit`. If that
/// tells nothing, an IP that `was_here` still is: nobody else has been elected.
pub fn is_here_still(
    ip: &str,
    setting: &dyn Setting,
    limit: Duration,
    was_here: bool,
) -> (bool, Result<Place, Failure>) {
    let found = setting.open().and_then(|session| session.whereabouts(Need::Takeover, limit));
    let (is_here, line) = match &found {
        Ok(place) if place.is_here() => (true, format!("is still {place}: no switch is needed")),
        Ok(place) => (false, format!("is {place}, though this node was Lord before the reload")),
        Err(Failure { sentence, .. }) if was_here => (
            true,
            format!("was here before the reload, and is taken to be here until a check succeeds: {sentence}"),
        ),
        Err(Failure { sentence, .. }) => (false, format!("may be anywhere: {sentence}")),
    };
    setting.log(&format!("{ip} {line}"));
    (is_here, found)
}

/// Has the failover IP routed to its target. Logs every step, but not that it has failed.
pub fn take_over(order: &Order, setting: &dyn Setting) -> Verdict {
    let mut takeover = Takeover {
        order,
        setting,
        session: None,
        state: State::default(),
        sent: false,
        locked_since: None,
        locked_for: Duration::ZERO,
        asked_at: Duration::ZERO,
        made_by: Duration::ZERO,
        place: None,
    };
    let ended = takeover.run();
    let (ip, seconds) = (order.ip, takeover.seconds());
    let target = takeover.session.map_or("here".into(), |session| format!("to {}", session.target()));
    match ended {
        Ok(answer) => {
            setting.log(&format!("{ip} is routed {target} ({answer}, after {seconds})"));
            Verdict::Here
        }
        Err(Verdict::Failed(sentence)) => {
            Verdict::Failed(format!("FAILED to route {ip} {target}: {sentence} (after {seconds})"))
        }
        Err(verdict) => verdict,
    }
}

struct Takeover<'a> {
    order: &'a Order<'a>,
    setting: &'a dyn Setting,
    session: Option<Box<dyn Session + 'a>>,
    state: State,
    /// Whether the hoster may have got anything so far.
    sent: bool,
    /// When a lock refused the first request, and how long after that the last.
    locked_since: Option<Duration>,
    locked_for: Duration,
    /// When the last request for a switch began.
    asked_at: Duration,
    /// When a switch that an unclear request may have begun is made, if it is made at all.
    made_by: Duration,
    /// Where the last check found the IP.
    place: Option<Place>,
}

impl Takeover<'_> {
    /// Asks for the switch until the IP is here; returns what the hoster has said, or how else the takeover ends.
    fn run(&mut self) -> Result<String, Verdict> {
        loop {
            let began = self.setting.elapsed();
            let failure = match self.request()? {
                Ok(answer) => return Ok(answer),
                Err(failure) => failure,
            };
            self.note(&failure);
            match failure.kind {
                Kind::NotSent if !self.in_doubt() => {
                    self.hand_over(&failure.sentence, began)?;
                    self.pause(&failure.sentence, "trying again")?;
                    if self.is_late() {
                        return Err(self.too_late(&failure.sentence));
                    }
                }
                Kind::Final | Kind::HeldBack | Kind::Refused if !self.in_doubt() => {
                    return Err(Verdict::Failed(failure.sentence));
                }
                _ => {
                    if self.is_here_before_another_request(&failure)? {
                        return Ok("confirmed by a check of the route".into());
                    }
                }
            }
        }
    }

    /// Asks for the switch; the outer error ends the takeover.
    fn request(&mut self) -> Result<Result<String, Failure>, Verdict> {
        let session = match self.session.take().map_or_else(|| self.setting.open(), Ok) {
            Ok(session) => session,
            Err(failure) => return Ok(Err(failure)),
        };
        // After opening, which may take seconds.
        let left = self.time_left();
        let session = self.session.insert(session);
        let left = left?;
        self.asked_at = self.setting.elapsed();
        let (need, share) =
            if self.state.requests == 0 { (self.order.need, 10) } else { (Need::Takeover, 2) };
        let begin = || {
            let (ip, target) = (self.order.ip, session.target());
            self.setting.log(&format!("routing {ip} to {target} ({})", session.describe()));
        };
        let goes_on = || self.setting.goes_on();
        Ok(session.bring_here(need, left - PAUSE_AND_CHECK.min(left / share), &begin, &goes_on))
    }

    /// Takes in how a request failed.
    fn note(&mut self, failure: &Failure) {
        let now = self.setting.elapsed();
        self.sent |= failure.was_sent();
        self.state.failure = Some(failure.kind);
        match failure.kind {
            Kind::NotSent => return,
            Kind::Final | Kind::HeldBack | Kind::Refused => return self.state.is_barred = true,
            Kind::NotDone => {}
            Kind::Unknown => {
                let Pace { longest_way, longest_switch, .. } = *self.order.pace;
                let made_by = now.min(self.asked_at.saturating_add(longest_way)) + longest_switch;
                self.made_by = self.made_by.max(made_by);
            }
            Kind::Locked => {
                self.state.locks += 1;
                self.locked_for = now - *self.locked_since.get_or_insert(now);
            }
        }
        self.state.requests += 1;
    }

    /// Whether a switch that this takeover asked for may still complete.
    fn in_doubt(&self) -> bool {
        self.setting.elapsed() < self.made_by
    }

    /// Checks the route after a request that has `failed`: true when the IP is here, false when it is time for another
    /// request.
    fn is_here_before_another_request(&mut self, failed: &Failure) -> Result<bool, Verdict> {
        let mut doubt = failed.sentence.clone();
        let mut before = self.place.clone();
        loop {
            self.pause(&doubt, "checking the route again")?;
            // Asked before the check, which may miss a switch that completes after it.
            let in_doubt = self.in_doubt();
            let left = self.time_left()?;
            let Some(session) = &self.session else { return Ok(false) };
            let found = session.whereabouts(Need::Takeover, left);
            let seen = match &found {
                Ok(place) => {
                    self.place = Some(place.clone());
                    let has_moved = before.get_or_insert_with(|| place.clone()) != place;
                    Seen::Place { is_here: place.is_here(), has_moved }
                }
                Err(failure) => Seen::Nothing(failure.kind),
            };
            (self.state.in_doubt, self.state.is_late, self.state.lock) =
                (in_doubt, self.is_late(), self.lock_age());
            match decide(&self.state, seen) {
                Step::Here => return Ok(true),
                Step::Request => return Ok(false),
                Step::Check => {
                    doubt = match found {
                        Ok(place) if self.state.may_leave(seen) => {
                            format!("it is {place}, but the switch under way may move it away")
                        }
                        Ok(place) => format!("it is {}", place.and_not_here()),
                        Err(failure) => failure.sentence,
                    }
                }
                Step::GiveUp => {
                    let (sentence, times) = (&failed.sentence, self.state.requests);
                    return Err(Verdict::Failed(match found {
                        Ok(place) if times == 1 => format!("{sentence}; it is {place}, after 1 attempt"),
                        Ok(place) => format!("{sentence}; it is {place}, after {times} attempts"),
                        Err(failure) if failure.kind == Kind::Final => failure.sentence,
                        Err(failure) => format!("{sentence}; the route is unknown: {}", failure.sentence),
                    }));
                }
            }
        }
    }

    fn lock_age(&self) -> LockAge {
        let longest = self.order.pace.longest_switch;
        let locked = self.locked_since.map_or(Duration::ZERO, |since| self.setting.elapsed() - since);
        match () {
            () if self.locked_for >= longest => LockAge::Overdue,
            () if locked >= longest => LockAge::MustHaveEnded,
            () if locked >= self.order.pace.lock_tried_after => LockAge::MayHaveEnded,
            () => LockAge::Young,
        }
    }

    fn left(&self) -> Duration {
        self.order.deadline.saturating_sub(self.setting.elapsed())
    }

    /// Whether it is too late for another request.
    fn is_late(&self) -> bool {
        self.left() < LATEST_REQUEST.min(self.order.deadline / 4)
    }

    /// Fails if nothing could be sent so far, and another try as long as the one since `began` would end too late for
    /// the next node.
    fn hand_over(&self, why: &str, began: Duration) -> Result<(), Verdict> {
        let Some(after) = self.hand_over_after() else { return Ok(()) };
        let now = self.setting.elapsed();
        if now + self.next_pause() + now.saturating_sub(began) < after {
            return Ok(());
        }
        Err(Verdict::Failed(format!(
            "{why}; nothing could be sent from here: giving up so that the next node can try"
        )))
    }

    fn hand_over_after(&self) -> Option<Duration> {
        self.setting.hand_over_after().filter(|_| !self.sent)
    }

    fn next_pause(&self) -> Duration {
        let pause = Duration::from_secs(PAUSES[self.state.pauses.min(PAUSES.len() - 1)]);
        if self.hand_over_after().is_some() { pause.min(UNSENT_PAUSE) } else { pause }
    }

    /// Logs why it waits and for what, and waits; ends the takeover when its time is over, or it is no longer wanted.
    fn pause(&mut self, why: &str, next: &str) -> Result<(), Verdict> {
        let left = self.left();
        let mut pause = self.next_pause();
        self.state.pauses += 1;
        if self.in_doubt() {
            // The check that decides comes as soon as possible, and there is one last check before the deadline.
            let decided =
                Duration::from_secs(self.made_by.saturating_sub(self.setting.elapsed()).as_secs() + 1);
            pause = pause.min(decided).min(left.saturating_sub(CHECK)).max(PAUSE_AT_LEAST);
        }
        if pause >= left {
            return Err(self.too_late(why));
        }
        let seconds = pause.as_secs_f64();
        self.setting.log(&format!("not yet: {why} (after {}); {next} in {seconds:.0} s", self.seconds()));
        self.setting.sleep(pause);
        if self.setting.goes_on() { Ok(()) } else { Err(Verdict::Dropped) }
    }

    /// What is left until the deadline; ends the takeover when that is nothing, or it is no longer wanted.
    fn time_left(&self) -> Result<Duration, Verdict> {
        if !self.setting.goes_on() {
            return Err(Verdict::Dropped);
        }
        let left = self.left();
        if left.is_zero() { Err(self.too_late("no time is left")) } else { Ok(left) }
    }

    fn too_late(&self, why: &str) -> Verdict {
        let known = match &self.place {
            Some(place) => format!("it was last seen {place}"),
            None => "the route is unknown".into(),
        };
        let deadline = self.order.deadline.as_secs_f64();
        Verdict::Failed(format!("{why}; {known}, and the deadline of {deadline} s is near"))
    }

    fn seconds(&self) -> String {
        format!("{:.1} s", self.setting.elapsed().as_secs_f64())
    }
}

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
