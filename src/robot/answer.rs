//! What the Robot API answers, and what that means for a switch.
//!
//! Everything but a clear yes is a failure with a sentence of its own. Nothing here trusts the answer: it
//! may be a proxy's or a maintenance page.

use std::net::IpAddr;

use serde::Deserialize;

use crate::hoster::{Failure, Route};
use crate::text::printable;

/// Status and body of an answer, as it came.
pub struct Answer {
    pub status: u16,
    /// Where a redirect leads.
    pub location: Option<String>,
    pub body: Vec<u8>,
}

/// `{"failover": {...}}`. Source: Robot webservice documentation, "POST /failover/{failover-ip}".
#[derive(Deserialize)]
struct Switched {
    failover: Failover,
}

#[derive(Deserialize)]
struct Failover {
    /// Absent is an error, `null` is "routed nowhere".
    #[serde(deserialize_with = "Option::deserialize")]
    active_server_ip: Option<String>,
}

/// `{"error": {...}}`. Source: Robot webservice documentation, "Errors".
#[derive(Deserialize)]
struct Refused {
    error: ApiError,
}

#[derive(Deserialize)]
struct ApiError {
    code: String,
    #[serde(default)]
    message: Option<String>,
    /// With `INVALID_INPUT`.
    #[serde(default)]
    missing: Option<Vec<String>>,
    #[serde(default)]
    invalid: Option<Vec<String>>,
    /// With `RATE_LIMIT_EXCEEDED`: so many requests ...
    #[serde(default)]
    max_request: Option<u64>,
    /// ... in so many seconds.
    #[serde(default)]
    interval: Option<u64>,
}

/// A switch that was asked for, to hold the answer against.
pub struct Switch<'a> {
    pub target: IpAddr,
    /// Struck out of whatever the API says.
    pub secrets: &'a [&'a str],
}

impl Switch<'_> {
    /// Success, with what came back, is the target named by a 200, or a 409 that it is routed there already.
    pub fn verdict(&self, answer: &Answer) -> Result<String, Failure> {
        let status = answer.status;
        match status {
            200 => self.routed(&answer.body),
            300..=399 => Err(self.redirected(answer)),
            _ => match serde_json::from_slice::<Refused>(&answer.body) {
                Ok(Refused { error }) if status == 409 && error.code == "FAILOVER_ALREADY_ROUTED" => {
                    Ok(format!("HTTP {status} {}", error.code))
                }
                Ok(Refused { error }) => Err(self.refused(status, &error)),
                Err(_) => Err(Failure::new(format!("HTTP {status} with {}", describe(&answer.body)))),
            },
        }
    }

    fn routed(&self, body: &[u8]) -> Result<String, Failure> {
        let Ok(Switched { failover }) = serde_json::from_slice(body) else {
            return Err(Failure::new(format!(
                "HTTP 200 with {}: no failover object that names active_server_ip",
                describe(body)
            )));
        };
        match self.read_route(failover.active_server_ip) {
            Ok(Some(address)) if address == self.target => Ok("HTTP 200".into()),
            Ok(Some(other)) => Err(Failure::new(format!("HTTP 200, but it is routed to {other}"))),
            Ok(None) => Err(Failure::new("HTTP 200, but it is routed nowhere (active_server_ip is null)")),
            Err(text) => {
                Err(Failure::new(format!("HTTP 200, but active_server_ip is \"{text}\", no address")))
            }
        }
    }

    fn read_route(&self, active_server_ip: Option<String>) -> Result<Route, String> {
        active_server_ip.map(|text| text.parse().map_err(|_| printable(&text, self.secrets))).transpose()
    }

    fn redirected(&self, answer: &Answer) -> Failure {
        let location = answer.location.as_deref().unwrap_or("nowhere");
        Failure::new(format!(
            "HTTP {}, a redirect to {}: never followed, since the login is for the configured host alone; \
             check url",
            answer.status,
            printable(location, self.secrets)
        ))
    }

    fn refused(&self, status: u16, error: &ApiError) -> Failure {
        let code = printable(&error.code, self.secrets);
        let message = printable(error.message.as_deref().unwrap_or_default(), self.secrets);
        let advice = self.advice(status, error);
        Failure::new(format!("HTTP {status} {code} \"{message}\"{advice}"))
    }

    /// What a documented code means here and what to do. Source: Robot webservice documentation, "Errors"
    /// and "Failover".
    fn advice(&self, status: u16, error: &ApiError) -> String {
        let target = self.target;
        let text = match (status, error.code.as_str()) {
            (400, "INVALID_INPUT") => {
                let list = |names: &Option<Vec<String>>| match names.as_deref() {
                    None | Some([]) => "nothing".to_string(),
                    Some(names) => printable(&names.join(", "), self.secrets),
                };
                let (missing, invalid) = (list(&error.missing), list(&error.invalid));
                return format!(": missing {missing}, invalid {invalid}; check ip and active_ip");
            }
            (401, _) => {
                "the login was rejected: check username and password (three rejections lock this address out \
                 for 10 minutes)"
            }
            (403, "RATE_LIMIT_EXCEEDED") => {
                let limit = match (error.max_request, error.interval) {
                    (Some(requests), Some(seconds)) => format!("{requests} requests in {seconds} s"),
                    _ => "an hour's requests".into(),
                };
                return format!(": the account's limit of {limit} is used up");
            }
            (403, _) => "this address or user is not allowed, or locked out: asking again makes it worse",
            (404, "NOT_FOUND") => "this account has no such failover IP: check ip and username",
            (404, "FAILOVER_NEW_SERVER_NOT_FOUND") => {
                return format!(": {target} is no server of this account: check active_ip");
            }
            (409, "FAILOVER_LOCKED") => "another switch of this IP is under way, where it ends is unknown",
            (500, "FAILOVER_FAILED") => "the switch failed",
            (500, "FAILOVER_NOT_COMPLETE") => "the switch stopped half way, where the IP is now is unknown",
            (503, _) => "maintenance",
            _ => "not a documented answer",
        };
        format!(": {text}")
    }
}

