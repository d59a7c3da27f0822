//! One takeover: asks the hoster for the route until it is known to be here, or known that it will not be.
//!
//! A POST that got no clear answer may have moved the IP, or may yet do it: only a look can tell. So each step
//! but the first begins with one, and a takeover ends with knowledge: the IP is here, or it says what is known.

use std::net::IpAddr;
use std::time::Duration;

use crate::hoster::{Failure, Hoster, Kind, Need, Route};

/// The pauses before the looks that follow a doubtful answer, in seconds; then the last one again and again.
const PAUSES: [u64; 5] = [1, 2, 4, 8, 15];
/// The longest of them where nothing could be sent yet, and another node waits for its turn.
const UNSENT_PAUSE: Duration = Duration::from_secs(5);
/// POSTs that reach the hoster, in one takeover; those that a lock refuses are not counted.
const MOST_POSTS: u32 = 3;
/// Pauses, fifteen seconds together, before the last POST of a takeover that gets no sense from the hoster, and before
/// a lock is tried anew.
const SOME_PAUSES: usize = 4;
/// How long a switch takes at most, and so a lock lasts (Hetzner's documentation of failover IPs).
pub const LONGEST_SWITCH: Duration = Duration::from_secs(60);
/// A switch, and some seconds before it to be heard, and behind it to be seen.
pub const SHORTEST_DEADLINE: Duration = Duration::from_secs(90);

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
}

