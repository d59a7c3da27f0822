//! Hours, in a moment: what is sent, and what is held back.

use std::collections::HashMap;

use super::book::REMEMBERED;
use super::*;
use crate::hosters::cloud::limits::LIMITS as CLOUD;
use crate::hosters::robot::limits::LIMITS;

const IP: &str = "4.4.4.4";
const OTHER: &str = "5.5.5.5";

const FIRST_POST: (Request, Need) = (Request::Switch, Need::Election);
const POST: (Request, Need) = (Request::Switch, Need::Takeover);
const GET: (Request, Need) = (Request::Look, Need::Takeover);
const CHECK: (Request, Need) = (Request::Look, Need::Check);
const DELETE: (Request, Need) = (Request::Release, Need::Takeover);

struct Clock {
    ledger: Book,
    now: Instant,
    ip: &'static str,
    password: &'static [u8],
    limits: &'static Limits,
}

impl Clock {
    fn new() -> Clock {
        Clock { ledger: Book::default(), now: Instant::now(), ip: IP, password: b"old", limits: &LIMITS }
    }

    fn wait(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
    }

    fn account(&self) -> Account<'static> {
        Account { api: "api", user: b"u", secret: self.password, limits: self.limits }
    }

    fn question(&self, (request, need): (Request, Need)) -> Question<'static> {
        Question { account: self.account(), ip: self.ip, request, need }
    }

    /// Whether it is sent; if so, with this outcome.
    fn ask_for(&mut self, what: (Request, Need), outcome: Outcome) -> bool {
        let question = self.question(what);
        let held = self.ledger.held(&question, self.now);
        let admitted = self.ledger.admit(&question, self.now);
        let sent = admitted.map(|slot| self.ledger.learn(&question, slot, outcome, self.now));
        assert_eq!(sent.err(), held);
        held.is_none()
    }

    fn remembered(&self) -> usize {
        self.ledger.standings.values().map(|standing| standing.sent.len()).sum()
    }

    fn ask(&mut self, what: (Request, Need)) -> bool {
        self.ask_for(what, Outcome::Other)
    }

    /// How many are sent when one is asked for each second.
    fn ask_for_seconds(&mut self, what: (Request, Need), seconds: u64) -> usize {
        (0..seconds)
            .filter(|_| {
                self.wait(1);
                self.ask(what)
            })
            .count()
    }
}

#[test]
fn what_was_not_sent_does_not_count() {
    let mut clock = Clock::new();
    for what in [POST, GET, CHECK, DELETE, FIRST_POST] {
        assert!((0..1000).all(|_| clock.ask_for(what, Outcome::NotSent)), "{what:?}");
    }
    assert!((0..3).all(|_| clock.ask(POST)));
    assert!(!clock.ask(POST));
}

#[test]
fn three_tries_at_once_then_with_longer_and_longer_pauses() {
    let mut clock = Clock::new();
    assert!((0..3).all(|_| clock.ask(POST)));
    assert!(!clock.ask(POST));
    for pause in [30, 60, 120, 240, 240] {
        clock.wait(pause - 1);
        assert!(!clock.ask(POST), "{pause}");
        clock.wait(1);
        assert!(clock.ask(POST) && !clock.ask(POST), "{pause}");
    }
    assert!(clock.ask(FIRST_POST), "the first of an election is always sent");
    let sent = clock.ask_for_seconds(POST, 3600);
    assert!((14..=15).contains(&sent), "{sent}");
    clock.wait(3600);
    assert!((0..3).all(|_| clock.ask(POST)) && !clock.ask(POST));
}

#[test]
fn elections_that_succeed_are_not_tries() {
    let mut clock = Clock::new();
    assert!((0..10).all(|_| clock.ask_for(FIRST_POST, Outcome::Done)));
    assert!((0..3).all(|_| clock.ask(POST)) && !clock.ask(POST));
}

