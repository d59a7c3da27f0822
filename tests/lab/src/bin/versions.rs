//! `make versions`: the plugin in Debian's uWSGI and in each of PyPI's that builds here, from the oldest that is
//! promised to the newest.
//!
//! Each runs three nodes against the stand-in, through all that the plugin asks of uWSGI, and is given the plugins that
//! were built for all the others, none of which may load. At the end there is a line for each.

use std::fs;
use std::net::IpAddr;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use lab::legion::{LEGION, Legion, address, hook};
use lab::node::{Node, free_address};
use lab::refusal::assert_refuses;
use lab::robot::{Config, Failover, Login, Request, Robot};
use lab::uwsgi::{Uwsgi, checkout};
use lab::{PASSWORD, USERNAME, wait_until};

/// So many at a time: they wait for real seconds, and hardly compute.
const JOBS: usize = 7;
/// The longest that any step may take.
const LIMIT: Duration = Duration::from_secs(60);
/// Longer than the tolerance, so that a node that does not announce itself meanwhile is taken for dead.
const SWITCH: Duration = Duration::from_secs(6);
const INI: &str =
    "legion-freq = 1\nlegion-tolerance = 4\nlegion-death-on-lord-error = 10\nenable-metrics = true\n";

fn main() -> ExitCode {
    let listed = listed();
    let is_there = |uwsgi: &Uwsgi, why_not: Option<&str>| why_not.is_none() && uwsgi.is_there();
    let there: Vec<Uwsgi> =
        listed.iter().filter(|(uwsgi, why_not)| is_there(uwsgi, *why_not)).map(|(uwsgi, _)| *uwsgi).collect();
    println!("The plugin in {} uWSGIs, {JOBS} at a time; each takes a minute.", there.len());
    let mut ends = play_all(&there).into_iter();

    let mut good = true;
    for (uwsgi, why_not) in &listed {
        let end = match why_not {
            // No fault of the plugin's.
            Some(why) => Ok(format!("does not build here: {why}")),
            None if !there.contains(uwsgi) => Err(format!("no plugin: see target/plugins/{uwsgi}/build.log")),
            None => ends.next().expect("one for each").ok_or("see above".into()),
        };
        good &= end.is_ok();
        let text = end.unwrap_or_else(|why| format!("FAILED: {why}"));
        println!("{:<14}{text}", uwsgi.to_string());
    }
    let mut outermost = listed[1..].iter().take(2).chain(listed.iter().rev().take(2));
    if outermost.any(|(_, why_not)| why_not.is_some()) {
        println!("FAILED: the oldest two and the newest two have to build");
        good = false;
    }
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Debian's and then PyPI's, the oldest first, each with why it does not build here, if so.
fn listed() -> Vec<(Uwsgi, Option<&'static str>)> {
    let path = checkout().join("target/uwsgi/versions");
    let text = fs::read_to_string(path).expect("`make versions` has written it");
    // The name of a uWSGI is as static as the others' are.
    let pypi = text.leak().lines().map(|line| match line.split_once(' ') {
        Some((name, why)) => (Uwsgi::Named(name), Some(why)),
        None => (Uwsgi::Named(line), None),
    });
    [(Uwsgi::Debian, None)].into_iter().chain(pypi).collect()
}

/// For each, in the same order, what there is to say of it; `None` where it failed, which has been printed by then.
fn play_all(uwsgis: &[Uwsgi]) -> Vec<Option<String>> {
    let mut ends = Vec::new();
    for some in uwsgis.chunks(JOBS) {
        thread::scope(|scope| {
            let play = |uwsgi: &Uwsgi| {
                let uwsgi = *uwsgi;
                // Under its name it also says why it fails.
                let thread = thread::Builder::new().name(uwsgi.to_string());
                thread.spawn_scoped(scope, move || play(uwsgi, uwsgis)).expect("a thread is free")
            };
            let threads: Vec<_> = some.iter().map(play).collect();
            ends.extend(threads.into_iter().map(|thread| thread.join().ok()));
        });
    }
    ends
}

fn play(uwsgi: Uwsgi, all: &[Uwsgi]) -> String {
    if let Uwsgi::Named(name) = uwsgi {
        assert_eq!(format!("pypi-{}", uwsgi.version()), name);
    }
    let others = || all.iter().filter(|other| **other != uwsgi);
    others().for_each(|other| assert_refuses(uwsgi, *other));
    answers_a_command(uwsgi);
    let took = follows_the_lord(uwsgi).as_secs_f64();
    let refused = others().count();
    format!(
        "ok, {took:.1} s from SIGKILL of the Lord to the IP at the next; refuses {refused} plugins of others"
    )
}

fn failover_ip() -> IpAddr {
    [4, 4, 4, 4].into()
}

fn route_of(node: usize) -> Option<IpAddr> {
    Some(address(node).parse().expect("an address"))
}

fn robot(route: Option<IpAddr>) -> Robot {
    Robot::start(Config {
        login: Some(Login::new(USERNAME, PASSWORD)),
        failover: vec![Failover::new(failover_ip(), route)],
        servers: (1..=3).filter_map(route_of).collect(),
        switch: SWITCH,
        ..Config::default()
    })
    .expect("loopback has a free port")
}

/// Its options are read, and it acts before uWSGI begins its own work.
fn answers_a_command(uwsgi: Uwsgi) {
    let robot = robot(route_of(2));
    let folder = tempfile::tempdir().expect("a temporary folder");
    let hook = hook(1, &robot.url(failover_ip()), "");
    let own = free_address();
    let ini = format!(
        "plugin = hetzner\nlegion = {LEGION} {own} 1 aes-128-cbc:secret1\n\
         legion-lord = {LEGION} hetzner-failoverip:{hook}\nhetzner-status = true\n"
    );
    let mut node = Node::start(uwsgi, folder.path(), &ini, &[]);
    let status = node.wait_for_exit(LIMIT);
    assert_eq!(status.and_then(|status| status.code()), Some(2), "{}", node.log());
    assert!(node.log().contains("failover 4.4.4.4: routed to 2.2.2.2, not to 1.1.1.1"), "{}", node.log());
}

/// Node 1 fails and is suspended, node 2 becomes Lord; node 1 comes back, and dies; node 2 is Lord again. Returns how
/// long the IP was where nobody was any more.
fn follows_the_lord(uwsgi: Uwsgi) -> Duration {
    let robot = robot(None);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let alarms = folder.path().join("alarms");
    let url = robot.url(failover_ip());
    let hooks: Vec<String> = (1..=3).map(|node| hook(node, &url, ",alarm=pager")).collect();
    let ini = format!("{INI}alarm = pager cmd:cat >> {}\n", alarms.display());
    let mut legion = Legion::new(uwsgi, &hooks, &ini);

    robot.fault("post target=1.1.1.1 error NOT_FOUND".parse().expect("a rule"));
    legion.start_all();
    legion.wait_for_lord(2, LIMIT);
    assert_eq!(robot.route(failover_ip()), route_of(2), "{}", legion.logs());
    let log = legion.node(1).log();
    let failed = "[hetzner-failoverip] failover: FAILED to route 4.4.4.4 to 1.1.1.1: HTTP 404 NOT_FOUND";
    assert!(log.contains(failed), "{log}");
    assert!(log.contains("suspending myself from Legion"), "{log}");
    assert!(!log.contains("i am now the Lord"), "{log}");
    let alarmed = || fs::read_to_string(&alarms).is_ok_and(|text| text.contains(failed));
    assert!(wait_until(LIMIT, alarmed), "no alarm:\n{log}");

    let journal = robot.journal();
    let settled = journal.len();
    let ours = |request: &&Request| request.method == "POST" && request.target == Some(address(2));
    let request = journal.iter().find(ours).expect("the route has come from it");
    assert_eq!(request.path, "/failover/4.4.4.4");
    assert_eq!(request.content_type.as_deref(), Some("application/x-www-form-urlencoded"));
    assert!(request.authorised);
    let log = legion.node(2).log();
    let asked = format!("failover: routing 4.4.4.4 to 2.2.2.2 (POST to {}, at most 60 s)", robot.addr());
    for line in [asked.as_str(), "failover: 4.4.4.4 is routed to 2.2.2.2 (HTTP 200, after "] {
        assert!(log.contains(&format!("[hetzner-failoverip] {line}")), "{line}:\n{log}");
    }
    let metric = || legion.node(2).stats()?["metrics"]["hetzner.failover.4.4.4.4.route"]["value"].as_i64();
    assert!(wait_until(LIMIT, || metric() == Some(1)), "{:?}", legion.node(2).stats());

    robot.clear_faults();
    legion.wait_for_lord(1, LIMIT);
    assert_eq!(robot.route(failover_ip()), route_of(1), "{}", legion.logs());

    let killed = Instant::now();
    legion.kill(1);
    legion.wait_for_lord(2, LIMIT);
    assert_eq!(robot.route(failover_ip()), route_of(2), "{}", legion.logs());
    let (moved, ..) = *robot.history().last().expect("it was moved");
    // Who is silent during the switch is dead to node 3.
    let third = robot.journal()[settled..].iter().any(|request| request.target == Some(address(3)));
    assert!(!third, "{}", legion.logs());
    moved - killed
}
