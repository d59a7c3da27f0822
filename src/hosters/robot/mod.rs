//! Hetzner's Robot webservice, and failover IPs: everything that is Robot's own.
//!
//! `options` knows the keys of a hook, `server` which address is this server's own, `limits` how often Robot may be asked,
//! `answer` what comes back. This file is Robot's side of the seam. May touch what every hoster may: `config`, `https`,
//! the ledger and the metrics.

mod answer;
pub(super) mod limits;
mod options;
mod server;

use std::cell::OnceCell;
use std::net::IpAddr;
use std::sync::{Arc, OnceLock, PoisonError};
use std::time::Duration;

use super::ledger::{Account, Outcome, Question};
use super::{About, Api, Failure, Hoster, Kind, Need, Place, Read, Remote, Request, Session, Shared, Stage};
use super::{Surroundings, Tls};
use crate::config::{Common, Secret, host_of};
use crate::https::{self, Answer, Authorization, Client, Method, authority, seconds};
use crate::metrics::{Metrics, count};
use crate::sys::{is_here, net};
#[cfg(feature = "fuzz")]
pub use answer::properties::check as check_answer;
use answer::{Reader, Refusal};
use limits::{LIMITS, REFUSED_FOR};
use options::{ACTIVE_IP_MEANING, Options, PACE};

/// A GET moves nothing, so it is given up long before a POST.
const LONGEST_GET: Duration = Duration::from_secs(10);

pub struct Robot;

impl Hoster for Robot {
    const ABOUT: About = About {
        takes_over: c"hetzner-failoverip",
        releases: c"hetzner-failoverip-release",
        target_key: "active_ip",
        pace: PACE,
        read,
    };
}

fn read(argument: &[u8], surroundings: &Surroundings) -> Read {
    let options::Parsed { common, options, remarks } = options::parse(argument);
    let Surroundings { legion, shared } = *surroundings;
    let mut known = shared.failover_ips.lock().unwrap_or_else(PoisonError::into_inner);
    known.extend(options.iter().map(|options| options.ip));
    known.sort_unstable();
    known.dedup();
    let remote = |options: Options| -> Arc<dyn Remote> {
        let (name, common) = (options.ip.to_string(), common.clone());
        Arc::new(FailoverIp { name, options, common, legion, shared, own: OnceLock::new() })
    };
    let ips = options.into_iter().map(remote).collect();
    Read { common, ips, remarks }
}

/// One failover IP in one account.
struct FailoverIp {
    name: String,
    options: Options,
    common: Common,
    /// Where the Legion listens.
    legion: Option<IpAddr>,
    shared: &'static Shared,
    /// This server's own address, once it is found: what is routed to it must not be looked for at another one later.
    own: OnceLock<IpAddr>,
}

impl FailoverIp {
    /// The server to route to; or why that is not known now.
    fn active_ip(&self) -> Result<IpAddr, String> {
        let Options { ip, active_ip, url, .. } = &self.options;
        if let Some(known) = active_ip.or_else(|| self.own.get().copied()) {
            return Ok(known);
        }
        let failover = self.shared.failover_ips.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let found = server::main_ip(self.legion, url, ip.is_ipv6(), &failover)?;
        Ok(*self.own.get_or_init(|| found))
    }

    fn account<'a>(&'a self, secret: &'a [u8]) -> Account<'a> {
        let Options { login, url, .. } = &self.options;
        Account { api: authority(url), user: &login.username, secret, limits: &LIMITS }
    }

    fn question<'a>(&'a self, secret: &'a [u8], request: Request, need: Need) -> Question<'a> {
        Question { account: self.account(secret), ip: self.options.ip, request, need }
    }
}

impl Remote for FailoverIp {
    fn ip(&self) -> &str {
        &self.name
    }

    fn target(&self) -> Result<String, String> {
        self.active_ip().map(|active_ip| active_ip.to_string())
    }

    fn local_addresses(&self) -> Vec<(&'static str, IpAddr)> {
        let target = self.active_ip().ok().map(|active_ip| ("active_ip", active_ip));
        target.into_iter().chain([("the failover IP", self.options.ip)]).collect()
    }

