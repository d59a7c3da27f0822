//! The log: lines go where this uWSGI logs, in order, and nobody waits for them.
//!
//! A log that takes nothing (a full pipe, a stuck journal) would hold whoever writes a line, in the middle of a takeover.
//! So a thread writes them, once uWSGI has forked and threads may be started.

use std::ffi::CString;
use std::sync::mpsc::{self, SyncSender, TrySendError};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::calls::hetzner_call_log;
use crate::sys::spawn;

/// Lines that may wait for a log that takes none: hours of a takeover that fails again and again.
const MOST_LINES: usize = 1000;

static WRITER: Mutex<Option<Writer>> = Mutex::new(None);

struct Writer {
    lines: SyncSender<String>,
    /// How many were handed over, and lost since there were too many.
    given: u64,
    lost: u64,
    /// How many are written.
    written: Arc<(Mutex<u64>, Condvar)>,
}

/// `text` as it stands in a log.
pub fn line(text: &str) -> String {
    format!("[hetzner-failoverip] {text}").replace(['\0', '\n', '\r'], "?")
}

/// Writes one line to wherever this uWSGI logs.
pub fn log(text: &str) {
    let line = line(text);
    let mut writer = WRITER.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(writer) = &mut *writer {
        return writer.hand_over(line);
    }
    // Not under the lock, which others want, too.
    drop(writer);
    write(&line);
}

impl Writer {
    fn hand_over(&mut self, line: String) {
        if self.lost > 0 {
            let lost =
                format!("[hetzner-failoverip] {} lines are lost: the log did not take them", self.lost);
            match self.lines.try_send(lost) {
                Ok(()) => (self.lost, self.given) = (0, self.given + 1),
                Err(_) => return self.lost += 1,
            }
        }
        match self.lines.try_send(line) {
            Ok(()) => self.given += 1,
            Err(TrySendError::Full(_)) => self.lost += 1,
            // Its thread never ends.
            Err(TrySendError::Disconnected(line)) => write(&line),
        }
    }
}

/// Starts the thread that writes; until then each line is written by who has it. In the process that stays.
pub fn start_writer() {
    let mut writer = WRITER.lock().unwrap_or_else(PoisonError::into_inner);
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
            *count.lock().unwrap_or_else(PoisonError::into_inner) += 1;
            changed.notify_all();
        }
    };
    // Without a thread to be had, each line goes on being written by who has it.
    if spawn("hetzner-log", work).is_some() {
        *writer = Some(Writer { lines, given: 0, lost: 0, written });
    }
}

/// Whether threads of ours may be started: uWSGI has forked.
pub fn may_have_threads() -> bool {
    WRITER.lock().unwrap_or_else(PoisonError::into_inner).is_some()
}

/// Waits until all lines so far are written, but no longer than `limit`: for a process that is about to end.
pub fn flush(limit: Duration) {
    let (given, written) = match &*WRITER.lock().unwrap_or_else(PoisonError::into_inner) {
        Some(writer) => (writer.given, Arc::clone(&writer.written)),
        None => return,
    };
    let end = Instant::now() + limit;
    let (count, changed) = &*written;
    let mut count = count.lock().unwrap_or_else(PoisonError::into_inner);
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
    // SAFETY: a NUL-terminated string, which uwsgi_log() copies before it returns. It formats into a buffer
    // of its own and writes once, so that any thread may call it.
    unsafe { hetzner_call_log(line.as_ptr()) }
}
