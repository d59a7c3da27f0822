//! What the answers of all hosters have in common.

use std::fmt;

use serde::de::{DeserializeOwned, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

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

/// Reads JSON in which no name is given twice: an answer that says two things says nothing.
pub fn read_strictly(body: &[u8]) -> Option<Value> {
    let Strict(value) = serde_json::from_slice(body).ok()?;
    Some(value)
}

struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Strict, D::Error> {
        deserializer.deserialize_any(Strictly).map(Strict)
    }
}

struct Strictly;

impl<'de> Visitor<'de> for Strictly {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("JSON without a name that is given twice")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(Strict(value)) = items.next_element()? {
            list.push(value);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some((name, Strict(value))) = items.next_entry::<String, Strict>()? {
            if map.insert(name, value).is_some() {
                return Err(A::Error::custom("a name is given twice"));
            }
        }
        Ok(Value::Object(map))
    }
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
    fn json_is_read_as_it_is_unless_it_says_two_things() {
        for text in [
            r#"{"a":[null,true,-1,18446744073709551615,0.5,"x",{}],"b":{"a":1}}"#,
            "[]",
            "\"\\u00fc\"",
            "null",
        ] {
            assert_eq!(read_strictly(text.as_bytes()), serde_json::from_str(text).ok(), "{text}");
        }
        for text in [r#"{"a":1,"a":1}"#, r#"[{"b":{"a":1,"\u0061":2}}]"#, "", "{", "[1] 2", "1e999"] {
            assert_eq!(read_strictly(text.as_bytes()), None, "{text}");
        }
    }

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
