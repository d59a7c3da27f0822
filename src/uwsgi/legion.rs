//! A Legion of this process: its configuration, its state and its peers.
//!
//! uWSGI runs all Legions, and their hooks, in one thread of the master. Only that thread adds and removes peers, under the
//! Legion's lock; other threads read them under the same lock.

use std::ffi::{CStr, c_char};
use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};
use std::ptr::{self, NonNull, addr_of, addr_of_mut};
use std::sync::atomic::{AtomicI32, AtomicI64, AtomicPtr, AtomicU64, Ordering};
use std::time::Duration;

use super::abi::{UwsgiLegion, UwsgiLegionNode, UwsgiStringList};
use super::calls::*;
use crate::sys::interface_addresses;

/// What [`Legion::mark`] puts into `suspended_til`: a second of 1970, so it suspends nothing.
const MARK: i64 = 1;

/// Identifies a node; new each time that it starts.
pub type Uuid = [u8; 36];

/// A Legion that this process is a member of. uWSGI creates it while it reads the configuration, and never frees it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Legion(NonNull<UwsgiLegion>);

// SAFETY: the pointer is valid as long as the process. What threads other than the Legion's access through it never
// changes, or is atomic, or is read under the Legion's lock.
unsafe impl Send for Legion {}
// SAFETY: as above.
unsafe impl Sync for Legion {}

/// A hook in the configuration: `PHASE = LEGION ACTION:ARGUMENT`.
pub struct HookLine {
    pub phase: &'static str,
    pub action: Vec<u8>,
    pub argument: Vec<u8>,
}

/// A lord hook, as uWSGI runs it.
pub struct LordHook {
    pub action: &'static CStr,
    /// The very text that uWSGI passes.
    pub argument: &'static [u8],
}

/// A node that was heard from within the tolerance.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Peer {
    pub uuid: Uuid,
    /// The node with the highest is to be Lord; one with 0 only votes.
    pub valor: u64,
    /// Whether it votes for this node as Lord.
    pub votes_for_us: bool,
    /// The valor of the node that it votes for.
    pub votes_for: u64,
    /// Of all the nodes that it knows, itself included.
    pub checksum: u64,
    /// Unix time, seconds.
    pub last_seen: i64,
}

/// A Legion at one moment.
#[derive(Debug)]
pub struct View {
    /// Unix time (seconds) since which this node has been Lord; 0 if it is not.
    pub lord_since: i64,
    /// Whether this node announces itself as dead.
    pub dead: bool,
    /// Unix time (seconds) until which it is suspended; 0 or 1 if it is not.
    pub suspended_until: i64,
    /// Whether a peer outranks this node.
    pub is_outranked: bool,
    /// Who is to be Lord, and of which nodes, as this node announces it: valor, uuid and checksum.
    pub vote: (u64, Uuid, u64),
    pub peers: Vec<Peer>,
}

impl View {
    /// How long ago the last peer in sight was heard; `None` if no peer is in sight.
    pub fn silence(&self) -> Option<Duration> {
        // 0: uWSGI sets the time only a moment after it has added a node.
        let heard = self.peers.iter().map(|peer| peer.last_seen).filter(|seen| *seen > 0).max()?;
        Some(Duration::from_secs(u64::try_from(now() - heard).unwrap_or_default()))
    }

    /// Whether uWSGI would have dropped all peers in sight by now if the Legion's thread were running. Then this view says
    /// nothing.
    pub fn is_stale(&self) -> bool {
        self.silence().is_some_and(|silence| silence > tolerance() + Duration::from_secs(1))
    }

    /// Whether there is another node that could be Lord.
    pub fn has_another_candidate(&self) -> bool {
        self.peers.iter().any(|peer| peer.valor > 0)
    }

    /// What uWSGI's checksum of these nodes is, this one among them with that valor and uuid.
    pub fn checksum(&self, valor: u64, uuid: &Uuid) -> u64 {
        let others = self.peers.iter().map(|peer| checksum_part(peer.valor, &peer.uuid));
        others.fold(checksum_part(valor, uuid), u64::wrapping_add)
    }
}

/// A node's part of uWSGI's checksum.
pub fn checksum_part(valor: u64, uuid: &Uuid) -> u64 {
    uuid.iter().fold(valor, |sum, byte| sum.wrapping_add((*byte).into()))
}

impl Legion {
    /// # Safety
    /// `legion` is NULL, or a Legion of this process.
    pub unsafe fn new(legion: *mut UwsgiLegion) -> Option<Legion> {
        NonNull::new(legion).map(Legion)
    }

    pub(super) fn raw(self) -> *mut UwsgiLegion {
        self.0.as_ptr()
    }

