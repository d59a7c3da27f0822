//! A stand-in for OVHcloud's API, as far as `examples/ovh-ip` goes: one Additional IP, moved from service to service by tasks
//! or, in a project of the Public Cloud, from instance to instance.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::str::FromStr;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use hyper::header::HeaderName;
use hyper::http::request::Parts;
use serde_json::{Value, json};

use crate::standin::{
    self, Answer, Api, Certificate, Dialect, Door, Pretence, Routes, StandIn, Target, Words, text,
};
use crate::sums::sha1;
use crate::{PASSWORD, TOKEN};

/// The application key of every request; its secret is [`PASSWORD`], the consumer key is [`TOKEN`].
pub const APPLICATION: &str = "notarealapplication";
/// The project of the Public Cloud, where the stand-in plays one.
pub const PROJECT: &str = "0p0p0p0p";
/// The id of the failover IP there.
pub const ID: &str = "f0f0f0f0-0000-4000-8000-000000000000";

/// So many seconds a timestamp may be off, on a busy machine.
const LATE: u64 = 300;

/// The service of node N, or its instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Service(pub usize);

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ns{}.ovh.example", self.0)
    }
}

impl FromStr for Service {
    type Err = ();

    fn from_str(name: &str) -> Result<Service, ()> {
        let number = name.strip_prefix("ns").and_then(|name| name.strip_suffix(".ovh.example"));
        number.and_then(|number| number.parse().ok()).map(Service).ok_or(())
    }
}

/// The only fault of its own: the task ends in this state, and nothing is done.
#[derive(Clone, Debug, PartialEq)]
pub struct Ends(String);

impl fmt::Display for Ends {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ends {}", self.0)
    }
}

impl Dialect for Ends {
    type Server = Service;

    const SERVER: &str = "a service";
    const FIELDS: [&str; 2] = ["IP", "to"];
    const OWN: &str = "            ends STATUS         the task ends with this status, and nothing is done\n";
    const LOCKED: &str = "409";

    fn error(status: &str) -> Option<Answer> {
        let status = status.parse().ok()?;
        (400..600).contains(&status).then(|| error(status, "the message of this error"))
    }

    fn errors() -> String {
        "any status from 400 on".to_owned()
    }

    fn truncated() -> &'static str {
        r#"{"ip":"4.4.4.4/32","routedTo":{"servi"#
    }

    fn own(word: &str, words: &mut Words) -> Option<Result<Ends, String>> {
        (word == "ends").then(|| words.next("a status").map(|status| Ends(status.to_owned())))
    }

    fn own_words() -> &'static str {
        "ends, "
    }
}

fn error(status: u16, message: &str) -> Answer {
    let body = json!({ "class": "Client::Any", "message": message });
    Answer { code: Some(status.to_string()), ..Answer::json(status, &body) }
}

/// What the stand-in is to be; only over HTTPS.
#[derive(Clone, Debug)]
pub struct Config {
    pub ip: IpAddr,
    pub to: Option<Service>,
    /// Services 1 to N are there. Default: 3.
    pub services: usize,
    /// Whether it is of the Public Cloud. Default: no.
    pub in_cloud: bool,
    /// How long a task takes. Default: no time.
    pub switch: Duration,
    /// How far the API's clock is ahead of ours. Default: a day, so that whoever does not ask for it is found out.
    pub ahead: Duration,
}

impl Config {
    pub fn new(ip: IpAddr) -> Config {
        let (switch, ahead) = (Duration::ZERO, Duration::from_secs(86_400));
        Config { ip, to: None, services: 3, in_cloud: false, switch, ahead }
    }
}

/// A stand-in that runs.
pub type Ovh = StandIn<Account>;

impl Ovh {
    pub fn start(config: Config) -> io::Result<Ovh> {
        let door = Door {
            listen: ([127, 0, 0, 1], 0).into(),
            tls: Some(Certificate::Right),
            resume_sessions: true,
            ca_file: None,
        };
        let account = Account { config, tasks: Vec::new(), origin: String::new(), routes: Routes::new(None) };
        let ovh = StandIn::open(&door, account, None)?;
        let origin = ovh.origin();
        ovh.change(|account| account.origin = origin);
        Ok(ovh)
    }

