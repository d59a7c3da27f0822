//! The table of bad answers: whatever comes back, the plugin makes the right thing of it, in time, and asks no more
//! than it may.
//!
//! Each row of `answers/table.rs` is played by a server of its own, over http and https, against a takeover in real
//! uWSGI, the guard of a Lord, and `--hetzner-status`. A row is a Legion of its own, so that uWSGI itself tells who
//! is Lord; one process is a member of all of them.

mod table;

use std::fs;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use lab::node::{Node, free_address};
use lab::raw::{Certificate, Play, Seen, Server, Shake, ca_pem};
use lab::uwsgi::Uwsgi;
use lab::{PASSWORD, USERNAME, assert_no_secret, wait_until};
use serde_json::Value;
use tempfile::TempDir;

use table::{Get, Over, Row, Sequence, TRAP};

/// For a whole table.
const LIMIT: Duration = Duration::from_secs(60);

/// The hooks' limits, and other keys.
#[derive(Clone, Copy)]
struct Limits {
    /// Of what ends only with it. Others may take longer on a busy machine.
    short: &'static str,
    timeout: &'static str,
    deadline: u8,
    more: &'static str,
}

impl Limits {
    fn timeout(self, row: &Row) -> &'static str {
        if row.is_late() { self.short } else { self.timeout }
    }
}

/// No time is left for a second request.
const ONE_REQUEST: Limits = Limits { short: "0.5", timeout: "1", deadline: 1, more: "" };
/// A command asks one after the other; only what is late takes long.
const STATUS: Limits = Limits { timeout: "5", ..ONE_REQUEST };
/// A check every two seconds.
const GUARD: Limits = Limits { short: "2", timeout: "5", deadline: 10, more: ",verify=2" };
/// Time for three POSTs and the looks between them, seven seconds.
const SEQUENCE: Limits = Limits { short: "1", timeout: "3", deadline: 12, more: "" };

/// A row with the server that plays it.
struct Stage {
    row: Row,
    server: Server,
    tls: bool,
}

impl Stage {
    /// The stages of one table; the first answers of each are `first`, if any.
    fn all(tls: bool, first: impl Fn(&Row) -> Option<Play>) -> Vec<Stage> {
        let here = if tls { Over::Https } else { Over::Http };
        let rows = table::rows().into_iter().filter(|row| row.over == Over::Both || row.over == here);
        rows.map(|row| {
            let plays = first(&row).into_iter().chain([row.play.clone()]).collect();
            Stage { server: Server::start(tls, plays), row, tls }
        })
        .collect()
    }

    fn ip(&self) -> &'static str {
        if self.row.ipv6 { "2a01:4f8:fff1::" } else { "4.4.4.4" }
    }

    fn target(&self) -> &'static str {
        if self.row.ipv6 { "2a01:4f8:0:5176::" } else { "1.1.1.1" }
    }

    /// The Legion and its hook, as they stand in an ini.
    fn legion(&self, limits: Limits) -> String {
        let timeout = limits.timeout(&self.row);
        let Limits { deadline, more, .. } = limits;
        let (name, ip, target) = (self.row.name, self.ip(), self.target());
        let scheme = if self.tls { "https" } else { "http" };
        let url = format!("{scheme}://{}/failover/{ip}", self.server.address());
        // A user each, since a refusal holds the next requests of that user back.
        format!(
            "legion = {name} {} 1 aes-128-cbc:secret1\n\
             legion-lord = {name} hetzner-failoverip:username={USERNAME}-{name},password={PASSWORD},ip={ip},\
             active_ip={target},url={url},timeout={timeout},deadline={deadline}{more}\n",
            free_address()
        )
    }

    /// A sentence of the table, as it stands in the log.
    fn sentence(&self, text: &str, limits: Limits) -> String {
        text.replace("HOST", &self.server.address().to_string()).replace("TIME", limits.timeout(&self.row))
    }

    /// Whether a connection gets as far as a request.
    fn is_asked(&self) -> bool {
        match self.row.play.shake {
            Shake::Tls(certificate) => certificate == Certificate::Right || !self.tls,
            Shake::Blind | Shake::AtOnce => false,
        }
    }

    /// Exactly one request, on one connection.
    fn check_one(&self, method: &str, problems: &mut Problems) {
        let Seen { connections, requests } = self.server.seen();
        let expected = if self.is_asked() { vec![method] } else { vec![] };
        if connections != 1 || requests != expected {
            problems.add(
                self,
                format!("{connections} connections with {requests:?}, 1 with {expected:?} expected"),
            );
        }
    }
}

