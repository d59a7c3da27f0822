//! The Cloud's own keys: which floating IPs a hook moves, to which server, with which token.

use std::net::IpAddr;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use ureq::http::Uri;

use crate::config::{
    Argument, Common, IP, Key, Pace, Remark, Secret, Takes, URL, Weight, checked_url, parsed, shown,
};
use crate::https::{Authorization, LONGEST_WAY};
use crate::sys::net;

/// Source: Hetzner Cloud API, "Endpoints".
const BASE_URL: &str = "https://api.hetzner.cloud/v1";

const TOKEN: Key = Key { spellings: &["token"], takes: Takes::Secret };
const TOKEN_FILE: Key = Key { spellings: &["token_file"], takes: Takes::Text };
const FLOATING_IP: Key = Key::word(&["floating_ip"]);
const SERVER: Key = Key::word(&["server"]);
/// Beside the common ones.
const KEYS: [Key; 6] = [TOKEN, TOKEN_FILE, IP, FLOATING_IP, SERVER, URL];

const IP_MEANING: &str = "the floating IP, like 4.4.4.4, or its IPv6 net, like 2001:db8:1:2::/64";
pub const SERVER_MEANING: &str = "this server's id or name, as in the Cloud Console";

pub const PACE: Pace = Pace {
    // Seconds, by report: no figure is documented.
    timeout: Duration::from_secs(30),
    longest_way: LONGEST_WAY,
    longest_switch: Duration::from_secs(60),
    // A lock is often over in seconds.
    lock_tried_after: Duration::from_secs(5),
    shortest_deadline: Duration::from_secs(90),
    verify: Duration::from_secs(60),
};

/// What a hook asks for, for one of its floating IPs.
#[derive(Clone)]
pub struct Options {
    pub token: Secret,
    /// The floating IP, or the net address of an IPv6 one.
    pub ip: IpAddr,
    /// Which one that is in the token's Project. Default: found by its address.
    pub floating_ip: Option<Named>,
    /// The server to assign it to. Default: this one.
    pub server: Option<Named>,
    /// The API's base, without a slash at its end. Default: [`BASE_URL`].
    pub base: String,
    /// The same, checked.
    pub url: Uri,
}

/// How the Cloud names what it has.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Named {
    Id(u64),
    Name(String),
}

impl std::fmt::Display for Named {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Named::Id(id) => write!(f, "{id}"),
            Named::Name(name) => f.write_str(name),
        }
    }
}

/// What an argument was read as.
pub struct Parsed {
    pub common: Common,
    /// One for each floating IP, in order; none if the hook cannot work.
    pub options: Vec<Options>,
    pub remarks: Vec<Remark>,
}

/// Reads a hook's argument, with every remark about it, not only the first.
pub fn parse(argument: &[u8]) -> Parsed {
    let mut argument = Argument::read(argument, &KEYS);
    let token = token(&mut argument);
    let base = argument.url("token is used instead").unwrap_or_else(|| BASE_URL.into());
    let base = base.trim_end_matches('/').to_string();
    let url = checked_base(&base);
    let ips = argument.addresses_by(IP, IP_MEANING, address);
    let named = floating_ips(&mut argument, ips.len());
    let server = server(&mut argument);
    let common = argument.common(&PACE);
    let mut options = Vec::new();
    match (url, token) {
        (Ok(url), Some(token)) => {
            let named = named.into_iter().map(Some).chain(std::iter::repeat(None));
            options.extend(ips.into_iter().zip(named).map(|(ip, floating_ip)| {
                let (token, server, base, url) = (token.clone(), server.clone(), base.clone(), url.clone());
                Options { token, ip, floating_ip, server, base, url }
            }));
        }
        (Err(remark), _) => argument.remark(remark),
        (Ok(_), None) => {}
    }
    if argument.is_wrong() {
        options.clear();
    }
    Parsed { common, options, remarks: argument.remarks }
}

/// The header that a token goes into. Blanks around it are no part of it, and a token has letters and digits only.
pub fn authorization(token: &[u8]) -> Option<Authorization> {
    let token = token.trim_ascii();
    let is_plain = !token.is_empty() && token.iter().all(u8::is_ascii_graphic);
    is_plain.then(|| Authorization::bearer(token)).flatten()
}

pub const NOT_A_TOKEN: &str = "has what no API token has: expected 64 letters and digits";

fn token(argument: &mut Argument) -> Option<Secret> {
    let token = argument.secret(TOKEN, TOKEN_FILE, "the Project's API token")?;
    if token.read().is_ok_and(|token| authorization(&token).is_none()) {
        match token.file() {
            // What is in the file may be another token by the time it is needed.
            Some((key, path)) => {
                let item = shown(key, path.as_os_str().as_bytes());
                argument.remark(Remark::new(Weight::Away, format!("{item} {NOT_A_TOKEN}")));
            }
            None => argument.wrong(format!("{TOKEN} {NOT_A_TOKEN}")),
        }
    }
    Some(token)
}

/// A floating IP as it may be written: the Cloud names an IPv6 one by its /64.
pub fn address(text: &[u8]) -> Option<IpAddr> {
    let plain = text.strip_suffix(b"/64");
    let address = parsed::<IpAddr>(plain.unwrap_or(text))?;
    (address.is_ipv6() || plain.is_none()).then(|| net(address))
}

/// The values of `floating_ip`, one for each of `ips`; none if it is left out.
fn floating_ips(argument: &mut Argument, ips: usize) -> Vec<Named> {
    let Some(value) = argument.get(FLOATING_IP).map(<[u8]>::to_vec) else { return Vec::new() };
    let item = shown(FLOATING_IP, &value);
    let given: Option<Vec<Named>> = value.split(|byte| *byte == b';').map(named).collect();
    let Some(given) = given else {
        argument.wrong(format!("{item} is not valid: expected the id or the name of each floating IP in ip"));
        return Vec::new();
    };
    if ips > 0 && given.len() != ips {
        let (names, expected) = (given.len(), if ips == 1 { "one".into() } else { ips.to_string() });
        argument
            .wrong(format!("{item} names {names}: expected {expected}, one for each ip, in the same order"));
    }
    if let Some(twice) =
        given.iter().enumerate().find_map(|(at, one)| given[..at].contains(one).then_some(one))
    {
        let twice = shown(FLOATING_IP, twice.to_string().as_bytes());
        argument.wrong(format!("{twice} is there twice: expected one for each ip, in the same order"));
    }
    given
}

fn server(argument: &mut Argument) -> Option<Named> {
    let value = argument.get(SERVER)?.to_vec();
    let server = named(&value);
    if server.is_none() {
        argument.wrong(format!("{} is not valid: expected {SERVER_MEANING}", shown(SERVER, &value)));
    }
    server
}

fn named(text: &[u8]) -> Option<Named> {
    let text = std::str::from_utf8(text.trim_ascii()).ok().filter(|text| !text.is_empty())?;
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return text.parse().ok().filter(|id| *id > 0).map(Named::Id);
    }
    (!text.chars().any(char::is_control)).then(|| Named::Name(text.into()))
}

fn checked_base(base: &str) -> Result<Uri, Remark> {
    if base.contains(['?', '#']) {
        return Err(Remark::wrong(format!("url is not the base of the API: expected one like {BASE_URL}")));
    }
    checked_url(base)
}

#[cfg(any(test, feature = "fuzz"))]
pub mod properties;

#[cfg(test)]
mod tests;
