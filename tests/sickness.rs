//! A service that is checked: a sick Lord hands over to a healthy node, and only to such a one.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::thread;
use std::time::Duration;

use lab::checked::{Answers, Service};
use lab::legion::LEGION;
use lab::ranked::{
    LOSSY, NOPREEMPT, PATIENT, Script, check, checked, give_up_soon, linked, scene, seconds_until_post,
    set_all, start,
};
use lab::scene::{LIMIT, Scene, on_each_uwsgi, seconds, side_by_side};
use lab::uwsgi::Uwsgi;
use lab::{process, wait_until};

on_each_uwsgi! {
    what_an_answer_says_of_a_service
    a_sick_lord_hands_over_and_takes_over_when_it_is_well
    a_sick_lord_votes_and_is_no_lord_again_where_the_lord_stays
    a_few_failures_are_no_sickness_and_one_success_is_no_health
    all_must_pass
    who_is_sick_during_its_takeover_hands_over
    nothing_moves_when_all_are_sick
    nothing_moves_when_all_become_sick_at_once
    nothing_moves_when_all_are_sick_from_the_start
    a_node_that_is_alone_stays_lord_though_it_is_sick
    a_check_that_hangs_holds_up_nothing
    a_reload_brings_its_health_along
    a_reload_of_a_lord_that_stays_moves_nothing
    a_reload_that_breaks_the_service_moves_the_ip
    a_service_that_is_slow_after_a_reload_is_not_sick
}

const SICK: Answers = Answers::Status(404);

