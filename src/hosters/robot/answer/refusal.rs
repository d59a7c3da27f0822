//! What an answer means that is no success, and the words for it.

use std::fmt::{self, Display, Formatter};
use std::net::IpAddr;

use crate::hosters::{Failure, Kind, Stage};

/// An answer that is no success. What it holds of the answer's own text may be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// A 200 to a switch, after which the IP is routed to another target, or nowhere.
    NotThere(Option<IpAddr>),
    /// A 200 that names no route.
    NoFailover(String),
    AnotherIp {
        named: IpAddr,
        asked: IpAddr,
    },
    NoAddress(String),
    Redirect {
        status: u16,
        location: String,
    },
    /// Another status, with what is no error object of the API's: a gateway's page perhaps.
    Page {
        status: u16,
        body: String,
        meaning: Meaning,
    },
    /// Another status, as documented.
    Error {
        status: u16,
        code: String,
        message: String,
        meaning: Meaning,
    },
}

/// What a status and a code mean for a takeover.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Meaning {
    /// With the names of what is missing, and of what is invalid.
    BadInput(Option<[String; 2]>),
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
    /// An error of the API's.
    Undocumented,
    /// Nobody can tell: it may be a gateway's page, which has lost patience with an API that goes on.
    Nothing,
}

impl Meaning {
    /// Source: Robot webservice documentation, "Errors" and "Failover".
    pub fn of(status: u16, code: Option<&str>) -> Meaning {
        match (status, code.unwrap_or_default()) {
            (400, _) => Meaning::BadInput(None),
            (401, _) => Meaning::LoginRejected,
            (403, "RATE_LIMIT_EXCEEDED") => Meaning::OverLimit(None),
            (403, _) => Meaning::NotAllowed,
            (404, "FAILOVER_NEW_SERVER_NOT_FOUND") => Meaning::NoSuchServer,
            (404, _) => Meaning::NoSuchIp,
            (409, "FAILOVER_LOCKED") => Meaning::Locked,
            (500, "FAILOVER_FAILED") => Meaning::SwitchFailed,
            (500, "FAILOVER_NOT_COMPLETE") => Meaning::SwitchHalfWay,
            (503, _) => Meaning::Maintenance,
            (_, "") => Meaning::Nothing,
            _ => Meaning::Undocumented,
        }
    }

    fn kind(&self) -> Kind {
        match self {
            Meaning::BadInput(_) | Meaning::LoginRejected | Meaning::NoSuchServer | Meaning::NoSuchIp => {
                Kind::Final
            }
            Meaning::OverLimit(_) => Kind::HeldBack,
            Meaning::NotAllowed => Kind::Refused,
            Meaning::Locked => Kind::Locked,
            Meaning::SwitchFailed | Meaning::SwitchHalfWay | Meaning::Maintenance | Meaning::Undocumented => {
                Kind::NotDone
            }
            Meaning::Nothing => Kind::Unknown,
        }
    }
}

impl Refusal {
    pub fn kind(&self) -> Kind {
        match self {
            Refusal::NotThere(_) => Kind::NotDone,
            Refusal::NoFailover(_) | Refusal::NoAddress(_) => Kind::Unknown,
            Refusal::AnotherIp { .. } | Refusal::Redirect { .. } => Kind::Final,
            Refusal::Page { meaning, .. } | Refusal::Error { meaning, .. } => meaning.kind(),
        }
    }

    /// How far the request came.
    pub fn stage(&self) -> Stage {
        match self {
            Refusal::AnotherIp { .. } => Stage::Address,
            // Any server says that of a request that it does not understand.
            Refusal::Page { status: 400, .. } => Stage::Host,
            Refusal::Page { meaning, .. } | Refusal::Error { meaning, .. } => match meaning {
                Meaning::LoginRejected => Stage::Login,
                Meaning::BadInput(_) | Meaning::NoSuchServer | Meaning::NoSuchIp => Stage::Address,
                _ => Stage::Host,
            },
            _ => Stage::Host,
        }
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Failure {
        Failure::new(refusal.kind(), refusal.stage(), refusal.to_string())
    }
}

impl Display for Refusal {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::NotThere(Some(other)) => write!(f, "HTTP 200, but it is routed to {other}"),
            Refusal::NotThere(None) => {
                f.write_str("HTTP 200, but it is routed nowhere (active_server_ip is null)")
            }
            Refusal::NoFailover(body) => {
                write!(f, "HTTP 200 with {body}: no failover object that names active_server_ip")
            }
            Refusal::AnotherIp { named, asked } => {
                write!(f, "HTTP 200, but it is about {named}, not {asked}: check url")
            }
            Refusal::NoAddress(text) => {
                write!(f, "HTTP 200, but active_server_ip is \"{text}\", no address")
            }
            Refusal::Redirect { status, location } => write!(
                f,
                "HTTP {status}, a redirect to {location}: never followed, since the login is for the configured host \
                 alone; check url"
            ),
            Refusal::Page { status, body, meaning: Meaning::Nothing } => {
                write!(f, "HTTP {status} with {body}")
            }
            Refusal::Page { status, body, meaning } => write!(f, "HTTP {status} with {body}: {meaning}"),
            Refusal::Error { status, code, message, meaning } => {
                write!(f, "HTTP {status} {code} \"{message}\": {meaning}")
            }
        }
    }
}

impl Display for Meaning {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Meaning::BadInput(None) => "check ip and active_ip",
            Meaning::BadInput(Some(names)) => {
                let [missing, invalid] =
                    names.each_ref().map(|names| if names.is_empty() { "nothing" } else { names });
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
            Meaning::Undocumented | Meaning::Nothing => "not a documented answer",
        })
    }
}
