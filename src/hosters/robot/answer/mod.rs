//! What the Robot API answers, and what that means for a takeover.
//!
//! Everything but a clear yes is a [`Refusal`] with a sentence of its own. Nothing here trusts the answer: it may be a
//! proxy's or a maintenance page.

#[cfg(any(test, feature = "fuzz"))]
pub mod properties;
mod refusal;
#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

pub use crate::https::Answer;
use crate::text::printable;
use refusal::Meaning;
pub use refusal::Refusal;

/// `{"failover": {...}}`. Source: Robot webservice documentation, "Failover".
#[derive(Deserialize)]
struct Found {
    failover: Failover,
}

#[derive(Deserialize)]
struct Failover {
    /// Which one it is about; not every answer that decides has to say it.
    #[serde(default)]
    ip: Value,
    /// Absent is an error, `null` is "routed nowhere".
    #[serde(deserialize_with = "Option::deserialize")]
    active_server_ip: Option<String>,
}

/// `{"error": {...}}`. Source: Robot webservice documentation, "Errors".
#[derive(Deserialize)]
struct Erroneous {
    error: ApiError,
}

/// Only the code decides: whatever else is not as documented counts as absent.
#[derive(Deserialize)]
struct ApiError {
    code: String,
    #[serde(default)]
    message: Value,
    /// With `INVALID_INPUT`: lists of names.
    #[serde(default)]
    missing: Value,
    #[serde(default)]
    invalid: Value,
    /// With `RATE_LIMIT_EXCEEDED`: so many requests ...
    #[serde(default)]
    max_request: Value,
    /// ... in so many seconds.
    #[serde(default)]
    interval: Value,
}

/// Reads `{"NAME": {...}}`.
fn read<T: DeserializeOwned>(body: &[u8], name: &str) -> Option<T> {
    // serde takes a list for a struct, field by field; only an object is meant.
    let value: Value = serde_json::from_slice(body).ok()?;
    value.as_object()?.get(name)?.as_object()?;
    // From the text again, since a Value has lost what is named twice.
    serde_json::from_slice(body).ok()
}

/// Reads answers. What it says of them holds none of the `secrets`.
pub struct Reader<'a> {
    /// The failover IP that was asked about.
    pub ip: IpAddr,
    pub secrets: &'a [&'a str],
}

impl Reader<'_> {
    /// The answer to a switch to `target`. Success, with what came back, is the target named by a 200, or a 409
    /// that it is routed there already.
    pub fn switched(&self, answer: &Answer, target: IpAddr) -> Result<String, Refusal> {
        if answer.status == 409
            && error_in(answer).is_some_and(|error| error.code == "FAILOVER_ALREADY_ROUTED")
        {
            return Ok("HTTP 409 FAILOVER_ALREADY_ROUTED".into());
        }
        match self.route(answer)? {
            Some(address) if address == target => Ok("HTTP 200".into()),
            other => Err(Refusal::NotThere(other)),
        }
    }

    /// Where the IP is routed, as every good answer says.
    pub fn route(&self, answer: &Answer) -> Result<Option<IpAddr>, Refusal> {
        match answer.status {
            200 => self.read_route(&answer.body),
            300..=399 => {
                let location = answer.location.as_deref().unwrap_or("nowhere");
                Err(Refusal::Redirect(answer.status, self.shown(location)))
            }
            status => Err(match error_in(answer) {
                None => Refusal::Status(status, describe(&answer.body), Meaning::of(status, "")),
                Some(error) => {
                    let message = self.shown(error.message.as_str().unwrap_or_default());
                    let what = format!("{} \"{message}\"", self.shown(&error.code));
                    Refusal::Status(status, what, self.meaning(status, &error))
                }
            }),
        }
    }

    fn read_route(&self, body: &[u8]) -> Result<Option<IpAddr>, Refusal> {
        let found: Option<Found> = read(body, "failover");
        let failover = found.ok_or_else(|| Refusal::NoFailover(describe(body)))?.failover;
        let about = failover.ip.as_str().and_then(|text| text.parse::<IpAddr>().ok());
        if let Some(named) = about.filter(|about| !is_same(*about, self.ip)) {
            return Err(Refusal::AnotherIp(named, self.ip));
        }
        let parse = |text: String| text.parse().map_err(|_| Refusal::NoAddress(self.shown(&text)));
        failover.active_server_ip.map(parse).transpose()
    }

    /// With what stands in the answer beside its code.
    fn meaning(&self, status: u16, error: &ApiError) -> Meaning {
        let list = |names: &Value| {
            let names = names.as_array().map(Vec::as_slice).unwrap_or_default();
            match names.iter().filter_map(Value::as_str).collect::<Vec<_>>() {
                names if names.is_empty() => "nothing".to_string(),
                names => self.shown(&names.join(", ")),
            }
        };
        match Meaning::of(status, &error.code) {
            Meaning::BadInput(_) => Meaning::BadInput([list(&error.missing), list(&error.invalid)]),
            Meaning::OverLimit(_) => {
                Meaning::OverLimit(error.max_request.as_u64().zip(error.interval.as_u64()))
            }
            other => other,
        }
    }

    fn shown(&self, text: &str) -> String {
        printable(text, self.secrets)
    }
}

/// How long the API will accept no more than a request now and then, if it says so.
pub fn rate_limited_for(answer: &Answer) -> Option<Duration> {
    let error = error_in(answer)?;
    let is_limited = matches!(Meaning::of(answer.status, &error.code), Meaning::OverLimit(_));
    // An hour is what is documented for every call that matters here; more than a day is no answer to go by.
    is_limited.then(|| Duration::from_secs(error.interval.as_u64().unwrap_or(3600).min(24 * 3600)))
}

fn error_in(answer: &Answer) -> Option<ApiError> {
    let Erroneous { error } = read(&answer.body, "error")?;
    (!error.code.is_empty()).then_some(error)
}

/// Whether both name one failover IP: of IPv6 it is a net, which any of its addresses may stand for.
fn is_same(a: IpAddr, b: IpAddr) -> bool {
    match (a, b) {
        (IpAddr::V6(a), IpAddr::V6(b)) => a.to_bits() >> 64 == b.to_bits() >> 64,
        _ => a == b,
    }
}

/// What a body is that is not what it should be, without showing it.
fn describe(body: &[u8]) -> String {
    let trimmed = body.trim_ascii_start();
    let kind = match trimmed {
        [] => return "with an empty body".into(),
        [b'<', ..] => "an HTML page",
        _ if serde_json::from_slice::<serde::de::IgnoredAny>(body).is_ok() => "other JSON",
        [b'{' | b'[', ..] => "truncated or broken JSON",
        _ => "a text that is no JSON",
    };
    format!("with {kind} ({} bytes)", body.len())
}
