//! What goes wrong in a schedule, and when.

use std::fmt;
use std::time::Duration;

use lab::command::Trouble;
use lab::links::Weather;

/// Until a master that was started or reloaded has surely set its signals up: a signal before that ends it, or the
/// next fault of the same node would be no other.
pub const APART: Duration = Duration::from_secs(6);

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
    /// SIGSTOP, and what is sent to it or from it is lost, as when a whole machine is paused.
    Pause(usize),
    /// Nobody reads its log, and the pipe to it is full.
    Log(usize),
    /// SIGINT; at the end it is started again.
    Stop(usize),
    /// The command beside our hook fails on these.
    Hook(Vec<usize>),
    /// The API refuses connections, for longer than the rule of the same name.
    Away,
    /// Behind each announcement come so many datagrams that are none. It is no trouble of any node.
    Strays(u8),
    /// SIGHUP, and the app takes so long to load.
    Deploy(usize, Duration),
    /// The service answers 404, or its check fails, on these.
    Sick(Vec<usize>),
    /// The drain file of a node is there.
    Drain(usize),
    /// The command that is called does that on these.
    Command(Vec<usize>, Trouble),
    /// The command of a node is not there. Whoever starts without it has a wrong ini, so that nothing else befalls the node.
    Missing(usize),
}

impl Fault {
    /// The node whose process it concerns: one fault at a time.
    pub fn node(&self) -> Option<usize> {
        match self {
            Fault::Kill(node) | Fault::Freeze(node) | Fault::Reload(node) => Some(*node),
            Fault::Pause(node) | Fault::Log(node) | Fault::Stop(node) | Fault::Deploy(node, _) => Some(*node),
            Fault::Missing(node) => Some(*node),
            _ => None,
        }
    }

    /// The node whose master starts over.
    pub fn reloads(&self) -> Option<usize> {
        match self {
            Fault::Reload(node) | Fault::Deploy(node, _) => Some(*node),
            _ => None,
        }
    }

    /// What it makes of the link from one node to another.
    pub fn weather(&self, from: usize, to: usize) -> Weather {
        match self {
            Fault::Links { links, weather, .. } if links.contains(&(from, to)) => *weather,
            Fault::Pause(node) if from == *node || to == *node => Weather { cut: true, ..Weather::default() },
            Fault::Strays(strays) => Weather { strays: *strays, ..Weather::default() },
            _ => Weather::default(),
        }
    }

    /// Whether a node is not well while it is in force. One that is reloaded is: it remains what it was; and so is one that has
    /// the IP and cannot ask for it.
    pub fn concerns(&self, node: usize) -> bool {
        match self {
            Fault::Reload(_) | Fault::Deploy(..) | Fault::Missing(_) => false,
            Fault::Links { links, .. } => links.iter().any(|(from, to)| *from == node || *to == node),
            Fault::Sick(nodes) => nodes.contains(&node),
            Fault::Drain(drained) => *drained == node,
            _ => self.node() == Some(node),
        }
    }

    /// Whether it is a reason for a switch of any kind, of `nodes` in all: where all are sick the IP stays where it is.
    pub fn disturbs(&self, nodes: usize) -> bool {
        match self {
            Fault::Reload(_) | Fault::Deploy(..) | Fault::Slow(_) | Fault::Strays(_) => false,
            Fault::Sick(sick) => sick.len() < nodes,
            _ => true,
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
            Fault::Pause(node) => write!(f, "pause {node}"),
            Fault::Log(node) => write!(f, "log of {node} blocked"),
            Fault::Stop(node) => write!(f, "stop {node}"),
            Fault::Hook(nodes) => write!(f, "hook fails on {nodes:?}"),
            Fault::Away => write!(f, "API away"),
            Fault::Strays(strays) => write!(f, "strays {strays}"),
            Fault::Deploy(node, load) => write!(f, "deploy {node}, loads {} s", load.as_secs()),
            Fault::Sick(nodes) => write!(f, "sick {nodes:?}"),
            Fault::Drain(node) => write!(f, "drain {node}"),
            Fault::Command(nodes, trouble) => write!(f, "command {} on {nodes:?}", trouble.name()),
            Fault::Missing(node) => write!(f, "command of {node} missing"),
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

impl Planned {
    /// Whether both concern one process at one time.
    pub fn is_in_the_way_of(&self, other: &Planned) -> bool {
        self.fault.node().is_some()
            && other.fault.node() == self.fault.node()
            && self.from < other.until + APART
            && other.from < self.until + APART
    }
}
