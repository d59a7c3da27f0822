//! What happened, for a test to look at and for a sysadmin to read.
//!
//! An allowlist: a request is written down field by field, and no secret is among the fields.

use std::net::IpAddr;
use std::sync::mpsc::Sender;
use std::time::Instant;

use super::Change;
use super::call::Call;

/// A stand-in may stand for days: beyond this many entries the older half is forgotten.
const MOST_ENTRIES: usize = 65_536;

/// A request that came in, and what became of it.
#[derive(Clone, Debug)]
pub struct Request {
    pub at: Instant,
    pub method: String,
    pub path: String,
    /// The server that an IP is to be routed to, as sent.
    pub target: Option<String>,
    pub content_type: Option<String>,
    pub user_agent: Option<String>,
    /// Who asks: the user name of Basic auth, or what the stand-in calls a token.
    pub user: Option<String>,
    /// The failover IP that it is about.
    pub ip: Option<IpAddr>,
    /// The login was right, whatever the answer was.
    pub authorised: bool,
    /// None as long as, or because, no answer is given.
    pub status: Option<u16>,
    /// The code of an error, or how far an action is.
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
pub enum Event<S> {
    /// A request is answered, is left hanging for good, or was abandoned by its client.
    Request(Box<Request>),
    /// A failover IP is routed elsewhere now.
    Route { ip: IpAddr, from: Option<S>, to: Option<S> },
    /// A client did not get as far as a request: the TLS handshake failed.
    Handshake(String),
}

/// Where events go, if anybody wants them.
pub(crate) struct Watcher<S>(pub Option<Sender<Event<S>>>);

impl<S> Clone for Watcher<S> {
    fn clone(&self) -> Watcher<S> {
        Watcher(self.0.clone())
    }
}

impl<S> Watcher<S> {
    pub fn tell(&self, event: Event<S>) {
        if let Some(events) = &self.0 {
            // A watcher that has gone is no reason to stop.
            let _ = events.send(event);
        }
    }
}

/// What has become of the routes.
pub struct Routes<S> {
    history: Vec<Change<S>>,
    watcher: Watcher<S>,
}

impl<S: Copy + PartialEq> Routes<S> {
    pub(crate) fn new(events: Option<Sender<Event<S>>>) -> Routes<S> {
        Routes { history: Vec::new(), watcher: Watcher(events) }
    }

    pub fn history(&self) -> &[Change<S>] {
        &self.history
    }

    /// Writes down that an IP is routed elsewhere, if it is.
    pub(crate) fn note(&mut self, ip: IpAddr, from: Option<S>, to: Option<S>) {
        if from != to {
            push_bounded(&mut self.history, (Instant::now(), ip, to));
            self.watcher.tell(Event::Route { ip, from, to });
        }
    }
}

/// The list of requests. An entry is known by its number, which stays right when old ones are forgotten.
pub(super) struct Journal<S> {
    entries: Vec<Request>,
    forgotten: usize,
    watcher: Watcher<S>,
}

impl<S> Journal<S> {
    pub fn new(watcher: Watcher<S>) -> Journal<S> {
        Journal { entries: Vec::new(), forgotten: 0, watcher }
    }

    pub fn entries(&self) -> &[Request] {
        &self.entries
    }

    pub fn add<W>(
        &mut self,
        call: &Call<S, W>,
        authorised: bool,
        fault: Option<String>,
        at: Instant,
    ) -> usize {
        let request = Request {
            at,
            method: call.verb.clone(),
            path: call.path.clone(),
            target: call.sent_target.clone(),
            content_type: call.content_type.clone(),
            user_agent: call.user_agent.clone(),
            user: call.user.clone(),
            ip: call.ip,
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
            self.watcher.tell(Event::Request(Box::new(request.clone())));
        }
    }
}

/// Pushes, and says how many old entries had to go for it.
fn push_bounded<T>(list: &mut Vec<T>, item: T) -> usize {
    let gone = if list.len() < MOST_ENTRIES { 0 } else { MOST_ENTRIES / 2 };
    list.drain(..gone);
    list.push(item);
    gone
}
