//! Plays a plan on real nodes, and writes down what happens.

use std::net::IpAddr;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use crate::plan::{Fault, Plan};
use crate::robot::{Config, Failover, Login, Robot};
use crate::support::legion::{LEGION, Legion, address, hook};
use crate::support::links::Weather;
use crate::support::process::{SIGHUP, interrupted};
use crate::support::timeline::Timeline;
use crate::support::{PASSWORD, USERNAME, wait_until};

/// How often it is looked who is Lord, and where the IP is.
const LOOK: Duration = Duration::from_millis(200);
/// How long there may be no one Lord with the IP, once every fault is over.
pub const QUIET: Duration = Duration::from_secs(60);
/// How long it has to stay so.
const STAYS: Duration = Duration::from_secs(10);

/// Where a node's process is, as far as this program knows.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Up,
    Down,
    Frozen,
}

/// Something that happened.
pub struct Happening {
    pub at: Instant,
    pub what: String,
}

/// The nodes and the stand-in of one plan.
pub struct Stage<'a> {
    pub plan: &'a Plan,
    pub robot: Robot,
    pub legion: Legion,
    pub timeline: Timeline,
    pub happenings: Vec<Happening>,
    /// When each node's process began, or began anew: what it has asked for before is forgotten then.
    pub lives: Vec<Vec<Instant>>,
    pub problems: Vec<String>,
    pub started: Instant,
    /// When the last fault has ended.
    pub over: Instant,
    states: Vec<State>,
    /// The faults in force, by their place in the plan.
    active: Vec<usize>,
    /// When last looked.
    lords: Vec<usize>,
    route: Option<IpAddr>,
}

pub fn failover_ip() -> IpAddr {
    [4, 4, 4, 4].into()
}

/// The path under which node N asks for the failover IP. To the API they are all the same; a letter that is written
/// as its code tells in the journal who it was, which a GET does not say.
pub fn path(node: usize) -> String {
    let path = format!("/failover/{}", failover_ip());
    let (before, rest) = path.split_at(node);
    format!("{before}%{:02X}{}", rest.as_bytes()[0], &rest[1..])
}

