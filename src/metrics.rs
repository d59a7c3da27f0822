//! What the plugin counts, as uWSGI's own metrics: they reach the stats server, `metrics-dir`, carbon, statsd, SNMP.
//!
//! uWSGI reads the numbers itself, in the process that counts them. Without `enable-metrics` nothing reads them, and
//! storing a number costs nothing.

use std::sync::atomic::{AtomicI64, Ordering};

use crate::health::Health;
use crate::uwsgi::MetricKind::{self, Counter, Gauge};
use crate::uwsgi::{self, Legion};

/// Below uWSGI's own SNMP tree, in a branch that uWSGI leaves free: 3, 5 and 7 are workers, core and sockets.
const OID: &str = "4825";

/// The numbers of one failover IP in one Legion, since this process started.
#[derive(Default)]
pub struct Metrics {
    /// 1: the IP is here. 0: elsewhere or nowhere. -1: unknown.
    pub route: AtomicI64,
    pub takeovers: AtomicI64,
    pub takeover_failures: AtomicI64,
    /// Milliseconds.
    pub last_takeover_ms: AtomicI64,
    /// How often a Lord has found the IP elsewhere.
    pub drifts: AtomicI64,
    pub requests: AtomicI64,
    pub requests_held_back: AtomicI64,
    /// Requests that were refused, or got no clear answer.
    pub api_errors: AtomicI64,
    /// Whether this node could take over the IP. 1: yes. 0: no. -1: not known yet.
    pub ready: AtomicI64,
    /// Seconds since that was last found out; -1: never.
    pub ready_age: AtomicI64,
    /// Lines that trigger the hook's alarm, whether or not the hook names one.
    pub alarms: AtomicI64,
}

/// The numbers of this node in one Legion.
#[derive(Default)]
pub struct LegionMetrics {
    /// 1: all checks pass. 0: this node is sick. -1: not known yet.
    pub health: AtomicI64,
    /// 1: its drain file is there.
    pub drained: AtomicI64,
    /// The valor that it announces.
    pub rank: AtomicI64,
    /// Reloads after which its peers have seen the same node.
    pub reloads_survived: AtomicI64,
}

/// Adds one.
pub fn count(number: &AtomicI64) {
    number.fetch_add(1, Ordering::Relaxed);
}

/// 1: yes; 0: no; -1: unknown.
pub fn set(number: &AtomicI64, answer: Option<bool>) {
    number.store(answer.map_or(-1, i64::from), Ordering::Relaxed);
}

impl LegionMetrics {
    /// Registers them with uWSGI while it starts; `number`, from 1, tells them from other Legions' in SNMP.
    pub fn register(&'static self, legion: Legion, number: usize) {
        set(&self.health, None);
        let all = [
            ("health", Gauge, &self.health),
            ("drained", Gauge, &self.drained),
            ("rank", Gauge, &self.rank),
            ("reloads_survived", Counter, &self.reloads_survived),
        ];
        // The failover IPs are numbered from 1.
        register(&format!("{}.", legion.name()), &format!("0.{number}"), &all);
    }

    pub fn note_health(&self, health: &Health) {
        set(&self.health, health.passes());
        self.drained.store((health.drained() == Some(true)).into(), Ordering::Relaxed);
    }
}

impl Metrics {
    /// Registers them with uWSGI while it starts; `number` tells them from other IPs' in SNMP.
    pub fn register(&'static self, legion: Legion, name: &str, number: usize) {
        for unknown in [&self.route, &self.ready, &self.ready_age] {
            set(unknown, None);
        }
        let all = [
            ("route", Gauge, &self.route),
            ("takeovers", Counter, &self.takeovers),
            ("takeover_failures", Counter, &self.takeover_failures),
            ("last_takeover_ms", Gauge, &self.last_takeover_ms),
            ("drifts", Counter, &self.drifts),
            ("requests", Counter, &self.requests),
            ("requests_held_back", Counter, &self.requests_held_back),
            ("api_errors", Counter, &self.api_errors),
            ("ready", Gauge, &self.ready),
            ("ready_age", Gauge, &self.ready_age),
            ("alarms", Counter, &self.alarms),
        ];
        register(&format!("{}.{name}.", legion.name()), &number.to_string(), &all);
    }
}

/// A failover IP as uWSGI allows it in a metric's name: letters, digits, points, dashes and underscores.
pub fn plain(ip: &str) -> String {
    ip.chars().map(|c| if c.is_ascii_alphanumeric() || ".-_".contains(c) { c } else { '_' }).collect()
}

fn register(prefix: &str, number: &str, all: &[(&str, MetricKind, &'static AtomicI64)]) {
    for ((name, kind, value), position) in all.iter().zip(1..) {
        let name = plain(&format!("hetzner.{prefix}{name}"));
        uwsgi::register_metric(&name, &format!("{OID}.{number}.{position}"), *kind, value);
    }
}
