//! Commands as children of uWSGI's master, which must not notice them.
//!
//! The master's loop calls waitpid(-1) at each turn: it would take a command's exit status away, and log the command as a
//! lost process. A child that sends no signal when it ends is none that waitpid(-1) sees, but an exec gives every child its
//! signal back. So between this process and the command there is a third one, the minder: a fork without such a signal,
//! which starts the command, waits for it, kills it with its whole process group when its time is over, and leaves the
//! result in a page of memory that both share. That takes no descriptor, which a worker that uWSGI forks meanwhile would
//! keep open.
//!
//! Whatever happens to the minder or the command, this process waits for a limited time. If a command cannot be killed,
//! because the kernel holds it (a file system that hangs), no second one is started.

mod minder;
mod page;
#[cfg(test)]
mod tests;

use std::ffi::{CString, c_char, c_int, c_long, c_void};
use std::io;
use std::mem::{MaybeUninit, zeroed};
use std::ptr;
use std::sync::Mutex;
use std::sync::atomic::Ordering;
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use libc::pid_t;

use super::threads::{lock, with_signals_blocked};
use minder::{Kind, Plan, mind};
pub use page::KEPT;
use page::{EXITED, NOT_RUN, NOT_STARTED, NOTHING, Page, SIGNALLED, STOPPED, Said};

/// How long a process that ends waits for the commands of its checks.
pub const LONGEST_END: Duration = Duration::from_secs(1);
/// How long a command that was killed may take to be gone.
const GRACE: Duration = Duration::from_secs(1);
/// For how much longer than that the minder is waited for.
const SPARE: Duration = Duration::from_secs(1);
/// How often a call looks whether it is still wanted.
const STEP: Duration = Duration::from_millis(100);
/// Ample for a function that only makes system calls.
const STACK: usize = 64 * 1024;

/// How a command has ended.
#[derive(Debug)]
pub enum Ended {
    Exited(i32),
    Signalled(i32),
    /// Killed by us.
    TimedOut,
    /// The program is missing, or is no program.
    NotRun(io::Error),
    /// The system has no process left.
    NotStarted(io::Error),
    /// The one before cannot be killed, so this one was not started.
    Stuck,
    /// Killed or not started, because it is not wanted any more, or this process is about to end.
    Stopped,
}

/// The minders of this process.
struct Minders {
    pids: Vec<pid_t>,
    /// Those of calls whose result is known: something of them has not ended yet.
    left: Vec<pid_t>,
    /// The thread that ends this process. Only it starts commands from then on, and no checks.
    ended_by: Option<ThreadId>,
}

static MINDERS: Mutex<Minders> = Mutex::new(Minders { pids: Vec::new(), left: Vec::new(), ended_by: None });

/// How many calls may have left something that has not ended. If the kernel holds their programs, more would only add to it.
const MOST_LEFT: usize = 32;
/// How long one of them is waited for before the next one is ended, too.
const PAUSE: Duration = Duration::from_millis(20);

/// Ends all commands, and waits for that for no longer than `limit`. From now on none is started, but this thread may still
/// release an IP. Called before the process ends or becomes another program, which knows nothing of them: what another
/// thread starts in its last moments would move an IP, or stay as a zombie for which nobody waits.
pub fn end_commands(limit: Duration) {
    let began = Instant::now();
    let mut minders = lock(&MINDERS);
    minders.ended_by = Some(thread::current().id());
    for pid in minders.pids.iter().chain(&minders.left) {
        // SAFETY: takes numbers. Under the lock no minder is waited for, so each id is still that of ours.
        unsafe { libc::kill(*pid, libc::SIGTERM) };
    }
    loop {
        minders.forget_left();
        if minders.pids.is_empty() && minders.left.is_empty() || began.elapsed() >= limit {
            return;
        }
        drop(minders);
        thread::sleep(Duration::from_millis(2));
        minders = lock(&MINDERS);
    }
}

/// Takes the exit statuses of what earlier calls have left, if it has ended: nobody is to see a zombie until the next call.
pub fn forget_ended() {
    // Who holds the lock does the same.
    if let Ok(mut minders) = MINDERS.try_lock() {
        minders.forget_left();
    }
}

