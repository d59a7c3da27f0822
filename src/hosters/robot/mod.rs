//! Hetzner's Robot webservice: everything that is Robot's own.
//!
//! `answer` knows what comes back, `transport` how to get there, by `connect` and `proxy`, `tls` whom to trust on the
//! way, `budget` how often; this file is the other side of the seam.

mod answer;
pub mod options;
pub mod server;

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ureq::http::{HeaderValue, Response};
use ureq::{Agent, Body};

use super::ledger::{self as budget, Hold, Outcome, Question, Request, ledger};
use super::rejected;
use crate::config::Common;
use crate::hosters::{Failure, Hoster, Kind, Need, Route};
pub use crate::https::read_trust_store;
use crate::https::{self as transport, Way, seconds};
use crate::metrics::{Metrics, count};
use answer::{Answer, Reader};
use options::{Options, PACE};

/// A GET moves nothing, so it is given up long before a POST.
const LONGEST_GET: Duration = Duration::from_secs(10);

/// A 403 says that asking again makes it worse, but not for how long; a lock-out lasts ten minutes.
const REFUSED_FOR: Duration = Duration::from_secs(600);

/// One failover IP in one account, for one takeover or one look.
pub struct Robot {
    options: Options,
    common: Common,
    password: Vec<u8>,
    metrics: &'static Metrics,
    /// Kept from one request to the next, since a look may use the connection of what came before it.
    agent: OnceLock<Agent>,
    way: Arc<Way>,
}

impl Robot {
    /// Fails where the password cannot be read, which may change.
    pub fn new(options: &Options, common: &Common, metrics: &'static Metrics) -> Result<Robot, Failure> {
        let password =
            options.login.password.read().map_err(|why| Failure::new(Kind::NotSent, why.to_string()))?;
        let (options, common) = (options.clone(), common.clone());
        Ok(Robot { options, common, password, metrics, agent: OnceLock::new(), way: Arc::default() })
    }

    fn host(&self) -> &str {
        self.options.url.authority().map_or("", |authority| authority.as_str())
    }

    /// HTTP Basic auth, marked so that no library shows it.
    fn authorization(&self) -> HeaderValue {
        let login = [self.options.login.username.as_slice(), b":", &self.password].concat();
        let header = format!("Basic {}", BASE64.encode(login));
        let mut header = HeaderValue::try_from(header).expect("base64 is plain ASCII");
        header.set_sensitive(true);
        header
    }

    /// What may never stand in a log, should a foreign text hold it.
    fn secrets(&self) -> [String; 2] {
        let authorization = self.authorization();
        let base64 = authorization.to_str().unwrap_or_default().trim_start_matches("Basic ").to_string();
        [String::from_utf8_lossy(&self.password).into_owned(), base64]
    }

