//! `make month`: what an installation meets in a month, in four minutes: deploys, restarts, reboots, a service that is
//! sick, maintenance. Three real nodes, the stand-in with a switch of 8 s, and a client that asks for the service where the
//! IP leads. For each event: how often the IP was moved and how long the service was not to be had, beside what is ideal.
//!
//! `event` is what happens, `site` where; `table` is what is told of it.

mod event;
mod site;
mod table;

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use lab::process::{interrupted, watch_for_ctrl_c};
use lab::uwsgi::{Uwsgi, checkout};

use event::EVENTS;
use site::Site;
use table::Outcome;

const USAGE: &str = "\
month [N [JOBS]]: plays N months (1), JOBS at a time (4; at most 16); each takes about four minutes.

PLUGIN=/path/to/another_plugin.so in the environment: with that plugin, on PyPI's uWSGI.
OPTIONS=none in the environment: without legion-nopreempt, legion-check, legion-drain-file and legion-silent-stop.

Exit status 1: the IP was moved more or less often than is ideal, or was not at the one Lord after an event.";

/// What is to be played.
struct Campaign {
    months: usize,
    jobs: usize,
    plugin: Option<PathBuf>,
    /// Whether with the options that make the IP stay where it is.
    options: bool,
}

impl Campaign {
    fn read(arguments: &[String], plugin: &str, options: &str) -> Result<Campaign, String> {
        let number = |at: usize, default: usize| match arguments.get(at) {
            Some(text) => text.parse::<usize>().map_err(|_| format!("{text:?} is no number")),
            None => Ok(default),
        };
        let plugin = match Some(plugin).filter(|path| !path.is_empty()) {
            None => None,
            // uWSGI takes it for a name otherwise.
            Some(path) if !path.ends_with("_plugin.so") => {
                return Err(format!("PLUGIN={path}: expected a path that ends in _plugin.so"));
            }
            Some(path) => {
                Some(Path::new(path).canonicalize().map_err(|error| format!("PLUGIN={path}: {error}"))?)
            }
        };
        let options = match options {
            "" | "all" => true,
            "none" => false,
            other => return Err(format!("OPTIONS={other}: expected all or none")),
        };
        if arguments.len() > 2 {
            return Err("there are more than two arguments".into());
        }
        Ok(Campaign { months: number(0, 1)?.max(1), jobs: number(1, 4)?.clamp(1, 16), plugin, options })
    }

    /// Plays all; the outcomes of each month that came to its end, and the picture of the one with the most switches.
    fn run(&self) -> (Vec<Vec<Outcome>>, String) {
        let (next, played) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
        thread::scope(|scope| {
            for _ in 0..self.jobs.min(self.months) {
                // A thread plays whole months, since nodes end with the thread that has started them.
                scope.spawn(|| {
                    while !interrupted() {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        if number >= self.months {
                            break;
                        }
                        let Some(month) = self.play(number) else { break };
                        let mut played = played.lock().expect("nobody panics with it");
                        played.push(month);
                        if self.months > 1 {
                            let (outcomes, _) = played.last().expect("just pushed");
                            println!("{:>4} of {}: {}", played.len(), self.months, table::line(outcomes));
                        }
                    }
                });
            }
        });
        let played = played.into_inner().expect("nobody panics with it");
        let worst = played.iter().max_by_key(|(outcomes, _)| table::switches(outcomes));
        let picture = worst.map(|(_, picture)| picture.clone()).unwrap_or_default();
        (played.into_iter().map(|(outcomes, _)| outcomes).collect(), picture)
    }

    /// One month and its picture; `None` when interrupted.
    fn play(&self, number: usize) -> Option<(Vec<Outcome>, String)> {
        // Another plugin was built for PyPI's.
        let debian = number % 2 == 0 && self.plugin.is_none() && Uwsgi::Debian.is_there();
        let uwsgi = if debian { Uwsgi::Debian } else { Uwsgi::Pypi };
        let mut site = Site::start(uwsgi, self.plugin.as_deref(), self.options);
        site.settle();
        let mut outcomes = Vec::new();
        for event in &EVENTS {
            if interrupted() {
                return None;
            }
            outcomes.push(site.play(event, self.months == 1));
        }
        if outcomes.iter().zip(&EVENTS).any(|(outcome, event)| !outcome.is_ideal(event)) {
            let folder = checkout().join("target/month").join((number + 1).to_string());
            match site.keep(&folder) {
                Ok(()) => println!("Logs of month {} are in {}", number + 1, folder.display()),
                Err(error) => println!("No logs: {}: {error}", folder.display()),
            }
        }
        (!interrupted()).then(|| (outcomes, site.picture()))
    }
}

fn main() -> ExitCode {
    watch_for_ctrl_c();
    let arguments: Vec<String> = env::args().skip(1).collect();
    let variable = |name: &str| env::var(name).unwrap_or_default();
    let campaign = match Campaign::read(&arguments, &variable("PLUGIN"), &variable("OPTIONS")) {
        Ok(campaign) => campaign,
        Err(why) => {
            eprintln!("{why}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    println!("A month takes about four minutes. A switch takes 8 s, the tolerance is 5 s.\n");
    if campaign.months == 1 {
        println!("{}", table::head());
    }
    let (months, picture) = campaign.run();
    if interrupted() {
        println!("Interrupted.");
    }
    if months.is_empty() {
        return ExitCode::FAILURE;
    }
    if campaign.months > 1 {
        // Those of one month alone have been told one by one.
        print!("\n{}\n{}", table::head(), table::rows(&months));
    }
    println!("{}", table::total(&months));
    let file = checkout().join("target/month.svg");
    match fs::write(&file, picture) {
        Ok(()) => println!("As a picture, for a browser: {}", file.display()),
        Err(error) => println!("No picture: {}: {error}", file.display()),
    }
    let ideal =
        |month: &Vec<Outcome>| month.iter().zip(&EVENTS).all(|(outcome, event)| outcome.is_ideal(event));
    if months.len() == campaign.months && months.iter().all(ideal) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_read_or_refused() {
        let read = |arguments: &[&str], plugin, options| {
            let arguments: Vec<String> = arguments.iter().map(ToString::to_string).collect();
            let campaign = Campaign::read(&arguments, plugin, options);
            campaign.map(|campaign| (campaign.months, campaign.jobs, campaign.options))
        };
        assert_eq!(read(&[], "", ""), Ok((1, 4, true)));
        assert_eq!(read(&["0", "99"], "", "none"), Ok((1, 16, false)));
        for (arguments, plugin, options, why) in [
            (&["x"][..], "", "", "\"x\" is no number"),
            (&["1", "2", "3"], "", "", "there are more than two arguments"),
            (&[], "hetzner", "", "PLUGIN=hetzner: expected a path that ends in _plugin.so"),
            (&[], "", "some", "OPTIONS=some: expected all or none"),
        ] {
            assert_eq!(read(arguments, plugin, options), Err(why.into()));
        }
        assert!(read(&[], "/nowhere/x_plugin.so", "").is_err_and(|why| why.contains("No such file")));
    }
}
