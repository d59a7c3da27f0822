//! Who is heard, and who counts: nodes that announce at different times, whose clocks differ, or whose machine was
//! paused; and an ini that names a node twice.

use std::net::IpAddr;
use std::thread;

use lab::legion::{LEGION, failover_ip, hook, route_of};
use lab::process::{self, SIGINT};
use lab::robot::{Config, Failover};
use lab::scene::{LIMIT, QUICK, Scene, on_each_uwsgi, seconds, side_by_side};
use lab::uwsgi::Uwsgi;
use lab::{clock, wait_until};

on_each_uwsgi! {
    two_nodes_with_different_frequencies_do_not_lose_each_other
    one_slow_node_among_quick_ones_is_not_lost
    a_node_without_the_plugin_is_not_lost
    a_node_whose_clock_differs_takes_nothing_from_the_lord
    a_machine_that_was_paused_takes_nothing_from_the_lord
    a_node_that_was_outvoted_takes_nothing_before_it_hears_the_lord_again
    a_node_that_was_frozen_takes_none_of_two_ips
    a_node_that_left_the_ip_to_another_is_a_member_at_once
    a_node_whose_end_takes_long_is_gone
    a_node_that_is_named_twice_counts_once
    a_lord_without_the_ip_takes_it_from_nobody_higher
}

// Frequencies: each node announces itself in time, whatever the others do.

/// Nobody may ever be lost, since all are alive from the start to the end; and each announces itself as often as it is to,
/// in so many seconds.
#[track_caller]
fn nobody_is_lost(scene: &Scene, frequencies: &[usize]) {
    let nodes: Vec<usize> = (1..=frequencies.len()).collect();
    let settled = || scene.legion.lords() == [1] && scene.see_each_other(&nodes);
    let links = scene.legion.links();
    let sent = |node: usize| {
        let others = nodes.iter().filter(|to| **to != node);
        others.map(|to| links.sent(node, *to)).min().expect("it has peers")
    };
    assert!(wait_until(LIMIT, settled), "never settled: {}", scene.state());
    let posts = scene.posts();
    let before: Vec<usize> = nodes.iter().map(|node| sent(*node)).collect();
    thread::sleep(seconds(40));
    for ((node, seconds), before) in nodes.iter().zip(frequencies).zip(before) {
        let times = sent(*node) - before;
        assert!(times >= 30 / seconds, "node {node} was heard {times} times in 40 s: {}", scene.state());
    }
    assert!(!scene.legion.any_log_holds("left Legion"), "{}", scene.state());
    assert!(settled(), "no longer settled: {}", scene.state());
    assert_eq!(scene.posts(), posts, "{}", scene.state());
}

fn frequency(seconds: usize) -> String {
    format!("legion-freq = {seconds}\n")
}

fn two_nodes_with_different_frequencies_do_not_lose_each_other(uwsgi: Uwsgi) {
    side_by_side(&[(1, 3), (3, 1), (1, 10), (10, 1), (3, 10), (10, 3)], |(first, second)| {
        let tolerance = if first.max(second) == 10 { 25 } else { 8 };
        let options = format!("legion-tolerance = {tolerance}\n");
        let mut scene = Scene::new(uwsgi, 2, Config::default(), "", &options);
        scene.legion = scene.legion.with_links();
        *scene.legion.ini_mut(1) += &frequency(first);
        *scene.legion.ini_mut(2) += &frequency(second);
        scene.legion.start_all();
        nobody_is_lost(&scene, &[first, second]);
        assert_eq!(scene.robot.route(failover_ip()), route_of(1), "{}", scene.state());
    });
}

/// As during a change of the frequency that goes from node to node, or one that was forgotten.
fn one_slow_node_among_quick_ones_is_not_lost(uwsgi: Uwsgi) {
    side_by_side(&[1, 6], |slow| {
        let mut scene = Scene::new(uwsgi, 6, Config::default(), "", "legion-tolerance = 8\n");
        scene.legion = scene.legion.with_links();
        let frequencies = [1, 2, 3, 4, 5, 6].map(|node| if node == slow { 3 } else { 1 });
        for (at, seconds) in frequencies.into_iter().enumerate() {
            *scene.legion.ini_mut(at + 1) += &frequency(seconds);
        }
        scene.legion.start_all();
        nobody_is_lost(&scene, &frequencies);
    });
}

