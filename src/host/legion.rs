//! A Legion of this process: what can be seen of it, and what a hook that blocks owes it.
//!
//! uWSGI runs every Legion in one thread of the master, and its hooks in that same thread. That thread alone
//! adds and removes peers, under the Legion's lock; what others read of them is read under it.

use std::ffi::{CStr, c_char, c_int};
use std::net::{IpAddr, Ipv4Addr};
use std::ptr::{self, NonNull, addr_of, addr_of_mut};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicI64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use super::abi::{UwsgiLegion, UwsgiLegionNode, UwsgiStringList};
use super::hand_over;

// src/host/host.c
unsafe extern "C" {
    fn hetzner_host_legions() -> *mut UwsgiLegion;
    fn hetzner_host_legion_freq() -> c_int;
    fn hetzner_host_is_ending() -> c_int;
    fn hetzner_host_death_on_lord_error() -> c_int;
    fn hetzner_host_legion_tolerance() -> c_int;
    fn hetzner_host_announce(legion: *mut UwsgiLegion);
    fn hetzner_host_hear(legion: *mut UwsgiLegion, valor: *mut u64, said_at: *mut i64) -> c_int;
    fn hetzner_host_read_lock(legion: *mut UwsgiLegion);
    fn hetzner_host_write_lock(legion: *mut UwsgiLegion);
    fn hetzner_host_unlock(legion: *mut UwsgiLegion);
}

/// How often a hook that waits looks whether the process is ending, and empties the sockets.
const TICK: Duration = Duration::from_millis(500);

/// The most datagrams taken off a socket at one time: a bound, not a limit that is ever met.
const MOST_DATAGRAMS: usize = 100_000;

/// One Legion that this process is a member of. uWSGI makes it while it reads the configuration and never frees
/// it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Legion(NonNull<UwsgiLegion>);

// SAFETY: the pointer is valid as long as the process. What other threads than the Legion's touch behind it is
// either never changed, or atomic, or read under the Legion's lock.
unsafe impl Send for Legion {}
// SAFETY: as above.
unsafe impl Sync for Legion {}

/// A hook in the configuration: `PHASE = LEGION ACTION:ARGUMENT`.
pub struct HookLine {
    pub phase: &'static str,
    pub action: Vec<u8>,
    pub argument: Vec<u8>,
}

/// A peer that was heard within the tolerance.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Peer {
    /// New at each of its starts.
    pub uuid: [u8; 36],
    /// Whether it says that this node is to be Lord.
    pub votes_for_us: bool,
}

/// A Legion at one moment.
#[derive(Debug)]
pub struct View {
    /// Unix time (seconds) since which this node is Lord; 0 when it is not.
    pub lord_since: i64,
    /// Whether it announces itself as dead.
    pub dead: bool,
    /// Unix time (seconds) until which it is suspended; 0 when it is not.
    pub suspended_until: i64,
    pub peers: Vec<Peer>,
}

impl Legion {
    /// # Safety
    /// `legion` is NULL, or a Legion of this process.
    pub unsafe fn new(legion: *mut UwsgiLegion) -> Option<Legion> {
        NonNull::new(legion).map(Legion)
    }

    fn raw(self) -> *mut UwsgiLegion {
        self.0.as_ptr()
    }

    pub fn name(self) -> String {
        // SAFETY: a NUL-terminated string that is set once, while the configuration is read.
        unsafe { CStr::from_ptr((*self.raw()).legion) }.to_string_lossy().into_owned()
    }

    /// Where it listens, where the configuration names an address for that.
    pub fn address(self) -> Option<IpAddr> {
        // SAFETY: as above.
        let address = unsafe { CStr::from_ptr((*self.raw()).addr) }.to_str().ok()?;
        address.rsplit_once(':')?.0.parse().ok()
    }

    /// How many votes make a Lord; 0 where any number does.
    pub fn quorum(self) -> i32 {
        // SAFETY: set once, while the configuration is read.
        unsafe { (*self.raw()).quorum }
    }

    /// Its hooks, as they stand in the configuration.
    pub fn hooks(self) -> Vec<HookLine> {
        let raw = self.raw();
        // SAFETY: the lists are made while the configuration is read, and not changed after.
        let lists = unsafe {
            [
                ("legion-lord", (*raw).lord_hooks),
                ("legion-unlord", (*raw).unlord_hooks),
                ("legion-setup", (*raw).setup_hooks),
                ("legion-death", (*raw).death_hooks),
                ("legion-join", (*raw).join_hooks),
                ("legion-node-joined", (*raw).node_joined_hooks),
                ("legion-node-left", (*raw).node_left_hooks),
            ]
        };
        let mut hooks = Vec::new();
        for (phase, list) in lists {
            // SAFETY: as above.
            for text in unsafe { strings(list) } {
                let colon = text.iter().position(|byte| *byte == b':').unwrap_or(text.len());
                let (action, argument) = text.split_at(colon);
                let argument = argument.get(1..).unwrap_or_default().to_vec();
                hooks.push(HookLine { phase, action: action.to_vec(), argument });
            }
        }
        hooks
    }

