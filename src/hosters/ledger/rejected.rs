//! The logins that were rejected in the last minutes, for the other processes of this server. A monitor that asks once a
//! minute is a new process each time: without this, its third login would have the server's address locked out.
//!
//! They are in a small file in memory: in /run, or in /dev/shm if the user may not write there; if $TMPDIR is set, only
//! there. Each user of the system has a file. It is read before each request, and written only after a rejected login. It
//! does not contain the login: user and API are stored as a hash with this file's own key, and of the password's hash one
//! byte, so that a new password is not held back. One password in 256 has the same byte, so it does not reveal which one
//! it is. A file that belongs to another user, or that is not a plain file, is ignored. If anything fails here, the
//! request is sent: this process's own memory still counts.

use std::collections::hash_map::{DefaultHasher, RandomState};
use std::env;
use std::fs::{File, OpenOptions};
use std::hash::{BuildHasher, BuildHasherDefault};
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, fchown};
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::{Account, Hold, LockOut};
use crate::uwsgi;

/// What the file begins with.
const HEAD: &str = "uwsgi-hetzner";
/// A longer file is started again: some hundred lines.
const LONGEST: u64 = 8192;

/// Whether nothing may be sent with this login now.
pub fn held(login: &Account) -> Option<Hold> {
    let lock_out = login.limits.lock_out.as_ref()?;
    let remaining = Note::read(&mut open(false)?)?.held(login, lock_out, now())?;
    Some(Hold::locked_out(remaining, lock_out))
}

/// Notes that this login was rejected just now. `None` if it was not noted.
pub fn add(login: &Account) -> Option<()> {
    login.limits.lock_out.as_ref()?;
    let mut file = open(true)?;
    let (head, key) = match Note::read(&mut file) {
        Some(note) => (String::new(), note.key),
        None => {
            // If two processes do this at the same moment, only one of the two is read later: one more login is tried.
            let _ = file.set_len(0);
            let key = RandomState::new().hash_one(HEAD);
            (format!("{HEAD} {key:x}\n"), key)
        }
    };
    let Marks { who, password } = Marks::of(login, key);
    // One write, at the end of the file, so that nobody reads half of it.
    file.write_all(format!("{head}rejected {} {who:x} {password:x}\n", now()).as_bytes()).ok()
}

/// Notes that this login was accepted, if it was rejected before.
pub fn forget(login: &Account) -> Option<()> {
    login.limits.lock_out.as_ref()?;
    let note = Note::read(&mut open(false)?)?;
    let who = Marks::of(login, note.key).who;
    note.rejected(who, now()).next()?;
    open(true)?.write_all(format!("accepted {} {who:x} 0\n", now()).as_bytes()).ok()
}

/// What identifies a login in the file.
struct Marks {
    who: u64,
    password: u8,
}

impl Marks {
    fn of(login: &Account, key: u64) -> Marks {
        let hasher = BuildHasherDefault::<DefaultHasher>::default();
        let who = hasher.hash_one((key, login.api, login.user));
        let password = hasher.hash_one((key, who, login.secret)).to_be_bytes()[0];
        Marks { who, password }
    }
}

/// What the file says.
struct Note {
    key: u64,
    /// Whether it was rejected, when (Unix time), and whose login it was.
    lines: Vec<(bool, u64, Marks)>,
}

impl Note {
    /// `None` if it is empty, too long, or not in this format.
    fn read(file: &mut File) -> Option<Note> {
        let mut text = String::new();
        file.take(LONGEST).read_to_string(&mut text).ok()?;
        if text.len() as u64 >= LONGEST { None } else { Note::parse(&text) }
    }

    fn parse(text: &str) -> Option<Note> {
        let (head, rest) = text.split_once('\n')?;
        let hex = |digits: &str| u64::from_str_radix(digits, 16).ok();
        let key = hex(head.strip_prefix(HEAD)?.trim_start())?;
        let line = |line: &str| {
            let [what, at, who, password] = line.split(' ').collect::<Vec<_>>()[..] else { return None };
            let marks = Marks { who: hex(who)?, password: hex(password)?.try_into().ok()? };
            Some((what == "rejected", at.parse().ok()?, marks))
        };
        Some(Note { key, lines: rest.lines().filter_map(line).collect() })
    }

    /// When a user's logins were rejected since one was accepted, and with which password; the last one first. Times in
    /// the future are ignored: the clock was set back.
    fn rejected(&self, who: u64, now: u64) -> impl Iterator<Item = (u64, u8)> {
        let of_user = self.lines.iter().rev().filter(move |(.., marks)| marks.who == who);
        let since = of_user.take_while(|(is_rejected, ..)| *is_rejected);
        since.map(|(_, at, marks)| (*at, marks.password)).filter(move |(at, _)| *at <= now)
    }

