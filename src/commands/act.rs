//! What each command does for one failover IP.

use crate::failover::{FailoverIp, Verdict};
use crate::hosters::{Api, Failure, Kind, Need, Place, Stage, Tls};
use crate::sys;

use super::UNKNOWN;
use super::asked::Command;
use super::report::{Mark, Report, Step};

/// Where the IP is routed, or why that is unknown.
type Found = Result<Place, Failure>;

/// Does what the command says, and says what came of it. `found` is what a look has found just now, if there was one.
pub fn report(command: Command, ip: &FailoverIp, found: Option<Found>) -> Report {
    let found = || found.unwrap_or_else(|| ip.whereabouts());
    match command {
        Command::Check => check(ip, found()),
        Command::Status => status(ip, found()),
        Command::Takeover => takeover(ip),
        Command::Release => release(ip),
    }
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
pub fn status(ip: &FailoverIp, found: Found) -> Report {
    let place = match found {
        Ok(place) => place,
        Err(failure) => {
            let text = format!("unknown: {}", failure.sentence);
            return Report {
                state: "unknown",
                route: None,
                reason: Some(failure.sentence),
                steps: vec![Step(Mark::Error, text)],
                code: UNKNOWN,
            };
        }
    };
    let not_to = || ip.remote.target().map_or_else(|_| String::new(), |target| format!(", not to {target}"));
    let (state, mark, text, code) = match place {
        Place::Here(_) => ("here", Mark::Ok, format!("{place}, here"), 0),
        Place::Elsewhere(_) => ("elsewhere", Mark::Warning, format!("{place}{}", not_to()), 2),
        Place::Nowhere => ("nowhere", Mark::Warning, format!("{place}{}", not_to()), 2),
    };
    let route = place.server().map(str::to_string);
    Report { state, route, reason: None, steps: vec![Step(mark, text)], code }
}

/// Exit status 0: here; 1: it is not, or that is unknown.
fn takeover(ip: &FailoverIp) -> Report {
    // The login's lock-out and the rate limit apart, nothing holds back what is asked for by hand.
    let verdict = ip.take_over(Need::Election, None, &|| true);
    if verdict == Verdict::Here {
        let mut report = status(ip, Ok(Place::Here(ip.remote.target().unwrap_or_default())));
        let name = ip.legion.name();
        let text =
            format!("if this node is not Lord of {name}, the Lord takes the IP back {}", when_it_looks(ip));
        report.steps.push(Step(Mark::Note, text));
        return report;
    }
    let reason = if let Verdict::Failed(line) = verdict { line } else { String::new() };
    let mut report = status(ip, ip.whereabouts());
    report.steps.insert(0, Step(Mark::Error, reason.clone()));
    Report { reason: Some(reason), code: UNKNOWN, ..report }
}

/// Exit status 0: it was here, and is nowhere now; 2: it was not here; 1: it is not released, or that is unknown.
fn release(ip: &FailoverIp) -> Report {
    let released = |sentence: &str| {
        let text = format!("the Lord of {} takes it back {}", ip.legion.name(), when_it_looks(ip));
        let steps = vec![Step(Mark::Ok, sentence.to_string()), Step(Mark::Note, text)];
        Report { state: "nowhere", route: None, reason: None, steps, code: 0 }
    };
    // Hetzner makes a switch of it too: nobody waits here that could get impatient.
    match ip.release(ip.common.timeout) {
        Ok(Place::Here(_)) => released("it was routed here, and is routed nowhere now"),
        Ok(place) => {
            let text = format!("it is {place}, not here: nothing was released");
            Report { steps: vec![Step(Mark::Warning, text)], ..status(ip, Ok(place)) }
        }
        Err(failure) if matches!(failure.kind, Kind::Unknown | Kind::NotDone | Kind::Locked) => {
            let found = ip.whereabouts();
            if found == Ok(Place::Nowhere) {
                return released(&format!("it is routed nowhere now ({})", failure.sentence));
            }
            let mut report = status(ip, found);
            report.steps.insert(0, Step(Mark::Error, format!("FAILED to release it: {}", failure.sentence)));
            Report { reason: Some(failure.sentence), code: UNKNOWN, ..report }
        }
        Err(failure) => status(ip, Err(failure)),
    }
}

/// When a Lord that is another node finds out what was done here by hand.
fn when_it_looks(ip: &FailoverIp) -> String {
    match ip.common.verify.as_secs_f64() {
        0.0 => "when it looks next (verify=0: not by a timer)".into(),
        seconds => format!("at its next check (verify, {seconds} s)"),
    }
}

/// One look shows them all: name resolution, TLS, login, the IP, its route. Changes nothing.
fn check(ip: &FailoverIp, found: Found) -> Report {
    let Api { authority: host, tls, .. } = ip.remote.api();
    // How many of the steps below the request has passed.
    let passed = match &found {
        Ok(_) => 4,
        Err(failure) => match failure.stage {
            Stage::Way => 0,
            Stage::Host | Stage::Login => 2,
            Stage::Address => 3,
        },
    };
    let tls = match tls {
        Tls::Verified => Step(Mark::Ok, format!("TLS: {host} has proved who it is")),
        Tls::Unverified => {
            let text = format!("TLS: {host} was not asked to prove who it is: leave ssl_no_verify out");
            Step(Mark::Warning, text)
        }
        Tls::None => Step(Mark::Warning, format!("no TLS: {host} is asked by plain http")),
    };
    let on_the_way = [
        Step(Mark::Ok, format!("{host} is reached")),
        tls,
        Step(Mark::Ok, "the login is right".into()),
        Step(Mark::Ok, format!("the account has {}", ip.name())),
    ];
    let mut steps = vec![Step(Mark::Ok, "the configuration is right".to_string())];
    steps.extend(on_the_way.into_iter().take(passed));
    steps.push(match &found {
        Ok(place) => Step(Mark::Ok, format!("it is {place}")),
        Err(failure) => Step(Mark::Error, failure.sentence.clone()),
    });
    for (name, address) in ip.remote.local_addresses() {
        steps.extend(match sys::is_here(address) {
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
    Report { steps, code, ..status(ip, found) }
}
