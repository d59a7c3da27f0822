//! What works, but not as one may think.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::{Hook, LORD, action, hosters};
use crate::failover::FailoverIp;
use crate::hosters::{Api, Tls};
use crate::sys;
use crate::text::printable;
use crate::uwsgi::{self, Legion};

/// The largest valor that a node's peers can keep: they have 16 bits for it.
const LARGEST_VALOR: u64 = 65_535;

/// A line each, once.
pub fn warnings(hooks: &[Hook]) -> Vec<String> {
    let mut warnings = Vec::new();
    let legions = uwsgi::legions();
    if !legions.is_empty() && !uwsgi::has_master() {
        warnings.push("there is no master, which alone runs Legions: set master = true".into());
    }
    if hooks.iter().any(Hook::is_lord_hook) && !uwsgi::death_on_lord_error() {
        warnings.push(
            "legion-death-on-lord-error is unset: a node whose takeover fails becomes Lord without the IP; set it to \
             some seconds, so that the next node tries"
                .into(),
        );
    }
    let (round, tolerance) = (uwsgi::round().as_secs(), uwsgi::tolerance().as_secs());
    if hooks.iter().any(Hook::is_lord_hook) && tolerance <= round {
        warnings.push(format!(
            "legion-tolerance is {tolerance}, but a node announces itself each {round} s (legion-freq): it counts as \
             dead in between; set legion-tolerance to three times legion-freq, or more"
        ));
    }
    for legion in legions {
        let has_our_lord = hooks.iter().any(|hook| hook.legion == legion && hook.is_lord_hook());
        warnings.extend(about_legion(legion, has_our_lord));
    }
    for hook in hooks {
        let (name, phase) = (hook.legion.name(), hook.phase);
        let ips = hook.ips.iter().flat_map(|ip| ip.remote.warnings().into_iter().chain(about(ip)));
        let all = hook.remarks.iter().cloned().chain(misplaced(hook)).chain(ips);
        warnings.extend(all.map(|text| format!("Legion {name}, {phase}: {text}")));
    }
    warnings.extend(impatient_checks(hooks));
    warnings.extend(readable_configurations());
    let mut once: Vec<String> = Vec::new();
    for warning in warnings {
        if !once.contains(&warning) {
            once.push(warning);
        }
    }
    once
}

/// Elsewhere than where uWSGI has elected this node, a takeover takes the IP from the Lord.
fn misplaced(hook: &Hook) -> Option<String> {
    let [takes_over, releases] =
        [hook.about.takes_over, hook.about.releases].map(|action| action.to_string_lossy());
    match (hook.phase == LORD, hook.releases) {
        (false, false) => {
            Some(format!("{takes_over} takes the IP over whoever is Lord: it belongs into legion-lord"))
        }
        (true, true) => {
            Some(format!("{releases} deletes the route when this node becomes Lord: is {takes_over} meant?"))
        }
        _ => None,
    }
}

/// All IPs of an account are checked within one limit.
fn impatient_checks(hooks: &[Hook]) -> Vec<String> {
    let lords: Vec<&FailoverIp> =
        hooks.iter().filter(|hook| hook.is_lord_hook()).flat_map(|hook| &hook.ips).collect();
    let warning = |ip: &&FailoverIp| {
        let ips = lords.iter().filter(|other| other.remote.account() == ip.remote.account()).count();
        let (verify, shortest) = (ip.common.verify, ip.remote.shortest_check_pause(ips));
        if verify.is_zero() || verify >= shortest || verify == ip.about.pace.verify {
            return None;
        }
        let (verify, shortest) = (verify.as_secs_f64(), shortest.as_secs());
        let whose =
            if ips == 1 { "for one IP".into() } else { format!("for the {ips} IPs of this username") };
        Some(format!(
            "Legion {}, legion-lord: verify is {verify} s, but the API's limit an hour allows no more than a check each \
             {shortest} s {whose}: it is asked less often than that; set verify={shortest} or more",
            ip.legion.name()
        ))
    };
    lords.iter().filter_map(warning).collect()
}

