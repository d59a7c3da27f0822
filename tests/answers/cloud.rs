//! The table of the Cloud API's bad answers: each is played by a server of its own, to a takeover in real uWSGI or to
//! `--hetzner-status`. A row is a Legion of its own; one process is a member of several.

use std::fs;
use std::process::Command;
use std::thread;

use lab::node::{Node, free_address};
use lab::raw::{Play, Server};
use lab::uwsgi::Uwsgi;
use lab::{TOKEN, assert_no_secret, wait_until};
use serde_json::Value;

use super::table::cloud::{Look, Takeover, looks, over, takeovers};
use super::table::{Get, TRAP};
use super::{LIMIT, in_groups, turn};

/// The Legion of a row and its hook, as they stand in an ini.
fn legion(name: &str, server: &Server) -> String {
    format!(
        "legion = {name} {} 1 aes-128-cbc:secret1\n\
         legion-lord = {name} hetzner-floatingip:token={TOKEN},ip=4.4.4.4,floating_ip=4711,server=42,\
         url=http://{}/v1,timeout=60,deadline=120\n",
        free_address(),
        server.address()
    )
}

fn serve(plays: Vec<Play>) -> Server {
    Server::start(false, plays)
}

/// What is said of a row that is not as it should be.
fn problem(name: &str, what: impl AsRef<str>) -> String {
    format!("{name}: {}", what.as_ref())
}

#[track_caller]
fn assert_none(mut problems: Vec<String>) {
    if TRAP.0.accept().is_ok() {
        problems.push("a redirect was followed".into());
    }
    assert!(problems.is_empty(), "{} problems:\n{}", problems.len(), problems.join("\n"));
}

/// The letters of what was asked.
fn asked(server: &Server) -> String {
    let seen = server.seen();
    let letter = |(method, path): (&String, &String)| {
        if path.starts_with("/v1/actions/") { 'p' } else { method.chars().next().unwrap_or('?') }
    };
    seen.requests.iter().zip(&seen.paths).map(letter).collect()
}

#[test]
fn the_table_has_no_two_rows_of_one_name() {
    let (looks, takeovers) = (looks(), takeovers());
    assert!(looks.len() + takeovers.len() >= 80);
    for names in
        [looks.iter().map(|row| row.name).collect::<Vec<_>>(), takeovers.iter().map(|row| row.name).collect()]
    {
        let twice = names.iter().find(|name| names.iter().filter(|other| other == name).count() > 1);
        assert_eq!(twice, None);
    }
}

#[test]
fn takeovers_in_the_cloud() {
    let _turn = turn(false);
    let rows = takeovers().into_iter().map(|mut row| {
        let plays = row.plays.drain(..).collect();
        (row, serve(plays))
    });
    let groups = in_groups(rows.collect(), 9);
    let problems = thread::scope(|scope| {
        let groups: Vec<_> = groups
            .into_iter()
            .enumerate()
            .map(|(number, rows)| scope.spawn(move || run(Uwsgi::ALL[number % 2], &rows)))
            .collect();
        groups.into_iter().flat_map(|group| group.join().expect("its problems")).collect()
    });
    assert_none(problems);
}

/// All takeovers of one node; returns what is not as it should be.
fn run(uwsgi: Uwsgi, rows: &[(Takeover, Server)]) -> Vec<String> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let legions: String = rows.iter().map(|(row, server)| legion(row.name, server)).collect();
    let ini = format!("plugin = hetzner\nlegion-freq = 1\nlegion-death-on-lord-error = 300\n{legions}");
    let node = Node::start(uwsgi, folder.path(), &ini, &[]);
    // Before the guard of a Lord asks: half a minute later.
    let mut seen: Vec<Option<(Vec<String>, String)>> = rows.iter().map(|_| None).collect();
    wait_until(LIMIT, || {
        let log = node.log();
        for ((row, server), seen) in rows.iter().zip(&mut seen).filter(|(_, seen)| seen.is_none()) {
            let lines = lines(&log, row.name);
            let is_over = lines.last().is_some_and(|line| is_end(line));
            *seen = is_over.then(|| (lines, asked(server)));
        }
        seen.iter().all(Option::is_some)
    });
    let found = rows.iter().zip(&seen).filter_map(|((row, server), seen)| {
        let Some((lines, asked)) = seen else { return Some(problem(row.name, "no end")) };
        let (Ok(text) | Err(text)) = row.end;
        let has_ended_well =
            lines.last().is_some_and(|line| line.starts_with("4.4.4.4 is routed to server 42 ("));
        let text = text.replace("HOST", &server.address().to_string());
        let is_told = lines.iter().any(|line| line.contains(&text));
        let is_fit = lines.iter().all(|line| line.len() < 900 && !line.chars().any(char::is_control));
        let is_right = is_told && is_fit && has_ended_well == row.end.is_ok() && asked == row.asked;
        (!is_right).then(|| {
            problem(row.name, format!("asked {asked}, not {}; {:?}: {lines:#?}", row.asked, row.end))
        })
    });
    found.collect()
}

