//! As nodes are installed: under an Emperor, as another user, in a chroot, as a daemon. As another user and in a chroot only
//! where root runs these tests; run by anybody else they say so, and pass.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use lab::legion::{LEGION, failover_ip, hook, route_of};
use lab::node::free_address;
use lab::process::{self, Keeper, SIGHUP, SIGKILL, is_root};
use lab::reload::{Way, wait_for_image};
use lab::robot::Config;
use lab::scene::{self, LIMIT, Scene, on_each_uwsgi, side_by_side};
use lab::uwsgi::Uwsgi;
use lab::wait_until;

use super::{ROUNDS, Watch, comes_to_an_end, nodes, quorum, reload, settle};

on_each_uwsgi! {
    under_an_emperor
    as_another_user
    in_a_chroot
    as_a_daemon
}

fn under_an_emperor(uwsgi: Uwsgi) {
    let mut scene = nodes(uwsgi, 3, Config::default(), &quorum(3));
    (1..=2).for_each(|node| scene.legion.make_vassal(node));
    scene.legion.start_all();
    settle(&scene, 3);
    reload(&scene, Way::Emperor, "sleep 7");
    reload(&scene, Way::Hup, "");
    reload(&scene, Way::Emperor, "");
    comes_to_an_end(&scene);
}

/// No user of this machine's, and no group of its.
const USER: u32 = 54_321;

/// Lets that user do in a folder what the node does there.
fn open_to_all(folder: &Path) {
    fs::set_permissions(folder, Permissions::from_mode(0o777)).expect("our own folder");
    for entry in fs::read_dir(folder).expect("our own folder") {
        let entry = entry.expect("as above");
        if entry.file_type().expect("as above").is_file() {
            fs::set_permissions(entry.path(), Permissions::from_mode(0o666)).expect("our own file");
        }
    }
}

/// The new image is that user from its beginning.
fn as_another_user(uwsgi: Uwsgi) {
    if !is_root() {
        return println!("skipped: only root can drop privileges");
    }
    side_by_side(&["", "master-as-root = true\n"], |more| {
        let mut scene = nodes(uwsgi, 3, Config::default(), &quorum(3));
        *scene.legion.ini_mut(1) += &format!("uid = {USER}\ngid = {USER}\n{more}");
        let folder = scene.legion.folder(1);
        let above = folder.parent().expect("it is in one");
        fs::set_permissions(above, Permissions::from_mode(0o755)).expect("our own folder");
        open_to_all(&folder);
        scene.legion.start_all();
        settle(&scene, 3);
        open_to_all(&folder);
        // The first image has changed its user, so that its files in /proc are root's.
        scene.legion.set_app(1, "sleep 7");
        let watch = Watch::on(&scene, 1);
        scene.legion.ask_for_reload(1, Way::Hup);
        scene.wait_until(LIMIT, "the bridge goes first where memory is short", || {
            scene.legion.node(1).workers().into_iter().any(|id| {
                let read = |file| fs::read_to_string(format!("/proc/{id}/{file}")).unwrap_or_default();
                read("comm") == "hetzner-bridge\n" && read("oom_score_adj") == "1000\n"
            })
        });
        watch.is_lord_again();
        reload(&scene, Way::Term, "");
        comes_to_an_end(&scene);
    });
}

/// Copies a file to where it is found after `chroot`.
fn copy_into(root: &Path, file: &Path) {
    let copy = root.join(file.strip_prefix("/").expect("absolute"));
    fs::create_dir_all(copy.parent().expect("a file")).expect("our own folder");
    fs::copy(file, &copy).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
}

/// The libraries that a program or a library needs.
fn libraries(of: &Path) -> Vec<PathBuf> {
    let output = Command::new("ldd").arg(of).output().expect("libc-bin");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let words = text.split_whitespace().filter(|word| word.starts_with('/'));
    words.map(PathBuf::from).collect()
}

