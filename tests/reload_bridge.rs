//! The process that announces a Lord while its master reloads: when it is there, what it may do, what it leaves behind.
//!
//! What a reload means for the Legion and the failover IP is in `reload`.

use std::fs;
use std::io::{Read, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use lab::legion::LEGION;
use lab::process::SIGHUP;
use lab::scene::{LIMIT, QUORUM, Scene, on_each_uwsgi, seconds, side_by_side};
use lab::uwsgi::Uwsgi;

on_each_uwsgi! {
    it_is_there_until_the_legion_starts_and_leaves_nothing_behind
    it_listens_to_nobody_but_its_own_master
    where_there_can_be_none_the_node_says_farewell
    without_the_plugin_in_the_new_ini_it_says_farewell
    with_a_plugin_for_another_uwsgi_it_says_farewell
    a_node_that_is_another_one_now_says_farewell_at_once
    it_does_not_outlive_its_master
    longer_than_it_may_is_a_failover_and_said
    where_a_reload_is_an_end_there_is_none
    reloads_at_any_moment_end_and_move_nothing
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
        let fails = folder.join("fails");
        let text =
            format!("while [ -e {} ]; do sleep 0.1; done\n[ ! -e {} ]\n", wait.display(), fails.display());
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

    /// Whether node 2 has heard its farewell.
    fn has_said_farewell(&self, uuid: &str) -> bool {
        let log = self.scene.legion.node(2).log();
        log.lines().any(|line| line.contains(&format!("uuid: {uuid} announced its death")))
    }

    #[track_caller]
    fn has_left(&self, uuid: &str) {
        self.scene.wait_until(LIMIT, "node 1 has said farewell", || self.has_said_farewell(uuid));
    }

    fn uuid(&self) -> String {
        let state = self.scene.legion.node(1).legion(LEGION).unwrap_or_default();
        state["uuid"].as_str().unwrap_or_default().into()
    }
}

/// What a process has: the kinds of its descriptors, and the names of its variables.
fn belongings(id: u32) -> (Vec<String>, Vec<String>) {
    let entries = fs::read_dir(format!("/proc/{id}/fd")).expect("it runs").flatten();
    let kind = |target: PathBuf| {
        let target = target.to_string_lossy().into_owned();
        target.rsplit('/').next().unwrap_or_default().split('[').next().unwrap_or_default().to_string()
    };
    let mut kinds: Vec<String> =
        entries.filter_map(|entry| fs::read_link(entry.path()).ok()).map(kind).collect();
    kinds.sort_unstable();
    let environment = fs::read(format!("/proc/{id}/environ")).expect("it runs");
    let pairs = String::from_utf8_lossy(&environment).into_owned();
    let name = |pair: &str| pair.split('=').next().unwrap_or_default().to_string();
    (kinds, pairs.split('\0').map(name).collect())
}

/// The name of the socket of node 1's bridge.
fn name(reloaded: &Reloaded, number: u32) -> SocketAddr {
    let id = reloaded.scene.legion.node(1).id();
    let namespace = fs::metadata(format!("/proc/{id}/ns/pid")).expect("it runs").ino();
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).expect("it runs");
    let began =
        stat.rsplit_once(") ").expect("a name").1.split(' ').nth(19).expect("many numbers").to_string();
    let name = format!("uwsgi-hetzner-bridge-{namespace}-{id}-{began}-{number}");
    SocketAddr::from_abstract_name(name).expect("a short name")
}

fn it_is_there_until_the_legion_starts_and_leaves_nothing_behind(uwsgi: Uwsgi) {
    let reloaded = Reloaded::new(uwsgi);
    let (node, other) = (reloaded.scene.legion.node(1), reloaded.scene.legion.node(2));
    // No Lord: it has no bridge, and after its reload has what uWSGI itself leaves.
    other.signal(SIGHUP);
    reloaded.scene.wait_until(LIMIT, "node 2 is back", || {
        reloaded.scene.said(2, "legion manager thread enabled") == 2
            && reloaded.scene.see_each_other(&[1, 2, 3])
            && other.workers().len() == 1
    });
    let (uuid, posts) = (reloaded.uuid(), reloaded.scene.posts());
    reloaded.hold();
    reloaded.reload();
    let bridge = reloaded.wait_for_bridge();
    // Beyond the tolerance.
    thread::sleep(seconds(6));
    assert_eq!(reloaded.bridge(), Some(bridge));
    let (kinds, _) = belongings(bridge);
    // Where it is found, where it sends, and what the exec() closes; and its master, where the kernel can watch a process.
    let sockets = kinds.iter().filter(|kind| *kind == "socket:").count();
    assert!(sockets == 3 && kinds.len() <= 4, "{kinds:?}");
    let adjusted = fs::read_to_string(format!("/proc/{bridge}/oom_score_adj")).expect("it runs");
    assert_eq!(adjusted, "1000\n", "where memory is short, it goes first");
    let status = fs::read_to_string(format!("/proc/{bridge}/status")).expect("it runs");
    let blocked = status.lines().find_map(|line| line.strip_prefix("SigBlk:\t")).expect("Linux says so");
    // All but SIGKILL, SIGSTOP, and the two that glibc keeps for itself.
    assert_eq!(u64::from_str_radix(blocked, 16), Ok(!(1 << 8 | 1 << 18 | 0b11 << 31)), "{blocked}");
    for other in [2, 3] {
        assert_eq!(reloaded.scene.legion.members(other).first(), Some(&1), "{}", reloaded.scene.state());
    }
    reloaded.load();
    reloaded.wait_until_it_is_back(posts);
    assert_eq!(reloaded.uuid(), uuid);
    let (workers, others) = (node.workers(), other.workers());
    assert_eq!((workers.len(), others.len()), (1, 1), "no other child is left, not even a zombie");
    assert_eq!(belongings(workers[0]), belongings(others[0]));
    assert_eq!(belongings(node.id()), belongings(other.id()));
    assert!(!node.log().contains("subprocess"), "{}", node.log());
    assert!(!reloaded.scene.legion.any_log_holds("left Legion"), "{}", reloaded.scene.state());
}

