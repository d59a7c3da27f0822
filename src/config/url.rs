//! What an URL of HTTP is: its scheme, its host, its port, and the login that may stand in it.

use std::net::IpAddr;

use ureq::http::Uri;
use ureq::http::uri::Authority;

use super::{Argument, Remark, URL};

impl Argument {
    /// What is written as `url`, with a scheme and without a login: curl, which the C plugin gave it to, adds the one and
    /// does not need the other; `used` says what is used instead. `None` where nothing is. The value itself is never
    /// shown: people put a login into it.
    pub fn url(&mut self, used: &'static str) -> Option<String> {
        let text = String::from_utf8_lossy(self.get(URL)?).into_owned();
        if text.is_empty() {
            self.remark(Remark::UrlIsEmpty);
            return None;
        }
        let (scheme, rest) = match text.split_once("://") {
            Some(parts) => parts,
            None => {
                // curl would send the password unprotected.
                let host = text.split(['/', ':', '?']).next().unwrap_or_default();
                let local =
                    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|host| host.is_loopback());
                let taken = if local { "http" } else { "https" };
                self.remark(Remark::UrlHasNoScheme { taken });
                (taken, &*text)
            }
        };
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let host = match authority.rsplit_once('@') {
            None => authority,
            Some((_, host)) => {
                self.remark(Remark::UrlHasALogin { used });
                host
            }
        };
        Some(format!("{scheme}://{host}{path}"))
    }
}

/// The URL, where requests can be sent to it.
pub fn checked_url(text: &str) -> Result<Uri, Remark> {
    let uri = text.parse::<Uri>().map_err(|_| Remark::NoUrl)?;
    let known_scheme = matches!(uri.scheme_str(), Some("http" | "https"));
    if !known_scheme || uri.host().is_none_or(str::is_empty) {
        Err(Remark::UrlHasNoHost)
    } else if uri.authority().is_some_and(has_no_real_port) {
        Err(Remark::UrlHasNoPort)
    } else {
        Ok(uri)
    }
}

/// The host of a URL, an IPv6 address without its brackets.
pub fn host_of(url: &Uri) -> &str {
    url.host().unwrap_or_default().trim_matches(['[', ']'])
}

/// Whether a port is named that is none; requests would go to the scheme's own instead.
fn has_no_real_port(authority: &Authority) -> bool {
    let named =
        authority.as_str().strip_prefix(authority.host()).is_some_and(|port| !matches!(port, "" | ":"));
    named && authority.port_u16().is_none_or(|port| port == 0)
}
