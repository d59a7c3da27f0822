//! Who is Lord: the one that has the IP and keeps it, before those that are healthy, before those with a higher valor.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use lab::checked::{Answers, Service};
use lab::legion::{LEGION, failover_ip, route_of};
use lab::process::{self, SIGHUP};
use lab::ranked::{
    LOSSY, NOPREEMPT, PATIENT, TWO, check, checked, drain, drain_file, linked, scene, seconds_until_post,
    start,
};
use lab::reload::{Way, wait_for_image};
use lab::scene::{LIMIT, Scene, on_each_uwsgi, seconds, side_by_side};
use lab::uwsgi::Uwsgi;

on_each_uwsgi! {
    the_lord_stays_when_a_higher_node_comes_back
    the_lord_stays_when_its_app_loads_for_longer_than_the_tolerance
    a_lord_without_the_ip_does_not_stay
    a_lord_that_was_away_does_not_take_the_ip_back
    a_node_that_was_suspended_leaves_the_ip_where_it_is
    a_higher_node_takes_over_when_it_was_there_for_long_enough
    a_node_that_comes_and_goes_does_not_count_up
    a_sick_node_does_not_count_up
    a_node_that_would_wait_takes_over_at_once_when_the_lord_dies
    ranks_are_valors_that_any_node_understands
    a_node_without_the_options_counts_as_a_sick_one
    a_node_without_the_options_is_lord_when_nobody_else_is_there
    options_are_rolled_out_from_the_lord_on_without_a_switch
}

/// Node 1 has died and come back, while node 2 was Lord and stayed it.
fn back_at_two(mut scene: Scene) -> Scene {
    let nodes = scene.legion.size();
    start(&mut scene, nodes);
    scene.legion.kill(1);
    scene.settles_at(2, &(2..=nodes).collect::<Vec<_>>());
    scene.legion.start(1);
    scene
}

// nopreempt.

fn the_lord_stays_when_a_higher_node_comes_back(uwsgi: Uwsgi) {
    let five = format!("{NOPREEMPT}legion-quorum = failover 3\n");
    let lossy = format!("{NOPREEMPT}{PATIENT}");
    side_by_side(
        &[(3, NOPREEMPT, 0), (2, NOPREEMPT, 0), (5, &five, 0), (3, &lossy, 30)],
        |(nodes, options, loss)| {
            let all: Vec<usize> = (1..=nodes).collect();
            let mut scene = back_at_two(scene(uwsgi, nodes, options));
            if loss > 0 {
                scene.legion.links().set_all(LOSSY);
            }
            scene.settles_at(2, &all);
            scene.stays_at(2, seconds(10));
            let posts = (1..=nodes).map(|node| scene.posts_of(node).len()).collect::<Vec<_>>();
            assert_eq!(posts[..2], [1, 1], "{}", scene.state());
            assert_eq!(scene.switches(), 2, "{}", scene.state());
            // As long as it lives.
            scene.legion.kill(2);
            let others: Vec<usize> = all.into_iter().filter(|node| *node != 2).collect();
            scene.settles_at(1, &others);
            assert_eq!(scene.switches(), 3, "{}", scene.state());
        },
    );
}

/// One with a lower valor. All that time it was announced, so it was not away.
fn the_lord_stays_when_its_app_loads_for_longer_than_the_tolerance(uwsgi: Uwsgi) {
    let mut scene = scene(uwsgi, 3, NOPREEMPT);
    (1..=3).for_each(|node| scene.legion.make_reloadable(node));
    start(&mut scene, 3);
    scene.legion.kill(1);
    scene.settles_at(2, &[2, 3]);
    scene.legion.start(1);
    scene.settles_at(2, &[1, 2, 3]);
    scene.wait_until(LIMIT, "node 1 is a candidate", || scene.legion.ranks(2).contains(&(1, 1)));
    scene.wait_until(LIMIT, "node 2 serves", || scene.legion.node(2).serves());
    let (images, switches) = (scene.legion.node(2).images(), scene.switches());
    scene.legion.set_app(2, "sleep 7");
    scene.legion.ask_for_reload(2, Way::Hup);
    wait_for_image(&scene.legion, 2, images, LIMIT);
    scene.settles_at(2, &[1, 2, 3]);
    scene.stays_at(2, seconds(6));
    assert_eq!(scene.switches(), switches, "{}", scene.state());
}

/// Its takeover has failed, and yet uWSGI has made it Lord.
fn a_lord_without_the_ip_does_not_stay(uwsgi: Uwsgi) {
    let mut scene = scene(uwsgi, 3, NOPREEMPT);
    scene.rule("post target=2.2.2.2 error FAILOVER_FAILED");
    scene.legion.start(2);
    scene.legion.start(3);
    scene.legion.node(2).wait_for_log("i am now the Lord", LIMIT);
    scene.legion.start(1);
    scene.settles_at(1, &[1, 2, 3]);
    assert_eq!(scene.robot.route(failover_ip()), route_of(1), "{}", scene.state());
}