    /// Copies what is known of the Legion now.
    pub fn view(self) -> View {
        let raw = self.raw();
        // SAFETY: the fields are aligned and live as long as the process. The nodes are read under the lock that
        // uWSGI takes to change their list.
        unsafe {
            let load = |field: *mut i64| AtomicI64::from_ptr(field).load(Ordering::Relaxed);
            hetzner_host_read_lock(raw);
            let mut peers = Vec::new();
            let own = uuid(addr_of!((*raw).uuid).cast());
            let mut node = (*raw).nodes_head;
            while !node.is_null() {
                let votes_for_us = uuid(addr_of!((*node).lord_uuid).cast()) == own;
                peers.push(Peer { uuid: uuid(addr_of!((*node).uuid).cast()), votes_for_us });
                node = (*node).next;
            }
            hetzner_host_unlock(raw);
            View {
                lord_since: load(addr_of_mut!((*raw).i_am_the_lord)),
                dead: AtomicI32::from_ptr(addr_of_mut!((*raw).dead)).load(Ordering::Relaxed) != 0,
                suspended_until: load(addr_of_mut!((*raw).suspended_til)),
                peers,
            }
        }
    }

    /// Makes a node that announces itself as dead a member again; returns whether it was one that did.
    pub fn revive(self) -> bool {
        // SAFETY: aligned, and lives as long as the process. uWSGI's Legion thread reads it at each announcement.
        let dead = unsafe { AtomicI32::from_ptr(addr_of_mut!((*self.raw()).dead)) };
        dead.compare_exchange(1, 0, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// The number of nodes that the configuration names, this one included. `None` where it names a multicast
    /// address, behind which any number may be.
    pub fn configured_size(self) -> Option<usize> {
        // SAFETY: the list of addresses is made while the configuration is read, and not changed after.
        let addresses = unsafe { strings((*self.raw()).nodes) };
        let multicast = |address: &Vec<u8>| {
            let host = address.split(|byte| *byte == b':').next().unwrap_or_default();
            let host = std::str::from_utf8(host).ok().and_then(|host| host.parse::<Ipv4Addr>().ok());
            host.is_some_and(|host| host.is_multicast())
        };
        (!addresses.iter().any(multicast)).then_some(addresses.len() + 1)
    }
}

/// Seconds between two announcements.
pub fn round() -> Duration {
    // SAFETY: reads one number.
    Duration::from_secs(unsafe { hetzner_host_legion_freq() }.max(1).unsigned_abs().into())
}

/// Whether a node whose hook has failed suspends itself, rather than become Lord.
pub fn death_on_lord_error() -> bool {
    // SAFETY: reads one number.
    unsafe { hetzner_host_death_on_lord_error() != 0 }
}

/// Whether this process is about to end, or to reload.
pub fn is_ending() -> bool {
    // SAFETY: reads a few flags that the master sets.
    unsafe { hetzner_host_is_ending() != 0 }
}

/// Whether a hook still runs for what it was elected for: uWSGI hears nobody meanwhile.
pub struct Election {
    legion: Legion,
    is_outvoted: AtomicBool,
}

impl Election {
    /// Called in the Legion's thread, when uWSGI runs a lord hook. What it has not read yet counts already: a process
    /// that was frozen drops all peers first, and is elected by itself.
    pub fn of(legion: Legion) -> Arc<Election> {
        let election = Election { legion, is_outvoted: AtomicBool::new(false) };
        legion.hear(Some(&election));
        Arc::new(election)
    }

    /// Whether a node with a higher valor is alive after all. uWSGI elects the highest.
    pub fn is_outvoted(&self) -> bool {
        self.is_outvoted.load(Ordering::Relaxed)
    }

    fn hear(&self, valor: u64, said_at: i64) {
        // SAFETY: a number that is set once, while the configuration is read; and a call that reads one.
        let (own, tolerance) = unsafe { ((*self.legion.raw()).valor, hetzner_host_legion_tolerance()) };
        if valor > own && said_at >= now() - i64::from(tolerance) {
            self.is_outvoted.store(true, Ordering::Relaxed);
        }
    }
}

/// Runs `work` in a thread of its own and waits for it, as a hook has to: meanwhile this thread, which is the
/// Legion's, announces every Legion of this process and listens for what becomes of the election, and afterwards no
/// peer is held to what could not be heard. `None` when the process is ending, or `work` did.
pub fn wait_for<T: Send + 'static>(
    election: Option<&Election>,
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let (done, result) = mpsc::channel();
    // Nobody waits any more where the process is ending.
    hand_over(move || drop(done.send(work())))?;
    let deaf_since = now();
    let mut announced = Instant::now();
    let result = loop {
        match result.recv_timeout(TICK) {
            Ok(result) => break Some(result),
            Err(RecvTimeoutError::Disconnected) => break None,
            Err(RecvTimeoutError::Timeout) => {}
        }
        if is_ending() {
            return None;
        }
        let announce = announced.elapsed() >= round();
        if announce {
            announced = Instant::now();
        }
        for legion in legions() {
            if announce {
                // SAFETY: this is the Legion's own thread, which is where uWSGI calls it.
                unsafe { hetzner_host_announce(legion.raw()) };
            }
            legion.hear(election.filter(|election| election.legion == legion));
        }
    };
    let deaf = now().saturating_sub(deaf_since).max(0);
    legions().into_iter().for_each(|legion| legion.pardon(deaf));
    result
}

impl Legion {
    /// Takes what has come in off the socket. Unread, it would overflow it, and what is old when uWSGI reads it
    /// is refused with a line each. What is lost with it is said again within a round.
    fn hear(self, election: Option<&Election>) {
        for _ in 0..MOST_DATAGRAMS {
            let (mut valor, mut said_at) = (0, 0);
            // SAFETY: this is the Legion's own thread, the socket is open as long as the process, and both numbers
            // are ours.
            match unsafe { hetzner_host_hear(self.raw(), &mut valor, &mut said_at) } {
                ..0 => return,
                0 => {}
                _ => election.into_iter().for_each(|election| election.hear(valor, said_at)),
            }
        }
    }

