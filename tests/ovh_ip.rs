//! `examples/ovh-ip` against a stand-in for OVHcloud's API: what it makes of each answer, and on three nodes.

use std::net::TcpListener;
use std::thread;
use std::time::Duration;

use lab::legion::failover_ip;
use lab::ovh::{Config, ID, Ovh, Service};
use lab::process::{self, SIGKILL};
use lab::scene::{LIMIT, on_one_uwsgi, side_by_side};
use lab::script::{self, Ended};
use lab::standin::Request;
use lab::uwsgi::{Uwsgi, checkout};
use lab::wait_until;

use crate::commands;
use crate::exoscale_eip::{follows_the_lord, settled};

on_one_uwsgi! { Pypi:
    the_additional_ip_follows_the_lord
}

const SCRIPT: &str = "ovh-ip";
const IP: &str = "4.4.4.4";

/// Routed to the service of this node, or attached to its instance.
fn ovh(in_cloud: bool, node: Option<usize>) -> Ovh {
    let to = node.map(Service);
    Ovh::start(Config { in_cloud, to, ..Config::new(failover_ip()) }).expect("loopback has a free port")
}

/// As node 1, with a time limit of so many seconds.
#[track_caller]
fn call_within(ovh: &Ovh, action: &str, limit: &str) -> Ended {
    let mut environment = ovh.environment();
    script::set(&mut environment, "OVH_TIMEOUT", limit);
    script::call(SCRIPT, &environment, &[action, IP, &Service(1).to_string(), "failover"])
}

/// As node 1, with time enough for everything but what hangs.
#[track_caller]
fn call(ovh: &Ovh, action: &str) -> Ended {
    call_within(ovh, action, "100")
}

/// What was asked for that changes something: the last word of each path.
fn changes(ovh: &Ovh) -> Vec<String> {
    let journal = ovh.journal().into_iter().filter(|request| request.method == "POST");
    journal.filter_map(|request| request.path.rsplit('/').next().map(str::to_owned)).collect()
}

