//! The password: written into the hook, or into a file of its own.
//!
//! A file is read at each takeover, so that a new password needs no restart. What was read last is kept: uWSGI drops its
//! privileges after it has read its configuration, and a file may be away for a moment when it counts.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::Duration;

use crate::sys::spawn;
use crate::uwsgi;

/// Longer than any password, shorter than what a mistaken path may lead to.
const LONGEST_PASSWORD: u64 = 4096;

/// How long a file may take to be read: a disk or a network that is stuck must hold nobody for good.
const LONGEST_READ: Duration = Duration::from_secs(5);

/// Where the password stands. Cannot be printed.
#[derive(Clone)]
pub enum Password {
    Given(Vec<u8>),
    File(Arc<PasswordFile>),
}

/// A file that holds the password.
pub struct PasswordFile {
    /// Absolute: uWSGI changes its directory later.
    path: PathBuf,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    /// What was read last.
    password: Option<Vec<u8>>,
    /// Why the file cannot be read now, and whether that was said.
    trouble: Option<(String, bool)>,
}

impl Password {
    /// The password in the file at `path`, which is looked for from the current directory.
    pub fn in_file(path: &Path) -> Password {
        let path = std::path::absolute(path).unwrap_or_else(|_| path.into());
        Password::File(Arc::new(PasswordFile { path, kept: Mutex::default() }))
    }

    /// The password, or a sentence that says why there is none. Where its file cannot be read now, but could be before,
    /// it is what was read then.
    pub fn read(&self) -> Result<Vec<u8>, String> {
        match self {
            Password::Given(password) => Ok(password.clone()),
            Password::File(file) => file.read(),
        }
    }

    /// Why the password is not what is in its file now, where that is news.
    pub fn news(&self) -> Option<String> {
        let Password::File(file) = self else { return None };
        let mut kept = file.kept();
        // Without a password the sentence is the failure's.
        kept.password.as_ref()?;
        match &mut kept.trouble {
            Some((why, said @ false)) => {
                *said = true;
                Some(why.clone())
            }
            _ => None,
        }
    }

    /// Whether what was read before is used.
    pub fn is_kept(&self) -> bool {
        let Password::File(file) = self else { return false };
        file.kept().trouble.is_some()
    }
}

impl PasswordFile {
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self) -> Result<Vec<u8>, String> {
        // Not under the lock: a disk that hangs holds up this takeover alone.
        let read =
            self.read_in_time().map_err(|what| format!("password_file={}: {what}", self.path.display()));
        let mut kept = self.kept();
        match read {
            Ok(password) => {
                *kept = Kept { password: Some(password.clone()), trouble: None };
                Ok(password)
            }
            Err(why) => {
                if kept.trouble.as_ref().is_none_or(|(known, _)| *known != why) {
                    kept.trouble = Some((why.clone(), false));
                }
                kept.password.clone().ok_or(why)
            }
        }
    }

    /// In a thread, once uWSGI has forked: nothing else limits the time that it takes.
    fn read_in_time(&self) -> Result<Vec<u8>, String> {
        if !uwsgi::may_have_threads() {
            return read_now(&self.path);
        }
        let (tell, told) = mpsc::sync_channel(1);
        let path = self.path.clone();
        // Nobody may be waiting any more.
        if spawn("hetzner", move || drop(tell.send(read_now(&path)))).is_none() {
            return Err("the system has no thread left".into());
        }
        let too_long = |_| format!("not read within {} s", LONGEST_READ.as_secs());
        told.recv_timeout(LONGEST_READ).map_err(too_long)?
    }
}

fn read_now(path: &Path) -> Result<Vec<u8>, String> {
    let mut password = Vec::new();
    let read = File::open(path).and_then(|file| file.take(LONGEST_PASSWORD + 1).read_to_end(&mut password));
    read.map_err(|error| error.to_string())?;
    if password.len() as u64 > LONGEST_PASSWORD {
        return Err("too long for a password".into());
    }
    if password.last() == Some(&b'\n') {
        password.pop();
        if password.last() == Some(&b'\r') {
            password.pop();
        }
    }
    if password.is_empty() { Err("it is empty".into()) } else { Ok(password) }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_was_read_last_is_kept_and_that_is_said_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("password");
        let password = Password::in_file(&path);
        assert!(password.read().unwrap_err().ends_with("No such file or directory (os error 2)"));
        assert_eq!(password.news(), None, "the failure has said it");
        for content in ["one", "two"] {
            fs::write(&path, content).unwrap();
            assert_eq!(password.read().unwrap(), content.as_bytes());
        }
        assert_eq!(password.news(), None);
        fs::remove_file(&path).unwrap();
        assert_eq!(password.read().unwrap(), b"two");
        let expected = format!("password_file={}: No such file or directory (os error 2)", path.display());
        assert_eq!(password.news(), Some(expected));
        assert_eq!((password.read().unwrap(), password.news()), (b"two".to_vec(), None));
        assert!(password.is_kept());
        fs::write(&path, "three").unwrap();
        assert_eq!((password.read().unwrap(), password.news()), (b"three".to_vec(), None));
        assert!(!password.is_kept());
        fs::write(&path, "\n").unwrap();
        assert_eq!(password.read().unwrap(), b"three");
        assert!(password.news().unwrap().ends_with("it is empty"), "a new trouble is news again");
    }
}
