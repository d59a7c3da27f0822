//! Whether takeovers leave anything behind in the process that makes them: memory, descriptors, threads, children.
//!
//! A node that is alone in its Legion runs all its lord hooks one after the other when it becomes Lord, so that many
//! lines of four IPs each are thousands of takeovers in one process. Between them stand two gates, commands that read
//! from a pipe, so that nothing goes on while it is counted.

use std::fs::{self, File};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use crate::legion::{APART, LEGION};
use crate::node::{Node, free_address};
use crate::robot::{Certificate, Config, Failover, Limits, Robot};
use crate::uwsgi::Uwsgi;
use crate::{PASSWORD, USERNAME, ip, wait_until};

/// The IPs of each hook. With one a line there would be four times as many lines, and uWSGI takes its time to read them.
const IPS: [&str; 4] = ["4.4.4.4", "5.5.5.5", "2a01:4f8:4::", "2a01:4f8:5::"];

/// So many takeovers come before the first count: one hook of every kind, at least.
pub const FIRST: usize = 100;

/// Up to 388 KiB were seen after 10,000 takeovers, by which heap and stacks are fuller at one moment than at another. A
/// leak of 100 bytes in each makes it 1.3 MiB.
const MOST_KIB: u64 = 512;
/// What malloc keeps for later is no leak, but would hide one. By default it adds up to 0.7 MiB for each of eight arenas a
/// core, when a takeover's thread first gets it, and room for as many buffers as were ever held at the same moment. But
/// with a single arena a leak would find room in what uWSGI has freed when it had read its ini.
const MALLOC: [(&str, &str); 2] = [("MALLOC_ARENA_MAX", "4"), ("MALLOC_MMAP_THRESHOLD_", "65536")];

/// A hook whose answers are lost and found takes a second, and one of the 60 GET an hour that each IP has.
const MOST_LOST: usize = 50;

/// For a thousand takeovers on a machine with much else to do.
const LIMIT_FOR_A_THOUSAND: Duration = Duration::from_secs(180);

/// What a process holds.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Held {
    /// Resident, and of no file: how much of those is in memory is up to the kernel.
    memory_kib: u64,
    descriptors: usize,
    threads: usize,
    /// Zombies, too. Who waits for a command shows as any other child of a thread.
    children: usize,
}

impl Held {
    fn by(pid: u32) -> Held {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
        let memory = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("see proc(5)");
        let count = |what| fs::read_dir(format!("/proc/{pid}/{what}")).expect("it runs").count();
        let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("it runs").flatten();
        // A thread may have ended since.
        let children = tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
        Held {
            memory_kib: memory.trim().trim_end_matches(" kB").parse().expect("a number"),
            descriptors: count("fd"),
            threads: count("task"),
            children: children.map(|ids| ids.split_whitespace().count()).sum(),
        }
    }

    /// Once the last takeover's thread has ended, which the hook does not wait for.
    fn by_in_peace(pid: u32) -> Held {
        let mut last = Held::by(pid);
        wait_until(Duration::from_secs(60), || {
            thread::sleep(Duration::from_millis(200));
            std::mem::replace(&mut last, Held::by(pid)) == last
        });
        last
    }
}

/// A pipe from which a hook reads until somebody has opened it for writing, and closed it.
struct Gate(PathBuf);

impl Gate {
    fn new(folder: &Path, name: &str) -> Gate {
        let path = folder.join(name);
        let made = Command::new("mkfifo").arg(&path).status();
        assert!(made.is_ok_and(|status| status.success()), "mkfifo {}", path.display());
        Gate(path)
    }

    fn hook(&self) -> String {
        format!("legion-lord = {LEGION} cmd:cat {}\n", self.0.display())
    }

    /// Waits until the node stands before it; as long as the result lives, it stays there.
    fn wait(&self, limit: Duration) -> Option<File> {
        // A pipe that nobody reads from cannot be opened so.
        let open = || File::options().write(true).custom_flags(libc::O_NONBLOCK).open(&self.0);
        let mut open_end = None;
        wait_until(limit, || {
            open_end = open().ok();
            open_end.is_some()
        });
        open_end
    }
}

/// A hook, and what the log says when it has gone as it is meant to.
struct Kind {
    hook: String,
    said: &'static str,
}

/// A stand-in with an account without limits, whose users meet a fault each. It has a CA of its own.
fn robot() -> Robot {
    let robot = Robot::start(Config {
        tls: Some(Certificate::Right),
        limits: Limits { get: u32::MAX, post: u32::MAX, ..Limits::default() },
        failover: IPS.map(|text| Failover::new(ip(text), None)).to_vec(),
        ..Config::default()
    })
    .expect("a free port");
    for rule in [
        "post user=ELSE error FAILOVER_NEW_SERVER_NOT_FOUND",
        "post user=HALF cut-half",
        "post user=LOST lost-answer",
        "post user=WRONG error UNAUTHORIZED",
    ] {
        robot.fault(rule.parse().expect("a rule"));
    }
    robot
}