/// Such a node announces itself only when it has heard nobody for a whole `legion-freq`: nodes that announced at other
/// times than it does would keep it silent.
fn a_node_without_the_plugin_is_not_lost(uwsgi: Uwsgi) {
    side_by_side(&[1, 3], |plain| {
        let mut scene = Scene::new(uwsgi, 3, Config::default(), "", &frequency(3));
        scene.legion = scene.legion.with_links();
        let ini = scene.legion.ini_mut(plain);
        *ini = format!("legion-lord = {LEGION} log:no plugin\n{}", frequency(3));
        scene.legion.start_all();
        nobody_is_lost(&scene, &[3, 3, 3]);
    });
}

// Clocks.

/// uWSGI itself takes announcements that are a minute old.
fn a_node_whose_clock_differs_takes_nothing_from_the_lord(uwsgi: Uwsgi) {
    side_by_side(&[10, -10], |ahead| {
        let mut scene = Scene::new(uwsgi, 3, Config::default(), "", QUICK);
        scene.legion.set_own_env(3, clock::environment(ahead));
        scene.legion.start_all();
        scene.wait_for(1, LIMIT);
        let together = || scene.see_each_other(&[1, 2, 3]);
        assert!(wait_until(LIMIT, together), "{}", scene.state());
        scene.legion.node(3).freeze();
        thread::sleep(seconds(8));
        scene.legion.node(3).thaw();
        // Without a quorum it may be a Lord without the IP, until it has heard the others.
        wait_until(seconds(10), || !scene.posts_of(3).is_empty());
        scene.comes_to_rest_at(1, seconds(4));
        assert!(scene.posts_of(3).is_empty(), "{}", scene.state());
    });
}

// A machine that was paused, and a node that was frozen.

/// Unlike a frozen process it has nothing in its sockets from which it could tell that there is a Lord.
fn a_machine_that_was_paused_takes_nothing_from_the_lord(uwsgi: Uwsgi) {
    let quick = (QUICK, 8, 4);
    let slow = ("legion-freq = 3\nlegion-tolerance = 10\n", 15, 2);
    let cases = [(3, 2, quick), (3, 3, quick), (2, 2, quick), (3, 3, slow)];
    side_by_side(&cases, |(nodes, paused, (options, pause, times))| {
        let scene = Scene::settled(uwsgi, nodes, "", options);
        let all: Vec<usize> = (1..=nodes).collect();
        for _ in 0..times {
            scene.legion.links().cut_off(paused);
            scene.legion.node(paused).freeze();
            thread::sleep(seconds(pause));
            scene.legion.links().heal();
            scene.legion.node(paused).thaw();
            let again = || scene.is_at(1) && scene.see_each_other(&all);
            let stolen = || !scene.posts_of(paused).is_empty();
            assert!(wait_until(LIMIT, || again() || stolen()), "{}", scene.state());
            assert!(!stolen(), "{}", scene.state());
        }
        wait_until(seconds(8), || !scene.posts_of(paused).is_empty());
        scene.wait_for(1, LIMIT);
        assert!(scene.posts_of(paused).is_empty(), "{}", scene.state());
    });
}

/// Its hook has heard the Lord, uWSGI has not: by its own account it is Lord, without the IP, and hears only node 3.
fn a_node_that_was_outvoted_takes_nothing_before_it_hears_the_lord_again(uwsgi: Uwsgi) {
    let scene = Scene::settled(uwsgi, 3, "", QUICK);
    let outvoted =
        || scene.legion.node(2).log().matches("a node with a higher valor is alive after all").count();
    for _ in 0..4 {
        let before = outvoted();
        scene.legion.node(2).freeze();
        thread::sleep(seconds(8));
        scene.legion.node(2).thaw();
        wait_until(seconds(8), || outvoted() > before);
        scene.legion.links().cut(1, 2);
        thread::sleep(seconds(1));
        scene.legion.links().heal();
        let again = || scene.is_at(1) && scene.see_each_other(&[1, 2, 3]);
        assert!(wait_until(LIMIT, || again() || !scene.posts_of(2).is_empty()), "{}", scene.state());
        assert!(scene.posts_of(2).is_empty(), "{}", scene.state());
    }
}

/// The second hook of an election knows what the first has heard.
fn a_node_that_was_frozen_takes_none_of_two_ips(uwsgi: Uwsgi) {
    let second: IpAddr = [5, 5, 5, 5].into();
    let config = Config { failover: vec![Failover::new(second, None)], ..Config::default() };
    let mut scene = Scene::new(uwsgi, 3, config, "", QUICK);
    for node in 1..=3 {
        let hook = hook(node, &scene.robot.url(second), "").replace("ip=4.4.4.4", &format!("ip={second}"));
        scene.hook_behind(node, &format!("hetzner-failoverip:{hook}"));
    }
    scene.legion.start_all();
    let at_1 = || scene.is_at(1) && scene.robot.route(second) == route_of(1);
    assert!(wait_until(LIMIT, || at_1() && scene.see_each_other(&[1, 2, 3])), "{}", scene.state());
    let posts = scene.posts();
    for _ in 0..2 {
        scene.legion.node(3).freeze();
        thread::sleep(seconds(8));
        scene.legion.node(3).thaw();
        wait_until(seconds(8), || scene.posts() > posts);
        let again = || at_1() && scene.see_each_other(&[1, 2, 3]);
        assert!(wait_until(LIMIT, again), "{}", scene.state());
        assert_eq!(scene.posts(), posts, "{}", scene.state());
    }
}

