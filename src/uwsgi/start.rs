//! How uWSGI starts: from which configuration, in which root, and with which log.

use std::ffi::{CStr, CString, OsStr, c_int};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::ptr;

use super::calls::*;

/// Whether uWSGI was reloaded rather than started. uWSGI counts its reloads in the environment, which can be read whatever
/// its struct layouts are.
pub fn is_reload() -> bool {
    std::env::var("UWSGI_RELOADS").is_ok_and(|count| count.parse::<u64>().is_ok_and(|count| count > 0))
}

/// From now on SIGHUP, which asks for a reload, is ignored. uWSGI does the same when it starts; but what it handles is reset
/// by the exec(), so that a second SIGHUP in between would end it.
pub fn ignore_reloads() {
    // SAFETY: sets what uWSGI itself sets next.
    unsafe { libc::signal(libc::SIGHUP, libc::SIG_IGN) };
}

/// Whether a reload ends this process instead.
pub fn exits_on_reload() -> bool {
    // SAFETY: reads one number.
    unsafe { hetzner_call_exits_on_reload() }
}

/// Whether there is a master process, which runs the Legions.
pub fn has_master() -> bool {
    // SAFETY: reads one number.
    unsafe { hetzner_call_has_master() }
}

/// Whether an action of that name exists, as far as is known before the application is loaded.
pub fn has_action(name: &[u8]) -> bool {
    // SAFETY: compares the text, which is NUL-terminated, with a list.
    CString::new(name).is_ok_and(|name| unsafe { hetzner_call_has_action(name.as_ptr()) })
}

/// All options of the configuration that have a value, in order.
pub fn options() -> Vec<(String, PathBuf)> {
    let mut found = Vec::new();
    for number in 0.. {
        let (mut key, mut value) = (ptr::null(), ptr::null());
        // SAFETY: writes two pointers to strings that do not change, or NULL for the value.
        let texts = unsafe {
            if !hetzner_call_option(number, &mut key, &mut value) {
                break;
            }
            (super::bytes(key), super::bytes(value))
        };
        if let (Some(key), Some(value)) = texts {
            found.push((String::from_utf8_lossy(key).into_owned(), OsStr::from_bytes(value).into()));
        }
    }
    found
}

/// A file that uWSGI logs to.
pub struct LogFile {
    pub path: PathBuf,
    /// Whether uWSGI opens it after it has dropped its privileges.
    pub later: bool,
    /// Whether it opens it only after the application is loaded.
    pub last: bool,
}

/// The files that uWSGI will log to; not UDP addresses.
pub fn log_files() -> Vec<LogFile> {
    let file = |number| {
        // SAFETY: returns NULL, or a string of the configuration.
        let path = unsafe { super::bytes(hetzner_call_log_file(number)) }?;
        let path: PathBuf = OsStr::from_bytes(path).into();
        (!path.as_os_str().as_bytes().contains(&b':')).then_some(LogFile {
            path,
            later: number >= 2,
            last: number == 3,
        })
    };
    (0..4).filter_map(file).collect()
}

/// The directory that uWSGI will chroot to, if it has not done so yet.
pub fn chroot() -> Option<PathBuf> {
    // SAFETY: returns NULL, or a string of the configuration.
    let path = unsafe { super::bytes(hetzner_call_chroot()) };
    path.map(|path| OsStr::from_bytes(path).into())
}

/// The user that the master will be, and whether it will be able to read that file. `None` if its user, group and root stay
/// as they are, or if that cannot be tried. Only while uWSGI reads its configuration and has one thread.
pub fn try_to_read(path: &Path) -> Option<(u32, io::Result<()>)> {
    let (uid, result) = try_as_user_to_be(path, NEED_READ)?;
    Some((uid?, result))
}

/// What a path is needed for.
#[derive(Clone, Copy)]
pub enum Need {
    /// To run a program.
    Run,
    /// To look into a folder.
    Enter,
}

/// Whether the master will be able to do that, as the user and in the root that it will have: ` as uid 33`, if that is
/// another. What cannot be tried counts as possible. When [`try_to_read`] may be called.
pub fn try_path(path: &Path, need: Need) -> (String, io::Result<()>) {
    let need = match need {
        Need::Run => NEED_RUN,
        Need::Enter => NEED_ENTER,
    };
    let Some((uid, result)) = try_as_user_to_be(path, need) else { return (String::new(), Ok(())) };
    let place = chroot().map_or_else(String::new, |root| format!(" in chroot {}", root.display()));
    (uid.map_or_else(String::new, |uid| format!(" as uid {uid}{place}")), result)
}

/// The user is `None` if it, its group and its root stay as they are.
fn try_as_user_to_be(path: &Path, need: c_int) -> Option<(Option<u32>, io::Result<()>)> {
    let path = CString::new(path.as_os_str().as_bytes()).ok()?;
    let mut uid = u32::MAX;
    // SAFETY: the path is NUL-terminated, the number is ours; if there is another user, a child process does the rest.
    let error = unsafe { hetzner_call_try(path.as_ptr(), need, &mut uid) };
    let result = match error {
        ..0 => return None,
        0 => Ok(()),
        errno => Err(io::Error::from_raw_os_error(errno)),
    };
    Some(((uid != u32::MAX).then_some(uid), result))
}

/// Writes one line to syslog, for the time when uWSGI has not opened its log yet.
pub fn syslog(line: &str) {
    let Ok(line) = CString::new(line.replace(['\0', '\n', '\r'], "?")) else { return };
    const IDENT: &CStr = c"uwsgi-hetzner";
    // SAFETY: the name is static, as openlog() asks; both texts are NUL-terminated.
    unsafe {
        libc::openlog(IDENT.as_ptr(), libc::LOG_PID, libc::LOG_DAEMON);
        libc::syslog(libc::LOG_ERR, c"%s".as_ptr(), line.as_ptr());
        libc::closelog();
    }
}
