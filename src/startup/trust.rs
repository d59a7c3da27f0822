//! The trust store: read ahead of time, so that a takeover does not need the disk for it.

use std::time::Instant;

use crate::failover::FailoverIp;
use crate::hosters::Tls;
use crate::https::TrustStore;
use crate::sys::spawn;
use crate::uwsgi;

/// Reads it now if there will be a chroot, since only now are the files outside within reach; else notes that it is due.
/// Called while uWSGI reads its configuration.
pub fn prepare(trust: &TrustStore, ips: &[FailoverIp]) {
    let verifies = |ip: &FailoverIp| ip.remote.way().api().is_some_and(|api| api.tls == Tls::Verified);
    let is_needed = ips.iter().any(verifies);
    // If it cannot be read outside, it is tried inside, where the failure is logged.
    if is_needed && (uwsgi::chroot().is_none() || trust.read().is_err()) {
        trust.read_each_day();
    }
}

/// Reads the trust store in a thread, if that is due. Called about once a second.
pub fn read_if_due(trust: &'static TrustStore) {
    if trust.is_due(Instant::now()) {
        spawn("hetzner", || {
            if let Err(why) = trust.read() {
                uwsgi::log(&format!("warning: {why}"));
            }
        });
    }
}
