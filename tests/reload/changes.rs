//! What the new image of a Lord changes: the old identity is taken back, so that nobody waits for a node that is no more,
//! and whoever is right now is Lord, with the IP.
//!
//! The tolerance is long: who is gone before it is over has said farewell.

use std::thread;

use lab::ip;
use lab::legion::{LEGION, failover_ip, route_of};
use lab::node::free_address;
use lab::reload::{Way, wait_for_image};
use lab::robot::{Config, Failover};
use lab::scene::{LIMIT, Scene, on_each_uwsgi, seconds, side_by_side};
use lab::uwsgi::Uwsgi;

use super::{Watch, comes_to_an_end, nodes, quorum, settle, stage};

on_each_uwsgi! {
    another_valor_that_is_still_the_highest_is_no_failover
    another_valor_that_is_lower_than_a_peers_is_one
    another_address_is_another_node
    another_secret_is_another_legion
    a_secret_that_changes_from_node_to_node_leaves_the_ip_at_the_first
    another_target_is_taken_over_to
    another_ip_is_taken_over
    a_hook_that_is_gone_is_no_failover
    a_legion_that_is_gone_is_a_failover
    a_plugin_that_is_gone_is_noticed
}

fn patient() -> String {
    quorum(3).replace("tolerance = 5", "tolerance = 40")
}

fn patient_stage(uwsgi: Uwsgi) -> Scene {
    let scene = stage(uwsgi, 3, &patient());
    // The plugin looks at its peers once a second. A node that has never seen all of them would wait for a tolerance before
    // it takes over; the test would, too.
    thread::sleep(seconds(2));
    scene
}

/// Reloads a node whose ini is changed so; returns the uuid that it had.
#[track_caller]
fn reload_with(scene: &Scene, node: usize, change: impl FnOnce(String) -> String) -> String {
    let uuid = scene.legion.uuid(node).expect("it answers");
    let images = scene.legion.node(node).images();
    scene.legion.edit(node, change);
    scene.legion.ask_for_reload(node, Way::Hup);
    wait_for_image(&scene.legion, node, images, LIMIT);
    uuid
}

fn without(ini: String, beginning: &str) -> String {
    let lines = ini.lines().filter(|line| !line.starts_with(beginning));
    lines.map(|line| format!("{line}\n")).collect()
}

/// Waits until the peers have been told that this identity is no more.
#[track_caller]
fn has_said_farewell(scene: &Scene, peers: &[usize], identity: &str) {
    let line = format!("{identity} announced its death");
    for peer in peers {
        scene.wait_until(LIMIT, &line, || scene.said(*peer, &line) > 0);
        assert_eq!(scene.said(*peer, &format!("{identity} left")), 0, "it was dropped: {}", scene.state());
    }
}

/// The valors by which node N knows this uuid.
fn valors(scene: &Scene, node: usize, uuid: &str) -> Vec<u64> {
    let state = scene.legion.node(node).legion(LEGION).unwrap_or_default();
    let members = state["members"].as_array().cloned().unwrap_or_default();
    let known = members.iter().filter(|member| member["uuid"] == uuid);
    known.filter_map(|member| member["valor"].as_u64()).collect()
}

fn new_valor(ini: String, valor: u64) -> String {
    ini.replace(" 9999 aes", &format!(" {valor} aes"))
}

fn another_valor_that_is_still_the_highest_is_no_failover(uwsgi: Uwsgi) {
    side_by_side(&[10_000, 16_000], |valor| {
        let scene = patient_stage(uwsgi);
        let (watch, posts) = (Watch::on(&scene, 1), scene.posts());
        let uuid = reload_with(&scene, 1, |ini| new_valor(ini, valor));
        scene.wait_until(LIMIT, "the same node by another valor", || {
            scene.is_at(1) && [2, 3].iter().all(|peer| valors(&scene, *peer, &uuid) == [valor])
        });
        has_said_farewell(&scene, &[2, 3], &format!("valor: 9999 uuid: {uuid}"));
        scene.stays_at(1, super::LAST_WORD);
        watch.is_still_lord();
        assert_eq!(scene.posts(), posts, "{}", scene.state());
    });
}