    fn question(&self, request: Request, need: Need) -> Question<'_> {
        let Options { ip, ref login, .. } = self.options;
        Question { user: &login.username, password: &self.password, ip, request, need }
    }

    /// Sends a request, if the budgets allow it, learns from what comes back, and has it read by `read`. `begin` is
    /// called when they do.
    fn ask<T>(
        &self,
        (request, need): (Request, Need),
        limit: Duration,
        begin: &dyn Fn(),
        send: impl FnOnce(&Agent) -> Result<Response<Body>, ureq::Error>,
        read: impl FnOnce(&Reader, &Answer) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let agent = match self.agent.get() {
            Some(agent) => agent,
            None => {
                let agent = transport::agent(&self.options.url, self.common.ssl_no_verify, &self.way)?;
                self.agent.get_or_init(|| agent)
            }
        };
        let question = self.question(request, need);
        let login = rejected::Login {
            api: self.host(),
            user: &self.options.login.username,
            password: &self.password,
        };
        let admitted = match rejected::held(&login) {
            Some(remaining) => Err(Hold::locked_out(remaining)),
            None => ledger().admit(&question, Instant::now()),
        };
        let slot = admitted.map_err(|hold| {
            count(&self.metrics.requests_held_back);
            held_back(hold)
        })?;
        begin();
        count(&self.metrics.requests);
        self.way.begin(limit);
        let result = match send(agent).and_then(transport::read_answer) {
            Err(error) => {
                let failure = transport::failure(&error, self.host(), &self.way);
                // What fails on the way there, for whatever reason, has cost nothing.
                let outcome = if self.way.is_sent() { Outcome::Other } else { Outcome::NotSent };
                ledger().learn(&question, slot, outcome, Instant::now());
                Err(failure)
            }
            Ok(answer) => {
                self.way.has_answered();
                let secrets = self.secrets();
                let reader = Reader { ip: self.options.ip, secrets: &secrets.each_ref().map(String::as_str) };
                let result = read(&reader, &answer).map_err(|failure| failure.with_status(answer.status));
                let outcome = outcome(&answer, result.is_ok());
                match outcome {
                    Outcome::LoginRejected => rejected::add(&login),
                    Outcome::Done | Outcome::LoginAccepted => rejected::forget(&login),
                    _ => {}
                }
                let held = {
                    let mut ledger = ledger();
                    let now = Instant::now();
                    ledger.learn(&question, slot, outcome, now);
                    ledger.held(&question, now).filter(|_| answer.status == 401)
                };
                result.map_err(|mut failure| {
                    if let Some(hold) = held {
                        failure.sentence += &format!("; from now on {}", held_back(hold).sentence);
                    }
                    failure
                })
            }
        };
        if result.is_err() {
            count(&self.metrics.api_errors);
        }
        result
    }
}

fn outcome(answer: &Answer, is_done: bool) -> Outcome {
    match answer.status {
        401 => Outcome::LoginRejected,
        403 => match answer::rate_limited_for(answer) {
            Some(time) => Outcome::Limited(time),
            None => Outcome::Refused(REFUSED_FOR),
        },
        200 | 409 if is_done => Outcome::Done,
        200 | 400 | 404 | 409 => Outcome::LoginAccepted,
        _ => Outcome::Other,
    }
}

/// A request that was not sent, and until when.
fn held_back(hold: Hold) -> Failure {
    let until = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default() + hold.remaining;
    let (hour, minute, second) =
        (until.as_secs() / 3600 % 24, until.as_secs() / 60 % 60, until.as_secs() % 60);
    let why = hold.why;
    Failure::new(hold.kind, format!("held back until {hour:02}:{minute:02}:{second:02} UTC: {why}"))
}

impl Hoster for Robot {
    fn describe(&self) -> String {
        let unverified = if self.common.ssl_no_verify { ", its TLS certificate is NOT verified" } else { "" };
        format!("{}, at most {} s{unverified}", self.host(), seconds(self.common.timeout))
    }

    fn route_to(
        &self,
        target: IpAddr,
        need: Need,
        limit: Duration,
        begin: &dyn Fn(),
    ) -> Result<String, Failure> {
        let limit = limit.min(self.common.timeout);
        let send = |agent: &Agent| {
            let post = agent.post(&self.options.url).config().timeout_global(Some(limit));
            // On a connection of its own: one that the API is just closing would lose it.
            let post = post.max_idle_age(Duration::ZERO).build();
            post.header("Authorization", self.authorization())
                .send_form([("active_server_ip", target.to_string())])
        };
        self.ask((Request::Post, need), limit, begin, send, |reader, answer| reader.switched(answer, target))
    }

    fn whereabouts(&self, need: Need, limit: Duration) -> Result<Route, Failure> {
        let limit = limit.min(self.common.timeout).min(LONGEST_GET);
        let send = |agent: &Agent| {
            let get = agent.get(&self.options.url).config().timeout_global(Some(limit)).build();
            get.header("Authorization", self.authorization()).call()
        };
        self.ask((Request::Get, need), limit, &|| (), send, |reader, answer| reader.route(answer))
    }

    fn release(&self, limit: Duration) -> Result<Route, Failure> {
        let limit = limit.min(self.common.timeout);
        let send = |agent: &Agent| {
            let delete = agent.delete(&self.options.url).config().timeout_global(Some(limit)).build();
            delete.header("Authorization", self.authorization()).call()
        };
        let what = (Request::Delete, Need::Takeover);
        self.ask(what, limit, &|| (), send, |reader, answer| reader.route(answer))
    }
}

