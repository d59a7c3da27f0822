//! The operator's commands: options of uWSGI that do their work for every hook of this plugin in the ini, and exit before
//! anything is bound or forked. The login comes from the ini, so nobody has to type it.
//!
//! `asked` knows what the command line asks for, `act` does it for one failover IP, `health` runs the checks of Legions,
//! `whom` says as which user the check runs, `report` is what is printed. This room uses `startup` and `failover`; it knows no hoster.

mod act;
mod asked;
mod health;
mod report;
mod whom;

use std::panic::{self, AssertUnwindSafe};
use std::ptr;

use crate::failover::FailoverIp;
use crate::hosters::{Failure, Place, Shared};
use crate::startup::{self, Reading};
use crate::sys::side_by_side;
use crate::uwsgi::{self, Legion};
pub use asked::Asked;
use asked::Command;
use report::{Document, Mark, Report, Step};

/// The exit statuses other than 0: the state is unknown or the command failed; the IP is elsewhere or nowhere; the command
/// line makes no sense.
const UNKNOWN: i32 = 1;
const ELSEWHERE: i32 = 2;
const USAGE: i32 = 3;

/// What a panic leads to; its place is in the log.
const BUG: &str = "a bug in uwsgi-hetzner: see the log";

/// More requests at once would only wait for each other.
const MOST_AT_ONCE: usize = 16;

/// Runs the command that was asked for, prints the result and returns the exit status; `None` if uWSGI is to start.
pub fn run(asked: &Asked, reading: &Reading, shared: &Shared) -> Option<i32> {
    let document = match asked.command() {
        Ok(None) => return None,
        Ok(Some(command)) => {
            // A panic is logged already; there has to be a document all the same.
            let obey = AssertUnwindSafe(|| obey(command, asked, reading, shared));
            panic::catch_unwind(obey).unwrap_or_else(|_| Document::error(Some(command), UNKNOWN, BUG))
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
    // uWSGI ignores some of them while it starts, but a command that waits for the API must end by them.
    uwsgi::end_by_signals();
    if !reading.problems.is_empty() {
        reading.problems.iter().for_each(|problem| uwsgi::log(problem));
        let document = Document::error(Some(command), UNKNOWN, "the configuration is wrong");
        return Document { problems: reading.problems.clone(), ..document };
    }
    let is_wanted = |legion: Legion| asked.legion.as_ref().is_none_or(|name| *name == legion.name());
    let ips: Vec<FailoverIp> = reading.lord_ips(None).into_iter().filter(|ip| is_wanted(ip.legion)).collect();
    if ips.is_empty() {
        let place = asked.legion.as_ref().map_or("the configuration".into(), |name| format!("Legion {name}"));
        return Document::error(Some(command), UNKNOWN, &format!("{place} has {}", startup::no_lord_hook()));
    }
    let mut steps = Vec::new();
    if command == Command::Check {
        // Before its user and its root change, as in a server.
        startup::trust::prepare(&shared.trust, &ips);
        steps.push(whom::judges());
        let warnings = reading.warnings.iter().filter(|(legion, _)| legion.is_none_or(is_wanted));
        steps.extend(warnings.map(|(_, text)| Step(Mark::Warning, text.clone())));
    }
    let reports = reports(command, &ips);
    if command == Command::Status && health::is_sensed(reading, is_wanted) {
        // What a check or a drain file says to root, it may not say to the user that uWSGI will be, nor in its chroot.
        let Step(mark, text) = whom::judges();
        steps.extend((mark != Mark::Ok).then_some(Step(Mark::Warning, text)));
    }
    let legions = health::of_legions(command, reading, is_wanted);
    let has_failed = steps.iter().any(|Step(mark, _)| *mark == Mark::Error)
        || legions.iter().any(|legion| legion.code == UNKNOWN);
    let is_one =
        |code: i32| code == UNKNOWN && has_failed || reports.iter().any(|report| report.code == code);
    let code = [UNKNOWN, ELSEWHERE].into_iter().find(|code| is_one(*code)).unwrap_or(0);
    let ips = ips.into_iter().zip(reports).collect();
    Document { command: Some(command), code, error: None, problems: Vec::new(), steps, legions, ips }
}

/// One report for each IP, all made at the same time. But rejected logins may lock this address out, so a login that
/// several IPs share is tried once first.
fn reports(command: Command, ips: &[FailoverIp]) -> Vec<Report> {
    let same = |ip: &FailoverIp, other: &FailoverIp| ip.remote.account() == other.remote.account();
    let mut tried: Vec<(&FailoverIp, Result<Place, Failure>)> = Vec::new();
    for (at, ip) in ips.iter().enumerate() {
        let has_same = |others: &[FailoverIp]| others.iter().any(|other| same(ip, other));
        if !has_same(&ips[..at]) && has_same(&ips[at + 1..]) {
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
