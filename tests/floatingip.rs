//! The action for floating IPs, by itself: what it sends and how often, with which token, for which server, beside Robot's.

use std::fs;
use std::process::Command;
use std::time::Instant;

use lab::cloud::{Certificate, Cloud, Config, FloatingIp, Request, Server, Token};
use lab::hoster::{self, Hosted as _};
use lab::legion::{LEGION, failover_ip, target};
use lab::node::{Node, free_address};
use lab::process::in_own_network;
use lab::robot;
use lab::scene::{QUICK, Scene, on_each_uwsgi, seconds, side_by_side};
use lab::uwsgi::{Uwsgi, checkout};
use lab::{LIMIT, TOKEN, ip, wait_until};
use serde_json::Value;
use tempfile::TempDir;

use crate::commands::{document, run, stdout};

on_each_uwsgi! {
    a_takeover_is_one_post_and_at_most_two_gets
    all_ips_of_a_hook_are_taken_over
    a_token_that_is_of_no_use_is_told_as_that
    the_token_shows_nowhere
    this_servers_id_is_found
    names_are_looked_up
    both_hosters_are_taken_over_side_by_side
    commands_know_floating_ips
    a_release_unassigns
    the_line_in_the_readme_works
}

/// Alone in its Legion, with this hook.
struct Lone {
    node: Node,
    _folder: TempDir,
}

fn lone(uwsgi: Uwsgi, hooks: &[String], lines: &str, env: &[(&str, &str)]) -> Lone {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut ini = format!(
        "plugin = hetzner\nlegion-freq = 1\nlegion-death-on-lord-error = 300\n\
         legion = {LEGION} {} 1 aes-128-cbc:secret1\n{lines}",
        free_address()
    );
    for hook in hooks {
        ini += &format!("legion-lord = {LEGION} {hook}\n");
    }
    Lone { node: Node::start(uwsgi, folder.path(), &ini, env), _folder: folder }
}

impl Lone {
    /// The log, once the hooks have succeeded or failed.
    #[track_caller]
    fn log(&self) -> String {
        let is_over = |log: &str| log.contains("i am now the Lord") || log.contains("suspending myself");
        let over = wait_until(LIMIT, || is_over(&self.node.log()));
        assert!(over, "no end:\n{}", self.node.log());
        self.node.log()
    }
}

fn hook(cloud: &Cloud, more: &str) -> String {
    format!("{}:{}", Cloud::ACTION, cloud.hook(1, failover_ip(), more))
}

/// As they were asked: `GET /floating_ips/4711`, without what stands before in each path.
fn asked(cloud: &Cloud) -> Vec<String> {
    let line = |request: &Request| format!("{} {}", request.method, request.path.replacen("/v1", "", 1));
    cloud.journal().iter().map(line).collect()
}

const ASSIGN: &str = "POST /floating_ips/4711/actions/assign";
const ONE: &str = "GET /floating_ips/4711";
const FIRST_PAGE: &str = "GET /floating_ips?page=1&per_page=50";

fn a_takeover_is_one_post_and_at_most_two_gets(uwsgi: Uwsgi) {
    let moved = |more: &str, config: Config| {
        let cloud = hoster::cloud(Config { tokens: vec![Token::new("token", TOKEN)], ..config });
        let ca_file = cloud.ca_file().map(|path| path.display().to_string()).unwrap_or_default();
        let lone = lone(uwsgi, &[hook(&cloud, more)], "", &[("SSL_CERT_FILE", &ca_file)]);
        let log = lone.log();
        assert!(log.contains("i am now the Lord"), "{log}");
        let asked = asked(&cloud);
        let post = cloud.journal().into_iter().find(|request| request.method == "POST").expect("one");
        assert_eq!(
            (post.target.as_deref(), post.content_type.as_deref()),
            (Some("101"), Some("application/json"))
        );
        assert_eq!(post.user_agent.as_deref(), Some(concat!("uwsgi-hetzner/", env!("CARGO_PKG_VERSION"))));
        asked
    };
    assert_eq!(moved("", Config::default()), [FIRST_PAGE, ASSIGN, ONE]);
    assert_eq!(moved(",floating_ip=4711", Config::default()), [ONE, ASSIGN, ONE]);
    let named = "GET /floating_ips?name=floating-ip-4711";
    assert_eq!(moved(",floating_ip=floating-ip-4711", Config::default()), [named, ASSIGN, ONE]);
    let here = hoster::floating_ips([failover_ip()], Some(1));
    assert_eq!(moved("", Config { floating_ips: here, ..Config::default() }), [FIRST_PAGE, ASSIGN, ONE]);
    assert_eq!(
        moved("", Config { tls: Some(Certificate::Right), ..Config::default() }),
        [FIRST_PAGE, ASSIGN, ONE]
    );
    // In a large Project it stands on a later page.
    let others = (0..60).map(|number| FloatingIp::new(number + 1, ip(&format!("5.5.5.{number}")), None));
    let floating_ips = others.chain(hoster::floating_ips([failover_ip()], None)).collect();
    let second_page = "GET /floating_ips?page=2&per_page=50";
    let asked = moved("", Config { floating_ips, ..Config::default() });
    assert_eq!(asked, [FIRST_PAGE, second_page, ASSIGN, ONE]);
}

