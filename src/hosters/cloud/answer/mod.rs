//! Reads the Cloud API's answers: what each means for a takeover, and the words for it.
//!
//! Everything but a clear yes is a [`Failure`] with a sentence of its own. Nothing here trusts the answer: it may come
//! from a proxy, or be a maintenance page.

mod errors;
#[cfg(any(test, feature = "fuzz"))]
pub mod properties;
#[cfg(test)]
mod tests;

use std::net::IpAddr;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::options::{Named, address};
use crate::hosters::answer::{describe, read, redirect};
use crate::hosters::{Failure, Kind, Stage};
use crate::https::Answer;
use crate::sys::net;
use crate::text::printable;
use errors::{ALREADY, error_in, field_names, meaning};

/// `{"floating_ip": {...}}`. Source: Hetzner Cloud API, "Floating IPs".
#[derive(Deserialize)]
struct One {
    floating_ip: Ip,
}

/// `{"floating_ips": [...], "meta": {...}}`.
#[derive(Deserialize)]
struct Many {
    floating_ips: Vec<Ip>,
    #[serde(default)]
    meta: Value,
}

#[derive(Deserialize)]
struct Ip {
    id: u64,
    /// For IPv6 the text of its /64.
    ip: String,
    /// Absent is an error, `null` is "assigned to none".
    #[serde(deserialize_with = "Option::deserialize")]
    server: Option<u64>,
    /// By Hetzner, because of abuse.
    #[serde(default)]
    blocked: Value,
}

/// `{"action": {...}}`. Source: Hetzner Cloud API, "Actions".
#[derive(Deserialize)]
struct Acted {
    action: Act,
}

#[derive(Deserialize)]
struct Act {
    id: u64,
    status: String,
    /// If the status is `error`: `{"code": ..., "message": ...}`.
    #[serde(default)]
    error: Value,
}

/// `{"servers": [{"id": ..., "name": ...}]}`. Source: Hetzner Cloud API, "Servers".
#[derive(Deserialize)]
struct Servers {
    servers: Vec<Server>,
}

#[derive(Deserialize)]
struct Server {
    id: u64,
    name: String,
}

/// A floating IP, as the API says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    pub id: u64,
    /// Which one it is assigned to.
    pub server: Option<u64>,
    pub is_blocked: bool,
}

/// A page of the list.
#[derive(Debug, PartialEq, Eq)]
pub struct Page {
    /// The one that was looked for, if it is on this page.
    pub found: Option<Found>,
    pub next: Option<u64>,
}

/// How an action goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    Running,
    Success,
    /// With the API's reason.
    Error(String),
}

/// What became of a request to assign, or to unassign.
#[derive(Debug, PartialEq, Eq)]
pub enum Begun {
    Action(u64, Progress),
    /// The IP is assigned to a server already, perhaps to the right one.
    Already,
}

/// Reads answers. None of the `secrets` appears in what it returns.
pub struct Reader<'a> {
    /// The floating IP that was asked about.
    pub ip: IpAddr,
    pub secrets: &'a [&'a str],
}