    /// Moves the time at which each peer was last seen on by so many seconds.
    fn pardon(self, seconds: i64) {
        let raw = self.raw();
        // SAFETY: as in `view`, with the lock that uWSGI takes to change the list.
        unsafe {
            hetzner_host_write_lock(raw);
            let mut node: *mut UwsgiLegionNode = (*raw).nodes_head;
            while !node.is_null() {
                (*node).last_seen += seconds;
                node = (*node).next;
            }
            hetzner_host_unlock(raw);
        }
    }
}

impl Legion {
    /// The one that counts most is Lord; 0 is an arbiter's, who never is.
    pub fn valor(self) -> u64 {
        // SAFETY: set once, while the configuration is read.
        unsafe { (*self.raw()).valor }
    }

    /// Where it listens, as the configuration says it: `HOST:PORT`.
    pub fn listens_at(self) -> String {
        // SAFETY: a NUL-terminated string that is set once, while the configuration is read.
        unsafe { CStr::from_ptr((*self.raw()).addr) }.to_string_lossy().into_owned()
    }

    /// What it announces itself to, as the configuration says it: `HOST:PORT` of each.
    pub fn node_addresses(self) -> Vec<String> {
        // SAFETY: the list of addresses is made while the configuration is read, and not changed after.
        let addresses = unsafe { strings((*self.raw()).nodes) };
        addresses.iter().map(|address| String::from_utf8_lossy(address).into_owned()).collect()
    }
}

/// Seconds after which a node that is not heard counts as dead.
pub fn tolerance() -> Duration {
    // SAFETY: reads one number.
    Duration::from_secs(unsafe { hetzner_host_legion_tolerance() }.max(1).unsigned_abs().into())
}

/// All Legions of this process.
pub fn legions() -> Vec<Legion> {
    let mut found = Vec::new();
    // SAFETY: the list is made while the configuration is read, and not changed after.
    unsafe {
        let mut legion = hetzner_host_legions();
        while let Some(known) = Legion::new(legion) {
            found.push(known);
            legion = (*legion).next;
        }
    }
    found
}

/// # Safety
/// `list` is NULL or the head of a list that is not changed meanwhile.
unsafe fn strings(mut list: *const UwsgiStringList) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    while !list.is_null() {
        // SAFETY: what the caller promises; each value is a NUL-terminated string.
        unsafe {
            found.push(CStr::from_ptr((*list).value).to_bytes().to_vec());
            list = (*list).next;
        }
    }
    found
}

/// # Safety
/// 36 bytes are readable at `from`. They may be written meanwhile: then the copy is of no Legion's node.
unsafe fn uuid(from: *const c_char) -> [u8; 36] {
    // SAFETY: what the caller promises.
    unsafe { ptr::read_volatile(from.cast()) }
}

/// Unix time in seconds, as uWSGI counts it.
pub fn now() -> i64 {
    // SAFETY: NULL is allowed.
    unsafe { libc::time(ptr::null_mut()) }
}
