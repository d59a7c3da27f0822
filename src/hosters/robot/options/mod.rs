//! Robot's own keys, and what they mean: which failover IPs a hook moves, to which server, as which webservice user.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use ureq::http::Uri;

use crate::config::{
    Argument, Common, IP, Key, Pace, Remark, Secret, URL, Weight, checked_url, parsed, shown,
};
use crate::sys::net;

/// Where the API lives; a failover IP follows. Source: Robot webservice documentation, "Failover".
const BASE_URL: &str = "https://robot-ws.your-server.de/failover/";

const USERNAME: Key = Key::new(&["username", "user"]).with_blanks();
const PASSWORD: Key = Key::new(&["password", "pass"]).secret();
const PASSWORD_FILE: Key = Key::new(&["password_file"]).with_blanks();
const ACTIVE_IP: Key = Key::new(&["active_ip", "active_server_ip"]);
/// Beside the common ones.
const KEYS: [Key; 6] = [USERNAME, PASSWORD, PASSWORD_FILE, IP, ACTIVE_IP, URL];

const IP_MEANING: &str = "the failover IP, like 4.4.4.4 or 2a01:4f8:fff1::";
pub const ACTIVE_IP_MEANING: &str = "the main IP of the server to route to, like 1.1.1.1, or for IPv6 its main net, like \
                                     2a01:4f8:0:5176::";

pub const PACE: Pace = Pace {
    // A switch takes 40 to 60 s (Hetzner's documentation of failover IPs).
    timeout: Duration::from_secs(60),
    longest_switch: Duration::from_secs(60),
    // A switch, and some seconds before it to be heard, and behind it to be seen.
    shortest_deadline: Duration::from_secs(90),
    // Twelve checks an hour, of the hundred requests that the API allows.
    verify: Duration::from_secs(300),
};

/// What a hook asks for, for one of its failover IPs.
#[derive(Clone)]
pub struct Options {
    pub login: Login,
    /// The failover IP, or the net address of an IPv6 failover net.
    pub ip: IpAddr,
    /// Where to route it: a server's main IP, or for IPv6 the net address of its main net. `None`, the default: this
    /// host's own.
    pub active_ip: Option<IpAddr>,
    /// Where all requests go.
    pub url: Uri,
}

/// The webservice user. Bytes, since nothing says that a password is UTF-8. Cannot be printed.
#[derive(Clone)]
pub struct Login {
    pub username: Vec<u8>,
    pub password: Secret,
}

/// What an argument was read as.
pub struct Parsed {
    pub common: Common,
    /// One for each failover IP, in order; none where something is wrong.
    pub options: Vec<Options>,
    pub remarks: Vec<Remark>,
}

/// Reads a hook's argument. Everything that is to be said of it is, not only the first.
pub fn parse(argument: &[u8]) -> Parsed {
    let mut argument = Argument::read(argument, &KEYS);
    let username = argument.required(USERNAME, "the Robot webservice user");
    if username.as_ref().is_some_and(|name| name.contains(&b':')) {
        argument.remark(Mistake::ColonInUsername);
    }
    let password = argument.secret(PASSWORD, PASSWORD_FILE, "the webservice user's password");
    let url = argument.url("username and password are");
    let ips = ips(&mut argument, url.as_deref());
    let targets = targets(&mut argument, &ips);
    let common = argument.common(&PACE);
    let url = url.unwrap_or_else(|| format!("{BASE_URL}{{ip}}"));
    let mut options = Vec::new();
    for &ip in &ips {
        match (url_for(&url, ip, ips.len()), &username, &password) {
            (Ok(url), Some(username), Some(password)) => options.push(Options {
                login: Login { username: username.clone(), password: password.clone() },
                ip,
                active_ip: targets.iter().find(|target| target.is_ipv6() == ip.is_ipv6()).copied(),
                url,
            }),
            (Err(remark), ..) => argument.remark(remark),
            _ => {}
        }
    }
    if argument.is_wrong() {
        options.clear();
    }
    Parsed { common, options, remarks: argument.remarks }
}

