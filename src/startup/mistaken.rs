//! What can only be a mistake, though each hook alone is right.

use super::{ACTIONS, Found};
use crate::config::distance;
use crate::failover::hook::Hook;
use crate::sys::net;
use crate::text::printable;
use crate::uwsgi::{self, HookLine, Legion};

/// How many characters of an action's name may be mistyped.
const MISTYPED: usize = 3;

/// What is wrong with a hook that names an action which nobody has registered, but means one of ours: uWSGI would log an
/// error when it is called, and make the node Lord.
pub fn looks_like_ours(legion: Legion, line: &HookLine) -> Option<String> {
    if uwsgi::has_action(&line.action) {
        return None;
    }
    let written = String::from_utf8_lossy(&line.action).into_owned();
    let plain = |text: &str| -> String {
        text.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
    };
    let close = ACTIONS.iter().map(|action| (distance(&plain(&written), &plain(action)), action)).min()?;
    if close.0 > MISTYPED && !plain(&written).starts_with("hetzner") {
        return None;
    }
    let (name, phase, shown, meant) = (legion.name(), line.phase, printable(&written, &[]), close.1);
    Some(format!("Legion {name}, {phase}: there is no action \"{shown}\": did you mean {meant}?"))
}

/// The failover IPs that two lord hooks would take from each other. At another URL it may be another one, as in a rehearsal
/// beside the real thing.
pub fn two_masters(found: &[Found]) -> Vec<String> {
    let lords: Vec<_> = found
        .iter()
        .filter(|found| found.is_lord_hook())
        .flat_map(|found| found.hooks.iter().map(move |hook| (found.legion, hook)))
        .collect();
    let mut problems = Vec::new();
    for (at, (legion, hook)) in lords.iter().enumerate() {
        let same_ip = |other: &Hook| {
            net(other.options.ip) == net(hook.options.ip) && other.options.url == hook.options.url
        };
        // One is enough to say so.
        for (other_legion, other) in lords[..at].iter().filter(|(_, other)| same_ip(other)) {
            let (name, other_name) = (legion.name(), other_legion.name());
            let (ip, target, other_target) = (hook.options.ip, target(hook), target(other));
            let why = if legion != other_legion {
                "each Legion has a Lord of its own"
            } else if target != other_target {
                "it cannot be routed to both"
            } else {
                continue;
            };
            problems.push(format!(
                "Legion {name}, legion-lord: ip={ip} with {target} is also in Legion {other_name}, legion-lord, with \
                 {other_target}: {why}; keep one"
            ));
            break;
        }
    }
    problems.dedup();
    problems
}

fn target(hook: &Hook) -> String {
    hook.active_ip().map_or_else(|_| "this host's own address".into(), |ip| format!("active_ip={ip}"))
}
