//! The logins that were rejected in the last minutes, for the other processes of this machine: a monitor that asks each
//! minute is a new process each time, and without a memory the third one has this server's address locked out.
//!
//! A small file in memory (/run, or /dev/shm for who may not write there; $TMPDIR alone where that is set), of one user of
//! the system, read before each request and written after a rejected login only. It holds no login: the user and the API
//! as a hash with a key of this file's own, and of the password one byte, so that a new one is not held back; one byte
//! fits one password in 256, and so tells nobody which it is. A file that is not ours, or no plain file, is none.
//! Whatever goes wrong here, the request is sent: the ledger of this process still counts.

use std::collections::hash_map::{DefaultHasher, RandomState};
use std::env;
use std::fs::{File, OpenOptions};
use std::hash::{BuildHasher, Hash, Hasher};
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, fchown};
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::{Account, Hold, LockOut, Why};
use crate::uwsgi;

/// What the file begins with.
const HEAD: &str = "uwsgi-hetzner";
/// Beyond it the file is begun anew: some hundred lines.
const LONGEST: u64 = 8192;

/// Whether nothing is to be sent with this login now.
pub fn held(account: &Account) -> Option<Hold> {
    let lock_out = account.limits.lock_out.as_ref()?;
    let remaining = Note::read(&mut open(false)?)?.held(account, lock_out, now())?;
    Some(Hold { why: Why::LockedOut(lock_out), remaining, limits: account.limits })
}

/// Notes that this login was rejected just now.
pub fn add(login: &Account) {
    if login.limits.lock_out.is_none() {
        return;
    }
    let Some(mut file) = open(true) else { return };
    let note = Note::read(&mut file);
    let key = note.as_ref().map_or_else(|| RandomState::new().hash_one(HEAD), |note| note.key);
    let mut text = String::new();
    if note.is_none() {
        // Others that do the same at this moment read the last one's only, and try once more than they should.
        let _ = file.set_len(0);
        text = format!("{HEAD} {key:x}\n");
    }
    let Marks { who, password } = Marks::of(login, key);
    text += &format!("rejected {} {who:x} {password:x}\n", now());
    // One write, at the end: nobody reads half of it.
    let _ = file.write_all(text.as_bytes());
}

/// Notes that this login was accepted, where something else is noted of it.
pub fn forget(login: &Account) {
    let Some(note) =
        login.limits.lock_out.as_ref().and_then(|_| open(false)).and_then(|mut file| Note::read(&mut file))
    else {
        return;
    };
    let who = Marks::of(login, note.key).who;
    if note.rejected(who, now()).next().is_some() {
        if let Some(mut file) = open(true) {
            let _ = file.write_all(format!("accepted {} {who:x} 0\n", now()).as_bytes());
        }
    }
}

/// What stands for a login in the file.
struct Marks {
    who: u64,
    password: u8,
}

impl Marks {
    fn of(login: &Account, key: u64) -> Marks {
        let hash = |what: &dyn Fn(&mut DefaultHasher)| {
            let mut hasher = DefaultHasher::new();
            key.hash(&mut hasher);
            what(&mut hasher);
            hasher.finish()
        };
        let who = hash(&|hasher| (login.api, login.user).hash(hasher));
        let password = hash(&|hasher| (who, login.secret).hash(hasher)).to_be_bytes()[0];
        Marks { who, password }
    }
}

/// What the file says.
struct Note {
    key: u64,
    /// Whether it was rejected, when (Unix time), and of whom.
    lines: Vec<(bool, u64, Marks)>,
}

impl Note {
    /// `None` where it says nothing yet, or nothing that we would write.
    fn read(file: &mut File) -> Option<Note> {
        let mut text = String::new();
        file.take(LONGEST).read_to_string(&mut text).ok()?;
        if text.len() as u64 >= LONGEST { None } else { Note::parse(&text) }
    }

    fn parse(text: &str) -> Option<Note> {
        let (head, rest) = text.split_once('\n')?;
        let key = u64::from_str_radix(head.strip_prefix(HEAD)?.trim_start(), 16).ok()?;
        let line = |line: &str| {
            let [what, at, who, password] = line.split(' ').collect::<Vec<_>>()[..] else { return None };
            let marks = Marks {
                who: u64::from_str_radix(who, 16).ok()?,
                password: u8::from_str_radix(password, 16).ok()?,
            };
            Some((what == "rejected", at.parse().ok()?, marks))
        };
        Some(Note { key, lines: rest.lines().filter_map(line).collect() })
    }