impl Stage<'_> {
    /// All nodes started, with the plugin built for their uWSGI or another one.
    pub fn set<'a>(plan: &'a Plan, plugin: Option<&Path>) -> Stage<'a> {
        let robot = Robot::start(Config {
            login: Some(Login::new(USERNAME, PASSWORD)),
            failover: vec![Failover::new(failover_ip(), None)],
            switch: plan.switch,
            // All nodes have one address here, so that one node's wrong logins would lock out the others.
            lockout: Duration::ZERO,
            accept_multipart: plan.foreign,
            ..Config::default()
        })
        .expect("loopback has a free port");
        let hooks: Vec<String> = (1..=plan.nodes)
            .map(|node| {
                // uWSGI takes a single % in an ini for its own.
                let url = format!("http://{}{}", robot.addr(), path(node).replace('%', "%%"));
                let hook = hook(node, &url, &plan.keys());
                if plan.wrong_login == Some(node) {
                    hook.replace(PASSWORD, &format!("{PASSWORD}-AND-WRONG"))
                } else {
                    hook
                }
            })
            .collect();
        let mut legion = Legion::new(plan.uwsgi(), &hooks, &plan.ini()).with_links();
        if let Some(plugin) = plugin {
            legion = legion.with_plugin(plugin);
        }
        // The nodes' logs have the time of day, and so has what is written down here.
        legion.set_env("TZ", "UTC");
        legion.start_all();
        let started = Instant::now();
        Stage {
            plan,
            robot,
            legion,
            timeline: Timeline::start(plan.nodes),
            happenings: vec![Happening { at: started, what: "all nodes are started".into() }],
            lives: vec![vec![started]; plan.nodes],
            problems: Vec::new(),
            started,
            over: started,
            states: vec![State::Up; plan.nodes],
            active: Vec::new(),
            lords: Vec::new(),
            route: None,
        }
    }

    /// Plays all faults, until the last one is over.
    pub fn play(&mut self) {
        let mut steps = Vec::new();
        for (number, planned) in self.plan.faults.iter().enumerate() {
            steps.push((planned.from, number, true));
            if planned.fault.has_an_end() {
                steps.push((planned.until, number, false));
            }
        }
        steps.sort_by_key(|(at, ..)| *at);
        for (at, number, begins) in steps {
            while self.started.elapsed() < at && !interrupted() {
                self.look();
                thread::sleep(LOOK.min(at.saturating_sub(self.started.elapsed())));
            }
            if interrupted() {
                return;
            }
            self.step(number, begins);
        }
        self.over = Instant::now();
        self.note("every fault is over".into());
    }

    /// Waits until there is one Lord, the IP is there, and both stay; returns how long that took, or why it is not so.
    pub fn wait_for_quiet(&mut self) -> Result<Duration, String> {
        let mut since = None;
        while !interrupted() {
            self.look();
            match (self.unsettled(), since) {
                (None, None) => since = Some(Instant::now()),
                (None, Some(since)) if since.elapsed() >= STAYS => return Ok(since - self.over),
                (None, Some(_)) => {}
                // It may have been in order for a while before: what counts is how the quiet ends.
                (Some(why), _) if self.over.elapsed() >= QUIET => return Err(why),
                (Some(_), _) => since = None,
            }
            thread::sleep(LOOK);
        }
        Err("interrupted".into())
    }

    fn step(&mut self, number: usize, begins: bool) {
        let plan = self.plan;
        let fault = &plan.faults[number].fault;
        if begins {
            self.active.push(number);
        } else {
            self.active.retain(|active| *active != number);
        }
        let what = if begins { fault.to_string() } else { format!("end of {fault}") };
        self.timeline.note(&what);
        self.note(what);
        match fault {
            Fault::Kill(node) if begins => self.kill(*node),
            Fault::Kill(node) => self.start(*node),
            Fault::Freeze(node) if begins => {
                self.legion.node(*node).freeze();
                self.states[node - 1] = State::Frozen;
            }
            Fault::Freeze(node) => {
                self.legion.node(*node).thaw();
                self.states[node - 1] = State::Up;
            }
            Fault::Reload(node) => self.reload(*node),
            Fault::Links { .. } => self.set_links(),
            Fault::Slow(_) => self.set_switch(),
            Fault::Api(_) => self.set_rules(),
            Fault::Move(node) => self.robot.set_route(failover_ip(), node.map(route_of)),
        }
    }

    fn kill(&mut self, node: usize) {
        if self.legion.wait_for_exit(node, Duration::ZERO) {
            self.problems.push(format!("node {node} had ended by itself before it was killed"));
        } else {
            self.legion.kill(node);
        }
        self.states[node - 1] = State::Down;
    }

    fn start(&mut self, node: usize) {
        self.legion.start(node);
        self.states[node - 1] = State::Up;
        self.lives[node - 1].push(Instant::now());
    }

    fn reload(&mut self, node: usize) {
        // Before a master has set its signals up, SIGHUP ends it. Where it answers, it has.
        let legion = &self.legion;
        if wait_until(Duration::from_secs(5), || legion.node(node).legion(LEGION).is_some()) {
            self.legion.node(node).signal(SIGHUP);
            self.lives[node - 1].push(Instant::now());
        } else {
            self.note(format!("node {node} is not up yet, so it is not reloaded"));
        }
    }

    fn active(&self) -> impl Iterator<Item = &Fault> {
        self.active.iter().map(|number| &self.plan.faults[*number].fault)
    }

    fn set_links(&self) {
        for from in 1..=self.plan.nodes {
            for to in (1..=self.plan.nodes).filter(|to| *to != from) {
                let of_this = self.active().filter_map(|fault| match fault {
                    Fault::Links { links, weather, .. } if links.contains(&(from, to)) => Some(*weather),
                    _ => None,
                });
                self.legion.links().set(from, to, of_this.fold(Weather::default(), Weather::worse));
            }
        }
    }

    fn set_switch(&self) {
        let slow = self.active().filter_map(|fault| match fault {
            Fault::Slow(time) => Some(*time),
            _ => None,
        });
        self.robot.set_switch(slow.max().unwrap_or(self.plan.switch));
    }

    fn set_rules(&self) {
        self.robot.clear_faults();
        for fault in self.active() {
            if let Fault::Api(rule) = fault {
                self.robot.fault(rule.parse().unwrap_or_else(|error| panic!("{rule}: {error}")));
            }
        }
    }

    /// Sees who is Lord and where the IP is. Who is frozen or not there cannot say.
    fn look(&mut self) {
        let nodes = 1..=self.plan.nodes;
        let up = nodes.filter(|node| self.states[node - 1] == State::Up);
        let lords: Vec<usize> = up.filter(|node| self.legion.node(*node).is_lord(LEGION)).collect();
        let route = self.robot.route(failover_ip());
        self.timeline.lords(&lords);
        self.timeline.route((1..=self.plan.nodes).find(|node| route == Some(route_of(*node))));
        if lords != self.lords {
            self.note(format!("Lord: {lords:?}"));
            self.lords = lords;
        }
        self.route = route;
    }

    /// Why it is not as it should be, from the last look.
    fn unsettled(&self) -> Option<String> {
        let [lord] = self.lords[..] else { return Some(format!("the Lords are {:?}", self.lords)) };
        if self.route != Some(route_of(lord)) {
            return Some(format!("node {lord} is Lord, but the route is {:?}", self.route));
        }
        if self.robot.is_switching(failover_ip()) {
            return Some("a switch is under way".into());
        }
        let silent = (1..=self.plan.nodes).find(|node| self.legion.node(*node).legion(LEGION).is_none());
        silent.map(|node| format!("node {node} does not answer"))
    }

    fn note(&mut self, what: String) {
        self.happenings.push(Happening { at: Instant::now(), what });
    }
}

fn route_of(node: usize) -> IpAddr {
    address(node).parse().expect("an address")
}
