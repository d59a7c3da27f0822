//! `make demo`: three real uWSGI nodes, a failover IP that follows the Lord, and the stand-in of Robot, which a command may
//! ask for the plugin, or of the Cloud.
//!
//! Shows each change as it happens, and ends with whether the IP was where the Lord was. What it saw becomes a
//! picture: target/demo.svg. `make picture` runs it with the name of another one, which shows one failover alone,
//! and a switch as long as Hetzner's.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};
use std::{env, fs};

use lab::command::Commanded;
use lab::hoster::{Hosted, floating_ips};
use lab::legion::{Legion, failover_ip, target};
use lab::process::{SIGINT, interrupted, watch_for_ctrl_c};
use lab::robot::{self, Failover, Login, Robot};
use lab::standin::{Certificate, Request};
use lab::timeline::Timeline;
use lab::uwsgi::{Uwsgi, checkout};
use lab::{PASSWORD, TOKEN, USERNAME, cloud, wait_until};

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
    let hoster = env::var("HOSTER").unwrap_or_default();
    let (api, ca_file): (Box<dyn Hosted>, Option<PathBuf>) = match hoster.as_str() {
        "" | "robot" => robot(setting),
        "cloud" => cloud(setting),
        "command" => command(setting),
        _ => {
            eprintln!("HOSTER={hoster}: expected robot, cloud or command");
            return ExitCode::from(2);
        }
    };
    let hooks: Vec<String> = (1..=NODES).map(|node| api.hook(node, failover_ip(), "")).collect();
    let options = "legion-freq = 1\nlegion-tolerance = 4\nlegion-death-on-lord-error = 300\n";
    let mut legion = Legion::of_action(uwsgi, api.action(), &hooks, options);
    if let Some(ca_file) = ca_file {
        legion.set_env("SSL_CERT_FILE", ca_file.to_str().expect("UTF-8"));
    }

    println!(
        "Three nodes of uWSGI {}, tolerance 4 s; a switch takes {:?}.",
        uwsgi.ask("--version").trim(),
        setting.switch
    );
    let mut timeline = Timeline::start(NODES);
    timeline.route(setting.route);
    let start = Instant::now();
    let (told, moves, lords) = (Vec::new(), 0, Vec::new());
    let mut demo = Demo { start, setting, legion, api, told, moves, lords, timeline };
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

/// The stand-in, and its CA.
fn robot(setting: Setting) -> (Box<dyn Hosted>, Option<PathBuf>) {
    let robot = robot_with(setting, Some(Certificate::Right));
    let ca_file = robot.ca_file().expect("with TLS").to_owned();
    (Box::new(robot), Some(ca_file))
}

/// The command is the whole client, and has no TLS.
fn command(setting: Setting) -> (Box<dyn Hosted>, Option<PathBuf>) {
    (Box::new(Commanded::new(robot_with(setting, None))), None)
}

fn robot_with(setting: Setting, tls: Option<Certificate>) -> Robot {
    let robot = Robot::start(robot::Config {
        tls,
        login: Some(Login::new(USERNAME, PASSWORD)),
        failover: vec![Failover::new(failover_ip(), setting.route.map(target))],
        switch: setting.switch,
        ..robot::Config::default()
    });
    robot.expect("loopback has a free port")
}

/// As [`robot`].
fn cloud(setting: Setting) -> (Box<dyn Hosted>, Option<PathBuf>) {
    let cloud = cloud::Cloud::start(cloud::Config {
        tls: Some(Certificate::Right),
        tokens: vec![cloud::Token::new("token", TOKEN)],
        floating_ips: floating_ips([failover_ip()], setting.route),
        switch: setting.switch,
        ..cloud::Config::default()
    });
    let cloud = cloud.expect("loopback has a free port");
    let ca_file = cloud.ca_file().expect("with TLS").to_owned();
    (Box::new(cloud), Some(ca_file))
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
    api: Box<dyn Hosted>,
    /// For each request whether it was told of, and whether the timeline knows it.
    told: Vec<(bool, bool)>,
    /// How many were told of.
    moves: usize,
    lords: Vec<usize>,
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
        self.api.rule(&format!("post target={} error NOT_FOUND", self.api.target_of(1)));
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
        self.api.node_at(failover_ip())
    }

    /// Says what changes, until `condition` holds; returns whether it did in time.
    fn watch_until(&mut self, condition: impl Fn(&Demo) -> bool) -> bool {
        self.watch(STEP + self.setting.switch, condition)
    }

    fn watch(&mut self, limit: Duration, condition: impl Fn(&Demo) -> bool) -> bool {
        wait_until(limit, || {
            self.tell();
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
    }

    /// What the stand-in has seen since.
    fn tell(&mut self) {
        let journal = self.api.journal();
        self.told.resize(journal.len(), (false, false));
        for (at, request) in journal.iter().enumerate() {
            let (is_told, is_noted) = &mut self.told[at];
            if request.method == "POST" && !std::mem::replace(is_noted, true) {
                self.timeline.note(&format!("POST {}", request.target.as_deref().unwrap_or_default()));
            }
            if request.done.is_some() && !std::mem::replace(is_told, true) {
                self.say(line(request).trim_end());
            }
        }
        let moves = self.api.moves();
        for (_, ip, node) in &moves[self.moves..] {
            if let Some(node) = node {
                self.say(&format!("route    {ip} leads to {} now", self.api.server_name(*node)));
            }
        }
        self.moves = moves.len();
    }
}

fn line(request: &Request) -> String {
    let status = request.status.map_or_else(|| "no answer".into(), |status| status.to_string());
    let target = request.target.as_ref().map(|target| format!(" for {target}")).unwrap_or_default();
    format!("API      {}{target}: {status} {}", request.method, request.code.as_deref().unwrap_or_default())
}

fn list(lords: &[usize]) -> String {
    lords.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and ")
}