impl Reader<'_> {
    /// The answer to a request to assign or unassign: the action that it has begun. That is not its success.
    pub fn begun(&self, answer: &Answer) -> Result<Begun, Failure> {
        if answer.status == 422 && error_in(answer).is_some_and(|error| error.code == ALREADY) {
            return Ok(Begun::Already);
        }
        let Act { id, status, error } = self.expect::<Acted>(answer, 201, "action", "action")?.action;
        Ok(Begun::Action(id, self.progress(201, &status, &error)?))
    }

    /// The answer to a question how this action goes.
    pub fn action(&self, answer: &Answer, id: u64) -> Result<Progress, Failure> {
        let Act { id: about, status, error } = self.expect::<Acted>(answer, 200, "action", "action")?.action;
        if about != id {
            return Err(unknown(200, &format!(", but the answer is about action {about}, not {id}")));
        }
        self.progress(200, &status, &error)
    }

    fn progress(&self, http: u16, status: &str, error: &Value) -> Result<Progress, Failure> {
        let text = |name| self.shown(error.get(name).and_then(Value::as_str).unwrap_or_default());
        match status {
            "running" => Ok(Progress::Running),
            "success" => Ok(Progress::Success),
            "error" => Ok(Progress::Error(format!("{} \"{}\"", text("code"), text("message")))),
            other => Err(unknown(http, &format!(", but the action's status is \"{}\"", self.shown(other)))),
        }
    }

    /// Where the floating IP with this id is assigned.
    pub fn place(&self, answer: &Answer, named: &Named) -> Result<Found, Failure> {
        let one: One = self.expect(answer, 200, "floating_ip", "floating_ip with id, ip and server")?;
        self.only(&one.floating_ip, named)
    }

    /// What the one with this name is.
    pub fn by_name(&self, answer: &Answer, named: &Named) -> Result<Found, Failure> {
        let many = self.many(answer)?;
        let [one] = &many.floating_ips[..] else {
            let sentence = format!(
                "HTTP 200, but the token's Project has no floating IP {}: check floating_ip and token",
                self.shown(&named.to_string())
            );
            return Err(Failure::new(Kind::Final, Stage::Address, sentence));
        };
        self.only(one, named)
    }

    /// The floating IP that `named` names, which must be the one that was asked about.
    fn only(&self, one: &Ip, named: &Named) -> Result<Found, Failure> {
        let about = self.address(&one.ip)?;
        let named_id = if let Named::Id(id) = named { *id } else { one.id };
        if about != net(self.ip) || one.id != named_id {
            let named = self.shown(&named.to_string());
            let about =
                if about == net(self.ip) { format!("floating IP {}", one.id) } else { about.to_string() };
            let sentence = format!(
                "HTTP 200, but floating IP {named} is {about}, not {}: check floating_ip and ip",
                self.ip
            );
            return Err(Failure::new(Kind::Final, Stage::Address, sentence));
        }
        Ok(found(one))
    }

    /// A page of all floating IPs, where the one with the address is looked for.
    pub fn page(&self, answer: &Answer, number: u64) -> Result<Page, Failure> {
        let many = self.many(answer)?;
        let is_it = |one: &&Ip| address(one.ip.as_bytes()) == Some(net(self.ip));
        let found = many.floating_ips.iter().find(is_it).map(found);
        let next = &many.meta["pagination"]["next_page"];
        // One that does not lead on would never end.
        let next = next.as_u64().filter(|next| *next > number);
        Ok(Page { found, next })
    }

    /// The id of the server with this name.
    pub fn server(&self, answer: &Answer, name: &str) -> Result<u64, Failure> {
        let Servers { servers } = self.expect_list(answer, "servers", "list of servers with id and name")?;
        let it = servers.iter().find(|server| server.name == name);
        it.map(|server| server.id).ok_or_else(|| {
            let name = self.shown(name);
            let sentence =
                format!("HTTP 200, but the token's Project has no server {name}: check server and token");
            Failure::new(Kind::Final, Stage::Address, sentence)
        })
    }

    fn many(&self, answer: &Answer) -> Result<Many, Failure> {
        self.expect_list(answer, "floating_ips", "list of floating_ips with id, ip and server")
    }

    fn address(&self, text: &str) -> Result<IpAddr, Failure> {
        let not_an_address =
            || unknown(200, &format!(", but ip is \"{}\", not an IP address", self.shown(text)));
        address(text.as_bytes()).ok_or_else(not_an_address)
    }

    fn expect<T: DeserializeOwned>(
        &self,
        answer: &Answer,
        status: u16,
        name: &str,
        what: &str,
    ) -> Result<T, Failure> {
        self.check_status(answer, status)?;
        read(&answer.body, name)
            .ok_or_else(|| unknown(status, &format!(" {}: no {what} in it", describe(&answer.body))))
    }

    fn expect_list<T: DeserializeOwned>(
        &self,
        answer: &Answer,
        name: &str,
        what: &str,
    ) -> Result<T, Failure> {
        self.check_status(answer, 200)?;
        read_list(&answer.body, name)
            .ok_or_else(|| unknown(200, &format!(" {}: no {what} in it", describe(&answer.body))))
    }

    fn check_status(&self, answer: &Answer, expected: u16) -> Result<(), Failure> {
        match answer.status {
            status if status == expected => Ok(()),
            300..=399 => Err(redirect(answer, self.secrets)),
            _ => Err(self.error(answer)),
        }
    }

    /// What an answer with an error status means.
    fn error(&self, answer: &Answer) -> Failure {
        let error = error_in(answer);
        let code = error.as_ref().map_or("", |error| &error.code);
        let (kind, stage, advice) = meaning(answer.status, code);
        let what = error.as_ref().map_or_else(
            || describe(&answer.body),
            |error| {
                let message = self.shown(error.message.as_str().unwrap_or_default());
                let fields = match field_names(error) {
                    names if names.is_empty() => String::new(),
                    names => format!(" (fields: {})", self.shown(&names.join(", "))),
                };
                format!("{} \"{message}\"{fields}", self.shown(&error.code))
            },
        );
        let colon = if advice.is_empty() { "" } else { ": " };
        Failure::new(kind, stage, format!("HTTP {} {what}{colon}{advice}", answer.status))
    }

    fn shown(&self, text: &str) -> String {
        printable(text, self.secrets)
    }
}

fn found(one: &Ip) -> Found {
    Found { id: one.id, server: one.server, is_blocked: one.blocked == Value::Bool(true) }
}

fn unknown(status: u16, what: &str) -> Failure {
    Failure::new(Kind::Unknown, Stage::Host, format!("HTTP {status}{what}"))
}

/// Reads `{"NAME": [{...}, ...]}`; see [`read`].
fn read_list<T: DeserializeOwned>(body: &[u8], name: &str) -> Option<T> {
    let value: Value = serde_json::from_slice(body).ok()?;
    let list = value.as_object()?.get(name)?.as_array()?;
    list.iter().all(Value::is_object).then(|| serde_json::from_slice(body).ok()).flatten()
}
