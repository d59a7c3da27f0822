//! The table: what comes back, and what must come of it.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::LazyLock;
use std::time::Duration;

use lab::raw::{Certificate, Play, Shake, Step};

/// One answer to a POST and to a GET alike, and what each is to make of it.
pub struct Row {
    /// Also the name of the row's Legion.
    pub name: &'static str,
    pub over: Over,
    pub play: Play,
    /// The failover IP is an IPv6 net.
    pub ipv6: bool,
    /// How the takeover's last line goes on, as Lord or not. HOST is the server's, TIME the time limit in seconds.
    pub post: Result<&'static str, &'static str>,
    pub get: Get,
    is_late: bool,
}

/// Where a GET finds the IP.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Get {
    Here,
    Elsewhere,
    Nowhere,
    /// With the start of the sentence.
    Unknown(&'static str),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Over {
    Both,
    Http,
    Https,
}

/// Where redirects lead, and nothing may arrive.
pub static TRAP: LazyLock<(TcpListener, SocketAddr)> = LazyLock::new(|| {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has a free port");
    listener.set_nonblocking(true).expect("a socket");
    let address = listener.local_addr().expect("it is bound");
    (listener, address)
});

/// An answer that says that the IP is here.
fn right(name: &'static str, play: impl Into<Play>) -> Row {
    Row {
        name,
        over: Over::Both,
        play: play.into(),
        ipv6: false,
        post: Ok("HTTP 200, after "),
        get: Get::Here,
        is_late: false,
    }
}

/// One that says nothing clear; with the start of the sentence.
fn bad(name: &'static str, play: impl Into<Play>, line: &'static str) -> Row {
    Row { post: Err(line), get: Get::Unknown(line), ..right(name, play) }
}

impl Row {
    /// Whether the time limit ends it.
    pub fn is_late(&self) -> bool {
        self.is_late || self.post == Err(LATE)
    }

    fn late(self) -> Row {
        Row { is_late: true, ..self }
    }

    /// Only over http.
    fn http(self) -> Row {
        Row { over: Over::Http, ..self }
    }

    /// Only over https.
    fn https(self) -> Row {
        Row { over: Over::Https, ..self }
    }

    fn ipv6(self) -> Row {
        Row { ipv6: true, ..self }
    }

    fn shake(mut self, shake: Shake) -> Row {
        self.play.shake = shake;
        self
    }
}

/// Answers one after the other, the last one again and again; a takeover asks as many as it needs.
pub struct Sequence {
    /// Its first answer, and how it ends.
    pub row: Row,
    pub then: Vec<Play>,
    /// The first letters of all requests.
    pub asked: &'static str,
}

