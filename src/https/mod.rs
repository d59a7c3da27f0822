//! A request to a host and its answer: names, addresses, proxies, TLS, time limits, and what went wrong on the way.
//!
//! A hoster uses [`Client`], a health check [`Probe`]. Nothing here knows a hoster: an answer with any status is an answer, and the hoster decides
//! what it means. May use `config` for the host of a URL, `sys` for a thread, and `text`.

mod connect;
mod error;
mod probe;
mod proxy;
mod tls;
mod trust;

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ureq::http::{HeaderValue, Uri};
use ureq::unversioned::transport::{ConnectProxyConnector, Connector, SocksConnector};
use ureq::{Agent, Proxy, ProxyProtocol, RequestBuilder};

pub use crate::config::authority;
use crate::config::host_of;
use connect::{Connect, LONGEST_CONNECT, LONGEST_LOOKUP, Lookup, Note, Way};
pub use error::{Cause, Error};
pub use probe::Probe;
use tls::TlsConnector;
pub use trust::TrustStore;

/// How long a request that timed out may have taken to reach the API.
pub const LONGEST_WAY: Duration = Duration::from_secs(5);
/// Most answers have half a kilobyte. Anything longer than this is something else.
pub const LONGEST_BODY: u64 = 64 * 1024;
/// Headers take less than a kilobyte; a proxy may add some.
const LONGEST_HEADER: usize = 8 * 1024;

pub enum Method<'a> {
    Get,
    Delete,
    Post(Body<'a>),
}

/// What a POST sends.
pub enum Body<'a> {
    /// The fields of a form.
    Form(&'a [(&'a str, &'a str)]),
    Json(&'a str),
}

/// An answer, as received.
pub struct Answer {
    pub status: u16,
    /// Where a redirect leads to.
    pub location: Option<String>,
    pub body: Vec<u8>,
}

/// The header with the login, marked as sensitive, so that no library shows it.
pub struct Authorization(HeaderValue);

impl Authorization {
    /// HTTP Basic auth (RFC 7617).
    pub fn basic(user: &[u8], password: &[u8]) -> Authorization {
        let header = format!("Basic {}", BASE64.encode([user, b":", password].concat()));
        let mut header = HeaderValue::try_from(header).expect("base64 is plain ASCII");
        header.set_sensitive(true);
        Authorization(header)
    }

    /// A token (RFC 6750). `None` if it has characters that no header may have.
    pub fn bearer(token: &[u8]) -> Option<Authorization> {
        let mut header = HeaderValue::from_bytes(&[b"Bearer ", token].concat()).ok()?;
        header.set_sensitive(true);
        Some(Authorization(header))
    }

    /// The login as it is encoded in the header.
    pub fn credentials(&self) -> &str {
        let words = self.0.to_str().ok().and_then(|header| header.split_once(' '));
        words.map_or("", |(_, credentials)| credentials)
    }
}

/// Sends requests to one host. Several requests can use the same connection, so it is worth keeping between them.
pub struct Client {
    /// One of the host's.
    url: Uri,
    /// The longest body of an answer, in bytes.
    longest: u64,
    agent: Agent,
    way: Arc<Way>,
    trust: &'static TrustStore,
}

impl Client {
    /// A client for the host of `url`, whose answers have at most `longest` bytes: anything longer is something else. Fails
    /// if no request could be sent, because the proxy in the environment is not valid or no CA is trusted.
    pub fn new(
        url: &Uri,
        longest: u64,
        ssl_no_verify: bool,
        trust: &'static TrustStore,
    ) -> Result<Client, Error> {
        let failed = |why| Error { cause: Cause::Setup(why), is_sent: false, host: authority(url).into() };
        let proxy = proxy(url).map_err(failed)?;
        let by_tls = url.scheme_str() == Some("https")
            || proxy.as_ref().is_some_and(|proxy| proxy.protocol() == ProxyProtocol::Https);
        let tls = by_tls.then(|| trust.settings(ssl_no_verify)).transpose().map_err(failed)?;
        let config = Agent::config_builder()
            .proxy(proxy)
            .user_agent(concat!("uwsgi-hetzner/", env!("CARGO_PKG_VERSION")))
            // The login is only for the configured host, so a redirect is an answer like any other.
            .max_redirects(0)
            .http_status_as_error(false)
            .max_response_header_size(LONGEST_HEADER)
            .timeout_resolve(Some(LONGEST_LOOKUP))
            .timeout_connect(Some(LONGEST_CONNECT))
            .build();
        let way = Arc::<Way>::default();
        let connector = SocksConnector::default()
            .chain(ConnectProxyConnector::default())
            .chain(Connect(Arc::clone(&way)))
            .chain(TlsConnector(tls))
            .chain(Note { way: Arc::clone(&way), url: url.clone() });
        let agent = Agent::with_parts(config, connector, Lookup(Arc::clone(&way)));
        Ok(Client { url: url.clone(), longest, agent, way, trust })
    }

    /// Sends a request to `url`, which is on this client's host. Returns its complete answer, or what went wrong, within
    /// `limit`.
    pub fn send(
        &self,
        method: Method,
        url: &Uri,
        login: &Authorization,
        limit: Duration,
    ) -> Result<Answer, Error> {
        self.way.begin(limit);
        let answer = self.call(method, url, login, limit).map_err(|error| {
            let error = Error::of(&error, &self.way, authority(&self.url));
            if matches!(error.cause, Cause::Certificate(rustls::CertificateError::UnknownIssuer)) {
                self.trust.doubt();
            }
            error
        })?;
        self.way.has_answered();
        Ok(answer)
    }

    fn call(
        &self,
        method: Method,
        url: &Uri,
        login: &Authorization,
        limit: Duration,
    ) -> Result<Answer, ureq::Error> {
        let mut response = match method {
            Method::Get => with(self.agent.get(url), login, limit).call(),
            Method::Delete => with(self.agent.delete(url), login, limit).call(),
            Method::Post(body) => {
                // On a new connection: the host may be closing the old one, and then the POST would be lost.
                let post = self.agent.post(url).config().max_idle_age(Duration::ZERO).build();
                let post = with(post, login, limit);
                match body {
                    Body::Form(fields) => post.send_form(fields.iter().copied()),
                    Body::Json(text) => post.content_type("application/json").send(text),
                }
            }
        }?;
        let location = response.headers().get("location");
        Ok(Answer {
            status: response.status().as_u16(),
            location: location.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()),
            body: response.body_mut().with_config().limit(self.longest + 1).read_to_vec()?,
        })
    }
}

