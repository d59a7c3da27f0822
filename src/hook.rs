//! What a hook does: a takeover in a thread of its own, while the Legion is kept informed, and a guard that watches
//! over the route from then on; or the release of the route.

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use crate::guard::{self, Guard};
use crate::host::{self, Election, Legion};
use crate::hoster::{Failure, Hoster, Kind, Need, Route};
use crate::metrics::{Metrics, Place, count};
use crate::options::{Options, Parsed};
use crate::own;
use crate::robot::{BASE_URL, Robot};
use crate::startup;
use crate::takeover::{Order, Setting, Verdict, place, take_over};

/// For a release, which waits at a node's end: it is given up before anybody gets impatient.
const LONGEST_RELEASE: Duration = Duration::from_secs(10);

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
        if let Some(why) = self.options.login.password.news() {
            let uid = host::uid();
            self.log(&format!(
                "{why}, as uid {uid}: using what was read before; until it can be read again, a new password needs a \
                 restart"
            ));
        }
        Ok(robot)
    }

    /// All that a takeover needs before it can ask for anything.
    fn equipped(&self) -> Result<(Robot, IpAddr), Failure> {
        Ok((self.robot()?, self.active_ip().map_err(|why| Failure::new(Kind::NotSent, why))?))
    }

    /// The same, tried until the takeover's time is over: a file or an address that is not there now may be in a moment.
    fn wait_until_equipped(&self, scene: &Scene) -> Result<(Robot, IpAddr), Verdict> {
        let Options { ip, deadline, .. } = self.options;
        for pause in PAUSES.iter().chain(std::iter::repeat(&PAUSES[PAUSES.len() - 1])) {
            let Failure { kind, sentence, .. } = match self.equipped() {
                Ok(equipped) => return Ok(equipped),
                Err(failure) => failure,
            };
            let pause = Duration::from_secs(*pause);
            let after = scene.elapsed().as_secs_f64();
            if kind == Kind::Final || scene.elapsed() + pause >= deadline {
                self.alarm(&format!("FAILED to route {ip} here: {sentence} (after {after:.1} s)"));
                return Err(Verdict::Failed);
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
        host::log(&format!("{}: {line}", self.legion.name()));
    }

    /// Logs the line, and triggers the hook's alarm with it.
    pub fn alarm(&self, line: &str) {
        self.log(line);
        if let Some(alarm) = &self.options.alarm {
            host::alarm(alarm, &format!("{}: {line}", self.legion.name()));
        }
    }

    /// An ordinary takeover; before each step `goes_on` is asked.
    pub fn take_over(&self, need: Need, goes_on: &dyn Fn() -> bool) -> Verdict {
        let Options { ip, deadline, .. } = self.options;
        let began = Instant::now();
        let scene = Scene { hook: self, began, goes_on };
        count(&self.metrics.takeovers);
        let verdict = match self.wait_until_equipped(&scene) {
            Ok((robot, target)) => take_over(&robot, &Order { ip, target, deadline, need }, &scene),
            Err(verdict) => verdict,
        };
        let milliseconds = i64::try_from(began.elapsed().as_millis()).unwrap_or(i64::MAX);
        self.metrics.last_takeover_ms.store(milliseconds, std::sync::atomic::Ordering::Relaxed);
        match verdict {
            Verdict::Here => self.metrics.set_route(Place::Here),
            Verdict::Failed => count(&self.metrics.takeover_failures),
            Verdict::Dropped => {}
        }
        verdict
    }

    /// Where the IP is routed now, for a check.
    pub fn whereabouts(&self) -> Result<Route, Failure> {
        let (robot, target) = self.equipped()?;
        let found = robot.whereabouts(Need::Check, self.options.timeout);
        self.metrics.set_route(match &found {
            Ok(Some(address)) if *address == target => Place::Here,
            Ok(_) => Place::Elsewhere,
            Err(_) => Place::Unknown,
        });
        found
    }

    /// Deletes the route if it is here, and only then. Returns where it was found, or what went wrong.
    pub fn release(&self) -> Result<Route, Failure> {
        let ip = self.options.ip;
        let (robot, target) = self.equipped()?;
        let found = robot.whereabouts(Need::Takeover, LONGEST_RELEASE)?;
        if found != Some(target) {
            self.log(&format!("{ip} is {}, not here: nothing to release", place(found)));
            return Ok(found);
        }
        match robot.release(LONGEST_RELEASE)? {
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
        !host::is_ending() && (self.goes_on)()
    }
}

/// The hooks of an argument, as they were read when uWSGI started; what is wrong with them is logged at each call.
fn known(legion: Legion, argument: &[u8]) -> Option<Vec<Hook>> {
    let name = legion.name();
    let report = |wrong: startup::Wrong| {
        for problem in wrong.problems {
            let line = format!("{name}: nothing is sent, the hook is wrong: {problem}");
            host::log(&line);
            wrong.alarm.iter().for_each(|alarm| host::alarm(alarm, &line));
        }
    };
    startup::hooks_of(legion, argument).map_err(report).ok()
}

/// Runs a lord hook; returns whether all its failover IPs are here now. Called by uWSGI in the Legion's thread.
pub fn run(legion: Legion, argument: &[u8]) -> bool {
    let Some(hooks) = known(legion, argument) else { return false };
    let guards: Vec<Arc<Guard>> = hooks.into_iter().map(|hook| guard::of(hook, argument)).collect();
    let election = Election::of(legion);
    let (hooks, current) = (guards.clone(), Arc::clone(&election));
    let verdicts = host::wait_for(Some(&election), move || side_by_side(&hooks, &current));
    if election.is_outvoted() {
        let name = legion.name();
        host::log(&format!(
            "{name}: a node with a higher valor is alive after all: leaving it to the next election"
        ));
    }
    let mut all_here = true;
    for (position, guard) in guards.iter().enumerate() {
        let here = verdicts.as_ref().is_some_and(|verdicts| verdicts[position] == Verdict::Here);
        guard.set_failed(!here);
        all_here &= here;
    }
    host::give_back_soon();
    all_here
}

/// Takes all IPs over at the same time, so that it takes as long as the slowest.
fn side_by_side(guards: &[Arc<Guard>], election: &Election) -> Vec<Verdict> {
    let take_over = |guard: &Guard| guard.hook.take_over(Need::Election, &|| !election.is_outvoted());
    let [first, others @ ..] = guards else { return Vec::new() };
    thread::scope(|scope| {
        let others: Vec<_> = others.iter().map(|guard| scope.spawn(move || take_over(guard))).collect();
        let first = take_over(first);
        let joined = others.into_iter().map(|other| other.join().unwrap_or(Verdict::Failed));
        std::iter::once(first).chain(joined).collect()
    })
}

/// Runs a hook that releases; returns whether none of its failover IPs is here now. Called by uWSGI in the Legion's
/// thread, or at its end in the master's.
pub fn run_release(legion: Legion, argument: &[u8]) -> bool {
    let Some(hooks) = known(legion, argument) else { return false };
    let release = move || {
        let one = |hook: &Hook| {
            let failed = |failure: Failure| {
                hook.alarm(&format!("FAILED to release {}: {}", hook.options.ip, failure.sentence));
            };
            hook.release().map_err(failed).is_ok()
        };
        // Each is tried, whatever becomes of the others.
        hooks.iter().filter(|hook| !one(hook)).count() == 0
    };
    // At its end uWSGI has stopped its Legions, and waits for this hook alone.
    if host::is_ending() { release() } else { host::wait_for(None, release).unwrap_or(false) }
}
