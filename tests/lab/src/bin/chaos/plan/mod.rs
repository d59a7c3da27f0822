//! What a seed stands for: a Legion with its options, and a schedule of faults. All of it is drawn before anything
//! starts.
//!
//! The faults of clean nodes come from one generator, and are for ever the same. What real installations have comes
//! from others, one for each of the `kinds`, and is added to it.
//!
//! What no plugin can mend within a minute is not drawn, rather than excused afterwards:
//!
//! - A login that is rejected is held back for ten minutes, for the third one locks the server's address out. So at
//!   most one node has a wrong one, and only with `legion-death-on-lord-error`, without which uWSGI makes it Lord
//!   all the same; and not in a Legion of two with a quorum, where the other alone is none.
//! - The API answers no 403: whoever gets one has to keep quiet for longer than a minute.
//! - No request is left hanging: a client notices that after its `timeout`, which is a minute by default. Where a command
//!   hangs it is shorter.
//! - A command that is not there is a wrong ini: so it is missing only while no node is started or reloaded.
//! - The IP is moved by hand only where `verify` says that a Lord asks more often than every five minutes; and where
//!   it is the only one, since the checks of several are further apart.
//! - A takeover is given more time than a switch takes: uWSGI is told at start where it is not.
//! - A link holds datagrams for less than the tolerance: what comes later is as good as lost.
//! - A reload goes on as the user that uWSGI has become. Where a Legion cannot do without such a node, that user may
//!   read the password's file.
//! - The tolerance is more than two announcements of the slowest node: otherwise one lost datagram is its death.

mod ranks;

use std::fmt;
use std::time::Duration;

use fastrand::Rng;
use lab::command::Trouble;
use lab::legion::LEGION;
use lab::links::Weather;
use lab::uwsgi::Uwsgi;

use crate::fault::{Fault, Planned};
use crate::hoster::Hoster;
use crate::kinds::{Kind, Kinds};
use crate::site::{Ips, Preempt, SECOND, Site};

/// The longest switch, and so the longest time that a fault can outlast its end.
const SLOWEST_SWITCH: Duration = Duration::from_secs(30);
/// How long there may be no one Lord with the IP, once every fault is over, on clean nodes.
const QUIET: Duration = Duration::from_secs(60);
/// When a node that was started at once has read its ini.
const STARTED: Duration = Duration::from_secs(10);
/// The `timeout` of a command that may hang, in seconds, where nothing shorter was drawn.
const HANGS: u32 = 10;
/// The longest pause between two tries of a Lord without its IP.
const LONGEST_PAUSE: Duration = Duration::from_secs(120);
/// For how long a node stays away that fails again soon after its return, from its second failure on.
const PAUSES: [u64; 4] = [30, 60, 120, 240];

/// What the API says and does not mean. Each is in force for a while, for every request that it names.
pub const LIES: [&str; 21] = [
    "post error FAILOVER_LOCKED",
    "post error FAILOVER_LOCKED",
    "post error FAILOVER_FAILED",
    "post error FAILOVER_NOT_COMPLETE",
    "post after-switch error FAILOVER_NOT_COMPLETE",
    "any error MAINTENANCE",
    "any html 200",
    "any html 502",
    "get html 503",
    "get empty 200",
    "post html 200",
    "post empty 500",
    "post after-switch html 502",
    "any refuse",
    "any refuse",
    "any close",
    "post close",
    "post reset",
    "post lost-answer",
    "post lost-answer",
    "post after-switch reset",
];

/// What a seed stands for.
#[derive(Clone, PartialEq, Debug)]
pub struct Plan {
    pub seed: u64,
    /// Whose API it is.
    pub hoster: Hoster,
    /// Whether it is for another plugin than ours, which was built for PyPI's uWSGI and knows only the seed's keys.
    pub foreign: bool,
    /// Whether it is Debian's uWSGI, rather than PyPI's.
    debian: bool,
    pub nodes: usize,
    quorum: bool,
    /// `legion-death-on-lord-error`, in seconds.
    death: Option<u32>,
    /// `legion-tolerance`, in seconds, where each announces itself each second.
    tolerance: u32,
    /// Keys of the hook, in seconds.
    verify: Option<u32>,
    timeout: Option<u32>,
    deadline: Option<u32>,
    /// The node whose password is wrong.
    pub wrong_login: Option<usize>,
    /// How long a switch takes when nothing is wrong.
    pub switch: Duration,
    /// When all faults are over.
    pub length: Duration,
    /// In the order in which they begin.
    pub faults: Vec<Planned>,
    pub site: Site,
}

