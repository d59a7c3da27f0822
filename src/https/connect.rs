//! The way to the API: names, addresses, connections, and whether anything was sent on it.
//!
//! ureq shares a request's time out among a host's addresses, and gives more than half of it to the first: where IPv6
//! is a black hole, a POST left 40 s late. Here each address has a few seconds, both families take turns, and what has
//! brought no answer is tried last the next time. And ureq tells of a time limit, but not whether the request was on
//! its way when it ended, which decides what must be made of it: so that is noted where the bytes go out.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::{Duration, Instant};

use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, NextTimeout, TcpConnector, Transport, time,
};
use ureq::{Error, Timeout};

use crate::sys::spawn;

/// For a name. Two name servers that are down take the system's resolver ten seconds.
pub const LONGEST_LOOKUP: Duration = Duration::from_secs(12);
/// From the first address to the end of the TLS handshake, a proxy's answer included.
pub const LONGEST_CONNECT: Duration = Duration::from_secs(12);
/// For one address while others are left: the system has tried twice by then.
const EACH_ADDRESS: Duration = Duration::from_secs(3);
/// For the last one, so that something is left for the handshake.
const LAST_ADDRESS: Duration = Duration::from_secs(8);

/// How far the request under way has got, for all who have a part in it.
#[derive(Default, Debug)]
pub struct Way(Mutex<State>);

#[derive(Default, Debug)]
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
        let found = in_time((*limit.after).min(LONGEST_LOOKUP), move || name.to_socket_addrs())?;
        let mut result = self.empty();
        // As many as fit.
        self.0.sort(found).into_iter().take(16).for_each(|address| result.push(address));
        if result.is_empty() { Err(Error::HostNotFound) } else { Ok(result) }
    }
}

/// Asks the system in a thread, since nothing else limits its time.
fn in_time<T: Send + 'static>(
    limit: Duration,
    look_up: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, Error> {
    let (sender, receiver) = mpsc::sync_channel(1);
    let answer = move || {
        // Nobody may be waiting any more.
        let _ = sender.send(look_up());
    };
    spawn("hetzner", answer).ok_or_else(|| io::Error::from_raw_os_error(libc::EAGAIN))?;
    Ok(receiver.recv_timeout(limit).map_err(|_| Error::Timeout(Timeout::Resolve))??)
}

/// Connects to the first address that answers.
#[derive(Debug)]
pub struct Connect(pub Arc<Way>);

impl<In: Transport> Connector<In> for Connect {
    type Out = <TcpConnector as Connector<In>>::Out;

