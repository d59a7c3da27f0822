//! `make demo`: three real uWSGI nodes, the Robot stand-in, and a failover IP that follows the Lord.
//!
//! Shows each change as it happens, and ends with whether the IP was where the Lord was. What it saw becomes a
//! picture: target/demo.svg. `make picture` runs it with the name of another one, which shows one failover alone,
//! and a switch as long as Hetzner's.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};
use std::{env, fs};

use lab::legion::{Legion, failover_ip, hook, target};
use lab::process::{SIGINT, interrupted, watch_for_ctrl_c};
use lab::robot::{Certificate, Config, Event, Failover, Login, Robot};
use lab::timeline::Timeline;
use lab::uwsgi::{Uwsgi, checkout};
use lab::{PASSWORD, USERNAME, wait_until};

const NODES: usize = 3;
/// The longest that any step may take beside the switch: an election, a death that is noticed.
const STEP: Duration = Duration::from_secs(30);

/// What the two pictures differ in.
#[derive(Clone, Copy)]
struct Setting {
    /// How long the stand-in takes for a switch. The real one takes 40 to 60 s.
    switch: Duration,
    /// For so long the IP has to stay where it should be.
    settled: Duration,
    /// Where the IP is routed before there is a Lord.
    route: Option<usize>,
}

/// Many steps in little time.
const DEMO: Setting =
    Setting { switch: Duration::from_secs(1), settled: Duration::from_secs(1), route: None };
/// A failover as an operator meets it. The IP is at node 1 already, so that it is the only switch.
const PICTURE: Setting =
    Setting { switch: Duration::from_secs(45), settled: Duration::from_secs(10), route: Some(1) };

fn main() -> ExitCode {
    watch_for_ctrl_c();
    let other = env::args_os().nth(1).map(PathBuf::from);
    let setting = if other.is_some() { PICTURE } else { DEMO };
    let uwsgi = Uwsgi::Named("demo");
    let (events, seen) = channel();
    let robot = Robot::start(Config {
        tls: Some(Certificate::Right),
        login: Some(Login::new(USERNAME, PASSWORD)),
        failover: vec![Failover::new(failover_ip(), setting.route.map(target))],
        switch: setting.switch,
        events: Some(events),
        ..Config::default()
    })
    .expect("loopback has a free port");
    let hooks: Vec<String> = (1..=NODES).map(|node| hook(node, &robot.url(failover_ip()), "")).collect();
    let mut legion = Legion::new(
        uwsgi,
        &hooks,
        "legion-freq = 1\nlegion-tolerance = 4\nlegion-death-on-lord-error = 300\n",
    );
    let ca_file = robot.ca_file().expect("with TLS").to_str().expect("UTF-8");
    legion.set_env("SSL_CERT_FILE", ca_file);

    println!(
        "Three nodes of uWSGI {}, tolerance 4 s; a switch takes {:?}.",
        uwsgi.ask("--version").trim(),
        setting.switch
    );
    let mut timeline = Timeline::start(NODES);
    timeline.route(setting.route);
    let mut demo =
        Demo { start: Instant::now(), setting, legion, robot, seen, lords: Vec::new(), posts: 0, timeline };
    let kept = if other.is_some() { demo.failover() } else { demo.run() };
    match kept {
        _ if interrupted() => println!("Interrupted."),
        true => println!("After every step the failover IP was where the Lord was."),
        false => println!("The failover IP was NOT where the Lord was. The logs:\n{}", demo.legion.logs()),
    }
    let picture = other.unwrap_or_else(|| checkout().join("target/demo.svg"));
    match fs::write(&picture, demo.timeline.svg()) {
        Ok(()) => println!("As a picture, for a browser: {}", shown(&picture)),
        Err(error) => println!("No picture: {}: {error}", shown(&picture)),
    }
    if kept { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// By its name from here where that is shorter.
fn shown(picture: &Path) -> String {
    let here = env::current_dir().unwrap_or_default();
    picture.strip_prefix(here).unwrap_or(picture).display().to_string()
}

struct Demo {
    start: Instant,
    setting: Setting,
    legion: Legion,
    robot: Robot,
    seen: Receiver<Event>,
    lords: Vec<usize>,
    /// How many the timeline knows of.
    posts: usize,
    timeline: Timeline,
}

impl Demo {
    /// What the README shows. Whether after each step the IP was where the one Lord was.
    fn failover(&mut self) -> bool {
        self.say("start    nodes 1, 2 and 3; node 1 has the highest valor");
        self.timeline.note("start");
        self.legion.start_all();
        if !self.ip_is_at(1) {
            return false;
        }
        self.say("SIGKILL  node 1, as when the machine dies");
        self.timeline.note("SIGKILL node 1");
        self.legion.kill(1);
        self.ip_is_at(2)
    }

    /// The same, and more.
    fn run(&mut self) -> bool {
        if !self.failover() {
            return false;
        }
        self.say("start    node 1 again");
        self.timeline.note("start node 1");
        self.legion.start(1);
        if !self.ip_is_at(1) {
            return false;
        }
        self.say("SIGINT   node 1, an orderly end");
        self.timeline.note("SIGINT node 1");
        self.legion.node(1).signal(SIGINT);
        if !self.ip_is_at(2) {
            return false;
        }
        self.say("start    node 1 once more, but now the API refuses to route the IP to it");
        let refuse = "post target=1.1.1.1 error FAILOVER_NEW_SERVER_NOT_FOUND";
        self.robot.fault(refuse.parse().expect("a rule"));
        self.timeline.note("start node 1, API refuses it");
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

    /// Waits until `node` alone is Lord and the IP is routed to it, and whether it stays so.
    fn ip_is_at(&mut self, node: usize) -> bool {
        let holds = |demo: &Demo| demo.lords == [node] && demo.route() == Some(node);
        self.watch_until(holds) && !self.watch(self.setting.settled, |demo| !holds(demo)) && !interrupted()
    }

    /// The node that the IP is routed to.
    fn route(&self) -> Option<usize> {
        let route = self.robot.route(failover_ip())?;
        (1..=NODES).find(|node| target(*node) == route)
    }

    /// Says what changes, until `condition` holds; returns whether it did in time.
    fn watch_until(&mut self, condition: impl Fn(&Demo) -> bool) -> bool {
        self.watch(STEP + self.setting.switch, condition)
    }

    fn watch(&mut self, limit: Duration, condition: impl Fn(&Demo) -> bool) -> bool {
        wait_until(limit, || {
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
            self.record();
            condition(self)
        })
    }

    fn record(&mut self) {
        self.timeline.lords(&self.lords);
        self.timeline.route(self.route());
        let posts: Vec<_> = self.robot.journal().into_iter().filter(|it| it.method == "POST").collect();
        for post in &posts[self.posts..] {
            self.timeline.note(&format!("POST {}", post.target.as_deref().unwrap_or_default()));
        }
        self.posts = posts.len();
    }

    fn tell(&self, event: Event) {
        match event {
            Event::Route { ip, to: Some(to), .. } => self.say(&format!("route    {ip} leads to {to} now")),
            Event::Request(request) => {
                let status = request.status.map_or_else(|| "no answer".into(), |status| status.to_string());
                let code = request.code.unwrap_or_default();
                let target = request.target.map(|target| format!(" for {target}")).unwrap_or_default();
                self.say(format!("API      {}{target}: {status} {code}", request.method).trim_end());
            }
            Event::Route { .. } | Event::Handshake(_) => {}
        }
    }
}

fn list(lords: &[usize]) -> String {
    lords.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and ")
}
