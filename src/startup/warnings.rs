//! What works, but perhaps not as intended.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::net::{IpAddr, SocketAddrV4};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::{Hook, LORD, actions, lord_ips, no_lord_hook};
use crate::config::{Common, Key, Secret};
use crate::failover::FailoverIp;
use crate::hosters::{Api, Tls, Way, Words};
use crate::uwsgi::{self, Legion};

/// The largest valor that peers can store: they have 16 bits for it.
const LARGEST_VALOR: u64 = 65_535;

/// A line, and the Legion that it is about, if it is about one.
pub type Warning = (Option<Legion>, String);

pub fn warnings(hooks: &[Hook]) -> Vec<Warning> {
    let lords = lord_ips(hooks);
    let general = about_uwsgi(&lords).into_iter().chain(about_configuration());
    let mut warnings: Vec<Warning> = general.map(|text| (None, text)).collect();
    for legion in uwsgi::legions() {
        let has_lord = lords.iter().any(|ip| ip.legion == legion);
        warnings.extend(about_legion(legion, has_lord).into_iter().map(|text| (Some(legion), text)));
    }
    for hook in hooks {
        let ips = hook.ips.iter().flat_map(|ip| about_ip(ip, hook.is_lord_hook().then_some(&lords)));
        let all = hook.doubts.iter().cloned().chain(misplaced(hook)).chain(ips);
        warnings.extend(all.map(|text| (Some(hook.legion), hook.with_place(&text))));
    }
    warnings
}

fn about_uwsgi(lords: &[&FailoverIp]) -> Vec<String> {
    let mut warnings = Vec::new();
    if !uwsgi::legions().is_empty() && !uwsgi::has_master() {
        warnings.push("without a master process uWSGI runs no Legion: set master = true".into());
    }
    if !lords.is_empty() && !uwsgi::death_on_lord_error() {
        let why = "a node whose takeover fails becomes Lord without the IP";
        warnings.push(format!(
            "legion-death-on-lord-error is unset: {why}; set it to a number of seconds, so that the next node tries"
        ));
    }
    let (round, tolerance) = (uwsgi::round().as_secs(), uwsgi::tolerance().as_secs());
    if !lords.is_empty() && tolerance <= round {
        warnings.push(format!(
            "legion-tolerance is {tolerance}, but a node announces itself only every {round} s (legion-freq) and counts \
             as dead in between; set legion-tolerance to at least three times legion-freq"
        ));
    }
    warnings
}

/// A takeover in any other phase takes the IP from the node that uWSGI has elected.
fn misplaced(hook: &Hook) -> Option<String> {
    let (about, is_release) = hook.action;
    let (takes_over, releases) = (about.takes_over.to_string_lossy(), about.releases.to_string_lossy());
    match (hook.phase == LORD, is_release) {
        (false, false) => Some(format!("{takes_over} takes the IP from the Lord: move it to {LORD}")),
        (true, true) => Some(format!("{releases} deletes the new Lord's route: did you mean {takes_over}?")),
        _ => None,
    }
}

fn about_legion(legion: Legion, has_lord_hook: bool) -> Vec<String> {
    let name = legion.name();
    if !has_lord_hook {
        return vec![format!("Legion {name} has {}: no failover IP follows its Lord", no_lord_hook())];
    }
    let valor = match legion.valor() {
        0 => Some(format!("0 (an arbiter): it votes but never becomes Lord, so its {LORD} hook never runs")),
        valor => (valor > LARGEST_VALOR).then(|| {
            format!("{valor}, but peers store at most {LARGEST_VALOR}: no Lord is elected; set a smaller one")
        }),
    };
    let valor = valor.map(|text| format!("Legion {name}: this node's valor is {text}"));
    about_quorum(legion).into_iter().chain(valor).chain(about_nodes(legion)).collect()
}

fn about_quorum(legion: Legion) -> Option<String> {
    const SPLIT: &str = "a network split would leave a Lord on each side";
    let (name, quorum) = (legion.name(), usize::try_from(legion.quorum()).unwrap_or(0));
    // Unknown if a legion-node is a multicast group.
    let size = legion.configured_size();
    let majority = size.map_or("more than half of its nodes".into(), |size| (size / 2 + 1).to_string());
    let remedy = format!("; set legion-quorum = {name} {majority}");
    if quorum == 0 && size.is_none_or(|size| size >= 3) {
        return Some(format!("Legion {name} has no legion-quorum: {SPLIT}{remedy}"));
    }
    let size = size.filter(|_| quorum > 0)?;
    let result = match () {
        () if quorum > size => "no Lord is ever elected",
        () if quorum == size && size >= 2 => "there is no Lord while one of them is down",
        () if quorum <= size / 2 => SPLIT,
        () => return None,
    };
    // Two is the majority of two: only a third node helps, which may be an arbiter.
    let remedy = if (quorum, size) == (2, 2) { "" } else { &remedy };
    Some(format!(
        "Legion {name}: legion-quorum is {quorum}, and the number of nodes (this one and each legion-node) is {size}: \
         {result}{remedy}"
    ))
}

