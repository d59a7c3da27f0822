//! Scripted faults: what shall go wrong, for which requests, how often, and one line of text for each.
//!
//! The grammar is written once (`GRAMMAR`) and is the same in a test, on the command line and at the
//! prompt. A fault at the socket says nothing about the switch, except that those which damage a right
//! answer need one: they let the request be carried out. For all others `after-switch` says that it is.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::time::{Duration, Instant};

use super::answer::{Answer, Code};
use super::call::{Call, Method, Target};
use super::state::Pretence;

/// What can be written, for --help and for the prompt.
pub const GRAMMAR: &str = "\
  WHICH [KEY=VALUE ...] [after-switch] FAULT [KEY=VALUE ...]

  WHICH   any | get | post | delete
  KEY     target=ADDR (active_server_ip of a POST), ip=ADDR (the failover IP), user=NAME,
          times=N (only N times; else until cleared), skip=N (let N matching requests through first)
  FAULT   answered, and nothing else is done:
            error CODE          a documented error, e.g. FAILOVER_FAILED, FORBIDDEN, MAINTENANCE
            locked TIME         FAILOVER_LOCKED for so long, from the first request that meets it
            html [STATUS]       an HTML page (200)
            empty [STATUS]      no body (200)
            truncated [STATUS]  JSON that ends in the middle (200)
            redirect URL        302
            raw STATUS [BODY]   BODY is the rest of the line, so that keys come before
            null | missing      200, with active_server_ip null, or without one
            other ADDR          200, but active_server_ip is ADDR
          the request is carried out, and its right answer is sent:
            delay TIME          after that time
            trickle [TIME]      a byte at a time, that far apart (1s)
            cut-half            with all of its Content-Length announced, and half of it sent
            huge [SIZE]         padded with spaces to that size (1GiB)
            oversized           padded with spaces to 70KiB
          no answer:
            close               the connection is closed
            reset               the connection is reset (RST)
            hang                the connection is kept open
            refuse [TIME]       closed, and new connections are refused for that time, or until cleared;
                                `any refuse` takes effect at once, any other when a request meets it
            lost-answer         short for: after-switch close
  TIME    10s, 1.5s, 200ms, 2m, 1h
  SIZE    70000, 70KiB, 5MiB, 1GiB

  after-switch: the request is carried out, then FAULT takes the place of its answer.
  The first rule that matches is the one that counts.
";

const OVERSIZED: u64 = 70 << 10;
const HUGE: u64 = 1 << 30;

/// What goes wrong.
#[derive(Clone, Debug, PartialEq)]
pub enum Fault {
    Answer(Answer),
    /// A right answer, but for where it says the IP is routed.
    Pretend(Pretence),
    /// FAILOVER_LOCKED for so long, from the first request that meets it.
    Locked(Duration),
    /// The connection is closed, and new ones are refused for that time or until cleared.
    Refuse(Option<Duration>),
    Reset,
    Close,
    Hang,
    /// The time between two bytes.
    Trickle(Duration),
    CutHalf,
    /// The size that the body is padded to.
    Huge(u64),
    Delay(Duration),
    /// The request is carried out first. If Robot itself says no to it, that is the answer.
    AfterSwitch(Box<Fault>),
}

impl Fault {
    /// A documented error.
    pub fn error(code: Code) -> Fault {
        Fault::Answer(Answer::error(code))
    }

    /// The switch is made, and nobody says so.
    pub fn lost_answer() -> Fault {
        Fault::Close.after_switch()
    }

    /// This fault, once the request is carried out.
    pub fn after_switch(self) -> Fault {
        Fault::AfterSwitch(Box::new(self))
    }
}

/// Which requests: all that is given here must be so.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct When {
    pub method: Option<Method>,
    /// `active_server_ip` of a POST.
    pub target: Option<IpAddr>,
    pub user: Option<String>,
    pub ip: Option<IpAddr>,
}

