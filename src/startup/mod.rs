//! Reads every hook of this plugin once, when uWSGI starts: before anything is bound or forked and with the privileges
//! that uWSGI was started with, so that a mistake is found now and not when the Lord dies. What was read then is used
//! from then on.
//!
//! A start with a hook that cannot work ends uWSGI. A reload does not: the site goes on serving, and the hook fails and
//! logs why when uWSGI calls it. This room uses the hosters' table, `failover` and `uwsgi`; it knows no hoster.

mod mistaken;
mod options;
mod tell;
pub mod trust;
mod warnings;

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use crate::config::{LegionOptions, Weight};
use crate::failover::{FailoverIp, Records, Turn};
use crate::hosters::{self, About, Hoster, Shared, Surroundings, Visitor};
use crate::sys::lock;
use crate::uwsgi::{self, Legion};
pub use tell::refuse;
use warnings::{Warning, warnings};

/// Where a hook has to be to run when this node becomes Lord.
const LORD: &str = "legion-lord";

/// A hoster, and whether the action releases rather than takes over.
pub type Action = (&'static About, bool);

/// Every action of every hoster, by its name.
fn actions() -> Vec<(&'static str, Action)> {
    struct All(Vec<(&'static str, Action)>);
    impl Visitor for All {
        fn visit<H: Hoster>(&mut self) {
            let about = &H::ABOUT;
            let named = [(about.takes_over, (about, false)), (about.releases, (about, true))];
            self.0.extend(named.map(|(name, action)| (name.to_str().unwrap_or_default(), action)));
        }
    }
    let mut all = All(Vec::new());
    hosters::each(&mut all);
    all.0
}

/// What is missing where no hook takes over: `no legion-lord hook with ACTION`.
pub fn no_lord_hook() -> String {
    let names = actions().into_iter().filter(|(_, (_, releases))| !releases).map(|(name, _)| name);
    format!("no {LORD} hook with {}", names.collect::<Vec<_>>().join(" or "))
}

/// One hook of this plugin: where it is in the configuration, and what it was read as.
#[derive(Clone)]
pub struct Hook {
    legion: Legion,
    phase: &'static str,
    action: Action,
    argument: Vec<u8>,
    /// None if it cannot work.
    ips: Vec<FailoverIp>,
    /// What ends a start. Not all of it keeps the hook from working.
    problems: Vec<String>,
    doubts: Vec<String>,
    alarm: Option<String>,
}

impl Hook {
    /// Whether it takes its IPs over when this node becomes Lord.
    fn is_lord_hook(&self) -> bool {
        self.phase == LORD && !self.action.1
    }

    /// The failover IPs of a hook that uWSGI calls. What is wrong with it is logged at each call.
    pub fn known(&self) -> Option<&[FailoverIp]> {
        let is_wrong = self.ips.is_empty();
        for problem in self.problems.iter().filter(|_| is_wrong) {
            let line = format!("{}: no request sent, the hook is wrong: {problem}", self.legion.name());
            uwsgi::log(&line);
            self.alarm.iter().for_each(|alarm| uwsgi::alarm(alarm, &line));
        }
        (!is_wrong).then_some(&self.ips)
    }

    /// `text`, with the place of this hook in the configuration.
    fn with_place(&self, text: &str) -> String {
        format!("Legion {}, {}: {text}", self.legion.name(), self.phase)
    }
}

/// The failover IPs of the hooks that take over when this node becomes Lord.
fn lord_ips(hooks: &[Hook]) -> Vec<&FailoverIp> {
    hooks.iter().filter(|hook| hook.is_lord_hook()).flat_map(|hook| &hook.ips).collect()
}

/// All hooks, and the options of all Legions, as they were read at start.
pub struct Reading {
    shared: &'static Shared,
    records: &'static Records,
    hooks: Vec<Hook>,
    options: Vec<(Legion, LegionOptions)>,
    has_wrong_options: bool,
    /// Hooks that another plugin has added since.
    later: Mutex<Vec<Hook>>,
    /// What ends uWSGI when it starts, each with Legion, hook and key.
    pub problems: Vec<String>,
    pub warnings: Vec<Warning>,
}

impl Reading {
    /// Reads every hook of this plugin in the configuration, and the options of Legions, each with its name and its value.
    pub fn of_all(
        shared: &'static Shared,
        records: &'static Records,
        options: &[(String, Vec<u8>)],
    ) -> Reading {
        let mut reading = Reading {
            shared,
            records,
            hooks: Vec::new(),
            options: Vec::new(),
            has_wrong_options: false,
            later: Mutex::default(),
            problems: Vec::new(),
            warnings: Vec::new(),
        };
        let actions = actions();
        for legion in uwsgi::legions() {
            for line in legion.hooks() {
                if let Some((_, action)) = actions.iter().find(|(name, _)| name.as_bytes() == line.action) {
                    let hook = reading.read(legion, line.phase, *action, &line.argument);
                    reading.problems.extend(hook.problems.iter().map(|text| hook.with_place(text)));
                    reading.hooks.push(hook);
                } else if let Some((text, is_ours)) = mistaken::unknown_action(legion, &line) {
                    match is_ours {
                        true => reading.problems.push(text),
                        false => reading.warnings.push((Some(legion), text)),
                    }
                }
            }
        }
        reading.problems.extend(mistaken::two_masters(&reading.hooks));
        reading.read_options(options);
        reading.warnings.extend(warnings(&reading.hooks));
        // The same may be to say of several hooks.
        let mut told = HashSet::new();
        reading.problems.retain(|text| told.insert(text.clone()));
        reading.warnings.retain(|(_, text)| told.insert(text.clone()));
        reading
    }

    pub fn all_ips(&self) -> Vec<FailoverIp> {
        self.hooks.iter().flat_map(|hook| hook.ips.clone()).collect()
    }

    /// The failover IPs that are taken over in this Legion, or in any.
    pub fn lord_ips(&self, legion: Option<Legion>) -> Vec<FailoverIp> {
        let all = lord_ips(&self.hooks).into_iter();
        all.filter(|ip| legion.is_none_or(|legion| ip.legion == legion)).cloned().collect()
    }

    /// What the configuration says of `legion` beside its hooks.
    pub fn options_of(&self, legion: Legion) -> LegionOptions {
        let found = self.options.iter().find(|(known, _)| *known == legion);
        found.map(|(_, options)| options.clone()).unwrap_or_default()
    }

    /// The hook of `legion` with this action and argument.
    pub fn hook(&self, legion: Legion, action: Action, argument: &[u8]) -> Hook {
        let name = |(about, releases): Action| (about.takes_over, releases);
        let is_it = |hook: &&Hook| {
            hook.legion == legion && name(hook.action) == name(action) && hook.argument == argument
        };
        let mut later = lock(&self.later);
        if let Some(hook) = self.hooks.iter().chain(&*later).find(is_it) {
            return hook.clone();
        }
        let hook = self.read(legion, "", action, argument);
        later.push(hook.clone());
        hook
    }

    /// The lord hooks of this plugin that uWSGI runs right after the one with this `argument`, the very text that it has
    /// passed. Another plugin's hook ends them, because it may have to be done before the next IP moves.
    pub fn next_turns(&self, legion: Legion, argument: &[u8]) -> Vec<Turn> {
        let actions = actions();
        let (_, next) = legion.lord_hooks_around(argument);
        let turns = next.iter().map_while(|line| {
            let is_it = |(name, (_, releases)): &&(&str, Action)| {
                !releases && name.as_bytes() == line.action.to_bytes()
            };
            let (_, action) = actions.iter().find(is_it)?;
            Some(Turn::new(line.argument, &self.hook(legion, *action, line.argument).ips))
        });
        // A hook that is wrong says so when uWSGI runs it.
        turns.filter(|turn| !turn.is_empty()).collect()
    }

    fn read(&self, legion: Legion, phase: &'static str, action: Action, argument: &[u8]) -> Hook {
        let (about, shared) = (action.0, self.shared);
        let (name, address) = (legion.name(), legion.address());
        let read = (about.read)(argument, &Surroundings { name: &name, legion: address, shared });
        let (alarm, common) = (read.common.alarm.clone(), Arc::new(read.common));
        let ip = |remote| FailoverIp::new(legion, about, &common, remote, self.records);
        let ips = read.ips.into_iter().map(ip).collect();
        let is_wrong = read.remarks.iter().any(|remark| remark.weight() != Weight::Doubtful);
        let remarks = read.remarks.iter().map(ToString::to_string).collect();
        // Where something is wrong, a doubt may be its cause: a mistyped key is also a missing one.
        let (mut problems, doubts) = if is_wrong { (remarks, Vec::new()) } else { (Vec::new(), remarks) };
        if let Some(unknown) = alarm.as_ref().filter(|alarm| !uwsgi::has_alarm(alarm)) {
            problems.push(format!("alarm={unknown} is not defined: define it with alarm = {unknown} ..."));
        }
        Hook { legion, phase, action, argument: argument.to_vec(), ips, problems, doubts, alarm }
    }
}
