//! A node that is drained for maintenance, and one that is stopped in silence.

use std::fs;
use std::path::PathBuf;

use lab::checked::Service;
use lab::legion::{LEGION, failover_ip, route_of};
use lab::process::SIGINT;
use lab::ranked::{
    LOSSY, NOPREEMPT, PATIENT, checked, drain, drain_file, scene, seconds_until_post, start, undrain,
};
use lab::scene::{LIMIT, Scene, on_each_uwsgi, seconds, side_by_side};
use lab::uwsgi::Uwsgi;

on_each_uwsgi! {
    a_drained_lord_hands_over_and_takes_over_when_it_is_not_drained
    a_drained_node_that_is_stopped_moves_nothing
    nothing_moves_when_all_are_drained
    a_drained_backup_is_the_last_to_take_over
    a_restart_within_the_tolerance_is_no_failover
    a_lord_that_was_kept_is_restarted_in_silence
    who_stops_for_good_in_silence_is_missed_after_the_tolerance
    who_is_not_silent_says_farewell
}

/// Three nodes with drain files, node 1 Lord.
fn settled(uwsgi: Uwsgi, options: &str) -> (Scene, [PathBuf; 3], Vec<Service>) {
    let (mut scene, services) = checked(uwsgi, 3, options);
    let files = [1, 2, 3].map(|node| drain_file(&mut scene, node));
    start(&mut scene, 3);
    (scene, files, services)
}

fn a_drained_lord_hands_over_and_takes_over_when_it_is_not_drained(uwsgi: Uwsgi) {
    side_by_side(&["", NOPREEMPT, PATIENT], |options| {
        let (scene, files, services) = settled(uwsgi, options);
        if options == PATIENT {
            scene.legion.links().set_all(LOSSY);
        }
        let took = seconds_until_post(&scene, &[&services[1], &services[2]], 2, || drain(&files[0]));
        println!("{uwsgi}: {took} s from the drain file to the POST");
        assert!(took <= 6 || options == PATIENT, "{took} s: {}", scene.state());
        scene.settles_at(2, &[1, 2, 3]);
        let is_lost = scene.legion.any_log_holds("left Legion");
        assert!(!is_lost || options == PATIENT, "{}", scene.state());
        undrain(&files[0]);
        if options == NOPREEMPT {
            scene.wait_until(LIMIT, "node 1 is healthy", || scene.legion.ranks(2).contains(&(1, 1)));
            scene.stays_at(2, seconds(6));
            drain(&files[1]);
        }
        scene.settles_at(1, &[1, 2, 3]);
        assert_eq!((scene.switches(), scene.posts()), (3, 3), "{}", scene.state());
    });
}

/// The IP has left before the node ends, or is leaving.
fn a_drained_node_that_is_stopped_moves_nothing(uwsgi: Uwsgi) {
    side_by_side(&[true, false], |waits| {
        let (mut scene, files, _services) = settled(uwsgi, "");
        scene.robot.set_switch(seconds(3));
        drain(&files[0]);
        if waits {
            scene.settles_at(2, &[1, 2, 3]);
        } else {
            scene.wait_for_post(2, 0);
        }
        scene.legion.node(1).signal(SIGINT);
        assert!(scene.legion.wait_for_exit(1, LIMIT), "{}", scene.state());
        scene.settles_at(2, &[2, 3]);
        // Back from its maintenance, it is drained still.
        scene.legion.start(1);
        scene.settles_at(2, &[1, 2, 3]);
        scene.stays_at(2, seconds(4));
        assert_eq!((scene.switches(), scene.posts()), (2, 2), "{}", scene.state());
        undrain(&files[0]);
        scene.settles_at(1, &[1, 2, 3]);
        assert_eq!((scene.switches(), scene.posts()), (3, 3), "{}", scene.state());
    });
}

fn nothing_moves_when_all_are_drained(uwsgi: Uwsgi) {
    side_by_side(&[[1, 2, 3], [3, 2, 1]], |order| {
        let (scene, files, _services) = settled(uwsgi, "");
        let lords = if order[0] == 1 { [2, 3, 3] } else { [1, 1, 1] };
        for (node, lord) in order.into_iter().zip(lords) {
            drain(&files[node - 1]);
            scene.settles_at(lord, &[1, 2, 3]);
            let is_known = || scene.legion.ranks(lord).contains(&(node, 0));
            scene.wait_until(LIMIT, "the Lord knows of it", || node == lord || is_known());
        }
        let posts = scene.posts();
        scene.stays_at(lords[2], seconds(15));
        assert_eq!(scene.posts(), posts, "{}", scene.state());
        undrain(&files[1]);
        scene.settles_at(2, &[1, 2, 3]);
        assert_eq!(scene.posts(), posts + 1, "{}", scene.state());
    });
}

