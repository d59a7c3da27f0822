//! One takeover: asks the hoster for the route until it is known to be here, or known that it will not be.
//!
//! A POST that got no clear answer may have moved the IP, or may yet do it: only a look can tell. So each step
//! but the first begins with one, and a takeover ends with knowledge: the IP is here, or it says what is known. While
//! a switch of its own may yet be made, it looks on, whatever else went wrong.

use std::net::IpAddr;
use std::time::Duration;

use crate::hosters::{Failure, Hoster, Kind, Need, Route};

/// The pauses before the looks that follow a doubtful answer, in seconds; then the last one again and again.
const PAUSES: [u64; 5] = [1, 2, 4, 8, 15];
/// The longest of them where nothing could be sent yet, and another node waits for its turn.
const UNSENT_PAUSE: Duration = Duration::from_secs(5);
/// POSTs that reach the hoster, in one takeover; those that a lock refuses are not counted.
const MOST_POSTS: u32 = 3;
/// All of them: a lock whose end cannot be seen is tried three times.
const MOST_POSTS_WITH_LOCKS: u32 = 2 * MOST_POSTS;
/// Pauses, fifteen seconds together, before the last POST of a takeover that gets no sense from the hoster.
const SOME_PAUSES: usize = 4;
/// How long after the first lock it is tried whether it has ended unseen; then when it must have ended.
const LOCK_TRIED_AFTER: Duration = Duration::from_secs(15);
/// How long a switch takes at most, and so a lock lasts (Hetzner's documentation of failover IPs).
pub const LONGEST_SWITCH: Duration = Duration::from_secs(60);
/// A switch, and some seconds before it to be heard, and behind it to be seen.
#[cfg(test)]
const SHORTEST_DEADLINE: Duration = Duration::from_secs(90);
/// How long it may have taken until a POST was sent that has timed out since.
const LONGEST_WAY: Duration = Duration::from_secs(5);
/// What a look needs, and what a POST leaves for one.
const LOOK: Duration = Duration::from_secs(2);
const PAUSE_AND_LOOK: Duration = Duration::from_secs(4);
/// Nobody is asked more often.
const PAUSE_AT_LEAST: Duration = Duration::from_secs(1);
/// A switch that is asked for later than that could only be given up.
const LATEST_POST: Duration = Duration::from_secs(10);

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
pub struct Order {
    pub ip: IpAddr,
    pub target: IpAddr,
    /// For the whole takeover.
    pub deadline: Duration,
    /// What the first POST is for.
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

/// Routes `order.ip` to `order.target`. Every step is logged.
pub fn take_over(hoster: &dyn Hoster, order: &Order, setting: &dyn Setting) -> Verdict {
    let mut takeover = Takeover {
        hoster,
        order,
        setting,
        sent: false,
        posts: 0,
        locks: 0,
        locked_since: None,
        locked_for: Duration::ZERO,
        made_by: Duration::ZERO,
        barred: false,
        pauses: 0,
        route: None,
    };
    match takeover.run() {
        Ok(answer) => {
            let Order { ip, target, .. } = order;
            takeover.log(&format!("{ip} is routed to {target} ({answer}, after {})", takeover.seconds()));
            Verdict::Here
        }
        Err(End::Failed(sentence)) => {
            let Order { ip, target, .. } = order;
            let line = format!("FAILED to route {ip} to {target}: {sentence} (after {})", takeover.seconds());
            setting.alarm(&line);
            Verdict::Failed { sent: takeover.sent }
        }
        Err(End::Dropped) => Verdict::Dropped,
    }
}

struct Takeover<'a> {
    hoster: &'a dyn Hoster,
    order: &'a Order,
    setting: &'a dyn Setting,
    /// Whether the hoster has got anything so far.
    sent: bool,
    /// POSTs so far, as far as the hoster can know of them.
    posts: u32,
    /// Those of them that a lock has refused, when the first was, and how long after it the last.
    locks: u32,
    locked_since: Option<Duration>,
    locked_for: Duration,
    /// By when a switch that a POST without a clear answer may have begun is made, or will not be.
    made_by: Duration,
    /// Whether another POST would be refused, or held back.
    barred: bool,
    /// Made so far.
    pauses: usize,
    /// What the last look has found.
    route: Option<Route>,
}

enum End {
    Failed(String),
    Dropped,
}

