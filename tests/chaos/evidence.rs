//! What is kept of a schedule that failed: everything needed to see why.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::plan::{Plan, Planned};
use crate::robot::Request;
use crate::stage::{Stage, path};
use crate::support::uwsgi::checkout;

/// Where a seed's evidence is.
pub fn folder(seed: u64) -> PathBuf {
    checkout().join("target/chaos").join(seed.to_string())
}

/// Writes it all down.
pub fn keep(stage: &Stage, problems: &[String], to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    fs::write(to.join("schedule.txt"), schedule(stage.plan, problems))?;
    fs::write(to.join("what-happened.txt"), what_happened(stage))?;
    fs::write(to.join("timeline.svg"), stage.timeline.svg())?;
    for node in 1..=stage.plan.nodes {
        fs::write(to.join(format!("node-{node}.log")), stage.legion.node(node).log())?;
    }
    Ok(())
}

fn schedule(plan: &Plan, problems: &[String]) -> String {
    let mut text = format!("seed {}: {plan}\n\n{}\n", plan.seed, problems.join("\n"));
    let _ = writeln!(text, "\n{}hook: {}, switch {:?}\n", plan.ini(), plan.keys(), plan.switch);
    for Planned { from, until, fault } in &plan.faults {
        let _ = writeln!(text, "{:5.1} to {:5.1} s  {fault}", from.as_secs_f64(), until.as_secs_f64());
    }
    let _ = writeln!(text, "{:5.1} s           all is well", plan.length.as_secs_f64());
    text
}

/// Faults, Lords, requests and routes in one list, with the time of day in UTC, as in the nodes' logs.
fn what_happened(stage: &Stage) -> String {
    let mut lines: Vec<(Instant, String)> =
        stage.happenings.iter().map(|happening| (happening.at, happening.what.clone())).collect();
    for request in stage.robot.journal() {
        lines.push((request.at, asked(stage.plan.nodes, &request)));
    }
    for (at, _, route) in stage.robot.history() {
        lines.push((at, format!("        route: {route:?}")));
    }
    lines.sort_by_key(|(at, _)| *at);
    let (now, wall) = (Instant::now(), SystemTime::now());
    let line = |(at, what): &(Instant, String)| {
        let day = wall.checked_sub(now - *at).and_then(|at| at.duration_since(UNIX_EPOCH).ok());
        let day = day.map_or(0, |since| since.as_secs()) % 86_400;
        let since = seconds(at.saturating_duration_since(stage.started));
        format!("{:02}:{:02}:{:02} {since:>6}  {what}\n", day / 3600, day / 60 % 60, day % 60)
    };
    lines.iter().map(line).collect()
}

fn asked(nodes: usize, request: &Request) -> String {
    let node = (1..=nodes).find(|node| path(*node) == request.path).unwrap_or_default();
    let status = request.status.map_or_else(|| "no answer".into(), |status| status.to_string());
    let took = request.done.map_or_else(|| "never done".into(), |done| seconds(done - request.at));
    let mut line = format!("    node {node}: {} -> {status}", request.method);
    let given_up = request.peer_closed.then_some("its client had gone");
    for more in
        [request.code.as_deref(), request.fault.as_deref(), given_up, Some(&took)].into_iter().flatten()
    {
        line += &format!(", {more}");
    }
    line
}

fn seconds(time: Duration) -> String {
    format!("{:.1}", time.as_secs_f64())
}
