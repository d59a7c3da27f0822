//! What grows with the number of IPs in a hook, and with the number of nodes in a Legion.

use std::net::IpAddr;
use std::path::Path;
use std::thread;
use std::time::Duration;

use lab::legion::{APART, LEGION, Legion, address, hook};
use lab::robot::{Certificate, Config, Failover, Login, Robot};
use lab::{PASSWORD, USERNAME, wait_until};

use crate::failover::peers;
use crate::figures::{Figure, Samples};
use crate::proc::cpu;
use crate::sides::{Lone, Side, Sides, UWSGI};
use crate::trust::Trust;

const IPS: [usize; 4] = [1, 2, 4, 8];
const ROUNDS: usize = 5;
/// Long beside what else a takeover takes, so that the figure is about how many there are at a time.
const SWITCH: Duration = Duration::from_secs(1);

const NODES: [usize; 3] = [3, 9, 27];
const CALL: Duration = Duration::from_secs(30);
/// Seconds.
const TOLERANCE: u64 = 3;
const LIMIT: Duration = Duration::from_secs(90);

pub fn measure(sides: &Sides) -> Result<Vec<Figure>, String> {
    let mut figures = ips(sides)?;
    figures.extend(nodes(sides)?);
    Ok(figures)
}

fn ips(sides: &Sides) -> Result<Vec<Figure>, String> {
    let ip = |number: usize| IpAddr::from([4, 4, 4, u8::try_from(number).expect("a few")]);
    // One more, whose takeovers stand before and behind those that are measured.
    let marker = 0;
    let robot = Robot::start(Config {
        tls: Some(Certificate::Right),
        login: Some(Login::new(USERNAME, PASSWORD)),
        failover: (0..=8).map(|number| Failover::new(ip(number), None)).collect(),
        switch: SWITCH,
        limits: lab::robot::Limits { post: u32::MAX, ..Default::default() },
        accept_multipart: true,
        ..Config::default()
    })
    .map_err(|error| error.to_string())?;
    let trust = Trust::in_ca(robot.ca_file().expect("with TLS"));
    let run = |side: Side, path: &Path, count: usize| -> Result<f64, String> {
        // Already routed here, it is answered at once.
        robot.set_route(ip(marker), Some([1, 1, 1, 1].into()));
        (1..=count).for_each(|number| robot.set_route(ip(number), None));
        let before = robot.journal().len();
        let login = format!("username={USERNAME},password={PASSWORD},active_ip=1.1.1.1");
        let url = robot.url(ip(marker)).replace("4.4.4.0", "");
        let one = |number: usize| {
            let ip = ip(number);
            format!("legion-lord = {LEGION} hetzner-failoverip:{login},ip={ip},url={url}{ip}\n")
        };
        let measured = if side == Side::Ours {
            let list: Vec<String> = (1..=count).map(|number| ip(number).to_string()).collect();
            let list = list.join(";");
            format!("legion-lord = {LEGION} hetzner-failoverip:{login},ip={list},url={url}{{ip}}\n")
        } else {
            // It knows no list.
            (1..=count).map(one).collect()
        };
        let lone =
            Lone::start(Some(path), &format!("{0}{APART}{measured}{APART}{0}", one(marker)), &trust.env());
        if !wait_until(LIMIT, || lone.node.log().contains("i am now the Lord")) {
            return Err(format!("no Lord:\n{}", lone.last_lines()));
        }
        let journal = robot.journal();
        let posts = &journal[before..];
        let accepted =
            posts.iter().filter(|post| post.method == "POST" && post.status.is_some_and(|it| it < 500));
        match (posts.first(), posts.last()) {
            (Some(first), Some(last)) if accepted.count() == count + 2 => {
                Ok((last.at - first.at).as_secs_f64())
            }
            _ => Err(format!("these are not {count} takeovers:\n{}", lone.last_lines())),
        }
    };
    let mut turns = sides.plugins();
    if !trust.is_the_systems() {
        turns.retain(|(side, _)| *side != Side::Peer);
    }
    // By side, and by number of IPs.
    let mut taken: Vec<Vec<Vec<f64>>> = turns.iter().map(|_| vec![Vec::new(); IPS.len()]).collect();
    for round in 1..=ROUNDS {
        eprintln!("growth: {IPS:?} IPs, round {round} of {ROUNDS}");
        for ((side, path), taken) in turns.iter().zip(&mut taken) {
            for (count, taken) in IPS.into_iter().zip(taken) {
                taken.push(run(*side, path, count)?);
            }
        }
    }
    let of_all = |value: &dyn Fn(&Vec<Vec<f64>>) -> Samples| {
        turns.iter().zip(&taken).map(|((side, _), taken)| (*side, value(taken))).collect()
    };
    let mut figures = Vec::new();
    for (at, count) in IPS.into_iter().enumerate() {
        let name = format!("takeover of {count} IP in a hook, each switch {} s", SWITCH.as_secs());
        figures.push(Figure::new(name, "s", of_all(&|taken| Samples::new(taken[at].iter().copied()))));
    }
    let ratio = |taken: &Vec<Vec<f64>>| {
        Samples::new(taken[IPS.len() - 1].iter().zip(&taken[0]).map(|(most, one)| most / one))
    };
    figures.push(Figure::new("8 IP beside 1", "times", of_all(&ratio)).at_most(1.2, ""));
    Ok(figures)
}

