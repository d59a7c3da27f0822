//! The URL of a hook: from text to where requests go.

use std::net::IpAddr;

use ureq::http::Uri;
use ureq::http::uri::Authority;

use super::{Remark, doubt, wrong};

const EXPECTED: &str = "expected http://HOST/PATH or https://HOST/PATH";

/// What is written, with a scheme and without a login: curl, which the C plugin gave it to, adds the one and does not
/// need the other. `None` where nothing is. The value itself is never shown: people put a login into it.
pub fn read(text: &str, remarks: &mut Vec<Remark>) -> Option<String> {
    if text.is_empty() {
        remarks.push(doubt("url is empty, so the API's own is asked".into()));
        return None;
    }
    let (scheme, rest) = match text.split_once("://") {
        Some((scheme, rest)) => (scheme.to_string(), rest),
        None => {
            // curl would send the password unprotected.
            let host = text.split(['/', ':', '?']).next().unwrap_or_default();
            let local = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|host| host.is_loopback());
            let scheme = if local { "http" } else { "https" };
            remarks.push(doubt(format!("url has no scheme, so {scheme}:// is taken: {EXPECTED}")));
            (scheme.into(), text)
        }
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let host = match authority.rsplit_once('@') {
        None => authority,
        Some((_, host)) => {
            remarks.push(doubt(
                "url holds a login before its host, which is not used: username and password are".into(),
            ));
            host
        }
    };
    Some(format!("{scheme}://{host}{path}"))
}

/// The failover IP that a URL is about.
pub fn address_at_its_end(url: &str) -> Option<IpAddr> {
    let path = url.split(['?', '#']).next()?.split_once("://")?.1.split_once('/')?.1;
    path.trim_end_matches('/').rsplit('/').next()?.parse().ok()
}

/// Where the requests for one of `ips` failover IPs go.
pub fn for_ip(url: &str, ip: IpAddr, ips: usize, remarks: &mut Vec<Remark>) -> Option<Uri> {
    if ips > 1 && !url.contains("{ip}") {
        remarks.push(wrong(
            "url leads to one place, but there are several IPs: write {ip} where it stands".into(),
        ));
        return None;
    }
    let Ok(uri) = url.replace("{ip}", &ip.to_string()).parse::<Uri>() else {
        remarks.push(wrong(format!("url is no URL: {EXPECTED}")));
        return None;
    };
    let known_scheme = matches!(uri.scheme_str(), Some("http" | "https"));
    if !known_scheme || uri.host().is_none_or(str::is_empty) {
        remarks.push(wrong(format!("url has no host, or a scheme that is not http or https: {EXPECTED}")));
    } else if uri.authority().is_some_and(has_no_real_port) {
        remarks.push(wrong("url names a port that is none: expected 1 to 65535".into()));
    }
    Some(uri)
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
