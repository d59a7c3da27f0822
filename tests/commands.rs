//! The operator's commands, on the same ini that the node runs with.

use std::path::Path;
use std::process::{Command, Output};
use std::slice::from_ref;

use lab::ip;
use lab::legion::LEGION;
use lab::node::free_address;
use lab::process;
use lab::robot::{Certificate, Config, Failover, Login, Robot};
use lab::uwsgi::Uwsgi;
use lab::{LIMIT, PASSWORD, USERNAME, assert_no_secret, wait_until};
use serde_json::Value;

const IP: &str = "127.0.0.9";
const HERE: &str = "127.0.0.1";
const OTHER: &str = "127.0.0.2";

pub fn robot(config: Config) -> Robot {
    let failover = vec![Failover::new(ip(IP), Some(ip(OTHER)))];
    robot_of(failover, config)
}

pub fn robot_of(failover: Vec<Failover>, config: Config) -> Robot {
    let login = Some(Login::new(USERNAME, PASSWORD));
    Robot::start(Config { failover, login, ..config }).expect("a free port")
}

pub fn hook(robot: &Robot) -> String {
    let url = robot.url(ip(IP));
    format!(
        "hetzner-failoverip:username={USERNAME},password={PASSWORD},ip={IP},active_ip={HERE},url={url},timeout=30,deadline=60"
    )
}

/// Runs uWSGI with an ini of these lord hooks and a socket that is taken, so that binding anything would fail.
pub fn run(uwsgi: Uwsgi, hooks: &[String], options: &[&str], env: &[(&str, &str)]) -> Output {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let output = command_in(uwsgi, folder.path(), hooks, "").args(options).envs(env.iter().copied()).output();
    checked(folder.path(), output.expect("uWSGI starts"))
}

/// The same in a folder of the caller's, which holds all that such a process may leave behind, with more lines of ini.
pub fn run_in(uwsgi: Uwsgi, folder: &Path, hooks: &[String], lines: &str, options: &[&str]) -> Output {
    let output = command_in(uwsgi, folder, hooks, lines).args(options).output();
    checked(folder, output.expect("uWSGI starts"))
}

pub fn command_in(uwsgi: Uwsgi, folder: &Path, hooks: &[String], lines: &str) -> Command {
    // Others wait for it by then.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let mut ini = format!(
        "[uwsgi]\nplugins-dir = {}\nplugin = hetzner\nmaster = true\nsocket = {}\ndaemonize = {}/log\n\
         legion-death-on-lord-error = 5\nlegion = {LEGION} {} 1 aes-128-cbc:secret1\n{lines}",
        uwsgi.plugins().display(),
        taken.local_addr().expect("it is bound"),
        folder.display(),
        free_address()
    );
    // Closed when this process ends.
    std::mem::forget(taken);
    for hook in hooks {
        ini += &format!("legion-lord = {LEGION} {hook}\n");
    }
    let path = folder.join("node.ini");
    std::fs::write(&path, ini).expect("a writable folder");
    let mut command = Command::new(uwsgi.program());
    command.arg("--ini").arg(&path).env_remove("http_proxy").env_remove("https_proxy").env("TMPDIR", folder);
    command
}

fn checked(folder: &Path, output: Output) -> Output {
    assert!(!folder.join("log").exists(), "it went into the background");
    assert_no_secret(&String::from_utf8_lossy(&output.stdout));
    assert_no_secret(&String::from_utf8_lossy(&output.stderr));
    output
}

