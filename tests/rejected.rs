//! Rejected logins are known to the next process: three of them lock this server's address out, and a monitor that asks each
//! minute is a new process each time.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};

use lab::legion::LEGION;
use lab::node::{Node, free_address};
use lab::robot::{Config, Robot};
use lab::uwsgi::Uwsgi;
use lab::{LIMIT, PASSWORD, USERNAME, ip};

use crate::commands::{hook, robot, run_in, stdout};

fn wrong(robot: &Robot) -> String {
    hook(robot).replace(PASSWORD, "another")
}

/// The note, where there is one.
fn note(folder: &Path) -> Option<PathBuf> {
    let found = fs::read_dir(folder).expect("a folder").flatten().map(|entry| entry.path());
    found.into_iter().find(|path| path.to_string_lossy().contains("uwsgi-hetzner-"))
}

#[test]
fn a_monitor_with_a_wrong_password_locks_nobody_out() {
    for uwsgi in Uwsgi::ALL {
        let robot = robot(Config::default());
        let folder = tempfile::tempdir().expect("a temporary folder");
        let status = |hook: String| run_in(uwsgi, folder.path(), &[hook], "", &["--hetzner-status"]);
        for run in 1..=5 {
            let output = status(wrong(&robot));
            assert_eq!(output.status.code(), Some(1), "{output:?}");
            let held = stdout(&output).contains("unknown: held back until");
            assert_eq!(held, run > 2, "{run}: {output:?}");
        }
        assert_eq!(robot.journal().len(), 2, "{:?}", robot.journal());
        let path = note(folder.path()).expect("a note");
        let text = fs::read_to_string(&path).expect("ours");
        assert_eq!(fs::metadata(&path).expect("ours").mode() & 0o777, 0o600);
        assert!(![USERNAME, "another", "127.0.0.1"].iter().any(|secret| text.contains(secret)), "{text}");

        // Nor is it forgotten by the server that starts now, whatever is elected.
        let alone = tempfile::tempdir().expect("a temporary folder");
        let ini = format!(
            "plugin = hetzner\nlegion-freq = 1\nlegion = {LEGION} {} 1 aes-128-cbc:secret1\nlegion-lord = {LEGION} {}\n",
            free_address(),
            wrong(&robot)
        );
        let env = [("TMPDIR", folder.path().to_str().expect("UTF-8"))];
        let node = Node::start(uwsgi, alone.path(), &ini, &env);
        node.wait_for_log("FAILED to route 127.0.0.9 to 127.0.0.1: held back until", LIMIT);
        drop(node);
        assert_eq!(robot.journal().len(), 2, "{:?}", robot.journal());

        // The right one is not held to it; and is forgiven the wrong one.
        let output = status(hook(&robot));
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        let output = status(wrong(&robot));
        assert!(stdout(&output).contains("HTTP 401"), "{output:?}");
        let before = fs::read_to_string(&path).expect("ours");
        assert_eq!(status(hook(&robot)).status.code(), Some(2));
        assert_eq!(status(hook(&robot)).status.code(), Some(2));
        let after = fs::read_to_string(&path).expect("ours");
        assert_eq!(after.lines().count(), before.lines().count() + 1, "one line is enough:\n{after}");
    }
}

/// What the server finds out, a command knows.
#[test]
fn a_command_knows_what_the_server_was_told() {
    let robot = robot(Config::default());
    let (folder, alone) =
        (tempfile::tempdir().expect("a temporary folder"), tempfile::tempdir().expect("as above"));
    let ini = format!(
        "plugin = hetzner\nlegion-freq = 1\nlegion = {LEGION} {} 1 aes-128-cbc:secret1\nlegion-lord = {LEGION} {}\n",
        free_address(),
        wrong(&robot)
    );
    let env = [("TMPDIR", folder.path().to_str().expect("UTF-8"))];
    let node = Node::start(Uwsgi::Pypi, alone.path(), &ini, &env);
    node.wait_for_log("HTTP 401", LIMIT);
    let known = robot.journal().len();
    for _ in known..4 {
        run_in(Uwsgi::Debian, folder.path(), &[wrong(&robot)], "", &["--hetzner-status"]);
    }
    assert_eq!(
        robot.journal().iter().filter(|request| !request.authorised).count(),
        2,
        "{:?}",
        robot.journal()
    );
}

/// Others may write into such a folder, too.
#[test]
fn a_note_that_is_not_ours_is_none() {
    let robot = robot(Config::default());
    let folder = tempfile::tempdir().expect("a temporary folder");
    let status = || run_in(Uwsgi::Debian, folder.path(), &[wrong(&robot)], "", &["--hetzner-status"]);
    status();
    let path = note(folder.path()).expect("a note");
    let (victim, held) = (folder.path().join("victim"), folder.path().join("held"));
    fs::rename(&path, &held).expect("ours");
    fs::write(&victim, "as it was").expect("a writable folder");
    symlink(&victim, &path).expect("a writable folder");
    assert!(stdout(&status()).contains("HTTP 401"));
    assert_eq!(fs::read_to_string(&victim).expect("ours"), "as it was");
    // A pipe without a writer, a file that others may read, one with another name.
    for plant in ["fifo", "readable", "linked"] {
        fs::remove_file(&path).expect("ours");
        match plant {
            "fifo" => {
                assert!(
                    std::process::Command::new("mkfifo").arg(&path).status().expect("coreutils").success()
                );
            }
            "readable" => fs::write(&path, "as it was").expect("ours"),
            _ => fs::hard_link(&held, &path).expect("ours"),
        }
        let before = fs::read_to_string(&held).expect("ours");
        robot.set_route(ip("127.0.0.9"), None);
        let output = run_in(Uwsgi::Debian, folder.path(), &[hook(&robot)], "", &["--hetzner-status"]);
        assert_eq!(output.status.code(), Some(2), "{plant}: {output:?}");
        assert_eq!(fs::read_to_string(&held).expect("ours"), before, "{plant}");
    }
}

/// Three IPs with one login are three requests, and a wrong one would be rejected three times.
#[test]
fn several_ips_are_one_login() {
    for command in ["status", "check", "takeover", "release"] {
        let robot = robot(Config::default());
        let folder = tempfile::tempdir().expect("a temporary folder");
        let hook = wrong(&robot)
            .replace("ip=127.0.0.9", "ip=127.0.0.7;127.0.0.8;127.0.0.9")
            .replace(&robot.url(ip("127.0.0.9")), &format!("http://{}/failover/{{ip}}", robot.addr()));
        let output = run_in(Uwsgi::Pypi, folder.path(), &[hook], "", &[&format!("--hetzner-{command}")]);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let errors =
            stdout(&output).lines().filter(|line| line.starts_with("ERROR") && line.contains("401")).count();
        assert_eq!((errors, robot.journal().len()), (3, 1), "{command}: {output:?}");
    }
}
