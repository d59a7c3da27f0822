//! One takeover: asks the hoster for the route until it is known to be here, or known that it will not be.
//!
//! A POST that got no clear answer may have moved the IP, or may yet do it: only a look can tell. So each step
//! but the first begins with one, and a takeover ends with knowledge: the IP is here, or it says what is known. While
//! a switch of its own may yet be made, it looks on, whatever else went wrong.

mod decide;

use std::time::Duration;

use crate::config::Pace;
use crate::hosters::{Failure, Kind, Need, Place, Session};
use decide::{Asked, Lock, Seen, Step, decide};

/// The pauses before the looks that follow a doubtful answer, in seconds; then the last one again and again.
const PAUSES: [u64; 5] = [1, 2, 4, 8, 15];
/// The longest of them where nothing could be sent yet, and another node waits for its turn.
const UNSENT_PAUSE: Duration = Duration::from_secs(5);
/// How long after the first lock it is tried whether it has ended unseen.
const LOCK_TRIED_AFTER: Duration = Duration::from_secs(15);
/// How long it may have taken until a request was sent that has timed out since.
const LONGEST_WAY: Duration = Duration::from_secs(5);
/// What a look needs, and what a request for a switch leaves for one.
const LOOK: Duration = Duration::from_secs(2);
const PAUSE_AND_LOOK: Duration = Duration::from_secs(4);
/// Nobody is asked more often.
const PAUSE_AT_LEAST: Duration = Duration::from_secs(1);
/// A switch that is asked for later than that could only be given up.
const LATEST_REQUEST: Duration = Duration::from_secs(10);

/// Where a takeover runs: time, log, and whether it may go on.
pub trait Setting {
    fn log(&self, line: &str);
    /// The takeover has failed: a line for the log that somebody should be woken for.
    fn alarm(&self, line: &str);
    /// Time since the takeover began.
    fn elapsed(&self) -> Duration;
    fn sleep(&self, time: Duration);
    /// Asked before each step: a node that is not Lord any more, or is ending, must not move the IP.
    fn goes_on(&self) -> bool;
    /// Whether another node is there that could try.
    fn has_company(&self) -> bool;
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
    /// Where the next node may fare better: the takeover fails by then if nothing could be sent until then, and that node
    /// is there.
    pub hand_over_after: Option<Duration>,
}

/// How a takeover ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The failover IP is routed to the target.
    Here,
    /// It is not, or that is unknown; the log says which. `sent` is whether the hoster ever got a request: if not, this
    /// node's own way to it, or its own setup, is what failed.
    Failed { sent: bool },
    /// It was no longer wanted.
    Dropped,
}

/// Gets what is needed to ask the hoster. What is missing now may be there in a moment.
pub type Open<'a> = dyn Fn() -> Result<Box<dyn Session + 'a>, Failure> + 'a;

/// Has the failover IP routed to its target. Every step is logged.
pub fn take_over<'a>(open: &'a Open<'a>, order: &'a Order<'a>, setting: &'a dyn Setting) -> Verdict {
    let mut takeover = Takeover {
        open,
        session: None,
        order,
        setting,
        sent: false,
        asked: 0,
        locks: 0,
        locked_since: None,
        locked_for: Duration::ZERO,
        made_by: Duration::ZERO,
        is_barred: false,
        pauses: 0,
        place: None,
    };
    let ended = takeover.run();
    let (ip, seconds) = (order.ip, takeover.seconds());
    let target =
        takeover.session.as_ref().map_or("here".into(), |session| format!("to {}", session.target()));
    match ended {
        Ok(answer) => {
            takeover.log(&format!("{ip} is routed {target} ({answer}, after {seconds})"));
            Verdict::Here
        }
        Err(End::Failed(sentence)) => {
            let line = format!("FAILED to route {ip} {target}: {sentence} (after {seconds})");
            setting.alarm(&line);
            Verdict::Failed { sent: takeover.sent }
        }
        Err(End::Dropped) => Verdict::Dropped,
    }
}

struct Takeover<'a> {
    open: &'a Open<'a>,
    session: Option<Box<dyn Session + 'a>>,
    order: &'a Order<'a>,
    setting: &'a dyn Setting,
    /// Whether the hoster has got anything so far.
    sent: bool,
    /// Switches asked for so far, as far as the hoster can know of them.
    asked: u32,
    /// Those of them that a lock has refused, when the first was, and how long after it the last.
    locks: u32,
    locked_since: Option<Duration>,
    locked_for: Duration,
    /// By when a switch that a request without a clear answer may have begun is made, or will not be.
    made_by: Duration,
    /// Whether another request would be refused, or held back.
    is_barred: bool,
    /// Made so far.
    pauses: usize,
    /// What the last look has found.
    place: Option<Place>,
}

