//! One node: what the action sends, what it makes of every answer, and what it logs.
//!
//! A node runs all its lord hooks one after the other when it becomes Lord, so that one real uWSGI shows a
//! whole table of them.

use std::fs;
use std::path::Path;
use std::time::Duration;

use lab::legion::LEGION;
use lab::node::{Node, free_address};
use lab::proxy::Proxy;
use lab::refusal::assert_refuses;
use lab::robot::{Certificate, Config, Failover, Fault, Login, Robot, Rule};
use lab::scene::side_by_side;
use lab::uwsgi::Uwsgi;
use lab::{LIMIT, PASSWORD, USERNAME, ip, wait_until};
use tempfile::TempDir;

/// A stand-in with the failover IP 4.4.4.4, routed to 9.9.9.9.
fn robot(config: Config) -> Robot {
    let failover = vec![Failover::new(ip("4.4.4.4"), Some(ip("9.9.9.9")))];
    Robot::start(Config { failover, ..config }).expect("loopback has a free port")
}

/// A hook that routes 4.4.4.4 to 1.1.1.1.
fn hook(url: &str, more: &str) -> String {
    format!("username={USERNAME},password={PASSWORD},ip=4.4.4.4,active_ip=1.1.1.1,url={url}{more}")
}

/// A node alone in its Legions, of which each hook has one.
struct Lone {
    node: Node,
    _folder: TempDir,
}

fn name(number: usize) -> String {
    if number == 0 { LEGION.into() } else { format!("{LEGION}-{number}") }
}

fn lone(uwsgi: Uwsgi, hooks: &[String], env: &[(&str, &str)]) -> Lone {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut ini = "plugin = hetzner\nlegion-freq = 1\nlegion-death-on-lord-error = 300\n".to_string();
    for (number, hook) in hooks.iter().enumerate() {
        let name = name(number);
        ini += &format!("legion = {name} {} 1 aes-128-cbc:secret1\n", free_address());
        ini += &format!("legion-lord = {name} hetzner-failoverip:{hook}\n");
    }
    Lone { node: Node::start(uwsgi, folder.path(), &ini, env), _folder: folder }
}

/// Runs the hooks in one node and returns, for each, whether it succeeded and its lines, times struck out.
#[track_caller]
fn run(uwsgi: Uwsgi, hooks: &[String], env: &[(&str, &str)]) -> Vec<(bool, Vec<String>)> {
    let lone = lone(uwsgi, hooks, env);
    let found = (0..hooks.len()).map(|number| {
        let mut end = None;
        wait_until(LIMIT, || {
            end = end_of(&name(number), &lone.node.log());
            end.is_some()
        });
        end.unwrap_or_else(|| panic!("hook {number} has not ended:\n{}", lone.node.log()))
    });
    let found = found.collect();
    assert!(
        !lone.node.log().contains("calling hetzner-failoverip"),
        "uWSGI logs the hook:\n{}",
        lone.node.log()
    );
    found
}

/// Once both uWSGI and the plugin have said how the hook has ended; whoever is the later one.
fn end_of(legion: &str, log: &str) -> Option<(bool, Vec<String>)> {
    let says = |text: String| log.lines().any(|line| line == text);
    let is_lord = says(format!("[uwsgi-legion] i am now the Lord of the Legion {legion}"));
    let has_failed =
        says(format!("[uwsgi-legion] suspending myself from Legion \"{legion}\" for 300 seconds"));
    let start = format!("[hetzner-failoverip] {legion}: ");
    let mut lines: Vec<String> =
        log.lines().filter_map(|line| line.strip_prefix(&start)).map(without_times).collect();
    let is_success = |line: &String| line.contains(" is routed to ") && line.ends_with("after T)");
    let is_end =
        |line: &String| line.starts_with("FAILED ") || is_success(line) && !line.starts_with("not yet");
    // What the guard does from then on is another matter.
    lines.truncate(lines.iter().position(is_end)? + 1);
    (is_lord || has_failed).then_some((is_lord, lines))
}

/// `after 0.1 s` says something else each time.
fn without_times(line: &str) -> String {
    match line.rfind("after ") {
        Some(at) if line.ends_with(" s)") => format!("{}after T)", &line[..at]),
        _ => line.to_string(),
    }
}

