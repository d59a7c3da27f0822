//! A request to the Cloud API, read: token, resource, parameters.

use std::net::IpAddr;

use hyper::header::{AUTHORIZATION, HeaderMap};
use hyper::http::request::Parts;
use serde_json::Value;

use super::Token;
use crate::standin::{self, Method, Target, percent_decode, text};

/// What the path names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource {
    /// `/v1/floating_ips`
    FloatingIps,
    FloatingIp(u64),
    /// `/v1/floating_ips/{id}/actions/assign`
    Assign(u64),
    Unassign(u64),
    /// `/v1/actions/{id}` and the same below a floating IP.
    Action(u64),
    /// `/v1/servers`
    Servers,
    Server(u64),
    /// `/hetzner/v1/metadata/instance-id`, of the metadata service.
    InstanceId,
    Unknown,
}

impl Resource {
    fn read(path: &str) -> Resource {
        if path == "/hetzner/v1/metadata/instance-id" {
            return Resource::InstanceId;
        }
        let Some(path) = path.strip_prefix("/v1/") else { return Resource::Unknown };
        let parts: Vec<&str> = path.split('/').collect();
        let known = match parts[..] {
            ["floating_ips"] => Some(Resource::FloatingIps),
            ["floating_ips", id] => number(id).map(Resource::FloatingIp),
            ["floating_ips", id, "actions", "assign"] => number(id).map(Resource::Assign),
            ["floating_ips", id, "actions", "unassign"] => number(id).map(Resource::Unassign),
            ["actions", id] | ["floating_ips", "actions", id] => number(id).map(Resource::Action),
            ["floating_ips", of, "actions", id] => number(of).and(number(id)).map(Resource::Action),
            ["servers"] => Some(Resource::Servers),
            ["servers", id] => number(id).map(Resource::Server),
            _ => None,
        };
        known.unwrap_or(Resource::Unknown)
    }

    /// The methods that it knows.
    pub fn knows(self, method: Option<Method>) -> bool {
        match self {
            Resource::Assign(_) | Resource::Unassign(_) => method == Some(Method::Post),
            _ => method == Some(Method::Get),
        }
    }
}

/// Ids are numbers, and nothing else is one.
fn number(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Who {
    /// Without a token, or with one that is none.
    Nobody,
    Project {
        name: String,
        read_only: bool,
    },
}

/// What only requests to the Cloud API have.
#[derive(Clone, Debug)]
pub struct What {
    pub who: Who,
    pub resource: Resource,
    /// The parameters behind the question mark.
    pub query: Vec<(String, String)>,
    /// None: no JSON.
    pub body: Option<Value>,
}

/// A request as the account and the faults see it.
pub type Call = standin::Call<u64, What>;

/// Reads head and body. Without `tokens`, any will do.
pub fn read(head: &Parts, body: &[u8], tokens: &[Token], peer: IpAddr) -> Call {
    let bearer = bearer(&head.headers);
    let token = tokens.iter().find(|token| Some(token.secret.as_str()) == bearer);
    let (user, who) = match (bearer, token) {
        (None, _) => (None, Who::Nobody),
        (Some(_), Some(Token { name, project, read_only, .. })) => {
            (Some(name.clone()), Who::Project { name: project.clone(), read_only: *read_only })
        }
        (Some(_), None) if tokens.is_empty() => {
            (Some("token".to_owned()), Who::Project { name: String::new(), read_only: false })
        }
        (Some(_), None) => (Some("unknown-token".to_owned()), Who::Nobody),
    };
    let what = What {
        who,
        resource: Resource::read(&percent_decode(head.uri.path())),
        query: head.uri.query().map(pairs).unwrap_or_default(),
        body: serde_json::from_slice(body).ok(),
    };
    let mut call = Call::begin(head, peer, what);
    call.path = head.uri.path_and_query().map_or_else(|| call.path.clone(), |path| path.as_str().to_owned());
    call.user = user;
    let server = call.what.body.as_ref().and_then(|body| body.get("server"));
    call.target = match server {
        None | Some(Value::Null) => Target::Missing,
        Some(value) => value.as_u64().map_or(Target::Invalid, Target::Is),
    };
    call.sent_target = server.map(Value::to_string);
    call
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = text(headers, &AUTHORIZATION)?.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

fn pairs(query: &str) -> Vec<(String, String)> {
    let pair = |pair: &str| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (percent_decode(name), percent_decode(&value.replace('+', " ")))
    };
    query.split('&').map(pair).collect()
}
