//! The operator's commands: options of uWSGI that do their work for every hook of ours in the ini, and end before
//! anything is bound or forked. The ini holds the login, so that none is typed.
//!
//! `asked` knows what the command line asks for, `act` does it for one failover IP, `whom` says as whom the check has
//! judged, `report` is what is printed.

mod act;
mod asked;
mod report;
mod whom;

use std::panic::{self, AssertUnwindSafe};
use std::ptr;

use crate::failover::FailoverIp;
use crate::hosters::{Failure, Place, Shared};
use crate::startup::{self, Hook, Reading};
use crate::sys::side_by_side;
use crate::uwsgi;
pub use asked::Asked;
use asked::Command;
use report::{Document, Mark, Report, Step};

/// The exit status where nothing is known, or what was asked for could not be done.
const UNKNOWN: i32 = 1;
/// The exit status of a command line that makes no sense. Nothing was asked.
const USAGE: i32 = 3;

/// More requests at once would only wait for each other.
const MOST_AT_ONCE: usize = 16;

/// Runs the command that was asked for on what was read of the configuration, prints what came of it, and returns the
/// exit status; `None` where uWSGI is to start.
pub fn run(asked: &Asked, reading: &Reading, shared: &Shared) -> Option<i32> {
    let document = match asked.command() {
        Ok(None) => return None,
        Ok(Some(command)) => {
            // What has panicked is logged already; who asked for a document gets one all the same.
            let obey = AssertUnwindSafe(|| obey(command, asked, reading, shared));
            panic::catch_unwind(obey).unwrap_or_else(|_| {
                Document::error(Some(command), UNKNOWN, "a bug in uwsgi-hetzner: the log says where")
            })
        }
        Err(sentence) => {
            uwsgi::log(&sentence);
            Document::error(None, USAGE, &sentence)
        }
    };
    document.print(asked.json);
    Some(document.code)
}

fn obey(command: Command, asked: &Asked, reading: &Reading, shared: &Shared) -> Document {
    // uWSGI ignores some while it starts; what waits for the API by hand can be ended by hand.
    uwsgi::end_by_signals();
    let problems = reading.problems();
    if !problems.is_empty() {
        problems.iter().for_each(|problem| uwsgi::log(problem));
        let document = Document::error(Some(command), UNKNOWN, "the configuration is wrong");
        return Document { problems: problems.to_vec(), ..document };
    }
    let wanted = |hook: &Hook| asked.legion.as_ref().is_none_or(|name| *name == hook.legion.name());
    let hooks: Vec<Hook> = reading.working().into_iter().filter(wanted).collect();
    let ips: Vec<&FailoverIp> =
        hooks.iter().filter(|hook| hook.is_lord_hook()).flat_map(|hook| &hook.ips).collect();
    if ips.is_empty() {
        let whose =
            asked.legion.as_ref().map_or_else(|| "the configuration".into(), |name| format!("Legion {name}"));
        let sentence = format!("{whose} has no legion-lord hook with hetzner-failoverip");
        return Document::error(Some(command), UNKNOWN, &sentence);
    }
    let mut steps = Vec::new();
    if command == Command::Check {
        // As the server does, which has both before its user and its root change.
        let warnings = startup::warnings(&hooks);
        let all: Vec<FailoverIp> = hooks.iter().flat_map(|hook| hook.ips.clone()).collect();
        startup::trust::prepare(&shared.trust, &all);
        steps.push(whom::judges());
        steps.extend(warnings.into_iter().map(|text| Step(Mark::Warning, text)));
    }
    let reports = reports(command, &ips);
    let ips: Vec<(FailoverIp, Report)> = ips.into_iter().cloned().zip(reports).collect();
    // Unknown outweighs elsewhere, which outweighs here.
    let weight = |code: i32| [0, 2, UNKNOWN].iter().position(|known| *known == code);
    let code = ips.iter().map(|(_, report)| report.code).max_by_key(|code| weight(*code)).unwrap_or(UNKNOWN);
    let code = if steps.iter().any(|Step(mark, _)| *mark == Mark::Error) { UNKNOWN } else { code };
    Document { command: Some(command), code, error: None, problems: Vec::new(), steps, ips }
}

/// One report for each IP, all made at the same time. But three rejected logins lock this address out: where a login is
/// to be used more than once, it is tried once before.
fn reports(command: Command, ips: &[&FailoverIp]) -> Vec<Report> {
    let same = |ip: &FailoverIp, other: &FailoverIp| ip.remote.account() == other.remote.account();
    let mut tried: Vec<(&FailoverIp, Result<Place, Failure>)> = Vec::new();
    for (at, &ip) in ips.iter().enumerate() {
        if !ips[..at].iter().any(|other| same(ip, other)) && ips[at + 1..].iter().any(|other| same(ip, other))
        {
            tried.push((ip, ip.whereabouts()));
        }
    }
    let report = |ip: &FailoverIp| match tried.iter().find(|(other, _)| same(ip, other)) {
        Some((_, Err(failure))) if failure.is_rejected_login() => act::status(ip, Err(failure.clone())),
        Some((other, found)) if ptr::eq(*other, ip) => act::report(command, ip, Some(found.clone())),
        _ => act::report(command, ip, None),
    };
    let made = side_by_side(ips, MOST_AT_ONCE, |ip| report(ip));
    made.into_iter().map(|report| report.unwrap_or_else(act::broken)).collect()
}
