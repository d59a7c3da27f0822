//! The Projects: floating IPs and the servers they are assigned to, the actions on them, and how often may be asked.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use hyper::http::request::Parts;
use serde_json::{Value, json};

use super::action::{Action, Status, timestamp};
use super::answer::{error, invalid_input, not_found};
use super::call::{self, Call, Resource, What, Who};
use super::{FloatingIp, Own, Server, Token};
use crate::standin::{self, Answer, Api, Pretence, Request, Routes, Target};

/// What a list holds at a time: by default, and at most.
const PAGE: usize = 25;
const LONGEST_PAGE: usize = 50;
const HOUR: f64 = 3600.0;

/// What a Project may still ask.
#[derive(Clone, Copy)]
struct Bucket {
    left: f64,
    at: Instant,
}

struct Entry {
    ip: FloatingIp,
    /// The action that runs on it, and locks it.
    running: Option<u64>,
}

/// What the account does about a request; a switch is an action.
pub type Step = standin::Step<u64>;

/// All Projects.
pub struct Account {
    entries: Vec<Entry>,
    servers: Vec<Server>,
    tokens: Vec<Token>,
    switch: Duration,
    pub(super) early: bool,
    limit: u32,
    buckets: HashMap<String, Bucket>,
    instance_id: Option<u64>,
    may_unassign: bool,
    actions: Vec<Action>,
    routes: Routes<u64>,
}

impl Account {
    pub fn new(config: &super::Config) -> Account {
        let entry = |ip: &FloatingIp| Entry { ip: ip.clone(), running: None };
        Account {
            entries: config.floating_ips.iter().map(entry).collect(),
            servers: config.servers.clone(),
            tokens: config.tokens.clone(),
            switch: config.switch,
            early: config.early,
            limit: config.limit,
            buckets: HashMap::new(),
            instance_id: config.instance_id,
            may_unassign: config.may_unassign,
            actions: Vec::new(),
            routes: Routes::new(config.events.clone()),
        }
    }

    pub fn floating_ips(&self) -> Vec<FloatingIp> {
        self.entries.iter().map(|entry| entry.ip.clone()).collect()
    }

    pub fn set_limit(&mut self, limit: u32) {
        self.limit = limit;
        self.buckets.clear();
    }

    fn judge(&mut self, call: &Call, fault: Option<(&Own, bool)>) -> Result<Step, Answer> {
        let What { who, resource, .. } = &call.what;
        let Who::Project { name: project, read_only } = who else { return Err(error("unauthorized")) };
        if *resource == Resource::Unknown {
            return Err(not_found("endpoint"));
        }
        if !resource.knows(call.method) {
            return Err(error("method_not_allowed"));
        }
        let of_path = self.of_path(call).filter(|entry| entry.ip.project == *project);
        let status = match fault {
            Some((Own::Status(status), _)) => Some(status.as_str()),
            _ => None,
        };
        Ok(Step::Answer(match *resource {
            Resource::FloatingIps => self.list(call, project)?,
            Resource::Servers => self.list_servers(call, project)?,
            Resource::Server(id) => match self.server(id, project) {
                Some(server) => Answer::ok(&json!({ "server": server })),
                None => not_found(&format!("server with ID '{id}'")),
            },
            Resource::FloatingIp(id) => {
                let found = of_path.map(|entry| self.object(entry));
                Answer::ok(&json!({ "floating_ip": found.ok_or_else(|| no_ip(id))? }))
            }
            Resource::Action(id) => {
                let action = self.actions.iter().find(|action| action.id == id).filter(|_| of_path.is_some());
                action.ok_or_else(|| not_found(&format!("action with ID '{id}'")))?.answer(200, status)
            }
            Resource::Assign(id) | Resource::Unassign(id) => {
                if *read_only {
                    return Err(error("token_readonly"));
                }
                let entry = of_path.ok_or_else(|| no_ip(id))?;
                let to = if matches!(resource, Resource::Assign(_)) {
                    Some(self.new_server(call, project)?)
                } else {
                    None
                };
                if entry.running.is_some() {
                    return Err(error("locked"));
                }
                match (entry.ip.server, to) {
                    (Some(server), Some(to)) if server == to => return Err(error("floating_ip_assigned")),
                    (None, None) => return Err(error("conflict")),
                    _ => {}
                }
                return Ok(self.begin(id, to, fault));
            }
            Resource::InstanceId | Resource::Unknown => unreachable!("answered above"),
        }))
    }

