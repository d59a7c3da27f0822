//! Scripted faults: what shall go wrong, for which requests, how often, and one line of text for each.
//!
//! The grammar is written once ([`grammar`]) and is the same in a test, on the command line and at the
//! prompt. A fault at the socket says nothing about the switch, except that those which damage a right
//! answer need one: they let the request be carried out. For all others `after-switch` says that it is.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::time::{Duration, Instant};

use super::Dialect;
use super::answer::Answer;
use super::call::{Call, Method, Target};

/// What can be written, for --help and for the prompt.
pub fn grammar<D: Dialect>() -> String {
    let ([of_path, of_post], own, locked) = (D::FIELDS, D::OWN, D::LOCKED);
    let server = D::SERVER.split(' ').next_back().unwrap_or_default().to_uppercase();
    format!(
        "\x20 WHICH [KEY=VALUE ...] [after-switch] FAULT [KEY=VALUE ...]

  WHICH   any | get | post | delete
  KEY     target={server} ({of_post} of a POST), ip=ADDR (the {of_path}), user=NAME, path=PART (of its path),
          times=N (only N times; else until cleared), skip=N (let N matching requests through first)
  FAULT   answered, and nothing else is done:
            error CODE          a documented error, see below
            locked TIME         {locked} for so long, from the first request that meets it
            html [STATUS]       an HTML page (200)
            empty [STATUS]      no body (200)
            truncated [STATUS]  JSON that ends in the middle (200)
            redirect URL        302
            raw STATUS [BODY]   BODY is the rest of the line, so that keys come before
            null | missing      a right answer, with {of_post} null, or without one
            other {server:<13} a right answer, but {of_post} is {server}
          the request is carried out, and its right answer is sent:
            delay TIME          after that time
            trickle [TIME]      a byte at a time, that far apart (1s)
            cut-half            with all of its Content-Length announced, and half of it sent
            huge [SIZE]         padded with spaces to that size (1GiB)
            oversized           padded with spaces to 70KiB
{own}\x20         no answer:
            close               the connection is closed
            reset               the connection is reset (RST)
            hang                the connection is kept open
            refuse [TIME]       closed, and new connections are refused for that time, or until cleared;
                                `any refuse` takes effect at once, any other when a request meets it
            lost-answer         short for: after-switch close
  TIME    10s, 1.5s, 200ms, 2m, 1h
  SIZE    70000, 70KiB, 5MiB, 1GiB
  CODE    {}

  after-switch: the request is carried out, then FAULT takes the place of its answer.
  The first rule that matches is the one that counts.
",
        wrapped(&D::errors(), 100)
    )
}

/// Names with commas between them, on lines of at most so many characters.
fn wrapped(names: &str, width: usize) -> String {
    let mut lines = vec![String::new()];
    for name in names.split_inclusive(", ") {
        if lines.last().expect("there is one").len() + name.len() > width {
            lines.push(String::new());
        }
        *lines.last_mut().expect("there is one") += name;
    }
    let lines: Vec<&str> = lines.iter().map(|line| line.trim_end()).collect();
    lines.join("\n          ")
}

const OVERSIZED: u64 = 70 << 10;
const HUGE: u64 = 1 << 30;

/// A lie about where an IP is routed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pretence<S> {
    /// The server is null.
    Null,
    /// There is none.
    Missing,
    /// It is this one.
    Other(S),
}

/// What goes wrong.
#[derive(Clone, Debug, PartialEq)]
pub enum Fault<D: Dialect> {
    Answer(Answer),
    /// A right answer, but for where it says the IP is routed.
    Pretend(Pretence<D::Server>),
    /// The lock of another switch for so long, from the first request that meets it.
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
    /// What only this API can do.
    Own(D),
    /// The request is carried out first. If the API itself says no to it, that is the answer.
    AfterSwitch(Box<Fault<D>>),
}

impl<D: Dialect> Fault<D> {
    /// The switch is made, and nobody says so.
    pub fn lost_answer() -> Fault<D> {
        Fault::Close.after_switch()
    }

    /// This fault, once the request is carried out.
    pub fn after_switch(self) -> Fault<D> {
        Fault::AfterSwitch(Box::new(self))
    }
}

/// Which requests: all that is given here must be so.
#[derive(Clone, Debug, PartialEq)]
pub struct When<S> {
    pub method: Option<Method>,
    /// The server that a POST names.
    pub target: Option<S>,
    pub user: Option<String>,
    pub ip: Option<IpAddr>,
    /// A part of the path.
    pub path: Option<String>,
}

impl<S> Default for When<S> {
    fn default() -> When<S> {
        When { method: None, target: None, user: None, ip: None, path: None }
    }
}

impl<S: Copy + PartialEq> When<S> {
    fn matches<W>(&self, call: &Call<S, W>) -> bool {
        let target = match call.target {
            Target::Is(target) => Some(target),
            Target::Missing | Target::Invalid => None,
        };
        (self.method.is_none() || self.method == call.method)
            && (self.target.is_none() || self.target == target)
            && (self.user.is_none() || self.user == call.user)
            && (self.ip.is_none() || self.ip == call.ip)
            && self.path.as_ref().is_none_or(|part| call.path.contains(part))
    }
}

/// A fault, and the requests that meet it.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule<D: Dialect> {
    pub when: When<D::Server>,
    pub fault: Fault<D>,
    /// None: until cleared.
    pub times: Option<u32>,
    /// How many matching requests are let through first.
    pub skip: u32,
}

impl<D: Dialect> Rule<D> {
    /// The time that connections are refused for, if this takes effect without any request.
    pub(super) fn refuses_at_once(&self) -> Option<Option<Duration>> {
        match self.fault {
            Fault::Refuse(time) if self.when == When::default() && self.skip == 0 => Some(time),
            _ => None,
        }
    }
}

