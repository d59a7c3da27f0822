//! Signals to processes of ours, and children that do not outlive us.

#![allow(unsafe_code)]

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

pub use libc::{SIGCONT, SIGHUP, SIGINT, SIGKILL, SIGSTOP, SIGTERM};

/// Starts `command` in a process group of its own, so that it and its workers can be ended together, and only
/// they. It is killed when the thread that started it ends, so that Ctrl-C leaves nothing behind.
pub fn spawn(command: &mut Command) -> io::Result<Child> {
    // SAFETY: prctl() is async-signal-safe, and touches nothing of the parent.
    unsafe {
        command.pre_exec(|| {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            Ok(())
        });
    }
    command.process_group(0).spawn()
}

/// Ends a process group when this program ends, however that is. For a process that changes its user: the kernel
/// forgets then what [`spawn`] has asked of it.
pub struct Keeper {
    shell: Child,
    _until: Option<ChildStdin>,
}

impl Keeper {
    /// Of the group that [`spawn`] made.
    pub fn of(group: u32) -> io::Result<Keeper> {
        let mut shell = Command::new("sh");
        // It reads until its standard input is closed, which only this program has open.
        shell.args(["-c", "read _; kill -9 -- \"-$0\"", &group.to_string()]).process_group(0);
        let mut shell = shell.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let until = shell.stdin.take();
        Ok(Keeper { shell, _until: until })
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        let _ = self.shell.kill();
        let _ = self.shell.wait();
    }
}

/// A pipe: the end to read from, and the end to write into.
pub fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut ends = [0; 2];
    // SAFETY: pipe2() writes two descriptors into an array of ours, which nobody else knows, or fails.
    unsafe {
        if libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok((OwnedFd::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1])))
    }
}

/// Whether this program may do what root may, as to start others as whoever it wants.
pub fn is_root() -> bool {
    // SAFETY: takes nothing, and returns a number.
    unsafe { libc::geteuid() == 0 }
}

/// Sends `signal` to one process.
pub fn signal(pid: u32, signal: i32) {
    // SAFETY: kill() takes numbers only. The id is that of a child that was not waited for, so it is still ours.
    unsafe { libc::kill(raw(pid), signal) };
}

/// Sends `signal` to every process of the group that [`spawn`] made.
pub fn signal_group(pid: u32, number: i32) {
    // SAFETY: as above.
    unsafe { libc::kill(-raw(pid), number) };
}

/// Copies what is to be run, by a process of its own: a child that another thread has forked meanwhile would have it open for
/// writing, and what somebody may write to is not run.
pub fn copy_program(from: &Path, to: &Path) -> io::Result<()> {
    let status = Command::new("cp").arg("--remove-destination").args([from, to]).status()?;
    if status.success() { Ok(()) } else { Err(io::Error::other("cp has failed")) }
}

/// Writes a program's text, by a process of its own, for the same reason.
pub fn write_program(path: &Path, text: &str) -> io::Result<()> {
    let mut shell = Command::new("sh");
    // Complete at once: somebody may be about to run the one that is there.
    shell.args(["-c", "printf %s \"$1\" > \"$0.new\" && chmod 755 \"$0.new\" && mv \"$0.new\" \"$0\""]);
    let status = shell.arg(path).arg(text).status()?;
    if status.success() { Ok(()) } else { Err(io::Error::other("sh has failed")) }
}

/// The group of a process, if there is that process.
pub fn group(pid: u32) -> Option<u32> {
    // SAFETY: takes and returns numbers.
    u32::try_from(unsafe { libc::getpgid(raw(pid)) }).ok()
}

/// Runs `work` in a thread that has a network of its own, with nothing but loopback, and so have all processes and threads
/// that it starts. `None` where this process may not make one.
pub fn in_own_network<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let alone = move || {
        // SAFETY: takes a number only, and concerns this thread alone.
        if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
            return None;
        }
        let up = Command::new("ip").args(["link", "set", "lo", "up"]).status();
        up.is_ok_and(|status| status.success()).then(work)
    };
    std::thread::spawn(alone).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

fn raw(pid: u32) -> libc::pid_t {
    libc::pid_t::try_from(pid).expect("the kernel gave it as one")
}

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// From now on Ctrl-C (and SIGTERM) makes [`interrupted`] true instead of ending this process, so that it can end its own.
pub fn watch_for_ctrl_c() {
    extern "C" fn note(_: libc::c_int) {
        INTERRUPTED.store(true, Ordering::Relaxed);
    }
    let handler = note as extern "C" fn(libc::c_int) as libc::sighandler_t;
    // SAFETY: the handler only stores to an atomic, which is async-signal-safe.
    unsafe {
        libc::signal(libc::SIGINT, handler);
        libc::signal(libc::SIGTERM, handler);
    }
}

/// Whether Ctrl-C was pressed since [`watch_for_ctrl_c`].
pub fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}