impl When {
    fn matches(&self, call: &Call) -> bool {
        let target = match call.target {
            Target::Is(target) => Some(target),
            Target::Missing | Target::Invalid => None,
        };
        (self.method.is_none() || self.method == call.method)
            && (self.target.is_none() || self.target == target)
            && (self.user.is_none() || self.user.as_deref() == call.user())
            && (self.ip.is_none() || self.ip == call.ip())
    }
}

/// A fault, and the requests that meet it.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    pub when: When,
    pub fault: Fault,
    /// None: until cleared.
    pub times: Option<u32>,
    /// How many matching requests are let through first.
    pub skip: u32,
}

impl Rule {
    /// The time that connections are refused for, if this takes effect without any request.
    pub(super) fn refuses_at_once(&self) -> Option<Option<Duration>> {
        match self.fault {
            Fault::Refuse(time) if self.when == When::default() && self.skip == 0 => Some(time),
            _ => None,
        }
    }
}

/// The rules in force.
#[derive(Default)]
pub(super) struct Faults {
    rules: Vec<(Rule, Option<Instant>)>,
}

impl Faults {
    pub fn add(&mut self, rule: Rule) {
        self.rules.push((rule, None));
    }

    pub fn clear(&mut self) {
        self.rules.clear();
    }

    pub fn rules(&self) -> Vec<Rule> {
        self.rules.iter().map(|(rule, _)| rule.clone()).collect()
    }

    /// The fault that this request meets.
    pub fn meet(&mut self, call: &Call, now: Instant) -> Option<Fault> {
        self.rules.retain(|(rule, until)| rule.times != Some(0) && until.is_none_or(|until| now < until));
        for (rule, until) in self.rules.iter_mut().filter(|(rule, _)| rule.when.matches(call)) {
            if rule.skip > 0 {
                rule.skip -= 1;
                continue;
            }
            if let Some(times) = &mut rule.times {
                *times -= 1;
            }
            if let Fault::Locked(time) = rule.fault {
                until.get_or_insert(now + time);
            }
            return Some(rule.fault.clone());
        }
        None
    }
}

impl FromStr for Rule {
    type Err = String;

    fn from_str(line: &str) -> Result<Rule, String> {
        let mut words = Words(line.trim());
        let method = match words.next("any, get, post or delete")? {
            "any" => None,
            "get" => Some(Method::Get),
            "post" => Some(Method::Post),
            "delete" => Some(Method::Delete),
            other => return Err(format!("expected any, get, post or delete, not {other:?}")),
        };
        let when = When { method, ..When::default() };
        // The fault's own place is filled below: keys may stand on both sides of it.
        let mut rule = Rule { when, fault: Fault::Close, times: None, skip: 0 };
        words.keys(&mut rule)?;
        rule.fault = words.fault()?;
        words.keys(&mut rule)?;
        if !words.0.is_empty() {
            return Err(format!("expected the end, or one of {KEYS}, not {:?}", words.0));
        }
        if rule.when.target.is_some() && !matches!(rule.when.method, None | Some(Method::Post)) {
            return Err("expected post or any: only a POST has a target".to_owned());
        }
        Ok(rule)
    }
}

const KEYS: &str = "target=, ip=, user=, times=, skip=";

/// What is left of a line.
struct Words<'a>(&'a str);

