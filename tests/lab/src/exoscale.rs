//! A stand-in for Exoscale's API, as far as `examples/exoscale-eip` goes: one Elastic IP, which can be attached to several
//! instances at once, the operations by which that is done, and the metadata service of one instance.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::str::FromStr;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hyper::header::AUTHORIZATION;
use hyper::http::request::Parts;
use serde_json::{Value, json};

use crate::PASSWORD;
use crate::standin::{
    self, Answer, Api, Certificate, Dialect, Door, Method, Pretence, Routes, StandIn, Target, Words, text,
};
use crate::sums::hmac_sha256;

/// The API key of every request; its secret is [`PASSWORD`].
pub const KEY: &str = "EXOnotarealkey";
/// The id of the Elastic IP.
pub const ID: &str = "e1e1e1e1-0000-4000-8000-000000000000";

/// A signature may expire so many seconds from now.
const LONGEST: u64 = 600;

/// The instance of node N, by whose id the API knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Vm(pub usize);

const VM: &str = "10101010-0000-4000-8000-";

impl fmt::Display for Vm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{VM}{:012}", self.0)
    }
}

impl FromStr for Vm {
    type Err = ();

    fn from_str(id: &str) -> Result<Vm, ()> {
        id.strip_prefix(VM)
            .filter(|rest| rest.len() == 12)
            .and_then(|rest| rest.parse().ok())
            .map(Vm)
            .ok_or(())
    }
}

/// The only fault of its own: the operation ends in this state, perhaps with a slash and a reason, and nothing is done.
#[derive(Clone, Debug, PartialEq)]
pub struct Ends(String);

impl fmt::Display for Ends {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ends {}", self.0)
    }
}

impl Dialect for Ends {
    type Server = Vm;

    const SERVER: &str = "an instance's id";
    const FIELDS: [&str; 2] = ["Elastic IP", "instance"];
    const OWN: &str =
        "            ends STATE          the operation ends in this state, and nothing is done\n";
    const LOCKED: &str = "409";

    fn error(status: &str) -> Option<Answer> {
        let status = status.parse().ok()?;
        (400..600).contains(&status).then(|| error(status, "the message of this error"))
    }

    fn errors() -> String {
        "any status from 400 on".to_owned()
    }

    fn truncated() -> &'static str {
        r#"{"elastic-ips":[{"id":"e1e1"#
    }

    fn own(word: &str, words: &mut Words) -> Option<Result<Ends, String>> {
        (word == "ends").then(|| words.next("a state").map(|state| Ends(state.to_owned())))
    }

    fn own_words() -> &'static str {
        "ends, "
    }
}

fn error(status: u16, message: &str) -> Answer {
    Answer { code: Some(status.to_string()), ..Answer::json(status, &json!({ "message": message })) }
}

/// What the stand-in is to be; only over HTTPS.
#[derive(Clone, Debug)]
pub struct Config {
    pub ip: IpAddr,
    /// To whom it is attached. Default: nobody.
    pub attached: Vec<Vm>,
    /// Instances 1 to N are there. Default: 3.
    pub instances: usize,
    /// Whom the metadata service is asked by. Default: nobody, there is none.
    pub own: Option<Vm>,
    /// How long an operation takes. Default: no time.
    pub switch: Duration,
    pub certificate: Certificate,
}

impl Config {
    pub fn new(ip: IpAddr) -> Config {
        let (certificate, switch) = (Certificate::Right, Duration::ZERO);
        Config { ip, attached: Vec::new(), instances: 3, own: None, switch, certificate }
    }
}

/// A stand-in that runs.
pub type Exoscale = StandIn<Account>;

impl Exoscale {
    pub fn start(config: Config) -> io::Result<Exoscale> {
        let door = Door {
            listen: ([127, 0, 0, 1], 0).into(),
            tls: Some(config.certificate),
            resume_sessions: true,
            ca_file: None,
        };
        StandIn::open(&door, Account::new(config), None)
    }