fn another_valor_that_is_lower_than_a_peers_is_one(uwsgi: Uwsgi) {
    let scene = patient_stage(uwsgi);
    let posts = scene.posts();
    let uuid = reload_with(&scene, 1, |ini| new_valor(ini, 5));
    scene.wait_until(LIMIT, "node 2 has the IP", || scene.is_at(2));
    has_said_farewell(&scene, &[2, 3], &format!("valor: 9999 uuid: {uuid}"));
    scene.stays_at(2, super::LAST_WORD);
    assert!([2, 3].iter().all(|peer| valors(&scene, *peer, &uuid) == [5]), "{}", scene.state());
    assert_eq!((scene.posts(), scene.posts_of(2).len()), (posts + 1, 1), "{}", scene.state());
}

/// Whoever is right now waits for nobody: it is settled long before the tolerance is over.
#[track_caller]
fn is_another(scene: &Scene, old: &str) {
    has_said_farewell(scene, &[2, 3], &format!("uuid: {old}"));
    assert!([2, 3].iter().all(|peer| !scene.legion.counts(*peer, old)), "{}", scene.state());
}

fn another_address_is_another_node(uwsgi: Uwsgi) {
    let mut scene = nodes(uwsgi, 3, Config::default(), &patient());
    let new = free_address();
    // The peers are told before: nobody listens there yet.
    for node in [2, 3] {
        *scene.legion.ini_mut(node) += &format!("legion-node = {LEGION} {new}\n");
    }
    scene.legion.start_all();
    settle(&scene, 3);
    let (old, posts) = (format!("{}:2000", scene.legion.address(1)), scene.posts());
    let uuid = reload_with(&scene, 1, |ini| ini.replace(&old, &new.to_string()));
    scene.wait_until(LIMIT, "node 1 has the IP", || scene.is_at(1));
    scene.comes_to_rest_at(1, seconds(6));
    is_another(&scene, &uuid);
    settle(&scene, 3);
    // Node 2 may have had its turn.
    assert!(scene.posts() <= posts + 2, "{}", scene.state());
}

fn another_secret_is_another_legion(uwsgi: Uwsgi) {
    let cases = [
        ("aes-128-cbc:secret1", "aes-128-cbc:secret9"),
        ("aes-128-cbc:secret1", "aes-256-cbc:secret1"),
        ("= failover", "= renamed"),
    ];
    side_by_side(&cases, |(from, to)| {
        let scene = patient_stage(uwsgi);
        let posts = scene.posts();
        let uuid = reload_with(&scene, 1, |ini| ini.replace(from, to));
        scene.wait_until(LIMIT, "node 2 has the IP", || scene.is_at(2));
        is_another(&scene, &uuid);
        scene.stays_at(2, super::LAST_WORD);
        // Alone of three, it has no quorum.
        assert!(scene.legion.node(1).lord_of().is_empty(), "{}", scene.state());
        assert_eq!(scene.posts(), posts + 1, "{}", scene.state());
    });
}

fn a_secret_that_changes_from_node_to_node_leaves_the_ip_at_the_first(uwsgi: Uwsgi) {
    // Node 1 has not seen node 3 when it takes over, and waits whether it is there.
    let scene = stage(uwsgi, 3, &quorum(3));
    for node in 1..=3 {
        reload_with(&scene, node, |ini| ini.replace("secret1", "secret9"));
        // As soon as two are there, they are the majority.
        let lord = if node == 1 { 2 } else { 1 };
        scene.wait_until(LIMIT, "the IP is where it should be", || scene.is_at(lord));
        scene.stays_at(lord, seconds(4));
    }
    settle(&scene, 3);
}

