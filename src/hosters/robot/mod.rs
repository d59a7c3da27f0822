//! Hetzner's Robot webservice and its failover IPs: everything that only Robot has.
//!
//! `options` knows the keys of a hook, `server` finds this server's own address, `limits` says how often Robot may be
//! asked, `answer` reads its answers. This file is Robot's side of the seam. Uses what any hoster may: `config`,
//! `https`, `sys`, the ledger and the metrics.

mod answer;
pub(super) mod limits;
mod options;
mod server;

use std::cell::OnceCell;
use std::net::IpAddr;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use super::answer::failure;
use super::ledger::{Account, Outcome, Question};
use super::{About, Api, Failure, Hoster, Need, Place, Read, Remote, Request, Session, Shared};
use super::{Surroundings, Way, Words};
use crate::config::{Common, Secret};
use crate::https::{Answer, Authorization, Body, Client, LONGEST_BODY, Method, authority};
use crate::metrics::{Metrics, count};
use crate::sys::{is_here, lock, net};
use answer::Reader;
#[cfg(feature = "fuzz")]
pub use answer::properties::check as check_answer;
use limits::{LIMITS, REFUSED_FOR};
#[cfg(feature = "fuzz")]
pub use options::properties::check as check_options;
use options::{ACTIVE_IP_MEANING, Options, PACE};

/// A GET moves nothing, so it needs far less time than a POST.
const LONGEST_GET: Duration = Duration::from_secs(10);

pub struct Robot;

impl Hoster for Robot {
    const ABOUT: About = About {
        takes_over: c"hetzner-failoverip",
        releases: c"hetzner-failoverip-release",
        target_key: "active_ip",
        words: Words {
            secret: "password",
            secret_keys: &["password=", "pass="],
            file_is_fine: "the password file can be read",
            login: "login",
            account: "account",
        },
        pace: PACE,
        read,
    };
}

fn read(argument: &[u8], surroundings: &Surroundings) -> Read {
    let options::Parsed { common, options, remarks } = options::parse(argument);
    let Surroundings { legion, shared, .. } = *surroundings;
    shared.note_ips(options.iter().map(|options| options.ip));
    let remote = |options: Options| -> Arc<dyn Remote> {
        let (name, common) = (options.ip.to_string(), common.clone());
        Arc::new(FailoverIp { name, options, common, legion, shared, own: OnceLock::new() })
    };
    let ips = options.into_iter().map(remote).collect();
    Read { common, ips, remarks }
}

/// One failover IP of one hook.
struct FailoverIp {
    name: String,
    options: Options,
    common: Common,
    /// The address of the hook's Legion.
    legion: Option<IpAddr>,
    shared: &'static Shared,
    /// This server's own address, once found. Kept, so that an IP that is routed there is not looked for elsewhere
    /// later.
    own: OnceLock<IpAddr>,
}

impl FailoverIp {
    /// The server to route to, or why it is not known now.
    fn active_ip(&self) -> Result<IpAddr, String> {
        let Options { ip, active_ip, url, .. } = &self.options;
        if let Some(known) = active_ip.or_else(|| self.own.get().copied()) {
            return Ok(known);
        }
        let failover = lock(&self.shared.failover_ips).clone();
        let found = server::main_ip(self.legion, url, ip.is_ipv6(), &failover)?;
        Ok(*self.own.get_or_init(|| found))
    }

    fn ledger_account<'a>(&'a self, secret: &'a [u8]) -> Account<'a> {
        let Options { login, url, .. } = &self.options;
        Account { api: authority(url), user: &login.username, secret, limits: &LIMITS }
    }

    fn question<'a>(&'a self, secret: &'a [u8], request: Request, need: Need) -> Question<'a> {
        Question { account: self.ledger_account(secret), ip: &self.name, request, need }
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
        let password = self.options.login.password.read().map_err(Failure::not_sent)?;
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

    fn secret(&self) -> Option<&Secret> {
        Some(&self.options.login.password)
    }

    fn way(&self) -> Way {
        Way::Api(Api::of(&self.options.url, &self.common))
    }

    fn account(&self) -> Vec<u8> {
        [authority(&self.options.url).as_bytes(), b" ", &self.options.login.username].concat()
    }

    /// With the URL, because a test setup beside the real API may use the same address.
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
        self.shared.ledger.book().watch(&self.ledger_account(b""));
    }

    fn check_pause(&self) -> Duration {
        let account = self.ledger_account(b"");
        self.shared.ledger.book().check_pause(&account, self.common.verify, Instant::now())
    }

    fn warnings(&self) -> Vec<String> {
        let is_elsewhere = |address: IpAddr| is_here(address) == Some(false);
        let mut warnings = Vec::new();
        match self.active_ip() {
            Err(why) => warnings.push(format!(
                "{why}: each takeover looks for one again; or set active_ip to {ACTIVE_IP_MEANING}"
            )),
            Ok(active_ip) if is_elsewhere(active_ip) => warnings.push(format!(
                "active_ip={active_ip} is not on any interface of this host: is it another server's address? Leave \
                 active_ip out to use this server's own"
            )),
            Ok(_) => {}
        }
        if is_elsewhere(self.options.ip) {
            warnings.push(format!(
                "ip={} is not on any interface of this host: if it is routed here, nothing answers; add it to one",
                self.name
            ));
        }
        warnings
    }
}

