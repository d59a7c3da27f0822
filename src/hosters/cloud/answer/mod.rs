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

use serde_json::Value;

use super::options::{Named, address};
use crate::hosters::answer::{describe, read_strictly, redirect};
use crate::hosters::{Failure, Kind, Stage};
use crate::https::Answer;
use crate::sys::net;
use crate::text::printable;
use errors::{ALREADY, error_in, meaning};

const LIST: &str = "list of floating_ips with id, ip and server";

/// A floating IP. Source: Hetzner Cloud API, "Floating IPs".
struct Ip<'a> {
    /// For IPv6 the text of its /64.
    ip: &'a str,
    found: Found,
}

impl Ip<'_> {
    fn read(value: &Value) -> Option<Ip<'_>> {
        // Absent is an error, null is "assigned to none".
        let server = match value.get("server")? {
            Value::Null => None,
            server => Some(server.as_u64()?),
        };
        let is_blocked = value.get("blocked") == Some(&Value::Bool(true));
        let found = Found { id: value.get("id")?.as_u64()?, server, is_blocked };
        Some(Ip { ip: value.get("ip")?.as_str()?, found })
    }
}

/// A floating IP, as the API says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    pub id: u64,
    /// Which one it is assigned to.
    pub server: Option<u64>,
    /// By Hetzner, because of abuse.
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
        let (id, progress) = self.progress(answer, 201)?;
        Ok(Begun::Action(id, progress))
    }

    /// The answer to a question how this action goes.
    pub fn action(&self, answer: &Answer, id: u64) -> Result<Progress, Failure> {
        let (about, progress) = self.progress(answer, 200)?;
        if about != id {
            return Err(unknown(200, &format!(", but the answer is about action {about}, not {id}")));
        }
        Ok(progress)
    }

    /// `{"action": {"id": ..., "status": ..., "error": ...}}`. Source: Hetzner Cloud API, "Actions".
    fn progress(&self, answer: &Answer, http: u16) -> Result<(u64, Progress), Failure> {
        let (value, absent) = self.value(answer, http, "action")?;
        let action = &value["action"];
        let (id, status) = action["id"].as_u64().zip(action["status"].as_str()).ok_or(absent)?;
        let text = |name| self.shown(action["error"][name].as_str().unwrap_or_default());
        let progress = match status {
            "running" => Progress::Running,
            "success" => Progress::Success,
            "error" => Progress::Error(format!("{} \"{}\"", text("code"), text("message"))),
            other => {
                return Err(unknown(
                    http,
                    &format!(", but the action's status is \"{}\"", self.shown(other)),
                ));
            }
        };
        Ok((id, progress))
    }

    /// Where the floating IP with this id is assigned.
    pub fn place(&self, answer: &Answer, named: &Named) -> Result<Found, Failure> {
        let (value, absent) = self.value(answer, 200, "floating_ip with id, ip and server")?;
        self.only(&Ip::read(&value["floating_ip"]).ok_or(absent)?, named)
    }

    /// What the one with this name is.
    pub fn by_name(&self, answer: &Answer, named: &Named) -> Result<Found, Failure> {
        let (value, absent) = self.value(answer, 200, LIST)?;
        let [one] = &read_list(&value).ok_or(absent)?[..] else {
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
        let (about, id) = (self.address(one.ip)?, one.found.id);
        let is_named = if let Named::Id(named) = named { *named == id } else { true };
        if about != net(self.ip) || !is_named {
            let named = self.shown(&named.to_string());
            let about = if about == net(self.ip) { format!("floating IP {id}") } else { about.to_string() };
            let sentence = format!(
                "HTTP 200, but floating IP {named} is {about}, not {}: check floating_ip and ip",
                self.ip
            );
            return Err(Failure::new(Kind::Final, Stage::Address, sentence));
        }
        Ok(one.found)
    }

    /// A page of all floating IPs, where the one with the address is looked for.
    pub fn page(&self, answer: &Answer, number: u64) -> Result<Page, Failure> {
        let (value, absent) = self.value(answer, 200, LIST)?;
        let is_it = |one: &&Ip| address(one.ip.as_bytes()) == Some(net(self.ip));
        let found = read_list(&value).ok_or(absent)?.iter().find(is_it).map(|one| one.found);
        // A next page that does not lead on would never end.
        let next = value["meta"]["pagination"]["next_page"].as_u64().filter(|next| *next > number);
        Ok(Page { found, next })
    }

    /// The id of the server with this name. Source: Hetzner Cloud API, "Servers".
    pub fn server(&self, answer: &Answer, name: &str) -> Result<u64, Failure> {
        let (value, absent) = self.value(answer, 200, "list of servers with id and name")?;
        let servers = value["servers"].as_array().ok_or(absent)?;
        let id =
            servers.iter().find(|server| server["name"] == name).and_then(|server| server["id"].as_u64());
        id.ok_or_else(|| {
            let name = self.shown(name);
            let sentence =
                format!("HTTP 200, but the token's Project has no server {name}: check server and token");
            Failure::new(Kind::Final, Stage::Address, sentence)
        })
    }

    fn address(&self, text: &str) -> Result<IpAddr, Failure> {
        let not_an_address =
            || unknown(200, &format!(", but ip is \"{}\", not an IP address", self.shown(text)));
        address(text.as_bytes()).ok_or_else(not_an_address)
    }

    /// What is in an answer with this status; and the failure if `what` is not.
    fn value(&self, answer: &Answer, status: u16, what: &str) -> Result<(Value, Failure), Failure> {
        self.check_status(answer, status)?;
        let absent = unknown(status, &format!(" {}: no {what} in it", describe(&answer.body)));
        Ok((read_strictly(&answer.body).unwrap_or_default(), absent))
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
                let message = self.shown(&error.message);
                let fields = match &error.fields[..] {
                    [] => String::new(),
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

fn unknown(status: u16, what: &str) -> Failure {
    Failure::new(Kind::Unknown, Stage::Host, format!("HTTP {status}{what}"))
}

/// `{"floating_ips": [...]}`.
fn read_list(value: &Value) -> Option<Vec<Ip<'_>>> {
    value["floating_ips"].as_array()?.iter().map(Ip::read).collect()
}