/// Of both families, in the order of `ip`.
fn all_ips_of_a_hook_are_taken_over(uwsgi: Uwsgi) {
    let ips = [failover_ip(), ip("2001:db8:1:2::")];
    let cloud = hoster::cloud(Config { floating_ips: hoster::floating_ips(ips, None), ..Config::default() });
    let hook = |net: &str, more: &str| hook(&cloud, more).replace("ip=4.4.4.4", &format!("ip=4.4.4.4;{net}"));
    for (net, more) in [("2001:db8:1:2::/64", ""), ("2001:db8:1:2::", ",floating_ip=4711;floating-ip-4712")] {
        ips.iter().for_each(|ip| cloud.move_to(*ip, Some(2)));
        let lone = lone(uwsgi, &[hook(net, more)], "", &[]);
        let log = lone.log();
        assert!(log.contains("i am now the Lord"), "{log}");
        assert_eq!(ips.map(|ip| cloud.node_at(ip)), [Some(1), Some(1)], "{log}");
    }
}

fn a_token_that_is_of_no_use_is_told_as_that(uwsgi: Uwsgi) {
    let cases = [
        ("right", Ok(())),
        (
            "wrong",
            Err("HTTP 401 unauthorized \"unable to authenticate\": the token was rejected: check token"),
        ),
        ("reads", Err("HTTP 403 token_readonly")),
        (
            "other",
            Err(
                "the token's Project has no floating IP 4.4.4.4: check ip, and of which Project the token is",
            ),
        ),
    ];
    side_by_side(&cases, |(name, expected)| {
        let secret = |name: &str| format!("{name:x<64}");
        let tokens = vec![
            Token::new("right", secret("right")),
            Token::new("reads", secret("reads")).read_only(),
            Token::new("other", secret("other")).of("other"),
        ];
        let cloud = hoster::cloud(Config { tokens, ..Config::default() });
        let lone = lone(uwsgi, &[hook(&cloud, "").replace(TOKEN, &secret(name))], "", &[]);
        let log = lone.log();
        assert_eq!(log.contains("i am now the Lord"), expected.is_ok(), "{name}: {log}");
        assert_eq!(cloud.node_at(failover_ip()), expected.is_ok().then_some(1), "{name}: {log}");
        if let Err(sentence) = expected {
            let failed =
                log.lines().find(|line| line.contains("FAILED to route 4.4.4.4")).unwrap_or_default();
            assert!(failed.contains(sentence), "{name}: {log}");
        }
        assert!(!log.contains(&secret(name)), "{name}: {log}");
    });
}

