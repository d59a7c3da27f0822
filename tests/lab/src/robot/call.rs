//! A request, read: what it asks for, in the API's terms, before anybody judges it.
//!
//! Everything that can be wrong in a request stays a value here (a missing field, an address that is
//! none), because which of the errors Robot names first is the account's business.

use std::fmt;
use std::net::IpAddr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, USER_AGENT};

/// The methods that a failover IP knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Method {
    Get,
    Post,
    Delete,
}

/// User name and password of HTTP Basic auth. It has no way to show the password.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    pub(super) user: String,
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

/// `active_server_ip` of a POST.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    Missing,
    Invalid,
    Is(IpAddr),
}

/// A request as the account and the faults see it.
#[derive(Clone, Debug)]
pub struct Call {
    /// As sent; for `method`, see there.
    pub verb: String,
    pub path: String,
    pub content_type: Option<String>,
    pub user_agent: Option<String>,
    /// `active_server_ip` as sent.
    pub sent_target: Option<String>,
    /// None: one that Robot does not know here.
    pub method: Option<Method>,
    pub resource: Resource,
    pub target: Target,
    pub login: Option<Login>,
    pub peer: IpAddr,
}

impl Call {
    /// Reads head and body. `accept_multipart`: as the real API does, though its documentation does not.
    pub fn read(
        head: &hyper::http::request::Parts,
        body: &[u8],
        accept_multipart: bool,
        peer: IpAddr,
    ) -> Call {
        let content_type = text(&head.headers, &CONTENT_TYPE).map(str::to_owned);
        let method = match head.method.as_str() {
            "GET" => Some(Method::Get),
            "POST" => Some(Method::Post),
            "DELETE" => Some(Method::Delete),
            _ => None,
        };
        let sent_target = if method == Some(Method::Post) {
            active_server_ip(content_type.as_deref().unwrap_or_default(), body, accept_multipart)
        } else {
            None
        };
        let target = match sent_target.as_deref().map(str::parse) {
            None => Target::Missing,
            Some(Err(_)) => Target::Invalid,
            Some(Ok(ip)) => Target::Is(ip),
        };
        Call {
            verb: head.method.to_string(),
            path: head.uri.path().to_owned(),
            user_agent: text(&head.headers, &USER_AGENT).map(str::to_owned),
            resource: resource(head.uri.path()),
            login: Login::read(&head.headers),
            content_type,
            sent_target,
            method,
            target,
            peer,
        }
    }

    /// The user name alone.
    pub fn user(&self) -> Option<&str> {
        self.login.as_ref().map(|login| login.user.as_str())
    }

    /// The failover IP asked for, whether or not there is such a one.
    pub fn ip(&self) -> Option<IpAddr> {
        match self.resource {
            Resource::Failover(ip) => Some(ip),
            Resource::List | Resource::Unknown => None,
        }
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
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

/// `%3A` is a colon; what is no such escape stays as it is.
fn percent_decode(text: &str) -> String {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        let escaped = match (first, tail) {
            (b'%', [high, low, ..]) => hex(*high).zip(hex(*low)).map(|(high, low)| high << 4 | low),
            _ => None,
        };
        if escaped.is_some() {
            rest = &tail[2..];
        }
        decoded.push(escaped.unwrap_or(*first));
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}