/// A whole answer, with the right Content-Length.
fn answer(status: &str, headers: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let length = body.len();
    [format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {length}\r\n\r\n").as_bytes(), body].concat()
}

/// A 200 with these bytes as JSON.
fn ok(body: impl AsRef<[u8]>) -> Vec<u8> {
    answer("200 OK", "Content-Type: application/json\r\n", body)
}

/// As documented, with `active_server_ip` as given.
fn object(active_server_ip: &str) -> String {
    format!(
        r#"{{"failover":{{"ip":"4.4.4.4","netmask":"255.255.255.255","server_ip":"2.2.2.2","server_ipv6_net":"2a01:4f8:111:4221::","server_number":321,"active_server_ip":{active_server_ip}}}}}"#
    )
}

/// The same of the IPv6 net.
pub fn active6(value: &str) -> Vec<u8> {
    ok(object(value).replace("4.4.4.4", "2a01:4f8:fff1::"))
}

/// What is right, in every respect.
fn here() -> Vec<u8> {
    active(r#""1.1.1.1""#)
}

/// The right JSON, for what is wrong around it.
fn body() -> String {
    object(r#""1.1.1.1""#)
}

/// The right JSON with spaces after it, so long in all.
fn padded(length: usize) -> String {
    body() + &" ".repeat(length - body().len())
}

/// A right answer that names this as `active_server_ip`.
pub fn active(value: &str) -> Vec<u8> {
    ok(object(value))
}

/// The API's error, as documented.
fn error(status: u16, code: &str, more: &str) -> Vec<u8> {
    let body = format!(r#"{{"error":{{"status":{status},"code":"{code}","message":"a message"{more}}}}}"#);
    answer(&format!("{status} X"), "Content-Type: application/json\r\n", body)
}

fn html(status: &str) -> Vec<u8> {
    answer(status, "Content-Type: text/html\r\n", "<html><h1>Sorry</h1></html>")
}

/// A head as given, and the right JSON.
fn head(head: &str) -> Vec<u8> {
    format!("{}\r\n\r\n{}", head.replace("LENGTH", &body().len().to_string()), body()).into()
}

/// The right JSON in these chunks, each as long as it says, and whatever ends them.
fn chunked(sizes: impl Fn(usize) -> String, end: &str) -> Vec<u8> {
    let text = body();
    let (first, second) = text.split_at(100);
    let chunks = [first, second].map(|chunk| format!("{}\r\n{chunk}\r\n", sizes(chunk.len())));
    format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{}{end}", chunks.concat()).into()
}

fn redirect(status: &str, to: &str) -> Vec<u8> {
    let location = format!("Location: {}\r\n", to.replace("TRAP", &TRAP.1.to_string()));
    answer(status, &location, "")
}

/// A TLS record of this type.
fn record(kind: u8, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len()).expect("a short one").to_be_bytes();
    [&[kind, 3, 3][..], &length, payload].concat()
}

/// A fatal TLS alert.
fn alert(description: u8) -> Vec<u8> {
    record(21, &[2, description])
}

/// A ServerHello of `version` with a cipher of its time.
fn server_hello(version: u8) -> Vec<u8> {
    let hello = [&[2, 0, 0, 38, 3, version][..], &[7; 32], &[0, 0, 0x2f, 0]].concat();
    let mut record = record(22, &hello);
    record[2] = version;
    record
}

const NO_OBJECT: &str = "HTTP 200 with other JSON (";
const BROKEN_JSON: &str = "HTTP 200 with truncated or broken JSON (";
const NO_JSON: &str = "HTTP 200 with a text that is no JSON (";
const NO_HTTP: &str = "the answer of HOST is no HTTP";
const BROKEN: &str = "HOST: connection broken before the whole answer was there";
const NOTHING_SENT: &str = "HOST: connection broken before anything was sent";
const STALLED: &str = "HOST: body data reading stalled";
const LATE: &str = "no whole answer from HOST within TIME s";
const LONG: &str = "the answer of HOST is longer than 65536 bytes";
const ENDLESS_HEADER: &str = "the answer of HOST has a header without end";
const OLD_TLS: &str = "TLS with HOST failed: peer is incompatible: ";
const NO_TLS: &str = "TLS with HOST failed: it does not speak TLS there: check url";

pub fn rows() -> Vec<Row> {
    let mut rows = errors();
    rows.extend(statuses());
    rows.extend(objects());
    rows.extend(bodies());
    rows.extend(framings());
    rows.extend(heads());
    rows.extend(sockets());
    rows.extend(handshakes());
    rows
}

/// What the API documents.
fn errors() -> Vec<Row> {
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
            "HTTP 400 INVALID_INPUT \"a message\": missing active_server_ip, invalid nothing; check ip and active_ip",
        ),
        bad(
            "invalid-input-objects",
            error(400, "INVALID_INPUT", r#","missing":{"a":1},"invalid":[[1]]"#),
            "HTTP 400 INVALID_INPUT \"a message\": ",
        ),
        bad(
            "unauthorized",
            error(401, "UNAUTHORIZED", ""),
            "HTTP 401 UNAUTHORIZED \"a message\": the login was rejected: check username and password",
        ),
        bad(
            "rate-limit",
            error(403, "RATE_LIMIT_EXCEEDED", limit),
            "HTTP 403 RATE_LIMIT_EXCEEDED \"a message\": the account's limit of 50 requests in 3600 s is used up",
        ),
        bad(
            "rate-limit-in-words",
            error(403, "RATE_LIMIT_EXCEEDED", r#","max_request":"50","interval":-1"#),
            "HTTP 403 RATE_LIMIT_EXCEEDED \"a message\": the account's limit of requests an hour is used up",
        ),
        bad(
            "rate-limit-for-ever",
            error(403, "RATE_LIMIT_EXCEEDED", r#","max_request":0,"interval":18446744073709551615"#),
            "HTTP 403 RATE_LIMIT_EXCEEDED \"a message\": ",
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
            "HTTP 404 FAILOVER_NEW_SERVER_NOT_FOUND \"a message\": that is no server of this account: check active_ip",
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
fn statuses() -> Vec<Row> {
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
            "HTTP 302, a redirect to /failover/4.4.4.4: never followed",
        ),
        bad(
            "307-right",
            answer("307 Temporary Redirect", "Location: ?\r\n", body()),
            "HTTP 307, a redirect to ?: never followed",
        ),
        bad("302-nowhere", answer("302 Found", "", ""), "HTTP 302, a redirect to nowhere: never followed"),
        bad(
            "300",
            answer("300 Multiple Choices", "", body()),
            "HTTP 300, a redirect to nowhere: never followed",
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
            "HTTP 409 with a text that is no JSON (23 bytes)",
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
            "HTTP 200, but active_server_ip is \"Basic ***\", no address",
        ),
        bad(
            "login-in-the-redirect",
            [Step::Echo(|head| answer("302 Found", &format!("Location: /?{}\r\n", authorization(head)), ""))],
            "HTTP 302, a redirect to /?Basic ***: never followed",
        ),
    ]
}

fn authorization(head: &str) -> &str {
    let find = |line: &'_ str| line.to_ascii_lowercase().starts_with("authorization: ");
    head.lines().find(|line| find(line)).map_or("none", |line| &line["authorization: ".len()..])
}

/// JSON that is right as JSON.
fn objects() -> Vec<Row> {
    let deep = format!("{}{}", "[".repeat(20_000), "]".repeat(20_000));
    vec![
        right(
            "more-fields",
            ok(
                r#"{"new":[{}],"failover":{"new":{"failover":{"active_server_ip":"2.2.2.2"}},"active_server_ip":"1.1.1.1"}}"#,
            ),
        ),
        right("only-what-is-needed", ok(r#"{"failover":{"active_server_ip":"1.1.1.1"}}"#)),
        right(
            "all-else-is-null",
            ok(
                r#"{"failover":{"ip":null,"netmask":null,"server_ip":null,"server_number":null,"active_server_ip":"1.1.1.1"}}"#,
            ),
        ),
        right("escaped", active(r#""\u0031.1.1.1""#)),
        right("spaces-around", ok(format!("\r\n\t {}\n\n ", body()))),
        bad("another-ip", ok(body().replace("4.4.4.4", "5.5.5.5")), "HTTP 200, but "),
        bad("ip-is-missing", ok(r#"{"failover":{"ip":"4.4.4.4"}}"#), NO_OBJECT),
        bad("a-number", active("16843009"), NO_OBJECT),
        bad("a-decimal", active("1.1"), NO_OBJECT),
        bad("true", active("true"), NO_OBJECT),
        bad("an-array", active(r#"["1.1.1.1"]"#), NO_OBJECT),
        bad("an-object", active(r#"{"ip":"1.1.1.1"}"#), NO_OBJECT),
        bad("failover-is-null", ok(r#"{"failover":null}"#), NO_OBJECT),
        bad("failover-is-a-string", ok(r#"{"failover":"1.1.1.1"}"#), NO_OBJECT),
        bad("failover-is-a-list", ok(format!(r#"{{"failover":[{}]}}"#, body())), NO_OBJECT),
        bad("failover-is-an-array-of-values", ok(r#"{"failover":["1.1.1.1"]}"#), NO_OBJECT),
        bad("a-list-as-of-all-failovers", ok(format!("[{}]", body())), NO_OBJECT),
        bad("a-list-of-lists", ok(r#"[["1.1.1.1"]]"#), NO_OBJECT),
        bad("another-case", ok(r#"{"Failover":{"Active_Server_IP":"1.1.1.1"}}"#), NO_OBJECT),
        bad("null", ok("null"), NO_OBJECT),
        bad("a-string", ok(r#""1.1.1.1""#), NO_OBJECT),
        bad(
            "twice-failover",
            ok(r#"{"failover":{"active_server_ip":"2.2.2.2"},"failover":{"active_server_ip":"1.1.1.1"}}"#),
            NO_OBJECT,
        ),
        bad(
            "twice-active-server-ip",
            ok(r#"{"failover":{"active_server_ip":"2.2.2.2","active_server_ip":"1.1.1.1"}}"#),
            NO_OBJECT,
        ),
        bad("deep", ok(deep.clone()), "HTTP 200 with "),
        bad(
            "deep-beside",
            ok(format!(r#"{{"deep":{deep},"failover":{{"active_server_ip":"1.1.1.1"}}}}"#)),
            "HTTP 200 with ",
        ),
        bad("empty-address", active(r#""""#), "HTTP 200, but active_server_ip is \"\", no address"),
        bad(
            "spaces-in-the-address",
            active(r#"" 1.1.1.1""#),
            "HTTP 200, but active_server_ip is \" 1.1.1.1\", no address",
        ),
        bad(
            "newline-after-the-address",
            active(r#""1.1.1.1\n""#),
            "HTTP 200, but active_server_ip is \"1.1.1.1?\", no address",
        ),
        bad(
            "nul-after-the-address",
            active(r#""1.1.1.1\u0000""#),
            "HTTP 200, but active_server_ip is \"1.1.1.1?\", no address",
        ),
        bad(
            "port",
            active(r#""1.1.1.1:80""#),
            "HTTP 200, but active_server_ip is \"1.1.1.1:80\", no address",
        ),
        bad(
            "prefix",
            active(r#""1.1.1.1/32""#),
            "HTTP 200, but active_server_ip is \"1.1.1.1/32\", no address",
        ),
        bad(
            "host-name",
            active(r#""www.example.com""#),
            "HTTP 200, but active_server_ip is \"www.example.com\", no address",
        ),
        bad(
            "leading-zeros",
            active(r#""001.001.001.001""#),
            "HTTP 200, but active_server_ip is \"001.001.001.001\", no address",
        ),
        bad(
            "three-numbers",
            active(r#""1.1.257""#),
            "HTTP 200, but active_server_ip is \"1.1.257\", no address",
        ),
        bad(
            "two-addresses",
            active(r#""1.1.1.1,2.2.2.2""#),
            "HTTP 200, but active_server_ip is \"1.1.1.1,2.2.2.2\", no address",
        ),
        bad("the-word-null", active(r#""null""#), "HTTP 200, but active_server_ip is \"null\", no address"),
        Row {
            post: Err("HTTP 200, but it is routed to 2a01:4f8:0:5176::;"),
            get: Get::Elsewhere,
            ..right("another-family", active(r#""2a01:4f8:0:5176::""#))
        },
        Row {
            post: Err("HTTP 200, but it is routed to ::ffff:1.1.1.1;"),
            get: Get::Elsewhere,
            ..right("ipv4-mapped", active(r#""::ffff:1.1.1.1""#))
        },
        right("ipv6", active6(r#""2a01:4f8:0:5176::""#)).ipv6(),
        right("ipv6-upper-case", active6(r#""2A01:4F8:0:5176::""#)).ipv6(),
        right("ipv6-written-out", active6(r#""2a01:04f8:0000:5176:0000:0000:0000:0000""#)).ipv6(),
        right("ipv6-with-zeros-left", active6(r#""2a01:4f8:0:5176:0:0:0.0.0.0""#)).ipv6(),
        Row {
            post: Err("HTTP 200, but it is routed to 2a01:4f8:0:5176::2;"),
            get: Get::Elsewhere,
            ..right("ipv6-host-in-the-net", active6(r#""2a01:4f8:0:5176::2""#)).ipv6()
        },
        bad(
            "ipv6-prefix",
            active6(r#""2a01:4f8:0:5176::/64""#),
            "HTTP 200, but active_server_ip is \"2a01:4f8:0:5176::/64\", no address",
        )
        .ipv6(),
        bad(
            "ipv6-brackets",
            active6(r#""[2a01:4f8:0:5176::]""#),
            "HTTP 200, but active_server_ip is \"[2a01:4f8:0:5176::]\", no address",
        )
        .ipv6(),
        bad(
            "ipv6-scope",
            active6(r#""2a01:4f8:0:5176::%1""#),
            "HTTP 200, but active_server_ip is \"2a01:4f8:0:5176::%1\", no address",
        )
        .ipv6(),
    ]
}

/// Bytes that are no right JSON.
fn bodies() -> Vec<Row> {
    let with = |before: &[u8], after: &[u8]| ok([before, body().as_bytes(), after].concat());
    let half = &body()[..body().len() / 2];
    vec![
        bad("half", ok(half), BROKEN_JSON),
        bad("trailing-garbage", with(b"", b"garbage"), BROKEN_JSON),
        bad("twice", with(b"", body().as_bytes()), BROKEN_JSON),
        bad("trailing-nul", with(b"", b"\0"), BROKEN_JSON),
        bad("bom", with(b"\xef\xbb\xbf", b""), NO_JSON),
        bad("guard-against-hijacking", with(b")]}',\n", b""), NO_JSON),
        bad("utf-16", ok(body().encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>()), BROKEN_JSON),
        bad(
            "invalid-utf-8",
            ok([
                br#"{"failover":{"x":"\xff\xfe","#.to_vec(),
                vec![b'"', 0xff, b'"'],
                br#":1,"active_server_ip":"1.1.1.1"}}"#.to_vec(),
            ]
            .concat()),
            BROKEN_JSON,
        ),
        bad(
            "invalid-utf-8-in-the-address",
            active("\"1.1.1.1Z\"")
                .into_iter()
                .map(|byte| if byte == b'Z' { 0xff } else { byte })
                .collect::<Vec<u8>>(),
            "HTTP 200 with ",
        ),
        bad("lone-surrogate", active(r#""1.1.1.1\ud800""#), "HTTP 200 with "),
        bad("nuls", ok([0; 300]), NO_JSON),
        bad("comments", ok(format!("// hello\n{}", body())), NO_JSON),
        bad("single-quotes", ok(body().replace('"', "'")), BROKEN_JSON),
        bad("jsonp", ok(format!("x({})", body())), NO_JSON),
        bad("xml", ok(format!("<?xml version=\"1.0\"?><x>{}</x>", body())), "HTTP 200 with an HTML page ("),
        // Not asked for, so not understood.
        bad("gzip", answer("200 OK", "Content-Encoding: gzip\r\n", GZIP), "HTTP 200 with "),
        bad("deflate", answer("200 OK", "Content-Encoding: deflate\r\n", DEFLATE), "HTTP 200 with "),
        // What it says is wrong, but what it holds is right.
        right("gzip-in-name-only", answer("200 OK", "Content-Encoding: gzip\r\n", body())),
        right("html-in-name-only", answer("200 OK", "Content-Type: text/html; charset=utf-16\r\n", body())),
        right("almost-64-kib", ok(padded(65_535))),
        bad("64-kib-and-a-byte", ok(padded(65_537)), LONG),
        bad("70-kib", ok(padded(71_680)), LONG),
        bad(
            "70-kib-chunked",
            [
                Step::Send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n11800\r\n".to_vec()),
                Step::Send(format!("{}\r\n0\r\n\r\n", padded(71_680)).into()),
            ],
            LONG,
        ),
    ]
}

/// `{"failover":{"active_server_ip":"1.1.1.1"}}`, as gzip and zlib would have it (stored, not compressed).
const GZIP: &[u8] = b"\x1f\x8b\x08\0\0\0\0\0\0\x03\x01\x2b\0\xd4\xff{\"failover\":{\"active_server_ip\":\"1.1.1.1\"}}\0\0\0\0\x2b\0\0\0";
const DEFLATE: &[u8] = b"\x78\x01\x01\x2b\0\xd4\xff{\"failover\":{\"active_server_ip\":\"1.1.1.1\"}}\0\0\0\0";

/// How long the body is said to be.
fn framings() -> Vec<Row> {
    let hex = |length: usize| format!("{length:x}");
    let chunks = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let ends_here = "0\r\n\r\n";
    let no_length = head("HTTP/1.1 200 OK\r\nConnection: close");
    vec![
        right("chunked", chunked(hex, ends_here)),
        right("chunked-upper-case", chunked(|length| format!("00{length:X}"), ends_here)),
        right("chunk-extensions", chunked(|length| format!("{length:x};name=\"value\";x"), ends_here)),
        right("trailers", chunked(hex, "0\r\nX-Checksum: 1\r\nContent-Length: 5\r\n\r\n")),
        right(
            "chunked-and-a-length",
            [Step::Send(
                String::from_utf8(chunked(hex, ends_here))
                    .expect("text")
                    .replace("\r\nTransfer", "\r\nContent-Length: 7\r\nTransfer")
                    .into(),
            )],
        ),
        bad("chunks-without-end", chunked(hex, ""), BROKEN),
        bad("chunk-is-too-short", chunked(|length| hex(length - 1), ends_here), NO_HTTP),
        bad("chunk-is-too-long", chunked(|length| hex(length + 1), ends_here), NO_HTTP),
        bad("chunk-length-is-no-number", chunked(|_| "xyz".into(), ends_here), NO_HTTP),
        bad("chunk-length-is-negative", chunked(|_| "-1".into(), ends_here), NO_HTTP),
        bad("chunk-length-is-huge", format!("{chunks}ffffffffffffffff\r\n{}", body()).into_bytes(), BROKEN),
        bad(
            "chunk-length-overflows",
            format!("{chunks}1{:x>24}\r\n{}", "0", body()).replace('x', "0").into_bytes(),
            NO_HTTP,
        ),
        bad("chunk-length-without-end", [Step::Send(chunks.into()), Step::Flood(vec![b'0'; 4096])], STALLED),
        bad("chunked-in-name-only", format!("{chunks}{}", body()).into_bytes(), STALLED),
        right("length-twice", head("HTTP/1.1 200 OK\r\nContent-Length: LENGTH\r\nContent-Length: LENGTH")),
        bad("two-lengths", head("HTTP/1.1 200 OK\r\nContent-Length: LENGTH\r\nContent-Length: 5"), NO_HTTP),
        bad("length-too-short", head("HTTP/1.1 200 OK\r\nContent-Length: 100"), BROKEN_JSON),
        bad("length-too-long", head("HTTP/1.1 200 OK\r\nContent-Length: 1000"), BROKEN),
        bad("length-is-zero", head("HTTP/1.1 200 OK\r\nContent-Length: 0"), "HTTP 200 with an empty body: "),
        bad("length-is-negative", head("HTTP/1.1 200 OK\r\nContent-Length: -1"), NO_HTTP),
        bad("length-is-huge", head("HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551615"), BROKEN),
        bad("length-overflows", head("HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551616"), NO_HTTP),
        bad("length-is-no-number", head("HTTP/1.1 200 OK\r\nContent-Length: many"), NO_HTTP),
        right("no-length", no_length.clone()),
        // Half an object is no JSON, so that TLS need not tell where it ends.
        right("no-length-and-cut", [Step::Send(no_length), Step::Cut]),
        bad(
            "no-length-and-half",
            [Step::Send(format!("HTTP/1.1 200 OK\r\n\r\n{}", &body()[..60]).into())],
            BROKEN_JSON,
        ),
        bad(
            "body-without-end",
            [Step::Send(b"HTTP/1.1 200 OK\r\n\r\n".to_vec()), Step::Flood(vec![b' '; 8192])],
            LONG,
        ),
        bad(
            "chunks-for-ever",
            [Step::Send(chunks.into()), Step::Flood(format!("1000\r\n{:4096}\r\n", "").into())],
            LONG,
        ),
    ]
}

/// Status lines and headers.
fn heads() -> Vec<Row> {
    let many = |number: usize| {
        let lines: String = (0..number).map(|number| format!("X-{number}: y\r\n")).collect();
        head(&format!("HTTP/1.1 200 OK\r\n{lines}Content-Length: LENGTH"))
    };
    let header = |line: &str| head(&format!("HTTP/1.1 200 OK\r\n{line}\r\nContent-Length: LENGTH"));
    let status = |line: &str| head(&format!("{line}\r\nContent-Length: LENGTH"));
    vec![
        right("100-continue-first", [b"HTTP/1.1 100 Continue\r\n\r\n".to_vec(), here()].concat()),
        right(
            "102-and-103-first",
            [
                b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n".to_vec(),
                here(),
            ]
            .concat(),
        ),
        bad("100-continue-only", [Step::Send(b"HTTP/1.1 100 Continue\r\n\r\n".to_vec()), Step::Hang], LATE),
        bad("100-continue-and-close", b"HTTP/1.1 100 Continue\r\n\r\n".to_vec(), BROKEN),
        // Which limit ends it, of bytes or of time, is a matter of speed.
        bad("100-continue-for-ever", [Step::Flood(b"HTTP/1.1 100 Continue\r\n\r\n".to_vec())], ""),
        bad("101", b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\n\r\n".to_vec(), "HTTP 101"),
        right("no-reason", status("HTTP/1.1 200")),
        right("another-reason", status("HTTP/1.1 200 Not At All OK: 404")),
        right("http-1.0", status("HTTP/1.0 200 OK")),
        right("lf-only", String::from_utf8(here()).expect("text").replace("\r\n", "\n").into_bytes()),
        right(
            "headers-in-lower-case",
            [&b"HTTP/1.1 200 OK\r\n"[..], &head("content-length: LENGTH")].concat(),
        ),
        bad("http-0.9", body().into_bytes(), NO_HTTP),
        bad("http-1.2", status("HTTP/1.2 200 OK"), NO_HTTP),
        bad("http-2-preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), NO_HTTP),
        bad(
            "http-2-settings",
            b"\0\0\x12\x04\0\0\0\0\0\0\x03\0\0\0\x80\0\x04\0\x01\0\0\0\x05\0\xff\xff\xff".to_vec(),
            NO_HTTP,
        ),
        bad("status-of-two-digits", status("HTTP/1.1 20 OK"), NO_HTTP),
        bad("status-of-four-digits", status("HTTP/1.1 2000 OK"), NO_HTTP),
        bad("status-is-negative", status("HTTP/1.1 -200 OK"), NO_HTTP),
        bad("status-is-a-word", status("HTTP/1.1 OK 200"), NO_HTTP),
        bad("status-zero", status("HTTP/1.1 000 OK"), NO_HTTP),
        bad("garbage", b"\x00\xff\x13\x37 garbage instead of HTTP\n\n".to_vec(), NO_HTTP),
        bad("ssh", b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n".to_vec(), NO_HTTP),
        bad("smtp", b"220 mail.example.com ESMTP\r\n".to_vec(), NO_HTTP),
        right("100-headers", many(100)),
        bad("500-headers", many(500), NO_HTTP),
        bad("one-huge-header", header(&format!("X: {}", "y".repeat(100_000))), ENDLESS_HEADER),
        bad(
            "headers-without-end",
            [Step::Send(b"HTTP/1.1 200 OK\r\n".to_vec()), Step::Flood(b"X: y\r\n".repeat(100))],
            NO_HTTP,
        ),
        bad(
            "header-line-without-end",
            [Step::Send(b"HTTP/1.1 200 OK\r\nX: ".to_vec()), Step::Flood(vec![b'y'; 4096])],
            ENDLESS_HEADER,
        ),
        bad(
            "reason-without-end",
            [Step::Send(b"HTTP/1.1 200 ".to_vec()), Step::Flood(vec![b'y'; 4096])],
            ENDLESS_HEADER,
        ),
        bad("obs-fold", header("X: a\r\n  b"), NO_HTTP),
        bad("header-without-colon", header("X"), NO_HTTP),
        bad("header-without-name", header(": x"), NO_HTTP),
        bad("space-before-the-colon", header("X : y"), NO_HTTP),
        bad("nul-in-a-header", header("X: a\0b"), NO_HTTP),
        right(
            "bytes-in-a-header",
            [b"HTTP/1.1 200 OK\r\nX: \xff\xfe\xe4\r\n".to_vec(), head("Content-Length: LENGTH")].concat(),
        ),
        right("cookies", header("Set-Cookie: a=b\r\nSet-Cookie: c=d")),
    ]
}

/// What a connection does when it does not do what it should.
fn sockets() -> Vec<Row> {
    let whole = here();
    let cut = |at: usize| Step::Send(whole[..at].to_vec());
    let in_head = 30;
    let in_body = whole.len() - 10;
    let pause = Duration::from_millis(40);
    vec![
        bad("close", [], BROKEN),
        bad("close-in-the-head", [cut(in_head)], BROKEN),
        bad("close-after-the-head", [cut(whole.len() - body().len())], BROKEN),
        bad("close-in-the-body", [cut(in_body)], BROKEN),
        bad("cut-in-the-body", [cut(in_body), Step::Cut], BROKEN),
        bad("reset", [Step::Reset], BROKEN),
        bad("reset-in-the-head", [cut(in_head), Step::Reset], BROKEN),
        bad("reset-in-the-body", [cut(in_body), Step::Reset], BROKEN),
        bad("hang", [Step::Hang], LATE),
        bad("hang-in-the-head", [cut(in_head), Step::Hang], LATE),
        bad("hang-after-the-head", [cut(whole.len() - body().len()), Step::Hang], LATE),
        bad("hang-in-the-body", [cut(in_body), Step::Hang], LATE),
        bad(
            "hang-in-the-chunks",
            [Step::Send(chunked(|length| format!("{length:x}"), "")), Step::Hang],
            LATE,
        ),
        bad("hang-without-length", [Step::Send(head("HTTP/1.1 200 OK")), Step::Hang], LATE),
        bad("trickle", [Step::Trickle(whole.clone(), pause)], LATE),
        bad(
            "trickle-in-the-body",
            [cut(whole.len() - body().len()), Step::Trickle(body().into(), pause)],
            LATE,
        ),
        right("byte-by-byte", [Step::Trickle(whole.clone(), Duration::ZERO)]),
        right("hang-after-the-answer", [Step::Send(whole.clone()), Step::Hang]),
        right(
            "says-close-and-hangs",
            [Step::Send(answer("200 OK", "Connection: close\r\n", body())), Step::Hang],
        ),
        right("garbage-after-the-answer", [whole, b"garbage".to_vec()].concat()),
    ]
}

fn certificate(name: &'static str, certificate: Certificate, line: &'static str) -> Row {
    bad(name, here(), line).https().shake(Shake::Tls(certificate))
}

/// TLS, and what is none.
fn handshakes() -> Vec<Row> {
    let tls = |name, bytes: Vec<u8>, line| bad(name, [Step::Raw(bytes)], line).https().shake(Shake::Blind);
    let head = Step::Send(b"HTTP/1.1 200 OK\r\nContent-Length: 60\r\n\r\n{\"failover\"".to_vec());
    vec![
        certificate(
            "expired",
            Certificate::Expired,
            "TLS with HOST failed: its certificate has expired: check this machine's clock",
        ),
        certificate(
            "not-yet-valid",
            Certificate::NotYetValid,
            "TLS with HOST failed: its certificate is not valid yet: check this machine's clock",
        ),
        certificate(
            "other-host",
            Certificate::OtherHost,
            "TLS with HOST failed: its certificate is for another host: check url",
        ),
        certificate(
            "self-signed",
            Certificate::SelfSigned,
            "TLS with HOST failed: its certificate is from an unknown issuer: ",
        ),
        certificate(
            "unknown-issuer",
            Certificate::UnknownIssuer,
            "TLS with HOST failed: its certificate is from an unknown issuer: check ca-certificates and SSL_CERT_FILE",
        ),
        certificate(
            "other-purpose",
            Certificate::OtherPurpose,
            "TLS with HOST failed: its certificate is not accepted: ",
        ),
        tls(
            "alert-handshake-failure",
            alert(40),
            "TLS with HOST failed: received fatal alert: HandshakeFailure",
        ),
        tls(
            "alert-protocol-version",
            alert(70),
            "TLS with HOST failed: received fatal alert: ProtocolVersion",
        ),
        tls("alert-internal-error", alert(80), "TLS with HOST failed: received fatal alert: InternalError"),
        tls("tls-1.0", server_hello(1), OLD_TLS),
        tls("tls-1.1", server_hello(2), OLD_TLS),
        tls("tls-1.2-with-a-cipher-of-1998", server_hello(3), "TLS with HOST failed: peer misbehaved: "),
        tls("plain-http", here(), NO_TLS),
        tls("plain-400", html("400 Bad Request"), NO_TLS),
        tls("ssh-on-the-tls-port", b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n".to_vec(), NO_TLS),
        tls("nuls-in-the-handshake", vec![0; 64], NO_TLS),
        tls("record-too-long", [22, 3, 3, 0xff, 0xff].to_vec(), NO_TLS),
        tls("half-a-record", record(22, &[2; 40])[..20].to_vec(), NOTHING_SENT),
        tls("close-in-the-handshake", vec![], NOTHING_SENT),
        bad("close-at-once", [], NOTHING_SENT).https().shake(Shake::AtOnce),
        bad("reset-in-the-handshake", [Step::Reset], NOTHING_SENT).https().shake(Shake::Blind),
        bad("hang-in-the-handshake", [Step::Hang], "HOST: no connection within ")
            .late()
            .https()
            .shake(Shake::Blind),
        // A record of a handshake that would take minutes.
        bad(
            "trickle-in-the-handshake",
            [Step::Trickle(
                record(22, &[&[2, 0, 15, 0][..], &[7; 4000]].concat()),
                Duration::from_millis(40),
            )],
            "HOST: no connection within ",
        )
        .late()
        .https()
        .shake(Shake::Blind),
        bad(
            "bad-record-in-the-answer",
            [head.clone(), Step::Raw(record(23, &[7; 40]))],
            "TLS with HOST failed: ",
        )
        .https(),
        bad(
            "plain-text-in-the-answer",
            [head.clone(), Step::Raw(b"1234567890123456789012345678901234567890".to_vec())],
            "TLS with HOST failed: ",
        )
        .https(),
        bad("alert-in-the-answer", [head, Step::Raw(alert(80))], "TLS with HOST failed: ").https(),
        bad("tls-on-the-plain-port", [Step::Raw(alert(10))], NO_HTTP).http().shake(Shake::Blind),
        bad("ssh-at-once", [Step::Raw(b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n".to_vec())], NO_HTTP)
            .http()
            .shake(Shake::AtOnce),
        bad("close-before-the-request", [], BROKEN).http().shake(Shake::AtOnce),
    ]
}

/// What takes more than one request, or must not.
pub fn sequences() -> Vec<Sequence> {
    let found = Ok("found by GET, after ");
    let again = Ok("HTTP 200, after ");
    let seq = |name, first: Play, then: &[Play], asked, post| {
        let row = Row { post, ..right(name, first) };
        Sequence { row, then: then.into(), asked }
    };
    let close = || Play::from([]);
    let here = || Play::from(here());
    let open = |bytes: Vec<u8>| Play::from([Step::Send(bytes), Step::KeepOpen]);
    let open_elsewhere = || open(active(r#""2.2.2.2""#));
    // On a connection that is just being closed, the POST that follows at once would be lost.
    let elsewhere = || Play::from(active(r#""2.2.2.2""#));
    let third = || Play::from(active(r#""3.3.3.3""#));
    let nowhere = || Play::from(active("null"));
    let error = |status, code| Play::from(error(status, code, ""));
    let half = || Step::Send(head("HTTP/1.1 200 OK\r\nContent-Length: 999"));
    let handshake = |steps: &[Step]| Play { shake: Shake::Blind, steps: steps.into() };
    let lost = |name, first: Play| seq(name, first, &[here()], "PG", found);
    let refused = |name, first: Play, line| seq(name, first, &[here()], "P", Err(line));
    let blind = |name, look: Play, line| seq(name, close(), &[look, here()], "PG", Err(line));
    let (failed, locked) = (|| error(500, "FAILOVER_FAILED"), || error(409, "FAILOVER_LOCKED"));
    vec![
        lost("lost-then-here", close()),
        lost("reset-then-here", [Step::Reset].into()),
        lost("hang-then-here", [Step::Hang].into()),
        lost("half-then-here", [half()].into()),
        lost("html-then-here", html("502 Bad Gateway").into()),
        lost("no-http-then-here", b"garbage\n\n".to_vec().into()),
        lost(
            "endless-then-here",
            [Step::Send(head("HTTP/1.1 200 OK")), Step::Flood(vec![b' '; 8192])].into(),
        ),
        // The POST was sent whole: what becomes of its answer says nothing of the switch.
        lost("bad-record-then-here", [half(), Step::Raw(record(23, &[7; 40]))].into()),
        lost("plain-text-then-here", [half(), Step::Raw(vec![b'x'; 40])].into()),
        lost("alert-then-here", [half(), Step::Raw(alert(80))].into()),
        lost("alert-instead-of-an-answer", [Step::Raw(alert(80))].into()),
        lost("plain-text-instead-of-an-answer", [Step::Raw(html("400 Bad Request"))].into()),
        // Here, and here to stay? Another POST is told.
        seq(
            "locked-then-settled",
            locked(),
            &[here(), error(409, "FAILOVER_ALREADY_ROUTED")],
            "PGP",
            Ok("HTTP 409 FAILOVER_ALREADY_ROUTED, after "),
        ),
        seq("locked-then-here", locked(), &[elsewhere(), here()], "PGG", found),
        seq("locked-then-moved", locked(), &[third(), elsewhere(), here()], "PGGP", again),
        seq("failed-then-again", failed(), &[elsewhere(), here()], "PGP", again),
        seq("half-way-then-nowhere", error(500, "FAILOVER_NOT_COMPLETE"), &[nowhere(), here()], "PGP", again),
        seq("elsewhere-then-again", elsewhere(), &[elsewhere(), here()], "PGP", again),
        seq("maintenance-then-here", error(503, "X"), &[error(503, "X"), here()], "PGG", found),
        seq("look-is-no-object", close(), &[ok("{}").into(), here()], "PGG", found),
        // Nothing was sent yet, so there is nothing to look for.
        seq("alert-in-the-handshake-then-here", handshake(&[Step::Raw(alert(80))]), &[here()], "P", again),
        seq("cut-in-the-handshake-then-here", handshake(&[]), &[here()], "P", again),
        seq("hang-in-the-handshake-then-here", handshake(&[Step::Hang]), &[here()], "P", again),
        seq("old-tls-then-here", handshake(&[Step::Raw(server_hello(1))]), &[here()], "P", again),
        // What comes unasked on a connection that stays open is no answer to the next request.
        seq(
            "unasked-answer",
            open([active(r#""2.2.2.2""#), active(r#""1.1.1.1""#)].concat()),
            &[elsewhere()],
            "PGPGPG",
            Err("HTTP 200, but it is routed to 2.2.2.2; it is routed to 2.2.2.2, after 3 POSTs"),
        ),
        seq("connection-used-again", open_elsewhere(), &[here()], "PG", found),
        seq(
            "connection-reset-when-used-again",
            open_elsewhere(),
            &[[Step::Reset].into(), here()],
            "PGG",
            found,
        ),
        seq(
            "three-posts",
            failed(),
            &[elsewhere(), failed(), elsewhere(), failed(), elsewhere()],
            "PGPGPG",
            Err(
                "HTTP 500 FAILOVER_FAILED \"a message\": the switch failed; it is routed to 2.2.2.2, after 3 POSTs",
            ),
        ),
        refused("refused-400", error(400, "INVALID_INPUT"), "HTTP 400 INVALID_INPUT "),
        refused("refused-401", error(401, "UNAUTHORIZED"), "HTTP 401 UNAUTHORIZED "),
        refused("refused-403", error(403, "X"), "HTTP 403 X "),
        refused("refused-403-html", html("403 Forbidden").into(), "HTTP 403 with an HTML page"),
        refused("refused-404", error(404, "NOT_FOUND"), "HTTP 404 NOT_FOUND "),
        refused("refused-302", redirect("302 Found", "https://TRAP/").into(), "HTTP 302, a redirect to "),
        blind("look-is-401", error(401, "UNAUTHORIZED"), "HTTP 401 UNAUTHORIZED "),
        // The switch may yet be made, and another POST would be the last resort.
        blind("look-is-403", error(403, "RATE_LIMIT_EXCEEDED"), "held back until "),
        blind("look-is-404", error(404, "NOT_FOUND"), "HTTP 404 NOT_FOUND "),
        blind("look-is-302", redirect("302 Found", "/").into(), "HTTP 302, a redirect to /: never followed"),
        Sequence {
            row: certificate(
                "refused-certificate",
                Certificate::Expired,
                "TLS with HOST failed: its certificate has expired",
            ),
            then: vec![here()],
            asked: "",
        },
    ]
}