/// How a Lord is away for a while.
#[derive(Clone, Copy, Debug)]
enum Away {
    Cut,
    Frozen,
}

/// It says that it is Lord, as the other one does, and does not know yet that the IP is elsewhere.
fn a_lord_that_was_away_does_not_take_the_ip_back(uwsgi: Uwsgi) {
    let quorum = format!("{NOPREEMPT}{TWO}");
    let delayed = delay(3600);
    let rows = [
        (Away::Cut, NOPREEMPT),
        (Away::Cut, &quorum),
        (Away::Cut, &delayed),
        (Away::Frozen, NOPREEMPT),
        (Away::Frozen, &quorum),
    ];
    side_by_side(&rows, |(away, options)| {
        let mut scene = linked(scene(uwsgi, 3, options));
        start(&mut scene, 3);
        match away {
            Away::Cut => scene.legion.links().cut_off(1),
            Away::Frozen => scene.legion.node(1).freeze(),
        }
        let is_at_2 =
            || scene.legion.node(2).is_lord(LEGION) && scene.robot.route(failover_ip()) == route_of(2);
        scene.wait_until(LIMIT, "node 2 has the IP", is_at_2);
        // Each has been alone for a while.
        thread::sleep(seconds(6));
        match away {
            Away::Cut => scene.legion.links().heal(),
            Away::Frozen => scene.legion.node(1).thaw(),
        }
        // Until it has heard the other one it may be Lord, too, but without the IP.
        scene.comes_to_rest_at(2, seconds(8));
        assert_eq!(scene.switches(), 2, "{}", scene.state());
        scene.settles_at(2, &[1, 2, 3]);
        scene.legion.kill(2);
        scene.settles_at(1, &[1, 3]);
    });
}

/// It could not take the IP over, and was no member for a while.
fn a_node_that_was_suspended_leaves_the_ip_where_it_is(uwsgi: Uwsgi) {
    let mut scene = scene(uwsgi, 3, &format!("{NOPREEMPT}legion-death-on-lord-error = 30\n"));
    scene.rule("post target=1.1.1.1 times=1 error NOT_FOUND");
    scene.legion.start_all();
    scene.legion.node(1).wait_for_log("suspending myself", LIMIT);
    scene.settles_at(2, &[1, 2, 3]);
    wait_for_ranks(&scene, [1, 3, 1]);
    scene.stays_at(2, seconds(8));
    assert_eq!(scene.switches(), 1, "{}", scene.state());
    scene.legion.kill(2);
    scene.settles_at(1, &[1, 3]);
}

// preempt-delay.

fn delay(seconds: u64) -> String {
    format!("legion-preempt-delay = {LEGION} {seconds}\n")
}

fn a_higher_node_takes_over_when_it_was_there_for_long_enough(uwsgi: Uwsgi) {
    let lossy = format!("{}{PATIENT}", delay(12));
    side_by_side(
        &[(3, delay(12).as_str(), 0), (2, &delay(12), 0), (3, &lossy, 30)],
        |(nodes, options, loss)| {
            let all: Vec<usize> = (1..=nodes).collect();
            let scene = back_at_two(scene(uwsgi, nodes, options));
            let began = Instant::now();
            if loss > 0 {
                scene.legion.links().set_all(LOSSY);
            }
            scene.settles_at(2, &all);
            scene.settles_at(1, &all);
            let (moved, ..) = *scene.robot.history().last().expect("it was moved");
            // It was not seen before it was started; how much later is up to the machine.
            assert!(moved - began >= seconds(12), "{:?}: {}", moved - began, scene.state());
            assert_eq!(scene.switches(), 3, "{}", scene.state());
        },
    );
}

/// In sight for three seconds and lost after the tolerance, again and again; cut off, it has no quorum.
fn a_node_that_comes_and_goes_does_not_count_up(uwsgi: Uwsgi) {
    const DELAY: Duration = seconds(15);
    let scene = back_at_two(linked(scene(uwsgi, 3, &format!("{}{TWO}", delay(DELAY.as_secs())))));
    scene.settles_at(2, &[1, 2, 3]);
    for _ in 0..3 {
        scene.legion.links().cut_off(1);
        scene.wait_until(LIMIT, "node 1 is lost", || scene.legion.members(2) == [3]);
        let posts = scene.posts_of(1).len();
        let healed = Instant::now();
        scene.legion.links().heal();
        scene.wait_until(LIMIT, "node 1 is back", || scene.legion.members(2) == [1, 3]);
        thread::sleep(seconds(3));
        // On a machine that is busy it may have been there for long enough.
        if healed.elapsed() < DELAY {
            assert_eq!(scene.posts_of(1).len(), posts, "{}", scene.state());
            assert!(scene.is_at(2), "{}", scene.state());
        }
    }
    scene.settles_at(1, &[1, 2, 3]);
}

