//! The promise with a DNS record, which examples/dns-record changes at a real BIND: after each fault there is one Lord, and
//! the record is its address. How soon is shown elsewhere: four programs in a row take long on a busy machine.

use lab::bind::{Bind, NAME};
use lab::hoster::Hosted as _;
use lab::legion::failover_ip;
use lab::process::SIGINT;
use lab::ranked::PATIENT;
use lab::scene::{LIMIT, QUICK, QUORUM, Scene, on_one_uwsgi, seconds};
use lab::uwsgi::Uwsgi;

use crate::promise;

on_one_uwsgi! { Pypi:
    a_lord_that_dies_or_stops_hands_the_record_over
    a_lord_that_was_frozen_takes_the_record_back
    a_lord_that_was_cut_off_takes_the_record_back_with_a_quorum
    a_record_that_is_changed_by_hand_is_taken_back
    a_server_that_is_away_moves_nothing
    a_takeover_without_a_server_goes_on_until_it_is_back
}

fn settled(uwsgi: Uwsgi, more: &str, options: &str) -> Option<Scene<Bind>> {
    Scene::by_dns(uwsgi, 3, more, options).map(Scene::settle)
}

/// So that no node is lost that is only slow.
fn patient() -> String {
    format!("{QUICK}{PATIENT}")
}

/// One update each: not more, and nothing in between.
fn a_lord_that_dies_or_stops_hands_the_record_over(uwsgi: Uwsgi) {
    let Some(mut scene) = settled(uwsgi, "", &patient()) else { return };
    scene.legion.kill(1);
    scene.settles_at(2, &[2, 3]);
    scene.legion.start(1);
    scene.settles_at(1, &[1, 2, 3]);
    scene.legion.node(1).signal(SIGINT);
    assert!(scene.legion.wait_for_exit(1, LIMIT), "{}", scene.state());
    scene.settles_at(2, &[2, 3]);
    let targets: Vec<_> = scene.robot.journal().into_iter().filter_map(|request| request.target).collect();
    assert_eq!(targets, [1, 2, 1, 2].map(|node| scene.robot.target_of(node)), "{}", scene.state());
}

fn a_lord_that_was_frozen_takes_the_record_back(uwsgi: Uwsgi) {
    let Some(scene) = settled(uwsgi, "", QUICK) else { return };
    promise::a_freeze_of(scene, LIMIT);
}

fn a_lord_that_was_cut_off_takes_the_record_back_with_a_quorum(uwsgi: Uwsgi) {
    let Some(scene) = settled(uwsgi, "", QUORUM) else { return };
    promise::a_cut_of(scene, LIMIT, |scene| {
        scene.legion.links().cut_off(1);
        scene.wait_until(LIMIT, "node 2 has the record", || scene.is_at(2));
    });
}

fn a_record_that_is_changed_by_hand_is_taken_back(uwsgi: Uwsgi) {
    let Some(scene) = settled(uwsgi, ",verify=5", QUICK) else { return };
    for elsewhere in [Some(3), None] {
        scene.robot.move_to(failover_ip(), elsewhere);
        scene.wait_for(1, LIMIT);
    }
    // Somebody else's address beside the Lord's is as wrong.
    scene.robot.update(&[&format!("update add {NAME} 60 A {}", scene.robot.target_of(3))]);
    scene.wait_for(1, LIMIT);
    let line = format!("{NAME} is not here, and this node is Lord: taking it back");
    assert!(scene.said(1, &line) >= 3, "{}", scene.state());
}

/// Whether nothing listens there, or it listens and does not answer.
fn a_server_that_is_away_moves_nothing(uwsgi: Uwsgi) {
    let Some(mut scene) = settled(uwsgi, ",verify=5", &patient()) else { return };
    let unanswered = |scene: &Scene<Bind>| {
        let before = scene.said(1, "is unknown");
        scene.wait_until(LIMIT, "a look without an answer", || scene.said(1, "is unknown") > before);
        assert_eq!(scene.legion.lords(), [1], "{}", scene.state());
    };
    let answered = |scene: &Scene<Bind>| {
        let looks = scene.asked("GET");
        scene.wait_until(LIMIT, "a look with an answer", || scene.asked("GET") > looks);
        scene.stays_at(1, seconds(8));
        assert_eq!(scene.posts(), 1, "{}", scene.state());
    };
    scene.robot.go_away();
    unanswered(&scene);
    scene.robot.come_back();
    answered(&scene);
    scene.robot.freeze();
    unanswered(&scene);
    scene.robot.thaw();
    answered(&scene);
}

fn a_takeover_without_a_server_goes_on_until_it_is_back(uwsgi: Uwsgi) {
    let Some(mut scene) = settled(uwsgi, "", QUICK) else { return };
    scene.robot.go_away();
    scene.legion.kill(1);
    scene.legion.node(2).wait_for_log("no answer from", LIMIT);
    scene.robot.come_back();
    scene.settles_at(2, &[2, 3]);
    scene.wait_for(2, LIMIT);
}