#[test]
fn sends_one_documented_request() {
    for uwsgi in Uwsgi::ALL {
        let robot = robot(Config {
            login: Some(Login::new(USERNAME, PASSWORD)),
            switch: Duration::from_millis(300),
            ..Config::default()
        });
        let url = robot.url(ip("4.4.4.4"));
        let host = robot.addr();
        let found = run(uwsgi, &[hook(&url, "")], &[]);
        let lines = [
            format!("routing 4.4.4.4 to 1.1.1.1 (POST to {host}, at most 60 s)"),
            "4.4.4.4 is routed to 1.1.1.1 (HTTP 200, after T)".into(),
        ];
        assert_eq!(found, [(true, lines.to_vec())], "{uwsgi}");
        assert_eq!(robot.route(ip("4.4.4.4")), Some(ip("1.1.1.1")));

        let [request] = &robot.journal()[..] else { panic!("{uwsgi}: {:?}", robot.journal()) };
        assert_eq!(request.path, "/failover/4.4.4.4");
        assert_eq!(request.target.as_deref(), Some("1.1.1.1"));
        assert_eq!(request.content_type.as_deref(), Some("application/x-www-form-urlencoded"));
        assert_eq!(request.user_agent.as_deref(), Some(concat!("uwsgi-hetzner/", env!("CARGO_PKG_VERSION"))));
        assert!(request.authorised);
    }
}

#[test]
fn routes_an_ipv6_net() {
    let failover = vec![Failover::new(ip("2a01:4f8:fff1::"), None)];
    let robot = Robot::start(Config { failover, ..Config::default() }).expect("a free port");
    let url = robot.url(ip("2a01:4f8:fff1::"));
    let hook = format!(
        "user={USERNAME},pass={PASSWORD},ip=2a01:4f8:fff1::,active_server_ip=2a01:4f8:0:5176::,url={url}"
    );
    assert!(run(Uwsgi::Pypi, &[hook], &[])[0].0);
    assert_eq!(robot.route(ip("2a01:4f8:fff1::")), Some(ip("2a01:4f8:0:5176::")));
}

