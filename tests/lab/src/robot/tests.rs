//! The stand-in held against the API facts, over plain sockets: a client library would hide what is sent.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, ClientConnection, HandshakeKind, RootCertStore, StreamOwned, crypto::ring};
use serde_json::{Value, json};

use super::answer::{error, rate_limit_exceeded};
use super::call::{Call, Resource, What};
use super::state::{Account, Step};
use super::{Certificate, Code, Config, Failover, Limits, Login, Method, Robot, Rule};
use crate::standin::{Api as _, Target};
use crate::{ip, wait_until};

const IP: &str = "4.4.4.4";
const HERE: &str = "1.1.1.1";
const THERE: &str = "2.2.2.2";
/// Far more than anything here takes: who waits that long waits in vain.
const LONG: Duration = crate::LIMIT;
/// A switch during which a few requests are made, however slowly.
const LONG_SWITCH: Duration = Duration::from_secs(5);

fn config() -> Config {
    Config { failover: vec![Failover::new(ip(IP), Some(ip(HERE)))], ..Config::default() }
}

fn start() -> Robot {
    Robot::start(config()).unwrap()
}

fn rule(spec: &str) -> Rule {
    spec.parse().unwrap()
}

/// A head, and a body if there is one, from the user `foo`.
fn head(method: &str, path: &str, fields: &str, body: &str) -> String {
    // foo:geheim
    format!(
        "{method} {path} HTTP/1.1\r\nHost: robot\r\nAuthorization: Basic Zm9vOmdlaGVpbQ==\r\n{fields}\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn get() -> String {
    head("GET", "/failover/4.4.4.4", "", "")
}

fn post(target: &str) -> String {
    let form = "Content-Type: application/x-www-form-urlencoded\r\n";
    head("POST", "/failover/4.4.4.4", form, &format!("active_server_ip={target}"))
}

fn delete() -> String {
    head("DELETE", "/failover/4.4.4.4", "", "")
}

fn send(robot: &Robot, request: &str) -> TcpStream {
    let mut stream = TcpStream::connect(robot.addr()).unwrap();
    stream.set_read_timeout(Some(LONG)).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    stream
}

/// Status and body.
fn ask(robot: &Robot, request: &str) -> (u16, String) {
    read_answer(&mut send(robot, request)).unwrap()
}

fn ask_json(robot: &Robot, request: &str) -> (u16, Value) {
    let (status, body) = ask(robot, request);
    (status, serde_json::from_str(&body).unwrap_or_else(|error| panic!("{error}: {body}")))
}

/// Status, and `active_server_ip` or the error's code.
fn ask_short(robot: &Robot, request: &str) -> (u16, String) {
    let (status, body) = ask_json(robot, request);
    let short = match &body["error"]["code"] {
        Value::Null => &body["failover"]["active_server_ip"],
        code => code,
    };
    (status, short.as_str().map_or_else(|| short.to_string(), str::to_owned))
}

fn short(status: u16, text: &str) -> (u16, String) {
    (status, text.to_owned())
}

fn read_answer(stream: &mut impl Read) -> io::Result<(u16, String)> {
    let head = read_head(stream)?;
    let mut body = vec![0; content_length(&head)];
    stream.read_exact(&mut body)?;
    let status = head[9..12].parse().unwrap();
    Ok((status, String::from_utf8(body).unwrap()))
}

fn read_head(stream: &mut impl Read) -> io::Result<String> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    Ok(String::from_utf8(head).unwrap().to_lowercase())
}

fn content_length(head: &str) -> usize {
    let value = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    value.unwrap().parse().unwrap()
}

#[test]
fn answers_as_documented() {
    let robot = start();
    let object = |active: Value| {
        json!({"failover": {
            "ip": IP, "netmask": "255.255.255.255", "server_ip": HERE, "server_ipv6_net": null,
            "server_number": 321, "active_server_ip": active,
        }})
    };
    assert_eq!(ask_json(&robot, &get()), (200, object(json!(HERE))));
    assert_eq!(ask_json(&robot, &post(THERE)), (200, object(json!(THERE))));
    assert_eq!(ask_json(&robot, &head("GET", "/failover", "", "")), (200, json!([object(json!(THERE))])));
    assert_eq!(ask_json(&robot, &delete()), (200, object(Value::Null)));
    assert_eq!(robot.route(ip(IP)), None);
    assert_eq!(robot.history().iter().map(|change| change.2).collect::<Vec<_>>(), [Some(ip(THERE)), None]);
}