fn a_drained_backup_is_the_last_to_take_over(uwsgi: Uwsgi) {
    let (mut scene, files, _services) = settled(uwsgi, "");
    drain(&files[1]);
    scene.wait_until(LIMIT, "node 2 is drained", || scene.legion.ranks(1).contains(&(2, 0)));
    scene.legion.kill(1);
    scene.settles_at(3, &[2, 3]);
    assert!(scene.posts_of(2).is_empty(), "{}", scene.state());
    scene.legion.kill(3);
    scene.settles_at(2, &[2]);
}

// Stopped in silence.

const SILENT: &str = "legion-silent-stop = failover\n";

/// Ends node N in an orderly way.
fn stop(scene: &mut Scene, node: usize, by_fifo: bool) {
    if by_fifo {
        let fifo = scene.legion.folder(node).join("fifo");
        fs::write(fifo, "q").expect("the master reads it");
    } else {
        scene.legion.node(node).signal(SIGINT);
    }
    assert!(scene.legion.wait_for_exit(node, LIMIT), "{}", scene.state());
}

/// Twenty seconds, for a machine that is busy.
fn a_restart_within_the_tolerance_is_no_failover(uwsgi: Uwsgi) {
    side_by_side(&[false, true], |by_fifo| {
        let mut scene = scene(uwsgi, 3, &format!("{SILENT}legion-tolerance = 20\n"));
        (1..=3).for_each(|node| *scene.legion.ini_mut(node) += "master-fifo = fifo\n");
        start(&mut scene, 3);
        stop(&mut scene, 1, by_fifo);
        assert_eq!(scene.robot.route(failover_ip()), route_of(1), "{}", scene.state());
        scene.legion.start(1);
        // Who it was before is lost after the tolerance.
        scene.legion.node(2).wait_for_log("left Legion", LIMIT);
        scene.settles_at(1, &[1, 2, 3]);
        scene.stays_at(1, seconds(4));
        assert_eq!(scene.switches(), 1, "{}", scene.state());
        let others = [2, 3].map(|node| scene.posts_of(node).len());
        assert_eq!(others, [0, 0], "{}", scene.state());
        assert!(!scene.legion.any_log_holds("announced its death"), "{}", scene.state());
    });
}

/// Its valor is lower than another's, but the others still vote for what it was.
fn a_lord_that_was_kept_is_restarted_in_silence(uwsgi: Uwsgi) {
    let options = format!("{SILENT}{NOPREEMPT}legion-tolerance = 20\n");
    let mut scene = scene(uwsgi, 3, &options);
    scene.legion.start(2);
    scene.legion.start(3);
    scene.settles_at(2, &[2, 3]);
    scene.legion.start(1);
    scene.settles_at(2, &[1, 2, 3]);
    stop(&mut scene, 2, false);
    scene.legion.start(2);
    scene.legion.node(3).wait_for_log("left Legion", LIMIT);
    scene.settles_at(2, &[1, 2, 3]);
    scene.stays_at(2, seconds(8));
    assert_eq!((scene.switches(), scene.posts_of(1).len()), (1, 0), "{}", scene.state());
}

fn who_stops_for_good_in_silence_is_missed_after_the_tolerance(uwsgi: Uwsgi) {
    let (mut scene, services) = checked(uwsgi, 3, SILENT);
    start(&mut scene, 3);
    let posts = scene.posts_of(2).len();
    stop(&mut scene, 1, false);
    let (stopped, farewells) = (services[2].connections(), scene.said(2, "announced its death"));
    scene.wait_for_post(2, posts);
    let took = services[2].connections() - stopped;
    assert!(took <= 8, "{took} s: {}", scene.state());
    scene.settles_at(2, &[2, 3]);
    assert_eq!(scene.said(2, "left Legion"), 1, "{}", scene.state());
    // Only its own rank is another now.
    assert!(scene.said(2, "announced its death") == farewells, "{}", scene.state());
}

/// As before, and as of another Legion of the same node.
fn who_is_not_silent_says_farewell(uwsgi: Uwsgi) {
    side_by_side(&[false, true], |other_is_silent| {
        let options = if other_is_silent { "legion-silent-stop = second\n" } else { "" };
        let scene = scene(uwsgi, 3, options);
        let mut scene = Scene { legion: scene.legion.with_second("second"), ..scene };
        start(&mut scene, 3);
        stop(&mut scene, 1, false);
        scene.settles_at(2, &[2, 3]);
        let told = |legion: &str| scene.said(2, &format!("announced its death to Legion {legion}"));
        assert_eq!((told(LEGION), told("second")), (1, usize::from(!other_is_silent)), "{}", scene.state());
    });
}
