//! Whether valgrind's Memcheck finds anything wrong in real uWSGI with the plugin: an access to what is not ours, a
//! decision by what was never written, memory that nobody can free any more.
//!
//! Node 1 runs under valgrind: it is reloaded during a call, loses election after election until its stand-in's faults
//! are used up, keeps its IPs against moves by hand, and is stopped. Node 2, which runs without, gives it a peer. Then
//! come the operator's commands. Every process must end without an error that `valgrind.supp` does not excuse.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use lab::legion::LEGION;
use lab::node::{Node, free_address};
use lab::process::{SIGHUP, SIGINT};
use lab::robot::{Certificate, Config, Failover, Limits, Login, Robot};
use lab::uwsgi::{Uwsgi, checkout};
use lab::{PASSWORD, USERNAME, ip, wait_until};

const TAKEOVERS: usize = 50;

/// For any step; under valgrind everything takes some ten times as long.
const LIMIT: Duration = Duration::from_secs(120);

/// The IPs of the one hook. The first makes elections fail, the second and third meet faults, the last two are moved.
const IPS: [&str; 5] = ["4.4.4.4", "5.5.5.5", "2a01:4f8:5::", "6.6.6.6", "2a01:4f8:6::"];
const MOVED: [(&str, &str); 2] = [("6.6.6.6", "2.2.2.2"), ("2a01:4f8:6::", "2a01:4f8:2::")];

/// After the reload. Each is met once, by one POST or GET after the other.
const FAULTS: [&str; 16] = [
    "post ip=4.4.4.4 times=9 error FAILOVER_NEW_SERVER_NOT_FOUND",
    "post ip=5.5.5.5 times=1 lost-answer",
    "post ip=5.5.5.5 times=1 html 502",
    "post ip=5.5.5.5 times=1 cut-half",
    "post ip=5.5.5.5 times=1 truncated",
    "post ip=5.5.5.5 times=1 reset",
    "post ip=5.5.5.5 times=1 error FAILOVER_FAILED",
    "post ip=5.5.5.5 times=1 huge 5MiB",
    "get ip=5.5.5.5 times=2 error MAINTENANCE",
    "post ip=2a01:4f8:5:: times=1 locked 1s",
    "post ip=2a01:4f8:5:: times=1 redirect http://127.0.0.1:1/",
    "post ip=2a01:4f8:5:: times=1 null",
    "post ip=2a01:4f8:5:: times=1 other 2a01:4f8:2::",
    "post ip=2a01:4f8:5:: times=1 trickle 20ms",
    "post ip=2a01:4f8:5:: times=1 empty 500",
    "get ip=2a01:4f8:5:: times=1 reset",
];

/// The operator's commands, and how each ends when all IPs are here before it.
const COMMANDS: [(&[&str], i32); 4] = [
    (&["--hetzner-check"], 0),
    (&["--hetzner-status", "--hetzner-json"], 0),
    (&["--hetzner-release"], 0),
    (&["--hetzner-takeover"], 0),
];

/// What valgrind ends a process with in which it has found something.
const FOUND: i32 = 99;

/// The uWSGIs of one run under valgrind, and what it writes about each process.
struct Memcheck {
    uwsgi: Uwsgi,
    logs: PathBuf,
}

impl Memcheck {
    fn new(uwsgi: Uwsgi) -> Memcheck {
        let logs = checkout().join("target/soak").join(uwsgi.to_string());
        let _ = fs::remove_dir_all(&logs);
        fs::create_dir_all(&logs).expect("target is writable");
        Memcheck { uwsgi, logs }
    }

