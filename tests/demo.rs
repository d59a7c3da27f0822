//! `make demo`: three real uWSGI nodes, the Robot stand-in, and a failover IP that follows the Lord.
//!
//! Shows each change as it happens, and ends with whether the IP was where the Lord was.

#[path = "robot/mod.rs"]
mod robot;
// Not everything that the tests need is needed here.
#[allow(dead_code)]
mod support;

use std::net::IpAddr;
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use robot::{Certificate, Config, Event, Failover, Login, Robot};
use support::legion::{Legion, address, hook};
use support::process::{SIGINT, interrupted, watch_for_ctrl_c};
use support::uwsgi::Uwsgi;
use support::{PASSWORD, USERNAME, wait_until};

/// How long the stand-in takes for a switch. The real one takes 40 to 60 s.
const SWITCH: Duration = Duration::from_secs(1);
/// The longest that any step may take: an election, a death that is noticed, and a switch.
const STEP: Duration = Duration::from_secs(30);

fn failover_ip() -> IpAddr {
    [4, 4, 4, 4].into()
}

fn main() -> ExitCode {
    watch_for_ctrl_c();
    let uwsgi = if Uwsgi::Debian.is_there() { Uwsgi::Debian } else { Uwsgi::Pypi };
    let (events, seen) = channel();
    let robot = Robot::start(Config {
        tls: Some(Certificate::Right),
        login: Some(Login::new(USERNAME, PASSWORD)),
        failover: vec![Failover::new(failover_ip(), None)],
        switch: SWITCH,
        events: Some(events),
        ..Config::default()
    })
    .expect("loopback has a free port");
    let hooks: Vec<String> = (1..=3).map(|node| hook(node, &robot.url(failover_ip()), "")).collect();
    let mut legion = Legion::new(
        uwsgi,
        &hooks,
        "legion-freq = 1\nlegion-tolerance = 4\nlegion-death-on-lord-error = 300\n",
    );
    let ca_file = robot.ca_file().expect("with TLS").to_str().expect("UTF-8");
    legion.set_env("SSL_CERT_FILE", ca_file);

    println!(
        "Three nodes of uWSGI {}, tolerance 4 s; a switch takes {SWITCH:?}.",
        uwsgi.ask("--version").trim()
    );
    let mut demo = Demo { start: Instant::now(), legion, robot, seen, lords: Vec::new() };
    let kept = demo.run();
    match kept {
        _ if interrupted() => println!("Interrupted."),
        true => println!("After every step the failover IP was where the Lord was."),
        false => println!("The failover IP was NOT where the Lord was. The logs:\n{}", demo.legion.logs()),
    }
    if kept { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

struct Demo {
    start: Instant,
    legion: Legion,
    robot: Robot,
    seen: Receiver<Event>,
    lords: Vec<usize>,
}

impl Demo {
    /// Whether after each step the IP was where the one Lord was.
    fn run(&mut self) -> bool {
        self.say("start    nodes 1, 2 and 3; node 1 has the highest valor");
        self.legion.start_all();
        if !self.ip_is_at(1) {
            return false;
        }
        self.say("SIGKILL  node 1, as when the machine dies");
        self.legion.kill(1);
        if !self.ip_is_at(2) {
            return false;
        }
        self.say("start    node 1 again");
        self.legion.start(1);
        if !self.ip_is_at(1) {
            return false;
        }
        self.say("SIGINT   node 1, an orderly end");
        self.legion.node(1).signal(SIGINT);
        if !self.ip_is_at(2) {
            return false;
        }
        self.say("start    node 1 once more, but now the API refuses to route the IP to it");
        let refuse = "post target=1.1.1.1 error FAILOVER_NEW_SERVER_NOT_FOUND";
        self.robot.fault(refuse.parse().expect("a rule"));
        self.legion.start(1);
        if !self.watch_until(|demo| demo.legion.node(1).log().contains("suspending myself")) {
            return false;
        }
        self.say("         node 1 is suspended, since its takeover failed");
        self.ip_is_at(2)
    }

    fn say(&self, text: &str) {
        println!("{:6.1} s  {text}", self.start.elapsed().as_secs_f64());
    }

    /// Waits until `node` alone is Lord and the IP is routed to it.
    fn ip_is_at(&mut self, node: usize) -> bool {
        let target: IpAddr = address(node).parse().expect("an address");
        self.watch_until(|demo| demo.lords == [node] && demo.robot.route(failover_ip()) == Some(target))
    }

    /// Says what changes, until `condition` holds; returns whether it did in time.
    fn watch_until(&mut self, condition: impl Fn(&Demo) -> bool) -> bool {
        wait_until(STEP, || {
            for event in self.seen.try_iter().collect::<Vec<_>>() {
                self.tell(event);
            }
            let lords = self.legion.lords();
            if lords != self.lords {
                match &lords[..] {
                    [] => self.say("Lord     nobody"),
                    lords => self.say(&format!("Lord     node {}", list(lords))),
                }
                self.lords = lords;
            }
            condition(self)
        })
    }

    fn tell(&self, event: Event) {
        match event {
            Event::Route { ip, to: Some(to), .. } => self.say(&format!("route    {ip} leads to {to} now")),
            Event::Request(request) => {
                let status = request.status.map_or_else(|| "no answer".into(), |status| status.to_string());
                let code = request.code.unwrap_or_default();
                let target = request.target.unwrap_or_default();
                self.say(&format!("API      {} for {target}: {status} {code}", request.method));
            }
            Event::Route { .. } | Event::Handshake(_) => {}
        }
    }
}

fn list(lords: &[usize]) -> String {
    lords.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and ")
}