/// How a check of node 1's begins.
#[derive(Clone, Copy, Debug)]
enum Checked {
    Http(Answers),
    Tcp(Answers),
    Command(&'static str),
}

/// The very first result decides, and it alone: who is not healthy never asks for the IP.
fn what_an_answer_says_of_a_service(uwsgi: Uwsgi) {
    use Answers::{Closed, Nothing, Refused, Status, Trickle};
    use Checked::{Command, Http, Tcp};
    let well = [
        Http(Status(200)),
        Http(Status(204)),
        Http(Status(301)),
        Tcp(Status(200)),
        Tcp(Nothing),
        Command("exit 0"),
    ];
    let sick = [
        Http(Status(404)),
        Http(Status(500)),
        Http(Nothing),
        Http(Trickle),
        Http(Refused),
        Http(Closed),
        Tcp(Refused),
        Command("exit 1"),
        Command("kill -TERM $$"),
        Command("exec sleep 600"),
    ];
    let rows: Vec<_> = well.map(|row| (row, 1)).into_iter().chain(sick.map(|row| (row, 2))).collect();
    side_by_side(&rows, |(row, lord)| {
        let (mut scene, services) = (scene(uwsgi, 2, ""), [Service::well(), Service::well()]);
        let _script;
        let what = match row {
            Http(answers) => {
                services[0].set(answers);
                services[0].http()
            }
            Tcp(answers) => {
                services[0].set(answers);
                services[0].tcp()
            }
            Command(text) => {
                _script = Script::new(&scene, 1, text);
                _script.command()
            }
        };
        check(&mut scene, 1, &what);
        if matches!(row, Http(Nothing | Trickle) | Command("exec sleep 600")) {
            give_up_soon(&mut scene, 1);
        }
        check(&mut scene, 2, &services[1].tcp());
        scene.legion.start(2);
        scene.settles_at(2, &[2]);
        scene.legion.start(1);
        if lord == 2 {
            scene.legion.node(1).wait_for_log("this node is sick: ", LIMIT);
        }
        scene.settles_at(lord, &[1, 2]);
        assert_eq!(scene.posts_of(1).len(), usize::from(lord == 1), "{}", scene.state());
        let requests = services[0].requests();
        assert!(requests.iter().all(|line| line == "GET /health HTTP/1.1"), "{requests:?}");
    });
}

/// Node 1's may be a command, or not be asked at all while it refuses.
fn clocks(services: &[Service]) -> [&Service; 2] {
    [&services[1], &services[2]]
}

/// What makes node 1 sick.
#[derive(Clone, Copy, Debug)]
enum Sickness {
    Answer(Answers),
    NoConnection,
    Exit,
    Missing,
}

/// The Lord is unlorded by uWSGI itself, since it loses an election in which it votes.
#[track_caller]
fn was_outvoted(scene: &Scene, node: usize) {
    let (log, legion) = (scene.legion.node(node).log(), LEGION);
    assert!(log.contains(&format!("raised for Legion {legion}")), "{log}");
    assert!(!scene.legion.any_log_holds("left Legion"), "{}", scene.state());
}

fn a_sick_lord_hands_over_and_takes_over_when_it_is_well(uwsgi: Uwsgi) {
    let rows = [
        (Sickness::Answer(Answers::Status(404)), 0),
        (Sickness::Answer(Answers::Nothing), 0),
        (Sickness::NoConnection, 0),
        (Sickness::Exit, 0),
        (Sickness::Missing, 0),
        (Sickness::Answer(Answers::Status(500)), 30),
    ];
    side_by_side(&rows, |(sickness, loss)| {
        let (mut scene, services) = match sickness {
            Sickness::Answer(_) => checked(uwsgi, 3, if loss > 0 { PATIENT } else { "" }),
            _ => (scene(uwsgi, 3, ""), [(); 3].map(|()| Service::well()).into()),
        };
        let alarms = scene.legion.folder(1).join("alarms");
        let pager = format!("alarm = pager cmd:cat >> {}; echo >> {0}\n", alarms.display());
        let ini = scene.legion.ini_mut(1);
        *ini = ini.replacen(",url=", ",alarm=pager,url=", 1) + &pager;
        let (script, tool) = (Script::new(&scene, 1, "exit 0"), scene.legion.folder(1).join("tool"));
        symlink("/bin/true", &tool).expect("a writable folder");
        if !matches!(sickness, Sickness::Answer(_)) {
            for (service, node) in services.iter().zip(1..) {
                let what = match sickness {
                    Sickness::Exit if node == 1 => script.command(),
                    Sickness::Missing if node == 1 => tool.display().to_string(),
                    _ => service.tcp(),
                };
                check(&mut scene, node, &what);
            }
        }
        let set = |well: bool| match sickness {
            Sickness::Answer(answers) => services[0].set(if well { Answers::Status(200) } else { answers }),
            Sickness::NoConnection if well => services[0].set(Answers::Status(200)),
            Sickness::NoConnection => services[0].set(Answers::Refused),
            Sickness::Exit => script.set(if well { "exit 0" } else { "exit 1" }),
            Sickness::Missing if well => symlink("/bin/true", &tool).expect("a writable folder"),
            Sickness::Missing => fs::remove_file(&tool).expect("our own link"),
        };
        if let Sickness::Answer(Answers::Nothing) = sickness {
            give_up_soon(&mut scene, 1);
        }
        start(&mut scene, 3);
        if loss > 0 {
            scene.legion.links().set_all(LOSSY);
        }
        let told = || ["this node is sick: ", "this node is healthy: "].map(|text| scene.said(1, text));
        let before = told();
        let took = seconds_until_post(&scene, &clocks(&services), 2, || set(false));
        println!("{uwsgi}: {took} s from {sickness:?} to the POST, {loss} % lost");
        // Where there is no answer, each of the three checks takes three seconds more.
        let most = if matches!(sickness, Sickness::Answer(Answers::Nothing)) { 17 } else { 8 };
        assert!(took <= most || loss > 0, "{took} s: {}", scene.state());
        scene.settles_at(2, &[1, 2, 3]);
        was_outvoted(&scene, 1);
        set(true);
        scene.settles_at(1, &[1, 2, 3]);
        assert_eq!(scene.switches(), 3, "{}", scene.state());
        assert_eq!(scene.posts(), 3, "{}", scene.state());
        let told = told();
        assert_eq!(told.map(|now| now - 1), before, "{}", scene.state());
        let alarms = || fs::read_to_string(&alarms).unwrap_or_default();
        scene.wait_until(LIMIT, "an alarm", || alarms().ends_with("\n\n") || alarms().ends_with('\n'));
        assert_eq!(alarms().lines().filter(|line| !line.is_empty()).count(), told[0], "{}", alarms());
    });
}

/// All three have to vote.
fn a_sick_lord_votes_and_is_no_lord_again_where_the_lord_stays(uwsgi: Uwsgi) {
    let options = format!("{NOPREEMPT}legion-quorum = {LEGION} 3\n");
    let (mut scene, services) = checked(uwsgi, 3, &options);
    start(&mut scene, 3);
    services[0].set(Answers::Status(404));
    scene.settles_at(2, &[1, 2, 3]);
    was_outvoted(&scene, 1);
    services[0].set(Answers::Status(200));
    scene.stays_at(2, seconds(8));
    services[1].set(Answers::Refused);
    scene.settles_at(1, &[1, 2, 3]);
    assert_eq!(scene.posts(), 3, "{}", scene.state());
}

fn a_few_failures_are_no_sickness_and_one_success_is_no_health(uwsgi: Uwsgi) {
    let options = format!("legion-check-fall = {LEGION} 4\nlegion-check-rise = {LEGION} 4\n");
    let (mut scene, services) = checked(uwsgi, 2, &options);
    start(&mut scene, 2);
    let asked = || services[0].connections();
    let wait_for = |checks: usize| {
        let before = asked();
        scene.wait_until(LIMIT, &format!("{checks} checks"), || asked() >= before + checks);
    };
    let settle = |answers: Answers| {
        services[0].set(answers);
        wait_for(3);
        asked()
    };
    services[0].set(Answers::InTurn(&[404, 404, 404, 200]));
    wait_for(9);
    assert!(scene.is_at(1), "{}", scene.state());
    let before = settle(Answers::Status(200));
    let posts = scene.posts_of(2).len();
    services[0].set(SICK);
    scene.wait_for_post(2, posts);
    // One that was under way may have got the new answer.
    assert!(asked() - before >= 3, "{}: {}", asked() - before, scene.state());
    scene.settles_at(2, &[1, 2]);
    services[0].set(Answers::InTurn(&[200, 200, 200, 404]));
    wait_for(9);
    assert!(scene.is_at(2), "{}", scene.state());
    let before = settle(SICK);
    services[0].set(Answers::Status(200));
    scene.settles_at(1, &[1, 2]);
    assert!(asked() - before >= 3, "{}: {}", asked() - before, scene.state());
    assert_eq!(scene.posts(), 3, "{}", scene.state());
}

/// Of several checks.
fn all_must_pass(uwsgi: Uwsgi) {
    let (mut scene, services) = checked(uwsgi, 2, "");
    let others = [Service::well(), Service::well()];
    check(&mut scene, 1, &others[0].tcp());
    check(&mut scene, 1, &others[1].http());
    start(&mut scene, 2);
    for ill in [&services[0], &others[0], &others[1]] {
        ill.set(Answers::Refused);
        scene.settles_at(2, &[1, 2]);
        ill.set(Answers::Status(200));
        scene.settles_at(1, &[1, 2]);
    }
    assert_eq!(scene.posts(), 7, "{}", scene.state());
}

/// Its takeover takes longer than the tolerance, and what it becomes meanwhile counts when it is Lord.
fn who_is_sick_during_its_takeover_hands_over(uwsgi: Uwsgi) {
    let (mut scene, services) = checked(uwsgi, 3, NOPREEMPT);
    scene.robot.set_switch(seconds(8));
    scene.legion.start_all();
    scene.wait_for_post(1, 0);
    services[0].set(SICK);
    scene.settles_at(2, &[1, 2, 3]);
    assert!(!scene.legion.any_log_holds("left Legion"), "{}", scene.state());
    assert_eq!(scene.posts_of(1).len(), 1, "{}", scene.state());
}

// All sick.

/// Whoever was sick first, the last healthy one stays Lord, and the next healthy one is Lord.
fn nothing_moves_when_all_are_sick(uwsgi: Uwsgi) {
    all_are_sick(uwsgi, seconds(15));
}

#[test]
#[ignore = "takes minutes"]
fn nothing_moves_for_minutes_when_all_are_sick() {
    all_are_sick(Uwsgi::Debian, seconds(180));
}

fn all_are_sick(uwsgi: Uwsgi, time: Duration) {
    let rows = [
        ([3, 2, 1], ""),
        ([1, 2, 3], ""),
        ([2, 1, 3], ""),
        ([1, 3, 2], NOPREEMPT),
        ([2, 3, 1], NOPREEMPT),
        ([3, 2, 1], PATIENT),
    ];
    side_by_side(&rows, |(order, options)| {
        let (mut scene, services) = checked(uwsgi, 3, options);
        start(&mut scene, 3);
        if options == PATIENT {
            scene.legion.links().set_all(LOSSY);
        }
        let mut lord = 1;
        for (at, node) in order.into_iter().enumerate() {
            services[node - 1].set(SICK);
            let healthy = (1..=3).find(|other| !order[..=at].contains(other));
            if let (Some(next), true) = (healthy, node == lord) {
                lord = next;
            }
            scene.settles_at(lord, &[1, 2, 3]);
            let is_known = || scene.legion.ranks(lord).contains(&(node, 0));
            scene.wait_until(LIMIT, "the Lord knows of it", || node == lord || is_known());
        }
        let posts = scene.posts();
        scene.stays_at(lord, time);
        let healed = if lord == 2 { 3 } else { 2 };
        services[healed - 1].set(Answers::Status(200));
        scene.settles_at(healed, &[1, 2, 3]);
        assert_eq!(scene.posts(), posts + 1, "{}", scene.state());
    });
}

/// As when what all of them need is gone, and is back. Many failures make a node sick here, so that it does not matter when
/// each comes to run.
fn nothing_moves_when_all_become_sick_at_once(uwsgi: Uwsgi) {
    // The Lord may be the first to notice it.
    side_by_side(&[(0, ""), (0, NOPREEMPT), (500, ""), (500, NOPREEMPT)], |(ahead, options)| {
        let many = format!("{options}legion-check-fall = {LEGION} 8\nlegion-check-rise = {LEGION} 8\n");
        let (mut scene, services) = checked(uwsgi, 3, &many);
        start(&mut scene, 3);
        services[0].set(SICK);
        thread::sleep(Duration::from_millis(ahead));
        set_all(&services[1..], SICK);
        let told = |text: &str| (1..=3).all(|node| scene.said(node, text) == 1);
        scene.wait_until(LIMIT, "all are sick", || told("this node is sick: "));
        scene.stays_at(1, seconds(6));
        set_all(&services, Answers::Status(200));
        scene.wait_until(LIMIT, "all are well", || told("this node is healthy: "));
        scene.stays_at(1, seconds(6));
        assert_eq!(scene.posts(), 1, "{}", scene.state());
    });
}

fn nothing_moves_when_all_are_sick_from_the_start(uwsgi: Uwsgi) {
    side_by_side(&["", NOPREEMPT], |options| {
        let (mut scene, services) = checked(uwsgi, 3, options);
        set_all(&services, SICK);
        scene.legion.start_all();
        scene.settles_at(1, &[1, 2, 3]);
        scene.stays_at(1, seconds(10));
        assert_eq!(scene.posts(), 1, "{}", scene.state());
    });
}

fn a_node_that_is_alone_stays_lord_though_it_is_sick(uwsgi: Uwsgi) {
    side_by_side(&[1, 3], |nodes| {
        let (mut scene, services) = checked(uwsgi, nodes, "");
        scene.legion.start(1);
        scene.settles_at(1, &[1]);
        services[0].set(SICK);
        scene.stays_at(1, seconds(10));
        assert!(!scene.legion.any_log_holds("raised for Legion"), "{}", scene.state());
        // Nor does it matter at its start.
        scene.legion.kill(1);
        scene.legion.start(1);
        scene.settles_at(1, &[1]);
    });
}

// Checks that hang.

fn is_running(id: &str) -> bool {
    let stat = fs::read_to_string(Path::new("/proc").join(id).join("stat")).unwrap_or_default();
    // One that has ended and is not waited for yet runs no more.
    !stat.is_empty() && !stat.contains(") Z ")
}

/// Node 2 has one that starts a child, and neither ends when it is asked to.
fn a_check_that_hangs_holds_up_nothing(uwsgi: Uwsgi) {
    let (scene, services) = checked(uwsgi, 3, "");
    let scene = linked(scene);
    // The other Legion has a check of its own.
    let mut scene = Scene { legion: scene.legion.with_second("second"), ..scene };
    let second = Service::well();
    *scene.legion.ini_mut(2) += &format!("legion-check = second {}\n", second.tcp());
    *scene.legion.ini_mut(2) += "legion-check-interval = second 1\n";
    let ids = scene.legion.folder(2).join("ids");
    let hang =
        format!("trap '' TERM INT HUP\nsleep 600 &\necho $$ $! >> {}\nwait\nsleep 600\n", ids.display());
    let script = Script::new(&scene, 2, &hang);
    check(&mut scene, 2, &script.command());
    give_up_soon(&mut scene, 2);
    scene.legion.start_all();
    scene.settles_at(1, &[1, 2, 3]);
    let hung = || -> Vec<String> {
        let ids = fs::read_to_string(&ids).unwrap_or_default();
        ids.lines().filter(|line| line.contains(' ')).map(str::to_string).collect()
    };
    scene.wait_until(LIMIT, "three hanging checks", || hung().len() >= 3);
    let first = hung()[0].clone();
    let is_gone = || !first.split_whitespace().any(is_running);
    scene.wait_until(LIMIT, "its whole group is gone", is_gone);
    // The others of this node go on, and so do its announcements.
    let sent = || scene.legion.links().sent(2, 3);
    let counts = || [services[1].connections(), second.connections(), sent(), services[2].connections()];
    let before = counts();
    scene.wait_until(LIMIT, "ten more seconds", || counts()[3] >= before[3] + 10);
    let more = counts().into_iter().zip(before).all(|(after, before)| after >= before + 4);
    assert!(more, "{before:?} {:?}: {}", counts(), scene.state());
    assert!(!scene.legion.any_log_holds("left Legion"), "{}", scene.state());
    // It is sick, and takes over all the same when nobody is healthy.
    scene.legion.kill(1);
    scene.settles_at(3, &[2, 3]);
    let third = scene.legion.node(3).id();
    let took =
        seconds_until_post(&scene, &[&services[1]], 2, || process::signal_group(third, process::SIGKILL));
    assert!(took <= 10, "{took} s: {}", scene.state());
    scene.settles_at(2, &[2]);
    let all = hung();
    scene.legion.node(2).signal(process::SIGINT);
    assert!(scene.legion.wait_for_exit(2, LIMIT), "{}", scene.state());
    let left = || all.iter().flat_map(|line| line.split_whitespace()).any(is_running);
    assert!(wait_until(LIMIT, || !left()), "{all:?}");
}

// Reloads.

/// Reloads node N, and waits until the new image is Lord.
#[track_caller]
fn reload(scene: &Scene, node: usize) {
    let starts = || scene.said(node, "*** Starting uWSGI");
    let before = starts();
    scene.legion.node(node).signal(process::SIGHUP);
    scene.wait_until(LIMIT, "the new image", || starts() > before);
}

fn a_reload_brings_its_health_along(uwsgi: Uwsgi) {
    // Sick or well, a node's rank is the same after a reload, before any check was made.
    let (mut scene, services) = checked(uwsgi, 3, "");
    start(&mut scene, 3);
    for _ in 0..2 {
        reload(&scene, 1);
        scene.settles_at(1, &[1, 2, 3]);
    }
    assert_eq!(scene.posts(), 1, "{}", scene.state());
    // A sick backup that is reloaded is sick.
    services[1].set(SICK);
    scene.wait_until(LIMIT, "node 2 is sick", || scene.legion.ranks(1).contains(&(2, 0)));
    reload(&scene, 2);
    scene.settles_at(1, &[1, 2, 3]);
    scene.legion.kill(1);
    scene.settles_at(3, &[2, 3]);
    assert_eq!(scene.posts(), 2, "{}", scene.state());
}

/// One with a lower valor, at that.
fn a_reload_of_a_lord_that_stays_moves_nothing(uwsgi: Uwsgi) {
    let (mut scene, services) = checked(uwsgi, 3, NOPREEMPT);
    start(&mut scene, 3);
    services[0].set(SICK);
    scene.settles_at(2, &[1, 2, 3]);
    services[0].set(Answers::Status(200));
    scene.wait_until(LIMIT, "node 1 is well", || scene.legion.ranks(2).contains(&(1, 1)));
    for _ in 0..2 {
        reload(&scene, 2);
        scene.settles_at(2, &[1, 2, 3]);
    }
    scene.stays_at(2, seconds(6));
    assert_eq!(scene.posts(), 2, "{}", scene.state());
}

fn a_reload_that_breaks_the_service_moves_the_ip(uwsgi: Uwsgi) {
    let (mut scene, services) = checked(uwsgi, 3, "");
    start(&mut scene, 3);
    services[0].set(SICK);
    reload(&scene, 1);
    scene.settles_at(2, &[1, 2, 3]);
    services[0].set(Answers::Status(200));
    scene.settles_at(1, &[1, 2, 3]);
    assert_eq!(scene.posts(), 3, "{}", scene.state());
}

/// An app that loads with its first request, or is not there yet.
fn a_service_that_is_slow_after_a_reload_is_not_sick(uwsgi: Uwsgi) {
    side_by_side(&[Answers::Nothing, Answers::Refused], |slow| {
        let (mut scene, services) = checked(uwsgi, 3, "");
        if slow == Answers::Nothing {
            give_up_soon(&mut scene, 1);
        }
        start(&mut scene, 3);
        scene.legion.node(1).signal(process::SIGHUP);
        services[0].set(slow);
        scene.wait_until(LIMIT, "the new image", || scene.said(1, "*** Starting uWSGI") > 1);
        scene.settles_at(1, &[1, 2, 3]);
        scene.stays_at(1, seconds(10));
        services[0].set(Answers::Status(200));
        let asked = services[0].requests().len();
        scene.wait_until(LIMIT, "it was well", || services[0].requests().len() > asked + 2);
        assert_eq!(scene.posts(), 1, "{}", scene.state());
        // From then on it is as sick as any other.
        services[0].set(slow);
        scene.settles_at(2, &[1, 2, 3]);
    });
}
