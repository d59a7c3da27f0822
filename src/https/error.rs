//! Why a request brought no whole answer, how far it came, and the words for it.

use std::fmt::{self, Display, Formatter};
use std::io;
use std::time::Duration;

use rustls::CertificateError;
use ureq::Timeout;

use super::connect::Way;
use super::tls::HandshakeError;
use super::{LONGEST_BODY, seconds};
use crate::text::printable;

/// What went wrong with a request to `host`.
#[derive(Debug)]
pub struct Error {
    pub cause: Cause,
    /// Whether anything of it was sent to the host, which may have done by now what it was asked for.
    pub is_sent: bool,
    pub host: String,
}

#[derive(Debug)]
pub enum Cause {
    /// What the environment names as a proxy is no URL of one.
    BadProxy,
    NoTrust(NoTrust),
    /// The proxy does not connect to the host.
    Proxy,
    NotFound,
    LookupFailed,
    LookupTimeout(Duration),
    ConnectTimeout(Duration),
    /// Sent, but not answered within this limit.
    AnswerTimeout(Duration),
    Refused,
    Unreachable,
    Broken,
    NotTls,
    Certificate(CertificateError),
    Tls(String),
    NotHttp,
    EndlessHeader,
    LongBody,
    Other(String),
}

/// No CA is trusted: why none could be read, where that is known.
#[derive(Debug)]
pub struct NoTrust(pub Option<String>);

impl Error {
    /// Whether the same request would fail again until something is changed here, or at the host.
    pub fn is_permanent(&self) -> bool {
        matches!(self.cause, Cause::BadProxy | Cause::NoTrust(_) | Cause::Certificate(_))
    }

    pub(super) fn new(cause: Cause, host: &str) -> Error {
        Error { cause, is_sent: false, host: host.into() }
    }

    /// What became of the request that is noted by `way`.
    pub(super) fn of(error: &ureq::Error, way: &Way, host: &str) -> Error {
        let cause = Cause::of_tls(error).unwrap_or_else(|| Cause::of(error, way));
        Error { is_sent: way.is_sent(), ..Error::new(cause, host) }
    }
}

impl Cause {
    fn of(error: &ureq::Error, way: &Way) -> Cause {
        use ureq::Error;
        match error {
            Error::Timeout(_) if way.is_sent() => Cause::AnswerTimeout(way.limit()),
            Error::Timeout(Timeout::Resolve) => Cause::LookupTimeout(way.elapsed()),
            Error::Timeout(_) => Cause::ConnectTimeout(way.elapsed()),
            Error::HostNotFound => Cause::NotFound,
            Error::Io(error) => Cause::of_io(error),
            Error::BodyExceedsLimit(_) => Cause::LongBody,
            Error::LargeResponseHeader(..) => Cause::EndlessHeader,
            Error::ConnectProxyFailed(_) => Cause::Proxy,
            Error::Protocol(_) => Cause::NotHttp,
            other => Cause::Other(shown(other)),
        }
    }

    fn of_io(error: &io::Error) -> Cause {
        use io::ErrorKind::*;
        match error.kind() {
            ConnectionRefused => Cause::Refused,
            HostUnreachable | NetworkUnreachable | NetworkDown => Cause::Unreachable,
            ConnectionReset | BrokenPipe | UnexpectedEof => Cause::Broken,
            // std gives a failed name resolution no kind of its own.
            _ if error.to_string().starts_with("failed to lookup address") => Cause::LookupFailed,
            _ => Cause::Other(shown(error)),
        }
    }

    /// An error of TLS comes from the handshake, or inside an I/O error from what follows.
    fn of_tls(error: &ureq::Error) -> Option<Cause> {
        let (error, in_handshake) = match error {
            ureq::Error::Other(error) => (&error.downcast_ref::<HandshakeError>()?.0, true),
            ureq::Error::Io(error) => (error.get_ref()?.downcast_ref()?, false),
            _ => return None,
        };
        Some(match error {
            rustls::Error::InvalidCertificate(reason) => Cause::Certificate(reason.clone()),
            rustls::Error::InvalidMessage(_) if in_handshake => Cause::NotTls,
            other => Cause::Tls(shown(other)),
        })
    }
}

/// Another's words, as far as they may be shown.
fn shown(error: &impl Display) -> String {
    printable(&error.to_string(), &[])
}

impl Display for Error {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let host = &self.host;
        match &self.cause {
            Cause::BadProxy => f.write_str(
                "the proxy in the environment (https_proxy, http_proxy, all_proxy) is no proxy URL",
            ),
            Cause::NoTrust(why) => why.fmt(f),
            Cause::Proxy => write!(f, "the proxy in the environment does not connect to {host}"),
            Cause::NotFound => write!(f, "{host} was not found (DNS)"),
            Cause::LookupFailed => write!(f, "{host}: name resolution failed (DNS)"),
            Cause::LookupTimeout(time) => {
                write!(f, "{host}: no answer to the name resolution (DNS) within {} s", seconds(*time))
            }
            Cause::ConnectTimeout(time) => write!(f, "{host}: no connection within {} s", seconds(*time)),
            Cause::AnswerTimeout(limit) => {
                write!(f, "no whole answer from {host} within {} s", seconds(*limit))
            }
            Cause::Refused => write!(f, "{host}: connection refused"),
            Cause::Unreachable => write!(f, "{host}: no way to get there"),
            Cause::Broken if self.is_sent => {
                write!(f, "{host}: connection broken before the whole answer was there")
            }
            Cause::Broken => write!(f, "{host}: connection broken before anything was sent"),
            Cause::NotTls => write!(f, "TLS with {host} failed: it does not speak TLS there: check url"),
            Cause::Certificate(reason) => {
                write!(f, "TLS with {host} failed: its certificate {}", in_words(reason))
            }
            Cause::Tls(what) => write!(f, "TLS with {host} failed: {what}"),
            Cause::NotHttp => write!(f, "the answer of {host} is no HTTP"),
            Cause::EndlessHeader => write!(f, "the answer of {host} has a header without end"),
            Cause::LongBody => write!(f, "the answer of {host} is longer than {LONGEST_BODY} bytes"),
            Cause::Other(what) => write!(f, "{host}: {what}"),
        }
    }
}

impl Display for NoTrust {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("no trusted CA certificates")?;
        if let Some(why) = &self.0 {
            write!(f, " ({why})")?;
        }
        f.write_str(": install ca-certificates, or check SSL_CERT_FILE")
    }
}

/// What is wrong with a certificate, and what to look at.
fn in_words(reason: &CertificateError) -> String {
    let words = match reason {
        CertificateError::UnknownIssuer => {
            "is from an unknown issuer: check ca-certificates and SSL_CERT_FILE"
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "is for another host: check url"
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "has expired: check this machine's clock"
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "is not valid yet: check this machine's clock"
        }
        other => return format!("is not accepted: {}", shown(other)),
    };
    words.into()
}