fn it_listens_to_nobody_but_its_own_master(uwsgi: Uwsgi) {
    let reloaded = Reloaded::new(uwsgi);
    let posts = reloaded.scene.posts();
    // The first name is taken already. Who has it is told nothing.
    let squatter = UnixListener::bind_addr(&name(&reloaded, 0)).expect("it is not in use");
    reloaded.hold();
    reloaded.reload();
    let bridge = reloaded.wait_for_bridge();
    for question in [&b"H"[..], b"E", b"L\xff\xff", b"K\0\0"] {
        let mut stream = UnixStream::connect_addr(&name(&reloaded, 1)).expect("it listens");
        // It may be closed before this is read.
        let _ = stream.write_all(question);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        assert_eq!(answer, b"", "{question:?}");
    }
    assert_eq!(reloaded.bridge(), Some(bridge));
    reloaded.load();
    reloaded.wait_until_it_is_back(posts);
    squatter.set_nonblocking(true).expect("our own");
    let (mut asked, _) = squatter.accept().expect("the new image has asked here first");
    let mut question = Vec::new();
    let _ = asked.read_to_end(&mut question);
    assert_eq!(question, b"");
}

fn where_there_can_be_none_the_node_says_farewell(uwsgi: Uwsgi) {
    let reloaded = Reloaded::new(uwsgi);
    let uuid = reloaded.uuid();
    let _squatters: Vec<UnixListener> = (0..4)
        .map(|number| UnixListener::bind_addr(&name(&reloaded, number)).expect("it is not in use"))
        .collect();
    reloaded.hold();
    reloaded.reload();
    reloaded.has_left(&uuid);
    let line = "this reload is a failover, because no process could be started that announces this node meanwhile: \
                Address already in use";
    assert_eq!(reloaded.scene.said(1, line), 1, "{}", reloaded.scene.state());
    assert_eq!(reloaded.bridge(), None);
    reloaded.scene.wait_for(2, LIMIT);
}

fn without_the_plugin_in_the_new_ini_it_says_farewell(uwsgi: Uwsgi) {
    let reloaded = Reloaded::new(uwsgi);
    let uuid = reloaded.uuid();
    reloaded.change_ini(|ini| {
        let others =
            ini.lines().filter(|line| !line.starts_with("plugin =") && !line.starts_with("legion-lord"));
        others.collect::<Vec<_>>().join("\n")
    });
    reloaded.hold();
    reloaded.reload();
    reloaded.wait_for_bridge();
    reloaded.has_left(&uuid);
    reloaded.scene.wait_for(2, LIMIT);
}

/// As after an upgrade of uWSGI under a running site: such a plugin touches nothing of uWSGI's.
fn with_a_plugin_for_another_uwsgi_it_says_farewell(uwsgi: Uwsgi) {
    let reloaded = Reloaded::new(uwsgi);
    let uuid = reloaded.uuid();
    let other = if uwsgi == Uwsgi::Debian { Uwsgi::Pypi } else { Uwsgi::Debian };
    let folder = |uwsgi: Uwsgi| uwsgi.plugins().display().to_string();
    reloaded.change_ini(|ini| ini.replace(&folder(uwsgi), &folder(other)));
    reloaded.hold();
    reloaded.reload();
    reloaded.has_left(&uuid);
    reloaded.scene.wait_until(LIMIT, "its child has ended", || reloaded.bridge().is_none());
    reloaded.scene.wait_for(2, LIMIT);
    reloaded.load();
    let started = || reloaded.scene.said(1, "legion manager thread enabled") == 2;
    reloaded.scene.wait_until(LIMIT, "node 1 runs", started);
    assert!(!reloaded.scene.legion.node(1).log().contains("subprocess"), "{}", reloaded.scene.state());
}

