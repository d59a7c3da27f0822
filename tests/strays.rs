//! Datagrams on a Legion's port that are no announcement of its Legion, or none of today: damaged, cut short, oversized, by
//! another secret, of another Legion, replayed. Some say that another node is to be Lord, some that a peer is dead.

use lab::legion::LEGION;
use lab::links::Weather;
use lab::robot::Config;
use lab::scene::{LIMIT, QUICK, QUORUM, Scene, on_each_uwsgi, seconds};
use lab::strays::Stray;
use lab::uwsgi::Uwsgi;

on_each_uwsgi! {
    nothing_comes_of_strays
    a_node_with_a_long_scroll_is_heard
}

/// All kinds of them, behind each announcement.
const RAIN: Weather = Weather { strays: 7, cut: false, loss: 0, duplicate: 0, delay: seconds(0) };

fn nothing_comes_of_strays(uwsgi: Uwsgi) {
    let mut scene = Scene::settled(uwsgi, 3, "", QUORUM);
    assert_eq!(Stray::ALL.len(), usize::from(RAIN.strays));
    let posts = scene.posts();
    // While no hook runs, it is uWSGI that refuses them.
    scene.legion.links().set_all(RAIN);
    let refusals = ["invalid packet", "EVP_DecryptFinal_ex()", "invalid legion name", "untolerable packet"];
    for (node, refusal) in (1..=3).flat_map(|node| refusals.map(|refusal| (node, refusal))) {
        scene.wait_until(LIMIT, refusal, || scene.said(node, refusal) > 0);
    }
    scene.stays_at(1, seconds(8));
    assert_eq!(scene.posts(), posts, "{}", scene.state());
    assert!(scene.see_each_other(&[1, 2, 3]), "{}", scene.state());

    // While a hook runs, it hears them itself. It runs for longer than the tolerance, and asks more than once, as it would
    // not if it were outvoted.
    scene.rule("post locked 8s");
    scene.robot.set_switch(seconds(4));
    let third = scene.legion.node(3).legion(LEGION).expect("it runs")["uuid"].clone();
    scene.legion.kill(1);
    scene.wait_until(LIMIT, "node 2 asks for the IP", || !scene.posts_of(2).is_empty());
    let before = scene.legion.links().strays();
    scene.wait_for(2, LIMIT);
    let rained = scene.legion.links().strays() - before;
    assert!(rained > 100, "only {rained} strays");
    scene.stays_at(2, seconds(8));
    assert_eq!(scene.posts(), 1 + scene.posts_of(2).len(), "{}", scene.state());
    let third = third.as_str().expect("a text");
    assert!(!scene.legion.any_log_holds(&format!("uuid: {third} left")), "{}", scene.state());
    for (node, text) in (2..=3).flat_map(|node| ["joined Legion", "left Legion"].map(|text| (node, text))) {
        // The others when all began, and node 1 at its end.
        let expected = if text == "joined Legion" { 2 } else { 1 };
        assert_eq!(scene.said(node, text), expected, "{node} {text}: {}", scene.state());
    }
    assert!(!scene.legion.any_log_holds("announced its death"), "{}", scene.state());
    assert_eq!(scene.said(3, "attempting to become the Lord"), 0, "{}", scene.state());
    for text in ["FAILED", "leaving it to the next election", "a bug in uwsgi-hetzner", "panicked"] {
        assert!(!scene.legion.any_log_holds(text), "{text}: {}", scene.state());
    }
}

/// An announcement may be long, too: while a hook runs, whoever is not heard would be dropped.
fn a_node_with_a_long_scroll_is_heard(uwsgi: Uwsgi) {
    let config = Config { switch: seconds(12), ..Config::default() };
    let mut scene = Scene::new(uwsgi, 3, config, "", QUICK);
    *scene.legion.ini_mut(3) += &format!("legion-scroll = {LEGION} {}\n", "x".repeat(20_000));
    scene.legion.start_all();
    scene.wait_for(1, LIMIT);
    for text in ["left Legion", "tiny buffer"] {
        assert!(!scene.legion.any_log_holds(text), "{text}: {}", scene.state());
    }
}
