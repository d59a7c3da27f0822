//! Which address stands for this host where `active_ip` is left out, in a network of the test's own.

use std::net::IpAddr;
use std::path::Path;
use std::process::{Command, Output};

use lab::legion::LEGION;
use lab::node::{Node, free_address};
use lab::process::in_own_network;
use lab::robot::{Config, Failover, Robot};
use lab::uwsgi::Uwsgi;
use lab::{LIMIT, PASSWORD, USERNAME, wait_until};
use serde_json::Value;

/// An IPv6 address needs `nodad`: until the kernel knows that nobody else has it, a route cannot name it.
fn ip(arguments: &str) {
    let status = Command::new("ip").args(arguments.split(' ')).status().expect("ip(8) is there");
    assert!(status.success(), "ip {arguments}");
}

/// Runs `work` where this process may make a network; says so where it may not.
fn alone(work: impl FnOnce() + Send + 'static) {
    if in_own_network(work).is_none() {
        println!("skipped: only root can make a network, with ip(8)");
    }
}

fn run(uwsgi: Uwsgi, folder: &Path, hooks: &[&str], options: &[&str]) -> Output {
    let mut ini = format!(
        "[uwsgi]\nplugins-dir = {}\nplugin = hetzner\nmaster = true\nlegion = {LEGION} {} 1 aes-128-cbc:secret1\n",
        uwsgi.plugins().display(),
        free_address()
    );
    for hook in hooks {
        ini += &format!(
            "legion-lord = {LEGION} hetzner-failoverip:username={USERNAME},password={PASSWORD},timeout=1,{hook}\n"
        );
    }
    let path = folder.join("node.ini");
    std::fs::write(&path, ini).expect("a writable folder");
    let mut command = Command::new(uwsgi.program());
    command.arg("--ini").arg(&path).args(options).env("TMPDIR", folder).output().expect("uWSGI starts")
}

/// What a check says that each hook's `active_ip` is.
fn found(uwsgi: Uwsgi, hooks: &[&str]) -> Vec<Option<String>> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let output = run(uwsgi, folder.path(), hooks, &["--hetzner-check", "--hetzner-json"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let json: Value = text
        .lines()
        .last()
        .and_then(|line| serde_json::from_str(line).ok())
        .unwrap_or_else(|| panic!("{output:?}"));
    let ips = json["ips"].as_array().expect("an entry for each");
    ips.iter().map(|entry| entry["active_ip"].as_str().map(str::to_string)).collect()
}

#[test]
fn a_failover_ip_is_never_taken_for_this_hosts_own() {
    for uwsgi in Uwsgi::ALL {
        alone(move || {
            // An API that is nowhere; only the way to it counts.
            let hook = "ip=4.4.4.4,url=http://198.51.100.9/failover/4.4.4.4";
            assert_eq!(found(uwsgi, &[hook]), [None], "no way to it");
            ip("addr add 4.4.4.4/32 dev lo");
            ip("route add default dev lo src 4.4.4.4");
            assert_eq!(found(uwsgi, &[hook]), [None], "it speaks from the failover IP, and has no other");
            ip("addr add 5.5.5.5/32 dev lo");
            assert_eq!(found(uwsgi, &[hook]), [Some("5.5.5.5".into())], "the one beside it");
            // Not that of another hook either.
            let other = "ip=5.5.5.5,active_ip=6.6.6.6,url=http://198.51.100.9/failover/5.5.5.5";
            assert_eq!(found(uwsgi, &[hook, other]), [None, Some("6.6.6.6".into())]);
            ip("route replace default dev lo src 5.5.5.5");
            assert_eq!(found(uwsgi, &[hook]), [Some("5.5.5.5".into())], "what it speaks from");

            let net = "ip=2a01:4f8:fff1::,url=http://198.51.100.9/x";
            assert_eq!(found(uwsgi, &[net]), [None]);
            ip("-6 addr add 2a01:4f8:fff1::7/64 dev lo nodad");
            ip("-6 route add default dev lo src 2a01:4f8:fff1::7");
            assert_eq!(found(uwsgi, &[net]), [None]);
            ip("-6 addr add 2a01:4f8:1:2::7/64 dev lo nodad");
            assert_eq!(found(uwsgi, &[net]), [Some("2a01:4f8:1:2::".into())]);
        });
    }
}

/// uWSGI starts, and the takeover begins, before there is a network.
#[test]
fn an_address_that_comes_later_is_waited_for() {
    for uwsgi in Uwsgi::ALL {
        alone(move || {
            let net: IpAddr = "2a01:4f8:fff1::".parse().expect("an address");
            let robot =
                Robot::start(Config { failover: vec![Failover::new(net, None)], ..Config::default() })
                    .expect("a free port");
            let folder = tempfile::tempdir().expect("a temporary folder");
            let ini = format!(
                "plugin = hetzner\nlegion = {LEGION} {} 1 aes-128-cbc:secret1\nlegion-freq = 1\nlegion-tolerance = 3\n\
                 legion-death-on-lord-error = 30\nlegion-lord = {LEGION} hetzner-failoverip:username={USERNAME},\
                 password={PASSWORD},ip={net},url={}\n",
                free_address(),
                robot.url(net)
            );
            let node = Node::start(uwsgi, folder.path(), &ini, &[]);
            node.wait_for_log(
                "not yet: active_ip is not set, and this host has no public IPv6 address",
                LIMIT,
            );
            let warning = "warning: Legion failover, legion-lord: active_ip is not set, and this host has no public IPv6 \
                           address of its own: each takeover looks for one again";
            assert!(node.lines().iter().any(|line| line.starts_with(warning)), "{:?}", node.lines());
            ip("-6 addr add 2a01:4f8:1:2::7/64 dev lo nodad");
            ip("-6 route add default dev lo");
            node.wait_for_log("i am now the Lord", LIMIT);
            let expected: IpAddr = "2a01:4f8:1:2::".parse().expect("an address");
            assert_eq!(robot.route(net), Some(expected), "{uwsgi}: {}", node.log());
            assert_eq!(robot.journal().len(), 1, "{uwsgi}");
        });
    }
}

/// Given up, it is a failed takeover like any other: logged, counted, alarmed.
#[test]
fn an_address_that_never_comes_is_a_failed_takeover() {
    let own = free_address();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let alarms = folder.path().join("alarms");
    // An API on loopback has the Legion's own address stand for this host; here that is the failover IP itself.
    let ini = format!(
        "plugin = hetzner\nenable-metrics = true\nalarm = pager cmd:cat >> {}\nlegion = {LEGION} {own} 1 \
         aes-128-cbc:secret1\nlegion-death-on-lord-error = 2\nlegion-lord = {LEGION} hetzner-failoverip:\
         username={USERNAME},password={PASSWORD},ip={},deadline=2,alarm=pager,url=http://127.0.0.1:9/x\n",
        alarms.display(),
        own.ip()
    );
    let node = Node::start(Uwsgi::Pypi, folder.path(), &ini, &[]);
    let expected =
        format!("FAILED to route {} here: active_ip is not set, and this host has no public", own.ip());
    node.wait_for_log(&expected, LIMIT);
    let alarmed = || std::fs::read_to_string(&alarms).unwrap_or_default().contains(&expected);
    assert!(wait_until(LIMIT, alarmed), "{}", node.log());
    let failures = || {
        let stats = node.stats()?;
        let name = format!("hetzner.{LEGION}.{}.takeover_failures", own.ip());
        stats["metrics"][name]["value"].as_i64()
    };
    assert!(wait_until(LIMIT, || failures() >= Some(1)), "{:?}", node.stats());
}
