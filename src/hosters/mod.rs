//! The seam between the takeover and whoever runs the network: all that another hoster has to provide.

mod ledger;
pub mod robot;

use std::net::IpAddr;
use std::time::Duration;

/// Where a failover IP is routed; `None` is nowhere.
pub type Route = Option<IpAddr>;

/// What is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Request {
    Look,
    Switch,
    /// Counted with the switches; refused apart from them.
    Release,
}

/// What a question is for, where a budget has to choose.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Need {
    /// The first switch that an election asks for: no number of earlier ones holds it back.
    Election,
    /// A step of a takeover.
    Takeover,
    /// Whether all is well. Leaves room for takeovers.
    Check,
}

/// One failover IP at one hoster. Each question blocks until the hoster has answered, but no longer than
/// `limit`.
pub trait Hoster {
    /// Who is asked, for the log: `HOST, at most 60 s`.
    fn describe(&self) -> String;

    /// Routes the failover IP to `target`. On success the text says what came back. `begin` is called when nothing here
    /// holds the request back.
    fn route_to(
        &self,
        target: IpAddr,
        need: Need,
        limit: Duration,
        begin: &dyn Fn(),
    ) -> Result<String, Failure>;

    /// Says where the failover IP is routed.
    fn whereabouts(&self, need: Need, limit: Duration) -> Result<Route, Failure>;

    /// Routes the failover IP nowhere, and says where it is routed then.
    fn release(&self, limit: Duration) -> Result<Route, Failure>;
}

/// Why a question got no clear answer, and what that means for the next one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    pub kind: Kind,
    pub stage: Stage,
    /// For the log.
    pub sentence: String,
}

/// What a failure means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Asking again changes nothing, or makes it worse.
    Final,
    /// No more of such requests for now, by a budget of ours or by the hoster's limit. Others may be accepted.
    HeldBack,
    /// The hoster wants no more requests for now, whatever they ask for; it has said so, or lately.
    Refused,
    /// Another switch of this failover IP is under way.
    Locked,
    /// The hoster was not reached.
    NotSent,
    /// The hoster has answered, and it is not done.
    NotDone,
    /// Whether it was done, or is under way, is unknown.
    Unknown,
}

/// How far a request came, and so what its failure is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// The way: nothing has reached the host.
    Way,
    /// The host has answered, or may have.
    Host,
    /// The login was rejected.
    Login,
    /// The login is right; the failover IP, or its target, is not.
    Address,
}

impl Failure {
    pub fn new(kind: Kind, stage: Stage, sentence: impl Into<String>) -> Failure {
        Failure { kind, stage, sentence: sentence.into() }
    }

    /// Nothing was sent, since something is missing on this side.
    pub fn not_sent(sentence: impl Into<String>) -> Failure {
        Failure::new(Kind::NotSent, Stage::Way, sentence)
    }

    /// Whether the hoster may have got the request.
    pub fn was_sent(&self) -> bool {
        self.stage != Stage::Way
    }

    pub fn is_rejected_login(&self) -> bool {
        self.stage == Stage::Login
    }
}
