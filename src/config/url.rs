//! `url`: where a hoster's API is.

use std::net::IpAddr;

use ureq::http::Uri;
use ureq::http::uri::Authority;

use super::{Argument, Remark, URL};

const A_URL: &str = "http://HOST/PATH or https://HOST/PATH";

impl Argument {
    /// The value of `url`, if it is given and not empty. The C plugin passed it to curl, which accepts it without a
    /// scheme and with a login: the one is added, the other removed, and `instead` says which login is used. The value
    /// itself is never shown, because people put a login into it.
    pub fn url(&mut self, instead: &str) -> Option<String> {
        let text = String::from_utf8_lossy(self.get(URL)?).into_owned();
        if text.is_empty() {
            self.doubt("url is empty, so the default URL of the API is used");
            return None;
        }
        let (scheme, rest) = text.split_once("://").unwrap_or_else(|| {
            // curl would use http, and send the password unprotected.
            let host = text.split(['/', ':', '?']).next().unwrap_or_default();
            let scheme = if is_local(host) { "http" } else { "https" };
            self.doubt(format!("url has no scheme, so {scheme}:// is used: expected {A_URL}"));
            (scheme, &text)
        });
        let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        let host = authority.rsplit_once('@').map_or(authority, |(_, host)| {
            self.doubt(format!("url contains a login, which is ignored: {instead}"));
            host
        });
        Some(format!("{scheme}://{host}{path}"))
    }
}

/// The URL, if requests can be sent to it.
pub fn checked_url(text: &str) -> Result<Uri, Remark> {
    let invalid = |_| Remark::wrong(format!("url is not a valid URL: expected {A_URL}"));
    let uri = text.parse::<Uri>().map_err(invalid)?;
    let known_scheme = matches!(uri.scheme_str(), Some("http" | "https"));
    if !known_scheme || uri.host().is_none_or(str::is_empty) {
        Err(Remark::wrong(format!("url has no host, or a scheme other than http or https: expected {A_URL}")))
    } else if uri.authority().is_some_and(has_invalid_port) {
        Err(Remark::wrong("url has an invalid port: expected 1 to 65535"))
    } else {
        Ok(uri)
    }
}

/// The host of a URL, with its port if the URL has one.
pub fn authority(url: &Uri) -> &str {
    url.authority().map_or("", |authority| authority.as_str())
}

/// The host of a URL, an IPv6 address without its brackets.
pub fn host_of(url: &Uri) -> &str {
    url.host().unwrap_or_default().trim_matches(['[', ']'])
}

/// Whether `host` is this machine, as in a test setup.
pub fn is_local(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|host| host.is_loopback())
}

/// Requests would silently go to the default port instead.
pub(super) fn has_invalid_port(authority: &Authority) -> bool {
    let port = authority.as_str().strip_prefix(authority.host()).unwrap_or_default();
    !matches!(port, "" | ":") && authority.port_u16().is_none_or(|port| port == 0)
}
