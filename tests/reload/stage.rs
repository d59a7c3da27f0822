//! Nodes that can be told to reload, and what their peers and the API have noticed of it.

use std::time::{Duration, Instant};

use lab::USERNAME;
use lab::legion::LEGION;
use lab::reload::{Way, wait_for_image};
use lab::robot::Config;
use lab::scene::{LIMIT, Scene, seconds};
use lab::uwsgi::Uwsgi;

/// Rounds of a second, and a Lord that is silent for longer than this is lost.
pub const TOLERANCE: Duration = seconds(5);
pub const ROUNDS: &str = "legion-freq = 1\nlegion-tolerance = 5\n";
/// Whoever speaks for a node that reloads has ended by then, and has said farewell if it had to.
pub const LAST_WORD: Duration = seconds(11);

/// With as many votes as a majority has.
pub fn quorum(nodes: usize) -> String {
    format!("{ROUNDS}legion-quorum = {LEGION} {}\n", nodes / 2 + 1)
}

/// Nodes that are not started yet, with links, which can be told to reload; each asks the API as a user of its own.
pub fn nodes(uwsgi: Uwsgi, nodes: usize, config: Config, options: &str) -> Scene {
    let mut scene = Scene::new(uwsgi, nodes, config, "", options);
    scene.legion = scene.legion.with_links();
    for node in 1..=nodes {
        let ini = scene.legion.ini_mut(node);
        *ini = ini.replace(&format!("username={USERNAME}"), &format!("username={}", user(node)));
        scene.legion.make_reloadable(node);
    }
    scene
}

pub fn user(node: usize) -> String {
    format!("{USERNAME}{node}")
}

/// The same, started, with node 1 Lord and the IP there.
pub fn stage(uwsgi: Uwsgi, count: usize, options: &str) -> Scene {
    let mut scene = nodes(uwsgi, count, Config::default(), options);
    scene.legion.start_all();
    settle(&scene, count);
    scene
}

#[track_caller]
pub fn settle(scene: &Scene, count: usize) {
    let all: Vec<usize> = (1..=count).collect();
    let serve = || all.iter().all(|node| scene.legion.node(*node).serves());
    scene.wait_until(LIMIT, "settled", || scene.is_at(1) && scene.see_each_other(&all) && serve());
}

/// The methods of the requests that node N has sent.
pub fn requests(scene: &Scene, node: usize) -> Vec<String> {
    let journal = scene.robot.journal().into_iter();
    journal.filter(|request| request.user == Some(user(node))).map(|request| request.method).collect()
}

/// What was so when a Lord was told to reload, and should be so when it has.
pub struct Watch<'a> {
    pub scene: &'a Scene,
    pub lord: usize,
    pub uuid: String,
    /// Who else is a member, and how often each has tried to become Lord.
    pub others: Vec<(usize, usize)>,
    pub images: usize,
    pub posts: usize,
    pub moves: usize,
    pub requests: usize,
}

pub const ATTEMPT: &str = "attempting to become the Lord of the Legion failover";

impl Watch<'_> {
    pub fn on(scene: &Scene, lord: usize) -> Watch<'_> {
        let others = (1..=scene.legion.size()).filter(|node| *node != lord);
        Watch {
            scene,
            lord,
            uuid: scene.legion.uuid(lord).expect("it answers"),
            others: others.map(|node| (node, scene.said(node, ATTEMPT))).collect(),
            images: scene.legion.node(lord).images(),
            posts: scene.posts(),
            moves: scene.robot.history().len(),
            requests: requests(scene, lord).len(),
        }
    }

    /// Waits until the new image is Lord, and fails the test if anybody has noticed.
    #[track_caller]
    pub fn is_lord_again(&self) {
        let Watch { scene, lord, .. } = self;
        // Until then the guard of the old one may have looked.
        scene.wait_until(LIMIT, "a new image", || scene.legion.node(*lord).images() > self.images);
        let before = requests(scene, *lord).len();
        wait_for_image(&scene.legion, *lord, self.images, LIMIT);
        scene.wait_until(LIMIT, "it is Lord again", || scene.is_at(*lord));
        let elected = Instant::now();
        self.nobody_has_noticed();
        // Its takeover is a look. Another one is the guard's, for each peer that is heard only then, or half a minute later.
        // On a busy machine it may have looked before this has seen the new image.
        let asked = requests(scene, *lord).split_off(self.requests);
        let most = if elected.elapsed() < seconds(25) { scene.legion.size() } else { usize::MAX };
        let looks = !asked.is_empty() && asked.iter().all(|method| method == "GET");
        assert!(looks && asked.len() - (before - self.requests) <= most, "{asked:?}: {}", scene.state());
    }

    #[track_caller]
    pub fn nobody_has_noticed(&self) {
        let Watch { scene, uuid, .. } = self;
        assert_eq!(scene.posts(), self.posts, "it was asked for: {}", scene.state());
        assert_eq!(scene.robot.history().len(), self.moves, "it was moved: {}", scene.state());
        for &(node, _) in &self.others {
            let line = format!("uuid: {uuid} announced its death");
            assert_eq!(scene.said(node, &line), 0, "node {node}: {line}: {}", scene.state());
        }
        self.is_still_lord();
    }

    /// Whatever it has changed of itself, and asked for.
    #[track_caller]
    pub fn is_still_lord(&self) {
        let Watch { scene, uuid, .. } = self;
        assert_eq!(scene.legion.uuid(self.lord).as_ref(), Some(uuid), "it is another: {}", scene.state());
        for &(node, attempts) in &self.others {
            let line = format!("uuid: {uuid} left Legion failover");
            assert_eq!(scene.said(node, &line), 0, "node {node}: {line}: {}", scene.state());
            assert_eq!(scene.said(node, ATTEMPT), attempts, "node {node} tried: {}", scene.state());
            assert!(scene.legion.counts(node, uuid), "node {node} misses it: {}", scene.state());
        }
    }
}

/// Has the Lord, node 1, reload with this app, and waits until it is Lord again.
#[track_caller]
pub fn reload(scene: &Scene, way: Way, app: &str) {
    scene.legion.set_app(1, app);
    let watch = Watch::on(scene, 1);
    scene.legion.ask_for_reload(1, way);
    watch.is_lord_again();
}

/// Waits until nothing of a reload can still be under way, and fails the test if that has done any harm.
#[track_caller]
pub fn comes_to_an_end(scene: &Scene) {
    let watch = Watch::on(scene, 1);
    scene.stays_at(1, LAST_WORD);
    watch.nobody_has_noticed();
}
