//! The keeper: one thread that keeps this process a member of its Legions.
//!
//! uWSGI falls silent while datagrams come in faster than its own `legion-freq`; it never lets a node back that it has
//! suspended; and a process that was paused is elected by itself before it has heard anybody. So some times a second the
//! keeper announces what is overdue, brings back whoever is suspended (`comeback`), and notes who is in sight and
//! whether the process ran all the time (`sight`).

mod comeback;
mod sight;

use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::FailoverIp;
use crate::hosters::Kind;
use crate::uwsgi::{self, Announcer, Legion, View};
pub use comeback::Ended;
use comeback::{Comeback, Step};
pub use sight::Clock;
use sight::Sight;

const TICK: Duration = Duration::from_millis(250);
/// For how long a node says that it has another valor now.
const FAREWELLS: Duration = Duration::from_secs(2);
/// How much later than its `legion-freq` uWSGI may be by itself.
const LATE: Duration = Duration::from_millis(500);

/// All that is known of this process's Legions beside what uWSGI keeps.
pub struct Keeper {
    kept: Mutex<Vec<Kept>>,
    /// Whether its thread runs, and whether it ever did.
    runs: AtomicBool,
    has_begun: Once,
}

struct Kept {
    legion: Legion,
    /// None where OpenSSL gives no second cipher.
    announcer: Option<Announcer>,
    announced: Instant,
    /// Those that a lord hook of ours takes over.
    ips: Vec<FailoverIp>,
    sight: Sight,
    comeback: Comeback,
    /// The valor that the configuration says, while this node is an arbiter instead.
    resting: Option<u64>,
    /// A valor that this node has no more, until when its peers are told so: the first time may be lost.
    left: Option<(u64, Instant)>,
}

impl Keeper {
    pub const fn new() -> Keeper {
        let (runs, has_begun) = (AtomicBool::new(false), Once::new());
        Keeper { kept: Mutex::new(Vec::new()), runs, has_begun }
    }

    fn kept(&self) -> MutexGuard<'_, Vec<Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with<T>(&self, legion: Legion, act: impl FnOnce(&mut Kept) -> T) -> Option<T> {
        self.kept().iter_mut().find(|kept| kept.legion == legion).map(act)
    }

    /// Notes every Legion of this process, with the failover IPs of its lord hooks. Before uWSGI starts its Legions.
    pub fn prepare(&self, ips_of: impl Fn(Legion) -> Vec<FailoverIp>) {
        let keep = |legion: Legion| {
            let mut kept = Kept {
                legion,
                announcer: Announcer::new(legion),
                announced: Instant::now(),
                ips: ips_of(legion),
                sight: Sight::new(legion.configured_size()),
                comeback: Comeback::new(),
                resting: None,
                left: None,
            };
            // After a reload, which goes on with what it cannot read: this node knows that it could not be Lord.
            if !kept.ips.is_empty() && kept.ips.iter().all(|ip| ip.remote.secret().read().is_err()) {
                kept.comeback.begin_away(Instant::now());
                kept.resting = Some(legion.valor());
                legion.rejoin(0);
            }
            kept
        };
        *self.kept() = uwsgi::legions().into_iter().map(keep).collect();
    }

    /// Starts the keeper's thread, if it does not run yet. In the process that stays.
    pub fn start(&'static self) {
        // uWSGI's main loop, which comes here each second, never waits for what the keeper holds.
        if self.runs.swap(true, Ordering::Relaxed) {
            return;
        }
        if uwsgi::legions().is_empty() {
            return;
        }
        uwsgi::start_log_writer();
        self.has_begun.call_once(|| {
            let now = Instant::now();
            self.kept().iter_mut().for_each(|kept| kept.sight.begin(now));
        });
        if uwsgi::spawn_named("hetzner-keeper", || self.keep()).is_none() {
            self.runs.store(false, Ordering::Relaxed);
        }
    }

    /// For how long a hook has to listen before it may act, where who is in sight may not be all who are alive.
    pub fn listening_time(&self, legion: Legion) -> Option<Duration> {
        let view = legion.view();
        let listening_time = |kept: &mut Kept| {
            let now = Instant::now();
            kept.sight.observe(&view, now, uwsgi::now(), false);
            kept.sight.listening_time(now)
        };
        self.with(legion, listening_time).flatten()
    }

    /// How many nodes the Legion's majority is counted of, if `size` are configured: who has announced its death has no
    /// vote, but whoever is in sight has.
    pub fn voters(&self, legion: Legion, size: usize) -> usize {
        let counts = |kept: &mut Kept| (kept.sight.farewells(), kept.sight.peers());
        let (left, there) = self.with(legion, counts).unwrap_or_default();
        size.saturating_sub(left).max(there + 1)
    }

    /// Whether another node that can be Lord was there when the keeper looked last. uWSGI's own list is not to be asked
    /// at its end.
    pub fn had_another_candidate(&self, legion: Legion) -> bool {
        self.with(legion, |kept| kept.sight.has_another_candidate()).unwrap_or_default()
    }

    /// A lord hook of ours begins.
    pub fn note_begin(&self, legion: Legion) {
        self.with(legion, |kept| kept.comeback.begin());
    }

    /// A lord hook of ours has ended so; told before uWSGI acts upon it.
    pub fn note_end(&self, legion: Legion, ended: Ended) {
        let note = |kept: &mut Kept| {
            kept.comeback.note(ended);
            if ended == Ended::Outvoted {
                // uWSGI has not heard that node yet.
                kept.sight.distrust(Instant::now());
            }
        };
        self.with(legion, note);
    }

    fn keep(&'static self) {
        // uWSGI does so only after a first round of silence.
        self.kept().iter_mut().for_each(Kept::announce);
        // A panic has been logged when it is caught here; a node that is never back would be worse.
        while panic::catch_unwind(AssertUnwindSafe(|| self.watch())).is_err() {
            thread::sleep(TICK);
        }
    }

    fn watch(&'static self) {
        let mut clock = Clock::start();
        while !uwsgi::is_ending() {
            thread::sleep(TICK);
            let gap = clock.tick(TICK);
            for legion in uwsgi::legions() {
                // Before anything is held: uWSGI's lock may take its time.
                let view = legion.view();
                let keep = |kept: &mut Kept| {
                    let now = Instant::now();
                    kept.sight.observe(&view, now, uwsgi::now(), gap);
                    kept.announce_if_overdue(&view, now);
                    kept.bring_back(&view, now).then(|| kept.ips.clone())
                };
                if let Some(ips) = self.with(legion, keep).flatten() {
                    self.look(legion, ips);
                }
            }
        }
    }

    /// Asks in a thread of its own whether a takeover could be made now.
    fn look(&'static self, legion: Legion, ips: Vec<FailoverIp>) {
        let look = move || {
            let why_not = |ip: &FailoverIp| {
                let failure = ip.whereabouts().err()?;
                // Where only looks are too many, a takeover may still be accepted.
                (failure.kind != Kind::HeldBack).then_some(failure.sentence)
            };
            // A panic, which is logged, tells nothing.
            let unfit =
                panic::catch_unwind(AssertUnwindSafe(|| ips.iter().find_map(why_not))).unwrap_or_default();
            self.with(legion, |kept| kept.comeback.looked(unfit, Instant::now()));
        };
        if uwsgi::spawn(look).is_none() {
            self.with(legion, |kept| kept.comeback.looked(None, Instant::now()));
        }
    }
}

