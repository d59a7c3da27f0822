//! What was asked of each account, and what came of it: whoever retries without a memory has used up what the hoster
//! allows when it matters.
//!
//! A limit is the account's, and each kind of request's own. Only what was sent counts. A switch is put off for minutes at
//! most: a Lord without its IP must be able to try again.

use std::collections::VecDeque;
use std::collections::hash_map::{HashMap, RandomState};
use std::hash::BuildHasher;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::{Account, Hold, Limits, LockOut, Looks, Outcome, Question, Switches, Why};
use crate::hosters::{Need, Request};

const HOUR: Duration = Duration::from_secs(3600);
/// While the hoster refuses for the number of requests, or for who we are.
const REFUSED_PAUSE: Duration = Duration::from_secs(60);
/// More than any limits allow an hour, but for elections, of which only the latest matter.
pub const REMEMBERED: usize = 4096;

/// A request that may be sent, and counts unless it turns out that it was not.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Slot(u64);

struct Sent {
    slot: Slot,
    at: Instant,
    ip: IpAddr,
    request: Request,
    /// Whether it holds the next switch of its IP back.
    is_try: bool,
    need: Need,
    /// Whether it was the one try with a new secret.
    is_pardon: bool,
}

/// What is known of one account.
struct Standing {
    limits: &'static Limits,
    rejected: usize,
    locked_until: Option<Instant>,
    /// Hashes of the secrets that were rejected.
    rejected_secrets: Vec<u64>,
    /// Whether another secret than those was tried during the lock-out.
    pardoned: bool,
    refused_until: Option<Instant>,
    limited_until: Vec<(Request, Instant)>,
    /// What was sent within the last hour, the oldest first.
    sent: VecDeque<Sent>,
    /// IPs whose switch was put off for the login's others, and when.
    put_off: HashMap<IpAddr, Instant>,
    /// How many guards check with this login.
    watched: usize,
}

/// All that is known, by API and user.
#[derive(Default)]
pub struct Book {
    standings: HashMap<(String, Vec<u8>), Standing>,
    next_slot: u64,
    hasher: RandomState,
}

impl Book {
    fn standing(&self, account: &Account) -> Option<&Standing> {
        self.standings.get(&account.key())
    }

    fn standing_mut(&mut self, account: &Account) -> &mut Standing {
        self.standings.entry(account.key()).or_insert_with(|| Standing::new(account.limits))
    }

    /// Whether this would be held back now.
    pub fn held(&self, question: &Question, now: Instant) -> Option<Hold> {
        let standing = self.standing(&question.account)?;
        let hash = self.hasher.hash_one(question.account.secret);
        standing
            .locked(now)
            .filter(|_| standing.pardoned || standing.rejected_secrets.contains(&hash))
            .or_else(|| standing.refused(question.request, now))
            .or_else(|| standing.over_limit(question, now))
    }

    /// Whether this may be sent now. If so, it counts.
    pub fn admit(&mut self, question: &Question, now: Instant) -> Result<Slot, Hold> {
        let Question { account, ip, request, need } = *question;
        let hold = self.held(question, now);
        let slot = Slot(self.next_slot);
        self.next_slot += 1;
        let standing = self.standing_mut(&account);
        if let Some(hold) = hold {
            if matches!(hold.why, Why::Switches(_)) {
                standing.put_off.insert(ip, now);
            }
            return Err(hold);
        }
        let is_pardon = standing.locked(now).is_some();
        standing.pardoned |= is_pardon;
        standing.forget(ip, now);
        standing.sent.push_back(Sent { slot, at: now, ip, request, is_try: true, need, is_pardon });
        Ok(slot)
    }

    /// Learns what became of the request that was given this slot.
    pub fn learn(&mut self, question: &Question, slot: Slot, outcome: Outcome, now: Instant) {
        let hash = self.hasher.hash_one(question.account.secret);
        self.standing_mut(&question.account).learn(question, slot, outcome, hash, now);
    }

    /// Notes one more guard that checks with this login.
    pub fn watch(&mut self, account: &Account) {
        self.standing_mut(account).watched += 1;
    }

