//! What happened, for a test to look at and for a sysadmin to read.
//!
//! An allowlist: a request is written down field by field, and the password is not among the fields.

use std::net::IpAddr;
use std::sync::mpsc::Sender;
use std::time::Instant;

use super::call::Call;

/// Robot may stand for days: beyond this many entries the older half is forgotten.
const MOST_ENTRIES: usize = 65_536;

/// A request that came in, and what became of it.
#[derive(Clone, Debug)]
pub struct Request {
    pub at: Instant,
    pub method: String,
    pub path: String,
    /// `active_server_ip` as sent.
    pub target: Option<String>,
    pub content_type: Option<String>,
    pub user_agent: Option<String>,
    /// The user name of Basic auth.
    pub user: Option<String>,
    /// The login was right, whatever the answer was.
    pub authorised: bool,
    /// None as long as, or because, no answer is given.
    pub status: Option<u16>,
    pub code: Option<String>,
    /// The fault that met it.
    pub fault: Option<String>,
    /// When its answer was ready, or when it was certain that there would be none.
    pub done: Option<Instant>,
    /// The client went away before it had its answer.
    pub peer_closed: bool,
}

/// What a watcher is told, see `Config::events`.
#[derive(Clone, Debug)]
pub enum Event {
    /// A request is answered, is left hanging for good, or was abandoned by its client.
    Request(Request),
    /// A failover IP is routed elsewhere now.
    Route { ip: IpAddr, from: Option<IpAddr>, to: Option<IpAddr> },
    /// A client did not get as far as a request: the TLS handshake failed.
    Handshake(String),
}

/// Where events go, if anybody wants them.
#[derive(Clone)]
pub(super) struct Watcher(pub Option<Sender<Event>>);

impl Watcher {
    pub fn tell(&self, event: Event) {
        if let Some(events) = &self.0 {
            // A watcher that has gone is no reason to stop.
            let _ = events.send(event);
        }
    }
}

/// The list of requests. An entry is known by its number, which stays right when old ones are forgotten.
pub(super) struct Journal {
    entries: Vec<Request>,
    forgotten: usize,
    watcher: Watcher,
}

impl Journal {
    pub fn new(watcher: Watcher) -> Journal {
        Journal { entries: Vec::new(), forgotten: 0, watcher }
    }

    pub fn entries(&self) -> &[Request] {
        &self.entries
    }

    pub fn add(&mut self, call: &Call, authorised: bool, fault: Option<String>, at: Instant) -> usize {
        let request = Request {
            at,
            method: call.verb.clone(),
            path: call.path.clone(),
            target: call.sent_target.clone(),
            content_type: call.content_type.clone(),
            user_agent: call.user_agent.clone(),
            user: call.user().map(str::to_owned),
            authorised,
            status: None,
            code: None,
            fault,
            done: None,
            peer_closed: false,
        };
        self.forgotten += push_bounded(&mut self.entries, request);
        self.forgotten + self.entries.len() - 1
    }

    /// `answer`: status and code; none when it was decided that there is none.
    pub fn complete(&mut self, number: usize, answer: Option<(u16, Option<String>)>) {
        self.update(number, |request| {
            if let Some((status, code)) = answer {
                request.status = Some(status);
                request.code = code;
            }
            request.done = Some(Instant::now());
            true
        });
    }

    /// Says that this request will never be answered, while its connection stays open.
    pub fn left_hanging(&mut self, number: usize) {
        self.update(number, |_| true);
    }

    /// The connection broke from the client's side. `writing`: while an answer was on its way.
    pub fn peer_closed(&mut self, number: usize, writing: bool) {
        self.update(number, |request| {
            let unanswered = request.done.is_none();
            request.peer_closed |= unanswered || writing;
            request.done.get_or_insert_with(Instant::now);
            unanswered
        });
    }

    /// `change` says whether watchers are to be told.
    fn update(&mut self, number: usize, change: impl FnOnce(&mut Request) -> bool) {
        let Some(request) = number.checked_sub(self.forgotten).and_then(|i| self.entries.get_mut(i)) else {
            return;
        };
        if change(request) {
            self.watcher.tell(Event::Request(request.clone()));
        }
    }
}

/// Pushes, and says how many old entries had to go for it.
pub(super) fn push_bounded<T>(list: &mut Vec<T>, item: T) -> usize {
    let gone = if list.len() < MOST_ENTRIES { 0 } else { MOST_ENTRIES / 2 };
    list.drain(..gone);
    list.push(item);
    gone
}
