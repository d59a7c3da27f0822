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
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::failover::hook::Hook;
use crate::hosters::{Failure, Route};
use crate::startup::{self, Found};
use crate::uwsgi;
pub use asked::note;
use asked::{Asked, Command};
use report::{Document, Mark, Report, Step};

/// The exit status where nothing is known, or what was asked for could not be done.
const UNKNOWN: i32 = 1;
/// The exit status of a command line that makes no sense. Nothing was asked.
const USAGE: i32 = 3;

/// More requests at once would only wait for each other.
const MOST_AT_ONCE: usize = 16;

/// Runs the command that was asked for on what was `read` of the configuration, prints what came of it, and returns the
/// exit status; `None` where uWSGI is to start.
pub fn run(read: &Result<&[Found], &[String]>) -> Option<i32> {
    let asked = Asked::now();
    let document = match asked.command() {
        Ok(None) => return None,
        Ok(Some(command)) => {
            // What has panicked is logged already; who asked for a document gets one all the same.
            panic::catch_unwind(AssertUnwindSafe(|| obey(command, &asked, read))).unwrap_or_else(|_| {
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

fn obey(command: Command, asked: &Asked, read: &Result<&[Found], &[String]>) -> Document {
    // uWSGI ignores some while it starts; what waits for the API by hand can be ended by hand.
    uwsgi::end_by_signals();
    let found = match read {
        Ok(found) => found,
        Err(problems) => {
            problems.iter().for_each(|problem| uwsgi::log(problem));
            let document = Document::error(Some(command), UNKNOWN, "the configuration is wrong");
            return Document { problems: problems.to_vec(), ..document };
        }
    };
    let wanted = |found: &&Found| asked.legion.as_ref().is_none_or(|name| *name == found.legion.name());
    let found: Vec<Found> = found.iter().filter(wanted).cloned().collect();
    let hooks: Vec<&Hook> =
        found.iter().filter(|found| found.is_lord_hook()).flat_map(|found| &found.hooks).collect();
    if hooks.is_empty() {
        let whose =
            asked.legion.as_ref().map_or_else(|| "the configuration".into(), |name| format!("Legion {name}"));
        let sentence = format!("{whose} has no legion-lord hook with hetzner-failoverip");
        return Document::error(Some(command), UNKNOWN, &sentence);
    }
    let mut steps = Vec::new();
    if command == Command::Check {
        // As the server does, which has both before its user and its root change.
        let warnings = startup::warnings(&found);
        startup::read_before_the_root_changes(&found);
        steps.push(whom::judges());
        steps.extend(warnings.into_iter().map(|text| Step(Mark::Warning, text)));
    }
    let reports = reports(command, &hooks);
    let ips: Vec<(Hook, Report)> = hooks.into_iter().cloned().zip(reports).collect();
    // Unknown outweighs elsewhere, which outweighs here.
    let weight = |code: i32| [0, 2, UNKNOWN].iter().position(|known| *known == code);
    let code = ips.iter().map(|(_, report)| report.code).max_by_key(|code| weight(*code)).unwrap_or(UNKNOWN);
    let code = if steps.iter().any(|Step(mark, _)| *mark == Mark::Error) { UNKNOWN } else { code };
    Document { command: Some(command), code, error: None, problems: Vec::new(), steps, ips }
}

/// One report for each hook, all made at the same time. But three rejected logins lock this address out: where a login is
/// to be used more than once, it is tried once before.
fn reports(command: Command, hooks: &[&Hook]) -> Vec<Report> {
    let login = |hook: &Hook| (hook.options.login.username.clone(), hook.options.url.authority().cloned());
    let mut tried: Vec<(&Hook, Result<Route, Failure>)> = Vec::new();
    for (at, &hook) in hooks.iter().enumerate() {
        let same = |other: &Hook| login(other) == login(hook);
        if !hooks[..at].iter().any(|other| same(other)) && hooks[at + 1..].iter().any(|other| same(other)) {
            tried.push((hook, hook.whereabouts()));
        }
    }
    let report = |hook: &Hook| match tried.iter().find(|(other, _)| login(other) == login(hook)) {
        Some((_, Err(failure))) if failure.is_rejected_login() => act::status(hook, Err(failure.clone())),
        Some((other, found)) if ptr::eq(*other, hook) => act::report(command, hook, Some(found.clone())),
        _ => act::report(command, hook, None),
    };
    // Each has its place, whoever comes to it.
    let places: Vec<OnceLock<Report>> = hooks.iter().map(|_| OnceLock::new()).collect();
    let next = AtomicUsize::new(0);
    let of_this_turn = |turn: usize| hooks.get(turn).zip(places.get(turn));
    let work = || {
        while let Some((hook, place)) = of_this_turn(next.fetch_add(1, Ordering::Relaxed)) {
            let made =
                panic::catch_unwind(AssertUnwindSafe(|| report(hook))).unwrap_or_else(|_| act::broken());
            drop(place.set(made));
        }
    };
    thread::scope(|scope| {
        for _ in 1..hooks.len().min(MOST_AT_ONCE) {
            // Where the system has no thread left, there are fewer.
            let _ = thread::Builder::new().name("hetzner".into()).spawn_scoped(scope, work);
        }
        work();
    });
    places.into_iter().map(|place| place.into_inner().unwrap_or_else(act::broken)).collect()
}