fn lines(log: &str, legion: &str) -> Vec<String> {
    let start = format!("{legion}: ");
    let of_plugin = log.lines().filter_map(|line| line.strip_prefix("[hetzner-")?.split_once("] "));
    of_plugin.filter_map(|(_, line)| line.strip_prefix(&start)).map(str::to_string).collect()
}

fn is_end(line: &str) -> bool {
    line.starts_with("FAILED ") || line.starts_with("4.4.4.4 is routed to server 42 (")
}

/// A command asks one after the other, and says of each what it has found.
#[test]
fn status_in_the_cloud() {
    let _turn = turn(false);
    let rows: Vec<(Look, Server)> = looks()
        .into_iter()
        .map(|row| {
            let server = serve(vec![row.play.clone(), over()]);
            (row, server)
        })
        .collect();
    let groups: Vec<&[(Look, Server)]> = rows.chunks(32).collect();
    let problems = thread::scope(|scope| {
        let running: Vec<_> = groups
            .iter()
            .enumerate()
            .map(|(number, rows)| scope.spawn(move || status(Uwsgi::ALL[number % 2], rows)))
            .collect();
        running.into_iter().flat_map(|group| group.join().expect("its problems")).collect()
    });
    assert_none(problems);
}

fn status(uwsgi: Uwsgi, rows: &[(Look, Server)]) -> Vec<String> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let legions: String = rows.iter().map(|(row, server)| legion(row.name, server)).collect();
    let plugins = uwsgi.plugins();
    let ini =
        format!("[uwsgi]\nplugins-dir = {}\nplugin = hetzner\nmaster = true\n{legions}", plugins.display());
    let path = folder.path().join("node.ini");
    fs::write(&path, ini).expect("a writable folder");
    let mut command = Command::new(uwsgi.program());
    command.arg("--ini").arg(&path).args(["--hetzner-status", "--hetzner-json"]).env("TMPDIR", folder.path());
    for name in ["http_proxy", "https_proxy", "all_proxy", "no_proxy"] {
        command.env_remove(name).env_remove(name.to_uppercase());
    }
    let output = command.output().expect("uWSGI starts");
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_no_secret(&stdout);
    assert_no_secret(&stderr);
    let json: Option<Value> = stdout.lines().last().and_then(|line| serde_json::from_str(line).ok());
    let json = json.unwrap_or_else(|| panic!("{stdout}\n{stderr}"));
    let entries = json["ips"].as_array().cloned().unwrap_or_default();
    let found = rows.iter().filter_map(|(row, server)| {
        let entry = entries.iter().find(|entry| entry["legion"] == row.name).cloned().unwrap_or_default();
        let (state, start) = match row.get {
            Get::Here => ("here", "routed to server 42, here".to_string()),
            Get::Elsewhere => ("elsewhere", "routed to server ".into()),
            Get::Nowhere => ("nowhere", "routed nowhere, not to server 42".into()),
            Get::Unknown(text) => {
                ("unknown", format!("unknown: {text}").replace("HOST", &server.address().to_string()))
            }
        };
        let line = entry["steps"][0]["text"].as_str().unwrap_or_default();
        let is_fit = line.len() < 800 && !line.chars().any(char::is_control);
        let is_right = entry["state"] == state && line.starts_with(&start) && is_fit && asked(server) == "G";
        (!is_right).then(|| {
            problem(row.name, format!("asked {}\n   found {entry}\nexpected {start}", asked(server)))
        })
    });
    found.collect()
}
