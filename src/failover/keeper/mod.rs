//! The keeper: one thread that keeps this process a member of its Legions.
//!
//! uWSGI falls silent while datagrams come in faster than its own `legion-freq`; it never lets a node back that it has
//! suspended; and after a pause a process is elected by itself before it has heard the others. So several times a second
//! the keeper announces what is overdue, brings suspended nodes back (`comeback`), and notes which nodes are in sight and
//! whether the process ran all the time (`sight`).

mod comeback;
mod handed;
mod sight;

use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use super::FailoverIp;
use crate::hosters::Kind;
use crate::sys::{lock, spawn};
use crate::uwsgi::{self, Announcer, Legion, View};
pub use comeback::Ended;
use comeback::{Comeback, Standing, Step};
pub use sight::Clock;
use sight::Sight;

const TICK: Duration = Duration::from_millis(250);
/// For how long a node announces that its old valor is gone.
const FAREWELLS: Duration = Duration::from_secs(2);
/// How much later than its `legion-freq` uWSGI may be by itself.
const LATE: Duration = Duration::from_millis(500);

/// What is known of this process's Legions beside what uWSGI keeps.
#[derive(Default)]
pub struct Keeper {
    kept: Mutex<Vec<Kept>>,
    /// Whether its thread runs, and whether it ever did.
    runs: AtomicBool,
    has_begun: OnceLock<()>,
}

struct Kept {
    legion: Legion,
    /// None if OpenSSL gives no second cipher.
    announcer: Option<Announcer>,
    announced: Instant,
    /// Those that its lord hooks take over.
    ips: Vec<FailoverIp>,
    sight: Sight,
    comeback: Comeback,
    /// The configured valor, while this node only votes.
    resting: Option<u64>,
    /// A valor that this node no longer has, and until when its peers are told so, since one announcement may be lost.
    left: Option<(u64, Instant)>,
}

impl Keeper {
    fn with<T>(&self, legion: Legion, act: impl FnOnce(&mut Kept) -> T) -> Option<T> {
        lock(&self.kept).iter_mut().find(|kept| kept.legion == legion).map(act)
    }

    /// Notes every Legion of this process, with the failover IPs of its lord hooks. Before uWSGI starts its Legions.
    pub fn prepare(&self, lord_ips: &[FailoverIp]) {
        let keep = |legion: Legion| {
            let mut kept = Kept {
                legion,
                announcer: Announcer::new(legion),
                announced: Instant::now(),
                ips: lord_ips.iter().filter(|ip| ip.legion == legion).cloned().collect(),
                sight: Sight::new(legion.configured_size()),
                comeback: Comeback::default(),
                resting: None,
                left: None,
            };
            // A reload goes on with a password that it cannot read, but this node could not take over.
            if !kept.ips.is_empty() && kept.ips.iter().all(|ip| ip.remote.secret().read().is_err()) {
                kept.comeback.begin_away(Instant::now());
                kept.resting = Some(legion.valor());
                legion.rejoin(0);
            }
            kept
        };
        *lock(&self.kept) = uwsgi::legions().into_iter().map(keep).collect();
    }

    /// Starts the keeper's thread, if it does not run yet. In the process that stays.
    pub fn start(&'static self) {
        // Asked before any lock: uWSGI's main loop comes here each second, and must not wait.
        if self.runs.swap(true, Ordering::Relaxed) || uwsgi::legions().is_empty() {
            return;
        }
        uwsgi::start_log_writer();
        self.has_begun.get_or_init(|| {
            let now = Instant::now();
            lock(&self.kept).iter_mut().for_each(|kept| kept.sight.begin(now));
        });
        if spawn("hetzner-keeper", || self.keep()).is_none() {
            self.runs.store(false, Ordering::Relaxed);
        }
    }

    /// For how long a hook has to listen before it may act, because nodes that are not in sight may be alive.
    pub fn listening_time(&self, legion: Legion) -> Option<Duration> {
        let view = legion.view();
        let listening_time = |kept: &mut Kept| {
            let now = Instant::now();
            kept.sight.observe(&view, now, uwsgi::now(), false);
            kept.sight.listening_time(now)
        };
        self.with(legion, listening_time).flatten()
    }

