//! A Legion of real nodes and the stand-in that their hooks ask: what the tests of the promise and of real
//! installations share.

use std::fmt::Debug;
use std::net::IpAddr;
use std::thread;
use std::time::Duration;

use crate::legion::{LEGION, Legion, address, hook};
use crate::robot::{Config, Failover, Request, Robot};
use crate::uwsgi::Uwsgi;
use crate::wait_until;

pub const QUICK: &str = "legion-freq = 1\nlegion-tolerance = 4\n";
pub const QUORUM: &str = "legion-freq = 1\nlegion-tolerance = 4\nlegion-quorum = failover 2\n";
/// For what has no bound of its own in a test.
pub const LIMIT: Duration = Duration::from_secs(30);

pub const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub fn failover_ip() -> IpAddr {
    [4, 4, 4, 4].into()
}

pub fn route_of(node: usize) -> Option<IpAddr> {
    Some(address(node).parse().expect("an address"))
}

/// A Legion and the stand-in that its hooks ask.
pub struct Scene {
    pub robot: Robot,
    pub legion: Legion,
}

impl Scene {
    /// Nodes 1 to N, not started; `more` is added to each hook, `options` to each ini.
    pub fn new(uwsgi: Uwsgi, nodes: usize, config: Config, more: &str, options: &str) -> Scene {
        let mut failover = config.failover;
        failover.push(Failover::new(failover_ip(), None));
        let robot = Robot::start(Config { failover, ..config }).expect("loopback has a free port");
        let url = robot.url(failover_ip());
        let hooks: Vec<String> = (1..=nodes).map(|node| hook(node, &url, more)).collect();
        let legion = Legion::new(uwsgi, &hooks, options);
        Scene { robot, legion }
    }

    /// The same, started, with links, node 1 Lord and the IP there.
    pub fn settled(uwsgi: Uwsgi, nodes: usize, more: &str, options: &str) -> Scene {
        let mut scene = Scene::new(uwsgi, nodes, Config::default(), more, options);
        scene.legion = scene.legion.with_links();
        scene.legion.start_all();
        scene.wait_for(1, LIMIT);
        scene
    }

    pub fn rule(&self, rule: &str) {
        self.robot.fault(rule.parse().unwrap_or_else(|error| panic!("{rule}: {error}")));
    }

    pub fn posts(&self) -> usize {
        self.robot.journal().iter().filter(|request| request.method == "POST").count()
    }

    /// The POSTs that node N has sent.
    pub fn posts_of(&self, node: usize) -> Vec<Request> {
        let target = Some(address(node));
        let journal = self.robot.journal().into_iter();
        journal.filter(|request| request.method == "POST" && request.target == target).collect()
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
        self.legion.lords() == [node] && self.robot.route(failover_ip()) == route_of(node)
    }

    /// Waits until `node` alone is Lord and the IP is there, and still is a few seconds later.
    #[track_caller]
    pub fn wait_for(&self, node: usize, limit: Duration) {
        let found = wait_until(limit, || self.is_at(node));
        assert!(found, "not at node {node} within {limit:?}: {}", self.state());
        self.stays_at(node, seconds(4));
    }

    #[track_caller]
    pub fn stays_at(&self, node: usize, time: Duration) {
        let left = wait_until(time, || !self.is_at(node));
        assert!(!left, "no longer at node {node}: {}", self.state());
    }

    pub fn state(&self) -> String {
        let (lords, route) = (self.legion.lords(), self.robot.route(failover_ip()));
        let requests = self.robot.journal();
        format!("Lords {lords:?}, route {route:?}\n{requests:#?}\n{}", self.legion.logs())
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