pub fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// All of what it printed, which has to be one document.
pub fn document(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
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
            let json = document(&output);
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
        "the configuration is valid",
        "is reachable",
        ": certificate verified",
        "the login is accepted",
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
        ("get error FORBIDDEN", "not allowed, or is locked out"),
        ("get error RATE_LIMIT_EXCEEDED", "is used up"),
        ("get error NOT_FOUND", "this account has no such failover IP: check ip and username"),
        ("get error MAINTENANCE", "maintenance"),
        ("get html 200", "no failover object"),
        (
            "get redirect http://127.0.0.1:9/",
            "not followed, because the login is only for the configured host; check url",
        ),
        ("any refuse", "connection refused"),
        ("get close", "connection broken"),
        ("get hang", "no complete answer within"),
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

/// What was meant for a command must not start a server, and of two commands none is done.
#[test]
fn options_that_make_no_sense_start_nothing() {
    for uwsgi in Uwsgi::ALL {
        let robot = robot(Config::default());
        for (options, sentence) in [
            (
                &["--hetzner-json"][..],
                "--hetzner-json needs a command: add --hetzner-check or --hetzner-status or --hetzner-takeover or \
                 --hetzner-release",
            ),
            (&["--hetzner-legion", LEGION], "--hetzner-legion needs a command: add "),
            (
                &["--hetzner-status", "--hetzner-takeover"],
                "--hetzner-status and --hetzner-takeover: only one command at a time",
            ),
            (
                &["--hetzner-release", "--hetzner-json", "--hetzner-check"],
                "--hetzner-release and --hetzner-check: only one command at a time",
            ),
        ] {
            let output = run(uwsgi, &[hook(&robot)], options, &[]);
            assert_eq!(output.status.code(), Some(3), "{options:?}: {output:?}");
            let log = String::from_utf8_lossy(&output.stderr);
            assert!(log.contains(&format!("[hetzner-failoverip] {sentence}")), "{options:?}: {log}");
            if options.contains(&"--hetzner-json") {
                let json = document(&output);
                assert!(json["error"].as_str().is_some_and(|error| error.starts_with(sentence)), "{json}");
                assert_eq!(json["exit_status"], 3);
            } else {
                assert_eq!(stdout(&output), "");
            }
        }
        assert!(robot.journal().is_empty());
        let twice = run(uwsgi, &[hook(&robot)], &["--hetzner-status", "--hetzner-status"], &[]);
        assert_eq!(twice.status.code(), Some(2), "{twice:?}");
    }
}

#[test]
fn whatever_is_wrong_json_is_one_document() {
    for uwsgi in Uwsgi::ALL {
        let robot = robot(Config::default());
        let right = hook(&robot);
        let json = |hooks: &[String], options: &[&str], code: i32| {
            let output = run(uwsgi, hooks, &[options, &["--hetzner-json"]].concat(), &[]);
            assert_eq!(output.status.code(), Some(code), "{output:?}");
            let json = document(&output);
            assert_eq!(json["exit_status"], code, "{json}");
            json
        };
        let login = format!("username={USERNAME},password={PASSWORD},");
        let wrong = right.replace(&login, "");
        for command in ["check", "status", "takeover", "release"] {
            let found = json(from_ref(&wrong), &[&format!("--hetzner-{command}")], 1);
            assert_eq!(found["command"], command);
            assert_eq!(found["error"], "the configuration is wrong");
            let problems = found["problems"].as_array().expect("a list");
            for (problem, start) in problems.iter().zip(["username is missing", "password is missing"]) {
                let start = format!("Legion failover, legion-lord: {start}");
                assert!(problem.as_str().is_some_and(|problem| problem.starts_with(&start)), "{found}");
            }
            assert_eq!(problems.len(), 2, "{found}");
        }
        for (hooks, options, error) in [
            (
                &[right.clone()][..],
                &["--hetzner-status", "--hetzner-legion", "another"][..],
                "Legion another has no",
            ),
            (&["log:lord".to_string()], &["--hetzner-status"], "the configuration has no legion-lord hook"),
        ] {
            let found = json(hooks, options, 1);
            assert!(found["error"].as_str().is_some_and(|text| text.starts_with(error)), "{found}");
        }
        robot.fault("post error FAILOVER_NEW_SERVER_NOT_FOUND".parse().expect("a rule"));
        let found = json(from_ref(&right), &["--hetzner-takeover"], 1);
        let reason = found["ips"][0]["reason"].as_str().unwrap_or_default();
        let start = "FAILED to route 127.0.0.9 to 127.0.0.1: HTTP 404 FAILOVER_NEW_SERVER_NOT_FOUND";
        assert!(reason.starts_with(start), "{found}");
        assert_eq!(
            (&found["ips"][0]["state"], &found["ips"][0]["route"]),
            (&"elsewhere".into(), &OTHER.into())
        );
        robot.fault("any html 200".parse().expect("a rule"));
        let found = json(&[right], &["--hetzner-status"], 1);
        assert_eq!(found["ips"][0]["state"], "unknown");
        assert!(
            found["ips"][0]["reason"].as_str().is_some_and(|text| text.starts_with("HTTP 200 with an HTML"))
        );
    }
}

/// A failed takeover's reason is for people, too.
#[test]
fn a_takeover_by_hand_says_why_it_failed_and_who_may_undo_it() {
    let robot = robot(Config::default());
    let run = |option: &str| run(Uwsgi::Debian, &[hook(&robot)], &[option], &[]);
    let output = run("--hetzner-takeover");
    let expected = "ok       failover 127.0.0.9: routed to 127.0.0.1, here\n\
                    note     failover 127.0.0.9: if this node is not Lord of failover, the Lord takes the IP back at its \
                    next check (verify, 300 s)\n";
    assert_eq!((output.status.code(), stdout(&output).as_str()), (Some(0), expected));
    // The takeover knows where it is.
    assert_eq!(robot.journal().len(), 1, "{:?}", robot.journal());
    let output = run("--hetzner-release");
    let expected = "ok       failover 127.0.0.9: it was routed here and is now routed nowhere\n\
                    note     failover 127.0.0.9: the Lord of failover takes it back at its next check (verify, 300 s)\n";
    assert_eq!((output.status.code(), stdout(&output).as_str()), (Some(0), expected));
    robot.fault("post error FAILOVER_NEW_SERVER_NOT_FOUND".parse().expect("a rule"));
    let output = run("--hetzner-takeover");
    assert!(
        stdout(&output)
            .starts_with("ERROR    failover 127.0.0.9: FAILED to route 127.0.0.9 to 127.0.0.1: HTTP 404"),
        "{output:?}"
    );
}

/// Ten seconds are for a node that ends.
#[test]
fn a_release_by_hand_waits_as_long_as_a_switch_takes() {
    let robot = robot(Config::default());
    robot.set_route(ip(IP), Some(ip(HERE)));
    robot.fault("delete delay 11s".parse().expect("a rule"));
    let patient = hook(&robot).replace("timeout=30,deadline=60", "timeout=60");
    let output = run(Uwsgi::Debian, &[patient], &["--hetzner-release"], &[]);
    assert_eq!((output.status.code(), robot.route(ip(IP))), (Some(0), None), "{output:?}");
    // And when no answer comes, it looks.
    robot.clear_faults();
    robot.set_route(ip(IP), Some(ip(HERE)));
    robot.fault("delete lost-answer".parse().expect("a rule"));
    let output = run(Uwsgi::Pypi, &[hook(&robot)], &["--hetzner-release"], &[]);
    assert_eq!((output.status.code(), robot.route(ip(IP))), (Some(0), None), "{output:?}");
    robot.set_route(ip(IP), Some(ip(HERE)));
    robot.clear_faults();
    robot.fault("delete error MAINTENANCE".parse().expect("a rule"));
    let output = run(Uwsgi::Pypi, &[hook(&robot)], &["--hetzner-release", "--hetzner-json"], &[]);
    let json = document(&output);
    assert_eq!((output.status.code(), &json["ips"][0]["state"]), (Some(1), &"here".into()), "{output:?}");
    assert!(json["ips"][0]["reason"].as_str().is_some_and(|text| text.contains("503")), "{json}");
}

#[test]
fn several_ips_are_asked_side_by_side() {
    for (command, method, fault) in [
        ("--hetzner-status", "GET", "get delay 5s"),
        ("--hetzner-takeover", "POST", "post delay 10s"),
        ("--hetzner-release", "DELETE", "delete delay 10s"),
    ] {
        let ips = ["4.4.4.1", "4.4.4.2", "4.4.4.3", "4.4.4.4"];
        let here = (command == "--hetzner-release").then(|| ip(HERE));
        let robot = robot_of(ips.map(|text| Failover::new(ip(text), here)).to_vec(), Config::default());
        robot.fault(fault.parse().expect("a rule"));
        let hook = hook(&robot).replace(&format!("ip={IP}"), &format!("ip={}", ips.join(";"))).replacen(
            &robot.url(ip(IP)),
            &format!("http://{}/failover/{{ip}}", robot.addr()),
            1,
        );
        let output =
            run(Uwsgi::Pypi, &[hook.replace("timeout=30,deadline=60", "timeout=20")], &[command], &[]);
        assert_eq!(stdout(&output).lines().filter(|line| !line.starts_with("note")).count(), 4, "{output:?}");
        let journal = robot.journal();
        let asked: Vec<_> = journal.iter().filter(|request| request.method == method).collect();
        // A look goes ahead of the others: a wrong login is found by one.
        let together = &asked[usize::from(method == "GET")..];
        let first_answer = together.iter().filter_map(|request| request.done).min().expect("one is answered");
        assert_eq!(asked.len(), 4, "{command}: {journal:?}");
        assert!(together.iter().all(|request| request.at < first_answer), "{command}: {journal:?}");
    }
}

/// uWSGI ignores it while it starts, and a monitor ends by it what takes too long.
#[test]
fn sigterm_ends_a_command() {
    for uwsgi in Uwsgi::ALL {
        let robot = robot(Config::default());
        robot.fault("any hang".parse().expect("a rule"));
        let folder = tempfile::tempdir().expect("a temporary folder");
        let patient = hook(&robot).replace("timeout=30,deadline=60", "timeout=60");
        let mut command = command_in(uwsgi, folder.path(), &[patient], "");
        let mut child = process::spawn(command.arg("--hetzner-takeover")).expect("uWSGI starts");
        let asked = robot.wait_for(LIMIT, |journal| !journal.is_empty());
        process::signal(child.id(), process::SIGTERM);
        let ended = wait_until(LIMIT, || child.try_wait().expect("a child of ours").is_some());
        if !ended {
            process::signal_group(child.id(), process::SIGKILL);
        }
        let status = child.wait().expect("a child of ours");
        assert!(asked && ended, "{uwsgi}: {status:?}");
    }
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
