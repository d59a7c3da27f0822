//! Hundreds of thousands of takeovers against a model of a hoster, in virtual time: what must hold whatever goes wrong.
//!
//! In the model a switch takes up to a minute, locks the IP meanwhile, and completes even if the client no longer waits.
//! Requests and answers are lost, refused, late; others move the IP too. All of this changes over time.

use std::cell::{Cell, RefCell};

use fastrand::Rng;

use super::decide::{MOST_SWITCHES, MOST_WITH_LOCKS};
use super::tests::PACE;
use super::*;
use crate::hosters::Stage;
use lab::random;

/// A server's number; `None` is nowhere.
type Route = Option<u8>;

const TARGET: u8 = 1;
const OTHERS: [Route; 3] = [None, Some(2), Some(3)];
const LONGEST_SWITCH: Duration = PACE.longest_switch;
const SECOND: Duration = Duration::from_secs(1);
/// How long a check takes when all is well.
const LOOK_TAKES: Duration = Duration::from_millis(200);

fn refused() -> Failure {
    Failure::new(Kind::Refused, Stage::Host, "")
}

fn unclear(kind: Kind) -> Failure {
    Failure::new(kind, if kind == Kind::NotSent { Stage::Way } else { Stage::Host }, "")
}

/// How the hoster is, for a while.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Weather {
    Well,
    /// Refuses connections.
    Closed,
    /// No packet gets there.
    BlackHole,
    /// The request or its answer is lost without a sign.
    Silent,
    /// The request is carried out or not, and the connection breaks.
    Breaks,
    /// The same with an HTML page.
    Html,
    Fails,
    /// Over the limit for POST, for GET, or refused altogether.
    NoPosts,
    NoGets,
    Banned,
}

const WEATHERS: [Weather; 16] = [
    Weather::Well,
    Weather::Well,
    Weather::Well,
    Weather::Well,
    Weather::Well,
    Weather::Closed,
    Weather::BlackHole,
    Weather::Silent,
    Weather::Silent,
    Weather::Breaks,
    Weather::Breaks,
    Weather::Html,
    Weather::Fails,
    Weather::NoPosts,
    Weather::NoGets,
    Weather::Banned,
];

#[derive(Clone, Copy, Debug)]
struct Switch {
    to: Route,
    done_at: Duration,
    is_ours: bool,
    is_made: bool,
}

struct World {
    rng: RefCell<Rng>,
    now: Cell<Duration>,
    route: Cell<Route>,
    /// The one under way.
    switch: Cell<Option<Switch>>,
    /// When this takeover's own last switch was made.
    made_at: Cell<Option<Duration>>,
    /// Each with the time from which it holds.
    weathers: Vec<(Duration, Weather)>,
    /// When others ask for a switch.
    others: RefCell<Vec<(Duration, Route)>>,
    timeout: Duration,
    /// When the hoster has got a POST.
    posts: RefCell<Vec<Duration>>,
    locks: Cell<usize>,
    hand_over_after: Option<Duration>,
    story: RefCell<Vec<String>>,
    is_told: bool,
}

impl World {
    fn new(seed: u64, deadline: Duration, timeout: Duration, is_told: bool) -> World {
        let mut rng = Rng::with_seed(seed);
        let mut at = Duration::ZERO;
        let mut weathers = Vec::new();
        while at <= deadline {
            weathers.push((at, random::one(&mut rng, &WEATHERS)));
            // From moments to the whole takeover.
            at += Duration::from_millis(100 << rng.u32(..12));
        }
        let mut others: Vec<(Duration, Route)> = (0..rng.usize(..4).saturating_sub(1))
            .map(|_| (deadline.mul_f64(rng.f64()), random::one(&mut rng, &OTHERS)))
            .collect();
        others.sort();
        let route = random::one(&mut rng, &[OTHERS[0], OTHERS[1], OTHERS[2], Some(TARGET)]);
        let world = World {
            rng: RefCell::new(rng),
            now: Cell::default(),
            route: Cell::new(route),
            switch: Cell::default(),
            made_at: Cell::default(),
            weathers,
            others: RefCell::new(others),
            timeout,
            posts: RefCell::default(),
            locks: Cell::default(),
            hand_over_after: None,
            story: RefCell::default(),
            is_told,
        };
        // A switch may be under way from before.
        if world.chance(4) {
            let to = random::one(&mut world.rng.borrow_mut(), &OTHERS);
            let left = world.some(LONGEST_SWITCH);
            world.switch.set(Some(Switch { to, done_at: left, is_ours: false, is_made: true }));
        }
        world
    }

    fn weather(&self) -> Weather {
        let now = self.now.get();
        self.weathers
            .iter()
            .rev()
            .find(|(from, _)| *from <= now)
            .map_or(Weather::Well, |(_, weather)| *weather)
    }

    /// Whether a check is answered at any time from `from` to `to`.
    fn can_be_seen(&self, from: Duration, to: Duration) -> bool {
        let ends = self.weathers.iter().skip(1).map(|(from, _)| *from).chain([Duration::MAX]);
        self.weathers.iter().zip(ends).all(|((begins, weather), ends)| {
            ends <= from || *begins > to || matches!(weather, Weather::Well | Weather::NoPosts)
        })
    }

