//! A stand-in for Hetzner's Cloud API, as far as floating IPs go, and for the metadata service.
//!
//! Tests use it in-process; `cargo run -p lab --bin cloud -- --help` is the same as a program. `call` reads a request,
//! `state` is the Projects and what is in them, `action` what runs there, `answer` has the documented errors; all else is
//! shared (`standin`).

mod action;
mod answer;
mod call;
mod own;
mod state;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::mpsc::Sender;
use std::time::Duration;

use crate::standin::{self, Door, StandIn};

pub use self::{own::Own, state::Account};
pub use crate::standin::{Answer, Certificate, Method, Request, duration};

pub type Event = standin::Event<u64>;
pub type Fault = standin::Fault<Own>;
pub type Rule = standin::Rule<Own>;
/// A stand-in that runs. On drop it closes all connections and is gone.
pub type Cloud = StandIn<Account>;

/// A floating IP, with those fields of the API's object that differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FloatingIp {
    pub id: u64,
    pub name: String,
    /// An IPv6 one is a /64.
    pub ip: IpAddr,
    /// The server that it is assigned to.
    pub server: Option<u64>,
    /// For abuse: assigned or not, it is unreachable.
    pub blocked: bool,
    /// The Project that it belongs to.
    pub project: String,
}

impl FloatingIp {
    /// One of the Project that is meant where none is named.
    pub fn new(id: u64, ip: IpAddr, server: Option<u64>) -> FloatingIp {
        FloatingIp {
            id,
            name: format!("floating-ip-{id}"),
            ip,
            server,
            blocked: false,
            project: String::new(),
        }
    }
}

/// A server that an IP may be assigned to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    pub id: u64,
    pub name: String,
    pub project: String,
}

impl Server {
    /// One of the Project that is meant where none is named.
    pub fn new(id: u64) -> Server {
        Server { id, name: format!("server-{id}"), project: String::new() }
    }
}

/// What opens a Project. It has no way to show the secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    /// By which the journal knows it.
    pub name: String,
    pub(crate) secret: String,
    pub(crate) project: String,
    pub(crate) read_only: bool,
}

impl Token {
    /// One that may do everything in the Project that is meant where none is named.
    pub fn new(name: impl Into<String>, secret: impl Into<String>) -> Token {
        Token { name: name.into(), secret: secret.into(), project: String::new(), read_only: false }
    }

    /// The same, for reading alone.
    pub fn read_only(self) -> Token {
        Token { read_only: true, ..self }
    }

    /// The same, of another Project.
    pub fn of(self, project: &str) -> Token {
        Token { project: project.into(), ..self }
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token").field("name", &self.name).finish_non_exhaustive()
    }
}

/// What the stand-in is to be.
#[derive(Clone, Debug)]
pub struct Config {
    /// Loopback, since it may take any token; or link-local, for the metadata service in a network of the test's own. Default:
    /// 127.0.0.1, a port that is free.
    pub listen: SocketAddr,
    /// HTTPS, with a certificate that is right or wrong. Default: none, plain HTTP.
    pub tls: Option<Certificate>,
    /// Whether a TLS session may be resumed, which spares most of the handshake. Default: true.
    pub resume_sessions: bool,
    /// Where to write the PEM of the CA. Default: into a temporary directory, removed on drop.
    pub ca_file: Option<PathBuf>,
    /// The only right tokens. Default: any is right, but there must be one.
    pub tokens: Vec<Token>,
    /// Default: none.
    pub floating_ips: Vec<FloatingIp>,
    /// Default: empty, any id is a server's.
    pub servers: Vec<Server>,
    /// How long an action takes. Default: no time, so that the answer that begins it says that it has succeeded.
    pub switch: Duration,
    /// Whether an IP shows the new server while the action still runs; which of both the real one does is not documented.
    /// Default: false.
    pub early: bool,
    /// Requests that a Project may send at once; as many come back in an hour. Default: 3600.
    pub limit: u32,
    /// The server that asks, as the metadata service tells it. Default: none, that is not found.
    pub instance_id: Option<u64>,
    /// Whether an IP may be unassigned by a request. Where it may not, one that was makes the stand-in panic in the end: if the
    /// assignment that follows fails, the IP is nowhere. Default: true.
    pub may_unassign: bool,
    /// Who wants to be told of everything as it happens. Default: nobody.
    pub events: Option<Sender<Event>>,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            tls: None,
            resume_sessions: true,
            ca_file: None,
            tokens: Vec::new(),
            floating_ips: Vec::new(),
            servers: Vec::new(),
            switch: Duration::ZERO,
            early: false,
            limit: 3600,
            instance_id: None,
            may_unassign: true,
            events: None,
        }
    }
}

impl Cloud {
    /// Listens, when this returns.
    pub fn start(config: Config) -> io::Result<Cloud> {
        let Config { listen, tls, resume_sessions, ref ca_file, .. } = config;
        let door = Door { listen, tls, resume_sessions, ca_file: ca_file.as_ref() };
        StandIn::open(&door, Account::new(&config), config.events.clone())
    }

    /// The base of the API, as it goes into a hook.
    pub fn url(&self) -> String {
        format!("{}/v1", self.origin())
    }

    /// All floating IPs as they are now.
    pub fn floating_ips(&self) -> Vec<FloatingIp> {
        self.account(Account::floating_ips)
    }

    /// From now on, or no longer, an IP shows the new server while the action still runs.
    pub fn set_early(&self, early: bool) {
        self.change(|account| account.early = early);
    }

    /// How many requests a Project may send at once from now on; its bucket is as full as that.
    pub fn set_limit(&self, limit: u32) {
        self.change(|account| account.set_limit(limit));
    }
}
