//! The standing guard: what a Lord uses in five minutes in which nothing happens.
//!
//! What is asked of the API meanwhile, since a switch under way when it became Lord might end later, is in it.

use std::net::IpAddr;
use std::thread;
use std::time::{Duration, Instant};

use lab::legion::{LEGION, hook};
use lab::process::interrupted;
use lab::robot::{Certificate, Config, Failover, Login, Robot};
use lab::{PASSWORD, USERNAME, wait_until};

use crate::figures::{Figure, Samples};
use crate::proc::{Use, cpu, threads_named};
use crate::sides::{Lone, Side, Sides};
use crate::trust::Trust;

const MINUTES: usize = 5;
const MINUTE: Duration = Duration::from_secs(60);
/// What src/host/mod.rs calls its threads.
const THREAD: &str = "hetzner";

/// Up to now.
struct Reading {
    at: Instant,
    ours: Use,
    process: Duration,
}

impl Reading {
    fn of(lone: &Lone) -> Reading {
        let pid = lone.node.id();
        Reading { at: Instant::now(), ours: threads_named(pid, THREAD), process: cpu(pid) }
    }
}

pub fn measure(sides: &Sides) -> Result<Vec<Figure>, String> {
    let ip: IpAddr = [4, 4, 4, 4].into();
    let robot = Robot::start(Config {
        tls: Some(Certificate::Right),
        login: Some(Login::new(USERNAME, PASSWORD)),
        failover: vec![Failover::new(ip, None)],
        accept_multipart: true,
        ..Config::default()
    })
    .map_err(|error| error.to_string())?;
    let trust = Trust::in_ca(robot.ca_file().expect("with TLS"));
    let mut plugins = sides.plugins();
    if !trust.is_the_systems() {
        plugins.retain(|(side, _)| *side != Side::Peer);
    }
    let line = format!("legion-lord = {LEGION} hetzner-failoverip:{}\n", hook(1, &robot.url(ip), ""));
    let mut nodes = vec![(None, Lone::start(None, "", &[]))];
    for (side, path) in &plugins {
        nodes.push((Some(*side), Lone::start(Some(path), &line, &trust.env())));
    }
    for (_, lone) in &nodes {
        if !wait_until(MINUTE, || lone.node.log().contains("i am now the Lord")) {
            return Err(format!("no Lord:\n{}", lone.last_lines()));
        }
    }
    let mut readings: Vec<Vec<Reading>> = nodes.iter().map(|(_, lone)| vec![Reading::of(lone)]).collect();
    for minute in 1..=MINUTES {
        eprintln!("idle: minute {minute} of {MINUTES}");
        let end = Instant::now() + MINUTE;
        while Instant::now() < end && !interrupted() {
            thread::sleep(Duration::from_millis(200));
        }
        if interrupted() {
            return Err("interrupted".into());
        }
        for ((_, lone), readings) in nodes.iter().zip(&mut readings) {
            readings.push(Reading::of(lone));
        }
    }
    // Minute by minute.
    let each = |at: usize, value: &dyn Fn(&Reading, &Reading) -> f64| -> Vec<f64> {
        let per_second = |two: &[Reading]| value(&two[0], &two[1]) / (two[1].at - two[0].at).as_secs_f64();
        readings[at].windows(2).map(per_second).collect()
    };
    let process = |before: &Reading, after: &Reading| (after.process - before.process).as_secs_f64() * 100.0;
    let ours = |before: &Reading, after: &Reading| {
        after.ours.cpu.saturating_sub(before.ours.cpu).as_secs_f64() * 100.0
    };
    let wake_ups =
        |before: &Reading, after: &Reading| after.ours.wake_ups.saturating_sub(before.ours.wake_ups) as f64;
    let of_all = |value: &dyn Fn(usize) -> Vec<f64>| -> Vec<(Side, Samples)> {
        let sides = nodes.iter().enumerate().filter_map(|(at, (side, _))| Some((at, (*side)?)));
        sides.map(|(at, side)| (side, Samples::new(value(at)))).collect()
    };
    let beside_none = |at: usize| -> Vec<f64> {
        each(at, &process).iter().zip(each(0, &process)).map(|(with, without)| with - without).collect()
    };
    let mean = |values: Vec<f64>| vec![values.iter().sum::<f64>() / values.len() as f64];
    Ok(vec![
        Figure::new(
            "idle Lord: CPU of our threads, over five minutes",
            "% of a core",
            of_all(&|at| mean(each(at, &ours))),
        )
        .at_most(0.1, ""),
        Figure::new(
            "idle Lord: CPU added to the process, minute by minute",
            "% of a core",
            of_all(&beside_none),
        ),
        Figure::new(
            "idle Lord: wake-ups of our threads, minute by minute",
            "a second",
            of_all(&|at| each(at, &wake_ups)),
        )
        .at_most(2.0, ""),
    ])
}