impl<'a> Words<'a> {
    fn peek(&self) -> Option<&'a str> {
        self.0.split_whitespace().next()
    }

    fn next(&mut self, expected: &str) -> Result<&'a str, String> {
        let word = self.peek().ok_or_else(|| format!("expected {expected} at the end"))?;
        self.0 = self.0[word.len()..].trim_start();
        Ok(word)
    }

    /// The next word, unless it is a key: then the default.
    fn optional<T>(
        &mut self,
        default: T,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<T, String> {
        match self.peek() {
            Some(word) if !is_key(word) => parse(self.next("a value")?),
            _ => Ok(default),
        }
    }

    fn keys(&mut self, rule: &mut Rule) -> Result<(), String> {
        while let Some((key, value)) =
            self.peek().filter(|word| is_key(word)).and_then(|word| word.split_once('='))
        {
            self.next("a key")?;
            match key {
                "target" => rule.when.target = Some(address(value)?),
                "ip" => rule.when.ip = Some(address(value)?),
                "user" => rule.when.user = Some(value.to_owned()),
                "times" => rule.times = Some(number(value)?),
                _ => rule.skip = number(value)?,
            }
        }
        Ok(())
    }

    fn fault(&mut self) -> Result<Fault, String> {
        Ok(match self.next("a fault")? {
            "after-switch" => match self.fault()? {
                Fault::AfterSwitch(_) => return Err("expected after-switch only once".to_owned()),
                Fault::Locked(_) => return Err("expected no locked after-switch".to_owned()),
                fault => fault.after_switch(),
            },
            "error" => {
                let name = self.next("an error code")?;
                let code = Code::find(name);
                Fault::error(code.ok_or_else(|| format!("expected one of {}, not {name:?}", Code::names()))?)
            }
            "html" => Fault::Answer(Answer::html(self.optional(200, status)?)),
            "empty" => Fault::Answer(Answer::raw(self.optional(200, status)?, "application/json", "")),
            "truncated" => Fault::Answer(Answer::truncated(self.optional(200, status)?)),
            "redirect" => Fault::Answer(Answer::redirect(url(self.next("a URL")?)?)),
            "raw" => {
                let status = status(self.next("a status")?)?;
                let body = std::mem::take(&mut self.0);
                Fault::Answer(Answer::raw(status, "application/json", body))
            }
            "null" => Fault::Pretend(Pretence::Null),
            "missing" => Fault::Pretend(Pretence::Missing),
            "other" => Fault::Pretend(Pretence::Other(address(self.next("an address")?)?)),
            "locked" => Fault::Locked(duration(self.next("a time such as 10s")?)?),
            "refuse" => Fault::Refuse(self.optional(None, |word| duration(word).map(Some))?),
            "reset" => Fault::Reset,
            "close" => Fault::Close,
            "hang" => Fault::Hang,
            "trickle" => Fault::Trickle(self.optional(Duration::from_secs(1), duration)?),
            "cut-half" => Fault::CutHalf,
            "huge" => Fault::Huge(self.optional(HUGE, size)?),
            "oversized" => Fault::Huge(OVERSIZED),
            "delay" => Fault::Delay(duration(self.next("a time such as 10s")?)?),
            "lost-answer" => Fault::lost_answer(),
            other => {
                return Err(format!(
                    "expected error, html, empty, truncated, redirect, raw, null, missing, other, locked, \
                     refuse, reset, close, hang, trickle, cut-half, huge, oversized, delay, lost-answer \
                     or after-switch, not {other:?}"
                ));
            }
        })
    }
}

fn is_key(word: &str) -> bool {
    word.split_once('=')
        .is_some_and(|(key, _)| KEYS.split(", ").any(|known| known.trim_end_matches('=') == key))
}

fn address(text: &str) -> Result<IpAddr, String> {
    text.parse().map_err(|_| format!("expected an address, not {text:?}"))
}

fn number(text: &str) -> Result<u32, String> {
    text.parse().map_err(|_| format!("expected a number, not {text:?}"))
}

/// Only what can be sent as a final answer.
fn status(text: &str) -> Result<u16, String> {
    let status = text.parse().ok().filter(|status| (200..=599).contains(status));
    status.ok_or_else(|| format!("expected a status from 200 to 599, not {text:?}"))
}

/// Only what can stand in a header.
fn url(text: &str) -> Result<&str, String> {
    if text.bytes().all(|byte| byte.is_ascii_graphic()) {
        Ok(text)
    } else {
        Err(format!("expected a URL, not {text:?}"))
    }
}

