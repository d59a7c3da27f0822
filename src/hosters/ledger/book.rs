//! What was sent for each account, and what came of it. Without this memory, retries would use up what the hoster allows
//! before it is needed.
//!
//! A limit is for one account and one kind of request. Only what was sent counts. A switch is delayed by minutes at most,
//! because a Lord without its IP must be able to try again.

use std::collections::VecDeque;
use std::collections::hash_map::{HashMap, RandomState};
use std::hash::BuildHasher;
use std::time::{Duration, Instant};

use super::{Account, Hold, Limits, LockOut, Outcome, Question};
use crate::hosters::{Kind, Need, Request};

const HOUR: Duration = Duration::from_secs(3600);
/// A request without an answer after this time gets none any more.
const LONGEST_REQUEST: Duration = Duration::from_secs(180);
/// How long to wait for one.
const AWAITED: Duration = Duration::from_secs(1);
/// More than any limits allow in an hour. Only elections can send more, and of those the latest matter.
pub const REMEMBERED: usize = 4096;

/// A request that may be sent. It counts, unless it turns out that it was not sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Slot(u64);

pub(super) struct Sent {
    slot: Slot,
    at: Instant,
    ip: String,
    request: Request,
    /// Whether it delays the next switch of its IP.
    is_try: bool,
    need: Need,
    /// Until its answer is known.
    is_under_way: bool,
}

/// What is known of one account.
#[derive(Default)]
pub(super) struct Standing {
    rejected: usize,
    locked_until: Option<Instant>,
    /// Hashes of the secrets that were rejected.
    rejected_secrets: Vec<u64>,
    /// The one request of a lock-out that was sent with another secret.
    pardoned: Option<Slot>,
    refused_until: Option<Instant>,
    /// For each kind of request.
    limited_until: [Option<Instant>; 3],
    /// What was sent within the last hour, the oldest first.
    pub(super) sent: VecDeque<Sent>,
    /// IPs whose switch was put off because of the account's other IPs, and when.
    put_off: HashMap<String, Instant>,
    /// How many guards check with this login.
    watched: usize,
}

/// What is known of all accounts, by API and user.
#[derive(Default)]
pub struct Book {
    pub(super) standings: HashMap<(String, Vec<u8>), Standing>,
    next_slot: u64,
    hasher: RandomState,
}

impl Book {
    fn standing(&mut self, account: &Account) -> &mut Standing {
        self.standings.entry((account.api.into(), account.user.into())).or_default()
    }

    /// Whether this would be held back now.
    pub fn held(&mut self, question: &Question, now: Instant) -> Option<Hold> {
        let secret = self.hasher.hash_one(question.account.secret);
        let standing = self.standing(&question.account);
        let doubted = standing.doubted(question, secret, now);
        let is_known = standing.pardoned.is_some() || standing.rejected_secrets.contains(&secret);
        let locked = standing.lock_out_remaining(now).filter(|_| is_known);
        locked
            .and_then(|time| Some(Hold::locked_out(time, question.account.limits.lock_out.as_ref()?)))
            .or(doubted)
            .or_else(|| standing.refused(question, now))
            .or_else(|| standing.over_limit(question, now))
    }

    /// Whether this may be sent now. If so, it counts.
    pub fn admit(&mut self, question: &Question, now: Instant) -> Result<Slot, Hold> {
        let Question { account, ip, request, need } = *question;
        if let Some(hold) = self.held(question, now) {
            if hold.is_shared {
                self.standing(&account).put_off.insert(ip.into(), now);
            }
            return Err(hold);
        }
        let slot = Slot(self.next_slot);
        self.next_slot += 1;
        let standing = self.standing(&account);
        if standing.lock_out_remaining(now).is_some() {
            standing.pardoned = Some(slot);
        }
        standing.put_off.retain(|other, at| other != ip && now.duration_since(*at) < account.limits.turn);
        standing.forget(now);
        standing.sent.push_back(Sent {
            slot,
            at: now,
            ip: ip.into(),
            request,
            is_try: true,
            need,
            is_under_way: true,
        });
        Ok(slot)
    }

