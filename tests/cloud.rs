//! The promise with floating IPs: what `promise` plays, as far as it does not depend on Robot, and what only actions that go
//! on after the answer can do. Whatever is played, nothing is ever unassigned, and no token shows: the stand-in and the
//! nodes look after that when they end.

use std::thread;
use std::time::Duration;

use lab::cloud::{Cloud, Config, Token};
use lab::hoster::Hosted as _;
use lab::legion::failover_ip;
use lab::process::{SIGHUP, SIGINT};
use lab::scene::{AT_ONCE, LIMIT, QUICK, QUORUM, Scene, on_each_uwsgi, seconds};
use lab::uwsgi::Uwsgi;

use crate::promise;

on_each_uwsgi! {
    a_long_action_harms_nobody
    a_lord_that_was_frozen_takes_the_ip_back
    a_lord_that_was_frozen_takes_the_ip_back_with_a_quorum
    a_lord_that_was_frozen_for_a_moment_makes_sure
    a_lord_that_was_cut_off_takes_the_ip_back
    a_lord_that_was_cut_off_takes_the_ip_back_with_a_quorum
    a_lord_that_nobody_heard_takes_the_ip_back
    a_lord_that_heard_nobody_keeps_the_ip
    a_node_that_was_frozen_takes_nothing_from_the_lord
    a_node_that_was_cut_off_from_all_takes_nothing_from_the_lord
    two_lords_of_two_nodes_do_not_fight
    two_lords_on_two_sides_of_a_cut_do_not_fight
    two_lords_on_two_sides_of_a_one_way_cut_do_not_fight
    a_node_that_was_suspended_comes_back_and_is_lord_again
    a_lock_that_ends_is_waited_for
    a_lock_that_does_not_end_makes_no_lord
    an_action_away_that_is_under_way_is_waited_for
    a_lost_answer_is_recognised
    what_is_no_answer_makes_no_lord
    an_action_that_fails_or_never_ends_makes_no_lord
    a_server_that_shows_early_is_no_success
    an_action_that_fails_once_is_asked_for_again
    polls_that_fail_are_not_the_end_of_the_action
    an_api_that_has_given_no_sense_is_used_as_soon_as_it_does
    a_wrong_token_is_not_tried_again_and_again
    requests_that_are_used_up_are_waited_for
    an_ip_that_is_moved_by_hand_is_taken_back
    an_ip_that_is_moved_by_hand_is_left_where_no_majority_is_in_sight
    a_lord_without_the_ip_goes_on_trying
    an_api_that_is_wrong_once_moves_nothing
    an_api_that_answers_nobody_moves_nothing
    a_signal_ends_or_reloads_a_node_during_an_action
    a_worker_that_dies_during_an_action_harms_nobody
}

const FAILING: &str = "legion-freq = 1\nlegion-tolerance = 4\nlegion-death-on-lord-error = 300\n";

fn settled(uwsgi: Uwsgi, nodes: usize, more: &str, options: &str) -> Scene<Cloud> {
    Scene::in_cloud(uwsgi, nodes, Config::default(), more, options).settle()
}

/// Actions take so long, and until then the IP shows the new server or the old one: which of both is not documented.
fn slow(seconds: u64, early: bool) -> Config {
    Config { switch: Duration::from_secs(seconds), early, ..Config::default() }
}

// What is played with Robot, too.

/// Almost as long as the hook waits for one.
fn a_long_action_harms_nobody(uwsgi: Uwsgi) {
    promise::a_long_call(Scene::in_cloud(uwsgi, 3, slow(25, true), "", QUICK), 3);
}

fn a_lord_that_was_frozen_takes_the_ip_back(uwsgi: Uwsgi) {
    promise::a_freeze(settled(uwsgi, 3, "", QUICK));
}

fn a_lord_that_was_frozen_takes_the_ip_back_with_a_quorum(uwsgi: Uwsgi) {
    promise::a_freeze(settled(uwsgi, 3, "", QUORUM));
}

fn a_lord_that_was_frozen_for_a_moment_makes_sure(uwsgi: Uwsgi) {
    promise::a_short_freeze(settled(uwsgi, 2, ",verify=0", "legion-freq = 1\nlegion-tolerance = 30\n"));
}

/// The next look comes a minute after the one before.
fn a_cut(uwsgi: Uwsgi, nodes: usize, options: &str, cut: impl Fn(&Scene<Cloud>)) {
    promise::a_cut_of(settled(uwsgi, nodes, "", options), AT_ONCE, cut);
}

fn a_lord_that_was_cut_off_takes_the_ip_back(uwsgi: Uwsgi) {
    a_cut(uwsgi, 3, QUICK, |scene| scene.legion.links().cut_off(1));
}

fn a_lord_that_was_cut_off_takes_the_ip_back_with_a_quorum(uwsgi: Uwsgi) {
    a_cut(uwsgi, 3, QUORUM, |scene| scene.legion.links().cut_off(1));
}

