//! What Robot says: the documented errors, with the fields that the documentation promises for each.

use serde_json::{Map, Value, json};

use crate::standin::Answer;

/// The error codes of the documentation, and three answers it describes without naming a code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    InvalidInput,
    Unauthorized,
    RateLimitExceeded,
    /// Undocumented name: a 403 that is not the rate limit (locked out, banned, not allowed).
    Forbidden,
    NotFound,
    FailoverNewServerNotFound,
    /// Undocumented name: a method that the resource does not know.
    MethodNotAllowed,
    FailoverAlreadyRouted,
    FailoverLocked,
    FailoverFailed,
    FailoverNotComplete,
    /// Not JSON at all: a 503 with the HTML of a maintenance page.
    Maintenance,
}

const ERRORS: [(Code, u16, &str, &str); 12] = [
    (Code::InvalidInput, 400, "INVALID_INPUT", "invalid input"),
    (Code::Unauthorized, 401, "UNAUTHORIZED", "Unauthorized"),
    (Code::RateLimitExceeded, 403, "RATE_LIMIT_EXCEEDED", "rate limit exceeded"),
    (Code::Forbidden, 403, "FORBIDDEN", "access denied"),
    (Code::NotFound, 404, "NOT_FOUND", "No failover IP with this address found"),
    (Code::FailoverNewServerNotFound, 404, "FAILOVER_NEW_SERVER_NOT_FOUND", "new server not found"),
    (Code::MethodNotAllowed, 405, "METHOD_NOT_ALLOWED", "method not allowed"),
    (Code::FailoverAlreadyRouted, 409, "FAILOVER_ALREADY_ROUTED", "already routed to this server"),
    (Code::FailoverLocked, 409, "FAILOVER_LOCKED", "failover IP is locked by another switch"),
    (Code::FailoverFailed, 500, "FAILOVER_FAILED", "the switch failed"),
    (Code::FailoverNotComplete, 500, "FAILOVER_NOT_COMPLETE", "the switch could not be completed"),
    (Code::Maintenance, 503, "MAINTENANCE", "maintenance"),
];

impl Code {
    fn row(self) -> &'static (Code, u16, &'static str, &'static str) {
        ERRORS.iter().find(|row| row.0 == self).expect("every code has a row")
    }

    /// The name as it stands in an answer's `code`.
    pub fn name(self) -> &'static str {
        self.row().2
    }

    /// The code of that name; upper and lower case are the same.
    pub fn find(name: &str) -> Option<Code> {
        ERRORS.iter().find(|row| row.2.eq_ignore_ascii_case(name)).map(|row| row.0)
    }

    /// All names, for a message that says what was expected.
    pub fn names() -> String {
        ERRORS.map(|row| row.2).join(", ")
    }
}

/// A documented error.
pub fn error(code: Code) -> Answer {
    match code {
        Code::InvalidInput => invalid_input(None, None),
        Code::RateLimitExceeded => rate_limit_exceeded(100, 3600),
        Code::Maintenance => Answer::html(503),
        _ => error_with(code, []),
    }
}

/// 400, naming the parameters that are missing, or those that are wrong.
pub fn invalid_input(missing: Option<&str>, invalid: Option<&str>) -> Answer {
    let names = |name: Option<&str>| name.map_or(Value::Null, |name| json!([name]));
    error_with(Code::InvalidInput, [("missing", names(missing)), ("invalid", names(invalid))])
}

/// 403 for the hourly limit.
pub fn rate_limit_exceeded(max_request: u32, interval: u64) -> Answer {
    let fields = [("max_request", json!(max_request)), ("interval", json!(interval))];
    error_with(Code::RateLimitExceeded, fields)
}

fn error_with<const N: usize>(code: Code, fields: [(&str, Value); N]) -> Answer {
    let &(_, status, name, message) = code.row();
    let mut error = Map::new();
    error.insert("status".into(), json!(status));
    error.insert("code".into(), json!(name));
    error.insert("message".into(), json!(message));
    error.extend(fields.map(|(key, value)| (key.to_owned(), value)));
    Answer { code: Some(name.to_owned()), ..Answer::json(status, &json!({ "error": error })) }
}