/// However many elections have failed before.
#[test]
fn no_ip_waits_longer_than_four_minutes_for_its_own_tries() {
    let mut clock = Clock::new();
    assert!((0..2 * REMEMBERED).all(|_| clock.ask(FIRST_POST)));
    assert_eq!(clock.remembered(), REMEMBERED);
    clock.wait(240);
    assert!(clock.ask(POST));
}

#[test]
fn the_ips_of_a_login_take_turns_when_its_limit_is_used_up() {
    let mut clock = Clock::new();
    let ips = ["1", "2", "3", "4", "5", "6", "7", "8", "9"];
    let mut sent: HashMap<&str, Vec<u64>> = HashMap::new();
    for second in 0..4 * 3600_u64 {
        clock.wait(1);
        // A guard asks again after two minutes at most, each at its own time.
        for (number, ip) in ips.iter().enumerate() {
            clock.ip = ip;
            if second % 120 == 7 * number as u64 && clock.ask(POST) {
                sent.entry(ip).or_default().push(second);
            }
        }
    }
    for (ip, sent) in &sent {
        let longest = sent.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(u64::MAX);
        assert!(longest <= 2800, "{ip} waited {longest} s: {sent:?}");
    }
    assert_eq!(sent.len(), 9);
    let last_hour = sent.values().flatten().filter(|second| **second >= 3 * 3600).count();
    assert!((14..=15).contains(&last_hour), "{last_hour}");
}

/// Elections of one Legion leave tries for the Lord of another.
#[test]
fn elections_put_no_ip_off() {
    let mut clock = Clock::new();
    let mut sent = 0;
    for _ in 0..60 {
        clock.wait(60);
        clock.ip = OTHER;
        assert!(clock.ask(FIRST_POST));
        clock.ip = IP;
        sent += usize::from(clock.ask(POST));
    }
    assert!(sent >= 15, "{sent}");
}

#[test]
fn two_rejected_logins_are_followed_by_silence() {
    let mut clock = Clock::new();
    for _ in 0..2 {
        assert!(clock.ask_for(FIRST_POST, Outcome::LoginRejected));
    }
    clock.wait(599);
    assert!(!clock.ask(FIRST_POST) && !clock.ask(GET));
    let other = Question { account: Account { user: b"other", ..clock.account() }, ..clock.question(GET) };
    assert!(clock.ledger.admit(&other, clock.now).is_ok());
    clock.wait(1);
    assert!(clock.ask_for(FIRST_POST, Outcome::LoginRejected));
    assert!(!clock.ask(FIRST_POST));
}

/// Several IPs of one login ask at the same time.
#[test]
fn after_a_rejected_login_one_at_a_time_is_tried() {
    let mut clock = Clock::new();
    let admit = |clock: &mut Clock| {
        let question = clock.question(FIRST_POST);
        clock.ledger.admit(&question, clock.now).ok()
    };
    let learn = |clock: &mut Clock, slot, outcome| {
        let question = clock.question(FIRST_POST);
        clock.ledger.learn(&question, slot, outcome, clock.now);
    };
    let first = admit(&mut clock).expect("nothing is known of it");
    let second = admit(&mut clock).expect("nor now");
    learn(&mut clock, first, Outcome::LoginRejected);
    assert_eq!(admit(&mut clock), None, "the second may be rejected, too");
    learn(&mut clock, second, Outcome::Other);
    let third = admit(&mut clock).expect("one is left");
    assert_eq!(admit(&mut clock), None);
    clock.password = b"new";
    assert!(admit(&mut clock).is_some(), "another password is another login");
    clock.password = b"old";
    clock.wait(179);
    assert_eq!(admit(&mut clock), None);
    clock.wait(1);
    let fourth = admit(&mut clock).expect("what has no answer by now gets none");
    learn(&mut clock, third, Outcome::Other);
    learn(&mut clock, fourth, Outcome::Done);
    assert!(admit(&mut clock).is_some() && admit(&mut clock).is_some() && admit(&mut clock).is_some());
}

