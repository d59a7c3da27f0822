//! How often one node may ask the Cloud API. A Project may send 3600 requests an hour, refilled by one a second (Hetzner
//! Cloud API, "Rate Limiting"); whatever else uses the Project shares them, so a node takes a small part. Polls of an action
//! are not counted here: each switch has its own few.

use std::time::Duration;

use crate::hosters::ledger::Limits;

/// For one floating IP.
pub const LIMITS: Limits = Limits {
    // None is documented.
    lock_out: None,
    looks_an_hour: 300,
    checks_an_hour: 90,
    look_pause: Duration::from_secs(12),
    check_pause: Duration::from_secs(40),
    quick_checks: 30,
    slow_check: Duration::from_secs(60),
    switches_an_hour: 15,
    switch_pause: Duration::from_secs(240),
    turn: Duration::from_secs(300),
    tries_at_once: 3,
    try_pauses: &[30, 60, 120, 240],
    calm: Duration::from_secs(600),
    refused_pause: Duration::from_secs(15),
    names: ["GET", "POST", "POST"],
};

/// For all of a Project's: their checks together are at most 600 an hour.
pub const OF_ALL: Limits = Limits { check_pause: Duration::from_secs(6), ..LIMITS };
