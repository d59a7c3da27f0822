//! From the Lord's death to the POST of the next one, with a switch as long as Hetzner's.
//!
//! The limit is uWSGI's: a node counts as dead when it was not heard for `legion-tolerance`, and the others agree on a
//! new Lord when each has told each that it sees the same Legion, which takes two rounds.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use lab::legion::{Legion, address, hook};
use lab::process::interrupted;
use lab::robot::{Config, Failover, Login, Robot};
use lab::{PASSWORD, USERNAME, wait_until};

use crate::figures::{Figure, Samples};
use crate::sides::{Side, Sides, UWSGI};

const TIMES: usize = 20;
/// They wait for nearly all of their time.
const SIDE_BY_SIDE: usize = 8;
const SWITCH: Duration = Duration::from_secs(45);
/// For an election at uWSGI's defaults, with all that may come between.
const STEP: Duration = Duration::from_secs(90);

/// `legion-freq` and `legion-tolerance`.
#[derive(Clone, Copy)]
struct Timing {
    freq: u64,
    tolerance: u64,
    /// For the longest of all failovers.
    floor: f64,
}

const TIMINGS: [Timing; 2] =
    [Timing { freq: 1, tolerance: 3, floor: 6.0 }, Timing { freq: 3, tolerance: 15, floor: 22.0 }];

/// How one failover went.
struct Outcome {
    timing: usize,
    side: Side,
    /// From SIGKILL to the POST's arrival, in seconds.
    to_post: f64,
    /// Whether in the end there is one Lord, and the IP is there.
    kept: bool,
}

pub fn measure(sides: &Sides) -> Result<Vec<Figure>, String> {
    let plugins = sides.plugins();
    // In turn, the longer ones first.
    let mut jobs = Vec::new();
    for (timing, _) in TIMINGS.iter().enumerate().rev() {
        for _ in 0..TIMES {
            jobs.extend(plugins.iter().map(|(side, path)| (timing, *side, path.as_path())));
        }
    }
    let (next, done) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..SIDE_BY_SIDE {
            // A thread plays whole failovers, since nodes end with the thread that has started them.
            scope.spawn(|| {
                while let Some(&(timing, side, path)) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if interrupted() {
                        break;
                    }
                    let outcome = fail_over(timing, side, path);
                    let mut done = done.lock().expect("nobody panics with it");
                    done.push(outcome);
                    eprintln!("failover: {} of {}", done.len(), jobs.len());
                }
            });
        }
    });
    let outcomes: Result<Vec<Outcome>, String> =
        done.into_inner().expect("nobody panics with it").into_iter().collect();
    let outcomes = outcomes?;
    if outcomes.len() < jobs.len() {
        return Err("interrupted".into());
    }
    let mut figures = Vec::new();
    for (timing, Timing { freq, tolerance, floor }) in TIMINGS.into_iter().enumerate() {
        let of = |side: Side| outcomes.iter().filter(move |it| it.timing == timing && it.side == side);
        let of_all = |value: &dyn Fn(Side) -> Samples| -> Vec<(Side, Samples)> {
            plugins.iter().map(|(side, _)| (*side, value(*side))).collect()
        };
        let to_post = |side| Samples::new(of(side).map(|outcome| outcome.to_post));
        let with_limit = |mut sides: Vec<(Side, Samples)>| {
            sides.push((Side::Limit, Samples::one((tolerance + 2 * freq) as f64)));
            sides
        };
        let name = format!("SIGKILL of the Lord to the next one's POST, at {freq}/{tolerance}");
        figures.push(Figure::new(&name, "s", with_limit(of_all(&to_post))));
        let longest = with_limit(of_all(&|side| Samples::one(to_post(side).greatest())));
        figures.push(Figure::new(format!("{name}, longest of {TIMES}"), "s", longest).at_most(floor, ""));
        let lost = |side| Samples::one(of(side).filter(|outcome| !outcome.kept).count() as f64);
        let name =
            format!("failovers of {TIMES} that end without the IP at the one Lord, at {freq}/{tolerance}");
        figures.push(Figure::new(name, "", of_all(&lost)).at_most(0.0, ""));
    }
    Ok(figures)
}

fn fail_over(timing: usize, side: Side, plugin: &Path) -> Result<Outcome, String> {
    let Timing { freq, tolerance, .. } = TIMINGS[timing];
    let ip: IpAddr = [4, 4, 4, 4].into();
    let target = |node: usize| address(node).parse::<IpAddr>().ok();
    let robot = Robot::start(Config {
        login: Some(Login::new(USERNAME, PASSWORD)),
        // The first Lord has it already, and so does not wait for a switch.
        failover: vec![Failover::new(ip, target(1))],
        switch: SWITCH,
        accept_multipart: true,
        ..Config::default()
    })
    .map_err(|error| error.to_string())?;
    let hooks: Vec<String> = (1..=3).map(|node| hook(node, &robot.url(ip), "")).collect();
    let options = format!(
        "legion-freq = {freq}\nlegion-tolerance = {tolerance}\nlegion-quorum = failover 2\n\
         legion-death-on-lord-error = 30\n"
    );
    let mut legion = Legion::new(UWSGI, &hooks, &options).with_plugin(plugin);
    legion.start_all();
    let settled = wait_until(STEP, || legion.lords() == [1] && (1..=3).all(|node| peers(&legion, node) == 2));
    if !settled {
        return Err(format!("no Lord:\n{}", legion.logs()));
    }
    // At some point of the round that is none of this program's choice.
    thread::sleep(Duration::from_secs(freq).mul_f64(fastrand::f64()));
    let killed = Instant::now();
    legion.kill(1);
    let later = |journal: &[lab::robot::Request]| {
        journal
            .iter()
            .find(|request| request.method == "POST" && request.at > killed)
            .map(|request| request.at)
    };
    if !robot.wait_for(STEP, |journal| later(journal).is_some()) {
        return Err(format!("no POST:\n{}", legion.logs()));
    }
    let posted = later(&robot.journal()).expect("it was there");
    // Until its switch is made, and whatever another one has begun meanwhile.
    wait_until(SWITCH + STEP, || {
        let under_way = robot.journal().iter().any(|request| request.done.is_none());
        !under_way && posted.elapsed() > SWITCH && legion.lords().len() == 1
    });
    let lords = legion.lords();
    let kept = matches!(lords[..], [lord] if robot.route(ip) == target(lord));
    Ok(Outcome { timing, side, to_post: (posted - killed).as_secs_f64(), kept })
}

/// How many others a node sees.
pub fn peers(legion: &Legion, node: usize) -> usize {
    let state = legion.node(node).legion(lab::legion::LEGION);
    state.and_then(|state| state["members"].as_array().map(Vec::len)).unwrap_or(0)
}