/// What is not as it should be: all of it is shown, not the first alone.
#[derive(Default)]
struct Problems(Vec<String>);

impl Problems {
    fn add(&mut self, stage: &Stage, text: impl AsRef<str>) {
        let scheme = if stage.tls { "https" } else { "http" };
        self.0.push(format!("{} over {scheme}: {}", stage.row.name, text.as_ref()));
    }

    /// `line` must start as given; and be fit for a log.
    fn check_line(&mut self, stage: &Stage, line: &str, start: &str) {
        if !line.starts_with(start) {
            self.add(stage, format!("\n   found {line}\nexpected {start}"));
        }
        if line.len() > 800 || line.chars().any(char::is_control) {
            self.add(stage, format!("unfit for a log: {line:?}"));
        }
    }

    #[track_caller]
    fn assert_none(mut self, log: &str) {
        if TRAP.0.accept().is_ok() {
            self.0.push("a redirect was followed".into());
        }
        assert!(self.0.is_empty(), "{} problems:\n{}\n\n{log}", self.0.len(), self.0.join("\n"));
    }
}

/// A node that is a member of every stage's Legion.
fn start(uwsgi: Uwsgi, stages: &[Stage], limits: Limits, options: &str) -> (Node, TempDir) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let ca_file = folder.path().join("ca.pem");
    fs::write(&ca_file, ca_pem()).expect("a writable folder");
    let legions: String = stages.iter().map(|stage| stage.legion(limits)).collect();
    let ini = format!("plugin = hetzner\nlegion-freq = 1\n{options}{legions}");
    let env = [("SSL_CERT_FILE", ca_file.to_str().expect("UTF-8"))];
    (Node::start(uwsgi, folder.path(), &ini, &env), folder)
}

/// Whether each stage's Legion has this node as its Lord.
fn lords(node: &Node, stages: &[Stage]) -> Vec<bool> {
    let stats = node.stats().unwrap_or_default();
    let legions = stats["legions"].as_array().cloned().unwrap_or_default();
    let is_lord = |stage: &Stage| {
        let state = legions.iter().find(|state| state["legion"] == stage.row.name);
        state.is_some_and(|state| state["i_am_the_lord"].as_i64() > Some(0))
    };
    stages.iter().map(is_lord).collect()
}

/// What the plugin has logged for this stage.
fn lines<'a>(log: &'a str, stage: &Stage) -> impl Iterator<Item = &'a str> {
    let start = format!("[hetzner-failoverip] {}: ", stage.row.name);
    log.lines().filter_map(move |line| line.strip_prefix(start.as_str()))
}

fn takeovers(uwsgi: Uwsgi, tls: bool) {
    let stages = Stage::all(tls, |_| None);
    let (node, _folder) = start(uwsgi, &stages, ONE_REQUEST, "legion-death-on-lord-error = 300\n");
    let mut problems = Problems::default();
    check_verdicts(&node, &stages, ONE_REQUEST, &mut problems);
    stages.iter().for_each(|stage| stage.check_one("POST", &mut problems));
    problems.assert_none(&node.log());
}

/// What takes more than one request, with pauses of seconds, so that each node has a few.
fn sequences() {
    let nodes = 6;
    let chunk = |number: usize| {
        let uwsgi = Uwsgi::ALL[number % 2];
        let own = table::sequences().into_iter().skip(number).step_by(nodes);
        let (stages, asked): (Vec<Stage>, Vec<&str>) = own
            .map(|Sequence { row, then, asked }| {
                let plays = [row.play.clone()].into_iter().chain(then).collect();
                (Stage { server: Server::start(true, plays), row, tls: true }, asked)
            })
            .unzip();
        let (node, _folder) = start(uwsgi, &stages, SEQUENCE, "legion-death-on-lord-error = 300\n");
        let mut problems = Problems::default();
        check_verdicts(&node, &stages, SEQUENCE, &mut problems);
        for (stage, asked) in stages.iter().zip(asked) {
            let found = stage.server.seen().requests;
            let found: String = found.iter().filter_map(|method| method.chars().next()).collect();
            if found != asked {
                problems.add(stage, format!("asked {found:?}, {asked:?} expected"));
            }
        }
        problems.assert_none(&node.log());
    };
    thread::scope(|scope| (0..nodes).for_each(|number| drop(scope.spawn(move || chunk(number)))));
}

