//! The Cloud API's errors, and what each means for a takeover.

use crate::hosters::answer::read_strictly;
use crate::hosters::{Kind, Stage};
use crate::https::Answer;

/// The IP is assigned already.
pub const ALREADY: &str = "floating_ip_assigned";

/// `{"error": {...}}`. Source: Hetzner Cloud API, "Errors". Only the code decides; anything else that is not as documented is
/// treated as absent.
pub struct ApiError {
    pub code: String,
    pub message: String,
    /// With `invalid_input`: the names of the fields that the API finds fault with.
    pub fields: Vec<String>,
}

pub fn error_in(answer: &Answer) -> Option<ApiError> {
    let value = read_strictly(&answer.body)?;
    let error = &value["error"];
    let code = error["code"].as_str().filter(|code| !code.is_empty())?.to_string();
    let message = error["message"].as_str().unwrap_or_default().to_string();
    let fields = error["details"]["fields"].as_array().map(Vec::as_slice).unwrap_or_default();
    let fields = fields.iter().filter_map(|field| field["name"].as_str().map(String::from)).collect();
    Some(ApiError { code, message, fields })
}

/// What a status and a code mean; an answer without a code has an empty one. Source: Hetzner Cloud API, "Errors" and
/// "Floating IP Actions".
pub fn meaning(status: u16, code: &str) -> (Kind, Stage, &'static str) {
    use Kind::{Final, Locked, NotDone, NotSent, Unknown};
    use Stage::{Address, Host, Login};
    match (status, code) {
        (401 | 403, "token_readonly") => {
            (Final, Login, "the token may only read: it needs the permission Read & Write")
        }
        (401, _) => (Final, Login, "the token was rejected: check token"),
        (403, "maintenance") => (NotDone, Host, "maintenance"),
        (403, "resource_limit_exceeded") => (Final, Host, "a limit of the account is reached"),
        (403, "forbidden") => (Final, Login, "the token may not do this: check of which Project it is"),
        (404, "not_found") => (
            Final,
            Address,
            "the token's Project has no such floating IP or server: check floating_ip, server and token",
        ),
        (404, "") => (Final, Host, "there is no such API: check url"),
        (409, "conflict") => (NotDone, Host, "something else was changed at the same time"),
        (412, "resource_unavailable") => (NotDone, Host, "not possible for now"),
        (422, "service_error") => (NotDone, Host, "a part of the API has failed"),
        (422, "invalid_input") => (Final, Address, "check floating_ip and server"),
        (422, "unsupported_error") => (Final, Address, "this server cannot have this floating IP"),
        (423, "locked") => {
            (Locked, Host, "another action on this IP or server is under way; its outcome is unknown")
        }
        (423, "protected" | "resource_locked") => {
            (Final, Host, "it is protected or locked by Hetzner: see the Cloud Console")
        }
        (429, _) => (
            NotSent,
            Host,
            "the Project's requests are used up, by whatever uses its tokens; nothing was done",
        ),
        (400 | 405 | 410 | 422, _) if !code.is_empty() => (
            Final,
            Host,
            "the API does not accept such a request: check url, or whether there is a newer version",
        ),
        (400 | 405 | 410, _) => (Final, Host, "this is not what the API says: check url"),
        (503, "unavailable") => (NotDone, Host, "the API is not available for now"),
        // It may have been carried out.
        (502 | 504, _) => (Unknown, Host, ""),
        (500, _) if !code.is_empty() => (NotDone, Host, "the API has failed"),
        // Perhaps from a gateway that timed out, while the API carries on.
        (_, "") => (Unknown, Host, ""),
        (300.., _) => (NotDone, Host, "not a documented answer"),
        _ => (Unknown, Host, "not a documented answer"),
    }
}