/// Though the API repeats it, in what it says and where it leads.
fn the_token_shows_nowhere(uwsgi: Uwsgi) {
    let cloud = hoster::cloud(Config::default());
    cloud.rule(&format!("post raw 500 {{\"error\":{{\"code\":\"{TOKEN}\",\"message\":\"{TOKEN}\"}}}}"));
    cloud.rule("get times=1 skip=1 redirect http://127.0.0.1:9/?NOTaREALtokenNOTaREALtokenNOTaREALtokenNOTaREALtokenNOTaREAL0000");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("token");
    fs::write(&file, format!("{TOKEN}\n")).expect("a writable folder");
    let hook = hook(&cloud, ",deadline=8")
        .replace(&format!("token={TOKEN}"), &format!("token_file={}", file.display()));
    let lone = lone(uwsgi, &[hook], "", &[]);
    let log = lone.log();
    assert!(log.contains("***") && !log.contains(&TOKEN[..13]), "{log}");
    assert!(cloud.journal().iter().all(|request| request.user.is_some()), "{:?}", cloud.journal());
    let command_line = fs::read(format!("/proc/{}/cmdline", lone.node.id())).expect("it runs");
    assert!(!String::from_utf8_lossy(&command_line).contains(&TOKEN[..13]));
}

/// By the metadata service at its own address, in a network that has it; and by a stand-in for it in a rehearsal.
fn this_servers_id_is_found(uwsgi: Uwsgi) {
    let found = move |listen: &str, env: &[(&str, &str)]| {
        let listen = listen.parse().expect("an address");
        let cloud = hoster::cloud(Config { listen, instance_id: Some(101), ..Config::default() });
        let service = format!("http://{}", cloud.addr());
        let env: Vec<(&str, &str)> = env.iter().map(|(name, _)| (*name, service.as_str())).collect();
        let lone = lone(uwsgi, &[hook(&cloud, "").replace(",server=101", "")], "", &env);
        let log = lone.log();
        assert!(log.contains("i am now the Lord"), "{log}");
        assert_eq!(cloud.node_at(failover_ip()), Some(1), "{log}");
        let first = cloud.journal().remove(0);
        assert_eq!((first.path.as_str(), first.user), ("/hetzner/v1/metadata/instance-id", None));
    };
    found("127.0.0.1:0", &[("HETZNER_METADATA", "")]);
    let alone = in_own_network(move || {
        let status = Command::new("ip").args(["addr", "add", "169.254.169.254/32", "dev", "lo"]).status();
        assert!(status.expect("ip(8) is there").success());
        // Never through a proxy.
        found("169.254.169.254:80", &[]);
    });
    if alone.is_none() {
        println!("skipped: only root can make a network, with ip(8)");
    }
}

fn names_are_looked_up(uwsgi: Uwsgi) {
    let servers = vec![Server { name: "web 1".into(), ..Server::new(101) }, Server::new(102)];
    let cloud = hoster::cloud(Config { servers, ..Config::default() });
    let lone = lone(uwsgi, &[hook(&cloud, "").replace("server=101", "server=web 1")], "", &[]);
    let log = lone.log();
    assert!(log.contains("i am now the Lord"), "{log}");
    assert_eq!(cloud.node_at(failover_ip()), Some(1), "{log}");
}

/// One Legion with a failover IP at Robot and a floating IP in the Cloud: neither waits for the other.
fn both_hosters_are_taken_over_side_by_side(uwsgi: Uwsgi) {
    let slow = seconds(6);
    let robot = hoster::robot(robot::Config { switch: slow, ..robot::Config::default() });
    let cloud = hoster::cloud(Config { switch: slow, ..Config::default() });
    let hooks = [format!("{}:{}", robot::Robot::ACTION, robot.hook(1, failover_ip(), "")), hook(&cloud, "")];
    let lone = lone(uwsgi, &hooks, "", &[]);
    let log = lone.log();
    assert!(log.contains("i am now the Lord"), "{log}");
    assert_eq!(
        (robot.route(failover_ip()), cloud.node_at(failover_ip())),
        (Some(target(1)), Some(1)),
        "{log}"
    );
    let post =
        |journal: Vec<Request>| journal.into_iter().find(|request| request.method == "POST").expect("one");
    let (in_robot, in_cloud) = (post(robot.journal()), post(cloud.journal()));
    // Robot's POST is answered when the switch is done.
    assert!(in_cloud.at < in_robot.done.expect("it was answered"), "one after the other:\n{log}");
}