enum End {
    Failed(String),
    Dropped,
}

impl Takeover<'_> {
    /// Asks for the switch until the IP is here; returns what the hoster has said.
    fn run(&mut self) -> Result<String, End> {
        loop {
            let began = self.setting.elapsed();
            let failure = match self.ask()? {
                Ok(answer) => return Ok(answer),
                Err(failure) => failure,
            };
            self.note(&failure, began);
            match failure.kind {
                Kind::NotSent if !self.in_doubt() => {
                    self.hand_over(&failure.sentence, began)?;
                    self.pause(&failure.sentence, "trying again")?;
                    if self.is_late() {
                        return Err(self.too_late(&failure.sentence));
                    }
                }
                Kind::Final | Kind::HeldBack | Kind::Refused if !self.in_doubt() => {
                    return Err(End::Failed(failure.sentence));
                }
                _ => {
                    if let Some(answer) = self.look_until_it_is_here_or_asked_again(&failure)? {
                        return Ok(answer);
                    }
                }
            }
        }
    }

    fn ask(&mut self) -> Result<Result<String, Failure>, End> {
        let left = self.time_left()?;
        let session = match self.session.take().map_or_else(self.open, Ok) {
            Ok(session) => &**self.session.insert(session),
            Err(failure) => return Ok(Err(failure)),
        };
        let (need, share) = if self.asked == 0 { (self.order.need, 10) } else { (Need::Takeover, 2) };
        let begin = || {
            let (ip, target) = (self.order.ip, session.target());
            self.setting.log(&format!("routing {ip} to {target} ({})", session.describe()));
        };
        Ok(session.bring_here(need, left - PAUSE_AND_LOOK.min(left / share), &begin))
    }

    /// Takes in what became of a request that `began` then.
    fn note(&mut self, failure: &Failure, began: Duration) {
        let now = self.setting.elapsed();
        self.sent |= failure.was_sent();
        match failure.kind {
            Kind::NotSent => {}
            Kind::Final | Kind::HeldBack | Kind::Refused => self.is_barred = true,
            Kind::NotDone => self.asked += 1,
            Kind::Unknown => {
                self.asked += 1;
                let longest = self.order.pace.longest_switch;
                self.made_by = self.made_by.max(now.min(began + LONGEST_WAY) + longest);
            }
            Kind::Locked => {
                self.asked += 1;
                self.locks += 1;
                self.locked_for = now.saturating_sub(*self.locked_since.get_or_insert(now));
            }
        }
    }

    /// Whether a switch of this takeover's own may yet be made.
    fn in_doubt(&self) -> bool {
        self.setting.elapsed() < self.made_by
    }

    /// After a request that was no success: `Some` when the IP is here, `None` when another request is in order.
    fn look_until_it_is_here_or_asked_again(&mut self, failed: &Failure) -> Result<Option<String>, End> {
        let mut doubt = failed.sentence.clone();
        let mut before = self.place.clone();
        loop {
            self.pause(&doubt, &format!("asking where {} is", self.order.ip))?;
            // Of a switch that is made after this, the look may not know.
            let in_doubt = self.in_doubt();
            let left = self.time_left()?;
            let Some(session) = &self.session else { return Ok(None) };
            let look = session.whereabouts(Need::Takeover, left);
            let seen = match &look {
                Ok(place) => {
                    self.place = Some(place.clone());
                    let has_moved = before.get_or_insert_with(|| place.clone()) != place;
                    Seen::Place { is_here: place.is_here(), has_moved }
                }
                Err(failure) => Seen::Nothing(failure.kind),
            };
            let asked = self.asked_so_far(failed.kind, in_doubt);
            match (decide(&asked, seen), look) {
                (Step::Here, _) => return Ok(Some("found by GET".into())),
                (Step::Ask, _) => return Ok(None),
                (Step::Look, Ok(place)) => {
                    let but = if asked.may_leave(seen) { "but may not stay there" } else { "not here" };
                    doubt = format!("it is {place}, {but}");
                }
                (Step::Look, Err(failure)) => doubt = failure.sentence,
                (Step::GiveUp, Ok(place)) => {
                    let (sentence, times) = (&failed.sentence, self.asked);
                    return Err(End::Failed(format!("{sentence}; it is {place}, after {times} POSTs")));
                }
                (Step::GiveUp, Err(Failure { kind: Kind::Final, sentence, .. })) => {
                    return Err(End::Failed(sentence));
                }
                (Step::GiveUp, Err(failure)) => {
                    let (sentence, why) = (&failed.sentence, failure.sentence);
                    return Err(End::Failed(format!("{sentence}; where it is, is unknown: {why}")));
                }
            }
        }
    }

    fn asked_so_far(&self, kind: Kind, in_doubt: bool) -> Asked {
        let longest = self.order.pace.longest_switch;
        let locked = self.locked_since.map_or(Duration::ZERO, |since| self.setting.elapsed() - since);
        let lock = match () {
            () if self.locked_for >= longest => Lock::Overdue,
            () if locked >= longest => Lock::MustHaveEnded,
            () if locked >= LOCK_TRIED_AFTER => Lock::MayHaveEnded,
            () => Lock::Young,
        };
        Asked {
            kind,
            asked: self.asked,
            locks: self.locks,
            pauses: self.pauses,
            is_barred: self.is_barred,
            is_late: self.is_late(),
            in_doubt,
            lock,
        }
    }

    /// Whether it is too late for another request.
    fn is_late(&self) -> bool {
        let left = self.order.deadline.saturating_sub(self.setting.elapsed());
        left < LATEST_REQUEST.min(self.order.deadline / 4)
    }

    /// Fails where nothing could be sent, and another try that takes as long as the one that `began` then would end too
    /// late for the next node.
    fn hand_over(&self, why: &str, began: Duration) -> Result<(), End> {
        let Some(after) = self.hand_over_after() else { return Ok(()) };
        let now = self.setting.elapsed();
        if now + self.next_pause() + now.saturating_sub(began) < after {
            return Ok(());
        }
        Err(End::Failed(format!("{why}; nothing could be sent from here, so the next node shall try")))
    }

    fn next_pause(&self) -> Duration {
        let pause = Duration::from_secs(PAUSES[self.pauses.min(PAUSES.len() - 1)]);
        if self.hand_over_after().is_some() { pause.min(UNSENT_PAUSE) } else { pause }
    }

    fn hand_over_after(&self) -> Option<Duration> {
        self.order.hand_over_after.filter(|_| !self.sent && self.setting.has_company())
    }

    /// Waits for the next step and says why; ends the takeover when its time is over, or it is not wanted.
    fn pause(&mut self, why: &str, next: &str) -> Result<(), End> {
        let now = self.setting.elapsed();
        let left = self.order.deadline.saturating_sub(now);
        let mut pause = self.next_pause();
        self.pauses += 1;
        if self.in_doubt() {
            // The look that decides comes as soon as it can, and one is the last before the deadline.
            let decided = Duration::from_secs((self.made_by - now).as_secs() + 1);
            pause = pause.min(decided).min(left.saturating_sub(LOOK)).max(PAUSE_AT_LEAST);
        }
        if pause >= left {
            return Err(self.too_late(why));
        }
        self.log(&format!(
            "not yet: {why} (after {}); {next} in {:.0} s",
            self.seconds(),
            pause.as_secs_f64()
        ));
        self.setting.sleep(pause);
        if self.setting.goes_on() { Ok(()) } else { Err(End::Dropped) }
    }

    /// What is left until the deadline.
    fn time_left(&self) -> Result<Duration, End> {
        let left = self.order.deadline.saturating_sub(self.setting.elapsed());
        if !self.setting.goes_on() {
            return Err(End::Dropped);
        }
        if left.is_zero() { Err(self.too_late("no time is left")) } else { Ok(left) }
    }

    fn too_late(&self, why: &str) -> End {
        let known = match &self.place {
            Some(place) => format!("when last seen it was {place}"),
            None => "where it is, is unknown".into(),
        };
        End::Failed(format!(
            "{why}; {known}, and the deadline of {} s is near",
            self.order.deadline.as_secs_f64()
        ))
    }

    fn log(&self, line: &str) {
        self.setting.log(line);
    }

    fn seconds(&self) -> String {
        format!("{:.1} s", self.setting.elapsed().as_secs_f64())
    }
}

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
