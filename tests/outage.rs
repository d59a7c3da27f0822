//! An API that cannot be reached, is slow, has had enough, or does not say what it does: what is sent then, how often,
//! and how soon it is used when it is well again.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use lab::legion::{Legion, failover_ip, hook};
use lab::proxy::join;
use lab::robot::{Config, Failover, Limits, Login};
use lab::scene::{LIMIT, QUICK, QUORUM, Scene, on_each_uwsgi, robot, seconds};
use lab::uwsgi::Uwsgi;
use lab::{PASSWORD, USERNAME, ip};

/// An account whose failover IP is at none of the nodes.
fn elsewhere() -> Config {
    Config { failover: vec![Failover::new(failover_ip(), Some(ip("9.9.9.9")))], ..Config::default() }
}

on_each_uwsgi! {
    a_used_up_limit_of_get_holds_no_post
    looks_that_are_refused_keep_nobody_from_posting_again
    an_api_that_was_away_is_used_as_soon_as_it_is_back
    answers_of_500_are_met_with_a_few_posts_at_once
    a_new_password_is_tried_though_the_old_one_was_rejected_twice
    a_black_hole_is_left_within_seconds_and_tried_again
    a_proxy_that_trickles_holds_no_request_past_its_limit
    a_switch_that_is_made_late_is_seen
}

/// Its Lord may not look, loses its quorum, and is elected again.
fn a_used_up_limit_of_get_holds_no_post(uwsgi: Uwsgi) {
    let limits = Limits { get: 0, ..Limits::default() };
    let mut scene = Scene::new(uwsgi, 2, Config { limits, ..elsewhere() }, ",verify=1", QUORUM);
    scene.legion.start_all();
    scene.wait_until(LIMIT, "node 1 has the IP", || scene.is_at(1));
    scene.wait_until(LIMIT, "a look was refused", || scene.asked("GET") > 0);
    scene.legion.kill(2);
    scene.wait_until(LIMIT, "no Lord without a quorum", || scene.legion.lords().is_empty());
    scene.robot.set_route(failover_ip(), None);
    let posts = scene.posts();
    scene.legion.start(2);
    scene.wait_until(LIMIT, "node 1 has it again", || scene.is_at(1));
    assert_eq!(scene.posts(), posts + 1, "{}", scene.state());
    assert_eq!(scene.said(1, "FAILED"), 0, "{}", scene.state());
}

/// A takeover whose first POST got no answer.
fn looks_that_are_refused_keep_nobody_from_posting_again(uwsgi: Uwsgi) {
    let limits = Limits { get: 0, ..Limits::default() };
    let mut scene = Scene::new(uwsgi, 1, Config { limits, ..elsewhere() }, "", QUICK);
    scene.rule("post times=1 close");
    scene.legion.start_all();
    scene.wait_until(LIMIT, "node 1 has the IP", || scene.is_at(1));
    assert_eq!((scene.posts(), scene.asked("GET")), (2, 1), "{}", scene.state());
    assert_eq!(scene.said(1, "FAILED"), 0, "{}", scene.state());
}

/// What never arrived has cost nothing, however often it was tried: when the API is back, a takeover has all its POSTs.
fn an_api_that_was_away_is_used_as_soon_as_it_is_back(uwsgi: Uwsgi) {
    let options = format!("{QUICK}legion-death-on-lord-error = 1\n");
    let mut scene = Scene::new(uwsgi, 1, elsewhere(), ",deadline=8", &options);
    scene.rule("post times=2 html 200");
    scene.rule("any refuse 60s");
    scene.legion.start_all();
    scene.wait_until(seconds(240), "node 1 has the IP", || scene.is_at(1));
    assert!(scene.said(1, "connection refused (after ") >= 2, "{}", scene.state());
    assert_eq!(scene.posts(), 3, "{}", scene.state());
    assert_eq!(scene.said(1, "held back"), 0, "{}", scene.state());
}

fn answers_of_500_are_met_with_a_few_posts_at_once(uwsgi: Uwsgi) {
    let mut scene = Scene::new(uwsgi, 1, elsewhere(), "", QUICK);
    scene.rule("post error FAILOVER_FAILED");
    scene.legion.start_all();
    // The guard tries again, but not at once.
    let text = "trying again in ";
    scene.wait_until(LIMIT, "a POST is put off", || scene.said(1, text) > 0);
    scene.wait_until(LIMIT, "a fourth POST", || scene.posts() >= 4);
    // A line may be written a moment after what it tells of.
    let said = || scene.said(1, "routing 4.4.4.4 to");
    scene.wait_until(LIMIT, "its line", || said() >= 4);
    assert_eq!((scene.posts(), said()), (4, 4), "said to be sent, and was not: {}", scene.state());
    let journal = scene.robot.journal();
    let posts: Vec<_> =
        journal.iter().filter(|request| request.method == "POST").map(|post| post.at).collect();
    let pause = posts[3].duration_since(posts[2]);
    assert!(pause >= seconds(29), "{pause:?}: {}", scene.state());
    assert_eq!(scene.said(1, text), 1, "it is said once: {}", scene.state());
}

