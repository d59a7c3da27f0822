//! `examples/exoscale-eip` against a stand-in for Exoscale's API: what it makes of each answer, and on three nodes.

use std::net::TcpListener;
use std::thread;
use std::time::Duration;

use lab::exoscale::{Config, Exoscale, ID, Vm};
use lab::hoster::Hosted;
use lab::legion::failover_ip;
use lab::process::SIGKILL;
use lab::robot::Certificate;
use lab::scene::{LIMIT, Scene, on_one_uwsgi, side_by_side};
use lab::script::{self, Ended};
use lab::standin::Request;
use lab::uwsgi::{Uwsgi, checkout};
use lab::{PASSWORD, process, wait_until};

use crate::commands;

on_one_uwsgi! { Debian:
    the_elastic_ip_follows_the_lord
}

const SCRIPT: &str = "exoscale-eip";
const IP: &str = "4.4.4.4";

/// Attached to the instances of these nodes.
fn exoscale(attached: &[usize]) -> Exoscale {
    start(Config { attached: vms(attached), ..Config::new(failover_ip()) })
}

fn start(config: Config) -> Exoscale {
    Exoscale::start(config).expect("loopback has a free port")
}

fn vms(nodes: &[usize]) -> Vec<Vm> {
    nodes.iter().copied().map(Vm).collect()
}

/// As node 1, with a time limit of so many seconds.
#[track_caller]
fn call_within(exoscale: &Exoscale, action: &str, limit: &str) -> Ended {
    let mut environment = exoscale.environment();
    script::set(&mut environment, "EXOSCALE_TIMEOUT", limit);
    script::call(SCRIPT, &environment, &[action, IP, &Vm(1).to_string(), "failover"])
}

/// As node 1, with time enough for everything but what hangs.
#[track_caller]
fn call(exoscale: &Exoscale, action: &str) -> Ended {
    call_within(exoscale, action, "100")
}

/// What was asked for that changes something, as `attach 1`.
fn changes(exoscale: &Exoscale) -> Vec<String> {
    let journal = exoscale.journal().into_iter().filter(|request| request.method == "PUT");
    let verb = |path: &str| path.rsplit(':').next().unwrap_or_default().to_owned();
    let node =
        |target: Option<String>| target.unwrap_or_default().trim_start_matches(|c| c != '-').to_owned();
    journal
        .map(|request| {
            let id = node(request.target);
            format!("{} {}", verb(&request.path), id.rsplit('0').next().unwrap_or_default())
        })
        .collect()
}

/// The action, to whom it is attached before, the exit status, what is asked for, and to whom it is attached then.
type Case = (&'static str, &'static [usize], i32, &'static [&'static str], &'static [usize]);

#[test]
fn each_action_does_what_is_left_to_do() {
    let cases: [Case; 12] = [
        ("start", &[], 0, &["attach 1"], &[1]),
        ("start", &[2], 0, &["attach 1", "detach 2"], &[1]),
        ("start", &[3, 2], 0, &["attach 1", "detach 2", "detach 3"], &[1]),
        ("start", &[1, 2], 0, &["detach 2"], &[1]),
        ("start", &[1], 0, &[], &[1]),
        ("monitor", &[1], 0, &[], &[1]),
        ("monitor", &[2], 7, &[], &[2]),
        ("monitor", &[1, 2], 7, &[], &[1, 2]),
        ("monitor", &[], 7, &[], &[]),
        ("stop", &[1], 0, &["detach 1"], &[]),
        ("stop", &[1, 2], 0, &["detach 1"], &[2]),
        ("stop", &[2], 0, &[], &[2]),
    ];
    side_by_side(&cases, |(action, before, status, asked, after)| {
        let exoscale = exoscale(before);
        // An operation is waited for, and shows nothing before its end.
        exoscale.set_switch(Duration::from_millis(1500));
        let ended = call(&exoscale, action);
        assert_eq!(ended.status, status, "{ended:?}");
        assert_eq!(changes(&exoscale), asked);
        let mut attached = exoscale.attached();
        attached.sort();
        assert_eq!(attached, vms(after));
        let to: Vec<String> = attached.iter().map(Vm::to_string).collect();
        let to = if to.is_empty() { "no instance".to_owned() } else { to.join(", ") };
        assert_eq!(ended.line, format!("{IP} is attached to {to}; this is {}", Vm(1)));
        let journal = exoscale.journal();
        assert!(journal.iter().all(|request| request.authorised), "{journal:#?}");
        // It is looked for and looked at, and then either there is something to do or there is not.
        assert_eq!(journal.len() == 2, asked.is_empty(), "{journal:#?}");
    });
}

