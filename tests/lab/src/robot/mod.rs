//! A stand-in for Hetzner's Robot API, as far as failover IPs go, with faults that can be scripted.
//!
//! The project's own, because what matters here is what no recorded answer shows: a POST that blocks for a
//! minute and is completed though its client has gone, a lock-out after three failed logins, an answer
//! that is lost. Tests use it in-process; `cargo run -p lab --bin robot -- --help` is the same as a program.
//!
//! The way of a request: `server` (sockets) → `call` (what is asked) → `fault` (does it meet one) →
//! `state` (the account's answer) → `wire` (how it is sent). `journal` keeps what was seen.

mod answer;
mod call;
mod fault;
mod journal;
mod server;
mod state;
#[cfg(test)]
mod tests;
mod tls;
mod wire;

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Sender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

pub use self::{
    answer::{Answer, Code},
    call::{Login, Method},
    fault::{Fault, GRAMMAR, Rule, When, duration},
    journal::{Event, Request},
    state::{Change, Failover, Limits, Pretence},
    tls::Certificate,
};

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

/// A stand-in that runs. On drop it closes all connections and is gone.
pub struct Robot {
    shared: Arc<server::Shared>,
    addr: SocketAddr,
    ca_file: Option<tls::CaFile>,
    thread: Option<JoinHandle<()>>,
}

impl Robot {
    /// Listens, when this returns.
    pub fn start(config: Config) -> io::Result<Robot> {
        if !config.listen.ip().is_loopback() {
            let why = format!("{} is not a loopback address", config.listen.ip());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        }
        let tls = config
            .tls
            .map(|certificate| tls::acceptor(certificate, config.resume_sessions, config.ca_file.as_deref()));
        let (acceptor, ca_file) = tls.transpose()?.unzip();
        let shared = Arc::new(server::Shared::new(&config));
        let (bound, address) = sync_channel(1);
        let thread = thread::Builder::new().name("robot".to_owned()).spawn({
            let shared = Arc::clone(&shared);
            move || server::run(&shared, config.listen, acceptor, &bound)
        })?;
        let addr = address.recv().map_err(io::Error::other)??;
        Ok(Robot { shared, addr, ca_file, thread: Some(thread) })
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The URL of a failover IP, as it goes into a hook.
    pub fn url(&self, ip: IpAddr) -> String {
        let scheme = if self.ca_file.is_some() { "https" } else { "http" };
        format!("{scheme}://{}/failover/{ip}", self.addr)
    }

    /// The PEM of the CA to trust; none without TLS.
    pub fn ca_file(&self) -> Option<&Path> {
        self.ca_file.as_ref().map(tls::CaFile::path)
    }

    /// All failover IPs as they are now.
    pub fn failover(&self) -> Vec<Failover> {
        self.shared.world().account.failover()
    }

    /// Where this IP is routed now.
    pub fn route(&self, ip: IpAddr) -> Option<IpAddr> {
        self.shared.world().account.route(ip)
    }

    /// Whether a switch of this IP is under way, as when another one is refused as `FAILOVER_LOCKED`.
    pub fn is_switching(&self, ip: IpAddr) -> bool {
        self.shared.world().account.is_switching(ip)
    }

    /// Moved by hand in the web console: at once. The IP must be one of the account.
    pub fn set_route(&self, ip: IpAddr, to: Option<IpAddr>) {
        self.shared.change(|world| world.account.set_route(ip, to));
    }

    /// How long the switches take that begin from now on.
    pub fn set_switch(&self, time: Duration) {
        self.shared.world().account.switch = time;
    }

    /// Adds a fault; the first rule that matches counts. `any refuse` is in effect on return.
    pub fn fault(&self, rule: Rule) {
        self.shared.add_fault(rule);
    }

    /// The rules that are left.
    pub fn faults(&self) -> Vec<Rule> {
        self.shared.world().faults.rules()
    }

    /// No rules, and connections are accepted again. What hangs, hangs on.
    pub fn clear_faults(&self) {
        self.shared.clear_faults();
    }

    /// Every request seen, in order.
    pub fn journal(&self) -> Vec<Request> {
        self.shared.world().journal.entries().to_vec()
    }

    /// Waits until the journal is as it should be; false if it is not so in time. `what` runs under the
    /// stand-in's lock, so it must not ask the stand-in anything.
    pub fn wait_for(&self, timeout: Duration, what: impl Fn(&[Request]) -> bool) -> bool {
        self.shared.wait(timeout, |world| what(world.journal.entries()))
    }

    /// Each change of a route.
    pub fn history(&self) -> Vec<Change> {
        self.shared.world().account.history().to_vec()
    }
}

impl Drop for Robot {
    fn drop(&mut self) {
        self.shared.stop();
        if let Some(thread) = self.thread.take() {
            // A panic in there has been printed already, and must not become a second one here.
            let _ = thread.join();
        }
    }
}