    /// How long to wait for the next check where `asked` is what is configured.
    pub fn check_pause(&self, account: &Account, asked: Duration, now: Instant) -> Duration {
        let (Some(standing), Some(looks)) = (self.standing(account), &account.limits.looks) else {
            return asked;
        };
        let shortest = account.limits.shortest_check_pause(standing.watched);
        if asked.is_zero() || asked >= shortest {
            return asked;
        }
        if standing.watched > 1 {
            return shortest;
        }
        let checks = standing.within_the_hour(now).filter(|sent| sent.need == Need::Check).count();
        if checks < looks.quick_checks { asked } else { asked.max(looks.slow_check) }
    }
}

#[cfg(test)]
impl Book {
    pub fn remembered(&self, account: &Account) -> usize {
        self.standing(account).map_or(0, |standing| standing.sent.len())
    }
}

impl Standing {
    fn new(limits: &'static Limits) -> Standing {
        Standing {
            limits,
            rejected: 0,
            locked_until: None,
            rejected_secrets: Vec::new(),
            pardoned: false,
            refused_until: None,
            limited_until: Vec::new(),
            sent: VecDeque::new(),
            put_off: HashMap::new(),
            watched: 0,
        }
    }

    fn learn(&mut self, question: &Question, slot: Slot, outcome: Outcome, secret: u64, now: Instant) {
        let Question { request, need, .. } = *question;
        let position = self.sent.iter().position(|sent| sent.slot == slot);
        match outcome {
            Outcome::NotSent => {
                if let Some(sent) = position.and_then(|position| self.sent.remove(position)) {
                    self.pardoned &= !sent.is_pardon;
                }
            }
            Outcome::Done | Outcome::LoginAccepted => {
                self.rejected = 0;
                self.locked_until = None;
                self.rejected_secrets.clear();
                self.pardoned = false;
                self.refused_until = None;
                self.limited_until.retain(|(limited, _)| *limited != request);
                // An election that went well is no reason to put off the next step of another.
                if outcome == Outcome::Done && need == Need::Election {
                    if let Some(position) = position {
                        self.sent[position].is_try = false;
                    }
                }
            }
            Outcome::LoginRejected => {
                let Some(LockOut { rejected, time }) = self.limits.lock_out else { return };
                if self.locked_until.is_some_and(|until| until <= now) {
                    self.pardoned = false;
                    self.rejected_secrets.clear();
                }
                self.rejected += 1;
                self.rejected_secrets.push(secret);
                if self.rejected >= rejected {
                    self.locked_until = Some(now + time);
                    // After the lock-out one login at a time is tried.
                    self.rejected = rejected - 1;
                }
            }
            Outcome::Limited(time) => {
                self.limited_until.retain(|(limited, _)| *limited != request);
                self.limited_until.push((request, now + time));
            }
            Outcome::Refused(time) => self.refused_until = Some(now + time),
            Outcome::Other => {}
        }
    }

    fn hold(&self, why: Why, until: Instant, now: Instant) -> Option<Hold> {
        let remaining = until.saturating_duration_since(now);
        (!remaining.is_zero()).then_some(Hold { why, remaining, limits: self.limits })
    }

    fn locked(&self, now: Instant) -> Option<Hold> {
        self.hold(Why::LockedOut(self.limits.lock_out.as_ref()?), self.locked_until?, now)
    }

    /// Whether the hoster has said that it wants no more of such requests, but for one a minute.
    fn refused(&self, request: Request, now: Instant) -> Option<Hold> {
        let last = |wanted: &dyn Fn(&Sent) -> bool| {
            self.sent.iter().rev().find(|sent| wanted(sent)).map(|sent| sent.at + REFUSED_PAUSE)
        };
        let all = self.refused_until.filter(|until| *until > now).and_then(|_| last(&|_| true));
        if let Some(hold) = all.and_then(|next| self.hold(Why::Refused, next, now)) {
            return Some(hold);
        }
        self.limited_until.iter().find(|(limited, until)| *limited == request && *until > now)?;
        self.hold(Why::UsedUp(request), last(&|sent| sent.request == request)?, now)
    }