fn a_sick_node_does_not_count_up(uwsgi: Uwsgi) {
    let (mut scene, services) = checked(uwsgi, 3, &delay(8));
    start(&mut scene, 3);
    services[0].set(Answers::Status(404));
    scene.settles_at(2, &[1, 2, 3]);
    scene.stays_at(2, seconds(12));
    let well = Instant::now();
    services[0].set(Answers::Status(200));
    scene.settles_at(1, &[1, 2, 3]);
    let (moved, ..) = *scene.robot.history().last().expect("it was moved");
    assert!(moved - well >= seconds(8), "{:?}: {}", moved - well, scene.state());
    assert_eq!(scene.switches(), 3, "{}", scene.state());
}

fn a_node_that_would_wait_takes_over_at_once_when_the_lord_dies(uwsgi: Uwsgi) {
    let (mut scene, services) = checked(uwsgi, 3, &delay(3600));
    start(&mut scene, 3);
    scene.legion.kill(1);
    scene.settles_at(2, &[2, 3]);
    scene.legion.start(1);
    scene.settles_at(2, &[1, 2, 3]);
    scene.stays_at(2, seconds(4));
    let took = seconds_until_post(&scene, &[&services[0], &services[2]], 1, || {
        process::signal_group(scene.legion.node(2).id(), process::SIGKILL);
    });
    assert!(took <= 8, "{took} s: {}", scene.state());
    scene.settles_at(1, &[1, 3]);
}

// What others see of it.

/// What nodes 1 to 3 add to their valors, in 16,384s, as the others see it.
#[track_caller]
fn wait_for_ranks(scene: &Scene, ranks: [u64; 3]) {
    let others = |own: usize| (1..=3).zip(ranks).filter(|(node, _)| *node != own).collect::<Vec<_>>();
    let are_seen = || (1..=3).all(|node| scene.legion.ranks(node) == others(node));
    scene.wait_until(LIMIT, &format!("{ranks:?}"), are_seen);
}

fn ranks_are_valors_that_any_node_understands(uwsgi: Uwsgi) {
    side_by_side(&[NOPREEMPT, ""], |options| {
        let lord = if options.is_empty() { 1 } else { 3 };
        let (mut scene, services) = checked(uwsgi, 3, options);
        let file = drain_file(&mut scene, 3);
        start(&mut scene, 3);
        wait_for_ranks(&scene, [lord, 1, 1]);
        services[1].set(Answers::Status(404));
        wait_for_ranks(&scene, [lord, 0, 1]);
        drain(&file);
        wait_for_ranks(&scene, [lord, 0, 0]);
        // Nobody is healthy, and the Lord keeps what it has.
        services[0].set(Answers::Status(404));
        scene.stays_at(1, seconds(8));
        wait_for_ranks(&scene, [lord, 0, 0]);
        services[0].set(Answers::Status(200));
        wait_for_ranks(&scene, [lord, 0, 0]);
        services[1].set(Answers::Status(200));
        wait_for_ranks(&scene, [lord, 1, 0]);
        // No change of a valor was a change of Lord, nor was anybody lost by one.
        assert_eq!(scene.posts(), 1, "{}", scene.state());
        assert!(!scene.legion.any_log_holds("left Legion"), "{}", scene.state());
    });
}

// Legions of which not all nodes have the options.

/// What node 1 is in a mixed Legion.
#[derive(Clone, Copy, Debug)]
enum Odd {
    WithoutOptions,
    WithoutPlugin,
}

const ODD: [Odd; 2] = [Odd::WithoutOptions, Odd::WithoutPlugin];

/// Nodes 2 and 3 are checked, and stay Lord; node 1, which has the highest valor, is another.
fn mixed(uwsgi: Uwsgi, odd: Odd) -> (Scene, Vec<Service>) {
    let mut scene = scene(uwsgi, 3, "");
    let services: Vec<_> = (0..2).map(|_| Service::well()).collect();
    for (service, node) in services.iter().zip(2..) {
        *scene.legion.ini_mut(node) += NOPREEMPT;
        check(&mut scene, node, &service.http());
    }
    if matches!(odd, Odd::WithoutPlugin) {
        let quick = lab::scene::QUICK;
        scene.legion.set_ini(1, format!("legion-lord = {LEGION} log:no plugin\n{quick}"));
    }
    (scene, services)
}

