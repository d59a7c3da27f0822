//! The bridge itself: a child process that announces its parent's node, until the parent announces it again.
//!
//! It is forked by a process with several threads, so it may call only what is async-signal-safe. Nothing here allocates or
//! frees memory, takes a lock or can panic; all that is needed was made before the fork.

use std::ffi::{c_int, c_uint, c_ulong};
use std::mem::MaybeUninit;
use std::ptr;

/// What the new image asks: one of these bytes; for `KEEP` and `LEAVE` the number of a span follows, in two bytes.
pub const HELLO: u8 = b'H';
pub const KEEP: u8 = b'K';
pub const LEAVE: u8 = b'L';
pub const END: u8 = b'E';
/// Instead of a number.
pub const ALL: u16 = u16::MAX;

/// How the child ends when it has announced the node for as long as it may.
pub const TOO_LONG: c_int = 3;

/// How often the node is announced. All times are in milliseconds.
const PULSE: i64 = 500;
/// How often a farewell is repeated, and the time between these at the child's end.
const REPEATS: u8 = 2;
const SHORT: i64 = 100;
/// From the fork to the exec(): uWSGI runs the commands of `exec-atexit` in between.
const UNTIL_EXEC: i64 = 30_000;
/// From the exec() until a plugin must have shown itself: it does so while uWSGI reads its configuration.
const UNTIL_CONTACT: i64 = 10_000;
/// From the exec() until the Legions must have started.
pub const LONGEST: i64 = 65_000;
/// From then until the new image announces the node itself: uWSGI starts its daemons in between.
const UNTIL_END: i64 = 30_000;
/// For how long each sealed datagram is sent, and how many of them are needed.
pub const SLOT: i64 = 5_000;
pub const SLOTS: i64 = (UNTIL_EXEC + LONGEST + UNTIL_END) / SLOT;

/// A node's address.
#[derive(Clone, Copy)]
pub struct To {
    pub address: libc::sockaddr_storage,
    pub length: libc::socklen_t,
}

/// What is said in one Legion.
pub struct Speech {
    pub socket: c_int,
    pub nodes: Vec<To>,
    /// Sealed: one for each slot.
    pub alive: Vec<Vec<u8>>,
    pub farewell: Vec<Vec<u8>>,
    /// Whether the farewell was said, and how often it is still to be repeated, because a datagram may be lost.
    pub is_over: bool,
    pub repeats: u8,
}

pub struct Child {
    pub parent: libc::pid_t,
    /// Where the new image finds it.
    pub listener: c_int,
    /// Closed at its other end when the parent becomes the new image.
    pub exec: c_int,
    pub facts: Vec<u8>,
    pub speeches: Vec<Speech>,
    /// After how long a silence peers drop the node.
    pub tolerance: i64,
    /// Ranges of descriptors.
    pub unneeded: Vec<(c_uint, c_uint)>,
    pub most_descriptors: c_uint,
}

/// How far the reload is.
#[derive(Clone, Copy, Default)]
struct Progress {
    began: i64,
    /// When the new image began.
    exec: Option<i64>,
    /// Whether it has shown itself, and whether it has started a Legion.
    is_met: bool,
    is_kept: bool,
}

impl Progress {
    /// Whether it is given up.
    fn is_over(&self, now: i64) -> bool {
        let exec = match self.exec {
            Some(exec) => exec,
            None if now < self.began + UNTIL_EXEC => return false,
            None => self.began + UNTIL_EXEC,
        };
        let longest = match (self.is_met, self.is_kept) {
            (false, _) => UNTIL_CONTACT,
            (true, false) => LONGEST,
            (true, true) => LONGEST + UNTIL_END,
        };
        now >= exec + longest
    }
}

impl Child {
    /// Runs in the child process; ends it.
    pub fn run(&mut self) -> ! {
        self.close_unneeded();
        // SAFETY: the name is NUL-terminated, and short enough.
        unsafe { libc::prctl(libc::PR_SET_NAME, c"hetzner-bridge".as_ptr()) };
        offer_to_oom_killer();
        // Ready at the moment of the parent's end, after which a service manager may leave no time. Before Linux 5.3, or where
        // a sandbox forbids it, that is noticed at the next pulse.
        // SAFETY: numbers only.
        let parent = unsafe { libc::syscall(libc::SYS_pidfd_open, self.parent, 0) } as c_int;
        let began = now();
        let mut progress = Progress { began, ..Progress::default() };
        let (mut last, mut due, mut is_orphan) = (began, began, false);
        loop {
            let now = now();
            // SAFETY: takes nothing, and cannot fail.
            is_orphan |= unsafe { libc::getppid() } != self.parent;
            // After such a silence this node is no longer what it was for the others.
            let was_paused = now.saturating_sub(last) > self.tolerance;
            let is_over = progress.is_over(now);
            if is_orphan || was_paused || is_over || self.speeches.iter().all(|speech| speech.is_over) {
                for _ in 0..=REPEATS {
                    self.speeches.iter_mut().for_each(|speech| speech.say_farewell(now - began));
                    sleep(SHORT);
                }
                leave(if is_over { TOO_LONG } else { 0 });
            }
            last = now;
            if now >= due {
                self.speeches.iter_mut().for_each(|speech| speech.pulse(now - began));
                due = now.saturating_add(PULSE);
            }
            is_orphan = self.wait(due.saturating_sub(now), parent, &mut progress);
        }
    }

