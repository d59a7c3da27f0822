//! What a hook does: a takeover in a thread of its own, while the Legion is kept informed, and a guard that watches
//! over the route from then on; or the release of the route.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crate::guard::{self, Guard};
use crate::host::{self, Election, Legion};
use crate::hoster::{Failure, Hoster, Need, Route};
use crate::metrics::{Metrics, Place, count};
use crate::options::{Options, Problem};
use crate::own;
use crate::robot::{BASE_URL, Robot};
use crate::takeover::{Order, Setting, Verdict, place, take_over};

/// For a release, which waits at a node's end: it is given up before anybody gets impatient.
const LONGEST_RELEASE: Duration = Duration::from_secs(10);

/// One failover IP of one hook of one Legion.
#[derive(Clone)]
pub struct Hook {
    pub legion: Legion,
    pub options: Options,
    pub metrics: &'static Metrics,
}

impl Hook {
    /// The hook of `legion` with its `argument`: one for each failover IP that it names.
    pub fn parse(legion: Legion, argument: &[u8]) -> Result<Vec<Hook>, Vec<Problem>> {
        let options = Options::parse(argument, BASE_URL, &|url, ipv6| own::find(legion, url, ipv6))?;
        let hook = |options: Options| Hook { legion, metrics: Metrics::of(legion, options.ip), options };
        Ok(options.into_iter().map(hook).collect())
    }

    pub fn log(&self, line: &str) {
        host::log(&format!("{}: {line}", self.legion.name()));
    }

    /// Logs the line, and triggers the hook's alarm with it.
    pub fn alarm(&self, line: &str) {
        self.log(line);
        self.metrics.note_alarm(line);
        if let Some(alarm) = &self.options.alarm {
            host::alarm(alarm, &format!("{}: {line}", self.legion.name()));
        }
    }

    /// An ordinary takeover; before each step `goes_on` is asked.
    pub fn take_over(&self, need: Need, goes_on: &dyn Fn() -> bool) -> Verdict {
        let Options { ip, active_ip, deadline, .. } = self.options;
        let began = Instant::now();
        let scene = Scene { hook: self, began, goes_on };
        count(&self.metrics.takeovers);
        let order = Order { ip, target: active_ip, deadline, need, hand_over_after: None };
        let verdict = match Robot::new(&self.options, self.metrics) {
            Ok(robot) => take_over(&robot, &order, &scene),
            Err(failure) => {
                self.alarm(&format!("FAILED to route {ip} to {active_ip}: {}", failure.sentence));
                Verdict::Failed { sent: false }
            }
        };
        let milliseconds = i64::try_from(began.elapsed().as_millis()).unwrap_or(i64::MAX);
        self.metrics.last_takeover_ms.store(milliseconds, std::sync::atomic::Ordering::Relaxed);
        match verdict {
            Verdict::Here => self.metrics.set_route(Place::Here),
            Verdict::Failed { .. } => count(&self.metrics.takeover_failures),
            Verdict::Dropped => {}
        }
        verdict
    }

    /// Where the IP is routed now, for a check.
    pub fn whereabouts(&self) -> Result<Route, Failure> {
        let robot = Robot::new(&self.options, self.metrics)?;
        let found = robot.whereabouts(Need::Check, self.options.timeout);
        self.metrics.set_route(match &found {
            Ok(Some(address)) if *address == self.options.active_ip => Place::Here,
            Ok(_) => Place::Elsewhere,
            Err(_) => Place::Unknown,
        });
        found
    }

    /// Deletes the route if it is here, and only then; each request takes at most `limit`. Returns where it was found, or
    /// what went wrong.
    pub fn release(&self, limit: Duration) -> Result<Route, Failure> {
        let Options { ip, active_ip, .. } = self.options;
        let robot = Robot::new(&self.options, self.metrics)?;
        let found = robot.whereabouts(Need::Takeover, limit)?;
        if found != Some(active_ip) {
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

/// The hooks of an argument that was found right when uWSGI started; what is wrong by now is logged.
fn parse_again(legion: Legion, argument: &[u8]) -> Option<Vec<Hook>> {
    let report = |problems: Vec<Problem>| {
        for problem in problems {
            host::log(&format!("{}: nothing is sent, the hook is wrong: {problem}", legion.name()));
        }
    };
    Hook::parse(legion, argument).map_err(report).ok()
}

/// Runs a lord hook; returns whether all its failover IPs are here now. Called by uWSGI in the Legion's thread.
pub fn run(legion: Legion, argument: &[u8]) -> bool {
    let Some(hooks) = parse_again(legion, argument) else { return false };
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
        let joined = others.into_iter().map(|other| other.join().unwrap_or(Verdict::Failed { sent: true }));
        std::iter::once(first).chain(joined).collect()
    })
}

/// Runs a hook that releases; returns whether none of its failover IPs is here now. Called by uWSGI in the Legion's
/// thread, or at its end in the master's.
pub fn run_release(legion: Legion, argument: &[u8]) -> bool {
    let Some(hooks) = parse_again(legion, argument) else { return false };
    let release = move || {
        let one = |hook: &Hook| {
            let failed = |failure: Failure| {
                hook.alarm(&format!("FAILED to release {}: {}", hook.options.ip, failure.sentence));
            };
            hook.release(LONGEST_RELEASE).map_err(failed).is_ok()
        };
        // Each is tried, whatever becomes of the others.
        hooks.iter().filter(|hook| !one(hook)).count() == 0
    };
    // At its end uWSGI has stopped its Legions, and waits for this hook alone.
    if host::is_ending() { release() } else { host::wait_for(None, release).unwrap_or(false) }
}
