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

use crate::failover::hook::Hook;
use crate::hosters::Kind;
use crate::sys::spawn;
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
static KEPT: Mutex<Vec<Kept>> = Mutex::new(Vec::new());

struct Kept {
    legion: Legion,
    /// None where OpenSSL gives no second cipher.
    announcer: Option<Announcer>,
    announced: Instant,
    /// The lord hooks of ours.
    hooks: Vec<Hook>,
    sight: Sight,
    comeback: Comeback,
    /// The valor that the configuration says, while this node is an arbiter instead.
    resting: Option<u64>,
    /// A valor that this node has no more, until when its peers are told so: the first time may be lost.
    left: Option<(u64, Instant)>,
}

fn kept() -> MutexGuard<'static, Vec<Kept>> {
    KEPT.lock().unwrap_or_else(PoisonError::into_inner)
}

fn with<T>(legion: Legion, act: impl FnOnce(&mut Kept) -> T) -> Option<T> {
    kept().iter_mut().find(|kept| kept.legion == legion).map(act)
}

/// Notes every Legion of this process, with its lord hooks of ours. Before uWSGI starts its Legions.
pub fn prepare(hooks_of: impl Fn(Legion) -> Vec<Hook>) {
    let keep = |legion: Legion| {
        let mut kept = Kept {
            legion,
            announcer: Announcer::new(legion),
            announced: Instant::now(),
            hooks: hooks_of(legion),
            sight: Sight::new(legion.configured_size()),
            comeback: Comeback::new(),
            resting: None,
            left: None,
        };
        let password = |hook: &Hook| hook.options.login.password.read();
        // After a reload, which goes on with what it cannot read: this node knows that it could not be Lord.
        if !kept.hooks.is_empty() && kept.hooks.iter().all(|hook| password(hook).is_err()) {
            kept.comeback.begin_away(Instant::now());
            kept.resting = Some(legion.valor());
            legion.rejoin(0);
        }
        kept
    };
    *kept() = uwsgi::legions().into_iter().map(keep).collect();
}

/// Starts the keeper, if it does not run yet. In the process that stays.
pub fn start() {
    static RUNS: AtomicBool = AtomicBool::new(false);
    static BEGINS: Once = Once::new();
    // uWSGI's main loop, which comes here each second, never waits for what the keeper holds.
    if RUNS.swap(true, Ordering::Relaxed) {
        return;
    }
    if uwsgi::legions().is_empty() {
        return;
    }
    uwsgi::start_log_writer();
    BEGINS.call_once(|| {
        let now = Instant::now();
        kept().iter_mut().for_each(|kept| kept.sight.begin(now));
    });
    if spawn("hetzner-keeper", keep).is_none() {
        RUNS.store(false, Ordering::Relaxed);
    }
}

/// For how long a hook has to listen before it may act, where who is in sight may not be all who are alive.
pub fn listening_time(legion: Legion) -> Option<Duration> {
    let view = legion.view();
    let listening_time = |kept: &mut Kept| {
        let now = Instant::now();
        kept.sight.observe(&view, now, uwsgi::now(), false);
        kept.sight.listening_time(now)
    };
    with(legion, listening_time).flatten()
}

/// How many nodes the Legion's majority is counted of, if `size` are configured: who has announced its death has no vote,
/// but whoever is in sight has.
pub fn voters(legion: Legion, size: usize) -> usize {
    let (left, there) = with(legion, |kept| (kept.sight.farewells(), kept.sight.peers())).unwrap_or_default();
    size.saturating_sub(left).max(there + 1)
}

/// Whether another node that can be Lord was there when the keeper looked last. uWSGI's own list is not to be asked at
/// its end.
pub fn had_another_candidate(legion: Legion) -> bool {
    with(legion, |kept| kept.sight.has_another_candidate()).unwrap_or_default()
}

/// A lord hook of ours begins.
pub fn note_begin(legion: Legion) {
    with(legion, |kept| kept.comeback.begin());
}

/// A lord hook of ours has ended so; told before uWSGI acts upon it.
pub fn note_end(legion: Legion, ended: Ended) {
    let note = |kept: &mut Kept| {
        kept.comeback.note(ended);
        if ended == Ended::Outvoted {
            // uWSGI has not heard that node yet.
            kept.sight.distrust(Instant::now());
        }
    };
    with(legion, note);
}

fn keep() {
    // uWSGI does so only after a first round of silence.
    kept().iter_mut().for_each(Kept::announce);
    // A panic has been logged when it is caught here; a node that is never back would be worse.
    while panic::catch_unwind(watch).is_err() {
        thread::sleep(TICK);
    }
}

fn watch() {
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
                kept.bring_back(&view, now);
            };
            with(legion, keep);
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
    /// have no quorum without it.
    fn bring_back(&mut self, view: &View, now: Instant) {
        if self.hooks.is_empty() || uwsgi::is_ending() {
            return;
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
            Step::Look => look(legion, self.hooks.clone()),
            Step::Return(why) => {
                let valor = self.resting.take().unwrap_or(legion.valor());
                self.rejoin(valor, now);
                uwsgi::log(&format!("{}: {why}: this node is a member of the Legion again", legion.name()));
            }
        }
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

/// Asks in a thread of its own whether a takeover could be made now.
fn look(legion: Legion, hooks: Vec<Hook>) {
    let look = move || {
        let why_not = |hook: &Hook| {
            let failure = hook.whereabouts().err()?;
            // Where only looks are too many, a takeover may still be accepted.
            (failure.kind != Kind::HeldBack).then_some(failure.sentence)
        };
        // A panic, which is logged, tells nothing.
        let unfit =
            panic::catch_unwind(AssertUnwindSafe(|| hooks.iter().find_map(why_not))).unwrap_or_default();
        with(legion, |kept| kept.comeback.looked(unfit, Instant::now()));
    };
    if spawn("hetzner", look).is_none() {
        with(legion, |kept| kept.comeback.looked(None, Instant::now()));
    }
}