impl Takeover<'_> {
    /// Posts until the IP is here; returns what the hoster has said.
    fn run(&mut self) -> Result<String, End> {
        loop {
            let began = self.setting.elapsed();
            let failure = match self.post()? {
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
                    if let Some(answer) = self.look_until_it_is_here_or_may_be_moved(&failure)? {
                        return Ok(answer);
                    }
                }
            }
        }
    }

    fn post(&self) -> Result<Result<String, Failure>, End> {
        let Order { ip, target, need, .. } = *self.order;
        let left = self.time_left()?;
        let (need, share) = if self.posts == 0 { (need, 10) } else { (Need::Takeover, 2) };
        let begin = || self.log(&format!("routing {ip} to {target} (POST to {})", self.hoster.describe()));
        Ok(self.hoster.route_to(target, need, left - PAUSE_AND_LOOK.min(left / share), &begin))
    }

    /// Takes in what became of a POST that `began` then.
    fn note(&mut self, failure: &Failure, began: Duration) {
        let now = self.setting.elapsed();
        self.sent |= failure.was_sent();
        match failure.kind {
            Kind::NotSent => {}
            Kind::Final | Kind::HeldBack | Kind::Refused => self.barred = true,
            Kind::NotDone => self.posts += 1,
            Kind::Unknown => {
                self.posts += 1;
                self.made_by = self.made_by.max(now.min(began + LONGEST_WAY) + LONGEST_SWITCH);
            }
            Kind::Locked => {
                self.posts += 1;
                self.locks += 1;
                self.locked_for = now.saturating_sub(*self.locked_since.get_or_insert(now));
            }
        }
    }

    /// Whether a switch of this takeover's own may yet be made.
    fn in_doubt(&self) -> bool {
        self.setting.elapsed() < self.made_by
    }

    /// After a POST that was no success: `Some` when the IP is here, `None` when another POST is in order.
    fn look_until_it_is_here_or_may_be_moved(&mut self, posted: &Failure) -> Result<Option<String>, End> {
        let Order { ip, target, .. } = *self.order;
        let mut doubt = posted.sentence.clone();
        let route_at_post = self.route;
        let mut first_seen = None;
        loop {
            self.pause(&doubt, &format!("asking where {ip} is"))?;
            // Of a switch that is made after this, the look may not know.
            let in_doubt = self.in_doubt();
            let look = self.hoster.whereabouts(Need::Takeover, self.time_left()?);
            let spent = self.is_spent(posted.kind);
            let may_post = !spent && !self.is_late();
            match look {
                Ok(route) => {
                    self.route = Some(route);
                    let before = route_at_post.unwrap_or(*first_seen.get_or_insert(route));
                    let (here, moved) = (route == Some(target), route != before);
                    // A lock on an IP that is here, and was before, is of a switch that moves it away.
                    let leaves = here && !moved && posted.kind == Kind::Locked;
                    if here && (!leaves || spent && !in_doubt) {
                        return Ok(Some("found by GET".into()));
                    }
                    if may_post && self.wants_to_post(posted.kind, moved, leaves) {
                        return Ok(None);
                    }
                    let place = place(route);
                    // Looking on would only keep this node's Legions waiting; what moves the IP from now on is
                    // found by the guard, or by the next node.
                    if spent && !in_doubt {
                        let (sentence, posts) = (&posted.sentence, self.posts);
                        return Err(End::Failed(format!("{sentence}; it is {place}, after {posts} POSTs")));
                    }
                    doubt = format!(
                        "it is {place}, {}",
                        if leaves { "but may not stay there" } else { "not here" }
                    );
                }
                Err(Failure { kind: Kind::Final, sentence, .. }) => return Err(End::Failed(sentence)),
                Err(Failure { kind, sentence, .. }) => {
                    // Looks are counted apart from POSTs: one that may not be made keeps nobody from posting.
                    let blind = matches!(kind, Kind::HeldBack | Kind::Refused) && self.pauses >= SOME_PAUSES;
                    if may_post && blind && self.wants_to_post(posted.kind, false, false) {
                        return Ok(None);
                    }
                    if spent && !in_doubt {
                        let posted = &posted.sentence;
                        return Err(End::Failed(format!("{posted}; where it is, is unknown: {sentence}")));
                    }
                    doubt = sentence;
                }
            }
        }
    }

    /// Whether no other POST is to follow one that ended as `posted`.
    fn is_spent(&self, posted: Kind) -> bool {
        let counted = self.posts - self.locks;
        self.barred
            || counted >= MOST_POSTS
            || self.posts >= MOST_POSTS_WITH_LOCKS
            || posted == Kind::Locked && self.locked_for >= LONGEST_SWITCH
    }

    /// Whether another POST is in order after one that ended as `posted`, and looks that did not find the IP here to stay.
    fn wants_to_post(&self, posted: Kind, moved: bool, leaves: bool) -> bool {
        match posted {
            // Where a lock ends, the switch that held it has moved the IP: away from here, or just now to here, and
            // then a POST will say so. If it has failed, nothing tells but another try.
            Kind::Locked => {
                let locked = self.locked_since.map_or(Duration::ZERO, |at| self.setting.elapsed() - at);
                let tried_after = if self.locks == 1 { LOCK_TRIED_AFTER } else { LONGEST_SWITCH };
                moved || leaves && self.posts == 1 || locked >= tried_after
            }
            // What gives no sense now may do so later: the last one is kept until then.
            Kind::Unknown => self.posts - self.locks + 1 < MOST_POSTS || self.pauses >= SOME_PAUSES,
            _ => true,
        }
    }

    /// Whether it is too late for another POST.
    fn is_late(&self) -> bool {
        let left = self.order.deadline.saturating_sub(self.setting.elapsed());
        left < LATEST_POST.min(self.order.deadline / 4)
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
        let known = match self.route {
            Some(route) => format!("when last seen it was {}", place(route)),
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

/// A route in words.
pub fn place(route: Route) -> String {
    route.map_or_else(|| "routed nowhere".into(), |address| format!("routed to {address}"))
}

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
