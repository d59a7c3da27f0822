//! Which proxy the environment names, by curl's rules.
//!
//! ureq reads these variables too, but in another order, without regard to the scheme, and with another meaning of
//! `no_proxy`. A sysadmin who sets them has tried them with curl.

use std::net::IpAddr;

/// The URL of the proxy for a request to `host` (without port or brackets) by `scheme`. `None` is a direct connection.
/// `env` is the environment; an empty variable counts as unset.
pub fn proxy_for(scheme: &str, host: &str, env: impl Fn(&str) -> Option<String>) -> Option<String> {
    let first = |names: &[&str]| names.iter().find_map(|name| env(name).filter(|value| !value.is_empty()));
    let proxy = if scheme == "https" {
        first(&["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"])
    } else {
        // HTTP_PROXY in capitals is not read: in a CGI program it is the client's header "Proxy:".
        first(&["http_proxy", "all_proxy", "ALL_PROXY"])
    }?;
    let excluded = first(&["no_proxy", "NO_PROXY"]).is_some_and(|list| excludes(&list, host));
    (!excluded).then_some(proxy)
}

/// Whether `no_proxy` contains the host, its domain, its net, or `*`.
fn excludes(list: &str, host: &str) -> bool {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    list.split([',', ' ', '\t']).filter(|entry| !entry.is_empty()).any(|entry| {
        let entry = entry.trim_matches(|c| c == '[' || c == ']').to_ascii_lowercase();
        if let Ok(address) = host.parse::<IpAddr>() {
            return entry == "*" || in_net(&entry, address);
        }
        let domain = entry.trim_start_matches('.').trim_end_matches('.');
        entry == "*"
            || !domain.is_empty()
                && host.strip_suffix(domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    })
}

/// Whether `entry` is `address`, or a net that contains it (`10.0.0.0/8`).
fn in_net(entry: &str, address: IpAddr) -> bool {
    let (net, prefix) = entry.split_once('/').unwrap_or((entry, "128"));
    let (Ok(net), Ok(prefix)) = (net.parse::<IpAddr>(), prefix.parse::<u32>()) else { return false };
    let (net, address, bits) = match (net, address) {
        (IpAddr::V4(net), IpAddr::V4(address)) => (net.to_bits().into(), address.to_bits().into(), 32),
        (IpAddr::V6(net), IpAddr::V6(address)) => (net.to_bits(), address.to_bits(), 128),
        _ => return false,
    };
    // With a prefix of 0 the shift would be by the whole width, which overflows.
    let host_bits = bits - prefix.min(bits);
    host_bits == 128 || net >> host_bits == address >> host_bits
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxy(scheme: &str, host: &str, env: &[(&str, &str)]) -> Option<String> {
        let get = |name: &str| env.iter().find(|(key, _)| *key == name).map(|(_, value)| value.to_string());
        proxy_for(scheme, host, get)
    }

    #[test]
    fn takes_the_schemes_own_variable_first() {
        let env = [("all_proxy", "a"), ("https_proxy", "s"), ("http_proxy", "h"), ("HTTP_PROXY", "H")];
        assert_eq!(proxy("https", "x", &env).as_deref(), Some("s"));
        assert_eq!(proxy("http", "x", &env).as_deref(), Some("h"));
        assert_eq!(proxy("http", "x", &env[..1]).as_deref(), Some("a"));
        assert_eq!(proxy("http", "x", &env[3..]), None);
        assert_eq!(proxy("https", "x", &[("https_proxy", ""), ("HTTPS_PROXY", "S")]).as_deref(), Some("S"));
    }

    #[test]
    fn no_proxy_matches_as_curl_does() {
        for (list, host, direct) in [
            ("example.com", "example.com", true),
            ("example.com", "sub.example.com", true),
            (".example.com", "example.com", true),
            ("example.com", "myexample.com", false),
            ("a b,EXAMPLE.com.", "Example.COM", true),
            ("*", "anything", true),
            ("*", "10.0.0.1", true),
            ("*.example.com", "sub.example.com", false),
            ("10.0.0.0/8", "10.1.2.3", true),
            ("10.0.0.0/8", "11.1.2.3", false),
            ("10.1.2.3", "10.1.2.3", true),
            ("0.0.0.0/0", "10.1.2.3", true),
            ("2a01:4f8::/32", "2a01:4f8:1::2", true),
            ("::/0", "2a01:4f8:1::2", true),
            ("[::1]", "::1", true),
            ("10.0.0.0/x", "10.0.0.1", false),
            ("", "x", false),
        ] {
            let found = proxy("https", host, &[("https_proxy", "p"), ("no_proxy", list)]);
            assert_eq!(found.is_none(), direct, "no_proxy={list} {host}");
        }
    }
}