fn unit(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len()))
}

/// `10s`, `1.5s`, `200ms`, `2m`, `1h`; a bare number is seconds. A year is as good as for ever.
pub fn duration(text: &str) -> Result<Duration, String> {
    const YEAR: f64 = 365.0 * 24.0 * 3600.0;
    let (value, unit) = unit(text);
    let scale = match unit {
        "ms" => Some(0.001),
        "s" | "" => Some(1.0),
        "m" => Some(60.0),
        "h" => Some(3600.0),
        _ => None,
    };
    let seconds = value.parse::<f64>().ok().zip(scale).map(|(value, scale)| value * scale);
    seconds
        .filter(|seconds| (0.0..=YEAR).contains(seconds))
        .map(Duration::from_secs_f64)
        .ok_or_else(|| format!("expected a time such as 10s, 200ms, 2m or 1h, not {text:?}"))
}

fn size(text: &str) -> Result<u64, String> {
    let (value, unit) = unit(text);
    let shift = match unit {
        "" | "B" => Some(0),
        "KiB" => Some(10),
        "MiB" => Some(20),
        "GiB" => Some(30),
        _ => None,
    };
    let bytes = value.parse::<u32>().ok().zip(shift).map(|(value, shift)| u64::from(value) << shift);
    bytes.ok_or_else(|| format!("expected a size such as 70000, 70KiB or 1GiB, not {text:?}"))
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Answer(Answer { code: Some(code), .. }) => write!(f, "error {code}"),
            Fault::Answer(Answer { location: Some(url), .. }) => write!(f, "redirect {url}"),
            Fault::Answer(answer) if answer.body.is_empty() => write!(f, "empty {}", answer.status),
            Fault::Answer(answer) if *answer == Answer::html(answer.status) => {
                write!(f, "html {}", answer.status)
            }
            Fault::Answer(answer) if *answer == Answer::truncated(answer.status) => {
                write!(f, "truncated {}", answer.status)
            }
            Fault::Answer(answer) => write!(f, "raw {} {}", answer.status, answer.body),
            Fault::Pretend(Pretence::Null) => write!(f, "null"),
            Fault::Pretend(Pretence::Missing) => write!(f, "missing"),
            Fault::Pretend(Pretence::Other(server)) => write!(f, "other {server}"),
            Fault::Locked(time) => write!(f, "locked {time:?}"),
            Fault::Refuse(None) => write!(f, "refuse"),
            Fault::Refuse(Some(time)) => write!(f, "refuse {time:?}"),
            Fault::Reset => write!(f, "reset"),
            Fault::Close => write!(f, "close"),
            Fault::Hang => write!(f, "hang"),
            Fault::Trickle(time) => write!(f, "trickle {time:?}"),
            Fault::CutHalf => write!(f, "cut-half"),
            Fault::Huge(size) => write!(f, "huge {size}"),
            Fault::Delay(time) => write!(f, "delay {time:?}"),
            Fault::AfterSwitch(fault) => write!(f, "after-switch {fault}"),
        }
    }
}

impl fmt::Display for Rule {
    /// Keys first, since the body of `raw` takes the rest of the line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let method = match self.when.method {
            None => "any",
            Some(Method::Get) => "get",
            Some(Method::Post) => "post",
            Some(Method::Delete) => "delete",
        };
        write!(f, "{method}")?;
        if let Some(target) = self.when.target {
            write!(f, " target={target}")?;
        }
        if let Some(ip) = self.when.ip {
            write!(f, " ip={ip}")?;
        }
        if let Some(user) = &self.when.user {
            write!(f, " user={user}")?;
        }
        if let Some(times) = self.times {
            write!(f, " times={times}")?;
        }
        if self.skip > 0 {
            write!(f, " skip={}", self.skip)?;
        }
        write!(f, " {}", self.fault)
    }
}