    fn held(&self, login: &Account, lock_out: &LockOut, now: u64) -> Option<Duration> {
        let Marks { who, password } = Marks::of(login, self.key);
        let time = lock_out.time.as_secs();
        let within = |time: u64| self.rejected(who, now).take_while(move |(at, _)| now - at < time);
        let (last, _) = within(time).next()?;
        // After two, one at a time: it is known when an address is locked out, but not when a rejected login is forgotten.
        let is_one_too_many = within(2 * time).count() >= lock_out.rejected;
        let is_known = within(2 * time).any(|(_, known)| known == password);
        // Another password may be the right one, unless the address is already locked out.
        let is_locked_out = within(time).count() > lock_out.rejected;
        (is_one_too_many && is_known || is_locked_out).then(|| Duration::from_secs(last + time - now))
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// Opens the file. If there is none, it is made, but only to write to it.
fn open(to_write: bool) -> Option<File> {
    // A command that root runs is about the server, which root started and which runs as another user by now.
    let (user, _) = uwsgi::user();
    let owner = if user == 0 { uwsgi::user_to_be().unwrap_or(0) } else { user };
    let folders = env::var_os("TMPDIR").map_or(vec!["/run".into(), "/dev/shm".into()], |one| vec![one]);
    let paths = || folders.iter().map(|folder| PathBuf::from(folder).join(format!("{HEAD}-{owner}")));
    let open = |path: PathBuf, new: bool| {
        let mut options = OpenOptions::new();
        options.read(true).append(to_write).create_new(new).mode(0o600);
        // Does not follow a link, and does not wait for a pipe.
        let file = options.custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path).ok()?;
        if new && user != owner {
            fchown(&file, Some(owner), None).ok()?;
        }
        let found = file.metadata().ok()?;
        let is_plain = found.is_file() && found.nlink() == 1;
        (is_plain && found.uid() == owner && found.mode() & 0o077 == 0).then_some(file)
    };
    // If another process makes it first, that one is opened.
    let make = |path: PathBuf| open(path.clone(), true).or_else(|| open(path, false));
    let known = paths().find_map(|path| open(path, false));
    if to_write { known.or_else(|| paths().find_map(make)) } else { known }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hosters::robot::limits::LIMITS;

    const OLD: Account = Account { api: "robot", user: b"u", secret: b"old", limits: &LIMITS };

    fn held(note: &Note, login: &Account, now: u64) -> Option<Duration> {
        note.held(login, LIMITS.lock_out.as_ref().expect("Robot has one"), now)
    }

    fn note(lines: &[(&str, u64, &Account)]) -> Note {
        let key = 7;
        let lines = lines.iter().map(|(what, at, login)| {
            let Marks { who, password } = Marks::of(login, key);
            format!("{what} {at} {who:x} {password:x}\n")
        });
        Note::parse(&format!("{HEAD} {key:x}\n{}", lines.collect::<String>())).expect("as it is written")
    }

    #[test]
    fn two_rejected_logins_hold_for_ten_minutes() {
        let left = |note: &Note, now| held(note, &OLD, now).map(|left| left.as_secs());
        assert_eq!(left(&note(&[("rejected", 1000, &OLD)]), 1001), None);
        let twice = note(&[("rejected", 1000, &OLD), ("rejected", 1060, &OLD)]);
        // In the last row the clock was set back.
        for (now, expected) in [(1060, Some(600)), (1659, Some(1)), (1660, None), (900, None)] {
            assert_eq!(left(&twice, now), expected, "{now}");
        }
        let thrice = note(&[("rejected", 1000, &OLD), ("rejected", 1060, &OLD), ("rejected", 1660, &OLD)]);
        assert_eq!(left(&thrice, 1661), Some(599), "one at a time");
        let accepted = note(&[("rejected", 1000, &OLD), ("accepted", 1001, &OLD), ("rejected", 1002, &OLD)]);
        assert_eq!(left(&accepted, 1003), None);
    }

    #[test]
    fn a_new_password_is_tried_once() {
        // Only one that does not have the same byte by chance.
        let passwords = ["a", "b", "c", "d"].map(|password| Account { secret: password.as_bytes(), ..OLD });
        let new = passwords.iter().find(|new| Marks::of(new, 7).password != Marks::of(&OLD, 7).password);
        let new = new.expect("one of them");
        let twice = [("rejected", 1000, &OLD), ("rejected", 1001, &OLD)];
        assert!(held(&note(&twice), new, 1002).is_none());
        assert!(held(&note(&[twice[0], ("rejected", 1001, new)]), new, 1002).is_some());
        assert!(held(&note(&[twice[0], twice[1], ("rejected", 1002, new)]), &OLD, 1003).is_some());
        for other in [Account { api: "other", ..OLD }, Account { user: b"v", ..OLD }] {
            assert!(held(&note(&twice), &other, 1002).is_none());
        }
    }

    #[test]
    fn a_file_in_another_format_is_ignored() {
        for text in ["", "uwsgi-hetzner", "uwsgi-hetzner x\n", "another 7\nrejected 1 2 3\n"] {
            assert!(Note::parse(text).is_none(), "{text}");
        }
        let some = Note::parse("uwsgi-hetzner 7\nrejected\nrejected 1 2 3\nrejected x y z\n");
        assert_eq!(some.expect("a key").lines.len(), 1);
    }
}