#[test]
fn compares_ipv6_as_addresses() {
    let failover = vec![Failover::new(ip("2a01:4f8:fff1::"), Some(ip("2a01:4f8:0:5176::")))];
    let robot = Robot::start(Config { failover, ..config() }).unwrap();
    for path in ["/failover/2a01:4f8:fff1::", "/failover/2A01%3a4f8%3Afff1:0:0::"] {
        let (status, body) = ask_json(&robot, &head("GET", path, "", ""));
        assert_eq!(status, 200, "{path}");
        assert_eq!(body["failover"]["ip"], "2a01:4f8:fff1::");
        assert_eq!(body["failover"]["netmask"], "ffff:ffff:ffff:ffff::");
        assert_eq!(body["failover"]["server_ipv6_net"], "2a01:4f8:0:5176::");
    }
    let form = "Content-Type: application/x-www-form-urlencoded; charset=UTF-8\r\n";
    let body = "active_server_ip=2a01%3A4f8%3A0%3A5177%3A0%3A%3A";
    let moved = ask_short(&robot, &head("POST", "/failover/2a01:4f8:fff1::", form, body));
    assert_eq!(moved, short(200, "2a01:4f8:0:5177::"));
}

#[test]
fn says_no_as_documented() {
    let robot = Robot::start(Config { servers: vec![ip(HERE), ip(THERE)], ..config() }).unwrap();
    assert_eq!(ask_short(&robot, &post(HERE)), short(409, "FAILOVER_ALREADY_ROUTED"));
    assert_eq!(ask_short(&robot, &post("9.9.9.9")), short(404, "FAILOVER_NEW_SERVER_NOT_FOUND"));
    assert_eq!(ask_short(&robot, &head("GET", "/failover/5.5.5.5", "", "")), short(404, "NOT_FOUND"));
    assert_eq!(ask_short(&robot, &head("GET", "/failover/4.4.4.4/x", "", "")), short(404, "NOT_FOUND"));
    assert_eq!(ask_short(&robot, &head("PUT", "/failover/4.4.4.4", "", "")).0, 405);
    assert_eq!(ask_short(&robot, &head("POST", "/failover", "", "")).0, 405);

    let (status, body) = ask_json(&robot, &post("nonsense"));
    assert_eq!((status, &body["error"]["code"]), (400, &json!("INVALID_INPUT")));
    assert_eq!(
        (&body["error"]["missing"], &body["error"]["invalid"]),
        (&Value::Null, &json!(["active_server_ip"]))
    );
}

const MULTIPART: &str = "--x\r\nContent-Disposition: form-data; name=\"other\"\r\n\r\n9.9.9.9\r\n\
    --x\r\nContent-Disposition: form-data; name=\"active_server_ip\"\r\n\r\n2.2.2.2\r\n--x--\r\n";

#[test]
fn takes_multipart_only_when_told_to() {
    let request =
        head("POST", "/failover/4.4.4.4", "Content-Type: multipart/form-data; boundary=x\r\n", MULTIPART);
    let (status, body) = ask_json(&start(), &request);
    assert_eq!(status, 400);
    assert_eq!(
        (&body["error"]["missing"], &body["error"]["invalid"]),
        (&json!(["active_server_ip"]), &Value::Null)
    );

    let robot = Robot::start(Config { accept_multipart: true, ..config() }).unwrap();
    assert_eq!(ask_short(&robot, &request), short(200, THERE));
    assert_eq!(robot.journal()[0].target.as_deref(), Some(THERE));
}

#[test]
fn knows_its_login_and_tells_no_password() {
    let config = Config { login: Some(Login::new("foo", "geheim")), ..config() };
    assert!(!format!("{config:?}").contains("geheim"));
    let robot = Robot::start(config).unwrap();
    assert_eq!(ask(&robot, &get()).0, 200);
    let wrong = get().replace("Zm9vOmdlaGVpbQ==", "Zm9vOmZhbHNjaA==");
    assert_eq!(ask_short(&robot, &wrong), short(401, "UNAUTHORIZED"));

    let journal = robot.journal();
    assert_eq!(journal.iter().map(|request| request.authorised).collect::<Vec<_>>(), [true, false]);
    assert!(journal.iter().all(|request| request.user.as_deref() == Some("foo")));
    assert!(!format!("{journal:?}").contains("geheim") && !format!("{journal:?}").contains("Zm9v"));

    let any = start();
    assert_eq!(ask(&any, &wrong).0, 200);
    assert_eq!(ask(&any, "GET /failover/4.4.4.4 HTTP/1.1\r\nHost: robot\r\n\r\n").0, 401);
}

