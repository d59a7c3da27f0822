//! What real installations have and clean nodes do not: hooks of others, of which one fails; files that are missing
//! for a minute; hooks that release; an API that only one node cannot reach.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use lab::legion::{LEGION, failover_ip, route_of};
use lab::node::free_address;
use lab::process::SIGINT;
use lab::proxy::join;
use lab::robot::Config;
use lab::scene::{LIMIT, QUICK, QUORUM, Scene, on_each_uwsgi, seconds, side_by_side};
use lab::uwsgi::Uwsgi;
use lab::{PASSWORD, wait_until};

on_each_uwsgi! {
    a_node_whose_first_hook_fails_is_a_member_again
    a_lord_is_elected_as_soon_as_its_first_hook_succeeds
    a_lord_is_elected_as_soon_as_its_password_file_is_there
    a_hook_behind_ours_that_fails_keeps_its_node_away_for_longer_each_time
    the_ip_stays_with_the_lord_where_the_other_node_has_announced_its_death
    a_node_without_access_to_the_api_is_lord_again_when_it_has_it
    a_node_that_cannot_be_lord_votes_for_one_that_can
    a_node_without_access_to_the_api_hands_over_to_those_that_start_after_it
    what_others_are_there_to_take_is_not_released
    the_last_node_releases_what_nobody_else_takes
}

fn suspended_for(seconds: u64) -> String {
    format!("{QUICK}legion-death-on-lord-error = {seconds}\n")
}

// A suspended node comes back, whatever has suspended it.

/// The hook of ours behind it never runs, so that nothing of the plugin does by then.
fn a_node_whose_first_hook_fails_is_a_member_again(uwsgi: Uwsgi) {
    let mut scene = Scene::new(uwsgi, 2, Config::default(), "", &suspended_for(3));
    scene.hook_before(1, "cmd:/bin/false");
    scene.legion.start(2);
    scene.wait_for(2, LIMIT);
    scene.legion.start(1);
    let together = || scene.see_each_other(&[1, 2]);
    assert!(wait_until(LIMIT, together), "{}", scene.state());
    scene.legion.node(1).wait_for_log("suspending myself", LIMIT);
    let joined = |line: &&str| line.contains("valor: 9999 ") && line.contains("joined Legion");
    let back = || scene.legion.node(2).log().lines().filter(joined).count() >= 2;
    assert!(wait_until(LIMIT, back), "{}", scene.state());
}

/// Two of three are alive, and each is needed for the quorum; the next Lord's hook fails until `mend`.
fn a_failover_that_fails_once(mut scene: Scene, spoil: impl Fn(), mend: impl Fn()) {
    scene.legion.start_all();
    scene.wait_for(1, LIMIT);
    spoil();
    scene.legion.kill(1);
    let failed = || scene.legion.node(2).log().contains("suspending myself");
    assert!(wait_until(LIMIT, || failed() || scene.is_at(2)), "{}", scene.state());
    mend();
    // uWSGI's master may reap a command before its Legion's thread does, which then takes it for failed, and the node stays
    // away for half a minute.
    scene.wait_for(2, LIMIT);
}

fn a_lord_is_elected_as_soon_as_its_first_hook_succeeds(uwsgi: Uwsgi) {
    let options = format!("{QUORUM}legion-death-on-lord-error = 5\n");
    let mut scene = Scene::new(uwsgi, 3, Config::default(), "", &options);
    let file = scene.legion.folder(2).join("mounted");
    scene.hook_before(2, &format!("cmd:test -e {}", file.display()));
    a_failover_that_fails_once(scene, || (), || drop(File::create(&file).expect("a writable folder")));
}

fn a_lord_is_elected_as_soon_as_its_password_file_is_there(uwsgi: Uwsgi) {
    let options = format!("{QUORUM}legion-death-on-lord-error = 5\n");
    let mut scene = Scene::new(uwsgi, 3, Config::default(), ",deadline=10", &options);
    let file = scene.legion.folder(2).join("password");
    let write = || fs::write(&file, PASSWORD).expect("a writable folder");
    write();
    let ini = scene.legion.ini_mut(2);
    *ini = ini.replace(&format!("password={PASSWORD}"), &format!("password_file={}", file.display()));
    a_failover_that_fails_once(scene, || fs::remove_file(&file).expect("it is there"), write);
}

