//! A reload is no failover: whoever is told to read its configuration and load its app anew stays who it is for its peers,
//! and the Lord stays Lord. What the new image changes is taken back in an orderly way (`changes`), one that does not start
//! is a failover (`broken`), nothing is left behind, and so it is however the node is installed (`installed`).
//!
//! `floor` is the same many times over, for an hour when nothing else runs.

mod broken;
mod changes;
mod floor;
mod installed;
mod stage;

use std::thread;
use std::time::{Duration, Instant};

use lab::legion::{LEGION, failover_ip, hook};
use lab::links::Weather;
use lab::node::free_address;
use lab::process::SIGHUP;
use lab::reload::{Way, let_go_on, wait_for_image};
use lab::remains::Remains;
use lab::robot::{Config, Failover};
use lab::scene::{LIMIT, Scene, on_each_uwsgi, seconds, side_by_side};
use lab::uwsgi::Uwsgi;
use lab::{ip, wait_until};

use stage::{
    ATTEMPT, LAST_WORD, ROUNDS, TOLERANCE, Watch, comes_to_an_end, nodes, quorum, reload, requests, settle,
    stage,
};

on_each_uwsgi! {
    it_is_none_however_it_is_asked_for_and_nothing_is_left_behind
    it_is_none_however_long_the_app_loads
    it_is_none_with_workers_that_do_not_end
    it_is_none_on_bad_links
    it_is_none_in_several_legions
    it_is_none_twice_within_a_second_and_three_times_in_ten
    it_is_none_of_all_nodes_at_once
    it_is_none_while_others_come_and_go
    it_is_none_in_a_short_cut
    it_is_none_among_nodes_without_the_plugin
    it_is_none_while_the_api_is_down
    an_ip_that_was_moved_meanwhile_is_taken_back
    it_changes_nothing_of_a_long_cut
    a_backup_that_reloads_changes_nothing
    a_takeover_that_a_reload_breaks_off_ends_well
    a_suspended_node_that_reloads_is_a_candidate_again
}

#[ignore = "takes 100 s, since a minute of load is the limit"]
#[test]
fn longer_than_a_minute_it_is_a_failover() {
    side_by_side(&Uwsgi::ALL, |uwsgi| {
        let scene = stage(uwsgi, 3, &quorum(3));
        let images = scene.legion.node(1).images();
        scene.legion.set_app(1, "sleep 80");
        let (began, before) = (Instant::now(), scene.posts());
        scene.legion.ask_for_reload(1, Way::Hup);
        scene.wait_until(LIMIT, "node 2 has the IP", || scene.is_at(2));
        let first = scene.posts_of(2)[0].at - began;
        assert!(first >= seconds(60) && first <= seconds(60 + 5 + 8), "{first:?}: {}", scene.state());
        wait_for_image(&scene.legion, 1, images, LIMIT);
        scene
            .legion
            .node(1)
            .wait_for_log("the reload took longer than 65 s: this node has left the Legion", LIMIT);
        scene.comes_to_rest_at(1, seconds(6));
        assert_eq!(scene.posts(), before + 2, "{}", scene.state());
    });
}

#[ignore = "takes 80 s, since the app loads for as long as it may"]
#[test]
fn it_is_none_with_an_app_that_loads_for_a_minute() {
    let cases = Uwsgi::ALL.map(|uwsgi| [(uwsgi, 2), (uwsgi, 3)]).concat();
    side_by_side(&cases, |(uwsgi, nodes)| {
        let scene = stage(uwsgi, nodes, &if nodes == 2 { ROUNDS.into() } else { quorum(nodes) });
        reload(&scene, Way::Hup, "sleep 60");
        comes_to_an_end(&scene);
    });
}

fn it_is_none_however_it_is_asked_for_and_nothing_is_left_behind(uwsgi: Uwsgi) {
    side_by_side(&[2, 3, 5], |nodes| {
        let scene = stage(uwsgi, nodes, &if nodes == 2 { ROUNDS.into() } else { quorum(nodes) });
        let node = scene.legion.node(1);
        let remains = || Remains::of(node.master(), &scene.legion.folder(1));
        // What uWSGI itself opens or sets at its first reload stays.
        reload(&scene, Way::Hup, "");
        let environments = scene.legion.environments(1);
        // No connection is open.
        let rests = || {
            let first = remains();
            thread::sleep(seconds(1));
            remains() == first
        };
        scene.wait_until(LIMIT, "it rests", rests);
        let before = remains();
        for variable in before.variables.iter().chain(&environments) {
            let own = ["UWSGI_RELOADS", "UWSGI_ORIGINAL_PROC_NAME"].contains(&variable.as_str());
            assert!(
                own || std::env::var_os(variable).is_some() || KNOWN.contains(&variable.as_str()),
                "{variable}"
            );
        }
        for way in Way::ALL {
            reload(&scene, way, "");
        }
        comes_to_an_end(&scene);
        // It would be uWSGI that has found a child which nobody has waited for.
        assert_eq!(scene.said(1, "\nsubprocess "), 0, "{}", scene.state());
        let same = || remains() == before;
        assert!(wait_until(LIMIT, same), "before {before:?}, now {:?}: {}", remains(), scene.state());
        assert_eq!(scene.legion.environments(1), environments);
    });
}

