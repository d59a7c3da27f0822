//! How this node is in each Legion with a check or a drain file: each check is run once, all at the same time. A running
//! uWSGI also counts how many in a row have failed, which a command beside it does not know.

use super::asked::Command;
use super::report::{LegionReport, Mark, Step};
use super::{BUG, UNKNOWN};
use crate::config::LegionOptions;
use crate::health::{Prober, State, Went, look_for};
use crate::startup::Reading;
use crate::sys::side_by_side;
use crate::text::printable;
use crate::uwsgi::{self, Legion};

/// Nothing for a command that changes something. `--hetzner-check` fails if a check does; what `--hetzner-status` is asked
/// for, where the IP is, does not depend on it.
pub fn of_legions(
    command: Command,
    reading: &Reading,
    is_wanted: impl Fn(Legion) -> bool,
) -> Vec<LegionReport> {
    if !matches!(command, Command::Check | Command::Status) {
        return Vec::new();
    }
    sensed(reading, is_wanted).map(|(legion, options)| report(command, legion, &options)).collect()
}

/// Whether there is a check or a drain file.
pub fn is_sensed(reading: &Reading, is_wanted: impl Fn(Legion) -> bool) -> bool {
    sensed(reading, is_wanted).next().is_some()
}

fn sensed(
    reading: &Reading,
    is_wanted: impl Fn(Legion) -> bool,
) -> impl Iterator<Item = (Legion, LegionOptions)> {
    let legions = uwsgi::legions().into_iter().filter(move |legion| is_wanted(*legion));
    let with_options = legions.map(|legion| (legion, reading.options_of(legion)));
    with_options.filter(|(_, of)| !of.checks.is_empty() || of.drain_file.is_some())
}

fn report(command: Command, legion: Legion, options: &LegionOptions) -> LegionReport {
    let mut steps = Vec::new();
    let mut reasons = Vec::new();
    let run = side_by_side(&options.checks, options.checks.len(), |check| {
        Prober::new(check).run(options.timeout).map(|outcome| (outcome.went == Went::Passed, outcome.text))
    });
    for (check, went) in options.checks.iter().zip(run) {
        let (has_passed, text) = went.flatten().unwrap_or_else(|| (false, BUG.into()));
        let text = format!("{}: {text}", check.name());
        let mark = if has_passed { Mark::Ok } else { Mark::Error };
        reasons.extend((!has_passed).then(|| text.clone()));
        steps.push(Step(mark, text));
    }
    let mut state = if reasons.is_empty() { State::Healthy } else { State::Sick };
    if let Some(path) = &options.drain_file {
        let shown = printable(&path.to_string_lossy(), &[]);
        steps.push(match look_for(path) {
            Ok(false) => Step(Mark::Ok, format!("the drain file {shown} is not there")),
            Ok(true) => {
                let text = format!("the drain file {shown} is there");
                (state, reasons) = (State::Drained, vec![text.clone()]);
                Step(Mark::Warning, text)
            }
            Err(why) => Step(Mark::Error, format!("cannot look for the drain file {shown}: {why}")),
        });
    }
    let reason = (!reasons.is_empty()).then(|| reasons.join("; "));
    let mut code = 0;
    if command == Command::Status {
        let mark = if state == State::Healthy { Mark::Ok } else { Mark::Warning };
        let why = reason.as_ref().map_or_else(String::new, |why| format!(": {why}"));
        steps = vec![Step(mark, format!("this node is {state}{why}"))];
    } else if steps.iter().any(|Step(mark, _)| *mark == Mark::Error) {
        code = UNKNOWN;
    }
    LegionReport { legion: legion.name(), state: state.to_string(), reason, steps, code }
}
