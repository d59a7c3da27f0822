//! The process that announces a Lord while its master reloads: when it is there, what it may do, what it leaves behind.
//!
//! What a reload means for the Legion and the failover IP is in `reload`.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::PathBuf;
use std::thread;

use lab::legion::{LEGION, SECRETS};
use lab::process::SIGHUP;
use lab::scene::{LIMIT, QUORUM, Scene, on_each_uwsgi, seconds};
use lab::uwsgi::Uwsgi;

on_each_uwsgi! {
    it_is_there_until_the_legion_starts_and_leaves_nothing_behind
}

/// A Legion of three, node 1 being Lord, whose application loads for as long as the test wants.
struct Reloaded {
    scene: Scene,
    folder: PathBuf,
}

impl Reloaded {
    fn new(uwsgi: Uwsgi) -> Reloaded {
        Reloaded::with(uwsgi, "")
    }

    fn with(uwsgi: Uwsgi, options: &str) -> Reloaded {
        let mut scene = Scene::new(uwsgi, 3, Default::default(), "", QUORUM);
        scene.legion = scene.legion.with_links();
        let folder = scene.legion.folder(1);
        let (script, wait) = (folder.join("before-app"), folder.join("wait"));
        let text = format!("while [ -e {} ]; do sleep 0.1; done\n", wait.display());
        fs::write(&script, text).expect("a writable folder");
        *scene.legion.ini_mut(1) += &format!("exec-pre-app = sh {}\n{options}", script.display());
        scene.legion.start_all();
        scene.wait_for(1, LIMIT);
        let together = || scene.see_each_other(&[1, 2, 3]);
        scene.wait_until(LIMIT, "all are members", together);
        Reloaded { scene, folder }
    }

    /// Has the application load until [`Reloaded::load`].
    fn hold(&self) {
        fs::write(self.folder.join("wait"), "").expect("a writable folder");
    }

    fn load(&self) {
        fs::remove_file(self.folder.join("wait")).expect("it was held");
    }

    fn change_ini(&self, change: impl Fn(&str) -> String) {
        let ini = self.folder.join("node.ini");
        let text = fs::read_to_string(&ini).expect("the node was started");
        let changed = change(&text);
        assert_ne!(changed, text);
        fs::write(&ini, changed).expect("our own file");
    }

    fn reload(&self) {
        self.scene.legion.node(1).signal(SIGHUP);
    }

    /// The process, if it is there.
    fn bridge(&self) -> Option<u32> {
        let node = self.scene.legion.node(1);
        node.workers().into_iter().find(|id| {
            fs::read_to_string(format!("/proc/{id}/comm")).is_ok_and(|name| name == "hetzner-bridge\n")
        })
    }

    fn wait_for_bridge(&self) -> u32 {
        self.scene.wait_until(LIMIT, "there is a bridge", || self.bridge().is_some());
        self.bridge().expect("it has just been there")
    }

    fn wait_until_it_is_back(&self, posts: usize) {
        let elected = || self.scene.said(1, "i am now the Lord") == 2 && self.scene.is_at(1);
        self.scene.wait_until(LIMIT, "node 1 is elected again", elected);
        assert_eq!(self.scene.posts(), posts, "{}", self.scene.state());
    }

    fn uuid(&self) -> String {
        let state = self.scene.legion.node(1).legion(LEGION).unwrap_or_default();
        state["uuid"].as_str().unwrap_or_default().into()
    }
}

/// Its descriptors, by what they are.
fn descriptors(id: u32) -> Vec<String> {
    let entries = fs::read_dir(format!("/proc/{id}/fd")).expect("it runs");
    let target = |entry: fs::DirEntry| fs::read_link(entry.path()).ok()?.to_str().map(str::to_string);
    let kind = |target: String| target.split('[').next().unwrap_or_default().to_string();
    let mut found: Vec<String> = entries.flatten().filter_map(target).map(kind).collect();
    found.sort_unstable();
    found
}

fn environment(id: u32) -> Vec<String> {
    let environment = fs::read(format!("/proc/{id}/environ")).expect("it runs");
    let environment = String::from_utf8_lossy(&environment).into_owned();
    let mut names: Vec<String> = environment.split('\0').map(|pair| pair.split('=').next().unwrap_or_default().into()).collect();
    names.sort_unstable();
    names
}

fn it_is_there_until_the_legion_starts_and_leaves_nothing_behind(uwsgi: Uwsgi) {
    let reloaded = Reloaded::new(uwsgi);
    let node = reloaded.scene.legion.node(1);
    let worker = node.workers()[0];
    let before = (reloaded.uuid(), descriptors(node.id()), descriptors(worker), environment(worker));
    let posts = reloaded.scene.posts();
    reloaded.hold();
    reloaded.reload();
    let bridge = reloaded.wait_for_bridge();
    // Beyond the tolerance.
    thread::sleep(seconds(6));
    assert_eq!(reloaded.bridge(), Some(bridge));
    assert!(descriptors(bridge).iter().all(|kind| kind == "socket:") && descriptors(bridge).len() == 3);
    let status = fs::read_to_string(format!("/proc/{bridge}/status")).expect("it runs");
    assert!(status.contains("SigBlk:\tfffffffe7ffbfeff"), "{status}");
    for other in [2, 3] {
        assert_eq!(reloaded.scene.legion.members(other).first(), Some(&1), "{}", reloaded.scene.state());
    }
    reloaded.load();
    reloaded.wait_until_it_is_back(posts);
    let worker = node.workers();
    assert_eq!(worker.len(), 1, "no other child is left, not even a zombie: {worker:?}");
    let after = (reloaded.uuid(), descriptors(node.id()), descriptors(worker[0]), environment(worker[0]));
    assert_eq!(after, before);
    assert!(!node.log().contains("subprocess"), "{}", node.log());
    assert!(!reloaded.scene.legion.any_log_holds("left Legion"), "{}", reloaded.scene.state());
}
