//! Keeps a hoster's limits ([`Limits`]) across elections: remembers what this process has sent ([`book`]), and tells the
//! other processes of this server which logins were rejected ([`rejected`]). May use `uwsgi`, to know whose files these are.

mod book;
mod limits;
mod rejected;
#[cfg(test)]
mod tests;

use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::hosters::{Failure, Kind, Need, Request, Stage};
use crate::metrics::{Metrics, count};
use crate::sys::lock;
use book::{Book, Slot};
pub use limits::{Limits, LockOut};

/// A login at an API, and its limits.
#[derive(Clone, Copy)]
pub struct Account<'a> {
    pub api: &'a str,
    pub user: &'a [u8],
    /// Only a hash of it is kept.
    pub secret: &'a [u8],
    pub limits: &'static Limits,
}

/// A request that is to be sent.
#[derive(Clone, Copy)]
pub struct Question<'a> {
    pub account: Account<'a>,
    pub ip: &'a str,
    pub request: Request,
    pub need: Need,
}

/// What came of a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    NotSent,
    /// It was done.
    Done,
    /// It was not done, but the answer shows that the login is right.
    LoginAccepted,
    LoginRejected,
    /// Over the limit for this kind of request, for this time.
    Limited(Duration),
    /// The hoster refuses all requests, probably for this time.
    Refused(Duration),
    Other,
}

/// Why a request must not be sent now, and for how long.
#[derive(PartialEq, Eq, Debug)]
pub struct Hold {
    kind: Kind,
    why: String,
    pub remaining: Duration,
    /// Whether the reason is what was sent for all IPs of the account together.
    is_shared: bool,
}

impl Hold {
    /// `None` if that time has come.
    fn until(until: Instant, now: Instant, kind: Kind, why: String) -> Option<Hold> {
        let remaining = until.saturating_duration_since(now);
        (!remaining.is_zero()).then_some(Hold { kind, why, remaining, is_shared: false })
    }

    fn locked_out(remaining: Duration, LockOut { rejected, .. }: &LockOut) -> Hold {
        let why =
            format!("{rejected} logins were rejected, and another would lock this server's address out");
        Hold { kind: Kind::Final, why, remaining, is_shared: false }
    }
}

/// Says when it ends instead of how much time remains, so that the text stays the same until then.
impl From<Hold> for Failure {
    fn from(hold: Hold) -> Failure {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let until = (now + hold.remaining).as_secs();
        let (hour, minute, second) = (until / 3600 % 24, until / 60 % 60, until % 60);
        let sentence = format!("held back until {hour:02}:{minute:02}:{second:02} UTC: {}", hold.why);
        Failure::new(hold.kind, Stage::Way, sentence)
    }
}

/// The memory of this process.
#[derive(Default)]
pub struct Ledger(Mutex<Book>);

impl Ledger {
    /// Whether this would be held back now.
    pub fn held(&self, question: &Question) -> Option<Hold> {
        rejected::held(&question.account).or_else(|| self.book().held(question, Instant::now()))
    }

    /// Whether this may be sent now. If so, it counts, unless [`Ledger::learn`] is told that it was not sent.
    pub fn admit(&self, question: &Question, metrics: &Metrics) -> Result<Slot, Failure> {
        let held = rejected::held(&question.account);
        let slot = held.map_or_else(|| self.book().admit(question, Instant::now()), Err);
        slot.map_err(|hold| {
            count(&metrics.requests_held_back);
            Failure::from(hold)
        })
    }

    /// Learns what came of the request that was given this slot.
    pub fn learn(&self, question: &Question, slot: Slot, outcome: Outcome) {
        match outcome {
            Outcome::LoginRejected => rejected::add(&question.account),
            Outcome::Done | Outcome::LoginAccepted => rejected::forget(&question.account),
            _ => None,
        };
        self.book().learn(question, slot, outcome, Instant::now());
    }

    pub fn book(&self) -> MutexGuard<'_, Book> {
        lock(&self.0)
    }
}
