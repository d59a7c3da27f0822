//! The promise with a command in place of an API: what `promise` plays, as far as it does not depend on Robot's answers; that
//! a takeover with nothing wrong is one call; and what is wrong with the command itself.

use std::slice::from_ref;

use lab::USERNAME;
use lab::command::{Commanded, Trouble};
use lab::hoster::{self, Hosted};
use lab::legion::{LEGION, failover_ip};
use lab::process::{SIGHUP, SIGINT};
use lab::robot::{Config, Login};
use lab::scene::{AT_ONCE, LIMIT, QUICK, QUORUM, Scene, on_each_uwsgi, on_one_uwsgi, seconds};
use lab::uwsgi::Uwsgi;
use serde_json::Value;

use crate::commands::{document, run, stdout};
use crate::promise;

on_each_uwsgi! {
    a_takeover_with_nothing_wrong_is_one_start
    a_signal_ends_or_reloads_a_node_and_its_command
    a_worker_that_dies_during_a_call_harms_nobody
    a_release_stops_what_is_here
}

// What the takeover does is played on each with Robot.
on_one_uwsgi! { Pypi:
    a_long_call_harms_nobody
    a_lord_that_was_frozen_takes_the_ip_back
    a_lord_that_was_cut_off_takes_the_ip_back
    two_lords_on_two_sides_of_a_cut_do_not_fight
    a_node_that_was_suspended_comes_back_and_is_lord_again
    a_lock_that_ends_is_waited_for
    a_lock_that_does_not_end_makes_no_lord
    a_switch_away_that_is_under_way_is_waited_for
    a_lost_answer_is_recognised
    what_is_no_answer_makes_no_lord
    a_wrong_login_is_not_tried_again_and_again
    an_ip_that_is_moved_by_hand_is_taken_back
    an_ip_that_is_moved_by_hand_is_left_where_no_majority_is_in_sight
    a_lord_without_the_ip_goes_on_trying
    a_command_that_is_killed_has_moved_the_ip
    a_command_that_never_works_makes_no_lord
    a_command_that_fails_moves_nothing_that_is_here
    commands_know_what_a_command_moves
}

const FAILING: &str = "legion-freq = 1\nlegion-tolerance = 4\nlegion-death-on-lord-error = 300\n";

fn scene(uwsgi: Uwsgi, nodes: usize, more: &str, options: &str) -> Scene<Commanded> {
    Scene::by_command(uwsgi, nodes, Config::default(), more, options)
}

fn slow(uwsgi: Uwsgi, nodes: usize, switch: u64, more: &str, options: &str) -> Scene<Commanded> {
    let config = Config { switch: seconds(switch), ..Config::default() };
    Scene::by_command(uwsgi, nodes, config, more, options)
}

fn settled(uwsgi: Uwsgi, nodes: usize, more: &str, options: &str) -> Scene<Commanded> {
    scene(uwsgi, nodes, more, options).settle()
}

/// The calls so far: each is one request.
fn calls(api: &Commanded) -> Vec<String> {
    api.journal().into_iter().map(|request| request.method).collect()
}

/// Wherever the IP is before.
fn a_takeover_with_nothing_wrong_is_one_start(uwsgi: Uwsgi) {
    for before in [None, Some(1), Some(2)] {
        let mut scene = scene(uwsgi, 3, "", QUICK);
        scene.robot.move_to(failover_ip(), before);
        scene.legion.start_all();
        scene.wait_for(1, LIMIT);
        let post = scene.robot.journal().remove(0);
        // The first check comes half a minute later.
        let done = post.done.expect("it was answered") + seconds(20);
        let takeover = scene.robot.journal().iter().filter(|request| request.at < done).count();
        assert_eq!((post.method.as_str(), takeover, scene.posts()), ("POST", 1, 1), "{}", scene.state());
        assert_eq!((post.target.as_deref(), post.user_agent.as_deref()), (Some("1.1.1.1"), Some("move-ip")));
    }
}

// What is played with Robot, too.

fn a_long_call_harms_nobody(uwsgi: Uwsgi) {
    promise::a_long_call(slow(uwsgi, 3, 30, "", QUICK), 3);
}

fn a_lord_that_was_frozen_takes_the_ip_back(uwsgi: Uwsgi) {
    promise::a_freeze(settled(uwsgi, 3, "", QUORUM));
}

