//! Why a request got no complete answer, and the words for it.

use std::fmt::{self, Display, Formatter};
use std::io;

use rustls::CertificateError;
use ureq::Timeout;

use super::connect::Way;
use super::{LONGEST_HEADER, seconds};
use crate::text::printable;

/// What went wrong with a request to `host`.
#[derive(Debug)]
pub struct Error {
    pub cause: Cause,
    /// Whether anything of it was sent to the host, which may then have done what it was asked for.
    pub is_sent: bool,
    pub host: String,
}

#[derive(Debug)]
pub enum Cause {
    /// Nothing was sent, because this server's proxy setting or its CAs are not usable. A sentence of its own.
    Setup(String),
    Certificate(CertificateError),
    /// TLS failed, but not because of the certificate.
    Tls(String),
    /// Everything else, for example `connection refused`.
    Other(String),
}

impl Error {
    /// Whether the same request would fail again until something is changed on this server or at the host.
    pub fn is_permanent(&self) -> bool {
        matches!(self.cause, Cause::Setup(_) | Cause::Certificate(_))
    }

    /// The error of the request that `way` has followed.
    pub(super) fn of(error: &ureq::Error, way: &Way, host: &str) -> Error {
        let cause = of_tls(error).unwrap_or_else(|| Cause::Other(in_words(error, way)));
        Error { cause, is_sent: way.is_sent(), host: host.into() }
    }
}

/// During the handshake a TLS error stands by itself, and later inside an I/O error.
fn of_tls(error: &ureq::Error) -> Option<Cause> {
    let (error, in_handshake) = match error {
        ureq::Error::Other(error) => (error.downcast_ref()?, true),
        ureq::Error::Io(error) => (error.get_ref()?.downcast_ref()?, false),
        _ => return None,
    };
    Some(match error {
        rustls::Error::InvalidCertificate(reason) => Cause::Certificate(reason.clone()),
        rustls::Error::InvalidMessage(_) if in_handshake => {
            Cause::Tls("the server does not speak TLS on this port: check url".into())
        }
        other => Cause::Tls(shown(other)),
    })
}

fn in_words(error: &ureq::Error, way: &Way) -> String {
    use io::ErrorKind::*;
    use ureq::Error;
    let words = match error {
        Error::Timeout(_) if way.is_sent() => {
            return format!("no complete answer within {} s", seconds(way.limit()));
        }
        Error::Timeout(reason) => {
            let is_lookup = *reason == Timeout::Resolve;
            let what = if is_lookup { "answer from name resolution (DNS)" } else { "connection" };
            return format!("no {what} within {} s", seconds(way.elapsed()));
        }
        Error::HostNotFound => "not found (DNS)",
        // The limit is one byte above the longest body.
        Error::BodyExceedsLimit(limit) => {
            return format!("the answer is longer than {} bytes", limit.saturating_sub(1));
        }
        Error::LargeResponseHeader(..) => {
            return format!("the answer's headers exceed {} KiB", LONGEST_HEADER / 1024);
        }
        Error::ConnectProxyFailed(_) => "no connection through the proxy in the environment",
        Error::Protocol(_) => "the answer is not HTTP",
        Error::Io(error) => match error.kind() {
            ConnectionRefused => "connection refused",
            HostUnreachable | NetworkUnreachable | NetworkDown => "network unreachable",
            ConnectionReset | BrokenPipe | UnexpectedEof if way.is_sent() => {
                "connection broken before the answer was complete"
            }
            ConnectionReset | BrokenPipe | UnexpectedEof => "connection broken before anything was sent",
            // std gives this no kind of its own.
            _ if error.to_string().starts_with("failed to lookup address") => "name resolution failed (DNS)",
            _ => return shown(error),
        },
        other => return shown(other),
    };
    words.into()
}

/// A library's words, as they may be logged.
fn shown(error: &impl Display) -> String {
    printable(&error.to_string(), &[])
}

impl Display for Error {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let host = &self.host;
        match &self.cause {
            Cause::Setup(what) => f.write_str(what),
            Cause::Certificate(reason) => {
                write!(f, "TLS with {host} failed: its certificate {}", reason_in_words(reason))
            }
            Cause::Tls(what) => write!(f, "TLS with {host} failed: {what}"),
            Cause::Other(what) => write!(f, "{host}: {what}"),
        }
    }
}

/// What is wrong with a certificate, and what to check.
fn reason_in_words(reason: &CertificateError) -> String {
    use CertificateError::*;
    let words = match reason {
        UnknownIssuer => "is from an unknown issuer: check ca-certificates and SSL_CERT_FILE",
        NotValidForName | NotValidForNameContext { .. } => "is for another host: check url",
        Expired | ExpiredContext { .. } => "has expired: check this machine's clock",
        NotValidYet | NotValidYetContext { .. } => "is not valid yet: check this machine's clock",
        other => return format!("is not accepted: {}", shown(other)),
    };
    words.into()
}
