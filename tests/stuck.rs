//! What hangs: a log that nobody reads, and a proxy that never ends its answer. A takeover ends in time all the same, or
//! another node makes it.

use std::fs;
use std::io::Write;
use std::net::{Ipv4Addr, TcpListener};
use std::process::Command;
use std::thread;

use lab::legion::{LEGION, failover_ip, route_of};
use lab::robot::Config;
use lab::scene::{LIMIT, QUICK, Scene, on_each_uwsgi, seconds};
use lab::uwsgi::Uwsgi;
use lab::{PASSWORD, shim, wait_until};

on_each_uwsgi! {
    a_log_that_nobody_reads_does_not_hold_a_takeover
    another_node_takes_over_from_one_that_its_log_holds
    a_lord_that_its_log_holds_leaves_the_ip_to_the_next
    a_guard_takes_the_ip_back_though_nobody_reads_its_log
    a_proxy_that_trickles_does_not_hold_a_takeover
    a_lookup_that_hangs_does_not_hold_a_takeover
    a_password_file_that_hangs_does_not_hold_a_takeover
}

/// Nodes 2 and 3 are settled; node 1 has just sent its POST when its log gets stuck.
fn stuck_during_a_takeover(uwsgi: Uwsgi, more: &str, rule: &str) -> Scene {
    let mut scene = Scene::new(uwsgi, 3, Config::default(), more, QUICK);
    scene.legion.pipe_log(1);
    scene.legion.start(2);
    scene.legion.start(3);
    scene.wait_for(2, LIMIT);
    scene.rule(rule);
    scene.legion.start(1);
    assert!(wait_until(LIMIT, || !scene.posts_of(1).is_empty()), "{}", scene.state());
    scene.legion.node(1).block_log();
    scene
}

/// The answer that never comes is asked for again, whether or not that can be logged.
fn a_log_that_nobody_reads_does_not_hold_a_takeover(uwsgi: Uwsgi) {
    let scene = stuck_during_a_takeover(uwsgi, ",timeout=5,deadline=60", "post target=1.1.1.1 times=1 hang");
    let at_1 = || scene.robot.route(failover_ip()) == route_of(1);
    assert!(wait_until(LIMIT, at_1), "{}", scene.state());
    scene.legion.node(1).read_log_on();
    scene.wait_for(1, LIMIT);
}

/// The takeover succeeds, but the Legion's thread is held by a line of uWSGI's own. Silent, the node is dropped.
fn another_node_takes_over_from_one_that_its_log_holds(uwsgi: Uwsgi) {
    let scene =
        stuck_during_a_takeover(uwsgi, ",timeout=15,deadline=15", "post target=1.1.1.1 times=1 delay 3s");
    assert!(wait_until(LIMIT, || scene.robot.route(failover_ip()) == route_of(1)), "{}", scene.state());
    // After the deadline, the tolerance, and some rounds.
    scene.wait_for(2, LIMIT);
    scene.stays_at(2, seconds(10));
    scene.legion.node(1).read_log_on();
    scene.wait_for(1, LIMIT);
}

/// It still takes itself for the Lord, and hears nothing: not even that the others have another one.
fn a_lord_that_its_log_holds_leaves_the_ip_to_the_next(uwsgi: Uwsgi) {
    let mut scene = Scene::new(uwsgi, 3, Config::default(), ",deadline=15,verify=5", QUICK);
    scene.legion.pipe_log(1);
    scene.legion.start(1);
    scene.legion.start(2);
    scene.wait_for(1, LIMIT);
    scene.legion.node(1).block_log();
    // That it has joined is a line of uWSGI's.
    scene.legion.start(3);
    let at_2 = || scene.legion.node(2).is_lord(LEGION) && scene.robot.route(failover_ip()) == route_of(2);
    assert!(wait_until(LIMIT, at_2), "{}", scene.state());
    assert!(!wait_until(seconds(20), || !at_2()), "{}", scene.state());
    scene.legion.node(1).read_log_on();
    scene.wait_for(1, LIMIT);
}

