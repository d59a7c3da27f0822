//! A new image that does not start is a failover, as soon as a node that dies without a word.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Instant;

use lab::process::{self, SIGKILL};
use lab::reload::{Way, death};
use lab::remains::Remains;
use lab::robot::Config;
use lab::scene::{LIMIT, Scene, on_each_uwsgi, seconds, side_by_side};
use lab::uwsgi::Uwsgi;

use super::{TOLERANCE, nodes, quorum, settle};

on_each_uwsgi! {
    an_image_that_does_not_start_is_a_failover
    a_program_that_is_no_uwsgi_is_a_failover
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fault {
    BrokenIni,
    IniGone,
    /// The app fails, at once or after longer than the tolerance.
    App(u64),
    ProgramGone,
    /// uWSGI is told to end instead, so that its supervisor starts it.
    ExitOnReload,
    /// It ends at once.
    OtherProgram,
    /// Of the master alone, so long after its new image has begun.
    Killed(u64),
    /// As when the machine dies: whoever speaks for the node too.
    AllKilled,
    /// While the old image waits for its workers.
    KilledBefore,
}

/// A script that takes the place of uWSGI.
fn replace(program: &Path, script: &str) {
    let file = program.with_extension("sh");
    fs::write(&file, format!("#!/bin/sh\n{script}\n")).expect("our own folder");
    fs::set_permissions(&file, Permissions::from_mode(0o755)).expect("our own file");
    process::copy_program(&file, program).expect("our own folder");
}

/// With node 1 a copy of its uWSGI, so that another can be put there.
fn copied(uwsgi: Uwsgi, options: &str) -> (Scene, PathBuf) {
    let mut scene = nodes(uwsgi, 3, Config::default(), &quorum(3));
    *scene.legion.ini_mut(1) += options;
    let program = scene.legion.copy_program(1);
    scene.legion.start_all();
    settle(&scene, 3);
    (scene, program)
}

fn an_image_that_does_not_start_is_a_failover(uwsgi: Uwsgi) {
    use Fault::*;
    let cases = [
        BrokenIni,
        IniGone,
        App(0),
        App(7),
        ProgramGone,
        ExitOnReload,
        OtherProgram,
        Killed(0),
        Killed(7),
        AllKilled,
        KilledBefore,
    ];
    side_by_side(&cases, |fault| {
        let more = if fault == ExitOnReload { "exit-on-reload = true\n" } else { "" };
        let (mut scene, program) = copied(uwsgi, more);
        let (images, ini) = (scene.legion.node(1).images(), scene.legion.node(1).ini());
        let posts = scene.posts();
        match fault {
            BrokenIni => scene.legion.edit(1, |ini| ini.replace("legion = failover ", "legion = ")),
            IniGone => fs::remove_file(ini).expect("it is there"),
            App(after) => scene.legion.set_app(1, &format!("sleep {after}; exit 1")),
            ProgramGone => fs::remove_file(&program).expect("it is there"),
            OtherProgram => replace(&program, "exit 1"),
            // It ends with its master.
            Killed(_) | AllKilled => scene.legion.set_app(1, "exec sleep 60"),
            KilledBefore => {
                scene.legion.node(1).stop_workers();
            }
            ExitOnReload => {}
        }
        scene.legion.ask_for_reload(1, Way::Hup);
        match fault {
            Killed(after) => {
                scene.wait_until(LIMIT, "it loads", || scene.legion.node(1).images() > images);
                thread::sleep(seconds(after));
                assert_eq!(scene.posts(), posts, "while it loads it is Lord: {}", scene.state());
                scene.legion.node(1).signal(SIGKILL);
            }
            AllKilled => {
                scene.wait_until(LIMIT, "it loads", || scene.legion.node(1).images() > images);
                thread::sleep(seconds(2));
                scene.legion.kill(1);
            }
            KilledBefore => {
                thread::sleep(seconds(2));
                scene.legion.kill(1);
            }
            _ => {}
        }
        let folder = scene.legion.folder(1);
        let died = death(&mut scene.legion, 1, LIMIT);
        let said = |scene: &Scene| scene.legion.links().sent(3, 2);
        let before = said(&scene);
        if fault == App(7) {
            assert_eq!(scene.posts(), posts, "while it loads it is Lord: {}", scene.state());
        }
        scene.wait_until(LIMIT, "node 2 asks for the IP", || !scene.posts_of(2).is_empty());
        let (took, rounds) = (scene.posts_of(2)[0].at.saturating_duration_since(died), said(&scene) - before);
        // A second each, where the machine has the time.
        let most = TOLERANCE + seconds(3);
        let in_time = took <= most || u64::try_from(rounds).expect("small") <= most.as_secs();
        assert!(in_time, "{took:?}, {rounds} rounds: {}", scene.state());
        scene.wait_until(LIMIT, "node 2 has the IP", || scene.is_at(2));
        let left = || Remains::of(u32::MAX, &folder).processes;
        scene.wait_until(LIMIT, "nobody is left", || left().is_empty());
        scene.stays_at(2, super::LAST_WORD);
    });
}

/// It lives, and so nobody can tell that it is no uWSGI with this plugin, but by its silence.
fn a_program_that_is_no_uwsgi_is_a_failover(uwsgi: Uwsgi) {
    let (scene, program) = copied(uwsgi, "");
    let posts = scene.posts();
    replace(&program, "echo no uWSGI; sleep 100");
    scene.legion.ask_for_reload(1, Way::Hup);
    scene.legion.node(1).wait_for_log("no uWSGI\n", LIMIT);
    let began = Instant::now();
    scene.wait_until(LIMIT, "node 2 asks for the IP", || !scene.posts_of(2).is_empty());
    // It is waited for for 10 s; the rest is for a busy machine.
    assert!(began.elapsed() < seconds(10 + 8), "{:?}: {}", began.elapsed(), scene.state());
    scene.wait_until(LIMIT, "node 2 has the IP", || scene.is_at(2));
    assert_eq!(scene.posts(), posts + 1, "{}", scene.state());
    // The shell and what it runs.
    let left = || Remains::of(scene.legion.node(1).id(), &scene.legion.folder(1)).processes;
    scene.wait_until(LIMIT, "nobody is left", || left().values().sum::<usize>() == 2);
}