    /// That uWSGI under valgrind.
    fn command(&self) -> Command {
        let mut command = Command::new("valgrind");
        command
            .args(["--trace-children=yes", "--num-callers=60"])
            .args(["--leak-check=full", "--show-leak-kinds=definite", "--errors-for-leak-kinds=definite"])
            // uWSGI's reload is an exec() of itself, and valgrind begins the process's log anew: an error before it
            // must end the process, or nobody would know of it.
            .args([&format!("--error-exitcode={FOUND}"), "--exit-on-first-error=yes"])
            .arg(format!(
                "--suppressions={}",
                checkout().join("tests/lab/src/bin/soak/valgrind.supp").display()
            ))
            .arg(format!("--log-file={}/%p", self.logs.display()))
            .arg(self.uwsgi.program());
        command
    }

    /// How many processes there were; or the first thing that was found in one.
    fn judge(&self) -> Result<usize, String> {
        let logs: Vec<PathBuf> =
            fs::read_dir(&self.logs).expect("our own folder").flatten().map(|entry| entry.path()).collect();
        for log in &logs {
            let text = fs::read_to_string(log).map_err(|error| format!("{}: {error}", log.display()))?;
            // Last of all, and not where the process was killed.
            if !text.contains("ERROR SUMMARY: 0 errors") {
                return Err(format!("valgrind says of a process ({}):\n{text}", log.display()));
            }
        }
        Ok(logs.len())
    }
}

/// What both inis say of the Legion.
fn member(own: std::net::SocketAddr, peer: std::net::SocketAddr, valor: usize) -> String {
    format!(
        "legion = {LEGION} {own} {valor} aes-128-cbc:secret1\nlegion-node = {LEGION} {peer}\nlegion-freq = 1\n\
         legion-tolerance = 15\nlegion-death-on-lord-error = 1\n"
    )
}

struct Scene {
    robot: Robot,
    node: Node,
    peer: Node,
}

impl Scene {
    /// Waits for something at node 1, which must not end before it.
    fn wait(&mut self, what: &str, mut condition: impl FnMut(&Scene) -> bool) -> Result<(), String> {
        let mut ended = None;
        let found = wait_until(LIMIT, || {
            ended = self.node.wait_for_exit(Duration::ZERO);
            ended.is_some() || condition(self)
        });
        match ended {
            Some(status) => return Err(format!("the node has ended with {status}, and not come to: {what}")),
            None if found => return Ok(()),
            None => {}
        }
        let log = self.node.log();
        let last: Vec<&str> = log.lines().rev().take(10).collect();
        Err(format!("not within {LIMIT:?}: {what}; the last lines of the log: {last:#?}"))
    }

    fn is_settled(&self) -> bool {
        let here = |text: &str| ip(if text.contains(':') { "2a01:4f8:1::" } else { "1.1.1.1" });
        self.node.is_lord(LEGION) && IPS.iter().all(|text| self.robot.route(ip(text)) == Some(here(text)))
    }

    fn fault(&self, rule: &str) {
        self.robot.fault(rule.parse().unwrap_or_else(|error| panic!("{rule}: {error}")));
    }
}

/// Plays all of it; says what was played.
pub fn of(uwsgi: Uwsgi) -> Result<String, String> {
    let memcheck = Memcheck::new(uwsgi);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let played = play(&memcheck, folder.path());
    // What was found is the reason for whatever else went wrong.
    let processes = memcheck.judge()?;
    let played = played?;
    Ok(format!(
        "{played}, under valgrind: no invalid access and no definite leak of ours in {processes} processes"
    ))
}