    /// Whether as much was sent as we allow ourselves.
    fn over_limit(&self, question: &Question, now: Instant) -> Option<Hold> {
        let Question { ip, request, need, .. } = *question;
        if request == Request::Look {
            return self.over_looks(self.limits.looks.as_ref()?, need, now);
        }
        let switches = self.limits.switches.as_ref().filter(|_| need != Need::Election)?;
        let next = self.next_try_of(ip, switches).filter(|_| request == Request::Switch);
        next.and_then(|next| self.hold(Why::Tries(switches), next, now))
            .or_else(|| self.over_switches(switches, ip, now))
    }

    fn over_looks(&self, looks: &'static Looks, need: Need, now: Instant) -> Option<Hold> {
        let counts = |sent: &&Sent| looks.are_all_requests || sent.request == Request::Look;
        let sent: Vec<Instant> = self.within_the_hour(now).filter(counts).map(|sent| sent.at).collect();
        if need == Need::Check {
            let first = sent.first().filter(|_| sent.len() >= looks.checks_an_hour)?;
            return self.hold(Why::Checks(looks), *first + HOUR, now);
        }
        let last = sent.last().filter(|_| sent.len() >= looks.an_hour)?;
        self.hold(Why::Looks(looks), *last + looks.pause, now)
    }

    /// When the next switch of this IP is due.
    fn next_try_of(&self, ip: IpAddr, switches: &Switches) -> Option<Instant> {
        let (mut tries, mut last) = (0_usize, None::<Instant>);
        for sent in self.switches().filter(|sent| sent.ip == ip && sent.is_try) {
            let is_calm = last.is_some_and(|last| sent.at.duration_since(last) >= switches.calm);
            (tries, last) = (if is_calm { 1 } else { tries + 1 }, Some(sent.at));
        }
        let position = tries.checked_sub(switches.at_once)?;
        let pause = switches.pauses.get(position).or(switches.pauses.last())?;
        // Calm again by now, it would be due long since.
        last.map(|last| last + Duration::from_secs(*pause))
    }

    /// Whether the account's switches of the hour are used up, or left to IPs that have waited longer.
    fn over_switches(&self, switches: &'static Switches, ip: IpAddr, now: Instant) -> Option<Hold> {
        let last_of = |ip: IpAddr| self.switches().rev().find(|sent| sent.ip == ip).map(|sent| sent.at);
        let comes_first = |(other, at): &(&IpAddr, &Instant)| {
            **other != ip && now.duration_since(**at) < switches.turn && last_of(**other) < last_of(ip)
        };
        let first = self.put_off.iter().filter(comes_first).count();
        let used_up = self.within_the_hour(now).filter(|sent| sent.request != Request::Look).count();
        if used_up + first < switches.an_hour {
            return None;
        }
        // Those of elections are sent in any case, and keep nobody from what is left. Two in twice the time, so that
        // nothing is lost where the one whose turn it is comes late.
        let last = self.switches().rev().filter(|sent| sent.need != Need::Election).nth(1);
        let next =
            last.filter(|_| used_up >= switches.an_hour).map_or(now, |sent| sent.at + 2 * switches.pause);
        let next = if first > 0 { next.max(now + REFUSED_PAUSE) } else { next };
        self.hold(Why::Switches(switches), next, now)
    }

    /// Releases among them.
    fn switches(&self) -> impl DoubleEndedIterator<Item = &Sent> {
        self.sent.iter().filter(|sent| sent.request != Request::Look)
    }

    fn within_the_hour(&self, now: Instant) -> impl Iterator<Item = &Sent> {
        self.sent.iter().filter(move |sent| now.duration_since(sent.at) < HOUR)
    }

    /// Makes room for a request for `ip`, whose turn it was.
    fn forget(&mut self, ip: IpAddr, now: Instant) {
        let turn = self.limits.switches.as_ref().map_or(Duration::ZERO, |switches| switches.turn);
        self.put_off.retain(|other, at| *other != ip && now.duration_since(*at) < turn);
        let is_old = |sent: &Sent| now.duration_since(sent.at) >= HOUR;
        while self.sent.len() >= REMEMBERED || self.sent.front().is_some_and(is_old) {
            self.sent.pop_front();
        }
    }
}
