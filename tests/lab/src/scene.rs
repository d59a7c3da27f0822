//! A Legion of real nodes and the stand-in that their hooks ask: what the tests of the promise and of real
//! installations share.

use std::fmt::Debug;
use std::thread;
use std::time::{Duration, Instant};

pub use crate::LIMIT;
use crate::bind::Bind;
use crate::cloud::{self, Cloud};
use crate::command::Commanded;
use crate::hoster::{self, Hosted};
use crate::legion::{LEGION, Legion, failover_ip};
use crate::robot::{Config, Request, Robot};
use crate::uwsgi::Uwsgi;
use crate::wait_until;

pub use crate::hoster::robot;

pub const QUICK: &str = "legion-freq = 1\nlegion-tolerance = 4\n";
pub const QUORUM: &str = "legion-freq = 1\nlegion-tolerance = 4\nlegion-quorum = failover 2\n";
/// Before a Lord looks again, 30 s after whatever has happened: what it notices at once it has mended by then.
pub const AT_ONCE: Duration = Duration::from_secs(25);

pub const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A Legion and the stand-in that its hooks ask: Robot's, or another one.
pub struct Scene<S = Robot> {
    pub robot: S,
    pub legion: Legion,
}

impl Scene {
    /// Nodes 1 to N, not started; `more` is added to each hook, `options` to each ini.
    pub fn new(uwsgi: Uwsgi, nodes: usize, config: Config, more: &str, options: &str) -> Scene {
        Scene::of(uwsgi, nodes, hoster::robot(config), more, options)
    }

    /// The same, started, with links, node 1 Lord and the IP there.
    pub fn settled(uwsgi: Uwsgi, nodes: usize, more: &str, options: &str) -> Scene {
        Scene::new(uwsgi, nodes, Config::default(), more, options).settle()
    }
}

impl Scene<Cloud> {
    /// As [`Scene::new`], with servers in the Cloud.
    pub fn in_cloud(
        uwsgi: Uwsgi,
        nodes: usize,
        config: cloud::Config,
        more: &str,
        options: &str,
    ) -> Scene<Cloud> {
        Scene::of(uwsgi, nodes, hoster::cloud(config), more, options)
    }
}

impl Scene<Bind> {
    /// As [`Scene::new`], with a DNS record that examples/dns-record moves. `None` where there is no DNS server.
    pub fn by_dns(uwsgi: Uwsgi, nodes: usize, more: &str, options: &str) -> Option<Scene<Bind>> {
        Some(Scene::of(uwsgi, nodes, Bind::start()?, more, options))
    }
}

impl Scene<Commanded> {
    /// As [`Scene::new`], by the lab's own command.
    pub fn by_command(
        uwsgi: Uwsgi,
        nodes: usize,
        config: Config,
        more: &str,
        options: &str,
    ) -> Scene<Commanded> {
        Scene::of(uwsgi, nodes, Commanded::new(hoster::robot(config)), more, options)
    }
}

impl<S: Hosted> Scene<S> {
    /// As [`Scene::new`], with a stand-in that runs.
    pub fn of(uwsgi: Uwsgi, nodes: usize, robot: S, more: &str, options: &str) -> Scene<S> {
        let hooks: Vec<String> = (1..=nodes).map(|node| robot.hook(node, failover_ip(), more)).collect();
        let legion = Legion::of_action(uwsgi, robot.action(), &hooks, options);
        Scene { robot, legion }
    }

    /// Starts all, with links, until node 1 is Lord and has the IP.
    pub fn settle(mut self) -> Scene<S> {
        self.legion = self.legion.with_links();
        self.legion.start_all();
        self.wait_for(1, LIMIT);
        self
    }

    pub fn rule(&self, rule: &str) {
        self.robot.rule(rule);
    }

    /// How many requests with this method there were.
    pub fn asked(&self, method: &str) -> usize {
        self.robot.journal().iter().filter(|request| request.method == method).count()
    }

    pub fn posts(&self) -> usize {
        self.asked("POST")
    }

    /// The POSTs that node N has sent.
    pub fn posts_of(&self, node: usize) -> Vec<Request> {
        let target = Some(self.robot.target_of(node));
        let journal = self.robot.journal().into_iter();
        journal.filter(|request| request.method == "POST" && request.target == target).collect()
    }

    /// How often the IP was moved, the first time included.
    pub fn switches(&self) -> usize {
        self.robot.moves().len()
    }

    /// Waits until node N has asked for the IP since it had sent `before` POSTs.
    #[track_caller]
    pub fn wait_for_post(&self, node: usize, before: usize) {
        let sent = wait_until(LIMIT, || self.posts_of(node).len() > before);
        assert!(sent, "node {node} does not ask for the IP: {}", self.state());
    }

