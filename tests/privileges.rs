//! What uWSGI's `uid`, `gid`, `add-gid`, `chroot` and `chdir` leave of what a hook needs: read at start as root, it is
//! used when it counts, and a reload, which reads everything anew as the user, never ends the site.
//!
//! Only root can drop privileges: run by anybody else these tests say so, and pass.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};

use lab::legion::LEGION;
use lab::node::{Node, free_address};
use lab::process::{SIGHUP, is_root};
use lab::robot::{Certificate, Config, Failover, Login, Robot};
use lab::uwsgi::Uwsgi;
use lab::{LIMIT, PASSWORD, USERNAME, wait_until};
use tempfile::TempDir;

/// No user of this machine's, and no group of its.
const UID: u32 = 54_321;
const GID: u32 = 54_322;

/// Whether this test can run; says so where it cannot.
fn can_drop() -> bool {
    if !is_root() {
        println!("skipped: only root can drop privileges");
    }
    is_root()
}

/// A folder that the user may enter and write into, with its stand-in of the API.
struct Place {
    folder: TempDir,
    robot: Robot,
}

impl Place {
    fn new(config: Config) -> Place {
        let folder = tempfile::tempdir().expect("a temporary folder");
        fs::set_permissions(folder.path(), Permissions::from_mode(0o777)).expect("our own folder");
        let ip = "127.0.0.9".parse().expect("an address");
        let config = Config {
            failover: vec![Failover::new(ip, None)],
            login: Some(Login::new(USERNAME, PASSWORD)),
            ..config
        };
        Place { folder, robot: Robot::start(config).expect("a free port") }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, content: &str, mode: u32, (uid, gid): (u32, u32)) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, content).expect("a writable folder");
        fs::set_permissions(&path, Permissions::from_mode(mode)).expect("our own file");
        chown(&path, Some(uid), Some(gid)).expect("root may");
        path
    }

    /// A node with this hook, and these lines.
    fn start(&self, uwsgi: Uwsgi, password_file: &str, lines: &str, env: &[(&str, &str)]) -> Node {
        let url = self.robot.url("127.0.0.9".parse().expect("an address"));
        let ini = format!(
            "plugin = hetzner\nlegion = {LEGION} {} 1 aes-128-cbc:secret1\nlegion-freq = 1\nlegion-tolerance = 3\n\
             legion-death-on-lord-error = 2\nalarm = pager cmd:cat >> {}\nlegion-lord = {LEGION} hetzner-failoverip:\
             username={USERNAME},password_file={password_file},ip=127.0.0.9,active_ip=127.0.0.1,alarm=pager,url={url}\n\
             {lines}",
            free_address(),
            self.path("alarms").display(),
        );
        Node::start(uwsgi, self.folder.path(), &ini, env)
    }

    fn is_here(&self) -> bool {
        let [ip, here] = ["127.0.0.9", "127.0.0.1"].map(|text| text.parse().expect("an address"));
        self.robot.route(ip) == Some(here)
    }

    /// Has the master read everything anew, as who it is now.
    fn reload(&self, node: &Node) {
        // The user's own, or uWSGI itself would not start.
        for name in ["node.ini", "log"] {
            fs::set_permissions(self.path(name), Permissions::from_mode(0o666)).expect("our own file");
        }
        let before = starts(node);
        node.signal(SIGHUP);
        let again = wait_until(LIMIT, || starts(node) > before && node.stats().is_some());
        assert!(again, "it does not serve any more:\n{}", node.log());
    }
}

fn starts(node: &Node) -> usize {
    node.log().matches("spawned uWSGI worker 1 ").count()
}

fn drop_to_user() -> String {
    format!("uid = {UID}\ngid = {GID}\n")
}

fn holds(lines: &[String], text: &str) -> bool {
    lines.iter().any(|line| line.contains(text))
}