    /// The rejected logins of one user since it was last accepted, the last one first: when, and of which password. A
    /// clock that was set back leaves times in the future.
    fn rejected(&self, who: u64, now: u64) -> impl Iterator<Item = (u64, u8)> {
        let of_it = self.lines.iter().rev().filter(move |(.., marks)| marks.who == who);
        let since = of_it.take_while(|(rejected, ..)| *rejected);
        since.map(|(_, at, marks)| (*at, marks.password)).filter(move |(at, _)| *at <= now)
    }

    fn held(&self, login: &Account, lock_out: &LockOut, now: u64) -> Option<Duration> {
        let Marks { who, password } = Marks::of(login, self.key);
        let (last, _) = self.rejected(who, now).next()?;
        let left =
            lock_out.time.checked_sub(Duration::from_secs(now - last)).filter(|left| !left.is_zero())?;
        let within = |time: Duration| {
            let lately = self.rejected(who, now).take_while(move |(at, _)| now - at < time.as_secs());
            lately.collect::<Vec<_>>()
        };
        // Two, and then one at a time: it is known when an address is locked out, but not when a rejected login is
        // forgotten.
        let rejected = within(2 * lock_out.time);
        let known = rejected.iter().any(|(_, of)| *of == password);
        // Another password may be the right one, unless the address is locked out by now.
        let locked_out = within(lock_out.time).len() > lock_out.rejected;
        (rejected.len() >= lock_out.rejected && known || locked_out).then_some(left)
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// The file; where there is none it is made, if it is to be written.
fn open(to_write: bool) -> Option<File> {
    // A command that root runs is about the server, which root has started and which is somebody else by now.
    let (user, _) = uwsgi::user();
    let owner = if user == 0 { uwsgi::user_to_be().unwrap_or(0) } else { user };
    let folders = match env::var_os("TMPDIR") {
        Some(folder) => vec![PathBuf::from(folder)],
        None => vec!["/run".into(), "/dev/shm".into()],
    };
    let paths = || folders.iter().map(|folder| folder.join(format!("{HEAD}-{owner}")));
    let open = |path: PathBuf, new: bool| {
        let mut options = OpenOptions::new();
        options.read(true).append(to_write).create_new(new).mode(0o600);
        // Neither elsewhere by a link, nor held up by a pipe.
        let file = options.custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path).ok()?;
        if new && user != owner {
            fchown(&file, Some(owner), None).ok()?;
        }
        let found = file.metadata().ok()?;
        let is_ours =
            found.is_file() && found.uid() == owner && found.nlink() == 1 && found.mode() & 0o077 == 0;
        is_ours.then_some(file)
    };
    // Another process may be the first one at this moment.
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
        note.held(login, LIMITS.lock_out.as_ref().expect("Robot locks out"), now)
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
        // And a clock may be set back.
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
        // One byte is the same for some.
        let passwords = ["a", "b", "c", "d"].map(|password| Account { secret: password.as_bytes(), ..OLD });
        let new = passwords.iter().find(|new| Marks::of(new, 7).password != Marks::of(&OLD, 7).password);
        let new = new.expect("one of them");
        let twice = [("rejected", 1000, &OLD), ("rejected", 1001, &OLD)];
        assert!(held(&note(&twice), new, 1002).is_none());
        assert!(held(&note(&[twice[0], ("rejected", 1001, new)]), new, 1002).is_some());
        assert!(held(&note(&[twice[0], twice[1], ("rejected", 1002, new)]), &OLD, 1003).is_some());
        let (elsewhere, else_user) = (Account { api: "other", ..OLD }, Account { user: b"v", ..OLD });
        assert!(
            held(&note(&twice), &elsewhere, 1002).is_none()
                && held(&note(&twice), &else_user, 1002).is_none()
        );
    }

    #[test]
    fn what_we_would_not_write_is_no_note() {
        for text in ["", "uwsgi-hetzner", "uwsgi-hetzner x\n", "another 7\nrejected 1 2 3\n"] {
            assert!(Note::parse(text).is_none(), "{text}");
        }
        let some = Note::parse("uwsgi-hetzner 7\nrejected\nrejected 1 2 3\nrejected x y z\n");
        assert_eq!(some.expect("a key").lines.len(), 1);
    }
}