fn a_new_password_is_tried_though_the_old_one_was_rejected_twice(uwsgi: Uwsgi) {
    let robot = robot(Config { login: Some(Login::new(USERNAME, PASSWORD)), ..elsewhere() });
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("password");
    let write = |text| std::fs::write(&file, text).expect("a writable folder");
    write("old");
    let named = format!("password_file={}", file.display());
    let hook = hook(1, &robot.url(failover_ip()), "").replace(&format!("password={PASSWORD}"), &named);
    let mut scene = Scene { robot, legion: Legion::new(uwsgi, &[hook], QUICK) };
    scene.legion.start_all();
    let rejected = || scene.robot.journal().iter().filter(|request| !request.authorised).count();
    scene.wait_until(LIMIT, "two rejected logins", || rejected() == 2);
    scene.wait_until(LIMIT, "silence", || scene.said(1, "; from now on held back until ") > 0);
    write(PASSWORD);
    scene.wait_until(seconds(240), "node 1 has the IP", || scene.is_at(1));
    assert_eq!(rejected(), 2, "{}", scene.state());
}

/// A port that takes as many connections as the system keeps, and answers none; until it is told to lead to `to`.
struct BlackHole {
    address: SocketAddr,
    is_open: Arc<AtomicBool>,
    _full: Vec<TcpStream>,
}

impl BlackHole {
    fn before(to: SocketAddr) -> BlackHole {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        let address = listener.local_addr().expect("it is bound");
        let connect = || TcpStream::connect_timeout(&address, Duration::from_millis(100)).ok();
        let full = std::iter::from_fn(connect).collect();
        let is_open = Arc::new(AtomicBool::new(false));
        let opens = Arc::clone(&is_open);
        thread::spawn(move || {
            while !opens.load(Ordering::Relaxed) {
                thread::sleep(Duration::from_millis(20));
            }
            for client in listener.incoming().flatten() {
                thread::spawn(move || relay(client, to));
            }
        });
        BlackHole { address, is_open, _full: full }
    }
}

fn relay(mut client: TcpStream, to: SocketAddr) -> Option<()> {
    let mut first = [0; 1024];
    // Who has only filled the queue says nothing.
    let length = client.read(&mut first).ok().filter(|length| *length > 0)?;
    let mut server = TcpStream::connect(to).ok()?;
    server.write_all(&first[..length]).ok()?;
    join(client, server)
}

fn a_black_hole_is_left_within_seconds_and_tried_again(uwsgi: Uwsgi) {
    let robot = robot(elsewhere());
    let hole = BlackHole::before(robot.addr());
    let url = robot.url(failover_ip()).replace(&robot.addr().to_string(), &hole.address.to_string());
    let mut scene = Scene { robot, legion: Legion::new(uwsgi, &[hook(1, &url, "")], QUICK) };
    scene.legion.start_all();
    let line = format!("not yet: {}: no connection within ", hole.address);
    // The time limit of a request is a minute.
    scene.wait_until(LIMIT, "a second try", || scene.said(1, &line) >= 2);
    assert_eq!(scene.said(1, "; trying again in "), scene.said(1, &line), "{}", scene.state());
    hole.is_open.store(true, Ordering::Relaxed);
    scene.wait_until(LIMIT, "node 1 has the IP", || scene.is_at(1));
    assert_eq!((scene.posts(), scene.asked("GET")), (1, 0), "{}", scene.state());
}

/// Each byte is in time; the answer never ends.
fn a_proxy_that_trickles_holds_no_request_past_its_limit(uwsgi: Uwsgi) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    let proxy = format!("http://{}", listener.local_addr().expect("it is bound"));
    thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            thread::spawn(move || {
                let answer = b"HTTP/1.1 200 Connection established\r\nX-Slow: ";
                for byte in answer.iter().chain(std::iter::repeat(&b'x')) {
                    if client.write_all(&[*byte]).is_err() {
                        return;
                    }
                    thread::sleep(Duration::from_millis(200));
                }
            });
        }
    });
    let mut scene = Scene::new(uwsgi, 1, elsewhere(), ",timeout=3,deadline=8", QUICK);
    scene.legion.set_env("http_proxy", &proxy);
    scene.legion.start_all();
    scene.legion.node(1).wait_for_log("routing 4.4.4.4", LIMIT);
    scene.legion.node(1).wait_for_log("no connection within ", LIMIT);
    scene.legion.node(1).wait_for_log("FAILED to route", LIMIT);
    assert!(scene.robot.journal().is_empty(), "{}", scene.state());
}

/// Two POSTs are lost, the third one's switch takes longer than its client waits.
fn a_switch_that_is_made_late_is_seen(uwsgi: Uwsgi) {
    let config = Config { switch: seconds(25), ..elsewhere() };
    let options = format!("{QUICK}legion-death-on-lord-error = 300\n");
    let mut scene = Scene::new(uwsgi, 1, config, ",timeout=5,deadline=90", &options);
    scene.rule("post times=2 html 200");
    scene.legion.start_all();
    scene.wait_until(LIMIT, "the third POST", || scene.posts() == 3);
    scene.wait_until(LIMIT, "node 1 has the IP", || scene.is_at(1));
    assert_eq!(scene.posts(), 3, "{}", scene.state());
    assert_eq!(scene.said(1, "FAILED"), 0, "{}", scene.state());
}
