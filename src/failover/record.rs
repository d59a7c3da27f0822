//! What is known of one failover IP of one Legion, whichever hook it is in: what was counted, and what was told.

use std::sync::{Mutex, PoisonError};

use super::readiness::Readiness;
use crate::metrics::{Metrics, count};
use crate::uwsgi::Legion;

/// It lives as long as the process, since uWSGI reads its numbers.
#[derive(Default)]
pub struct Record {
    pub metrics: Metrics,
    pub readiness: Readiness,
    last_alarm: Mutex<String>,
    /// What is wrong now, and was told.
    troubles: Mutex<Vec<&'static str>>,
}

impl Record {
    /// Somebody was to be woken with this line.
    pub fn note_alarm(&self, line: &str) {
        count(&self.metrics.alarms);
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
}

/// All records of this process.
pub struct Records(Mutex<Vec<(Legion, String, &'static Record)>>);

impl Records {
    pub const fn new() -> Records {
        Records(Mutex::new(Vec::new()))
    }

    /// The record of `ip` in `legion`: the same one each time.
    pub fn of(&self, legion: Legion, ip: &str) -> &'static Record {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((.., record)) = all.iter().find(|(l, i, _)| *l == legion && i == ip) {
            return record;
        }
        let record: &Record = Box::leak(Box::default());
        all.push((legion, ip.into(), record));
        record
    }
}
