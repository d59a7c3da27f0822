//! The operator's commands: options of uWSGI that do their work for every hook of ours in the ini, and end before
//! anything is bound or forked. The ini holds the login, so that none is typed.

use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use serde_json::json;

use crate::hook::Hook;
use crate::hoster::{Failure, Need, Route};
use crate::own;
use crate::startup::Found;
use crate::takeover::{Verdict, place};

/// What is to be done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Command {
    Check,
    Status,
    Takeover,
    Release,
}

/// What the command line asks for.
static COMMAND: Mutex<Option<Command>> = Mutex::new(None);
static LEGION: Mutex<Option<String>> = Mutex::new(None);
static JSON: AtomicBool = AtomicBool::new(false);

/// Notes an option by its name.
pub fn note(option: &str, value: Option<&str>) {
    let command = match option {
        "hetzner-check" => Command::Check,
        "hetzner-status" => Command::Status,
        "hetzner-takeover" => Command::Takeover,
        "hetzner-release" => Command::Release,
        "hetzner-legion" => {
            *LEGION.lock().unwrap_or_else(PoisonError::into_inner) = value.map(str::to_string);
            return;
        }
        _ => {
            JSON.store(true, Ordering::Relaxed);
            return;
        }
    };
    *COMMAND.lock().unwrap_or_else(PoisonError::into_inner) = Some(command);
}

/// The command that was asked for.
pub fn asked_for() -> Option<Command> {
    *COMMAND.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How a step went.
#[derive(Clone, Copy)]
enum Mark {
    Ok,
    Warning,
    Error,
}

impl Mark {
    fn word(self) -> &'static str {
        match self {
            Mark::Ok => "ok",
            Mark::Warning => "warning",
            Mark::Error => "ERROR",
        }
    }
}

/// What a command has found out of one failover IP.
struct Report {
    /// Where the IP is: `here`, `elsewhere`, `nowhere`, `unknown`.
    state: &'static str,
    route: Route,
    steps: Vec<(Mark, String)>,
    /// What the command's exit status is for this IP alone.
    code: i32,
}

/// Runs `command` for every lord hook in `found`, prints what came of it, and returns the exit status.
pub fn run(command: Command, found: &[Found]) -> i32 {
    let wanted = LEGION.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let hooks: Vec<&Hook> = found
        .iter()
        .filter(|found| found.phase == "legion-lord")
        .filter(|found| wanted.as_ref().is_none_or(|name| *name == found.legion.name()))
        .flat_map(|found| &found.hooks)
        .collect();
    if hooks.is_empty() {
        let whose = wanted.map_or_else(|| "the configuration".into(), |name| format!("Legion {name}"));
        print(&format!("{whose} has no legion-lord hook with hetzner-failoverip"));
        return 1;
    }
    let reports: Vec<(&Hook, Report)> = hooks.iter().map(|hook| (*hook, report(command, hook))).collect();
    // Unknown outweighs elsewhere, which outweighs here.
    let worst = |code: i32| [0, 2, 1].iter().position(|known| *known == code);
    let code = reports.iter().map(|(_, report)| report.code).max_by_key(|code| worst(*code)).unwrap_or(1);
    if JSON.load(Ordering::Relaxed) {
        print_json(command, &reports, code);
    } else {
        for (hook, report) in &reports {
            let (name, ip) = (hook.legion.name(), hook.options.ip);
            for (mark, text) in &report.steps {
                print(&format!("{:<8} {name} {ip}: {text}", mark.word()));
            }
        }
    }
    code
}

fn print(line: &str) {
    // A reader that has gone is no reason to panic.
    let _ = writeln!(std::io::stdout(), "{line}");
}

fn print_json(command: Command, reports: &[(&Hook, Report)], code: i32) {
    let entries: Vec<_> = reports
        .iter()
        .map(|(hook, report)| {
            let steps: Vec<_> = report
                .steps
                .iter()
                .map(|(mark, text)| json!({"result": mark.word(), "text": text}))
                .collect();
            json!({
                "legion": hook.legion.name(),
                "ip": hook.options.ip,
                "active_ip": hook.active_ip().ok(),
                "state": report.state,
                "route": report.route,
                "steps": steps,
            })
        })
        .collect();
    print(
        &json!({"command": format!("{command:?}").to_lowercase(), "exit_status": code, "ips": entries})
            .to_string(),
    );
}

