//! The operator's commands, on the same ini that the node runs with.

use std::net::IpAddr;
use std::process::{Command, Output};

use serde_json::Value;

use crate::robot::{Certificate, Config, Failover, Login, Robot};
use crate::support::legion::LEGION;
use crate::support::node::free_address;
use crate::support::uwsgi::Uwsgi;
use crate::support::{PASSWORD, USERNAME, assert_no_secret};

const IP: &str = "127.0.0.9";
const HERE: &str = "127.0.0.1";
const OTHER: &str = "127.0.0.2";

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn robot(config: Config) -> Robot {
    let failover = vec![Failover::new(ip(IP), Some(ip(OTHER)))];
    let login = Some(Login::new(USERNAME, PASSWORD));
    Robot::start(Config { failover, login, ..config }).expect("a free port")
}

fn hook(robot: &Robot) -> String {
    let url = robot.url(ip(IP));
    format!(
        "hetzner-failoverip:username={USERNAME},password={PASSWORD},ip={IP},active_ip={HERE},url={url},timeout=2,deadline=3"
    )
}

/// Runs uWSGI with an ini of these lord hooks and a socket that is taken, so that binding anything would fail.
fn run(uwsgi: Uwsgi, hooks: &[String], options: &[&str], env: &[(&str, &str)]) -> Output {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let mut ini = format!(
        "[uwsgi]\nplugins-dir = {}\nplugin = hetzner\nmaster = true\nsocket = {}\ndaemonize = {}/log\n\
         legion = {LEGION} {} 1 aes-128-cbc:secret1\n",
        uwsgi.plugins().display(),
        taken.local_addr().expect("it is bound"),
        folder.path().display(),
        free_address()
    );
    for hook in hooks {
        ini += &format!("legion-lord = {LEGION} {hook}\n");
    }
    let path = folder.path().join("node.ini");
    std::fs::write(&path, ini).expect("a writable folder");
    let mut command = Command::new(uwsgi.program());
    command.arg("--ini").arg(&path).args(options).env_remove("http_proxy").env_remove("https_proxy");
    let output = command.envs(env.iter().copied()).output().expect("uWSGI starts");
    assert!(!folder.path().join("log").exists(), "it went into the background");
    assert_no_secret(&String::from_utf8_lossy(&output.stdout));
    assert_no_secret(&String::from_utf8_lossy(&output.stderr));
    output
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn status_has_three_states_and_as_many_exit_codes() {
    for uwsgi in Uwsgi::ALL {
        let robot = robot(Config::default());
        let hooks = [hook(&robot)];
        for (route, state, code) in
            [(Some(HERE), "here", 0), (Some(OTHER), "elsewhere", 2), (None, "nowhere", 2)]
        {
            robot.set_route(ip(IP), route.map(ip));
            let output = run(uwsgi, &hooks, &["--hetzner-status"], &[]);
            assert_eq!(output.status.code(), Some(code), "{output:?}");
            let output = run(uwsgi, &hooks, &["--hetzner-status", "--hetzner-json"], &[]);
            let json: Value = stdout(&output)
                .lines()
                .last()
                .map(|line| serde_json::from_str(line).expect("JSON"))
                .expect("a line");
            assert_eq!(
                (json["exit_status"].as_i64(), json["ips"][0]["state"].as_str()),
                (Some(code.into()), Some(state))
            );
            assert_eq!(json["ips"][0]["route"].as_str(), route);
        }
        robot.fault("any html 200".parse().expect("a rule"));
        let output = run(uwsgi, &hooks, &["--hetzner-status"], &[]);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert!(stdout(&output).contains("unknown: HTTP 200 with an HTML page"), "{output:?}");
    }
}

#[test]
fn takeover_and_release_do_what_they_say() {
    let robot = robot(Config::default());
    let hooks = [hook(&robot)];
    let run = |option: &str| run(Uwsgi::Pypi, &hooks, &[option], &[]);
    let output = run("--hetzner-release");
    assert_eq!((output.status.code(), robot.route(ip(IP))), (Some(2), Some(ip(OTHER))), "{output:?}");
    assert!(stdout(&output).contains("nothing was released"), "{output:?}");
    let output = run("--hetzner-takeover");
    assert_eq!((output.status.code(), robot.route(ip(IP))), (Some(0), Some(ip(HERE))), "{output:?}");
    let output = run("--hetzner-release");
    assert_eq!((output.status.code(), robot.route(ip(IP))), (Some(0), None), "{output:?}");
    robot.fault("post error FAILOVER_NEW_SERVER_NOT_FOUND".parse().expect("a rule"));
    let output = run("--hetzner-takeover");
    assert_eq!((output.status.code(), robot.route(ip(IP))), (Some(1), None), "{output:?}");
}

#[test]
fn check_says_each_step_and_changes_nothing() {
    let robot = robot(Config { tls: Some(Certificate::Right), ..Config::default() });
    let ca_file = robot.ca_file().expect("with TLS").to_str().expect("UTF-8");
    let output = run(Uwsgi::Debian, &[hook(&robot)], &["--hetzner-check"], &[("SSL_CERT_FILE", ca_file)]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    for step in [
        "the configuration is right",
        "is reached",
        "has proved who it is",
        "the login is right",
        "the account has 127.0.0.9",
        "it is routed to 127.0.0.2",
        "active_ip 127.0.0.1 is on an interface",
        "the failover IP 127.0.0.9 is on an interface",
    ] {
        let found = stdout(&output)
            .lines()
            .any(|line| line.starts_with("ok       failover 127.0.0.9: ") && line.contains(step));
        assert!(found, "{step}: {}", stdout(&output));
    }
    assert!(robot.journal().iter().all(|request| request.method == "GET"));
    assert_eq!(robot.route(ip(IP)), Some(ip(OTHER)));
}

#[test]
fn check_names_the_remedy_of_every_fault() {
    for (fault, remedy) in [
        ("get error UNAUTHORIZED", "check username and password"),
        ("get error FORBIDDEN", "not allowed, or locked out"),
        ("get error RATE_LIMIT_EXCEEDED", "is used up"),
        ("get error NOT_FOUND", "this account has no such failover IP: check ip and username"),
        ("get error MAINTENANCE", "maintenance"),
        ("get html 200", "no failover object"),
        (
            "get redirect http://127.0.0.1:9/",
            "never followed, since the login is for the configured host alone; check url",
        ),
        ("any refuse", "connection refused"),
        ("get close", "connection broken"),
        ("get hang", "no whole answer from"),
    ] {
        let robot = robot(Config::default());
        robot.fault(fault.parse().expect("a rule"));
        let output = run(Uwsgi::Pypi, &[hook(&robot)], &["--hetzner-check"], &[]);
        assert_eq!(output.status.code(), Some(1), "{fault}: {output:?}");
        let found = stdout(&output).lines().any(|line| line.starts_with("ERROR") && line.contains(remedy));
        assert!(found, "{fault}: {}", stdout(&output));
        assert_eq!(robot.route(ip(IP)), Some(ip(OTHER)));
    }
    for (certificate, remedy) in [
        (Certificate::Expired, "has expired: check this machine's clock"),
        (Certificate::OtherHost, "is for another host: check url"),
        (Certificate::UnknownIssuer, "unknown issuer: check ca-certificates and SSL_CERT_FILE"),
    ] {
        let robot = robot(Config { tls: Some(certificate), ..Config::default() });
        let ca_file = robot.ca_file().expect("with TLS").to_str().expect("UTF-8");
        let output = run(Uwsgi::Pypi, &[hook(&robot)], &["--hetzner-check"], &[("SSL_CERT_FILE", ca_file)]);
        assert!(stdout(&output).contains(remedy), "{certificate:?}: {}", stdout(&output));
    }
}

#[test]
fn a_command_acts_for_one_legion_or_says_that_there_is_none() {
    let robot = robot(Config::default());
    let output = run(Uwsgi::Pypi, &[hook(&robot)], &["--hetzner-status", "--hetzner-legion", "another"], &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stdout(&output).contains("Legion another has no legion-lord hook"), "{output:?}");
    assert!(robot.journal().is_empty());
    let output = run(Uwsgi::Pypi, &[hook(&robot)], &["--hetzner-status", "--hetzner-legion", LEGION], &[]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
}

#[test]
fn help_lists_the_options() {
    let plugins = Uwsgi::Debian.plugins();
    let output = Command::new(Uwsgi::Debian.program())
        .args([
            "--plugins-dir".as_ref(),
            plugins.as_os_str(),
            "--plugin".as_ref(),
            "hetzner".as_ref(),
            "--help".as_ref(),
        ])
        .output()
        .expect("uWSGI starts");
    for option in ["check", "status", "takeover", "release", "legion", "json"] {
        assert!(stdout(&output).contains(&format!("--hetzner-{option} ")), "{option}");
    }
}
