//! Hetzner's Robot webservice: everything that is Robot's own.
//!
//! `answer` knows what comes back, `transport` how to get there, `tls` whom to trust on the way, `budget` how often;
//! this file is the other side of the seam.

mod answer;
mod budget;
mod proxy;
mod tls;
mod transport;

use std::net::IpAddr;
use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ureq::http::{HeaderValue, Response};
use ureq::{Agent, Body};

use crate::hoster::{Failure, Hoster, Kind, Need, Route};
use crate::metrics::{Metrics, count};
use crate::options::Options;
use answer::{Answer, Reader};
use budget::{Hold, Outcome, Request, ledger};
pub use tls::read_trust_store;
use transport::seconds;

/// Where the API lives; a failover IP follows. Source: Robot webservice documentation, "Failover".
pub const BASE_URL: &str = "https://robot-ws.your-server.de/failover/";

/// A GET moves nothing, so it is given up long before a POST.
const LONGEST_GET: Duration = Duration::from_secs(10);

/// A 403 says that asking again makes it worse, but not for how long; a lock-out lasts ten minutes.
const REFUSED_FOR: Duration = Duration::from_secs(600);

/// One failover IP in one account, for one takeover or one look.
pub struct Robot {
    options: Options,
    password: Vec<u8>,
    metrics: &'static Metrics,
    /// Kept from one request to the next, since a look may use the connection of what came before it.
    agent: OnceLock<Agent>,
}

impl Robot {
    /// Fails where the password cannot be read, which may change.
    pub fn new(options: &Options, metrics: &'static Metrics) -> Result<Robot, Failure> {
        let password = options.login.password.read().map_err(|why| Failure::new(Kind::NotSent, why))?;
        Ok(Robot { options: options.clone(), password, metrics, agent: OnceLock::new() })
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

    /// Sends a request, if the budgets allow it, learns from what comes back, and has it read by `read`.
    fn ask<T>(
        &self,
        request: Request,
        need: Need,
        limit: Duration,
        send: impl FnOnce(&Agent) -> Result<Response<Body>, ureq::Error>,
        read: impl FnOnce(&Reader, &Answer) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let agent = match self.agent.get() {
            Some(agent) => agent,
            None => {
                let agent = transport::agent(&self.options.url, self.options.ssl_no_verify)?;
                self.agent.get_or_init(|| agent)
            }
        };
        let user = &self.options.login.username;
        if let Err(hold) = ledger().admit(user, self.options.ip, request, need, Instant::now()) {
            count(&self.metrics.requests_held_back);
            return Err(held_back(hold));
        }
        count(&self.metrics.requests);
        let answer = send(agent).and_then(transport::read_answer);
        let answer = answer.map_err(|error| transport::failure(&error, self.host(), limit));
        let result = answer.and_then(|answer| {
            let held = {
                let mut ledger = ledger();
                ledger.learn(user, self.outcome(&answer), Instant::now());
                ledger.held(user, Instant::now()).filter(|_| answer.status == 401)
            };
            let secrets = self.secrets();
            let reader = Reader { ip: self.options.ip, secrets: &secrets.each_ref().map(String::as_str) };
            read(&reader, &answer).map_err(|mut failure| {
                if let Some(hold) = held {
                    failure.sentence += &format!("; from now on {}", held_back(hold).sentence);
                }
                failure.with_status(answer.status)
            })
        });
        if result.is_err() {
            count(&self.metrics.api_errors);
        }
        result
    }

    fn outcome(&self, answer: &Answer) -> Outcome {
        match answer.status {
            401 => Outcome::LoginRejected,
            403 => Outcome::Refused(answer::rate_limited_for(answer).unwrap_or(REFUSED_FOR)),
            200 | 400 | 404 | 409 => Outcome::LoginAccepted,
            _ => Outcome::Other,
        }
    }
}

/// A request that was not sent, and until when.
fn held_back(hold: Hold) -> Failure {
    let kind = if hold.for_all { Kind::Final } else { Kind::HeldBack };
    let until = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default() + hold.remaining;
    let (hour, minute, second) =
        (until.as_secs() / 3600 % 24, until.as_secs() / 60 % 60, until.as_secs() % 60);
    let why = hold.why;
    Failure::new(kind, format!("held back until {hour:02}:{minute:02}:{second:02} UTC: {why}"))
}

impl Hoster for Robot {
    fn describe(&self) -> String {
        let unverified =
            if self.options.ssl_no_verify { ", its TLS certificate is NOT verified" } else { "" };
        format!("{}, at most {} s{unverified}", self.host(), seconds(self.options.timeout))
    }

    fn route_to(&self, target: IpAddr, need: Need, limit: Duration) -> Result<String, Failure> {
        let limit = limit.min(self.options.timeout);
        let send = |agent: &Agent| {
            let post = agent.post(&self.options.url).config().timeout_global(Some(limit));
            // On a connection of its own: one that the API is just closing would lose it.
            let post = post.max_idle_age(Duration::ZERO).build();
            post.header("Authorization", self.authorization())
                .send_form([("active_server_ip", target.to_string())])
        };
        self.ask(Request::Post, need, limit, send, |reader, answer| reader.switched(answer, target))
    }

    fn whereabouts(&self, need: Need, limit: Duration) -> Result<Route, Failure> {
        let limit = limit.min(self.options.timeout).min(LONGEST_GET);
        let send = |agent: &Agent| {
            let get = agent.get(&self.options.url).config().timeout_global(Some(limit)).build();
            get.header("Authorization", self.authorization()).call()
        };
        self.ask(Request::Get, need, limit, send, |reader, answer| reader.route(answer))
    }

    fn release(&self, limit: Duration) -> Result<Route, Failure> {
        let limit = limit.min(self.options.timeout);
        let send = |agent: &Agent| {
            let delete = agent.delete(&self.options.url).config().timeout_global(Some(limit)).build();
            delete.header("Authorization", self.authorization()).call()
        };
        // Hetzner counts it apart; a node that steps down sends one, and counts it with its POSTs.
        self.ask(Request::Post, Need::Takeover, limit, send, |reader, answer| reader.route(answer))
    }
}

/// Whether a hook with these options checks the API's certificate.
pub fn needs_trust_store(options: &Options) -> bool {
    options.url.scheme_str() == Some("https") && !options.ssl_no_verify
}

/// How long from now nothing at all may be asked with this login, if so: a takeover would fail at once.
pub fn held_back_for(options: &Options) -> Option<Duration> {
    ledger().held(&options.login.username, Instant::now()).map(|hold| hold.remaining)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn robot(argument: &str) -> Robot {
        let options = Options::parse(argument.as_bytes(), BASE_URL).options;
        Robot::new(&options[0], Box::leak(Box::default())).unwrap_or_else(|failure| panic!("{failure:?}"))
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
