//! One takeover after another, step by step.

use std::cell::{Cell, RefCell};

use super::*;
use crate::hosters::Stage;

const SECOND: Duration = Duration::from_secs(1);
pub const PACE: Pace = Pace {
    timeout: Duration::from_secs(60),
    verify: Duration::from_secs(300),
    longest_way: Duration::from_secs(5),
    longest_switch: Duration::from_secs(60),
    lock_tried_after: Duration::from_secs(15),
    shortest_deadline: Duration::from_secs(90),
};
const DEADLINE: Duration = Duration::from_secs(180);
const FAILED: Verdict = Verdict::Failed(String::new());
const TARGET: &str = "1.1.1.1";
const OTHER: &str = "2.2.2.2";

/// A hoster that answers from a list, and a clock that moves only by sleeping.
struct Fake {
    posts: RefCell<Vec<Result<String, Failure>>>,
    looks: RefCell<Vec<Result<Place, Failure>>>,
    /// `P` and `G` with the second at which each was asked.
    asked: RefCell<Vec<String>>,
    lines: RefCell<Vec<String>>,
    now: Cell<Duration>,
    wanted_until: Duration,
    hand_over_after: Option<Duration>,
    sent: Cell<bool>,
    /// How long it takes to get what is needed to ask, as when the file of a password is on a disk that hangs.
    opening: Duration,
    /// How long a request for a switch takes.
    asking: Duration,
    /// The limit of the last request for a switch.
    limit: Cell<Duration>,
}

impl Session for &Fake {
    fn target(&self) -> &str {
        TARGET
    }

    fn describe(&self) -> String {
        "a fake".into()
    }

    fn bring_here(
        &self,
        need: Need,
        limit: Duration,
        begin: &dyn Fn(),
        _: &dyn Fn() -> bool,
    ) -> Result<String, Failure> {
        self.limit.set(limit);
        // Only a request that has reached the hoster counts as the first.
        assert_eq!(need == Need::Election, !self.sent.get());
        self.note('P');
        self.sleep(self.asking);
        let answer = next(&self.posts);
        if !answer.as_ref().is_err_and(|failure| failure.kind == Kind::HeldBack) {
            begin();
        }
        let sent = answer.as_ref().err().is_none_or(Failure::was_sent);
        self.sent.set(self.sent.get() || sent);
        answer
    }

    fn whereabouts(&self, need: Need, _: Duration) -> Result<Place, Failure> {
        assert_eq!(need, Need::Takeover);
        self.note('G');
        next(&self.looks)
    }

    fn release(&self, _: Duration) -> Result<Place, Failure> {
        unreachable!("no takeover releases")
    }
}

/// The answers to requests for a switch, and what the checks find.
type Posts = Vec<Result<String, Failure>>;
type Looks = Vec<Result<Place, Failure>>;

impl Fake {
    fn new(posts: Posts, looks: Looks) -> Fake {
        Fake {
            posts: posts.into(),
            looks: looks.into(),
            asked: RefCell::default(),
            lines: RefCell::default(),
            now: Cell::default(),
            wanted_until: Duration::MAX,
            hand_over_after: None,
            sent: Cell::default(),
            opening: Duration::ZERO,
            asking: Duration::ZERO,
            limit: Cell::default(),
        }
    }

    /// Runs a takeover; returns the verdict without its line, what was asked when, and the last line.
    fn run(&self, deadline: Duration) -> (Verdict, String, String) {
        self.run_at(&PACE, deadline)
    }

    fn run_at(&self, pace: &Pace, deadline: Duration) -> (Verdict, String, String) {
        let order = Order { ip: "4.4.4.4", pace, deadline, need: Need::Election };
        let mut verdict = take_over(&order, self);
        if let Verdict::Failed(line) = &mut verdict {
            self.log(&std::mem::take(line));
        }
        let last = self.lines.borrow().last().cloned().unwrap_or_default();
        (verdict, self.asked.borrow().join(" "), last)
    }

