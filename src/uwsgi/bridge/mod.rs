//! The bridge over a reload: a child process that goes on announcing this node while its master is silent, from the last
//! moment before the `exec()` until the new image announces the node itself, which may be a minute later: uWSGI starts its
//! Legions only when the application is loaded.
//!
//! The new image finds the child by an abstract unix socket whose name it can work out, learns there what it was, and ends
//! the child. So nothing is left behind: no variable, no file, no descriptor. Both make sure that the other one is who it
//! should be: the child answers only its parent, and the socket was opened by the very process that now connects to it.
//!
//! [`BridgeBuilder`] is the side of the old image, [`Bridge`] that of the new one, `child` what runs in between.

mod child;

use std::ffi::{c_char, c_int, c_uint};
use std::io::{self, Read, Write};
use std::mem::{self, ManuallyDrop, MaybeUninit};
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::time::{Duration, Instant};
use std::{fs, process, ptr, thread};

use super::abi::UwsgiStringList;
use super::announcer::Announcer;
use super::legion::{Legion, legions, now, tolerance};
use child::{Child, Speech, To};

/// For how long after the `exec()` the node is announced while the new image has not started its Legions.
pub const LONGEST_BRIDGE: Duration = Duration::from_secs(child::LONGEST.unsigned_abs() / 1000);
/// How long the child may take for an answer: it is busy for moments only, but the machine may be.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long to wait at a door that another process may have put there.
const LONGEST_CONNECT: Duration = Duration::from_secs(1);
/// How long it may take to end; after that it is killed.
const LONGEST_END: Duration = Duration::from_secs(2);
/// How many names are tried, because the first one may be in use.
const NAMES: u32 = 4;

/// A name for the child's socket that only this process has, before its `exec()` and after it: no other one had the same id
/// and began at the same time in the same container. What of it cannot be read, because there is no `/proc`, is left out.
fn name(number: u32) -> String {
    let namespace = fs::metadata("/proc/self/ns/pid").map(|link| link.ino()).unwrap_or_default();
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The program's name, in parentheses, may contain anything.
    let began = stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(19)).unwrap_or_default();
    format!("uwsgi-hetzner-bridge-{namespace}-{}-{began}-{number}", process::id())
}

/// All that is needed to build the bridge, made while this can still be done safely: the ciphers before the Legions' thread
/// uses them.
pub struct BridgeBuilder(Vec<Voice>);

/// One Legion's.
struct Voice {
    legion: Legion,
    announcer: Announcer,
    nodes: Vec<To>,
}

impl BridgeBuilder {
    /// Before uWSGI starts its Legions.
    pub fn new() -> BridgeBuilder {
        let voice =
            |legion: Legion| Some(Voice { legion, announcer: Announcer::new(legion)?, nodes: nodes(legion) });
        BridgeBuilder(legions().into_iter().filter_map(voice).collect())
    }

    fn voice(&mut self, legion: Legion) -> Option<&mut Voice> {
        self.0.iter_mut().find(|voice| voice.legion == legion)
    }

    /// See [`Announcer::probe`].
    pub fn probe(&mut self, legion: Legion) -> Option<Vec<u8>> {
        self.voice(legion)?.announcer.probe()
    }

    /// Starts the child, which announces this node in these Legions, with these valors, and hands `facts` over to the new
    /// image. Right before the `exec()`, in the master's main thread.
    pub fn build(&mut self, spans: &[(Legion, u64)], facts: Vec<u8>) -> io::Result<()> {
        let listener =
            (0..NAMES).map(listen).reduce(io::Result::or).unwrap_or_else(|| Err(io::Error::other("")))?;
        // Its end in this process is closed by the exec(), or by uWSGI right before it.
        let (ours, theirs) = UnixStream::pair()?;
        let mut sockets = Vec::new();
        let mut speeches = Vec::new();
        for (legion, valor) in spans {
            let voice = self.voice(*legion).ok_or_else(|| io::Error::other("there is no cipher"))?;
            let socket = socket(*legion)?;
            speeches.push(voice.speech(*valor, socket.as_raw_fd()));
            sockets.push(socket);
        }
        let mut kept: Vec<c_int> = sockets.iter().map(AsRawFd::as_raw_fd).collect();
        kept.extend([listener.as_raw_fd(), theirs.as_raw_fd()]);
        let child = Child {
            parent: own_id(),
            listener: listener.as_raw_fd(),
            exec: theirs.as_raw_fd(),
            facts,
            speeches,
            tolerance: i64::try_from(tolerance().as_millis()).unwrap_or(i64::MAX),
            unneeded: gaps(kept),
            most_descriptors: most_descriptors(),
        };
        fork(child)?;
        let _ = ours.into_raw_fd();
        Ok(())
    }

    /// Tells all nodes that this one is gone from these Legions, in which it had these valors.
    pub fn say_farewell(&mut self, spans: &[(Legion, u64)]) {
        for (legion, valor) in spans {
            let Some(voice) = self.voice(*legion) else { continue };
            if let Some(datagram) = voice.announcer.sealed(*valor, true, now()) {
                // SAFETY: the Legion's socket is set before its thread starts, and does not change.
                child::send(unsafe { (*legion.raw()).socket }, &voice.nodes, &datagram);
            }
        }
    }
}

