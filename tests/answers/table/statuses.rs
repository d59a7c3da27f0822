//! What the API documents, and statuses with what does not go with them.

use super::*;

/// What the API documents.
pub fn errors() -> Vec<Row> {
    let limit = r#","max_request":50,"interval":3600"#;
    vec![
        right("right", here()),
        Row {
            post: Err("HTTP 200, but it is routed to 2.2.2.2;"),
            get: Get::Elsewhere,
            ..right("elsewhere", active(r#""2.2.2.2""#))
        },
        Row {
            post: Err("HTTP 200, but it is routed nowhere (active_server_ip is null);"),
            get: Get::Nowhere,
            ..right("nowhere", active("null"))
        },
        Row {
            post: Ok("HTTP 409 FAILOVER_ALREADY_ROUTED, after "),
            // To a GET that is no answer.
            get: Get::Unknown("HTTP 409 FAILOVER_ALREADY_ROUTED \"a message\": "),
            ..right("already-routed", error(409, "FAILOVER_ALREADY_ROUTED", ""))
        },
        bad(
            "invalid-input",
            error(400, "INVALID_INPUT", r#","missing":["active_server_ip"],"invalid":null"#),
            "HTTP 400 INVALID_INPUT \"a message\" (missing: active_server_ip, invalid: none): check ip and active_ip",
        ),
        bad(
            "invalid-input-objects",
            error(400, "INVALID_INPUT", r#","missing":{"a":1},"invalid":[[1]]"#),
            "HTTP 400 INVALID_INPUT \"a message\" (missing: none, invalid: none): ",
        ),
        bad(
            "unauthorized",
            error(401, "UNAUTHORIZED", ""),
            "HTTP 401 UNAUTHORIZED \"a message\": the login was rejected: check username and password",
        ),
        bad(
            "rate-limit",
            error(403, "RATE_LIMIT_EXCEEDED", limit),
            "HTTP 403 RATE_LIMIT_EXCEEDED \"a message\" (50 requests in 3600 s): the account's limit is used up",
        ),
        bad(
            "rate-limit-in-words",
            error(403, "RATE_LIMIT_EXCEEDED", r#","max_request":"50","interval":-1"#),
            "HTTP 403 RATE_LIMIT_EXCEEDED \"a message\" (requests per hour): the account's limit is used up",
        ),
        bad(
            "rate-limit-for-ever",
            error(403, "RATE_LIMIT_EXCEEDED", r#","max_request":0,"interval":18446744073709551615"#),
            "HTTP 403 RATE_LIMIT_EXCEEDED \"a message\" (0 requests in 18446744073709551615 s): ",
        ),
        bad(
            "forbidden",
            error(403, "FORBIDDEN", ""),
            "HTTP 403 FORBIDDEN \"a message\": this address or user is not allowed",
        ),
        bad(
            "not-found",
            error(404, "NOT_FOUND", ""),
            "HTTP 404 NOT_FOUND \"a message\": this account has no such failover IP",
        ),
        bad(
            "no-such-server",
            error(404, "FAILOVER_NEW_SERVER_NOT_FOUND", ""),
            "HTTP 404 FAILOVER_NEW_SERVER_NOT_FOUND \"a message\": this account has no such server: check active_ip",
        ),
        bad(
            "locked",
            error(409, "FAILOVER_LOCKED", ""),
            "HTTP 409 FAILOVER_LOCKED \"a message\": another switch of this IP is under way",
        ),
        bad(
            "failed",
            error(500, "FAILOVER_FAILED", ""),
            "HTTP 500 FAILOVER_FAILED \"a message\": the switch failed",
        ),
        bad(
            "not-complete",
            error(500, "FAILOVER_NOT_COMPLETE", ""),
            "HTTP 500 FAILOVER_NOT_COMPLETE \"a message\": the switch stopped half way",
        ),
        bad("maintenance", error(503, "MAINTENANCE", ""), "HTTP 503 MAINTENANCE \"a message\": maintenance"),
    ]
}

/// Statuses with what does not go with them.
pub fn statuses() -> Vec<Row> {
    vec![
        bad(
            "200-error",
            answer("200 OK", "", r#"{"error":{"status":404,"code":"NOT_FOUND","message":""}}"#),
            NO_OBJECT,
        ),
        bad(
            "200-already-routed",
            answer("200 OK", "", r#"{"error":{"status":409,"code":"FAILOVER_ALREADY_ROUTED","message":""}}"#),
            NO_OBJECT,
        ),
        bad("200-html", html("200 OK"), "HTTP 200 with an HTML page (27 bytes): no failover object"),
        bad("200-empty", ok(""), "HTTP 200 with an empty body: no failover object"),
        bad("201-right", answer("201 Created", "", body()), "HTTP 201 with other JSON ("),
        bad("202-right", answer("202 Accepted", "", body()), "HTTP 202 with other JSON ("),
        bad("204", b"HTTP/1.1 204 No Content\r\n\r\n".to_vec(), "HTTP 204 with an empty body"),
        bad(
            "205",
            b"HTTP/1.1 205 Reset Content\r\nContent-Length: 0\r\n\r\n".to_vec(),
            "HTTP 205 with an empty body",
        ),
        bad("206-right", answer("206 Partial Content", "", body()), "HTTP 206 with other JSON ("),
        bad(
            "301",
            redirect("301 Moved Permanently", "http://TRAP/failover/4.4.4.4"),
            "HTTP 301, a redirect to http://127.0.0.1:",
        ),
        bad(
            "302",
            redirect("302 Found", "https://TRAP/failover/4.4.4.4"),
            "HTTP 302, a redirect to https://127.0.0.1:",
        ),
        bad("303", redirect("303 See Other", "http://TRAP/"), "HTTP 303, a redirect to http://127.0.0.1:"),
        bad(
            "307",
            redirect("307 Temporary Redirect", "http://TRAP/"),
            "HTTP 307, a redirect to http://127.0.0.1:",
        ),
        bad(
            "308",
            redirect("308 Permanent Redirect", "http://TRAP/"),
            "HTTP 308, a redirect to http://127.0.0.1:",
        ),
        bad(
            "302-to-itself",
            redirect("302 Found", "/failover/4.4.4.4"),
            "HTTP 302, a redirect to /failover/4.4.4.4: not followed",
        ),
        bad(
            "307-right",
            answer("307 Temporary Redirect", "Location: ?\r\n", body()),
            "HTTP 307, a redirect to ?: not followed",
        ),
        bad("302-nowhere", answer("302 Found", "", ""), "HTTP 302, a redirect to nowhere: not followed"),
        bad(
            "300",
            answer("300 Multiple Choices", "", body()),
            "HTTP 300, a redirect to nowhere: not followed",
        ),
        bad("304", b"HTTP/1.1 304 Not Modified\r\n\r\n".to_vec(), "HTTP 304"),
        bad(
            "401-html",
            html("401 Unauthorized"),
            "HTTP 401 with an HTML page (27 bytes): the login was rejected",
        ),
        bad(
            "401-empty",
            answer("401 Unauthorized", "WWW-Authenticate: Basic realm=\"x\"\r\n", ""),
            "HTTP 401 with an empty body: the login was rejected",
        ),
        bad("401-right", answer("401 Unauthorized", "", body()), "HTTP 401 with other JSON ("),
        bad(
            "403-html",
            html("403 Forbidden"),
            "HTTP 403 with an HTML page (27 bytes): this address or user is not allowed",
        ),
        bad(
            "404-html",
            html("404 Not Found"),
            "HTTP 404 with an HTML page (27 bytes): this account has no such failover IP",
        ),
        bad("405", html("405 Method Not Allowed"), "HTTP 405 with an HTML page"),
        bad("407", html("407 Proxy Authentication Required"), "HTTP 407 with an HTML page"),
        bad("408", answer("408 Request Timeout", "Connection: close\r\n", ""), "HTTP 408 with an empty body"),
        bad("413", html("413 Payload Too Large"), "HTTP 413 with an HTML page"),
        bad(
            "429",
            answer("429 Too Many Requests", "Retry-After: 3600\r\n", ""),
            "HTTP 429 with an empty body",
        ),
        bad("409-html", html("409 Conflict"), "HTTP 409 with an HTML page"),
        bad(
            "409-text",
            answer("409 Conflict", "", "FAILOVER_ALREADY_ROUTED"),
            "HTTP 409 with text that is not JSON (23 bytes)",
        ),
        bad(
            "409-lower-case",
            error(409, "failover_already_routed", ""),
            "HTTP 409 failover_already_routed \"a message\": not a documented answer",
        ),
        bad("409-right", answer("409 Conflict", "", body()), "HTTP 409 with other JSON ("),
        bad(
            "500-already-routed",
            error(500, "FAILOVER_ALREADY_ROUTED", ""),
            "HTTP 500 FAILOVER_ALREADY_ROUTED \"a message\": not a documented answer",
        ),
        bad(
            "400-already-routed",
            error(400, "FAILOVER_ALREADY_ROUTED", ""),
            "HTTP 400 FAILOVER_ALREADY_ROUTED \"a message\": ",
        ),
        bad(
            "500-locked",
            error(500, "FAILOVER_LOCKED", ""),
            "HTTP 500 FAILOVER_LOCKED \"a message\": not a documented answer",
        ),
        bad("500-right", answer("500 Oops", "", body()), "HTTP 500 with other JSON ("),
        bad("502", html("502 Bad Gateway"), "HTTP 502 with an HTML page"),
        bad(
            "503-html",
            html("503 Service Unavailable"),
            "HTTP 503 with an HTML page (27 bytes): maintenance",
        ),
        bad("504-empty", answer("504 Gateway Timeout", "", ""), "HTTP 504 with an empty body"),
        bad("999", html("999 Request Denied"), "HTTP 999 with an HTML page"),
        bad(
            "code-is-a-number",
            answer("500 X", "", r#"{"error":{"status":500,"code":7,"message":"m"}}"#),
            "HTTP 500 with other JSON (",
        ),
        bad(
            "message-is-an-object",
            answer("500 X", "", r#"{"error":{"status":500,"code":"FAILOVER_FAILED","message":{}}}"#),
            "HTTP 500 FAILOVER_FAILED",
        ),
        bad(
            "locked-with-an-odd-message",
            answer("409 X", "", r#"{"error":{"code":"FAILOVER_LOCKED","message":["m"]}}"#),
            "HTTP 409 FAILOVER_LOCKED",
        ),
        bad(
            "error-is-a-string",
            answer("500 X", "", r#"{"error":"FAILOVER_FAILED"}"#),
            "HTTP 500 with other JSON (",
        ),
        bad(
            "message-of-control-characters",
            answer(
                "500 X",
                "",
                r#"{"error":{"code":"A\r\nB","message":"\u0000\u001b[2J\u202e\n[hetzner-failoverip] x"}}"#,
            ),
            "HTTP 500 A??B \"??[2J??[hetzner-failoverip] x\": not a documented answer",
        ),
        bad(
            "message-of-60-kb",
            answer("500 X", "", format!(r#"{{"error":{{"code":"X","message":"{}"}}}}"#, "y".repeat(60_000))),
            "HTTP 500 X \"yyyyyyyy",
        ),
        // Whoever is asked knows the login, and may well repeat it.
        bad(
            "login-in-the-message",
            [Step::Echo(|head| {
                answer(
                    "500 X",
                    "",
                    serde_json::json!({"error": {"code": "X", "message": authorization(head)}}).to_string(),
                )
            })],
            "HTTP 500 X \"Basic ***\"",
        ),
        bad(
            "login-in-the-code",
            [Step::Echo(|head| {
                answer(
                    "500 X",
                    "",
                    serde_json::json!({"error": {"code": authorization(head), "message": ""}}).to_string(),
                )
            })],
            "HTTP 500 Basic *** \"\"",
        ),
        bad(
            "login-in-the-address",
            [Step::Echo(|head| ok(object(&serde_json::json!(authorization(head)).to_string())))],
            "HTTP 200, but active_server_ip is \"Basic ***\", not an IP address",
        ),
        bad(
            "login-in-the-redirect",
            [Step::Echo(|head| answer("302 Found", &format!("Location: /?{}\r\n", authorization(head)), ""))],
            "HTTP 302, a redirect to /?Basic ***: not followed",
        ),
    ]
}

fn authorization(head: &str) -> &str {
    let find = |line: &'_ str| line.to_ascii_lowercase().starts_with("authorization: ");
    head.lines().find(|line| find(line)).map_or("none", |line| &line["authorization: ".len()..])
}