impl Kept {
    fn announce(&mut self) {
        self.announced = Instant::now();
        self.announcer.iter_mut().for_each(Announcer::announce);
    }

    /// Only for a Legion's thread that hears others, and so is well: one that is stuck must not seem alive.
    fn announce_if_overdue(&mut self, view: &View, now: Instant) {
        if view.dead || view.suspended_until > uwsgi::now() || self.legion.mark() {
            self.announced = now;
            return;
        }
        let round = uwsgi::round();
        let hears = view.silence().is_some_and(|silence| silence <= round);
        if hears && now.duration_since(self.announced) >= round + LATE && !uwsgi::is_ending() {
            self.announce();
        }
    }

    /// Ends the death that uWSGI leaves a node in after its suspension. Until it can be Lord again it votes: the others may
    /// have no quorum without it. Returns whether it is time to look whether a takeover could be made.
    fn bring_back(&mut self, view: &View, now: Instant) -> bool {
        if self.ips.is_empty() || uwsgi::is_ending() {
            return false;
        }
        if let Some((valor, until)) = self.left {
            self.announcer.iter_mut().for_each(|announcer| announcer.say_farewell(valor));
            self.left = self.left.filter(|_| now < until);
        }
        let legion = self.legion;
        let suspended = u64::try_from(view.suspended_until - uwsgi::now()).unwrap_or_default();
        let own = (self.resting.unwrap_or(legion.valor()), legion.uuid());
        let seen = comeback::Seen {
            is_away: view.dead || self.resting.is_some(),
            suspended: Duration::from_secs(suspended),
            is_outranked: view.peers.iter().any(|peer| (peer.valor, peer.uuid) > own),
        };
        match self.comeback.observe(&seen, now) {
            Step::Nothing => {}
            Step::StayAway { votes, why } => {
                if !votes {
                    legion.suspend_until(uwsgi::now() + 2);
                } else if view.dead {
                    self.resting.get_or_insert(legion.valor());
                    self.rejoin(0, now);
                }
                if let Some(why) = why {
                    uwsgi::log(&format!("{}: {why}", legion.name()));
                }
            }
            Step::Look => return true,
            Step::Return(why) => {
                let valor = self.resting.take().unwrap_or(legion.valor());
                self.rejoin(valor, now);
                uwsgi::log(&format!("{}: {why}: this node is a member of the Legion again", legion.name()));
            }
        }
        false
    }

    fn rejoin(&mut self, valor: u64, now: Instant) {
        let before = self.legion.valor();
        if before != valor {
            self.left = Some((before, now + FAREWELLS));
            self.announcer.iter_mut().for_each(|announcer| announcer.say_farewell(before));
        }
        self.legion.rejoin(valor);
        self.announce();
    }
}