impl Voice {
    fn speech(&mut self, valor: u64, socket: c_int) -> Speech {
        let now = now();
        // Each is of the end of its time, because peers accept no old ones. Not of the end of all time: a recorded
        // announcement should not be of use for longer than any other.
        let mut sealed = |dead| {
            let ends = (1..=child::SLOTS).map(|slot| now + slot * child::SLOT / 1000);
            ends.filter_map(|unix| self.announcer.sealed(valor, dead, unix)).collect()
        };
        let (alive, farewell) = (sealed(false), sealed(true));
        Speech { socket, nodes: self.nodes.clone(), alive, farewell, is_over: false, repeats: 0 }
    }
}

/// To whom this node announces itself.
fn nodes(legion: Legion) -> Vec<To> {
    let mut found = Vec::new();
    // SAFETY: the list is made while the configuration is read. `custom_ptr` of each is its address, `custom` that one's
    // length.
    unsafe {
        let mut node: *const UwsgiStringList = (*legion.raw()).nodes;
        while !node.is_null() {
            let mut address = MaybeUninit::<libc::sockaddr_storage>::zeroed();
            let length = size_of::<libc::sockaddr_storage>().min((*node).custom as usize);
            ptr::copy_nonoverlapping((*node).custom_ptr.cast::<u8>(), address.as_mut_ptr().cast(), length);
            found.push(To { address: address.assume_init(), length: length as libc::socklen_t });
            node = (*node).next;
        }
    }
    found
}

/// A socket that sends as the Legion's own does: from the same address, since firewalls may look at that, but from another
/// port, because the new image needs the same one.
fn socket(legion: Legion) -> io::Result<UdpSocket> {
    // SAFETY: a descriptor that uWSGI keeps open, and that is not closed here.
    let own = unsafe { ManuallyDrop::new(UdpSocket::from_raw_fd((*legion.raw()).socket)) };
    let any = IpAddr::from(Ipv4Addr::UNSPECIFIED);
    let host = own.local_addr().map_or(any, |address| address.ip());
    let socket = UdpSocket::bind((host, 0)).or_else(|_| UdpSocket::bind((any, 0)))?;
    socket.set_nonblocking(true)?;
    // What fails here matters only to a multicast group, and then the Legion's own is as it is by default.
    let _ = own.multicast_ttl_v4().and_then(|ttl| socket.set_multicast_ttl_v4(ttl));
    let _ = own.multicast_loop_v4().and_then(|loops| socket.set_multicast_loop_v4(loops));
    let _ = own.broadcast().and_then(|broadcast| socket.set_broadcast(broadcast));
    Ok(socket)
}

fn own_id() -> libc::pid_t {
    process::id() as libc::pid_t
}

