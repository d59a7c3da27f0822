//! `make chaos`: random fault schedules on real uWSGI nodes, and after each one the question whether there is one
//! Lord, with the failover IP.
//!
//! A seed stands for a schedule of faults (`fault`), always the same one: `plan` draws it, with `kinds` and `site` for
//! what real installations have; `setting` makes the nodes, `stage` plays it, `switches` and `check` look at what was
//! done and is left behind, `hoster` is whose API it is, `evidence` is what is kept of a schedule that failed.

mod check;
mod evidence;
mod fault;
mod hoster;
mod kinds;
mod plan;
mod setting;
mod site;
mod stage;
mod switches;

use std::env;
use std::fs;
use std::io::{self, IsTerminal, Write};
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use lab::process::{interrupted, watch_for_ctrl_c};

use hoster::Hoster;
use kinds::Kinds;
use plan::Plan;
use stage::Stage;

const USAGE: &str = "\
chaos [N [SEED [JOBS]]]: plays N schedules (20), from SEED on (1), JOBS at a time (4; at most 32).

PLUGIN=/path/to/another_plugin.so in the environment: plays them on PyPI's uWSGI with that plugin, and without the
keys that only this one knows.

HOSTER=cloud in the environment: plays them with floating IPs in the Cloud. HOSTER=command: with a command that asks
Robot, and what may be wrong with that.

KINDS=old in the environment: plays only the faults of clean nodes, which are a part of each schedule. KINDS=earlier:
the schedules of earlier versions, without reloads, sick, drains, nopreempt and silent. Or some of away, pause, log,
hooks, uid, freq, second, clocks, ips, strays, reloads, sick, drains, nopreempt, silent, with commas between them: plays
these in every schedule; and command, with HOSTER=command. Default: all, each in some of them; uid only as root.";

/// The length of the progress bar.
const BAR: u64 = 40;

/// What is to be played.
struct Campaign {
    schedules: u64,
    first: u64,
    jobs: u64,
    plugin: Option<PathBuf>,
    kinds: Kinds,
    hoster: Hoster,
}

impl Campaign {
    fn read(
        arguments: &[String],
        plugin: Option<PathBuf>,
        kinds: &str,
        hoster: &str,
    ) -> Result<Campaign, String> {
        let number = |at: usize, default: u64| match arguments.get(at) {
            Some(text) => text.parse::<u64>().map_err(|_| format!("{text:?} is no number")),
            None => Ok(default),
        };
        let plugin = plugin.map(|path| match path.canonicalize() {
            // uWSGI takes it for a name otherwise.
            Ok(path) if path.to_string_lossy().ends_with("_plugin.so") => Ok(path),
            Ok(path) => Err(format!("PLUGIN={}: expected a path that ends in _plugin.so", path.display())),
            Err(error) => Err(format!("PLUGIN={}: {error}", path.display())),
        });
        let campaign = Campaign {
            schedules: number(0, 20)?,
            first: number(1, 1)?,
            jobs: number(2, 4)?.clamp(1, 32),
            plugin: plugin.transpose()?,
            kinds: Kinds::read(kinds, Hoster::read(hoster)?)?,
            hoster: Hoster::read(hoster)?,
        };
        if campaign.plugin.is_some() && campaign.hoster != Hoster::Robot {
            return Err("PLUGIN: another plugin knows Robot alone".into());
        }
        if arguments.len() > 3 { Err("there are more than three arguments".into()) } else { Ok(campaign) }
    }

    /// Plays all; returns how many there were, and how many of them were as they should be.
    fn run(&self) -> (u64, u64) {
        let (next, played, kept) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
        thread::scope(|scope| {
            for _ in 0..self.jobs.min(self.schedules) {
                // A thread plays whole schedules, since nodes end with the thread that has started them.
                scope.spawn(|| {
                    while !interrupted() {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        if number >= self.schedules {
                            break;
                        }
                        let Some((line, good)) = self.play(self.first + number) else {
                            break;
                        };
                        let kept = kept.fetch_add(u64::from(good), Ordering::Relaxed) + u64::from(good);
                        let played = played.fetch_add(1, Ordering::Relaxed) + 1;
                        self.show(played, kept, &line);
                    }
                });
            }
        });
        (played.into_inner(), kept.into_inner())
    }

