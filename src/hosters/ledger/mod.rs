//! What the API is spared, in this process, across elections.
//!
//! Its limits are the account's, and each method's own; and three rejected logins lock this server's address out:
//! whoever retries without a memory has used both up when they matter. The figures leave room for a few nodes that
//! share an account's 50 POST and 100 GET an hour. Only what was sent counts. A POST is put off for minutes at most:
//! a Lord without its IP must be able to try again.

use std::collections::VecDeque;
use std::collections::hash_map::{HashMap, RandomState};
use std::hash::BuildHasher;
use std::net::IpAddr;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::hosters::{Kind, Need};

/// One less than what locks an address out (Robot webservice documentation, "Authentication").
pub const REJECTED_LOGINS: u32 = 2;
pub const LOCK_OUT: Duration = Duration::from_secs(600);
/// While the API refuses for the number of requests, or for who we are.
const REFUSED_PAUSE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const GETS_AN_HOUR: usize = 60;
/// Of these, so that no check leaves a takeover blind.
const CHECKS_AN_HOUR: usize = 45;
/// Between two GET of takeovers, when those of the hour are used up.
const GET_PAUSE: Duration = Duration::from_secs(120);
const POSTS_AN_HOUR: usize = 15;
/// One IP's POSTs beyond the first of each election: so many at once, then one after each of these pauses, in seconds,
/// and then after the last of them again and again. An API that is well again soon is soon asked again.
const POSTS_AT_ONCE: usize = 3;
const POST_PAUSES: [u64; 4] = [30, 60, 120, 240];
/// After so long without one the next tries are first ones again.
const CALM: Duration = Duration::from_secs(600);
/// Between two POSTs of one login, on average, when those of the hour are used up.
const POST_PAUSE: Duration = Duration::from_secs(240);
/// How long an IP that was put off keeps its turn: no guard waits longer before it asks again.
const TURN: Duration = Duration::from_secs(300);
/// More than an hour can hold but for elections, of which only the latest matter.
const KEPT: usize = 256;
/// Between two checks of one of so many IPs: forty an hour, so that some are left for what happens.
const CHECK_PAUSE: Duration = Duration::from_secs(90);
/// A single IP is checked as often as its `verify` says, so many times an hour; then once in this time.
const QUICK_CHECKS: usize = 15;
const SLOW_CHECK: Duration = Duration::from_secs(120);

/// What is about to be sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Request {
    Get,
    Post,
    /// Counted with the POSTs; refused apart from them.
    Delete,
}

/// Who asks for what.
#[derive(Clone, Copy)]
pub struct Question<'a> {
    pub user: &'a [u8],
    pub password: &'a [u8],
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

/// Why a request may not be sent now, and for how long.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Hold {
    pub kind: Kind,
    pub why: &'static str,
    pub remaining: Duration,
    /// Whether it is for what other IPs of the login have sent.
    is_shared: bool,
}

const LOCKED_OUT: &str = "two logins were rejected, a third would lock this server's address out";

impl Hold {
    /// For what another process has noted.
    pub fn locked_out(remaining: Duration) -> Hold {
        Hold { kind: Kind::Final, why: LOCKED_OUT, remaining, is_shared: false }
    }
}

/// A request that may be sent, and counts unless it turns out that it was not.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Slot(u64);

struct Sent {
    slot: Slot,
    at: Instant,
    ip: IpAddr,
    request: Request,
    /// Whether it holds the next POST of its IP back.
    is_try: bool,
    need: Need,
    /// Whether it was the one try with a new password.
    is_pardon: bool,
}

/// One webservice user's standing.
#[derive(Default)]
struct User {
    rejected: u32,
    locked_until: Option<Instant>,
    /// Hashes of the passwords that were rejected.
    rejected_passwords: Vec<u64>,
    /// Whether another password than those was tried during the lock-out.
    pardoned: bool,
    refused_until: Option<Instant>,
    limited_until: Vec<(Request, Instant)>,
    /// What was sent within the last hour, the oldest first.
    sent: VecDeque<Sent>,
    /// IPs whose POST was put off for the login's others, and when.
    put_off: HashMap<IpAddr, Instant>,
    /// How many guards check with this login.
    watched: usize,
}

/// The memory of this process.
#[derive(Default)]
pub struct Ledger {
    users: HashMap<Vec<u8>, User>,
    next_slot: u64,
    hasher: RandomState,
}

