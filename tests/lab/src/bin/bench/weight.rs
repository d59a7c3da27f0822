//! What the plugin adds to a uWSGI that has it loaded.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use lab::legion::{LEGION, failover_ip, hook};
use lab::process::interrupted;
use lab::robot::{Certificate, Config, Failover, Login, Robot};
use lab::{PASSWORD, USERNAME, wait_until};

use crate::figures::{Figure, Samples};
use crate::proc::{cpu_of_own_children, libraries, pss};
use crate::sides::{Lone, Side, Sides, UWSGI};
use crate::trust::Trust;

const LOADS: usize = 300;
const ROUNDS: usize = 7;
const WORKERS: usize = 4;
const LIMIT: Duration = Duration::from_secs(30);
/// What stays so for so long: uWSGI's master, and the plugin with it, keeps house once a second.
const QUIET: Duration = Duration::from_secs(3);
/// In kB: other processes that come and go share some pages.
const NOISE: u64 = 8;

pub fn measure(sides: &Sides) -> Result<Vec<Figure>, String> {
    let plugins = sides.plugins();
    let mut figures = vec![load_time(&plugins)?];
    let robot = Robot::start(Config {
        tls: Some(Certificate::Right),
        login: Some(Login::new(USERNAME, PASSWORD)),
        failover: vec![Failover::new(failover_ip(), None)],
        accept_multipart: true,
        ..Config::default()
    })
    .map_err(|error| error.to_string())?;
    let trust = Trust::in_ca(robot.ca_file().expect("with TLS"));
    for (name, first_takeover, floor) in [("before", false, (1.0, Some(1.0))), ("after", true, (2.5, None))] {
        // By side, and by round.
        let mut added: Vec<Vec<Weight>> = plugins.iter().map(|_| Vec::new()).collect();
        for round in 1..=ROUNDS {
            eprintln!("weight: {name} the first takeover, round {round} of {ROUNDS}");
            let without = weigh(None, first_takeover, &robot, &trust)?;
            for ((side, path), added) in plugins.iter().zip(&mut added) {
                let with = weigh(Some((*side, path)), first_takeover, &robot, &trust)?;
                added.push(Weight {
                    pss: with.pss - without.pss,
                    libraries: &with.libraries - &without.libraries,
                });
            }
        }
        let of_all = |value: fn(&Weight) -> f64| {
            let samples = added.iter().map(|added| Samples::new(added.iter().map(value)));
            plugins.iter().map(|(side, _)| *side).zip(samples).collect()
        };
        if let Some(most) = floor.1 {
            let libraries = of_all(|added| added.libraries.len() as f64);
            figures.push(Figure::new("shared libraries added", "", libraries).at_most(most, ""));
        }
        let name = format!("PSS added to a master and {WORKERS} workers, {name} the first takeover");
        figures.push(Figure::new(name, "MB", of_all(|added| added.pss)).at_most(floor.0, ""));
    }
    let size = |path: &PathBuf| fs::metadata(path).map_or(0.0, |file| file.len() as f64 / 1e6);
    let sizes = plugins.iter().map(|(side, path)| (*side, Samples::one(size(path)))).collect();
    figures.push(Figure::new("size of the file", "MB", sizes).at_most(2.2, ""));
    Ok(figures)
}

/// How much longer a uWSGI runs that loads the plugin and ends, than one that ends. In CPU time, as there is nothing
/// to wait for: every file is in memory after the first time. The clock on the wall goes on while others run.
fn load_time(plugins: &[(Side, PathBuf)]) -> Result<Figure, String> {
    eprintln!("weight: {LOADS} starts of each");
    let mut added: Vec<Vec<f64>> = plugins.iter().map(|_| Vec::new()).collect();
    for _ in 0..LOADS {
        for ((_, path), added) in plugins.iter().zip(&mut added) {
            // The first is not counted: whoever comes after a heavier one finds less in the CPU's caches. The other
            // two are just beside each other, and have met the machine's other work alike.
            start_and_end(None)?;
            let (without, with) = (start_and_end(None)?, start_and_end(Some(path))?);
            added.push((with.as_secs_f64() - without.as_secs_f64()) * 1000.0);
        }
        if interrupted() {
            return Err("interrupted".into());
        }
    }
    let sides = plugins.iter().map(|(side, _)| *side).zip(added.into_iter().map(Samples::new)).collect();
    Ok(Figure::new("time to load", "ms", sides).at_most(0.5, ""))
}

fn start_and_end(plugin: Option<&Path>) -> Result<Duration, String> {
    let mut command = Command::new(UWSGI.program());
    if let Some(path) = plugin {
        command.arg("--plugin").arg(path);
    }
    // It is read behind the plugin's option, so that the plugin is loaded by then.
    command.arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
    let before = cpu_of_own_children();
    let status = command.status().map_err(|error| error.to_string())?;
    let took = cpu_of_own_children() - before;
    if status.success() { Ok(took) } else { Err(format!("{command:?}: {status}")) }
}

struct Weight {
    /// MB, of all processes together.
    pss: f64,
    libraries: BTreeSet<String>,
}

fn weigh(
    plugin: Option<(Side, &PathBuf)>,
    first_takeover: bool,
    robot: &Robot,
    trust: &Trust,
) -> Result<Weight, String> {
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    // A file of their own, or whoever else runs that plugin now would bear a part of its weight.
    let file = folder.path().join("hetzner_plugin.so");
    let mut lines = format!("processes = {WORKERS}\n");
    if !first_takeover {
        // Alone it never becomes Lord.
        lines += &format!("legion-quorum = {LEGION} 2\n");
    }
    if let Some((_, path)) = plugin {
        fs::copy(path, &file).map_err(|error| error.to_string())?;
        let hook = hook(1, &robot.url(failover_ip()), "");
        lines += &format!("legion-lord = {LEGION} hetzner-failoverip:{hook}\n");
    }
    let requests = robot.journal().len();
    let lone = Lone::start_in(folder, plugin.map(|_| file.as_path()), &lines, &trust.env());
    let complete = |lone: &Lone| {
        let log = lone.node.log();
        lone.node.workers().len() == WORKERS
            && log.contains(&format!("spawned uWSGI worker {WORKERS} "))
            && (!first_takeover || log.contains("i am now the Lord"))
    };
    if !wait_until(LIMIT, || complete(&lone)) {
        return Err(format!("no Lord with {WORKERS} workers:\n{}", lone.last_lines()));
    }
    let answered = robot.journal()[requests..].iter().filter(|request| request.status.is_some()).count();
    if answered != usize::from(first_takeover && plugin.is_some()) {
        return Err(format!("{answered} takeovers:\n{}", lone.last_lines()));
    }
    let all: Vec<u32> = std::iter::once(lone.node.id()).chain(lone.node.workers()).collect();
    let sum = || all.iter().filter_map(|pid| pss(*pid)).sum::<u64>();
    let mut last = (sum(), Instant::now());
    let settled = wait_until(LIMIT, || {
        let now = sum();
        if now.abs_diff(last.0) > NOISE {
            last = (now, Instant::now());
        }
        last.1.elapsed() >= QUIET
    });
    if !settled {
        return Err(format!("its weight goes on changing:\n{}", lone.last_lines()));
    }
    let own = file.display().to_string();
    let libraries = libraries(lone.node.id()).into_iter().filter(|library| *library != own).collect();
    Ok(Weight { pss: sum() as f64 / 1024.0, libraries })
}