/// A failover IP, for one takeover or one check.
struct Asking<'a> {
    of: &'a FailoverIp,
    target: IpAddr,
    name: String,
    password: Vec<u8>,
    authorization: Authorization,
    metrics: &'static Metrics,
    /// Kept between requests, so that a GET can use the connection of the POST before it.
    client: OnceCell<Client>,
}

impl Asking<'_> {
    fn client(&self) -> Result<&Client, Failure> {
        if self.client.get().is_none() {
            let FailoverIp { options, common, shared, .. } = self.of;
            let client = Client::new(&options.url, LONGEST_BODY, common.ssl_no_verify, &shared.trust)
                .map_err(failure)?;
            let _ = self.client.set(client);
        }
        Ok(self.client.get().expect("it was set just now"))
    }

    /// Sends a request if the ledger allows it, and tells the ledger what came back. `begin` is called before it is
    /// sent.
    fn ask<T>(
        &self,
        request: Request,
        need: Need,
        limit: Duration,
        begin: &dyn Fn(),
        read: impl FnOnce(&Reader, &Answer) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let client = self.client()?;
        let ledger = &self.of.shared.ledger;
        let question = self.of.question(&self.password, request, need);
        let slot = ledger.admit(&question, self.metrics)?;
        begin();
        count(&self.metrics.requests);
        let form = [("active_server_ip", &*self.name)];
        let method = match request {
            Request::Look => Method::Get,
            Request::Switch => Method::Post(Body::Form(&form)),
            Request::Release => Method::Delete,
        };
        let limit = limit.min(self.of.common.timeout);
        let sent = client.send(method, &self.of.options.url, &self.authorization, limit);
        let (outcome, result) = match sent {
            // A request that did not reach the host does not count against any limit.
            Err(error) => {
                (if error.is_sent { Outcome::Other } else { Outcome::NotSent }, Err(failure(error)))
            }
            Ok(answer) => {
                let password = String::from_utf8_lossy(&self.password);
                // Never shown, even if the answer contains them.
                let secrets = [&*password, self.authorization.credentials()];
                let result = read(&Reader { ip: self.of.options.ip, secrets: &secrets }, &answer);
                (outcome(&answer, result.is_ok()), result)
            }
        };
        ledger.learn(&question, slot, outcome);
        result.map_err(|mut failure| {
            count(&self.metrics.api_errors);
            let hold = failure.is_rejected_login().then(|| ledger.held(&question)).flatten();
            if let Some(hold) = hold {
                failure.sentence += &format!("; from now on {}", Failure::from(hold).sentence);
            }
            failure
        })
    }

    fn place(&self, request: Request, need: Need, limit: Duration) -> Result<Place, Failure> {
        let route = self.ask(request, need, limit, &|| (), |reader, answer| reader.route(answer))?;
        Ok(match route {
            Some(server) if server == self.target => Place::Here(server.to_string()),
            Some(server) => Place::Elsewhere(server.to_string()),
            None => Place::Nowhere,
        })
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
        let read = |reader: &Reader, answer: &Answer| reader.switched(answer, self.target);
        self.ask(Request::Switch, need, limit, begin, read)
    }

    fn whereabouts(&self, need: Need, limit: Duration) -> Result<Place, Failure> {
        self.place(Request::Look, need, limit.min(LONGEST_GET))
    }

    fn release(&self, limit: Duration) -> Result<Place, Failure> {
        self.place(Request::Release, Need::Takeover, limit)
    }
}

fn outcome(answer: &Answer, is_done: bool) -> Outcome {
    match answer.status {
        401 => Outcome::LoginRejected,
        403 => answer::rate_limited_for(answer).map_or(Outcome::Refused(REFUSED_FOR), Outcome::Limited),
        200 | 409 if is_done => Outcome::Done,
        200 | 400 | 404 | 409 => Outcome::LoginAccepted,
        _ => Outcome::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn describe(argument: &str) -> String {
        static SHARED: Shared = Shared::new();
        let read = read(argument.as_bytes(), &Surroundings { name: "", legion: None, shared: &SHARED });
        let session = read.ips[0].open(Box::leak(Box::default()));
        session.unwrap_or_else(|failure| panic!("{failure:?}")).describe()
    }

    #[test]
    fn says_whom_it_asks_for_how_long() {
        let hook = "user=u,pass=p,ip=4.4.4.4,active_ip=1.1.1.1";
        assert_eq!(describe(hook), "POST to robot-ws.your-server.de, at most 60 s");
        let local = describe(&format!("{hook},url=http://[::1]:8080/x?y=z"));
        assert_eq!(local, "POST to [::1]:8080, at most 60 s");
        let unverified = describe(&format!("{hook},ssl_no_verify"));
        assert!(unverified.ends_with(", its TLS certificate is NOT verified"));
    }
}
