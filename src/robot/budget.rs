//! What the API is spared, in this process, across elections.
//!
//! Its limits are the account's, and three rejected logins lock this server's address out: whoever retries
//! without a memory has used both up when they matter. The figures leave room for a few nodes that share an
//! account's 50 POST and 100 GET an hour.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::hoster::Need;

/// One less than what locks an address out (Robot webservice documentation, "Authentication").
pub const REJECTED_LOGINS: u32 = 2;
pub const LOCK_OUT: Duration = Duration::from_secs(600);
/// While the API refuses for the number of requests, or for who we are.
const REFUSED_PAUSE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const POSTS_AN_HOUR: usize = 15;
const GETS_AN_HOUR: usize = 60;
/// Of these, so that a short `verify` cannot leave a takeover blind.
const CHECKS_AN_HOUR: usize = 45;

/// What is about to be sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Request {
    Post,
    Get,
}

/// What came back, as far as it matters here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// An answer for which the login must have been right.
    LoginAccepted,
    LoginRejected,
    /// Refused, and for so long only now and then worth a request.
    Refused(Duration),
    /// Nothing that tells.
    Other,
}

/// Why a request may not be sent now, and for how long.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Hold {
    pub why: &'static str,
    pub remaining: Duration,
    /// Whether nothing at all may be sent with this login, rather than no more of this kind.
    pub for_all: bool,
}

impl Hold {
    pub fn rejected(remaining: Duration) -> Hold {
        let why = "two logins were rejected, a third would lock this server's address out";
        Hold { why, remaining, for_all: true }
    }
}

/// One webservice user's standing.
#[derive(Default)]
struct User {
    rejected: u32,
    locked_until: Option<Instant>,
    refused_until: Option<Instant>,
    last_request: Option<Instant>,
}

/// When the requests of the last hour for one failover IP were sent.
#[derive(Default)]
struct Spent {
    posts: VecDeque<Instant>,
    gets: VecDeque<Instant>,
}

/// The memory of this process.
#[derive(Default)]
pub struct Ledger {
    users: HashMap<Vec<u8>, User>,
    ips: HashMap<(Vec<u8>, IpAddr), Spent>,
}

