//! The way to the API: names, addresses, connections, and whether anything was sent on it.
//!
//! ureq shares a request's time out among a host's addresses, and gives more than half of it to the first: where IPv6
//! is a black hole, a POST left 40 s late. Here each address has a few seconds, both families take turns, and what has
//! brought no answer is tried last the next time. And ureq tells of a time limit, but not whether the request was on
//! its way when it ended, which decides what must be made of it: so that is noted where the bytes go out.

use std::fmt;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, NextTimeout, TcpConnector, Transport, time,
};
use ureq::{Error, Timeout};

use super::tls::time_left;
use crate::options::host_of;

/// For a name. Two name servers that are down take the system's resolver ten seconds.
pub const LONGEST_LOOKUP: Duration = Duration::from_secs(12);
/// From the first address to the end of the TLS handshake, a proxy's answer included.
pub const LONGEST_CONNECT: Duration = Duration::from_secs(12);
/// For one address while others are left: the system has tried twice by then.
const EACH_ADDRESS: Duration = Duration::from_secs(3);
/// For the last one, so that something is left for the handshake.
const LAST_ADDRESS: Duration = Duration::from_secs(8);

/// How far the request under way has got, for all who have a part in it.
#[derive(Default)]
pub struct Way(Mutex<State>);

#[derive(Default)]
struct State {
    /// The request's time limit.
    limit: Option<(Instant, Duration)>,
    is_sent: bool,
    /// Those that have brought no answer so far, the latest last.
    unanswered: Vec<IpAddr>,
    current: Option<IpAddr>,
}

impl Way {
    /// A new request begins, which may take so long.
    pub fn begin(&self, limit: Duration) {
        let mut state = self.state();
        state.limit = Some((Instant::now(), limit));
        state.is_sent = false;
    }

    /// Whether anything of the request was sent.
    pub fn is_sent(&self) -> bool {
        self.state().is_sent
    }

    /// How long the request may take.
    pub fn limit(&self) -> Duration {
        self.state().limit.map_or(Duration::ZERO, |(_, limit)| limit)
    }

    /// How long it has taken so far.
    pub fn elapsed(&self) -> Duration {
        self.state().limit.map_or(Duration::ZERO, |(began, _)| began.elapsed())
    }

    /// The address that was connected to last is a good one.
    pub fn has_answered(&self) {
        let mut state = self.state();
        let current = state.current;
        state.unanswered.retain(|address| Some(*address) != current);
    }

    /// How long the request may go on. What is not sent yet must be soon, so that another try can be made.
    fn left(&self) -> Duration {
        let state = self.state();
        let Some((began, limit)) = state.limit else { return Duration::MAX };
        let limit = if state.is_sent { limit } else { limit.min(LONGEST_LOOKUP + LONGEST_CONNECT) };
        limit.saturating_sub(began.elapsed())
    }

    fn try_address(&self, address: IpAddr) {
        let mut state = self.state();
        state.unanswered.retain(|known| *known != address);
        state.unanswered.push(address);
        state.current = Some(address);
    }

    /// In the order in which they are to be tried.
    fn sort(&self, addresses: impl Iterator<Item = SocketAddr>) -> Vec<SocketAddr> {
        let addresses: Vec<SocketAddr> = addresses.collect();
        // The system puts the family first that it prefers.
        let first = addresses.first().is_some_and(SocketAddr::is_ipv6);
        let (preferred, others): (Vec<_>, Vec<_>) =
            addresses.iter().copied().partition(|at| at.is_ipv6() == first);
        let (mut preferred, mut others) = (preferred.into_iter(), others.into_iter());
        let mut sorted: Vec<SocketAddr> = Vec::new();
        while sorted.len() < addresses.len() {
            sorted.extend(preferred.next());
            sorted.extend(others.next());
        }
        let state = self.state();
        sorted.sort_by_key(|address| state.unanswered.iter().position(|known| *known == address.ip()));
        sorted
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Way")
    }
}

/// Finds the addresses of a host, in the order in which they are to be tried.
#[derive(Debug)]
pub struct Lookup(pub Arc<Way>);