/// What is to be done.
pub struct Order {
    pub ip: IpAddr,
    pub target: IpAddr,
    /// For the whole takeover.
    pub deadline: Duration,
    /// What the first POST is for.
    pub need: Need,
    /// Where the next node may fare better: the takeover fails by then if nothing could be sent until then.
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
            let Order { ip, target, need, .. } = *self.order;
            let need = if self.posts == 0 { need } else { Need::Takeover };
            let began = self.setting.elapsed();
            self.log(&format!("routing {ip} to {target} (POST to {})", self.hoster.describe()));
            let failure = match self.hoster.route_to(target, need, self.time_left()?) {
                Ok(answer) => return Ok(answer),
                Err(failure) => failure,
            };
            self.sent |= failure.was_sent();
            match failure.kind {
                Kind::Final | Kind::HeldBack => return Err(End::Failed(failure.sentence)),
                Kind::NotSent => {
                    self.hand_over(&failure.sentence, began)?;
                    self.pause(&failure.sentence, "trying again")?;
                }
                Kind::Locked | Kind::NotDone | Kind::Unknown => {
                    self.posts += 1;
                    if failure.kind == Kind::Locked {
                        self.locks += 1;
                        let now = self.setting.elapsed();
                        self.locked_for = now.saturating_sub(*self.locked_since.get_or_insert(now));
                    }
                    if let Some(answer) = self.look_until_it_is_here_or_may_be_moved(failure)? {
                        return Ok(answer);
                    }
                }
            }
        }
    }

    /// After a POST that was no success: `Some` when the IP is here, `None` when another POST is in order.
    fn look_until_it_is_here_or_may_be_moved(&mut self, posted: Failure) -> Result<Option<String>, End> {
        let Order { ip, target, .. } = *self.order;
        let mut doubt = posted.sentence.clone();
        let route_at_post = self.route;
        let mut first_seen = None;
        loop {
            self.pause(&doubt, &format!("asking where {ip} is"))?;
            match self.hoster.whereabouts(Need::Takeover, self.time_left()?) {
                Ok(route) => {
                    self.route = Some(route);
                    let before = route_at_post.unwrap_or(*first_seen.get_or_insert(route));
                    let (here, moved) = (route == Some(target), route != before);
                    // A lock on an IP that is here, and was before, is of a switch that moves it away.
                    let leaves = here && !moved && posted.kind == Kind::Locked;
                    // Looking on would only keep this node's Legions waiting; a switch that is made after all is
                    // found by the guard, or by the next node.
                    let was_last = match posted.kind {
                        Kind::Locked => self.locked_for >= LONGEST_SWITCH,
                        _ => self.posts - self.locks == MOST_POSTS,
                    };
                    if here && (!leaves || was_last) {
                        return Ok(Some("found by GET".into()));
                    }
                    if !was_last && self.may_post(posted.kind, moved, leaves) {
                        return Ok(None);
                    }
                    let (place, posts) = (place(route), self.posts);
                    if was_last {
                        let sentence = &posted.sentence;
                        return Err(End::Failed(format!("{sentence}; it is {place}, after {posts} POSTs")));
                    }
                    doubt = format!(
                        "it is {place}, {}",
                        if leaves { "but may not stay there" } else { "not here" }
                    );
                }
                Err(Failure { kind: Kind::Final, sentence, .. }) => return Err(End::Failed(sentence)),
                Err(failure) => doubt = failure.sentence,
            }
        }
    }

    /// Whether another POST is in order after one that ended as `posted`, and looks that did not find the IP here to stay.
    fn may_post(&self, posted: Kind, moved: bool, leaves: bool) -> bool {
        match posted {
            // Where a lock ends, the switch that held it has moved the IP: away from here, or just now to here, and
            // then a POST will say so. If it has failed, nothing tells but another try.
            Kind::Locked => moved || leaves && self.posts == 1 || self.pauses >= SOME_PAUSES,
            // What gives no sense now may do so later: the last one is kept until then.
            Kind::Unknown => self.posts - self.locks + 1 < MOST_POSTS || self.pauses >= SOME_PAUSES,
            _ => true,
        }
    }

    /// Fails where nothing could be sent, and another try that takes as long as the one that `began` then would end too
    /// late for the next node.
    fn hand_over(&self, why: &str, began: Duration) -> Result<(), End> {
        let Some(after) = self.order.hand_over_after.filter(|_| !self.sent) else { return Ok(()) };
        let now = self.setting.elapsed();
        if now + self.next_pause() + now.saturating_sub(began) < after {
            return Ok(());
        }
        Err(End::Failed(format!("{why}; nothing could be sent from here, so the next node shall try")))
    }

    fn next_pause(&self) -> Duration {
        let pause = Duration::from_secs(PAUSES[self.pauses.min(PAUSES.len() - 1)]);
        let soon_over = self.order.hand_over_after.is_some() && !self.sent;
        if soon_over { pause.min(UNSENT_PAUSE) } else { pause }
    }

    /// Waits for the next step and says why; ends the takeover when its time is over, or it is not wanted.
    fn pause(&mut self, why: &str, next: &str) -> Result<(), End> {
        let pause = self.next_pause();
        self.pauses += 1;
        let left = self.order.deadline.saturating_sub(self.setting.elapsed());
        if pause >= left {
            return Err(self.too_late(why));
        }
        self.log(&format!("not yet: {why} (after {}); {next} in {} s", self.seconds(), pause.as_secs()));
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
mod tests {
    use std::cell::{Cell, RefCell};

    use super::*;

    const TARGET: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(1, 1, 1, 1));
    const OTHER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(2, 2, 2, 2));

    /// A hoster that answers from a list, and a clock that only sleeps move.
    struct Fake {
        posts: RefCell<Vec<Result<String, Failure>>>,
        looks: RefCell<Vec<Result<Route, Failure>>>,
        /// `P` and `G` with the second at which each was asked.
        asked: RefCell<Vec<String>>,
        lines: RefCell<Vec<String>>,
        now: Cell<Duration>,
        wanted_until: Duration,
        sent: Cell<bool>,
    }

    impl Hoster for Fake {
        fn describe(&self) -> String {
            "a fake".into()
        }

        fn route_to(&self, target: IpAddr, need: Need, _: Duration) -> Result<String, Failure> {
            assert_eq!(target, TARGET);
            // A POST that did not reach the hoster leaves the next one the first.
            assert_eq!(need == Need::Election, !self.sent.get());
            self.note('P');
            let answer = next(&self.posts);
            let sent = answer.as_ref().err().is_none_or(Failure::was_sent);
            self.sent.set(self.sent.get() || sent);
            answer
        }

        fn whereabouts(&self, need: Need, _: Duration) -> Result<Route, Failure> {
            assert_eq!(need, Need::Takeover);
            self.note('G');
            next(&self.looks)
        }

        fn release(&self, _: Duration) -> Result<Route, Failure> {
            unreachable!("no takeover releases")
        }
    }

    impl Fake {
        fn note(&self, what: char) {
            self.asked.borrow_mut().push(format!("{what}{}", self.now.get().as_secs()));
        }
    }

    /// The last answer is given again and again.
    fn next<T: Clone>(answers: &RefCell<Vec<T>>) -> T {
        let mut answers = answers.borrow_mut();
        if answers.len() > 1 { answers.remove(0) } else { answers[0].clone() }
    }

    impl Setting for Fake {
        fn log(&self, line: &str) {
            self.lines.borrow_mut().push(line.to_string());
        }

        fn alarm(&self, line: &str) {
            self.log(line);
        }

        fn elapsed(&self) -> Duration {
            self.now.get()
        }

        fn sleep(&self, time: Duration) {
            self.now.set(self.now.get() + time);
        }

        fn goes_on(&self) -> bool {
            self.now.get() < self.wanted_until
        }
    }

    fn failure(kind: Kind) -> Failure {
        Failure::new(kind, if kind == Kind::NotSent { "connection refused" } else { "a sentence" })
    }

    fn ok() -> Result<String, Failure> {
        Ok("HTTP 200".into())
    }

    fn post(kind: Kind) -> Result<String, Failure> {
        Err(failure(kind))
    }

    fn at(address: IpAddr) -> Result<Route, Failure> {
        Ok(Some(address))
    }

    /// Runs a takeover with 180 s; returns the verdict, what was asked when, and the last line.
    fn run(
        posts: Vec<Result<String, Failure>>,
        looks: Vec<Result<Route, Failure>>,
    ) -> (Verdict, String, String) {
        run_order(posts, looks, Duration::MAX, None)
    }

    fn run_order(
        posts: Vec<Result<String, Failure>>,
        looks: Vec<Result<Route, Failure>>,
        wanted_until: Duration,
        hand_over_after: Option<Duration>,
    ) -> (Verdict, String, String) {
        let fake = Fake {
            posts: posts.into(),
            looks: looks.into(),
            asked: RefCell::default(),
            lines: RefCell::default(),
            now: Cell::default(),
            wanted_until,
            sent: Cell::default(),
        };
        let order = Order {
            ip: [4, 4, 4, 4].into(),
            target: TARGET,
            deadline: Duration::from_secs(180),
            need: Need::Election,
            hand_over_after,
        };
        let verdict = take_over(&fake, &order, &fake);
        let last = fake.lines.borrow().last().cloned().unwrap_or_default();
        (verdict, fake.asked.into_inner().join(" "), last)
    }

    #[track_caller]
    fn check(
        posts: Vec<Result<String, Failure>>,
        looks: Vec<Result<Route, Failure>>,
        verdict: Verdict,
        asked: &str,
        last: &str,
    ) {
        let (found, found_asked, found_last) = run(posts, looks);
        assert_eq!((found, found_asked.as_str(), found_last.as_str()), (verdict, asked, last));
    }

    #[test]
    fn a_clear_yes_is_one_request() {
        check(
            vec![ok()],
            vec![],
            Verdict::Here,
            "P0",
            "4.4.4.4 is routed to 1.1.1.1 (HTTP 200, after 0.0 s)",
        );
    }

    #[test]
    fn a_final_no_is_one_request() {
        for kind in [Kind::Final, Kind::HeldBack] {
            let last = "FAILED to route 4.4.4.4 to 1.1.1.1: a sentence (after 0.0 s)";
            check(vec![post(kind)], vec![], Verdict::Failed { sent: false }, "P0", last);
        }
    }

    #[test]
    fn a_lost_answer_is_found_by_a_look() {
        let last = "4.4.4.4 is routed to 1.1.1.1 (found by GET, after 1.0 s)";
        check(vec![post(Kind::Unknown)], vec![at(TARGET)], Verdict::Here, "P0 G1", last);
    }

    #[test]
    fn what_is_not_done_is_asked_for_again_but_three_times_at_most() {
        let last = "4.4.4.4 is routed to 1.1.1.1 (HTTP 200, after 1.0 s)";
        check(vec![post(Kind::NotDone), ok()], vec![at(OTHER)], Verdict::Here, "P0 G1 P1", last);
        let last = "FAILED to route 4.4.4.4 to 1.1.1.1: a sentence; it is routed to 2.2.2.2, after 3 POSTs (after 7.0 s)";
        check(
            vec![post(Kind::NotDone)],
            vec![at(OTHER)],
            Verdict::Failed { sent: true },
            "P0 G1 P1 G3 P3 G7",
            last,
        );
    }

    #[test]
    fn after_three_doubtful_posts_one_look_decides() {
        let (verdict, asked, _) = run(vec![post(Kind::Unknown)], vec![at(OTHER)]);
        assert_eq!((verdict, asked.as_str()), (Verdict::Failed { sent: true }, "P0 G1 P1 G3 G7 G15 P15 G30"));
        let (verdict, asked, _) =
            run(vec![post(Kind::Unknown)], [vec![at(OTHER); 4], vec![at(TARGET)]].concat());
        assert_eq!((verdict, asked.as_str()), (Verdict::Here, "P0 G1 P1 G3 G7 G15 P15 G30"));
    }

    #[test]
    fn a_hoster_that_is_not_reached_is_tried_until_the_deadline() {
        let last = "4.4.4.4 is routed to 1.1.1.1 (HTTP 200, after 30.0 s)";
        let posts = [vec![post(Kind::NotSent); 5], vec![ok()]].concat();
        check(posts, vec![], Verdict::Here, "P0 P1 P3 P7 P15 P30", last);
        let last = "FAILED to route 4.4.4.4 to 1.1.1.1: connection refused; where it is, is unknown, and the \
                    deadline of 180 s is near (after 165.0 s)";
        let (verdict, asked, found) = run(vec![post(Kind::NotSent)], vec![]);
        assert_eq!((verdict, found.as_str()), (Verdict::Failed { sent: false }, last));
        assert!(asked.ends_with("P165"), "{asked}");
    }

    #[test]
    fn where_nothing_could_be_sent_the_next_node_may_try() {
        let in_25_s = |posts| {
            let looks = vec![at(OTHER)];
            run_order(posts, looks, Duration::MAX, Some(Duration::from_secs(25)))
        };
        let (verdict, asked, last) = in_25_s(vec![post(Kind::NotSent)]);
        assert_eq!((verdict, asked.as_str()), (Verdict::Failed { sent: false }, "P0 P1 P3 P7 P12 P17 P22"));
        assert!(last.contains("connection refused; nothing could be sent from here"), "{last}");
        // What was sent once may have moved it.
        let (verdict, asked, _) = in_25_s(vec![post(Kind::Unknown), post(Kind::NotSent)]);
        assert_eq!(verdict, Verdict::Failed { sent: true });
        assert!(asked.starts_with("P0 G1 P1 P3 P7 P15 P30"), "{asked}");
    }

    #[test]
    fn a_lock_is_waited_for() {
        // Free after 10 s, and nobody has moved the IP: the next try is at 15 s.
        let last = "4.4.4.4 is routed to 1.1.1.1 (HTTP 200, after 15.0 s)";
        check(vec![post(Kind::Locked), ok()], vec![at(OTHER)], Verdict::Here, "P0 G1 G3 G7 G15 P15", last);
        // Its switch has moved the IP elsewhere: the lock is gone.
        let looks = vec![at(OTHER), at([3, 3, 3, 3].into())];
        let last = "4.4.4.4 is routed to 1.1.1.1 (HTTP 200, after 3.0 s)";
        check(vec![post(Kind::Locked), ok()], looks, Verdict::Here, "P0 G1 G3 P3", last);
        // Before it has done that, the IP is still here: no reason to be content.
        let looks = vec![at(TARGET), at(TARGET), at(OTHER)];
        let posts = vec![post(Kind::Locked), post(Kind::Locked), ok()];
        let last = "4.4.4.4 is routed to 1.1.1.1 (HTTP 200, after 7.0 s)";
        check(posts, looks, Verdict::Here, "P0 G1 P1 G3 G7 P7", last);
        // Or it has just ended here.
        let last = "4.4.4.4 is routed to 1.1.1.1 (HTTP 200, after 1.0 s)";
        check(vec![post(Kind::Locked), ok()], vec![at(TARGET)], Verdict::Here, "P0 G1 P1", last);
        // It was our own, of an earlier try.
        let last = "4.4.4.4 is routed to 1.1.1.1 (found by GET, after 3.0 s)";
        check(vec![post(Kind::Locked)], vec![at(OTHER), at(TARGET)], Verdict::Here, "P0 G1 G3", last);
    }

    #[test]
    fn a_lock_that_does_not_end_is_a_failure_that_says_where_it_is() {
        let (verdict, asked, last) = run(vec![post(Kind::Locked)], vec![at(OTHER)]);
        assert_eq!(verdict, Verdict::Failed { sent: true });
        assert_eq!(asked, "P0 G1 G3 G7 G15 P15 G30 P30 G45 P45 G60 P60 G75");
        assert!(last.contains("a sentence; it is routed to 2.2.2.2, after 5 POSTs"), "{last}");
        // No switch takes longer than that: what is still here stays here.
        let (verdict, asked, _) = run(vec![post(Kind::Locked)], vec![at(TARGET)]);
        assert_eq!(verdict, Verdict::Here);
        assert_eq!(asked, "P0 G1 P1 G3 G7 G15 P15 G30 P30 G45 P45 G60 P60 G75");
    }

    #[test]
    fn a_look_that_fails_decides_nothing_but_a_final_one() {
        let looks = vec![Err(failure(Kind::Unknown)), Err(failure(Kind::HeldBack)), at(TARGET)];
        let last = "4.4.4.4 is routed to 1.1.1.1 (found by GET, after 7.0 s)";
        check(vec![post(Kind::Unknown)], looks, Verdict::Here, "P0 G1 G3 G7", last);
        let last = "FAILED to route 4.4.4.4 to 1.1.1.1: a sentence (after 1.0 s)";
        check(
            vec![post(Kind::Unknown)],
            vec![Err(failure(Kind::Final))],
            Verdict::Failed { sent: true },
            "P0 G1",
            last,
        );
    }

    #[test]
    fn what_is_no_longer_wanted_is_dropped_before_the_next_post() {
        let wanted = Duration::from_millis(900);
        let (verdict, asked, _) = run_order(vec![post(Kind::Unknown)], vec![at(OTHER)], wanted, None);
        assert_eq!((verdict, asked.as_str()), (Verdict::Dropped, "P0"));
        let (verdict, asked, _) = run_order(vec![ok()], vec![], Duration::ZERO, None);
        assert_eq!((verdict, asked.as_str()), (Verdict::Dropped, ""));
    }
}