/// The last line of the hook.
fn verdict(log: &str, stage: &Stage) -> Option<String> {
    let success = format!("{} is routed to {} (", stage.ip(), stage.target());
    let is_verdict = |line: &&str| line.starts_with("FAILED ") || line.starts_with(&success);
    lines(log, stage).find(is_verdict).map(str::to_string)
}

/// Waits for each hook's end; what it said, whether it made a Lord, and whether it ended by its deadline.
fn check_verdicts(node: &Node, stages: &[Stage], limits: Limits, problems: &mut Problems) {
    wait_until(LIMIT, || {
        let log = node.log();
        stages.iter().all(|stage| verdict(&log, stage).is_some())
    });
    let expected: Vec<bool> = stages.iter().map(|stage| stage.row.post.is_ok()).collect();
    wait_until(Duration::from_secs(5), || lords(node, stages) == expected);
    let log = node.log();
    for (stage, is_lord) in stages.iter().zip(lords(node, stages)) {
        let (ip, target) = (stage.ip(), stage.target());
        let start = match stage.row.post {
            Ok(text) => format!("{ip} is routed to {target} ({text}"),
            Err(text) => format!("FAILED to route {ip} to {target}: {text}"),
        };
        let line = verdict(&log, stage).unwrap_or_default();
        problems.check_line(stage, &line, &stage.sentence(&start, limits));
        if is_lord != stage.row.post.is_ok() {
            problems.add(stage, format!("Lord: {is_lord}; {line}"));
        }
        let seconds = line.rsplit_once("after ").and_then(|(_, rest)| rest.strip_suffix(" s)"));
        if seconds
            .and_then(|seconds| seconds.parse::<f64>().ok())
            .is_none_or(|seconds| seconds > f64::from(limits.deadline) + 0.2)
        {
            problems.add(stage, format!("not by its deadline: {line}"));
        }
    }
}

