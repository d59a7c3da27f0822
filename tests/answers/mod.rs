//! The table of bad answers: whatever comes back, the plugin makes the right thing of it, and asks no more than it may.
//! How fast this machine is decides nothing: only what hangs is ended by a time limit, and only that limit is short.
//!
//! Each row of `answers/table.rs` is played by a server of its own, over http and https, against a takeover in real
//! uWSGI, the guard of a Lord, and `--hetzner-status`. A row is a Legion of its own, so that uWSGI itself tells who
//! is Lord; one process is a member of all of them.

mod cloud;
mod table;

use std::fs;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
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
const LIMIT: Duration = Duration::from_secs(240);

/// What a request may take, in seconds.
#[derive(Clone, Copy)]
struct Limits {
    /// Of rows that only it ends; it leaves enough for what comes before they hang.
    late: &'static str,
    /// Of all others, which end by what comes back.
    other: &'static str,
}

impl Limits {
    fn of(self, row: &Row) -> &'static str {
        if row.is_late() { self.late } else { self.other }
    }
}

const TAKEOVER: Limits = Limits { late: "20", other: "60" };
const GUARD: Limits = Limits { late: "60", other: "60" };
/// A look has ten seconds at most, whatever the hook says.
const LOOK: Limits = Limits { late: "10", other: "10" };
const STATUS: Limits = Limits { late: "8", other: "60" };
/// One table at a time over each of the two: each is hundreds of connections at once, and what a check of the route may
/// take is the plugin's own limit of ten seconds.
static TURNS: [Mutex<()>; 2] = [Mutex::new(()), Mutex::new(())];

fn turn(tls: bool) -> MutexGuard<'static, ()> {
    TURNS[usize::from(tls)].lock().unwrap_or_else(PoisonError::into_inner)
}

/// In seconds; no takeover gets near it.
const DEADLINE: f64 = 120.0;

/// A row with the server that plays it.
struct Stage {
    row: Row,
    server: Server,
    tls: bool,
    limits: Limits,
    /// Further keys of its hook.
    more: String,
    /// Of a sequence, the first letters of all requests.
    asked: &'static str,
}

impl Stage {
    fn new(row: Row, tls: bool, plays: Vec<Play>, limits: Limits) -> Stage {
        Stage { server: Server::start(tls, plays), row, tls, limits, more: String::new(), asked: "" }
    }

    /// The stages of one table, whose servers play what `plays` makes of each row.
    fn all(tls: bool, limits: Limits, plays: impl Fn(&Row) -> Vec<Play>) -> Vec<Stage> {
        let here = if tls { Over::Https } else { Over::Http };
        let rows = table::rows().into_iter().filter(|row| row.over == Over::Both || row.over == here);
        rows.map(|row| (plays(&row), row)).map(|(plays, row)| Stage::new(row, tls, plays, limits)).collect()
    }

