//! Datagram relays between nodes, so that a link can be cut without root.
//!
//! Node A announces itself not to node B's address but to the relay's of A → B, which passes it on while the link
//! is up. uWSGI knows its peers by what they say, not by where it came from.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// A link in one direction.
struct Link {
    address: SocketAddr,
    up: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// The links between every two nodes of a Legion, in both directions.
pub struct Links {
    links: HashMap<(usize, usize), Link>,
    stop: Arc<AtomicBool>,
}

impl Links {
    /// Relays to nodes 1 to N, which listen on `addresses`.
    pub fn between(addresses: &[SocketAddr]) -> Links {
        let stop = Arc::new(AtomicBool::new(false));
        let nodes = 1..=addresses.len();
        let pairs = nodes.clone().flat_map(|from| nodes.clone().map(move |to| (from, to)));
        let link = |(from, to)| ((from, to), relay(addresses[to - 1], Arc::clone(&stop)));
        Links { links: pairs.filter(|(from, to)| from != to).map(link).collect(), stop }
    }

    /// Where node `from` sends what is meant for node `to`.
    pub fn address(&self, from: usize, to: usize) -> SocketAddr {
        self.links[&(from, to)].address
    }

    /// Drops whatever `from` sends to `to` from now on.
    pub fn cut(&self, from: usize, to: usize) {
        self.links[&(from, to)].up.store(false, Ordering::Relaxed);
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

    /// All links are up again.
    pub fn heal(&self) {
        self.links.values().for_each(|link| link.up.store(true, Ordering::Relaxed));
    }
}

fn relay(to: SocketAddr, stop: Arc<AtomicBool>) -> Link {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has free ports");
    // How soon the end is noticed.
    socket.set_read_timeout(Some(Duration::from_millis(200))).expect("not zero");
    let address = socket.local_addr().expect("it is bound");
    let up = Arc::new(AtomicBool::new(true));
    let passes = Arc::clone(&up);
    let thread = thread::spawn(move || {
        let mut datagram = [0; 65_536];
        while !stop.load(Ordering::Relaxed) {
            if let Ok(length) = socket.recv(&mut datagram) {
                if passes.load(Ordering::Relaxed) {
                    // A node that is not there is no matter of the link's.
                    let _ = socket.send_to(&datagram[..length], to);
                }
            }
        }
    });
    Link { address, up, thread: Some(thread) }
}

impl Drop for Links {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.links.values_mut().filter_map(|link| link.thread.take()) {
            let _ = thread.join();
        }
    }
}
