//! Plays a plan on real nodes, and writes down what happens.

use std::fs::{self, File};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use lab::command::Trouble;
use lab::hoster::Hosted;
use lab::legion::Legion;
use lab::links::Weather;
use lab::process::{SIGHUP, SIGINT, interrupted};
use lab::service::Page;
use lab::timeline::Timeline;
use lab::wait_until;

use crate::fault::Fault;
use crate::hoster::{COMMAND, Hoster, TROUBLED};
use crate::plan::Plan;
use crate::setting::{self, Promise};
use crate::site::{DRAINED, FAILS, SICK};

/// How often it is looked who is Lord, and where the IP is.
const LOOK: Duration = Duration::from_millis(200);
/// How long it has to stay so.
const STAYS: Duration = Duration::from_secs(10);
/// How long a node may take to end that was told to, when it is to be started again.
const ENDS: Duration = Duration::from_secs(20);

/// How long a node may need from its app's loading until it is elected again.
const ELECTED: Duration = Duration::from_secs(15);

/// Where a node's process is, as far as this program knows.
#[derive(Clone, PartialEq, Eq)]
enum State {
    Up,
    Down,
    /// It may be there, and cannot say anything.
    Mute,
    /// It was Lord of these before, and is until it says so itself, or another does, or so long has passed.
    Reloading(Vec<String>, Instant),
}

/// Something that happened.
pub struct Happening {
    pub at: Instant,
    pub what: String,
}

/// A fault of the plan, by its place there, and when it was in force. What has no end is over at once.
pub struct Played {
    pub number: usize,
    pub from: Instant,
    pub until: Option<Instant>,
}

/// What is seen of a promise.
pub struct Watched {
    pub promise: Promise,
    pub timeline: Timeline,
    /// When last looked.
    route: Option<usize>,
}

/// The Lords of each Legion of the plan, from then on.
#[derive(Clone, PartialEq)]
pub struct Lords {
    pub at: Instant,
    pub of: Vec<Vec<usize>>,
}

/// The nodes and the stand-in of one plan.
pub struct Stage<'a> {
    pub plan: &'a Plan,
    pub api: Box<dyn Hosted>,
    pub legion: Legion,
    pub watched: Vec<Watched>,
    pub happenings: Vec<Happening>,
    /// When each node's process began, or began anew: what it has asked for before is forgotten then.
    pub lives: Vec<Vec<Instant>>,
    /// Each change of the Lords.
    pub lords: Vec<Lords>,
    /// Each fault that has begun.
    pub played: Vec<Played>,
    /// When a route was changed by hand.
    pub moved: Vec<Instant>,
    pub problems: Vec<String>,
    pub started: Instant,
    /// When the last fault has ended.
    pub over: Instant,
    states: Vec<State>,
    pages: Vec<Page>,
    /// The faults in force, by their place in the plan.
    active: Vec<usize>,
}

