//! A request to a host and its answer: names, addresses, proxies, TLS, time limits, and what went wrong on the way.
//!
//! [`Client`] is all that a hoster needs of it. It knows no hoster, and each status is an answer: what it means is the
//! hoster's business. May touch `config`, for the host of a URL, `sys` for a thread, and `text`.

mod connect;
mod error;
mod proxy;
mod tls;
mod trust;

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ureq::http::{HeaderValue, Response, Uri};
use ureq::unversioned::transport::{ConnectProxyConnector, Connector, SocksConnector};
use ureq::{Agent, Body, Proxy, ProxyProtocol, RequestBuilder};

use crate::config::host_of;
use connect::{Connect, LONGEST_CONNECT, LONGEST_LOOKUP, Lookup, Note, Way};
pub use error::{Cause, Error, NoTrust};
use tls::TlsConnector;
pub use trust::TrustStore;

/// What is asked for here is half a kilobyte; whatever is longer than this is something else.
const LONGEST_BODY: u64 = 64 * 1024;

/// Headers are under a kilobyte; a proxy may add some.
const LONGEST_HEADER: usize = 8 * 1024;

const USER_AGENT: &str = concat!("uwsgi-hetzner/", env!("CARGO_PKG_VERSION"));

/// A request, but for where it goes.
pub struct Request<'a> {
    pub method: Method<'a>,
    pub authorization: &'a Authorization,
}

pub enum Method<'a> {
    Get,
    Delete,
    /// With a form's fields.
    Post(&'a [(&'a str, &'a str)]),
}

/// Status and body of an answer, as it came.
pub struct Answer {
    pub status: u16,
    /// Where a redirect leads.
    pub location: Option<String>,
    pub body: Vec<u8>,
}

/// The header that a login goes in, marked so that no library shows it.
pub struct Authorization(HeaderValue);

impl Authorization {
    /// HTTP Basic auth (RFC 7617).
    pub fn basic(user: &[u8], password: &[u8]) -> Authorization {
        let header = format!("Basic {}", BASE64.encode([user, b":", password].concat()));
        let mut header = HeaderValue::try_from(header).expect("base64 is plain ASCII");
        header.set_sensitive(true);
        Authorization(header)
    }

    /// What stands for the login in it.
    pub fn credentials(&self) -> &str {
        self.0
            .to_str()
            .ok()
            .and_then(|header| header.split_once(' '))
            .map_or("", |(_, credentials)| credentials)
    }
}

/// Asks one URL. Its connections may serve several requests, so it is best kept while there is something to ask.
pub struct Client {
    url: Uri,
    agent: Agent,
    way: Arc<Way>,
    trust: &'static TrustStore,
}

impl Client {
    /// Fails where no request could be sent: by the proxy that the environment names, or for want of a CA to trust.
    pub fn new(url: &Uri, ssl_no_verify: bool, trust: &'static TrustStore) -> Result<Client, Error> {
        let failed = |cause| Error::new(cause, authority(url));
        let proxy = proxy(url).map_err(failed)?;
        let by_tls = url.scheme_str() == Some("https")
            || proxy.as_ref().is_some_and(|proxy| proxy.protocol() == ProxyProtocol::Https);
        let tls = by_tls.then(|| trust.settings(ssl_no_verify)).transpose();
        let tls = tls.map_err(|why| failed(Cause::NoTrust(why)))?;
        let config = Agent::config_builder()
            .proxy(proxy)
            .user_agent(USER_AGENT)
            // The login is for the configured host alone, so a redirect is an answer like any other.
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
        Ok(Client { url: url.clone(), agent, way, trust })
    }

    /// Sends a request, and returns its whole answer, or within `limit` what went wrong.
    pub fn send(&self, request: &Request, limit: Duration) -> Result<Answer, Error> {
        self.way.begin(limit);
        let answer = self.call(request, limit).and_then(read).map_err(|error| {
            let error = Error::of(&error, &self.way, authority(&self.url));
            if matches!(error.cause, Cause::Certificate(rustls::CertificateError::UnknownIssuer)) {
                self.trust.doubt();
            }
            error
        })?;
        self.way.has_answered();
        Ok(answer)
    }

    fn call(&self, request: &Request, limit: Duration) -> Result<Response<Body>, ureq::Error> {
        match request.method {
            Method::Get => equip(self.agent.get(&self.url), request, limit).call(),
            Method::Delete => equip(self.agent.delete(&self.url), request, limit).call(),
            Method::Post(form) => {
                // On a connection of its own: one that the host is just closing would lose it.
                let post = self.agent.post(&self.url).config().max_idle_age(Duration::ZERO).build();
                equip(post, request, limit).send_form(form.iter().copied())
            }
        }
    }
}

fn equip<B>(builder: RequestBuilder<B>, request: &Request, limit: Duration) -> RequestBuilder<B> {
    let builder = builder.config().timeout_global(Some(limit)).build();
    builder.header("Authorization", &request.authorization.0)
}

/// Reads an answer to its end, within the request's time limit.
fn read(mut response: Response<Body>) -> Result<Answer, ureq::Error> {
    let location = response.headers().get("location");
    Ok(Answer {
        status: response.status().as_u16(),
        location: location.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()),
        body: response.body_mut().with_config().limit(LONGEST_BODY + 1).read_to_vec()?,
    })
}

fn proxy(url: &Uri) -> Result<Option<Proxy>, Cause> {
    let scheme = url.scheme_str().unwrap_or_default();
    let found = proxy::proxy_for(scheme, host_of(url), |name| std::env::var(name).ok());
    // Its text may hold a login, so it is not shown.
    found.map(|proxy| Proxy::new(&proxy).map_err(|_| Cause::BadProxy)).transpose()
}

/// The host of a URL, and its port where one is named.
pub fn authority(url: &Uri) -> &str {
    url.authority().map_or("", |authority| authority.as_str())
}

/// Seconds as they stand in a log line, to the tenth.
pub fn seconds(duration: Duration) -> String {
    format!("{}", (duration.as_secs_f64() * 10.0).round() / 10.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_a_login_to_nobody() {
        // RFC 7617's own example.
        let authorization = Authorization::basic(b"Aladdin", b"open sesame");
        assert_eq!(authorization.0, "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
        assert_eq!(authorization.credentials(), "QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
        assert_eq!(format!("{:?}", authorization.0), "Sensitive");
    }
}
