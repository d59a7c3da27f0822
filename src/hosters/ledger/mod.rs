//! What a hoster is spared, in this process and across elections: how much it allows ([`Limits`]) against what was sent to
//! it ([`book`]), and for the other processes of this machine which logins it has rejected ([`rejected`]). May touch
//! `uwsgi`, for whose files those are.

mod book;
mod hold;
mod limits;
mod rejected;
#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::hosters::{Need, Request};
use book::Book;
pub use book::Slot;
pub use hold::{Hold, Why};
pub use limits::{Limits, LockOut, Looks, Switches};

/// Who asks where.
#[derive(Clone, Copy)]
pub struct Account<'a> {
    pub api: &'a str,
    pub user: &'a [u8],
    /// Kept as a hash alone.
    pub secret: &'a [u8],
    pub limits: &'static Limits,
}

impl Account<'_> {
    /// What is the same for all who share its limits.
    fn key(&self) -> (String, Vec<u8>) {
        (self.api.to_string(), self.user.to_vec())
    }
}

/// Who asks for what.
#[derive(Clone, Copy)]
pub struct Question<'a> {
    pub account: Account<'a>,
    pub ip: IpAddr,
    pub request: Request,
    pub need: Need,
}

/// What came back, as far as it matters here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// Nothing was sent.
    NotSent,
    /// What was asked for is done.
    Done,
    /// An answer for which the login must have been right.
    LoginAccepted,
    LoginRejected,
    /// Over the limit of such requests, for so long.
    Limited(Duration),
    /// Refused whatever is asked, and for so long only now and then worth a request.
    Refused(Duration),
    /// Nothing that tells.
    Other,
}

/// The memory of a process.
#[derive(Default)]
pub struct Ledger(Mutex<Book>);

impl Ledger {
    /// Whether this would be held back now.
    pub fn held(&self, question: &Question) -> Option<Hold> {
        rejected::held(&question.account).or_else(|| self.book().held(question, Instant::now()))
    }

    /// Whether this may be sent now. If so, it counts, unless [`Ledger::learn`] is told that it was not sent.
    pub fn admit(&self, question: &Question) -> Result<Slot, Hold> {
        match rejected::held(&question.account) {
            Some(hold) => Err(hold),
            None => self.book().admit(question, Instant::now()),
        }
    }

    /// Learns what became of the request that was given this slot.
    pub fn learn(&self, question: &Question, slot: Slot, outcome: Outcome) {
        match outcome {
            Outcome::LoginRejected => rejected::add(&question.account),
            Outcome::Done | Outcome::LoginAccepted => rejected::forget(&question.account),
            _ => {}
        }
        self.book().learn(question, slot, outcome, Instant::now());
    }

    /// Notes one more guard that checks with this login, for [`Ledger::check_pause`].
    pub fn watch(&self, account: &Account) {
        self.book().watch(account);
    }

    /// How long a guard waits for its next check where `asked` is what is configured: that, or longer where all IPs of the
    /// login together would use up what is allowed an hour. Zero is never.
    pub fn check_pause(&self, account: &Account, asked: Duration) -> Duration {
        self.book().check_pause(account, asked, Instant::now())
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