#[test]
fn a_file_for_root_alone_serves_a_user_and_a_reload_goes_on() {
    if !can_drop() {
        return;
    }
    for uwsgi in Uwsgi::ALL {
        let place = Place::new(Config::default());
        let file = place.write("password", PASSWORD, 0o600, (0, 0));
        let node = place.start(uwsgi, &file.display().to_string(), &drop_to_user(), &[]);
        node.wait_for_log("i am now the Lord", LIMIT);
        assert!(place.is_here(), "{uwsgi}: {}", node.log());
        let kept = format!("as uid {UID}: using the password that was read before");
        node.wait_for_log(&kept, LIMIT);
        let lines = node.lines();
        let told = format!("cannot be read as uid {UID} (Permission denied");
        let warned =
            |line: &String| line.starts_with("warning: Legion failover, legion-lord: password_file=");
        assert!(lines.iter().any(|line| warned(line) && line.contains(&told)), "{uwsgi}: {lines:?}");
        assert!(
            holds(&lines, "after a reload it cannot be read at all; let uid 54321 read it: chgrp"),
            "{lines:?}"
        );
        assert_eq!(lines.iter().filter(|line| line.contains(&kept)).count(), 1, "{lines:?}");

        // The new image is the user from its beginning: what it cannot read it cannot have kept.
        place.reload(&node);
        let said =
            "Permission denied (os error 13): expected a file that contains the password (this is a reload";
        assert!(holds(&node.lines(), said), "{uwsgi}: {:?}", node.lines());
        node.wait_for_log("until that changes, this node only votes and cannot become Lord", LIMIT);
        let alarmed = || {
            let alarms = fs::read_to_string(place.path("alarms")).unwrap_or_default();
            alarms.contains("Legion failover, legion-lord: password_file=")
        };
        assert!(wait_until(LIMIT, alarmed), "{uwsgi}: no alarm: {}", node.log());
        // It is waited for, and nobody asks for what cannot be.
        assert!(!holds(&node.lines(), "not yet: password_file="), "{uwsgi}: {:?}", node.lines());
        chown(&file, Some(UID), None).expect("root may");
        let lords = || node.log().matches("i am now the Lord").count();
        assert!(wait_until(LIMIT, || lords() == 2), "{uwsgi}: {}", node.log());
    }
}

#[test]
fn who_may_read_it_later_is_judged_as_the_kernel_will() {
    if !can_drop() {
        return;
    }
    let more = GID + 1;
    for (mode, owner, lines, readable) in [
        (0o400, (UID, 0), drop_to_user(), true),
        (0o040, (0, GID), drop_to_user(), true),
        (0o040, (0, more), drop_to_user(), false),
        (0o040, (0, more), format!("{}add-gid = {more}\n", drop_to_user()), true),
        // Without gid uWSGI leaves the groups as they are.
        (0o040, (0, 0), format!("uid = {UID}\n"), true),
        (0o600, (0, 0), format!("gid = {GID}\n"), true),
        (0o600, (0, 0), format!("{}master-as-root = true\n", drop_to_user()), true),
        (0o600, (0, 0), drop_to_user(), false),
        (0o600, (0, 0), "uid = nobody\ngid = nogroup\n".into(), false),
    ] {
        let place = Place::new(Config::default());
        let file = place.write("password", PASSWORD, mode, owner);
        let node = place.start(Uwsgi::Pypi, &file.display().to_string(), &lines, &[]);
        node.wait_for_log("i am now the Lord", LIMIT);
        // The ini is another matter.
        let about_it =
            |line: &String| line.contains("password_file=") && line.contains("cannot be read as uid");
        let warned = node.lines().iter().any(about_it);
        assert_eq!(!warned, readable, "{mode:o} {owner:?} {lines}: {:?}", node.lines());
    }
}

#[test]
fn a_relative_path_is_found_from_where_uwsgi_was_started() {
    for uwsgi in Uwsgi::ALL {
        let place = Place::new(Config::default());
        fs::write(place.path("password"), PASSWORD).expect("a writable folder");
        fs::set_permissions(place.path("password"), Permissions::from_mode(0o600)).expect("our own file");
        let elsewhere = place.path("app");
        fs::create_dir(&elsewhere).expect("a writable folder");
        fs::write(elsewhere.join("password"), "another one").expect("a writable folder");
        let lines = format!("chdir = {}\n", elsewhere.display());
        let node = place.start(uwsgi, "password", &lines, &[]);
        node.wait_for_log("i am now the Lord", LIMIT);
        // What is read later is that file too.
        place.robot.fault("post error FAILOVER_FAILED".parse().expect("a rule"));
        assert!(place.robot.journal().iter().all(|request| request.authorised), "{uwsgi}");
        assert!(
            !holds(&node.lines(), "using the password that was read before"),
            "{uwsgi}: {:?}",
            node.lines()
        );
    }
}

