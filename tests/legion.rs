//! Three nodes and the stand-in: the failover IP follows the Lord.

use std::fs;
use std::process::Command;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Instant;

use lab::legion::{LEGION, Legion, address, failover_ip, hook, route_of};
use lab::node::{Node, free_address};
use lab::process::SIGINT;
use lab::proxy::Proxy;
use lab::robot::{Certificate, Config, Login, Robot};
use lab::scene::{self, LIMIT, QUICK};
use lab::uwsgi::Uwsgi;
use lab::{PASSWORD, USERNAME};

fn robot(config: Config) -> Robot {
    scene::robot(Config { servers: (1..=3).filter_map(route_of).collect(), ..config })
}

fn three_nodes(uwsgi: Uwsgi, robot: &Robot, options: &str) -> Legion {
    let url = robot.url(failover_ip());
    let hooks: Vec<String> = (1..=3).map(|node| hook(node, &url, "")).collect();
    Legion::new(uwsgi, &hooks, options)
}

#[test]
fn the_ip_follows_the_lord_within_eight_rounds_of_its_death() {
    for uwsgi in Uwsgi::ALL {
        let robot = robot(Config { login: Some(Login::new(USERNAME, PASSWORD)), ..Config::default() });
        let mut legion = three_nodes(uwsgi, &robot, QUICK).with_links();
        legion.start_all();
        legion.wait_for_lord(1, LIMIT);
        assert_eq!(robot.route(failover_ip()), route_of(1));

        let killed = Instant::now();
        let before = legion.links().sent(3, 2);
        legion.kill(1);
        legion.wait_for_lord(2, LIMIT);
        let rounds = legion.links().sent(3, 2) - before;
        assert_eq!(robot.route(failover_ip()), route_of(2));
        let (moved, ..) = *robot.history().last().expect("it was moved");
        let took = moved - killed;
        println!("{uwsgi}: {:.1} s from SIGKILL of the Lord to the IP at the new Lord", took.as_secs_f64());
        // A second each, where the machine has the time.
        assert!(rounds <= 8, "{uwsgi}: {rounds} rounds, {took:?}\n{}", legion.logs());

        legion.start(1);
        legion.wait_for_lord(1, LIMIT);
        assert_eq!(robot.route(failover_ip()), route_of(1));
    }
}

#[test]
fn a_node_whose_action_fails_does_not_become_lord_and_the_next_one_does() {
    for uwsgi in Uwsgi::ALL {
        let robot = robot(Config::default());
        robot.fault("post target=1.1.1.1 error FAILOVER_FAILED".parse().expect("a rule"));
        let mut legion = three_nodes(uwsgi, &robot, &format!("{QUICK}legion-death-on-lord-error = 300\n"));
        legion.start_all();
        legion.wait_for_lord(2, LIMIT);
        assert_eq!(robot.route(failover_ip()), route_of(2), "{}", legion.logs());
        let log = legion.node(1).log();
        assert!(log.contains("suspending myself from Legion \"failover\" for 300 seconds"), "{log}");
        assert!(!log.contains("i am now the Lord"), "{log}");
        assert!(log.contains("HTTP 500 FAILOVER_FAILED"), "{log}");
    }
}

/// Runs the inis of three servers 1.1.1.1, 2.2.2.2 and 3.3.3.3 as they stand; only the Legion's own addresses
/// become such that this machine can listen on. They say no `url`: the plugin asks for Hetzner's own host, which a
/// proxy leads to the stand-in.
fn run_as_they_stand(inis: &[String]) {
    let robot = robot(Config {
        tls: Some(Certificate::Right),
        login: Some(Login::new("FOO", "BAR")),
        ..Config::default()
    });
    let proxy = Proxy::start(robot.addr());
    let (proxy_url, ca_file) = (proxy.url(), robot.ca_file().expect("with TLS").to_str().expect("UTF-8"));
    let env = [("https_proxy", proxy_url.as_str()), ("SSL_CERT_FILE", ca_file)];

    let addresses = [1, 2, 3].map(|_| free_address().to_string());
    let folder = tempfile::tempdir().expect("a temporary folder");
    let start = |node: usize| {
        let on_loopback =
            |ini: String, (at, own): (usize, &String)| ini.replace(&format!("{}:2000", address(at + 1)), own);
        let ini = addresses.iter().enumerate().fold(inis[node - 1].clone(), on_loopback);
        let folder = folder.path().join(node.to_string());
        std::fs::create_dir(&folder).expect("a writable folder");
        Node::start(Uwsgi::Debian, &folder, &ini, &env)
    };
    let nodes = [1, 2, 3].map(start);
    nodes[0].wait_for_log("i am now the Lord", LIMIT);
    assert_eq!(robot.route(failover_ip()), route_of(1));
    // An orderly end is announced, so that nobody waits for the tolerance.
    nodes[0].signal(SIGINT);
    nodes[1].wait_for_log("i am now the Lord", LIMIT);
    assert_eq!(robot.route(failover_ip()), route_of(2));
    assert!(!nodes[2].is_lord(LEGION));
    assert!(nodes.iter().all(|node| !node.log().contains("BAR")), "a password is in a log");
    assert!(proxy.asked().iter().all(|target| target == "robot-ws.your-server.de:443"));
}

