//! `make bench`: what the plugin costs, measured in real uWSGI, beside the C plugin, `cmd:curl`, and the least that
//! the same work could cost.
//!
//! Machines are shared and noisy, so that no figure is a test: the sides take turns in one run, medians are compared
//! as ratios, and a floor that is missed is marked in the table. The parts measure; `figures` is what comes of it,
//! `plot` draws it.

mod cloud;
mod cost;
mod failover;
mod figures;
mod growth;
mod idle;
mod limit;
mod plot;
mod proc;
mod sides;
mod trust;
mod weight;

use std::env;
use std::fs;
use std::panic::{self, AssertUnwindSafe};
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::thread;

use lab::process::{interrupted, watch_for_ctrl_c};
use lab::uwsgi::checkout;

use figures::{Figure, table};
use sides::{Sides, UWSGI};

const USAGE: &str = "\
bench [PART...]: measures the parts named: cost, weight, failover, growth, idle (all of them; about half an hour).

PEER=/path/to/other/hetzner_plugin.so in the environment: measures that plugin too, in turn with ours.";

/// A part, and what measures it.
type Part = (&'static str, fn(&Sides) -> Result<Vec<Figure>, String>);

const PARTS: [Part; 5] = [
    ("cost", cost::measure),
    ("weight", weight::measure),
    ("failover", failover::measure),
    ("growth", growth::measure),
    ("idle", idle::measure),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    if arguments.first().is_some_and(|first| first == limit::ARGUMENT) {
        return limit::run(&arguments[1..]);
    }
    let chosen: Vec<&Part> = PARTS
        .iter()
        .filter(|(name, _)| arguments.is_empty() || arguments.iter().any(|it| it == name))
        .collect();
    let unknown = arguments.iter().find(|it| PARTS.iter().all(|(name, _)| name != it));
    let peer = env::var_os("PEER").filter(|path| !path.is_empty());
    let sides = match (Sides::new(peer.map(PathBuf::from)), unknown) {
        (Ok(sides), None) => sides,
        (Err(why), _) => return usage(&why),
        (_, Some(unknown)) => return usage(&format!("{unknown}: no such part")),
    };
    trust::enter_own_namespace();
    watch_for_ctrl_c();

    let (mut figures, mut not_measured) = (Vec::new(), Vec::new());
    for (name, measure) in chosen {
        let found = panic::catch_unwind(AssertUnwindSafe(|| measure(&sides)));
        match found.unwrap_or_else(|_| Err("this program, or a node's end, has panicked; see above".into())) {
            Ok(found) => figures.extend(found),
            // Whatever it says then is a consequence.
            Err(_) if interrupted() => {}
            Err(why) => not_measured.push(format!("{name}: not measured: {why}")),
        }
        if interrupted() {
            not_measured.push("interrupted".into());
            break;
        }
    }
    let text = format!("{}\n\n{}", setting(&arguments, sides.peer.is_some()), table(&figures));
    println!("\n{text}");
    not_measured.iter().for_each(|line| println!("{line}"));
    let target = checkout().join("target");
    for (name, content) in [("bench.md", text), ("bench.svg", plot::svg(&figures))] {
        match fs::write(target.join(name), content) {
            Ok(()) => println!("target/{name} is written."),
            Err(error) => not_measured.push(format!("target/{name}: {error}")),
        }
    }
    if not_measured.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn usage(why: &str) -> ExitCode {
    eprintln!("{why}\n\n{USAGE}");
    ExitCode::from(2)
}

/// When, on what and by which command this was measured.
fn setting(parts: &[String], peer: bool) -> String {
    let output = |program: &str, argument: &str| {
        let output = Command::new(program).arg(argument).output().ok();
        output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_string()).unwrap_or_default()
    };
    let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let parts = if parts.is_empty() { String::new() } else { format!(" PARTS=\"{}\"", parts.join(" ")) };
    format!(
        "{}, {} × {}, Linux {}, uWSGI {}: `make bench{}{parts}`",
        output("date", "+%F"),
        thread::available_parallelism().map_or(1, usize::from),
        model.map_or("an unknown CPU", |(_, model)| model),
        output("uname", "-r"),
        UWSGI.ask("--version").trim(),
        if peer { " PEER=..." } else { "" },
    )
}