fn a_lord_that_nobody_heard_takes_the_ip_back(uwsgi: Uwsgi) {
    a_cut(uwsgi, 3, QUICK, |scene| scene.legion.links().cut_from(1));
}

fn a_lord_that_heard_nobody_keeps_the_ip(uwsgi: Uwsgi) {
    a_cut(uwsgi, 3, QUICK, |scene| scene.legion.links().cut_to(1));
}

fn a_node_that_was_frozen_takes_nothing_from_the_lord(uwsgi: Uwsgi) {
    promise::a_freeze_of_another(settled(uwsgi, 3, "", QUICK));
}

fn a_node_that_was_cut_off_from_all_takes_nothing_from_the_lord(uwsgi: Uwsgi) {
    promise::a_cut_from_all(settled(uwsgi, 3, "", QUICK));
}

fn two_lords_of_two_nodes_do_not_fight(uwsgi: Uwsgi) {
    a_cut(uwsgi, 2, QUICK, |scene| {
        scene.legion.links().cut_off(1);
        scene.wait_until(LIMIT, "two Lords", || scene.legion.lords() == [1, 2]);
    });
}

fn two_lords_on_two_sides_of_a_cut_do_not_fight(uwsgi: Uwsgi) {
    promise::two_lords_of(settled(uwsgi, 3, ",verify=5", QUICK), |scene| scene.legion.links().cut_off(1));
}

fn two_lords_on_two_sides_of_a_one_way_cut_do_not_fight(uwsgi: Uwsgi) {
    promise::two_lords_of(settled(uwsgi, 3, ",verify=5", QUICK), |scene| scene.legion.links().cut_from(1));
}

fn a_node_that_was_suspended_comes_back_and_is_lord_again(uwsgi: Uwsgi) {
    let options = format!("{QUICK}legion-death-on-lord-error = 10\n");
    let scene = Scene::in_cloud(uwsgi, 3, Config::default(), "", &options);
    scene.rule("post target=101 times=1 error not_found");
    promise::a_suspension(scene);
}

fn a_lock_that_ends_is_waited_for(uwsgi: Uwsgi) {
    promise::a_lock(Scene::in_cloud(uwsgi, 3, Config::default(), "", QUICK));
}

fn a_lock_that_does_not_end_makes_no_lord(uwsgi: Uwsgi) {
    promise::an_endless_lock(Scene::in_cloud(uwsgi, 1, Config::default(), ",deadline=25", FAILING), 3);
}

fn an_action_away_that_is_under_way_is_waited_for(uwsgi: Uwsgi) {
    promise::a_switch_away(Scene::in_cloud(uwsgi, 2, slow(30, false), "", QUICK));
}

fn a_lost_answer_is_recognised(uwsgi: Uwsgi) {
    for fault in [
        "lost-answer",
        "after-switch html 200",
        "after-switch html 502",
        "after-switch error timeout",
        "after-switch fails",
        "after-switch status done",
    ] {
        promise::a_lost_answer(Scene::in_cloud(uwsgi, 1, slow(2, false), "", FAILING), fault);
    }
}

fn what_is_no_answer_makes_no_lord(uwsgi: Uwsgi) {
    for fault in
        ["any html 200", "post other 102", "post null", "any close", "any empty 200", "any truncated"]
    {
        promise::no_answer(Scene::in_cloud(uwsgi, 1, Config::default(), ",deadline=4", FAILING), fault);
    }
}

fn an_api_that_has_given_no_sense_is_used_as_soon_as_it_does(uwsgi: Uwsgi) {
    promise::no_sense(Scene::in_cloud(uwsgi, 3, Config::default(), "", QUICK));
}

fn an_ip_that_is_moved_by_hand_is_taken_back(uwsgi: Uwsgi) {
    promise::a_move_by_hand(settled(uwsgi, 3, ",verify=5", QUICK), LIMIT);
}

fn an_ip_that_is_moved_by_hand_is_left_where_no_majority_is_in_sight(uwsgi: Uwsgi) {
    promise::no_majority(settled(uwsgi, 3, ",verify=5", QUICK));
}

fn a_lord_without_the_ip_goes_on_trying(uwsgi: Uwsgi) {
    promise::a_lord_without_it(Scene::in_cloud(uwsgi, 3, Config::default(), ",deadline=8", QUICK));
}

fn a_signal_ends_or_reloads_a_node_during_an_action(uwsgi: Uwsgi) {
    for signal in [SIGINT, SIGHUP] {
        promise::a_signal_during_a_call(&mut Scene::in_cloud(uwsgi, 1, slow(600, false), "", QUICK), signal);
    }
}

fn a_worker_that_dies_during_an_action_harms_nobody(uwsgi: Uwsgi) {
    promise::workers_that_die(Scene::in_cloud(uwsgi, 3, slow(20, false), "", QUICK));
}