impl Plan {
    /// The plan of a seed, the same each time; another plugin meets the same faults.
    pub fn draw(seed: u64, foreign: bool, kinds: &Kinds) -> Plan {
        let rng = &mut Rng::with_seed(seed);
        let nodes = [2, 3, 3, 3, 3, 3, 5][rng.usize(..7)];
        let quorum = rng.u8(..100) < 60;
        let death = rng.bool().then(|| rng.u32(5..=20));
        let verify = [Some(5), Some(20), None][rng.usize(..3)];
        let longest_switch = if rng.bool() { 2_000 } else { 12_000 };
        let may_be_without_one = death.is_some() && (nodes > 2 || !quorum);
        let mut plan = Plan {
            seed,
            hoster: Hoster::Robot,
            foreign,
            debian: rng.bool() && !foreign && Uwsgi::Debian.is_there(),
            nodes,
            quorum,
            death,
            tolerance: rng.u32(3..=5),
            verify,
            timeout: (rng.u8(..100) < 20).then(|| rng.u32(5..=15)),
            deadline: (rng.u8(..100) < 20).then(|| rng.u32(10..=40)),
            wrong_login: (may_be_without_one && rng.u8(..100) < 30).then(|| rng.usize(1..=nodes)),
            switch: Duration::from_millis(rng.u64(..=longest_switch)),
            length: Duration::from_secs(rng.u64(20..=60)),
            faults: Vec::new(),
            site: Site::default(),
        };
        let least = u32::try_from(plan.switch.as_secs()).expect("seconds") + 3;
        plan.deadline = plan.deadline.map(|deadline| deadline.max(least));
        for _ in 0..rng.usize(3..=8) {
            let fault = plan.draw_fault(rng);
            plan.faults.push(fault);
        }
        plan.draw_kinds(kinds);
        plan.faults.sort_by_key(|planned| planned.from);
        plan
    }

    /// The same with another API, which says other things where Robot's says what it does not mean.
    pub fn with(mut self, hoster: Hoster) -> Plan {
        self.hoster = hoster;
        for planned in &mut self.faults {
            if let Fault::Api(lie) = &mut planned.fault {
                *lie = hoster.lie(lie);
            }
        }
        self
    }

    /// What real installations have, each from a generator of its own.
    fn draw_kinds(&mut self, kinds: &Kinds) {
        let mut seeds = Rng::with_seed(!self.seed);
        for (kind, ..) in Kind::ALL {
            let rng = &mut Rng::with_seed(seeds.u64(..));
            let roll = rng.u8(..100);
            if kinds.draw(kind, roll) && !(self.is_moved() && matches!(kind, Kind::Second | Kind::Ips)) {
                self.draw_site(kind, rng);
            }
        }
    }

    /// Whether the IP is moved by hand.
    fn is_moved(&self) -> bool {
        self.faults.iter().any(|planned| matches!(planned.fault, Fault::Move(_)))
    }