/// All that the new image needs is there too, or uWSGI itself would not start.
fn in_a_chroot(uwsgi: Uwsgi) {
    if !is_root() {
        return println!("skipped: only root can change the root");
    }
    let mut scene = Scene::new(uwsgi, 3, Config::default(), "", &quorum(3));
    scene.legion = scene.legion.with_links();
    let folder = scene.legion.folder(1);
    let root = folder.join("root");
    let program = scene.legion.copy_program(1);
    let plugin = uwsgi.plugins().join("hetzner_plugin.so");
    for file in [&program, &plugin] {
        copy_into(&root, file);
        libraries(file).iter().for_each(|library| copy_into(&root, library));
    }
    *scene.legion.ini_mut(1) += &format!("chroot = {}\n", root.display());
    scene.legion.start_all();
    copy_into(&root, &scene.legion.node(1).ini());
    // The stats server and the log are inside, and outside is a way to them.
    let inside = root.join(folder.strip_prefix("/").expect("absolute")).join("stats.sock");
    std::os::unix::fs::symlink(inside, folder.join("stats.sock")).expect("our own folder");
    settle(&scene, 3);
    let watch = Watch::on(&scene, 1);
    scene.legion.node(1).signal(SIGHUP);
    wait_for_image(&scene.legion, 1, watch.images, LIMIT);
    scene.wait_until(LIMIT, "it is Lord again", || scene.is_at(1));
    watch.nobody_has_noticed();
    comes_to_an_end(&scene);
}

/// The process that was started ends at once, and its master's id stands in a file.
fn as_a_daemon(uwsgi: Uwsgi) {
    let robot = scene::robot(Config::default());
    let folder = tempfile::tempdir().expect("a temporary folder");
    let in_folder = |name: &str| folder.path().join(name).display().to_string();
    let addresses = [free_address(), free_address()];
    let ini = |node: usize, more: &str| {
        let (own, other) = (addresses[node - 1], addresses[2 - node]);
        format!(
            "plugin = hetzner\n{ROUNDS}legion = {LEGION} {own} {} aes-128-cbc:secret1\nlegion-node = {LEGION} {other}\n\
             legion-lord = {LEGION} hetzner-failoverip:{}\n{more}",
            10 - node,
            hook(node, &robot.url(failover_ip()), ""),
        )
    };
    let start = |node: usize, more: &str| {
        let own = folder.path().join(node.to_string());
        fs::create_dir(&own).expect("a writable folder");
        lab::node::Node::start(uwsgi, &own, &ini(node, more), &[])
    };
    let (pid_file, log) = (in_folder("1/pid"), in_folder("1/log"));
    let app = format!("exec-pre-app = test ! -e {0} || sleep 7", in_folder("slow"));
    let lines = format!(
        "daemonize = {log}\npidfile = {pid_file}\nsafe-pidfile = {pid_file}2\nvacuum = true\n{app}\n"
    );
    let first = start(1, &lines);
    let master = || fs::read_to_string(&pid_file).ok().and_then(|id| id.trim().parse::<u32>().ok());
    assert!(wait_until(LIMIT, || master().is_some() && first.serves()), "{}", first.log());
    let master = master().expect("it is there");
    let _daemon = Daemon::of(master);
    let second = start(2, "");
    let uuid = || Some(first.legion(LEGION)?["uuid"].as_str()?.to_string());
    let is_at_first = || first.is_lord(LEGION) && !second.is_lord(LEGION);
    let knows = || {
        second
            .legion(LEGION)
            .is_some_and(|legion| legion["members"][0]["uuid"] == uuid().as_deref().unwrap_or(""))
    };
    let settled = || is_at_first() && knows() && robot.route(failover_ip()) == route_of(1);
    assert!(wait_until(LIMIT, settled), "{}\n{}", first.log(), second.log());
    let (before, journal, images) = (uuid().expect("it serves"), robot.journal().len(), first.images());
    fs::write(in_folder("slow"), "").expect("our own folder");
    process::signal(master, SIGHUP);
    let again = || first.images() > images && first.serves() && settled();
    assert!(wait_until(LIMIT, again), "{}\n{}", first.log(), second.log());
    assert!(!wait_until(super::LAST_WORD, || !settled()), "{}\n{}", first.log(), second.log());
    assert_eq!(uuid(), Some(before.clone()));
    let log = second.log();
    assert!(
        !log.contains(&format!("uuid: {before} announced")) && !log.contains(&format!("uuid: {before} left")),
        "{log}"
    );
    let asked: Vec<String> =
        robot.journal().split_off(journal).into_iter().map(|request| request.method).collect();
    assert!(!asked.contains(&"POST".to_string()), "{asked:?}: {log}");
    assert_eq!(fs::read_to_string(&pid_file).ok().map(|id| id.trim().to_string()), Some(master.to_string()));
}

/// Ends a master that nobody waits for, with all that is in its group.
struct Daemon {
    group: u32,
    _keeper: Keeper,
}

impl Daemon {
    fn of(master: u32) -> Daemon {
        let group = process::group(master).expect("it runs");
        Daemon { group, _keeper: Keeper::of(group).expect("there is a shell") }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        process::signal_group(self.group, SIGKILL);
    }
}
