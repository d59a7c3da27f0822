//! What a hook does: a takeover in a thread of its own, while the Legion is kept informed, and a guard that watches
//! over the route from then on; or the release of the route.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::config::{Options, Parsed};
use crate::failover::guard::{self, Guard};
use crate::failover::keeper::{self, Ended};
use crate::failover::readiness;
use crate::failover::takeover::{Order, Setting, Verdict, place, take_over};
use crate::hosters::robot::own;
use crate::hosters::robot::{BASE_URL, Robot};
use crate::hosters::{Failure, Hoster, Kind, Need, Route};
use crate::metrics::{Metrics, Place, count};
use crate::startup;
use crate::uwsgi::{self, Election, Legion, Waited};

/// For a release, which waits at a node's end: it is given up before anybody gets impatient.
const LONGEST_RELEASE: Duration = Duration::from_secs(10);
/// How long a node that ends waits for its last lines to be written.
pub const LONGEST_FLUSH: Duration = Duration::from_secs(1);
/// The same at the end of a hook, with a log that takes lines.
const SHORT_FLUSH: Duration = Duration::from_millis(200);
/// What a hook may take beyond its deadline. Whatever holds it longer than that, a log that is stuck or a proxy that
/// trickles, holds the Legion too.
const GRACE: Duration = Duration::from_secs(5);
/// After how long a node that can send nothing leaves the IP to the others that are there.
const HAND_OVER_AFTER: Duration = Duration::from_secs(25);

/// The pauses between two tries to get what a takeover needs, in seconds; then the last one again and again.
const PAUSES: [u64; 5] = [1, 2, 4, 8, 15];

/// One failover IP of one hook of one Legion.
#[derive(Clone)]
pub struct Hook {
    pub legion: Legion,
    pub options: Options,
    pub metrics: &'static Metrics,
    /// This host's own address, once it is found: what is routed to it must not be looked for at another one later.
    own: Arc<OnceLock<IpAddr>>,
}

impl Hook {
    /// The hook of `legion` with its `argument`: one for each failover IP that it names, and what there is to say.
    pub fn parse(legion: Legion, argument: &[u8]) -> (Vec<Hook>, Parsed) {
        let parsed = Options::parse(argument, BASE_URL);
        let hook = |options: &Options| {
            own::is_no_own(options.ip);
            let metrics = Metrics::of(legion, options.ip);
            Hook { legion, metrics, options: options.clone(), own: Arc::default() }
        };
        (parsed.options.iter().map(hook).collect(), parsed)
    }

    /// Where to route the IP; or why that is not known now.
    pub fn active_ip(&self) -> Result<IpAddr, String> {
        let Options { ip, active_ip, url, .. } = &self.options;
        match active_ip.or_else(|| self.own.get().copied()) {
            Some(known) => Ok(known),
            None => own::find(self.legion, url, ip.is_ipv6()).map(|found| *self.own.get_or_init(|| found)),
        }
    }

    /// What the IP is asked about with: not to be had while the password's file cannot be read.
    fn robot(&self) -> Result<Robot, Failure> {
        let robot = Robot::new(&self.options, self.metrics)?;
        const WHAT: &str = "a password file that can be read";
        let password = &self.options.login.password;
        if let Some(why) = password.news() {
            let (uid, _) = uwsgi::user();
            let line = format!(
                "{why}, as uid {uid}: using what was read before; until it can be read again, a new password needs a \
                 restart"
            );
            self.trouble(WHAT, &line);
        } else if !password.is_kept() {
            self.well(WHAT);
        }
        Ok(robot)
    }

    /// All that a takeover needs before it can ask for anything.
    fn equipped(&self) -> Result<(Robot, IpAddr), Failure> {
        Ok((self.robot()?, self.active_ip().map_err(|why| Failure::new(Kind::NotSent, why))?))
    }