    /// The floating IP that a request names, or whose action it names.
    fn of_path(&self, call: &Call) -> Option<&Entry> {
        self.entry_of(call.what.resource)
    }

    fn entry_of(&self, resource: Resource) -> Option<&Entry> {
        let id = match resource {
            Resource::FloatingIp(id) | Resource::Assign(id) | Resource::Unassign(id) => id,
            Resource::Action(id) => self.actions.iter().find(|action| action.id == id)?.of,
            _ => return None,
        };
        self.entries.iter().find(|entry| entry.ip.id == id)
    }

    fn entry(&mut self, ip: IpAddr) -> &mut Entry {
        self.entries.iter_mut().find(|entry| entry.ip.ip == ip).expect("a floating IP of this account")
    }

    /// The server that an IP is to be assigned to.
    fn new_server(&self, call: &Call, project: &str) -> Result<u64, Answer> {
        if call.what.body.is_none() {
            return Err(error("json_error"));
        }
        match call.target {
            Target::Missing => Err(invalid_input("server", "is required")),
            Target::Invalid => Err(invalid_input("server", "is not a number")),
            Target::Is(id) if self.server(id, project).is_some() => Ok(id),
            Target::Is(id) => Err(not_found(&format!("server with ID '{id}'"))),
        }
    }

    /// Begins an action, whose end a fault may change.
    fn begin(&mut self, of: u64, to: Option<u64>, fault: Option<(&Own, bool)>) -> Step {
        let (own, is_carried_out) = fault.unzip();
        let is_carried_out = is_carried_out == Some(true);
        let mut time = self.switch;
        let (end, is_done) = match own {
            Some(Own::Fails(code)) => (Status::Error(code.clone()), is_carried_out),
            Some(Own::Endless) => (Status::Running, is_carried_out),
            Some(Own::Takes(other)) => {
                time = *other;
                (Status::Success, true)
            }
            Some(Own::Early | Own::Status(_)) | None => (Status::Success, true),
        };
        let id = self.actions.last().map_or(1, |action| action.id + 1);
        let is_early = self.early || own == Some(&Own::Early);
        let (started, status) = (SystemTime::now(), Status::Running);
        self.actions.push(Action { id, of, to, status, end, is_done, is_early, started, finished: None });
        let entry = self.entries.iter_mut().find(|entry| entry.ip.id == of);
        entry.expect("it was found").running = Some(id);
        if time.is_zero() {
            self.finish(id);
        }
        let word = match own {
            Some(Own::Status(status)) => Some(status.as_str()),
            _ => None,
        };
        let answer = self.action(id).answer(201, word);
        if time.is_zero() { Step::Answer(answer) } else { Step::Runs(answer, time, id) }
    }

    fn action(&mut self, id: u64) -> &mut Action {
        self.actions.iter_mut().find(|action| action.id == id).expect("it was begun")
    }

    /// What is over locks the IP no longer.
    fn unlock(&mut self) {
        let runs = |id: &u64| self.actions.iter().any(|it| it.id == *id && it.status == Status::Running);
        for entry in &mut self.entries {
            entry.running = entry.running.filter(runs);
        }
    }

    /// Of a Project.
    fn server(&self, id: u64, project: &str) -> Option<Value> {
        if self.servers.is_empty() {
            return Some(json!({ "id": id, "name": format!("server-{id}"), "status": "running" }));
        }
        let server = self.servers.iter().find(|server| server.id == id && server.project == project)?;
        Some(json!({ "id": id, "name": server.name, "status": "running" }))
    }

    fn list(&self, call: &Call, project: &str) -> Result<Answer, Answer> {
        let of_project = self.entries.iter().filter(|entry| entry.ip.project == project);
        let named = parameter(call, "name");
        let found = of_project.filter(|entry| named.is_none_or(|name| entry.ip.name == name));
        page(call, "floating_ips", found.map(|entry| self.object(entry)).collect())
    }