#[test]
fn a_new_password_is_tried_once_during_the_lock_out() {
    let mut clock = Clock::new();
    for _ in 0..2 {
        assert!(clock.ask_for(POST, Outcome::LoginRejected));
    }
    assert!(!clock.ask(FIRST_POST), "the same password");
    clock.password = b"new";
    assert!(clock.ask_for(POST, Outcome::NotSent), "it was not sent");
    assert!(clock.ask_for(POST, Outcome::LoginRejected));
    for password in [b"new".as_slice(), b"old", b"newer"] {
        clock.password = password;
        assert!(!clock.ask(FIRST_POST));
    }
    clock.wait(600);
    assert!(clock.ask_for(POST, Outcome::LoginRejected) && !clock.ask(POST));
    clock.password = b"newest";
    assert!(clock.ask_for(POST, Outcome::LoginAccepted) && clock.ask(GET));
}

/// Both were wrong, so neither is worth a third login.
#[test]
fn a_password_that_was_rejected_is_not_a_new_one() {
    let mut clock = Clock::new();
    for password in [b"old".as_slice(), b"new"] {
        clock.password = password;
        assert!(clock.ask_for(POST, Outcome::LoginRejected));
    }
    clock.password = b"old";
    assert!(!clock.ask(POST));
}

#[test]
fn an_accepted_login_clears_earlier_rejections() {
    let mut clock = Clock::new();
    for outcome in [Outcome::LoginRejected, Outcome::LoginAccepted, Outcome::LoginRejected, Outcome::Other] {
        assert!(clock.ask_for(GET, outcome));
    }
    assert!(clock.ask(GET));
}

#[test]
fn a_limit_applies_to_its_own_method_only() {
    for (limited, others) in [(GET, [FIRST_POST, DELETE]), (FIRST_POST, [GET, DELETE]), (DELETE, [GET, POST])]
    {
        let mut clock = Clock::new();
        assert!(clock.ask_for(limited, Outcome::Limited(Duration::from_secs(150))));
        assert!(others.into_iter().all(|other| clock.ask_for(other, Outcome::LoginAccepted)), "{limited:?}");
        // One a minute is still sent.
        assert_eq!(clock.ask_for_seconds(limited, 149), 2, "{limited:?}");
        clock.wait(1);
        assert!(clock.ask(limited));
    }
}

#[test]
fn another_refusal_holds_all_requests_back_but_one_a_minute() {
    let mut clock = Clock::new();
    assert!(clock.ask_for(GET, Outcome::Refused(Duration::from_secs(150))));
    assert!(!clock.ask(FIRST_POST) && !clock.ask(DELETE));
    assert_eq!(clock.ask_for_seconds(FIRST_POST, 149), 2);
    clock.wait(1);
    assert!(clock.ask(FIRST_POST) && clock.ask(GET));
}

#[test]
fn checks_of_all_ips_together_leave_takeovers_their_looks() {
    let mut clock = Clock::new();
    for number in 0..100 {
        clock.ip = if number % 2 == 0 { IP } else { OTHER };
        assert_eq!(clock.ask(CHECK), number < 45);
    }
    assert!((0..15).all(|_| clock.ask(GET)));
    assert!(!clock.ask(GET) && clock.ask(POST));
    // And a takeover is not blind for the rest of the hour.
    assert_eq!(clock.ask_for_seconds(GET, 1200), 10);
    clock.wait(3600);
    assert!(clock.ask(CHECK) && clock.ask(GET));
}

