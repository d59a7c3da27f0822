//! A hook that blocks, and what it owes its Legions: uWSGI runs every Legion and its hooks in one thread, so that while
//! a hook runs nobody announces this node, and nobody hears the others, unless the hook does.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use super::announcement::Announcement;
use super::calls::{DATAGRAM_ROOM, hetzner_call_announce, hetzner_call_receive};
use super::legion::{Legion, Uuid, is_ending, legions, now, round, skew_tolerance};
use crate::sys::spawn;

/// How often a hook that waits empties the sockets, and looks whether the process is ending.
const TICK: Duration = Duration::from_millis(250);

/// The most datagrams taken off a socket at one time: a bound, not a limit that is ever met.
const MOST_DATAGRAMS: usize = 100_000;

/// Whether a hook still runs for what it was elected for.
pub struct Election {
    legion: Legion,
    is_outvoted: AtomicBool,
    has_heard_others: AtomicBool,
}

impl Election {
    /// Called in the Legion's thread, when uWSGI runs the first lord hook of an election.
    pub fn of(legion: Legion) -> Arc<Election> {
        Arc::new(Election {
            legion,
            is_outvoted: AtomicBool::new(false),
            has_heard_others: AtomicBool::new(false),
        })
    }

    pub fn legion(&self) -> Legion {
        self.legion
    }

    /// Whether a node that is to be Lord rather than this one is alive after all.
    pub fn is_outvoted(&self) -> bool {
        self.is_outvoted.load(Ordering::Relaxed)
    }

    /// Whether another node is there that can be Lord: uWSGI knows it, or it was heard since.
    pub fn has_company(&self) -> bool {
        self.has_heard_others.load(Ordering::Relaxed) || self.legion.view().has_another_candidate()
    }

    fn hear(&self, node: &Announcement<'_>) {
        if node.dead || node.uuid == self.legion.uuid() {
            return;
        }
        if node.valor > 0 {
            self.has_heard_others.store(true, Ordering::Relaxed);
        }
        if self.legion.is_outranked_by(node.valor, &node.uuid) {
            self.is_outvoted.store(true, Ordering::Relaxed);
        }
    }
}

/// How a wait ended.
pub enum Waited<T> {
    Done(T),
    /// The process is ending, or `work` could not be done or has panicked.
    Gone,
    /// It took longer than it may.
    TooLong,
}

/// What was heard of others in all Legions of this process while a hook ran: uWSGI itself has not heard it.
struct Ears<'a> {
    election: &'a Election,
    announced: Instant,
    /// When each node was last heard, in Unix time; 0: it has announced its death. With another valor it is another node,
    /// as it is for uWSGI.
    last_heard: HashMap<(Legion, Uuid, u64), i64>,
    datagram: Box<[u8; DATAGRAM_ROOM]>,
}

impl<'a> Ears<'a> {
    fn open(election: &'a Election) -> Ears<'a> {
        let mut ears = Ears {
            election,
            announced: Instant::now(),
            last_heard: HashMap::new(),
            datagram: Box::new([0; DATAGRAM_ROOM]),
        };
        // What uWSGI has not read yet counts: a process that was frozen drops all peers first, and is elected by
        // itself.
        ears.hear_all();
        ears
    }

    /// Announces every Legion of this process when that is due, and takes in what others have said.
    fn tick(&mut self) {
        let announce = self.announced.elapsed() >= round();
        if announce {
            self.announced = Instant::now();
            for legion in legions() {
                // SAFETY: this is the Legion's own thread, which is where uWSGI calls it.
                unsafe { hetzner_call_announce(legion.raw()) };
            }
        }
        self.hear_all();
    }

    fn hear_all(&mut self) {
        for legion in legions() {
            self.hear(legion);
            // uWSGI drops nobody for what it could not hear, and who has announced its death meanwhile.
            legion.note_seen(|uuid, valor| self.last_heard.get(&(legion, uuid, valor)).copied());
        }
    }

    /// Takes what has come in off the socket. Unread, it would overflow it, and what is old when uWSGI reads it
    /// is refused with a line each.
    fn hear(&mut self, legion: Legion) {
        // How old an announcement may be is uWSGI's own measure, since the nodes' clocks may differ by as much.
        let oldest = now() - skew_tolerance();
        for _ in 0..MOST_DATAGRAMS {
            // SAFETY: this is the Legion's own thread, and the socket is open as long as the process.
            let length = unsafe { hetzner_call_receive(legion.raw(), &raw mut *self.datagram) };
            let Ok(length) = usize::try_from(length) else { return };
            let said = Announcement::read(&self.datagram[..length], legion.name_bytes(), oldest);
            let Some(said) = said else { continue };
            self.last_heard.insert((legion, said.uuid, said.valor), if said.dead { 0 } else { now() });
            if self.election.legion == legion {
                self.election.hear(&said);
            }
        }
    }
}

/// Listens for so long, announcing this node, until the election is outvoted or the process is ending. In the Legion's
/// thread.
pub fn listen(election: &Election, time: Duration) {
    let end = Instant::now() + time;
    let mut ears = Ears::open(election);
    while !election.is_outvoted() && !is_ending() {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        thread::sleep(left.min(TICK));
        ears.tick();
    }
}

/// Runs `work` in a thread of its own and waits for it, but no longer than `limit`: meanwhile this thread, which is the
/// Legion's, announces every Legion of this process and listens for what becomes of the election. `is_over` is set when
/// nobody waits any more, so that the work must not act any more.
pub fn wait_for<T: Send + 'static>(
    election: &Election,
    is_over: &AtomicBool,
    limit: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> Waited<T> {
    let mut ears = Ears::open(election);
    if election.is_outvoted() {
        return Waited::Gone;
    }
    let began = Instant::now();
    let (done, result) = mpsc::channel();
    // Nobody waits any more where the process is ending.
    if spawn("hetzner", move || drop(done.send(work()))).is_none() {
        return Waited::Gone;
    }
    let waited = loop {
        match result.recv_timeout(TICK) {
            Ok(result) => break Waited::Done(result),
            Err(RecvTimeoutError::Disconnected) => break Waited::Gone,
            Err(RecvTimeoutError::Timeout) => {}
        }
        if is_ending() {
            break Waited::Gone;
        }
        if began.elapsed() >= limit {
            break Waited::TooLong;
        }
        ears.tick();
    };
    if !matches!(waited, Waited::Done(_)) {
        is_over.store(true, Ordering::Relaxed);
    }
    waited
}
