//! Each node finds out by itself whether it could take the IP over, before the night it counts.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lab::ip;
use lab::legion::{LEGION, Legion, hook};
use lab::node::{Node, free_address};
use lab::robot::{Config, Failover, Robot};
use lab::scene::side_by_side;
use lab::shim;
use lab::uwsgi::Uwsgi;
use lab::{PASSWORD, USERNAME, wait_until};
use tempfile::TempDir;

/// The first look comes 60 to 90 s after the start.
const LIMIT: Duration = Duration::from_secs(240);
const QUICK: &str = "legion-freq = 1\nlegion-tolerance = 4\nenable-metrics = true\n";
const IP: &str = "4.4.4.4";
/// What the standby's user is called, to be told from the Lord's.
const STANDBY: &str = "STANDBY";
const UNREADY: &str = "failover: this node cannot take over 4.4.4.4: ";
const READY: &str = "failover: this node can take over 4.4.4.4 again";

fn robot() -> Robot {
    let failover = vec![Failover::new(ip(IP), None)];
    Robot::start(Config { failover, ..Config::default() }).expect("a free port")
}

/// A node in a Legion of its own, and what its alarm writes.
struct Alone {
    node: Node,
    alarms: PathBuf,
    _folder: TempDir,
}

impl Alone {
    /// `lines` beside the hook; with a quorum of two it is never Lord.
    fn start(uwsgi: Uwsgi, hook: &str, lines: &str, env: &[(&str, &str)]) -> Alone {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let alarms = folder.path().join("alarms");
        let ini = format!(
            "plugin = hetzner\n{QUICK}legion = {LEGION} {} 1 aes-128-cbc:secret1\n{lines}\
             alarm = pager cmd:cat >> {}\nlegion-lord = {LEGION} hetzner-failoverip:{hook},alarm=pager\n",
            free_address(),
            alarms.display()
        );
        Alone { node: Node::start(uwsgi, folder.path(), &ini, env), alarms, _folder: folder }
    }

    /// How often the alarm was triggered with `text`.
    fn alarms(&self, text: &str) -> usize {
        fs::read_to_string(&self.alarms).unwrap_or_default().matches(text).count()
    }

    #[track_caller]
    fn wait_for_alarm(&self, text: &str) {
        let rang = wait_until(LIMIT, || self.alarms(text) > 0);
        assert!(rang, "no alarm with \"{text}\":\n{}", self.node.log());
    }

    #[track_caller]
    fn wait_for_metrics(&self, expected: &[(&str, i64)]) {
        wait_for_metrics(&self.node, expected);
    }
}

fn metric(node: &Node, name: &str) -> Option<i64> {
    node.stats()?["metrics"][format!("hetzner.{LEGION}.{IP}.{name}")]["value"].as_i64()
}

#[track_caller]
fn wait_for_metrics(node: &Node, expected: &[(&str, i64)]) {
    let is_so = || expected.iter().all(|(name, value)| metric(node, name) == Some(*value));
    let shown = || expected.iter().map(|(name, _)| (*name, metric(node, name))).collect::<Vec<_>>();
    assert!(wait_until(LIMIT, is_so), "{:?}, not {expected:?}:\n{}", shown(), node.log());
}

const NEVER_LORD: &str = "legion-quorum = failover 2\n";

#[test]
fn a_standby_looks_by_itself_and_says_what_changes() {
    side_by_side(&Uwsgi::ALL, |uwsgi| {
        let robot = robot();
        let url = robot.url(ip(IP));
        let hooks = [hook(1, &url, ""), hook(2, &url, "").replace(USERNAME, STANDBY)];
        let mut legion = Legion::new(uwsgi, &hooks, QUICK);
        robot.fault(format!("get user={STANDBY} error UNAUTHORIZED").parse().expect("a rule"));
        legion.start_all();
        legion.wait_for_lord(1, LIMIT);
        // Its takeover has shown it.
        wait_for_metrics(legion.node(1), &[("ready", 1)]);
        wait_for_metrics(legion.node(2), &[("ready", 0), ("alarms", 1)]);
        for text in [&format!("{UNREADY}HTTP 401"), ": a failover to this node would fail"] {
            legion.node(2).wait_for_log(text, LIMIT);
        }
        let aged = || metric(legion.node(2), "ready_age").is_some_and(|age| age >= 0);
        assert!(wait_until(LIMIT, aged), "{:?}", metric(legion.node(2), "ready_age"));
        // One is enough for hours.
        let asked = |journal: &[lab::robot::Request]| {
            journal.iter().filter(|request| request.user.as_deref() == Some(STANDBY)).count()
        };
        assert_eq!(asked(&robot.journal()), 1, "{:?}", robot.journal());
        // It shows itself that it could after all.
        robot.clear_faults();
        legion.kill(1);
        legion.wait_for_lord(2, LIMIT);
        legion.node(2).wait_for_log(READY, LIMIT);
        wait_for_metrics(legion.node(2), &[("ready", 1), ("alarms", 1)]);
    });
}

