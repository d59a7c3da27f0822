//! The stand-in held against the API facts, over plain sockets: a client library would hide what is sent. What it shares
//! with Robot's, connections and TLS, is tested there.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant, UNIX_EPOCH};

use serde_json::{Value, json};

use super::action::timestamp;
use super::{Cloud, Config, FloatingIp, Rule, Server, Token};
use crate::standin::grammar;
use crate::{ip, wait_until};

const IP: &str = "4.4.4.4";
const HERE: u64 = 41;
const THERE: u64 = 42;
const LONG: Duration = crate::LIMIT;
const ONE: &str = "/floating_ips/7";
const ASSIGN: &str = "/floating_ips/7/actions/assign";

fn config() -> Config {
    Config { floating_ips: vec![FloatingIp::new(7, ip(IP), Some(HERE))], ..Config::default() }
}

fn start(config: Config) -> Cloud {
    Cloud::start(config).unwrap()
}

fn rule(spec: &str) -> Rule {
    spec.parse().unwrap()
}

/// With a bearer token, if one is given.
fn request(method: &str, path: &str, token: &str, body: &str) -> String {
    let login = if token.is_empty() { String::new() } else { format!("Authorization: Bearer {token}\r\n") };
    format!(
        "{method} /v1{path} HTTP/1.1\r\nHost: cloud\r\n{login}Content-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn send(cloud: &Cloud, request: &str) -> TcpStream {
    let mut stream = TcpStream::connect(cloud.addr()).unwrap();
    stream.set_read_timeout(Some(LONG)).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    stream
}

/// Head in small letters, and body.
fn read_answer(stream: &mut impl Read) -> io::Result<(String, String)> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap().to_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.unwrap().parse().unwrap()];
    stream.read_exact(&mut body)?;
    Ok((head, String::from_utf8(body).unwrap()))
}

fn ask_as(cloud: &Cloud, token: &str, method: &str, path: &str, body: &str) -> (u16, Value) {
    let (head, body) = read_answer(&mut send(cloud, &request(method, path, token, body))).unwrap();
    (head[9..12].parse().unwrap(), serde_json::from_str(&body).unwrap_or(Value::String(body)))
}

fn get(cloud: &Cloud, path: &str) -> (u16, Value) {
    ask_as(cloud, "any", "GET", path, "")
}

/// The server that the IP shows.
fn server(cloud: &Cloud) -> Value {
    get(cloud, ONE).1["floating_ip"]["server"].clone()
}

/// Status, and how far the action is, or the code of the error.
fn assign(cloud: &Cloud, server: u64) -> (u16, String) {
    short(ask_as(cloud, "any", "POST", ASSIGN, &json!({ "server": server }).to_string()))
}

fn short((status, body): (u16, Value)) -> (u16, String) {
    let text = body["error"]["code"].as_str().or(body["action"]["status"].as_str());
    (status, text.unwrap_or_default().to_owned())
}

fn is(status: u16, text: &str) -> (u16, String) {
    (status, text.to_owned())
}

fn action(cloud: &Cloud, id: u64) -> Value {
    get(cloud, &format!("/actions/{id}")).1["action"].take()
}

