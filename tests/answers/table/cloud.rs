//! What the Cloud API may answer: first to a GET, with where it finds the IP; then in a takeover, with how that ends and what
//! it asks. What stands around an answer is read as Robot's, and has its rows there.

use super::*;

/// An answer to a GET, and what it is taken for.
pub struct Look {
    pub name: &'static str,
    pub play: Play,
    pub get: Get,
}

/// A takeover: what comes back, one after the other, the last one again and again.
pub struct Takeover {
    pub name: &'static str,
    pub plays: Vec<Play>,
    /// Whether it succeeds; and a part of the sentence, which HOST stands for the server in.
    pub end: Result<&'static str, &'static str>,
    /// The first letters of all requests; `p` is a poll.
    pub asked: &'static str,
}

/// The floating IP with this server.
fn one(server: &str) -> String {
    with("4711", r#""4.4.4.4""#, server)
}

fn with(id: &str, ip: &str, server: &str) -> String {
    format!(
        r#"{{"floating_ip":{{"id":{id},"name":"web","description":"","ip":{ip},"type":"ipv4","server":{server},"dns_ptr":[{{"ip":"4.4.4.4","dns_ptr":"x"}}],"home_location":{{"id":1,"name":"fsn1","network_zone":"eu-central"}},"blocked":false,"protection":{{"delete":false}},"labels":{{"server":"43"}},"created":"2026-01-01T00:00:00+00:00"}}}}"#
    )
}

/// An action of this status, with this error.
fn action(status: &str, error: &str) -> String {
    format!(
        r#"{{"action":{{"id":7,"command":"assign_floating_ip","status":{status},"progress":0,"started":"2026-01-01T00:00:00+00:00","finished":null,"resources":[{{"id":42,"type":"server"}},{{"id":4711,"type":"floating_ip"}}],"error":{error}}}}}"#
    )
}

fn created(body: impl AsRef<[u8]>) -> Vec<u8> {
    answer("201 Created", "Content-Type: application/json\r\n", body)
}

/// The API's error, as documented.
fn fault(status: u16, code: &str) -> Vec<u8> {
    let body = format!(r#"{{"error":{{"code":"{code}","message":"a message","details":null}}}}"#);
    answer(&format!("{status} X"), "Content-Type: application/json\r\n", body)
}

fn error_body(status: u16, body: &str) -> Vec<u8> {
    answer(&format!("{status} X"), "Content-Type: application/json\r\n", body)
}

/// Whoever is asked knows the token, and may well repeat it.
fn token(head: &str) -> &str {
    let find = |line: &&str| line.to_ascii_lowercase().starts_with("authorization: bearer ");
    head.lines().find(find).map_or("none", |line| &line["authorization: bearer ".len()..])
}

/// All documented errors, with the start of what is said of each.
const ERRORS: [(&str, u16, &str, &str); 23] = [
    ("json-error", 400, "json_error", "the API does not accept such a request"),
    ("unauthorized", 401, "unauthorized", "the token was rejected: check token"),
    ("read-only-401", 401, "token_readonly", "the token may only read: "),
    ("read-only-403", 403, "token_readonly", "the token may only read: "),
    ("forbidden", 403, "forbidden", "the token may not do this: "),
    ("resource-limit", 403, "resource_limit_exceeded", "a limit of the account is reached"),
    ("maintenance", 403, "maintenance", "maintenance"),
    ("not-found", 404, "not_found", "the token's Project has no such floating IP or server"),
    ("method", 405, "method_not_allowed", "the API does not accept such a request"),
    ("conflict", 409, "conflict", "something else was changed at the same time"),
    ("gone", 410, "deprecated_api_endpoint", "the API does not accept such a request"),
    ("unavailable-412", 412, "resource_unavailable", "not possible for now"),
    ("invalid-input", 422, "invalid_input", "check floating_ip and server"),
    ("unsupported", 422, "unsupported_error", "this server cannot have this floating IP"),
    ("service", 422, "service_error", "a part of the API has failed"),
    ("locked", 423, "locked", "another action on this IP or server is under way"),
    ("protected", 423, "protected", "it is protected or locked by Hetzner"),
    ("resource-locked", 423, "resource_locked", "it is protected or locked by Hetzner"),
    ("rate-limit", 429, "rate_limit_exceeded", "the Project's requests are used up"),
    ("server-error", 500, "server_error", "the API has failed"),
    ("unavailable-503", 503, "unavailable", "the API is not available for now"),
    ("gateway", 502, "bad_gateway", ""),
    ("timeout", 504, "timeout", ""),
];

/// Answers to a GET.
pub fn looks() -> Vec<Look> {
    use Get::{Elsewhere, Here, Nowhere, Unknown};
    let look = |name, play: Play, get| Look { name, play, get };
    let is = |name, body: String, get| look(name, ok(body).into(), get);
    let no_object = |name, body: String| is(name, body, Unknown(NO_OBJECT));
    let address = |name, ip: &str, text| is(name, with("4711", ip, "42"), Unknown(text));
    let server = |name, server: &str| no_object(name, one(server));
    let deep = format!("{}{}", "[".repeat(20_000), "]".repeat(20_000));
    let mut looks = vec![
        is("here", one("42"), Here),
        is("elsewhere", one("43"), Elsewhere),
        is("nowhere", one("null"), Nowhere),
        is("a-large-id", one("18446744073709551615"), Elsewhere),
        is("only-what-is-needed", r#"{"floating_ip":{"id":4711,"ip":"4.4.4.4","server":42}}"#.into(), Here),
        is("more-beside", format!(r#"{{"meta":{{"server":43}},{}"#, &one("42")[1..]), Here),
        is("blocked", one("42").replace(r#""blocked":false"#, r#""blocked":true"#), Here),
        is("blocked-is-a-word", one("42").replace(r#""blocked":false"#, r#""blocked":"no""#), Here),
        is("escaped", with("4711", r#""\u0034.4.4.4""#, "42"), Here),
        is("spaces-around", format!("\r\n {}\n", one("42")), Here),
        is("70-kib", one("42") + &" ".repeat(70 << 10), Here),
        is("server-is-missing", one("42").replace(r#""server":42,"#, ""), Unknown(NO_OBJECT)),
        server("server-is-a-word", r#""42""#),
        server("server-is-a-fraction", "42.5"),
        server("server-is-negative", "-42"),
        server("server-is-too-large", "18446744073709551616"),
        server("server-is-true", "true"),
        server("server-is-an-array", "[42]"),
        server("server-is-an-object", r#"{"id":42}"#),
        no_object("server-twice", r#"{"floating_ip":{"id":4711,"ip":"4.4.4.4","server":43,"server":42}}"#.into()),
        no_object("id-is-missing", r#"{"floating_ip":{"ip":"4.4.4.4","server":42}}"#.into()),
        no_object("id-is-a-word", with(r#""4711""#, r#""4.4.4.4""#, "42")),
        is(
            "another-id",
            with("4712", r#""4.4.4.4""#, "42"),
            Unknown("HTTP 200, but floating IP 4711 is floating IP 4712, not 4.4.4.4: check floating_ip and ip"),
        ),
        no_object("ip-is-missing", r#"{"floating_ip":{"id":4711,"server":42}}"#.into()),
        address("another-ip", r#""5.5.5.5""#, "HTTP 200, but floating IP 4711 is 5.5.5.5, not 4.4.4.4: check"),
        address("another-family", r#""2001:db8::/64""#, "HTTP 200, but floating IP 4711 is 2001:db8::, not 4.4.4.4"),
        address("ip-is-empty", r#""""#, "HTTP 200, but ip is \"\", not an IP address"),
        address("ip-with-a-prefix", r#""4.4.4.4/32""#, "HTTP 200, but ip is \"4.4.4.4/32\", not an IP address"),
        address("ip-with-a-newline", r#""4.4.4.4\n""#, "HTTP 200, but ip is \"4.4.4.4?\", not an IP address"),
        address("ip-is-null", "null", NO_OBJECT),
        address("ip-is-a-number", "67372036", NO_OBJECT),
        no_object("floating-ip-is-null", r#"{"floating_ip":null}"#.into()),
        no_object("floating-ip-is-an-id", r#"{"floating_ip":4711}"#.into()),
        no_object("floating-ip-is-a-list", format!(r#"{{"floating_ip":[{}]}}"#, one("42"))),
        no_object("as-an-array", r#"{"floating_ip":[4711,"4.4.4.4",42,false]}"#.into()),
        no_object("floating-ip-twice", format!("{},{}", one("43").strip_suffix('}').unwrap_or_default(), &one("42")[1..])),
        no_object("another-case", one("42").replace("floating_ip", "Floating_IP")),
        no_object("a-list", r#"{"floating_ips":[{"id":4711,"ip":"4.4.4.4","server":42}],"meta":{}}"#.into()),
        no_object("an-action", action(r#""success""#, "null")),
        no_object("an-error", r#"{"error":{"code":"not_found","message":""}}"#.into()),
        no_object("nothing", "{}".into()),
        no_object("null", "null".into()),
        is("half", one("42")[..100].into(), Unknown(BROKEN_JSON)),
        is("trailing-garbage", one("42") + "x", Unknown(BROKEN_JSON)),
        is("bom", format!("\u{feff}{}", one("42")), Unknown(NO_JSON)),
        is("deep-beside", format!(r#"{{"deep":{deep},{}"#, &one("42")[1..]), Unknown("HTTP 200 with ")),
        is("two-mib", one("42") + &" ".repeat(2 << 20), Unknown("HOST: the answer is longer than 1048576 bytes")),
        look("200-html", html("200 OK").into(), Unknown("HTTP 200 with an HTML page (27 bytes): no ")),
        look("200-empty", ok("").into(), Unknown("HTTP 200 with an empty body: no ")),
        look("201-right", created(one("42")).into(), Unknown("HTTP 201 with other JSON (")),
        look("206-right", answer("206 X", "", one("42")).into(), Unknown("HTTP 206 with other JSON (")),
        look("204", b"HTTP/1.1 204 No Content\r\n\r\n".to_vec().into(), Unknown("HTTP 204 with an empty body")),
        look("302", redirect("302 Found", "http://TRAP/v1").into(), Unknown("HTTP 302, a redirect to http://127.")),
        look("308", redirect("308 X", "/v1/floating_ips/4711").into(), Unknown("HTTP 308, a redirect to /v1/float")),
        look("401-html", html("401 X").into(), Unknown("HTTP 401 with an HTML page (27 bytes): the token was rej")),
        look("403-html", html("403 X").into(), Unknown("HTTP 403 with an HTML page (27 bytes)")),
        look("404-html", html("404 X").into(), Unknown("HTTP 404 with an HTML page (27 bytes): there is no such API")),
        look("429-empty", answer("429 X", "", "").into(), Unknown("HTTP 429 with an empty body: the Project's requests")),
        look("500-right", answer("500 Oops", "", one("42")).into(), Unknown("HTTP 500 with other JSON (")),
        look("502-html", html("502 X").into(), Unknown("HTTP 502 with an HTML page")),
        look("503-html", html("503 X").into(), Unknown("HTTP 503 with an HTML page")),
        look("418", fault(418, "teapot").into(), Unknown("HTTP 418 teapot \"a message\": not a documented answer")),
        look("999", html("999 X").into(), Unknown("HTTP 999 with an HTML page")),
        look(
            "code-is-a-number",
            error_body(500, r#"{"error":{"code":7,"message":"m"}}"#).into(),
            Unknown("HTTP 500 with other JSON ("),
        ),
        look(
            "code-is-empty",
            error_body(422, r#"{"error":{"code":"","message":"m"}}"#).into(),
            Unknown("HTTP 422 with other JSON ("),
        ),
        look(
            "message-is-an-object",
            error_body(409, r#"{"error":{"code":"conflict","message":{},"details":[]}}"#).into(),
            Unknown("HTTP 409 conflict \"\": "),
        ),
        look(
            "message-of-control-characters",
            error_body(500, r#"{"error":{"code":"A\r\nB","message":"\u0000\u001b[2J\u202e\n[hetzner] x"}}"#).into(),
            Unknown("HTTP 500 A??B \"??[2J??[hetzner] x\": "),
        ),
        look(
            "fields-that-are-wrong",
            error_body(
                422,
                r#"{"error":{"code":"invalid_input","message":"m","details":{"fields":[{"name":"id"},{"name":7},{"name":"server","messages":["x"]}]}}}"#,
            )
            .into(),
            Unknown("HTTP 422 invalid_input \"m\" (fields: id, server): check floating_ip and server"),
        ),
        look(
            "token-in-the-message",
            [Step::Echo(|head| error_body(500, &format!(r#"{{"error":{{"code":"x","message":"{}"}}}}"#, token(head))))].into(),
            Unknown("HTTP 500 x \"***\""),
        ),
        look(
            "token-in-the-ip",
            [Step::Echo(|head| ok(with("4711", &format!("\"{}\"", token(head)), "42")))].into(),
            Unknown("HTTP 200, but ip is \"***\", not an IP address"),
        ),
        look(
            "token-in-the-redirect",
            [Step::Echo(|head| answer("302 Found", &format!("Location: /?{}\r\n", token(head)), ""))].into(),
            Unknown("HTTP 302, a redirect to /?***: not followed"),
        ),
    ];
    looks.extend(ERRORS.map(|(name, status, code, said)| {
        let colon = if said.is_empty() { "" } else { ": " };
        let line = format!("HTTP {status} {code} \"a message\"{colon}{said}");
        look(name, fault(status, code).into(), Unknown(line.leak()))
    }));
    looks
}

/// What ends every takeover for good, whatever is asked.
pub fn over() -> Play {
    fault(404, "not_found").into()
}

/// Takeovers. The first answer is to the look by which the address is made sure of.
pub fn takeovers() -> Vec<Takeover> {
    const GONE: &str = "HTTP 404 not_found ";
    let elsewhere = || Play::from(ok(one("43")));
    let here = || Play::from(ok(one("42")));
    let nowhere = || Play::from(ok(one("null")));
    let begun = |status: &str, error: &str| Play::from(created(action(status, error)));
    let polled = |status: &str, error: &str| Play::from(ok(action(status, error)));
    let (success, running) = (|| begun(r#""success""#, "null"), || begun(r#""running""#, "null"));
    let (still, done) = (|| polled(r#""running""#, "null"), || polled(r#""success""#, "null"));
    let failed = r#"{"code":"ip_unassigned","message":"no reason"}"#;
    let row = |name, plays: Vec<Play>, asked: &'static str, end| {
        let mut plays: Vec<Play> = [elsewhere()].into_iter().chain(plays).collect();
        // A POST has a connection of its own. Whatever follows uses the one before, and would be lost if that is just being
        // closed.
        for (at, play) in plays.iter_mut().enumerate() {
            if asked.chars().nth(at + 1) != Some('P') && matches!(play.steps[..], [Step::Send(_)]) {
                play.steps.push(Step::KeepOpen);
            }
        }
        Takeover { name, plays, end, asked }
    };
    // Nothing is known after it: one look, which ends it.
    let unclear = |name, answer: Play, line| row(name, vec![answer, over()], "GPG", Err(line));
    let made = |name, body: String, line| unclear(name, Play::from(created(body)), line);
    let act = action(r#""success""#, "null");
    let mut rows = vec![
        row("success", vec![success(), here()], "GPG", Ok("HTTP 201, action 7 succeeded, after ")),
        row(
            "running-then-success",
            vec![running(), still(), done(), here()],
            "GPppG",
            Ok("action 7 succeeded, after "),
        ),
        row(
            "only-what-is-needed",
            vec![created(r#"{"action":{"id":7,"status":"success"}}"#).into(), here()],
            "GPG",
            Ok("HTTP 201, action 7 succeeded, after "),
        ),
        row(
            "assigned-and-here",
            vec![fault(422, "floating_ip_assigned").into(), here()],
            "GPG",
            Ok("HTTP 422 floating_ip_assigned, after "),
        ),
        row(
            "assigned-and-elsewhere",
            vec![fault(422, "floating_ip_assigned").into(), elsewhere(), over()],
            "GPGG",
            Err("HTTP 422 floating_ip_assigned, but it is routed to server 43"),
        ),
        row(
            "success-and-elsewhere",
            vec![success(), elsewhere(), over()],
            "GPGG",
            Err("HTTP 201, action 7 succeeded, but it is routed to server 43"),
        ),
        row(
            "success-and-nowhere",
            vec![success(), nowhere(), over()],
            "GPGG",
            Err("HTTP 201, action 7 succeeded, but it is routed nowhere"),
        ),
        row(
            "success-and-a-lost-look",
            vec![success(), Play::from([]), here()],
            "GPGG",
            Ok("confirmed by a check of the route, after "),
        ),
        row(
            "success-and-502",
            vec![success(), html("502 X").into(), here()],
            "GPGG",
            Ok("confirmed by a check of the route, after "),
        ),
        row("success-and-gone", vec![success(), over()], "GPGG", Err(GONE)),
        row(
            "error",
            vec![begun(r#""error""#, failed), over()],
            "GPG",
            Err("action 7 failed: ip_unassigned \"no reason\""),
        ),
        row("error-without-one", vec![begun(r#""error""#, "null"), over()], "GPG", Err("action 7 failed: ")),
        row("error-is-a-word", vec![begun(r#""error""#, r#""no""#), over()], "GPG", Err("action 7 failed: ")),
        row(
            "error-then-success",
            vec![begun(r#""error""#, failed), elsewhere(), success(), here()],
            "GPGPG",
            Ok("HTTP 201, action 7 succeeded, after "),
        ),
        row(
            "error-and-here",
            vec![begun(r#""error""#, failed), here()],
            "GPG",
            Ok("confirmed by a check of the route, after "),
        ),
        row(
            "running-then-error",
            vec![running(), polled(r#""error""#, failed), over()],
            "GPpG",
            Err("action 7 failed: ip_unassigned"),
        ),
        row(
            "running-then-gone",
            vec![running(), over()],
            "GPppG",
            Err("action 7 has begun, but its end is unknown: HTTP 404 not_found"),
        ),
        row(
            "running-then-another",
            vec![running(), Play::from(ok(act.replace(r#""id":7"#, r#""id":8"#))), done(), here()],
            "GPppG",
            Ok("action 7 succeeded, after "),
        ),
        row(
            "running-then-html",
            vec![running(), html("502 X").into(), done(), here()],
            "GPppG",
            Ok("action 7 succeeded, after "),
        ),
        row(
            "running-then-429",
            vec![running(), fault(429, "rate_limit_exceeded").into(), done(), here()],
            "GPppG",
            Ok("action 7 succeeded, after "),
        ),
        row(
            "running-then-lost",
            vec![running(), Play::from([]), done(), here()],
            "GPppG",
            Ok("action 7 succeeded, after "),
        ),
        row(
            "running-then-201",
            vec![running(), created(&act).into(), done(), here()],
            "GPppG",
            Ok("action 7 succeeded, after "),
        ),
        row(
            "running-then-a-word",
            vec![running(), polled(r#""done""#, "null"), done(), here()],
            "GPppG",
            Ok("action 7 succeeded, after "),
        ),
        row(
            "running-then-302",
            vec![running(), redirect("302 Found", "http://TRAP/").into(), over()],
            "GPppG",
            Err("action 7 has begun, but its end is unknown: HTTP 302, a redirect to "),
        ),
        // No word but these three is known.
        made(
            "status-is-another",
            action(r#""done""#, "null"),
            "HTTP 201, but the action's status is \"done\"",
        ),
        made(
            "status-in-capitals",
            action(r#""SUCCESS""#, "null"),
            "HTTP 201, but the action's status is \"SUCCESS\"",
        ),
        made("status-is-empty", action(r#""""#, "null"), "HTTP 201, but the action's status is \"\""),
        made("status-is-null", action("null", "null"), "HTTP 201 with other JSON ("),
        made("status-is-true", action("true", "null"), "HTTP 201 with other JSON ("),
        made("status-is-missing", act.replace(r#""status":"success","#, ""), "HTTP 201 with other JSON ("),
        made(
            "status-twice",
            act.replace(r#""progress":0"#, r#""status":"success""#),
            "HTTP 201 with other JSON (",
        ),
        made("id-is-missing", act.replace(r#""id":7,"#, ""), "HTTP 201 with other JSON ("),
        made("id-is-a-word", act.replace(r#""id":7"#, r#""id":"7""#), "HTTP 201 with other JSON ("),
        made("id-is-negative", act.replace(r#""id":7"#, r#""id":-7"#), "HTTP 201 with other JSON ("),
        made("action-is-null", r#"{"action":null}"#.into(), "HTTP 201 with other JSON ("),
        made("action-is-an-array", r#"{"action":[7,"success",null]}"#.into(), "HTTP 201 with other JSON ("),
        made("actions", format!(r#"{{"actions":[{act}]}}"#), "HTTP 201 with other JSON ("),
        made("action-in-another-case", act.replace("\"action\"", "\"Action\""), "HTTP 201 with other JSON ("),
        made("the-floating-ip", one("42"), "HTTP 201 with other JSON ("),
        made(
            "an-error-that-is-none",
            r#"{"error":{"code":"locked","message":""}}"#.into(),
            "HTTP 201 with other JSON (",
        ),
        made("half", act[..60].into(), "HTTP 201 with truncated or broken JSON ("),
        made("empty", String::new(), "HTTP 201 with an empty body"),
        made(
            "status-of-control-characters",
            action(r#""\u001b[2J""#, "null"),
            "HTTP 201, but the action's status is \"?[2J\"",
        ),
        unclear("201-html", html("201 Created").into(), "HTTP 201 with an HTML page"),
        unclear("200-success", ok(&act).into(), "HTTP 200 with other JSON ("),
        unclear("202-success", answer("202 Accepted", "", &act).into(), "HTTP 202 with other JSON ("),
        unclear("204", b"HTTP/1.1 204 No Content\r\n\r\n".to_vec().into(), "HTTP 204 with an empty body"),
        unclear("502-html", html("502 X").into(), "HTTP 502 with an HTML page"),
        unclear("500-html", html("500 X").into(), "HTTP 500 with an HTML page"),
        unclear("lost", Play::from([]), BROKEN),
        unclear("reset", [Step::Reset].into(), BROKEN),
        row(
            "assigned-in-capitals",
            vec![fault(422, "FLOATING_IP_ASSIGNED").into()],
            "GP",
            Err("HTTP 422 FLOATING_IP_ASSIGNED \"a message\": the API does not accept such a request"),
        ),
        row(
            "302",
            vec![redirect("302 Found", "http://TRAP/").into()],
            "GP",
            Err("HTTP 302, a redirect to http://127.0.0.1:"),
        ),
        row(
            "307",
            vec![redirect("307 X", "http://TRAP/").into()],
            "GP",
            Err("HTTP 307, a redirect to http://127.0.0.1:"),
        ),
        row(
            "401-html",
            vec![html("401 X").into()],
            "GP",
            Err("HTTP 401 with an HTML page (27 bytes): the token was rejected"),
        ),
        row(
            "404-html",
            vec![html("404 X").into()],
            "GP",
            Err("HTTP 404 with an HTML page (27 bytes): there is no such API"),
        ),
        // The switch was made, or is, or is not: another look tells.
        row(
            "lost-and-here-too-soon",
            vec![Play::from([]), here()],
            "GPGGGG",
            Ok("confirmed by a check of the route, after "),
        ),
        row(
            "lost-and-elsewhere",
            vec![Play::from([]), elsewhere(), success(), here()],
            "GPGPG",
            Ok("HTTP 201, action 7 succeeded, after "),
        ),
        row(
            "locked-then-moved",
            vec![fault(423, "locked").into(), elsewhere(), here()],
            "GPGG",
            Ok("confirmed by a check of the route, after "),
        ),
        row(
            "429-then-success",
            vec![fault(429, "rate_limit_exceeded").into(), success(), here()],
            "GPPG",
            Ok("HTTP 201, action 7 succeeded, after "),
        ),
    ];
    rows.extend(ERRORS.map(|(name, status, code, said)| {
        let line = format!("HTTP {status} {code} \"a message\"");
        let line: &'static str = if said.is_empty() { line.leak() } else { format!("{line}: {said}").leak() };
        let asked = match (status, code) {
            (401 | 404 | 400 | 405 | 410, _) | (422, "invalid_input" | "unsupported_error") => "GP",
            (403, "token_readonly" | "forbidden" | "resource_limit_exceeded") => "GP",
            (423, "protected" | "resource_locked") => "GP",
            // Nothing has happened: it is asked again.
            (429, _) => "GPP",
            _ => "GPG",
        };
        row(name, vec![fault(status, code).into(), over()], asked, Err(line))
    }));
    rows
}