impl Resolver for Lookup {
    fn resolve(&self, uri: &Uri, _: &Config, limit: NextTimeout) -> Result<ResolvedSocketAddrs, Error> {
        let (scheme, authority) = (uri.scheme(), uri.authority());
        let named = scheme
            .zip(authority)
            .and_then(|(scheme, authority)| DefaultResolver::host_and_port(scheme, authority));
        let name = named.ok_or(Error::HostNotFound)?;
        // What is an address needs no looking up, and no thread for its time limit.
        let found = if host_of(uri).parse::<IpAddr>().is_ok() {
            name.to_socket_addrs()?
        } else {
            look_up(name, (*limit.after).min(LONGEST_LOOKUP))?
        };
        let mut result = self.empty();
        // As many as fit.
        self.0.sort(found).into_iter().take(16).for_each(|address| result.push(address));
        if result.is_empty() { Err(Error::HostNotFound) } else { Ok(result) }
    }
}

/// Asks the system in a thread, since nothing else limits its time.
fn look_up(name: String, limit: Duration) -> Result<std::vec::IntoIter<SocketAddr>, Error> {
    let (sender, receiver) = mpsc::sync_channel(1);
    let look_up = move || {
        // Nobody may be waiting any more.
        let _ = sender.send(name.to_socket_addrs());
    };
    thread::Builder::new().spawn(look_up)?;
    Ok(receiver.recv_timeout(limit).map_err(|_| Error::Timeout(Timeout::Resolve))??)
}

/// Connects to the first address that answers.
#[derive(Default, Debug)]
pub struct Connect {
    pub way: Arc<Way>,
    pub tcp: TcpConnector,
}

impl<In: Transport> Connector<In> for Connect {
    type Out = <TcpConnector as Connector<In>>::Out;

    fn connect(
        &self,
        details: &ConnectionDetails,
        connected: Option<In>,
    ) -> Result<Option<Self::Out>, Error> {
        if connected.is_some() {
            return self.tcp.connect(details, connected);
        }
        let mut failed = Error::HostNotFound;
        for (position, address) in details.addrs.iter().enumerate() {
            self.way.try_address(address.ip());
            let limit = match share(time_left(details), details.addrs.len() - position) {
                Some(limit) => limit,
                None => return Err(Error::Timeout(Timeout::Connect)),
            };
            let mut addrs = details.resolver.empty();
            addrs.push(*address);
            let one = ConnectionDetails {
                uri: details.uri,
                addrs,
                config: details.config,
                request_level: details.request_level,
                resolver: details.resolver,
                now: time::Instant::now(),
                timeout: NextTimeout { after: limit.into(), ..details.timeout },
                current_time: details.current_time.clone(),
                run_connector: details.run_connector.clone(),
                register_shutdown: details.register_shutdown.clone(),
            };
            match self.tcp.connect(&one, None) {
                Ok(transport) => return Ok(transport),
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }
}

/// How long one address may take, of what is left, when so many are still to be tried.
fn share(left: Option<Duration>, addresses: usize) -> Option<Duration> {
    let most = if addresses > 1 { EACH_ADDRESS } else { LAST_ADDRESS };
    let Some(left) = left else { return Some(most) };
    let share = left / u32::try_from(addresses).unwrap_or(u32::MAX);
    (!share.is_zero()).then_some(share.min(most))
}

/// The last step to a connection: notes what is sent, and holds each wait to the request's time limit. A proxy's answer
/// is read in pieces, each of which would otherwise have all of it.
#[derive(Debug)]
pub struct Note {
    pub way: Arc<Way>,
    /// Of the API. What is sent to a proxy does not reach it.
    pub url: Uri,
}

impl<In: Transport> Connector<In> for Note {
    type Out = Noted<In>;

    fn connect(
        &self,
        details: &ConnectionDetails,
        connected: Option<In>,
    ) -> Result<Option<Self::Out>, Error> {
        let is_ours = *details.uri == self.url;
        Ok(connected.map(|inner| Noted { inner, way: Arc::clone(&self.way), is_ours }))
    }
}

#[derive(Debug)]
pub struct Noted<In> {
    inner: In,
    way: Arc<Way>,
    is_ours: bool,
}

impl<In> Noted<In> {
    fn limit(&self, timeout: NextTimeout) -> Result<NextTimeout, Error> {
        let after = self.way.left().min(*timeout.after);
        if after.is_zero() {
            return Err(Error::Timeout(timeout.reason));
        }
        Ok(NextTimeout { after: after.into(), ..timeout })
    }
}

impl<In: Transport> Transport for Noted<In> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.inner.buffers()
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        let timeout = self.limit(timeout)?;
        if self.is_ours {
            self.way.state().is_sent = true;
        }
        self.inner.transmit_output(amount, timeout)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        let timeout = self.limit(timeout)?;
        self.inner.await_input(timeout)
    }

    fn is_open(&mut self) -> bool {
        self.inner.is_open()
    }

    fn is_tls(&self) -> bool {
        self.inner.is_tls()
    }
}