#[test]
fn a_standby_that_is_ready_asks_once_and_is_silent() {
    side_by_side(&Uwsgi::ALL, |uwsgi| {
        let robot = robot();
        let alone = Alone::start(uwsgi, &hook(1, &robot.url(ip(IP)), ""), NEVER_LORD, &[]);
        alone.wait_for_metrics(&[("ready", -1), ("ready_age", -1)]);
        alone.wait_for_metrics(&[("ready", 1), ("alarms", 0)]);
        let aged = wait_until(LIMIT, || metric(&alone.node, "ready_age").is_some_and(|age| age >= 3));
        assert!(aged, "{:?}", metric(&alone.node, "ready_age"));
        assert_eq!(robot.journal().len(), 1, "{:?}", robot.journal());
        assert_eq!(robot.journal()[0].method, "GET");
        let told =
            alone.node.lines().into_iter().filter(|line| !line.starts_with("warning")).collect::<Vec<_>>();
        assert_eq!(told, [""; 0]);
        assert!(!threads(&alone.node).iter().any(|name| name == "hetzner-look"), "no thread stays for it");
    });
}

fn threads(node: &Node) -> Vec<String> {
    let threads = fs::read_dir(format!("/proc/{}/task", node.id())).expect("it runs");
    let names = threads.flatten().filter_map(|thread| fs::read_to_string(thread.path().join("comm")).ok());
    names.map(|name| name.trim().to_string()).collect()
}

/// Three would lock this server's address out.
#[test]
fn several_ips_are_one_login_here_too() {
    let failover = ["4.4.4.4", "5.5.5.5", "6.6.6.6"].map(|text| Failover::new(ip(text), None)).to_vec();
    let robot = Robot::start(Config { failover, ..Config::default() }).expect("a free port");
    robot.fault("get error UNAUTHORIZED".parse().expect("a rule"));
    let hook = hook(1, &format!("http://{}/failover/{{ip}}", robot.addr()), "")
        .replace("ip=4.4.4.4,", "ip=4.4.4.4;5.5.5.5;6.6.6.6,");
    let alone = Alone::start(Uwsgi::Pypi, &hook, NEVER_LORD, &[]);
    for address in ["4.4.4.4", "5.5.5.5", "6.6.6.6"] {
        alone.wait_for_alarm(&format!("this node cannot take over {address}: HTTP 401"));
    }
    assert_eq!(robot.journal().len(), 1, "{:?}", robot.journal());
}

/// Its file is there at the start, and gone when the Lord dies.
#[test]
fn a_password_file_that_cannot_be_read_any_more_is_told() {
    side_by_side(&Uwsgi::ALL, |uwsgi| {
        let robot = robot();
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("password");
        fs::write(&file, PASSWORD).expect("a writable folder");
        let by_file = format!("password_file={}", file.display());
        let hook = hook(1, &robot.url(ip(IP)), "").replace(&format!("password={PASSWORD}"), &by_file);
        let alone = Alone::start(uwsgi, &hook, NEVER_LORD, &[]);
        alone.wait_for_metrics(&[("ready", -1)]);
        fs::remove_file(&file).expect("ours");
        alone.wait_for_alarm("password_file=");
        // What was read before is used, so that it could take over all the same.
        alone.wait_for_metrics(&[("alarms", 1), ("ready", 1)]);
        assert_eq!(alone.alarms("password_file="), 1);
    });
}