    /// For `env_file`.
    pub fn environment(&self) -> Vec<(String, String)> {
        let ca = self.ca_file().expect("it speaks TLS").display().to_string();
        let project = self.account(|account| account.config.in_cloud).then(|| PROJECT.to_owned());
        let all = [
            ("OVH_ENDPOINT", format!("{}/1.0", self.origin())),
            ("OVH_APPLICATION_KEY", APPLICATION.to_owned()),
            ("OVH_APPLICATION_SECRET", PASSWORD.to_owned()),
            ("OVH_CONSUMER_KEY", TOKEN.to_owned()),
            ("SSL_CERT_FILE", ca),
        ];
        let project = project.map(|project| ("OVH_CLOUD_PROJECT", project));
        all.into_iter().chain(project).map(|(name, value)| (name.to_owned(), value)).collect()
    }

    /// Begins a move as somebody else would, by hand.
    pub fn begin(&self, to: Option<Service>) {
        self.change(|account| {
            account.tasks.push(Task { status: "doing".to_owned(), end: "done".to_owned(), to })
        });
    }

    /// Ends it.
    pub fn end(&self) {
        self.change(|account| account.finish(account.tasks.len() - 1));
    }
}

/// What only these requests have.
pub struct What {
    is_signed: Result<(), &'static str>,
    /// Of the query.
    status: Option<String>,
    body: Value,
}

pub type Call = standin::Call<Service, What>;

struct Task {
    status: String,
    end: String,
    to: Option<Service>,
}

pub struct Account {
    config: Config,
    /// Their ids are their places.
    tasks: Vec<Task>,
    /// What a signed URL begins with.
    origin: String,
    routes: Routes<Service>,
}

pub type Step = standin::Step<usize>;

impl Account {
    fn now(&self) -> u64 {
        let now = SystemTime::now() + self.config.ahead;
        now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
    }

    /// As documented: SHA-1 over the request and both secrets.
    fn is_signed(&self, head: &Parts, body: &[u8]) -> Result<(), &'static str> {
        let header = |name| text(&head.headers, &HeaderName::from_static(name));
        if header("x-ovh-application") != Some(APPLICATION) {
            return Err("unknown application");
        }
        if header("x-ovh-consumer") != Some(TOKEN) {
            return Err("unknown consumer");
        }
        let timestamp = header("x-ovh-timestamp").ok_or("no timestamp")?;
        if timestamp.parse::<u64>().map_or(true, |at| at.abs_diff(self.now()) > LATE) {
            return Err("of another time");
        }
        let (body, path) =
            (String::from_utf8_lossy(body), head.uri.path_and_query().map_or("", |it| it.as_str()));
        let (method, origin) = (&head.method, &self.origin);
        let right = sha1(&format!("{PASSWORD}+{TOKEN}+{method}+{origin}{path}+{body}+{timestamp}"));
        if header("x-ovh-signature") == Some(&format!("$1${right}")) {
            Ok(())
        } else {
            Err("wrong signature")
        }
    }

    fn task(&self, number: usize) -> Answer {
        let Task { status, to, .. } = &self.tasks[number];
        let comment = if status.ends_with("Error") { json!("the comment of this task") } else { Value::Null };
        let body = json!({
            "taskId": number,
            "function": "genericMoveFloatingIp",
            "status": status,
            "destination": { "serviceName": to.map(|to| to.to_string()) },
            "comment": comment,
        });
        Answer { code: Some(status.clone()), ..Answer::ok(&body) }
    }

    /// As the Public Cloud shows it.
    fn failover(&self) -> Value {
        let status = if self.is_switching(self.config.ip) { "operationPending" } else { "ok" };
        let to = self.config.to.map_or_else(String::new, |to| to.to_string());
        json!({ "id": ID, "ip": self.config.ip, "routedTo": to, "status": status, "progress": 0, "subType": "ovh" })
    }

    fn judge(&mut self, call: &Call, fault: Option<&Ends>) -> Result<Step, Answer> {
        if call.path == "/1.0/auth/time" {
            return Ok(Step::Answer(Answer::ok(&json!(self.now()))));
        }
        call.what.is_signed.map_err(|why| error(403, why))?;
        let Config { ip, to, in_cloud, .. } = self.config;
        let block = format!("{ip}%2F32");
        let path = call.path.split('?').next().unwrap_or_default();
        let parts: Vec<&str> = path.split('/').skip(2).collect();
        let (moves, rest) = match &parts[..] {
            ["ip", of, rest @ ..] if *of == block && !in_cloud => (false, rest),
            ["cloud", "project", PROJECT, "ip", "failover", rest @ ..] if in_cloud => (true, rest),
            _ => return Err(error(404, "no such service")),
        };
        Ok(Step::Answer(match (call.verb.as_str(), moves, rest) {
            ("GET", false, []) => {
                let service = to.map(|to| to.to_string());
                Answer::ok(&json!({ "ip": format!("{ip}/32"), "routedTo": { "serviceName": service } }))
            }
            ("GET", false, ["task"]) => {
                if !call.path.contains("function=genericMoveFloatingIp") {
                    return Err(error(400, "no such function"));
                }
                let is_asked =
                    |task: &Task| call.what.status.as_ref().is_none_or(|status| *status == task.status);
                let found: Vec<usize> =
                    (0..self.tasks.len()).filter(|number| is_asked(&self.tasks[*number])).collect();
                Answer::ok(&json!(found))
            }
            ("GET", false, ["task", number]) => {
                let number = number.parse().ok().filter(|number| *number < self.tasks.len());
                self.task(number.ok_or_else(|| error(404, "no such task"))?)
            }
            ("GET", true, []) => Answer::ok(&json!([self.failover()])),
            ("GET", true, [ID]) => Answer::ok(&self.failover()),
            ("POST", false, ["move"]) | ("POST", true, [ID, "attach"]) => {
                let Target::Is(to) = call.target else { return Err(error(400, "no such destination")) };
                if !(1..=self.config.services).contains(&to.0) {
                    return Err(error(404, "no such destination"));
                }
                return self.begin(Some(to), fault);
            }
            ("POST", false, ["park"]) => return self.begin(None, fault),
            _ => return Err(error(404, "no such call")),
        }))
    }

    fn begin(&mut self, to: Option<Service>, fault: Option<&Ends>) -> Result<Step, Answer> {
        if self.is_switching(self.config.ip) {
            return Err(error(409, "another task is under way"));
        }
        let end = fault.map_or("done", |Ends(status)| status).to_owned();
        self.tasks.push(Task { status: "todo".to_owned(), end, to });
        let number = self.tasks.len() - 1;
        if self.config.switch.is_zero() {
            return Ok(Step::Answer(self.finish(number)));
        }
        Ok(Step::Runs(self.shown(number), self.config.switch, number))
    }

    /// What a move is answered by.
    fn shown(&self, number: usize) -> Answer {
        if self.config.in_cloud { Answer::ok(&self.failover()) } else { self.task(number) }
    }
}