    /// Waits for the new image, the parent's end, or this time; returns whether the parent has ended.
    fn wait(&mut self, time: i64, parent: c_int, progress: &mut Progress) -> bool {
        let exec = if progress.exec.is_none() { self.exec } else { -1 };
        let wait = |fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
        let mut waits = [wait(self.listener), wait(exec), wait(parent)];
        // SAFETY: an array of ours, of that length.
        if unsafe { libc::poll(waits.as_mut_ptr(), 3, time.clamp(0, PULSE) as c_int) } <= 0 {
            return false;
        }
        let [called, exec, parent] = waits.map(|wait| wait.revents != 0);
        if exec {
            progress.exec = Some(now());
        }
        if called {
            // SAFETY: the listener is ours; NULL is allowed for the address.
            let stream = unsafe {
                libc::accept4(self.listener, ptr::null_mut(), ptr::null_mut(), libc::SOCK_NONBLOCK)
            };
            if stream >= 0 {
                if peer(stream) == self.parent {
                    self.answer(stream, progress);
                }
                // SAFETY: it was accepted just now.
                unsafe { libc::close(stream) };
            }
        }
        parent
    }

    fn answer(&mut self, stream: c_int, progress: &mut Progress) {
        let mut wait = libc::pollfd { fd: stream, events: libc::POLLIN, revents: 0 };
        let mut question = [0_u8; 3];
        // SAFETY: structs and arrays of ours, of these lengths.
        let length = unsafe {
            libc::poll(&mut wait, 1, PULSE as c_int);
            libc::recv(stream, question.as_mut_ptr().cast(), question.len(), 0)
        };
        let [what, low, high] = question;
        let span = u16::from_le_bytes([low, high]);
        match (what, length) {
            (HELLO, 1) => {
                // SAFETY: takes nothing, and cannot fail.
                let id = unsafe { libc::getpid() };
                // Otherwise it waits for no answer any more, and begins anew.
                progress.is_met |= reply(stream, &id.to_le_bytes()) && reply(stream, &self.facts);
            }
            (END, 1) => {
                reply(stream, &[1]);
                leave(0);
            }
            (KEEP, 3) => {
                let is_there = self.speeches.get(usize::from(span)).is_some_and(|speech| !speech.is_over);
                progress.is_kept |= is_there;
                reply(stream, &[is_there.into()]);
            }
            (LEAVE, 3) => {
                let now = now().saturating_sub(progress.began);
                for (speech, number) in self.speeches.iter_mut().zip(0_u16..) {
                    if [number, ALL].contains(&span) {
                        speech.say_farewell(now);
                    }
                }
                reply(stream, &[1]);
            }
            _ => {}
        }
    }

    fn close_unneeded(&self) {
        for (first, last) in &self.unneeded {
            // SAFETY: numbers only; nobody uses these descriptors in this process any more.
            unsafe {
                if libc::syscall(libc::SYS_close_range, *first, *last, 0) != 0 {
                    // Before Linux 5.9, or where a sandbox forbids it.
                    for descriptor in *first..(*last).min(self.most_descriptors) {
                        libc::close(descriptor as c_int);
                    }
                    // The range's last one, which the loop leaves out.
                    libc::close(*last as c_int);
                }
            }
        }
    }
}

impl Speech {
    fn say(&self, sealed: &[Vec<u8>], since: i64) {
        let slot = usize::try_from(since / SLOT).unwrap_or_default();
        if let Some(datagram) = sealed.get(slot).or(sealed.last()) {
            send(self.socket, &self.nodes, datagram);
        }
    }

    fn pulse(&mut self, since: i64) {
        match (self.is_over, self.repeats) {
            (false, _) => self.say(&self.alive, since),
            (true, 0) => {}
            (true, _) => {
                self.repeats -= 1;
                self.say(&self.farewell, since);
            }
        }
    }