    fn chance(&self, one_in: u32) -> bool {
        self.rng.borrow_mut().u32(..one_in) == 0
    }

    fn some(&self, most: Duration) -> Duration {
        most.mul_f64(self.rng.borrow_mut().f64())
    }

    /// Lets time pass, with everything that is due by then.
    fn pass(&self, time: Duration) {
        let until = self.now.get() + time;
        loop {
            let switch = self.switch.get().filter(|switch| switch.done_at <= until);
            let other = self.others.borrow().first().copied().filter(|(at, _)| *at <= until);
            match (switch, other) {
                (Some(switch), other) if other.is_none_or(|(at, _)| switch.done_at <= at) => {
                    self.now.set(switch.done_at.max(self.now.get()));
                    self.switch.set(None);
                    if switch.is_made {
                        self.route.set(switch.to);
                        self.made_at.set(switch.is_ours.then_some(switch.done_at));
                    }
                    self.tell(|| format!("made: {switch:?}"));
                }
                (_, Some((at, to))) => {
                    self.now.set(at.max(self.now.get()));
                    self.others.borrow_mut().remove(0);
                    if self.switch.get().is_none() {
                        let done_at = at + self.some(LONGEST_SWITCH);
                        self.switch.set(Some(Switch { to, done_at, is_ours: false, is_made: true }));
                    }
                }
                _ => break,
            }
        }
        self.now.set(until);
    }

    fn tell(&self, line: impl FnOnce() -> String) {
        if self.is_told {
            let line = format!("{:7.2} {}", self.now.get().as_secs_f64(), line());
            self.story.borrow_mut().push(line);
        }
    }

    /// Why a request is not heard, if so, after the time that this takes.
    fn is_unheard(&self, limit: Duration) -> Option<Failure> {
        let failure = |kind| Some(unclear(kind));
        match self.weather() {
            Weather::Closed => failure(Kind::NotSent),
            Weather::BlackHole => {
                self.pass(limit.min(8 * SECOND));
                failure(Kind::NotSent)
            }
            Weather::Silent if self.chance(2) => {
                self.pass(limit);
                failure(Kind::Unknown)
            }
            Weather::Breaks | Weather::Html if self.chance(2) => {
                self.pass(self.some(limit.min(5 * SECOND)));
                failure(Kind::Unknown)
            }
            Weather::Fails => failure(if self.chance(2) { Kind::NotDone } else { Kind::Unknown }),
            Weather::Banned => Some(refused()),
            _ => None,
        }
    }

    /// Whether an answer is lost on its way back.
    fn is_lost(&self, weather: Weather, left: Duration) -> bool {
        match weather {
            Weather::Silent => {
                self.pass(left);
                true
            }
            Weather::Breaks | Weather::Html => true,
            _ => false,
        }
    }
}

impl Session for &World {
    fn target(&self) -> &str {
        "1"
    }

    fn describe(&self) -> String {
        String::new()
    }

    fn bring_here(
        &self,
        _: Need,
        limit: Duration,
        begin: &dyn Fn(),
        _: &dyn Fn() -> bool,
    ) -> Result<String, Failure> {
        begin();
        let limit = limit.min(self.timeout);
        let ends = self.now.get() + limit;
        let weather = self.weather();
        self.tell(|| format!("POST {weather:?}"));
        if let Some(failure) = self.is_unheard(limit) {
            if failure.was_sent() {
                self.posts.borrow_mut().push(self.now.get());
            }
            return Err(failure);
        }
        self.posts.borrow_mut().push(self.now.get());
        if weather == Weather::NoPosts {
            return Err(refused());
        }
        // Connecting, and what the API does before it decides.
        self.pass(self.some(SECOND).min(limit));
        let lost = || Err(unclear(Kind::Unknown));
        if self.switch.get().is_some() {
            self.locks.set(self.locks.get() + 1);
            let is_lost = self.is_lost(weather, ends.saturating_sub(self.now.get()));
            return if is_lost { lost() } else { Err(unclear(Kind::Locked)) };
        }
        if self.route.get() == Some(TARGET) {
            let is_lost = self.is_lost(weather, ends.saturating_sub(self.now.get()));
            return if is_lost { lost() } else { Ok("already".into()) };
        }
        let takes = if self.chance(8) { LONGEST_SWITCH } else { self.some(LONGEST_SWITCH) };
        let done_at = self.now.get() + takes;
        let is_made = !self.chance(8);
        self.switch.set(Some(Switch { to: Some(TARGET), done_at, is_ours: true, is_made }));
        if matches!(weather, Weather::Breaks | Weather::Html) {
            // At any time.
            self.pass(self.some(takes.min(ends.saturating_sub(self.now.get()))));
            return lost();
        }
        if weather == Weather::Silent || done_at > ends {
            self.pass(ends.saturating_sub(self.now.get()));
            return lost();
        }
        self.pass(takes);
        if is_made { Ok("made".into()) } else { Err(unclear(Kind::NotDone)) }
    }

