//! The seam between failover and the company that runs the network: what a hoster provides, and the one table of hosters.
//!
//! A hoster is a folder beside this file and a line in [`each`]. Only that folder knows how a server is named, how a
//! request is sent and how often one may be sent. The core asks only whether the IP is here, whether it has moved, and how
//! to say so in the log.

mod answer;
mod cloud;
mod command;
pub mod ledger;
mod robot;

use std::borrow::Cow;
use std::ffi::CStr;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use ureq::http::Uri;

use crate::config::{Common, Pace, Remark, Secret, host_of, is_local};
use crate::https::{TrustStore, authority, seconds};
use crate::metrics::Metrics;
use crate::sys::lock;
pub use cloud::OwnServer;
pub use command::Lines;
use ledger::Ledger;
#[cfg(feature = "fuzz")]
pub mod fuzz {
    pub use super::cloud::{check_answer as check_cloud_answer, check_options as check_cloud_options};
    pub use super::robot::{check_answer, check_options};
}

/// Calls `visitor` with each hoster. This is the table: a new hoster is a line here.
pub fn each(visitor: &mut impl Visitor) {
    visitor.visit::<robot::Robot>();
    visitor.visit::<cloud::Cloud>();
    visitor.visit::<command::Command>();
}

/// Whether this action takes failover IPs over.
pub fn takes_over(action: &CStr) -> bool {
    struct Is<'a>(&'a CStr, bool);
    impl Visitor for Is<'_> {
        fn visit<H: Hoster>(&mut self) {
            self.1 |= H::ABOUT.takes_over == self.0;
        }
    }
    let mut is = Is(action, false);
    each(&mut is);
    is.1
}

/// Gets each hoster as a type, because uWSGI passes no data to an action, so that each needs a function of its own.
pub trait Visitor {
    fn visit<H: Hoster>(&mut self);
}

pub trait Hoster: 'static {
    const ABOUT: About;
}

/// What is known of a hoster before it is asked anything.
pub struct About {
    /// The Legion action that takes failover IPs over, and the one that releases them.
    pub takes_over: &'static CStr,
    pub releases: &'static CStr,
    /// The key that says which server an IP is to be routed to.
    pub target_key: &'static str,
    pub words: Words,
    pub pace: Pace,
    /// Reads a hook's argument.
    pub read: fn(&[u8], &Surroundings<'_>) -> Read,
}

/// What a hoster calls what every hoster has, for the log.
pub struct Words {
    /// What it logs in with.
    pub secret: &'static str,
    /// The keys that it may be given with, for [`Words::secret`] in a configuration that others can read.
    pub secret_keys: &'static [&'static str],
    /// What is logged when the secret's file can be read, after it could not be.
    pub file_is_fine: &'static str,
    /// What `--hetzner-check` says is accepted, and what has the failover IP.
    pub login: &'static str,
    pub account: &'static str,
}

/// What a hook's argument is read with.
pub struct Surroundings<'a> {
    /// The name of its Legion.
    pub name: &'a str,
    /// The address that its Legion listens on, if the ini names one.
    pub legion: Option<IpAddr>,
    pub shared: &'static Shared,
}

/// What a hook's argument was read as.
pub struct Read {
    pub common: Common,
    /// One for each failover IP, in order; none if something is wrong.
    pub ips: Vec<Arc<dyn Remote>>,
    pub remarks: Vec<Remark>,
}

/// What all hooks of a process share.
pub struct Shared {
    pub ledger: LazyLock<Ledger>,
    pub trust: TrustStore,
    /// The failover IPs of all hooks. Each is on an interface of every server that may get it, so it does not identify one.
    pub failover_ips: Mutex<Vec<IpAddr>>,
    /// Which Cloud server this is.
    pub own_server: OwnServer,
    /// Whose turn it is to move an IP by a command.
    pub lines: Lines,
}