/// The trust store and the password are outside, and were read before the root changed.
#[test]
fn in_a_chroot_what_was_read_outside_is_used() {
    if !can_drop() {
        return;
    }
    for uwsgi in Uwsgi::ALL {
        let place = Place::new(Config { tls: Some(Certificate::Right), ..Config::default() });
        let file = place.write("password", PASSWORD, 0o600, (0, 0));
        let root = place.path("root");
        let own = root.join(place.folder.path().strip_prefix("/").expect("absolute"));
        fs::create_dir_all(&own).expect("a writable folder");
        fs::set_permissions(&own, Permissions::from_mode(0o777)).expect("our own folder");
        let ca_file = place.robot.ca_file().expect("with TLS").to_str().expect("UTF-8");
        let lines = format!("{}chroot = {}\n", drop_to_user(), root.display());
        let node = place.start(uwsgi, &file.display().to_string(), &lines, &[("SSL_CERT_FILE", ca_file)]);
        node.wait_for_log("i am now the Lord", LIMIT);
        assert!(place.is_here(), "{uwsgi}: {}", node.log());
        let lines = node.lines();
        let told = format!("cannot be read as uid {UID} in chroot {} (No such file", root.display());
        assert!(holds(&lines, &told), "{uwsgi}: {lines:?}");
        assert!(!holds(&lines, "cannot be resolved"), "an address needs no resolver: {lines:?}");
    }
}

#[test]
fn a_name_that_cannot_be_resolved_in_the_chroot_is_told() {
    if !can_drop() {
        return;
    }
    let warned = |resolver: bool| {
        let place = Place::new(Config::default());
        let file = place.write("password", PASSWORD, 0o600, (0, 0));
        let root = place.path("root");
        fs::create_dir_all(root.join("etc")).expect("a writable folder");
        if resolver {
            fs::write(root.join("etc/resolv.conf"), "").expect("a writable folder");
        }
        let own = root.join(place.folder.path().strip_prefix("/").expect("absolute"));
        fs::create_dir_all(&own).expect("a writable folder");
        fs::set_permissions(&own, Permissions::from_mode(0o777)).expect("our own folder");
        let lines = format!("chroot = {}\n", root.display());
        let folder = place.folder.path();
        let ini = format!(
            "plugin = hetzner\nlegion = {LEGION} {} 1 aes-128-cbc:secret1\nlegion-lord = {LEGION} hetzner-failoverip:\
             username={USERNAME},password_file={},ip=127.0.0.9,active_ip=127.0.0.1,url=https://robot.invalid/x\n{lines}",
            free_address(),
            file.display(),
        );
        let node = Node::start(Uwsgi::Debian, Path::new(folder), &ini, &[]);
        node.wait_for_log("spawned uWSGI worker 1", LIMIT);
        holds(&node.lines(), "robot.invalid cannot be resolved in chroot")
    };
    assert!(warned(false) && !warned(true));
}

/// uWSGI is upgraded below a running site, and reloaded with a plugin that was built for the one before.
#[test]
fn a_reload_with_a_plugin_for_another_uwsgi_goes_on() {
    for (uwsgi, other) in [(Uwsgi::Pypi, Uwsgi::Debian), (Uwsgi::Debian, Uwsgi::Pypi)] {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let plugin = folder.path().join("hetzner_plugin.so");
        let put = |from: Uwsgi| {
            let _ = fs::remove_file(&plugin);
            fs::copy(from.plugins().join("hetzner_plugin.so"), &plugin).expect("a writable folder");
        };
        put(uwsgi);
        let hook = format!(
            "hetzner-failoverip:username={USERNAME},password={PASSWORD},ip=127.0.0.9,active_ip=127.0.0.1,\
             url=http://127.0.0.1:9/x,timeout=1,deadline=1"
        );
        let ini = format!(
            "plugin = {}\nlegion = {LEGION} {} 1 aes-128-cbc:secret1\nlegion-lord = {LEGION} {hook}\n",
            plugin.display(),
            free_address()
        );
        let node = Node::start(uwsgi, folder.path(), &ini, &[]);
        // A reload that is asked for before the master's loop runs waits for its worker in vain.
        assert!(wait_until(LIMIT, || node.stats().is_some()), "{uwsgi}: {}", node.log());
        put(other);
        node.signal(SIGHUP);
        let again = wait_until(LIMIT, || starts(&node) > 1 && node.stats().is_some());
        assert!(again, "{uwsgi}: it does not serve any more:\n{}", node.log());
        let failed = || {
            let told =
                node.lines().iter().filter(|line| line.starts_with("this plugin was built for")).count();
            told == 2 && node.log().contains("ERROR, lord hook returned: -1")
        };
        assert!(wait_until(LIMIT, failed), "{uwsgi}: {}", node.log());
    }
}
