//! The seam between a failover and whoever runs the network: what a hoster provides, and the one table of hosters.
//!
//! A hoster is a folder beside this file and a line in [`each`]. How a server is named, how a request is sent and how
//! often one may be sent are known in that folder alone. The core asks only: is the IP here, is it where it was, and how
//! is that said in words.

pub mod ledger;
mod robot;

use std::ffi::CStr;
use std::net::IpAddr;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use crate::config::{Common, Pace, Remark, Secret};
use crate::https::TrustStore;
use crate::metrics::Metrics;
use ledger::Ledger;
#[cfg(feature = "fuzz")]
pub use robot::check_answer;

/// Calls `visitor` with each hoster. This is the table: a new hoster is a line here.
pub fn each(visitor: &mut impl Visitor) {
    visitor.visit::<robot::Robot>();
}

/// Whoever needs the hosters as types, as uWSGI's actions do: they get no data, so each has to be a function of its own.
pub trait Visitor {
    fn visit<H: Hoster>(&mut self);
}

/// One hoster.
pub trait Hoster: 'static {
    const ABOUT: About;
}

/// What there is to know of a hoster before it is asked anything.
pub struct About {
    /// The Legion action that takes failover IPs over, and the one that releases them.
    pub takes_over: &'static CStr,
    pub releases: &'static CStr,
    /// The key that says which server an IP is to be routed to.
    pub target_key: &'static str,
    pub pace: Pace,
    /// Reads a hook's argument.
    pub read: fn(&[u8], &Surroundings) -> Read,
}

/// Where a hook stands.
pub struct Surroundings {
    /// The address that its Legion listens at, if one is named.
    pub legion: Option<IpAddr>,
    pub shared: &'static Shared,
}

/// What a hook's argument was read as.
pub struct Read {
    pub common: Common,
    /// One for each failover IP, in order; none where something is wrong.
    pub ips: Vec<Arc<dyn Remote>>,
    pub remarks: Vec<Remark>,
}

/// What all hooks of a process share.
pub struct Shared {
    pub ledger: LazyLock<Ledger>,
    pub trust: TrustStore,
    /// The failover IPs of all hooks. They are on an interface of each server that may get them, and no server's own.
    pub failover_ips: Mutex<Vec<IpAddr>>,
}

impl Shared {
    pub const fn new() -> Shared {
        Shared {
            ledger: LazyLock::new(Ledger::default),
            trust: TrustStore::new(),
            failover_ips: Mutex::new(Vec::new()),
        }
    }
}

/// One failover IP at its hoster, as one hook asks for it.
pub trait Remote: Send + Sync {
    /// As it is written in the log.
    fn ip(&self) -> &str;

    /// Which server the IP is to be routed to, in the hoster's words; or why that is not known now.
    fn target(&self) -> Result<String, String>;

    /// What has to be on an interface of this host: what it is called, and the address.
    fn local_addresses(&self) -> Vec<(&'static str, IpAddr)>;

    /// Gets all that is needed to ask, and counts what is asked. What is missing now may be there later.
    fn open(&self, metrics: &'static Metrics) -> Result<Box<dyn Session + '_>, Failure>;

    /// Whether it needs the system's trusted CAs.
    fn needs_trust_store(&self) -> bool {
        self.api().tls == Tls::Verified
    }

    /// What it logs in with.
    fn secret(&self) -> &Secret;

    /// Whom it asks.
    fn api(&self) -> Api;

    /// Who is asked with which login: what is the same for two of these fails for both.
    fn account(&self) -> Vec<u8>;

    /// What is the same for two hooks of one failover IP, and for no others.
    fn identity(&self) -> String;

    /// For how long from now this is not to be asked, if so.
    fn held_back_for(&self, request: Request, need: Need) -> Option<Duration>;

    /// The shortest time between two checks of each of so many IPs of its account.
    fn shortest_check_pause(&self, ips: usize) -> Duration;

    /// Notes a guard that is going to check this IP, for [`Remote::check_pause`].
    fn note_guard(&self);

    /// How long a guard waits for its next check; zero is never.
    fn check_pause(&self) -> Duration;

    /// What works, but not as one may think.
    fn warnings(&self) -> Vec<String>;
}

/// A failover IP that can be asked about now. Each call blocks until the hoster has answered, but no longer than
/// `limit`.
pub trait Session {
    /// Which server the IP is to be routed to, in the hoster's words.
    fn target(&self) -> &str;

    /// How it is asked for the switch, for the log: `POST to HOST, at most 60 s`.
    fn describe(&self) -> String;

    /// Has the failover IP routed to the target. On success the text says what came back. `begin` is called when nothing
    /// on this side holds the request back.
    fn bring_here(&self, need: Need, limit: Duration, begin: &dyn Fn()) -> Result<String, Failure>;

    /// Where the failover IP is.
    fn whereabouts(&self, need: Need, limit: Duration) -> Result<Place, Failure>;

    /// Has the failover IP routed nowhere, and says where it is then.
    fn release(&self, limit: Duration) -> Result<Place, Failure>;
}

/// Who answers, and how this is made sure of.
pub struct Api {
    /// Its name or address; and with its port, where one is given.
    pub host: String,
    pub authority: String,
    pub tls: Tls,
    /// Whether it is on this very host, as in a rehearsal.
    pub is_here: bool,
}

/// Whether the other side's certificate is verified.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Tls {
    Verified,
    Unverified,
    None,
}

/// Where a failover IP is routed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// To the target; in the hoster's words.
    Here(String),
    /// To another server.
    Elsewhere(String),
    Nowhere,
}

impl Place {
    pub fn is_here(&self) -> bool {
        matches!(self, Place::Here(_))
    }

    /// The server, where there is one.
    pub fn server(&self) -> Option<&str> {
        match self {
            Place::Here(server) | Place::Elsewhere(server) => Some(server),
            Place::Nowhere => None,
        }
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.server() {
            Some(server) => write!(f, "routed to {server}"),
            None => f.write_str("routed nowhere"),
        }
    }
}

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