fn call(method: Method, login: Option<Login>) -> Call {
    Call {
        verb: String::new(),
        path: String::new(),
        content_type: None,
        user_agent: None,
        sent_target: None,
        method: Some(method),
        target: Target::Missing,
        user: login.as_ref().map(|login| login.user.clone()),
        ip: Some(ip(IP)),
        peer: ip("127.0.0.1"),
        what: What { resource: Resource::Failover(ip(IP)), login },
    }
}

#[test]
fn locks_out_after_three_failed_logins() {
    let mut account = Account::new(&Config { login: Some(Login::new("foo", "right")), ..config() });
    let start = Instant::now();
    let mut ask = |password: &str, second: u64| {
        let call = call(Method::Get, Some(Login::new("foo", password)));
        match account.handle(&call, None, start + Duration::from_secs(second)) {
            Step::Answer(answer) => answer.status,
            Step::Blocks(..) | Step::Runs(..) => unreachable!(),
        }
    };
    // A right login forgets the wrong ones before it.
    assert_eq!([ask("x", 0), ask("x", 0), ask("right", 0)], [401, 401, 200]);
    assert_eq!([ask("x", 1), ask("x", 2), ask("x", 3)], [401, 401, 401]);
    assert_eq!([ask("right", 4), ask("right", 602)], [403, 403]);
    assert_eq!([ask("right", 603), ask("x", 604), ask("right", 604)], [200, 401, 200]);

    let other = Call { peer: ip("127.0.0.2"), ..call(Method::Get, Some(Login::new("foo", "right"))) };
    let mut account = Account::new(&Config { login: Some(Login::new("foo", "right")), ..config() });
    for _ in 0..3 {
        account.handle(&call(Method::Get, None), None, start);
    }
    let forbidden = error(Code::Forbidden);
    assert_eq!(
        account.handle(&Call { peer: ip("127.0.0.1"), ..other.clone() }, None, start),
        Step::Answer(forbidden)
    );
    assert!(matches!(account.handle(&other, None, start), Step::Answer(answer) if answer.status == 200));
}

#[test]
fn limits_slide_and_are_apart_for_method_and_user() {
    let limits = Limits { get: 2, delete: 1, ..Limits::default() };
    let mut account = Account::new(&Config { limits, ..config() });
    let start = Instant::now();
    let mut ask = |method, user: &str, minute: u64| {
        let call = call(method, Some(Login::new(user, "x")));
        match account.handle(&call, None, start + Duration::from_secs(60 * minute)) {
            Step::Answer(answer) => answer,
            Step::Blocks(..) | Step::Runs(..) => unreachable!(),
        }
    };
    assert_eq!([0, 30, 59].map(|minute| ask(Method::Get, "foo", minute).status), [200, 200, 403]);
    // The first is an hour old at 60, the second not before 90.
    assert_eq!([60, 61, 89, 90].map(|minute| ask(Method::Get, "foo", minute).status), [200, 403, 403, 200]);
    assert_eq!(ask(Method::Get, "bar", 61).status, 200);
    assert_eq!(ask(Method::Delete, "foo", 61).status, 200);
    assert_eq!(ask(Method::Delete, "foo", 62), rate_limit_exceeded(1, 3600));
}

#[test]
fn a_switch_blocks_and_locks() {
    let robot = Robot::start(Config { switch: LONG_SWITCH, ..config() }).unwrap();
    let mut first = send(&robot, &post(THERE));
    assert!(robot.wait_for(LONG, |seen| seen.len() == 1));
    assert_eq!(ask_short(&robot, &post("3.3.3.3")), short(409, "FAILOVER_LOCKED"));
    assert_eq!(ask_short(&robot, &delete()), short(409, "FAILOVER_LOCKED"));
    assert_eq!(ask_short(&robot, &get()), short(200, HERE));
    assert_eq!(robot.journal()[0].status, None);

    assert_eq!(read_answer(&mut first).unwrap().0, 200);
    let switch = &robot.journal()[0];
    assert_eq!((switch.status, switch.target.as_deref()), (Some(200), Some(THERE)));
    assert!(switch.done.unwrap() - switch.at >= LONG_SWITCH);
    assert_eq!(ask_short(&robot, &get()), short(200, THERE));
}