fn listen(number: u32) -> io::Result<UnixListener> {
    let listener = UnixListener::bind_addr(&SocketAddr::from_abstract_name(name(number))?)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// The descriptors that are not among these, as ranges.
fn gaps(mut kept: Vec<c_int>) -> Vec<(c_uint, c_uint)> {
    kept.sort_unstable();
    let mut first = 0;
    let mut gaps = Vec::new();
    for descriptor in kept {
        let descriptor = descriptor as c_uint;
        if first < descriptor {
            gaps.push((first, descriptor - 1));
        }
        first = descriptor + 1;
    }
    gaps.push((first, c_uint::MAX));
    gaps
}

/// How many descriptors this process may have, for a kernel that does not close a range of them.
fn most_descriptors() -> c_uint {
    // SAFETY: reads one number.
    let most = unsafe { libc::sysconf(libc::_SC_OPEN_MAX) };
    c_uint::try_from(most).unwrap_or(1024).min(1 << 20)
}

/// Runs `child` in a child process, in which all signals are blocked.
fn fork(mut child: Child) -> io::Result<()> {
    let mut before = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: the calls write to sets of ours. The child has a copy of this thread alone, and does only what is allowed
    // after that: see `child`.
    let forked = unsafe {
        let mut all = MaybeUninit::<libc::sigset_t>::uninit();
        libc::sigfillset(all.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr());
        let forked = libc::fork();
        if forked == 0 {
            child.run();
        }
        forked
    };
    let error = io::Error::last_os_error();
    // SAFETY: restores the mask that the call above has written.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, before.as_ptr(), ptr::null_mut()) };
    if forked < 0 { Err(error) } else { Ok(()) }
}

/// Connects to an abstract socket. Whoever has taken the name may let nobody in, so this waits for moments only, which the
/// standard library's connect() cannot.
fn connect(name: &str) -> io::Result<UnixStream> {
    // SAFETY: all zeros are valid.
    let mut address: libc::sockaddr_un = unsafe { MaybeUninit::zeroed().assume_init() };
    address.sun_family = libc::AF_UNIX as libc::sa_family_t;
    // An abstract name begins with a zero.
    let room = address.sun_path.iter_mut().skip(1);
    room.zip(name.bytes()).for_each(|(to, byte)| *to = byte as c_char);
    let length = size_of_val(&address).min(mem::offset_of!(libc::sockaddr_un, sun_path) + 1 + name.len());
    // SAFETY: a new descriptor becomes the stream's; the address is ours, and has at least that length.
    unsafe {
        let socket = libc::socket(libc::AF_UNIX, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0);
        if socket < 0 {
            return Err(io::Error::last_os_error());
        }
        let stream = UnixStream::from_raw_fd(socket);
        stream.set_write_timeout(Some(LONGEST_CONNECT))?;
        let address: *const libc::sockaddr_un = &address;
        match libc::connect(socket, address.cast(), length as libc::socklen_t) {
            0 => Ok(stream),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

/// The bridge that the old image of this process has left.
pub struct Bridge {
    name: String,
    /// The child's id.
    id: libc::pid_t,
}

impl Bridge {
    /// Finds it, and what the old image hands over. From then on the child knows that there is a plugin again.
    pub fn find() -> Option<(Bridge, Vec<u8>)> {
        (0..NAMES).find_map(|number| {
            let mut bridge = Bridge { name: name(number), id: 0 };
            let answer = bridge.ask(&[child::HELLO])?;
            let (id, facts) = answer.split_first_chunk()?;
            bridge.id = libc::pid_t::from_le_bytes(*id);
            bridge.is_ours().then(|| (bridge, facts.to_vec()))
        })
    }

    /// Whether the child is one of this process, so that it may be waited for, and killed.
    fn is_ours(&self) -> bool {
        let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
        let options = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
        // SAFETY: writes to a struct of ours; whatever it says, it fails for what is no child.
        self.id > 0
            && unsafe { libc::waitid(libc::P_PID, self.id as libc::id_t, info.as_mut_ptr(), options) } == 0
    }

    /// The span of that number is this node's again: its Legion starts now. False if the child announces it no more.
    pub fn keep(&self, span: usize) -> bool {
        self.ask_about(child::KEEP, span)
    }

    /// The child says farewell for the span of that number.
    pub fn leave(&self, span: usize) {
        self.ask_about(child::LEAVE, span);
    }

    /// The child says farewell for all, and ends.
    pub fn leave_all(self) {
        self.ask_about(child::LEAVE, child::ALL.into());
        self.reap();
    }

    /// The child ends: the new image announces the node. It must not outlive this call, because uWSGI would log the end of
    /// an unknown process. Returns whether it had ended before, after all the time that it has.
    pub fn end(self) -> bool {
        self.ask(&[child::END]);
        self.reap()
    }

    fn ask_about(&self, what: u8, span: usize) -> bool {
        let Ok(span) = u16::try_from(span) else { return false };
        let [low, high] = span.to_le_bytes();
        self.ask(&[what, low, high]).is_some_and(|answer| answer == [1])
    }

    fn ask(&self, question: &[u8]) -> Option<Vec<u8>> {
        let mut stream = connect(&self.name).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).ok()?;
        // Somebody else may have taken the name. It is of the process that has opened the socket: this one.
        if child::peer(stream.as_raw_fd()) != own_id() {
            return None;
        }
        stream.write_all(question).ok()?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).ok()?;
        (!answer.is_empty()).then_some(answer)
    }

    fn reap(&self) -> bool {
        let end = Instant::now() + LONGEST_END;
        let mut status = 0;
        // SAFETY: waits for a child of ours alone; it is not waited for again, so its id is still its own when it is killed.
        unsafe {
            loop {
                match libc::waitpid(self.id, &mut status, libc::WNOHANG) {
                    0 if Instant::now() < end => thread::sleep(Duration::from_millis(2)),
                    0 => {
                        libc::kill(self.id, libc::SIGKILL);
                        libc::waitpid(self.id, &mut status, 0);
                        return false;
                    }
                    // An application may have waited for all children.
                    ..0 => return false,
                    _ => return libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == child::TOO_LONG,
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_kept_is_closed() {
        assert_eq!(gaps(vec![7, 3, 4]), [(0, 2), (5, 6), (8, c_uint::MAX)]);
        assert_eq!(gaps(vec![0]), [(1, c_uint::MAX)]);
    }

    #[test]
    fn a_door_that_somebody_blocks_is_left() {
        let name = format!("{}-blocked", name(0));
        assert!(connect(&name).is_err(), "nobody listens");
        let listener = UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        // SAFETY: numbers only.
        assert_eq!(unsafe { libc::listen(listener.as_raw_fd(), 0) }, 0);
        let first = connect(&name).unwrap();
        assert_eq!(child::peer(first.as_raw_fd()), own_id());
        assert!(connect(&name).is_err(), "there is no room for a second one");
    }

    #[test]
    fn the_name_is_of_this_process_alone() {
        let (name, id) = (name(0), process::id());
        let parts: Vec<&str> = name.split('-').collect();
        let [.., namespace, own, began, "0"] = parts[..] else { panic!("{name}") };
        assert_eq!(own, id.to_string());
        assert!(
            [namespace, began].iter().all(|part| part.parse::<u64>().is_ok_and(|number| number > 0)),
            "{name}"
        );
    }
}