/// Another node's ini, copied unchanged, names this node and leaves that one out.
fn about_nodes(legion: Legion) -> Vec<String> {
    let own = legion.listens_on();
    let is_own = |node: &str| match node.parse::<SocketAddrV4>() {
        Ok(address) => own.contains(&address) && !address.ip().is_multicast(),
        Err(_) => node == legion.listens_at(),
    };
    let (name, nodes) = (legion.name(), legion.node_addresses());
    let warning = |(at, node): (usize, &String)| {
        let what = match () {
            () if is_own(node) => "this node itself: remove it",
            () if nodes[..at].contains(node) => "listed twice: remove one",
            () => return None,
        };
        Some(format!("Legion {name}: legion-node = {name} {node} is {what}"))
    };
    nodes.iter().enumerate().filter_map(warning).collect()
}

/// `lords` are all IPs that are taken over, if this is one.
fn about_ip(ip: &FailoverIp, lords: Option<&Vec<&FailoverIp>>) -> Vec<String> {
    let (common, pace) = (&ip.common, &ip.about.pace);
    let secret = ip.about.words.secret;
    let mut warnings = ip.remote.warnings();
    if common.deadline < pace.shortest_deadline {
        let (deadline, longest) = (common.deadline.as_secs_f64(), pace.longest_switch.as_secs());
        let shortest = pace.shortest_deadline.as_secs();
        warnings.push(format!(
            "deadline is {deadline} s (default: three times timeout), but a switch takes up to {longest} s: a switch \
             given up earlier may still complete, and the next node moves the IP again; set deadline={shortest} or more"
        ));
    }
    match ip.remote.way() {
        Way::Api(api) => warnings.extend(about_api(&api, common, secret)),
        Way::Program(_) if common.ssl_no_verify => {
            warnings.push("ssl_no_verify means nothing to a command: remove it".into());
        }
        Way::Program(_) => {}
    }
    if let Some((key, path)) = ip.remote.secret().and_then(Secret::file) {
        let shown = path.display();
        if others_may_read(path) {
            warnings.push(format!("{key}={shown} is readable by others: chmod o-r {shown}"));
        }
        warnings.extend(unreadable_later(key, path, secret));
    }
    warnings.extend(lords.and_then(|lords| impatient_check(ip, lords)));
    warnings
}

fn about_api(api: &Api, common: &Common, secret: &str) -> Vec<String> {
    let Api { host, tls, is_here, .. } = api;
    let mut warnings = Vec::new();
    if *tls == Tls::None && !is_here {
        warnings.push(format!("url is plain http to {host}: the {secret} is sent unencrypted; use https"));
    }
    if common.ssl_no_verify {
        let who = format!("anyone on the network path to {host}");
        warnings.push(format!("ssl_no_verify is set: {who} can read the {secret}; remove it"));
    }
    warnings.extend(unresolvable(host));
    warnings
}

/// All IPs of an account are checked within one limit.
fn impatient_check(ip: &FailoverIp, lords: &[&FailoverIp]) -> Option<String> {
    let ips = lords.iter().filter(|other| other.remote.account() == ip.remote.account()).count();
    let (verify, shortest) = (ip.common.verify, ip.remote.shortest_check_pause(ips));
    if verify.is_zero() || verify >= shortest || verify == ip.about.pace.verify {
        return None;
    }
    let (verify, shortest) = (verify.as_secs_f64(), shortest.as_secs());
    let whose = if ips == 1 { "one IP".into() } else { format!("the {ips} IPs of this account") };
    Some(format!(
        "verify is {verify} s, but the API's rate limit allows only one check every {shortest} s for {whose}, so it is \
         checked less often; set verify={shortest} or more"
    ))
}

fn others_may_read(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o004 != 0)
}

/// The kernel is asked, as the user that the master will be: after uWSGI's `uid`, `gid`, `add-gid` and `chroot`.
fn unreadable_later(key: Key, path: &Path, secret: &str) -> Option<String> {
    let (uid, tried) = uwsgi::try_to_read(path)?;
    let (why, shown) = (tried.err()?, path.display());
    let (place, remedy) = match uwsgi::chroot() {
        None => ("".into(), format!("let uid {uid} read it: chgrp it to that user's group and chmod 640")),
        Some(root) => (format!(" in chroot {}", root.display()), format!("put a copy there for uid {uid}")),
    };
    Some(format!(
        "{key}={shown} cannot be read as uid {uid}{place} ({why}): uWSGI uses what was read now until it is stopped, and \
         a new {secret} needs a restart; after a reload it cannot be read at all; {remedy}"
    ))
}