fn report(command: Command, hook: &Hook) -> Report {
    match command {
        Command::Check => check(hook),
        Command::Status => status(hook, hook.whereabouts()),
        Command::Takeover => {
            // The login's lock-out and the rate limit apart, nothing holds back what is asked for by hand.
            let verdict = hook.take_over(Need::Election, &|| true);
            let code = i32::from(verdict != Verdict::Here);
            let report = status(hook, hook.whereabouts());
            Report { code, ..report }
        }
        Command::Release => match hook.release() {
            Ok(route) if route.is_some() && route == hook.active_ip().ok() => {
                let text = "it was routed here, and is routed nowhere now".to_string();
                Report { state: "nowhere", route: None, steps: vec![(Mark::Ok, text)], code: 0 }
            }
            Ok(route) => {
                let report = status(hook, Ok(route));
                let text = format!("it is {}, not here: nothing was released", place(route));
                Report { steps: vec![(Mark::Warning, text)], ..report }
            }
            Err(failure) => status(hook, Err(failure)),
        },
    }
}

/// Exit status 0: here; 2: elsewhere or nowhere; 1: unknown.
fn status(hook: &Hook, found: Result<Route, Failure>) -> Report {
    let target = hook.active_ip();
    match found {
        Ok(route) if route.is_some() && route == target.as_ref().ok().copied() => Report {
            state: "here",
            route,
            steps: vec![(Mark::Ok, format!("{}, here", place(route)))],
            code: 0,
        },
        Ok(route) => {
            let state = if route.is_some() { "elsewhere" } else { "nowhere" };
            let target = target.map_or_else(|_| "this host".into(), |target| target.to_string());
            let text = format!("{}, not to {target}", place(route));
            Report { state, route, steps: vec![(Mark::Warning, text)], code: 2 }
        }
        Err(failure) => {
            let text = format!("unknown: {}", failure.sentence);
            Report { state: "unknown", route: None, steps: vec![(Mark::Error, text)], code: 1 }
        }
    }
}

/// One GET shows them all: name resolution, TLS, login, the IP, its route. Changes nothing.
fn check(hook: &Hook) -> Report {
    let options = &hook.options;
    let (ip, target) = (options.ip, hook.active_ip());
    let host = options.url.authority().map_or("", |authority| authority.as_str());
    let found = hook.whereabouts();
    // How many of the steps below the request has passed.
    let passed = match &found {
        Ok(_) => 4,
        Err(failure) => match failure.status {
            None => 0,
            Some(404) => 3,
            Some(_) => 2,
        },
    };
    let tls = match (options.url.scheme_str(), options.ssl_no_verify) {
        (Some("https"), false) => (Mark::Ok, format!("TLS: {host} has proved who it is")),
        (Some("https"), true) => {
            (Mark::Warning, format!("TLS: {host} was not asked to prove who it is: leave ssl_no_verify out"))
        }
        _ => (Mark::Warning, format!("no TLS: {host} is asked by plain http")),
    };
    let on_the_way = [
        (Mark::Ok, format!("{host} is reached")),
        tls,
        (Mark::Ok, "the login is right".into()),
        (Mark::Ok, format!("the account has {ip}")),
    ];
    let mut steps = vec![(Mark::Ok, "the configuration is right".to_string())];
    steps.extend(on_the_way.into_iter().take(passed));
    steps.push(match &found {
        Ok(route) => (Mark::Ok, format!("it is {}", place(*route))),
        Err(failure) => (Mark::Error, failure.sentence.clone()),
    });
    // Where there is no active_ip, the step before has said so.
    for (address, name) in target.iter().map(|target| (*target, "active_ip")).chain([(ip, "the failover IP")])
    {
        steps.push(match own::is_here(address) {
            Some(true) => (Mark::Ok, format!("{name} {address} is on an interface of this host")),
            Some(false) => (Mark::Warning, format!("{name} {address} is on no interface of this host")),
            None => (Mark::Warning, format!("{name} {address}: cannot tell whether it is on an interface")),
        });
    }
    let code = i32::from(found.is_err());
    Report { steps, code, ..status(hook, found) }
}