    fn whereabouts(&self, _: Need, limit: Duration) -> Result<Place, Failure> {
        let limit = limit.min(self.timeout).min(10 * SECOND);
        let ends = self.now.get() + limit;
        let weather = self.weather();
        self.tell(|| format!("GET {weather:?} {:?}", self.route.get()));
        if let Some(failure) = self.is_unheard(limit) {
            return Err(failure);
        }
        if weather == Weather::NoGets {
            return Err(refused());
        }
        self.pass(LOOK_TAKES.min(limit));
        let route = self.route.get();
        let is_lost = self.is_lost(weather, ends.saturating_sub(self.now.get()));
        if is_lost {
            return Err(unclear(Kind::Unknown));
        }
        Ok(match route {
            Some(TARGET) => Place::Here(String::new()),
            Some(other) => Place::Elsewhere(other.to_string()),
            None => Place::Nowhere,
        })
    }

    fn release(&self, _: Duration) -> Result<Place, Failure> {
        unreachable!("no takeover releases")
    }
}

impl Setting for World {
    fn open(&self) -> Result<Box<dyn Session + '_>, Failure> {
        Ok(Box::new(self))
    }

    fn log(&self, line: &str) {
        self.tell(|| line.to_string());
    }

    fn elapsed(&self) -> Duration {
        self.now.get()
    }

    fn sleep(&self, time: Duration) {
        self.pass(time);
    }

    fn goes_on(&self) -> bool {
        true
    }

    fn hand_over_after(&self) -> Option<Duration> {
        self.hand_over_after
    }
}

/// Plays one takeover; returns how it ended, the promise that it has broken, if any, and its story.
fn play(seed: u64, is_told: bool) -> (Verdict, Option<&'static str>, Vec<String>) {
    let mut rng = Rng::with_seed(!seed);
    let deadline = random::one(&mut rng, &[90, 90, 120, 180, 180, 600]) * SECOND;
    let timeout = random::one(&mut rng, &[5, 20, 30, 60, 60, 60]) * SECOND;
    let hand_over_after = rng.bool().then_some(25 * SECOND);
    let world = World { hand_over_after, ..World::new(seed, deadline, timeout, is_told) };
    let order = Order { ip: "", pace: &PACE, deadline, need: Need::Election };
    let verdict = take_over(&order, &world);
    let now = world.now.get();

    let posts = world.posts.borrow().len();
    let is_here = world.route.get() == Some(TARGET);
    // Minus the time that a last check needs; a check that began before it may have taken 11 s.
    let seen_by = deadline - 3 * SECOND;
    let would_be_seen = |made_at: Duration| {
        made_at <= seen_by && world.can_be_seen(made_at.saturating_sub(11 * SECOND), deadline)
    };
    let comes = world.switch.get().filter(|switch| switch.is_ours && switch.is_made);
    let was_made = world.made_at.get().filter(|_| is_here);
    let broken = match verdict {
        Verdict::Here if !is_here => Some("it is said to be here, but is not"),
        Verdict::Failed(_) if comes.is_some_and(|switch| would_be_seen(switch.done_at)) => {
            Some("it is given up, but still comes")
        }
        Verdict::Failed(_) if was_made.is_some_and(would_be_seen) => Some("it is given up, but is here"),
        Verdict::Failed(ref line) if posts > 0 && line.contains("nothing could be sent from here") => {
            Some("something was sent, and it is handed over")
        }
        Verdict::Dropped => Some("it is dropped, though it is wanted"),
        _ if posts - world.locks.get() > MOST_SWITCHES as usize => Some("too many POSTs"),
        _ if posts > MOST_WITH_LOCKS as usize => Some("too many POSTs with locks"),
        _ if now > deadline => Some("it has not ended by its deadline"),
        _ if posts == 0 && hand_over_after.is_some_and(|after| now > after + 8 * SECOND) => {
            Some("nothing could be sent, and it is not handed over")
        }
        _ => None,
    };
    (verdict, broken, world.story.into_inner())
}

#[test]
fn no_weather_makes_a_takeover_break_its_promises() {
    const TAKEOVERS: u64 = 200_000;
    let first = random::rng().u64(..);
    let half = |from: u64| {
        let (mut here, mut failed) = (0, 0);
        for seed in from..from + TAKEOVERS / 2 {
            let (verdict, broken, _) = play(seed, false);
            if let Some(broken) = broken {
                let (_, _, story) = play(seed, true);
                panic!("{broken}, takeover {seed}:\n{}", story.join("\n"));
            }
            if verdict == Verdict::Here { here += 1 } else { failed += 1 }
        }
        // Both have to happen often.
        assert!(here.min(failed) > TAKEOVERS / 10, "{here} here, {failed} failed");
    };
    let first = first >> 1;
    std::thread::scope(|scope| {
        let other = scope.spawn(|| half(first + TAKEOVERS / 2));
        half(first);
        other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
}