fn about_legion(legion: Legion, has_our_lord: bool) -> Vec<String> {
    let name = legion.name();
    let mut warnings = Vec::new();
    for line in legion.hooks() {
        if action(&line.action).is_none() && !uwsgi::has_action(&line.action) {
            let (phase, action) = (line.phase, printable(&String::from_utf8_lossy(&line.action), &[]));
            warnings.push(format!("Legion {name}, {phase}: nobody has registered an action \"{action}\""));
        }
    }
    if !has_our_lord {
        warnings.push(format!(
            "Legion {name} has no legion-lord hook with hetzner-failoverip: no failover IP follows its Lord"
        ));
        return warnings;
    }
    let size = legion.configured_size();
    let quorum = usize::try_from(legion.quorum()).unwrap_or(0);
    match size {
        _ if quorum == 0 && size.is_none_or(|size| size >= 3) => {
            let majority =
                size.map_or_else(|| "more than half of its nodes".into(), |size| (size / 2 + 1).to_string());
            warnings.push(format!(
                "Legion {name} has no legion-quorum: cut apart it has a Lord on each side; set legion-quorum = {name} \
                 {majority}"
            ));
        }
        Some(size) if quorum > size => warnings.push(format!(
            "Legion {name}: legion-quorum is {quorum}, but there are {size} with this one and each legion-node: it never \
             has a Lord; set legion-quorum = {name} {}",
            size / 2 + 1
        )),
        Some(size) if quorum == size && size >= 2 => {
            let remedy = if size >= 3 {
                format!("; set legion-quorum = {name} {}", size / 2 + 1)
            } else {
                // Of two, one is no majority: only a third node helps, which may be an arbiter.
                String::new()
            };
            warnings.push(format!(
                "Legion {name}: legion-quorum is {quorum}, and there are {size} with this one and each legion-node: when \
                 one of them is down it has no Lord{remedy}"
            ));
        }
        Some(size) if quorum > 0 && quorum <= size / 2 => warnings.push(format!(
            "Legion {name}: legion-quorum is {quorum}, but there are {size} with this one and each legion-node: cut apart it \
             has a Lord on each side; set legion-quorum = {name} {}",
            size / 2 + 1
        )),
        _ => {}
    }
    match legion.valor() {
        0 => warnings.push(format!(
            "Legion {name}: this node's valor is 0, an arbiter's: it votes and is never Lord, so that its legion-lord \
             hook never runs"
        )),
        valor if valor > LARGEST_VALOR => warnings.push(format!(
            "Legion {name}: this node's valor is {valor}, but its peers keep no more than {LARGEST_VALOR}: nobody is \
             ever elected; choose a smaller one"
        )),
        _ => {}
    }
    warnings.extend(mistaken_nodes(legion));
    warnings
}

/// The ini of one node, copied to another, names that one itself: then no number of votes is a majority of what it names.
fn mistaken_nodes(legion: Legion) -> Vec<String> {
    let name = legion.name();
    let own = legion.listens_at();
    let is_own = |node: &str| {
        let Ok(own) = own.parse::<SocketAddr>() else { return node == own };
        let Ok(node) = node.parse::<SocketAddr>() else { return false };
        let any = own.ip().is_unspecified() && sys::is_here(node.ip()) == Some(true);
        node.port() == own.port() && (node.ip() == own.ip() || any) && !node.ip().is_multicast()
    };
    let nodes = legion.node_addresses();
    let mut warnings = Vec::new();
    for (at, node) in nodes.iter().enumerate() {
        if is_own(node) {
            warnings.push(format!(
                "Legion {name}: legion-node = {name} {node} is this node itself: leave it out"
            ));
        } else if nodes[..at].contains(node) {
            warnings
                .push(format!("Legion {name}: legion-node = {name} {node} is there twice: leave one out"));
        }
    }
    warnings
}

/// What every hoster's IPs have in common.
fn about(ip: &FailoverIp) -> impl Iterator<Item = String> {
    let (common, pace, Api { host, tls, is_here, .. }) = (&ip.common, &ip.about.pace, ip.remote.api());
    [
        (tls == Tls::None && !is_here)
            .then(|| format!("url is plain http to {host}: the password crosses the network unprotected; use https")),
        (common.deadline < pace.shortest_deadline).then(|| {
            let (deadline, longest) = (common.deadline.as_secs_f64(), pace.longest_switch.as_secs());
            let shortest = pace.shortest_deadline.as_secs();
            format!(
                "deadline is {deadline} s (unless set, three times timeout), but a switch takes up to {longest} s: what \
                 is given up before may be made all the same, and the next node moves the IP again; set deadline={shortest} \
                 or more"
            )
        }),
        common.ssl_no_verify.then(|| {
            format!("ssl_no_verify is set: whoever is on the way to {host} can read the password; leave it out")
        }),
        ip.remote.secret().path().and_then(readable_by_others),
        ip.remote.secret().path().and_then(unreadable_later),
        unresolvable(&host),
    ]
    .into_iter()
    .flatten()
}

fn others_may_read(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o004 != 0)
}

fn readable_by_others(path: &Path) -> Option<String> {
    let shown = path.display();
    others_may_read(path).then(|| format!("password_file={shown} is readable by others: chmod o-r {shown}"))
}