    fn draw_site(&mut self, kind: Kind, rng: &mut Rng) {
        let nodes = self.nodes;
        // As above.
        let node = |rng: &mut Rng| if rng.u8(..100) < 40 { 1 } else { rng.usize(1..=nodes) };
        match kind {
            Kind::Away => {
                let from = self.draw_time(rng);
                let until = from + tenths(rng, Duration::from_secs(60), Duration::from_secs(90));
                self.length = self.length.max(until);
                self.faults.push(Planned { from, until, fault: Fault::Away });
            }
            Kind::Pause => {
                for _ in 0..rng.usize(1..=2) {
                    let fault = Fault::Pause(node(rng));
                    self.place(rng, fault);
                }
            }
            Kind::Log => {
                for _ in 0..rng.usize(1..=2) {
                    let fault = Fault::Log(node(rng));
                    self.place(rng, fault);
                }
            }
            Kind::Hooks => {
                self.site.draw_hooks(rng);
                if self.site.has_cmd() && rng.u8(..100) < 80 {
                    let all = (1..=nodes).collect();
                    let nodes = if rng.bool() { all } else { vec![node(rng)] };
                    let (from, until) = self.draw_election(rng);
                    self.faults.push(Planned { from, until, fault: Fault::Hook(nodes) });
                }
                if rng.bool() {
                    let fault = Fault::Stop(node(rng));
                    self.place(rng, fault);
                }
            }
            Kind::Uid => self.site.uid = true,
            Kind::Freq => self.site.draw_freqs(rng, nodes),
            Kind::Second => self.site.second = true,
            Kind::Clocks => self.site.draw_clocks(rng, nodes),
            Kind::Ips => self.site.draw_ips(rng),
            Kind::Strays => {
                let from = if rng.bool() { Duration::ZERO } else { self.draw_time(rng) };
                let until = tenths(rng, from + Duration::from_secs(10), from + Duration::from_secs(60));
                let fault = Fault::Strays(rng.u8(1..=7));
                self.faults.push(Planned { from, until: until.min(self.length), fault });
            }
            Kind::Reloads => self.draw_reloads(rng),
            Kind::Sick => self.draw_sick(rng),
            Kind::Drains => self.draw_drains(rng),
            Kind::Nopreempt => self.site.draw_preempt(rng),
            Kind::Silent => self.draw_silent(rng),
            Kind::Command => self.draw_command(rng),
        }
    }

    /// A time in which there probably is an election: the first one, or the one that follows when a node is gone. At other
    /// times a hook that fails is of no matter.
    fn draw_election(&self, rng: &mut Rng) -> (Duration, Duration) {
        let gone: Vec<_> = self.faults.iter().filter(|planned| planned.fault.node().is_some()).collect();
        let from = match rng.choice(gone).filter(|_| rng.u8(..100) < 70) {
            Some(gone) => gone.from,
            None => Duration::ZERO,
        };
        let until = tenths(rng, from + Duration::from_secs(5), from + Duration::from_secs(40));
        (from, until.min(self.length))
    }

    /// On one node or on all, at an election as often as at any time.
    fn draw_command(&mut self, rng: &mut Rng) {
        for _ in 0..rng.usize(1..=2) {
            let node = if rng.u8(..100) < 50 { 1 } else { rng.usize(1..=self.nodes) };
            let Some((trouble, _)) = Trouble::ALL.get(rng.usize(..=Trouble::ALL.len())) else {
                self.place(rng, Fault::Missing(node));
                continue;
            };
            let nodes = if rng.u8(..100) < 40 { (1..=self.nodes).collect() } else { vec![node] };
            let (from, until) = self.draw_election(rng);
            self.faults.push(Planned { from, until, fault: Fault::Command(nodes, *trouble) });
        }
    }

    /// Finds a time for a fault that has an end. Where its node has no room for it, it is none.
    fn place(&mut self, rng: &mut Rng, fault: Fault) {
        for _ in 0..100 {
            let from = self.draw_time(rng);
            let until =
                tenths(rng, from + Duration::from_secs(2), from + Duration::from_secs(25)).min(self.length);
            let planned = Planned { from, until, fault: fault.clone() };
            // Nothing may be missing yet when a node reads its ini.
            let too_early = matches!(fault, Fault::Missing(_)) && from < STARTED;
            if !too_early && !self.faults.iter().any(|other| planned.is_in_the_way_of(other)) {
                self.faults.push(planned);
                return;
            }
        }
    }

    /// A fault that leaves each node's process one fault at a time.
    fn draw_fault(&self, rng: &mut Rng) -> Planned {
        loop {
            let fault = self.draw_kind(rng);
            let from = self.draw_time(rng);
            let until = if !fault.has_an_end() {
                from
            } else if rng.u8(..100) < 30 {
                // So that several end at once.
                self.length
            } else {
                tenths(rng, from + Duration::from_secs(2), from + Duration::from_secs(25)).min(self.length)
            };
            let planned = Planned { from, until, fault };
            if !self.faults.iter().any(|other| planned.is_in_the_way_of(other)) {
                return planned;
            }
        }
    }