/// What the lab and the shell set.
const KNOWN: [&str; 5] = ["TMPDIR", "PWD", "OLDPWD", "SHLVL", "_"];

/// Before the fork, while which nobody of uWSGI runs, or lazily in the worker, while the Legion does.
fn it_is_none_however_long_the_app_loads(uwsgi: Uwsgi) {
    let cases = [
        (2, "sleep 8", false, Way::Hup),
        (3, "sleep 8", true, Way::Touch),
        (5, "sleep 8", false, Way::Term),
        (2, "sleep 30", true, Way::Hup),
        (3, "sleep 30", false, Way::Fifo),
    ];
    side_by_side(&cases, |(count, app, lazy, way)| {
        let options = if count == 2 { ROUNDS.into() } else { quorum(count) };
        let lazy = if lazy { "lazy-apps = true\n" } else { "" };
        let scene = stage(uwsgi, count, &format!("{options}{lazy}"));
        reload(&scene, way, app);
        comes_to_an_end(&scene);
    });
}

#[derive(Clone, Copy, Debug)]
enum Slow {
    /// Its workers do nothing, for longer than the tolerance.
    Stopped(Way),
    /// And are killed in the end.
    Killed(Way),
    /// A daemon that uWSGI waits for, before its main loop goes on, and kills in the end.
    Daemon,
    /// What the operator has uWSGI run when it ends, which comes after the plugin's last call.
    AtExit,
}

fn it_is_none_with_workers_that_do_not_end(uwsgi: Uwsgi) {
    use Slow::*;
    let cases = [Stopped(Way::Hup), Stopped(Way::FifoBrutal), Killed(Way::Term), Daemon, AtExit];
    side_by_side(&cases, |slow| {
        let mut scene = nodes(uwsgi, 3, Config::default(), &quorum(3));
        match slow {
            Killed(_) => *scene.legion.ini_mut(1) += "worker-reload-mercy = 6\nreload-mercy = 6\n",
            Daemon => {
                *scene.legion.ini_mut(1) +=
                    "reload-mercy = 9\nattach-daemon = trap '' TERM; exec sleep 3600\n";
            }
            AtExit => *scene.legion.ini_mut(1) += "exec-as-user-atexit = sleep 13\n",
            Stopped(_) => {}
        }
        scene.legion.start_all();
        settle(&scene, 3);
        match slow {
            Stopped(way) | Killed(way) => {
                let watch = Watch::on(&scene, 1);
                let workers = scene.legion.node(1).stop_workers();
                scene.legion.ask_for_reload(1, way);
                if matches!(slow, Stopped(_)) {
                    thread::sleep(TOLERANCE + seconds(3));
                    watch.nobody_has_noticed();
                    let_go_on(&workers);
                }
                watch.is_lord_again();
            }
            Daemon | AtExit => reload(&scene, Way::Hup, ""),
        }
        comes_to_an_end(&scene);
    });
}

/// A tolerance that fits such links, since a node that does not reload would be lost on them too.
fn it_is_none_on_bad_links(uwsgi: Uwsgi) {
    let late = Weather { duplicate: 30, delay: Duration::from_millis(800), ..Weather::default() };
    let cases = [
        (10, Weather { loss: 30, ..Weather::default() }),
        (20, Weather { loss: 50, ..Weather::default() }),
        (10, Weather { loss: 20, ..late }),
    ];
    side_by_side(&cases, |(tolerance, weather)| {
        let options = quorum(3).replace("tolerance = 5", &format!("tolerance = {tolerance}"));
        let scene = stage(uwsgi, 3, &options);
        scene.legion.links().set_all(weather);
        reload(&scene, Way::Hup, "sleep 8");
        reload(&scene, Way::Term, "");
        comes_to_an_end(&scene);
    });
}