/// What a call of 30 s did to a Legion.
struct Call {
    /// Times that a node held another one for dead.
    dropped: f64,
    /// Percent of a core.
    cpu: f64,
}

fn nodes(sides: &Sides) -> Result<Vec<Figure>, String> {
    let plugins = sides.plugins();
    let mut calls: Vec<Vec<Call>> = Vec::new();
    for (side, path) in &plugins {
        eprintln!("growth: {NODES:?} nodes, {side:?}");
        let found: Result<Vec<Call>, String> = thread::scope(|scope| {
            let legions: Vec<_> = NODES.map(|count| scope.spawn(move || call(count, path))).into();
            let ended = |legion: thread::ScopedJoinHandle<'_, _>| {
                legion.join().unwrap_or_else(|_| Err("it has panicked".to_string()))
            };
            legions.into_iter().map(ended).collect()
        });
        calls.push(found?);
    }
    let mut figures = Vec::new();
    for (at, count) in NODES.into_iter().enumerate() {
        let of_all = |value: fn(&Call) -> f64| {
            let samples = calls.iter().map(|calls| Samples::one(value(&calls[at])));
            plugins.iter().map(|(side, _)| *side).zip(samples).collect()
        };
        let call = format!("during a call of {} s with {count} nodes", CALL.as_secs());
        let dropped = Figure::new(format!("peers dropped {call}"), "", of_all(|call| call.dropped));
        figures.push(dropped.at_most(0.0, ""));
        figures.push(Figure::new(
            format!("CPU of the waiting node {call}"),
            "% of a core",
            of_all(|call| call.cpu),
        ));
    }
    Ok(figures)
}

/// A Legion of so many, whose Lord is killed: what happens while the next one waits for its switch.
fn call(count: usize, plugin: &Path) -> Result<Call, String> {
    let ip: IpAddr = [4, 4, 4, 4].into();
    let robot = Robot::start(Config {
        login: Some(Login::new(USERNAME, PASSWORD)),
        failover: vec![Failover::new(ip, address(1).parse().ok())],
        switch: CALL,
        accept_multipart: true,
        ..Config::default()
    })
    .map_err(|error| error.to_string())?;
    let hooks: Vec<String> = (1..=count).map(|node| hook(node, &robot.url(ip), "")).collect();
    let majority = count / 2 + 1;
    let options = format!(
        "legion-freq = 1\nlegion-tolerance = {TOLERANCE}\nlegion-quorum = {LEGION} {majority}\n\
         legion-death-on-lord-error = 30\n"
    );
    let mut legion = Legion::new(UWSGI, &hooks, &options).with_plugin(plugin);
    legion.start_all();
    let complete =
        |legion: &Legion| legion.lords() == [1] && (1..=count).all(|node| peers(legion, node) == count - 1);
    if !wait_until(LIMIT, || complete(&legion)) {
        return Err(format!("{count} nodes have not become a Legion:\n{}", legion.logs()));
    }
    let posts = robot.journal().len();
    legion.kill(1);
    if !robot.wait_for(LIMIT, |journal| journal.len() > posts) {
        return Err(format!("nobody has sent a POST:\n{}", legion.logs()));
    }
    // By now all agree that the first one is dead, and nobody else is.
    let (dropped, waiting) = (drops(&legion), legion.node(2).id());
    let used = cpu(waiting);
    robot.wait_for(CALL + LIMIT, |journal| journal[posts].done.is_some());
    let used = cpu(waiting) - used;
    // A node that was held for dead is missed when the one that waited looks again, and then for a while.
    thread::sleep(Duration::from_secs(TOLERANCE + 3));
    Ok(Call {
        dropped: (drops(&legion) - dropped) as f64,
        cpu: used.as_secs_f64() / CALL.as_secs_f64() * 100.0,
    })
}

fn drops(legion: &Legion) -> usize {
    legion.logs().matches(&format!(" left Legion {LEGION}")).count()
}
