//! What the stand-ins as programs share: what is typed at them, and what they print.
//!
//! No library for their arguments, because a dozen options that all take one value need none. A login comes from the
//! environment, since arguments can be read by every user of the machine.

use std::fmt::Display;
use std::io::{self, BufRead, Write};
use std::str::FromStr;
use std::sync::mpsc::Receiver;
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::standin::{Api, Dialect, Event, Request, Rule, ServerOf, StandIn, duration, grammar};

/// What may be typed, beside a fault.
const PROMPT: &str = "\
A line typed at it is one of these:

  clear                  no faults from now on
  route IP SERVER|none   moved by hand
  switch TIME            how long a switch takes
  show                   routes and faults
  help, quit
  or a fault:
";

/// All that can be typed.
pub fn help<D: Dialect>() -> String {
    format!("{PROMPT}\n{}", grammar::<D>())
}

/// The next option and what stands behind its equals sign; whatever else it needs is the argument that follows.
pub struct Options<I>(pub I);

impl<I: Iterator<Item = String>> Options<I> {
    /// A name, and a value if it has one.
    pub fn option(&mut self) -> Option<(String, Option<String>)> {
        let argument = self.0.next()?;
        Some(match argument.split_once('=') {
            Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
            None => (argument, None),
        })
    }

    /// The value of an option that needs one.
    pub fn value(&mut self, name: &str, value: Option<String>) -> Result<String, String> {
        value.or_else(|| self.0.next()).ok_or_else(|| format!("{name}: expected a value (see --help)"))
    }
}

pub fn value_of<T: FromStr>(text: &str, expected: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("expected {expected}, not {text:?}"))
}

/// Prints what happens, and does what is typed, until that is `quit`.
pub fn attend<A: Api>(stand_in: &StandIn<A>, heard: Receiver<Event<ServerOf<A>>>) -> Result<(), String> {
    thread::spawn(move || heard.iter().for_each(|event| say(&line::<A::Dialect>(&event))));
    for typed in io::stdin().lock().lines() {
        let typed = typed.map_err(|error| format!("stdin: {error}"))?;
        match obey(stand_in, typed.trim()) {
            Ok(Some(reply)) => say(&reply),
            Ok(None) => return Ok(()),
            Err(why) => say(&why),
        }
    }
    // The end of stdin is a shell that put it into the background, and no wish to stop.
    loop {
        thread::park();
    }
}

/// Routes and faults.
pub fn show<A: Api>(stand_in: &StandIn<A>) -> String {
    let routes = stand_in.ips().into_iter().map(|ip| format!("{ip} {}\n", routed(stand_in.route(ip))));
    let faults = stand_in.faults().into_iter().map(|rule| format!("fault: {rule}\n"));
    routes.chain(faults).collect()
}

fn routed(server: Option<impl Display>) -> String {
    server.map_or("is routed nowhere".to_owned(), |server| format!("is routed to {server}"))
}

/// Answers what to print; none: to stop.
pub fn obey<A: Api>(stand_in: &StandIn<A>, typed: &str) -> Result<Option<String>, String> {
    let reply = match typed.split_whitespace().collect::<Vec<_>>().as_slice() {
        [] => String::new(),
        ["quit"] => return Ok(None),
        ["help"] => help::<A::Dialect>(),
        ["show"] => show(stand_in),
        ["clear"] => {
            stand_in.clear_faults();
            "no faults".to_owned()
        }
        ["switch", time] => {
            stand_in.set_switch(duration(time)?);
            format!("a switch takes {:?}", duration(time)?)
        }
        ["route", ip, server] => {
            let ip = value_of(ip, "an address")?;
            let expected = format!("{} or none", A::Dialect::SERVER);
            let server = if *server == "none" { None } else { Some(value_of(server, &expected)?) };
            if !stand_in.ips().contains(&ip) {
                return Err(format!("{ip} is no {} of this account", A::Dialect::FIELDS[0]));
            }
            stand_in.set_route(ip, server);
            String::new()
        }
        ["route", ..] => return Err("expected route IP SERVER|none".to_owned()),
        _ => {
            let rule: Rule<A::Dialect> = typed.parse().map_err(|why| format!("{why} (try help)"))?;
            let reply = format!("fault: {rule}");
            stand_in.fault(rule);
            reply
        }
    };
    Ok(Some(reply))
}

/// As it is printed, with the time.
pub fn line<D: Dialect>(event: &Event<D::Server>) -> String {
    let what = match event {
        Event::Request(request) => request_line(D::FIELDS[1], request),
        Event::Route { ip, from, to } => {
            let from = from.map_or("nowhere".to_owned(), |from| from.to_string());
            format!("{ip} {} (before: {from})", routed(*to))
        }
        Event::Handshake(why) => format!("TLS handshake failed: {why}"),
    };
    format!("{} {what}", clock())
}

fn request_line(field: &str, request: &Request) -> String {
    let mut line = format!("{} {}", request.method, request.path);
    if let Some(target) = &request.target {
        line += &format!(" {field}={}", target.escape_debug());
    }
    match &request.user {
        Some(user) => line += &format!(" user={}", user.escape_debug()),
        None => line += " without a login",
    }
    line += " → ";
    line += &match (request.status, &request.code) {
        (Some(status), Some(code)) => format!("{status} {code}"),
        (Some(status), None) => status.to_string(),
        (None, _) if request.peer_closed => "gone before it was answered".to_owned(),
        (None, _) if request.done.is_none() => "left hanging".to_owned(),
        (None, _) => "no answer".to_owned(),
    };
    if let Some(done) = request.done {
        line += &format!(" after {:.1} s", done.duration_since(request.at).as_secs_f64());
    }
    if let Some(fault) = &request.fault {
        line += &format!(" (fault: {})", fault.escape_debug());
    }
    line
}

/// UTC: the local time needs the time zone's tables, and a rehearsal does not.
fn clock() -> String {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
    format!("{:02}:{:02}:{:02}", seconds / 3600 % 24, seconds / 60 % 60, seconds % 60)
}

/// Prints lines. A reader that has gone (`| head`) is no reason to panic.
pub fn say(text: &str) {
    if !text.is_empty() {
        let _ = writeln!(io::stdout(), "{}", text.trim_end());
    }
}