/// Lord of one of two, and of both: each Legion has an IP of its own.
fn it_is_none_in_several_legions(uwsgi: Uwsgi) {
    side_by_side(&[false, true], |of_both| {
        let second = ip("5.5.5.5");
        let config = Config { failover: vec![Failover::new(second, None)], ..Config::default() };
        let mut scene = nodes(uwsgi, 2, config, ROUNDS);
        let addresses = [free_address(), free_address()];
        for node in 1..=2 {
            let hook = hook(node, &scene.robot.url(second), "").replace("ip=4.4.4.4", "ip=5.5.5.5");
            let valor = if of_both { 3 - node } else { node };
            let [own, other] = [addresses[node - 1], addresses[2 - node]];
            *scene.legion.ini_mut(node) += &format!(
                "legion = other {own} {valor} aes-128-cbc:secret1\nlegion-node = other {other}\n\
                 legion-lord = other hetzner-failoverip:{hook}\n"
            );
        }
        scene.legion.start_all();
        settle(&scene, 2);
        let lord = if of_both { 1 } else { 2 };
        let reigns = |node| scene.legion.node(node).is_lord("other");
        let at_home = || reigns(lord) && !reigns(3 - lord);
        scene.wait_until(LIMIT, "the other Legion is settled", || {
            at_home() && scene.robot.route(second) == lab::legion::route_of(lord)
        });
        let uuid = || Some(scene.legion.node(1).legion("other")?["uuid"].as_str()?.to_string());
        let (before, attempt) = (uuid(), "attempting to become the Lord of the Legion other");
        let attempts = scene.said(2, attempt);
        // The first hook's requests are watched; those of the other have the lab's own user.
        reload(&scene, Way::Hup, "sleep 7");
        scene.wait_until(LIMIT, "as before", at_home);
        comes_to_an_end(&scene);
        assert!(at_home(), "{}", scene.state());
        assert_eq!(scene.said(2, attempt), attempts, "{}", scene.state());
        if of_both {
            assert_eq!(uuid(), before, "{}", scene.state());
            assert_eq!(scene.said(2, "announced its death"), 0, "{}", scene.state());
        }
    });
}

fn it_is_none_twice_within_a_second_and_three_times_in_ten(uwsgi: Uwsgi) {
    side_by_side(&[2, 3], |count| {
        let scene = stage(uwsgi, count, &if count == 2 { ROUNDS.into() } else { quorum(count) });
        let node = scene.legion.node(1);
        // While the first one waits for the workers.
        let watch = Watch::on(&scene, 1);
        let workers = node.stop_workers();
        node.signal(SIGHUP);
        thread::sleep(Duration::from_millis(300));
        node.signal(SIGHUP);
        thread::sleep(Duration::from_millis(300));
        let_go_on(&workers);
        watch.is_lord_again();
        // As soon as it serves, which is before it can be elected again.
        for app in ["", "sleep 2"] {
            scene.legion.set_app(1, app);
            let watch = Watch::on(&scene, 1);
            for _ in 0..3 {
                let images = node.images();
                node.signal(SIGHUP);
                wait_for_image(&scene.legion, 1, images, LIMIT);
            }
            scene.wait_until(LIMIT, "it is Lord again", || scene.is_at(1));
            watch.nobody_has_noticed();
        }
        comes_to_an_end(&scene);
    });
}

/// Whoever is there first finds the Lord still spoken for.
fn it_is_none_of_all_nodes_at_once(uwsgi: Uwsgi) {
    let cases = [
        (2, ["", "", ""]),
        (3, ["", "", ""]),
        (3, ["sleep 7", "", "sleep 3"]),
        (3, ["", "sleep 7", "sleep 7"]),
    ];
    side_by_side(&cases, |(count, apps)| {
        let scene = stage(uwsgi, count, &if count == 2 { ROUNDS.into() } else { quorum(count) });
        let watch = Watch::on(&scene, 1);
        let images: Vec<usize> = (1..=count).map(|node| scene.legion.node(node).images()).collect();
        (1..=count).for_each(|node| scene.legion.set_app(node, apps[node - 1]));
        (1..=count).for_each(|node| scene.legion.ask_for_reload(node, Way::Hup));
        (1..=count).for_each(|node| wait_for_image(&scene.legion, node, images[node - 1], LIMIT));
        settle(&scene, count);
        watch.nobody_has_noticed();
        comes_to_an_end(&scene);
    });
}