impl Api for Account {
    type Dialect = Ends;
    type What = What;
    type Ticket = usize;

    fn read(&self, head: &Parts, body: &[u8], peer: IpAddr) -> Call {
        let is_signed = self.is_signed(head, body);
        let mut query = head.uri.query().into_iter().flat_map(|query| query.split('&'));
        let status = query.find_map(|pair| pair.strip_prefix("status=")).map(str::to_owned);
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        let mut call = Call::begin(head, peer, What { is_signed, status, body });
        call.path = head.uri.path_and_query().map_or_else(|| call.path.clone(), ToString::to_string);
        call.ip = (!call.path.ends_with("/auth/time")).then_some(self.config.ip);
        call.user = Some(APPLICATION.to_owned());
        let body = &call.what.body;
        call.sent_target = body["to"].as_str().or(body["instanceId"].as_str()).map(str::to_owned);
        call.target = match call.sent_target.as_deref().map(str::parse) {
            None => Target::Missing,
            Some(Err(())) => Target::Invalid,
            Some(Ok(service)) => Target::Is(service),
        };
        call
    }

    fn authorises(&self, call: &Call) -> bool {
        call.what.is_signed.is_ok()
    }

    fn handle(&mut self, call: &Call, fault: Option<(&Ends, bool)>, _: Instant) -> Step {
        self.judge(call, fault.map(|(ends, _)| ends)).unwrap_or_else(Step::Answer)
    }

    fn finish(&mut self, number: usize) -> Answer {
        let Task { status, end, to } = &mut self.tasks[number];
        status.clone_from(end);
        let to = (status == "done").then_some(*to);
        if let Some(to) = to {
            self.set_route(self.config.ip, to);
        }
        self.shown(number)
    }

    fn pretend(&self, _: &Call, _: Pretence<Service>) -> Answer {
        error(500, "not played here")
    }

    fn ips(&self) -> Vec<IpAddr> {
        vec![self.config.ip]
    }

    fn route(&self, _: IpAddr) -> Option<Service> {
        self.config.to
    }

    fn is_switching(&self, _: IpAddr) -> bool {
        self.tasks.iter().any(|task| ["init", "todo", "doing"].contains(&task.status.as_str()))
    }

    fn set_route(&mut self, ip: IpAddr, to: Option<Service>) {
        let from = std::mem::replace(&mut self.config.to, to);
        self.routes.note(ip, from, to);
    }

    fn set_switch(&mut self, time: Duration) {
        self.config.switch = time;
    }

    fn routes(&self) -> &Routes<Service> {
        &self.routes
    }
}
