//! How a request gets to the API and its answer back: TLS, proxies, limits, and what went wrong on the way.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::CertificateError;
use ureq::http::{Response, Uri};
use ureq::tls::{Certificate, RootCerts, TlsConfig, TlsProvider};
use ureq::{Agent, Body, Error, Proxy};

use super::answer::Answer;
use super::proxy;
use crate::hoster::{Failure, Kind};
use crate::text::printable;

/// A failover object is half a kilobyte; whatever is longer than this is something else.
const LONGEST_BODY: u64 = 64 * 1024;

const USER_AGENT: &str = concat!("uwsgi-hetzner/", env!("CARGO_PKG_VERSION"));

/// An HTTP client for `url`. Each request sets its own time limit.
pub fn agent(url: &Uri, ssl_no_verify: bool) -> Result<Agent, Failure> {
    let https = url.scheme_str() == Some("https");
    let mut tls = TlsConfig::builder()
        .provider(TlsProvider::Rustls)
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .disable_verification(ssl_no_verify);
    if https && !ssl_no_verify {
        tls = tls.root_certs(trust_store()?);
    }
    let config = Agent::config_builder()
        .tls_config(tls.build())
        .proxy(proxy(url)?)
        .user_agent(USER_AGENT)
        // The login is for the configured host alone, so a redirect is an answer like any other.
        .max_redirects(0)
        .http_status_as_error(false)
        .build();
    Ok(config.new_agent())
}

/// The system's trusted CAs; `SSL_CERT_FILE` and `SSL_CERT_DIR` replace them.
fn trust_store() -> Result<RootCerts, Failure> {
    let found = rustls_native_certs::load_native_certs();
    if found.certs.is_empty() {
        let reason = found.errors.first().map_or_else(String::new, |error| format!(" ({error})"));
        return Err(Failure::new(
            Kind::Final,
            format!("no trusted CA certificates{reason}: install ca-certificates, or check SSL_CERT_FILE"),
        ));
    }
    let certs: Vec<_> = found.certs.iter().map(|der| Certificate::from_der(der).to_owned()).collect();
    Ok(RootCerts::Specific(Arc::new(certs)))
}

fn proxy(url: &Uri) -> Result<Option<Proxy>, Failure> {
    let host = url.host().unwrap_or_default().trim_matches(|c| c == '[' || c == ']');
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

/// What it means that a request got no whole answer.
pub fn failure(error: &Error, host: &str, limit: Duration) -> Failure {
    if let Some(error) = tls_error(error) {
        return tls_failure(error, host);
    }
    match error {
        Error::Timeout(_) => {
            Failure::new(Kind::Unknown, format!("no whole answer from {host} within {} s", seconds(limit)))
        }
        Error::HostNotFound => Failure::new(Kind::NotSent, format!("{host} was not found (DNS)")),
        Error::Io(error) => io_failure(error, host),
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

/// A TLS error comes bare, or inside the I/O error of the handshake.
fn tls_error(error: &Error) -> Option<&rustls::Error> {
    match error {
        Error::Rustls(error) => Some(error),
        Error::Io(error) => error.get_ref()?.downcast_ref(),
        _ => None,
    }
}

fn tls_failure(error: &rustls::Error, host: &str) -> Failure {
    let (kind, what) = match error {
        // It comes before the request, so nothing was sent.
        rustls::Error::InvalidCertificate(reason) => (Kind::Final, describe_certificate(reason)),
        // All others may as well come in the middle of the answer.
        rustls::Error::InvalidMessage(_) => (Kind::Unknown, "it does not speak TLS there: check url".into()),
        other => (Kind::Unknown, printable(&other.to_string(), &[])),
    };
    Failure::new(kind, format!("TLS with {host} failed: {what}"))
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

fn io_failure(error: &io::Error, host: &str) -> Failure {
    let (kind, what) = match error.kind() {
        io::ErrorKind::ConnectionRefused => (Kind::NotSent, "connection refused".into()),
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable | io::ErrorKind::NetworkDown => {
            (Kind::NotSent, "no way to get there".into())
        }
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe | io::ErrorKind::UnexpectedEof => {
            (Kind::Unknown, "connection broken before the whole answer was there".into())
        }
        // std gives a failed name resolution no kind of its own.
        _ if error.to_string().starts_with("failed to lookup address") => {
            (Kind::NotSent, "name resolution failed (DNS)".into())
        }
        _ => (Kind::Unknown, printable(&error.to_string(), &[])),
    };
    Failure::new(kind, format!("{host}: {what}"))
}