/// What a body is that is not what it should be, without showing it.
fn describe(body: &[u8]) -> String {
    let trimmed = body.trim_ascii_start();
    let kind = match trimmed {
        [] => return "an empty body".into(),
        [b'<', ..] => "an HTML page",
        _ if serde_json::from_slice::<serde::de::IgnoredAny>(body).is_ok() => "other JSON",
        [b'{' | b'[', ..] => "truncated or broken JSON",
        _ => "a text that is no JSON",
    };
    format!("{kind} ({} bytes)", body.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(status: u16, body: &str) -> Result<String, String> {
        let switch = Switch { target: "1.1.1.1".parse().unwrap(), secrets: &["hunter2"] };
        let answer = Answer { status, location: None, body: body.into() };
        switch.verdict(&answer).map_err(|failure| failure.sentence)
    }

    #[track_caller]
    fn check(status: u16, body: &str, expected: Result<&str, &str>) {
        assert_eq!(
            verdict(status, body),
            expected.map(str::to_string).map_err(str::to_string),
            "{status} {body}"
        );
    }

    fn object(active_server_ip: &str) -> String {
        format!(
            r#"{{"failover":{{"ip":"4.4.4.4","netmask":"255.255.255.255","server_ip":"2.2.2.2",
            "server_ipv6_net":"2a01:4f8:111:4221::","server_number":321,"active_server_ip":{active_server_ip},
            "added_later":[{{}}]}}}}"#
        )
    }

    fn error(status: u16, code: &str, more: &str) -> String {
        format!(r#"{{"error":{{"status":{status},"code":"{code}","message":"a message"{more}}}}}"#)
    }

    #[test]
    fn success_is_the_target_and_nothing_else() {
        check(200, &object(r#""1.1.1.1""#), Ok("HTTP 200"));
        check(200, r#"{"failover":{"active_server_ip":"1.1.1.1"}}"#, Ok("HTTP 200"));
        check(409, &error(409, "FAILOVER_ALREADY_ROUTED", ""), Ok("HTTP 409 FAILOVER_ALREADY_ROUTED"));
        check(200, &object(r#""2.2.2.2""#), Err("HTTP 200, but it is routed to 2.2.2.2"));
        check(200, &object("null"), Err("HTTP 200, but it is routed nowhere (active_server_ip is null)"));
        check(200, &object(r#""hunter2\n""#), Err(r#"HTTP 200, but active_server_ip is "***?", no address"#));
    }

    #[test]
    fn compares_addresses_not_strings() {
        let target = "2a01:4f8:0:5176::".parse().unwrap();
        let body = r#"{"failover":{"active_server_ip":"2A01:04F8:0000:5176:0:0:0:0"}}"#;
        let answer = Answer { status: 200, location: None, body: body.into() };
        assert_eq!(Switch { target, secrets: &[] }.verdict(&answer), Ok("HTTP 200".into()));
    }

    #[test]
    fn a_200_without_a_failover_object_is_no_success() {
        for (body, what) in [
            ("", "an empty body"),
            (" <html>maintenance</html>", "an HTML page (25 bytes)"),
            (r#"{"failover":{"active_server_ip":"1.1"#, "truncated or broken JSON (36 bytes)"),
            (r#"{"failover":{}}"#, "other JSON (15 bytes)"),
            (r#"{"failover":{"active_server_ip":16843009}}"#, "other JSON (42 bytes)"),
            (
                r#"{"failover":{"active_server_ip":"2.2.2.2","active_server_ip":"1.1.1.1"}}"#,
                "other JSON (72 bytes)",
            ),
            ("[]", "other JSON (2 bytes)"),
            ("ok", "a text that is no JSON (2 bytes)"),
        ] {
            let expected = format!("HTTP 200 with {what}: no failover object that names active_server_ip");
            check(200, body, Err(&expected));
        }
        let deep = "[".repeat(100_000);
        assert!(verdict(200, &deep).is_err());
    }

    #[test]
    fn every_documented_code_has_its_sentence() {
        let locked_out = "this address or user is not allowed, or locked out: asking again makes it worse";
        let login = "the login was rejected: check username and password (three rejections lock this address \
                     out for 10 minutes)";
        for (status, code, more, advice) in [
            (400, "INVALID_INPUT", "", "missing nothing, invalid nothing; check ip and active_ip"),
            (
                400,
                "INVALID_INPUT",
                r#","missing":["active_server_ip"],"invalid":null"#,
                "missing active_server_ip, invalid nothing; check ip and active_ip",
            ),
            (401, "UNAUTHORIZED", "", login),
            (
                403,
                "RATE_LIMIT_EXCEEDED",
                r#","max_request":50,"interval":3600"#,
                "the account's limit of 50 requests in 3600 s is used up",
            ),
            (403, "RATE_LIMIT_EXCEEDED", "", "the account's limit of an hour's requests is used up"),
            (403, "FORBIDDEN", "", locked_out),
            (404, "NOT_FOUND", "", "this account has no such failover IP: check ip and username"),
            (
                404,
                "FAILOVER_NEW_SERVER_NOT_FOUND",
                "",
                "1.1.1.1 is no server of this account: check active_ip",
            ),
            (409, "FAILOVER_LOCKED", "", "another switch of this IP is under way, where it ends is unknown"),
            (500, "FAILOVER_FAILED", "", "the switch failed"),
            (500, "FAILOVER_NOT_COMPLETE", "", "the switch stopped half way, where the IP is now is unknown"),
            (503, "MAINTENANCE", "", "maintenance"),
            (409, "CONFLICT", "", "not a documented answer"),
            (418, "TEAPOT", "", "not a documented answer"),
        ] {
            let expected = format!("HTTP {status} {code} \"a message\": {advice}");
            check(status, &error(status, code, more), Err(&expected));
        }
    }

    #[test]
    fn an_error_that_is_no_json_is_described_not_shown() {
        check(503, "<html>hunter2</html>", Err("HTTP 503 with an HTML page (20 bytes)"));
        check(502, "", Err("HTTP 502 with an empty body"));
        check(409, "FAILOVER_ALREADY_ROUTED", Err("HTTP 409 with a text that is no JSON (23 bytes)"));
        check(204, "", Err("HTTP 204 with an empty body"));
    }

    #[test]
    fn a_redirect_is_named_and_not_followed() {
        let switch = Switch { target: "1.1.1.1".parse().unwrap(), secrets: &["hunter2"] };
        let location = Some("http://other/?p=hunter2".to_string());
        let failure = switch.verdict(&Answer { status: 302, location, body: vec![] }).unwrap_err();
        assert!(failure.sentence.starts_with("HTTP 302, a redirect to http://other/?p=***: never followed"));
    }

    #[test]
    fn a_long_message_is_cut() {
        let body = error(500, "X", "").replace("a message", &"y".repeat(500));
        let sentence = verdict(500, &body).unwrap_err();
        assert!(sentence.contains(&format!("\"{}\"", "y".repeat(200))), "{sentence}");
    }
}
