//! Keeps the Legions going while a hook runs: uWSGI runs all Legions and their hooks in one thread, so during a hook nobody
//! announces this node or hears the others unless the hook does.

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

/// How often a waiting hook empties the sockets and checks whether the process is ending.
const TICK: Duration = Duration::from_millis(250);

/// The most datagrams taken off a socket in one go, so that a flood cannot hold the hook.
const MOST_DATAGRAMS: usize = 100_000;

/// The election that a hook runs for, and what was heard since.
pub struct Election {
    legion: Legion,
    is_outvoted: AtomicBool,
    has_heard_others: AtomicBool,
}

impl Election {
    /// To be called in the Legion's thread, when uWSGI runs the first lord hook of an election.
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

    /// Whether a node that outranks this one is alive after all.
    pub fn is_outvoted(&self) -> bool {
        self.is_outvoted.load(Ordering::Relaxed)
    }

    /// Whether another node could be Lord: one that uWSGI knows, or that was heard since.
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
    /// The process is ending, or `work` could not start or has panicked.
    Gone,
    /// It took longer than its limit.
    TooLong,
}

/// What was heard in all Legions of this process while a hook ran, in place of uWSGI.
struct Ears<'a> {
    election: &'a Election,
    announced: Instant,
    /// When each node was last heard (Unix time); 0 if it has announced its death. As in uWSGI, the same uuid with another
    /// valor is another node.
    last_heard: HashMap<(Legion, Uuid, u64), i64>,
    /// Room for one; too large for the stack of some systems' threads.
    datagram: Vec<u8>,
}

impl<'a> Ears<'a> {
    fn open(election: &'a Election) -> Ears<'a> {
        let mut ears = Ears {
            election,
            announced: Instant::now(),
            last_heard: HashMap::new(),
            datagram: vec![0; DATAGRAM_ROOM],
        };
        // What uWSGI has not read yet counts too: a process that was frozen drops all its peers first, then elects itself.
        ears.hear_all();
        ears
    }

    /// Announces this node in every Legion when that is due, and reads what others have announced.
    fn tick(&mut self) {
        let announce = self.announced.elapsed() >= round();
        if announce {
            self.announced = Instant::now();
            for legion in legions() {
                // SAFETY: this is the Legion's own thread, where uWSGI calls it too.
                unsafe { hetzner_call_announce(legion.raw()) };
            }
        }
        self.hear_all();
    }

    fn hear_all(&mut self) {
        for legion in legions() {
            self.hear(legion);
            // So that uWSGI does not drop a peer that it could not hear, but does drop one that has announced its death.
            legion.note_seen(|uuid, valor| self.last_heard.get(&(legion, uuid, valor)).copied());
        }
    }

    /// Empties the socket. Left unread, announcements would overflow it, and uWSGI would reject the old ones later, with a
    /// log line for each.
    fn hear(&mut self, legion: Legion) {
        // As old as uWSGI itself accepts, because the nodes' clocks may differ by as much.
        let oldest = now() - skew_tolerance();
        for _ in 0..MOST_DATAGRAMS {
            // SAFETY: this is the Legion's own thread, the socket stays open as long as the process, and there is as much
            // room as that function is declared with.
            let length = unsafe { hetzner_call_receive(legion.raw(), self.datagram.as_mut_ptr().cast()) };
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

/// Listens for `time`, and announces this node meanwhile; ends early if it is outvoted or the process is ending. To be
/// called in the Legion's thread.
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

/// Runs `work` in a thread of its own and waits for it, but no longer than `limit`. Meanwhile this thread, the Legion's,
/// announces this node and listens. `is_over` is set if the wait ends before `work` does, which must then stop acting.
pub fn wait_for<T: Send + 'static>(
    election: &Election,
    is_over: &AtomicBool,
    limit: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> Waited<T> {
    let ears = Ears::open(election);
    if election.is_outvoted() {
        return Waited::Gone;
    }
    wait(ears, is_over, limit, work)
}

/// The same for what is to be done whoever is elected.
pub fn wait_beside<T: Send + 'static>(
    legion: Legion,
    limit: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> Waited<T> {
    let election = Election::of(legion);
    wait(Ears::open(&election), &AtomicBool::default(), limit, work)
}

fn wait<T: Send + 'static>(
    mut ears: Ears,
    is_over: &AtomicBool,
    limit: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> Waited<T> {
    let began = Instant::now();
    let (done, result) = mpsc::channel();
    // The receiver is gone if the process is ending.
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
