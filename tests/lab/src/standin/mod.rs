//! What the stand-ins for Hetzner's APIs share, with faults that can be scripted.
//!
//! The project's own, because what matters here is what no recorded answer shows: a request that blocks for a minute and is
//! completed though its client has gone, an answer that is lost, an API that is away.
//!
//! The way of a request: `server` (sockets) → `call` (what is asked) → `fault` (does it meet one) → an [`Api`] (what it
//! answers) → `wire` (how it is sent). `journal` keeps what was seen.

mod answer;
mod call;
mod fault;
mod journal;
mod server;
mod tls;
mod wire;

use std::fmt::{Debug, Display};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::mpsc::{Sender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use hyper::http::request::Parts;

pub use self::{
    answer::Answer,
    call::{Call, Method, Target},
    fault::{Fault, Pretence, Rule, When, Words, duration, grammar},
    journal::{Event, Request, Routes},
    tls::Certificate,
};
pub(crate) use self::{
    call::{percent_decode, text},
    journal::Watcher,
};

/// How faults are written for one API; and as a value, one that only this API has.
pub trait Dialect: Sized + Clone + Debug + Display + PartialEq + Send + Sync + 'static {
    /// By which the API knows a server.
    type Server: Copy + Eq + Debug + Display + FromStr + Send + Sync + 'static;

    /// What a server is called, for who has written none.
    const SERVER: &str;
    /// What the path of a request names, and where a POST says which server it wants.
    const FIELDS: [&str; 2];
    /// Lines for the faults that only this API has.
    const OWN: &str;
    /// What the lock of a switch under way is called.
    const LOCKED: &str;

    /// A documented error, by its name.
    fn error(name: &str) -> Option<Answer>;
    /// The names of all, with commas.
    fn errors() -> String;
    /// The start of the API's JSON.
    fn truncated() -> &'static str;
    /// A fault of its own that begins with this word.
    fn own(word: &str, words: &mut Words) -> Option<Result<Self, String>>;
    /// What that would be called, for who has written something else.
    fn own_words() -> &'static str;
}

/// What is done about a request.
#[derive(Debug, PartialEq)]
pub enum Step<T> {
    Answer(Answer),
    /// It is answered when so much time has passed, by whatever [`Api::finish`] says.
    Blocks(Duration, T),
    /// It is answered, and done when so much time has passed.
    Runs(Answer, Duration, T),
}

/// An API's account. Nothing of it knows of sockets, and nothing waits: every question comes with the time it is asked at,
/// so that an hour's limit is tested without passing.
pub trait Api: Sized + Send + 'static {
    type Dialect: Dialect;
    /// What only this API's requests have.
    type What: Send + Sync + 'static;
    /// What is to be finished later.
    type Ticket: Copy + Send + 'static;

    fn read(&self, head: &Parts, body: &[u8], peer: IpAddr) -> Called<Self>;
    /// The login is right, or any will do.
    fn authorises(&self, call: &Called<Self>) -> bool;
    /// Judges a request as the API does: who asks, how often, what for. A fault of its own comes with whether the request is
    /// carried out all the same.
    fn handle(
        &mut self,
        call: &Called<Self>,
        fault: Option<(&Self::Dialect, bool)>,
        now: Instant,
    ) -> Step<Self::Ticket>;
    /// Ends what [`Api::handle`] began.
    fn finish(&mut self, ticket: Self::Ticket) -> Answer;
    /// A right answer but for where the IP is routed.
    fn pretend(&self, call: &Called<Self>, pretence: Pretence<ServerOf<Self>>) -> Answer;
    /// There are no faults any more.
    fn calm(&mut self) {}
    /// What must not have been asked, whoever plays: a sentence, when all is over.
    fn outrage(&self, _: &[Request]) -> Option<String> {
        None
    }

    fn ips(&self) -> Vec<IpAddr>;
    fn route(&self, ip: IpAddr) -> Option<ServerOf<Self>>;
    /// Whether a switch of this IP is under way; it goes on when whoever asked has gone.
    fn is_switching(&self, ip: IpAddr) -> bool;
    /// Routes an IP of the account.
    fn set_route(&mut self, ip: IpAddr, to: Option<ServerOf<Self>>);
    fn set_switch(&mut self, time: Duration);
    fn routes(&self) -> &Routes<ServerOf<Self>>;
}

pub type ServerOf<A> = <<A as Api>::Dialect as Dialect>::Server;
pub type Called<A> = Call<ServerOf<A>, <A as Api>::What>;
/// Each change of a route, with its time.
pub type Change<S> = (Instant, IpAddr, Option<S>);

