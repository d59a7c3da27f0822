//! The account: failover IPs and where they are routed, switches under way, limits, lock-out.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use hyper::http::request::Parts;
use serde_json::{Value, json};

use super::answer::{self, Code, error};
use super::call::{self, Call, Login, Resource, What};
use crate::standin::{self, Answer, Api, Dialect, Method, Pretence, Routes, Target, Words};

/// Three failed logins lock their source address out.
const FAILED_LOGINS: u32 = 3;

/// A failover IP: the object of the API, field by field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failover {
    pub ip: IpAddr,
    pub netmask: IpAddr,
    /// The server it was ordered for, which says nothing about where it is routed.
    pub server_ip: Option<IpAddr>,
    pub server_ipv6_net: Option<Ipv6Addr>,
    pub server_number: u32,
    /// Where it is routed; none after a DELETE.
    pub active_server_ip: Option<IpAddr>,
}

impl Failover {
    /// A failover IP that was ordered for the server it is routed to.
    pub fn new(ip: IpAddr, active_server_ip: Option<IpAddr>) -> Failover {
        let (netmask, server_ip, server_ipv6_net) = match ip {
            IpAddr::V4(_) => (Ipv4Addr::BROADCAST.into(), active_server_ip, None),
            IpAddr::V6(_) => {
                let net = Ipv6Addr::from_bits(!0 << 64);
                let server = active_server_ip.and_then(|ip| match ip {
                    IpAddr::V4(_) => None,
                    IpAddr::V6(ip) => Some(ip),
                });
                (net.into(), None, server)
            }
        };
        Failover { ip, netmask, server_ip, server_ipv6_net, server_number: 321, active_server_ip }
    }

    /// As the API answers.
    fn object(&self) -> Value {
        json!({ "failover": {
            "ip": self.ip,
            "netmask": self.netmask,
            "server_ip": self.server_ip,
            "server_ipv6_net": self.server_ipv6_net,
            "server_number": self.server_number,
            "active_server_ip": self.active_server_ip,
        } })
    }
}

/// Requests an hour, for each method and each user.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Default: 100.
    pub get: u32,
    /// Default: 50.
    pub post: u32,
    /// Default: 50.
    pub delete: u32,
    /// The length of that hour. Default: one hour.
    pub interval: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { get: 100, post: 50, delete: 50, interval: Duration::from_secs(3600) }
    }
}

impl Limits {
    fn of(&self, method: Method) -> u32 {
        match method {
            Method::Get => self.get,
            Method::Post => self.post,
            Method::Delete => self.delete,
        }
    }
}

/// Robot has no fault of its own.
#[derive(Clone, Debug, PartialEq)]
pub enum Own {}

impl fmt::Display for Own {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {}
    }
}

impl Dialect for Own {
    type Server = IpAddr;

    const SERVER: &str = "an address";
    const FIELDS: [&str; 2] = ["failover IP", "active_server_ip"];
    const OWN: &str = "";
    const LOCKED: &str = "FAILOVER_LOCKED";

    fn error(name: &str) -> Option<Answer> {
        Code::find(name).map(error)
    }

    fn errors() -> String {
        Code::names()
    }

    fn truncated() -> &'static str {
        r#"{"failover":{"ip":"4.4.4.4","netmask":"255.255.2"#
    }

    fn own(_: &str, _: &mut Words) -> Option<Result<Own, String>> {
        None
    }

    fn own_words() -> &'static str {
        ""
    }
}

/// What the account does about a request; a switch is that of an IP.
pub type Step = standin::Step<IpAddr>;

#[derive(Default)]
struct FailedLogins {
    count: u32,
    locked_until: Option<Instant>,
}

struct Entry {
    failover: Failover,
    /// Where a switch under way leads.
    switching_to: Option<IpAddr>,
}

/// The account.
pub struct Account {
    entries: Vec<Entry>,
    servers: Vec<IpAddr>,
    login: Option<Login>,
    limits: Limits,
    lockout: Duration,
    switch: Duration,
    admitted: HashMap<(Method, String), VecDeque<Instant>>,
    failed_logins: HashMap<IpAddr, FailedLogins>,
    routes: Routes<IpAddr>,
    accept_multipart: bool,
}

impl Account {
    pub fn new(config: &super::Config) -> Account {
        let entry = |failover: &Failover| Entry { failover: failover.clone(), switching_to: None };
        Account {
            entries: config.failover.iter().map(entry).collect(),
            servers: config.servers.clone(),
            login: config.login.clone(),
            limits: config.limits,
            lockout: config.lockout,
            switch: config.switch,
            admitted: HashMap::new(),
            failed_logins: HashMap::new(),
            routes: Routes::new(config.events.clone()),
            accept_multipart: config.accept_multipart,
        }
    }

    pub fn failover(&self) -> Vec<Failover> {
        self.entries.iter().map(|entry| entry.failover.clone()).collect()
    }

    fn judge(&mut self, call: &Call, now: Instant) -> Result<Step, Answer> {
        self.admit_login(call, now)?;
        let method = call.method.ok_or_else(|| error(Code::MethodNotAllowed))?;
        self.admit_request(method, call.user.as_deref().unwrap_or_default(), now)?;
        let ip = match call.what.resource {
            Resource::Failover(ip) => ip,
            Resource::List if method == Method::Get => return Ok(Step::Answer(self.list())),
            Resource::List => return Err(error(Code::MethodNotAllowed)),
            Resource::Unknown => return Err(error(Code::NotFound)),
        };
        let Some(entry) = self.entry(ip) else {
            return Err(error(Code::NotFound));
        };
        let free = if entry.switching_to.is_none() { Ok(()) } else { Err(error(Code::FailoverLocked)) };
        match method {
            Method::Get => {}
            Method::Delete => {
                free?;
                self.set_route(ip, None);
            }
            Method::Post => {
                let to = self.server(ip, call.target)?;
                free?;
                if self.route(ip) == Some(to) {
                    return Err(error(Code::FailoverAlreadyRouted));
                }
                self.entry(ip).expect("found above").switching_to = Some(to);
                return Ok(Step::Blocks(self.switch, ip));
            }
        }
        Ok(Step::Answer(self.object(ip, None)))
    }

