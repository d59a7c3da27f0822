//! What is read and told at start: every hook of ours is read once, before anything is bound or forked and with the
//! privileges that uWSGI was started with, so that a mistake is found now and not when the Lord dies. What was read then
//! is what runs.
//!
//! A start that cannot work ends uWSGI. A reload does not: the site goes on serving, and the hook fails with a sentence
//! when it is its turn.

mod mistaken;
mod tell;
mod trust;
mod warnings;

use std::sync::OnceLock;

use crate::config::Weight;
use crate::failover::hook::Hook;
use crate::uwsgi::{self, Legion};
pub use tell::{refuse, say_what_was_found, trigger_alarms};
pub use trust::{note_what_to_read_ahead, read_ahead, read_before_the_root_changes};
pub use warnings::warnings;

/// The actions that hooks may name.
pub const ACTIONS: [&str; 2] = ["hetzner-failoverip", "hetzner-failoverip-release"];

/// One hook of ours, where it stands, and what it says.
#[derive(Clone)]
pub struct Found {
    pub legion: Legion,
    phase: &'static str,
    /// Whether its action releases, rather than takes over.
    releases: bool,
    argument: Vec<u8>,
    pub hooks: Vec<Hook>,
    /// What is doubtful about it.
    doubts: Vec<String>,
}

impl Found {
    /// Whether it takes its IPs over when this node becomes Lord.
    pub fn is_lord_hook(&self) -> bool {
        self.phase == "legion-lord" && !self.releases
    }
}

/// A hook that cannot work.
#[derive(Clone)]
pub struct Wrong {
    legion: Legion,
    argument: Vec<u8>,
    pub problems: Vec<String>,
    /// Its alarm, where there is such a one.
    pub alarm: Option<String>,
}

/// All that was read.
struct Reading {
    found: Vec<Found>,
    wrong: Vec<Wrong>,
    /// What ends uWSGI when it starts, each with Legion, hook and key.
    problems: Vec<String>,
    /// What to trigger where it does not end.
    alarms: Vec<String>,
    warnings: Vec<String>,
}

/// Every hook of ours in the configuration; or every problem, each with Legion, hook and key.
pub fn read_hooks() -> Result<&'static [Found], &'static [String]> {
    let Reading { found, problems, .. } = reading();
    if problems.is_empty() { Ok(found) } else { Err(problems) }
}

/// What was read, whether or not there is a problem.
pub fn found() -> &'static [Found] {
    &reading().found
}

/// The hooks of `legion` with this argument.
pub fn hooks_of(legion: Legion, argument: &[u8]) -> Result<Vec<Hook>, Wrong> {
    let Reading { found, wrong, .. } = reading();
    let is_it = |of: Legion, text: &[u8]| of == legion && text == argument;
    if let Some(found) = found.iter().find(|found| is_it(found.legion, &found.argument)) {
        return Ok(found.hooks.clone());
    }
    if let Some(wrong) = wrong.iter().find(|wrong| is_it(wrong.legion, &wrong.argument)) {
        return Err(wrong.clone());
    }
    // A hook that was registered later, by another plugin.
    let (hooks, parsed) = Hook::parse(legion, argument);
    if !hooks.is_empty() {
        return Ok(hooks);
    }
    let problems = parsed.remarks.iter().map(ToString::to_string).collect();
    Err(Wrong { legion, argument: argument.to_vec(), problems, alarm: known_alarm(parsed.common.alarm) })
}

fn reading() -> &'static Reading {
    static READING: OnceLock<Reading> = OnceLock::new();
    READING.get_or_init(read)
}

fn read() -> Reading {
    let mut reading = Reading {
        found: Vec::new(),
        wrong: Vec::new(),
        problems: Vec::new(),
        alarms: Vec::new(),
        warnings: Vec::new(),
    };
    for legion in uwsgi::legions() {
        for line in legion.hooks() {
            if let Some(action) = ACTIONS.iter().position(|action| action.as_bytes() == line.action) {
                reading.read_hook(legion, line.phase, action > 0, line.argument);
            } else if let Some(problem) = mistaken::looks_like_ours(legion, &line) {
                reading.problems.push(problem);
            }
        }
    }
    reading.problems.extend(mistaken::two_masters(&reading.found));
    reading.warnings = warnings(&reading.found);
    reading
}

impl Reading {
    fn read_hook(&mut self, legion: Legion, phase: &'static str, releases: bool, argument: Vec<u8>) {
        let name = legion.name();
        let (hooks, parsed) = Hook::parse(legion, &argument);
        let alarm = known_alarm(parsed.common.alarm.clone());
        let texts = |wanted: &dyn Fn(Weight) -> bool| -> Vec<String> {
            let wanted = parsed.remarks.iter().filter(|remark| wanted(remark.weight()));
            wanted.map(ToString::to_string).collect()
        };
        let in_full = |texts: Vec<String>| {
            texts.into_iter().map(|text| format!("Legion {name}, {phase}: {text}")).collect::<Vec<_>>()
        };
        let before = self.problems.len();
        if texts(&|weight| weight != Weight::Doubtful).is_empty() {
            let doubts = texts(&|_| true);
            self.found.push(Found { legion, phase, releases, argument, hooks, doubts });
        } else {
            // What is doubtful may be what has led to it: a mistyped key is one that is missing.
            let problems = texts(&|_| true);
            self.problems.extend(in_full(problems.clone()));
            if hooks.is_empty() {
                self.wrong.push(Wrong { legion, argument, problems, alarm: alarm.clone() });
            } else {
                self.found.push(Found { legion, phase, releases, argument, hooks, doubts: Vec::new() });
            }
        }
        if let (None, Some(unknown)) = (&alarm, &parsed.common.alarm) {
            let text = format!("alarm={unknown} is no alarm: define it by alarm = {unknown} ...");
            self.problems.extend(in_full(vec![text]));
        }
        if self.problems.len() > before {
            self.alarms.extend(alarm);
        }
    }
}

fn known_alarm(alarm: Option<String>) -> Option<String> {
    alarm.filter(|alarm| uwsgi::has_alarm(alarm))
}
