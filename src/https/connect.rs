//! Connections to the API: names, addresses, and whether anything was sent.
//!
//! ureq gives more than half of a request's time to the first address of a host: where IPv6 is a black hole, a POST was
//! sent 40 s late. Here each address gets a few seconds, IPv6 and IPv4 take turns, and an address that did not answer
//! is tried last the next time. And when a time limit ends, ureq does not say whether the request had been sent, which
//! decides what has to happen next. So this is noted where the bytes go out.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, NextTimeout, TcpConnector, Transport, time,
};
use ureq::{Error, Timeout};

use crate::sys::{lock, spawn};

/// For name resolution. The system's resolver takes ten seconds if two name servers are down.
pub const LONGEST_LOOKUP: Duration = Duration::from_secs(12);
/// From the first address to the end of the TLS handshake, a proxy's answer included.
pub const LONGEST_CONNECT: Duration = Duration::from_secs(12);
/// For one address while others are left: the system has tried twice by then.
const EACH_ADDRESS: Duration = Duration::from_secs(3);
/// For the last address, so that some time is left for the handshake.
const LAST_ADDRESS: Duration = Duration::from_secs(8);

/// How far the current request has come. Every step of a connection has a reference to it.
#[derive(Default, Debug)]
pub struct Way(Mutex<State>);

#[derive(Default, Debug)]
struct State {
    began: Option<Instant>,
    /// How long the request may take.
    limit: Duration,
    is_sent: bool,
    /// The addresses that have not answered so far, the latest last.
    unanswered: Vec<IpAddr>,
    current: Option<IpAddr>,
}

impl Way {
    pub fn begin(&self, limit: Duration) {
        let mut state = lock(&self.0);
        state.began = Some(Instant::now());
        state.limit = limit;
        state.is_sent = false;
    }

    /// Whether anything of the request was sent.
    pub fn is_sent(&self) -> bool {
        lock(&self.0).is_sent
    }

    /// How long the request may take.
    pub fn limit(&self) -> Duration {
        lock(&self.0).limit
    }

    /// How long it has taken so far.
    pub fn elapsed(&self) -> Duration {
        lock(&self.0).began.map_or(Duration::ZERO, |began| began.elapsed())
    }

    /// Notes that the latest address has answered.
    pub fn has_answered(&self) {
        let mut state = lock(&self.0);
        let current = state.current;
        state.unanswered.retain(|address| Some(*address) != current);
    }

    /// How much longer the request may take. Sending it has a shorter limit, so that there is time for another try.
    fn left(&self) -> Duration {
        let before_it_is_sent = LONGEST_LOOKUP + LONGEST_CONNECT;
        let limit = if self.is_sent() { self.limit() } else { self.limit().min(before_it_is_sent) };
        limit.saturating_sub(self.elapsed())
    }

    fn try_address(&self, address: IpAddr) {
        let mut state = lock(&self.0);
        state.unanswered.retain(|known| *known != address);
        state.unanswered.push(address);
        state.current = Some(address);
    }

    /// The addresses in the order in which to try them.
    pub(super) fn sort(&self, addresses: impl Iterator<Item = SocketAddr>) -> Vec<SocketAddr> {
        let addresses: Vec<SocketAddr> = addresses.collect();
        // The system puts the family first that it prefers.
        let first = addresses.first().is_some_and(SocketAddr::is_ipv6);
        let (preferred, others): (Vec<_>, Vec<_>) = addresses.iter().partition(|at| at.is_ipv6() == first);
        let turns = (0..addresses.len()).flat_map(|turn| [preferred.get(turn), others.get(turn)]);
        let mut sorted: Vec<SocketAddr> = turns.flatten().copied().copied().collect();
        let unanswered = &lock(&self.0).unanswered;
        // `None`, for an address that is not in this list, comes first.
        sorted.sort_by_key(|address| unanswered.iter().position(|known| *known == address.ip()));
        sorted
    }
}

/// Finds the addresses of a host, in the order in which to try them.
#[derive(Debug)]
pub struct Lookup(pub Arc<Way>);

