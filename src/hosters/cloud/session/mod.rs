//! Asks about one floating IP. A switch is an action that takes its time: it is begun, watched until it ends, and then one
//! check of the route confirms it.
//!
//! While an action of this node runs, a check that finds the IP here is no knowledge: the documentation does not say when
//! the API begins to name the new server, and an action may still fail. So until it has ended, no check is answered.

#[cfg(test)]
mod tests;

use std::cell::OnceCell;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use ureq::http::Uri;

use super::FloatingIp;
use super::answer::{Begun, Found, Progress, Reader};
use super::options::Named;
use crate::hosters::answer::failure;
use crate::hosters::ledger::Outcome;
use crate::hosters::{Api, Failure, Kind, Need, Place, Request, Session, Stage, named};
use crate::https::{Answer, Authorization, Body, Client, Method, seconds};
use crate::metrics::{Metrics, count};
use crate::sys::lock;

/// A page of 50 floating IPs, each with labels.
const LONGEST_ANSWER: u64 = 1024 * 1024;
const PER_PAGE: u64 = 50;
/// For one GET.
const LONGEST_GET: Duration = Duration::from_secs(10);
/// For one question how an action goes. The next one follows anyway.
const LONGEST_POLL: Duration = Duration::from_secs(5);
/// The pauses between these questions, in milliseconds; the last one repeats. The official clients begin with the first.
const POLL_PAUSES: [u64; 6] = [500, 500, 1000, 1000, 2000, 3000];
/// How long a request without an answer may take to become known: until then, an IP that is here may still leave.
const LATE_ACTION: Duration = Duration::from_secs(10);
/// After this time an action that never ends is no longer waited for.
const LONGEST_ACTION: Duration = Duration::from_secs(600);

/// An action that this node has begun, and that may still run.
#[derive(Clone, Copy)]
pub struct Pending {
    /// Not known if the answer was lost.
    action: Option<u64>,
    since: Instant,
}

/// A floating IP, for one takeover or one check.
pub struct Asking<'a> {
    of: &'a FloatingIp,
    server: Named,
    /// For the log.
    name: String,
    authorization: Authorization,
    metrics: &'static Metrics,
    /// Kept between requests, so that they can use the same connection.
    client: OnceCell<Client>,
}