    fn ip(&self) -> &'static str {
        if self.row.ipv6 { "2a01:4f8:fff1::" } else { "4.4.4.4" }
    }

    fn target(&self) -> &'static str {
        if self.row.ipv6 { "2a01:4f8:0:5176::" } else { "1.1.1.1" }
    }

    /// The Legion and its hook, as they stand in an ini.
    fn legion(&self) -> String {
        let (name, ip, target) = (self.row.name, self.ip(), self.target());
        let (timeout, more) = (self.limits.of(&self.row), &self.more);
        let scheme = if self.tls { "https" } else { "http" };
        let url = format!("{scheme}://{}/failover/{ip}", self.server.address());
        // A user each, since a refusal holds the next requests of that user back.
        format!(
            "legion = {name} {} 1 aes-128-cbc:secret1\n\
             legion-lord = {name} hetzner-failoverip:username={USERNAME}-{name},password={PASSWORD},ip={ip},\
             active_ip={target},url={url},timeout={timeout},deadline={DEADLINE}{more}\n",
            free_address()
        )
    }

    /// A sentence of the table, as it stands in the log.
    fn sentence(&self, text: &str, limits: Limits) -> String {
        text.replace("HOST", &self.server.address().to_string()).replace("TIME", limits.of(&self.row))
    }

    /// Whether a connection gets as far as a request.
    fn is_asked(&self) -> bool {
        match self.row.play.shake {
            Shake::Tls(certificate) => certificate == Certificate::Right || !self.tls,
            Shake::Blind | Shake::AtOnce => false,
        }
    }

    /// It must have been these requests exactly, on so many connections.
    fn check_seen(&self, seen: &Seen, connections: usize, requests: &[&str], problems: &mut Problems) {
        if seen.connections != connections || seen.requests != requests {
            problems.add(self, format!("{seen:?}, {connections} connections with {requests:?} expected"));
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
fn start(uwsgi: Uwsgi, stages: &[Stage], options: &str) -> (Node, TempDir) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let ca_file = folder.path().join("ca.pem");
    fs::write(&ca_file, ca_pem()).expect("a writable folder");
    let legions: String = stages.iter().map(Stage::legion).collect();
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

/// The row's answer, and then one that ends each takeover for good: what was asked shows what was made of the first.
fn takeovers(uwsgi: Uwsgi, tls: bool) {
    let _turn = turn(tls);
    let stages = Stage::all(tls, TAKEOVER, |row| vec![row.play.clone(), table::the_end()]);
    let (late, others): (Vec<Stage>, Vec<Stage>) = stages.into_iter().partition(|stage| stage.row.is_late());
    let groups = in_groups(others, 10).into_iter().chain(in_groups(late, 1)).collect();
    run_to_the_end(groups, |_| uwsgi, check_takeover);
}

fn check_takeover(stage: &Stage, End { told, seen }: &End, problems: &mut Problems) {
    let (ip, target) = (stage.ip(), stage.target());
    let start = match stage.row.post {
        Ok(text) => format!("{ip} is routed to {target} ({text}"),
        Err(text) if told.len() == 2 => format!("FAILED to route {ip} to {target}: {text}"),
        // Where its sentence goes on in the end, it is cut short for now.
        Err(text) => {
            text.strip_suffix(';').map_or(format!("not yet: {text}"), |all| format!("not yet: {all} ("))
        }
    };
    let line = told.get(1).map(String::as_str).unwrap_or_default();
    problems.check_line(stage, line, &stage.sentence(&start, TAKEOVER));
    // What is sent to a server that looks for no request is not seen.
    let post = if stage.is_asked() { &["POST"][..] } else { &[] };
    let (connections, requests) = match told.get(1..).unwrap_or_default() {
        [_] => (1, post.to_vec()),
        [why, _] if why.contains("; checking the route again in ") => (2, [post, &["GET"]].concat()),
        [why, _, _] if why.contains("; trying again in ") && post.is_empty() => (2, vec!["POST"]),
        _ => return problems.add(stage, format!("{told:#?}")),
    };
    stage.check_seen(seen, connections, &requests, problems);
}

/// What takes more than one request, with pauses of seconds.
fn sequences() {
    let stage = |Sequence { row, then, asked }| {
        let plays = [row.play.clone()].into_iter().chain(then).collect();
        Stage { asked, ..Stage::new(row, true, plays, TAKEOVER) }
    };
    let groups = in_groups(table::sequences().into_iter().map(stage).collect(), 3);
    run_to_the_end(
        groups,
        |number| Uwsgi::ALL[number % 2],
        |stage, End { told, seen }, problems| {
            let (ip, target) = (stage.ip(), stage.target());
            let start = match stage.row.post {
                Ok(text) => format!("{ip} is routed to {target} ({text}"),
                Err(text) => format!("FAILED to route {ip} to {target}: {text}"),
            };
            let line = told.last().map(String::as_str).unwrap_or_default();
            problems.check_line(stage, line, &stage.sentence(&start, TAKEOVER));
            let asked: String = seen.requests.iter().filter_map(|method| method.chars().next()).collect();
            if asked != stage.asked {
                problems.add(stage, format!("asked {asked:?}, {:?} expected: {told:#?}", stage.asked));
            }
        },
    );
}

fn in_groups<T>(mut all: Vec<T>, size: usize) -> Vec<Vec<T>> {
    let mut groups = Vec::new();
    while !all.is_empty() {
        groups.push(all.drain(..size.min(all.len())).collect());
    }
    groups
}

/// A hook at its end.
struct End {
    /// What it has logged: what is asked, what came of it, and how it ended.
    told: Vec<String>,
    /// What its server had seen by then: what a Lord's guard asks later is another matter.
    seen: Seen,
}

impl End {
    fn of(log: &str, stage: &Stage) -> Option<End> {
        let success = format!("{} is routed to {} (", stage.ip(), stage.target());
        let is_end = |line: &str| line.starts_with("FAILED ") || line.starts_with(&success);
        let is_step = |line: &str| line.starts_with("routing ") || line.starts_with("not yet: ");
        let mut told: Vec<&str> = lines(log, stage).filter(|line| is_step(line) || is_end(line)).collect();
        told.truncate(told.iter().position(|line| is_end(line))? + 1);
        Some(End { told: told.into_iter().map(str::to_string).collect(), seen: stage.server.seen() })
    }
}

/// Runs each group in a node of its own, all at the same time, since a uWSGI runs its Legions' hooks one after the other;
/// and has `check` look at how each takeover has ended.
fn run_to_the_end(
    groups: Vec<Vec<Stage>>,
    uwsgi: impl Fn(usize) -> Uwsgi,
    check: impl Fn(&Stage, &End, &mut Problems) + Sync,
) {
    thread::scope(|scope| {
        let check = &check;
        for (number, stages) in groups.into_iter().enumerate() {
            let uwsgi = uwsgi(number);
            scope.spawn(move || {
                let (node, _folder) = start(uwsgi, &stages, "legion-death-on-lord-error = 300\n");
                let mut ends: Vec<Option<End>> = stages.iter().map(|_| None).collect();
                wait_until(LIMIT, || {
                    let log = node.log();
                    for (stage, end) in stages.iter().zip(&mut ends).filter(|(_, end)| end.is_none()) {
                        *end = End::of(&log, stage);
                    }
                    ends.iter().all(Option::is_some)
                });
                let expected: Vec<bool> = stages.iter().map(|stage| stage.row.post.is_ok()).collect();
                wait_until(LIMIT, || lords(&node, &stages) == expected);
                let mut problems = Problems::default();
                for ((stage, end), is_lord) in stages.iter().zip(&ends).zip(lords(&node, &stages)) {
                    let Some(end) = end else {
                        problems.add(stage, "no end");
                        continue;
                    };
                    let line = end.told.last().expect("the end itself");
                    if is_lord != stage.row.post.is_ok() {
                        problems.add(stage, format!("Lord: {is_lord}; {line}"));
                    }
                    let seconds = line.rsplit_once("after ").and_then(|(_, rest)| rest.strip_suffix(" s)"));
                    let seconds = seconds.and_then(|seconds| seconds.parse::<f64>().ok());
                    if seconds.is_none_or(|seconds| seconds > DEADLINE) || line.contains("deadline") {
                        problems.add(stage, format!("ended by its deadline: {line}"));
                    }
                    check(stage, end, &mut problems);
                }
                problems.assert_none(&node.log());
            });
        }
    });
}

/// A Lord that has the IP, and whose checks meet the row.
fn guards(uwsgi: Uwsgi, tls: bool) {
    let _turn = turn(tls);
    let mut stages = Stage::all(tls, GUARD, |row| {
        let here =
            if row.ipv6 { table::active6(r#""2a01:4f8:0:5176::""#) } else { table::active(r#""1.1.1.1""#) };
        vec![here.into(), row.play.clone()]
    });
    // They need not all look at the same moment.
    for (number, stage) in stages.iter_mut().enumerate() {
        stage.more = format!(",verify={}", 4 + number % 12);
    }
    let began = Instant::now();
    let (node, _folder) = start(uwsgi, &stages, "");
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
            Some(line) => problems.check_line(stage, &line, &stage.sentence(&start, LOOK)),
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
            // One a minute is left.
            Get::Unknown(text) if text.contains("HTTP 403") => 1 + began.elapsed().as_secs() as usize / 60,
            // None is due more often.
            _ => began.elapsed().as_secs() as usize / 2,
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

/// What is late has a command of its own, since a command asks one after the other.
fn statuses(uwsgi: Uwsgi, tls: bool) {
    let _turn = turn(tls);
    let exit_status = |stage: &Stage| match stage.row.get {
        Get::Here => 0,
        Get::Elsewhere | Get::Nowhere => 2,
        Get::Unknown(_) => 1,
    };
    let stages = Stage::all(tls, STATUS, |row| vec![row.play.clone()]);
    let (late, mut others): (Vec<Stage>, Vec<Stage>) =
        stages.into_iter().partition(|stage| stage.row.is_late());
    others.sort_by_key(exit_status);
    let groups = others.chunk_by(|one, other| exit_status(one) == exit_status(other)).chain(late.chunks(1));
    let check = |group: &[Stage]| {
        let mut problems = Problems::default();
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
            let requests = if stage.is_asked() { &["GET"][..] } else { &[] };
            stage.check_seen(&stage.server.seen(), 1, requests, &mut problems);
        }
        problems
    };
    let problems = thread::scope(|scope| {
        let check = &check;
        let running: Vec<_> = groups.map(|group| scope.spawn(move || check(group))).collect();
        running.into_iter().flat_map(|group| group.join().expect("its problems").0).collect()
    });
    Problems(problems).assert_none("");
}

/// What `--hetzner-status` says of these stages.
fn status(uwsgi: Uwsgi, stages: &[Stage]) -> (Value, Option<i32>) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = |name: &str| folder.path().join(name);
    fs::write(path("ca.pem"), ca_pem()).expect("a writable folder");
    let legions: String = stages.iter().map(Stage::legion).collect();
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
    assert!(began.elapsed() < LIMIT, "{:?}", began.elapsed());
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