    /// Any time; or, as often, one about when another fault begins: an API that fails matters when a node has to ask it.
    fn draw_time(&self, rng: &mut Rng) -> Duration {
        let (first, last) = (Duration::from_secs(2), self.length - Duration::from_secs(2));
        match rng.choice(&self.faults).filter(|_| rng.bool()) {
            Some(other) => {
                let from = other.from.saturating_sub(Duration::from_secs(2));
                tenths(rng, from.max(first), (from + Duration::from_secs(8)).min(last))
            }
            None => tenths(rng, first, last),
        }
    }

    fn draw_kind(&self, rng: &mut Rng) -> Fault {
        // Node 1 is Lord as long as nothing is wrong.
        let node = if rng.u8(..100) < 40 { 1 } else { rng.usize(1..=self.nodes) };
        match rng.u8(..20) {
            0..3 => Fault::Kill(node),
            3..6 => Fault::Freeze(node),
            6..8 => Fault::Reload(node),
            8..12 => self.draw_links(rng, node),
            12..14 => Fault::Slow(tenths(rng, Duration::from_secs(2), SLOWEST_SWITCH)),
            14..16 if self.verify.is_some() => Fault::Move((node > 1).then_some(node)),
            _ => Fault::Api(LIES[rng.usize(..LIES.len())]),
        }
    }

    fn draw_links(&self, rng: &mut Rng, node: usize) -> Fault {
        let pairs = (1..=self.nodes).flat_map(|from| (1..=self.nodes).map(move |to| (from, to)));
        let mut links: Vec<(usize, usize)> = pairs.filter(|(from, to)| from != to).collect();
        let cut = Weather { cut: true, ..Weather::default() };
        let (what, weather) = match rng.u8(..6) {
            0 => {
                links.retain(|(from, to)| *from == node || *to == node);
                (format!("cut off {node}"), cut)
            }
            1 => {
                links.retain(|(from, _)| *from == node);
                (format!("cut from {node}"), cut)
            }
            2 => {
                links.retain(|(_, to)| *to == node);
                (format!("cut to {node}"), cut)
            }
            3 => {
                rng.shuffle(&mut links);
                links.truncate(rng.usize(1..=links.len()));
                let arrows = links.iter().map(|(from, to)| format!(" {from}→{to}"));
                (format!("cut{}", arrows.collect::<String>()), cut)
            }
            _ => {
                let (loss, duplicate) = (rng.u8(..60), rng.u8(..60));
                let delay = tenths(rng, Duration::ZERO, Duration::from_secs(2));
                let what = format!("loss {loss}% twice {duplicate}% delay {delay:?}");
                (what, Weather { loss, duplicate, delay, ..Weather::default() })
            }
        };
        Fault::Links { what, links, weather }
    }

    pub fn uwsgi(&self) -> Uwsgi {
        if self.debian { Uwsgi::Debian } else { Uwsgi::Pypi }
    }

