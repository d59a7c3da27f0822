//! What an answer means that is no success, and the words for it.

use std::fmt::{self, Display, Formatter};
use std::net::IpAddr;

use crate::hosters::{Failure, Kind, Stage};

/// An answer that is no success. What it holds of the answer's own text may be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// A 200 to a switch, after which the IP is routed to another target, or nowhere.
    NotThere(Option<IpAddr>),
    /// A 200 without a route; with what it has instead.
    NoFailover(String),
    NoAddress(String),
    /// A 200 about the first, where the second was asked about.
    AnotherIp(IpAddr, IpAddr),
    Redirect(u16, String),
    /// Another status, what came with it, and what that means.
    Status(u16, String, Meaning),
}

/// What a status and a code mean for a takeover.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Meaning {
    BadRequest,
    /// With the names of what is missing, and of what is invalid.
    BadInput([String; 2]),
    LoginRejected,
    /// With so many requests, in so many seconds.
    OverLimit(Option<(u64, u64)>),
    NotAllowed,
    NoSuchServer,
    NoSuchIp,
    Locked,
    SwitchFailed,
    SwitchHalfWay,
    Maintenance,
    Undocumented,
    /// A page without a code may be a gateway's, which has lost patience with an API that goes on.
    Unknown,
}

impl Meaning {
    /// Source: Robot webservice documentation, "Errors" and "Failover". What has no code has an empty one.
    pub fn of(status: u16, code: &str) -> Meaning {
        match (status, code) {
            (400, "INVALID_INPUT") => Meaning::BadInput(Default::default()),
            (400, _) => Meaning::BadRequest,
            (401, _) => Meaning::LoginRejected,
            (403, "RATE_LIMIT_EXCEEDED") => Meaning::OverLimit(None),
            (403, _) => Meaning::NotAllowed,
            (404, "FAILOVER_NEW_SERVER_NOT_FOUND") => Meaning::NoSuchServer,
            (404, _) => Meaning::NoSuchIp,
            (409, "FAILOVER_LOCKED") => Meaning::Locked,
            (500, "FAILOVER_FAILED") => Meaning::SwitchFailed,
            (500, "FAILOVER_NOT_COMPLETE") => Meaning::SwitchHalfWay,
            (503, _) => Meaning::Maintenance,
            (_, "") => Meaning::Unknown,
            _ => Meaning::Undocumented,
        }
    }

    fn means(&self) -> (Kind, Stage) {
        use Meaning::*;
        match self {
            BadRequest => (Kind::Final, Stage::Host),
            BadInput(_) | NoSuchServer | NoSuchIp => (Kind::Final, Stage::Address),
            LoginRejected => (Kind::Final, Stage::Login),
            OverLimit(_) => (Kind::HeldBack, Stage::Host),
            NotAllowed => (Kind::Refused, Stage::Host),
            Locked => (Kind::Locked, Stage::Host),
            SwitchFailed | SwitchHalfWay | Maintenance | Undocumented => (Kind::NotDone, Stage::Host),
            Unknown => (Kind::Unknown, Stage::Host),
        }
    }
}

impl Refusal {
    /// What it means, and how far the request came.
    pub fn means(&self) -> (Kind, Stage) {
        match self {
            Refusal::NotThere(_) => (Kind::NotDone, Stage::Host),
            Refusal::NoFailover(_) | Refusal::NoAddress(_) => (Kind::Unknown, Stage::Host),
            Refusal::AnotherIp(..) => (Kind::Final, Stage::Address),
            Refusal::Redirect(..) => (Kind::Final, Stage::Host),
            Refusal::Status(.., meaning) => meaning.means(),
        }
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Failure {
        let (kind, stage) = refusal.means();
        Failure::new(kind, stage, refusal.to_string())
    }
}

impl Display for Refusal {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::NotThere(Some(other)) => write!(f, "HTTP 200, but it is routed to {other}"),
            Refusal::NotThere(None) => {
                f.write_str("HTTP 200, but it is routed nowhere (active_server_ip is null)")
            }
            Refusal::NoFailover(what) => {
                write!(f, "HTTP 200 {what}: no failover object that names active_server_ip")
            }
            Refusal::NoAddress(text) => {
                write!(f, "HTTP 200, but active_server_ip is \"{text}\", no address")
            }
            Refusal::AnotherIp(named, asked) => {
                write!(f, "HTTP 200, but it is about {named}, not {asked}: check url")
            }
            Refusal::Redirect(status, location) => write!(
                f,
                "HTTP {status}, a redirect to {location}: never followed, since the login is for the configured host \
                 alone; check url"
            ),
            Refusal::Status(status, what, Meaning::Unknown) => write!(f, "HTTP {status} {what}"),
            Refusal::Status(status, what, meaning) => write!(f, "HTTP {status} {what}: {meaning}"),
        }
    }
}

impl Display for Meaning {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Meaning::BadRequest => "check ip and active_ip",
            Meaning::BadInput([missing, invalid]) => {
                return write!(f, "missing {missing}, invalid {invalid}; check ip and active_ip");
            }
            Meaning::LoginRejected => {
                "the login was rejected: check username and password (three rejections lock this address out for 10 \
                 minutes)"
            }
            Meaning::OverLimit(Some((requests, seconds))) => {
                return write!(f, "the account's limit of {requests} requests in {seconds} s is used up");
            }
            Meaning::OverLimit(None) => "the account's limit of requests an hour is used up",
            Meaning::NotAllowed => {
                "this address or user is not allowed, or locked out: asking again makes it worse"
            }
            Meaning::NoSuchServer => "that is no server of this account: check active_ip",
            Meaning::NoSuchIp => "this account has no such failover IP: check ip and username",
            Meaning::Locked => "another switch of this IP is under way, where it ends is unknown",
            Meaning::SwitchFailed => "the switch failed",
            Meaning::SwitchHalfWay => "the switch stopped half way, where the IP is now is unknown",
            Meaning::Maintenance => "maintenance",
            Meaning::Undocumented | Meaning::Unknown => "not a documented answer",
        })
    }
}
