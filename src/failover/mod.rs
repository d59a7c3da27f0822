//! Failover: what a node does with its failover IPs as a member of its Legions.
//!
//! `run` runs a hook: a `takeover` of each IP, while the Legion is kept informed. From then on a `guard` checks the
//! route for as long as this node is Lord. The `keeper` keeps this node a member of its Legions; `readiness` finds out
//! in advance whether it could take over. This room uses uWSGI and the hosters' seam; it knows no hoster.

mod guard;
mod ip;
mod keeper;
mod readiness;
mod reign;
mod reload;
mod run;
mod takeover;

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use crate::config::LegionOptions;
use crate::hosters;
use crate::metrics;
use crate::sys::lock;
use crate::uwsgi::{Election, Legion};
use guard::Guard;
use ip::Known;
pub use ip::{FailoverIp, Records};
use keeper::Keeper;
use reload::Reload;
pub use reload::give_up;
pub use run::Turn;
pub use takeover::Verdict;

/// How far a takeover may exceed its deadline. If it takes longer, something outside holds it up, such as a log that
/// blocks or a proxy that trickles, and that must not hold up the Legion too.
const GRACE: Duration = Duration::from_secs(5);
/// How long a process that ends waits for its last lines to be written.
pub const LONGEST_FLUSH: Duration = Duration::from_secs(1);

/// What this process remembers of its Legions and failover IPs.
#[derive(Default)]
pub struct Node {
    pub records: Records,
    pub keeper: Keeper,
    reload: Reload,
    /// The failover IPs of its lord hooks.
    ips: OnceLock<Vec<FailoverIp>>,
    /// Whether the thread of the daily check runs.
    checks: AtomicBool,
    guards: Mutex<Vec<Arc<Guard>>>,
    /// The last election of each Legion.
    elections: Mutex<Vec<Arc<Election>>>,
    /// What became of lord hooks that an earlier one has run ahead of their turn: where their arguments are, and whether all
    /// their IPs are here.
    ahead: Mutex<Vec<(Legion, usize, bool)>>,
}

impl Node {
    /// Registers the metrics, and takes in the failover IPs of all lord hooks and the options of the Legions. Before uWSGI
    /// starts its Legions.
    pub fn prepare(&self, ips: Vec<FailoverIp>, options: impl Fn(Legion) -> LegionOptions) {
        let records = lock(&self.records);
        for (at, known) in records.iter().enumerate() {
            // With the same name, uWSGI would forget the one before.
            let (name, number) = (metrics::plain(&known.ip), at + 1);
            let is_same = |other: &Known| other.legion == known.legion && metrics::plain(&other.ip) == name;
            let is_taken = records[..at].iter().any(is_same);
            let name = if is_taken { format!("{name}_{number}") } else { name };
            known.record.metrics.register(known.legion, &name, number);
        }
        drop(records);
        self.keeper.prepare(&ips, options);
        let _ = self.ips.set(ips);
    }

    fn ips(&self) -> &[FailoverIp] {
        self.ips.get().map_or(&[], Vec::as_slice)
    }

    /// The election that this lord hook runs for, which it may share with the Legion's earlier lord hooks. Each of them
    /// has to call this, because a later one finds the election here. `argument` is the very text that uWSGI has passed.
    pub fn election(&self, legion: Legion, argument: &[u8]) -> Arc<Election> {
        let mut elections = lock(&self.elections);
        let (before, _) = legion.lord_hooks_around(argument);
        if !before.iter().any(|hook| hosters::takes_over(hook.action)) {
            elections.retain(|election| election.legion() != legion);
            lock(&self.ahead).retain(|(of, ..)| *of != legion);
        }
        if let Some(election) = elections.iter().find(|election| election.legion() == legion) {
            return Arc::clone(election);
        }
        let election = Election::of(legion);
        elections.push(Arc::clone(&election));
        election
    }
}
