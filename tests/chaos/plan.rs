//! What a seed stands for: a Legion with its options, and a schedule of faults. All of it is drawn before anything
//! starts.
//!
//! What no plugin can mend within a minute is not drawn, rather than excused afterwards:
//!
//! - A login that is rejected is held back for ten minutes, for the third one locks the server's address out. So at
//!   most one node has a wrong one, and only with `legion-death-on-lord-error`, without which uWSGI makes it Lord
//!   all the same; and not in a Legion of two with a quorum, where the other alone is none.
//! - The API answers no 403: whoever gets one has to keep quiet for longer than a minute.
//! - No request is left hanging: a client notices that after its `timeout`, which is a minute by default.
//! - The IP is moved by hand only where `verify` says that a Lord asks more often than every five minutes.
//! - A takeover is given more time than a switch takes: uWSGI is told at start where it is not.
//! - A link holds datagrams for less than the tolerance: what comes later is as good as lost.

use std::fmt;
use std::time::Duration;

use fastrand::Rng;

use crate::support::links::Weather;
use crate::support::uwsgi::Uwsgi;

/// The longest switch, and so the longest time that a fault can outlast its end.
const SLOWEST_SWITCH: Duration = Duration::from_secs(30);
/// Until a master that was started or reloaded has surely set its signals up: a signal before that ends it, or the
/// next fault of the same node would be no other.
const APART: Duration = Duration::from_secs(6);

