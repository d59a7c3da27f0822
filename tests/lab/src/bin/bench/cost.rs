//! A takeover's own cost: many in one process, against a server that answers at once.
//!
//! Two figures, each of whole takeovers. The time from the arrival of one POST to that of the next is what an
//! operator waits for, and holds everything: hook, handshake, request, log. But the server's share is in it too, on
//! all sides alike, and makes them more alike than they are. The CPU time of the client's process, with that of its
//! children, leaves it out, and depends less on what else runs on the machine. Both are held to the floor.
//!
//! A third is of the first one in a process, for whatever a side keeps from one to the next: from the POST of a
//! takeover by plain HTTP, which needs no trust store, to that of the first by TLS.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::time::Duration;

use lab::legion::{APART, LEGION, failover_ip, hook};
use lab::robot::{Certificate, Config, Failover, Limits, Login, Robot};
use lab::{PASSWORD, USERNAME, wait_until};

use crate::cloud;
use crate::figures::{Figure, Samples};
use crate::limit;
use crate::proc::{cpu, cpu_of_children};
use crate::sides::{Lone, Side, Sides};
use crate::trust::Trust;

const TAKEOVERS: usize = 100;
/// An odd number, so that there is one in the middle.
const ROUNDS: usize = 9;
/// For a process to start and to make its first request; then for all the others.
const LIMIT: Duration = Duration::from_secs(60);

const FLOOR_BESIDE_THE_LIMIT: f64 = 2.0;
const FLOOR_BESIDE_THE_PEER: f64 = 0.1;
/// Two requests, where the limit is one.
const FLOOR_IN_THE_CLOUD: f64 = 3.0;

/// What a side has taken in one round, in milliseconds.
struct Taken {
    /// From POST to POST.
    wall: Vec<f64>,
    /// For one takeover.
    cpu: f64,
    /// Until the POST of the first one; the limit's is like its others.
    first: Option<f64>,
}

struct Stage {
    robot: Robot,
    plain: Robot,
    trust: Trust,
}

pub fn measure(sides: &Sides) -> Result<Vec<Figure>, String> {
    let config = Config {
        login: Some(Login::new(USERNAME, PASSWORD)),
        failover: vec![Failover::new(failover_ip(), Some([1, 1, 1, 1].into()))],
        limits: Limits { post: u32::MAX, ..Limits::default() },
        accept_multipart: true,
        // By the time of the next failover no session would be known any more.
        resume_sessions: false,
        ..Config::default()
    };
    let start = |config| Robot::start(config).map_err(|error| error.to_string());
    let plain = start(config.clone())?;
    let robot = start(Config { tls: Some(Certificate::Right), ..config })?;
    let trust = Trust::in_ca(robot.ca_file().expect("with TLS"));
    let stage = Stage { robot, plain, trust };

    let mut turns: Vec<(Side, Option<PathBuf>)> =
        sides.plugins().into_iter().map(|(side, path)| (side, Some(path))).collect();
    if !stage.trust.is_the_systems() {
        // The C plugin has no other way to trust the stand-in.
        turns.retain(|(side, _)| *side != Side::Peer);
    }
    turns.extend([(Side::Command, None), (Side::Limit, None)]);
    let mut taken: Vec<Vec<Taken>> = turns.iter().map(|_| Vec::new()).collect();
    let (cloud, mut in_the_cloud) = (cloud::Stage::new()?, Vec::new());
    for round in 1..=ROUNDS {
        eprintln!("cost: round {round} of {ROUNDS}");
        for ((side, plugin), taken) in turns.iter().zip(&mut taken) {
            taken.push(stage.run(*side, plugin.clone()).map_err(|why| format!("{side:?}: {why}"))?);
        }
        in_the_cloud.push(cloud.run().map_err(|why| format!("a floating IP: {why}"))?);
    }
    let of_all = |value: fn(&Taken) -> Vec<f64>| {
        let values = taken.iter().map(|taken| taken.iter().flat_map(value).collect::<Vec<f64>>());
        let measured = turns.iter().zip(values).filter(|(_, values)| !values.is_empty());
        measured.map(|((side, _), values)| (*side, Samples::new(values))).collect()
    };
    let wall = Figure::new("a takeover's own cost, verified TLS", "ms", of_all(|taken| taken.wall.clone()));
    let cpu = Figure::new("the same, CPU time of the client", "ms", of_all(|taken| vec![taken.cpu]));
    let first = |taken: &Taken| taken.first.into_iter().collect();
    let first = Figure::new("the first one in a process, until its POST", "ms", of_all(first));
    let floor = |figure: &Figure| figure.of(Side::Limit).map(|limit| limit.median() * FLOOR_IN_THE_CLOUD);
    let floors = [&wall, &cpu].map(floor);
    let walls = in_the_cloud.iter().flat_map(|taken| taken.wall.clone());
    let cpus = in_the_cloud.iter().map(|taken| taken.cpu);
    let of_cloud = [
        ("a takeover's own cost, floating IP, verified TLS", Samples::new(walls)),
        ("the same, CPU time of the client, floating IP", Samples::new(cpus)),
    ];
    let of_cloud = of_cloud.into_iter().zip(floors).map(|((name, samples), floor)| {
        Figure::new(name, "ms", vec![(Side::Ours, samples)])
            .at_most(floor.unwrap_or(f64::INFINITY), "3 × limit")
    });
    let of_robot = [with_floor(wall), with_floor(cpu), first];
    Ok(of_robot.into_iter().chain(of_cloud).collect())
}