    fn list_servers(&self, call: &Call, project: &str) -> Result<Answer, Answer> {
        let named = parameter(call, "name");
        let found = self.servers.iter().filter(|server| server.project == project);
        let found = found.filter(|server| named.is_none_or(|name| server.name == name));
        page(call, "servers", found.filter_map(|server| self.server(server.id, project)).collect())
    }

    /// The object of the API, with the server that it shows.
    fn object(&self, entry: &Entry) -> Value {
        let FloatingIp { id, name, ip, server, blocked, .. } = &entry.ip;
        let early = entry.running.and_then(|id| self.actions.iter().find(|it| it.id == id && it.is_early));
        let server = early.map_or(*server, |action| action.to);
        json!({
            "id": id,
            "name": name,
            "description": "",
            "ip": if ip.is_ipv4() { ip.to_string() } else { format!("{ip}/64") },
            "type": if ip.is_ipv4() { "ipv4" } else { "ipv6" },
            "server": server,
            "dns_ptr": [],
            "home_location": {
                "id": 1, "name": "fsn1", "description": "Falkenstein DC Park 1", "country": "DE",
                "city": "Falkenstein", "latitude": 50.47612, "longitude": 12.370071, "network_zone": "eu-central",
            },
            "blocked": blocked,
            "protection": { "delete": false },
            "labels": {},
            "created": timestamp(UNIX_EPOCH + Duration::from_secs(1_700_000_000)),
        })
    }

    /// A Project has a bucket of requests, which is filled up again evenly; returns how many are left, and in how many seconds
    /// it is full again.
    fn admit(&mut self, project: &str, now: Instant) -> Option<(u32, u64)> {
        let limit = f64::from(self.limit);
        let bucket = self.buckets.entry(project.to_owned()).or_insert(Bucket { left: limit, at: now });
        let since = now.saturating_duration_since(bucket.at).as_secs_f64();
        *bucket = Bucket { left: (bucket.left + since * limit / HOUR).min(limit), at: now };
        let is_admitted = bucket.left >= 1.0;
        if is_admitted {
            bucket.left -= 1.0;
        }
        let full_in = if limit > 0.0 { ((limit - bucket.left) * HOUR / limit).ceil() } else { HOUR };
        is_admitted.then_some((bucket.left as u32, full_in as u64))
    }

    fn metadata(&self, call: &Call) -> Answer {
        match self.instance_id.filter(|_| call.what.resource.knows(call.method)) {
            Some(id) => Answer::raw(200, "text/plain; charset=utf-8", id.to_string()),
            None => Answer::raw(404, "text/plain; charset=utf-8", "not found"),
        }
    }
}

fn no_ip(id: u64) -> Answer {
    not_found(&format!("floating IP with ID '{id}'"))
}

fn parameter<'a>(call: &'a Call, name: &str) -> Option<&'a str> {
    call.what.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
}

/// The page of a list that is asked for, and where the next one is.
fn page(call: &Call, name: &str, all: Vec<Value>) -> Result<Answer, Answer> {
    let number = |name, default: usize, most: usize| match parameter(call, name) {
        None => Ok(default),
        Some(text) => {
            let number = text.parse().ok().filter(|number| (1..=most).contains(number));
            number.ok_or_else(|| invalid_input(name, "is not a number in its range"))
        }
    };
    let (page, size) = (number("page", 1, usize::MAX)?, number("per_page", PAGE, LONGEST_PAGE)?);
    let last = all.len().div_ceil(size).max(1);
    let found: Vec<&Value> = all.iter().skip((page - 1).saturating_mul(size)).take(size).collect();
    Ok(Answer::ok(&json!({
        name: found,
        "meta": { "pagination": {
            "page": page,
            "per_page": size,
            "previous_page": (page > 1).then(|| page - 1),
            "next_page": (page < last).then(|| page + 1),
            "last_page": last,
            "total_entries": all.len(),
        } },
    })))
}

fn pretend_server(object: &mut Value, pretence: Pretence<u64>) {
    let Some(fields) = object.as_object_mut() else { return };
    match pretence {
        Pretence::Missing => drop(fields.remove("server")),
        Pretence::Null => drop(fields.insert("server".into(), Value::Null)),
        Pretence::Other(server) => drop(fields.insert("server".into(), json!(server))),
    }
}