/// Whether it is in the Public Cloud, the action, where it is before, the exit status, what is asked for, and where it is then.
type Case = (bool, &'static str, Option<usize>, i32, &'static [&'static str], Option<usize>);

#[test]
fn each_action_does_what_is_left_to_do() {
    let cases: [Case; 15] = [
        (false, "start", None, 0, &["move"], Some(1)),
        (false, "start", Some(2), 0, &["move"], Some(1)),
        (false, "start", Some(1), 0, &[], Some(1)),
        (false, "monitor", Some(1), 0, &[], Some(1)),
        (false, "monitor", Some(2), 7, &[], Some(2)),
        (false, "monitor", None, 7, &[], None),
        (false, "stop", Some(1), 0, &["park"], None),
        (false, "stop", Some(2), 0, &[], Some(2)),
        (true, "start", None, 0, &["attach"], Some(1)),
        (true, "start", Some(2), 0, &["attach"], Some(1)),
        (true, "start", Some(1), 0, &[], Some(1)),
        (true, "monitor", Some(1), 0, &[], Some(1)),
        (true, "monitor", Some(2), 7, &[], Some(2)),
        (true, "stop", Some(1), 3, &[], Some(1)),
        (true, "stop", Some(2), 0, &[], Some(2)),
    ];
    side_by_side(&cases, |(in_cloud, action, before, status, asked, after)| {
        let ovh = ovh(in_cloud, before);
        // A task is waited for, and shows nothing before its end.
        ovh.set_switch(Duration::from_secs(1));
        let ended = call(&ovh, action);
        assert_eq!(ended.status, status, "{ended:?}");
        assert_eq!(changes(&ovh), asked);
        assert_eq!(ovh.route(failover_ip()), after.map(Service));
        let to = after.map_or_else(|| "nowhere, or on its way".to_owned(), |node| Service(node).to_string());
        let line = if status == 3 {
            format!("{IP} can only be attached to another instance, not detached from this one")
        } else {
            format!("{IP} is routed to {to}; this is {}", Service(1))
        };
        assert_eq!(ended.line, line);
        let rest = ovh.journal();
        assert!(rest.iter().skip(1).all(|request| request.authorised), "{rest:#?}");
    });
}

#[test]
fn each_answer_has_its_exit_status() {
    let cases = [
        (false, "get path=time error 503", 1, "GET /1.0/auth/time: 503"),
        (false, "get path=time raw 200 null", 1, "not as documented: TypeError"),
        // Of another time than the API's.
        (false, "get path=time raw 200 1000000000", 4, "403 Forbidden: of another time"),
        (
            false,
            "get path=/ip/ error 403",
            4,
            "/task?function=genericMoveFloatingIp&status=init: 403 Forbidden",
        ),
        (false, "get path=/ip/ error 404", 2, "404 Not Found"),
        (false, "get path=/ip/ error 429", 75, "429 Too Many Requests"),
        (false, "get path=/ip/ error 500", 1, "500 Internal Server Error"),
        (false, "get path=/ip/ html 200", 1, "not as documented: JSONDecodeError"),
        (false, "get path=/ip/ truncated 200", 1, "not as documented"),
        (false, "get path=%2F32 skip=3 raw 200 {}", 1, "not as documented: KeyError"),
        (false, "any cut-half", 1, "GET /1.0/auth/time: the answer is cut off, or too long"),
        (false, "get path=/ip/ huge 2MiB", 1, "cut off, or too long"),
        (false, "any close", 1, "GET /1.0/auth/time: "),
        (false, "any refuse", 69, "GET /1.0/auth/time: [Errno 111] Connection refused"),
        (false, "any redirect https://127.0.0.1:9/", 1, "GET /1.0/auth/time: 302"),
        (false, "post error 400", 1, "/move: 400 Bad Request: the message of this error"),
        (false, "post error 409", 75, "/move: 409 Conflict"),
        (false, "post error 423", 75, "/move: 423 Locked"),
        (false, "post lost-answer", 1, "/move: "),
        (false, "post ends customerError", 1, "task 0 of 4.4.4.4: customerError: the comment of this task"),
        (false, "post ends cancelled", 1, "task 0 of 4.4.4.4: cancelled: None"),
        // In its first seconds a task is not always shown.
        (false, "get path=/task/ times=1 error 404", 0, "is routed to ns1."),
        (false, "get path=/task/ error 502", 1, "/task/0: 502"),
        (false, r#"post raw 403 {"message":"not NOT-A-REAL-PASSWORD"}"#, 4, "/move: 403 Forbidden: not ***"),
        (true, "get path=/failover error 401", 4, "/ip/failover: 401"),
        (
            true,
            "get path=/failover raw 200 []",
            2,
            "no failover IP of the project has the address or the id 4.4.4.4",
        ),
        (true, "post error 409", 75, "/attach: 409"),
        (true, "post html 200", 1, "not as documented"),
    ];
    side_by_side(&cases, |(in_cloud, rule, status, line)| {
        let ovh = ovh(in_cloud, Some(2));
        ovh.set_switch(Duration::from_millis(100));
        ovh.fault(rule.parse().expect("a rule"));
        let ended = call(&ovh, "start");
        assert_eq!(ended.status, status, "{ended:?}");
        assert!(ended.line.contains(line), "{ended:?}");
        if changes(&ovh).is_empty() {
            return;
        }
        // Called again when all is well, it does what is left.
        ovh.clear_faults();
        assert!(wait_until(LIMIT, || !ovh.is_switching(failover_ip())));
        let ended = call(&ovh, "start");
        assert_eq!((ended.status, ovh.route(failover_ip())), (0, Some(Service(1))), "{ended:?}");
    });
}

#[test]
fn what_hangs_is_given_up() {
    let cases = [
        (false, "any hang", 0),
        (false, "any trickle 300ms", 0),
        (false, "post delay 1h", 0),
        (false, "get path=/task/ error 404", 60),
        (false, "get times=0 close", 3600),
        (true, "get times=0 close", 3600),
        // The attachment has come to nothing, and nothing says so.
        (true, "post ends failure", 1),
    ];
    side_by_side(&cases, |(in_cloud, rule, switch)| {
        let ovh = ovh(in_cloud, Some(2));
        ovh.set_switch(Duration::from_secs(switch));
        ovh.fault(rule.parse().expect("a rule"));
        let ended = call_within(&ovh, "start", "5");
        assert_eq!((ended.status, ended.line.as_str()), (1, "no end within 5 s"));
    });
}

/// Whether another node may try: not if something may have changed.
#[test]
fn without_a_connection_it_matters_what_was_sent_before() {
    let cases = [
        (false, "get path=time delay 3s", "GET", 69),
        (false, "post delay 3s", "POST", 1),
        (true, "post delay 3s", "POST", 1),
    ];
    side_by_side(&cases, |(in_cloud, rule, last, status)| {
        let ovh = ovh(in_cloud, Some(2));
        ovh.fault(rule.parse().expect("a rule"));
        let ended = thread::scope(|scope| {
            let ended = scope.spawn(|| call(&ovh, "start"));
            let is_last = |journal: &[Request]| journal.iter().any(|request| request.method == last);
            assert!(ovh.wait_for(LIMIT, is_last), "{:?}", ovh.journal());
            ovh.fault("any refuse".parse().expect("a rule"));
            ended.join().expect("it does not panic")
        });
        assert!(ended.status == status && ended.line.contains("Connection refused"), "{ended:?}");
    });
    // Nobody takes part in the handshake.
    let silent = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    let url = format!("https://{}/1.0", silent.local_addr().expect("it is bound"));
    let mut environment = ovh(false, None).environment();
    script::set(&mut environment, "OVH_ENDPOINT", &url);
    for (limit, line) in [("4", "no end within 4 s"), ("100", "timed out")] {
        script::set(&mut environment, "OVH_TIMEOUT", limit);
        let ended = script::call(SCRIPT, &environment, &["start", IP, &Service(1).to_string()]);
        assert!(ended.status == 69 && ended.line.ends_with(line), "{ended:?}");
    }
}

#[test]
fn a_move_that_is_under_way_is_waited_for_or_busy() {
    let cases = [
        (false, "start", Some(1), 0),
        (false, "start", Some(3), 75),
        (false, "start", None, 75),
        (false, "stop", Some(1), 75),
        (false, "stop", Some(3), 75),
        (false, "monitor", Some(1), 7),
        // Nothing says where it leads.
        (true, "start", Some(1), 75),
        (true, "stop", Some(1), 75),
        (true, "monitor", Some(1), 7),
    ];
    side_by_side(&cases, |(in_cloud, action, to, status)| {
        let ovh = ovh(in_cloud, Some(2));
        ovh.begin(to.map(Service));
        let ended = std::thread::scope(|scope| {
            if status == 0 {
                scope.spawn(|| {
                    let polls = |path: &str| path.contains("/task/");
                    let asked = || ovh.journal().iter().filter(|request| polls(&request.path)).count() > 1;
                    assert!(wait_until(LIMIT, asked), "{:#?}", ovh.journal());
                    ovh.end();
                });
            }
            call(&ovh, action)
        });
        assert_eq!(ended.status, status, "{ended:?}");
        assert!(changes(&ovh).is_empty(), "{:?}", changes(&ovh));
    });
    // Here, and on its way from here: the next one has asked for it.
    let ovh = ovh(false, Some(1));
    ovh.begin(Some(Service(2)));
    let ended = call(&ovh, "start");
    let line = format!("{IP} is being moved to {}: task 0", Service(2));
    assert_eq!((ended.status, ended.line), (75, line));
    // Listed, and not shown: it is there all the same.
    let ovh = self::ovh(false, Some(2));
    ovh.begin(Some(Service(1)));
    ovh.fault("get path=/task/ error 404".parse().expect("a rule"));
    let ended = call(&ovh, "start");
    assert!(ended.status == 75 && ended.line.contains("/move: 409 Conflict"), "{ended:?}");
    // Attached here already, though the operation still runs.
    let ovh = self::ovh(true, Some(1));
    ovh.begin(Some(Service(1)));
    assert_eq!(call(&ovh, "monitor").status, 7);
    ovh.end();
    assert_eq!(call(&ovh, "monitor").status, 0);
}

#[test]
fn a_start_that_was_killed_is_repeated() {
    side_by_side(&[false, true], |in_cloud| {
        let ovh = ovh(in_cloud, Some(2));
        ovh.set_switch(Duration::from_secs(3));
        let arguments = ["start", IP, &Service(1).to_string(), "failover"];
        let mut first = script::begin(SCRIPT, &ovh.environment(), &arguments);
        assert!(ovh.wait_for(LIMIT, |journal| journal.iter().any(|request| request.method == "POST")));
        process::signal_group(first.id(), SIGKILL);
        first.wait().expect("a child of ours");
        let mut last = call(&ovh, "start");
        // Which move is under way there, nothing says.
        assert!(last.status == 0 || in_cloud && last.status == 75, "{last:?}");
        assert!(
            wait_until(LIMIT, || {
                last = call(&ovh, "start");
                last.status != 75
            }),
            "{last:?}"
        );
        assert_eq!((last.status, ovh.route(failover_ip())), (0, Some(Service(1))), "{last:?}");
        assert_eq!(changes(&ovh).len(), 1, "{:?}", changes(&ovh));
    });
}

#[test]
fn what_is_missing_is_said() {
    let (dedicated, cloud) = (ovh(false, Some(2)), ovh(true, Some(1)));
    let here = Service(1).to_string();
    let missing =
        "env_file must set OVH_ENDPOINT, OVH_APPLICATION_KEY, OVH_APPLICATION_SECRET, OVH_CONSUMER_KEY; see";
    for name in ["OVH_ENDPOINT", "OVH_APPLICATION_KEY", "OVH_APPLICATION_SECRET", "OVH_CONSUMER_KEY"] {
        let mut environment = dedicated.environment();
        script::set(&mut environment, name, "");
        let ended = script::call(SCRIPT, &environment, &["monitor", IP, &here]);
        assert!(ended.status == 6 && ended.line.starts_with(missing), "{name}: {ended:?}");
    }
    for (name, value) in [("OVH_ENDPOINT", "ovh-mars"), ("OVH_TIMEOUT", "1 minute")] {
        let mut environment = dedicated.environment();
        script::set(&mut environment, name, value);
        assert_eq!(script::call(SCRIPT, &environment, &["monitor", IP, &here]).status, 6, "{name}");
    }
    for (ovh, arguments, status, line) in [
        (&dedicated, ["start", IP, ""], 6, "set target= to what OVHcloud calls this server"),
        (&dedicated, ["start", "", &here], 2, "usage: "),
        (&dedicated, ["status", IP, &here], 2, "usage: "),
    ] {
        let ended = script::call(SCRIPT, &ovh.environment(), &arguments);
        assert!(ended.status == status && ended.line.contains(line), "{arguments:?}: {ended:?}");
    }
    assert!(dedicated.journal().is_empty(), "{:?}", dedicated.journal());
    for (ovh, arguments, status, line) in [
        (&dedicated, ["monitor", "5.5.5.5", &here], 2, "/1.0/ip/5.5.5.5%2F32: 404 Not Found"),
        (&dedicated, ["monitor", "4.4.4.4/32", &here], 7, "4.4.4.4/32 is routed to ns2."),
        (&dedicated, ["start", IP, "ns9.ovh.example"], 2, "/move: 404 Not Found: no such destination"),
        (&cloud, ["monitor", ID, &here], 0, "is routed to ns1."),
        (&cloud, ["monitor", "5.5.5.5", &here], 2, "no failover IP of the project"),
    ] {
        let ended = script::call(SCRIPT, &ovh.environment(), &arguments);
        assert!(ended.status == status && ended.line.contains(line), "{arguments:?}: {ended:?}");
    }
    for (name, line) in [
        ("OVH_APPLICATION_KEY", "unknown application"),
        ("OVH_APPLICATION_SECRET", "wrong signature"),
        ("OVH_CONSUMER_KEY", "unknown consumer"),
    ] {
        let mut environment = dedicated.environment();
        script::set(&mut environment, name, "another");
        let ended = script::call(SCRIPT, &environment, &["monitor", IP, &here]);
        assert!(ended.status == 4 && ended.line.ends_with(line), "{name}: {ended:?}");
    }
}

#[test]
fn the_operators_commands_use_it_by_the_line_of_its_head() {
    let ovh = ovh(false, Some(2));
    let env_file = ovh.ca_file().expect("it speaks TLS").with_file_name("env_file");
    script::write_env_file(&env_file, &ovh.environment());
    let replaced = [
        ("/usr/local/sbin", checkout().join("examples").display().to_string()),
        ("ns1.ip-192-0-2.eu", Service(1).to_string()),
        ("192.0.2.7", IP.to_owned()),
        ("/etc/uwsgi-failover/ovh.env", env_file.display().to_string()),
    ];
    let hook = script::hook_of_head(SCRIPT, &self::ovh(true, None).environment(), &replaced, "");
    for (option, status, node) in [
        ("--hetzner-check", 0, Some(2)),
        ("--hetzner-status", 2, Some(2)),
        ("--hetzner-release", 2, Some(2)),
        ("--hetzner-takeover", 0, Some(1)),
        ("--hetzner-status", 0, Some(1)),
        ("--hetzner-release", 0, None),
    ] {
        let output = commands::run(Uwsgi::Debian, std::slice::from_ref(&hook), &[option], &[]);
        assert_eq!(output.status.code(), Some(status), "{option}: {output:?}");
        assert!(!format!("{output:?}").contains("unknown key"), "{output:?}");
        assert_eq!(ovh.route(failover_ip()), node.map(Service), "{option}: {output:?}");
    }
}

fn the_additional_ip_follows_the_lord(uwsgi: Uwsgi) {
    // Each uWSGI sees one of the two products.
    let config = Config { in_cloud: uwsgi == Uwsgi::Debian, ..Config::new(failover_ip()) };
    let ovh =
        Ovh::start(Config { switch: Duration::from_secs(2), ..config }).expect("loopback has a free port");
    let scene = settled(uwsgi, ovh);
    let before = changes(&scene.robot).len();
    let scene = follows_the_lord(scene);
    assert_eq!(changes(&scene.robot).len() - before, 2, "{}", scene.state());
}