#[test]
fn checks_are_as_frequent_as_the_login_allows_for_all_its_ips() {
    for (ips, asked, most) in
        [(1, 1, 45), (1, 60, 45), (1, 300, 12), (3, 300, 36), (4, 300, 45), (9, 300, 45)]
    {
        let mut clock = Clock::new();
        let asked = Duration::from_secs(asked);
        (0..ips).for_each(|_| clock.ledger.watch(&clock.account()));
        let mut due = vec![clock.now; ips];
        let mut sent = 0;
        for second in 1..=2 * 3600 {
            clock.wait(1);
            let now = clock.now;
            for due in due.iter_mut().filter(|due| **due <= now) {
                assert!(clock.ask(CHECK), "{ips} {asked:?}: held back after {second} s");
                sent += 1;
                *due = clock.now + clock.ledger.check_pause(&clock.account(), asked, clock.now);
            }
        }
        assert!(sent <= 2 * (most + ips) && sent >= 24, "{ips} {asked:?}: {sent}");
    }
    let mut clock = Clock::new();
    assert!(clock.ledger.check_pause(&clock.account(), Duration::ZERO, clock.now).is_zero());
}

#[test]
fn without_a_lock_out_rejected_logins_hold_nothing_back() {
    const LENIENT: Limits = Limits { lock_out: None, ..LIMITS };
    let mut clock = Clock { limits: &LENIENT, ..Clock::new() };
    assert!((0..1000).all(|_| clock.ask_for(FIRST_POST, Outcome::LoginRejected)));
}

/// The Cloud's limits: hours with checks as often as possible, and with a takeover that asks all the time.
#[test]
fn the_clouds_limits_leave_the_project_its_requests() {
    let mut clock = Clock { limits: &CLOUD, ..Clock::new() };
    clock.ledger.watch(&clock.account());
    for (asked, most) in [(60, 60), (1, 90)] {
        let (asked, mut due, mut sent) = (Duration::from_secs(asked), clock.now, 0);
        clock.wait(3600);
        for _ in 0..3600 {
            clock.wait(1);
            if due <= clock.now {
                assert!(clock.ask(CHECK), "held back after {sent}");
                sent += 1;
                due = clock.now + clock.ledger.check_pause(&clock.account(), asked, clock.now);
            }
        }
        assert!((most - 2..=most).contains(&sent), "{asked:?}: {sent}");
    }
    clock.wait(3600);
    assert_eq!(clock.ask_for_seconds(GET, 3600), 575, "300 at once, and then one every 12 s");
    let why = clock.ledger.held(&clock.question(GET), clock.now).expect("it is held back").why;
    assert_eq!(why, "300 GET were sent within an hour, so at most one every 12 s is sent");
    let posts = clock.ask_for_seconds(POST, 3600);
    assert!(posts <= 20, "{posts}");
    // What was turned away unread does not count: a takeover asks again after a moment.
    clock.wait(3600);
    assert!((0..100).all(|_| clock.ask_for(POST, Outcome::NotSent)));
}

#[test]
fn each_reason_has_its_words() {
    const MINUTE: Duration = Duration::from_secs(60);
    let (limited, refused) = (Outcome::Limited(MINUTE), Outcome::Refused(MINUTE));
    let logins = "2 logins were rejected, and another would lock this server's address out";
    let posts =
        "15 POST were sent within an hour, so at most two every 8 minutes are sent, for all IPs together";
    for (what, outcome, times, expected) in [
        (GET, Outcome::LoginRejected, 2, logins),
        (GET, refused, 1, "the API refused the last request, so at most one per minute is sent"),
        (GET, limited, 1, "the account's limit for GET is used up, so at most one per minute is sent"),
        (POST, limited, 1, "the account's limit for POST is used up, so at most one per minute is sent"),
        (DELETE, limited, 1, "the account's limit for DELETE is used up, so at most one per minute is sent"),
        (CHECK, Outcome::Other, 45, "45 GET were sent within an hour"),
        (GET, Outcome::Other, 60, "60 GET were sent within an hour, so at most one every 2 minutes is sent"),
        (POST, Outcome::Other, 3, "3 POST did not help, so the next ones are spaced out"),
        (DELETE, Outcome::Other, 15, posts),
    ] {
        let mut clock = Clock::new();
        (0..times).for_each(|_| assert!(clock.ask_for(what, outcome)));
        assert_eq!(
            clock.ledger.held(&clock.question(what), clock.now).expect("it is held back").why,
            expected
        );
    }
}
