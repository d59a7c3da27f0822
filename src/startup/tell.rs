//! Where it is told what was found at start.
//!
//! When uWSGI has read its configuration its logs are not open yet, and whoever started it may throw away what it prints:
//! Debian's init script does. So what ends a start also goes where uWSGI is about to log, and into the system's log.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};

use super::Reading;
use crate::uwsgi::{self, LogFile, log};

/// Says each problem wherever it may be looked for.
pub fn refuse(problems: &[String]) {
    for problem in problems {
        log(problem);
        uwsgi::syslog(problem);
    }
    for file in uwsgi::log_files() {
        append(&file, problems);
    }
}

impl Reading {
    /// Says every warning, once uWSGI has opened its logs.
    pub fn warn(&self) {
        let lines: Vec<String> = self.warnings.iter().map(|warning| format!("warning: {warning}")).collect();
        lines.iter().for_each(|line| log(line));
        if !uwsgi::is_reload() {
            uwsgi::log_files().iter().filter(|file| file.last).for_each(|file| append(file, &lines));
        }
    }

    /// Triggers the alarms of hooks that are wrong, where uWSGI goes on all the same.
    pub fn trigger_alarms(&self) {
        let Some(first) = self.problems.first() else { return };
        let more = match self.problems.len() {
            1 => String::new(),
            all => format!(" (and {} more, see the log)", all - 1),
        };
        let mut told: Vec<&String> = Vec::new();
        for alarm in &self.alarms {
            if !told.contains(&alarm) {
                told.push(alarm);
                uwsgi::alarm(alarm, &format!("{first}{more}"));
            }
        }
    }
}

/// Appends to a log as uWSGI would. One that it opens as another user is not made here, or that one could not open it; nor
/// is a link followed there, which that user may have laid.
fn append(file: &LogFile, lines: &[String]) {
    if lines.is_empty() {
        return;
    }
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY | if file.later { libc::O_NOFOLLOW } else { 0 };
    let opened =
        File::options().append(true).create(!file.later).mode(0o640).custom_flags(flags).open(&file.path);
    let Ok(mut opened) = opened else { return };
    // Where standard error is that file, it has been said there.
    let same = |a: &fs::Metadata, b: &fs::Metadata| (a.dev(), a.ino()) == (b.dev(), b.ino());
    if let (Ok(stderr), Ok(file)) = (fs::metadata("/proc/self/fd/2"), opened.metadata()) {
        if same(&stderr, &file) {
            return;
        }
    }
    let text: String = lines.iter().map(|line| uwsgi::line(line) + "\n").collect();
    // What cannot be written there has been printed.
    let _ = opened.write_all(text.as_bytes());
}
