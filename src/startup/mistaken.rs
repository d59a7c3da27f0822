//! What can only be a mistake, though each hook alone is right.

use super::{Hook, hosters};
use crate::config::distance;
use crate::failover::FailoverIp;
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
    let names = hosters().into_iter().flat_map(|about| [about.takes_over, about.releases]);
    let names = names.map(|name| name.to_string_lossy());
    let close = names.map(|name| (distance(&plain(&written), &plain(&name)), name)).min()?;
    if close.0 > MISTYPED && !plain(&written).starts_with("hetzner") {
        return None;
    }
    let (name, phase, shown, meant) = (legion.name(), line.phase, printable(&written, &[]), close.1);
    Some(format!("Legion {name}, {phase}: there is no action \"{shown}\": did you mean {meant}?"))
}

/// The failover IPs that two lord hooks would take from each other.
pub fn two_masters(hooks: &[Hook]) -> Vec<String> {
    let lords: Vec<&FailoverIp> =
        hooks.iter().filter(|hook| hook.is_lord_hook()).flat_map(|hook| &hook.ips).collect();
    let mut problems = Vec::new();
    for (at, ip) in lords.iter().enumerate() {
        // One is enough to say so.
        for other in lords[..at].iter().filter(|other| other.remote.identity() == ip.remote.identity()) {
            let (legion, other_legion) = (ip.legion.name(), other.legion.name());
            let (name, target, other_target) = (ip.name(), target(ip), target(other));
            let why = if ip.legion != other.legion {
                "each Legion has a Lord of its own"
            } else if target != other_target {
                "it cannot be routed to both"
            } else {
                continue;
            };
            problems.push(format!(
                "Legion {legion}, legion-lord: ip={name} with {target} is also in Legion {other_legion}, legion-lord, with \
                 {other_target}: {why}; keep one"
            ));
            break;
        }
    }
    problems.dedup();
    problems
}

fn target(ip: &FailoverIp) -> String {
    let key = ip.about.target_key;
    ip.remote.target().map_or_else(|_| "this host's own address".into(), |target| format!("{key}={target}"))
}