/// Asked of the kernel, as who the master will be: what uWSGI's `uid`, `gid`, `add-gid` and `chroot` leave.
fn unreadable_later(path: &Path) -> Option<String> {
    let (uid, tried) = uwsgi::try_to_read(path)?;
    let (why, shown) = (tried.err()?, path.display());
    let (place, remedy) = match uwsgi::chroot() {
        None => (String::new(), format!("let uid {uid} read it: chgrp to its group, and chmod 640")),
        Some(root) => {
            let root = root.display();
            (format!(" in chroot {root}"), format!("put it there, so that uid {uid} can read it"))
        }
    };
    Some(format!(
        "password_file={shown} cannot be read as uid {uid}{place} ({why}): until uWSGI is stopped, what was read now is \
         used, and a new password needs a restart; after a reload it cannot be read at all; {remedy}"
    ))
}

/// Inside a chroot a name is looked up by what is there.
fn unresolvable(host: &str) -> Option<String> {
    const RESOLVER: &str = "/etc/resolv.conf";
    let root = uwsgi::chroot()?;
    if host.parse::<std::net::IpAddr>().is_ok() {
        return None;
    }
    let (_, tried) = uwsgi::try_to_read(Path::new(RESOLVER))?;
    let (why, root) = (tried.err()?, root.display());
    Some(format!(
        "{host} cannot be resolved in chroot {root}, where {RESOLVER} cannot be read ({why}): put {RESOLVER}, /etc/hosts \
         and /etc/nsswitch.conf there"
    ))
}

/// The options that name a file of configuration, beside the command line itself.
const CONFIGURATION: [&str; 10] =
    ["ini", "yaml", "yml", "xml", "json", "config", "include", "inherit", "template", "fallback-config"];

/// What holds a hook with its password, and may be read by everybody on this machine.
fn readable_configurations() -> Vec<String> {
    let command_line = fs::read("/proc/self/cmdline").unwrap_or_default();
    let mut warnings = Vec::new();
    if holds_a_password(&command_line) {
        warnings.push(
            "a hook with its password stands on the command line, which everybody on this machine may read: put it into \
             an ini"
                .into(),
        );
    }
    let named = uwsgi::options().into_iter().filter(|(key, _)| CONFIGURATION.contains(&key.as_str()));
    let arguments = command_line.split(|byte| *byte == 0).skip(1);
    let arguments = arguments.map(|text| PathBuf::from(String::from_utf8_lossy(text).into_owned()));
    let mut files: Vec<PathBuf> = named.map(|(_, path)| path).chain(arguments).map(without_section).collect();
    files.sort();
    files.dedup();
    for file in files.iter().filter(|file| others_may_read(file)) {
        if fs::read(file).is_ok_and(|content| holds_a_password(&content)) {
            let file = file.display();
            warnings.push(format!(
                "{file} holds the password, and is readable by others: chmod o-r {file}, and chgrp it to uWSGI's group, since \
                 a reload has to read it"
            ));
        }
    }
    for file in &files {
        // uWSGI reads its configuration anew as who it is by then.
        if let Some((uid, Err(why))) = uwsgi::try_to_read(file).filter(|_| file.is_file()) {
            let file = file.display();
            warnings.push(format!(
                "{file} cannot be read as uid {uid} ({why}): a reload ends uWSGI; chgrp it to uWSGI's group, and chmod 640"
            ));
        }
    }
    warnings
}

/// `FILE:SECTION` is how an ini's section is named.
fn without_section(path: PathBuf) -> PathBuf {
    let text = path.to_string_lossy();
    match text.rsplit_once(':') {
        Some((file, _)) if !path.exists() => file.into(),
        _ => path,
    }
}

/// Whether there is a hook of ours with a password that is written there, not put there by `$(NAME)` or `@(file)`.
fn holds_a_password(content: &[u8]) -> bool {
    let mut hooks = content.split(|byte| matches!(byte, b'\n' | 0)).filter(|line| {
        let text = String::from_utf8_lossy(line);
        hosters().iter().any(|about| text.contains(&*about.takes_over.to_string_lossy()))
            && !text.trim_start().starts_with(['#', ';'])
    });
    hooks.any(|line| {
        let text = String::from_utf8_lossy(line);
        let after = |key: &str| text.split_once(key).map(|(_, value)| value.to_string());
        let value = after("password=").or_else(|| after("pass="));
        value.is_some_and(|value| !value.starts_with("$(") && !value.starts_with("@("))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_found_where_it_is_written() {
        for (content, expected) in [
            ("legion-lord = x hetzner-failoverip:user=u,pass=p,ip=4.4.4.4", true),
            ("a\nlegion-lord = x hetzner-failoverip:user=u,password=p\nb", true),
            ("# legion-lord = x hetzner-failoverip:user=u,password=p", false),
            ("legion-lord = x hetzner-failoverip:user=u,password=$(ROBOT)", false),
            ("legion-lord = x hetzner-failoverip:user=u,pass=@(/etc/robot)", false),
            ("legion-lord = x hetzner-failoverip:user=u,password_file=/etc/robot", false),
            ("mysql = password=p", false),
        ] {
            assert_eq!(holds_a_password(content.as_bytes()), expected, "{content}");
        }
    }
}