/// What the API says and does not mean. Each is in force for a while, for every request that it names.
const LIES: [&str; 21] = [
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

/// What goes wrong. Nodes are numbered from 1.
#[derive(Clone, PartialEq, Debug)]
pub enum Fault {
    /// SIGKILL to a node and its workers; at the end it is started again.
    Kill(usize),
    /// SIGSTOP, and SIGCONT at the end.
    Freeze(usize),
    /// SIGHUP, which makes the master start over. It has no end.
    Reload(usize),
    /// Some links, from one node to another, are bad.
    Links { what: String, links: Vec<(usize, usize)>, weather: Weather },
    /// Each switch that begins takes so long.
    Slow(Duration),
    /// A rule of the stand-in.
    Api(&'static str),
    /// Somebody routes the IP there by hand. It has no end.
    Move(Option<usize>),
}

impl Fault {
    /// The node whose process it concerns.
    fn node(&self) -> Option<usize> {
        match self {
            Fault::Kill(node) | Fault::Freeze(node) | Fault::Reload(node) => Some(*node),
            _ => None,
        }
    }

    pub fn has_an_end(&self) -> bool {
        !matches!(self, Fault::Reload(_) | Fault::Move(_))
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Kill(node) => write!(f, "kill {node}"),
            Fault::Freeze(node) => write!(f, "freeze {node}"),
            Fault::Reload(node) => write!(f, "reload {node}"),
            Fault::Links { what, .. } => write!(f, "{what}"),
            Fault::Slow(time) => write!(f, "switch {time:?}"),
            Fault::Api(rule) => write!(f, "{rule}"),
            Fault::Move(Some(node)) => write!(f, "move to {node}"),
            Fault::Move(None) => write!(f, "move away"),
        }
    }
}

/// A fault and when it is in force.
#[derive(Clone, PartialEq, Debug)]
pub struct Planned {
    pub from: Duration,
    pub until: Duration,
    pub fault: Fault,
}

/// What a seed stands for.
#[derive(Clone, PartialEq, Debug)]
pub struct Plan {
    pub seed: u64,
    /// Whether it is for another plugin than ours, which was built for PyPI's uWSGI and knows only the seed's keys.
    pub foreign: bool,
    /// Whether it is Debian's uWSGI, rather than PyPI's.
    debian: bool,
    pub nodes: usize,
    quorum: bool,
    /// `legion-death-on-lord-error`, in seconds.
    death: Option<u32>,
    /// `legion-tolerance`, in seconds.
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
}

impl Plan {
    /// The plan of a seed, the same each time; another plugin meets the same faults.
    pub fn draw(seed: u64, foreign: bool) -> Plan {
        let rng = &mut Rng::with_seed(seed);
        let nodes = [2, 3, 3, 3, 3, 3, 5][rng.usize(..7)];
        let quorum = rng.u8(..100) < 60;
        let death = rng.bool().then(|| rng.u32(5..=20));
        let verify = [Some(5), Some(20), None][rng.usize(..3)];
        let longest_switch = if rng.bool() { 2_000 } else { 12_000 };
        let may_be_without_one = death.is_some() && (nodes > 2 || !quorum);
        let mut plan = Plan {
            seed,
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
        };
        let least = u32::try_from(plan.switch.as_secs()).expect("seconds") + 3;
        plan.deadline = plan.deadline.map(|deadline| deadline.max(least));
        for _ in 0..rng.usize(3..=8) {
            let fault = plan.draw_fault(rng);
            plan.faults.push(fault);
        }
        plan.faults.sort_by_key(|planned| planned.from);
        plan
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
            let in_the_way = |other: &Planned| {
                fault.node().is_some()
                    && other.fault.node() == fault.node()
                    && from < other.until + APART
                    && other.from < until + APART
            };
            if !self.faults.iter().any(in_the_way) {
                return Planned { from, until, fault };
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
                (what, Weather { cut: false, loss, duplicate, delay })
            }
        };
        Fault::Links { what, links, weather }
    }

    pub fn uwsgi(&self) -> Uwsgi {
        if self.debian { Uwsgi::Debian } else { Uwsgi::Pypi }
    }

    /// Lines for every ini.
    pub fn ini(&self) -> String {
        let mut ini = format!("log-date = true\nlegion-freq = 1\nlegion-tolerance = {}\n", self.tolerance);
        if self.quorum {
            ini += &format!("legion-quorum = {} {}\n", crate::support::legion::LEGION, self.nodes / 2 + 1);
        }
        if let Some(death) = self.death {
            ini += &format!("legion-death-on-lord-error = {death}\n");
        }
        ini
    }

    /// Keys for every hook.
    pub fn keys(&self) -> String {
        let ours = |value: Option<u32>| value.filter(|_| !self.foreign);
        let keys =
            [("timeout", self.timeout), ("deadline", ours(self.deadline)), ("verify", ours(self.verify))];
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
            ("tolerance", Some(self.tolerance)),
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
        for Planned { from, fault, .. } in &self.faults {
            write!(f, "; {:.0} s {fault}", from.as_secs_f64())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_a_schedule_and_another_plugin_meets_the_same() {
        for seed in 0..100 {
            let plan = Plan::draw(seed, false);
            assert_eq!(plan, Plan::draw(seed, false));
            assert_eq!(plan.faults, Plan::draw(seed, true).faults);
            assert_ne!(plan.faults, Plan::draw(seed + 1, false).faults);
        }
        let foreign = (0..100).map(|seed| Plan::draw(seed, true));
        assert!(
            foreign
                .into_iter()
                .all(|plan| !plan.keys().contains("verify") && !plan.keys().contains("deadline"))
        );
    }

    #[test]
    fn the_old_seeds_are_what_they_were() {
        let mut digest: u64 = 0xcbf2_9ce4_8422_2325;
        for seed in 1..=500 {
            let plan = Plan { debian: false, ..Plan::draw(seed, false) };
            let mut text = format!("{plan} {:?} {:?}", plan.switch, plan.length);
            for Planned { from, until, fault } in &plan.faults {
                text += &format!(" {from:?} {until:?} {fault}");
            }
            for byte in text.bytes() {
                digest = (digest ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
            }
        }
        assert_eq!(digest, 7_854_992_369_400_727_659);
    }

    #[test]
    fn every_fault_is_drawn_and_over_in_time_and_what_nobody_can_mend_is_not_drawn() {
        let plans: Vec<Plan> = (0..2000).map(|seed| Plan::draw(seed, false)).collect();
        for plan in &plans {
            assert!((3..=8).contains(&plan.faults.len()));
            assert!(
                plan.faults
                    .iter()
                    .all(|planned| planned.from <= planned.until && planned.until <= plan.length)
            );
            assert!(
                plan.deadline.is_none_or(|deadline| u64::from(deadline) > plan.switch.as_secs() + 1),
                "{plan}"
            );
            if plan.wrong_login.is_some() {
                assert!(plan.death.is_some() && (plan.nodes > 2 || !plan.quorum), "{plan}");
            }
            let moved = plan.faults.iter().any(|planned| matches!(planned.fault, Fault::Move(_)));
            assert!(!moved || plan.verify.is_some(), "{plan}");
            for (number, one) in plan.faults.iter().enumerate() {
                for other in &plan.faults[number + 1..] {
                    let same = one.fault.node().is_some() && one.fault.node() == other.fault.node();
                    assert!(!same || one.until + APART <= other.from, "{plan}");
                }
            }
        }
        let texts: String = plans.iter().map(ToString::to_string).collect();
        let others = [
            "kill 1",
            "freeze 5",
            "reload 2",
            "cut off 1",
            "cut from 2",
            "cut to 3",
            "cut 1→2",
            "loss ",
            "switch ",
        ];
        for fault in others.iter().chain(&["move to 2", "move away", "wrong login on 3"]).chain(&LIES) {
            assert!(texts.contains(fault), "{fault} is never drawn");
        }
    }
}