    fn note(&self, what: char) {
        self.asked.borrow_mut().push(format!("{what}{}", self.now.get().as_secs()));
    }
}

/// The last answer repeats.
fn next<T: Clone>(answers: &RefCell<Vec<T>>) -> T {
    let mut answers = answers.borrow_mut();
    if answers.len() > 1 { answers.remove(0) } else { answers[0].clone() }
}

impl Setting for Fake {
    fn open(&self) -> Result<Box<dyn Session + '_>, Failure> {
        self.sleep(self.opening);
        Ok(Box::new(self))
    }

    fn log(&self, line: &str) {
        self.lines.borrow_mut().push(line.to_string());
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

    fn hand_over_after(&self) -> Option<Duration> {
        self.hand_over_after
    }
}

fn failure(kind: Kind) -> Failure {
    let was_sent = matches!(kind, Kind::Locked | Kind::NotDone | Kind::Unknown);
    let stage = if was_sent { Stage::Host } else { Stage::Way };
    Failure::new(kind, stage, if kind == Kind::NotSent { "connection refused" } else { "a sentence" })
}

fn ok() -> Result<String, Failure> {
    Ok("HTTP 200".into())
}

fn post(kind: Kind) -> Result<String, Failure> {
    Err(failure(kind))
}

fn at(server: &str) -> Result<Place, Failure> {
    Ok(if server == TARGET { Place::Here(server.into()) } else { Place::Elsewhere(server.into()) })
}

fn run(posts: Posts, looks: Looks) -> (Verdict, String, String) {
    Fake::new(posts, looks).run(DEADLINE)
}

#[track_caller]
fn check(posts: Posts, looks: Looks, verdict: Verdict, asked: &str, last: &str) {
    assert_eq!(run(posts, looks), (verdict, asked.into(), last.into()));
}

#[test]
fn what_is_still_here_after_a_reload_is_only_looked_at() {
    let looked = |look: Result<Place, Failure>, was_here| {
        let fake = Fake::new(vec![], vec![look]);
        let (is_here, _) = is_here_still("4.4.4.4", &fake, SECOND, was_here);
        (is_here, fake.asked.take().join(" "), fake.lines.take().join("|"))
    };
    let is = |is_here, line: &str| (is_here, "G0".to_string(), format!("4.4.4.4 {line}"));
    for was_here in [true, false] {
        let still = "is still routed to 1.1.1.1: no switch is needed";
        assert_eq!(looked(at(TARGET), was_here), is(true, still));
        for place in [Place::Elsewhere(OTHER.into()), Place::Nowhere] {
            let line = format!("is {place}, though this node was Lord before the reload");
            assert_eq!(looked(Ok(place), was_here), is(false, &line));
        }
    }
    let line = "was here before the reload, and is taken to be here until a check succeeds: a sentence";
    assert_eq!(looked(Err(failure(Kind::Unknown)), true), is(true, line));
    assert_eq!(looked(Err(failure(Kind::Unknown)), false), is(false, "may be anywhere: a sentence"));
}

#[test]
fn a_clear_yes_is_one_request() {
    check(vec![ok()], vec![], Verdict::Here, "P0", "4.4.4.4 is routed to 1.1.1.1 (HTTP 200, after 0.0 s)");
}

#[test]
fn a_final_no_is_one_request() {
    for kind in [Kind::Final, Kind::HeldBack] {
        let last = "FAILED to route 4.4.4.4 to 1.1.1.1: a sentence (after 0.0 s)";
        check(vec![post(kind)], vec![], FAILED, "P0", last);
    }
}

#[test]
fn a_lost_answer_is_found_by_a_look() {
    let last = "4.4.4.4 is routed to 1.1.1.1 (confirmed by a check of the route, after 1.0 s)";
    check(vec![post(Kind::Unknown)], vec![at(TARGET)], Verdict::Here, "P0 G1", last);
}