impl<'a> Asking<'a> {
    pub fn new(
        of: &'a FloatingIp,
        server: Named,
        authorization: Authorization,
        metrics: &'static Metrics,
    ) -> Asking<'a> {
        let name = named(&server.to_string()).into_owned();
        Asking { of, server, name, authorization, metrics, client: OnceCell::new() }
    }

    fn client(&self) -> Result<&Client, Failure> {
        if self.client.get().is_none() {
            let FloatingIp { options, common, shared, .. } = self.of;
            let client = Client::new(&options.url, LONGEST_ANSWER, common.ssl_no_verify, &shared.trust);
            let _ = self.client.set(client.map_err(failure)?);
        }
        Ok(self.client.get().expect("it was set just now"))
    }

    /// Sends a request to `path`; returns what `read` makes of its answer.
    fn send<T>(
        &self,
        method: Method,
        path: &str,
        limit: Duration,
        read: impl FnOnce(&Reader, &Answer) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let url = format!("{}{path}", self.of.options.base).parse::<Uri>();
        let url = url.map_err(|_| Failure::new(Kind::Final, Stage::Way, "url is not a valid URL"))?;
        let client = self.client()?;
        count(&self.metrics.requests);
        let result = client.send(method, &url, &self.authorization, limit.min(self.of.common.timeout));
        let result = result.map_err(failure).and_then(|answer| {
            // Never shown, even if the answer contains it.
            let secrets = [self.authorization.credentials()];
            read(&Reader { ip: self.of.options.ip, secrets: &secrets }, &answer)
        });
        if result.is_err() {
            count(&self.metrics.api_errors);
        }
        result
    }

    /// Does what `send` does, if the ledger allows it, and tells the ledger what came of it.
    fn admitted<T>(
        &self,
        request: Request,
        need: Need,
        send: impl FnOnce() -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let (ledger, question) = (&self.of.shared.ledger, self.of.question(request, need));
        let slot = ledger.admit(&question, self.metrics)?;
        let result = send();
        ledger.learn(&question, slot, outcome(result.as_ref().err()));
        result
    }

    fn get<T>(
        &self,
        need: Need,
        path: &str,
        end: Instant,
        read: impl FnOnce(&Reader, &Answer) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let limit = left(end).min(LONGEST_GET);
        self.admitted(Request::Look, need, || self.send(Method::Get, path, limit, read))
    }

    /// The floating IP as it is now. The first time this finds its id.
    fn look(&self, need: Need, end: Instant) -> Result<Found, Failure> {
        let known = *lock(&self.of.id);
        let asked = known.map(Named::Id).or_else(|| self.of.options.floating_ip.clone());
        let found = match asked {
            Some(Named::Id(id)) => {
                let path = format!("/floating_ips/{id}");
                self.get(need, &path, end, |reader, answer| reader.place(answer, &Named::Id(id)))
            }
            Some(name) => {
                let path = format!("/floating_ips?name={}", encoded(&name.to_string()));
                self.get(need, &path, end, |reader, answer| reader.by_name(answer, &name))
            }
            None => self.search(need, end),
        };
        *lock(&self.of.id) = match &found {
            Ok(found) => Some(found.id),
            // It may have another one by now.
            Err(failure) if failure.stage == Stage::Address => None,
            Err(_) => known,
        };
        if let Ok(found) = &found {
            self.of.is_blocked.store(found.is_blocked, Ordering::Relaxed);
        }
        found
    }

    /// Looks for the address in the list of all: the API has no other way.
    fn search(&self, need: Need, end: Instant) -> Result<Found, Failure> {
        let mut number = 1;
        loop {
            let path = format!("/floating_ips?page={number}&per_page={PER_PAGE}");
            let page = self.get(need, &path, end, |reader, answer| reader.page(answer, number))?;
            if let Some(found) = page.found {
                return Ok(found);
            }
            let Some(next) = page.next else {
                let sentence = format!(
                    "HTTP 200, but the token's Project has no floating IP {}: check ip, and of which Project the token is",
                    self.of.name
                );
                return Err(Failure::new(Kind::Final, Stage::Address, sentence));
            };
            number = next;
        }
    }

    /// The id of the server to assign to.
    fn server_id(&self, need: Need, end: Instant) -> Result<u64, Failure> {
        let name = match &self.server {
            Named::Id(id) => return Ok(*id),
            Named::Name(name) => name,
        };
        if let Some(known) = *lock(&self.of.server_id) {
            return Ok(known);
        }
        let path = format!("/servers?name={}", encoded(name));
        let id = self.get(need, &path, end, |reader, answer| reader.server(answer, name))?;
        Ok(*lock(&self.of.server_id).insert(id))
    }

    /// Begins an action and waits until it has ended. Returns which one it was; `None` if the API says that the IP is
    /// assigned already.
    fn act(
        &self,
        request: Request,
        need: Need,
        end: Instant,
        begin: &dyn Fn(),
        (path, body): (&str, &str),
    ) -> Result<Option<u64>, Failure> {
        self.admitted(request, need, || {
            self.client()?;
            begin();
            let since = Instant::now();
            let end = end.min(since + self.of.common.timeout);
            let before = lock(&self.of.pending).replace(Pending { action: None, since });
            let post = Method::Post(Body::Json(body));
            let result = self.send(post, path, left(end), |reader, answer| reader.begun(answer));
            let result = match result {
                Ok(Begun::Action(id, progress)) => {
                    *lock(&self.of.pending) = Some(Pending { action: Some(id), since });
                    self.finish(id, progress, since, end).map(|()| Some(id))
                }
                Ok(Begun::Already) => Ok(None),
                Err(failure) => {
                    if failure.kind != Kind::Unknown {
                        // It has begun nothing, so what was under way still is.
                        *lock(&self.of.pending) = before;
                    }
                    return Err(failure);
                }
            };
            if !matches!(&result, Err(failure) if failure.kind == Kind::Unknown) {
                *lock(&self.of.pending) = None;
            }
            result
        })
    }

    /// Waits until an action has ended.
    fn finish(&self, id: u64, progress: Progress, since: Instant, end: Instant) -> Result<(), Failure> {
        let (mut progress, mut pauses) = (progress, 0);
        let mut trouble = String::new();
        loop {
            match progress {
                Progress::Success => return Ok(()),
                Progress::Error(why) => return Err(failed(id, &why)),
                Progress::Running => {}
            }
            let pause = Duration::from_millis(POLL_PAUSES[usize::min(pauses, POLL_PAUSES.len() - 1)]);
            if left(end) <= pause {
                let time = seconds(since.elapsed());
                let sentence = format!("action {id} is still running after {time} s{trouble}");
                return Err(Failure::new(Kind::Unknown, Stage::Host, sentence));
            }
            thread::sleep(pause);
            pauses += 1;
            progress = match self.poll(id, end) {
                Ok(progress) => progress,
                Err(failure) if failure.kind == Kind::Final => {
                    let sentence =
                        format!("action {id} has begun, but its end is unknown: {}", failure.sentence);
                    return Err(Failure::new(Kind::Unknown, Stage::Host, sentence));
                }
                Err(failure) => {
                    trouble = format!(", as far as is known: {}", failure.sentence);
                    Progress::Running
                }
            };
        }
    }

    /// Asks how an action goes. It does not count as a look, or a slow action would use up those of the hour.
    fn poll(&self, id: u64, end: Instant) -> Result<Progress, Failure> {
        let limit = left(end).min(LONGEST_POLL);
        self.send(Method::Get, &format!("/actions/{id}"), limit, |reader, answer| reader.action(answer, id))
    }

    /// Fails while an action of this node may still be under way; returns whether one may be that is not known.
    fn settle(&self, end: Instant) -> Result<bool, Failure> {
        let Some(Pending { action, since }) = *lock(&self.of.pending) else { return Ok(false) };
        let age = since.elapsed();
        let result = match action {
            None if age < LATE_ACTION => return Ok(true),
            Some(id) if age < LONGEST_ACTION => match self.poll(id, end) {
                Ok(Progress::Success) => Ok(false),
                Ok(Progress::Error(why)) => Err(failed(id, &why)),
                // It has gone.
                Err(failure) if failure.stage == Stage::Address => Ok(false),
                Ok(Progress::Running) => {
                    let sentence = format!("action {id} of this node is still running");
                    return Err(Failure::new(Kind::Unknown, Stage::Host, sentence));
                }
                Err(failure) => return Err(failure),
            },
            _ => Ok(false),
        };
        *lock(&self.of.pending) = None;
        result
    }

    fn place(&self, found: Found, target: u64) -> Place {
        match found.server {
            Some(server) if server == target => Place::Here(self.server.to_string()),
            Some(server) => Place::Elsewhere(server.to_string()),
            None => Place::Nowhere,
        }
    }

    /// What a switch or a release needs before it can be asked for: the floating IP's id, and the server's.
    fn prepare(&self, end: Instant) -> Result<(u64, u64), Failure> {
        let prepare = || {
            let server = self.server_id(Need::Takeover, end)?;
            let known = *lock(&self.of.id);
            let id = known.map_or_else(|| self.look(Need::Takeover, end).map(|found| found.id), Ok)?;
            Ok((id, server))
        };
        // Whatever came of these GETs, nothing was asked for yet.
        prepare().map_err(|failure: Failure| match failure.kind {
            Kind::Unknown | Kind::NotDone | Kind::Locked => Failure { kind: Kind::NotSent, ..failure },
            _ => failure,
        })
    }

    /// Where the IP is after an action that has succeeded.
    fn confirm(&self, said: &str, server: u64, end: Instant) -> Result<Place, Failure> {
        let found = self.look(Need::Takeover, end).map_err(|failure| {
            let sentence = format!("{said}, but the check of the route failed: {}", failure.sentence);
            Failure::new(Kind::Unknown, Stage::Host, sentence)
        })?;
        Ok(self.place(found, server))
    }
}

