//! Datagram relays between nodes, so that a link can be cut, or be bad, without root.
//!
//! Node A announces itself not to node B's address but to the relay's of A → B, which passes it on as the link's
//! weather is. uWSGI knows its peers by what they say, not by where it came from.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::seal::Secret;
use crate::strays::Stray;

/// How soon a relay notices that it is to end.
const TICK: Duration = Duration::from_millis(200);

/// What a link does to each datagram. Default: it passes it on.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Weather {
    /// Nothing passes.
    pub cut: bool,
    /// So many of a hundred are lost.
    pub loss: u8,
    /// So many of a hundred arrive twice.
    pub duplicate: u8,
    /// Each is held for a time of its own, up to this, so that one overtakes another.
    pub delay: Duration,
    /// Behind each come so many that no node has sent, or not now: of every kind of [`Stray`] in turn.
    pub strays: u8,
}

impl Weather {
    /// The worse of the two in everything.
    pub fn worse(self, other: Weather) -> Weather {
        Weather {
            cut: self.cut || other.cut,
            loss: self.loss.max(other.loss),
            duplicate: self.duplicate.max(other.duplicate),
            delay: self.delay.max(other.delay),
            strays: self.strays.max(other.strays),
        }
    }
}

/// A link in one direction.
struct Link {
    address: SocketAddr,
    weather: Arc<Mutex<Weather>>,
    /// How many datagrams have come, whatever became of them.
    sent: Arc<AtomicUsize>,
    thread: Option<JoinHandle<()>>,
}

impl Link {
    fn weather(&self) -> MutexGuard<'_, Weather> {
        self.weather.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The links between every two nodes of a Legion, in both directions.
pub struct Links {
    links: HashMap<(usize, usize), Link>,
    ends: Arc<Ends>,
}

/// What the relays share.
struct Ends {
    stop: AtomicBool,
    /// The Legion's, for strays.
    secret: Secret,
    /// How many of these were sent.
    strays: AtomicUsize,
}

impl Links {
    /// Relays to nodes 1 to N of the Legion with this `secret`, which listen on `addresses`.
    pub fn between(addresses: &[SocketAddr], secret: &str) -> Links {
        let (stop, strays) = (AtomicBool::new(false), AtomicUsize::new(0));
        let ends = Arc::new(Ends { stop, secret: Secret::new(secret), strays });
        let nodes = 1..=addresses.len();
        let pairs = nodes.clone().flat_map(|from| nodes.clone().map(move |to| (from, to)));
        let link = |(from, to)| ((from, to), relay(addresses[to - 1], Arc::clone(&ends)));
        Links { links: pairs.filter(|(from, to)| from != to).map(link).collect(), ends }
    }

    /// Where node `from` sends what is meant for node `to`.
    pub fn address(&self, from: usize, to: usize) -> SocketAddr {
        self.links[&(from, to)].address
    }

    /// What becomes of whatever `from` sends to `to` from now on.
    pub fn set(&self, from: usize, to: usize, weather: Weather) {
        *self.links[&(from, to)].weather() = weather;
    }

    /// Drops whatever `from` sends to `to` from now on.
    pub fn cut(&self, from: usize, to: usize) {
        self.links[&(from, to)].weather().cut = true;
    }

    /// Cuts what `node` sends to all others.
    pub fn cut_from(&self, node: usize) {
        self.links.keys().filter(|(from, _)| *from == node).for_each(|(from, to)| self.cut(*from, *to));
    }

    /// Cuts what all others send to `node`.
    pub fn cut_to(&self, node: usize) {
        self.links.keys().filter(|(_, to)| *to == node).for_each(|(from, to)| self.cut(*from, *to));
    }

    /// Cuts `node` off from all others.
    pub fn cut_off(&self, node: usize) {
        self.cut_from(node);
        self.cut_to(node);
    }

    /// What becomes of whatever anybody sends from now on.
    pub fn set_all(&self, weather: Weather) {
        self.links.values().for_each(|link| *link.weather() = weather);
    }

    /// All links are up again, and good.
    pub fn heal(&self) {
        self.set_all(Weather::default());
    }

    /// How many datagrams `from` has sent to `to`.
    pub fn sent(&self, from: usize, to: usize) -> usize {
        self.links[&(from, to)].sent.load(Ordering::Relaxed)
    }

