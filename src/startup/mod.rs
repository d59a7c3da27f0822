//! What is read and told at start: every hook of ours is read once, before anything is bound or forked and with the
//! privileges that uWSGI was started with, so that a mistake is found now and not when the Lord dies. What was read then
//! is what runs.
//!
//! A start that cannot work ends uWSGI. A reload does not: the site goes on serving, and the hook fails with a sentence
//! when it is its turn.

mod mistaken;
mod tell;
pub mod trust;
mod warnings;

use std::sync::{Arc, Mutex, PoisonError};

use crate::config::{Remark, Weight};
use crate::failover::{FailoverIp, Records};
use crate::hosters::{self, About, Hoster, Shared, Surroundings, Visitor};
use crate::uwsgi::{self, Legion};
pub use tell::refuse;
pub use warnings::warnings;

/// One hook of ours, where it stands, and what it says.
#[derive(Clone)]
pub struct Hook {
    pub legion: Legion,
    phase: &'static str,
    about: &'static About,
    /// Whether its action releases, rather than takes over.
    releases: bool,
    argument: Vec<u8>,
    /// None where it cannot work.
    pub ips: Vec<FailoverIp>,
    /// What is wrong with it where it cannot work, else what is doubtful.
    remarks: Vec<String>,
    /// Its alarm, if there is such a one.
    alarm: Option<String>,
}

impl Hook {
    /// Whether it takes its IPs over when this node becomes Lord.
    pub fn is_lord_hook(&self) -> bool {
        self.phase == LORD && !self.releases
    }

    fn is_wrong(&self) -> bool {
        self.ips.is_empty()
    }

    /// The failover IPs of a hook that uWSGI calls; what is wrong with it is logged at each call.
    pub fn known(&self) -> Option<&[FailoverIp]> {
        let name = self.legion.name();
        for problem in self.remarks.iter().filter(|_| self.is_wrong()) {
            let line = format!("{name}: nothing is sent, the hook is wrong: {problem}");
            uwsgi::log(&line);
            self.alarm.iter().for_each(|alarm| uwsgi::alarm(alarm, &line));
        }
        (!self.is_wrong()).then_some(&self.ips)
    }
}

/// Where a hook has to stand to run when this node becomes Lord.
const LORD: &str = "legion-lord";

/// Every hoster there is.
fn hosters() -> Vec<&'static About> {
    struct All(Vec<&'static About>);
    impl Visitor for All {
        fn visit<H: Hoster>(&mut self) {
            self.0.push(&H::ABOUT);
        }
    }
    let mut all = All(Vec::new());
    hosters::each(&mut all);
    all.0
}

/// The hoster that has this action, and whether the action releases.
fn action(name: &[u8]) -> Option<(&'static About, bool)> {
    let is_it = |about: &&About| [about.takes_over, about.releases].iter().any(|its| its.to_bytes() == name);
    hosters().into_iter().find(is_it).map(|about| (about, about.releases.to_bytes() == name))
}

/// All that was read.
pub struct Reading {
    shared: &'static Shared,
    records: &'static Records,
    hooks: Vec<Hook>,
    /// Those that were registered later, by another plugin.
    later: Mutex<Vec<Hook>>,
    /// What ends uWSGI when it starts, each with Legion, hook and key.
    problems: Vec<String>,
    /// What to trigger where it does not end.
    alarms: Vec<String>,
    warnings: Vec<String>,
}

impl Reading {
    /// Reads every hook of ours in the configuration.
    pub fn of_all(shared: &'static Shared, records: &'static Records) -> Reading {
        let mut reading = Reading {
            shared,
            records,
            hooks: Vec::new(),
            later: Mutex::new(Vec::new()),
            problems: Vec::new(),
            alarms: Vec::new(),
            warnings: Vec::new(),
        };
        for legion in uwsgi::legions() {
            for line in legion.hooks() {
                if let Some((about, releases)) = action(&line.action) {
                    reading.read(legion, line.phase, (about, releases), &line.argument);
                } else if let Some(problem) = mistaken::looks_like_ours(legion, &line) {
                    reading.problems.push(problem);
                }
            }
        }
        let more = mistaken::two_masters(&reading.hooks);
        reading.problems.extend(more);
        reading.warnings = warnings(&reading.working());
        reading
    }