/// No lock-out is documented, so that what counts is that it does not go on.
fn a_wrong_token_is_not_tried_again_and_again(uwsgi: Uwsgi) {
    let tokens = vec![Token::new("another", "x".repeat(64))];
    let options = format!("{QUICK}legion-death-on-lord-error = 5\n");
    let scene = Scene::in_cloud(uwsgi, 1, Config { tokens, ..Config::default() }, "", &options);
    promise::failures_of(
        scene,
        6,
        "HTTP 401 unauthorized \"unable to authenticate\": the token was rejected: check token",
    );
}

// What only an action can do.

/// The IP is elsewhere, and it stays there, whatever it shows meanwhile.
fn an_action_that_fails_or_never_ends_makes_no_lord(uwsgi: Uwsgi) {
    for (fault, early) in [("post fails", false), ("post fails", true), ("post endless", false)] {
        promise::no_answer(Scene::in_cloud(uwsgi, 1, slow(1, early), ",deadline=6", FAILING), fault);
    }
}

/// The action is still running when the hook gives up, and each look finds the IP here.
fn a_server_that_shows_early_is_no_success(uwsgi: Uwsgi) {
    let scene = Scene::in_cloud(uwsgi, 1, slow(1, true), ",timeout=4,deadline=12", FAILING);
    promise::no_answer(scene, "post endless");
}

fn an_action_that_fails_once_is_asked_for_again(uwsgi: Uwsgi) {
    let mut scene = Scene::in_cloud(uwsgi, 3, slow(1, true), "", QUICK);
    scene.rule("post times=1 fails");
    scene.legion.start_all();
    scene.wait_for(1, LIMIT);
    assert_eq!(scene.posts(), 2, "{}", scene.state());
    scene.legion.node(1).wait_for_log("action 1 failed: action_failed \"the action has failed\"", LIMIT);
}

fn polls_that_fail_are_not_the_end_of_the_action(uwsgi: Uwsgi) {
    for fault in ["error rate_limit_exceeded", "html 502", "close", "status done"] {
        let mut scene = Scene::in_cloud(uwsgi, 1, slow(3, false), "", FAILING);
        scene.rule(&format!("get path=/actions/ times=2 {fault}"));
        scene.legion.start_all();
        scene.wait_for(1, LIMIT);
        assert_eq!(scene.posts(), 1, "{fault}: {}", scene.state());
    }
}

/// By somebody else, as it may happen to a whole Project. Nothing is done, so that nothing has failed.
fn requests_that_are_used_up_are_waited_for(uwsgi: Uwsgi) {
    let mut scene = Scene::in_cloud(uwsgi, 3, Config::default(), "", QUICK);
    scene.rule("any error rate_limit_exceeded");
    scene.legion.start_all();
    scene.legion.node(1).wait_for_log("the Project's requests are used up", LIMIT);
    thread::sleep(seconds(10));
    scene.robot.clear_faults();
    // No silence of minutes.
    scene.wait_for(1, seconds(45));
    assert!(!scene.legion.any_log_holds("FAILED"), "{}", scene.state());
}

/// A Lord that has the IP looks twice before it takes it back.
fn an_api_that_is_wrong_once_moves_nothing(uwsgi: Uwsgi) {
    let scene = settled(uwsgi, 3, ",verify=5", QUICK);
    for lie in ["other 103", "null"] {
        scene.rule(&format!("get times=1 {lie}"));
        let told = "checking the route again";
        let before = scene.said(1, told);
        scene.wait_until(LIMIT, "a look that finds it elsewhere", || scene.said(1, told) > before);
        let looks = scene.asked("GET");
        scene.wait_until(LIMIT, "two more looks", || scene.asked("GET") > looks + 1);
    }
    assert_eq!((scene.posts(), scene.is_at(1)), (1, true), "{}", scene.state());
}

/// Whether it is away, silent, or out of requests: a Lord that has the IP keeps it, and is Lord.
fn an_api_that_answers_nobody_moves_nothing(uwsgi: Uwsgi) {
    for fault in ["any hang", "any refuse", "any error rate_limit_exceeded", "any error maintenance"] {
        let scene = settled(uwsgi, 2, ",verify=5,timeout=3", QUICK);
        scene.rule(fault);
        scene.wait_until(LIMIT, "a look without an answer", || scene.said(1, "is unknown") > 0);
        scene.stays_at(1, seconds(8));
        scene.robot.clear_faults();
        let looks = scene.robot.journal().iter().filter(|request| request.status == Some(200)).count();
        let answered = || scene.robot.journal().iter().filter(|it| it.status == Some(200)).count();
        scene.wait_until(LIMIT, "a look with an answer", || answered() > looks);
        assert_eq!((scene.posts(), scene.robot.node_at(failover_ip())), (1, Some(1)), "{}", scene.state());
    }
}