#[test]
fn a_switch_is_completed_without_its_client() {
    let robot = Robot::start(Config { switch: LONG_SWITCH, ..config() }).unwrap();
    let client = send(&robot, &post(THERE));
    assert!(robot.wait_for(LONG, |seen| seen.len() == 1));
    drop(client);
    assert!(robot.wait_for(LONG, |seen| seen[0].peer_closed));
    assert_eq!((robot.route(ip(IP)), robot.journal()[0].status), (Some(ip(HERE)), None));
    assert!(wait_until(LONG, || robot.route(ip(IP)) == Some(ip(THERE))));
    assert_eq!(ask_short(&robot, &get()), short(200, THERE));
}

#[test]
fn moved_by_hand() {
    let robot = start();
    robot.set_route(ip(IP), Some(ip("7.7.7.7")));
    assert_eq!(ask_short(&robot, &get()), short(200, "7.7.7.7"));
    robot.set_route(ip(IP), None);
    assert_eq!(ask_short(&robot, &get()), short(200, "null"));
    assert_eq!(robot.history().len(), 2);
}

#[test]
fn faults_after_the_switch() {
    for (spec, answer) in [
        ("post lost-answer", None),
        ("post after-switch reset", None),
        ("post after-switch html 502", Some(502)),
        ("post after-switch html", Some(200)),
        ("post after-switch error FAILOVER_NOT_COMPLETE", Some(500)),
    ] {
        let robot = start();
        robot.fault(rule(spec));
        let got = read_answer(&mut send(&robot, &post(THERE))).ok().map(|(status, _)| status);
        assert_eq!((got, robot.route(ip(IP))), (answer, Some(ip(THERE))), "{spec}");
        assert_eq!(robot.journal()[0].status, answer, "{spec}");
        // What Robot itself refuses is not carried out, and not covered up.
        assert_eq!(ask_short(&robot, &post(THERE)), short(409, "FAILOVER_ALREADY_ROUTED"), "{spec}");
    }
}