/// Takeovers that end at once, by every way to success and failure; the last is the one that takes a second.
fn kinds(trusted: &Robot, untrusted: &Robot) -> Vec<Kind> {
    let hook = |username: &str, address: &str, more: &str| {
        // Two targets at one URL would not start.
        let query = if more.contains("2.2.2.2") { "?two" } else { "" };
        format!(
            "legion-lord = {LEGION} hetzner-failoverip:username={username},password={PASSWORD},ip={},\
             url=https://{address}/failover/{{ip}}{query},{more}\n{APART}",
            IPS.join(";")
        )
    };
    let (right, wrong) = (trusted.addr().to_string(), untrusted.addr().to_string());
    let (one, two) = ("active_ip=1.1.1.1;2a01:4f8::", "active_ip=2.2.2.2;2a01:4f9::");
    // This leaves no time for a pause.
    let short = format!("{two},deadline=0.9");
    let command = |program: &str| {
        let ips = IPS.join(";");
        format!("legion-lord = {LEGION} failover-command:command={program},ip={ips},deadline=0.9\n{APART}")
    };
    [
        (command("/bin/true"), "4.4.4.4 is routed to this server (exit status 0, "),
        (command("/bin/false"), "to this server: start: exit status 1 (failed)"),
        (hook(USERNAME, &right, one), "4.4.4.4 is routed to 1.1.1.1 (HTTP 200, "),
        (hook(USERNAME, &right, two), "2a01:4f8:4:: is routed to 2a01:4f9:: (HTTP 200, "),
        (hook(USERNAME, &right, two), "4.4.4.4 is routed to 2.2.2.2 (HTTP 409 FAILOVER_ALREADY_ROUTED, "),
        (hook("ELSE", &right, one), "HTTP 404 FAILOVER_NEW_SERVER_NOT_FOUND"),
        (hook("HALF", &right, &short), "connection broken before the answer was complete"),
        (hook(USERNAME, &wrong, one), "from an unknown issuer"),
        (hook(USERNAME, "127.0.0.1:1", &short), "connection refused"),
        (hook("WRONG", &right, one), "held back until "),
        (hook("LOST", &right, one), "4.4.4.4 is routed to 1.1.1.1 (confirmed by a check of the route, "),
    ]
    .map(|(hook, said)| Kind { hook, said })
    .into()
}

/// Runs so many takeovers in one process; says what it holds after them and after the first hundred.
pub fn of(uwsgi: Uwsgi, takeovers: usize) -> Result<String, String> {
    let (robot, untrusted) = (robot(), robot());
    let kinds = kinds(&robot, &untrusted);
    let (lost, quick) = kinds.split_last().expect("there are some");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let gates = ["first", "last"].map(|name| Gate::new(folder.path(), name));
    let mut ini = format!("plugin = hetzner\nlegion = {LEGION} {} 1 aes-128-cbc:secret1\n", free_address());
    let hooks = takeovers.div_ceil(IPS.len());
    let between = (hooks / MOST_LOST).max(100);
    for number in 0..hooks {
        if number * IPS.len() == FIRST {
            ini += &gates[0].hook();
        }
        let lost = (number % between == quick.len()).then_some(lost);
        ini += &lost.unwrap_or(&quick[number % quick.len()]).hook;
    }
    ini += &gates[1].hook();
    let ca_file = robot.ca_file().expect("with TLS").to_str().expect("UTF-8");
    let env = [&[("SSL_CERT_FILE", ca_file)], &MALLOC[..]].concat();
    let node = Node::start(uwsgi, folder.path(), &ini, &env);

    let limit = LIMIT_FOR_A_THOUSAND * u32::try_from(1 + takeovers / 1000).expect("they would take years");
    let mut counts = Vec::new();
    for gate in &gates {
        let Some(_held) = gate.wait(limit) else {
            let log = node.log();
            let last: Vec<&str> = log.lines().rev().take(5).collect();
            return Err(format!("the takeovers have not ended within {limit:?}; the last lines: {last:#?}"));
        };
        counts.push(Held::by_in_peace(node.id()));
    }
    let [first, last] = counts[..] else { unreachable!("a count for each gate") };

    let log = node.log();
    let made = log.matches("moving the failover IP to this node...").count() * IPS.len();
    if let Some(kind) = kinds.iter().find(|kind| !log.contains(kind.said)) {
        return Err(format!("none of the takeovers has ended with \"{}\"", kind.said));
    }
    let figures = format!(
        "after {made} takeovers in one process it holds {} descriptors, {} threads, {} children and {} KiB of memory, after \
         the first {FIRST} {}, {}, {} and {} KiB",
        last.descriptors,
        last.threads,
        last.children,
        last.memory_kib,
        first.descriptors,
        first.threads,
        first.children,
        first.memory_kib
    );
    let grown = last.memory_kib.saturating_sub(first.memory_kib);
    let same = Held { memory_kib: 0, ..last } == Held { memory_kib: 0, ..first };
    if made == hooks * IPS.len() && same && grown <= MOST_KIB { Ok(figures) } else { Err(figures) }
}