#[test]
fn answers_as_documented() {
    let cloud = start(config());
    let (status, body) = get(&cloud, ONE);
    let found = &body["floating_ip"];
    assert_eq!(
        (status, &found["ip"], &found["type"], &found["server"]),
        (200, &json!(IP), &json!("ipv4"), &json!(HERE))
    );
    assert_eq!(
        (&found["blocked"], &found["home_location"]["network_zone"]),
        (&json!(false), &json!("eu-central"))
    );

    let (status, body) = ask_as(&cloud, "any", "POST", ASSIGN, r#"{"server":42}"#);
    let begun = &body["action"];
    assert_eq!(
        (status, &begun["command"], &begun["status"]),
        (201, &json!("assign_floating_ip"), &json!("success"))
    );
    assert_eq!(begun["resources"], json!([{"id": 42, "type": "server"}, {"id": 7, "type": "floating_ip"}]));
    assert_eq!((&begun["error"], &begun["progress"]), (&Value::Null, &json!(100)));
    assert_eq!((server(&cloud), cloud.route(ip(IP))), (json!(THERE), Some(THERE)));
    for path in ["/actions/1", "/floating_ips/actions/1", "/floating_ips/7/actions/1"] {
        assert_eq!(get(&cloud, path).1["action"], *begun, "{path}");
    }

    let (status, body) = ask_as(&cloud, "any", "POST", "/floating_ips/7/actions/unassign", "{}");
    assert_eq!((status, &body["action"]["command"]), (201, &json!("unassign_floating_ip")));
    assert_eq!((server(&cloud), cloud.route(ip(IP))), (Value::Null, None));
    let routes: Vec<_> = cloud.history().iter().map(|change| change.2).collect();
    assert_eq!(routes, [Some(THERE), None]);
    let journal = cloud.journal();
    assert!(journal.iter().any(|request| request.path.ends_with("/unassign")));
    assert!(
        journal.iter().all(|request| request.ip == Some(ip(IP)) && request.user.as_deref() == Some("token"))
    );
    assert_eq!((journal[1].target.as_deref(), journal[1].code.as_deref()), (Some("42"), Some("success")));
    assert_eq!(timestamp(UNIX_EPOCH + Duration::from_secs(1_709_251_199)), "2024-02-29T23:59:59+00:00");
}

#[test]
fn where_nothing_may_be_unassigned_it_does_not_go_unnoticed() {
    for (may_unassign, path, panics) in [
        (true, "/floating_ips/7/actions/unassign", false),
        (false, "/floating_ips/7/actions/unassign", true),
        (false, ASSIGN, false),
    ] {
        let cloud = start(Config { may_unassign, ..config() });
        ask_as(&cloud, "any", "POST", path, r#"{"server":42}"#);
        let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(cloud)));
        assert_eq!(ended.is_err(), panics, "{path}");
    }
}

#[test]
fn an_ipv6_one_is_the_text_of_its_net() {
    let floating_ips = vec![FloatingIp::new(7, ip("2001:db8::"), None)];
    let cloud = start(Config { floating_ips, ..Config::default() });
    let found = get(&cloud, ONE).1["floating_ip"].clone();
    assert_eq!(
        (&found["ip"], &found["type"], &found["server"]),
        (&json!("2001:db8::/64"), &json!("ipv6"), &Value::Null)
    );
}

