//! Reads the Robot API's answers: what each means for a takeover, and the words for it.
//!
//! Everything but a clear yes is a [`Failure`] with a sentence of its own. Nothing here trusts the answer: it may come
//! from a proxy, or be a maintenance page.

mod errors;
#[cfg(any(test, feature = "fuzz"))]
pub mod properties;
#[cfg(test)]
mod tests;

use std::net::IpAddr;

use serde::Deserialize;
use serde_json::Value;

use crate::hosters::answer::{describe, read, redirect};
use crate::hosters::{Failure, Kind, Stage};
pub use crate::https::Answer;
use crate::sys::net;
use crate::text::printable;
pub use errors::rate_limited_for;
use errors::{ApiError, error_in, meaning};

/// `{"failover": {...}}`. Source: Robot webservice documentation, "Failover".
#[derive(Deserialize)]
struct Found {
    failover: Failover,
}

#[derive(Deserialize)]
struct Failover {
    /// The failover IP. Not every valid answer has it.
    #[serde(default)]
    ip: Value,
    /// Absent is an error, `null` is "routed nowhere".
    #[serde(deserialize_with = "Option::deserialize")]
    active_server_ip: Option<String>,
}

/// Reads answers. None of the `secrets` appears in what it returns.
pub struct Reader<'a> {
    /// The failover IP that was asked about.
    pub ip: IpAddr,
    pub secrets: &'a [&'a str],
}

impl Reader<'_> {
    /// The answer to a switch to `target`. It is a success if a 200 names the target, or a 409 says that the IP is
    /// routed there already.
    pub fn switched(&self, answer: &Answer, target: IpAddr) -> Result<String, Failure> {
        if answer.status == 409
            && error_in(answer).is_some_and(|error| error.code == "FAILOVER_ALREADY_ROUTED")
        {
            return Ok("HTTP 409 FAILOVER_ALREADY_ROUTED".into());
        }
        let place = match self.route(answer)? {
            Some(address) if address == target => return Ok("HTTP 200".into()),
            Some(other) => format!("to {other}"),
            None => "nowhere (active_server_ip is null)".into(),
        };
        Err(Failure::new(Kind::NotDone, Stage::Host, format!("HTTP 200, but it is routed {place}")))
    }

    /// Where the IP is routed, as every successful answer says.
    pub fn route(&self, answer: &Answer) -> Result<Option<IpAddr>, Failure> {
        match answer.status {
            200 => self.read_route(&answer.body),
            300..=399 => Err(redirect(answer, self.secrets)),
            _ => Err(self.error(answer)),
        }
    }

    fn read_route(&self, body: &[u8]) -> Result<Option<IpAddr>, Failure> {
        let unknown = |what| Failure::new(Kind::Unknown, Stage::Host, format!("HTTP 200{what}"));
        let found: Option<Found> = read(body, "failover");
        let no_failover = || format!(" {}: no failover object with active_server_ip", describe(body));
        let failover = found.ok_or_else(|| unknown(no_failover()))?.failover;
        let about = failover.ip.as_str().and_then(|text| text.parse::<IpAddr>().ok());
        // An IPv6 failover IP is a net, and any address in it may name it.
        if let Some(other) = about.filter(|about| net(*about) != net(self.ip)) {
            let sentence = format!("HTTP 200, but the answer is about {other}, not {}: check url", self.ip);
            return Err(Failure::new(Kind::Final, Stage::Address, sentence));
        }
        let parse = |text: String| {
            let not_an_address =
                |_| format!(", but active_server_ip is \"{}\", not an IP address", self.shown(&text));
            text.parse().map_err(not_an_address).map_err(unknown)
        };
        failover.active_server_ip.map(parse).transpose()
    }

    /// What an answer with an error status means.
    fn error(&self, answer: &Answer) -> Failure {
        let error = error_in(answer);
        let code = error.as_ref().map_or("", |error| &error.code);
        let (kind, stage, advice) = meaning(answer.status, code);
        let what = error.as_ref().map_or_else(|| describe(&answer.body), |error| self.said(error));
        let colon = if advice.is_empty() { "" } else { ": " };
        Failure::new(kind, stage, format!("HTTP {} {what}{colon}{advice}", answer.status))
    }

    /// The error in the API's own words.
    fn said(&self, error: &ApiError) -> String {
        let list = |names: &Value| {
            let names = names.as_array().map(Vec::as_slice).unwrap_or_default();
            match names.iter().filter_map(Value::as_str).collect::<Vec<_>>() {
                names if names.is_empty() => "none".to_string(),
                names => self.shown(&names.join(", ")),
            }
        };
        let details = match (&*error.code, error.max_request.as_u64().zip(error.interval.as_u64())) {
            ("INVALID_INPUT", _) => {
                format!(" (missing: {}, invalid: {})", list(&error.missing), list(&error.invalid))
            }
            ("RATE_LIMIT_EXCEEDED", Some((requests, seconds))) => {
                format!(" ({requests} requests in {seconds} s)")
            }
            ("RATE_LIMIT_EXCEEDED", None) => " (requests per hour)".into(),
            _ => String::new(),
        };
        let message = self.shown(error.message.as_str().unwrap_or_default());
        format!("{} \"{message}\"{details}", self.shown(&error.code))
    }

    fn shown(&self, text: &str) -> String {
        printable(text, self.secrets)
    }
}