/// It has done what it should, and is needed when the Lord dies.
fn a_node_that_left_the_ip_to_another_is_a_member_at_once(uwsgi: Uwsgi) {
    let options = format!("{QUICK}legion-death-on-lord-error = 300\n");
    let mut scene = Scene::settled(uwsgi, 3, "", &options);
    scene.legion.node(2).freeze();
    thread::sleep(seconds(8));
    scene.legion.node(2).thaw();
    // It may be that it was not even elected.
    wait_until(seconds(4), || scene.legion.any_log_holds("leaving it to the next election"));
    let together = || scene.is_at(1) && scene.see_each_other(&[1, 2, 3]);
    assert!(wait_until(LIMIT, together), "{}", scene.state());
    assert!(scene.posts_of(2).is_empty(), "{}", scene.state());
    scene.legion.kill(1);
    scene.wait_for(2, LIMIT);
}

/// It is about to end, and nothing may bring it back to life while it waits for a worker.
fn a_node_whose_end_takes_long_is_gone(uwsgi: Uwsgi) {
    let scene = Scene::settled(uwsgi, 3, "", QUICK);
    assert!(wait_until(LIMIT, || scene.see_each_other(&[1, 2, 3])), "{}", scene.state());
    let workers = scene.legion.node(1).workers();
    workers.iter().for_each(|worker| process::signal(*worker, process::SIGSTOP));
    scene.legion.node(1).signal(SIGINT);
    let at_2 = || {
        scene.legion.node(2).is_lord(LEGION)
            && scene.legion.members(2) == [3]
            && scene.robot.route(failover_ip()) == route_of(2)
    };
    assert!(wait_until(LIMIT, at_2), "{}", scene.state());
    assert!(!wait_until(seconds(15), || !at_2()), "{}", scene.state());
    workers.iter().for_each(|worker| process::signal(*worker, process::SIGCONT));
    scene.wait_for(2, LIMIT);
}

// An ini that names a node twice.

/// With its own address or a peer's twice the ini has three `legion-node`s; two nodes of three are a majority all the
/// same.
fn a_node_that_is_named_twice_counts_once(uwsgi: Uwsgi) {
    side_by_side(&[1, 2], |named| {
        let mut scene = Scene::new(uwsgi, 3, Config::default(), ",verify=5", QUICK);
        let again = format!("legion-node = {LEGION} {}:2000\n", scene.legion.address(named));
        *scene.legion.ini_mut(1) += &again;
        scene.legion.start_all();
        scene.wait_for(1, LIMIT);
        scene.legion.kill(3);
        assert!(wait_until(LIMIT, || scene.see_each_other(&[1, 2])), "{}", scene.state());
        scene.robot.set_route(failover_ip(), route_of(3));
        scene.wait_for(1, LIMIT);
    });
}

// A Lord without the IP.

/// Node 1 does not hear node 2, so that both are Lord; and only then the API works.
fn a_lord_without_the_ip_takes_it_from_nobody_higher(uwsgi: Uwsgi) {
    let mut scene = Scene::new(uwsgi, 2, Config::default(), ",deadline=6", QUICK);
    scene.legion = scene.legion.with_links();
    scene.rule("any refuse");
    scene.legion.links().cut_from(2);
    scene.legion.start(2);
    scene.legion.node(2).wait_for_log("i am now the Lord", LIMIT);
    scene.legion.start(1);
    scene.legion.node(1).wait_for_log("i am now the Lord", LIMIT);
    assert!(wait_until(LIMIT, || scene.legion.members(2) == [1]), "{}", scene.state());
    scene.robot.clear_faults();
    let at_1 = || scene.robot.route(failover_ip()) == route_of(1);
    assert!(wait_until(LIMIT, at_1), "{}", scene.state());
    // Longer than the pause between two tries of node 2.
    assert!(!wait_until(seconds(35), || !at_1()), "{}", scene.state());
    scene.legion.links().heal();
    scene.wait_for(1, LIMIT);
    assert!(scene.posts_of(2).is_empty(), "{}", scene.state());
}