#[test]
fn scripted_answers() {
    for (spec, status, part) in [
        ("any error failover_failed", 500, r#""code":"FAILOVER_FAILED""#),
        ("any error RATE_LIMIT_EXCEEDED", 403, r#""interval":3600"#),
        ("any error MAINTENANCE", 503, "<html>"),
        ("any html", 200, "<html>"),
        ("any empty 204", 204, ""),
        ("any truncated", 200, r#""netmask":"255.255.2"#),
        ("any null", 200, r#""active_server_ip":null"#),
        ("any missing", 200, r#""server_number":321}"#),
        ("any other 8.8.8.8", 200, r#""active_server_ip":"8.8.8.8""#),
        ("any raw 418 a body = of words", 418, "a body = of words"),
    ] {
        let robot = start();
        robot.fault(rule(spec));
        let mut stream = send(&robot, &post(THERE));
        let head = read_head(&mut stream).unwrap();
        let length = if status == 204 { 0 } else { content_length(&head) };
        let mut body = vec![0; length];
        stream.read_exact(&mut body).unwrap();
        let body = String::from_utf8(body).unwrap();
        assert!(head.starts_with(&format!("http/1.1 {status} ")), "{spec}: {head}");
        assert!(body.contains(part), "{spec}: {body}");
        assert_eq!(
            (spec == "any missing"),
            !body.contains("active_server_ip") && body.contains("321"),
            "{spec}"
        );
        assert_eq!(robot.route(ip(IP)), Some(ip(HERE)), "{spec}: nothing is carried out");
    }
    let robot = start();
    robot.fault(rule("get redirect http://127.0.0.1:1/x"));
    assert!(read_head(&mut send(&robot, &get())).unwrap().contains("location: http://127.0.0.1:1/x\r\n"));
}

#[test]
fn faults_at_the_socket() {
    let robot = start();
    robot.fault(rule("get times=1 reset"));
    let reset = read_answer(&mut send(&robot, &get())).unwrap_err();
    assert_eq!(reset.kind(), ErrorKind::ConnectionReset);

    robot.fault(rule("get times=1 close"));
    let mut rest = Vec::new();
    assert_eq!(send(&robot, &get()).read_to_end(&mut rest).unwrap(), 0);

    robot.fault(rule("get times=1 cut-half"));
    let mut cut = send(&robot, &get());
    let announced = content_length(&read_head(&mut cut).unwrap());
    assert_eq!(cut.read_to_end(&mut rest).unwrap(), announced / 2);

    robot.fault(rule("get times=1 trickle 5ms"));
    let began = Instant::now();
    let mut stream = send(&robot, &get());
    let head = read_head(&mut stream).unwrap();
    let mut body = vec![0; content_length(&head)];
    stream.read_exact(&mut body).unwrap();
    assert!(
        began.elapsed() >= Duration::from_millis(5) * u32::try_from(head.len() + body.len() - 1).unwrap()
    );
    serde_json::from_slice::<Value>(&body).unwrap();

    robot.fault(rule("get times=1 delay 200ms"));
    let began = Instant::now();
    assert_eq!(ask_short(&robot, &get()), short(200, HERE));
    assert!(began.elapsed() >= Duration::from_millis(200));

    robot.fault(rule("get times=1 oversized"));
    let (_, body) = ask(&robot, &get());
    assert_eq!((body.len(), serde_json::from_str::<Value>(&body).is_ok()), (70 << 10, true));

    robot.fault(rule("get times=1 huge 64MiB"));
    let mut stream = send(&robot, &get());
    assert_eq!(content_length(&read_head(&mut stream).unwrap()), 64 << 20);
    assert_eq!(io::copy(&mut stream.take(64 << 20), &mut io::sink()).unwrap(), 64 << 20);

    let statuses: Vec<_> = robot.journal().iter().map(|request| request.status).collect();
    assert_eq!(statuses, [None, None, Some(200), Some(200), Some(200), Some(200), Some(200)]);
    assert!(robot.journal().iter().all(|request| request.fault.is_some() && !request.peer_closed));
}

#[test]
fn a_client_that_leaves_is_noticed() {
    let robot = start();
    robot.fault(rule("get hang times=1"));
    let client = send(&robot, &get());
    assert!(robot.wait_for(LONG, |seen| seen.len() == 1));
    assert!(robot.journal()[0].done.is_none());
    drop(client);
    assert!(robot.wait_for(LONG, |seen| seen[0].peer_closed && seen[0].done.is_some()));

    robot.fault(rule("get trickle 5ms"));
    let mut client = send(&robot, &get());
    client.read_exact(&mut [0]).unwrap();
    drop(client);
    assert!(robot.wait_for(LONG, |seen| seen[1].peer_closed));
}

#[test]
fn drop_ends_what_hangs() {
    // At an address of its own: a port that is free again may be another test's at once.
    let robot = Robot::start(Config { listen: crate::node::free_address(), ..Config::default() }).unwrap();
    robot.fault(rule("any hang"));
    let mut hanging = send(&robot, &get());
    assert!(robot.wait_for(LONG, |seen| seen.len() == 1));
    let (addr, began) = (robot.addr(), Instant::now());
    drop(robot);
    assert!(began.elapsed() < LONG);
    assert!(matches!(hanging.read(&mut [0]), Ok(0) | Err(_)));
    becomes_refused(addr);
}

fn refused(addr: SocketAddr) -> bool {
    match TcpStream::connect(addr) {
        // Where nobody listens, a connection can be given the same port, and so lead to itself.
        Ok(stream) => stream.local_addr().ok() == stream.peer_addr().ok(),
        Err(error) => error.kind() == ErrorKind::ConnectionRefused,
    }
}

/// A program that another test starts has all sockets of this process for a moment, and until then they are open.
fn becomes_refused(addr: SocketAddr) {
    let began = Instant::now();
    while !refused(addr) {
        assert!(began.elapsed() < LONG);
        thread::yield_now();
    }
}

#[test]
fn refuses_and_listens_again() {
    let robot = start();
    let mut idle = send(&robot, &get());
    read_answer(&mut idle).unwrap();
    for _ in 0..20 {
        robot.fault(rule("any refuse"));
        becomes_refused(robot.addr());
        robot.clear_faults();
        assert_eq!(ask_short(&robot, &get()), short(200, HERE));
    }
    assert_eq!(idle.read(&mut [0]).unwrap(), 0, "a connection that was kept is closed, too");

    let began = Instant::now();
    robot.fault(rule("any refuse 300ms"));
    becomes_refused(robot.addr());
    let back = loop {
        if !refused(robot.addr()) {
            break began.elapsed();
        }
        assert!(began.elapsed() < LONG);
        thread::yield_now();
    };
    assert!(back >= Duration::from_millis(300));

    robot.fault(rule("post refuse times=1"));
    assert_eq!(ask_short(&robot, &get()), short(200, HERE));
    assert!(read_answer(&mut send(&robot, &post(THERE))).is_err());
    becomes_refused(robot.addr());
    assert_eq!(robot.route(ip(IP)), Some(ip(HERE)));
}

#[test]
fn refusing_lets_an_answer_under_way_finish() {
    let robot = Robot::start(Config { switch: LONG_SWITCH, ..config() }).unwrap();
    let mut silent = send(&robot, "");
    let mut under_way = send(&robot, &post(THERE));
    assert!(robot.wait_for(LONG, |seen| seen.len() == 1));
    robot.fault(rule("any refuse"));
    assert_eq!(silent.read(&mut [0]).unwrap(), 0);
    assert_eq!(robot.route(ip(IP)), Some(ip(HERE)), "closed while the switch is under way");
    assert_eq!(read_answer(&mut under_way).unwrap().0, 200);
    assert_eq!(under_way.read(&mut [0]).unwrap(), 0);
}

#[test]
fn rules_match_in_order() {
    let robot = start();
    robot.fault(rule("post target=2.2.2.2 skip=1 times=1 error FAILOVER_FAILED"));
    robot.fault(rule("any user=bar error FORBIDDEN"));
    robot.fault(rule("get ip=5.5.5.5 html 503"));
    robot.fault(rule("delete locked 200ms"));
    assert_eq!(ask_short(&robot, &post(THERE)), short(200, THERE));
    assert_eq!(ask_short(&robot, &post(HERE)), short(200, HERE));
    assert_eq!(ask_short(&robot, &post(THERE)), short(500, "FAILOVER_FAILED"));
    assert_eq!(ask_short(&robot, &post(THERE)), short(200, THERE));
    // bar:x
    let bar = get().replace("Zm9vOmdlaGVpbQ==", "YmFyOng=");
    assert_eq!(ask_short(&robot, &bar), short(403, "FORBIDDEN"));
    assert_eq!(ask(&robot, &head("GET", "/failover/5.5.5.5", "", "")).0, 503);

    let began = Instant::now();
    assert_eq!(ask_short(&robot, &delete()), short(409, "FAILOVER_LOCKED"));
    while ask(&robot, &delete()).0 == 409 {
        assert!(began.elapsed() < LONG && robot.journal().len() < 45);
        thread::sleep(Duration::from_millis(20));
    }
    assert!(began.elapsed() >= Duration::from_millis(200));
    assert_eq!(robot.faults().len(), 2);
}

#[test]
fn specs_read_back_as_they_are_shown() {
    for spec in [
        "any html 200",
        "post locked 10s",
        "post target=1.1.1.1 times=2 error FAILOVER_FAILED",
        "any refuse 5s",
        "any refuse",
        "get ip=2a01:4f8:fff1:: user=#ws+foo skip=3 trickle 200ms",
        "post after-switch redirect https://example.org/",
        "delete raw 500 times=3 is part of the body",
        "get empty 502",
        "get truncated 200",
        "get huge 1073741824",
        "any delay 1.5s",
        "post after-switch close",
    ] {
        assert_eq!(rule(spec).to_string(), spec);
    }
    for (one, other) in [
        ("get html", "get html 200"),
        ("post lost-answer times=1", "post times=1 after-switch close"),
        ("any huge", "any huge 1GiB"),
        ("any oversized", "any huge 70KiB"),
        ("any trickle times=2", "any times=2 trickle 1s"),
        ("post  error   failover_locked  target=1.1.1.1", "post target=1.1.1.1 error FAILOVER_LOCKED"),
        ("get delay 2m", "get delay 120"),
    ] {
        assert_eq!(rule(one), rule(other));
    }
}

#[test]
fn wrong_specs_say_what_was_expected() {
    for (spec, expected) in [
        ("", "any, get, post or delete"),
        ("put close", "any, get, post or delete"),
        ("post", "a fault"),
        ("post burn", "lost-answer"),
        ("post error", "an error code"),
        ("post error OOPS", "FAILOVER_NOT_COMPLETE"),
        ("post locked", "a time such as 10s"),
        ("post locked 10x", "a time such as 10s"),
        ("post delay -1s", "a time such as 10s"),
        ("get html 999", "a status from 200 to 599"),
        ("get html 200 300", "the end"),
        ("get huge 1TB", "a size"),
        ("get other here", "an address"),
        ("post target=x close", "an address"),
        ("get target=1.1.1.1 close", "only a POST"),
        ("get close times=many", "a number"),
        ("post after-switch after-switch close", "only once"),
    ] {
        let why = spec.parse::<Rule>().unwrap_err();
        assert!(why.starts_with("expected") && why.contains(expected), "{spec:?}: {why}");
    }
}

#[test]
fn loopback_only() {
    let listen = "0.0.0.0:0".parse().unwrap();
    let error = Robot::start(Config { listen, ..config() }).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
}

fn tls_client(ca: &Path) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(ca).unwrap()).unwrap();
    let client = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(client)
}

fn connect_tls(
    robot: &Robot,
    host: &str,
    client: Arc<ClientConfig>,
) -> StreamOwned<ClientConnection, TcpStream> {
    let connection = ClientConnection::new(client, host.to_owned().try_into().unwrap()).unwrap();
    StreamOwned::new(connection, TcpStream::connect(robot.addr()).unwrap())
}

fn ask_tls(robot: &Robot, host: &str, ca: &Path) -> io::Result<(u16, String)> {
    let mut stream = connect_tls(robot, host, tls_client(ca));
    stream.write_all(get().as_bytes())?;
    read_answer(&mut stream)
}

#[test]
fn a_session_is_resumed_unless_the_stand_in_forgets_it() {
    for (resume_sessions, expected) in [(true, HandshakeKind::Resumed), (false, HandshakeKind::Full)] {
        let robot =
            Robot::start(Config { tls: Some(Certificate::Right), resume_sessions, ..config() }).unwrap();
        let client = tls_client(robot.ca_file().unwrap());
        let kinds = [(); 2].map(|()| {
            let mut stream = connect_tls(&robot, "localhost", Arc::clone(&client));
            stream.write_all(get().as_bytes()).unwrap();
            read_answer(&mut stream).unwrap();
            stream.conn.handshake_kind().unwrap()
        });
        assert_eq!(kinds, [HandshakeKind::Full, expected]);
    }
}

#[test]
fn certificates_right_and_wrong() {
    for (certificate, expected) in [
        (Certificate::Right, ""),
        (Certificate::Expired, "Expired"),
        (Certificate::NotYetValid, "NotValidYet"),
        (Certificate::OtherHost, "NotValidForName"),
        (Certificate::UnknownIssuer, "UnknownIssuer"),
    ] {
        let robot = Robot::start(Config { tls: Some(certificate), ..config() }).unwrap();
        let ca = robot.ca_file().unwrap().to_owned();
        for host in ["localhost", "127.0.0.1", "robot-ws.your-server.de"] {
            match ask_tls(&robot, host, &ca) {
                Ok((status, _)) => assert_eq!((status, certificate), (200, Certificate::Right)),
                Err(error) => {
                    let error = format!("{:?}", error.into_inner());
                    assert!(!expected.is_empty() && error.contains(expected), "{certificate:?}: {error}");
                }
            }
        }
        assert!(robot.url(ip(IP)).starts_with("https://127.0.0.1:"));
        drop(robot);
        assert!(!ca.exists());
    }
}

#[test]
fn faults_work_under_tls() {
    let directory = tempfile::tempdir().unwrap();
    let ca = directory.path().join("own.pem");
    let config = Config { tls: Some(Certificate::Right), ca_file: Some(ca.clone()), ..config() };
    let robot = Robot::start(config).unwrap();
    robot.fault(rule("get times=1 reset"));
    robot.fault(rule("get times=1 cut-half"));
    robot.fault(rule("get times=1 trickle 1ms"));
    assert_eq!(ask_tls(&robot, "localhost", &ca).unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert_eq!(ask_tls(&robot, "localhost", &ca).unwrap_err().kind(), ErrorKind::UnexpectedEof);
    assert_eq!(ask_tls(&robot, "localhost", &ca).unwrap().0, 200);
    drop(robot);
    assert!(ca.exists());
}