    /// How many strays were sent.
    pub fn strays(&self) -> usize {
        self.ends.strays.load(Ordering::Relaxed)
    }
}

fn relay(to: SocketAddr, ends: Arc<Ends>) -> Link {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has free ports");
    let address = socket.local_addr().expect("it is bound");
    let (weather, sent) = (Arc::default(), Arc::default());
    let (current, count) = (Arc::clone(&weather), Arc::clone(&sent));
    let thread = thread::spawn(move || pass_on(&socket, to, &current, &count, &ends));
    Link { address, weather, sent, thread: Some(thread) }
}

fn pass_on(socket: &UdpSocket, to: SocketAddr, weather: &Mutex<Weather>, sent: &AtomicUsize, ends: &Ends) {
    let mut rng = fastrand::Rng::new();
    let mut kinds = Stray::ALL.into_iter().cycle();
    let mut datagram = [0; 65_536];
    let mut held: Vec<(Instant, Vec<u8>)> = Vec::new();
    while !ends.stop.load(Ordering::Relaxed) {
        let now = Instant::now();
        held.retain(|(due, datagram)| {
            if *due <= now {
                // A node that is not there is no matter of the link's.
                let _ = socket.send_to(datagram, to);
            }
            *due > now
        });
        let next = held.iter().map(|(due, _)| *due - now).min().unwrap_or(TICK);
        // Zero would mean no limit.
        let wait = next.clamp(Duration::from_millis(1), TICK);
        socket.set_read_timeout(Some(wait)).expect("not zero");
        let Ok(length) = socket.recv(&mut datagram) else { continue };
        sent.fetch_add(1, Ordering::Relaxed);
        let Weather { cut, loss, duplicate, delay, strays } =
            *weather.lock().unwrap_or_else(PoisonError::into_inner);
        if cut || rng.u8(..100) < loss {
            continue;
        }
        let copies = if rng.u8(..100) < duplicate { 2 } else { 1 };
        let datagram = &datagram[..length];
        let strays = kinds.by_ref().take(strays.into());
        let strays: Vec<_> = strays.filter_map(|kind| kind.of(datagram, &ends.secret, &mut rng)).collect();
        ends.strays.fetch_add(strays.len(), Ordering::Relaxed);
        for datagram in vec![datagram.to_vec(); copies].into_iter().chain(strays) {
            held.push((Instant::now() + delay.mul_f64(rng.f64()), datagram));
        }
    }
}

impl Drop for Links {
    fn drop(&mut self) {
        self.ends.stop.store(true, Ordering::Relaxed);
        for thread in self.links.values_mut().filter_map(|link| link.thread.take()) {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What two nodes' link lets through of a hundred datagrams, in order; waits for so many, and a moment for more.
    fn arrive(weather: Weather, expected: usize) -> Vec<u8> {
        let nodes = [(); 2].map(|()| UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port"));
        let addresses = nodes.each_ref().map(|node| node.local_addr().expect("it is bound"));
        let links = Links::between(&addresses, "secret1");
        links.set(1, 2, weather);
        for number in 0..100 {
            nodes[0].send_to(&[number], links.address(1, 2)).expect("the relay is there");
        }
        let mut arrived = Vec::new();
        let mut byte = [0];
        loop {
            let a_moment = Duration::from_millis(300);
            let wait = if arrived.len() < expected { crate::LIMIT } else { a_moment };
            nodes[1].set_read_timeout(Some(wait)).expect("not zero");
            if nodes[1].recv(&mut byte).is_err() {
                return arrived;
            }
            arrived.push(byte[0]);
        }
    }

    #[test]
    fn a_link_is_as_its_weather() {
        let good = Weather::default();
        let all: Vec<u8> = (0..100).collect();
        assert_eq!(arrive(good, 100), all);
        assert!(arrive(Weather { cut: true, ..good }, 0).is_empty());
        assert!(arrive(Weather { loss: 100, ..good }, 0).is_empty());
        let some = arrive(Weather { loss: 50, ..good }, 10).len();
        assert!((10..90).contains(&some), "{some} of 100");
        assert_eq!(arrive(Weather { duplicate: 100, ..good }, 200).len(), 200);
        let mut late = arrive(Weather { delay: Duration::from_millis(400), ..good }, 100);
        assert_ne!(late, all, "one overtakes another");
        late.sort_unstable();
        assert_eq!(late, all, "and none is lost");
    }

    #[test]
    fn behind_each_announcement_come_strays_of_every_kind() {
        let node = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let links = Links::between(&[node.local_addr().expect("it is bound"); 2], "secret1");
        let pairs = ["legion", "valor", "unix"].map(|key| (key.into(), b"1".to_vec()));
        let announcement = Secret::new("secret1").seal(&pairs.to_vec());
        let send = || node.send_to(&announcement, links.address(1, 2)).expect("the relay is there");
        node.set_read_timeout(Some(crate::LIMIT)).expect("not zero");
        let mut datagram = vec![0; 65_536];
        let mut receive = || node.recv(&mut datagram).map(|length| datagram[..length] == announcement);
        send();
        assert!(receive().expect("good weather"));
        links.set_all(Weather { strays: 7, ..Weather::default() });
        for _ in 0..3 {
            send();
            let arrived: Vec<bool> = (0..8).map(|_| receive().expect("all of them")).collect();
            assert_eq!(arrived.iter().filter(|own| **own).count(), 1, "{arrived:?}");
        }
        assert_eq!(links.strays(), 3 * Stray::ALL.len());
    }
}