/// A peer that dies, comes back, or reloads while the Lord does: what the Lord says meanwhile cannot know of it.
fn it_is_none_while_others_come_and_go(uwsgi: Uwsgi) {
    let mut scene = stage(uwsgi, 3, ROUNDS);
    scene.legion.set_app(1, "sleep 9");
    let begin = |scene: &Scene| {
        let images = scene.legion.node(1).images();
        scene.legion.ask_for_reload(1, Way::Hup);
        scene.wait_until(LIMIT, "a new image", || scene.legion.node(1).images() > images);
    };
    let (uuid, posts) = (scene.legion.uuid(1).expect("it answers"), scene.posts());
    begin(&scene);
    scene.legion.kill(3);
    scene.wait_until(LIMIT, "it is Lord again", || scene.is_at(1));
    begin(&scene);
    scene.legion.start(3);
    settle(&scene, 3);
    begin(&scene);
    let images = scene.legion.node(2).images();
    scene.legion.ask_for_reload(2, Way::Hup);
    wait_for_image(&scene.legion, 2, images, LIMIT);
    settle(&scene, 3);
    comes_to_an_end(&scene);
    assert_eq!(scene.legion.uuid(1), Some(uuid.clone()), "{}", scene.state());
    assert_eq!(scene.posts(), posts, "{}", scene.state());
    for node in [2, 3] {
        assert_eq!(scene.said(node, &format!("uuid: {uuid} announced")), 0, "{}", scene.state());
        assert_eq!(scene.said(node, &format!("uuid: {uuid} left")), 0, "{}", scene.state());
    }
}

/// Shorter than the tolerance, at the beginning and at the end of a reload.
fn it_is_none_in_a_short_cut(uwsgi: Uwsgi) {
    let options = |count| {
        if count == 2 { ROUNDS.into() } else { quorum(count) }.replace("tolerance = 5", "tolerance = 9")
    };
    side_by_side(&[2, 3], |count| {
        let scene = stage(uwsgi, count, &options(count));
        scene.legion.set_app(1, "sleep 4");
        let watch = Watch::on(&scene, 1);
        scene.legion.links().cut_off(1);
        scene.legion.ask_for_reload(1, Way::Hup);
        thread::sleep(seconds(3));
        scene.legion.links().heal();
        thread::sleep(seconds(1));
        scene.legion.links().cut_off(1);
        wait_for_image(&scene.legion, 1, watch.images, LIMIT);
        scene.legion.links().heal();
        watch.is_lord_again();
        comes_to_an_end(&scene);
    });
}

/// They have nothing but uWSGI's own rules.
fn it_is_none_among_nodes_without_the_plugin(uwsgi: Uwsgi) {
    side_by_side(&[2, 3], |count| {
        let mut scene =
            nodes(uwsgi, count, Config::default(), &if count == 2 { ROUNDS.into() } else { quorum(count) });
        for node in 2..=count {
            let ini = scene.legion.ini_mut(node);
            let lines =
                ini.lines().filter(|line| !line.starts_with("plugin") && !line.starts_with("legion-lord"));
            *ini = lines.map(|line| format!("{line}\n")).collect();
        }
        scene.legion.start_all();
        settle(&scene, count);
        reload(&scene, Way::Hup, "sleep 7");
        reload(&scene, Way::Term, "");
        comes_to_an_end(&scene);
    });
}

/// Where the IP is cannot be asked for. It was here, and nobody else was Lord.
fn it_is_none_while_the_api_is_down(uwsgi: Uwsgi) {
    side_by_side(&["any refuse", "any hang", "any html 502"], |rule| {
        let options = format!("{}legion-death-on-lord-error = 300\n", quorum(3));
        let mut scene = Scene::new(uwsgi, 3, Config::default(), ",timeout=3,deadline=12", &options);
        scene.legion = scene.legion.with_links();
        (1..=3).for_each(|node| scene.legion.make_reloadable(node));
        scene.legion.start_all();
        settle(&scene, 3);
        scene.rule(rule);
        let watch = Watch::on(&scene, 1);
        scene.legion.ask_for_reload(1, Way::Hup);
        wait_for_image(&scene.legion, 1, watch.images, LIMIT);
        scene.wait_until(LIMIT, "it is Lord again", || scene.is_at(1));
        scene.stays_at(1, LAST_WORD);
        watch.is_still_lord();
        scene.robot.clear_faults();
        scene.stays_at(1, LAST_WORD);
        watch.is_still_lord();
    });
}

fn an_ip_that_was_moved_meanwhile_is_taken_back(uwsgi: Uwsgi) {
    let scene = stage(uwsgi, 3, &quorum(3));
    scene.legion.set_app(1, "sleep 4");
    let watch = Watch::on(&scene, 1);
    scene.legion.ask_for_reload(1, Way::Hup);
    scene.wait_until(LIMIT, "a new image", || scene.legion.node(1).images() > watch.images);
    scene.robot.set_route(failover_ip(), lab::legion::route_of(3));
    scene.wait_until(LIMIT, "it is taken back", || scene.is_at(1));
    watch.is_still_lord();
    assert_eq!(scene.posts(), watch.posts + 1, "{}", scene.state());
}