impl Minders {
    /// Whether one more may leave something. If not, one of those before is ended, the oldest first.
    fn has_room(&mut self) -> bool {
        self.forget_left();
        let has_room = self.left.len() < MOST_LEFT;
        if !has_room {
            // SAFETY: takes numbers. Not waited for, so the id is still that of ours.
            unsafe { libc::kill(self.left[0], libc::SIGTERM) };
            self.left.rotate_left(1);
        }
        has_room
    }

    fn may_start(&self, kind: Kind, thread: ThreadId) -> bool {
        self.ended_by.is_none_or(|by| kind == Kind::Call && by == thread)
    }

    /// Takes the exit statuses of those that are gone.
    fn forget_left(&mut self) {
        self.left.retain(|pid| waited(*pid, libc::WNOHANG) == 0);
    }
}

/// A program, its arguments and its environment, which is called once.
pub struct Call<'a> {
    /// The program's path first.
    pub words: &'a [CString],
    pub environment: &'a [CString],
}

impl Call<'_> {
    /// Runs the program, and kills it with its process group after `timeout`. It has no input and no other descriptor than
    /// its output, no signal is blocked, ignored or handled in it. Returns also the end of what it has written.
    ///
    /// When it ends, that is told at once. What it has left in its process group has the rest of the time. It is also killed
    /// as soon as `goes_on` says that it is not wanted any more.
    pub fn run(&self, timeout: Duration, goes_on: &dyn Fn() -> bool) -> (Ended, Vec<u8>) {
        let page = match Page::new() {
            Ok(page) => page,
            Err(error) => return (Ended::NotStarted(error), Vec::new()),
        };
        let began = Instant::now();
        while !lock(&MINDERS).has_room() {
            if began.elapsed() >= GRACE {
                return (Ended::Stuck, Vec::new());
            }
            thread::sleep(PAUSE);
        }
        let environment = pointers(self.environment);
        let (ended, left) = run(self.words, environment.as_ptr(), Kind::Call, page.said(), timeout, goes_on);
        if let Some(pid) = left {
            let mut minders = lock(&MINDERS);
            minders.pids.retain(|known| *known != pid);
            minders.left.push(pid);
        }
        (ended, page.said().output())
    }
}

/// The check of a Legion: a command that is run again and again.
pub struct Runner {
    words: Vec<CString>,
    said: Option<Page>,
    /// The minder of a command that could not be killed.
    left: Option<pid_t>,
}

impl Runner {
    /// The words are the program's path and its arguments.
    pub fn new(words: Vec<CString>) -> Runner {
        Runner { words, said: None, left: None }
    }

    /// Runs the command, and kills it with its process group after `timeout`. It has no input, its output is thrown away,
    /// it has no other descriptor, and no signal is blocked, ignored or handled in it.
    pub fn run(&mut self, timeout: Duration) -> Ended {
        if let Some(pid) = self.left {
            if !forget(pid, libc::WNOHANG) {
                return Ended::Stuck;
            }
            self.left = None;
        }
        if self.said.is_none() {
            match Page::new() {
                Ok(page) => self.said = Some(page),
                Err(error) => return Ended::NotStarted(error),
            }
        }
        let Some(page) = &self.said else { return Ended::Stopped };
        let (ended, left) = run(&self.words, ptr::null(), Kind::Check, page.said(), timeout, &|| true);
        self.left = left;
        ended
    }
}

/// Runs a command, with this process's environment if there is no other; returns also its minder, if that is not gone yet.
fn run(
    words: &[CString],
    environment: *const *const c_char,
    kind: Kind,
    said: &Said,
    timeout: Duration,
    goes_on: &dyn Fn() -> bool,
) -> (Ended, Option<pid_t>) {
    said.clear();
    let pid = match start(words, environment, kind, said, timeout) {
        Ok(Some(pid)) => pid,
        Ok(None) => return (Ended::Stopped, None),
        Err(error) => return (Ended::NotStarted(error), None),
    };
    let (began, longest) = (Instant::now(), timeout + GRACE + SPARE);
    let step = if kind == Kind::Check { longest } else { STEP };
    let mut is_wanted = true;
    while said.what.load(Ordering::Acquire) == NOTHING && began.elapsed() < longest {
        if is_wanted && !goes_on() {
            is_wanted = false;
            // SAFETY: takes numbers. Only this thread waits for this child.
            unsafe { libc::kill(pid, libc::SIGTERM) };
        }
        said.wait(step.min(longest.saturating_sub(began.elapsed())));
    }
    let what = said.what.load(Ordering::Acquire);
    // A minder that says so only has to end itself. Another may take as long as it likes.
    let is_clear = what != NOTHING && said.is_clear.load(Ordering::Relaxed) != 0;
    let is_gone = forget(pid, if is_clear { 0 } else { libc::WNOHANG });
    let value = said.value.load(Ordering::Relaxed);
    let ended = match what {
        EXITED => Ended::Exited(value),
        SIGNALLED => Ended::Signalled(value),
        NOT_RUN => Ended::NotRun(io::Error::from_raw_os_error(value)),
        NOT_STARTED => Ended::NotStarted(io::Error::from_raw_os_error(value)),
        STOPPED => Ended::Stopped,
        // Or nothing: then somebody has killed or stopped the minder, or it waits for the kernel as the command does.
        _ => Ended::TimedOut,
    };
    (ended, (!is_gone).then_some(pid))
}

