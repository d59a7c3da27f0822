//! What is kept of a schedule that failed: everything needed to see why.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use lab::standin::Request;
use lab::uwsgi::checkout;
use lab::{PASSWORD, TOKEN};

use crate::fault::Planned;
use crate::plan::Plan;
use crate::stage::Stage;
use crate::switches::Switch;

/// Where a seed's evidence is.
pub fn folder(seed: u64) -> PathBuf {
    checkout().join("target/chaos").join(seed.to_string())
}

/// Writes it all down.
pub fn keep(stage: &Stage, problems: &[String], switches: &[Switch], to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    fs::write(to.join("schedule.txt"), schedule(stage.plan, problems))?;
    fs::write(to.join("what-happened.txt"), what_happened(stage, switches))?;
    for watched in &stage.watched {
        fs::write(to.join(format!("timeline-{}.svg", watched.promise.ip)), watched.timeline.svg())?;
    }
    for node in 1..=stage.plan.nodes {
        fs::write(to.join(format!("node-{node}.log")), stage.legion.node(node).log())?;
        // With its own hooks, but not with a password.
        let ini = fs::read_to_string(stage.legion.folder(node).join("node.ini"))?
            .replace(PASSWORD, "...")
            .replace(&TOKEN[..60], "...");
        fs::write(to.join(format!("node-{node}.ini")), ini)?;
    }
    Ok(())
}

fn schedule(plan: &Plan, problems: &[String]) -> String {
    let mut text = format!("seed {}: {plan}\n\n{}\n", plan.seed, problems.join("\n"));
    let _ = writeln!(text, "\n{}switch {:?}\n", plan.ini(1), plan.switch);
    for Planned { from, until, fault } in &plan.faults {
        let _ = writeln!(text, "{:5.1} to {:5.1} s  {fault}", from.as_secs_f64(), until.as_secs_f64());
    }
    let (length, patience) = (plan.length.as_secs_f64(), plan.patience().as_secs_f64());
    let _ = writeln!(text, "{length:5.1} s           all is well, and settled within {patience:.0} s");
    text
}

/// Faults, Lords, requests and routes in one list, with the time of day in UTC, as in the logs of nodes whose clocks
/// are right.
fn what_happened(stage: &Stage, switches: &[Switch]) -> String {
    let mut lines: Vec<(Instant, String)> =
        stage.happenings.iter().map(|happening| (happening.at, happening.what.clone())).collect();
    for request in stage.api.journal() {
        lines.push((request.at, asked(stage.plan, &request)));
    }
    for (at, ip, route) in stage.api.moves() {
        lines.push((at, format!("        {ip} is at node {route:?}")));
    }
    for Switch { at, ip, to, .. } in switches.iter().filter(|switch| !switch.needed) {
        lines.push((*at, format!("        needed by nobody: {ip} is moved to node {to}")));
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

fn asked(plan: &Plan, request: &Request) -> String {
    let who = plan.hoster.asked(plan, request);
    let (node, ip) = who.map_or((0, String::new()), |(node, ip)| (node, format!(" {ip}")));
    let status = request.status.map_or_else(|| "no answer".into(), |status| status.to_string());
    let took = request.done.map_or_else(|| "never done".into(), |done| seconds(done - request.at));
    let mut line = format!("    node {node}: {}{ip} -> {status}", request.method);
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