    /// The same, tried for as long as the takeover may: a file or an address that is not there now may be in a moment.
    fn wait_until_equipped(
        &self,
        scene: &Scene,
        hand_over_after: Option<Duration>,
    ) -> Result<(Robot, IpAddr), Verdict> {
        let Options { ip, deadline, .. } = self.options;
        for pause in PAUSES.iter().chain(std::iter::repeat(&PAUSES[PAUSES.len() - 1])) {
            let Failure { kind, sentence, .. } = match self.equipped() {
                Ok(equipped) => return Ok(equipped),
                Err(failure) => failure,
            };
            let pause = Duration::from_secs(*pause);
            let after = scene.elapsed().as_secs_f64();
            let patience =
                hand_over_after.filter(|_| scene.has_company()).map_or(deadline, |after| after.min(deadline));
            if kind == Kind::Final || scene.elapsed() + pause >= patience {
                self.alarm(&format!("FAILED to route {ip} here: {sentence} (after {after:.1} s)"));
                return Err(Verdict::Failed { sent: false });
            }
            let seconds = pause.as_secs();
            self.log(&format!("not yet: {sentence} (after {after:.1} s); trying again in {seconds} s"));
            scene.sleep(pause);
            if !scene.goes_on() {
                return Err(Verdict::Dropped);
            }
        }
        unreachable!("the pauses have no end")
    }

    pub fn log(&self, line: &str) {
        uwsgi::log(&format!("{}: {line}", self.legion.name()));
    }

    /// Logs the line, and triggers the hook's alarm with it.
    pub fn alarm(&self, line: &str) {
        self.log(line);
        self.metrics.note_alarm(line);
        if let Some(alarm) = &self.options.alarm {
            uwsgi::alarm(alarm, &format!("{}: {line}", self.legion.name()));
        }
    }

    /// Something is wrong that may last: an alarm once, until it is [`Hook::well`].
    pub fn trouble(&self, what: &'static str, line: &str) {
        if self.metrics.set_trouble(what, true) {
            self.alarm(line);
        }
    }

    /// That is mended, if it was wrong.
    pub fn well(&self, what: &'static str) {
        if self.metrics.set_trouble(what, false) {
            self.log(&format!("there is {what} again"));
        }
    }

    /// An ordinary takeover; before each step `goes_on` is asked, and before it waits any longer, whether it
    /// `has_company`: another node that could try.
    pub fn take_over(
        &self,
        need: Need,
        goes_on: &dyn Fn() -> bool,
        has_company: &dyn Fn() -> bool,
    ) -> Verdict {
        let Options { ip, deadline, .. } = self.options;
        let began = Instant::now();
        let scene = Scene { hook: self, began, goes_on, has_company };
        count(&self.metrics.takeovers);
        self.metrics.readiness.set_busy(deadline + GRACE);
        // Only a node that suspends itself then makes room for another one.
        let may_hand_over = need == Need::Election && uwsgi::death_on_lord_error();
        let hand_over_after = may_hand_over.then_some(HAND_OVER_AFTER);
        let verdict = match self.wait_until_equipped(&scene, hand_over_after) {
            Ok((robot, target)) => {
                take_over(&robot, &Order { ip, target, deadline, need, hand_over_after }, &scene)
            }
            Err(verdict) => verdict,
        };
        let milliseconds = i64::try_from(began.elapsed().as_millis()).unwrap_or(i64::MAX);
        self.metrics.last_takeover_ms.store(milliseconds, Ordering::Relaxed);
        self.metrics.readiness.set_idle(matches!(verdict, Verdict::Failed { .. }));
        match verdict {
            Verdict::Here => {
                self.metrics.set_route(Place::Here);
                readiness::record(self, None);
            }
            Verdict::Failed { .. } => count(&self.metrics.takeover_failures),
            Verdict::Dropped => {}
        }
        verdict
    }

    /// Where the IP is routed now, for a check.
    pub fn whereabouts(&self) -> Result<Route, Failure> {
        let asked = |(robot, target): (Robot, IpAddr)| {
            robot.whereabouts(Need::Check, self.options.timeout).map(|route| (route, target))
        };
        let found = self.equipped().and_then(asked);
        readiness::record(self, found.as_ref().err());
        self.metrics.set_route(match &found {
            Ok((Some(address), target)) if address == target => Place::Here,
            Ok(_) => Place::Elsewhere,
            Err(_) => Place::Unknown,
        });
        found.map(|(route, _)| route)
    }