#[test]
fn each_answer_has_its_exit_status() {
    let cases = [
        ("any error 401", 4, "GET /v2/elastic-ip: 401 Unauthorized: the message of this error"),
        ("any error 403", 4, "GET /v2/elastic-ip: 403 Forbidden"),
        ("any error 429", 75, "429 Too Many Requests"),
        ("any error 500", 1, "500 Internal Server Error"),
        ("post error 409", 75, ":attach: 409 Conflict: the message of this error"),
        ("post error 423", 75, ":attach: 423 Locked"),
        ("post path=:detach error 409", 75, ":detach: 409"),
        ("post path=:detach error 404", 1, "is attached to"),
        ("any html 200", 1, "not as documented: JSONDecodeError"),
        ("any html 502", 1, "502 Bad Gateway: no message"),
        ("any truncated 200", 1, "not as documented"),
        ("any raw 200 null", 1, "not as documented"),
        ("any raw 200 {}", 1, "not as documented: KeyError"),
        ("any cut-half", 1, "cut off, or too long"),
        ("any huge 2MiB", 1, "cut off, or too long"),
        ("any oversized", 0, "is attached to"),
        ("any close", 1, "GET /v2/elastic-ip: "),
        ("any refuse", 69, "GET /v2/elastic-ip: [Errno 111] Connection refused"),
        ("any redirect https://127.0.0.1:9/", 1, "GET /v2/elastic-ip: 302"),
        ("post lost-answer", 1, ":attach: "),
        ("post ends failure/fault", 1, ": failure: fault: None"),
        ("post ends failure/busy", 75, ": failure: busy: None"),
        ("post ends timeout", 1, ": timeout: None"),
        // Only what it says is cut, and what should not be shown.
        (r#"any raw 403 {"message":"not NOT-A-REAL-PASSWORD but\tthis"}"#, 4, "not *** but\\tthis"),
    ];
    side_by_side(&cases, |(rule, status, line)| {
        let exoscale = exoscale(&[2]);
        exoscale.set_switch(Duration::from_millis(100));
        exoscale.fault(rule.parse().expect("a rule"));
        let ended = call(&exoscale, "start");
        assert_eq!(ended.status, status, "{ended:?}");
        assert!(ended.line.contains(line), "{ended:?}");
        if changes(&exoscale).is_empty() {
            return;
        }
        // Called again when all is well, it does what is left.
        exoscale.clear_faults();
        assert!(wait_until(LIMIT, || !exoscale.is_switching(failover_ip())));
        let ended = call(&exoscale, "start");
        assert_eq!((ended.status, exoscale.attached()), (0, vms(&[1])), "{ended:?}");
    });
}

/// As an old Lord's often is.
#[test]
fn an_instance_that_is_deleted_meanwhile_needs_no_detaching() {
    let exoscale = exoscale(&[2]);
    exoscale.fault("post path=:detach after-switch error 404".parse().expect("a rule"));
    let ended = call(&exoscale, "start");
    assert_eq!((ended.status, exoscale.attached()), (0, vms(&[1])), "{ended:?}");
}

#[test]
fn what_hangs_is_given_up() {
    let cases = [
        ("any hang", 0, "4", "no end within 4 s"),
        ("any trickle 300ms", 0, "4", "no end within 4 s"),
        ("post delay 1h", 0, "4", "no end within 4 s"),
        ("post times=0 close", 3600, "4", "no end within 4 s"),
        // One request has less time than all together.
        ("any hang", 0, "100", "operation timed out"),
    ];
    side_by_side(&cases, |(rule, switch, limit, line)| {
        let exoscale = exoscale(&[2]);
        exoscale.set_switch(Duration::from_secs(switch));
        exoscale.fault(rule.parse().expect("a rule"));
        let ended = call_within(&exoscale, "start", limit);
        assert!(ended.status == 1 && ended.line.contains(line), "{ended:?}");
    });
}

/// Whether another node may try: not if something may have changed.
#[test]
fn without_a_connection_it_matters_what_was_sent_before() {
    let cases = [("get path=/elastic-ip delay 3s", "GET", 69), ("post delay 3s", "PUT", 1)];
    side_by_side(&cases, |(rule, last, status)| {
        let exoscale = exoscale(&[2]);
        exoscale.fault(rule.parse().expect("a rule"));
        let ended = thread::scope(|scope| {
            let ended = scope.spawn(|| call(&exoscale, "start"));
            let is_last = |journal: &[Request]| journal.iter().any(|request| request.method == last);
            assert!(exoscale.wait_for(LIMIT, is_last), "{:?}", exoscale.journal());
            exoscale.fault("any refuse".parse().expect("a rule"));
            ended.join().expect("it does not panic")
        });
        assert!(ended.status == status && ended.line.contains("Connection refused"), "{ended:?}");
    });
    // Nobody takes part in the handshake.
    let silent = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    let url = format!("https://{}/v2", silent.local_addr().expect("it is bound"));
    let mut environment = exoscale(&[]).environment();
    script::set(&mut environment, "EXOSCALE_URL", &url);
    for (limit, line) in [("4", "no end within 4 s"), ("100", "timed out")] {
        script::set(&mut environment, "EXOSCALE_TIMEOUT", limit);
        let ended = script::call(SCRIPT, &environment, &["start", IP, &Vm(1).to_string()]);
        assert!(ended.status == 69 && ended.line.ends_with(line), "{ended:?}");
    }
}

#[test]
fn a_start_that_was_killed_is_repeated() {
    let exoscale = exoscale(&[2]);
    exoscale.set_switch(Duration::from_secs(3));
    let arguments = ["start", IP, &Vm(1).to_string(), "failover"];
    let mut first = script::begin(SCRIPT, &exoscale.environment(), &arguments);
    assert!(exoscale.wait_for(LIMIT, |journal| journal.iter().any(|request| request.method == "PUT")));
    process::signal_group(first.id(), SIGKILL);
    first.wait().expect("a child of ours");
    // Its operation goes on: that is busy, or done between a look and the request, or done.
    let mut last = None;
    assert!(
        wait_until(LIMIT, || {
            let ended = call(&exoscale, "start");
            assert!([0, 1, 75].contains(&ended.status), "{ended:?}");
            last.insert(ended).status == 0
        }),
        "{last:?}"
    );
    assert_eq!(exoscale.attached(), vms(&[1]), "{last:?}");
}

#[test]
fn the_ip_and_the_instance_are_found() {
    let own = start(Config { own: Some(Vm(1)), attached: vms(&[1]), ..Config::new(failover_ip()) });
    let here = Vm(1).to_string();
    let (none, other, unknown) = (exoscale(&[1]), Vm(2).to_string(), Vm(9).to_string());
    for (exoscale, arguments, status, line) in [
        (&own, ["monitor", IP, ""], 0, "this is 10101010-"),
        (&own, ["monitor", ID, ""], 0, "4.4.4.4 is attached to 10101010-"),
        (&own, ["monitor", &ID.to_uppercase(), &here.to_uppercase()], 0, "4.4.4.4 is attached to"),
        // Who is named counts, whatever the metadata service says.
        (&own, ["monitor", IP, &other], 7, "is attached to"),
        (&own, ["start", "5.5.5.5", ""], 2, "no Elastic IP of this zone has the address or the id 5.5.5.5"),
        (&own, ["start", IP, "web1"], 2, "'web1' is not the id of an instance"),
        (&own, ["start", IP, &unknown], 2, ":attach: 404 Not Found: no such instance"),
        (&own, ["status", IP, ""], 2, "usage: "),
        (&own, ["start", "", ""], 2, "usage: "),
        (&none, ["monitor", IP, ""], 2, "GET /latest/meta-data/instance-id: 404"),
    ] {
        let ended = script::call(SCRIPT, &exoscale.environment(), &arguments);
        assert_eq!(ended.status, status, "{arguments:?}: {ended:?}");
        assert!(ended.line.contains(line), "{arguments:?}: {ended:?}");
    }
    own.fault("get path=/latest/ html 200".parse().expect("a rule"));
    let ended = script::call(SCRIPT, &own.environment(), &["monitor", IP, ""]);
    assert!(
        ended.status == 1 && ended.line.contains("is not the id of an instance: set target="),
        "{ended:?}"
    );
}

#[test]
fn what_is_missing_in_the_environment_is_said() {
    let exoscale = exoscale(&[2]);
    let arguments = ["start", IP, &Vm(1).to_string()];
    let right = exoscale.environment();
    let with = |name: &str, value: &str| {
        let mut environment = right.clone();
        script::set(&mut environment, name, value);
        script::call(SCRIPT, &environment, &arguments)
    };
    for (name, value) in [
        ("EXOSCALE_API_KEY", ""),
        ("EXOSCALE_API_SECRET", " "),
        ("EXOSCALE_URL", "http://127.0.0.1:9/v2"),
        ("EXOSCALE_TIMEOUT", "1 minute"),
    ] {
        let ended = with(name, value);
        let line = "env_file must set EXOSCALE_API_KEY, EXOSCALE_API_SECRET and EXOSCALE_ZONE; see the head of this file";
        assert_eq!((ended.status, ended.line.as_str()), (6, line), "{name}");
    }
    let without: Vec<_> = right.iter().filter(|(name, _)| name != "EXOSCALE_URL").cloned().collect();
    assert_eq!(script::call(SCRIPT, &without, &arguments).status, 6, "there is no zone either");
    assert!(exoscale.journal().is_empty(), "{:?}", exoscale.journal());

    // Another key, or another secret.
    for (name, line) in [("EXOSCALE_API_KEY", "unknown key"), ("EXOSCALE_API_SECRET", "wrong signature")] {
        let ended = with(name, "another");
        assert_eq!(ended.status, 4, "{ended:?}");
        assert!(ended.line.ends_with(line), "{ended:?}");
    }
    // A header cannot have it, and an error of Python's would show it.
    let ended = with("EXOSCALE_API_KEY", &format!("a\n{PASSWORD}"));
    assert_eq!((ended.status, ended.line.as_str()), (1, "an answer that is not as documented: ValueError"));

    // What other programs go by is nothing to it.
    for (name, value) in [
        ("HTTPS_PROXY", "http://127.0.0.1:9"),
        ("https_proxy", "http://127.0.0.1:9"),
        ("PYTHONHOME", "/nonexistent"),
        ("PYTHONPATH", "/nonexistent"),
    ] {
        let ended = with(name, value);
        assert_eq!(ended.status, 0, "{name}: {ended:?}");
    }
}

#[test]
fn a_certificate_that_is_not_right_is_not_trusted() {
    for certificate in [Certificate::Expired, Certificate::OtherHost, Certificate::UnknownIssuer] {
        let exoscale = start(Config { certificate, ..Config::new(failover_ip()) });
        let ended = call(&exoscale, "start");
        assert_eq!(ended.status, 1, "{certificate:?}: {ended:?}");
        assert!(ended.line.contains("certificate verify failed"), "{certificate:?}: {ended:?}");
        assert!(exoscale.journal().is_empty());
    }
}

#[test]
fn the_operators_commands_use_it_by_the_line_of_its_head() {
    let exoscale = exoscale(&[2]);
    let env_file = exoscale.ca_file().expect("it speaks TLS").with_file_name("env_file");
    script::write_env_file(&env_file, &exoscale.environment());
    let replaced = [
        ("/usr/local/sbin", checkout().join("examples").display().to_string()),
        ("192.0.2.7", IP.to_owned()),
        ("/etc/uwsgi-failover/exoscale.env", env_file.display().to_string()),
    ];
    let target = format!(",target={}", Vm(1));
    let hook = script::hook_of_head(SCRIPT, &exoscale.environment(), &replaced, &target);
    for (option, status, attached) in [
        ("--hetzner-check", 0, &[2][..]),
        ("--hetzner-status", 2, &[2]),
        ("--hetzner-release", 2, &[2]),
        ("--hetzner-takeover", 0, &[1]),
        ("--hetzner-status", 0, &[1]),
        ("--hetzner-release", 0, &[]),
    ] {
        let output = commands::run(Uwsgi::Pypi, std::slice::from_ref(&hook), &[option], &[]);
        assert_eq!(output.status.code(), Some(status), "{option}: {output:?}");
        assert!(!format!("{output:?}").contains("unknown key"), "{output:?}");
        assert_eq!(exoscale.attached(), vms(attached), "{option}: {output:?}");
    }
}

fn the_elastic_ip_follows_the_lord(uwsgi: Uwsgi) {
    let exoscale = start(Config { switch: Duration::from_secs(1), ..Config::new(failover_ip()) });
    let scene = settled(uwsgi, exoscale);
    let before = changes(&scene.robot).len();
    let scene = follows_the_lord(scene);
    // Attached here before it is detached there, and nothing else.
    let expected = ["attach 2", "detach 1", "attach 1", "detach 2"];
    assert_eq!(changes(&scene.robot)[before..], expected, "{}", scene.state());
    assert_eq!(scene.robot.attached(), vms(&[1]));
}

/// Three nodes, of which the first is Lord and has the IP. Before that, whoever has started first may have had it.
pub fn settled<S: Hosted>(uwsgi: Uwsgi, stand_in: S) -> Scene<S> {
    // Nobody is given up because the machine is busy.
    let options = "legion-freq = 1\nlegion-tolerance = 10\nlegion-quorum = failover 2\n";
    Scene::of(uwsgi, 3, stand_in, "", options).settle()
}

/// The Lord dies, and comes back.
pub fn follows_the_lord<S: Hosted>(mut scene: Scene<S>) -> Scene<S> {
    let before = scene.switches();
    scene.legion.kill(1);
    scene.wait_for(2, LIMIT);
    scene.legion.start(1);
    scene.wait_for(1, LIMIT);
    let moves = scene.robot.moves().into_iter().skip(before);
    let nodes: Vec<usize> = moves.filter_map(|(_, _, node)| node).collect();
    assert_eq!(nodes, [2, 1], "{}", scene.state());
    scene
}
