//! How often one node may call a command for one IP: what it asks may have a limit that nobody here knows.

use std::time::Duration;

use crate::hosters::ledger::Limits;

pub const LIMITS: Limits = Limits {
    lock_out: None,
    looks_an_hour: 720,
    checks_an_hour: 600,
    look_pause: Duration::from_secs(30),
    check_pause: Duration::from_secs(5),
    quick_checks: 15,
    slow_check: Duration::from_secs(5),
    switches_an_hour: 60,
    switch_pause: Duration::from_secs(60),
    turn: Duration::from_secs(300),
    tries_at_once: 3,
    try_pauses: &[10, 30, 60, 120],
    calm: Duration::from_secs(600),
    refused_pause: Duration::from_secs(60),
    names: ["monitor", "start", "stop"],
};
