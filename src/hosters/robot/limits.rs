//! How often the Robot webservice is asked: what it allows (Robot webservice documentation, "Authentication" and
//! "Failover"), and what is left for a few nodes that share an account's 50 POST and 100 GET an hour.

use std::time::Duration;

use crate::hosters::ledger::{Limits, LockOut, Looks, Switches};

pub static LIMITS: Limits = Limits {
    // The third one locks an address out.
    lock_out: Some(LockOut { rejected: 2, time: Duration::from_secs(600) }),
    looks: Some(Looks {
        an_hour: 60,
        checks_an_hour: 45,
        are_all_requests: false,
        pause: Duration::from_secs(120),
        // Forty an hour, so that some are left for what happens.
        check_pause: Duration::from_secs(90),
        quick_checks: 15,
        slow_check: Duration::from_secs(120),
    }),
    switches: Some(Switches {
        an_hour: 15,
        pause: Duration::from_secs(240),
        turn: Duration::from_secs(300),
        at_once: 3,
        pauses: &[30, 60, 120, 240],
        calm: Duration::from_secs(600),
    }),
    remembered: 256,
    names: ["GET", "POST", "DELETE"],
};

/// A 403 says that asking again makes it worse, but not for how long; a lock-out lasts ten minutes.
pub const REFUSED_FOR: Duration = Duration::from_secs(600);
