//! A request to Robot, read: login, resource, form.

use std::fmt;
use std::net::IpAddr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::header::{AUTHORIZATION, HeaderMap};
use hyper::http::request::Parts;

use crate::standin::{self, Method, Target, percent_decode, text};

/// User name and password of HTTP Basic auth. It has no way to show the password.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    pub(crate) user: String,
    password: String,
}

impl Login {
    pub fn new(user: impl Into<String>, password: impl Into<String>) -> Login {
        Login { user: user.into(), password: password.into() }
    }

    fn read(headers: &HeaderMap) -> Option<Login> {
        let (scheme, credentials) = text(headers, &AUTHORIZATION)?.split_once(' ')?;
        if !scheme.eq_ignore_ascii_case("basic") {
            return None;
        }
        let decoded = String::from_utf8(STANDARD.decode(credentials.trim()).ok()?).ok()?;
        let (user, password) = decoded.split_once(':')?;
        Some(Login::new(user, password))
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login").field("user", &self.user).finish_non_exhaustive()
    }
}

/// What the path names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource {
    /// `/failover`
    List,
    /// `/failover/{ip}`
    Failover(IpAddr),
    Unknown,
}

/// What only Robot's requests have.
#[derive(Clone, Debug)]
pub struct What {
    pub resource: Resource,
    pub login: Option<Login>,
}

/// A request as the account and the faults see it.
pub type Call = standin::Call<IpAddr, What>;

/// Reads head and body. `accept_multipart`: as the real API does, though its documentation does not.
pub fn read(head: &Parts, body: &[u8], accept_multipart: bool, peer: IpAddr) -> Call {
    let what = What { resource: resource(head.uri.path()), login: Login::read(&head.headers) };
    let mut call = Call::begin(head, peer, what);
    call.user = call.what.login.as_ref().map(|login| login.user.clone());
    if let Resource::Failover(ip) = call.what.resource {
        call.ip = Some(ip);
    }
    if call.method == Some(Method::Post) {
        let content_type = call.content_type.as_deref().unwrap_or_default();
        call.sent_target = active_server_ip(content_type, body, accept_multipart);
    }
    call.target = match call.sent_target.as_deref().map(str::parse) {
        None => Target::Missing,
        Some(Err(_)) => Target::Invalid,
        Some(Ok(ip)) => Target::Is(ip),
    };
    call
}

fn resource(path: &str) -> Resource {
    let path = percent_decode(path);
    match path.strip_prefix("/failover") {
        Some("") => Resource::List,
        Some(rest) => match rest.strip_prefix('/').map(str::parse) {
            Some(Ok(ip)) => Resource::Failover(ip),
            _ => Resource::Unknown,
        },
        None => Resource::Unknown,
    }
}

fn active_server_ip(content_type: &str, body: &[u8], accept_multipart: bool) -> Option<String> {
    let mut parts = content_type.split(';').map(str::trim);
    let media_type = parts.next().unwrap_or_default();
    let body = String::from_utf8_lossy(body);
    if media_type.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
        let mut pairs = body.split('&').filter_map(|pair| pair.split_once('='));
        let (_, value) = pairs.find(|(name, _)| *name == "active_server_ip")?;
        Some(percent_decode(value))
    } else if accept_multipart && media_type.eq_ignore_ascii_case("multipart/form-data") {
        let boundary = parts.find_map(|part| part.strip_prefix("boundary="))?.trim_matches('"');
        let delimiter = format!("--{boundary}");
        let mut fields = body.split(delimiter.as_str()).filter_map(|part| part.split_once("\r\n\r\n"));
        let (_, value) = fields.find(|(head, _)| head.contains("name=\"active_server_ip\""))?;
        Some(value.trim_end_matches("\r\n").to_owned())
    } else {
        None
    }
}
