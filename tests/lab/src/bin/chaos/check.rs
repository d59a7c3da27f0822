//! What has to be so after every schedule, beside the one Lord with the IP.

use std::fs;
use std::panic;
use std::path::Path;
use std::time::{Duration, Instant};

use lab::{assert_no_secret, wait_until};

use crate::setting::promises;
use crate::site::Check;
use crate::stage::Stage;
use crate::switches::Switch;

/// What a log holds after a crash, in small letters.
const CRASHES: [&str; 4] = ["segmentation fault", "panic", "a bug in uwsgi-hetzner", "damn ! worker"];

/// uWSGI's own threads, by whatever name it is started: the master, and the one of its Legions.
const THREADS: usize = 2;
/// Ours that are there but once: one that waits for the next takeover.
const ONCE: [&str; 2] = ["hetzner-keeper", "hetzner-log"];
/// The guard of an IP. A takeover has a thread too, but only as long as it runs, and none has a reason to now: a node
/// that still sits in its hook hears nobody, and keeps the others from electing a new Lord.
const GUARD: &str = "hetzner";
/// One for each check, which each Legion has of its own, and one for each drain file.
const CHECK: &str = "hetzner-check";
const DRAIN: &str = "hetzner-drain";
/// uWSGI's own are 14, on Debian's and PyPI's, also after a reload; and one or two by which it is asked for its
/// state. A connection to the API is closed when its last answer is read.
const DESCRIPTORS: usize = 16;
/// The master and its worker. A command of a check ends within a moment, and who announces for a master that is reloaded
/// when that is back.
const PROCESSES: usize = 2;
/// Once every fault is over a node may be elected that was away, and then the first one again.
const NEEDLESS_SWITCHES: usize = 2;
/// For a check or a question that is just under way.
const A_MOMENT: Duration = Duration::from_secs(5);

/// Whatever is wrong, in sentences.
pub fn problems(stage: &mut Stage, switches: &[Switch]) -> Vec<String> {
    let mut problems = std::mem::take(&mut stage.problems);
    let needless = switches.iter().filter(|switch| !switch.needed && switch.at > stage.over).count();
    if needless > NEEDLESS_SWITCHES {
        problems.push(format!("{needless} switches that nobody needed, after every fault was over"));
    }
    let unprovoked = switches.iter().filter(|switch| !switch.needed && switch.in_calm);
    problems.extend(unprovoked.filter(|_| !stage.plan.foreign).map(|switch| {
        let at = (switch.at - stage.started).as_secs_f64();
        format!("{} was moved to node {} at {at:.1} s, though nothing was wrong", switch.ip, switch.to)
    }));
    if stage.plan.site.releases.is_empty() {
        let unassigned = stage.api.journal().into_iter().find(|it| it.path.ends_with("/unassign"));
        problems.extend(unassigned.map(|request| format!("an IP was unassigned: {request:?}")));
    }
    for node in 1..=stage.plan.nodes {
        if stage.legion.wait_for_exit(node, Duration::ZERO) {
            problems.push(format!("node {node} has ended by itself"));
        } else {
            let left = leftovers(stage, node);
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
fn leftovers(stage: &Stage, node: usize) -> Option<String> {
    let end = stage.over + stage.plan.patience();
    let mut left = None;
    wait_until(end.saturating_duration_since(Instant::now()).max(A_MOMENT), || {
        left = beyond_bounds(stage, node);
        left.is_none()
    });
    left
}

fn beyond_bounds(stage: &Stage, node: usize) -> Option<String> {
    let pid = stage.legion.node(node).id();
    let (threads, site) = (thread_names(pid), &stage.plan.site);
    let of_each_legion = |drawn: bool| if drawn { stage.plan.legions().len() } else { 0 };
    let bounds = Bounds {
        ips: promises(stage.plan).len(),
        checks: of_each_legion(site.check.is_some()),
        drains: of_each_legion(site.drains),
    };
    if let Some(name) = bounds.too_many(&threads) {
        return Some(format!("too many threads named {name}: {threads:?}"));
    }
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count);
    // Each Legion has a socket, and so has what is served.
    let most = DESCRIPTORS - 1 + stage.plan.legions().len() + usize::from(site.check == Some(Check::Http));
    if descriptors > most {
        return Some(format!("{descriptors} descriptors, more than {most}"));
    }
    let processes = processes_in(&stage.legion.folder(node));
    if let Some((id, what)) = processes.iter().find(|(_, what)| what.starts_with('Z')) {
        return Some(format!("a zombie: process {id}, {what}"));
    }
    (processes.len() > PROCESSES).then(|| format!("more processes than {PROCESSES}: {processes:?}"))
}

/// The processes of a node, by the folder that they run in, and the zombies among the master's children. With each its
/// state and its name.
fn processes_in(folder: &Path) -> Vec<(u32, String)> {
    let folder = folder.canonicalize().unwrap_or_default();
    let ids = fs::read_dir("/proc").into_iter().flatten().flatten();
    let ids = ids.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let all: Vec<(u32, u32, String, bool)> = ids
        .filter_map(|id| {
            let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
            let (name, rest) = stat.split_once('(')?.1.rsplit_once(')')?;
            let mut rest = rest.split_whitespace();
            let (state, parent) = (rest.next()?, rest.next()?.parse().ok()?);
            let is_here = fs::read_link(format!("/proc/{id}/cwd")).is_ok_and(|cwd| cwd == folder);
            Some((id, parent, format!("{state} {name}"), is_here))
        })
        .collect();
    let is_here = |id: u32| all.iter().any(|(other, .., here)| *other == id && *here);
    // A zombie is in no folder any more.
    let own = all.iter().filter(|(_, parent, what, here)| *here || what.starts_with('Z') && is_here(*parent));
    own.map(|(id, _, what, _)| (*id, what.clone())).collect()
}

fn thread_names(pid: u32) -> Vec<String> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let name = |task: fs::DirEntry| fs::read_to_string(task.path().join("comm")).ok();
    tasks.filter_map(name).map(|name| name.trim().to_string()).collect()
}

/// How many threads of ours there may be.
struct Bounds {
    ips: usize,
    checks: usize,
    drains: usize,
}

impl Bounds {
    fn most(&self, name: &str) -> usize {
        match name {
            GUARD => self.ips,
            CHECK => self.checks,
            DRAIN => self.drains,
            name if ONCE.contains(&name) => 1,
            // Whatever else is named after us has ended by now.
            name if name.starts_with(GUARD) => 0,
            _ => THREADS,
        }
    }

    /// A name that more threads have than may.
    fn too_many<'a>(&self, threads: &'a [String]) -> Option<&'a str> {
        // uWSGI's may have different names, but are no more for that.
        let kind = |name: &str| if name.starts_with(GUARD) { name.to_string() } else { String::new() };
        let of_kind = |name: &String| threads.iter().filter(|other| kind(other) == kind(name)).count();
        threads.iter().find(|name| of_kind(name) > self.most(name)).map(String::as_str)
    }
}

