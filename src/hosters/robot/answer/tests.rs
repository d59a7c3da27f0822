//! Single answers: what each means, and its sentence.

use std::time::Duration;

use super::*;
use crate::hosters::{Kind, Stage};

const READER: Reader<'_> =
    Reader { ip: IpAddr::V4(std::net::Ipv4Addr::new(4, 4, 4, 4)), secrets: &["hunter2"] };

fn answer(status: u16, body: &str) -> Answer {
    Answer { status, location: None, body: body.into() }
}

fn verdict(status: u16, body: &str) -> Result<String, String> {
    let verdict = READER.switched(&answer(status, body), "1.1.1.1".parse().unwrap());
    verdict.map_err(|failure| failure.sentence)
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
    let not_an_address = r#"HTTP 200, but active_server_ip is "***?", not an IP address"#;
    check(200, &object(r#""hunter2\n""#), Err(not_an_address));
}

#[test]
fn compares_addresses_not_strings() {
    let target = "2a01:4f8:0:5176::".parse().unwrap();
    let body = r#"{"failover":{"active_server_ip":"2A01:04F8:0000:5176:0:0:0:0"}}"#;
    assert_eq!(READER.switched(&answer(200, body), target), Ok("HTTP 200".into()));
}

#[test]
fn a_200_without_a_failover_object_is_not_a_success() {
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
        (r#"{"failover":["4.4.4.4","1.1.1.1"]}"#, "other JSON (34 bytes)"),
        (r#"[["4.4.4.4","1.1.1.1"]]"#, "other JSON (23 bytes)"),
        ("ok", "text that is not JSON (2 bytes)"),
    ] {
        let expected = format!("HTTP 200 with {what}: no failover object with active_server_ip");
        check(200, body, Err(&expected));
    }
    let deep = "[".repeat(100_000);
    assert!(verdict(200, &deep).is_err());
}

#[test]
fn every_documented_code_has_its_sentence() {
    let locked_out = ": this address or user is not allowed, or is locked out: asking again makes it worse";
    let login = ": the login was rejected: check username and password (three rejections lock this address out for 10 \
                 minutes)";
    let locked = ": another switch of this IP is under way; its destination is unknown";
    let missing = r#","missing":["active_server_ip"],"invalid":null"#;
    let limit = r#","max_request":50,"interval":3600"#;
    for (status, code, more, said) in [
        (400, "INVALID_INPUT", "", " (missing: none, invalid: none): check ip and active_ip"),
        (
            400,
            "INVALID_INPUT",
            missing,
            " (missing: active_server_ip, invalid: none): check ip and active_ip",
        ),
        (401, "UNAUTHORIZED", "", login),
        (403, "RATE_LIMIT_EXCEEDED", limit, " (50 requests in 3600 s): the account's limit is used up"),
        (403, "RATE_LIMIT_EXCEEDED", "", " (requests per hour): the account's limit is used up"),
        (403, "FORBIDDEN", "", locked_out),
        (404, "NOT_FOUND", "", ": this account has no such failover IP: check ip and username"),
        (404, "FAILOVER_NEW_SERVER_NOT_FOUND", "", ": this account has no such server: check active_ip"),
        (409, "FAILOVER_LOCKED", "", locked),
        (500, "FAILOVER_FAILED", "", ": the switch failed"),
        (500, "FAILOVER_NOT_COMPLETE", "", ": the switch stopped half way; the route of the IP is unknown"),
        (503, "MAINTENANCE", "", ": maintenance"),
        (409, "CONFLICT", "", ": not a documented answer"),
        (418, "TEAPOT", "", ": not a documented answer"),
    ] {
        let expected = format!("HTTP {status} {code} \"a message\"{said}");
        check(status, &error(status, code, more), Err(&expected));
    }
}

#[test]
fn an_error_that_is_not_json_is_described_not_shown() {
    check(503, "<html>hunter2</html>", Err("HTTP 503 with an HTML page (20 bytes): maintenance"));
    check(502, "", Err("HTTP 502 with an empty body"));
    check(409, "FAILOVER_ALREADY_ROUTED", Err("HTTP 409 with text that is not JSON (23 bytes)"));
    check(204, "", Err("HTTP 204 with an empty body"));
}

#[test]
fn a_redirect_is_named_and_not_followed() {
    let location = Some("http://other/?p=hunter2".to_string());
    let failure = READER.route(&Answer { status: 302, location, body: vec![] }).unwrap_err();
    assert_eq!(failure.kind, Kind::Final);
    assert!(failure.sentence.starts_with("HTTP 302, a redirect to http://other/?p=***: not followed"));
}

/// Decides which request comes next, and what `--hetzner-check` says.
#[test]
fn every_answer_has_its_kind_and_says_how_far_the_request_came() {
    let of = |failure: Failure| (failure.kind, failure.stage);
    let means = |status, body: &str| of(READER.route(&answer(status, body)).unwrap_err());
    for (kind, stage, cases) in [
        (Kind::Final, Stage::Address, &[(400, "INVALID_INPUT"), (404, "NOT_FOUND"), (404, "")][..]),
        (Kind::Final, Stage::Address, &[(404, "FAILOVER_NEW_SERVER_NOT_FOUND")]),
        (Kind::Final, Stage::Login, &[(401, "UNAUTHORIZED"), (401, "")]),
        (Kind::Final, Stage::Host, &[(400, "X"), (400, ""), (302, "")]),
        (Kind::Refused, Stage::Host, &[(403, "X"), (403, "")]),
        (Kind::HeldBack, Stage::Host, &[(403, "RATE_LIMIT_EXCEEDED")]),
        (Kind::Locked, Stage::Host, &[(409, "FAILOVER_LOCKED")]),
        (Kind::NotDone, Stage::Host, &[(500, "FAILOVER_FAILED"), (500, "FAILOVER_NOT_COMPLETE")]),
        (Kind::NotDone, Stage::Host, &[(503, ""), (503, "X"), (409, "X"), (418, "X")]),
        (Kind::Unknown, Stage::Host, &[(409, ""), (500, ""), (502, ""), (504, ""), (204, "")]),
    ] {
        for (status, code) in cases {
            let body = if code.is_empty() { String::new() } else { error(*status, code, "") };
            assert_eq!(means(*status, &body), (kind, stage), "{status} {code}");
        }
    }
    for body in ["", "<html>", r#"{"failover":{}}"#, &object("\"x\"")] {
        assert_eq!(means(200, body), (Kind::Unknown, Stage::Host), "{body}");
    }
    let another = object("\"1.1.1.1\"").replace("4.4.4.4", "5.5.5.5");
    assert_eq!(means(200, &another), (Kind::Final, Stage::Address));
    let elsewhere = READER.switched(&answer(200, &object("\"2.2.2.2\"")), "1.1.1.1".parse().unwrap());
    assert_eq!(of(elsewhere.unwrap_err()), (Kind::NotDone, Stage::Host));
}

#[test]
fn only_the_code_decides() {
    let odd = r#"{"error":{"code":"FAILOVER_LOCKED","message":["m"],"missing":{},"interval":-1}}"#;
    assert_eq!(READER.route(&answer(409, odd)).unwrap_err().kind, Kind::Locked);
    let list = r#"{"error":["FAILOVER_ALREADY_ROUTED"]}"#;
    assert!(READER.switched(&answer(409, list), [1, 1, 1, 1].into()).is_err());
}

#[test]
fn an_answer_about_another_ip_is_a_failure() {
    let body = object("\"1.1.1.1\"").replace("4.4.4.4", "5.5.5.5");
    check(200, &body, Err("HTTP 200, but the answer is about 5.5.5.5, not 4.4.4.4: check url"));
}

#[test]
fn says_where_the_ip_is() {
    assert_eq!(READER.route(&answer(200, &object("\"2.2.2.2\""))), Ok(Some([2, 2, 2, 2].into())));
    assert_eq!(READER.route(&answer(200, &object("null"))), Ok(None));
}

#[test]
fn reads_how_long_the_rate_limit_lasts() {
    let limited = |status, code, more| rate_limited_for(&answer(status, &error(status, code, more)));
    let seconds = |seconds| Some(Duration::from_secs(seconds));
    assert_eq!(limited(403, "RATE_LIMIT_EXCEEDED", r#","max_request":50,"interval":60"#), seconds(60));
    assert_eq!(limited(403, "RATE_LIMIT_EXCEEDED", ""), seconds(3600));
    let endless = r#","max_request":1,"interval":18446744073709551615"#;
    assert_eq!(limited(403, "RATE_LIMIT_EXCEEDED", endless), seconds(24 * 3600));
    assert_eq!(limited(403, "FORBIDDEN", ""), None);
    assert_eq!(limited(500, "RATE_LIMIT_EXCEEDED", ""), None);
}

#[test]
fn a_long_message_is_cut() {
    let body = error(500, "X", "").replace("a message", &"y".repeat(500));
    let sentence = verdict(500, &body).unwrap_err();
    assert!(sentence.contains(&format!("\"{}\"", "y".repeat(200))), "{sentence}");
}