fn a_lord_that_was_cut_off_takes_the_ip_back(uwsgi: Uwsgi) {
    let scene = settled(uwsgi, 3, "", QUICK);
    promise::a_cut_of(scene, AT_ONCE, |scene| scene.legion.links().cut_off(1));
}

fn two_lords_on_two_sides_of_a_cut_do_not_fight(uwsgi: Uwsgi) {
    promise::two_lords_of(settled(uwsgi, 3, ",verify=5", QUICK), |scene| scene.legion.links().cut_off(1));
}

fn a_node_that_was_suspended_comes_back_and_is_lord_again(uwsgi: Uwsgi) {
    let scene = scene(uwsgi, 3, "", &format!("{QUICK}legion-death-on-lord-error = 10\n"));
    scene.rule("post target=1.1.1.1 times=1 error NOT_FOUND");
    promise::a_suspension(scene);
}

fn a_lock_that_ends_is_waited_for(uwsgi: Uwsgi) {
    promise::a_lock(scene(uwsgi, 3, "", QUICK));
}

fn a_lock_that_does_not_end_makes_no_lord(uwsgi: Uwsgi) {
    promise::an_endless_lock(scene(uwsgi, 1, ",deadline=25", FAILING), 3);
}

fn a_switch_away_that_is_under_way_is_waited_for(uwsgi: Uwsgi) {
    promise::a_switch_away(slow(uwsgi, 2, 30, "", QUICK));
}

fn a_lost_answer_is_recognised(uwsgi: Uwsgi) {
    for fault in ["lost-answer", "after-switch html 502", "after-switch error FAILOVER_NOT_COMPLETE"] {
        promise::a_lost_answer(slow(uwsgi, 1, 2, "", FAILING), fault);
    }
}

fn what_is_no_answer_makes_no_lord(uwsgi: Uwsgi) {
    for fault in ["any html 200", "post other 2.2.2.2", "any close", "any truncated"] {
        promise::no_answer(scene(uwsgi, 1, ",deadline=4", FAILING), fault);
    }
}

fn a_wrong_login_is_not_tried_again_and_again(uwsgi: Uwsgi) {
    let login = Some(Login::new(USERNAME, "another"));
    let options = format!("{QUICK}legion-death-on-lord-error = 5\n");
    let scene = Scene::by_command(uwsgi, 1, Config { login, ..Config::default() }, "", &options);
    promise::failures_of(scene, 6, "HTTP 401 UNAUTHORIZED");
}

fn an_ip_that_is_moved_by_hand_is_taken_back(uwsgi: Uwsgi) {
    promise::a_move_by_hand(settled(uwsgi, 3, ",verify=5", QUICK), LIMIT);
}

fn an_ip_that_is_moved_by_hand_is_left_where_no_majority_is_in_sight(uwsgi: Uwsgi) {
    promise::no_majority(settled(uwsgi, 3, ",verify=5", QUICK));
}

fn a_lord_without_the_ip_goes_on_trying(uwsgi: Uwsgi) {
    promise::a_lord_without_it(scene(uwsgi, 3, ",deadline=8", QUICK));
}

fn a_signal_ends_or_reloads_a_node_and_its_command(uwsgi: Uwsgi) {
    for signal in [SIGINT, SIGHUP] {
        let mut scene = slow(uwsgi, 1, 600, ",timeout=600", QUICK);
        promise::a_signal_during_a_call(&mut scene, signal);
        scene.wait_until(LIMIT, "the command is gone", || scene.robot.journal()[0].peer_closed);
    }
}

fn a_worker_that_dies_during_a_call_harms_nobody(uwsgi: Uwsgi) {
    promise::workers_that_die(slow(uwsgi, 3, 20, "", QUICK));
}

// What is wrong with the command itself.

/// Its time is over before the API's: that goes on, and the next look finds it.
fn a_command_that_is_killed_has_moved_the_ip(uwsgi: Uwsgi) {
    let mut scene = slow(uwsgi, 1, 6, ",timeout=3", FAILING);
    scene.legion.start_all();
    scene.wait_for(1, LIMIT);
    assert!(scene.robot.journal()[0].peer_closed, "{}", scene.state());
    assert!(!scene.legion.any_log_holds("suspending"), "{}", scene.state());
}

