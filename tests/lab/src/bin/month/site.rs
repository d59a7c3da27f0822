//! Three nodes that serve a page, the stand-in that moves the IP, and the client that asks for the page where the IP leads.

use std::fs::{self, File};
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lab::legion::{LEGION, Legion, failover_ip, hook, target};
use lab::process::{SIGINT, interrupted};
use lab::robot::{Config, Failover, Login, Robot};
use lab::service::{Client, Page};
use lab::timeline::Timeline;
use lab::uwsgi::Uwsgi;
use lab::{LIMIT, PASSWORD, USERNAME, wait_until};

use crate::event::Event;
use crate::table::Outcome;

pub const NODES: usize = 3;
/// A switch at Hetzner takes 40 to 60 s, with a tolerance of 15 s by default.
pub const SWITCH: Duration = Duration::from_secs(8);
pub const TOLERANCE: Duration = Duration::from_secs(5);
/// An event is over when all has been well for so long: longer than until a node that has come back is elected.
const QUIET: Duration = Duration::from_secs(10);
/// For what hangs, or never comes right.
const UNSETTLED: Duration = Duration::from_secs(90);

/// See above.
pub struct Site {
    pub legion: Legion,
    robot: Arc<Robot>,
    client: Client,
    pages: Vec<Page>,
    timeline: Timeline,
    lords: Vec<usize>,
    /// The id of each node in the Legion, as it said last.
    ids: Vec<String>,
    /// Whether this program has ended it.
    is_down: Vec<bool>,
}

impl Site {
    /// All nodes are started; the IP leads to node 1.
    pub fn start(uwsgi: Uwsgi, plugin: Option<&Path>, options: bool) -> Site {
        let robot = Robot::start(Config {
            login: Some(Login::new(USERNAME, PASSWORD)),
            failover: vec![Failover::new(failover_ip(), Some(target(1)))],
            switch: SWITCH,
            accept_multipart: true,
            ..Config::default()
        });
        let robot = Arc::new(robot.expect("loopback has a free port"));
        let mut legion = Legion::of(uwsgi, NODES);
        let pages: Vec<Page> =
            (1..=NODES).map(|node| Page::new(legion.address(node), &legion.folder(node))).collect();
        let plugin = plugin.map_or("hetzner".into(), |path| path.display().to_string());
        for node in 1..=NODES {
            let (folder, page) = (legion.folder(node), &pages[node - 1]);
            File::create(folder.join("reload")).expect("a writable folder");
            let mut ini = format!(
                "plugin = {plugin}\nlog-date = true\nlegion-freq = 1\nlegion-tolerance = {}\n\
                 legion-quorum = {LEGION} 2\nlegion-lord = {LEGION} hetzner-failoverip:{}\ntouch-reload = {}\n{}{}",
                TOLERANCE.as_secs(),
                hook(node, &robot.url(failover_ip()), ""),
                folder.join("reload").display(),
                page.ini(),
                page.app(),
            );
            if options {
                ini += &options_of(page, &folder);
            }
            legion.set_ini(node, ini);
        }
        legion.set_env("TZ", "UTC");
        legion.start_all();
        let addresses: Vec<SocketAddr> = pages.iter().map(|page| page.address).collect();
        let client = Client::start({
            let robot = Arc::clone(&robot);
            move || leads_to(&robot).map(|node| addresses[node - 1])
        });
        let (timeline, lords) = (Timeline::start(NODES), Vec::new());
        let (ids, is_down) = (vec![String::new(); NODES], vec![false; NODES]);
        Site { legion, robot, client, pages, timeline, lords, ids, is_down }
    }

    /// Plays an event, and waits until all is well again.
    pub fn play(&mut self, event: &Event, tell: bool) -> Outcome {
        let began = Instant::now();
        self.timeline.note(event.name);
        (event.play)(self);
        let settled = self.settle();
        let until = Instant::now();
        let history = self.robot.history();
        let switches = history.iter().filter(|(at, ..)| (began..until).contains(at)).count();
        let outcome = Outcome { switches, seconds: self.client.between(began, until), settled };
        if tell && !interrupted() {
            println!("{}", crate::table::row(event, &[outcome]));
        }
        outcome
    }

    /// Waits until there is one Lord, the IP is there, all nodes know each other and serve, and that stays so; returns
    /// whether it does.
    pub fn settle(&mut self) -> bool {
        let mut since = None;
        self.watch(UNSETTLED, |site| {
            since = site.is_well().then(|| since.unwrap_or_else(Instant::now));
            since.is_some_and(|since| since.elapsed() >= QUIET)
        })
    }

    fn is_well(&self) -> bool {
        let members = |node: usize| {
            let state = self.legion.node(node).legion(LEGION);
            state.and_then(|state| state["members"].as_array().map(Vec::len)).unwrap_or(0)
        };
        matches!(self.lords[..], [lord] if self.leads_to() == Some(lord))
            && (1..=NODES).all(|node| members(node) == NODES - 1)
    }

