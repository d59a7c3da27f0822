//! Where problems and warnings of the start are told.
//!
//! When uWSGI has read its configuration its logs are not open yet, and what it prints may be discarded: Debian's init
//! script does that. So what ends a start is also written to the files that uWSGI is about to log to, and to syslog.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};

use super::{Hook, Reading};
use crate::uwsgi::{self, LogFile, log};

/// Says each problem in every place where an operator may look for it.
pub fn refuse(problems: &[String]) {
    for problem in problems {
        log(problem);
        uwsgi::syslog(problem);
    }
    uwsgi::log_files().iter().for_each(|file| append(file, problems));
}

impl Reading {
    /// Logs every warning, once uWSGI has opened its logs.
    pub fn warn(&self) {
        let lines: Vec<String> =
            self.warnings.iter().map(|(_, warning)| format!("warning: {warning}")).collect();
        lines.iter().for_each(|line| log(line));
        if !uwsgi::is_reload() {
            uwsgi::log_files().iter().filter(|file| file.last).for_each(|file| append(file, &lines));
        }
    }

    /// Triggers the alarms of wrong hooks, each once, when uWSGI goes on despite them. A wrong option concerns all hooks.
    pub fn trigger_alarms(&self) {
        let Some(first) = self.problems.first() else { return };
        let more = match self.problems.len() {
            1 => String::new(),
            all => format!(" (and {} more, see the log)", all - 1),
        };
        let is_wrong = |hook: &&Hook| self.has_wrong_options || !hook.problems.is_empty();
        let wrong = self.hooks.iter().filter(is_wrong);
        for alarm in wrong.filter_map(|hook| hook.alarm.as_ref()).collect::<BTreeSet<_>>() {
            uwsgi::alarm(alarm, &format!("{first}{more}"));
        }
    }
}

/// Appends to a log as uWSGI would. A log that uWSGI opens after it has changed its user is not created here, because that
/// user could not open it then; and links are not followed there, because that user may have made them.
fn append(file: &LogFile, lines: &[String]) {
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY | if file.later { libc::O_NOFOLLOW } else { 0 };
    let opened =
        File::options().append(true).create(!file.later).mode(0o640).custom_flags(flags).open(&file.path);
    let Ok(mut opened) = opened else { return };
    // If standard error is this file, the lines are in it already.
    let id = |file: fs::Metadata| (file.dev(), file.ino());
    let stderr = fs::metadata("/proc/self/fd/2").map(id);
    if stderr.is_ok_and(|stderr| opened.metadata().map(id).is_ok_and(|log| log == stderr)) {
        return;
    }
    let text: String = lines.iter().map(|line| uwsgi::line(line) + "\n").collect();
    // If this fails, the lines have still been printed.
    let _ = opened.write_all(text.as_bytes());
}
