//! How a request gets to the API and its answer back: TLS, proxies, limits, and what went wrong on the way.

mod connect;
mod proxy;
mod tls;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::CertificateError;
use ureq::http::{Response, Uri};
use ureq::unversioned::transport::{ConnectProxyConnector, Connector, SocksConnector, TcpConnector};
use ureq::{Agent, Body, Error, Proxy, ProxyProtocol, Timeout};

use crate::config::host_of;
use crate::hosters::{Failure, Kind};
use crate::text::printable;
pub use connect::Way;
use connect::{Connect, LONGEST_CONNECT, LONGEST_LOOKUP, Lookup, Note};
pub use tls::read_trust_store;
use tls::{HandshakeError, TlsConnector};

/// A failover object is half a kilobyte; whatever is longer than this is something else.
const LONGEST_BODY: u64 = 64 * 1024;

/// The API's headers are under a kilobyte; a proxy may add some. A request of ours, in pieces of this size, too.
const LONGEST_HEADER: usize = 8 * 1024;
const PIECE: usize = 2 * 1024;

const USER_AGENT: &str = concat!("uwsgi-hetzner/", env!("CARGO_PKG_VERSION"));

/// Status and body of an answer, as it came.
pub struct Answer {
    pub status: u16,
    /// Where a redirect leads.
    pub location: Option<String>,
    pub body: Vec<u8>,
}

/// An HTTP client for `url`. Each request sets its own time limit.
pub fn agent(url: &Uri, ssl_no_verify: bool, way: &Arc<Way>) -> Result<Agent, Failure> {
    let proxy = proxy(url)?;
    let by_tls = url.scheme_str() == Some("https")
        || proxy.as_ref().is_some_and(|proxy| proxy.protocol() == ProxyProtocol::Https);
    let tls = by_tls.then(|| tls::settings(ssl_no_verify)).transpose()?;
    let config = Agent::config_builder()
        .proxy(proxy)
        .user_agent(USER_AGENT)
        // The login is for the configured host alone, so a redirect is an answer like any other.
        .max_redirects(0)
        .http_status_as_error(false)
        .max_response_header_size(LONGEST_HEADER)
        // Full before the header is known to be too long, it would look like an end.
        .input_buffer_size(2 * LONGEST_HEADER)
        .output_buffer_size(PIECE)
        .timeout_resolve(Some(LONGEST_LOOKUP))
        .timeout_connect(Some(LONGEST_CONNECT))
        .build();
    let connector = SocksConnector::default()
        .chain(ConnectProxyConnector::default())
        .chain(Connect { way: Arc::clone(way), tcp: TcpConnector::default() })
        .chain(TlsConnector(tls))
        .chain(Note { way: Arc::clone(way), url: url.clone() });
    Ok(Agent::with_parts(config, connector, Lookup(Arc::clone(way))))
}

fn proxy(url: &Uri) -> Result<Option<Proxy>, Failure> {
    let host = host_of(url);
    let found = proxy::proxy_for(url.scheme_str().unwrap_or_default(), host, |name| std::env::var(name).ok());
    found
        .map(|proxy| {
            // Its text may hold a login, so it is not shown.
            Proxy::new(&proxy).map_err(|_| {
                Failure::new(
                    Kind::Final,
                    "the proxy in the environment (https_proxy, http_proxy, all_proxy) is no proxy URL",
                )
            })
        })
        .transpose()
}

/// Reads an answer to its end, within the request's time limit.
pub fn read_answer(mut response: Response<Body>) -> Result<Answer, Error> {
    let location = response.headers().get("location");
    Ok(Answer {
        status: response.status().as_u16(),
        location: location.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()),
        body: response.body_mut().with_config().limit(LONGEST_BODY + 1).read_to_vec()?,
    })
}

/// What it means that a request got no whole answer, and how far it came.
pub fn failure(error: &Error, host: &str, way: &Way) -> Failure {
    let failure = tls_failure(error, host).unwrap_or_else(|| other_failure(error, host, way));
    // Of what was never sent nothing is in doubt.
    match failure.kind {
        Kind::Unknown if !way.is_sent() => Failure { kind: Kind::NotSent, ..failure },
        _ => failure,
    }
}