/// A Lord that has the IP, and whose checks meet the row.
fn guards(uwsgi: Uwsgi, tls: bool) {
    let first = |row: &Row| {
        let right =
            if row.ipv6 { table::active6(r#""2a01:4f8:0:5176::""#) } else { table::active(r#""1.1.1.1""#) };
        Some(right.into())
    };
    let stages = Stage::all(tls, first);
    let began = Instant::now();
    let (node, _folder) = start(uwsgi, &stages, GUARD, "");
    let first_look = |log: &str, stage: &Stage| match stage.row.get {
        Get::Here => (stage.server.seen().count("GET") > 0).then(String::new),
        _ => lines(log, stage).find(|line| line.contains("this node is Lord")).map(str::to_string),
    };
    wait_until(LIMIT, || {
        let log = node.log();
        stages.iter().all(|stage| first_look(&log, stage).is_some())
    });
    let mut problems = Problems::default();
    let log = node.log();
    for (stage, is_lord) in stages.iter().zip(lords(&node, &stages)) {
        let ip = stage.ip();
        let line = first_look(&log, stage);
        let start = match stage.row.get {
            Get::Here => String::new(),
            Get::Elsewhere => format!("{ip} is routed to "),
            Get::Nowhere => {
                format!("{ip} is routed nowhere, though this node is Lord: checking the route again in 2 s")
            }
            Get::Unknown(text) => format!("this node is Lord, but the route of {ip} is unknown: {text}"),
        };
        match line {
            Some(line) => problems.check_line(stage, &line, &stage.sentence(&start, GUARD)),
            None => problems.add(stage, "no look"),
        }
        let seen = stage.server.seen();
        // Doubt is no reason to move the IP, and told once.
        let doubts = lines(&log, stage).filter(|line| line.contains("is unknown: ")).count();
        let in_doubt = matches!(stage.row.get, Get::Unknown(_));
        if doubts != usize::from(in_doubt) || in_doubt && seen.count("POST") != 1 {
            problems.add(stage, format!("told {doubts} times, {} POST", seen.count("POST")));
        }
        let most = match stage.row.get {
            Get::Unknown(text) if text.contains("HTTP 401") => 2,
            Get::Unknown(text) if text.contains("HTTP 403") => 1,
            // One every two seconds is due.
            _ => began.elapsed().as_secs() as usize,
        };
        if seen.count("GET") > most || !stage.is_asked() && seen.count("GET") > 0 {
            problems.add(stage, format!("{} GET, at most {most} expected", seen.count("GET")));
        }
        if !is_lord {
            problems.add(stage, "no longer Lord");
        }
    }
    problems.assert_none(&log);
}

fn statuses(uwsgi: Uwsgi, tls: bool) {
    let mut stages = Stage::all(tls, |_| None);
    let exit_status = |stage: &Stage| match stage.row.get {
        Get::Here => 0,
        Get::Elsewhere | Get::Nowhere => 2,
        Get::Unknown(_) => 1,
    };
    stages.sort_by_key(exit_status);
    let mut problems = Problems::default();
    for group in stages.chunk_by(|one, other| exit_status(one) == exit_status(other)) {
        let (json, code) = status(uwsgi, group);
        if code != Some(exit_status(&group[0])) {
            problems.add(&group[0], format!("exit status {code:?}"));
        }
        let found = json["ips"].as_array().cloned().unwrap_or_default();
        for stage in group {
            let entry = found.iter().find(|entry| entry["legion"] == stage.row.name).unwrap_or(&Value::Null);
            let (state, start) = match stage.row.get {
                Get::Here => ("here", format!("routed to {}, here", stage.target())),
                Get::Elsewhere => ("elsewhere", "routed to ".to_string()),
                Get::Nowhere => ("nowhere", format!("routed nowhere, not to {}", stage.target())),
                Get::Unknown(text) => ("unknown", format!("unknown: {text}")),
            };
            if entry["state"] != state {
                problems.add(stage, format!("{state} expected: {entry}"));
            }
            let line = entry["steps"][0]["text"].as_str().unwrap_or_default();
            problems.check_line(stage, line, &stage.sentence(&start, STATUS));
            stage.check_one("GET", &mut problems);
        }
    }
    problems.assert_none("");
}

/// What `--hetzner-status` says of these stages.
fn status(uwsgi: Uwsgi, stages: &[Stage]) -> (Value, Option<i32>) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = |name: &str| folder.path().join(name);
    fs::write(path("ca.pem"), ca_pem()).expect("a writable folder");
    let legions: String = stages.iter().map(|stage| stage.legion(STATUS)).collect();
    let plugins = uwsgi.plugins();
    let ini =
        format!("[uwsgi]\nplugins-dir = {}\nplugin = hetzner\nmaster = true\n{legions}", plugins.display());
    fs::write(path("node.ini"), ini).expect("a writable folder");
    let mut command = Command::new(uwsgi.program());
    command.arg("--ini").arg(path("node.ini")).args(["--hetzner-status", "--hetzner-json"]);
    for name in ["http_proxy", "https_proxy", "all_proxy", "no_proxy", "SSL_CERT_DIR"] {
        command.env_remove(name).env_remove(name.to_uppercase());
    }
    let began = Instant::now();
    command.env("SSL_CERT_FILE", path("ca.pem")).env("TMPDIR", folder.path());
    let output = command.output().expect("uWSGI starts");
    let most = Duration::from_secs(5) * u32::try_from(stages.len()).expect("a few");
    assert!(began.elapsed() < most, "{:?}", began.elapsed());
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_no_secret(&stdout);
    assert_no_secret(&stderr);
    let json = stdout.lines().last().and_then(|line| serde_json::from_str(line).ok());
    (json.unwrap_or_else(|| panic!("{stdout}\n{stderr}")), output.status.code())
}

#[test]
fn a_takeover_asks_as_often_as_it_must() {
    sequences();
}

#[test]
fn takeovers_over_http() {
    takeovers(Uwsgi::Pypi, false);
}

#[test]
fn takeovers_over_https() {
    takeovers(Uwsgi::Debian, true);
}

#[test]
fn guards_over_http() {
    guards(Uwsgi::Debian, false);
}

#[test]
fn guards_over_https() {
    guards(Uwsgi::Pypi, true);
}

#[test]
fn status_over_http() {
    statuses(Uwsgi::Pypi, false);
}

#[test]
fn status_over_https() {
    statuses(Uwsgi::Debian, true);
}