impl Resolver for Lookup {
    fn resolve(&self, uri: &Uri, _: &Config, limit: NextTimeout) -> Result<ResolvedSocketAddrs, Error> {
        let named = uri.scheme().zip(uri.authority());
        let name = named.and_then(|(scheme, authority)| DefaultResolver::host_and_port(scheme, authority));
        let name = name.ok_or(Error::HostNotFound)?;
        let found = in_time((*limit.after).min(LONGEST_LOOKUP), move || name.to_socket_addrs())?;
        let mut result = self.empty();
        // It has room for 16.
        self.0.sort(found).into_iter().take(16).for_each(|address| result.push(address));
        if result.is_empty() { Err(Error::HostNotFound) } else { Ok(result) }
    }
}

/// Asks the system in a thread, because the system's resolver has no time limit of its own.
pub(super) fn in_time<T: Send + 'static>(
    limit: Duration,
    look_up: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, Error> {
    let (sender, receiver) = mpsc::sync_channel(1);
    let answer = move || {
        // If that took too long, nobody is waiting any more.
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

    fn connect(&self, details: &ConnectionDetails, made: Option<In>) -> Result<Option<Self::Out>, Error> {
        let tcp = TcpConnector::default();
        if made.is_some() {
            return tcp.connect(details, made);
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

/// How long one address may take if `left` is for this number of addresses.
pub(super) fn share(left: Duration, addresses: usize) -> Option<Duration> {
    let most = if addresses > 1 { EACH_ADDRESS } else { LAST_ADDRESS };
    let share = left / u32::try_from(addresses).unwrap_or(u32::MAX);
    (!share.is_zero()).then_some(share.min(most))
}

/// The last step of a connection: notes when something is sent, and ends each wait at the request's time limit. A
/// proxy's answer is read in pieces, and without this each piece could take that long.
#[derive(Debug)]
pub struct Note {
    pub way: Arc<Way>,
    /// One of the API's. What is sent to a proxy does not reach the API.
    pub url: Uri,
}

impl<In: Transport> Connector<In> for Note {
    type Out = Noted<In>;

    fn connect(&self, details: &ConnectionDetails, made: Option<In>) -> Result<Option<Self::Out>, Error> {
        let is_to_api =
            (details.uri.scheme(), details.uri.authority()) == (self.url.scheme(), self.url.authority());
        Ok(made.map(|inner| Noted { inner, way: Arc::clone(&self.way), is_to_api }))
    }
}

#[derive(Debug)]
pub struct Noted<In> {
    inner: In,
    way: Arc<Way>,
    is_to_api: bool,
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
        if self.is_to_api {
            lock(&self.way.0).is_sent = true;
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
    use crate::https::Error as Failure;

    fn at(address: &str) -> SocketAddr {
        address.parse().expect("an address with its port")
    }

    fn sorted(way: &Way, addresses: &[&str]) -> String {
        let sorted = way.sort(addresses.iter().map(|address| at(address)));
        sorted.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn both_families_take_turns_and_what_did_not_answer_is_last() {
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
        assert_eq!(failure.to_string(), "HOST: no answer from name resolution (DNS) within 0 s");
        assert!(!failure.is_sent);
        drop(hang);
        assert_eq!(in_time(LONGEST_LOOKUP, || Ok(1)).expect("it is in time"), 1);
    }

    /// Accepts no connection: its queue is full.
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
            assert_eq!(get(&way, &agent, Duration::from_secs(60)).expect("the other address answers"), 204);
            assert!(way.is_sent());
            assert!(way.elapsed() >= EACH_ADDRESS || first != hole.address(), "{:?}", way.elapsed());
        }
    }

    #[test]
    fn without_a_connection_nothing_is_sent_whatever_the_time_limit() {
        let hole = BlackHole::at("127.0.0.1:0");
        let (way, agent) = client(&[hole.address()]);
        // The address's limit, then the request's.
        let minute = Duration::from_secs(60);
        for (limit, most) in [(Duration::from_secs(1), LAST_ADDRESS), (minute, minute)] {
            let error = get(&way, &agent, limit).unwrap_err();
            let failure = Failure::of(&error, &way, "HOST");
            assert!(failure.to_string().starts_with("HOST: no connection within "), "{failure}");
            assert!(!failure.is_sent, "{failure:?}");
            assert!(!way.is_sent() && way.elapsed() < most, "{:?}", way.elapsed());
        }
    }
}
