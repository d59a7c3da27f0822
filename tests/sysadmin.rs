//! What a sysadmin sees and sets beside the takeover itself: several IPs, an ini for all nodes, a password in a file,
//! a release, metrics, alarms.

use std::fs;
use std::time::Duration;

use lab::legion::{LEGION, Legion, hook};
use lab::node::{Node, free_address};
use lab::process::SIGINT;
use lab::robot::{Config, Failover, Login, Robot};
use lab::scene::{LIMIT, QUICK};
use lab::uwsgi::Uwsgi;
use lab::{PASSWORD, USERNAME, ip, wait_until};
use serde_json::Value;

fn robot(ips: &[&str], config: Config) -> Robot {
    let failover = ips.iter().map(|text| Failover::new(ip(text), None)).collect();
    Robot::start(Config { failover, ..config }).expect("a free port")
}

/// A node alone in its Legion, in a folder that outlives it.
fn lone(uwsgi: Uwsgi, folder: &tempfile::TempDir, lines: &str) -> Node {
    let ini = format!(
        "plugin = hetzner\n{QUICK}legion = {LEGION} {} 1 aes-128-cbc:secret1\n{lines}",
        free_address()
    );
    Node::start(uwsgi, folder.path(), &ini, &[])
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

#[test]
fn eight_ips_take_as_long_as_one() {
    let ips: Vec<String> =
        (1..=6).map(|n| format!("4.4.4.{n}")).chain(["2a01:4f8:1::".into(), "2a01:4f8:2::".into()]).collect();
    let texts: Vec<&str> = ips.iter().map(String::as_str).collect();
    for uwsgi in Uwsgi::ALL {
        let robot = robot(&texts, Config { switch: Duration::from_secs(10), ..Config::default() });
        let folder = folder();
        let node = lone(
            uwsgi,
            &folder,
            &format!(
                "legion-lord = {LEGION} hetzner-failoverip:user={USERNAME},pass={PASSWORD},ip={},active_ip=1.1.1.1;2a01:4f8::,\
                 url=http://{}/failover/{{ip}}\n",
                ips.join(";"),
                robot.addr()
            ),
        );
        node.wait_for_log("i am now the Lord", LIMIT);
        let journal = robot.journal();
        let first_answer = journal.iter().filter_map(|post| post.done).min().expect("all are answered");
        assert_eq!(journal.len(), texts.len(), "{journal:?}");
        assert!(journal.iter().all(|post| post.at < first_answer), "{journal:?}");
        for text in &texts {
            let target = if text.contains(':') { "2a01:4f8::" } else { "1.1.1.1" };
            assert_eq!(robot.route(ip(text)), Some(ip(target)), "{text}");
        }
    }
}

#[test]
fn one_ip_of_several_that_fails_is_named_and_makes_no_lord() {
    let robot = robot(&["4.4.4.4", "5.5.5.5"], Config::default());
    robot.fault("post ip=5.5.5.5 error FAILOVER_NEW_SERVER_NOT_FOUND".parse().expect("a rule"));
    let folder = folder();
    let url = format!("http://{}/failover/{{ip}}", robot.addr());
    let hook = hook(1, &url, "").replace("ip=4.4.4.4,", "ip=4.4.4.4;5.5.5.5,");
    let lines =
        format!("legion-death-on-lord-error = 60\nlegion-lord = {LEGION} hetzner-failoverip:{hook}\n");
    let node = lone(Uwsgi::Debian, &folder, &lines);
    node.wait_for_log("suspending myself", LIMIT);
    node.wait_for_log("FAILED to route 5.5.5.5 to 1.1.1.1", LIMIT);
    node.wait_for_log("4.4.4.4 is routed to 1.1.1.1", LIMIT);
}

/// The README's one ini: the same three lines on each node, which is told from the others by its own address.
#[test]
fn one_hook_serves_all_nodes() {
    for uwsgi in Uwsgi::ALL {
        let robot = robot(&["4.4.4.4"], Config::default());
        let same = hook(1, &robot.url(ip("4.4.4.4")), "").replace("active_ip=1.1.1.1,", "");
        let mut legion = Legion::new(uwsgi, &[same.clone(), same.clone(), same], QUICK);
        let at = |legion: &Legion, node| robot.route(ip("4.4.4.4")) == Some(legion.address(node));
        legion.start_all();
        legion.wait_for_lord(1, LIMIT);
        assert!(at(&legion, 1), "{:?}", robot.history());
        legion.kill(1);
        legion.wait_for_lord(2, LIMIT);
        assert!(at(&legion, 2), "{:?}", robot.history());
    }
}

#[test]
fn a_rotated_password_needs_no_restart() {
    let login = Some(Login::new(USERNAME, PASSWORD));
    let robot = robot(&["4.4.4.4"], Config { login, ..Config::default() });
    let folder = folder();
    let file = folder.path().join("password");
    fs::write(&file, "an old one\n").expect("a writable folder");
    let by_file = format!("password_file={}", file.display());
    let hook = hook(1, &robot.url(ip("4.4.4.4")), "").replace(&format!("password={PASSWORD}"), &by_file);
    let lines = format!("legion-death-on-lord-error = 5\nlegion-lord = {LEGION} hetzner-failoverip:{hook}\n");
    let node = lone(Uwsgi::Pypi, &folder, &lines);
    node.wait_for_log("HTTP 401", LIMIT);
    fs::write(&file, format!("{PASSWORD}\n")).expect("our own file");
    node.wait_for_log("i am now the Lord", LIMIT);
    assert_eq!(robot.route(ip("4.4.4.4")), Some(ip("1.1.1.1")));
    // Before it comes back it looks whether a takeover would succeed.
    let asked: Vec<String> = robot.journal().iter().map(|request| request.method.clone()).collect();
    assert_eq!(asked, ["POST", "GET", "POST"]);
}

/// As README says: uWSGI itself takes one newline off the end of a file that an ini names so.
#[test]
fn a_password_by_at_and_file_is_without_the_files_newline() {
    for uwsgi in Uwsgi::ALL {
        let login = Some(Login::new(USERNAME, PASSWORD));
        let robot = robot(&["4.4.4.4"], Config { login, ..Config::default() });
        let folder = folder();
        let file = folder.path().join("password");
        fs::write(&file, format!("{PASSWORD}\n")).expect("a writable folder");
        let hook =
            hook(1, &robot.url(ip("4.4.4.4")), "").replace(PASSWORD, &format!("@({})", file.display()));
        let lines =
            format!("legion-death-on-lord-error = 5\nlegion-lord = {LEGION} hetzner-failoverip:{hook}\n");
        let node = lone(uwsgi, &folder, &lines);
        node.wait_for_log("i am now the Lord", LIMIT);
        assert_eq!(robot.journal().len(), 1, "{:?}", robot.journal());
    }
}

/// A mistake of a deployment, a disk that is gone: what was read last is what is used.
#[test]
fn a_password_file_that_is_gone_keeps_no_takeover_from_succeeding() {
    for uwsgi in Uwsgi::ALL {
        let login = Some(Login::new(USERNAME, PASSWORD));
        let robot = robot(&["4.4.4.4"], Config { login, ..Config::default() });
        let folder = folder();
        let file = folder.path().join("password");
        fs::write(&file, PASSWORD).expect("a writable folder");
        let by_file = format!("password_file={}", file.display());
        let hook = hook(1, &robot.url(ip("4.4.4.4")), ",verify=1")
            .replace(&format!("password={PASSWORD}"), &by_file);
        let node = lone(uwsgi, &folder, &format!("legion-lord = {LEGION} hetzner-failoverip:{hook}\n"));
        node.wait_for_log("i am now the Lord", LIMIT);
        fs::remove_file(&file).expect("our own file");
        robot.set_route(ip("4.4.4.4"), Some(ip("2.2.2.2")));
        let back = || robot.route(ip("4.4.4.4")) == Some(ip("1.1.1.1"));
        assert!(wait_until(LIMIT, back), "{uwsgi}: {}", node.log());
        node.wait_for_log("using the password that was read before", LIMIT);
        let said = node.lines();
        let kept: Vec<_> =
            said.iter().filter(|line| line.contains("using the password that was read before")).collect();
        assert_eq!(kept.len(), 1, "{uwsgi}: {said:?}");
        assert!(kept[0].contains("No such file or directory (os error 2), as uid"), "{kept:?}");
    }
}

#[test]
fn a_node_that_ends_releases_the_route_if_it_is_here() {
    for (uwsgi, elsewhere) in [(Uwsgi::Debian, false), (Uwsgi::Pypi, true)] {
        let robot = robot(&["4.4.4.4"], Config::default());
        let hook = hook(1, &robot.url(ip("4.4.4.4")), "");
        let lines = format!(
            "legion-lord = {LEGION} hetzner-failoverip:{hook}\nlegion-death = {LEGION} hetzner-failoverip-release:{hook}\n"
        );
        let folder = folder();
        let mut node = lone(uwsgi, &folder, &lines);
        node.wait_for_log("i am now the Lord", LIMIT);
        if elsewhere {
            robot.set_route(ip("4.4.4.4"), Some(ip("2.2.2.2")));
        }
        node.signal(SIGINT);
        assert!(node.wait_for_exit(LIMIT).is_some(), "{}", node.log());
        assert_eq!(robot.route(ip("4.4.4.4")), elsewhere.then(|| ip("2.2.2.2")), "{}", node.log());
        let deleted = robot.journal().iter().any(|request| request.method == "DELETE");
        assert_eq!(deleted, !elsewhere);
        let said = if elsewhere { "not here: nothing to release" } else { "routed nowhere now: released" };
        assert!(node.log().contains(said), "{}", node.log());
    }
}

/// The metric's value in the stats server.
fn metric(node: &Node, name: &str) -> Option<i64> {
    node.stats()?["metrics"]["hetzner.failover.4.4.4.4.".to_string() + name]["value"].as_i64()
}

#[test]
fn metrics_reach_the_stats_server() {
    for uwsgi in Uwsgi::ALL {
        let robot = robot(&["4.4.4.4"], Config::default());
        robot.fault("post times=1 lost-answer".parse().expect("a rule"));
        let hook = hook(1, &robot.url(ip("4.4.4.4")), ",verify=2");
        let folder = folder();
        let node = lone(
            uwsgi,
            &folder,
            &format!("enable-metrics = true\nlegion-lord = {LEGION} hetzner-failoverip:{hook}\n"),
        );
        let values = |expected: &[(&str, i64)]| {
            expected.iter().all(|(name, value)| metric(&node, name) == Some(*value))
        };
        let shown = || {
            [
                "route",
                "takeovers",
                "takeover_failures",
                "drifts",
                "requests",
                "requests_held_back",
                "api_errors",
            ]
            .map(|name| (name, metric(&node, name)))
        };
        assert!(
            wait_until(LIMIT, || values(&[
                ("route", 1),
                ("takeovers", 1),
                ("takeover_failures", 0),
                ("api_errors", 1)
            ])),
            "{:?}",
            shown()
        );
        assert!(metric(&node, "last_takeover_ms") >= Some(1000), "it has looked after a second");
        robot.fault("post error FAILOVER_NEW_SERVER_NOT_FOUND".parse().expect("a rule"));
        robot.set_route(ip("4.4.4.4"), Some(ip("2.2.2.2")));
        assert!(
            wait_until(LIMIT, || values(&[("route", 0), ("drifts", 1), ("takeover_failures", 1)])),
            "{:?}",
            shown()
        );
        robot.fault("get error MAINTENANCE".parse().expect("a rule"));
        assert!(wait_until(LIMIT, || values(&[("route", -1)])), "{:?}", shown());
        assert!(metric(&node, "requests") >= Some(5));
    }
}

#[test]
fn an_alarm_is_triggered_by_a_failure_and_by_a_drift() {
    for uwsgi in Uwsgi::ALL {
        let robot = robot(&["4.4.4.4"], Config::default());
        let hook = hook(1, &robot.url(ip("4.4.4.4")), ",verify=2,alarm=pager");
        let folder = folder();
        let file = folder.path().join("alarms");
        let lines = format!(
            "alarm = pager cmd:cat >> {}\nlegion-lord = {LEGION} hetzner-failoverip:{hook}\n",
            file.display()
        );
        let node = lone(uwsgi, &folder, &lines);
        node.wait_for_log("i am now the Lord", LIMIT);
        robot.fault("post error FAILOVER_NEW_SERVER_NOT_FOUND".parse().expect("a rule"));
        robot.set_route(ip("4.4.4.4"), Some(ip("2.2.2.2")));
        let alarms = || fs::read_to_string(&file).unwrap_or_default();
        for text in [
            "[hetzner-failoverip] failover: 4.4.4.4 is routed to 2.2.2.2, though this node is Lord: checking the route again in 2 s",
            "[hetzner-failoverip] failover: FAILED to route 4.4.4.4 to 1.1.1.1: HTTP 404 FAILOVER_NEW_SERVER_NOT_FOUND",
        ] {
            assert!(
                wait_until(LIMIT, || alarms().contains(text)),
                "{uwsgi}: {text}\n{}\n{}",
                alarms(),
                node.log()
            );
        }
    }
}

/// Not only that it says so: nothing of ours is left in a uWSGI whose hooks are all others'.
#[test]
fn a_uwsgi_without_hooks_of_ours_is_left_alone() {
    let folder = folder();
    let node = lone(Uwsgi::Debian, &folder, &format!("legion-lord = {LEGION} log:lord\n"));
    node.wait_for_log("i am now the Lord", LIMIT);
    let expected = format!(
        "warning: Legion {LEGION} has no legion-lord hook with hetzner-failoverip or hetzner-floatingip or failover-command: no failover IP \
         follows its Lord"
    );
    assert_eq!(node.lines(), [expected]);
    let threads = fs::read_dir(format!("/proc/{}/task", node.id())).expect("it runs");
    let names = threads.flatten().filter_map(|thread| fs::read_to_string(thread.path().join("comm")).ok());
    assert_eq!(names.filter(|name| name.trim() == "hetzner").count(), 0);
    assert_eq!(node.stats().map(|stats| stats["legions"][0]["legion"].clone()), Some(Value::from(LEGION)));
}