/// The one of this process.
pub fn ledger() -> MutexGuard<'static, Ledger> {
    static LEDGER: LazyLock<Mutex<Ledger>> = LazyLock::new(Mutex::default);
    LEDGER.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Ledger {
    /// Whether nothing may be sent with this login now.
    pub fn held(&self, user: &[u8], now: Instant) -> Option<Hold> {
        let user = self.users.get(user)?;
        let left = |until: Option<Instant>| until.map(|until| until.saturating_duration_since(now));
        let open = |left: &Duration| !left.is_zero();
        if let Some(remaining) = left(user.locked_until).filter(open) {
            return Some(Hold::rejected(remaining));
        }
        left(user.refused_until).filter(open)?;
        let next = user.last_request.map(|last| last + REFUSED_PAUSE);
        let remaining = left(next).filter(open)?;
        Some(Hold {
            why: "the API refused the last request, so at most one a minute is sent",
            remaining,
            for_all: true,
        })
    }

    /// Whether `request` may be sent now. If so, it counts.
    pub fn admit(
        &mut self,
        user: &[u8],
        ip: IpAddr,
        request: Request,
        need: Need,
        now: Instant,
    ) -> Result<(), Hold> {
        if let Some(hold) = self.held(user, now) {
            return Err(hold);
        }
        let spent = self.ips.entry((user.to_vec(), ip)).or_default();
        let (sent, most, why) = match (request, need) {
            (Request::Get, Need::Check) => {
                (&mut spent.gets, CHECKS_AN_HOUR, "45 GET were sent within an hour")
            }
            (Request::Get, _) => (&mut spent.gets, GETS_AN_HOUR, "60 GET were sent within an hour"),
            (Request::Post, Need::Election) => (&mut spent.posts, usize::MAX, ""),
            (Request::Post, _) => (&mut spent.posts, POSTS_AN_HOUR, "15 POST were sent within an hour"),
        };
        while sent.front().is_some_and(|&at| now.duration_since(at) >= HOUR) {
            sent.pop_front();
        }
        if let Some(&oldest) = sent.front().filter(|_| sent.len() >= most) {
            return Err(Hold { why, remaining: HOUR - now.duration_since(oldest), for_all: false });
        }
        // An election's POST is sent beyond the budget, and only so many decide about the next.
        if request == Request::Post && sent.len() >= POSTS_AN_HOUR {
            sent.pop_front();
        }
        sent.push_back(now);
        self.users.entry(user.to_vec()).or_default().last_request = Some(now);
        Ok(())
    }

    /// Learns from an answer.
    pub fn learn(&mut self, user: &[u8], outcome: Outcome, now: Instant) {
        let user = self.users.entry(user.to_vec()).or_default();
        match outcome {
            Outcome::LoginAccepted => *user = User { last_request: user.last_request, ..User::default() },
            Outcome::LoginRejected => {
                user.rejected += 1;
                if user.rejected >= REJECTED_LOGINS {
                    user.locked_until = Some(now + LOCK_OUT);
                    // After the lock-out one login at a time is tried.
                    user.rejected = REJECTED_LOGINS - 1;
                }
            }
            Outcome::Refused(time) => user.refused_until = Some(now + time),
            Outcome::Other => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IP: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(4, 4, 4, 4));

    const FIRST_POST: (Request, Need) = (Request::Post, Need::Election);
    const POST: (Request, Need) = (Request::Post, Need::Takeover);
    const GET: (Request, Need) = (Request::Get, Need::Takeover);
    const CHECK: (Request, Need) = (Request::Get, Need::Check);

    struct Clock {
        ledger: Ledger,
        now: Instant,
    }

    impl Clock {
        fn new() -> Clock {
            Clock { ledger: Ledger::default(), now: Instant::now() }
        }

        fn wait(&mut self, seconds: u64) {
            self.now += Duration::from_secs(seconds);
        }

        fn ask(&mut self, (request, need): (Request, Need)) -> bool {
            self.ledger.admit(b"u", IP, request, need, self.now).is_ok()
        }

        fn learn(&mut self, outcome: Outcome) {
            self.ledger.learn(b"u", outcome, self.now);
        }
    }

    #[test]
    fn of_the_posts_of_elections_only_the_last_are_kept() {
        let mut clock = Clock::new();
        for _ in 0..100 {
            assert!(clock.ask(FIRST_POST));
            clock.wait(1);
        }
        assert_eq!(clock.ledger.ips.values().next().unwrap().posts.len(), POSTS_AN_HOUR);
        assert!(!clock.ask(POST));
        // Fifteen seconds ago the first of the last fifteen was sent.
        clock.wait(3600 - 15 - 1);
        assert!(!clock.ask(POST));
        clock.wait(1);
        assert!(clock.ask(POST));
    }

    #[test]
    fn two_rejected_logins_are_followed_by_silence() {
        let mut clock = Clock::new();
        for _ in 0..2 {
            assert!(clock.ask(FIRST_POST));
            clock.learn(Outcome::LoginRejected);
        }
        clock.wait(599);
        assert!(!clock.ask(FIRST_POST) && !clock.ask(GET));
        assert!(clock.ledger.admit(b"other", IP, Request::Get, Need::Takeover, clock.now).is_ok());
        clock.wait(1);
        assert!(clock.ask(FIRST_POST));
        clock.learn(Outcome::LoginRejected);
        assert!(!clock.ask(FIRST_POST));
    }

    #[test]
    fn a_right_login_is_forgiven_an_earlier_wrong_one() {
        let mut clock = Clock::new();
        for outcome in
            [Outcome::LoginRejected, Outcome::LoginAccepted, Outcome::LoginRejected, Outcome::Other]
        {
            assert!(clock.ask(GET));
            clock.learn(outcome);
        }
        assert!(clock.ask(GET));
    }

    #[test]
    fn over_the_limit_one_request_a_minute_is_left() {
        let mut clock = Clock::new();
        assert!(clock.ask(FIRST_POST));
        clock.learn(Outcome::Refused(Duration::from_secs(150)));
        let mut sent = 0;
        for _ in 0..149 {
            clock.wait(1);
            sent += u32::from(clock.ask(FIRST_POST));
        }
        assert_eq!(sent, 2);
        clock.wait(1);
        assert!(clock.ask(GET) && clock.ask(GET));
    }

    #[test]
    fn an_hour_has_so_many_requests_but_the_first_of_an_election() {
        let mut clock = Clock::new();
        assert!((0..15).all(|_| clock.ask(POST)));
        assert!(!clock.ask(POST));
        assert!(clock.ask(FIRST_POST));
        assert!((0..45).all(|_| clock.ask(CHECK)));
        assert!(!clock.ask(CHECK), "the rest is for takeovers");
        assert!((0..15).all(|_| clock.ask(GET)));
        assert!(!clock.ask(GET));
        assert!(clock.ledger.held(b"u", clock.now).is_none());
        clock.wait(3600);
        assert!(clock.ask(POST) && clock.ask(GET));
    }
}