fn with<B>(request: RequestBuilder<B>, login: &Authorization, limit: Duration) -> RequestBuilder<B> {
    request.config().timeout_global(Some(limit)).build().header("Authorization", &login.0)
}

fn proxy(url: &Uri) -> Result<Option<Proxy>, String> {
    let scheme = url.scheme_str().unwrap_or_default();
    let found = proxy::proxy_for(scheme, host_of(url), |name| std::env::var(name).ok());
    // Its text may contain a login, so it is not shown.
    let invalid =
        "the proxy in the environment (https_proxy, http_proxy, all_proxy) is not a valid proxy URL";
    found.map(|proxy| Proxy::new(&proxy).map_err(|_| invalid.to_string())).transpose()
}

/// Seconds for a log line, to the tenth.
pub fn seconds(duration: Duration) -> String {
    format!("{}", (duration.as_secs_f64() * 10.0).round() / 10.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_is_never_shown() {
        // RFC 7617's own example.
        let authorization = Authorization::basic(b"Aladdin", b"open sesame");
        assert_eq!(authorization.0, "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
        assert_eq!(authorization.credentials(), "QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
        assert_eq!(format!("{:?}", authorization.0), "Sensitive");
        let authorization = Authorization::bearer(b"hunter2").expect("a token");
        assert_eq!(authorization.0, "Bearer hunter2");
        assert_eq!(authorization.credentials(), "hunter2");
        assert_eq!(format!("{:?}", authorization.0), "Sensitive");
        assert!(Authorization::bearer(b"hunter2\nX: y").is_none());
    }
}