    /// The Legions of every node.
    pub fn legions(&self) -> &'static [&'static str] {
        if self.site.second { &[LEGION, SECOND] } else { &[LEGION] }
    }

    /// Lines for the ini of node N.
    pub fn ini(&self, node: usize) -> String {
        let (freq, tolerance) = (self.site.freq(node), self.tolerance());
        let mut ini = format!("log-date = true\nlegion-freq = {freq}\nlegion-tolerance = {tolerance}\n");
        for legion in self.legions().iter().filter(|_| self.quorum) {
            ini += &format!("legion-quorum = {legion} {}\n", self.nodes / 2 + 1);
        }
        if let Some(death) = self.death {
            ini += &format!("legion-death-on-lord-error = {death}\n");
        }
        ini
    }

    fn tolerance(&self) -> u32 {
        match self.site.longest_freq() {
            1 => self.tolerance,
            longest => self.tolerance.max(2 * longest + 1),
        }
    }

    /// Whether the log of node N is blocked at some time.
    pub fn blocks_log(&self, node: usize) -> bool {
        self.faults.iter().any(|planned| planned.fault == Fault::Log(node))
    }

    /// Whether the user that node N becomes may read its password's file.
    pub fn user_reads_password(&self, node: usize) -> bool {
        let reloads = |node| self.faults.iter().any(|planned| planned.fault.reloads() == Some(node));
        // The first one that reloads may be lost as one with a wrong login may be, if there is none.
        let first = (1..=self.nodes).find(|node| reloads(*node));
        let may_be_lost =
            self.death.is_some() && (self.nodes > 2 || !self.quorum) && self.wrong_login.is_none();
        reloads(node) && !(may_be_lost && first == Some(node))
    }

    /// How long there may be no one Lord with the IP, once every fault is over.
    pub fn patience(&self) -> Duration {
        // One thread runs the hooks of all Legions, one after the other.
        let others = u32::from(self.site.second) + u32::from(self.site.ips == Ips::TwoHooks);
        let in_line = (self.switch + Duration::from_secs(15)) * others;
        // An election takes some rounds.
        let rounds = Duration::from_secs(8) * (self.site.longest_freq() - 1);
        let delay = match self.site.preempt {
            Preempt::After(seconds) => Duration::from_secs(seconds.into()),
            Preempt::AtOnce | Preempt::Never => Duration::ZERO,
        };
        QUIET + in_line + rounds + delay + self.longest_pause()
    }

    /// For how long it may be that nobody tries a takeover, though all faults are over by which one has failed.
    fn longest_pause(&self) -> Duration {
        let fails = |planned: &&Planned| match planned.fault {
            Fault::Api(_) | Fault::Slow(_) | Fault::Away => true,
            Fault::Command(..) | Fault::Missing(_) => true,
            Fault::Hook(_) => self.death.is_some(),
            _ => false,
        };
        let failing = self.faults.iter().filter(fails).map(|planned| planned.until - planned.from);
        let Some(death) = self.death else {
            // A Lord without its IP doubles its pauses, so that the last one is as long as all before.
            let longest = failing.max().unwrap_or_default();
            return if longest > QUIET / 2 { longest.min(LONGEST_PAUSE) } else { Duration::ZERO };
        };
        // As many failures as there may be, and the pause that follows the last.
        let (failing, mut tried) = (failing.sum::<Duration>(), Duration::ZERO);
        let mut pause = Duration::from_secs(death.into());
        for longer in PAUSES.map(Duration::from_secs) {
            tried += pause;
            if tried >= failing {
                break;
            }
            pause = pause.max(longer);
        }
        pause
    }

    /// Keys for every hook.
    pub fn keys(&self) -> String {
        let ours = |value: Option<u32>| value.filter(|_| !self.foreign);
        let hangs = |planned: &Planned| matches!(planned.fault, Fault::Command(_, Trouble::Hangs));
        let timeout = self.timeout.or(self.faults.iter().any(hangs).then_some(HANGS));
        let keys = [("timeout", timeout), ("deadline", ours(self.deadline)), ("verify", ours(self.verify))];
        let keys = keys.iter().filter_map(|(key, value)| Some(format!(",{key}={}", (*value)?)));
        keys.collect()
    }
}

/// A time to a tenth of a second.
fn tenths(rng: &mut Rng, from: Duration, to: Duration) -> Duration {
    let tenths = |time: Duration| u64::try_from(time.as_millis() / 100).expect("a minute or so");
    Duration::from_millis(rng.u64(tenths(from)..=tenths(to)) * 100)
}

impl fmt::Display for Plan {
    /// In a few words.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} nodes, {}", self.nodes, self.uwsgi())?;
        if self.quorum {
            write!(f, ", quorum")?;
        }
        let numbers = [
            ("tolerance", Some(self.tolerance())),
            ("death", self.death),
            ("verify", self.verify),
            ("timeout", self.timeout),
            ("deadline", self.deadline),
        ];
        for (name, number) in numbers {
            number.map_or(Ok(()), |number| write!(f, ", {name} {number}"))?;
        }
        if let Some(node) = self.wrong_login {
            write!(f, ", wrong login on {node}")?;
        }
        write!(f, "{}", self.site)?;
        for Planned { from, fault, .. } in &self.faults {
            write!(f, "; {:.0} s {fault}", from.as_secs_f64())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