    /// The hooks that can work.
    pub fn working(&self) -> Vec<Hook> {
        self.hooks.iter().filter(|hook| !hook.is_wrong()).cloned().collect()
    }

    /// What would end uWSGI's start.
    pub fn problems(&self) -> &[String] {
        &self.problems
    }

    pub fn all_ips(&self) -> Vec<FailoverIp> {
        self.hooks.iter().flat_map(|hook| hook.ips.clone()).collect()
    }

    /// The failover IPs that are taken over in this Legion, or in any.
    pub fn lord_ips(&self, legion: Option<Legion>) -> Vec<FailoverIp> {
        let of_it = |hook: &&Hook| legion.is_none_or(|legion| hook.legion == legion) && hook.is_lord_hook();
        self.hooks.iter().filter(of_it).flat_map(|hook| hook.ips.clone()).collect()
    }

    /// The hook of `legion` with this action and argument.
    pub fn hook(&self, legion: Legion, (about, releases): (&'static About, bool), argument: &[u8]) -> Hook {
        let is_it = |hook: &&Hook| {
            hook.legion == legion
                && hook.about.takes_over == about.takes_over
                && hook.releases == releases
                && hook.argument == argument
        };
        let mut later = self.later.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(hook) = self.hooks.iter().chain(&*later).find(is_it) {
            return hook.clone();
        }
        let (hook, _) = self.read_one(legion, "", (about, releases), argument);
        later.push(hook.clone());
        hook
    }

    fn read(&mut self, legion: Legion, phase: &'static str, action: (&'static About, bool), argument: &[u8]) {
        let (hook, problems) = self.read_one(legion, phase, action, argument);
        if !problems.is_empty() {
            let name = legion.name();
            self.problems.extend(problems.into_iter().map(|text| format!("Legion {name}, {phase}: {text}")));
            self.alarms.extend(hook.alarm.clone());
        }
        self.hooks.push(hook);
    }

    /// One hook, and what ends a start because of it.
    fn read_one(
        &self,
        legion: Legion,
        phase: &'static str,
        (about, releases): (&'static About, bool),
        argument: &[u8],
    ) -> (Hook, Vec<String>) {
        let Reading { shared, records, .. } = *self;
        let hosters::Read { common, ips, remarks } =
            (about.read)(argument, &Surroundings { legion: legion.address(), shared });
        let (alarm, no_alarm) = match common.alarm.clone() {
            Some(unknown) if !uwsgi::has_alarm(&unknown) => {
                (None, Some(format!("alarm={unknown} is no alarm: define it by alarm = {unknown} ...")))
            }
            alarm => (alarm, None),
        };
        let common = Arc::new(common);
        let ip = |remote| FailoverIp::new(legion, about, &common, remote, records);
        let ips: Vec<FailoverIp> = ips.into_iter().map(ip).collect();
        let is_problem = remarks.iter().any(|remark| remark.weight() != Weight::Doubtful);
        let remarks: Vec<String> = remarks.iter().map(Remark::to_string).collect();
        // What is doubtful may be what has led to it: a mistyped key is one that is missing.
        let (problems, remarks) = match (is_problem, ips.is_empty()) {
            (false, _) => (Vec::new(), remarks),
            (true, true) => (remarks.clone(), remarks),
            (true, false) => (remarks, Vec::new()),
        };
        let argument = argument.to_vec();
        let hook = Hook { legion, phase, about, releases, argument, ips, remarks, alarm };
        (hook, problems.into_iter().chain(no_alarm).collect())
    }
}