fn another_target_is_taken_over_to(uwsgi: Uwsgi) {
    let scene = patient_stage(uwsgi);
    let watch = Watch::on(&scene, 1);
    let posts = scene.posts();
    reload_with(&scene, 1, |ini| ini.replace("active_ip=1.1.1.1", "active_ip=11.11.11.11"));
    let is_there = || scene.robot.route(failover_ip()) == Some(ip("11.11.11.11"));
    scene.wait_until(LIMIT, "the IP is there", || is_there() && scene.legion.lords() == [1]);
    assert_eq!(scene.posts(), posts + 1, "{}", scene.state());
    watch.is_still_lord();
}

fn another_ip_is_taken_over(uwsgi: Uwsgi) {
    let other = ip("5.5.5.5");
    let config = Config { failover: vec![Failover::new(other, None)], ..Config::default() };
    let mut scene = nodes(uwsgi, 3, config, &patient());
    scene.legion.start_all();
    settle(&scene, 3);
    let watch = Watch::on(&scene, 1);
    let posts = scene.posts();
    reload_with(&scene, 1, |ini| ini.replace(",ip=4.4.4.4", ",ip=5.5.5.5").replace("/4.4.4.4", "/5.5.5.5"));
    let is_there = || scene.robot.route(other) == route_of(1) && scene.legion.lords() == [1];
    scene.wait_until(LIMIT, "the other IP is there", is_there);
    assert_eq!(scene.robot.route(failover_ip()), route_of(1), "the first was left: {}", scene.state());
    assert_eq!(scene.posts(), posts + 1, "{}", scene.state());
    watch.is_still_lord();
}

fn a_hook_that_is_gone_is_no_failover(uwsgi: Uwsgi) {
    let scene = patient_stage(uwsgi);
    let watch = Watch::on(&scene, 1);
    reload_with(&scene, 1, |ini| without(ini, "legion-lord"));
    let requests = super::requests(&scene, 1).len();
    scene.wait_until(LIMIT, "it is Lord again", || scene.is_at(1));
    comes_to_an_end(&scene);
    watch.nobody_has_noticed();
    assert_eq!(super::requests(&scene, 1).len(), requests, "{}", scene.state());
}

fn a_legion_that_is_gone_is_a_failover(uwsgi: Uwsgi) {
    let scene = patient_stage(uwsgi);
    let posts = scene.posts();
    let uuid = reload_with(&scene, 1, |ini| without(ini, "legion"));
    scene.wait_until(LIMIT, "node 2 has the IP", || scene.is_at(2));
    is_another(&scene, &uuid);
    scene.stays_at(2, super::LAST_WORD);
    assert_eq!(scene.posts(), posts + 1, "{}", scene.state());
}

/// Nobody is there to end what speaks for the old image; with the Legion, the node is a member by uWSGI alone.
fn a_plugin_that_is_gone_is_noticed(uwsgi: Uwsgi) {
    side_by_side(&[true, false], |with_legion| {
        let scene = patient_stage(uwsgi);
        let posts = scene.posts();
        let uuid = reload_with(&scene, 1, |ini| {
            let ini = without(without(ini, "plugin ="), "legion-lord");
            if with_legion { ini } else { without(ini, "legion") }
        });
        let began = std::time::Instant::now();
        has_said_farewell(&scene, &[2, 3], &format!("uuid: {uuid}"));
        // 15 s at most; the rest is for a busy machine, and far below the tolerance.
        assert!(began.elapsed() < seconds(22), "{:?}: {}", began.elapsed(), scene.state());
        if with_legion {
            scene.comes_to_rest_at(1, seconds(6));
            assert_eq!(scene.posts(), posts, "{}", scene.state());
        } else {
            scene.wait_until(LIMIT, "node 2 has the IP", || scene.is_at(2));
            assert_eq!(scene.posts_of(2).len(), 1, "{}", scene.state());
        }
        let left = || lab::remains::Remains::of(scene.legion.node(1).id(), &scene.legion.folder(1)).processes;
        // The master and its worker.
        scene.wait_until(LIMIT, "nobody else is there", || left().values().sum::<usize>() == 2);
    });
}