    fn connect(
        &self,
        details: &ConnectionDetails,
        connected: Option<In>,
    ) -> Result<Option<Self::Out>, Error> {
        let tcp = TcpConnector::default();
        if connected.is_some() {
            return tcp.connect(details, connected);
        }
        let mut failed = Error::HostNotFound;
        for (position, address) in details.addrs.iter().enumerate() {
            self.0.try_address(address.ip());
            let limit = share(time_left(details), details.addrs.len() - position)
                .ok_or(Error::Timeout(Timeout::Connect))?;
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
            match tcp.connect(&one, None) {
                Ok(transport) => return Ok(transport),
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }
}

/// What the steps before have left of a connection's time limit.
pub fn time_left(details: &ConnectionDetails) -> Duration {
    match (details.timeout.after, details.now) {
        (time::Duration::Exact(limit), time::Instant::Exact(began)) => limit.saturating_sub(began.elapsed()),
        _ => LONGEST_CONNECT,
    }
}

/// How long one address may take, of what is left, when so many are still to be tried.
fn share(left: Duration, addresses: usize) -> Option<Duration> {
    let most = if addresses > 1 { EACH_ADDRESS } else { LAST_ADDRESS };
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

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    use ureq::Agent;

    use super::*;
    use crate::https::{Cause, Error as Failure};

    fn at(address: &str) -> SocketAddr {
        address.parse().expect("an address with its port")
    }

    fn sorted(way: &Way, addresses: &[&str]) -> String {
        let sorted = way.sort(addresses.iter().map(|address| at(address)));
        sorted.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn both_families_take_turns_and_what_brought_no_answer_is_last() {
        let way = Way::default();
        let all = ["[::1]:1", "[::2]:1", "[::3]:1", "1.1.1.1:1", "2.2.2.2:1"];
        assert_eq!(sorted(&way, &all), "[::1]:1 1.1.1.1:1 [::2]:1 2.2.2.2:1 [::3]:1");
        assert_eq!(sorted(&way, &["1.1.1.1:1", "2.2.2.2:1", "[::1]:1"]), "1.1.1.1:1 [::1]:1 2.2.2.2:1");
        assert_eq!(sorted(&way, &[]), "");
        for address in ["::1", "1.1.1.1", "::2", "::1"] {
            way.try_address(address.parse().expect("an address"));
        }
        assert_eq!(sorted(&way, &all), "2.2.2.2:1 [::3]:1 1.1.1.1:1 [::2]:1 [::1]:1");
        way.has_answered();
        assert_eq!(sorted(&way, &all), "[::1]:1 2.2.2.2:1 [::3]:1 1.1.1.1:1 [::2]:1");
    }

    #[test]
    fn each_address_has_seconds_and_none_is_left_out() {
        let seconds = |left, addresses| share(Duration::from_secs(left), addresses);
        assert_eq!(seconds(12, 2), Some(EACH_ADDRESS));
        assert_eq!(seconds(12, 1), Some(LAST_ADDRESS));
        assert_eq!(seconds(12, 16), Some(Duration::from_millis(750)));
        assert_eq!(seconds(2, 1), Some(Duration::from_secs(2)));
        assert_eq!(seconds(0, 1), None);
    }

    #[test]
    fn a_lookup_that_hangs_is_given_up() {
        let (hang, hangs) = mpsc::channel::<()>();
        let limit = Duration::from_millis(50);
        let error = in_time(limit, move || hangs.recv().map_err(io::Error::other)).unwrap_err();
        let failure = Failure::of(&error, &Way::default(), "HOST");
        assert!(matches!(failure.cause, Cause::LookupTimeout(_)) && !failure.is_sent, "{failure:?}");
        let sentence = failure.to_string();
        assert!(sentence.starts_with("HOST: no answer to the name resolution (DNS) within"), "{sentence}");
        drop(hang);
        assert_eq!(in_time(LONGEST_LOOKUP, || Ok(1)).expect("it is in time"), 1);
    }

    /// Takes connections, as far as the system does, and no more.
    struct BlackHole {
        listener: TcpListener,
        _full: Vec<TcpStream>,
    }

    impl BlackHole {
        fn at(address: &str) -> BlackHole {
            let listener = TcpListener::bind(address).expect("loopback has a free port");
            let at = listener.local_addr().expect("it is bound");
            let connect = || TcpStream::connect_timeout(&at, Duration::from_millis(100)).ok();
            BlackHole { _full: std::iter::from_fn(connect).collect(), listener }
        }

        fn address(&self) -> SocketAddr {
            self.listener.local_addr().expect("it is bound")
        }
    }

    #[derive(Debug)]
    struct Known(Arc<Way>, Vec<SocketAddr>);

    impl Resolver for Known {
        fn resolve(&self, _: &Uri, _: &Config, _: NextTimeout) -> Result<ResolvedSocketAddrs, Error> {
            let mut result = self.empty();
            self.0.sort(self.1.iter().copied()).into_iter().for_each(|address| result.push(address));
            Ok(result)
        }
    }

    /// A client of a host with these addresses.
    fn client(addresses: &[SocketAddr]) -> (Arc<Way>, Agent) {
        let way = Arc::new(Way::default());
        let config = Agent::config_builder().timeout_connect(Some(LONGEST_CONNECT)).proxy(None).build();
        let url = Uri::from_static("http://host/");
        let connector = Connect(Arc::clone(&way)).chain(Note { way: Arc::clone(&way), url });
        let agent = Agent::with_parts(config, connector, Known(Arc::clone(&way), addresses.to_vec()));
        (way, agent)
    }

    fn get(way: &Way, agent: &Agent, limit: Duration) -> Result<u16, Error> {
        way.begin(limit);
        let get = agent.get("http://host/").config().timeout_global(Some(limit));
        let answer = get.max_idle_age(Duration::ZERO).build().call()?;
        way.has_answered();
        Ok(answer.status().as_u16())
    }

    #[test]
    fn a_black_hole_costs_seconds_and_only_once() {
        let hole = BlackHole::at("127.0.0.1:0");
        let server = TcpListener::bind("127.0.0.2:0").expect("loopback has a free port");
        let addresses = [hole.address(), server.local_addr().expect("it is bound")];
        let (way, agent) = client(&addresses);
        std::thread::spawn(move || {
            for mut client in server.incoming().flatten() {
                let _ = client.read(&mut [0; 1024]);
                let _ = client.write_all(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n");
            }
        });
        for first in addresses {
            assert_eq!(way.sort(addresses.into_iter())[0], first);
            assert_eq!(get(&way, &agent, Duration::from_secs(60)).expect("the other one answers"), 204);
            assert!(way.is_sent());
            assert!(way.elapsed() >= EACH_ADDRESS || first != hole.address(), "{:?}", way.elapsed());
        }
    }

    #[test]
    fn a_connection_that_is_never_made_is_not_sent_whatever_the_time_limit() {
        let hole = BlackHole::at("127.0.0.1:0");
        let (way, agent) = client(&[hole.address()]);
        // Before the address has had its time, and before the request has.
        let minute = Duration::from_secs(60);
        for (limit, most) in [(Duration::from_secs(1), LAST_ADDRESS), (minute, minute)] {
            let error = get(&way, &agent, limit).unwrap_err();
            let failure = Failure::of(&error, &way, "HOST");
            assert!(matches!(failure.cause, Cause::ConnectTimeout(_)) && !failure.is_sent, "{failure:?}");
            assert!(failure.to_string().starts_with("HOST: no connection within "), "{failure}");
            assert!(!way.is_sent() && way.elapsed() < most, "{:?}", way.elapsed());
        }
    }
}