fn a_command_that_never_works_makes_no_lord(uwsgi: Uwsgi) {
    for trouble in [Trouble::Hangs, Trouble::Dies] {
        let mut scene = scene(uwsgi, 1, ",timeout=2,deadline=6", FAILING);
        scene.robot.set_trouble(Some(trouble));
        scene.legion.start_all();
        scene.legion.node(1).wait_for_log("suspending myself", LIMIT);
        assert!(!scene.legion.any_log_holds("i am now the Lord"), "{trouble:?}: {}", scene.state());
    }
}

/// A Lord that has the IP keeps it, whether or not it can look.
fn a_command_that_fails_moves_nothing_that_is_here(uwsgi: Uwsgi) {
    for trouble in [Trouble::Hangs, Trouble::Dies, Trouble::Shouts] {
        let scene = settled(uwsgi, 2, ",verify=5,timeout=2", QUICK);
        scene.robot.set_trouble(Some(trouble));
        if trouble == Trouble::Shouts {
            scene.wait_until(LIMIT, "two looks", || scene.asked("GET") > 1);
        } else {
            scene.wait_until(LIMIT, "a look without an answer", || scene.said(1, "is unknown") > 0);
        }
        scene.stays_at(1, seconds(8));
        scene.robot.set_trouble(None);
        let looks = scene.asked("GET");
        scene.wait_until(LIMIT, "a look with an answer", || scene.asked("GET") > looks);
        assert_eq!((scene.posts(), scene.is_at(1)), (1, true), "{trouble:?}: {}", scene.state());
    }
}

// The operator's commands, and a release.

fn commands_know_what_a_command_moves(uwsgi: Uwsgi) {
    let api = Commanded::new(hoster::robot(Config::default()));
    let hook = format!("{}:{}", Commanded::ACTION, api.hook(1, failover_ip(), ""));
    let asked = |option: &str| run(uwsgi, from_ref(&hook), &[option, "--hetzner-json"], &[]);
    let status = |node: Option<usize>| {
        api.move_to(failover_ip(), node);
        let output = asked("--hetzner-status");
        (output.status.code(), document(&output)["ips"][0].clone())
    };
    let (code, entry) = status(Some(1));
    assert_eq!((code, &entry["state"]), (Some(0), &Value::from("here")), "{entry}");
    assert_eq!((status(Some(2)).0, status(None).0), (Some(2), Some(2)));
    api.rule("any html 502");
    assert_eq!(status(Some(1)).0, Some(1));
    api.clear_faults();

    let output = run(uwsgi, from_ref(&hook), &["--hetzner-check"], &[]);
    assert_eq!(output.status.code(), Some(0), "{}", stdout(&output));
    assert!(stdout(&output).contains("4.4.4.4"), "{}", stdout(&output));
    assert_eq!(calls(&api).iter().filter(|method| *method != "GET").count(), 0, "a question moves nothing");
    api.move_to(failover_ip(), Some(2));
    let output = run(uwsgi, from_ref(&hook), &["--hetzner-takeover"], &[]);
    let moved = (output.status.code(), api.node_at(failover_ip()));
    assert_eq!(moved, (Some(0), Some(1)), "{}", stdout(&output));
}

/// And only what is here.
fn a_release_stops_what_is_here(uwsgi: Uwsgi) {
    for is_here in [true, false] {
        let mut scene = scene(uwsgi, 1, "", QUICK);
        let ini = scene.legion.ini_mut(1);
        let hook = ini.lines().find_map(|line| line.split_once("failover-command:")).expect("a hook").1;
        *ini += &format!("legion-death = {LEGION} failover-command-release:{hook}\n");
        scene.legion.start_all();
        scene.wait_until(LIMIT, "node 1 has the IP", || scene.is_at(1));
        if !is_here {
            scene.robot.move_to(failover_ip(), Some(2));
        }
        let before = calls(&scene.robot).len();
        scene.legion.node(1).signal(SIGINT);
        assert!(scene.legion.wait_for_exit(1, LIMIT), "{}", scene.state());
        let (calls, route) = (calls(&scene.robot).split_off(before), scene.robot.node_at(failover_ip()));
        if is_here {
            assert_eq!((calls, route), (["GET", "DELETE", "GET"].map(String::from).into(), None));
        } else {
            assert_eq!((calls, route), (vec!["GET".into()], Some(2)));
        }
    }
}