impl Session for Asking<'_> {
    fn target(&self) -> &str {
        &self.name
    }

    fn describe(&self) -> String {
        Api::post(&self.of.options.url, &self.of.common)
    }

    fn bring_here(
        &self,
        need: Need,
        limit: Duration,
        begin: &dyn Fn(),
        _: &dyn Fn() -> bool,
    ) -> Result<String, Failure> {
        let end = Instant::now() + limit;
        let (id, server) = self.prepare(end)?;
        let (path, body) = (format!("/floating_ips/{id}/actions/assign"), format!("{{\"server\":{server}}}"));
        let acted = self.act(Request::Switch, need, end, begin, (&path, &body));
        if acted.as_ref().is_err_and(|failure| failure.stage == Stage::Address) {
            // One of the two has gone, and the address or the name may belong to another one by now.
            (*lock(&self.of.id), *lock(&self.of.server_id)) = (None, None);
        }
        let said = match acted? {
            Some(action) => format!("HTTP 201, action {action} succeeded"),
            None => "HTTP 422 floating_ip_assigned".into(),
        };
        match self.confirm(&said, server, end)? {
            Place::Here(_) => Ok(said),
            place => Err(Failure::new(Kind::NotDone, Stage::Host, format!("{said}, but it is {place}"))),
        }
    }

    fn whereabouts(&self, need: Need, limit: Duration) -> Result<Place, Failure> {
        let end = Instant::now() + limit;
        let is_doubtful = self.settle(end)?;
        let server = self.server_id(need, end)?;
        let place = self.place(self.look(need, end)?, server);
        if is_doubtful && place.is_here() {
            let sentence = format!("it is {place}, but a request without an answer may still be under way");
            return Err(Failure::new(Kind::Unknown, Stage::Host, sentence));
        }
        Ok(place)
    }

    fn release(&self, limit: Duration) -> Result<Place, Failure> {
        let end = Instant::now() + limit;
        let (id, server) = self.prepare(end)?;
        let path = format!("/floating_ips/{id}/actions/unassign");
        let action = self.act(Request::Release, Need::Takeover, end, &|| (), (&path, "{}"))?;
        let said = action.map_or("HTTP 422".into(), |action| format!("HTTP 201, action {action} succeeded"));
        // This last GET has its time in any case.
        self.confirm(&said, server, end.max(Instant::now() + LONGEST_POLL))
    }
}

fn failed(id: u64, why: &str) -> Failure {
    Failure::new(Kind::NotDone, Stage::Host, format!("action {id} failed: {why}"))
}

/// What the ledger learns.
fn outcome(failure: Option<&Failure>) -> Outcome {
    let Some(failure) = failure else { return Outcome::Done };
    match (failure.kind, failure.stage) {
        (_, Stage::Login) => Outcome::LoginRejected,
        // Not done, and not to be counted: it did not get there, or is to be asked again in a moment.
        (Kind::NotSent, _) | (_, Stage::Way) => Outcome::NotSent,
        (Kind::Unknown, _) => Outcome::Other,
        _ => Outcome::LoginAccepted,
    }
}

fn left(end: Instant) -> Duration {
    // A request with no time at all would wait for ever.
    end.saturating_duration_since(Instant::now()).max(Duration::from_millis(1))
}

/// A name in a URL's query (RFC 3986).
fn encoded(name: &str) -> String {
    let encode = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    name.bytes().map(encode).collect()
}