// A hook behind ours that always fails: the IP was moved for nothing.

fn a_hook_behind_ours_that_fails_keeps_its_node_away_for_longer_each_time(uwsgi: Uwsgi) {
    let mut scene = Scene::new(uwsgi, 3, Config::default(), "", &suspended_for(2));
    scene.hook_behind(1, "cmd:/bin/false");
    scene.legion.start_all();
    assert!(scene.robot.wait_for(LIMIT, |journal| !journal.is_empty()), "{}", scene.state());
    thread::sleep(seconds(75));
    let posts = scene.posts();
    assert!(posts <= 6, "{posts} POSTs: {}", scene.state());
    scene.wait_until(LIMIT, "node 1 comes back", || scene.posts_of(1).len() >= 2);
    let tries: Vec<Instant> = scene.posts_of(1).iter().map(|post| post.at).collect();
    let away: Vec<Duration> = tries.windows(2).map(|two| two[1] - two[0]).collect();
    for (away, least) in away.iter().skip(1).zip([30, 60]) {
        assert!(*away >= seconds(least), "{away:?}, not {least} s: {}", scene.state());
    }
    scene.wait_for(2, LIMIT);
}

/// Node 2 is still Lord when the other is gone again, so that its hook does not run once more.
fn the_ip_stays_with_the_lord_where_the_other_node_has_announced_its_death(uwsgi: Uwsgi) {
    let mut scene = Scene::new(uwsgi, 2, Config::default(), "", &suspended_for(30));
    scene.hook_behind(1, "cmd:/bin/false");
    scene.legion.start(2);
    scene.wait_for(2, LIMIT);
    scene.legion.start(1);
    scene.legion.node(1).wait_for_log("suspending myself", LIMIT);
    scene.wait_for(2, LIMIT);
}

// An API that only the highest node cannot reach.

/// From now on what connects to `from` is connected to `to`.
fn relay(from: SocketAddr, to: SocketAddr) {
    let listener = TcpListener::bind(from).expect("nobody else has it");
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            thread::spawn(move || join(client, TcpStream::connect(to).ok()?));
        }
    });
}

/// Three nodes, of which the highest finds nothing where it asks for the API; returns that place too.
fn without_access(uwsgi: Uwsgi, more: &str) -> (Scene, SocketAddr) {
    let mut scene = Scene::new(uwsgi, 3, Config::default(), more, &suspended_for(5));
    let nothing_there = free_address();
    let robot = scene.robot.addr().to_string();
    let ini = scene.legion.ini_mut(1);
    *ini = ini.replace(&robot, &nothing_there.to_string());
    (scene, nothing_there)
}

/// It hands over once, and then leaves the others in peace until it can do what a Lord has to.
fn a_node_without_access_to_the_api_is_lord_again_when_it_has_it(uwsgi: Uwsgi) {
    side_by_side(&["", ",deadline=10"], |more| {
        let (mut scene, nothing_there) = without_access(uwsgi, more);
        scene.legion.start(2);
        scene.legion.start(3);
        scene.wait_for(2, LIMIT);
        scene.legion.start(1);
        scene.legion.node(1).wait_for_log("suspending myself", LIMIT);
        scene.wait_for(2, LIMIT);
        let elections = || scene.legion.logs().matches("i am now the Lord").count();
        let before = elections();
        thread::sleep(seconds(60));
        assert!(scene.is_at(2) && elections() == before, "{}", scene.state());
        relay(nothing_there, scene.robot.addr());
        scene.wait_for(1, LIMIT);
    });
}

