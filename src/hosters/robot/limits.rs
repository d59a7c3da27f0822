//! How often one node may ask the Robot webservice. A few nodes share what an account may send: 50 POST and 100 GET an
//! hour (Robot webservice documentation, "Authentication" and "Failover").

use std::time::Duration;

use crate::hosters::ledger::{Limits, LockOut};

pub const LIMITS: Limits = Limits {
    // The third rejected login locks the address out.
    lock_out: Some(LockOut { rejected: 2, time: Duration::from_secs(600) }),
    looks_an_hour: 60,
    checks_an_hour: 45,
    look_pause: Duration::from_secs(120),
    // 40 an hour, which leaves some for takeovers.
    check_pause: Duration::from_secs(90),
    quick_checks: 15,
    slow_check: Duration::from_secs(120),
    switches_an_hour: 15,
    switch_pause: Duration::from_secs(240),
    turn: Duration::from_secs(300),
    tries_at_once: 3,
    try_pauses: &[30, 60, 120, 240],
    calm: Duration::from_secs(600),
    refused_pause: Duration::from_secs(60),
    names: ["GET", "POST", "DELETE"],
};

/// A 403 does not say for how long requests are refused. A lock-out lasts ten minutes.
pub const REFUSED_FOR: Duration = Duration::from_secs(600);