/// How a stand-in is reached.
#[derive(Clone, Debug)]
pub(crate) struct Door<'a> {
    pub listen: SocketAddr,
    pub tls: Option<Certificate>,
    pub resume_sessions: bool,
    pub ca_file: Option<&'a PathBuf>,
}

/// A stand-in that runs. On drop it closes all connections and is gone.
pub struct StandIn<A: Api> {
    shared: Arc<server::Shared<A>>,
    addr: SocketAddr,
    ca_file: Option<tls::CaFile>,
    thread: Option<JoinHandle<()>>,
}

impl<A: Api> StandIn<A> {
    /// Listens, when this returns.
    pub(crate) fn open(
        door: &Door,
        account: A,
        events: Option<Sender<Event<ServerOf<A>>>>,
    ) -> io::Result<StandIn<A>> {
        // Link-local is the address of a metadata service, on loopback in a network of its own.
        let is_here = match door.listen.ip() {
            IpAddr::V4(ip) => ip.is_loopback() || ip.is_link_local(),
            IpAddr::V6(ip) => ip.is_loopback(),
        };
        if !is_here {
            let why = format!("{} is not a loopback address", door.listen.ip());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        }
        let tls = door.tls.map(|certificate| {
            tls::acceptor(certificate, door.resume_sessions, door.ca_file.map(PathBuf::as_path))
        });
        let (acceptor, ca_file) = tls.transpose()?.unzip();
        let shared = Arc::new(server::Shared::new(account, Watcher(events)));
        let (bound, address) = sync_channel(1);
        let thread = thread::Builder::new().name("stand-in".to_owned()).spawn({
            let (shared, listen) = (Arc::clone(&shared), door.listen);
            move || server::run(&shared, listen, acceptor, &bound)
        })?;
        let addr = address.recv().map_err(io::Error::other)??;
        Ok(StandIn { shared, addr, ca_file, thread: Some(thread) })
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Without a path.
    pub(crate) fn origin(&self) -> String {
        let scheme = if self.ca_file.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.addr)
    }

    /// The PEM of the CA to trust; none without TLS.
    pub fn ca_file(&self) -> Option<&Path> {
        self.ca_file.as_ref().map(tls::CaFile::path)
    }

    /// A look at the account.
    pub(crate) fn account<T>(&self, look: impl FnOnce(&A) -> T) -> T {
        look(&self.shared.world().account)
    }

    /// A change of the account that those in [`StandIn::wait_for`] hear of.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut A) -> T) -> T {
        self.shared.change(|world| change(&mut world.account))
    }

    /// The failover IPs of the account.
    pub fn ips(&self) -> Vec<IpAddr> {
        self.account(A::ips)
    }

    /// Where this IP is routed now.
    pub fn route(&self, ip: IpAddr) -> Option<ServerOf<A>> {
        self.account(|account| account.route(ip))
    }

    /// Whether a switch of this IP is under way, as when another one is refused for that.
    pub fn is_switching(&self, ip: IpAddr) -> bool {
        self.account(|account| account.is_switching(ip))
    }

    /// Moved by hand in the web console: at once. The IP must be one of the account.
    pub fn set_route(&self, ip: IpAddr, to: Option<ServerOf<A>>) {
        self.change(|account| account.set_route(ip, to));
    }

    /// How long the switches take that begin from now on.
    pub fn set_switch(&self, time: Duration) {
        self.change(|account| account.set_switch(time));
    }

    /// Adds a fault; the first rule that matches counts. `any refuse` is in effect on return.
    pub fn fault(&self, rule: Rule<A::Dialect>) {
        self.shared.add_fault(rule);
    }

    /// The rules that are left.
    pub fn faults(&self) -> Vec<Rule<A::Dialect>> {
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
    pub fn history(&self) -> Vec<Change<ServerOf<A>>> {
        self.account(|account| account.routes().history().to_vec())
    }
}

impl<A: Api> Drop for StandIn<A> {
    fn drop(&mut self) {
        self.shared.stop();
        if let Some(thread) = self.thread.take() {
            // A panic in there has been printed already, and must not become a second one here.
            let _ = thread.join();
        }
        if !thread::panicking() {
            let world = self.shared.world();
            let outrage = world.account.outrage(world.journal.entries());
            drop(world);
            assert!(outrage.is_none(), "{}", outrage.unwrap_or_default());
        }
    }
}