/// The one of this process.
pub fn ledger() -> MutexGuard<'static, Ledger> {
    static LEDGER: LazyLock<Mutex<Ledger>> = LazyLock::new(Mutex::default);
    LEDGER.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Ledger {
    /// Whether this would be held back now.
    pub fn held(&self, question: &Question, now: Instant) -> Option<Hold> {
        let user = self.users.get(question.user)?;
        let hash = self.hasher.hash_one(question.password);
        user.locked(now)
            .filter(|_| user.pardoned || user.rejected_passwords.contains(&hash))
            .or_else(|| user.refused(question.request, now))
            .or_else(|| user.over_budget(question, now))
    }

    /// Whether this may be sent now. If so, it counts.
    pub fn admit(&mut self, question: &Question, now: Instant) -> Result<Slot, Hold> {
        let Question { ip, request, need, .. } = *question;
        let hold = self.held(question, now);
        let user = self.users.entry(question.user.to_vec()).or_default();
        if let Some(hold) = hold {
            if hold.is_shared {
                user.put_off.insert(ip, now);
            }
            return Err(hold);
        }
        let is_pardon = user.locked(now).is_some();
        user.pardoned |= is_pardon;
        user.put_off.retain(|other, at| *other != ip && now.duration_since(*at) < TURN);
        user.forget(now);
        let slot = Slot(self.next_slot);
        self.next_slot += 1;
        user.sent.push_back(Sent { slot, at: now, ip, request, is_try: true, need, is_pardon });
        Ok(slot)
    }

    /// Learns what became of the request that was given this slot.
    pub fn learn(&mut self, question: &Question, slot: Slot, outcome: Outcome, now: Instant) {
        let Question { request, need, .. } = *question;
        let hash = self.hasher.hash_one(question.password);
        let Some(user) = self.users.get_mut(question.user) else { return };
        let position = user.sent.iter().position(|sent| sent.slot == slot);
        match outcome {
            Outcome::NotSent => {
                if let Some(sent) = position.and_then(|position| user.sent.remove(position)) {
                    user.pardoned &= !sent.is_pardon;
                }
            }
            Outcome::Done | Outcome::LoginAccepted => {
                user.rejected = 0;
                user.locked_until = None;
                user.rejected_passwords.clear();
                user.pardoned = false;
                user.refused_until = None;
                user.limited_until.retain(|(limited, _)| *limited != request);
                // An election that went well is no reason to put off the next step of another.
                if outcome == Outcome::Done && need == Need::Election {
                    if let Some(position) = position {
                        user.sent[position].is_try = false;
                    }
                }
            }
            Outcome::LoginRejected => {
                if user.locked_until.is_some_and(|until| until <= now) {
                    user.pardoned = false;
                    user.rejected_passwords.clear();
                }
                user.rejected += 1;
                user.rejected_passwords.push(hash);
                if user.rejected >= REJECTED_LOGINS {
                    user.locked_until = Some(now + LOCK_OUT);
                    // After the lock-out one login at a time is tried.
                    user.rejected = REJECTED_LOGINS - 1;
                }
            }
            Outcome::Limited(time) => {
                user.limited_until.retain(|(limited, _)| *limited != request);
                user.limited_until.push((request, now + time));
            }
            Outcome::Refused(time) => user.refused_until = Some(now + time),
            Outcome::Other => {}
        }
    }
}

impl Ledger {
    /// Notes one more guard that checks with this login.
    pub fn watch(&mut self, user: &[u8]) {
        self.users.entry(user.to_vec()).or_default().watched += 1;
    }

    /// How long to wait for the next check where `asked` is what is configured.
    pub fn check_pause(&self, user: &[u8], asked: Duration, now: Instant) -> Duration {
        let Some(user) = self.users.get(user).filter(|_| !asked.is_zero()) else { return asked };
        let shortest = shortest_check_pause(user.watched);
        if asked >= shortest {
            return asked;
        }
        if user.watched > 1 {
            return shortest;
        }
        let checks = user.within_the_hour(now).filter(|sent| sent.need == Need::Check).count();
        if checks < QUICK_CHECKS { asked } else { asked.max(SLOW_CHECK) }
    }
}

/// The shortest time between two checks of one IP that so many of a login can keep up.
pub fn shortest_check_pause(ips: usize) -> Duration {
    CHECK_PAUSE * u32::try_from(ips.max(1)).unwrap_or(u32::MAX)
}

impl User {
    fn locked(&self, now: Instant) -> Option<Hold> {
        hold(Kind::Final, LOCKED_OUT, self.locked_until?, now)
    }

    /// Whether the API has said that it wants no more of such requests, but for one a minute.
    fn refused(&self, request: Request, now: Instant) -> Option<Hold> {
        let last = |wanted: &dyn Fn(&Sent) -> bool| {
            self.sent.iter().rev().find(|sent| wanted(sent)).map(|sent| sent.at + REFUSED_PAUSE)
        };
        let all = self.refused_until.filter(|until| *until > now).and_then(|_| last(&|_| true));
        let why = "the API refused the last request, so at most one a minute is sent";
        if let Some(hold) = all.and_then(|next| hold(Kind::Refused, why, next, now)) {
            return Some(hold);
        }
        self.limited_until.iter().find(|(limited, until)| *limited == request && *until > now)?;
        let why = match request {
            Request::Get => "the account's limit of GET is used up, so at most one a minute is sent",
            Request::Post => "the account's limit of POST is used up, so at most one a minute is sent",
            Request::Delete => "the account's limit of DELETE is used up, so at most one a minute is sent",
        };
        hold(Kind::HeldBack, why, last(&|sent| sent.request == request)?, now)
    }