fn commands_know_floating_ips(uwsgi: Uwsgi) {
    let cloud = hoster::cloud(Config { instance_id: Some(101), ..Config::default() });
    let hooks = [hook(&cloud, "")];
    let status = |node: Option<usize>| {
        cloud.move_to(failover_ip(), node);
        let output = run(uwsgi, &hooks, &["--hetzner-status", "--hetzner-json"], &[]);
        (output.status.code(), document(&output)["ips"][0].clone())
    };
    let (code, entry) = status(Some(1));
    assert_eq!((code, &entry["state"]), (Some(0), &Value::from("here")), "{entry}");
    assert_eq!((status(Some(2)).0, status(None).0), (Some(2), Some(2)));
    cloud.rule("any error unauthorized");
    assert_eq!(status(Some(1)).0, Some(1));
    cloud.clear_faults();

    let output = run(uwsgi, &hooks, &["--hetzner-check"], &[]);
    assert!(stdout(&output).contains("4.4.4.4"), "{}", stdout(&output));
    cloud.move_to(failover_ip(), Some(2));
    let output = run(uwsgi, &hooks, &["--hetzner-takeover"], &[]);
    assert_eq!(
        (output.status.code(), cloud.node_at(failover_ip())),
        (Some(0), Some(1)),
        "{}",
        stdout(&output)
    );
}

/// The one request that leaves an IP nowhere is sent where the ini says so, and only there.
fn a_release_unassigns(uwsgi: Uwsgi) {
    let floating_ips = hoster::floating_ips([failover_ip()], None);
    let cloud = Cloud::start(Config { floating_ips, ..Config::default() }).expect("a free port");
    let release =
        format!("legion-death = {LEGION} {}-release:{}\n", Cloud::ACTION, cloud.hook(1, failover_ip(), ""));
    let mut lone = lone(uwsgi, &[hook(&cloud, "")], &release, &[]);
    lone.log();
    assert!(!asked(&cloud).iter().any(|line| line.ends_with("/unassign")), "{:?}", asked(&cloud));
    lone.node.signal(lab::process::SIGINT);
    assert!(lone.node.wait_for_exit(LIMIT).is_some(), "{}", lone.node.log());
    assert_eq!(cloud.route(failover_ip()), None, "{}", lone.node.log());
    assert_eq!(asked(&cloud).iter().filter(|line| line.ends_with("/unassign")).count(), 1);
}

/// But for where its file is, and the API.
fn the_line_in_the_readme_works(uwsgi: Uwsgi) {
    let readme = fs::read_to_string(checkout().join("README.md")).expect("it is there");
    let start = format!("legion-lord = {LEGION} {}:", Cloud::ACTION);
    let line = readme.lines().find_map(|line| line.strip_prefix(&start)).expect("an ini in the README");
    let cloud = hoster::cloud(Config { instance_id: Some(101), ..Config::default() });
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("hcloud-token");
    fs::write(&file, format!("{TOKEN}\n")).expect("a writable folder");
    let there = "/etc/uwsgi-failover/hcloud-token";
    assert!(line.contains(there), "{line}");
    let line = line.replace(there, &file.display().to_string());
    let service = format!("http://{}", cloud.addr());
    let hook = format!("{}:{line},url={}", Cloud::ACTION, cloud.url());
    let lone = lone(uwsgi, &[hook], "", &[("HETZNER_METADATA", &service)]);
    let log = lone.log();
    assert!(log.contains("i am now the Lord"), "{log}");
    assert_eq!(cloud.node_at(failover_ip()), Some(1), "{log}");
}

/// Of a Lord's; the others look once a day. The first comes half a minute after the takeover, and then there is one a minute.
#[test]
fn in_peace_an_hour_has_sixty_gets() {
    let scene = Scene::in_cloud(Uwsgi::Pypi, 1, Config::default(), "", QUICK).settle();
    let looks = || {
        let journal = scene.robot.journal();
        let confirmed =
            journal.iter().rposition(|request| request.method == "POST").expect("the takeover") + 1;
        journal[confirmed + 1..].iter().map(|request| request.at).collect::<Vec<Instant>>()
    };
    assert!(wait_until(2 * LIMIT, || looks().len() >= 2), "{}", scene.state());
    let pause = looks()[1] - looks()[0];
    // The first may have arrived late on a busy machine, and the second has not.
    assert!(pause > seconds(55), "{pause:?}: {}", scene.state());
    assert_eq!(scene.posts(), 1, "{}", scene.state());
}