/// What a process has asked of the API beyond its budgets.
fn asked_too_often(stage: &Stage, node: usize) -> Vec<String> {
    let mut problems = Vec::new();
    let journal = stage.api.journal();
    let limit = stage.plan.hoster.limits();
    let own: Vec<_> = journal
        .iter()
        .filter_map(|request| Some((request, stage.plan.hoster.asked(stage.plan, request)?)))
        .filter_map(|(request, (who, ip))| (who == node).then_some((request, ip)))
        .collect();
    let log = stage.legion.node(node).log();
    let lives = &stage.lives[node - 1];
    for (number, &from) in lives.iter().enumerate() {
        let until = lives.get(number + 1).copied();
        let in_it = |at: Instant| at >= from && until.is_none_or(|until| at < until);
        let life = || own.iter().filter(|(request, _)| in_it(request.at));
        let gets = life().filter(|(request, _)| stage.plan.hoster.is_look(request)).count();
        let rejected = life().filter(|(request, _)| request.status == Some(401)).count();
        let mut counts = vec![
            (gets, "GET".to_string(), limit.gets),
            (rejected, "requests with a wrong login".into(), limit.rejected),
        ];
        for promise in promises(stage.plan) {
            // Each may send a first POST beyond the budget. To which life one belongs is not worth telling.
            let election = format!("attempting to become the Lord of the Legion {}\n", promise.legion);
            let elections = log.matches(&election).count();
            let posts = life().filter(|(request, ip)| request.method == "POST" && *ip == promise.ip).count();
            counts.push((posts, format!("POST for {}", promise.ip), limit.posts + elections));
        }
        for (sent, what, most) in counts {
            if sent > most {
                problems.push(format!("node {node} has sent {sent} {what} in one life, more than {most}"));
            }
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn processes_are_known_by_their_folder_and_zombies_by_their_parent() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let sleeps = |script: &str| {
            let mut sh = Command::new("sh");
            sh.args(["-c", script]).current_dir(folder.path());
            lab::process::spawn(&mut sh).expect("there is a shell")
        };
        // The second one never waits for its child, which ends at once.
        let mut children = [sleeps("exec sleep 60"), sleeps("true & exec sleep 60")];
        let is_so = || {
            let found = processes_in(folder.path());
            let zombies = found.iter().filter(|(_, what)| what.starts_with('Z')).count();
            found.len() == 3
                && zombies == 1
                && children.iter().all(|it| found.iter().any(|(id, _)| *id == it.id()))
        };
        assert!(wait_until(lab::LIMIT, is_so), "{:?}", processes_in(folder.path()));
        for child in &mut children {
            child.kill().and_then(|()| child.wait()).expect("a child of ours");
        }
        assert!(wait_until(lab::LIMIT, || processes_in(folder.path()).is_empty()));
    }

    #[test]
    fn threads_are_known_by_their_names() {
        let too_many = |threads: &[&str], ips| {
            let threads: Vec<String> = threads.iter().map(|name| name.to_string()).collect();
            let bounds = Bounds { ips, checks: ips - 1, drains: 0 };
            bounds.too_many(&threads).map(str::to_string)
        };
        let well = ["uwsgi-core", "uwsgi-core", "hetzner", "hetzner-keeper", "hetzner-log"];
        assert_eq!(too_many(&well, 1), None);
        for (more, ips, expected) in [
            ("hetzner", 1, Some("hetzner")),
            ("hetzner", 2, None),
            ("hetzner-log", 2, Some("hetzner-log")),
            ("hetzner-more", 2, Some("hetzner-more")),
            ("hetzner-check", 2, None),
            ("hetzner-check", 1, Some("hetzner-check")),
            ("hetzner-drain", 2, Some("hetzner-drain")),
            ("python", 2, Some("uwsgi-core")),
        ] {
            assert_eq!(too_many(&[&well[..], &[more]].concat(), ips).as_deref(), expected, "{more}");
        }
    }
}