impl Api for Account {
    type Dialect = Own;
    type What = What;
    type Ticket = u64;

    fn read(&self, head: &Parts, body: &[u8], peer: IpAddr) -> Call {
        let mut call = call::read(head, body, &self.tokens, peer);
        call.ip = self.entry_of(call.what.resource).map(|entry| entry.ip.ip);
        call
    }

    fn authorises(&self, call: &Call) -> bool {
        call.what.who != Who::Nobody
    }

    fn handle(&mut self, call: &Call, fault: Option<(&Own, bool)>, now: Instant) -> Step {
        if call.what.resource == Resource::InstanceId {
            return Step::Answer(self.metadata(call));
        }
        let Who::Project { name, .. } = &call.what.who else { return Step::Answer(error("unauthorized")) };
        let admitted = self.admit(name, now);
        let mut step = match admitted {
            Some(_) => self.judge(call, fault).unwrap_or_else(Step::Answer),
            None => Step::Answer(error("rate_limit_exceeded")),
        };
        let (left, full_in) = admitted.unwrap_or((0, HOUR as u64));
        let full_at =
            SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()) + full_in;
        if let Step::Answer(answer) | Step::Runs(answer, ..) = &mut step {
            answer.headers.extend([
                ("ratelimit-limit", self.limit.to_string()),
                ("ratelimit-remaining", left.to_string()),
                ("ratelimit-reset", full_at.to_string()),
            ]);
        }
        step
    }

    fn finish(&mut self, id: u64) -> Answer {
        let Action { of, to, is_done, status, .. } = self.action(id).clone();
        if is_done {
            let entry = self.entries.iter().find(|entry| entry.ip.id == of).expect("it has an action");
            self.set_route(entry.ip.ip, to);
        }
        // It may have been ended before its time.
        if status == Status::Running {
            self.action(id).finish();
            self.unlock();
        }
        self.action(id).answer(200, None)
    }

    /// For a POST: an action that has succeeded, of another server, and nothing is done.
    fn pretend(&self, call: &Call, pretence: Pretence<u64>) -> Answer {
        let Some(entry) = self.of_path(call) else { return not_found("floating IP") };
        if call.method == Some(standin::Method::Post) {
            let to = match pretence {
                Pretence::Other(server) => Some(server),
                Pretence::Null | Pretence::Missing => None,
            };
            let (started, status) = (SystemTime::now(), Status::Success);
            let (end, of, finished) = (Status::Success, entry.ip.id, Some(started));
            let (is_done, is_early) = (false, false);
            return Action { id: 0, of, to, status, end, is_done, is_early, started, finished }
                .answer(201, None);
        }
        let mut object = self.object(entry);
        pretend_server(&mut object, pretence);
        Answer::ok(&json!({ "floating_ip": object }))
    }

    /// What never ends ends now, as when somebody at Hetzner has looked after it.
    fn calm(&mut self) {
        for action in &mut self.actions {
            if action.status == Status::Running && action.end == Status::Running {
                action.end = Status::Error("action_cancelled".into());
                action.finish();
            }
        }
        self.unlock();
    }

    fn outrage(&self, journal: &[Request]) -> Option<String> {
        let unassigned = journal.iter().find(|request| request.path.ends_with("/unassign"))?;
        (!self.may_unassign).then(|| format!("an IP was unassigned: {unassigned:?}"))
    }

    fn ips(&self) -> Vec<IpAddr> {
        self.entries.iter().map(|entry| entry.ip.ip).collect()
    }

    fn route(&self, ip: IpAddr) -> Option<u64> {
        self.entries.iter().find(|entry| entry.ip.ip == ip)?.ip.server
    }

    fn is_switching(&self, ip: IpAddr) -> bool {
        self.entries.iter().any(|entry| entry.ip.ip == ip && entry.running.is_some())
    }

    fn set_route(&mut self, ip: IpAddr, to: Option<u64>) {
        let from = std::mem::replace(&mut self.entry(ip).ip.server, to);
        self.routes.note(ip, from, to);
    }

    fn set_switch(&mut self, time: Duration) {
        self.switch = time;
    }

    fn routes(&self) -> &Routes<u64> {
        &self.routes
    }
}