    /// Learns what came of the request that was given this slot.
    pub fn learn(&mut self, question: &Question, slot: Slot, outcome: Outcome, now: Instant) {
        let Question { account, request, need, .. } = *question;
        let secret = self.hasher.hash_one(account.secret);
        let standing = self.standing(&account);
        let this = standing.sent.iter_mut().find(|sent| sent.slot == slot);
        this.into_iter().for_each(|sent| sent.is_under_way = false);
        match outcome {
            Outcome::NotSent => {
                standing.sent.retain(|sent| sent.slot != slot);
                standing.pardoned = standing.pardoned.filter(|pardoned| *pardoned != slot);
            }
            Outcome::Done | Outcome::LoginAccepted => {
                standing.rejected = 0;
                standing.locked_until = None;
                standing.rejected_secrets.clear();
                standing.pardoned = None;
                standing.refused_until = None;
                standing.limited_until[request as usize] = None;
                // An election that succeeded is no reason to delay the next step of another one.
                if outcome == Outcome::Done && need == Need::Election {
                    let this = standing.sent.iter_mut().find(|sent| sent.slot == slot);
                    this.into_iter().for_each(|sent| sent.is_try = false);
                }
            }
            Outcome::LoginRejected => {
                let Some(LockOut { rejected, time }) = account.limits.lock_out else { return };
                if standing.locked_until.is_some_and(|until| until <= now) {
                    standing.pardoned = None;
                    standing.rejected_secrets.clear();
                }
                standing.rejected += 1;
                standing.rejected_secrets.push(secret);
                if standing.rejected >= rejected {
                    standing.locked_until = Some(now + time);
                    // After the lock-out one login at a time is tried.
                    standing.rejected = rejected - 1;
                }
            }
            Outcome::Limited(time) => standing.limited_until[request as usize] = Some(now + time),
            Outcome::Refused(time) => standing.refused_until = Some(now + time),
            Outcome::Other => {}
        }
    }

    /// Notes one more guard that checks with this login.
    pub fn watch(&mut self, account: &Account) {
        self.standing(account).watched += 1;
    }

    /// How long to wait for the next check if `asked` is configured.
    pub fn check_pause(&mut self, account: &Account, asked: Duration, now: Instant) -> Duration {
        let limits = account.limits;
        let standing = self.standing(account);
        let shortest = limits.shortest_check_pause(standing.watched);
        if asked.is_zero() || asked >= shortest {
            return asked;
        }
        if standing.watched > 1 {
            return shortest;
        }
        let checks = standing.within_the_hour(now).filter(|sent| sent.need == Need::Check).count();
        if checks < limits.quick_checks { asked } else { asked.max(limits.slow_check) }
    }
}

impl Standing {
    fn lock_out_remaining(&self, now: Instant) -> Option<Duration> {
        self.locked_until?.checked_duration_since(now).filter(|time| !time.is_zero())
    }

    /// Whether as many requests are under way as the hoster may still reject, with a secret that it has rejected already.
    fn doubted(&self, question: &Question, secret: u64, now: Instant) -> Option<Hold> {
        let LockOut { rejected, .. } = question.account.limits.lock_out.as_ref()?;
        let is_under_way = |sent: &&Sent| sent.is_under_way && now.duration_since(sent.at) < LONGEST_REQUEST;
        let under_way = self.sent.iter().filter(is_under_way).count();
        if !self.rejected_secrets.contains(&secret) || self.rejected + under_way < *rejected {
            return None;
        }
        let why =
            "this login was rejected just now, and the answer to another try is awaited first".to_string();
        Hold::until(now + AWAITED, now, Kind::HeldBack, why).filter(|_| under_way > 0)
    }

    /// Whether the hoster refuses such requests for now. Some are still sent.
    fn refused(&self, question: &Question, now: Instant) -> Option<Hold> {
        let Question { account: Account { limits, .. }, request, .. } = *question;
        let is_now = |until: Option<Instant>| until.is_some_and(|until| until > now);
        let (last, kind, what) = if is_now(self.refused_until) {
            (self.sent.back(), Kind::Refused, "the API refused the last request".to_string())
        } else if is_now(self.limited_until[request as usize]) {
            let last = self.sent.iter().rfind(|sent| sent.request == request);
            let name = limits.names[request as usize];
            (last, Kind::HeldBack, format!("the account's limit for {name} is used up"))
        } else {
            return None;
        };
        let pause = limits.refused_pause;
        let why = format!("{what}, so at most one per {} is sent", in_words(pause).trim_start_matches("1 "));
        Hold::until(last?.at + pause, now, kind, why)
    }

    /// Whether as much was sent as the limits allow.
    fn over_limit(&self, question: &Question, now: Instant) -> Option<Hold> {
        let Question { account: Account { limits, .. }, ip, request, need } = *question;
        match (request, need) {
            (Request::Look, _) => self.over_looks(limits, need, now),
            (_, Need::Election) => None,
            (Request::Release, _) => self.over_switches(limits, ip, now),
            (Request::Switch, _) => {
                self.over_tries(limits, ip, now).or_else(|| self.over_switches(limits, ip, now))
            }
        }
    }

