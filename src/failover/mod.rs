//! Failover: what a node does with its failover IPs as a member of its Legions.
//!
//! `run` is a hook's way: a `takeover` of each IP while the Legion is kept informed, and a `guard` that watches over the
//! route from then on, as long as this node is Lord. The `keeper` makes sure that this node is a member of its Legions;
//! `readiness` finds out ahead whether it could take over. This room uses uWSGI and the hosters' seam; it knows no
//! hoster.

mod guard;
mod ip;
mod keeper;
mod readiness;
mod record;
mod reign;
mod run;
mod takeover;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::uwsgi::{Election, Legion};
use guard::Guards;
pub use ip::FailoverIp;
pub use keeper::Keeper;
pub use readiness::Looks;
pub use record::Records;
pub use takeover::Verdict;

/// What a takeover may take beyond its deadline. Whatever holds it longer than that, a log that is stuck or a proxy that
/// trickles, holds the Legion too.
const GRACE: Duration = Duration::from_secs(5);
/// How long a node that ends waits for its last lines to be written.
pub const LONGEST_FLUSH: Duration = Duration::from_secs(1);

/// What this process remembers of its Legions and failover IPs.
pub struct Node {
    pub records: Records,
    pub keeper: Keeper,
    pub looks: Looks,
    pub guards: Guards,
    /// The last one of each Legion.
    elections: Mutex<Vec<Arc<Election>>>,
}

impl Node {
    pub const fn new() -> Node {
        Node {
            records: Records::new(),
            keeper: Keeper::new(),
            looks: Looks::new(),
            guards: Guards::new(),
            elections: Mutex::new(Vec::new()),
        }
    }

    /// The election that this lord hook runs for: its Legion's earlier hooks of ours may have run for the same. To be
    /// called by each of them, since a later one asks for it. `argument` is the very text that uWSGI has passed.
    pub fn election(&self, legion: Legion, argument: &[u8]) -> Arc<Election> {
        let mut elections = self.elections.lock().unwrap_or_else(PoisonError::into_inner);
        let known = elections.iter().position(|election| election.legion() == legion);
        match known {
            Some(at) if legion.has_run_one_before(argument) => Arc::clone(&elections[at]),
            _ => {
                known.map(|at| elections.swap_remove(at));
                let election = Election::of(legion);
                elections.push(Arc::clone(&election));
                election
            }
        }
    }
}
