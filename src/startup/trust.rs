//! The trust store: read ahead, so that the night itself needs no disk for it.

use std::time::Instant;

use crate::failover::FailoverIp;
use crate::hosters::Tls;
use crate::https::TrustStore;
use crate::sys::spawn;
use crate::uwsgi;

/// Reads it where there will be a chroot, since what is outside can be read only now; else notes that it is due. While
/// uWSGI reads its configuration.
pub fn prepare(trust: &TrustStore, ips: &[FailoverIp]) {
    if !ips.iter().any(|ip| ip.remote.api().tls == Tls::Verified) {
        return;
    }
    // What cannot be read outside is tried inside, where that is told.
    if uwsgi::chroot().is_none() || trust.read().is_err() {
        trust.read_each_day();
    }
}

/// Reads the trust store in a thread, where that is due. Called about once a second.
pub fn read_if_due(trust: &'static TrustStore) {
    if trust.is_due(Instant::now()) {
        spawn("hetzner", || {
            if let Err(why) = trust.read() {
                uwsgi::log(&format!("warning: {why}"));
            }
        });
    }
}