    /// Plays the schedule of a seed: a line that says how it went, and whether it went well. `None` when interrupted.
    fn play(&self, seed: u64) -> Option<(String, bool)> {
        let (began, plugin) = (Instant::now(), self.plugin.as_deref());
        let plan = Plan::draw(seed, plugin.is_some(), &self.kinds).with(self.hoster);
        let folder = evidence::folder(seed);
        let _ = fs::remove_dir_all(&folder);
        let how = panic::catch_unwind(AssertUnwindSafe(|| judge(&plan, plugin, &folder)))
            .unwrap_or_else(|_| Some(Err("this program, or a node's end, has panicked; see above".into())))?;
        let seconds = began.elapsed().as_secs();
        let (end, good) = match how {
            Ok(end) => (end, true),
            Err(end) => (end, false),
        };
        Some((format!("seed {seed}: {plan}: {end} ({seconds} s)"), good))
    }

    /// A line for a schedule that was played, and on a terminal a bar below all lines.
    fn show(&self, played: u64, kept: u64, line: &str) {
        let line = format!("{played:>4} of {}  {line}\n", self.schedules);
        let mut out = io::stdout().lock();
        // It is shown to people only: that nobody reads it any more is no reason to stop.
        let _ = if out.is_terminal() {
            let full = usize::try_from(played * BAR / self.schedules).unwrap_or_default();
            let (done, left) = ("#".repeat(full), "-".repeat(BAR as usize - full));
            let failed = played - kept;
            write!(out, "\r\x1b[K{line}[{done}{left}] {played} of {}, {failed} failed", self.schedules)
                .and_then(|()| out.flush())
        } else {
            write!(out, "{line}")
        };
    }
}

fn main() -> ExitCode {
    watch_for_ctrl_c();
    let arguments: Vec<String> = env::args().skip(1).collect();
    let plugin = env::var_os("PLUGIN").filter(|path| !path.is_empty());
    let kinds = env::var("KINDS").unwrap_or_default();
    let hoster = env::var("HOSTER").unwrap_or_default();
    let campaign = match Campaign::read(&arguments, plugin.map(PathBuf::from), &kinds, &hoster) {
        Ok(campaign) => campaign,
        Err(why) => {
            eprintln!("{why}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let last = campaign.first + campaign.schedules.saturating_sub(1);
    println!("Seeds {} to {last}, {} at a time; each takes a minute or two.", campaign.first, campaign.jobs);
    let (played, kept) = campaign.run();
    if io::stdout().is_terminal() {
        println!();
    }
    if interrupted() {
        println!("Interrupted.");
    }
    println!("{kept} of {played} schedules ended with the IP at the one Lord.");
    if kept == campaign.schedules { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn judge(plan: &Plan, plugin: Option<&Path>, folder: &Path) -> Option<Result<String, String>> {
    let mut stage = Stage::set(plan, plugin);
    stage.play();
    let settled = stage.wait_for_quiet();
    if interrupted() {
        return None;
    }
    let mut problems: Vec<String> = settled.as_ref().err().cloned().into_iter().collect();
    let switches = switches::switches(&stage);
    problems.extend(check::problems(&mut stage, &switches));
    let needless = switches.iter().filter(|switch| !switch.needed).count();
    let count = format!("{} switches, {needless} of them needed by nobody", switches.len());
    let keep = || match evidence::keep(&stage, &problems, &switches, folder) {
        Ok(()) => format!("see {}", folder.display()),
        Err(error) => format!("cannot write to {}: {error}", folder.display()),
    };
    Some(match settled {
        Ok(time) if problems.is_empty() => {
            let kept = if needless > 0 { format!("; {}", keep()) } else { String::new() };
            Ok(format!("ok, {:.0} s after the last fault, {count}{kept}", time.as_secs_f64()))
        }
        _ => Err(format!("FAILED: {}; {count}; {}", problems.join("; "), keep())),
    })
}