fn play(memcheck: &Memcheck, folder: &Path) -> Result<String, String> {
    let robot = Robot::start(Config {
        tls: Some(Certificate::Right),
        login: Some(Login::new(USERNAME, PASSWORD)),
        limits: Limits { get: u32::MAX, post: u32::MAX, delete: u32::MAX, ..Limits::default() },
        failover: IPS.map(|text| Failover::new(ip(text), None)).to_vec(),
        ..Config::default()
    })
    .expect("a free port");
    let folders = ["1", "2"].map(|name| folder.join(name));
    folders.iter().for_each(|folder| fs::create_dir(folder).expect("a writable folder"));
    let password_file = folder.join("password");
    fs::write(&password_file, format!("{PASSWORD}\n")).expect("a writable folder");
    let addresses = [free_address(), free_address()];
    let hook = format!(
        "username={USERNAME},password_file={},url=https://{}/failover/{{ip}},ip={},active_ip=1.1.1.1;2a01:4f8:1::,\
         verify=3,deadline=8,alarm=pager",
        password_file.display(),
        robot.addr(),
        IPS.join(";")
    );
    let ini = format!(
        "plugin = {}\nenable-metrics = true\nalarm = pager log:\n{}legion-lord = {LEGION} hetzner-failoverip:{hook}\n\
         legion-death = {LEGION} hetzner-failoverip-release:{hook}\n",
        memcheck.uwsgi.readable_plugin().display(),
        member(addresses[0], addresses[1], 2)
    );
    let ca_file = robot.ca_file().expect("with TLS").to_str().expect("UTF-8").to_string();
    let env = [("SSL_CERT_FILE", ca_file.as_str())];
    robot.fault("post times=5 delay 1m".parse().expect("a rule"));
    let mut scene = Scene {
        node: Node::start_by(memcheck.command(), memcheck.uwsgi, &folders[0], &ini, &env),
        peer: Node::start(
            memcheck.uwsgi,
            &folders[1],
            &format!("{}legion-lord = {LEGION} log:lord\n", member(addresses[1], addresses[0], 1)),
            &[],
        ),
        robot,
    };

    scene.wait("five POSTs", |scene| scene.robot.journal().len() == 5)?;
    FAULTS.iter().for_each(|rule| scene.fault(rule));
    scene.node.signal(SIGHUP);
    let takeovers = |scene: &Scene| {
        let log = scene.node.log();
        let (_, reloaded) = log.split_once("binary reloading uWSGI...")?;
        Some(reloaded.matches("moving the failover IP to this node...").count() * IPS.len())
    };
    scene.wait("fifty takeovers after the reload", |scene| takeovers(scene) >= Some(TAKEOVERS))?;
    scene.wait("Lord with all IPs", Scene::is_settled)?;
    let left: Vec<String> = scene.robot.faults().iter().map(ToString::to_string).collect();
    if !left.is_empty() {
        return Err(format!("no request has met these faults: {}", left.join("; ")));
    }

    for nowhere in [false, true] {
        for (moved, elsewhere) in MOVED {
            scene.robot.set_route(ip(moved), (!nowhere).then(|| ip(elsewhere)));
        }
        scene.wait("the moved IPs taken back", Scene::is_settled)?;
    }
    scene.peer.signal(SIGINT);
    scene.wait("no peer", |scene| {
        scene.node.legion(LEGION).is_some_and(|legion| legion["members"] == serde_json::json!([]))
    })?;
    scene.robot.set_route(ip("6.6.6.6"), Some(ip("2.2.2.2")));
    scene.wait("an IP left where it is", |scene| {
        scene.node.log().contains("left there, because only 1 of 2")
    })?;
    let guard_rounds = scene.robot.journal().iter().filter(|request| request.method == "GET").count();
    let takeovers = takeovers(&scene).unwrap_or_default();

    scene.node.signal(SIGINT);
    let status = scene.node.wait_for_exit(LIMIT).ok_or("the node has not ended")?;
    if !status.success() {
        return Err(format!("the node has ended with {status}"));
    }
    for text in IPS {
        scene
            .robot
            .set_route(ip(text), Some(ip(if text.contains(':') { "2a01:4f8:1::" } else { "1.1.1.1" })));
    }
    for (options, expected) in COMMANDS {
        let mut command = memcheck.command();
        command.arg("--ini").arg(folders[0].join("node.ini")).args(options).envs(env);
        let output = command.output().map_err(|error| format!("{options:?}: {error}"))?;
        if output.status.code() != Some(expected) {
            return Err(format!("{options:?} ends with {}: {output:?}", output.status));
        }
    }
    Ok(format!("{takeovers} takeovers, {guard_rounds} looks, a reload and {} commands", COMMANDS.len()))
}
