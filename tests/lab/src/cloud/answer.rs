//! What the Cloud API says: the documented errors.

use serde_json::{Value, json};

use crate::standin::Answer;

/// Code, status and message. Where the documentation gives a code more than one status, the likelier one stands here, and
/// `raw` plays the other.
const ERRORS: [(&str, u16, &str); 20] = [
    ("json_error", 400, "invalid JSON in the body of the request"),
    ("unauthorized", 401, "unable to authenticate"),
    ("token_readonly", 403, "the token is only allowed to perform GET requests"),
    ("forbidden", 403, "insufficient permissions for this request"),
    ("resource_limit_exceeded", 403, "the limit of this resource is exceeded"),
    ("maintenance", 403, "cannot perform this operation due to maintenance"),
    ("not_found", 404, "the resource was not found"),
    ("method_not_allowed", 405, "this method is not allowed here"),
    ("conflict", 409, "the resource has changed during the request, please retry"),
    ("deprecated_api_endpoint", 410, "this endpoint is gone"),
    ("resource_unavailable", 412, "the resource is unavailable at the moment"),
    ("invalid_input", 422, "invalid input"),
    ("unsupported_error", 422, "the resource does not support this action"),
    ("service_error", 422, "an error within a service has occurred"),
    ("floating_ip_assigned", 422, "the floating IP is already assigned"),
    ("locked", 423, "the resource is locked by an action that is running"),
    ("protected", 423, "the resource is protected against this action"),
    ("resource_locked", 423, "the resource is locked, contact support"),
    ("rate_limit_exceeded", 429, "the limit of requests per hour is reached"),
    ("unavailable", 503, "the service is unavailable at the moment"),
];

/// Codes whose status is that of what failed behind the API.
const MORE: [(&str, u16, &str); 2] = [
    ("server_error", 500, "an error within the API has occurred"),
    ("timeout", 504, "the request took too long"),
];

fn all() -> impl Iterator<Item = &'static (&'static str, u16, &'static str)> {
    ERRORS.iter().chain(&MORE)
}

/// The names of all codes, for a message that says what was expected.
pub fn names() -> String {
    all().map(|(name, ..)| *name).collect::<Vec<_>>().join(", ")
}

/// The documented error of that name; upper and lower case are the same.
pub fn find(name: &str) -> Option<Answer> {
    let row = all().find(|(known, ..)| known.eq_ignore_ascii_case(name))?;
    Some(error_with(row, row.2, Value::Null))
}

/// One that this file has.
pub fn error(name: &str) -> Answer {
    find(name).expect("a documented error")
}

/// 404, with what there is not.
pub fn not_found(what: &str) -> Answer {
    let row = all().find(|(name, ..)| *name == "not_found").expect("it is one");
    error_with(row, &format!("{what} not found"), Value::Null)
}

/// 422, with the field that is wrong.
pub fn invalid_input(field: &str, why: &str) -> Answer {
    let row = all().find(|(name, ..)| *name == "invalid_input").expect("it is one");
    let details = json!({ "fields": [{ "name": field, "messages": [why] }] });
    error_with(row, &format!("invalid input in field '{field}'"), details)
}

fn error_with(&(name, status, _): &(&str, u16, &str), message: &str, details: Value) -> Answer {
    let body = json!({ "error": { "code": name, "message": message, "details": details } });
    Answer { code: Some(name.to_owned()), ..Answer::json(status, &body) }
}