    /// For `env_file`.
    pub fn environment(&self) -> Vec<(String, String)> {
        let origin = self.origin();
        let ca = self.ca_file().expect("it speaks TLS").display().to_string();
        [
            ("EXOSCALE_API_KEY", KEY.to_owned()),
            ("EXOSCALE_API_SECRET", PASSWORD.to_owned()),
            ("EXOSCALE_URL", format!("{origin}/v2")),
            ("EXOSCALE_METADATA_URL", format!("{origin}{METADATA}")),
            ("SSL_CERT_FILE", ca),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .to_vec()
    }

    /// To whom it is attached now.
    pub fn attached(&self) -> Vec<Vm> {
        self.account(|account| account.config.attached.clone())
    }

    /// By hand, at once.
    pub fn attach(&self, to: &[Vm]) {
        self.change(|account| account.set(to.to_vec()));
    }
}

const METADATA: &str = "/latest/meta-data/instance-id";

/// What only these requests have.
pub struct What {
    is_signed: Result<(), &'static str>,
    /// Of the query.
    address: Option<String>,
    body: Value,
}

pub type Call = standin::Call<Vm, What>;

struct Operation {
    state: String,
    end: String,
    vm: Vm,
    attaches: bool,
}

pub struct Account {
    config: Config,
    /// Their ids are their places.
    operations: Vec<Operation>,
    routes: Routes<Vm>,
}

impl Account {
    fn new(config: Config) -> Account {
        Account { config, operations: Vec::new(), routes: Routes::new(None) }
    }

    fn set(&mut self, attached: Vec<Vm>) {
        let from = self.route(self.config.ip);
        self.config.attached = attached;
        let to = self.route(self.config.ip);
        self.routes.note(self.config.ip, from, to);
    }

    fn operation(&self, number: usize) -> Answer {
        let (state, reason) = match self.operations[number].state.split_once('/') {
            Some((state, reason)) => (state, json!(reason)),
            None => (self.operations[number].state.as_str(), Value::Null),
        };
        let id = format!("0b0b0b0b-0000-4000-8000-{number:012}");
        let body = json!({ "id": id, "state": state, "reason": reason, "message": Value::Null });
        Answer { code: Some(state.to_owned()), ..Answer::ok(&body) }
    }

    fn judge(&mut self, call: &Call, fault: Option<&Ends>) -> Result<Step, Answer> {
        if call.path == METADATA {
            let own = self.config.own.ok_or_else(|| error(404, "not here"))?;
            return Ok(Step::Answer(Answer::raw(200, "text/plain", format!("{own}\n"))));
        }
        call.what.is_signed.map_err(|why| error(403, why))?;
        let is_known = |vm: &Vm| (1..=self.config.instances).contains(&vm.0);
        let path = call.path.split('?').next().unwrap_or_default();
        let parts: Vec<&str> = path.split('/').skip(1).collect();
        Ok(Step::Answer(match (call.verb.as_str(), &parts[..]) {
            ("GET", ["v2", "elastic-ip"]) => {
                let eip = json!({ "id": ID, "ip": self.config.ip, "addressfamily": "inet4" });
                Answer::ok(&json!({ "elastic-ips": [eip] }))
            }
            ("GET", ["v2", "instance"]) => {
                let address = call.what.address.as_deref();
                let (all, ip) = ((1..=self.config.instances).map(Vm), self.config.ip.to_string());
                let is_found = |vm: &Vm| match address {
                    None => true,
                    Some(address) => address == ip && self.config.attached.contains(vm),
                };
                // The list does not say which Elastic IPs an instance has.
                let found =
                    all.filter(is_found).map(|vm| json!({ "id": vm.to_string(), "state": "running" }));
                Answer::ok(&json!({ "instances": found.collect::<Vec<_>>() }))
            }
            ("GET", ["v2", "operation", id]) => {
                let number = id.rsplit('-').next().and_then(|number| number.parse().ok());
                let number = number.filter(|number| *number < self.operations.len());
                self.operation(number.ok_or_else(|| error(404, "no such operation"))?)
            }
            ("PUT", ["v2", "elastic-ip", what]) => {
                let Some((ID, verb @ ("attach" | "detach"))) = what.split_once(':') else {
                    return Err(error(404, "no such Elastic IP"));
                };
                let Target::Is(vm) = call.target else { return Err(error(400, "no id of an instance")) };
                let (attaches, is_attached) = (verb == "attach", self.config.attached.contains(&vm));
                if !is_known(&vm) || (!attaches && !is_attached) {
                    return Err(error(404, "no such instance"));
                }
                if self.is_switching(self.config.ip) {
                    return Err(error(409, "busy with another operation"));
                }
                if attaches && is_attached {
                    return Err(error(400, "it is attached already"));
                }
                let end = fault.map_or("success", |Ends(state)| state).to_owned();
                self.operations.push(Operation { state: "pending".to_owned(), end, vm, attaches });
                let number = self.operations.len() - 1;
                return Ok(Step::Runs(self.operation(number), self.config.switch, number));
            }
            _ => return Err(error(404, "no such resource")),
        }))
    }
}

pub type Step = standin::Step<usize>;

/// As documented: the parts of `Authorization`, and the signature over the request.
fn is_signed(head: &Parts, body: &[u8], address: Option<&str>) -> Result<(), &'static str> {
    let authorization = text(&head.headers, &AUTHORIZATION).ok_or("not signed")?;
    let rest = authorization.strip_prefix("EXO2-HMAC-SHA256 ").ok_or("another scheme")?;
    let part = |name: &str| rest.split(',').find_map(|part| part.strip_prefix(name)?.strip_prefix('='));
    if part("credential") != Some(KEY) {
        return Err("unknown key");
    }
    if part("signed-query-args") != address.map(|_| "ip-address") {
        return Err("other arguments are signed than are sent");
    }
    let expires = part("expires").ok_or("no expiry")?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let left = expires.parse::<u64>().ok().and_then(|expires| expires.checked_sub(now)).ok_or("expired")?;
    if left > LONGEST {
        return Err("expires too late");
    }
    let (body, address) = (String::from_utf8_lossy(body), address.unwrap_or_default());
    let message = format!("{} {}\n{body}\n{address}\n\n{expires}", head.method, head.uri.path());
    let right = BASE64.encode(hmac_sha256(PASSWORD, &message));
    if part("signature") == Some(right.as_str()) { Ok(()) } else { Err("wrong signature") }
}

