//! A Legion whose nodes have a rank: each has a service that is checked, a check that is a command, and a drain file, where
//! the test wants them.

use std::fs;
use std::path::PathBuf;

use super::checked::{Answers, Service};
use super::legion::{LEGION, RANK};
use super::links::Weather;
use super::robot::Config;
use super::scene::{LIMIT, QUICK, Scene};
use super::uwsgi::Uwsgi;

const WAITS_LONG: &str = "legion-check-timeout = failover 20\n";
/// The Lord stays Lord.
pub const NOPREEMPT: &str = "legion-nopreempt = failover\n";
/// A majority of three.
pub const TWO: &str = "legion-quorum = failover 2\n";
/// So long that a third of all datagrams may be lost, and nobody is.
pub const PATIENT: &str = "legion-tolerance = 10\n";
pub const LOSSY: Weather =
    Weather { cut: false, loss: 30, duplicate: 0, delay: std::time::Duration::ZERO, strays: 0 };

/// A Legion whose nodes are not started yet; with links where it is patient.
pub fn scene(uwsgi: Uwsgi, nodes: usize, options: &str) -> Scene {
    let scene = Scene::new(uwsgi, nodes, Config::default(), "", &format!("{QUICK}{options}"));
    if options.contains(PATIENT) { linked(scene) } else { scene }
}

/// The same with links.
pub fn linked(scene: Scene) -> Scene {
    Scene { legion: scene.legion.with_links(), ..scene }
}

/// The same, whose nodes are all checked each second, by HTTP: their services are well.
pub fn checked(uwsgi: Uwsgi, nodes: usize, options: &str) -> (Scene, Vec<Service>) {
    let mut scene = scene(uwsgi, nodes, options);
    let services: Vec<Service> = (0..nodes).map(|_| Service::well()).collect();
    for (service, node) in services.iter().zip(1..) {
        check(&mut scene, node, &service.http());
    }
    (scene, services)
}

/// Starts nodes 1 to N so that node 1 is Lord, though the Lord may be one that stays it: each is heard, and healthy, before
/// the next one starts.
#[track_caller]
pub fn start(scene: &mut Scene, nodes: usize) {
    for node in 1..=nodes {
        scene.legion.start(node);
        let up: Vec<usize> = (1..=node).collect();
        let options = ["legion-check", "legion-nopreempt", "legion-preempt-delay", "legion-drain-file"];
        let ini = scene.legion.ini_mut(node).clone();
        let is_ranked = options.iter().any(|option| ini.contains(option));
        let valor = || scene.legion.node(node).legion(LEGION)?["valor"].as_u64();
        let has_rank = || valor().is_some_and(|valor| valor >= RANK || !is_ranked);
        let is_known = || node == 1 || scene.legion.ranks(1).iter().all(|(_, rank)| *rank > 0 || !is_ranked);
        // Without a quorum the first one is Lord by itself.
        let is_lord = || ini.contains("legion-quorum") || scene.is_at(1);
        let is_up = || has_rank() && scene.see_each_other(&up) && is_known() && is_lord();
        scene.wait_until(LIMIT, &format!("node {node} is up"), is_up);
    }
    scene.settles_at(1, &(1..=nodes).collect::<Vec<_>>());
}

/// How many seconds pass until node N asks for the IP, counted by the checks of the node that comes to run least: on a busy
/// machine they are longer.
#[track_caller]
pub fn seconds_until_post(scene: &Scene, clocks: &[&Service], node: usize, act: impl FnOnce()) -> usize {
    let checks = || clocks.iter().map(|service| service.connections()).collect::<Vec<_>>();
    let (posts, before) = (scene.posts_of(node).len(), checks());
    act();
    scene.wait_for_post(node, posts);
    checks().into_iter().zip(before).map(|(now, before)| now - before).min().unwrap_or_default()
}

/// Checks node N, from its next start on, each second. On a busy machine a service may be slow, and yet be well.
pub fn check(scene: &mut Scene, node: usize, what: &str) {
    let ini = scene.legion.ini_mut(node);
    let often = format!("legion-check-interval = {LEGION} 1\n{WAITS_LONG}");
    if !ini.contains("legion-check-interval") {
        *ini += &often;
    }
    *ini += &format!("legion-check = {LEGION} {what}\n");
}

/// A check of node N that is not answered ends after three seconds, where the test is about that.
pub fn give_up_soon(scene: &mut Scene, node: usize) {
    let ini = scene.legion.ini_mut(node);
    *ini = ini.replace(WAITS_LONG, &format!("legion-check-timeout = {LEGION} 3\n"));
}

/// All of these answer so from now on.
pub fn set_all(services: &[Service], answers: Answers) {
    services.iter().for_each(|service| service.set(answers));
}

/// A script that a check runs by a shell, as nobody can run a file that is being written.
pub struct Script(PathBuf);

impl Script {
    pub fn new(scene: &Scene, node: usize, text: &str) -> Script {
        let script = Script(scene.legion.folder(node).join("check.sh"));
        script.set(text);
        script
    }

    /// What it does from now on.
    pub fn set(&self, text: &str) {
        let new = self.0.with_extension("new");
        fs::write(&new, format!("{text}\n")).expect("a writable folder");
        fs::rename(new, &self.0).expect("a writable folder");
    }

    /// For a check.
    pub fn command(&self) -> String {
        format!("/bin/sh {}", self.0.display())
    }
}

/// The drain file of node N, which it looks for from its next start on.
pub fn drain_file(scene: &mut Scene, node: usize) -> PathBuf {
    let path = scene.legion.folder(node).join("drain");
    *scene.legion.ini_mut(node) += &format!("legion-drain-file = {LEGION} {}\n", path.display());
    path
}

/// From now on node N is drained.
pub fn drain(file: &PathBuf) {
    fs::write(file, "").expect("a writable folder");
}

/// And no longer.
pub fn undrain(file: &PathBuf) {
    fs::remove_file(file).expect("it is there");
}