    /// Waits until the IP is at node N and all of `nodes` are members.
    #[track_caller]
    pub fn settles_at(&self, node: usize, nodes: &[usize]) {
        let settled = || self.is_at(node) && self.see_each_other(nodes);
        assert!(wait_until(LIMIT, settled), "does not settle at node {node}: {}", self.state());
    }

    /// Adds a lord hook to node N, which runs before ours.
    pub fn hook_before(&mut self, node: usize, hook: &str) {
        let ini = self.legion.ini_mut(node);
        *ini = ini.replacen("legion-lord", &format!("legion-lord = {LEGION} {hook}\nlegion-lord"), 1);
    }

    /// Adds a lord hook to node N, which runs after ours.
    pub fn hook_behind(&mut self, node: usize, hook: &str) {
        *self.legion.ini_mut(node) += &format!("legion-lord = {LEGION} {hook}\n");
    }

    /// Whether each of `nodes` counts all the others as members.
    pub fn see_each_other(&self, nodes: &[usize]) -> bool {
        let others = |node: usize| nodes.iter().copied().filter(|other| *other != node).collect::<Vec<_>>();
        nodes.iter().all(|node| self.legion.members(*node) == others(*node))
    }

    pub fn is_at(&self, node: usize) -> bool {
        self.legion.lords() == [node] && self.robot.node_at(failover_ip()) == Some(node)
    }

    /// Waits until `node` alone is Lord and the IP is there, and still is a few seconds later.
    #[track_caller]
    pub fn wait_for(&self, node: usize, limit: Duration) {
        let found = wait_until(limit, || self.is_at(node));
        assert!(found, "not at node {node} within {limit:?}: {}", self.state());
        self.stays_at(node, seconds(4));
    }

    /// Waits until `node` alone has been Lord, with the IP, for this time without a break. Where there is no quorum, whoever
    /// could not hear the Lord may be one, too, until it has heard it.
    #[track_caller]
    pub fn comes_to_rest_at(&self, node: usize, time: Duration) {
        let mut since = None;
        let rests = wait_until(LIMIT, || {
            since = self.is_at(node).then(|| since.unwrap_or_else(Instant::now));
            since.is_some_and(|since| since.elapsed() >= time)
        });
        assert!(rests, "does not come to rest at node {node}: {}", self.state());
    }

    #[track_caller]
    pub fn stays_at(&self, node: usize, time: Duration) {
        // A moment later it may look otherwise.
        let mut seen = (Vec::new(), None);
        let left = wait_until(time, || {
            seen = (self.legion.lords(), self.robot.node_at(failover_ip()));
            seen != (vec![node], Some(node))
        });
        assert!(!left, "no longer at node {node}, but {seen:?}: {}", self.state());
    }

    /// Waits until `condition`, which is `what`.
    #[track_caller]
    pub fn wait_until(&self, limit: Duration, what: &str, condition: impl Fn() -> bool) {
        assert!(wait_until(limit, condition), "{what}: not within {limit:?}: {}", self.state());
    }

    /// How often this stands in the log of node N.
    pub fn said(&self, node: usize, text: &str) -> usize {
        self.legion.node(node).log().matches(text).count()
    }

    pub fn state(&self) -> String {
        let (lords, route) = (self.legion.lords(), self.robot.node_at(failover_ip()));
        let requests = self.robot.journal();
        format!("Lords {lords:?}, IP at node {route:?}\n{requests:#?}\n{}", self.legion.logs())
    }
}

/// Plays a scene for each case at the same time, since each takes its seconds.
pub fn side_by_side<T: Copy + Send + Debug>(cases: &[T], play: impl Fn(T) + Sync) {
    thread::scope(|scope| {
        let play = &play;
        let played: Vec<_> =
            cases.iter().copied().map(|case| (case, scope.spawn(move || play(case)))).collect();
        let failed = played.into_iter().filter_map(|(case, played)| played.join().is_err().then_some(case));
        let failed: Vec<T> = failed.collect();
        assert!(failed.is_empty(), "failed: {failed:?}");
    });
}

/// Makes a test of each function, on each uWSGI.
#[macro_export]
macro_rules! on_each_uwsgi {
    ($($name:ident)*) => {
        mod debian {
            $(#[test] fn $name() { super::$name(super::Uwsgi::Debian); })*
        }
        mod pypi {
            $(#[test] fn $name() { super::$name(super::Uwsgi::Pypi); })*
        }
    };
}
pub use on_each_uwsgi;

/// The same on one of them, for what another test plays on each.
#[macro_export]
macro_rules! on_one_uwsgi {
    ($uwsgi:ident: $($name:ident)*) => {
        mod on_one {
            $(#[test] fn $name() { super::$name(super::Uwsgi::$uwsgi); })*
        }
    };
}
pub use on_one_uwsgi;