/// Every documented error, and everything that is no answer, has a sentence of its own, and nothing is read before the
/// first request. A look behind it is refused for good, so that no takeover waits for its deadline.
#[test]
fn every_bad_answer_is_a_failure_with_its_own_sentence() {
    let message = "FAILED to route 4.4.4.4 to 1.1.1.1: ";
    let cases = [
        ("post error FAILOVER_ALREADY_ROUTED", Ok("HTTP 409 FAILOVER_ALREADY_ROUTED")),
        ("post error INVALID_INPUT", Err("HTTP 400 INVALID_INPUT ")),
        ("post error UNAUTHORIZED", Err("HTTP 401 UNAUTHORIZED ")),
        ("post error RATE_LIMIT_EXCEEDED", Err("HTTP 403 RATE_LIMIT_EXCEEDED ")),
        ("post error FORBIDDEN", Err("HTTP 403 FORBIDDEN ")),
        ("post error NOT_FOUND", Err("HTTP 404 NOT_FOUND ")),
        ("post error FAILOVER_NEW_SERVER_NOT_FOUND", Err("HTTP 404 FAILOVER_NEW_SERVER_NOT_FOUND ")),
        ("post locked 60s", Err("HTTP 409 FAILOVER_LOCKED ")),
        ("post error FAILOVER_FAILED", Err("HTTP 500 FAILOVER_FAILED ")),
        ("post error FAILOVER_NOT_COMPLETE", Err("HTTP 500 FAILOVER_NOT_COMPLETE ")),
        ("post error MAINTENANCE", Err("HTTP 503 with an HTML page (")),
        (
            r#"post raw 418 {"error":{"status":418,"code":"TEAPOT","message":"short"}}"#,
            Err("HTTP 418 TEAPOT \"short\": not a documented answer"),
        ),
        ("post html 200", Err("HTTP 200 with an HTML page (")),
        ("post empty 502", Err("HTTP 502 with an empty body")),
        ("post empty 200", Err("HTTP 200 with an empty body: no failover object")),
        ("post truncated", Err("HTTP 200 with truncated or broken JSON (")),
        ("post oversized", Err("HOST: the answer is longer than 65536 bytes")),
        ("post huge 1GiB", Err("HOST: the answer is longer than 65536 bytes")),
        ("post null", Err("HTTP 200, but it is routed nowhere (active_server_ip is null)")),
        ("post missing", Err("HTTP 200 with other JSON (")),
        ("post other 2.2.2.2", Err("HTTP 200, but it is routed to 2.2.2.2;")),
        (
            "post redirect http://127.0.0.1:9/failover/4.4.4.4",
            Err("HTTP 302, a redirect to http://127.0.0.1:9/failover/4.4.4.4: not followed"),
        ),
        ("post reset", Err("HOST: connection broken before the answer was complete")),
        ("post close", Err("HOST: connection broken before the answer was complete")),
        ("post cut-half", Err("HOST: connection broken before the answer was complete")),
        ("post hang", Err("HOST: no complete answer within 12 s")),
        ("post trickle 1s", Err("HOST: no complete answer within 12 s")),
        ("any refuse", Err("HOST: connection refused")),
    ];
    // A uWSGI runs its hooks one after the other, and after most of them there is a pause.
    let chunks: Vec<&[(&str, Result<&str, &str>)]> = cases.chunks(7).collect();
    side_by_side(&chunks, |cases| {
        let robot = |fault| {
            let robot = robot(Config::default());
            robot.fault(rule(fault));
            robot.fault(rule("get error NOT_FOUND"));
            robot
        };
        let robots: Vec<Robot> = cases.iter().map(|(fault, _)| robot(fault)).collect();
        let limits = |fault: &str| match fault {
            "any refuse" => ",deadline=10",
            "post hang" | "post trickle 1s" => ",timeout=12",
            _ => "",
        };
        // A user each, since a refusal holds the next requests of that user back.
        let own_user = |(number, ((fault, _), robot)): (usize, (&(&str, _), &Robot))| {
            hook(&robot.url(ip("4.4.4.4")), limits(fault)).replace(USERNAME, &format!("{USERNAME}{number}"))
        };
        let hooks: Vec<String> = cases.iter().zip(&robots).enumerate().map(own_user).collect();
        let found = run(Uwsgi::Pypi, &hooks, &[]);
        for (((fault, expected), robot), (ok, lines)) in cases.iter().zip(&robots).zip(found) {
            let [_, line, behind @ ..] = &lines[..] else { panic!("{fault}: {lines:?}") };
            let start = match expected {
                Ok(answer) => format!("4.4.4.4 is routed to 1.1.1.1 ({answer}"),
                Err(sentence) if behind.is_empty() => format!("{message}{sentence}"),
                Err(sentence) => format!("not yet: {}", sentence.trim_end_matches(';')),
            };
            assert!(line.starts_with(&start.replace("HOST", &robot.addr().to_string())), "{fault}: {line}");
            assert_eq!(ok, expected.is_ok(), "{fault}");
            let asked: Vec<String> = robot.journal().into_iter().map(|request| request.method).collect();
            match behind {
                [] => assert_eq!(asked, ["POST"], "{fault}"),
                [last] if last.starts_with(&format!("{message}HTTP 404 NOT_FOUND ")) => {
                    assert_eq!(asked, ["POST", "GET"], "{fault}");
                }
                _ => assert!(*fault == "any refuse" && asked.is_empty(), "{fault}: {asked:?} {lines:?}"),
            }
        }
    });
}

