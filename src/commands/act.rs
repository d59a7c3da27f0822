//! What each command does for one failover IP.

use super::asked::Command;
use super::report::{Mark, Report, Step};
use super::{BUG, ELSEWHERE, UNKNOWN};
use crate::failover::{FailoverIp, Verdict};
use crate::hosters::{Api, Failure, Kind, Need, Place, Stage, Tls, Way, named};
use crate::sys;

/// Where the IP is routed, or why that is unknown.
type Found = Result<Place, Failure>;

/// Does what the command asks for. `found` is where the IP was a moment ago, if that was looked up.
pub fn report(command: Command, ip: &FailoverIp, found: Option<Found>) -> Report {
    let found = || found.unwrap_or_else(|| ip.whereabouts());
    match command {
        Command::Check => check(ip, found()),
        Command::Status => status(ip, found()),
        Command::Takeover => takeover(ip),
        Command::Release => release(ip),
    }
}

/// For a command that has panicked.
pub fn broken() -> Report {
    unknown(BUG.into(), BUG.into())
}

fn unknown(reason: String, text: String) -> Report {
    let steps = vec![Step(Mark::Error, text)];
    Report { state: "unknown", route: None, reason: Some(reason), steps, code: UNKNOWN }
}

pub fn status(ip: &FailoverIp, found: Found) -> Report {
    let place = match found {
        Ok(place) => place,
        Err(Failure { sentence, .. }) => return unknown(sentence.clone(), format!("unknown: {sentence}")),
    };
    let not_to =
        || ip.remote.target().map_or_else(|_| String::new(), |target| format!(", not to {}", named(&target)));
    let (state, mark, text, code) = match place {
        Place::Here(_) => ("here", Mark::Ok, format!("{place}, here"), 0),
        Place::Elsewhere(_) => ("elsewhere", Mark::Warning, format!("{place}{}", not_to()), ELSEWHERE),
        Place::Nowhere => ("nowhere", Mark::Warning, format!("{place}{}", not_to()), ELSEWHERE),
        Place::NotHere => ("elsewhere", Mark::Warning, place.to_string(), ELSEWHERE),
    };
    let route = place.server().map(str::to_string);
    Report { state, route, reason: None, steps: vec![Step(mark, text)], code }
}

/// A command that has failed, and where the IP is now.
fn failed(ip: &FailoverIp, found: Found, reason: String, text: String) -> Report {
    let mut report = status(ip, found);
    report.steps.insert(0, Step(Mark::Error, text));
    Report { reason: Some(reason), code: UNKNOWN, ..report }
}

fn takeover(ip: &FailoverIp) -> Report {
    // A command by hand is held back only after a rejected login and by the rate limit.
    let verdict = ip.take_over(Need::Election, None, &|| true);
    if verdict == Verdict::Here {
        let mut report = status(ip, Ok(Place::Here(ip.remote.target().unwrap_or_default())));
        let (name, when) = (ip.legion.name(), next_check(ip));
        let text = format!("if this node is not Lord of {name}, the Lord takes the IP back {when}");
        report.steps.push(Step(Mark::Note, text));
        return report;
    }
    let reason = if let Verdict::Failed(line) = verdict { line } else { String::new() };
    failed(ip, ip.whereabouts(), reason.clone(), reason)
}

/// Exit status 0 if the IP was here and is routed nowhere now, 2 if it was not here.
fn release(ip: &FailoverIp) -> Report {
    let released = |sentence: &str| {
        let text = format!("the Lord of {} takes it back {}", ip.legion.name(), next_check(ip));
        let steps = vec![Step(Mark::Ok, sentence.to_string()), Step(Mark::Note, text)];
        Report { state: "nowhere", route: None, reason: None, steps, code: 0 }
    };
    // It may take as long as a switch: unlike a node that is stopping, a command can wait.
    match ip.release(ip.common.timeout) {
        Ok(Place::Here(_)) => released(match ip.remote.way() {
            Way::Api(_) => "it was routed here and is now routed nowhere",
            Way::Program(_) => "it was here and is not here any more",
        }),
        Ok(place) => {
            let text = format!("it is {}: nothing was released", place.and_not_here());
            Report { steps: vec![Step(Mark::Warning, text)], ..status(ip, Ok(place)) }
        }
        Err(failure) if matches!(failure.kind, Kind::Unknown | Kind::NotDone | Kind::Locked) => {
            let (found, reason) = (ip.whereabouts(), failure.sentence);
            if matches!(found, Ok(Place::Nowhere | Place::NotHere)) {
                return released(&format!("it is now routed nowhere ({reason})"));
            }
            failed(ip, found, reason.clone(), format!("FAILED to release it: {reason}"))
        }
        Err(failure) => status(ip, Err(failure)),
    }
}

/// When the Lord, if that is another node, notices what was done here by hand.
fn next_check(ip: &FailoverIp) -> String {
    match ip.common.verify.as_secs_f64() {
        0.0 => "the next time it checks the route (verify=0: no regular checks)".into(),
        seconds => format!("at its next check (verify, {seconds} s)"),
    }
}

/// One request shows it all: name resolution, TLS, login, the IP, its route. Changes nothing.
fn check(ip: &FailoverIp, found: Found) -> Report {
    let on_the_way = match ip.remote.way() {
        Way::Api(api) => by_api(&api, ip),
        Way::Program(path) => vec![(Stage::Way, Step(Mark::Ok, format!("{} can be run", path.display())))],
    };
    let mut steps = vec![Step(Mark::Ok, "the configuration is valid".to_string())];
    let failed = found.as_ref().err().map(|failure| failure.stage);
    let is_passed = |(stage, _): &(Stage, Step)| failed.is_none_or(|failed| *stage < failed);
    steps.extend(on_the_way.into_iter().filter(is_passed).map(|(_, step)| step));
    steps.push(match &found {
        Ok(place) => Step(Mark::Ok, format!("it is {place}")),
        Err(failure) => Step(Mark::Error, failure.sentence.clone()),
    });
    steps.extend(ip.remote.trouble().map(|text| Step(Mark::Warning, text)));
    for (name, address) in ip.remote.local_addresses() {
        let text = format!("{name} {address} is on an interface of this host");
        let unknown = format!("cannot tell whether {text}: the system does not list its interfaces");
        steps.extend(match sys::is_here(address) {
            Some(true) => Some(Step(Mark::Ok, text)),
            // One of the warnings of the start says so.
            Some(false) => None,
            None => Some(Step(Mark::Warning, unknown)),
        });
    }
    Report { steps, code: i32::from(found.is_err()), ..status(ip, found) }
}

/// What one request has shown if it has passed these stages.
fn by_api(Api { authority: host, tls, .. }: &Api, ip: &FailoverIp) -> Vec<(Stage, Step)> {
    let tls = match tls {
        Tls::Verified => Step(Mark::Ok, format!("TLS to {host}: certificate verified")),
        Tls::Unverified => {
            Step(Mark::Warning, format!("TLS to {host}: certificate NOT verified: remove ssl_no_verify"))
        }
        Tls::None => Step(Mark::Warning, format!("no TLS to {host}: url is plain http")),
    };
    let words = &ip.about.words;
    vec![
        (Stage::Way, Step(Mark::Ok, format!("{host} is reachable"))),
        (Stage::Way, tls),
        (Stage::Login, Step(Mark::Ok, format!("the {} is accepted", words.login))),
        (Stage::Address, Step(Mark::Ok, format!("the {} has {}", words.account, ip.name()))),
    ]
}