/// A Lord's own looks count: what they find for hours is told once.
#[test]
fn a_guard_that_is_refused_wakes_somebody_once() {
    let cases = [(Uwsgi::Debian, "NOT_FOUND"), (Uwsgi::Pypi, "UNAUTHORIZED"), (Uwsgi::Debian, "FORBIDDEN")];
    side_by_side(&cases, |(uwsgi, code)| {
        let robot = robot();
        let alone = Alone::start(uwsgi, &hook(1, &robot.url(ip(IP)), ",verify=2"), "", &[]);
        alone.node.wait_for_log("i am now the Lord", LIMIT);
        alone.wait_for_metrics(&[("ready", 1), ("alarms", 0)]);
        robot.fault(format!("get error {code}").parse().expect("a rule"));
        alone.wait_for_metrics(&[("ready", 0), ("alarms", 1)]);
        assert!(alone.alarms(UNREADY) <= 1);
        alone.wait_for_alarm(UNREADY);
        // Further looks, answered or held back, are no news.
        let held = || {
            metric(&alone.node, "requests_held_back") > Some(1) || metric(&alone.node, "api_errors") > Some(2)
        };
        assert!(wait_until(LIMIT, held), "{}", alone.node.log());
        assert_eq!(alone.alarms(UNREADY), 1, "{}", alone.node.log());
        if code == "NOT_FOUND" {
            robot.clear_faults();
            alone.node.wait_for_log(READY, LIMIT);
            alone.wait_for_metrics(&[("ready", 1), ("alarms", 1)]);
        }
    });
}

/// While the file that $NO_THREADS names is there, the plugin gets no thread, and uWSGI gets all that it wants.
const NO_THREADS: &str = r#"
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*work)(void *), void *argument) {
	static int (*real)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
	const char *path = getenv("NO_THREADS");
	Dl_info who;
	if (!real)
		real = dlsym(RTLD_NEXT, "pthread_create");
	if (path && !access(path, F_OK) && dladdr(__builtin_return_address(0), &who) && strstr(who.dli_fname, "hetzner"))
		return EAGAIN;
	return real(thread, attributes, work, argument);
}
"#;

fn without_threads(folder: &Path) -> [(String, String); 2] {
    let path = folder.join("no-threads");
    fs::write(&path, "").expect("a writable folder");
    let shim = shim::build(folder, NO_THREADS);
    [("LD_PRELOAD".into(), shim.display().to_string()), ("NO_THREADS".into(), path.display().to_string())]
}

#[test]
fn a_system_without_threads_wakes_somebody_and_is_mended() {
    side_by_side(&Uwsgi::ALL, |uwsgi| {
        let robot = robot();
        let folder = tempfile::tempdir().expect("a temporary folder");
        let env = without_threads(folder.path());
        let env = env.each_ref().map(|(name, value)| (name.as_str(), value.as_str()));
        let alone = Alone::start(uwsgi, &hook(1, &robot.url(ip(IP)), ""), "", &env);
        alone.wait_for_alarm("FAILED to route 4.4.4.4 here: the takeover could not start");
        alone.wait_for_alarm(
            "the system has no thread left for the guard: nothing checks that the IP stays here",
        );
        alone.wait_for_alarm(
            "the system has no thread left for the daily check: a takeover by this node may fail too",
        );
        assert!(robot.journal().is_empty());
        let counted = wait_until(LIMIT, || metric(&alone.node, "takeover_failures") >= Some(1));
        assert!(counted, "{}", alone.node.log());
        fs::remove_file(env[1].1).expect("ours");
        alone.node.wait_for_log("there is a thread for the guard again", LIMIT);
        alone.node.wait_for_log("there is a thread for the daily check again", LIMIT);
        // And what the takeover did not do, the guard does.
        assert!(wait_until(LIMIT, || robot.route(ip(IP)) == Some(ip("1.1.1.1"))), "{}", alone.node.log());
        assert_eq!(alone.alarms("no thread left"), 2, "{}", alone.node.log());
    });
}

/// SNMP knows them by their number.
#[test]
fn metrics_keep_their_positions() {
    let robot = robot();
    let alone = Alone::start(Uwsgi::Debian, &hook(1, &robot.url(ip(IP)), ""), NEVER_LORD, &[]);
    alone.wait_for_metrics(&[("ready", -1)]);
    let stats = alone.node.stats().expect("it answers");
    for (position, name) in [
        "route",
        "takeovers",
        "takeover_failures",
        "last_takeover_ms",
        "drifts",
        "requests",
        "requests_held_back",
        "api_errors",
        "ready",
        "ready_age",
        "alarms",
    ]
    .into_iter()
    .enumerate()
    {
        let oid = stats["metrics"][format!("hetzner.{LEGION}.{IP}.{name}")]["oid"].as_str();
        assert_eq!(oid, Some(format!("4825.1.{}", position + 1).as_str()), "{name}");
    }
}
