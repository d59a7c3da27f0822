//! Hetzner's Robot webservice: everything that is Robot's own.
//!
//! `answer` knows what comes back, `limits` how often it may be asked; this file is the other side of the seam.

mod answer;
mod limits;
pub mod own;

use std::net::IpAddr;
use std::sync::OnceLock;
use std::time::Duration;

use super::ledger::{Account, Outcome, Question, ledger};
use crate::config::{DEFAULT_VERIFY, Options};
use crate::hosters::{Failure, Hoster, Kind, Need, Request, Route, Stage};
use crate::https::{self, Authorization, Client, Method, authority, seconds, trust_store};
use crate::metrics::{Metrics, count};
use answer::{Answer, Reader, Refusal};
pub use limits::LIMITS;
use limits::REFUSED_FOR;

/// Where the API lives; a failover IP follows. Source: Robot webservice documentation, "Failover".
pub const BASE_URL: &str = "https://robot-ws.your-server.de/failover/";

/// A GET moves nothing, so it is given up long before a POST.
const LONGEST_GET: Duration = Duration::from_secs(10);

/// One failover IP in one account, for one takeover or one look.
pub struct Robot {
    options: Options,
    password: Vec<u8>,
    metrics: &'static Metrics,
    /// Kept from one request to the next, since a look may use the connection of what came before it.
    client: OnceLock<Client>,
}

impl Robot {
    /// Fails where the password cannot be read, which may change.
    pub fn new(options: &Options, metrics: &'static Metrics) -> Result<Robot, Failure> {
        let password = options.login.password.read().map_err(Failure::not_sent)?;
        Ok(Robot { options: options.clone(), password, metrics, client: OnceLock::new() })
    }

    fn authorization(&self) -> Authorization {
        Authorization::basic(&self.options.login.username, &self.password)
    }

    fn client(&self) -> Result<&Client, Failure> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        let client = Client::new(&self.options.url, self.options.ssl_no_verify, trust_store())?;
        Ok(self.client.get_or_init(|| client))
    }

    /// Sends a request, if nothing holds it back, learns from what comes back, and has it read by `read`. `begin` is
    /// called when nothing does.
    fn ask<T>(
        &self,
        (request, need, method): (Request, Need, Method),
        limit: Duration,
        begin: &dyn Fn(),
        read: impl FnOnce(&Reader, &Answer) -> Result<T, Refusal>,
    ) -> Result<T, Failure> {
        let client = self.client()?;
        let question = question(&self.options, &self.password, request, need);
        let slot = ledger().admit(&question).map_err(|hold| {
            count(&self.metrics.requests_held_back);
            Failure::from(hold)
        })?;
        begin();
        count(&self.metrics.requests);
        let authorization = self.authorization();
        let sent = client.send(&https::Request { method, authorization: &authorization }, limit);
        let (outcome, result) = match sent {
            // What fails on the way there, for whatever reason, has cost nothing.
            Err(error) => {
                (if error.is_sent { Outcome::Other } else { Outcome::NotSent }, Err(Failure::from(error)))
            }
            Ok(answer) => {
                let password = String::from_utf8_lossy(&self.password);
                // Should a foreign text hold them, they are not shown.
                let secrets = [&*password, authorization.credentials()];
                let result = read(&Reader { ip: self.options.ip, secrets: &secrets }, &answer);
                (outcome(&answer, result.is_ok()), result.map_err(Failure::from))
            }
        };
        ledger().learn(&question, slot, outcome);
        result.map_err(|mut failure| {
            count(&self.metrics.api_errors);
            if let Some(hold) = ledger().held(&question).filter(|_| failure.is_rejected_login()) {
                failure.sentence += &format!("; from now on {}", Failure::from(hold).sentence);
            }
            failure
        })
    }
}

fn question<'a>(options: &'a Options, password: &'a [u8], request: Request, need: Need) -> Question<'a> {
    Question { account: account(options, password), ip: options.ip, request, need }
}

fn account<'a>(options: &'a Options, password: &'a [u8]) -> Account<'a> {
    Account { api: authority(&options.url), user: &options.login.username, secret: password, limits: &LIMITS }
}

/// What was sent may have been carried out.
impl From<https::Error> for Failure {
    fn from(error: https::Error) -> Failure {
        let kind = match error.is_sent {
            _ if error.is_permanent() => Kind::Final,
            true => Kind::Unknown,
            false => Kind::NotSent,
        };
        let stage = if error.is_sent { Stage::Host } else { Stage::Way };
        Failure::new(kind, stage, error.to_string())
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

impl Hoster for Robot {
    fn describe(&self) -> String {
        let unverified =
            if self.options.ssl_no_verify { ", its TLS certificate is NOT verified" } else { "" };
        format!("{}, at most {} s{unverified}", authority(&self.options.url), seconds(self.options.timeout))
    }

    fn route_to(
        &self,
        target: IpAddr,
        need: Need,
        limit: Duration,
        begin: &dyn Fn(),
    ) -> Result<String, Failure> {
        let limit = limit.min(self.options.timeout);
        let form = [("active_server_ip", &*target.to_string())];
        self.ask((Request::Switch, need, Method::Post(&form)), limit, begin, |reader, answer| {
            reader.switched(answer, target)
        })
    }

    fn whereabouts(&self, need: Need, limit: Duration) -> Result<Route, Failure> {
        let limit = limit.min(self.options.timeout).min(LONGEST_GET);
        self.ask((Request::Look, need, Method::Get), limit, &|| (), |reader, answer| reader.route(answer))
    }

    fn release(&self, limit: Duration) -> Result<Route, Failure> {
        let limit = limit.min(self.options.timeout);
        let what = (Request::Release, Need::Takeover, Method::Delete);
        self.ask(what, limit, &|| (), |reader, answer| reader.route(answer))
    }
}

/// Whether a hook with these options checks the API's certificate.
pub fn needs_trust_store(options: &Options) -> bool {
    options.url.scheme_str() == Some("https") && !options.ssl_no_verify
}

/// How long from now no look is sent with this login, if so.
pub fn held_back_for(options: &Options) -> Option<Duration> {
    is_held_back(options, Request::Look, Need::Check)
}

/// The same for a switch by a guard.
pub fn switch_held_back_for(options: &Options) -> Option<Duration> {
    is_held_back(options, Request::Switch, Need::Takeover)
}

fn is_held_back(options: &Options, request: Request, need: Need) -> Option<Duration> {
    let password = options.login.password.read().ok()?;
    ledger().held(&question(options, &password, request, need)).map(|hold| hold.remaining)
}

/// Notes a guard that is going to check with this login, for [`check_pause`].
pub fn note_guard(options: &Options) {
    ledger().watch(&account(options, b""));
}

/// How long a guard waits for its next check: `verify`, or longer where all IPs of the login together would use up
/// what the API allows an hour. Zero is never.
pub fn check_pause(options: &Options) -> Duration {
    ledger().check_pause(&account(options, b""), options.verify)
}

/// For the start: what is wrong with `verify`, where `ips` failover IPs are checked with this login.
pub fn verify_warning(options: &Options, ips: usize) -> Option<String> {
    let (verify, shortest) = (options.verify, LIMITS.shortest_check_pause(ips));
    if verify.is_zero() || verify >= shortest || verify == DEFAULT_VERIFY {
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
    fn an_api_that_is_not_verified_is_told_of() {
        let robot = robot("user=u,pass=p,ip=4.4.4.4,active_ip=1.1.1.1,ssl_no_verify");
        assert!(robot.describe().ends_with("its TLS certificate is NOT verified"));
    }
}