/// waitpid() for a minder. The id is that of a child of ours that was not waited for.
fn waited(pid: pid_t, flags: c_int) -> pid_t {
    loop {
        // SAFETY: NULL is allowed.
        let found = unsafe { libc::waitpid(pid, ptr::null_mut(), flags | libc::__WALL) };
        if found >= 0 || io::Error::last_os_error().raw_os_error() != Some(libc::EINTR) {
            return found;
        }
    }
}

/// Takes the minder's exit status, whatever it is. Returns whether it is gone.
fn forget(pid: pid_t, flags: c_int) -> bool {
    if flags == 0 {
        // It is about to end. Not under the lock, which it might take a moment to let go of.
        // SAFETY: all zeros are valid, and the call writes to it. The child stays to be waited for.
        unsafe {
            let mut info: libc::siginfo_t = zeroed();
            let flags = libc::WEXITED | libc::WNOWAIT | libc::__WALL;
            while libc::waitid(libc::P_PID, pid.unsigned_abs(), &mut info, flags) < 0
                && io::Error::last_os_error().raw_os_error() == Some(libc::EINTR)
            {}
        }
    }
    let mut minders = lock(&MINDERS);
    let is_gone = waited(pid, libc::WNOHANG) != 0;
    if is_gone {
        minders.pids.retain(|known| *known != pid);
    }
    is_gone
}

/// Starts a minder. `None` if this process is about to end.
fn start(
    words: &[CString],
    environment: *const *const c_char,
    kind: Kind,
    said: &Said,
    timeout: Duration,
) -> io::Result<Option<pid_t>> {
    // All that needs memory is made before the fork: another thread may hold the allocator's lock in that moment.
    let arguments = pointers(words);
    let mut stack = vec![MaybeUninit::<u8>::uninit(); STACK];
    let plan = Plan {
        arguments: arguments.as_ptr(),
        environment,
        said,
        timeout,
        kind,
        stack: stack.as_mut_ptr_range().end.cast(),
    };
    let mut minders = lock(&MINDERS);
    if !minders.may_start(kind, thread::current().id()) {
        return Ok(None);
    }
    let fork = || {
        let none = ptr::null::<c_void>();
        // SAFETY: no flags, so this is fork() with a signal of 0: the child has a copy of everything, and this stack. No
        // function that fork() would call is called, and so the child only makes system calls and ends.
        match unsafe { libc::syscall(libc::SYS_clone, 0 as c_long, none, none, none, none) } {
            ..0 => Err(io::Error::last_os_error()),
            // SAFETY: this is that child.
            0 => unsafe { mind(&plan) },
            pid => pid_t::try_from(pid).map_err(io::Error::other),
        }
    };
    // From the first moment on no handler of uWSGI's may run in the child.
    let pid = with_signals_blocked(fork)?;
    minders.pids.push(pid);
    Ok(Some(pid))
}

/// With a null pointer at the end, as exec wants them.
fn pointers(texts: &[CString]) -> Vec<*const c_char> {
    texts.iter().map(|text| text.as_ptr()).chain([ptr::null()]).collect()
}

fn timespec(time: Duration) -> libc::timespec {
    // SAFETY: all zeros are valid; some systems have padding in it.
    let mut spec: libc::timespec = unsafe { zeroed() };
    spec.tv_sec = time.as_secs().try_into().unwrap_or(libc::time_t::MAX);
    spec.tv_nsec = time.subsec_nanos() as libc::c_long;
    spec
}