impl Stage<'_> {
    /// All nodes started, with the plugin built for their uWSGI or another one.
    pub fn set<'a>(plan: &'a Plan, plugin: Option<&Path>) -> Stage<'a> {
        let (api, origin) = plan.hoster.start(plan);
        let mut legion = setting::legion(plan, &origin, plugin);
        let pages = (1..=plan.nodes).map(|node| setting::page(&legion, node)).collect();
        legion.start_all();
        let started = Instant::now();
        let watch = |promise| Watched { promise, timeline: Timeline::start(plan.nodes), route: None };
        Stage {
            plan,
            api,
            legion,
            watched: setting::promises(plan).into_iter().map(watch).collect(),
            happenings: vec![Happening { at: started, what: "all nodes are started".into() }],
            lives: vec![vec![started]; plan.nodes],
            lords: vec![Lords { at: started, of: vec![Vec::new(); plan.legions().len()] }],
            played: Vec::new(),
            moved: Vec::new(),
            problems: Vec::new(),
            started,
            over: started,
            states: vec![State::Up; plan.nodes],
            pages,
            active: Vec::new(),
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
                (Some(why), _) if self.over.elapsed() >= self.plan.patience() => return Err(why),
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
            self.played.push(Played { number, from: Instant::now(), until: None });
        } else {
            self.active.retain(|active| *active != number);
        }
        let what = if begins { fault.to_string() } else { format!("end of {fault}") };
        self.watched.iter_mut().for_each(|watched| watched.timeline.note(&what));
        self.note(what);
        match fault {
            Fault::Kill(node) if begins => self.kill(*node),
            Fault::Kill(node) => self.start(*node),
            Fault::Freeze(node) | Fault::Pause(node) if begins => {
                // Nothing that is sent to a paused machine may wait for it.
                self.set_links();
                self.legion.node(*node).freeze();
                self.states[node - 1] = State::Mute;
            }
            Fault::Freeze(node) | Fault::Pause(node) => {
                self.legion.node(*node).thaw();
                self.set_links();
                self.states[node - 1] = State::Up;
            }
            Fault::Log(node) if begins => {
                self.legion.node(*node).block_log();
                self.states[node - 1] = State::Mute;
            }
            Fault::Log(node) => {
                self.legion.node(*node).read_log_on();
                self.states[node - 1] = State::Up;
            }
            Fault::Stop(node) if begins => {
                self.legion.node(*node).signal(SIGINT);
                self.states[node - 1] = State::Down;
            }
            Fault::Stop(node) => self.restart(*node),
            Fault::Reload(node) => self.reload(*node, Duration::ZERO),
            Fault::Deploy(node, load) if begins => self.reload(*node, *load),
            // From its next start on it loads at once.
            Fault::Deploy(node, _) => self.pages[node - 1].load_for(Duration::ZERO),
            Fault::Sick(_) | Fault::Drain(_) => self.set_health(),
            Fault::Links { .. } | Fault::Strays(_) => self.set_links(),
            Fault::Slow(_) => self.set_switch(),
            Fault::Api(_) | Fault::Away => self.set_rules(),
            Fault::Hook(_) => self.set_hooks(),
            Fault::Command(..) | Fault::Missing(_) => self.set_commands(),
            Fault::Move(node) => {
                // By hand it is the first IP that is moved.
                let ip = self.watched[0].promise.ip;
                self.api.move_to(ip, *node);
                self.moved.push(Instant::now());
            }
        }
        // A node that is to be started again may take its time to end.
        if let Some(played) = self.played.iter_mut().rfind(|played| played.number == number) {
            played.until = (!begins || !fault.has_an_end()).then(Instant::now);
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

    /// Starts a node that was told to end.
    fn restart(&mut self, node: usize) {
        if !self.legion.wait_for_exit(node, ENDS) {
            self.problems.push(format!("node {node} has not ended within {ENDS:?}, though it was told to"));
            self.legion.kill(node);
        }
        self.start(node);
    }

    fn start(&mut self, node: usize) {
        self.legion.start(node);
        self.states[node - 1] = State::Up;
        self.lives[node - 1].push(Instant::now());
    }

    fn reload(&mut self, node: usize, load: Duration) {
        // Before a master has set its signals up, SIGHUP ends it. Where it answers, it has.
        let legion = &self.legion;
        if wait_until(Duration::from_secs(5), || legion.node(node).stats().is_some()) {
            self.pages[node - 1].load_for(load);
            let lord_of = self.legion.node(node).lord_of();
            self.legion.node(node).signal(SIGHUP);
            self.lives[node - 1].push(Instant::now());
            // With another plugin a reload is an end.
            if !self.plan.foreign {
                self.states[node - 1] = State::Reloading(lord_of, Instant::now() + load + ELECTED);
            }
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
                let weather = self.active().map(|fault| fault.weather(from, to));
                let weather = weather.fold(Weather::default(), Weather::worse);
                self.legion.all_links().for_each(|links| links.set(from, to, weather));
            }
        }
    }

    fn set_hooks(&self) {
        for node in 1..=self.plan.nodes {
            let file = self.legion.folder(node).join(FAILS);
            let fails =
                self.active().any(|fault| matches!(fault, Fault::Hook(nodes) if nodes.contains(&node)));
            let done = if fails { File::create(&file).map(drop) } else { fs::remove_file(&file) };
            // That it is not there is as well.
            let _ = done;
        }
    }

    fn set_commands(&self) {
        for node in (1..=self.plan.nodes).filter(|_| self.plan.hoster == Hoster::Command) {
            let folder = self.legion.folder(node);
            let trouble = self.active().find_map(|fault| match fault {
                Fault::Command(nodes, trouble) if nodes.contains(&node) => Some(*trouble),
                _ => None,
            });
            Trouble::set(trouble, &folder.join(TROUBLED));
            let (command, away) = (folder.join(COMMAND), folder.join("away"));
            let is_missing = self.active().any(|fault| *fault == Fault::Missing(node));
            let done = if is_missing { fs::rename(command, away) } else { fs::rename(away, command) };
            // It is there, or not, already.
            let _ = done;
        }
    }

    fn set_health(&self) {
        for node in 1..=self.plan.nodes {
            let folder = self.legion.folder(node);
            let is_sick =
                self.active().any(|fault| matches!(fault, Fault::Sick(nodes) if nodes.contains(&node)));
            let is_drained = self.active().any(|fault| *fault == Fault::Drain(node));
            let page = &self.pages[node - 1];
            if is_sick {
                page.remove()
            } else {
                page.serve()
            }
            for (name, there) in [(SICK, is_sick), (DRAINED, is_drained)] {
                let file = folder.join(name);
                let done = if there { File::create(&file).map(drop) } else { fs::remove_file(&file) };
                // That it is not there is as well.
                let _ = done;
            }
        }
    }

    fn set_switch(&self) {
        let slow = self.active().filter_map(|fault| match fault {
            Fault::Slow(time) => Some(*time),
            _ => None,
        });
        self.api.set_switch(slow.max().unwrap_or(self.plan.switch));
    }

    fn set_rules(&self) {
        self.api.clear_faults();
        for fault in self.active() {
            let rule = match fault {
                Fault::Api(rule) => rule,
                Fault::Away => "any refuse",
                _ => continue,
            };
            self.api.rule(rule);
        }
    }

    /// Sees who is Lord and where the IPs are. Who is mute or not there cannot say.
    fn look(&mut self) {
        let legions = self.plan.legions();
        let mut lords = vec![Vec::new(); legions.len()];
        for node in 1..=self.plan.nodes {
            if matches!(self.states[node - 1], State::Down | State::Mute) {
                continue;
            }
            let of = self.legion.node(node).lord_of();
            if let State::Reloading(before, until) = &self.states[node - 1] {
                if before.iter().all(|legion| of.contains(legion)) || Instant::now() >= *until {
                    self.states[node - 1] = State::Up;
                }
            }
            for (lords, _) in
                lords.iter_mut().zip(legions).filter(|(_, name)| of.iter().any(|of| of == *name))
            {
                lords.push(node);
            }
        }
        for (lords, name) in lords.iter_mut().zip(legions).filter(|(lords, _)| lords.is_empty()) {
            let was_lord = |state: &State| matches!(state, State::Reloading(before, _) if before.iter().any(|of| of == name));
            lords.extend((1..=self.plan.nodes).filter(|node| was_lord(&self.states[node - 1])));
        }
        for watched in &mut self.watched {
            let legion =
                legions.iter().position(|name| *name == watched.promise.legion).expect("one of these");
            watched.route = self.api.node_at(watched.promise.ip);
            watched.timeline.lords(&lords[legion]);
            watched.timeline.route(watched.route);
        }
        if lords != self.lords.last().expect("there is a first").of {
            let of = |(name, lords): (&&str, &Vec<usize>)| format!("Lord of {name}: {lords:?}");
            self.note(legions.iter().zip(&lords).map(of).collect::<Vec<_>>().join(", "));
            self.lords.push(Lords { at: Instant::now(), of: lords });
        }
    }

    /// Why it is not as it should be, from the last look.
    fn unsettled(&self) -> Option<String> {
        let lords = self.lords.last().expect("there is a first");
        for (name, lords) in self.plan.legions().iter().zip(&lords.of) {
            let [lord] = lords[..] else { return Some(format!("the Lords of {name} are {lords:?}")) };
            for watched in self.watched.iter().filter(|watched| watched.promise.legion == *name) {
                let (ip, route) = (watched.promise.ip, watched.route);
                if route != Some(lord) {
                    return Some(format!("node {lord} is Lord of {name}, but {ip} is at node {route:?}"));
                }
                if self.api.is_switching(ip) {
                    return Some(format!("a switch of {ip} is under way"));
                }
            }
        }
        let silent = (1..=self.plan.nodes).find(|node| self.legion.node(*node).stats().is_none());
        silent.map(|node| format!("node {node} does not answer"))
    }

    fn note(&mut self, what: String) {
        self.happenings.push(Happening { at: Instant::now(), what });
    }
}