/// In a chroot, names are resolved with the files that are there.
fn unresolvable(host: &str) -> Option<String> {
    const RESOLVER: &str = "/etc/resolv.conf";
    let root = uwsgi::chroot().filter(|_| host.parse::<IpAddr>().is_err())?;
    let (_, tried) = uwsgi::try_to_read(Path::new(RESOLVER))?;
    let (why, root) = (tried.err()?, root.display());
    Some(format!(
        "{host} cannot be resolved in chroot {root}, because {RESOLVER} cannot be read there ({why}): copy {RESOLVER}, \
         /etc/hosts and /etc/nsswitch.conf there"
    ))
}

/// The options that name a configuration file, beside the arguments of the command line.
const CONFIGURATION: [&str; 10] =
    ["ini", "yaml", "yml", "xml", "json", "config", "include", "inherit", "template", "fallback-config"];

/// Who can read the configuration: if it holds a password, not everybody may; and uWSGI itself must after a reload.
fn about_configuration() -> Vec<String> {
    let command_line = fs::read("/proc/self/cmdline").unwrap_or_default();
    let mut warnings = Vec::new();
    if let Some(secret) = secret_in(&command_line) {
        let what = format!(
            "a hook with its {secret} is on the command line, which every user of this machine can read"
        );
        warnings.push(format!("{what}: put it into an ini file"));
    }
    let named = uwsgi::options().into_iter().filter(|(key, _)| CONFIGURATION.contains(&key.as_str()));
    let arguments = command_line.split(|byte| *byte == 0).skip(1);
    let arguments = arguments.map(|text| PathBuf::from(OsStr::from_bytes(text)));
    let files = named.map(|(_, path)| path).chain(arguments).map(without_section);
    for file in files.filter(|file| file.is_file()).collect::<BTreeSet<_>>() {
        let shown = file.display();
        let held = || secret_in(&fs::read(&file).ok()?);
        if let Some(secret) = others_may_read(&file).then(held).flatten() {
            warnings.push(format!(
                "{shown} holds the {secret} and is readable by others: chmod o-r {shown} and chgrp it to uWSGI's group, \
                 because a reload has to read it"
            ));
        }
        // A reload reads the configuration again, as the user that uWSGI has changed to.
        if let Some((uid, Err(why))) = uwsgi::try_to_read(&file) {
            let remedy = "chgrp it to uWSGI's group and chmod 640";
            warnings
                .push(format!("{shown} cannot be read as uid {uid} ({why}): a reload ends uWSGI; {remedy}"));
        }
    }
    warnings
}

/// `FILE:SECTION` names a section of an ini.
fn without_section(path: PathBuf) -> PathBuf {
    let text = path.to_string_lossy();
    match text.rsplit_once(':') {
        Some((file, _)) if !path.exists() => file.into(),
        _ => path,
    }
}

/// What a hook of this plugin is there with, rather than with `$(NAME)` or `@(file)` in its place: its password, for example.
fn secret_in(content: &[u8]) -> Option<&'static str> {
    let actions = actions();
    content.split(|byte| matches!(byte, b'\n' | 0)).find_map(|line| {
        let line = String::from_utf8_lossy(line);
        if line.trim_start().starts_with(['#', ';']) {
            return None;
        }
        let words =
            actions.iter().filter(|(name, _)| line.contains(name)).map(|(_, (about, _))| &about.words);
        let is_given = |words: &&Words| {
            let secret = words.secret_keys.iter().find_map(|key| line.split_once(key));
            secret.is_some_and(|(_, value)| !value.starts_with("$(") && !value.starts_with("@("))
        };
        words.into_iter().find(is_given).map(|words| words.secret)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_found_where_it_is_written() {
        for (content, expected) in [
            ("legion-lord = x hetzner-failoverip:user=u,pass=p,ip=4.4.4.4", Some("password")),
            ("a\nlegion-lord = x hetzner-failoverip:user=u,password=p\nb", Some("password")),
            ("# legion-lord = x hetzner-failoverip:user=u,password=p", None),
            ("legion-lord = x hetzner-failoverip:user=u,password=$(ROBOT)", None),
            ("legion-lord = x hetzner-failoverip:user=u,pass=@(/etc/robot)", None),
            ("legion-lord = x hetzner-failoverip:user=u,password_file=/etc/robot", None),
            ("mysql = password=p", None),
            ("legion-lord = x hetzner-floatingip:token=t,ip=4.4.4.4", Some("token")),
            ("legion-lord = x hetzner-floatingip:token_file=/t,ip=4.4.4.4", None),
            ("legion-lord = x hetzner-floatingip:token=$(TOKEN),ip=4.4.4.4", None),
        ] {
            assert_eq!(secret_in(content.as_bytes()), expected, "{content}");
        }
    }
}