fn a_node_that_is_another_one_now_says_farewell_at_once(uwsgi: Uwsgi) {
    type Change = fn(&str) -> String;
    let changes: [(&str, Change); 3] = [
        ("its secret or cipher has changed", |ini| ini.replace("aes-128-cbc:secret1", "aes-128-cbc:another")),
        ("its secret or cipher has changed", |ini| ini.replace("aes-128-cbc:", "aes-192-cbc:")),
        ("it is no longer a member", |ini| ini.replace(LEGION, "other")),
    ];
    side_by_side(&changes, |(why, change)| {
        let reloaded = Reloaded::new(uwsgi);
        let uuid = reloaded.uuid();
        reloaded.change_ini(change);
        reloaded.hold();
        reloaded.reload();
        reloaded.has_left(&uuid);
        let line = format!("{LEGION}: after this reload this is another node, because {why}");
        assert_eq!(reloaded.scene.said(1, &line), 1, "{}", reloaded.scene.state());
        reloaded.scene.wait_for(2, LIMIT);
        reloaded.load();
        let node = reloaded.scene.legion.node(1);
        let started =
            || reloaded.scene.said(1, "legion manager thread enabled") == 2 && node.workers().len() == 1;
        reloaded.scene.wait_until(LIMIT, "node 1 runs, and no child but its worker is left", started);
        assert!(!node.log().contains("subprocess"), "{}", node.log());
    });
}

fn it_does_not_outlive_its_master(uwsgi: Uwsgi) {
    let mut reloaded = Reloaded::new(uwsgi);
    let uuid = reloaded.uuid();
    reloaded.hold();
    reloaded.reload();
    let bridge = reloaded.wait_for_bridge();
    // An application that cannot be loaded.
    fs::write(reloaded.folder.join("fails"), "").expect("our own folder");
    reloaded.load();
    assert!(reloaded.scene.legion.wait_for_exit(1, LIMIT), "{}", reloaded.scene.state());
    // Long before the 65 s that it has where its master lives.
    let has_left = || reloaded.has_said_farewell(&uuid);
    reloaded.scene.wait_until(seconds(40), "node 1 has said farewell", has_left);
    let is_gone = || !PathBuf::from(format!("/proc/{bridge}/fd/0")).exists();
    reloaded.scene.wait_until(LIMIT, "the bridge is gone", is_gone);
    reloaded.scene.wait_for(2, LIMIT);
}

fn longer_than_it_may_is_a_failover_and_said(uwsgi: Uwsgi) {
    let reloaded = Reloaded::new(uwsgi);
    let uuid = reloaded.uuid();
    reloaded.hold();
    reloaded.reload();
    reloaded.wait_for_bridge();
    // Up to 60 s, by the README. Shorter than that by what a busy machine may take to notice that it is there.
    thread::sleep(seconds(55));
    assert!(!reloaded.has_said_farewell(&uuid), "{}", reloaded.scene.state());
    assert_eq!(reloaded.scene.legion.members(2), [1, 3], "{}", reloaded.scene.state());
    reloaded.has_left(&uuid);
    reloaded.scene.wait_for(2, LIMIT);
    reloaded.load();
    reloaded.scene.wait_for(1, LIMIT);
    let line = "the reload took longer than 65 s: this node has left the Legion, and joins it anew";
    assert_eq!(reloaded.scene.said(1, line), 1, "{}", reloaded.scene.state());
    assert_ne!(reloaded.uuid(), uuid);
    assert_eq!(reloaded.scene.legion.node(1).workers().len(), 1);
    assert!(!reloaded.scene.legion.node(1).log().contains("subprocess"), "{}", reloaded.scene.state());
}

fn where_a_reload_is_an_end_there_is_none(uwsgi: Uwsgi) {
    let mut reloaded = Reloaded::with(uwsgi, "exit-on-reload = true\n");
    let uuid = reloaded.uuid();
    reloaded.reload();
    assert!(reloaded.scene.legion.wait_for_exit(1, LIMIT), "{}", reloaded.scene.state());
    reloaded.has_left(&uuid);
}

/// As from a deploy that touches several files: also in the moment in which nothing handles the signal.
fn reloads_at_any_moment_end_and_move_nothing(uwsgi: Uwsgi) {
    let reloaded = Reloaded::with(uwsgi, "reload-mercy = 1\nworker-reload-mercy = 1\n");
    let (uuid, posts) = (reloaded.uuid(), reloaded.scene.posts());
    let enough = || {
        reloaded.reload();
        reloaded.scene.said(1, "binary reloading uWSGI") >= 5
    };
    // Hundreds of times a second.
    let began = Instant::now();
    while !enough() && began.elapsed() < LIMIT {
        thread::sleep(Duration::from_millis(1));
    }
    reloaded.scene.wait_for(1, LIMIT);
    assert_eq!((reloaded.uuid(), reloaded.scene.posts()), (uuid, posts), "{}", reloaded.scene.state());
    for farewell in ["announced its death", "left Legion"] {
        assert!(!reloaded.scene.legion.any_log_holds(farewell), "{}", reloaded.scene.state());
    }
    assert_eq!(reloaded.scene.legion.node(1).workers().len(), 1);
}
