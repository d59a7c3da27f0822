//! Robot's own keys: which failover IPs a hook moves, to which server, as which webservice user.

use std::net::IpAddr;
use std::time::Duration;

use ureq::http::Uri;

use crate::config::{
    Argument, Common, IP, Key, Pace, Remark, Secret, Takes, URL, checked_url, parsed, shown,
};
use crate::https::LONGEST_WAY;
use crate::sys::net;

/// The failover IP follows. Source: Robot webservice documentation, "Failover".
const BASE_URL: &str = "https://robot-ws.your-server.de/failover/";

const USERNAME: Key = Key { spellings: &["username", "user"], takes: Takes::Text };
const PASSWORD: Key = Key { spellings: &["password", "pass"], takes: Takes::Secret };
const PASSWORD_FILE: Key = Key { spellings: &["password_file"], takes: Takes::Text };
const ACTIVE_IP: Key = Key::word(&["active_ip", "active_server_ip"]);
/// Beside the common ones.
const KEYS: [Key; 6] = [USERNAME, PASSWORD, PASSWORD_FILE, IP, ACTIVE_IP, URL];

const IP_MEANING: &str = "the failover IP, like 4.4.4.4 or 2a01:4f8:fff1::";
pub const ACTIVE_IP_MEANING: &str = "the main IP of the server to route to, like 1.1.1.1, or for IPv6 its main net, like \
                                     2a01:4f8:0:5176::";

pub const PACE: Pace = Pace {
    // A switch takes 40 to 60 s (Hetzner's documentation of failover IPs).
    timeout: Duration::from_secs(60),
    longest_way: LONGEST_WAY,
    longest_switch: Duration::from_secs(60),
    lock_tried_after: Duration::from_secs(15),
    // A switch, some seconds to send the request, and some to see the result.
    shortest_deadline: Duration::from_secs(90),
    // 12 checks an hour, of the 100 GET requests that the API allows.
    verify: Duration::from_secs(300),
};

/// What a hook asks for, for one of its failover IPs.
#[derive(Clone)]
pub struct Options {
    pub login: Login,
    /// The failover IP, or the net address of an IPv6 failover net.
    pub ip: IpAddr,
    /// The server to route to: its main IP, or for IPv6 the net address of its main net. Default: this server's own.
    pub active_ip: Option<IpAddr>,
    /// Where all requests go. Default: [`BASE_URL`] and the failover IP.
    pub url: Uri,
}

/// The webservice user. Bytes, because a password need not be UTF-8. Cannot be printed.
#[derive(Clone)]
pub struct Login {
    pub username: Vec<u8>,
    pub password: Secret,
}

/// What an argument was read as.
pub struct Parsed {
    pub common: Common,
    /// One for each failover IP, in order; none if the hook cannot work.
    pub options: Vec<Options>,
    pub remarks: Vec<Remark>,
}

/// Reads a hook's argument, with every remark about it, not only the first.
pub fn parse(argument: &[u8]) -> Parsed {
    let mut argument = Argument::read(argument, &KEYS);
    let username = argument.required(USERNAME, "the Robot webservice user");
    if username.as_ref().is_some_and(|name| name.contains(&b':')) {
        argument.doubt(
            "username contains a colon: with HTTP Basic auth the API takes what follows it as the start of the password",
        );
    }
    let password = argument.secret(PASSWORD, PASSWORD_FILE, "the webservice user's password");
    let url = argument.url("username and password are used instead");
    let ips = ips(&mut argument, url.as_deref());
    let targets = targets(&mut argument, &ips);
    let common = argument.common(&PACE);
    let url = url.unwrap_or_else(|| format!("{BASE_URL}{{ip}}"));
    let login = username.zip(password).map(|(username, password)| Login { username, password });
    let mut options = Vec::new();
    for &ip in &ips {
        let active_ip = targets.iter().find(|target| target.is_ipv6() == ip.is_ipv6()).copied();
        match (url_for(&url, ip, ips.len()), login.clone()) {
            (Ok(url), Some(login)) => options.push(Options { login, ip, active_ip, url }),
            (Err(remark), _) => argument.remark(remark),
            (Ok(_), None) => {}
        }
    }
    if argument.is_wrong() {
        options.clear();
    }
    Parsed { common, options, remarks: argument.remarks }
}

/// The failover IPs. Requests go to `url`, so an address at its end is the one that is moved.
fn ips(argument: &mut Argument, url: Option<&str>) -> Vec<IpAddr> {
    let value = argument.get(IP).unwrap_or_default();
    // With several, the url has {ip} instead of an address.
    let is_one = !value.is_empty() && !value.contains(&b';');
    let in_url = url.and_then(address_at_its_end).filter(|address| is_one && parsed(value) != Some(*address));
    let Some(ip) = in_url else { return argument.addresses(IP, IP_MEANING) };
    let item = shown(IP, value);
    argument.doubt(format!("url ends in {ip} and overrides {item}: write ip={ip}, or {{ip}} in the url"));
    vec![ip]
}

/// Where the requests for `ip`, one of several failover IPs, go.
fn url_for(url: &str, ip: IpAddr, ips: usize) -> Result<Uri, Remark> {
    if ips > 1 && !url.contains("{ip}") {
        return Err(Remark::wrong(
            "url is the same for all failover IPs of the hook: write {ip} in place of the address",
        ));
    }
    checked_url(&url.replace("{ip}", &ip.to_string()))
}

/// The failover IP that a URL is about.
fn address_at_its_end(url: &str) -> Option<IpAddr> {
    let path = url.split(['?', '#']).next()?.split_once("://")?.1.split_once('/')?.1;
    path.trim_end_matches('/').rsplit('/').next()?.parse().ok()
}

/// The values of `active_ip`, one per address family; none if it is left out.
fn targets(argument: &mut Argument, ips: &[IpAddr]) -> Vec<IpAddr> {
    if !argument.has(ACTIVE_IP) {
        return Vec::new();
    }
    let targets = argument.addresses(ACTIVE_IP, ACTIVE_IP_MEANING);
    let item = format!("active_ip={}", list(&targets));
    for (is_ipv6, family) in [(false, "IPv4"), (true, "IPv6")] {
        let of_family = |list: &[IpAddr]| list.iter().filter(|ip| ip.is_ipv6() == is_ipv6).count();
        let (wanted, given) = (of_family(ips), of_family(&targets));
        if given > 1 {
            argument.wrong(format!("{item} has more than one {family} address: keep one"));
        } else if !ips.is_empty() && !targets.is_empty() && (wanted > 0) != (given > 0) {
            let ips = list(ips);
            argument.wrong(format!(
                "ip={ips} and {item} have different address families: active_ip needs one address for each family of ip"
            ));
        }
    }
    for target in &targets {
        if let Some(ip) = ips.iter().find(|ip| net(**ip) == net(*target)) {
            let same = if ip == target { "the same address" } else { "in the same /64 net" };
            argument.wrong(format!(
                "ip={ip} and active_ip={target} are {same}: a failover IP cannot be routed to itself; expected \
                 {ACTIVE_IP_MEANING}"
            ));
        }
    }
    targets
}

fn list(addresses: &[IpAddr]) -> String {
    addresses.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(";")
}

#[cfg(any(test, feature = "fuzz"))]
pub mod properties;

#[cfg(test)]
mod tests;