/// Only its cipher is not the seed's own: OpenSSL 3 has bf-cbc no more.
#[test]
fn the_seeds_configuration_runs_as_it_stands() {
    let ini = |own: &str, valor, others: [&str; 2]| {
        let [first, second] = others;
        format!(
            "\
plugin = hetzner

legion = failover {own}:2000 {valor} aes-128-cbc:secret1
legion-node = failover {first}:2000
legion-node = failover {second}:2000
legion-lord = failover hetzner-failoverip:username=FOO,password=BAR,ip=4.4.4.4,active_ip={own}
legion-death-on-lord-error = 300
legion-tolerance = 60
"
        )
    };
    run_as_they_stand(&[
        ini("1.1.1.1", 9999, ["2.2.2.2", "3.3.3.3"]),
        ini("2.2.2.2", 9998, ["1.1.1.1", "3.3.3.3"]),
        ini("3.3.3.3", 9997, ["1.1.1.1", "2.2.2.2"]),
    ]);
}

/// The README has the ini of one server, and a table of what differs on each. Only the password file's path is changed.
#[test]
fn the_readmes_configuration_runs_as_it_stands() {
    let readme = include_str!("../README.md");
    let block = readme.split("```ini\n[uwsgi]\n").nth(1).and_then(|rest| rest.split("```").next());
    let (same, below) = block.expect("an ini").split_once("DIFFER on each server.\n").expect("its mark");
    let (differ, same_too) = below.split_once("\n\n").expect("an empty line");
    let rows = [1, 2, 3].map(|server| {
        let row =
            readme.split(&format!("\n| {} | ", address(server))).nth(1).and_then(|row| row.lines().next());
        let cells: Vec<&str> = row.expect("a row for each server").split('`').skip(1).step_by(2).collect();
        <[&str; 4]>::try_from(cells).expect("four values")
    });

    let password_file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(&password_file, "BAR\n").expect("our own file");
    let inis = rows.map(|row| {
        let lines = differ.lines().zip(rows[0]).zip(row).map(|((line, first), own)| {
            assert_eq!(line.matches(first).count(), 1, "{line}: {first}");
            line.replace(first, own) + "\n"
        });
        let ini = format!("{same}\n{}{same_too}", lines.collect::<String>());
        let path = password_file.path().to_str().expect("UTF-8");
        assert!(ini.contains("/etc/uwsgi-failover/robot-password"), "{ini}");
        ini.replace("/etc/uwsgi-failover/robot-password", path)
    });
    assert_eq!(differ.lines().count(), rows[0].len());
    run_as_they_stand(&inis);
}

/// The trust store is a pipe, which can be read once: when it has been, nobody has made node 2 Lord yet.
#[test]
fn a_failover_needs_no_disk_for_the_trust_store() {
    let robot = robot(Config { tls: Some(Certificate::Right), ..Config::default() });
    let hooks = [1, 2].map(|node| hook(node, &robot.url(failover_ip()), ""));
    let mut legion = Legion::new(Uwsgi::Pypi, &hooks, QUICK);
    // In the folder of each node, where it is started.
    legion.set_env("SSL_CERT_FILE", "pipe");
    let pipes = [1, 2].map(|node| legion.folder(node).join("pipe"));
    for pipe in &pipes {
        assert!(Command::new("mkfifo").arg(pipe).status().expect("coreutils").success());
    }
    legion.start_all();
    let certificates = fs::read(robot.ca_file().expect("with TLS")).expect("PEM");
    for pipe in pipes {
        let certificates = certificates.clone();
        let (tell, told) = channel();
        let reader = pipe.clone();
        // Opening it waits for who reads.
        thread::spawn(move || tell.send(fs::write(reader, certificates).is_ok()));
        assert_eq!(told.recv_timeout(LIMIT), Ok(true), "{}", legion.logs());
        fs::remove_file(pipe).expect("it is there");
    }
    assert!(!legion.lords().contains(&2));
    legion.wait_for_lord(1, LIMIT);
    legion.kill(1);
    legion.wait_for_lord(2, LIMIT);
    assert_eq!(robot.route(failover_ip()), route_of(2));
}

/// As when the one CA that is missing is installed at last.
#[test]
fn a_ca_that_is_added_is_found_without_a_restart() {
    let [robot, other] =
        [(); 2].map(|()| robot(Config { tls: Some(Certificate::Right), ..Config::default() }));
    let hooks = [hook(1, &robot.url(failover_ip()), "")];
    let mut legion = Legion::new(Uwsgi::Pypi, &hooks, QUICK);
    legion.set_env("SSL_CERT_FILE", "ca.pem");
    let (file, known) = (legion.folder(1).join("ca.pem"), |robot: &Robot| robot.ca_file().map(fs::read));
    fs::write(&file, known(&other).expect("with TLS").expect("PEM")).expect("a writable folder");
    legion.start_all();
    legion.node(1).wait_for_log("from an unknown issuer", LIMIT);
    fs::write(&file, known(&robot).expect("with TLS").expect("PEM")).expect("as before");
    legion.node(1).wait_for_log("is routed to 1.1.1.1", LIMIT);
    assert_eq!(robot.route(failover_ip()), route_of(1));
}