impl Shared {
    pub const fn new() -> Shared {
        Shared {
            ledger: LazyLock::new(Ledger::default),
            trust: TrustStore::new(),
            failover_ips: Mutex::new(Vec::new()),
            own_server: OwnServer::new(),
            lines: Lines::new(),
        }
    }

    /// Notes a hook's failover IPs.
    fn note_ips(&self, ips: impl IntoIterator<Item = IpAddr>) {
        let mut known = lock(&self.failover_ips);
        known.extend(ips);
        known.sort_unstable();
        known.dedup();
    }
}

/// One failover IP at its hoster, as one hook asks for it.
pub trait Remote: Send + Sync {
    /// As it is written in the log.
    fn ip(&self) -> &str;
    /// The server that the IP is to be routed to, in the hoster's words; or why that is not known now.
    fn target(&self) -> Result<String, String>;
    /// What has to be on an interface of this host: the key's name, and the address.
    fn local_addresses(&self) -> Vec<(&'static str, IpAddr)>;
    /// Gets all that is needed to ask, and counts the requests. What is missing now may be there later.
    fn open(&self, metrics: &'static Metrics) -> Result<Box<dyn Session + '_>, Failure>;
    /// What it logs in with, if it does.
    fn secret(&self) -> Option<&Secret>;
    /// Whom it asks, and how.
    fn way(&self) -> Way;
    /// The hoster and the login: a login that is rejected for one IP is rejected for all with the same account.
    fn account(&self) -> Vec<u8>;
    /// Tells failover IPs apart: equal for two hooks only if both mean the same IP.
    fn identity(&self) -> String;
    /// For how long this request must not be sent, if so.
    fn held_back_for(&self, request: Request, need: Need) -> Option<Duration>;
    /// The shortest time between two checks of one IP, if its account has `ips` of them.
    fn shortest_check_pause(&self, ips: usize) -> Duration;
    /// Notes that a guard is going to check this IP, for [`Remote::check_pause`].
    fn note_guard(&self);
    /// How long a guard waits until its next check; zero: for ever.
    fn check_pause(&self) -> Duration;
    /// What works, but may not work as expected.
    fn warnings(&self) -> Vec<String>;
    /// Whether it is a property of this host, such as an address on its interface: nobody but this node takes it away from
    /// here.
    fn is_of_this_host(&self) -> bool {
        false
    }
    /// What the last check has found beside the route: what keeps the IP from working wherever it is routed.
    fn trouble(&self) -> Option<String> {
        None
    }
}

/// A failover IP, with all that is needed to ask about it. Each call blocks until the hoster has answered, but no longer
/// than `limit`.
pub trait Session {
    /// The server that the IP is to be routed to, for the log.
    fn target(&self) -> &str;
    /// The request for a switch, for the log: `POST to HOST, at most 60 s`.
    fn describe(&self) -> String;
    /// Has the failover IP routed to the target. On success the text says what the hoster has answered. `begin` is called
    /// right before the request is sent, and not if it is held back. Who can take a request back does so when `goes_on` says
    /// that it is not wanted any more.
    fn bring_here(
        &self,
        need: Need,
        limit: Duration,
        begin: &dyn Fn(),
        goes_on: &dyn Fn() -> bool,
    ) -> Result<String, Failure>;
    /// Ends a switch that this process has under way, where that can be ended, and waits for that.
    fn end_switch(&self, _: Duration) {}
    /// Where the failover IP is.
    fn whereabouts(&self, need: Need, limit: Duration) -> Result<Place, Failure>;
    /// Has the failover IP routed nowhere, or at least not here; returns where it is then.
    fn release(&self, limit: Duration) -> Result<Place, Failure>;
}

/// How a hoster is asked.
pub enum Way {
    Api(Api),
    /// By a program on this host.
    Program(PathBuf),
}

impl Way {
    pub fn api(self) -> Option<Api> {
        match self {
            Way::Api(api) => Some(api),
            Way::Program(_) => None,
        }
    }
}

/// The API that is asked.
pub struct Api {
    /// Its name or address; and the same with its port, if one is given.
    pub host: String,
    pub authority: String,
    pub tls: Tls,
    /// Whether it is on this very host, as in a rehearsal.
    pub is_here: bool,
}

impl Api {
    fn of(url: &Uri, common: &Common) -> Api {
        let tls = match (url.scheme_str(), common.ssl_no_verify) {
            (Some("https"), false) => Tls::Verified,
            (Some("https"), true) => Tls::Unverified,
            _ => Tls::None,
        };
        let host = host_of(url);
        Api { host: host.into(), authority: authority(url).into(), tls, is_here: is_local(host) }
    }

    /// A request that changes something, for the log.
    fn post(url: &Uri, common: &Common) -> String {
        let unverified = if common.ssl_no_verify { ", its TLS certificate is NOT verified" } else { "" };
        format!("POST to {}, at most {} s{unverified}", authority(url), seconds(common.timeout))
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Tls {
    Verified,
    Unverified,
    None,
}

/// Where a failover IP is routed, in the hoster's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// To the target.
    Here(String),
    Elsewhere(String),
    Nowhere,
    /// All that is known is that it is not here.
    NotHere,
}

impl Place {
    pub fn is_here(&self) -> bool {
        matches!(self, Place::Here(_))
    }

    /// For the log, of one that should be here.
    pub fn and_not_here(&self) -> String {
        if *self == Place::NotHere { self.to_string() } else { format!("{self}, not here") }
    }

    pub fn server(&self) -> Option<&str> {
        match self {
            Place::Here(server) | Place::Elsewhere(server) => Some(server),
            Place::Nowhere | Place::NotHere => None,
        }
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Place::Here(server) | Place::Elsewhere(server) => write!(f, "routed to {}", named(server)),
            Place::Nowhere => f.write_str("routed nowhere"),
            Place::NotHere => f.write_str("not here"),
        }
    }
}

/// A server for the log: a number alone would not say what it is.
pub fn named(server: &str) -> Cow<'_, str> {
    let is_number = !server.is_empty() && server.bytes().all(|byte| byte.is_ascii_digit());
    if is_number { format!("server {server}").into() } else { server.into() }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Request {
    /// Where the IP is.
    Look,
    Switch,
    /// Shares a limit with switches, but may be refused on its own.
    Release,
}

/// What a request is for, which decides if it may be sent when few are left of the hoster's limit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Need {
    /// The first switch of an election: earlier ones never hold it back.
    Election,
    /// A step of a takeover.
    Takeover,
    /// A check that all is well. Leaves room for takeovers.
    Check,
}

/// Why a request got no clear answer, and what that means for the next one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    pub kind: Kind,
    pub stage: Stage,
    /// For the log.
    pub sentence: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Asking again would not help, or would do harm.
    Final,
    /// No more requests of this kind for now, because of a limit, the plugin's or the hoster's. Others may be accepted.
    HeldBack,
    /// The hoster wants no more requests of any kind for now: it says so, or has said so lately.
    Refused,
    /// Another switch of this failover IP is under way.
    Locked,
    /// Nothing has happened: the hoster was not reached, or wants to be asked again in a moment.
    NotSent,
    /// The hoster has answered that it was not done.
    NotDone,
    /// It may have been done, or be under way.
    Unknown,
}

/// How far a request came, and so what its failure is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Nothing has reached the host.
    Way,
    /// The host has answered, or may have.
    Host,
    /// The login was rejected.
    Login,
    /// The login is right, but the failover IP or its target is wrong.
    Address,
}

impl Failure {
    pub fn new(kind: Kind, stage: Stage, sentence: impl Into<String>) -> Failure {
        Failure { kind, stage, sentence: sentence.into() }
    }

    /// Nothing was sent, because something is missing on this side.
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
