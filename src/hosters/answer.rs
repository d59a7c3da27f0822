//! What the answers of all hosters have in common.

use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::Value;

use super::{Failure, Kind, Stage};
use crate::https::{self, Answer};
use crate::text::printable;

/// Reads `{"NAME": {...}}`.
pub fn read<T: DeserializeOwned>(body: &[u8], name: &str) -> Option<T> {
    // serde also accepts a list for a struct, field by field; only an object is valid here.
    let value: Value = serde_json::from_slice(body).ok()?;
    value.as_object()?.get(name)?.as_object()?;
    // From the text again, because a Value no longer shows that a name was given twice.
    serde_json::from_slice(body).ok()
}

/// A redirect, which is an answer like any other.
pub fn redirect(answer: &Answer, secrets: &[&str]) -> Failure {
    let location = printable(answer.location.as_deref().unwrap_or("nowhere"), secrets);
    let why = "not followed, because the login is only for the configured host; check url";
    let sentence = format!("HTTP {}, a redirect to {location}: {why}", answer.status);
    Failure::new(Kind::Final, Stage::Host, sentence)
}

/// What the body is, without showing it.
pub fn describe(body: &[u8]) -> String {
    let kind = match body.trim_ascii_start() {
        [] => return "with an empty body".into(),
        [b'<', ..] => "an HTML page",
        _ if serde_json::from_slice::<IgnoredAny>(body).is_ok() => "other JSON",
        [b'{' | b'[', ..] => "truncated or broken JSON",
        _ => "text that is not JSON",
    };
    format!("with {kind} ({} bytes)", body.len())
}

/// What a request without a complete answer means.
pub fn failure(error: https::Error) -> Failure {
    let (kind, stage) =
        if error.is_sent { (Kind::Unknown, Stage::Host) } else { (Kind::NotSent, Stage::Way) };
    let kind = if error.is_permanent() { Kind::Final } else { kind };
    Failure::new(kind, stage, error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_that_was_sent_may_have_been_carried_out() {
        use https::Cause;
        for (cause, is_sent, expected) in [
            (Cause::Other("network unreachable".into()), false, (Kind::NotSent, Stage::Way)),
            // A connection ends like this when the host goes away before it answers.
            (Cause::Other("network unreachable".into()), true, (Kind::Unknown, Stage::Host)),
            (Cause::Tls("of an answer".into()), true, (Kind::Unknown, Stage::Host)),
            (Cause::Setup("no CA".into()), false, (Kind::Final, Stage::Way)),
        ] {
            let failure = failure(https::Error { cause, is_sent, host: "HOST".into() });
            assert_eq!((failure.kind, failure.stage), expected, "{}", failure.sentence);
        }
    }
}