fn a_guard_takes_the_ip_back_though_nobody_reads_its_log(uwsgi: Uwsgi) {
    let mut scene = Scene::new(uwsgi, 3, Config::default(), ",verify=5", QUICK);
    scene.legion.pipe_log(1);
    scene.legion.start_all();
    scene.wait_for(1, LIMIT);
    assert!(wait_until(LIMIT, || scene.see_each_other(&[1, 2, 3])), "{}", scene.state());
    scene.legion.node(1).block_log();
    scene.robot.set_route(failover_ip(), route_of(3));
    scene.wait_for(1, LIMIT);
    scene.legion.node(1).read_log_on();
    scene.stays_at(1, seconds(4));
}

/// A proxy that begins its answer, and goes on with it a byte a second for ever.
fn endless_proxy() -> String {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has free ports");
    let url = format!("http://{}", listener.local_addr().expect("it is bound"));
    thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            thread::spawn(move || {
                let _ = client.write_all(b"HTTP/1.1 200 ");
                while client.write_all(b"x").is_ok() {
                    thread::sleep(seconds(1));
                }
            });
        }
    });
    url
}

/// Nodes 2 and 3 are settled, and node 1 starts with `variable` in its environment: its hook ends soon after its deadline,
/// and node 2 goes on.
fn a_node_that_hangs(mut scene: Scene, variable: &str, value: String) {
    scene.legion.start(2);
    scene.legion.start(3);
    scene.wait_for(2, LIMIT);
    scene.legion.set_own_env(1, [(variable.into(), value)]);
    scene.legion.start(1);
    scene.legion.node(1).wait_for_log("attempting to become the Lord", LIMIT);
    scene.legion.node(1).wait_for_log("ERROR, lord hook returned", LIMIT);
    scene.wait_for(2, LIMIT);
    assert!(scene.posts_of(1).is_empty(), "{}", scene.state());
}

fn with_a_short_deadline(uwsgi: Uwsgi) -> Scene {
    let options = format!("{QUICK}legion-death-on-lord-error = 60\n");
    Scene::new(uwsgi, 3, Config::default(), ",deadline=12", &options)
}

fn a_proxy_that_trickles_does_not_hold_a_takeover(uwsgi: Uwsgi) {
    a_node_that_hangs(with_a_short_deadline(uwsgi), "http_proxy", endless_proxy());
}

/// As with a resolver that nothing comes back from.
fn a_lookup_that_hangs_does_not_hold_a_takeover(uwsgi: Uwsgi) {
    let mut scene = with_a_short_deadline(uwsgi);
    let ini = scene.legion.ini_mut(1);
    *ini = ini.replace("url=http://127.0.0.1:", "url=http://localhost:");
    let hangs = "#include <unistd.h>\nint getaddrinfo() { for (;;) pause(); }\n";
    let library = shim::build(&scene.legion.folder(1), hangs).display().to_string();
    a_node_that_hangs(scene, "LD_PRELOAD", library);
}

/// As on a file system that does not answer: whoever opens it waits for ever. What was read before may still be used.
fn a_password_file_that_hangs_does_not_hold_a_takeover(uwsgi: Uwsgi) {
    let mut scene = with_a_short_deadline(uwsgi);
    let file = scene.legion.folder(2).join("password");
    fs::write(&file, PASSWORD).expect("a writable folder");
    let ini = scene.legion.ini_mut(2);
    *ini = ini.replace(&format!("password={PASSWORD}"), &format!("password_file={}", file.display()));
    scene.legion.start_all();
    scene.wait_for(1, LIMIT);
    fs::remove_file(&file).expect("it is there");
    assert!(Command::new("mkfifo").arg(&file).status().expect("mkfifo starts").success());
    scene.legion.kill(1);
    assert!(wait_until(LIMIT, || scene.is_at(2) || scene.is_at(3)), "{}", scene.state());
}