impl Api for Account {
    type Dialect = Ends;
    type What = What;
    type Ticket = usize;

    fn read(&self, head: &Parts, body: &[u8], peer: IpAddr) -> Call {
        let address = head.uri.query().and_then(|query| query.strip_prefix("ip-address=")).map(str::to_owned);
        let is_signed = is_signed(head, body, address.as_deref());
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        let mut call = Call::begin(head, peer, What { is_signed, address, body });
        call.path = head.uri.path_and_query().map_or_else(|| call.path.clone(), ToString::to_string);
        if call.verb == "PUT" {
            // What moves an IP is a `post` in each rule.
            call.method = Some(Method::Post);
        }
        call.ip = call.path.contains(ID).then_some(self.config.ip);
        call.user = Some(KEY.to_owned());
        call.sent_target = call.what.body["instance"]["id"].as_str().map(str::to_owned);
        call.target = match call.sent_target.as_deref().map(str::parse) {
            None => Target::Missing,
            Some(Err(())) => Target::Invalid,
            Some(Ok(vm)) => Target::Is(vm),
        };
        call
    }

    fn authorises(&self, call: &Call) -> bool {
        call.what.is_signed.is_ok()
    }

    fn handle(&mut self, call: &Call, fault: Option<(&Ends, bool)>, _: Instant) -> Step {
        let step = self.judge(call, fault.map(|(ends, _)| ends));
        match step.unwrap_or_else(Step::Answer) {
            Step::Runs(_, time, number) if time.is_zero() => Step::Answer(self.finish(number)),
            step => step,
        }
    }

    fn finish(&mut self, number: usize) -> Answer {
        let Operation { state, end, vm, attaches } = &mut self.operations[number];
        state.clone_from(end);
        let (vm, attaches) = (*vm, *attaches);
        if state == "success" {
            let mut attached = self.config.attached.clone();
            attached.retain(|other| *other != vm);
            attached.extend(attaches.then_some(vm));
            self.set(attached);
        }
        self.operation(number)
    }

    fn pretend(&self, _: &Call, _: Pretence<Vm>) -> Answer {
        error(500, "not played here")
    }

    fn ips(&self) -> Vec<IpAddr> {
        vec![self.config.ip]
    }

    /// Where all of its traffic goes: nowhere in particular while several instances share it.
    fn route(&self, _: IpAddr) -> Option<Vm> {
        match self.config.attached[..] {
            [vm] => Some(vm),
            _ => None,
        }
    }

    fn is_switching(&self, _: IpAddr) -> bool {
        self.operations.iter().any(|operation| operation.state == "pending")
    }

    fn set_route(&mut self, _: IpAddr, to: Option<Vm>) {
        self.set(to.into_iter().collect());
    }

    fn set_switch(&mut self, time: Duration) {
        self.config.switch = time;
    }

    fn routes(&self) -> &Routes<Vm> {
        &self.routes
    }
}