/// The rules in force.
pub(super) struct Faults<D: Dialect> {
    rules: Vec<(Rule<D>, Option<Instant>)>,
}

impl<D: Dialect> Default for Faults<D> {
    fn default() -> Faults<D> {
        Faults { rules: Vec::new() }
    }
}

impl<D: Dialect> Faults<D> {
    pub fn add(&mut self, rule: Rule<D>) {
        self.rules.push((rule, None));
    }

    pub fn clear(&mut self) {
        self.rules.clear();
    }

    pub fn rules(&self) -> Vec<Rule<D>> {
        self.rules.iter().map(|(rule, _)| rule).filter(|rule| rule.times != Some(0)).cloned().collect()
    }

    /// The fault that this request meets.
    pub fn meet<W>(&mut self, call: &Call<D::Server, W>, now: Instant) -> Option<Fault<D>> {
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

impl<D: Dialect> FromStr for Rule<D> {
    type Err = String;

    fn from_str(line: &str) -> Result<Rule<D>, String> {
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

const KEYS: &str = "target=, ip=, user=, path=, times=, skip=";

/// What is left of a line.
pub struct Words<'a>(&'a str);

impl<'a> Words<'a> {
    fn peek(&self) -> Option<&'a str> {
        self.0.split_whitespace().next()
    }

    pub fn next(&mut self, expected: &str) -> Result<&'a str, String> {
        let word = self.peek().ok_or_else(|| format!("expected {expected} at the end"))?;
        self.0 = self.0[word.len()..].trim_start();
        Ok(word)
    }

    /// The next word, unless it is a key: then the default.
    pub fn optional<T>(
        &mut self,
        default: T,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<T, String> {
        match self.peek() {
            Some(word) if !is_key(word) => parse(self.next("a value")?),
            _ => Ok(default),
        }
    }

    fn keys<D: Dialect>(&mut self, rule: &mut Rule<D>) -> Result<(), String> {
        while let Some((key, value)) =
            self.peek().filter(|word| is_key(word)).and_then(|word| word.split_once('='))
        {
            self.next("a key")?;
            match key {
                "target" => rule.when.target = Some(server::<D>(value)?),
                "ip" => rule.when.ip = Some(address(value)?),
                "user" => rule.when.user = Some(value.to_owned()),
                "path" => rule.when.path = Some(value.to_owned()),
                "times" => rule.times = Some(number(value)?),
                _ => rule.skip = number(value)?,
            }
        }
        Ok(())
    }

    fn fault<D: Dialect>(&mut self) -> Result<Fault<D>, String> {
        Ok(match self.next("a fault")? {
            "after-switch" => match self.fault()? {
                Fault::AfterSwitch(_) => return Err("expected after-switch only once".to_owned()),
                Fault::Locked(_) => return Err("expected no locked after-switch".to_owned()),
                fault => fault.after_switch(),
            },
            "error" => {
                let name = self.next("an error code")?;
                let error = D::error(name);
                Fault::Answer(error.ok_or_else(|| format!("expected one of {}, not {name:?}", D::errors()))?)
            }
            "html" => Fault::Answer(Answer::html(self.optional(200, status)?)),
            "empty" => Fault::Answer(Answer::raw(self.optional(200, status)?, "application/json", "")),
            "truncated" => Fault::Answer(truncated::<D>(self.optional(200, status)?)),
            "redirect" => Fault::Answer(Answer::redirect(url(self.next("a URL")?)?)),
            "raw" => {
                let status = status(self.next("a status")?)?;
                let body = std::mem::take(&mut self.0);
                Fault::Answer(Answer::raw(status, "application/json", body))
            }
            "null" => Fault::Pretend(Pretence::Null),
            "missing" => Fault::Pretend(Pretence::Missing),
            "other" => Fault::Pretend(Pretence::Other(server::<D>(self.next(D::SERVER)?)?)),
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
                if let Some(own) = D::own(other, self) {
                    return own.map(Fault::Own);
                }
                return Err(format!(
                    "expected {}error, html, empty, truncated, redirect, raw, null, missing, other, locked, \
                     refuse, reset, close, hang, trickle, cut-half, huge, oversized, delay, lost-answer \
                     or after-switch, not {other:?}",
                    D::own_words()
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

fn server<D: Dialect>(text: &str) -> Result<D::Server, String> {
    text.parse().map_err(|_| format!("expected {}, not {text:?}", D::SERVER))
}

/// JSON that ends in the middle of a string, though the transfer itself is whole.
fn truncated<D: Dialect>(status: u16) -> Answer {
    Answer::raw(status, "application/json", D::truncated())
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

impl<D: Dialect> fmt::Display for Fault<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Answer(Answer { code: Some(code), .. }) => write!(f, "error {code}"),
            Fault::Answer(answer) if answer.location().is_some() => {
                write!(f, "redirect {}", answer.location().unwrap_or_default())
            }
            Fault::Answer(answer) if answer.body.is_empty() => write!(f, "empty {}", answer.status),
            Fault::Answer(answer) if *answer == Answer::html(answer.status) => {
                write!(f, "html {}", answer.status)
            }
            Fault::Answer(answer) if *answer == truncated::<D>(answer.status) => {
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
            Fault::Own(own) => write!(f, "{own}"),
            Fault::AfterSwitch(fault) => write!(f, "after-switch {fault}"),
        }
    }
}

impl<D: Dialect> fmt::Display for Rule<D> {
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
        if let Some(path) = &self.when.path {
            write!(f, " path={path}")?;
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
