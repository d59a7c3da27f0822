//! A stand-in for Hetzner's Robot API, as far as failover IPs go.
//!
//! Tests use it in-process; `cargo run -p lab --bin robot -- --help` is the same as a program. `call` reads a request,
//! `state` is the account, `answer` has the documented errors; all else is shared (`standin`).

mod answer;
mod call;
mod state;
#[cfg(test)]
mod tests;

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::mpsc::Sender;
use std::time::Duration;

use crate::standin::{self, Door, StandIn};

pub use self::{
    answer::Code,
    call::Login,
    state::{Account, Failover, Limits, Own},
};
pub use crate::standin::{Answer, Certificate, Method, Request, duration};

pub type Event = standin::Event<IpAddr>;
pub type Fault = standin::Fault<Own>;
pub type Rule = standin::Rule<Own>;
/// A stand-in that runs. On drop it closes all connections and is gone.
pub type Robot = StandIn<Account>;

/// What the stand-in is to be.
#[derive(Clone, Debug)]
pub struct Config {
    /// Loopback only: it takes any login. Default: 127.0.0.1, a port that is free.
    pub listen: SocketAddr,
    /// HTTPS, with a certificate that is right or wrong. Default: none, plain HTTP.
    pub tls: Option<Certificate>,
    /// Whether a TLS session may be resumed, which spares most of the handshake. Default: true.
    pub resume_sessions: bool,
    /// Where to write the PEM of the CA. Default: into a temporary directory, removed on drop.
    pub ca_file: Option<PathBuf>,
    /// The only right login. Default: any is right, but there must be one.
    pub login: Option<Login>,
    /// The failover IPs of the account. Default: none.
    pub failover: Vec<Failover>,
    /// The addresses that are servers of this account. Default: empty, any address is.
    pub servers: Vec<IpAddr>,
    /// How long a switch takes. Default: no time.
    pub switch: Duration,
    pub limits: Limits,
    /// How long three failed logins lock their source address out. Default: 10 minutes.
    pub lockout: Duration,
    /// Understand multipart/form-data, as the real API does against its documentation. Default: false.
    pub accept_multipart: bool,
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
            login: None,
            failover: Vec::new(),
            servers: Vec::new(),
            switch: Duration::ZERO,
            limits: Limits::default(),
            lockout: Duration::from_secs(600),
            accept_multipart: false,
            events: None,
        }
    }
}

impl Robot {
    /// Listens, when this returns.
    pub fn start(config: Config) -> io::Result<Robot> {
        let Config { listen, tls, resume_sessions, ref ca_file, .. } = config;
        let door = Door { listen, tls, resume_sessions, ca_file: ca_file.as_ref() };
        StandIn::open(&door, Account::new(&config), config.events.clone())
    }

    /// The URL of a failover IP, as it goes into a hook.
    pub fn url(&self, ip: IpAddr) -> String {
        format!("{}/failover/{ip}", self.origin())
    }

    /// All failover IPs as they are now.
    pub fn failover(&self) -> Vec<Failover> {
        self.account(Account::failover)
    }
}