/// Node 2 is Lord before node 3 is there.
#[track_caller]
fn start_mixed(scene: &mut Scene) {
    scene.legion.start(1);
    scene.legion.start(2);
    scene.settles_at(2, &[1, 2]);
    scene.legion.start(3);
    scene.settles_at(2, &[1, 2, 3]);
    scene.wait_until(LIMIT, "node 3 is well", || scene.legion.ranks(2).contains(&(3, 1)));
}

fn a_node_without_the_options_counts_as_a_sick_one(uwsgi: Uwsgi) {
    side_by_side(&ODD, |odd| {
        let (mut scene, services) = mixed(uwsgi, odd);
        start_mixed(&mut scene);
        // A sick Lord does not hand over to what may be sick, too.
        services[1].set(Answers::Status(404));
        scene.wait_until(LIMIT, "node 3 is sick", || scene.legion.ranks(2).contains(&(3, 0)));
        services[0].set(Answers::Status(404));
        scene.stays_at(2, seconds(10));
        services[1].set(Answers::Status(200));
        scene.settles_at(3, &[1, 2, 3]);
    });
}

fn a_node_without_the_options_is_lord_when_nobody_else_is_there(uwsgi: Uwsgi) {
    side_by_side(&ODD, |odd| {
        let (mut scene, services) = mixed(uwsgi, odd);
        start_mixed(&mut scene);
        scene.legion.kill(2);
        scene.settles_at(3, &[1, 3]);
        scene.legion.kill(3);
        scene.wait_until(LIMIT, "node 1 is Lord", || scene.legion.lords() == [1]);
        if matches!(odd, Odd::WithoutOptions) {
            scene.settles_at(1, &[1]);
        }
        // Who is healthy takes it back.
        scene.legion.start(3);
        scene.settles_at(3, &[1, 3]);
        // Who is sick does not, for the valor of the other one is higher.
        services[0].set(Answers::Status(404));
        scene.legion.kill(3);
        scene.legion.start(2);
        scene.wait_until(LIMIT, "node 1 is Lord", || scene.legion.lords() == [1]);
    });
}

/// By a reload each, and taken back the other way round.
fn options_are_rolled_out_from_the_lord_on_without_a_switch(uwsgi: Uwsgi) {
    let mut scene = scene(uwsgi, 3, "");
    let services = [(); 3].map(|()| Service::well());
    start(&mut scene, 3);
    let options = |node: usize| format!("{NOPREEMPT}legion-check = {LEGION} {}\n", services[node - 1].http());
    let reload = |scene: &Scene, node: usize, change: &dyn Fn(String) -> String| {
        let file = scene.legion.folder(node).join("node.ini");
        let ini = fs::read_to_string(&file).expect("the node runs");
        fs::write(&file, change(ini)).expect("a writable folder");
        let starts = || scene.said(node, "*** Starting uWSGI");
        let before = starts();
        scene.legion.node(node).signal(SIGHUP);
        scene.wait_until(LIMIT, "the new image", || starts() > before);
        scene.settles_at(1, &[1, 2, 3]);
    };
    for node in 1..=3 {
        reload(&scene, node, &|ini| ini + &options(node));
    }
    wait_for_ranks(&scene, [3, 1, 1]);
    for node in (1..=3).rev() {
        reload(&scene, node, &|ini| ini.replace(&options(node), ""));
    }
    wait_for_ranks(&scene, [0, 0, 0]);
    scene.stays_at(1, seconds(4));
    assert_eq!(scene.posts(), 1, "{}", scene.state());
}

/// `make -f tests/lab/Makefile target/plugins/debian/hetzner_plugin.so` of an earlier version, as `EARLIER=/…/hetzner_plugin.so`.
#[test]
#[ignore = "needs an earlier version of the plugin"]
fn an_earlier_version_counts_as_a_sick_one() {
    let earlier = std::env::var("EARLIER").expect("EARLIER=/path/to/an/earlier/hetzner_plugin.so");
    let (mut scene, services) = mixed(Uwsgi::Debian, Odd::WithoutOptions);
    let ini = scene.legion.ini_mut(1);
    *ini = ini.replace("plugin = hetzner\n", &format!("plugin = {earlier}\n"));
    start_mixed(&mut scene);
    services[0].set(Answers::Status(404));
    scene.settles_at(3, &[1, 2, 3]);
    scene.legion.kill(3);
    // Node 2 is sick, and node 1 plain.
    scene.settles_at(1, &[1, 2]);
    services[0].set(Answers::Status(200));
    scene.settles_at(2, &[1, 2]);
    // It is as every node from the next version on: rolled out.
    scene.legion.kill(1);
    let ini = scene.legion.ini_mut(1);
    *ini = ini.replace(&format!("plugin = {earlier}\n"), "plugin = hetzner\n");
    *ini += NOPREEMPT;
    scene.legion.start(1);
    scene.settles_at(2, &[1, 2]);
    scene.legion.kill(2);
    scene.settles_at(1, &[1]);
}
