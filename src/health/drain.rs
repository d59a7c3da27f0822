//! The drain file: while it is there, this node is drained.
//!
//! It is looked at in a thread of its own, because a file system that hangs (NFS) must hold up nothing.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI8, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::text::printable;
use crate::uwsgi;

const PAUSE: Duration = Duration::from_secs(1);
/// After how long a first look that hangs counts as a file that is not there.
const LONGEST_FIRST_LOOK: Duration = Duration::from_secs(3);

pub struct Drain {
    path: PathBuf,
    /// 1: there. 0: not there. -1: not looked yet.
    found: AtomicI8,
    runs: AtomicBool,
}

impl Drain {
    pub fn new(path: PathBuf) -> Drain {
        Drain { path, found: AtomicI8::new(-1), runs: AtomicBool::new(false) }
    }

    pub fn runs(&self) -> &AtomicBool {
        &self.runs
    }

    /// Whether it is there; `None` before the first look, for a while from when it began.
    pub fn is_there(&self, began: Option<&Instant>) -> Option<bool> {
        match self.found.load(Ordering::Relaxed) {
            ..0 => began.is_some_and(|began| began.elapsed() > LONGEST_FIRST_LOOK).then_some(false),
            found => Some(found > 0),
        }
    }

    pub fn go_on(&self, is_there: bool) {
        // Not if it was looked at already.
        let _ = self.found.compare_exchange(-1, is_there.into(), Ordering::Relaxed, Ordering::Relaxed);
    }

    pub fn describe(&self) -> String {
        format!("{} is there", self.name())
    }

    pub fn describe_gone(&self) -> String {
        format!("{} is not there", self.name())
    }

    fn name(&self) -> String {
        printable(&self.path.to_string_lossy(), &[])
    }

    /// Looks each second, for as long as this process lives.
    pub fn watch(&self) {
        let mut told = None;
        loop {
            let looked = look_for(&self.path);
            self.found.store(i8::from(looked == Ok(true)), Ordering::Relaxed);
            let trouble = looked.err();
            if trouble != told {
                if let Some(why) = &trouble {
                    let name = self.name();
                    uwsgi::log(&format!(
                        "warning: cannot look for the drain file {name}: {why}: it counts as not there"
                    ));
                }
                told = trouble;
            }
            thread::sleep(PAUSE);
        }
    }
}

/// Whether the file is there, or why that cannot be told.
pub fn look_for(path: &Path) -> Result<bool, String> {
    match fs::symlink_metadata(path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error.to_string()),
    }
}