    fn say_farewell(&mut self, since: i64) {
        self.say(&self.farewell, since);
        (self.is_over, self.repeats) = (true, REPEATS);
    }
}

fn sleep(time: i64) {
    let time = libc::timespec { tv_sec: 0, tv_nsec: time * 1_000_000 };
    // SAFETY: reads a struct of ours; NULL is allowed for what is left.
    unsafe { libc::nanosleep(&time, ptr::null_mut()) };
}

/// Sends a datagram to each. Errors are ignored: the next one follows soon.
pub fn send(socket: c_int, nodes: &[To], datagram: &[u8]) {
    for to in nodes {
        // SAFETY: the datagram and the address have these lengths.
        unsafe {
            let address: *const libc::sockaddr_storage = &to.address;
            let (bytes, length) = (datagram.as_ptr().cast(), datagram.len());
            libc::sendto(socket, bytes, length, libc::MSG_DONTWAIT, address.cast(), to.length);
        }
    }
}

/// Whether all of it was sent.
fn reply(stream: c_int, bytes: &[u8]) -> bool {
    // SAFETY: they have that length.
    let sent = unsafe { libc::send(stream, bytes.as_ptr().cast(), bytes.len(), libc::MSG_NOSIGNAL) };
    usize::try_from(sent).is_ok_and(|sent| sent == bytes.len())
}

/// The id of the process at the other end: that has connected, or has begun to listen; 0 if it is unknown.
pub fn peer(stream: c_int) -> libc::pid_t {
    let mut who = libc::ucred { pid: 0, uid: 0, gid: 0 };
    let mut length = size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY: writes at most as many bytes to a struct of ours.
    unsafe {
        let to: *mut libc::ucred = &mut who;
        libc::getsockopt(stream, libc::SOL_SOCKET, libc::SO_PEERCRED, to.cast(), &mut length);
    }
    who.pid
}

/// Milliseconds, also those in which the machine was asleep.
fn now() -> i64 {
    let mut now = MaybeUninit::<libc::timespec>::zeroed();
    // SAFETY: writes to a struct of ours, which is zeroed if that fails.
    let now = unsafe {
        libc::clock_gettime(libc::CLOCK_BOOTTIME, now.as_mut_ptr());
        now.assume_init()
    };
    now.tv_sec.saturating_mul(1000).saturating_add(now.tv_nsec / 1_000_000)
}

/// This process keeps all memory of the old image for as long as it lives. If that is too much for the machine, it has to go,
/// and not the new image: that costs a failover, and not the site.
fn offer_to_oom_killer() {
    const MOST: &[u8] = b"1000";
    // SAFETY: the path is NUL-terminated, and the text has that length. Where there is no such file, nothing is written.
    unsafe {
        // The files of a process that has changed its user are root's, unless it may be dumped.
        let before = libc::prctl(libc::PR_GET_DUMPABLE);
        libc::prctl(libc::PR_SET_DUMPABLE, 1 as c_ulong);
        let file = libc::open(c"/proc/self/oom_score_adj".as_ptr(), libc::O_WRONLY);
        if file >= 0 {
            libc::write(file, MOST.as_ptr().cast(), MOST.len());
            libc::close(file);
        }
        if before != 1 {
            libc::prctl(libc::PR_SET_DUMPABLE, 0 as c_ulong);
        }
    }
}

fn leave(code: c_int) -> ! {
    // SAFETY: ends this process, and runs nothing of uWSGI's.
    unsafe { libc::_exit(code) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MET: Progress = Progress { began: 0, exec: Some(4_000), is_met: true, is_kept: false };

    #[test]
    fn it_is_given_up_when_nothing_goes_on() {
        for (name, progress, end) in [
            ("no exec()", Progress { is_met: false, exec: None, ..MET }, UNTIL_EXEC + UNTIL_CONTACT),
            ("no plugin", Progress { is_met: false, ..MET }, 4_000 + UNTIL_CONTACT),
            ("no Legion", MET, 4_000 + LONGEST),
            ("no end", Progress { is_kept: true, ..MET }, 4_000 + LONGEST + UNTIL_END),
        ] {
            assert!(!progress.is_over(end - 1) && progress.is_over(end), "{name}");
        }
    }

    #[test]
    fn there_is_a_datagram_for_as_long_as_it_may_last() {
        let last = Progress { began: 0, exec: Some(UNTIL_EXEC), is_met: true, is_kept: true };
        let end = SLOTS * SLOT;
        assert!(last.is_over(end));
        assert!(!last.is_over(end - 1) && (end - 1) / SLOT < SLOTS);
    }
}