#[test]
fn says_no_as_documented() {
    let cloud = start(Config { servers: vec![Server::new(HERE), Server::new(THERE)], ..config() });
    assert_eq!(assign(&cloud, HERE), is(422, "floating_ip_assigned"));
    assert_eq!(assign(&cloud, 99), is(404, "not_found"));
    for (method, path, body, expected) in [
        ("GET", "/floating_ips/8", "", is(404, "not_found")),
        ("GET", "/floating_ips/x", "", is(404, "not_found")),
        ("GET", "/floating_ips/+7", "", is(404, "not_found")),
        ("GET", "/actions/1", "", is(404, "not_found")),
        ("GET", "/primary_ips", "", is(404, "not_found")),
        ("GET", "/servers/99", "", is(404, "not_found")),
        ("POST", ONE, "{}", is(405, "method_not_allowed")),
        ("GET", ASSIGN, "", is(405, "method_not_allowed")),
        ("POST", ASSIGN, "server=42", is(400, "json_error")),
        ("POST", ASSIGN, "{}", is(422, "invalid_input")),
        ("POST", ASSIGN, r#"{"server":"42"}"#, is(422, "invalid_input")),
        ("POST", ASSIGN, r#"{"server":null}"#, is(422, "invalid_input")),
    ] {
        assert_eq!(short(ask_as(&cloud, "any", method, path, body)), expected, "{method} {path} {body}");
    }
    let (_, body) = ask_as(&cloud, "any", "POST", ASSIGN, "{}");
    assert_eq!(body["error"]["details"]["fields"][0]["name"], "server");
    assert_eq!(get(&cloud, "/servers/42").1["server"]["name"], "server-42");
    assert_eq!(cloud.route(ip(IP)), Some(HERE));
}

#[test]
fn lists_have_pages_and_a_filter_by_name() {
    let ip_of = |number: u64| ip(&format!("4.4.4.{number}"));
    let floating_ips = (1..=60).map(|number| FloatingIp::new(number, ip_of(number), None)).collect();
    let cloud = start(Config { floating_ips, ..Config::default() });
    let list = |query: &str| {
        let (status, body) = get(&cloud, &format!("/floating_ips{query}"));
        let ids: Vec<u64> = body["floating_ips"]
            .as_array()
            .map(|all| all.iter().filter_map(|found| found["id"].as_u64()).collect())
            .unwrap_or_default();
        (status, ids.first().copied(), ids.len(), body["meta"]["pagination"]["next_page"].clone())
    };
    assert_eq!(list(""), (200, Some(1), 25, json!(2)));
    assert_eq!(list("?per_page=50&page=2"), (200, Some(51), 10, Value::Null));
    assert_eq!(list("?page=9"), (200, None, 0, Value::Null));
    assert_eq!(list("?name=floating-ip-33"), (200, Some(33), 1, Value::Null));
    // No filter by address: what it does not know it does not heed.
    assert_eq!(list("?ip=4.4.4.9"), (200, Some(1), 25, json!(2)));
    for wrong in ["?per_page=51", "?page=0", "?page=x"] {
        assert_eq!(list(wrong).0, 422, "{wrong}");
    }
    let pagination = get(&cloud, "/floating_ips?page=2").1["meta"]["pagination"].clone();
    let expected = json!({"page": 2, "per_page": 25, "previous_page": 1, "next_page": 3, "last_page": 3, "total_entries": 60});
    assert_eq!(pagination, expected);
}

#[test]
fn a_token_opens_its_project_alone() {
    let other = FloatingIp { project: "other".into(), ..FloatingIp::new(8, ip("5.5.5.5"), None) };
    let tokens = vec![
        Token::new("main", "SECRET-1"),
        Token::new("reads", "SECRET-2").read_only(),
        Token::new("other", "SECRET-3").of("other"),
    ];
    let floating_ips = config().floating_ips.into_iter().chain([other]).collect();
    let config = Config { tokens, floating_ips, ..config() };
    assert!(!format!("{config:?}").contains("SECRET"));
    let cloud = start(config);
    let move_it = |token| short(ask_as(&cloud, token, "POST", ASSIGN, r#"{"server":42}"#));
    assert_eq!(move_it(""), is(401, "unauthorized"));
    assert_eq!(move_it("SECRET-9"), is(401, "unauthorized"));
    assert_eq!(move_it("SECRET-2"), is(403, "token_readonly"));
    assert_eq!(ask_as(&cloud, "SECRET-2", "GET", ONE, "").0, 200);
    assert_eq!(move_it("SECRET-3"), is(404, "not_found"));
    let all = |token| {
        ask_as(&cloud, token, "GET", "/floating_ips", "").1["meta"]["pagination"]["total_entries"].clone()
    };
    assert_eq!((all("SECRET-1"), all("SECRET-3")), (json!(1), json!(1)));
    assert_eq!(move_it("SECRET-1"), is(201, "success"));
    // Nor is an action of another Project's.
    assert_eq!(ask_as(&cloud, "SECRET-3", "GET", "/actions/1", "").0, 404);

    let journal = cloud.journal();
    let users: Vec<_> = journal.iter().map(|request| request.user.as_deref().unwrap_or("-")).collect();
    assert_eq!(users[..4], ["-", "unknown-token", "reads", "reads"]);
    assert_eq!(journal.iter().filter(|request| !request.authorised).count(), 2);
    assert!(!format!("{journal:?}").contains("SECRET"));
}

#[test]
fn a_project_has_a_bucket_that_fills_up_again() {
    let tokens = ["a", "b"].map(|project| Token::new(project, project).of(project));
    let cloud = start(Config { limit: 2, tokens: tokens.to_vec(), ..config() });
    let ask = |token: &str| {
        let (head, _) = read_answer(&mut send(&cloud, &request("GET", "/floating_ips", token, ""))).unwrap();
        let header = |name: &str| {
            let line = head.lines().find_map(|line| line.strip_prefix(&format!("ratelimit-{name}: ")));
            line.unwrap_or_else(|| panic!("{head}")).parse::<u64>().unwrap()
        };
        let reset = header("reset").saturating_sub(UNIX_EPOCH.elapsed().unwrap().as_secs());
        (head[9..12].to_owned(), header("limit"), header("remaining"), reset)
    };
    let (status, limit, left, reset) = ask("a");
    assert_eq!((status.as_str(), limit, left), ("200", 2, 1));
    // When it is full again, not when to ask next.
    assert!((1700..=1801).contains(&reset), "{reset}");
    assert_eq!(ask("a").2, 0);
    assert_eq!((ask("a").0, ask("b").0), ("429".to_owned(), "200".to_owned()));
    let refused = ask_as(&cloud, "a", "POST", ASSIGN, r#"{"server":42}"#);
    assert_eq!(short(refused), is(429, "rate_limit_exceeded"));
    // Ten thousand an hour are one in less than half a second.
    cloud.set_limit(10_000);
    (0..3).for_each(|_| assert_eq!(ask("a").0, "200"));
}

#[test]
fn an_action_runs_and_locks() {
    let cloud = start(Config { switch: Duration::from_secs(3600), ..config() });
    assert_eq!(assign(&cloud, THERE), is(201, "running"));
    assert_eq!(assign(&cloud, 43), is(423, "locked"));
    assert_eq!(
        short(ask_as(&cloud, "any", "POST", "/floating_ips/7/actions/unassign", "")),
        is(423, "locked")
    );
    let running = action(&cloud, 1);
    assert_eq!((&running["status"], &running["finished"]), (&json!("running"), &Value::Null));
    assert_eq!((server(&cloud), cloud.is_switching(ip(IP))), (json!(HERE), true));

    let time = Duration::from_millis(300);
    let cloud = start(Config { switch: time, ..config() });
    let began = Instant::now();
    assert_eq!(assign(&cloud, THERE), is(201, "running"));
    assert!(wait_until(LONG, || action(&cloud, 1)["status"] == "success"));
    assert!(began.elapsed() >= time);
    assert_eq!((server(&cloud), cloud.is_switching(ip(IP))), (json!(THERE), false));
    assert!(action(&cloud, 1)["finished"].is_string());
}

#[test]
fn actions_fail_or_never_end() {
    for (spec, end, moved) in [
        ("post fails", "error", false),
        ("post fails server_error", "error", false),
        ("post after-switch fails", "error", true),
        ("post endless", "running", false),
        ("post after-switch endless", "running", true),
        ("post takes 50ms", "success", true),
        ("post early", "success", true),
    ] {
        let cloud = start(Config { switch: Duration::from_millis(30), ..config() });
        cloud.fault(rule(spec));
        assert_eq!(assign(&cloud, THERE), is(201, "running"), "{spec}");
        let expected = if moved { Some(THERE) } else { Some(HERE) };
        let is_over = || action(&cloud, 1)["status"] == end && cloud.route(ip(IP)) == expected;
        assert!(wait_until(LONG, is_over), "{spec}: {}", action(&cloud, 1));
        let code = action(&cloud, 1)["error"]["code"].clone();
        match end {
            "error" => assert_eq!(
                code,
                if spec.ends_with("server_error") { "server_error" } else { "action_failed" }
            ),
            "running" => assert_eq!(assign(&cloud, 43), is(423, "locked"), "{spec}"),
            _ => assert_eq!(code, Value::Null),
        }
        cloud.clear_faults();
        assert!(!cloud.is_switching(ip(IP)), "{spec}");
        assert_eq!(assign(&cloud, 43).0, 201, "{spec}");
    }
}

#[test]
fn an_early_server_is_shown_while_its_action_runs_and_not_when_it_has_failed() {
    let cloud = start(Config { early: true, ..config() });
    cloud.fault(rule("post endless"));
    assign(&cloud, THERE);
    assert_eq!((server(&cloud), cloud.route(ip(IP))), (json!(THERE), Some(HERE)));
    // It ends with an error.
    cloud.clear_faults();
    assert_eq!(server(&cloud), json!(HERE));
    cloud.set_early(false);
    cloud.fault(rule("post endless"));
    assign(&cloud, THERE);
    assert_eq!(server(&cloud), json!(HERE));
}

#[test]
fn scripted_answers() {
    for (spec, post, look) in [
        ("any error LOCKED", is(423, "locked"), 423),
        ("any error rate_limit_exceeded", is(429, "rate_limit_exceeded"), 429),
        ("any locked 1h", is(423, "locked"), 423),
        ("any html 502", is(502, ""), 502),
        ("any truncated", is(200, ""), 200),
        ("post status done", is(201, "done"), 200),
        ("any null", is(201, "success"), 200),
        ("post path=/assign error conflict", is(409, "conflict"), 200),
        ("any path=/actions error timeout", is(504, "timeout"), 200),
    ] {
        let cloud = start(config());
        cloud.fault(rule(spec));
        assert_eq!(assign(&cloud, THERE), post, "{spec}");
        assert_eq!(get(&cloud, ONE).0, look, "{spec}");
        // Only the word is wrong.
        let is_moved = spec == "post status done";
        assert_eq!(cloud.route(ip(IP)) == Some(THERE), is_moved, "{spec}");
    }
    let cloud = start(config());
    for (spec, shown) in [("get times=1 null", Value::Null), ("get times=1 other 9", json!(9))] {
        cloud.fault(rule(spec));
        assert_eq!(get(&cloud, ONE).1["floating_ip"]["server"], shown, "{spec}");
    }
    cloud.fault(rule("get times=1 missing"));
    assert!(!get(&cloud, ONE).1["floating_ip"].as_object().unwrap().contains_key("server"));
    cloud.fault(rule("post target=42 lost-answer"));
    let lost = read_answer(&mut send(&cloud, &request("POST", ASSIGN, "any", r#"{"server":42}"#)));
    assert_eq!(lost.unwrap_err().kind(), ErrorKind::UnexpectedEof);
    assert_eq!(cloud.route(ip(IP)), Some(THERE));
}

#[test]
fn specs_read_back_as_they_are_shown_and_wrong_ones_say_what_was_expected() {
    for spec in [
        "post fails action_failed",
        "post target=42 path=/assign times=2 after-switch fails server_error",
        "post endless",
        "post takes 1.5s",
        "any early",
        "get status queued",
        "get other 42",
        "any error rate_limit_exceeded",
        "post locked 10s",
    ] {
        assert_eq!(rule(spec).to_string(), spec);
    }
    assert_eq!(rule("post fails times=1"), rule("post times=1 fails action_failed"));
    for (spec, expected) in [
        ("post burn", "fails, endless, takes, early, status, error"),
        ("post error OOPS", "rate_limit_exceeded"),
        ("post takes", "a time such as 10s"),
        ("post target=1.1.1.1 close", "a server's id"),
        ("get other here", "a server's id"),
    ] {
        let why = spec.parse::<Rule>().unwrap_err();
        assert!(why.starts_with("expected") && why.contains(expected), "{spec:?}: {why}");
    }
    let grammar = grammar::<super::Own>();
    assert!(
        grammar.contains("\n            endless  ") && grammar.contains("\n          no answer:"),
        "{grammar}"
    );
    assert!(grammar.lines().all(|line| line.len() < 120), "{grammar}");
}

#[test]
fn the_metadata_service_tells_the_server_without_a_login() {
    let path = "GET /hetzner/v1/metadata/instance-id HTTP/1.1\r\nHost: x\r\n\r\n";
    let ask = |cloud: &Cloud| {
        let (head, body) = read_answer(&mut send(cloud, path)).unwrap();
        (head[9..12].to_owned(), body)
    };
    let cloud = start(Config { instance_id: Some(4711), ..config() });
    assert_eq!(ask(&cloud), ("200".to_owned(), "4711".to_owned()));
    assert_eq!(ask(&start(config())).0, "404");
    cloud.fault(rule("get path=/metadata empty"));
    assert_eq!(ask(&cloud), ("200".to_owned(), String::new()));
}

#[test]
fn loopback_and_link_local_only() {
    let listen = "0.0.0.0:0".parse().unwrap();
    assert_eq!(Cloud::start(Config { listen, ..config() }).err().unwrap().kind(), ErrorKind::InvalidInput);
}
