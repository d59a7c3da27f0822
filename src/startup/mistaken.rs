//! What can only be a mistake, though each hook on its own is valid.

use super::{Hook, LORD, actions, lord_ips};
use crate::config::distance;
use crate::failover::FailoverIp;
use crate::text::printable;
use crate::uwsgi::{self, HookLine, Legion};

/// How many characters of an action's name may be mistyped.
const MISTYPED: usize = 3;

/// What is wrong with a hook whose action is not registered, and whether one of this plugin's must be meant: then uWSGI
/// would only log an error when it runs the hook, and make the node Lord.
pub fn unknown_action(legion: Legion, line: &HookLine) -> Option<(String, bool)> {
    if uwsgi::has_action(&line.action) {
        return None;
    }
    let plain = |text: &str| -> String {
        text.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
    };
    let written = String::from_utf8_lossy(&line.action);
    let distances = actions().into_iter().map(|(name, _)| (distance(&plain(&written), &plain(name)), name));
    let (distance, meant) = distances.min()?;
    let is_ours = distance <= MISTYPED || plain(&written).starts_with("hetzner");
    let hint = if is_ours { format!("did you mean {meant}?") } else { "no plugin provides it".into() };
    let (name, phase, shown) = (legion.name(), line.phase, printable(&written, &[]));
    Some((format!("Legion {name}, {phase}: unknown action \"{shown}\": {hint}"), is_ours))
}

/// The failover IPs that two lord hooks would take from each other.
pub fn two_masters(hooks: &[Hook]) -> Vec<String> {
    let lords = lord_ips(hooks);
    // The first conflict of each IP is enough.
    let first = |(at, ip): (usize, &&FailoverIp)| lords[..at].iter().find_map(|other| conflict(ip, other));
    lords.iter().enumerate().filter_map(first).collect()
}

fn conflict(ip: &FailoverIp, other: &FailoverIp) -> Option<String> {
    let target = |ip: &FailoverIp| match ip.remote.target() {
        Ok(target) => format!("{}={target}", ip.about.target_key),
        Err(_) => "this host's own address".into(),
    };
    let (name, target, other_target) = (ip.name(), target(ip), target(other));
    let why = match () {
        () if ip.remote.identity() != other.remote.identity() => return None,
        () if ip.legion != other.legion => "each Legion elects its own Lord",
        () if target != other_target => "it cannot be routed to both",
        () => return None,
    };
    let [place, other_place] = [ip, other].map(|ip| format!("Legion {}, {LORD}", ip.legion.name()));
    Some(format!(
        "{place}: ip={name} with {target} is also in {other_place}, with {other_target}: {why}; keep one"
    ))
}