    /// Deletes the route if it is here, and only then; each request takes at most `limit`. Returns where it was found, or
    /// what went wrong.
    pub fn release(&self, limit: Duration) -> Result<Route, Failure> {
        let ip = self.options.ip;
        let (robot, target) = self.equipped()?;
        let found = robot.whereabouts(Need::Takeover, limit)?;
        if found != Some(target) {
            self.log(&format!("{ip} is {}, not here: nothing to release", place(found)));
            return Ok(found);
        }
        match robot.release(limit)? {
            None => self.log(&format!("{ip} is routed nowhere now: released")),
            route => self.log(&format!("{ip} is {} after its release", place(route))),
        }
        self.metrics.set_route(Place::Elsewhere);
        Ok(found)
    }
}

/// A takeover's setting in real time.
struct Scene<'a> {
    hook: &'a Hook,
    began: Instant,
    goes_on: &'a dyn Fn() -> bool,
    has_company: &'a dyn Fn() -> bool,
}

impl Setting for Scene<'_> {
    fn log(&self, line: &str) {
        self.hook.log(line);
    }

    fn alarm(&self, line: &str) {
        self.hook.alarm(line);
    }

    fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    fn sleep(&self, time: Duration) {
        thread::sleep(time);
    }

    fn goes_on(&self) -> bool {
        !uwsgi::is_ending() && (self.goes_on)()
    }

    fn has_company(&self) -> bool {
        (self.has_company)()
    }
}

/// The hooks of an argument, as they were read when uWSGI started; what is wrong with them is logged at each call.
fn known(legion: Legion, argument: &[u8]) -> Option<Vec<Hook>> {
    let name = legion.name();
    let report = |wrong: startup::Wrong| {
        for problem in wrong.problems {
            let line = format!("{name}: nothing is sent, the hook is wrong: {problem}");
            uwsgi::log(&line);
            wrong.alarm.iter().for_each(|alarm| uwsgi::alarm(alarm, &line));
        }
    };
    startup::hooks_of(legion, argument).map_err(report).ok()
}

/// Runs a lord hook; returns whether all its failover IPs are here now. Called by uWSGI in the Legion's thread.
pub fn run(legion: Legion, argument: &[u8]) -> bool {
    // Made in any case: a later hook of the same election asks for it.
    let election = election(legion, argument);
    let Some(hooks) = known(legion, argument) else { return false };
    keeper::start();
    keeper::note_begin(legion);
    let longest = hooks.iter().map(|hook| hook.options.deadline).max().unwrap_or_default();
    let guards: Vec<Arc<Guard>> = hooks.into_iter().map(|hook| guard::of(hook, argument)).collect();
    if let Some(time) = keeper::listening_time(legion).filter(|_| !election.is_outvoted()) {
        let name = legion.name();
        uwsgi::log(&format!(
            "{name}: listening for {:.1} s first: others may be alive that were not heard yet",
            time.as_secs_f64()
        ));
        uwsgi::listen(&election, time);
    }
    let (watched, current) = (guards.clone(), Arc::clone(&election));
    let is_over = Arc::new(AtomicBool::new(false));
    let is_given_up = Arc::clone(&is_over);
    let work = move || side_by_side(&watched, &current, &is_given_up);
    let waited = uwsgi::wait_for(&election, &is_over, longest + GRACE, work);
    let name = legion.name();
    if election.is_outvoted() {
        uwsgi::log(&format!(
            "{name}: a node with a higher valor is alive after all: leaving it to the next election"
        ));
    } else if !matches!(waited, Waited::Done(_)) && !uwsgi::is_ending() {
        let why = match waited {
            Waited::TooLong => "the takeover did not end by its deadline: given up",
            _ => {
                "it could not be begun, or has ended by a bug: is there a thread left? Check ulimit -u and TasksMax"
            }
        };
        for guard in &guards {
            let ip = guard.hook.options.ip;
            count(&guard.hook.metrics.takeover_failures);
            guard.hook.alarm(&format!("FAILED to route {ip} here: {why}"));
        }
    }
    let mut all_here = true;
    for (position, guard) in guards.iter().enumerate() {
        let here = matches!(&waited, Waited::Done(verdicts) if verdicts[position] == Verdict::Here);
        guard.set_failed(!here);
        all_here &= here;
    }
    let ended = if all_here {
        Ended::Here
    } else if election.is_outvoted() {
        Ended::Outvoted
    } else {
        Ended::Failed
    };
    keeper::note_end(legion, ended);
    // So that what uWSGI says of it stands behind our lines.
    uwsgi::flush_log(SHORT_FLUSH);
    all_here
}