    fn over_looks(&self, limits: &Limits, need: Need, now: Instant) -> Option<Hold> {
        let looks = || self.within_the_hour(now).filter(|sent| sent.request == Request::Look);
        let Limits { looks_an_hour, checks_an_hour, look_pause, names, .. } = *limits;
        let used_up = |most| format!("{most} {} were sent within an hour", names[Request::Look as usize]);
        if need == Need::Check {
            let first = looks().next().filter(|_| looks().count() >= checks_an_hour)?;
            return Hold::until(first.at + HOUR, now, Kind::HeldBack, used_up(checks_an_hour));
        }
        let last = looks().last().filter(|_| looks().count() >= looks_an_hour)?;
        let why =
            format!("{}, so at most one every {} is sent", used_up(looks_an_hour), in_words(look_pause));
        Hold::until(last.at + look_pause, now, Kind::HeldBack, why)
    }

    /// Whether the next switch of this IP is not due yet.
    fn over_tries(&self, limits: &Limits, ip: &str, now: Instant) -> Option<Hold> {
        let Limits { tries_at_once, try_pauses, calm, .. } = *limits;
        let (mut tries, mut last) = (0_usize, None::<Instant>);
        for sent in self.switches().filter(|sent| sent.ip == ip && sent.is_try) {
            let is_calm = last.is_some_and(|last| sent.at.duration_since(last) >= calm);
            (tries, last) = (if is_calm { 1 } else { tries + 1 }, Some(sent.at));
        }
        let position = tries.checked_sub(tries_at_once)?;
        let pause = try_pauses.get(position).or(try_pauses.last())?;
        let switch = limits.names[Request::Switch as usize];
        let why = format!("{tries_at_once} {switch} did not help, so the next ones are spaced out");
        // Once it is calm again, this time has long passed.
        Hold::until(last? + Duration::from_secs(*pause), now, Kind::HeldBack, why)
    }

    /// Whether the account's switches of the hour are used up, or left for IPs that have waited longer.
    fn over_switches(&self, limits: &Limits, ip: &str, now: Instant) -> Option<Hold> {
        let Limits { switches_an_hour, switch_pause, turn, .. } = *limits;
        let last_of = |ip: &str| self.switches().rev().find(|sent| sent.ip == ip).map(|sent| sent.at);
        let comes_first = |(other, at): &(&String, &Instant)| {
            *other != ip && now.duration_since(**at) < turn && last_of(other) < last_of(ip)
        };
        let first = self.put_off.iter().filter(comes_first).count();
        let sent = self.within_the_hour(now).filter(|sent| sent.request != Request::Look).count();
        if sent + first < switches_an_hour {
            return None;
        }
        // Switches of elections are always sent, and delay no other IP. The rest are two in twice the pause, so that none is
        // lost if the IP whose turn it is asks late.
        let last = self.switches().rev().filter(|sent| sent.need != Need::Election).nth(1);
        let next = last.filter(|_| sent >= switches_an_hour).map_or(now, |last| last.at + 2 * switch_pause);
        let next = if first > 0 { next.max(now + limits.refused_pause) } else { next };
        let (switch, pause) = (limits.names[Request::Switch as usize], in_words(2 * switch_pause));
        let why = format!(
            "{switches_an_hour} {switch} were sent within an hour, so at most two every {pause} are sent, for all IPs \
             together"
        );
        Hold::until(next, now, Kind::HeldBack, why).map(|hold| Hold { is_shared: true, ..hold })
    }

    /// Switches and releases.
    fn switches(&self) -> impl DoubleEndedIterator<Item = &Sent> {
        self.sent.iter().filter(|sent| sent.request != Request::Look)
    }

    fn within_the_hour(&self, now: Instant) -> impl Iterator<Item = &Sent> {
        self.sent.iter().filter(move |sent| now.duration_since(sent.at) < HOUR)
    }

    /// Makes room for one more.
    fn forget(&mut self, now: Instant) {
        let is_old = |sent: &Sent| now.duration_since(sent.at) >= HOUR;
        while self.sent.len() >= REMEMBERED || self.sent.front().is_some_and(is_old) {
            self.sent.pop_front();
        }
    }
}

fn in_words(pause: Duration) -> String {
    match (pause.as_secs() / 60, pause.as_secs() % 60) {
        (1, 0) => "1 minute".into(),
        (minutes, 0) => format!("{minutes} minutes"),
        _ => format!("{} s", pause.as_secs()),
    }
}