#[test]
fn what_is_not_done_is_asked_for_again_but_three_times_at_most() {
    let last = "4.4.4.4 is routed to 1.1.1.1 (HTTP 200, after 1.0 s)";
    check(vec![post(Kind::NotDone), ok()], vec![at(OTHER)], Verdict::Here, "P0 G1 P1", last);
    let last = "FAILED to route 4.4.4.4 to 1.1.1.1: a sentence; it is routed to 2.2.2.2, after 3 attempts (after 7.0 s)";
    check(vec![post(Kind::NotDone)], vec![at(OTHER)], FAILED, "P0 G1 P1 G3 P3 G7", last);
}

#[test]
fn after_three_doubtful_posts_looks_go_on_for_as_long_as_a_switch_may_take() {
    let all = "P0 G1 P1 G3 G7 G15 P15 G30 G45 G60 G75";
    let (verdict, asked, _) = run(vec![post(Kind::Unknown)], vec![at(OTHER)]);
    assert_eq!((verdict, asked.as_str()), (FAILED, all));
    let (verdict, asked, _) = run(vec![post(Kind::Unknown)], [vec![at(OTHER); 7], vec![at(TARGET)]].concat());
    assert_eq!((verdict, asked.as_str()), (Verdict::Here, all));
}

/// A refusal says nothing about the switch that may be under way.
#[test]
fn what_may_yet_come_is_waited_for_when_no_more_may_be_sent() {
    for kind in [Kind::Final, Kind::HeldBack, Kind::Refused] {
        let posts = vec![post(Kind::Unknown), post(kind)];
        let (verdict, asked, _) = run(posts.clone(), vec![at(OTHER)]);
        let all = "P0 G1 P1 G3 G7 G15 G30 G45 G60";
        assert_eq!((verdict, asked.as_str()), (FAILED, all), "{kind:?}");
        let (verdict, asked, _) = run(posts, [vec![at(OTHER); 3], vec![at(TARGET)]].concat());
        assert_eq!((verdict, asked.as_str()), (Verdict::Here, "P0 G1 P1 G3 G7 G15"), "{kind:?}");
    }
}

#[test]
fn who_may_not_look_posts_again() {
    for kind in [Kind::HeldBack, Kind::Refused] {
        let looks = vec![Err(failure(kind))];
        let last = "4.4.4.4 is routed to 1.1.1.1 (HTTP 200, after 15.0 s)";
        check(vec![post(Kind::Unknown), ok()], looks, Verdict::Here, "P0 G1 G3 G7 G15 P15", last);
    }
}

#[test]
fn what_is_held_back_is_not_said_to_be_sent() {
    let fake = Fake::new(vec![post(Kind::HeldBack)], vec![]);
    fake.run(DEADLINE);
    let lines = fake.lines.into_inner();
    assert_eq!(lines, ["FAILED to route 4.4.4.4 to 1.1.1.1: a sentence (after 0.0 s)"]);
}

#[test]
fn looks_go_on_until_shortly_before_the_deadline() {
    let fake = Fake::new(vec![post(Kind::Unknown)], vec![at(OTHER)]);
    let (verdict, asked, _) = fake.run(PACE.shortest_deadline / 2);
    assert_eq!(verdict, FAILED);
    assert!(asked.ends_with("P15 G30 G43 G44"), "{asked}");
}

#[test]
fn a_hoster_that_is_not_reached_is_tried_until_the_deadline() {
    let last = "4.4.4.4 is routed to 1.1.1.1 (HTTP 200, after 30.0 s)";
    let posts = [vec![post(Kind::NotSent); 5], vec![ok()]].concat();
    check(posts, vec![], Verdict::Here, "P0 P1 P3 P7 P15 P30", last);
    let last = "FAILED to route 4.4.4.4 to 1.1.1.1: connection refused; the route is unknown, and the \
                deadline of 180 s is near (after 165.0 s)";
    let (verdict, asked, found) = run(vec![post(Kind::NotSent)], vec![]);
    assert_eq!((verdict, found.as_str()), (FAILED, last));
    assert!(asked.ends_with("P165"), "{asked}");
}

