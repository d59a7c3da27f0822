//! What each command does for one failover IP.

use std::net::IpAddr;

use crate::failover::hook::Hook;
use crate::failover::takeover::{Verdict, place};
use crate::hosters::robot::own;
use crate::hosters::{Failure, Kind, Need, Route, Stage};

use super::UNKNOWN;
use super::asked::Command;
use super::report::{Mark, Report, Step};

/// Where the IP is routed, or why that is unknown.
type Found = Result<Route, Failure>;

/// Does what the command says, and says what came of it. `found` is what a look has found just now, if there was one.
pub fn report(command: Command, hook: &Hook, found: Option<Found>) -> Report {
    let found = || found.unwrap_or_else(|| hook.whereabouts());
    match command {
        Command::Check => check(hook, found()),
        Command::Status => status(hook, found()),
        Command::Takeover => takeover(hook),
        Command::Release => release(hook),
    }
}

/// Where the IP belongs.
pub fn target(hook: &Hook) -> Option<IpAddr> {
    hook.active_ip().ok()
}

/// For a hook whose thread has panicked.
pub fn broken() -> Report {
    let text = "a bug in uwsgi-hetzner: the log says where".to_string();
    Report {
        state: "unknown",
        route: None,
        reason: Some(text.clone()),
        steps: vec![Step(Mark::Error, text)],
        code: UNKNOWN,
    }
}

/// Exit status 0: here; 2: elsewhere or nowhere; 1: unknown.
pub fn status(hook: &Hook, found: Found) -> Report {
    let target = target(hook);
    match found {
        Ok(route) if route.is_some() && route == target => Report {
            state: "here",
            route,
            reason: None,
            steps: vec![Step(Mark::Ok, format!("{}, here", place(route)))],
            code: 0,
        },
        Ok(route) => {
            let state = if route.is_some() { "elsewhere" } else { "nowhere" };
            let target = target.map_or_else(String::new, |target| format!(", not to {target}"));
            let text = format!("{}{target}", place(route));
            Report { state, route, reason: None, steps: vec![Step(Mark::Warning, text)], code: 2 }
        }
        Err(failure) => {
            let text = format!("unknown: {}", failure.sentence);
            Report {
                state: "unknown",
                route: None,
                reason: Some(failure.sentence),
                steps: vec![Step(Mark::Error, text)],
                code: UNKNOWN,
            }
        }
    }
}

/// Exit status 0: here; 1: it is not, or that is unknown.
fn takeover(hook: &Hook) -> Report {
    // The login's lock-out and the rate limit apart, nothing holds back what is asked for by hand.
    if hook.take_over(Need::Election, &|| true, &|| false) == Verdict::Here {
        let mut report = status(hook, Ok(target(hook)));
        let name = hook.legion.name();
        let text =
            format!("if this node is not Lord of {name}, the Lord takes the IP back {}", when_it_looks(hook));
        report.steps.push(Step(Mark::Note, text));
        return report;
    }
    let reason = hook.metrics.last_alarm();
    let mut report = status(hook, hook.whereabouts());
    report.steps.insert(0, Step(Mark::Error, reason.clone()));
    Report { reason: Some(reason), code: UNKNOWN, ..report }
}

/// Exit status 0: it was here, and is nowhere now; 2: it was not here; 1: it is not released, or that is unknown.
fn release(hook: &Hook) -> Report {
    let released = |sentence: &str| {
        let text = format!("the Lord of {} takes it back {}", hook.legion.name(), when_it_looks(hook));
        let steps = vec![Step(Mark::Ok, sentence.to_string()), Step(Mark::Note, text)];
        Report { state: "nowhere", route: None, reason: None, steps, code: 0 }
    };
    // Hetzner makes a switch of it too: nobody waits here that could get impatient.
    match hook.release(hook.options.timeout) {
        Ok(route) if route.is_some() && route == target(hook) => {
            released("it was routed here, and is routed nowhere now")
        }
        Ok(route) => {
            let text = format!("it is {}, not here: nothing was released", place(route));
            Report { steps: vec![Step(Mark::Warning, text)], ..status(hook, Ok(route)) }
        }
        Err(failure) if matches!(failure.kind, Kind::Unknown | Kind::NotDone | Kind::Locked) => {
            let found = hook.whereabouts();
            if found == Ok(None) {
                return released(&format!("it is routed nowhere now ({})", failure.sentence));
            }
            let mut report = status(hook, found);
            report.steps.insert(0, Step(Mark::Error, format!("FAILED to release it: {}", failure.sentence)));
            Report { reason: Some(failure.sentence), code: UNKNOWN, ..report }
        }
        Err(failure) => status(hook, Err(failure)),
    }
}

/// When a Lord that is another node finds out what was done here by hand.
fn when_it_looks(hook: &Hook) -> String {
    match hook.options.verify.as_secs_f64() {
        0.0 => "when it looks next (verify=0: not by a timer)".into(),
        seconds => format!("at its next check (verify, {seconds} s)"),
    }
}

/// One GET shows them all: name resolution, TLS, login, the IP, its route. Changes nothing.
fn check(hook: &Hook, found: Found) -> Report {
    let options = &hook.options;
    let host = options.url.authority().map_or("", |authority| authority.as_str());
    // How many of the steps below the request has passed.
    let passed = match &found {
        Ok(_) => 4,
        Err(failure) => match failure.stage {
            Stage::Way => 0,
            Stage::Host | Stage::Login => 2,
            Stage::Address => 3,
        },
    };
    let tls = match (options.url.scheme_str(), options.ssl_no_verify) {
        (Some("https"), false) => Step(Mark::Ok, format!("TLS: {host} has proved who it is")),
        (Some("https"), true) => {
            let text = format!("TLS: {host} was not asked to prove who it is: leave ssl_no_verify out");
            Step(Mark::Warning, text)
        }
        _ => Step(Mark::Warning, format!("no TLS: {host} is asked by plain http")),
    };
    let on_the_way = [
        Step(Mark::Ok, format!("{host} is reached")),
        tls,
        Step(Mark::Ok, "the login is right".into()),
        Step(Mark::Ok, format!("the account has {}", options.ip)),
    ];
    let mut steps = vec![Step(Mark::Ok, "the configuration is right".to_string())];
    steps.extend(on_the_way.into_iter().take(passed));
    steps.push(match &found {
        Ok(route) => Step(Mark::Ok, format!("it is {}", place(*route))),
        Err(failure) => Step(Mark::Error, failure.sentence.clone()),
    });
    for (address, name) in [(target(hook), "active_ip"), (Some(options.ip), "the failover IP")] {
        let Some(address) = address else { continue };
        steps.extend(match own::is_here(address) {
            Some(true) => Some(Step(Mark::Ok, format!("{name} {address} is on an interface of this host"))),
            // That is among the warnings of the start.
            Some(false) => None,
            None => Some(Step(
                Mark::Warning,
                format!("cannot tell whether {name} {address} is on an interface of this host: the system does not say"),
            )),
        });
    }
    let code = i32::from(found.is_err());
    Report { steps, code, ..status(hook, found) }
}