fn rule(text: &str) -> Rule {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

#[test]
fn the_timeout_holds_for_all_of_a_request() {
    // A byte every second: each read is in time, the whole takes minutes.
    let slow = robot(Config::default());
    slow.fault(rule("post trickle 1s"));
    let hooks = [hook(&slow.url(ip("4.4.4.4")), ",timeout=9.5")];
    let lone = lone(Uwsgi::Pypi, &hooks, &[]);
    lone.node.wait_for_log("within 9.5 s", LIMIT);
}

#[test]
fn tls_is_verified_against_the_trust_store() {
    let cases = [
        (Certificate::Right, "", Ok("HTTP 200")),
        (Certificate::Right, ",ssl_no_verify=0", Ok("HTTP 200")),
        (Certificate::Expired, "", Err("its certificate has expired")),
        (Certificate::NotYetValid, "", Err("its certificate is not valid yet")),
        (Certificate::OtherHost, "", Err("its certificate is for another host: check url")),
        (Certificate::UnknownIssuer, "", Err("its certificate is from an unknown issuer")),
        (Certificate::UnknownIssuer, ",ssl_no_verify=0", Err("its certificate is from an unknown issuer")),
        (Certificate::UnknownIssuer, ",ssl_no_verify", Ok("HTTP 200")),
        (Certificate::Expired, ",ssl_no_verify=1", Ok("HTTP 200")),
    ];
    let robots: Vec<Robot> =
        cases.iter().map(|(tls, ..)| robot(Config { tls: Some(*tls), ..Config::default() })).collect();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let trusted: Vec<String> = robots
        .iter()
        .map(|robot| fs::read_to_string(robot.ca_file().expect("with TLS")).expect("PEM"))
        .collect();
    let ca_file = folder.path().join("ca.pem");
    fs::write(&ca_file, trusted.concat()).expect("a writable folder");

    let hooks: Vec<String> = cases
        .iter()
        .zip(&robots)
        .map(|((_, more, _), robot)| hook(&robot.url(ip("4.4.4.4")), more))
        .collect();
    for uwsgi in Uwsgi::ALL {
        robots.iter().for_each(|robot| robot.set_route(ip("4.4.4.4"), None));
        let found = run(uwsgi, &hooks, &[("SSL_CERT_FILE", ca_file.to_str().expect("UTF-8"))]);
        for (((tls, more, expected), robot), (ok, lines)) in cases.iter().zip(&robots).zip(found) {
            let (Ok(text) | Err(text)) = expected;
            assert_eq!(ok, expected.is_ok(), "{tls:?}{more}: {lines:?}");
            assert!(lines[1].contains(text), "{tls:?}{more}: {lines:?}");
            let unverified = more.starts_with(",ssl_no_verify") && !more.ends_with('0');
            assert_eq!(lines[0].contains("TLS certificate is NOT verified"), unverified, "{lines:?}");
            // Nothing, and so no login, was sent to a server that could not prove who it is.
            let sent = robot.journal().len();
            assert_eq!(sent > 0, ok, "{tls:?}{more}: {sent} requests");
        }
    }
}

#[test]
fn speaks_no_tls_to_a_plain_port_and_nothing_without_trust() {
    let plain = robot(Config::default());
    let https = plain.url(ip("4.4.4.4")).replace("http:", "https:");
    let found = run(Uwsgi::Pypi, &[hook(&https, ",deadline=10")], &[]);
    assert!(
        found[0].1[1].contains("failed: the server does not speak TLS on this port: check url"),
        "{found:?}"
    );

    let tls = robot(Config { tls: Some(Certificate::Right), ..Config::default() });
    let found =
        run(Uwsgi::Pypi, &[hook(&tls.url(ip("4.4.4.4")), "")], &[("SSL_CERT_FILE", "/nonexistent.pem")]);
    assert!(!found[0].0);
    assert!(found[0].1[0].contains("no trusted CA certificates"), "{found:?}");
    assert!(tls.journal().is_empty() && plain.journal().is_empty());
}

#[test]
fn what_the_api_says_is_cut_and_holds_no_secret() {
    let loud = robot(Config::default());
    let message = format!("{PASSWORD} {}", "x".repeat(300));
    loud.fault(rule(&format!(
        r#"post raw 500 {{"error":{{"status":500,"code":"A\nB","message":"{message}"}}}}"#
    )));
    let found = run(Uwsgi::Pypi, &[hook(&loud.url(ip("4.4.4.4")), ",deadline=10")], &[]);
    let expected = format!("HTTP 500 A?B \"*** {}\": not a documented answer", "x".repeat(196));
    assert!(found[0].1[1].contains(&expected), "{found:?}");
}

#[test]
fn proxies_are_taken_from_the_environment() {
    let robot = robot(Config { tls: Some(Certificate::Right), ..Config::default() });
    let ca_file = robot.ca_file().expect("with TLS").to_str().expect("UTF-8");
    let proxy = Proxy::start(robot.addr());
    let proxied = hook("https://robot-ws.your-server.de/failover/4.4.4.4", "");
    let direct = hook(&robot.url(ip("4.4.4.4")), "");
    let env = [("SSL_CERT_FILE", ca_file), ("HTTPS_PROXY", &proxy.url()), ("no_proxy", "127.0.0.0/8")];
    let found = run(Uwsgi::Pypi, &[proxied.clone(), direct], &env);
    assert!(found.iter().all(|(ok, _)| *ok), "{found:?}");
    assert_eq!(proxy.asked(), ["robot-ws.your-server.de:443"]);

    let broken = [("https_proxy", "http://user:NOT-A-REAL-PASSWORD@[")];
    let found = run(Uwsgi::Pypi, &[proxied], &broken);
    assert!(found[0].1[0].contains("the proxy in the environment (https_proxy"), "{found:?}");
}

/// The proxy of a plain http URL may itself be reached by TLS, and is no less to be trusted for that.
#[test]
fn a_proxy_by_tls_is_verified_for_plain_http_too() {
    let plain = robot(Config::default());
    let known = robot(Config { tls: Some(Certificate::Right), ..Config::default() });
    let proxy = robot(Config { tls: Some(Certificate::UnknownIssuer), ..Config::default() });
    let url = format!("https://{}", proxy.addr());
    let ca_file = known.ca_file().expect("with TLS").to_str().expect("UTF-8");
    let env = [("http_proxy", url.as_str()), ("SSL_CERT_FILE", ca_file)];
    let found = run(Uwsgi::Pypi, &[hook(&plain.url(ip("4.4.4.4")), ",deadline=10")], &env);
    assert!(found[0].1[1].contains("its certificate is from an unknown issuer"), "{found:?}");
    assert!(plain.journal().is_empty());
}

/// What the README says of passwords with a comma, an equals sign, a percent sign.
#[test]
fn any_password_can_be_written() {
    for uwsgi in Uwsgi::ALL {
        let login = Login::new(USERNAME, r"a%b,c=d\e ü");
        let robot = robot(Config { login: Some(login), ..Config::default() });
        let hook = hook(&robot.url(ip("4.4.4.4")), "").replace(PASSWORD, r"a%%b\,c=d\\e ü");
        let found = run(uwsgi, &[hook], &[]);
        assert!(found[0].0, "{uwsgi}: {found:?}");
    }
}

#[test]
fn threads_of_the_plugin_take_no_signal() {
    let slow = robot(Config::default());
    slow.fault(Rule { when: Default::default(), fault: Fault::Hang, times: None, skip: 0 });
    let lone = lone(Uwsgi::Debian, &[hook(&slow.url(ip("4.4.4.4")), "")], &[]);
    assert!(slow.wait_for(LIMIT, |journal| !journal.is_empty()));
    // One asks the API, one is the guard; a thread has its name a moment after it has begun.
    let ours = || {
        let tasks = fs::read_dir(format!("/proc/{}/task", lone.node.id())).expect("it runs");
        // A thread may end while it is looked at.
        let read = |task: &Path, name| fs::read_to_string(task.join(name)).unwrap_or_default();
        let tasks = tasks.map(|task| task.expect("it runs").path());
        tasks
            .filter(|task| read(task, "comm").trim() == "hetzner")
            .map(|task| read(&task, "status"))
            .collect()
    };
    let mut statuses: Vec<String> = Vec::new();
    wait_until(LIMIT, || {
        statuses = ours();
        statuses.len() == 2
    });
    assert_eq!(statuses.len(), 2);
    for status in statuses {
        let blocked = status.lines().find_map(|line| line.strip_prefix("SigBlk:")).expect("proc(5)");
        // Everything but KILL and STOP, the two that glibc keeps for itself, and a thread's own faults: ILL, TRAP, BUS,
        // FPE and SEGV.
        assert_eq!(blocked.trim(), "fffffffe7ffbfa27", "{status}");
    }
}

#[test]
fn sigint_ends_a_node_during_a_call() {
    for uwsgi in Uwsgi::ALL {
        let slow = robot(Config::default());
        slow.fault(rule("post hang"));
        let mut lone = lone(uwsgi, &[hook(&slow.url(ip("4.4.4.4")), "")], &[]);
        assert!(slow.wait_for(LIMIT, |journal| !journal.is_empty()));
        lone.node.signal(lab::process::SIGINT);
        assert!(lone.node.wait_for_exit(LIMIT).is_some(), "{uwsgi}: {}", lone.node.log());
    }
}

#[test]
fn a_plugin_for_another_uwsgi_does_not_load() {
    for (uwsgi, other) in [(Uwsgi::Debian, Uwsgi::Pypi), (Uwsgi::Pypi, Uwsgi::Debian)] {
        assert_refuses(uwsgi, other);
    }
}

#[test]
fn uwsgi_may_write_a_modifier_into_the_plugin() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let node = Node::start(Uwsgi::Debian, folder.path(), "plugin = 17:hetzner", &[]);
    assert!(wait_until(LIMIT, || node.log().contains("spawned uWSGI worker 1")), "{}", node.log());
}
