//! What is told at start: every hook of ours is read before anything is bound or forked, so that a mistake is found
//! now and not when the Lord dies.

use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use crate::hook::Hook;
use crate::host::{self, Legion};
use crate::options::{Options, Password, host_of};
use crate::own;
use crate::robot;
use crate::takeover::{LONGEST_SWITCH, SHORTEST_DEADLINE};

/// The actions that hooks may name.
pub const ACTIONS: [&str; 2] = ["hetzner-failoverip", "hetzner-failoverip-release"];

/// One hook of ours, where it stands, and what it says.
pub struct Found {
    pub legion: Legion,
    pub phase: &'static str,
    pub hooks: Vec<Hook>,
}

/// Every hook of ours in the configuration; or every problem, each with Legion, hook and key.
pub fn read_hooks() -> Result<Vec<Found>, Vec<String>> {
    let (mut found, mut problems) = (Vec::new(), Vec::new());
    for legion in host::legions() {
        for line in legion.hooks() {
            if !ACTIONS.iter().any(|action| action.as_bytes() == line.action) {
                continue;
            }
            let (name, phase) = (legion.name(), line.phase);
            match Hook::parse(legion, &line.argument) {
                Ok(hooks) => {
                    // The key is the hook's, so that each of its IPs has the same.
                    let alarm = hooks.first().and_then(|hook| hook.options.alarm.as_deref());
                    if let Some(alarm) = alarm.filter(|alarm| !host::has_alarm(alarm)) {
                        problems.push(format!(
                            "Legion {name}, {phase}: alarm={alarm} is no alarm: define it by alarm = {alarm} ..."
                        ));
                    }
                    found.push(Found { legion, phase, hooks });
                }
                Err(wrong) => {
                    problems.extend(wrong.iter().map(|wrong| format!("Legion {name}, {phase}: {wrong}")))
                }
            }
        }
    }
    if problems.is_empty() { Ok(found) } else { Err(problems) }
}

/// What works, but not as one may think: a line each, once.
pub fn warnings(found: &[Found]) -> Vec<String> {
    let mut warnings = Vec::new();
    if found.iter().any(|found| found.phase == "legion-lord") && !host::death_on_lord_error() {
        warnings.push(
            "legion-death-on-lord-error is unset: a node whose takeover fails becomes Lord without the IP; set it to \
             some seconds, so that the next node tries"
                .into(),
        );
    }
    for Found { legion, phase, hooks } in found {
        let name = legion.name();
        let size = legion.configured_size();
        if *phase == "legion-lord" && legion.quorum() == 0 && size.is_none_or(|size| size >= 3) {
            let majority =
                size.map_or_else(|| "more than half of its nodes".into(), |size| (size / 2 + 1).to_string());
            warnings.push(format!(
                "Legion {name} has no legion-quorum: cut apart it has a Lord on each side; set legion-quorum = {name} \
                 {majority}"
            ));
        }
        for hook in hooks {
            if *phase == "legion-lord" {
                let same_login = |other: &&Hook| other.options.login.username == hook.options.login.username;
                let lords = found.iter().filter(|found| found.phase == "legion-lord");
                let ips = lords.flat_map(|found| &found.hooks).filter(same_login).count();
                let text = robot::verify_warning(&hook.options, ips);
                warnings.extend(text.map(|text| format!("Legion {name}, {phase}: {text}")));
            }
            warnings.extend(about(&hook.options).map(|text| format!("Legion {name}, {phase}: {text}")));
        }
    }
    let mut once: Vec<String> = Vec::new();
    for warning in warnings {
        if !once.contains(&warning) {
            once.push(warning);
        }
    }
    once
}

/// How often the trust store is read again, in seconds: it changes with the system's updates.
const A_DAY: i64 = 24 * 3600;

/// Whether there is a hook that needs the trust store.
static NEEDS_TRUST_STORE: AtomicBool = AtomicBool::new(false);

pub fn note_what_to_read_ahead(found: &[Found]) {
    let mut hooks = found.iter().flat_map(|found| &found.hooks);
    NEEDS_TRUST_STORE.store(hooks.any(|hook| robot::needs_trust_store(&hook.options)), Ordering::Relaxed);
}

/// Reads the trust store in a thread, so that the night itself needs no disk for it; again each day. Called about once
/// a second.
pub fn read_ahead() {
    static NEXT: AtomicI64 = AtomicI64::new(0);
    let now = host::now();
    if now < NEXT.load(Ordering::Relaxed) {
        return;
    }
    NEXT.store(now + A_DAY, Ordering::Relaxed);
    host::spawn(|| {
        if NEEDS_TRUST_STORE.load(Ordering::Relaxed) {
            if let Err(failure) = robot::read_trust_store() {
                host::log(&format!("warning: {}", failure.sentence));
            }
        }
        host::give_back_soon();
    });
}

fn about(options: &Options) -> impl Iterator<Item = String> {
    let Options { ip, active_ip, ref url, ssl_no_verify, deadline, ref login, .. } = *options;
    let host = url.host().unwrap_or_default();
    let loopback = host == "localhost" || host_of(url).parse::<IpAddr>().is_ok_and(|host| host.is_loopback());
    [
        (!own::is_here(active_ip)).then(|| {
            format!("active_ip={active_ip} is on no interface of this host: is it another server's? Leave it out for this one's own")
        }),
        (!own::is_here(ip)).then(|| {
            format!("ip={ip} is on no interface of this host: routed here, it would reach nobody; configure it on one")
        }),
        (url.scheme_str() == Some("http") && !loopback)
            .then(|| format!("url is plain http to {host}: the password crosses the network unprotected; use https")),
        (deadline < SHORTEST_DEADLINE).then(|| {
            let (deadline, longest) = (deadline.as_secs_f64(), LONGEST_SWITCH.as_secs());
            let shortest = SHORTEST_DEADLINE.as_secs();
            format!(
                "deadline is {deadline} s (unless set, three times timeout), but a switch takes up to {longest} s: what \
                 is given up before may be made all the same, and the next node moves the IP again; set deadline={shortest} \
                 or more"
            )
        }),
        ssl_no_verify.then(|| {
            format!("ssl_no_verify is set: whoever is on the way to {host} can read the password; leave it out")
        }),
        match &login.password {
            Password::Given(_) => None,
            Password::File(path) => {
                let mode = fs::metadata(path).map_or(0, |file| file.permissions().mode());
                let path = path.display();
                (mode & 0o004 != 0).then(|| format!("password_file={path} is readable by others: chmod o-r {path}"))
            }
        },
    ]
    .into_iter()
    .flatten()
}