    fn admit_login(&mut self, call: &Call, now: Instant) -> Result<(), Answer> {
        let right = self.authorises(call);
        let failed = self.failed_logins.entry(call.peer).or_default();
        if failed.locked_until.is_some_and(|until| now < until) {
            return Err(error(Code::Forbidden));
        }
        failed.locked_until = None;
        if right {
            failed.count = 0;
            return Ok(());
        }
        failed.count += 1;
        if failed.count == FAILED_LOGINS {
            *failed = FailedLogins { count: 0, locked_until: Some(now + self.lockout) };
        }
        Err(error(Code::Unauthorized))
    }

    /// A sliding hour: what counts is the requests let through within the last one.
    fn admit_request(&mut self, method: Method, user: &str, now: Instant) -> Result<(), Answer> {
        let Limits { interval, .. } = self.limits;
        let limit = self.limits.of(method);
        let admitted = self.admitted.entry((method, user.to_owned())).or_default();
        while admitted.front().is_some_and(|at| now.duration_since(*at) >= interval) {
            admitted.pop_front();
        }
        if admitted.len() >= limit as usize {
            return Err(answer::rate_limit_exceeded(limit, interval.as_secs()));
        }
        admitted.push_back(now);
        Ok(())
    }

    fn server(&self, ip: IpAddr, target: Target<IpAddr>) -> Result<IpAddr, Answer> {
        match target {
            Target::Missing => Err(answer::invalid_input(Some("active_server_ip"), None)),
            Target::Invalid => Err(answer::invalid_input(None, Some("active_server_ip"))),
            Target::Is(to) => {
                let ours = self.servers.is_empty() || self.servers.contains(&to);
                if ours && to.is_ipv4() == ip.is_ipv4() {
                    Ok(to)
                } else {
                    Err(error(Code::FailoverNewServerNotFound))
                }
            }
        }
    }

    fn entry(&mut self, ip: IpAddr) -> Option<&mut Entry> {
        self.entries.iter_mut().find(|entry| entry.failover.ip == ip)
    }

    fn list(&self) -> Answer {
        Answer::ok(&self.entries.iter().map(|entry| entry.failover.object()).collect())
    }

    fn object(&self, ip: IpAddr, pretence: Option<Pretence<IpAddr>>) -> Answer {
        let Some(entry) = self.entries.iter().find(|entry| entry.failover.ip == ip) else {
            return error(Code::NotFound);
        };
        let mut object = entry.failover.object();
        if let Some(fields) = object["failover"].as_object_mut() {
            match pretence {
                None => {}
                Some(Pretence::Missing) => drop(fields.remove("active_server_ip")),
                Some(Pretence::Null) => fields["active_server_ip"] = Value::Null,
                Some(Pretence::Other(server)) => fields["active_server_ip"] = json!(server),
            }
        }
        Answer::ok(&object)
    }
}

impl Api for Account {
    type Dialect = Own;
    type What = What;
    type Ticket = IpAddr;

    fn read(&self, head: &Parts, body: &[u8], peer: IpAddr) -> Call {
        call::read(head, body, self.accept_multipart, peer)
    }

    fn authorises(&self, call: &Call) -> bool {
        let login = call.what.login.as_ref();
        login.is_some_and(|login| self.login.as_ref().is_none_or(|right| right == login))
    }

    fn handle(&mut self, call: &Call, _: Option<(&Own, bool)>, now: Instant) -> Step {
        self.judge(call, now).unwrap_or_else(Step::Answer)
    }

    fn finish(&mut self, ip: IpAddr) -> Answer {
        let entry = self.entry(ip).expect("a switch was begun for it");
        let to = entry.switching_to.take().expect("nobody else ends a switch");
        self.set_route(ip, Some(to));
        self.object(ip, None)
    }

    fn pretend(&self, call: &Call, pretence: Pretence<IpAddr>) -> Answer {
        match call.ip {
            Some(ip) => self.object(ip, Some(pretence)),
            None => error(Code::NotFound),
        }
    }

    fn ips(&self) -> Vec<IpAddr> {
        self.entries.iter().map(|entry| entry.failover.ip).collect()
    }

    fn route(&self, ip: IpAddr) -> Option<IpAddr> {
        self.entries.iter().find(|entry| entry.failover.ip == ip)?.failover.active_server_ip
    }

    fn is_switching(&self, ip: IpAddr) -> bool {
        self.entries.iter().any(|entry| entry.failover.ip == ip && entry.switching_to.is_some())
    }

    fn set_route(&mut self, ip: IpAddr, to: Option<IpAddr>) {
        let entry = self.entry(ip).expect("a failover IP of this account");
        let from = std::mem::replace(&mut entry.failover.active_server_ip, to);
        self.routes.note(ip, from, to);
    }

    fn set_switch(&mut self, time: Duration) {
        self.switch = time;
    }

    fn routes(&self) -> &Routes<IpAddr> {
        &self.routes
    }
}