/// The election that this hook runs for: its Legion's earlier hooks of ours may have run for the same.
fn election(legion: Legion, argument: &[u8]) -> Arc<Election> {
    static CURRENT: Mutex<Vec<Arc<Election>>> = Mutex::new(Vec::new());
    let mut current = CURRENT.lock().unwrap_or_else(PoisonError::into_inner);
    let known = current.iter().position(|election| election.legion() == legion);
    match known {
        Some(at) if legion.has_run_one_before(argument) => Arc::clone(&current[at]),
        _ => {
            known.map(|at| current.swap_remove(at));
            let election = Election::of(legion);
            current.push(Arc::clone(&election));
            election
        }
    }
}

/// Takes all IPs over at the same time, so that it takes as long as the slowest.
fn side_by_side(guards: &[Arc<Guard>], election: &Election, is_given_up: &AtomicBool) -> Vec<Verdict> {
    let goes_on = || !election.is_outvoted() && !is_given_up.load(Ordering::Relaxed);
    let has_company = || election.has_company();
    let take_over = &|guard: &Guard| guard.hook.take_over(Need::Election, &goes_on, &has_company);
    let [first, others @ ..] = guards else { return Vec::new() };
    thread::scope(|scope| {
        let start = |guard: &'_ Arc<Guard>| {
            let guard = Arc::clone(guard);
            let of_thread = Arc::clone(&guard);
            let started = thread::Builder::new().spawn_scoped(scope, move || take_over(&of_thread));
            started.map_err(|_| guard)
        };
        let others: Vec<_> = others.iter().map(start).collect();
        let first = take_over(first);
        let rest = others.into_iter().map(|other| match other {
            Ok(other) => other.join().unwrap_or(Verdict::Failed { sent: true }),
            // The system has no thread left.
            Err(guard) => take_over(&guard),
        });
        std::iter::once(first).chain(rest).collect()
    })
}

/// Runs a hook that releases; returns whether none of its failover IPs is here now because of this node. Called by uWSGI
/// in the Legion's thread, or at its end in the master's.
pub fn run_release(legion: Legion, argument: &[u8]) -> bool {
    let Some(hooks) = known(legion, argument) else { return false };
    // Another node moves the IP to itself. Released first it would be nowhere meanwhile; and released late, it would be
    // taken from the node that has it by then.
    let why = if keeper::had_another_candidate(legion) {
        Some("another node is in sight, and takes it over")
    } else if !uwsgi::is_ending() {
        Some("this node goes on")
    } else {
        None
    };
    if let Some(why) = why {
        for Hook { options, .. } in &hooks {
            uwsgi::log(&format!("{}: {} is not released: {why}", legion.name(), options.ip));
        }
        if uwsgi::is_ending() {
            uwsgi::flush_log(LONGEST_FLUSH);
        }
        return true;
    }
    // At its end uWSGI has stopped its Legions, and waits for this hook alone. Each is tried, whatever becomes of the others.
    // Here, not in threads: one that this thread starts would take uWSGI's signals.
    let release = |hook: &Hook| {
        let failed = |failure: Failure| {
            hook.alarm(&format!("FAILED to release {}: {}", hook.options.ip, failure.sentence));
        };
        hook.release(LONGEST_RELEASE).map_err(failed).is_ok()
    };
    let failed = hooks.iter().filter(|hook| !release(hook)).count();
    uwsgi::flush_log(LONGEST_FLUSH);
    failed == 0
}
