//! A secret: written into the hook, or into a file of its own.
//!
//! A file is read at each takeover, so that a new secret needs no restart. What was read last is kept: uWSGI drops its
//! privileges after it has read its configuration, and a file may be away for a moment when it counts.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::Duration;

use super::Key;
use crate::uwsgi;

/// Longer than any secret, shorter than what a mistaken path may lead to.
const LONGEST_SECRET: u64 = 4096;

/// How long a file may take to be read: a disk or a network that is stuck must hold nobody for good.
const LONGEST_READ: Duration = Duration::from_secs(5);

/// Where the secret stands. Cannot be printed.
#[derive(Clone)]
pub enum Secret {
    Given(Vec<u8>),
    File(Arc<SecretFile>),
}

pub struct SecretFile {
    /// What it holds, and the key that names it.
    keys: (Key, Key),
    /// Absolute: uWSGI changes its directory later.
    path: PathBuf,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    /// What was read last.
    secret: Option<Vec<u8>>,
    /// Why the file cannot be read now, and whether that was said.
    trouble: Option<(Unreadable, bool)>,
}

/// Why a file cannot be read now.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Unreadable {
    /// The secret that it should hold.
    pub key: Key,
    file: Key,
    path: PathBuf,
    why: Why,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Why {
    System(String),
    TooLong,
    Empty,
    TooSlow,
    NoThread,
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}={}: ", self.file, self.path.display())?;
        match &self.why {
            Why::System(error) => f.write_str(error),
            Why::TooLong => write!(f, "too long for a {}", self.key),
            Why::Empty => f.write_str("it is empty"),
            Why::TooSlow => write!(f, "not read within {} s", LONGEST_READ.as_secs()),
            Why::NoThread => f.write_str("the system has no thread left"),
        }
    }
}

impl Secret {
    /// The secret `key` in the file at `path`, which the key `file` names and which is looked for from the current
    /// directory.
    pub fn in_file(path: &Path, key: Key, file: Key) -> Secret {
        let path = std::path::absolute(path).unwrap_or_else(|_| path.into());
        Secret::File(Arc::new(SecretFile { keys: (key, file), path, kept: Mutex::default() }))
    }

    /// The secret, or why there is none. Where its file cannot be read now, but could be before, it is what was read then.
    pub fn read(&self) -> Result<Vec<u8>, Unreadable> {
        match self {
            Secret::Given(secret) => Ok(secret.clone()),
            Secret::File(file) => file.read(),
        }
    }

    /// Why the secret is not what is in its file now, where that is news.
    pub fn news(&self) -> Option<Unreadable> {
        let Secret::File(file) = self else { return None };
        let mut kept = file.kept();
        // Without a secret it is the failure that says so.
        kept.secret.as_ref()?;
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
        let Secret::File(file) = self else { return false };
        file.kept().trouble.is_some()
    }

    /// Where its file is, if it has one.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Secret::Given(_) => None,
            Secret::File(file) => Some(&file.path),
        }
    }
}

impl SecretFile {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self) -> Result<Vec<u8>, Unreadable> {
        // Not under the lock: a disk that hangs holds up this takeover alone.
        let read = self.read_in_time();
        let mut kept = self.kept();
        match read {
            Ok(secret) => {
                *kept = Kept { secret: Some(secret.clone()), trouble: None };
                Ok(secret)
            }
            Err(why) => {
                let (key, file) = self.keys;
                let why = Unreadable { key, file, path: self.path.clone(), why };
                if kept.trouble.as_ref().is_none_or(|(known, _)| *known != why) {
                    kept.trouble = Some((why.clone(), false));
                }
                kept.secret.clone().ok_or(why)
            }
        }
    }

    /// In a thread, once uWSGI has forked: nothing else limits the time that it takes.
    fn read_in_time(&self) -> Result<Vec<u8>, Why> {
        if !uwsgi::may_have_threads() {
            return read_now(&self.path);
        }
        let (tell, told) = mpsc::sync_channel(1);
        let path = self.path.clone();
        // Nobody may be waiting any more.
        uwsgi::spawn(move || drop(tell.send(read_now(&path)))).ok_or(Why::NoThread)?;
        told.recv_timeout(LONGEST_READ).map_err(|_| Why::TooSlow)?
    }
}

fn read_now(path: &Path) -> Result<Vec<u8>, Why> {
    let mut secret = Vec::new();
    let read = File::open(path).and_then(|file| file.take(LONGEST_SECRET + 1).read_to_end(&mut secret));
    read.map_err(|error| Why::System(error.to_string()))?;
    if secret.len() as u64 > LONGEST_SECRET {
        return Err(Why::TooLong);
    }
    if secret.last() == Some(&b'\n') {
        secret.pop();
        if secret.last() == Some(&b'\r') {
            secret.pop();
        }
    }
    if secret.is_empty() { Err(Why::Empty) } else { Ok(secret) }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_was_read_last_is_kept_and_that_is_said_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let secret = Secret::in_file(&path, Key::new(&["token"]), Key::new(&["token_file"]));
        assert!(secret.read().unwrap_err().to_string().ends_with("No such file or directory (os error 2)"));
        assert_eq!(secret.news(), None, "the failure has said it");
        for content in ["one", "two"] {
            fs::write(&path, content).unwrap();
            assert_eq!(secret.read().unwrap(), content.as_bytes());
        }
        assert_eq!(secret.news(), None);
        fs::remove_file(&path).unwrap();
        assert_eq!(secret.read().unwrap(), b"two");
        let expected = format!("token_file={}: No such file or directory (os error 2)", path.display());
        assert_eq!(secret.news().unwrap().to_string(), expected);
        assert_eq!((secret.read().unwrap(), secret.news()), (b"two".to_vec(), None));
        assert!(secret.is_kept());
        fs::write(&path, "three").unwrap();
        assert_eq!((secret.read().unwrap(), secret.news()), (b"three".to_vec(), None));
        assert!(!secret.is_kept());
        fs::write(&path, "\n").unwrap();
        assert_eq!(secret.read().unwrap(), b"three");
        assert!(secret.news().unwrap().to_string().ends_with("it is empty"), "a new trouble is news again");
    }
}