    /// Sees what goes on until `condition` holds; returns whether it does within `limit`.
    pub fn watch(&mut self, limit: Duration, mut condition: impl FnMut(&Site) -> bool) -> bool {
        wait_until(limit, || {
            self.look();
            condition(self)
        })
    }

    fn look(&mut self) {
        let states: Vec<_> = (1..=NODES).map(|node| self.legion.node(node).legion(LEGION)).collect();
        let mut named = Vec::new();
        self.lords.clear();
        for (at, state) in states.iter().enumerate() {
            let Some(state) = state else { continue };
            let text = |key: &str| state[key].as_str().unwrap_or_default().to_string();
            self.ids[at] = text("uuid");
            named.push(text("lord_uuid"));
            if state["i_am_the_lord"].as_i64() > Some(0) {
                self.lords.push(at + 1);
            }
        }
        // A node that is reloaded says nothing for a while, and may still be the Lord of the others.
        let is_named = |node: &usize| {
            let id = &self.ids[node - 1];
            !self.is_down[node - 1] && !id.is_empty() && named.contains(id)
        };
        let shown =
            if self.lords.is_empty() { (1..=NODES).filter(is_named).collect() } else { self.lords.clone() };
        self.timeline.lords(&shown);
        self.timeline.route(self.leads_to());
    }

    /// The node that the IP leads to; none while it is switched.
    pub fn leads_to(&self) -> Option<usize> {
        leads_to(&self.robot)
    }

    /// The one that is Lord, or where there is not one, the one that has the IP.
    pub fn lord(&self) -> usize {
        match self.lords[..] {
            [lord] => lord,
            _ => self.leads_to().unwrap_or(1),
        }
    }

    pub fn page(&self, node: usize) -> &Page {
        &self.pages[node - 1]
    }

    /// SIGKILL, as when the machine is reset.
    pub fn kill(&mut self, node: usize) {
        self.is_down[node - 1] = true;
        self.legion.kill(node);
    }

    /// An orderly end.
    pub fn stop(&mut self, node: usize) {
        self.is_down[node - 1] = true;
        self.legion.node(node).signal(SIGINT);
        if !self.legion.wait_for_exit(node, LIMIT) {
            self.legion.kill(node);
        }
    }

    /// Starts a node again, and waits until it serves.
    pub fn start_node(&mut self, node: usize) {
        self.is_down[node - 1] = false;
        let images = self.images(node);
        self.legion.start(node);
        self.wait_for_images(node, images + 1);
    }

    /// As a deploy does it.
    pub fn touch(&self, node: usize) {
        fs::write(self.legion.folder(node).join("reload"), "now\n").expect("a writable folder");
    }

    /// Puts the node's drain file there, or takes it away.
    pub fn drain(&self, node: usize, there: bool) {
        let file = self.legion.folder(node).join("drain");
        let done = if there { File::create(file).map(drop) } else { fs::remove_file(file) };
        done.expect("a writable folder");
    }

    /// How often a node has come as far as to have workers, by starts and reloads.
    pub fn images(&self, node: usize) -> usize {
        self.legion.node(node).log().matches("spawned uWSGI worker 1 ").count()
    }

    pub fn wait_for_images(&mut self, node: usize, images: usize) {
        self.watch(LIMIT, |site| site.images(node) >= images);
    }

    pub fn picture(&mut self) -> String {
        self.timeline.dark(&self.client.dark());
        self.timeline.svg()
    }

    /// For whoever wants to know why it was not ideal.
    pub fn keep(&mut self, folder: &Path) -> io::Result<()> {
        fs::create_dir_all(folder)?;
        for node in 1..=NODES {
            fs::write(folder.join(format!("node-{node}.log")), self.legion.node(node).log())?;
        }
        fs::write(folder.join("requests.txt"), format!("{:#?}\n", self.robot.journal()))?;
        fs::write(folder.join("timeline.svg"), self.picture())
    }
}

fn leads_to(robot: &Robot) -> Option<usize> {
    let route = robot.route(failover_ip()).filter(|_| !robot.is_switching(failover_ip()))?;
    (1..=NODES).find(|node| target(*node) == route)
}

/// Nothing moves the IP but what has to.
fn options_of(page: &Page, folder: &Path) -> String {
    let (url, drain) = (page.url(), folder.join("drain"));
    format!(
        "legion-nopreempt = {LEGION}\nlegion-check = {LEGION} {url}\nlegion-check-interval = {LEGION} 1\n\
         legion-check-timeout = {LEGION} 1\nlegion-check-fall = {LEGION} 3\nlegion-check-rise = {LEGION} 2\n\
         legion-drain-file = {LEGION} {}\nlegion-silent-stop = {LEGION}\n",
        drain.display()
    )
}