fn other_failure(error: &Error, host: &str, way: &Way) -> Failure {
    let (is_sent, time) = (way.is_sent(), seconds(way.elapsed()));
    match error {
        Error::Timeout(_) if is_sent => {
            let limit = seconds(way.limit());
            Failure::new(Kind::Unknown, format!("no whole answer from {host} within {limit} s"))
        }
        Error::Timeout(Timeout::Resolve) => Failure::new(
            Kind::NotSent,
            format!("{host}: no answer to the name resolution (DNS) within {time} s"),
        ),
        Error::Timeout(_) => Failure::new(Kind::NotSent, format!("{host}: no connection within {time} s")),
        Error::HostNotFound => Failure::new(Kind::NotSent, format!("{host} was not found (DNS)")),
        Error::Io(error) => io_failure(error, host, is_sent),
        Error::BodyExceedsLimit(_) => {
            Failure::new(Kind::Unknown, format!("the answer of {host} is longer than {LONGEST_BODY} bytes"))
        }
        Error::LargeResponseHeader(..) => {
            Failure::new(Kind::Unknown, format!("the answer of {host} has a header without end"))
        }
        Error::ConnectProxyFailed(_) => {
            Failure::new(Kind::NotSent, format!("the proxy in the environment does not connect to {host}"))
        }
        Error::Protocol(_) => Failure::new(Kind::Unknown, format!("the answer of {host} is no HTTP")),
        other => Failure::new(Kind::Unknown, format!("{host}: {}", printable(&other.to_string(), &[]))),
    }
}

/// Seconds as they stand in a log line, to the tenth.
pub fn seconds(duration: Duration) -> String {
    format!("{}", (duration.as_secs_f64() * 10.0).round() / 10.0)
}

/// A TLS error comes from the handshake, or inside an I/O error from what follows.
fn tls_failure(error: &Error, host: &str) -> Option<Failure> {
    let (error, in_handshake) = match error {
        Error::Other(error) => (&error.downcast_ref::<HandshakeError>()?.0, true),
        Error::Io(error) => (error.get_ref()?.downcast_ref()?, false),
        _ => return None,
    };
    let (kind, what) = match error {
        rustls::Error::InvalidCertificate(reason) => {
            if *reason == CertificateError::UnknownIssuer {
                tls::doubt_trust_store();
            }
            (Kind::Final, describe_certificate(reason))
        }
        rustls::Error::InvalidMessage(_) if in_handshake => {
            (Kind::Unknown, "it does not speak TLS there: check url".into())
        }
        other => (Kind::Unknown, printable(&other.to_string(), &[])),
    };
    Some(Failure::new(kind, format!("TLS with {host} failed: {what}")))
}

fn describe_certificate(reason: &CertificateError) -> String {
    let (what, hint) = match reason {
        CertificateError::UnknownIssuer => {
            ("its certificate is from an unknown issuer", "check ca-certificates and SSL_CERT_FILE")
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            ("its certificate is for another host", "check url")
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            ("its certificate has expired", "check this machine's clock")
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            ("its certificate is not valid yet", "check this machine's clock")
        }
        other => return format!("its certificate is not accepted: {}", printable(&other.to_string(), &[])),
    };
    format!("{what}: {hint}")
}

fn io_failure(error: &io::Error, host: &str, is_sent: bool) -> Failure {
    let (kind, what) = match error.kind() {
        io::ErrorKind::ConnectionRefused => (Kind::NotSent, "connection refused".into()),
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable | io::ErrorKind::NetworkDown => {
            (Kind::NotSent, "no way to get there".into())
        }
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe | io::ErrorKind::UnexpectedEof => {
            let when = if is_sent { "before the whole answer was there" } else { "before anything was sent" };
            (Kind::Unknown, format!("connection broken {when}"))
        }
        // std gives a failed name resolution no kind of its own.
        _ if error.to_string().starts_with("failed to lookup address") => {
            (Kind::NotSent, "name resolution failed (DNS)".into())
        }
        _ => (Kind::Unknown, printable(&error.to_string(), &[])),
    };
    Failure::new(kind, format!("{host}: {what}"))
}
