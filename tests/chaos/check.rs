//! What has to be so after every schedule, beside the one Lord with the IP.

use std::fs;
use std::panic;
use std::time::{Duration, Instant};

use crate::stage::{QUIET, Stage, path};
use crate::support::{assert_no_secret, wait_until};

/// What src/robot/budget.rs allows one process in an hour, which is longer than a schedule.
const GETS: usize = 60;
/// Beside the first one of each election.
const POSTS: usize = 15;
const REJECTED_LOGINS: usize = 2;

/// What a log holds after a crash, in small letters.
const CRASHES: [&str; 4] = ["segmentation fault", "panic", "a bug in uwsgi-hetzner", "damn ! worker"];

/// The master, its Legion thread, and the guard of the one hook. A takeover has a thread too, but only as long as it
/// runs, and none has a reason to now: a node that still sits in its hook hears nobody, and keeps the others from
/// electing a new Lord.
const THREADS: usize = 3;
/// uWSGI's own are 14, on Debian's and PyPI's, also after a reload; and one or two by which it is asked for its
/// state. A connection to the API is closed when its last answer is read.
const DESCRIPTORS: usize = 16;
/// For a check or a question that is just under way.
const A_MOMENT: Duration = Duration::from_secs(5);

/// Whatever is wrong, in sentences.
pub fn problems(stage: &mut Stage) -> Vec<String> {
    let mut problems = std::mem::take(&mut stage.problems);
    for node in 1..=stage.plan.nodes {
        if stage.legion.wait_for_exit(node, Duration::ZERO) {
            problems.push(format!("node {node} has ended by itself"));
        } else {
            let left = leftovers(stage.legion.node(node).id(), stage.over);
            problems.extend(left.map(|left| format!("node {node} has {left}")));
        }
        problems.extend(said(stage, node));
        problems.extend(asked_too_often(stage, node));
    }
    problems
}

/// What a log must not hold.
fn said(stage: &Stage, node: usize) -> Vec<String> {
    let log = stage.legion.node(node).log();
    let small = log.to_lowercase();
    let crashes = CRASHES.iter().filter(|crash| small.contains(**crash));
    let mut problems: Vec<String> =
        crashes.map(|crash| format!("node {node} has logged \"{crash}\"")).collect();
    if panic::catch_unwind(|| assert_no_secret(&log)).is_err() {
        problems.push(format!("node {node} has logged a secret"));
    }
    problems
}

/// What a process holds beyond its bounds, though every fault has been over for as long as may be.
fn leftovers(pid: u32, over: Instant) -> Option<String> {
    let mut left = None;
    wait_until((over + QUIET).saturating_duration_since(Instant::now()).max(A_MOMENT), || {
        left = beyond_bounds(pid);
        left.is_none()
    });
    left
}

fn beyond_bounds(pid: u32) -> Option<String> {
    let count = |folder: &str| fs::read_dir(format!("/proc/{pid}/{folder}")).map_or(0, Iterator::count);
    let (threads, descriptors) = (thread_names(pid), count("fd"));
    if threads.len() > THREADS {
        return Some(format!("{} threads: {threads:?}", threads.len()));
    }
    if descriptors > DESCRIPTORS {
        return Some(format!("{descriptors} descriptors"));
    }
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let zombie = |child: &&str| {
        let stat = fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
        stat.rsplit_once(')').is_some_and(|(_, rest)| rest.starts_with(" Z"))
    };
    children.split_whitespace().find(zombie).map(|child| format!("a zombie: process {child}"))
}

/// But for the one that waits for the next takeover.
fn thread_names(pid: u32) -> Vec<String> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let name = |task: fs::DirEntry| fs::read_to_string(task.path().join("comm")).ok();
    tasks.filter_map(name).map(|name| name.trim().to_string()).filter(|name| name != "hetzner-idle").collect()
}

/// What a process has asked of the API beyond its budgets.
fn asked_too_often(stage: &Stage, node: usize) -> Vec<String> {
    let mut problems = Vec::new();
    let journal = stage.robot.journal();
    let own: Vec<_> = journal.iter().filter(|request| request.path == path(node)).collect();
    // Each may send a first POST beyond the budget. To which life one belongs is not worth telling.
    let elections = stage.legion.node(node).log().matches("attempting to become the Lord").count();
    let lives = &stage.lives[node - 1];
    for (number, &from) in lives.iter().enumerate() {
        let until = lives.get(number + 1).copied();
        let in_it = |at: Instant| at >= from && until.is_none_or(|until| at < until);
        let life = || own.iter().filter(|request| in_it(request.at));
        let gets = life().filter(|request| request.method == "GET").count();
        let posts = life().filter(|request| request.method == "POST").count();
        let rejected = life().filter(|request| request.status == Some(401)).count();
        for (sent, what, most) in [
            (gets, "GET", GETS),
            (posts, "POST", POSTS + elections),
            (rejected, "requests with a wrong login", REJECTED_LOGINS),
        ] {
            if sent > most {
                problems.push(format!("node {node} has sent {sent} {what} in one life, more than {most}"));
            }
        }
    }
    problems
}