    pub fn name(self) -> String {
        String::from_utf8_lossy(self.name_bytes()).into_owned()
    }

    pub(super) fn name_bytes(self) -> &'static [u8] {
        // SAFETY: a NUL-terminated string, set once while the configuration is read.
        unsafe { CStr::from_ptr((*self.raw()).legion) }.to_bytes()
    }

    /// The node with the highest valor is to be Lord; a node with 0 (an arbiter) never is.
    pub fn valor(self) -> u64 {
        // SAFETY: aligned, and valid as long as the process.
        unsafe { AtomicU64::from_ptr(addr_of_mut!((*self.raw()).valor)).load(Ordering::Acquire) }
    }

    /// Where this node listens, as in the configuration: `HOST:PORT`.
    pub fn listens_at(self) -> String {
        // SAFETY: as above.
        unsafe { CStr::from_ptr((*self.raw()).addr) }.to_string_lossy().into_owned()
    }

    /// The address in that, if there is one.
    pub fn address(self) -> Option<IpAddr> {
        self.listens_at().rsplit_once(':')?.0.parse().ok()
    }

    /// Where this node sends its announcements, as in the configuration: `HOST:PORT` of each. Before an announcer takes them.
    pub fn node_addresses(self) -> Vec<String> {
        // SAFETY: the list is made while the configuration is read, and does not change after that.
        let addresses = unsafe { strings((*self.raw()).nodes) };
        addresses.iter().map(|address| String::from_utf8_lossy(address).into_owned()).collect()
    }

    /// How many votes a Lord needs; 0 if any number is enough.
    pub fn quorum(self) -> i32 {
        // SAFETY: set once while the configuration is read.
        unsafe { (*self.raw()).quorum }
    }

    /// Its hooks, as in the configuration.
    pub fn hooks(self) -> Vec<HookLine> {
        let raw = self.raw();
        // SAFETY: the lists are made while the configuration is read, and do not change after that.
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

    /// The lord hooks that uWSGI runs before the one with this `argument`, and those that it runs after it. It must be the very
    /// text that uWSGI has passed, because two hooks may have the same.
    pub fn lord_hooks_around(self, argument: &[u8]) -> (Vec<LordHook>, Vec<LordHook>) {
        let mut hooks = self.lord_hooks();
        let at = hooks.iter().position(|hook| ptr::eq(hook.argument.as_ptr(), argument.as_ptr()));
        let Some(at) = at else { return (Vec::new(), Vec::new()) };
        let after = hooks.split_off(at + 1);
        hooks.truncate(at);
        (hooks, after)
    }

    fn lord_hooks(self) -> Vec<LordHook> {
        let mut found = Vec::new();
        // SAFETY: the list is made while the configuration is read, and does not change after that. uWSGI has split each
        // value at its colon: the name is a NUL-terminated string of its own, and the argument begins at `custom`.
        unsafe {
            let mut hook: *const UwsgiStringList = (*self.raw()).lord_hooks;
            while !hook.is_null() {
                let argument = CStr::from_ptr((*hook).value.add((*hook).custom as usize)).to_bytes();
                found.push(LordHook { action: CStr::from_ptr((*hook).custom_ptr.cast()), argument });
                hook = (*hook).next;
            }
        }
        found
    }

    pub fn uuid(self) -> Uuid {
        // SAFETY: 36 bytes, set before the Legion's thread starts.
        unsafe { uuid(addr_of!((*self.raw()).uuid).cast()) }
    }

    /// Whether a node with this valor and uuid is to be Lord rather than this one, by uWSGI's rule.
    pub(super) fn is_outranked_by(self, valor: u64, other: &Uuid) -> bool {
        let own = self.valor();
        valor > own || valor == own && valor > 0 && *other > self.uuid()
    }

    /// Copies the state of the Legion.
    pub fn view(self) -> View {
        let raw = self.raw();
        let mut peers = Vec::new();
        let own = self.uuid();
        // SAFETY: the nodes are read under the lock that uWSGI takes to change the list.
        unsafe {
            self.for_each_node(hetzner_call_read_lock, |node| {
                peers.push(Peer {
                    uuid: uuid(addr_of!((*node).uuid).cast()),
                    valor: (*node).valor,
                    votes_for_us: uuid(addr_of!((*node).lord_uuid).cast()) == own,
                    votes_for: AtomicU64::from_ptr(addr_of_mut!((*node).lord_valor)).load(Ordering::Relaxed),
                    checksum: AtomicU64::from_ptr(addr_of_mut!((*node).checksum)).load(Ordering::Relaxed),
                    last_seen: AtomicI64::from_ptr(addr_of_mut!((*node).last_seen)).load(Ordering::Relaxed),
                });
            });
        }
        // SAFETY: the fields are aligned, and valid as long as the process.
        unsafe {
            View {
                lord_since: AtomicI64::from_ptr(addr_of_mut!((*raw).i_am_the_lord)).load(Ordering::Relaxed),
                dead: AtomicI32::from_ptr(addr_of_mut!((*raw).dead)).load(Ordering::Relaxed) != 0,
                suspended_until: self.suspended_until().load(Ordering::Relaxed),
                is_outranked: peers.iter().any(|peer| self.is_outranked_by(peer.valor, &peer.uuid)),
                vote: self.vote(),
                peers,
            }
        }
    }

    /// Whom this node votes for: the Lord's valor and uuid, and the checksum of all nodes.
    pub(super) fn vote(self) -> (u64, Uuid, u64) {
        let raw = self.raw();
        // SAFETY: aligned, and valid as long as the process. A uuid read while it changes is a vote for no node.
        unsafe {
            let number = |field: *mut u64| AtomicU64::from_ptr(field).load(Ordering::Relaxed);
            let (valor, checksum) = (addr_of_mut!((*raw).lord_valor), addr_of_mut!((*raw).checksum));
            (number(valor), uuid(addr_of!((*raw).lord_uuid).cast()), number(checksum))
        }
    }

    /// Sets when a peer was last seen, if `seen` says so for its uuid and valor.
    pub(super) fn note_seen(self, seen: impl Fn(Uuid, u64) -> Option<i64>) {
        // SAFETY: under the lock that uWSGI takes to change the list.
        unsafe {
            self.for_each_node(hetzner_call_write_lock, |node| {
                if let Some(at) = seen(uuid(addr_of!((*node).uuid).cast()), (*node).valor) {
                    (*node).last_seen = at;
                }
            });
        }
    }

    /// # Safety
    /// `lock` allows what `act` does; `act` accesses only the node.
    unsafe fn for_each_node(
        self,
        lock: unsafe extern "C" fn(*mut UwsgiLegion),
        mut act: impl FnMut(*mut UwsgiLegionNode),
    ) {
        // SAFETY: the list does not change while the lock is held.
        unsafe {
            lock(self.raw());
            let mut node = (*self.raw()).nodes_head;
            while !node.is_null() {
                act(node);
                node = (*node).next;
            }
            hetzner_call_unlock(self.raw());
        }
    }

    fn suspended_until(&self) -> &AtomicI64 {
        // SAFETY: aligned, and valid as long as the process.
        unsafe { AtomicI64::from_ptr(addr_of_mut!((*self.raw()).suspended_til)) }
    }

    /// Whether uWSGI has announced this node since the last call: each time, it clears the mark that is left here.
    pub fn mark(self) -> bool {
        self.suspended_until().compare_exchange(0, MARK, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// Keeps a suspended node suspended until then (Unix time).
    pub fn suspend_until(self, until: i64) {
        self.suspended_until().store(until, Ordering::Relaxed);
    }

    /// For its peers a node with another valor is another node, so they must be told that the old one is dead.
    pub fn set_valor(self, valor: u64) {
        // SAFETY: aligned, and valid as long as the process.
        unsafe {
            AtomicU64::from_ptr(addr_of_mut!((*self.raw()).valor)).store(valor, Ordering::Release);
        }
    }

    /// Makes a suspended node a member again. Its valor must be right by then, because uWSGI's Legion thread reads both in
    /// each of its rounds.
    pub fn revive(self) {
        // SAFETY: aligned, and valid as long as the process.
        unsafe {
            self.suspended_until().store(0, Ordering::Release);
            AtomicI32::from_ptr(addr_of_mut!((*self.raw()).dead)).store(0, Ordering::Release);
        }
    }

    /// Makes this node, for its peers, the one that had this uuid. Before the Legion's thread starts.
    pub fn set_uuid(self, uuid: &Uuid) {
        // SAFETY: 36 bytes of 37, which nobody else uses yet.
        unsafe {
            ptr::copy_nonoverlapping(uuid.as_ptr(), addr_of_mut!((*self.raw()).uuid).cast(), uuid.len())
        }
    }

    /// Has uWSGI announce this node to nobody; returns to whom it would.
    pub(super) fn take_nodes(self) -> *mut UwsgiStringList {
        self.nodes().swap(ptr::null_mut(), Ordering::AcqRel)
    }

    /// Ends what [`Legion::take_nodes`] began.
    pub(super) fn give_nodes_back(self, nodes: *mut UwsgiStringList) {
        self.nodes().store(nodes, Ordering::Release);
    }

    fn nodes(&self) -> &AtomicPtr<UwsgiStringList> {
        // SAFETY: aligned, and valid as long as the process.
        unsafe { AtomicPtr::from_ptr(addr_of_mut!((*self.raw()).nodes)) }
    }

    /// The number of different nodes in the configuration, including this one. `None` if it has a multicast address, behind
    /// which any number may be.
    pub fn configured_size(self) -> Option<usize> {
        let mut others: Vec<SocketAddrV4> = Vec::new();
        let own = self.listens_on();
        // SAFETY: the list is made while the configuration is read, and does not change after that. `custom_ptr` of each is
        // its address.
        unsafe {
            let mut node: *const UwsgiStringList = (*self.raw()).nodes;
            while !node.is_null() {
                let address = ptr::read_unaligned((*node).custom_ptr.cast::<libc::sockaddr_in>());
                let host = Ipv4Addr::from(u32::from_be(address.sin_addr.s_addr));
                let address = SocketAddrV4::new(host, u16::from_be(address.sin_port));
                if host.is_multicast() {
                    return None;
                }
                if !others.contains(&address) && !own.contains(&address) {
                    others.push(address);
                }
                node = (*node).next;
            }
        }
        Some(others.len() + 1)
    }

    /// The addresses that stand for this node itself in an ini.
    pub fn listens_on(self) -> Vec<SocketAddrV4> {
        let text = self.listens_at();
        let Some((host, port)) = text.rsplit_once(':') else { return Vec::new() };
        let Ok(port) = port.parse() else { return Vec::new() };
        let any = host.is_empty() || host.parse() == Ok(Ipv4Addr::UNSPECIFIED);
        let hosts: Vec<IpAddr> = if any {
            interface_addresses().unwrap_or_default().into_iter().map(|(_, address)| address).collect()
        } else {
            host.parse().into_iter().collect()
        };
        let ipv4 = |host: IpAddr| match host {
            IpAddr::V4(host) => Some(SocketAddrV4::new(host, port)),
            IpAddr::V6(_) => None,
        };
        hosts.into_iter().filter_map(ipv4).collect()
    }
}

/// The time between two announcements.
pub fn round() -> Duration {
    // SAFETY: reads one number.
    Duration::from_secs(unsafe { hetzner_call_legion_freq() }.max(1).unsigned_abs().into())
}

/// After how long without an announcement a node counts as dead.
pub fn tolerance() -> Duration {
    // SAFETY: reads one number.
    Duration::from_secs(unsafe { hetzner_call_legion_tolerance() }.max(1).unsigned_abs().into())
}

/// How old an announcement may be, in seconds.
pub(super) fn skew_tolerance() -> i64 {
    // SAFETY: reads one number.
    unsafe { hetzner_call_skew_tolerance() }.into()
}

/// Whether a node whose lord hook fails suspends itself instead of becoming Lord.
pub fn death_on_lord_error() -> bool {
    // SAFETY: reads one number.
    unsafe { hetzner_call_death_on_lord_error() }
}

/// Whether this process is about to end or to reload.
pub fn is_ending() -> bool {
    is_reloading() || is_dying()
}

/// Whether it is about to reload: to become the same uWSGI anew.
pub fn is_reloading() -> bool {
    // SAFETY: reads flags that the master sets.
    unsafe { hetzner_call_is_reloading() }
}

/// Whether it is about to end.
pub fn is_dying() -> bool {
    // SAFETY: as above.
    unsafe { hetzner_call_is_dying() }
}

/// All Legions of this process.
pub fn legions() -> Vec<Legion> {
    let mut found = Vec::new();
    // SAFETY: the list is made while the configuration is read, and does not change after that.
    unsafe {
        let mut legion = hetzner_call_legions();
        while let Some(known) = Legion::new(legion) {
            found.push(known);
            legion = (*legion).next;
        }
    }
    found
}

/// # Safety
/// `list` is NULL or the head of a list that does not change meanwhile.
unsafe fn strings(mut list: *const UwsgiStringList) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    while !list.is_null() {
        // SAFETY: the caller's promise; each value is a NUL-terminated string.
        unsafe {
            found.push(CStr::from_ptr((*list).value).to_bytes().to_vec());
            list = (*list).next;
        }
    }
    found
}

/// # Safety
/// 36 bytes are readable at `from`. If they are written meanwhile, the copy is no node's uuid.
pub(super) unsafe fn uuid(from: *const c_char) -> Uuid {
    // SAFETY: the caller's promise.
    unsafe { ptr::read_volatile(from.cast()) }
}

/// Unix time in seconds.
pub fn now() -> i64 {
    // SAFETY: NULL is allowed.
    unsafe { libc::time(ptr::null_mut()) }
}