    fn open(&self, metrics: &'static Metrics) -> Result<Box<dyn Session + '_>, Failure> {
        let password =
            self.options.login.password.read().map_err(|why| Failure::not_sent(why.to_string()))?;
        let target = self.active_ip().map_err(Failure::not_sent)?;
        Ok(Box::new(Asking {
            of: self,
            target,
            name: target.to_string(),
            authorization: Authorization::basic(&self.options.login.username, &password),
            password,
            metrics,
            client: OnceCell::new(),
        }))
    }

    fn secret(&self) -> &Secret {
        &self.options.login.password
    }

    fn api(&self) -> Api {
        let host = host_of(&self.options.url);
        let is_loopback = host.parse::<IpAddr>().is_ok_and(|host| host.is_loopback());
        let tls = match (self.options.url.scheme_str(), self.common.ssl_no_verify) {
            (Some("https"), false) => Tls::Verified,
            (Some("https"), true) => Tls::Unverified,
            _ => Tls::None,
        };
        Api {
            host: host.into(),
            authority: authority(&self.options.url).into(),
            tls,
            is_here: host == "localhost" || is_loopback,
        }
    }

    fn account(&self) -> Vec<u8> {
        [authority(&self.options.url).as_bytes(), b" ", &self.options.login.username].concat()
    }

    /// At another URL it may be another one, as in a rehearsal beside the real thing.
    fn identity(&self) -> String {
        format!("{} {}", net(self.options.ip), self.options.url)
    }

    fn held_back_for(&self, request: Request, need: Need) -> Option<Duration> {
        let password = self.options.login.password.read().ok()?;
        self.shared.ledger.held(&self.question(&password, request, need)).map(|hold| hold.remaining)
    }

    fn shortest_check_pause(&self, ips: usize) -> Duration {
        LIMITS.shortest_check_pause(ips)
    }

    fn note_guard(&self) {
        self.shared.ledger.watch(&self.account(b""));
    }

    fn check_pause(&self) -> Duration {
        self.shared.ledger.check_pause(&self.account(b""), self.common.verify)
    }

    fn warnings(&self) -> Vec<String> {
        let (ip, active_ip) = (self.options.ip, self.active_ip());
        let is_elsewhere = |address: IpAddr| is_here(address) == Some(false);
        [
            active_ip.as_ref().err().map(|why| {
                format!("{why} now: it is looked for at each takeover; or write active_ip={ACTIVE_IP_MEANING}")
            }),
            active_ip.ok().filter(|active_ip| is_elsewhere(*active_ip)).map(|active_ip| {
                format!(
                    "active_ip={active_ip} is on no interface of this host: is it another server's? Leave it out for \
                     this one's own"
                )
            }),
            is_elsewhere(ip).then(|| {
                format!(
                    "ip={ip} is on no interface of this host: routed here, it would reach nobody; configure it on one"
                )
            }),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

/// A failover IP, for one takeover or one look.
struct Asking<'a> {
    of: &'a FailoverIp,
    target: IpAddr,
    name: String,
    password: Vec<u8>,
    authorization: Authorization,
    metrics: &'static Metrics,
    /// Kept from one request to the next, since a look may use the connection of what came before it.
    client: OnceCell<Client>,
}

impl Asking<'_> {
    fn client(&self) -> Result<&Client, Failure> {
        if self.client.get().is_none() {
            let FailoverIp { options, common, shared, .. } = self.of;
            let client = Client::new(&options.url, common.ssl_no_verify, &shared.trust).map_err(failure)?;
            let _ = self.client.set(client);
        }
        Ok(self.client.get().expect("it was set just now"))
    }

    /// Sends a request, if the ledger allows it, learns from what comes back, and has it read by `read`. `begin` is called
    /// when it does.
    fn ask<T>(
        &self,
        method: Method,
        need: Need,
        limit: Duration,
        begin: &dyn Fn(),
        read: impl FnOnce(&Reader, &Answer) -> Result<T, Refusal>,
    ) -> Result<T, Failure> {
        let client = self.client()?;
        let ledger = &self.of.shared.ledger;
        let request = match method {
            Method::Get => Request::Look,
            Method::Post(_) => Request::Switch,
            Method::Delete => Request::Release,
        };
        let question = self.of.question(&self.password, request, need);
        let slot = ledger.admit(&question).map_err(|hold| {
            count(&self.metrics.requests_held_back);
            Failure::from(hold)
        })?;
        begin();
        count(&self.metrics.requests);
        let limit = limit.min(self.of.common.timeout);
        let sent = client.send(&https::Request { method, authorization: &self.authorization }, limit);
        let (outcome, result) = match sent {
            // What fails on the way there, for whatever reason, has cost nothing.
            Err(error) => {
                (if error.is_sent { Outcome::Other } else { Outcome::NotSent }, Err(failure(error)))
            }
            Ok(answer) => {
                let password = String::from_utf8_lossy(&self.password);
                // Should the answer hold them, they are not shown.
                let secrets = [&*password, self.authorization.credentials()];
                let result = read(&Reader { ip: self.of.options.ip, secrets: &secrets }, &answer);
                (outcome(&answer, result.is_ok()), result.map_err(Failure::from))
            }
        };
        ledger.learn(&question, slot, outcome);
        result.map_err(|mut failure| {
            count(&self.metrics.api_errors);
            if let Some(hold) = ledger.held(&question).filter(|_| failure.is_rejected_login()) {
                failure.sentence += &format!("; from now on {}", Failure::from(hold).sentence);
            }
            failure
        })
    }

    fn place(&self, route: Option<IpAddr>) -> Place {
        match route {
            Some(server) if server == self.target => Place::Here(server.to_string()),
            Some(server) => Place::Elsewhere(server.to_string()),
            None => Place::Nowhere,
        }
    }
}

impl Session for Asking<'_> {
    fn target(&self) -> &str {
        &self.name
    }

    fn describe(&self) -> String {
        let Common { ssl_no_verify, timeout, .. } = self.of.common;
        let unverified = if ssl_no_verify { ", its TLS certificate is NOT verified" } else { "" };
        let host = authority(&self.of.options.url);
        format!("POST to {host}, at most {} s{unverified}", seconds(timeout))
    }

    fn bring_here(&self, need: Need, limit: Duration, begin: &dyn Fn()) -> Result<String, Failure> {
        let form = [("active_server_ip", &*self.name)];
        self.ask(Method::Post(&form), need, limit, begin, |reader, answer| {
            reader.switched(answer, self.target)
        })
    }

    fn whereabouts(&self, need: Need, limit: Duration) -> Result<Place, Failure> {
        let route = self
            .ask(Method::Get, need, limit.min(LONGEST_GET), &|| (), |reader, answer| reader.route(answer))?;
        Ok(self.place(route))
    }

    fn release(&self, limit: Duration) -> Result<Place, Failure> {
        let route =
            self.ask(Method::Delete, Need::Takeover, limit, &|| (), |reader, answer| reader.route(answer))?;
        Ok(self.place(route))
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

/// What it means that a request brought no whole answer.
fn failure(error: https::Error) -> Failure {
    let stage = if error.is_sent { Stage::Host } else { Stage::Way };
    let kind = match () {
        () if error.is_permanent() => Kind::Final,
        // Of what was never sent nothing is in doubt.
        () if error.is_sent => Kind::Unknown,
        () => Kind::NotSent,
    };
    Failure::new(kind, stage, error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(argument: &str) -> Arc<dyn Remote> {
        static SHARED: Shared = Shared::new();
        let read = read(argument.as_bytes(), &Surroundings { legion: None, shared: &SHARED });
        Arc::clone(&read.ips[0])
    }

    fn describe(argument: &str) -> String {
        let ip = ip(argument);
        let session = ip.open(Box::leak(Box::default())).unwrap_or_else(|failure| panic!("{failure:?}"));
        session.describe()
    }

    #[test]
    fn says_whom_it_asks_for_how_long() {
        let hook = "user=u,pass=p,ip=4.4.4.4,active_ip=1.1.1.1";
        assert_eq!(describe(hook), "POST to robot-ws.your-server.de, at most 60 s");
        assert_eq!(
            describe(&format!("{hook},url=http://[::1]:8080/x?y=z")),
            "POST to [::1]:8080, at most 60 s"
        );
        assert!(
            describe(&format!("{hook},ssl_no_verify")).ends_with(", its TLS certificate is NOT verified")
        );
    }

    #[test]
    fn of_what_was_sent_nobody_knows_whether_it_is_done() {
        use https::Cause;
        for (cause, is_sent, expected) in [
            (Cause::Unreachable, false, (Kind::NotSent, Stage::Way)),
            // So ends a connection whose host has gone while it was to answer.
            (Cause::Unreachable, true, (Kind::Unknown, Stage::Host)),
            (Cause::NotHttp, true, (Kind::Unknown, Stage::Host)),
            (Cause::BadProxy, false, (Kind::Final, Stage::Way)),
        ] {
            let failure = failure(https::Error { cause, is_sent, host: "HOST".into() });
            assert_eq!((failure.kind, failure.stage), expected, "{}", failure.sentence);
        }
    }
}