/// The failover IPs. A `url` replaces all, so what it ends in is the one that is moved.
fn ips(argument: &mut Argument, url: Option<&str>) -> Vec<IpAddr> {
    let value = argument.get(IP).unwrap_or_default();
    // Of several each has its own place in the url.
    let is_one = !value.is_empty() && !value.contains(&b';');
    let in_url = url.and_then(address_at_its_end).filter(|address| is_one && parsed(value) != Some(*address));
    match in_url {
        Some(address) => {
            argument.remark(Mistake::UrlOfAnotherIp { address, shown: shown(IP, value) });
            vec![address]
        }
        None => argument.addresses(IP, IP_MEANING),
    }
}

/// Where the requests for one of `ips` failover IPs go.
fn url_for(url: &str, ip: IpAddr, ips: usize) -> Result<Uri, Remark> {
    if ips > 1 && !url.contains("{ip}") {
        return Err(Mistake::OneUrlForSeveralIps.into());
    }
    checked_url(&url.replace("{ip}", &ip.to_string()))
}

/// The failover IP that a URL is about.
fn address_at_its_end(url: &str) -> Option<IpAddr> {
    let path = url.split(['?', '#']).next()?.split_once("://")?.1.split_once('/')?.1;
    path.trim_end_matches('/').rsplit('/').next()?.parse().ok()
}

/// Where to route, one address a family; none where this host's own is meant.
fn targets(argument: &mut Argument, ips: &[IpAddr]) -> Vec<IpAddr> {
    if !argument.has(ACTIVE_IP) {
        return Vec::new();
    }
    let targets = argument.addresses(ACTIVE_IP, ACTIVE_IP_MEANING);
    for is_ipv6 in [false, true] {
        let of_family = |list: &[IpAddr]| list.iter().filter(|ip| ip.is_ipv6() == is_ipv6).count();
        let (wanted, given) = (of_family(ips), of_family(&targets));
        if given > 1 {
            argument.remark(Mistake::SeveralTargets { targets: list(&targets), is_ipv6 });
        } else if !ips.is_empty() && !targets.is_empty() && (wanted > 0) != (given > 0) {
            argument.remark(Mistake::OtherFamily { ips: list(ips), targets: list(&targets) });
        }
    }
    for target in &targets {
        if let Some(ip) = ips.iter().find(|ip| net(**ip) == net(*target)) {
            argument.remark(Mistake::RoutedToItself { ip: *ip, target: *target });
        }
    }
    targets
}

fn list(addresses: &[IpAddr]) -> String {
    addresses.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(";")
}

/// What only Robot's keys can be wrong in.
enum Mistake {
    ColonInUsername,
    UrlOfAnotherIp { address: IpAddr, shown: String },
    OneUrlForSeveralIps,
    SeveralTargets { targets: String, is_ipv6: bool },
    OtherFamily { ips: String, targets: String },
    RoutedToItself { ip: IpAddr, target: IpAddr },
}

impl From<Mistake> for Remark {
    fn from(mistake: Mistake) -> Remark {
        let weight = match mistake {
            Mistake::ColonInUsername | Mistake::UrlOfAnotherIp { .. } => Weight::Doubtful,
            _ => Weight::Wrong,
        };
        Remark::OfHoster(weight, mistake.to_string())
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Mistake::ColonInUsername => f.write_str(
                "username has a colon: by the rules of HTTP Basic auth the API takes what is behind it for the start of \
                 the password",
            ),
            Mistake::UrlOfAnotherIp { address, shown } => write!(
                f,
                "url leads to {address}, and replaces {shown}: write ip={address}, or {{ip}} into the url"
            ),
            Mistake::OneUrlForSeveralIps => f.write_str(
                "url leads to one place, but there are several IPs: write {ip} where it stands",
            ),
            Mistake::SeveralTargets { targets, is_ipv6 } => {
                let family = if *is_ipv6 { "IPv6" } else { "IPv4" };
                write!(f, "active_ip={targets} has more than one of {family}: keep one")
            }
            Mistake::OtherFamily { ips, targets } => write!(
                f,
                "ip={ips} and active_ip={targets} are of different families: there must be one active_ip of each family \
                 of ip"
            ),
            Mistake::RoutedToItself { ip, target } => {
                let one = if ip == target { "the same address" } else { "of one /64 net" };
                write!(
                    f,
                    "ip={ip} and active_ip={target} are {one}: a failover IP cannot be routed to itself; expected \
                     {ACTIVE_IP_MEANING}"
                )
            }
        }
    }
}

#[cfg(test)]
mod properties;

#[cfg(test)]
mod tests;
