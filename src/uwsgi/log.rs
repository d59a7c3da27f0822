//! The log: lines go to uWSGI's log, in order, and no takeover waits for them.
//!
//! A log that accepts nothing (a full pipe, a stuck journal) blocks whoever writes to it. So a thread of its own writes the
//! lines, as soon as uWSGI has forked and threads may be started.

use std::ffi::CString;
use std::sync::mpsc::{self, SyncSender, TrySendError};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::calls::hetzner_call_log;
use crate::sys::{lock, spawn};

/// How many lines may wait for a blocked log: hours of a takeover that fails again and again.
const MOST_LINES: usize = 1000;

static WRITER: Mutex<Option<Writer>> = Mutex::new(None);

struct Writer {
    lines: SyncSender<String>,
    /// How many lines were passed to the thread, and how many were dropped because too many were waiting.
    given: u64,
    lost: u64,
    /// How many were written.
    written: Arc<(Mutex<u64>, Condvar)>,
}

/// `text` as a line of the log.
pub fn line(text: &str) -> String {
    format!("[hetzner-failoverip] {text}").replace(['\0', '\n', '\r'], "?")
}

/// Writes one line to uWSGI's log.
pub fn log(text: &str) {
    let line = line(text);
    let mut writer = lock(&WRITER);
    if let Some(writer) = &mut *writer {
        return writer.hand_over(line);
    }
    // Not under the lock, because other threads need it.
    drop(writer);
    write(&line);
}

impl Writer {
    fn hand_over(&mut self, line: String) {
        if self.lost > 0 {
            let lost = self::line(&format!("{} lines are lost: the log did not take them", self.lost));
            match self.lines.try_send(lost) {
                Ok(()) => (self.lost, self.given) = (0, self.given + 1),
                Err(_) => return self.lost += 1,
            }
        }
        match self.lines.try_send(line) {
            Ok(()) => self.given += 1,
            Err(TrySendError::Full(_)) => self.lost += 1,
            // Never happens: the thread does not end.
            Err(TrySendError::Disconnected(line)) => write(&line),
        }
    }
}

/// Starts the thread that writes. Until then whoever logs a line writes it. To be called after uWSGI has forked.
pub fn start_writer() {
    let mut writer = lock(&WRITER);
    if writer.is_some() {
        return;
    }
    let (lines, waiting) = mpsc::sync_channel::<String>(MOST_LINES);
    let written = Arc::new((Mutex::new(0), Condvar::new()));
    let progress = Arc::clone(&written);
    let work = move || {
        while let Ok(line) = waiting.recv() {
            write(&line);
            let (count, changed) = &*progress;
            *lock(count) += 1;
            changed.notify_all();
        }
    };
    // If the system has no thread left, whoever logs a line goes on writing it.
    if spawn("hetzner-log", work).is_some() {
        *writer = Some(Writer { lines, given: 0, lost: 0, written });
    }
}

/// Whether threads may be started, because uWSGI has forked.
pub fn may_have_threads() -> bool {
    lock(&WRITER).is_some()
}

/// Waits until all lines so far are written, but no longer than `limit`.
pub fn flush(limit: Duration) {
    let (given, written) = match &*lock(&WRITER) {
        Some(writer) => (writer.given, Arc::clone(&writer.written)),
        None => return,
    };
    let end = Instant::now() + limit;
    let (count, changed) = &*written;
    let mut count = lock(count);
    while *count < given {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        count = changed.wait_timeout(count, left).unwrap_or_else(PoisonError::into_inner).0;
    }
}

fn write(line: &str) {
    let Ok(line) = CString::new(line) else { return };
    // SAFETY: a NUL-terminated string, which uwsgi_log() copies before it returns. It formats into a buffer of its own
    // and writes once, so any thread may call it.
    unsafe { hetzner_call_log(line.as_ptr()) }
}