/// Whether a hook with these options checks the API's certificate.
pub fn needs_trust_store(options: &Options, common: &Common) -> bool {
    options.url.scheme_str() == Some("https") && !common.ssl_no_verify
}

/// How long from now no look is sent with this login, if so.
pub fn held_back_for(options: &Options) -> Option<Duration> {
    is_held_back(options, Request::Get, Need::Check)
}

/// The same for a switch by a guard.
pub fn switch_held_back_for(options: &Options) -> Option<Duration> {
    is_held_back(options, Request::Post, Need::Takeover)
}

fn is_held_back(options: &Options, request: Request, need: Need) -> Option<Duration> {
    let password = options.login.password.read().ok()?;
    let user = &options.login.username;
    let api = options.url.authority().map_or("", |authority| authority.as_str());
    let noted = rejected::held(&rejected::Login { api, user, password: &password });
    let question = Question { user, password: &password, ip: options.ip, request, need };
    noted.or_else(|| ledger().held(&question, Instant::now()).map(|hold| hold.remaining))
}

/// Notes a guard that is going to check with this login, for [`check_pause`].
pub fn note_guard(options: &Options) {
    ledger().watch(&options.login.username);
}

/// How long a guard waits for its next check: `verify`, or longer where all IPs of the login together would use up
/// what the API allows an hour. Zero is never.
pub fn check_pause(options: &Options, common: &Common) -> Duration {
    ledger().check_pause(&options.login.username, common.verify, Instant::now())
}

/// For the start: what is wrong with `verify`, where `ips` failover IPs are checked with this login.
pub fn verify_warning(common: &Common, ips: usize) -> Option<String> {
    let (verify, shortest) = (common.verify, budget::shortest_check_pause(ips));
    if verify.is_zero() || verify >= shortest || verify == PACE.verify {
        return None;
    }
    let (verify, shortest) = (seconds(verify), shortest.as_secs());
    let whose = if ips == 1 { "for one IP".into() } else { format!("for the {ips} IPs of this username") };
    Some(format!(
        "verify is {verify} s, but the API's limit an hour allows no more than a check each {shortest} s {whose}: it is \
         asked less often than that; set verify={shortest} or more"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn robot(argument: &str) -> Robot {
        let parsed = options::parse(argument.as_bytes());
        Robot::new(&parsed.options[0], &parsed.common, Box::leak(Box::default()))
            .unwrap_or_else(|failure| panic!("{failure:?}"))
    }

    #[test]
    fn builds_the_documented_url() {
        let url = |argument| robot(argument).options.url;
        let v4 = url("user=u,pass=p,ip=4.4.4.4,active_ip=1.1.1.1");
        assert_eq!(v4, "https://robot-ws.your-server.de/failover/4.4.4.4");
        let v6 = url("user=u,pass=p,ip=2a01:4f8:fff1:0::,active_ip=2a01:4f8:0:5176::");
        assert_eq!(v6, "https://robot-ws.your-server.de/failover/2a01:4f8:fff1::");
        let own = robot("user=u,pass=p,ip=4.4.4.4,active_ip=1.1.1.1,url=http://[::1]:8080/x?y=z");
        assert_eq!(own.describe(), "[::1]:8080, at most 60 s");
    }

    #[test]
    fn sends_the_login_as_it_is_and_shows_it_to_nobody() {
        let robot = robot("user=Aladdin,pass=open sesame,ip=4.4.4.4,active_ip=1.1.1.1,ssl_no_verify");
        let header = robot.authorization();
        // RFC 7617's own example.
        assert_eq!(header, "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
        assert_eq!(format!("{header:?}"), "Sensitive");
        assert_eq!(robot.secrets(), ["open sesame", "QWxhZGRpbjpvcGVuIHNlc2FtZQ=="]);
        assert!(robot.describe().ends_with("its TLS certificate is NOT verified"));
    }
}