fn it_changes_nothing_of_a_long_cut(uwsgi: Uwsgi) {
    side_by_side(&[false, true], |with_quorum| {
        let scene = stage(uwsgi, 3, &if with_quorum { quorum(3) } else { ROUNDS.into() });
        scene.legion.links().cut_off(1);
        let has_it = || scene.legion.node(2).is_lord(LEGION) && !scene.posts_of(2).is_empty();
        scene.wait_until(LIMIT, "node 2 has the IP", has_it);
        let (images, own) = (scene.legion.node(1).images(), scene.posts_of(1).len());
        scene.legion.ask_for_reload(1, Way::Hup);
        wait_for_image(&scene.legion, 1, images, LIMIT);
        thread::sleep(TOLERANCE);
        if with_quorum {
            assert!(!scene.legion.node(1).is_lord(LEGION), "{}", scene.state());
            assert_eq!(scene.posts_of(1).len(), own, "{}", scene.state());
        }
        scene.legion.links().heal();
        scene.comes_to_rest_at(1, seconds(6));
        assert!(scene.posts() <= 4, "{}", scene.state());
    });
}

fn a_backup_that_reloads_changes_nothing(uwsgi: Uwsgi) {
    let scene = stage(uwsgi, 3, &quorum(3));
    let watch = Watch::on(&scene, 1);
    for (node, way, app) in [(2, Way::Hup, ""), (3, Way::Term, "sleep 7")] {
        let images = scene.legion.node(node).images();
        scene.legion.set_app(node, app);
        scene.legion.ask_for_reload(node, way);
        wait_for_image(&scene.legion, node, images, LIMIT);
        scene.stays_at(1, TOLERANCE);
        settle(&scene, 3);
    }
    scene.stays_at(1, LAST_WORD);
    watch.nobody_has_noticed();
    assert_eq!(scene.said(1, "i am now the Lord"), 1, "{}", scene.state());
}

/// It is no Lord yet, and says farewell: the next one asks for the IP, and leaves it to node 1 when that is back.
fn a_takeover_that_a_reload_breaks_off_ends_well(uwsgi: Uwsgi) {
    side_by_side(&["", "sleep 8"], |app| {
        let mut scene = nodes(uwsgi, 3, Config { switch: seconds(8), ..Config::default() }, &quorum(3));
        scene.legion.start_all();
        scene.wait_until(LIMIT, "node 1 asks", || !scene.posts_of(1).is_empty());
        scene.wait_until(LIMIT, "it serves", || scene.legion.node(1).serves());
        assert!(scene.legion.lords().is_empty(), "it was too quick: {}", scene.state());
        let uuid = scene.legion.uuid(1).expect("it answers");
        let images = scene.legion.node(1).images();
        scene.legion.set_app(1, app);
        scene.legion.ask_for_reload(1, Way::Hup);
        wait_for_image(&scene.legion, 1, images, LIMIT);
        scene.comes_to_rest_at(1, seconds(6));
        settle(&scene, 3);
        assert!((2..=3).all(|node| !scene.legion.counts(node, &uuid)), "{}", scene.state());
        assert!(scene.robot.history().len() <= 3 && scene.posts() <= 6, "{}", scene.state());
    });
}

fn a_suspended_node_that_reloads_is_a_candidate_again(uwsgi: Uwsgi) {
    let options = format!("{}legion-death-on-lord-error = 300\n", quorum(3));
    let mut scene = nodes(uwsgi, 3, Config::default(), &options);
    scene.rule("post target=1.1.1.1 error FAILOVER_FAILED");
    scene.legion.start_all();
    scene.legion.node(1).wait_for_log("suspending myself", LIMIT);
    scene.wait_until(LIMIT, "node 2 has the IP", || scene.is_at(2));
    scene.robot.clear_faults();
    let (images, attempts) = (scene.legion.node(1).images(), scene.said(2, ATTEMPT));
    scene.legion.set_app(1, "sleep 7");
    scene.legion.ask_for_reload(1, Way::Hup);
    scene.wait_until(LIMIT, "a new image", || scene.legion.node(1).images() > images);
    // Nobody speaks for it.
    assert_eq!(scene.robot.route(failover_ip()), lab::legion::route_of(2), "{}", scene.state());
    wait_for_image(&scene.legion, 1, images, LIMIT);
    scene.comes_to_rest_at(1, seconds(6));
    assert_eq!(scene.said(2, ATTEMPT), attempts, "{}", scene.state());
}
