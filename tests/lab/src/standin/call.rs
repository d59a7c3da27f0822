//! A request, read: what it asks for, before anybody judges it.
//!
//! Everything that can be wrong in a request stays a value here, because which of the errors an API names first is its
//! account's business.

use std::net::IpAddr;

use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderName, USER_AGENT};
use hyper::http::request::Parts;

/// The methods that an API knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Method {
    Get,
    Post,
    Delete,
}

/// The server that an IP is to be routed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target<S> {
    Missing,
    Invalid,
    Is(S),
}

/// A request as the journal and the faults see it. `S` names a server, `W` is what only this API's requests have.
#[derive(Clone, Debug)]
pub struct Call<S, W> {
    /// As sent; for `method`, see there.
    pub verb: String,
    pub path: String,
    pub content_type: Option<String>,
    pub user_agent: Option<String>,
    /// The target as sent.
    pub sent_target: Option<String>,
    /// None: one that the API does not know here.
    pub method: Option<Method>,
    pub target: Target<S>,
    /// Who asks, without the secret.
    pub user: Option<String>,
    /// The IP that it is about, whether or not there is such a one.
    pub ip: Option<IpAddr>,
    pub peer: IpAddr,
    pub what: W,
}

impl<S, W> Call<S, W> {
    /// With what every request has.
    pub(crate) fn begin(head: &Parts, peer: IpAddr, what: W) -> Call<S, W> {
        Call {
            verb: head.method.to_string(),
            path: head.uri.path().to_owned(),
            content_type: text(&head.headers, &CONTENT_TYPE).map(str::to_owned),
            user_agent: text(&head.headers, &USER_AGENT).map(str::to_owned),
            sent_target: None,
            method: match head.method.as_str() {
                "GET" => Some(Method::Get),
                "POST" => Some(Method::Post),
                "DELETE" => Some(Method::Delete),
                _ => None,
            },
            target: Target::Missing,
            user: None,
            ip: None,
            peer,
            what,
        }
    }
}

pub(crate) fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// `%3A` is a colon; what is no such escape stays as it is.
pub(crate) fn percent_decode(text: &str) -> String {
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