#[test]
fn where_nothing_could_be_sent_the_next_node_may_try() {
    let in_25_s = |posts| {
        let fake = Fake::new(posts, vec![at(OTHER)]);
        Fake { hand_over_after: Some(25 * SECOND), ..fake }.run(DEADLINE)
    };
    let (verdict, asked, last) = in_25_s(vec![post(Kind::NotSent)]);
    assert_eq!((verdict, asked.as_str()), (FAILED, "P0 P1 P3 P7 P12 P17 P22"));
    assert!(last.contains("connection refused; nothing could be sent from here: giving up"), "{last}");
    // What was sent once may have moved it.
    let (verdict, asked, _) = in_25_s(vec![post(Kind::Unknown), post(Kind::NotSent)]);
    assert_eq!(verdict, FAILED);
    assert!(asked.starts_with("P0 G1 P1 G3 P3 G7 P7 G15 P15"), "{asked}");
}

#[test]
fn a_lock_is_waited_for() {
    // Free after 10 s, and nobody has moved the IP: the next try is at 15 s.
    let last = "4.4.4.4 is routed to 1.1.1.1 (HTTP 200, after 15.0 s)";
    check(vec![post(Kind::Locked), ok()], vec![at(OTHER)], Verdict::Here, "P0 G1 G3 G7 G15 P15", last);
    // Its switch has moved the IP elsewhere: the lock is gone.
    let looks = vec![at(OTHER), at("3.3.3.3")];
    let last = "4.4.4.4 is routed to 1.1.1.1 (HTTP 200, after 3.0 s)";
    check(vec![post(Kind::Locked), ok()], looks, Verdict::Here, "P0 G1 G3 P3", last);
    // Until then the IP is still here, which is not yet success.
    let looks = vec![at(TARGET), at(TARGET), at(OTHER)];
    let posts = vec![post(Kind::Locked), post(Kind::Locked), ok()];
    let last = "4.4.4.4 is routed to 1.1.1.1 (HTTP 200, after 7.0 s)";
    check(posts, looks, Verdict::Here, "P0 G1 P1 G3 G7 P7", last);
    // Or its switch has just moved the IP here.
    let last = "4.4.4.4 is routed to 1.1.1.1 (HTTP 200, after 1.0 s)";
    check(vec![post(Kind::Locked), ok()], vec![at(TARGET)], Verdict::Here, "P0 G1 P1", last);
    // The lock was that of an earlier request from here.
    let last = "4.4.4.4 is routed to 1.1.1.1 (confirmed by a check of the route, after 3.0 s)";
    check(vec![post(Kind::Locked)], vec![at(OTHER), at(TARGET)], Verdict::Here, "P0 G1 G3", last);
}

#[test]
fn a_lock_that_does_not_end_is_a_failure_that_says_where_it_is() {
    let (verdict, asked, last) = run(vec![post(Kind::Locked)], vec![at(OTHER)]);
    assert_eq!(verdict, FAILED);
    assert_eq!(asked, "P0 G1 G3 G7 G15 P15 G30 G45 G60 P60 G75");
    assert!(last.contains("a sentence; it is routed to 2.2.2.2, after 3 attempts"), "{last}");
    // No switch takes longer than that: what is still here stays here.
    let (verdict, asked, _) = run(vec![post(Kind::Locked)], vec![at(TARGET)]);
    assert_eq!(verdict, Verdict::Here);
    assert_eq!(asked, "P0 G1 P1 G3 G7 G15 G30 G45 G60 P60 G75");
}