    fn over_budget(&self, question: &Question, now: Instant) -> Option<Hold> {
        let Question { ip, request, need, .. } = *question;
        match (request, need) {
            (Request::Get, _) => {
                let gets: Vec<Instant> = self
                    .within_the_hour(now)
                    .filter(|sent| sent.request == Request::Get)
                    .map(|sent| sent.at)
                    .collect();
                if need == Need::Check {
                    let first = gets.first().filter(|_| gets.len() >= CHECKS_AN_HOUR)?;
                    return hold(Kind::HeldBack, "45 GET were sent within an hour", *first + HOUR, now);
                }
                let last = gets.last().filter(|_| gets.len() >= GETS_AN_HOUR)?;
                let why = "60 GET were sent within an hour, so at most one each two minutes is sent";
                hold(Kind::HeldBack, why, *last + GET_PAUSE, now)
            }
            (_, Need::Election) => None,
            (Request::Post, _) => {
                let why = "three POST brought nothing, so that the next ones are spread";
                self.next_post_of(ip)
                    .and_then(|next| hold(Kind::HeldBack, why, next, now))
                    .or_else(|| self.over_login(ip, now))
            }
            (Request::Delete, _) => self.over_login(ip, now),
        }
    }

    /// When the next POST of this IP is due.
    fn next_post_of(&self, ip: IpAddr) -> Option<Instant> {
        let (mut tries, mut last) = (0_usize, None::<Instant>);
        for sent in self.posts().filter(|sent| sent.ip == ip && sent.is_try) {
            let is_calm = last.is_some_and(|last| sent.at.duration_since(last) >= CALM);
            (tries, last) = (if is_calm { 1 } else { tries + 1 }, Some(sent.at));
        }
        let pause = POST_PAUSES[tries.checked_sub(POSTS_AT_ONCE)?.min(POST_PAUSES.len() - 1)];
        // Calm again by now, it would be due long since.
        last.map(|last| last + Duration::from_secs(pause))
    }

    /// Whether the login's POSTs of the hour are used up, or left to IPs that have waited longer.
    fn over_login(&self, ip: IpAddr, now: Instant) -> Option<Hold> {
        let last_of = |ip: IpAddr| self.posts().rev().find(|sent| sent.ip == ip).map(|sent| sent.at);
        let comes_first = |(other, at): &(&IpAddr, &Instant)| {
            **other != ip && now.duration_since(**at) < TURN && last_of(**other) < last_of(ip)
        };
        let first = self.put_off.iter().filter(comes_first).count();
        let used_up = self.within_the_hour(now).filter(|sent| sent.request != Request::Get).count();
        if used_up + first < POSTS_AN_HOUR {
            return None;
        }
        // Those of elections are sent in any case, and keep nobody from what is left. Two in twice the time, so that
        // nothing is lost where the one whose turn it is comes late.
        let last = self.posts().rev().filter(|sent| sent.need != Need::Election).nth(1);
        let next = last.filter(|_| used_up >= POSTS_AN_HOUR).map_or(now, |sent| sent.at + 2 * POST_PAUSE);
        let next = if first > 0 { next.max(now + REFUSED_PAUSE) } else { next };
        let why = "15 POST were sent within an hour, so at most two each eight minutes are sent for all IPs";
        hold(Kind::HeldBack, why, next, now).map(|hold| Hold { is_shared: true, ..hold })
    }

    fn posts(&self) -> impl DoubleEndedIterator<Item = &Sent> {
        self.sent.iter().filter(|sent| sent.request != Request::Get)
    }

    fn within_the_hour(&self, now: Instant) -> impl Iterator<Item = &Sent> {
        self.sent.iter().filter(move |sent| now.duration_since(sent.at) < HOUR)
    }

    fn forget(&mut self, now: Instant) {
        let is_old = |sent: &Sent| now.duration_since(sent.at) >= HOUR;
        while self.sent.len() >= KEPT || self.sent.front().is_some_and(is_old) {
            self.sent.pop_front();
        }
    }
}

fn hold(kind: Kind, why: &'static str, until: Instant, now: Instant) -> Option<Hold> {
    let remaining = until.saturating_duration_since(now);
    (!remaining.is_zero()).then_some(Hold { kind, why, remaining, is_shared: false })
}

#[cfg(test)]
mod tests;
