//! A secret: written into the hook, or into a file of its own.
//!
//! The file is read at each takeover, so that a new secret needs no restart. The secret that was read last is kept,
//! because uWSGI drops its privileges after it has read its configuration, and because the file may be missing when it
//! counts.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, mpsc};
use std::time::Duration;

use super::Key;
use crate::sys::{lock, spawn};
use crate::uwsgi;

/// Longer than any secret, shorter than most files that a wrong path may name.
const LONGEST_SECRET: u64 = 4096;

/// A disk or network that hangs must not block a takeover for good.
const LONGEST_READ: Duration = Duration::from_secs(5);

/// Cannot be printed.
#[derive(Clone)]
pub enum Secret {
    Given(Vec<u8>),
    File(Arc<SecretFile>),
}

pub struct SecretFile {
    /// The key that names it.
    key: Key,
    /// Absolute, because uWSGI changes its directory later.
    path: PathBuf,
    /// What is wrong with a content. Such a one counts as one that cannot be read.
    check: fn(&[u8]) -> Result<(), String>,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    /// What was read last.
    secret: Option<Vec<u8>>,
    /// Why the file cannot be read now, and whether [`Secret::news`] has returned that.
    trouble: Option<(String, bool)>,
}

impl Secret {
    /// The content of the file that `key` names, relative to the current directory.
    pub fn in_file(path: &Path, key: Key) -> Secret {
        Secret::in_checked_file(path, key, |_| Ok(()))
    }

    /// The same, if `check` finds nothing wrong with the content.
    pub fn in_checked_file(path: &Path, key: Key, check: fn(&[u8]) -> Result<(), String>) -> Secret {
        let path = std::path::absolute(path).unwrap_or_else(|_| path.into());
        Secret::File(Arc::new(SecretFile { key, path, check, kept: Mutex::default() }))
    }

    /// The secret, or why there is none. If its file cannot be read now, it is what was read last.
    pub fn read(&self) -> Result<Vec<u8>, String> {
        match self {
            Secret::Given(secret) => Ok(secret.clone()),
            Secret::File(file) => file.read(),
        }
    }

    /// Why the kept secret is used and not the file's, once for each reason.
    pub fn news(&self) -> Option<String> {
        let Secret::File(file) = self else { return None };
        let mut kept = file.kept();
        // Without a kept secret, read() has failed with the reason.
        kept.secret.as_ref()?;
        let (why, is_told) = kept.trouble.as_mut()?;
        (!std::mem::replace(is_told, true)).then(|| why.clone())
    }

    /// Whether the kept secret is used and not the file's.
    pub fn is_kept(&self) -> bool {
        matches!(self, Secret::File(file) if file.kept().trouble.is_some())
    }

    /// The file, and the key that names it.
    pub fn file(&self) -> Option<(Key, &Path)> {
        match self {
            Secret::Given(_) => None,
            Secret::File(file) => Some((file.key, &file.path)),
        }
    }
}

impl SecretFile {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        lock(&self.kept)
    }

    fn read(&self) -> Result<Vec<u8>, String> {
        // Not under the lock, so that a disk that hangs delays only this takeover.
        let read = self.read_in_time().and_then(|secret| (self.check)(&secret).map(|()| secret));
        let mut kept = self.kept();
        let why = match read {
            Ok(secret) => {
                *kept = Kept { secret: Some(secret.clone()), trouble: None };
                return Ok(secret);
            }
            Err(why) => format!("{}={}: {why}", self.key, self.path.display()),
        };
        if kept.trouble.as_ref().is_none_or(|(known, _)| *known != why) {
            kept.trouble = Some((why.clone(), false));
        }
        kept.secret.clone().ok_or(why)
    }

    /// Reads in a thread, once uWSGI has forked, because a file's read has no time limit.
    fn read_in_time(&self) -> Result<Vec<u8>, String> {
        if !uwsgi::may_have_threads() {
            return read_now(&self.path);
        }
        let (tell, told) = mpsc::sync_channel(1);
        let path = self.path.clone();
        // After the time limit nobody is waiting for it.
        let thread = spawn("hetzner", move || drop(tell.send(read_now(&path))));
        thread.ok_or("the system has no thread left to read it")?;
        let timeout = |_| format!("not read within {} s", LONGEST_READ.as_secs());
        told.recv_timeout(LONGEST_READ).map_err(timeout)?
    }
}

fn read_now(path: &Path) -> Result<Vec<u8>, String> {
    let mut secret = Vec::new();
    let read = File::open(path).and_then(|file| file.take(LONGEST_SECRET + 1).read_to_end(&mut secret));
    read.map_err(|error| error.to_string())?;
    if secret.len() as u64 > LONGEST_SECRET {
        return Err(format!("longer than {LONGEST_SECRET} bytes"));
    }
    if secret.last() == Some(&b'\n') {
        secret.pop();
        if secret.last() == Some(&b'\r') {
            secret.pop();
        }
    }
    if secret.is_empty() { Err("the file is empty".into()) } else { Ok(secret) }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_was_read_last_is_kept_and_that_is_said_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let secret = Secret::in_file(&path, Key::word(&["token_file"]));
        assert!(secret.read().unwrap_err().ends_with("No such file or directory (os error 2)"));
        assert_eq!(secret.news(), None, "read() has returned it");
        for content in ["one", "two"] {
            fs::write(&path, content).unwrap();
            assert_eq!(secret.read().unwrap(), content.as_bytes());
        }
        assert_eq!(secret.news(), None);
        fs::remove_file(&path).unwrap();
        assert_eq!(secret.read().unwrap(), b"two");
        let expected = format!("token_file={}: No such file or directory (os error 2)", path.display());
        assert_eq!(secret.news(), Some(expected));
        assert_eq!((secret.read().unwrap(), secret.news()), (b"two".to_vec(), None));
        assert!(secret.is_kept());
        fs::write(&path, "three").unwrap();
        assert_eq!((secret.read().unwrap(), secret.news()), (b"three".to_vec(), None));
        assert!(!secret.is_kept());
        fs::write(&path, "\n").unwrap();
        assert_eq!(secret.read().unwrap(), b"three");
        assert!(secret.news().unwrap().ends_with("the file is empty"), "another reason is told again");
    }
}
