//! What the plugin counts, as uWSGI's own metrics: they reach the stats server, `metrics-dir`, carbon, statsd, SNMP.
//!
//! uWSGI reads the numbers itself, from the process that counts. Without `enable-metrics` nobody does, and a number
//! that is stored costs nothing.

use std::sync::atomic::{AtomicI64, Ordering};

use crate::uwsgi::{self, Legion};

/// The numbers of one failover IP of one Legion, since this process started.
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
    /// Requests without a clear answer, and those that were refused.
    pub api_errors: AtomicI64,
    /// Whether this node could take the IP over. 1: it could; 0: it could not; -1: unknown yet.
    pub ready: AtomicI64,
    /// Seconds since that was last found out; -1: never.
    pub ready_age: AtomicI64,
    /// Lines for which somebody was to be woken, whether or not the hook names an alarm.
    pub alarms: AtomicI64,
}

/// One more.
pub fn count(number: &AtomicI64) {
    number.fetch_add(1, Ordering::Relaxed);
}

impl Default for Metrics {
    fn default() -> Metrics {
        let [zero, unknown] = [|| AtomicI64::new(0), || AtomicI64::new(-1)];
        Metrics {
            route: unknown(),
            takeovers: zero(),
            takeover_failures: zero(),
            last_takeover_ms: zero(),
            drifts: zero(),
            requests: zero(),
            requests_held_back: zero(),
            api_errors: zero(),
            ready: unknown(),
            ready_age: unknown(),
            alarms: zero(),
        }
    }
}

impl Metrics {
    /// Whether the IP is here; `None` where that is unknown.
    pub fn set_route(&self, is_here: Option<bool>) {
        self.route.store(is_here.map_or(-1, i64::from), Ordering::Relaxed);
    }

    /// Makes them known to uWSGI, while it starts; `number` tells them from others in SNMP.
    pub fn register(&'static self, legion: Legion, ip: &str, number: usize) {
        use uwsgi::MetricKind::{Counter, Gauge};
        // Letters, digits, points, dashes and underscores are allowed.
        let plain = |c: char| if c.is_ascii_alphanumeric() || ".-_".contains(c) { c } else { '_' };
        let prefix: String = format!("hetzner.{}.{ip}.", legion.name()).chars().map(plain).collect();
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
        for (position, (name, kind, value)) in all.into_iter().enumerate() {
            uwsgi::register_metric(
                &format!("{prefix}{name}"),
                &format!("{OID}.{number}.{}", position + 1),
                kind,
                value,
            );
        }
    }
}

/// Below uWSGI's own SNMP tree, where nothing else is: 3, 5 and 7 are workers, core and sockets.
const OID: &str = "4825";