fn with_floor(figure: Figure) -> Figure {
    let median = |side| figure.of(side).map(Samples::median);
    let limit = median(Side::Limit).unwrap_or(f64::INFINITY) * FLOOR_BESIDE_THE_LIMIT;
    let peer = median(Side::Peer).unwrap_or(f64::INFINITY) * FLOOR_BESIDE_THE_PEER;
    if peer < limit {
        figure.at_most(peer, "a tenth of the C plugin's")
    } else {
        figure.at_most(limit, "2 × limit")
    }
}

/// A side's process, until it has made all its requests.
enum Client {
    Node(Box<Lone>),
    Limit(std::process::Child),
}

impl Client {
    fn id(&self) -> u32 {
        match self {
            Client::Node(lone) => lone.node.id(),
            Client::Limit(child) => child.id(),
        }
    }

    fn cpu(&self) -> Duration {
        cpu(self.id()) + cpu_of_children(self.id())
    }

    /// Waits until it has done all that follows the last answer.
    fn wait_until_done(&mut self) -> Result<(), String> {
        match self {
            Client::Node(lone) => {
                let is_lord = || lone.node.log().contains("i am now the Lord");
                wait_until(LIMIT, is_lord).then_some(()).ok_or_else(|| lone.last_lines())
            }
            Client::Limit(child) => {
                let mut line = String::new();
                let said = child.stdout.take().map(|out| BufReader::new(out).read_line(&mut line));
                if line == "done\n" { Ok(()) } else { Err(format!("it has ended: {said:?}")) }
            }
        }
    }

    fn last_lines(&self) -> String {
        match self {
            Client::Node(lone) => lone.last_lines(),
            Client::Limit(_) => String::new(),
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        if let Client::Limit(child) = self {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Stage {
    fn start(&self, side: Side, plugin: Option<PathBuf>) -> Result<Client, String> {
        let url = self.robot.url(failover_ip());
        if side == Side::Limit {
            let ca = self.robot.ca_file().expect("with TLS");
            let started = limit::start(self.robot.addr(), ca, TAKEOVERS);
            return started.map(Client::Limit).map_err(|error| error.to_string());
        }
        let line = |url: &str| match side {
            // With the login in a file, as who uses it should.
            Side::Command => {
                format!(
                    "legion-lord = {LEGION} cmd:curl -sS -m 60 -K curl.conf -d active_server_ip=1.1.1.1 {url}\n"
                )
            }
            _ => format!("legion-lord = {LEGION} hetzner-failoverip:{}\n", hook(1, url, "")),
        };
        let lines =
            line(&self.plain.url(failover_ip())) + &(APART.to_string() + &line(&url)).repeat(TAKEOVERS);
        let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
        let login = format!("user = \"{USERNAME}:{PASSWORD}\"\n");
        fs::write(folder.path().join("curl.conf"), login).map_err(|error| error.to_string())?;
        let lone = Lone::start_in(folder, plugin.as_deref(), &lines, &self.trust.env());
        Ok(Client::Node(Box::new(lone)))
    }

    fn run(&self, side: Side, plugin: Option<PathBuf>) -> Result<Taken, String> {
        let before = self.robot.journal().len();
        self.robot.clear_faults();
        // The first one is held, until the process is seen to wait: what it has used before is its start.
        let object = "{\"failover\":{\"ip\":\"4.4.4.4\",\"netmask\":\"255.255.255.255\",\"server_ip\":\"1.1.1.1\",\
                      \"server_ipv6_net\":null,\"server_number\":321,\"active_server_ip\":\"1.1.1.1\"}}";
        for rule in ["post times=1 delay 300ms".to_string(), format!("post raw 200 {object}")] {
            self.robot.fault(rule.parse()?);
        }
        let mut client = self.start(side, plugin)?;
        if !self.robot.wait_for(LIMIT, |journal| journal.len() > before) {
            return Err(format!("no request came:\n{}", client.last_lines()));
        }
        let begun = client.cpu();
        if !self.robot.wait_for(LIMIT, |journal| journal.len() >= before + TAKEOVERS) {
            return Err(format!("not all requests came:\n{}", client.last_lines()));
        }
        client.wait_until_done()?;
        let used = client.cpu() - begun;

        let journal = self.robot.journal();
        let requests = &journal[before..];
        let right = |request: &&lab::robot::Request| {
            let answered = matches!(request.status, Some(200 | 409));
            let to = request.target.as_deref();
            request.method == "POST" && request.authorised && to == Some("1.1.1.1") && answered
        };
        if requests.len() != TAKEOVERS || requests.iter().filter(right).count() != TAKEOVERS {
            return Err(format!("these are not {TAKEOVERS} takeovers:\n{}", client.last_lines()));
        }
        // What lies between the first two was held.
        let gaps = requests.windows(2).skip(1).map(|two| milliseconds(two[1].at - two[0].at));
        let first = (side != Side::Limit).then(|| self.plain.journal().pop()).flatten();
        Ok(Taken {
            wall: gaps.collect(),
            cpu: milliseconds(used) / (TAKEOVERS - 1) as f64,
            first: first.map(|plain| milliseconds(requests[0].at - plain.at)),
        })
    }
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
