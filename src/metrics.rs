//! What the plugin counts, as uWSGI's own metrics: they reach the stats server, `metrics-dir`, carbon, statsd, SNMP.
//!
//! uWSGI reads the numbers itself, from the process that counts. Without `enable-metrics` nobody does, and a number
//! that is stored costs nothing.

use std::net::IpAddr;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::failover::readiness::Readiness;
use crate::uwsgi::{self, Legion};

/// The numbers of one failover IP of one Legion, since this process started.
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
    /// Requests without a clear answer, and those that were refused.
    pub api_errors: AtomicI64,
    /// Whether this node could take the IP over. 1: it could; 0: it could not; -1: unknown yet.
    pub ready: AtomicI64,
    /// Seconds since that was last found out; -1: never.
    pub ready_age: AtomicI64,
    /// Lines for which somebody was to be woken, whether or not the hook names an alarm.
    pub alarms: AtomicI64,
    pub readiness: Readiness,
    last_alarm: Mutex<String>,
    /// What is wrong now, and was told.
    troubles: Mutex<Vec<&'static str>>,
}

/// One more.
pub fn count(number: &AtomicI64) {
    number.fetch_add(1, Ordering::Relaxed);
}

/// What [`Metrics::route`] is.
pub enum Place {
    Here,
    Elsewhere,
    Unknown,
}

impl Metrics {
    pub fn set_route(&self, place: Place) {
        let number = match place {
            Place::Here => 1,
            Place::Elsewhere => 0,
            Place::Unknown => -1,
        };
        self.route.store(number, Ordering::Relaxed);
    }

    /// Somebody was to be woken with this line.
    pub fn note_alarm(&self, line: &str) {
        count(&self.alarms);
        *self.last_alarm.lock().unwrap_or_else(PoisonError::into_inner) = line.into();
    }

    /// What it was for, last time.
    pub fn last_alarm(&self) -> String {
        self.last_alarm.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes that something is wrong, or not any more; returns whether that is new.
    pub fn set_trouble(&self, what: &'static str, is_there: bool) -> bool {
        let mut troubles = self.troubles.lock().unwrap_or_else(PoisonError::into_inner);
        let known = troubles.iter().position(|known| *known == what);
        match (known, is_there) {
            (None, true) => troubles.push(what),
            (Some(at), false) => drop(troubles.swap_remove(at)),
            _ => return false,
        }
        true
    }

    /// The numbers of `ip` in `legion`: the same ones each time.
    pub fn of(legion: Legion, ip: IpAddr) -> &'static Metrics {
        static ALL: Mutex<Vec<(Legion, IpAddr, &Metrics)>> = Mutex::new(Vec::new());
        let mut all = ALL.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((.., metrics)) = all.iter().find(|(l, i, _)| *l == legion && *i == ip) {
            return metrics;
        }
        let metrics: &Metrics = Box::leak(Box::default());
        metrics.set_route(Place::Unknown);
        metrics.ready.store(-1, Ordering::Relaxed);
        metrics.ready_age.store(-1, Ordering::Relaxed);
        all.push((legion, ip, metrics));
        metrics
    }

    /// Makes them known to uWSGI, while it starts; `number` tells them from others in SNMP.
    pub fn register(&'static self, legion: Legion, ip: IpAddr, number: usize) {
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