    /// How many nodes the Legion's majority is counted of, if `size` are configured.
    pub fn voters(&self, legion: Legion, size: usize) -> usize {
        self.with(legion, |kept| kept.sight.voters(size)).unwrap_or(size.max(1))
    }

    /// Whether another node that can be Lord was there when the keeper looked last. When uWSGI ends, its own list must not
    /// be read.
    pub fn had_another_candidate(&self, legion: Legion) -> bool {
        self.with(legion, |kept| kept.sight.has_another_candidate()).unwrap_or_default()
    }

    /// A lord hook begins.
    pub fn note_begin(&'static self, legion: Legion) {
        self.start();
        self.with(legion, |kept| kept.comeback.begin());
    }

    /// A lord hook has ended; called before uWSGI acts on it.
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
        // At once, because uWSGI announces this node only after a first round of silence.
        lock(&self.kept).iter_mut().for_each(Kept::announce);
        // It goes on after a panic, which is logged by then, because a node that never comes back would be worse.
        while panic::catch_unwind(AssertUnwindSafe(|| self.watch())).is_err() {
            thread::sleep(TICK);
        }
    }

    fn watch(&'static self) {
        let mut clock = Clock::start();
        while !uwsgi::is_ending() {
            thread::sleep(TICK);
            let has_paused = clock.tick(TICK);
            for legion in uwsgi::legions() {
                // Before the plugin's lock is held, because uWSGI's lock may take its time.
                let view = legion.view();
                let keep = |kept: &mut Kept| {
                    let now = Instant::now();
                    kept.sight.observe(&view, now, uwsgi::now(), has_paused);
                    kept.announce_if_overdue(&view, now);
                    kept.bring_back(&view, now).then(|| kept.ips.clone())
                };
                if let Some(ips) = self.with(legion, keep).flatten() {
                    self.check(legion, ips);
                }
            }
        }
    }

    /// Checks, in a thread of its own, whether a takeover could be made now.
    fn check(&'static self, legion: Legion, ips: Vec<FailoverIp>) {
        let checked = move |unfit| self.with(legion, |kept| kept.comeback.checked(unfit, Instant::now()));
        let check = move || {
            let why_not = |ip: &FailoverIp| {
                let failure = ip.whereabouts().err()?;
                // If only checks are over the limit, a switch may still be accepted.
                (failure.kind != Kind::HeldBack).then_some(failure.sentence)
            };
            // A panic, which is logged, says nothing about the hoster.
            let unfit = panic::catch_unwind(AssertUnwindSafe(|| ips.iter().find_map(why_not)));
            checked(unfit.unwrap_or_default());
        };
        if spawn("hetzner", check).is_none() {
            checked(None);
        }
    }
}

impl Kept {
    fn announce(&mut self) {
        self.announced = Instant::now();
        self.announcer.iter_mut().for_each(Announcer::announce);
    }

    /// Only while the Legion's own thread hears others, because a node whose Legion is stuck must not seem alive.
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

    /// Brings a node back after its suspension, which uWSGI never does. Until it can be Lord again it votes, because the
    /// others may have no quorum without it. Returns whether to check now if a takeover could be made.
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
        let standing = Standing {
            is_away: view.dead || self.resting.is_some(),
            suspended: Duration::from_secs(suspended),
            is_outranked: view.peers.iter().any(|peer| (peer.valor, peer.uuid) > own),
        };
        let log = |line: &str| uwsgi::log(&format!("{}: {line}", legion.name()));
        match self.comeback.observe(&standing, now) {
            Step::Nothing => {}
            Step::StayAway { votes, why } => {
                if !votes {
                    legion.suspend_until(uwsgi::now() + 2);
                } else if view.dead {
                    self.resting.get_or_insert(legion.valor());
                    self.rejoin(0, now);
                }
                why.iter().for_each(|why| log(why));
            }
            Step::Check => return true,
            Step::Return(why) => {
                let valor = self.resting.take().unwrap_or(legion.valor());
                self.rejoin(valor, now);
                log(&format!("{why}: this node is a member of the Legion again"));
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