#[test]
fn a_look_that_fails_decides_nothing_but_a_final_one() {
    let looks = vec![Err(failure(Kind::Unknown)), Err(failure(Kind::HeldBack)), at(TARGET)];
    let last = "4.4.4.4 is routed to 1.1.1.1 (confirmed by a check of the route, after 7.0 s)";
    check(vec![post(Kind::Unknown)], looks, Verdict::Here, "P0 G1 G3 G7", last);
    let last = "FAILED to route 4.4.4.4 to 1.1.1.1: a sentence (after 1.0 s)";
    check(vec![post(Kind::Unknown)], vec![Err(failure(Kind::Final))], FAILED, "P0 G1", last);
}

#[test]
fn what_is_no_longer_wanted_is_dropped_before_the_next_post() {
    let run_until = |wanted_until, posts| {
        let fake = Fake::new(posts, vec![at(OTHER)]);
        Fake { wanted_until, ..fake }.run(DEADLINE)
    };
    let (verdict, asked, _) = run_until(Duration::from_millis(900), vec![post(Kind::Unknown)]);
    assert_eq!((verdict, asked.as_str()), (Verdict::Dropped, "P0"));
    let (verdict, asked, _) = run_until(Duration::ZERO, vec![ok()]);
    assert_eq!((verdict, asked.as_str()), (Verdict::Dropped, ""));
}

/// A switch that is given up at the deadline may still complete.
#[test]
fn no_switch_is_begun_that_cannot_be_waited_for() {
    let (verdict, asked, _) = Fake::new(vec![post(Kind::NotSent)], vec![]).run(170 * SECOND);
    assert_eq!(verdict, FAILED);
    assert!(asked.ends_with("P135 P150"), "{asked}");
}

#[test]
fn nothing_is_asked_once_it_is_no_longer_wanted_though_opening_took_long() {
    let fake = Fake { opening: 5 * SECOND, wanted_until: 3 * SECOND, ..Fake::new(vec![ok()], vec![]) };
    assert_eq!(fake.run(DEADLINE), (Verdict::Dropped, "".into(), "".into()));
}

#[test]
fn a_request_has_the_time_that_opening_has_left() {
    let fake = Fake { opening: 5 * SECOND, ..Fake::new(vec![ok()], vec![]) };
    assert_eq!(fake.run(10 * SECOND).0, Verdict::Here);
    assert!(fake.limit.get() < 5 * SECOND, "{:?}", fake.limit.get());
}

#[test]
fn a_switch_is_in_doubt_from_its_request_on_not_from_opening() {
    let posts = vec![Err(failure(Kind::Unknown)), Err(failure(Kind::Final))];
    let looks = vec![Ok(Place::Elsewhere(OTHER.into()))];
    let fake = Fake { opening: 5 * SECOND, asking: 10 * SECOND, ..Fake::new(posts, looks) };
    let (verdict, asked, _) = fake.run(DEADLINE);
    // It may have reached the hoster at 10 s, and takes up to a minute.
    assert_eq!((verdict, asked), (FAILED, "P5 G16 P16 G28 G32 G40 G55 G70".into()));
}

/// Unlike a request that waits for its answer, a command may have asked right before it was killed.
#[test]
fn a_command_that_was_killed_is_in_doubt_from_its_end_on() {
    let posts = vec![Err(failure(Kind::Unknown)), Err(failure(Kind::Final))];
    let run_at = |pace: &Pace| {
        let looks = vec![Ok(Place::NotHere)];
        Fake { asking: 40 * SECOND, ..Fake::new(posts.clone(), looks) }.run_at(pace, DEADLINE)
    };
    assert_eq!(run_at(&PACE).1, "P0 G41 P41");
    let (verdict, asked, _) = run_at(&Pace { longest_way: Duration::MAX, ..PACE });
    assert_eq!((verdict, asked), (FAILED, "P0 G41 P41 G83 G87 G95 G101".into()));
}
