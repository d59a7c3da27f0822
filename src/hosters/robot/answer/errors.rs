//! The Robot API's errors, and what each means for a takeover.

use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use super::Answer;
use crate::hosters::answer::read;
use crate::hosters::{Kind, Stage};

/// `{"error": {...}}`. Source: Robot webservice documentation, "Errors".
#[derive(Deserialize)]
struct Erroneous {
    error: ApiError,
}

/// Only the code decides. Anything else that is not as documented is treated as absent.
#[derive(Deserialize)]
pub struct ApiError {
    pub code: String,
    #[serde(default)]
    pub message: Value,
    /// With `INVALID_INPUT`: lists of names.
    #[serde(default)]
    pub missing: Value,
    #[serde(default)]
    pub invalid: Value,
    /// With `RATE_LIMIT_EXCEEDED`: this many requests are allowed ...
    #[serde(default)]
    pub max_request: Value,
    /// ... in this many seconds.
    #[serde(default)]
    pub interval: Value,
}

pub fn error_in(answer: &Answer) -> Option<ApiError> {
    let Erroneous { error } = read(&answer.body, "error")?;
    (!error.code.is_empty()).then_some(error)
}

/// What a status and a code mean; an answer without a code has an empty one. Source: Robot webservice documentation,
/// "Errors" and "Failover".
pub fn meaning(status: u16, code: &str) -> (Kind, Stage, &'static str) {
    use Kind::{Final, HeldBack, Locked, NotDone, Refused, Unknown};
    use Stage::{Address, Host, Login};
    match (status, code) {
        (400, "INVALID_INPUT") => (Final, Address, "check ip and active_ip"),
        (400, _) => (Final, Host, "check ip and active_ip"),
        (401, _) => (
            Final,
            Login,
            "the login was rejected: check username and password (three rejections lock this address out for 10 minutes)",
        ),
        (403, "RATE_LIMIT_EXCEEDED") => (HeldBack, Host, "the account's limit is used up"),
        (403, _) => (
            Refused,
            Host,
            "this address or user is not allowed, or is locked out: asking again makes it worse",
        ),
        (404, "FAILOVER_NEW_SERVER_NOT_FOUND") => {
            (Final, Address, "this account has no such server: check active_ip")
        }
        (404, _) => (Final, Address, "this account has no such failover IP: check ip and username"),
        (409, "FAILOVER_LOCKED") => {
            (Locked, Host, "another switch of this IP is under way; its destination is unknown")
        }
        (500, "FAILOVER_FAILED") => (NotDone, Host, "the switch failed"),
        (500, "FAILOVER_NOT_COMPLETE") => {
            (NotDone, Host, "the switch stopped half way; the route of the IP is unknown")
        }
        (503, _) => (NotDone, Host, "maintenance"),
        // Perhaps from a gateway that timed out, while the API carries on.
        (_, "") => (Unknown, Host, ""),
        _ => (NotDone, Host, "not a documented answer"),
    }
}

/// How long the API will refuse requests that exceed a limit, if that is what it says.
pub fn rate_limited_for(answer: &Answer) -> Option<Duration> {
    let error = error_in(answer)?;
    let is_limited = meaning(answer.status, &error.code).0 == Kind::HeldBack;
    // An hour is documented for every call that is used here. More than a day is not plausible.
    is_limited.then(|| Duration::from_secs(error.interval.as_u64().unwrap_or(3600).min(24 * 3600)))
}