/// Two of three are left, and only one of them reaches the API: without the vote of the other one it has no quorum.
fn a_node_that_cannot_be_lord_votes_for_one_that_can(uwsgi: Uwsgi) {
    let options = format!("{}legion-quorum = {LEGION} 2\n", suspended_for(5));
    let mut scene = Scene::new(uwsgi, 3, Config::default(), "", &options);
    let robot = scene.robot.addr().to_string();
    let ini = scene.legion.ini_mut(2);
    *ini = ini.replace(&robot, &free_address().to_string());
    scene.legion.start_all();
    scene.wait_for(1, LIMIT);
    scene.legion.kill(1);
    scene.wait_for(3, LIMIT);
    scene.stays_at(3, seconds(20));
}

/// Nobody was there when its hook began, and uWSGI does not hear who is there now.
fn a_node_without_access_to_the_api_hands_over_to_those_that_start_after_it(uwsgi: Uwsgi) {
    let (mut scene, _) = without_access(uwsgi, "");
    scene.legion.start(1);
    scene.legion.node(1).wait_for_log("connection refused", LIMIT);
    scene.legion.start(2);
    scene.legion.start(3);
    scene.wait_for(2, LIMIT);
}

// Hooks that release.

/// A switch takes its time, and each node releases when it ends and when another one is Lord.
fn with_releases(uwsgi: Uwsgi, nodes: usize) -> Scene {
    let config = Config { switch: seconds(4), ..Config::default() };
    let mut scene = Scene::new(uwsgi, nodes, config, "", QUICK);
    for node in 1..=nodes {
        let ini = scene.legion.ini_mut(node);
        let hook =
            ini.lines().find(|line| line.starts_with("legion-lord")).expect("there is one").to_string();
        let release = hook.replace("hetzner-failoverip:", "hetzner-failoverip-release:");
        for phase in ["legion-death", "legion-unlord"] {
            *ini += &format!("{}\n", release.replace("legion-lord", phase));
        }
    }
    scene
}

fn deletes(scene: &Scene) -> usize {
    scene.robot.journal().iter().filter(|request| request.method == "DELETE").count()
}

/// One POST each, none of which has to wait for a switch to nowhere.
fn what_others_are_there_to_take_is_not_released(uwsgi: Uwsgi) {
    let mut scene = with_releases(uwsgi, 3);
    scene.legion.start_all();
    scene.wait_for(1, LIMIT);
    assert!(wait_until(LIMIT, || scene.see_each_other(&[1, 2, 3])), "{}", scene.state());
    let posts = scene.posts();
    scene.legion.node(1).signal(SIGINT);
    assert!(scene.legion.wait_for_exit(1, LIMIT), "{}", scene.state());
    scene.wait_for(2, LIMIT);
    assert_eq!((deletes(&scene), scene.posts()), (0, posts + 1), "{}", scene.state());
    let said = scene.legion.node(1).lines().iter().any(|line| line.contains("releas"));
    assert!(said, "{}", scene.state());

    scene.legion.start(1);
    scene.wait_for(1, LIMIT);
    assert_eq!((deletes(&scene), scene.posts()), (0, posts + 2), "{}", scene.state());
    assert!(scene.robot.history().iter().all(|(_, _, to)| to.is_some()), "{}", scene.state());
}

fn the_last_node_releases_what_nobody_else_takes(uwsgi: Uwsgi) {
    let mut scene = with_releases(uwsgi, 2);
    scene.legion.start_all();
    scene.wait_for(1, LIMIT);
    scene.legion.kill(2);
    let alone = || scene.legion.node(1).legion(LEGION).is_some() && scene.legion.members(1).is_empty();
    assert!(wait_until(LIMIT, alone), "{}", scene.state());
    assert_eq!(scene.robot.route(failover_ip()), route_of(1), "{}", scene.state());
    scene.legion.node(1).signal(SIGINT);
    assert!(scene.legion.wait_for_exit(1, LIMIT), "{}", scene.state());
    assert_eq!((deletes(&scene), scene.robot.route(failover_ip())), (1, None), "{}", scene.state());
}
