//! What runs in the minder, and in the command until it is another program: only system calls, because this is the child of
//! a process with threads.

use std::ffi::{c_char, c_int, c_long, c_void};
use std::io;
use std::mem::zeroed;
use std::ptr;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use libc::pid_t;

use super::page::{EXITED, NOT_RUN, NOT_STARTED, SIGNALLED, STOPPED, Said, TIMED_OUT};
use super::{GRACE, timespec};

/// How much output is read before the minder looks at its command again: more than a pipe holds.
const MOST_READ: usize = 256 * 1024;

/// More descriptors than uWSGI has open, where the kernel cannot close all at once.
const MOST_OPEN: c_int = 1 << 16;

/// What the minder has to know.
pub struct Plan<'a> {
    /// The program's path and its arguments, with a null pointer at the end.
    pub arguments: *const *const c_char,
    /// The same of its environment; or null, for this process's.
    pub environment: *const *const c_char,
    pub said: &'a Said,
    pub timeout: Duration,
    pub kind: Kind,
    /// The end of the command's stack, until it is another program.
    pub stack: *mut c_void,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Nobody reads its output, and nothing of its process group outlives it.
    Check,
    /// Its output is read. What it leaves behind, like a program that tells the network about a moved address, has the rest
    /// of the time limit.
    Call,
}

/// Where the command's output goes, and where the minder learns that something has happened.
struct Descriptors {
    output: c_int,
    /// Of the pipe, in the minder; or -1.
    pipe: c_int,
    signals: c_int,
}

/// The minder.
///
/// # Safety
/// In a child process with one thread and all signals blocked. `plan` is as [`Plan`] says.
pub unsafe fn mind(plan: &Plan) -> ! {
    let began = Instant::now();
    // SAFETY: only system calls, which are allowed in the child of a process with threads, on memory of this function.
    unsafe {
        let name = if plan.kind == Kind::Check { c"hetzner-check" } else { c"hetzner-command" };
        libc::prctl(libc::PR_SET_NAME, name.as_ptr());
        // When the thread that started this ends, as at an exec. If that is over already, the time limit is left.
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM as c_long);
        // Children of the command that it leaves behind come here, and not to uWSGI where that is process 1.
        libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1 as c_long);
        // If it were ignored, nobody could be waited for.
        libc::signal(libc::SIGCHLD, libc::SIG_DFL);
        let mut pid = -1;
        let mut descriptors = Descriptors { output: -1, pipe: -1, signals: -1 };
        if let Ok(open) = prepare_descriptors(plan.kind) {
            descriptors = open;
            let mut plan = (plan, descriptors.output);
            let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
            pid = libc::clone(become_command, plan.0.stack, flags, ptr::from_mut(&mut plan).cast());
        }
        if pid < 0 {
            plan.said.say(NOT_STARTED, errno(), true);
            libc::_exit(0);
        }
        libc::close(descriptors.output);
        let (what, value) = wait(pid, plan, &mut descriptors, began);
        read_output(&descriptors, Some(plan.said));
        // The command itself has said why it could not be run.
        let not_run = plan.said.value.load(Ordering::Relaxed);
        let (what, value) = if what == EXITED && not_run != 0 { (NOT_RUN, not_run) } else { (what, value) };
        if plan.kind == Kind::Call && matches!(what, EXITED | SIGNALLED | NOT_RUN) {
            linger(pid, plan, &mut descriptors, began, (what, value));
        }
        let is_clear = clear(pid, GRACE);
        plan.said.say(what, value, is_clear);
        if !is_clear {
            stay(pid, &mut descriptors);
        }
        libc::_exit(0)
    }
}

/// Waits until the command ends, its time is over, or this process is to end.
///
/// # Safety
/// In the minder, whose child `pid` is.
unsafe fn wait(pid: pid_t, plan: &Plan, descriptors: &mut Descriptors, began: Instant) -> (u32, i32) {
    loop {
        // SAFETY: all zeros are valid, and the call writes to it.
        let mut info: libc::siginfo_t = unsafe { zeroed() };
        // It is left to be waited for, so that nobody else can get the id of its process group.
        let flags = libc::WEXITED | libc::WNOWAIT | libc::WNOHANG;
        // SAFETY: takes numbers, and memory of ours.
        let waited = unsafe { libc::waitid(libc::P_PID, pid.unsigned_abs(), &mut info, flags) };
        // SAFETY: the call has filled it in.
        if waited == 0 && unsafe { info.si_pid() } == pid {
            let kind = if info.si_code == libc::CLD_EXITED { EXITED } else { SIGNALLED };
            // SAFETY: as above.
            return (kind, unsafe { info.si_status() });
        }
        let left = plan.timeout.saturating_sub(began.elapsed());
        if left.is_zero() {
            return (TIMED_OUT, 0);
        }
        // SAFETY: in the minder.
        if unsafe { happens(descriptors, left, Some(plan.said)) } {
            return (STOPPED, 0);
        }
    }
}

/// Says how the command has ended. What is left of its process group has the rest of the time limit; then it is killed.
///
/// # Safety
/// In the minder, whose child `group` was.
unsafe fn linger(
    group: pid_t,
    plan: &Plan,
    descriptors: &mut Descriptors,
    began: Instant,
    (what, value): (u32, i32),
) {
    // SAFETY: takes numbers, and NULL where that is allowed.
    let is_clear = || unsafe {
        while libc::waitpid(-1, ptr::null_mut(), libc::WNOHANG) > 0 {}
        is_gone(group)
    };
    if is_clear() {
        plan.said.say(what, value, true);
        // SAFETY: ends this process.
        unsafe { libc::_exit(0) };
    }
    // The thread that waits for this may end now.
    // SAFETY: takes numbers.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, 0 as c_long) };
    plan.said.say(what, value, false);
    loop {
        let left = plan.timeout.saturating_sub(began.elapsed());
        // SAFETY: in the minder.
        if left.is_zero() || unsafe { happens(descriptors, left.min(GRACE), None) } {
            break;
        }
        if is_clear() {
            // SAFETY: ends this process.
            unsafe { libc::_exit(0) };
        }
    }
    // SAFETY: in the minder.
    unsafe {
        clear(group, GRACE);
        stay(group, descriptors);
        libc::_exit(0)
    }
}

/// Stays until nothing is left of a process group that does not end, or this process is to end.
///
/// # Safety
/// In the minder, whose child `group` was.
unsafe fn stay(group: pid_t, descriptors: &mut Descriptors) {
    // SAFETY: in the minder.
    unsafe { while !clear(group, GRACE) && !happens(descriptors, GRACE, None) {} }
}

/// Waits until a child has ended, there was output to read, or so much time is over. Returns whether this process is to end.
///
/// # Safety
/// In the minder.
unsafe fn happens(descriptors: &mut Descriptors, left: Duration, said: Option<&Said>) -> bool {
    let readable = |fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
    let mut polled = [readable(descriptors.signals), readable(descriptors.pipe)];
    // SAFETY: memory of ours; a descriptor of -1 is skipped.
    unsafe {
        libc::ppoll(polled.as_mut_ptr(), polled.len() as libc::nfds_t, &timespec(left), ptr::null());
    }
    // SAFETY: in the minder.
    let is_open = polled[1].revents == 0 || unsafe { read_output(descriptors, said) };
    if !is_open {
        // Nobody writes any more, and poll() would say so again and again.
        descriptors.pipe = -1;
    }
    // SAFETY: all zeros are valid; the call writes to it.
    let mut signal: libc::signalfd_siginfo = unsafe { zeroed() };
    let size = size_of::<libc::signalfd_siginfo>();
    // SAFETY: memory of ours, with its size.
    while unsafe { libc::read(descriptors.signals, ptr::from_mut(&mut signal).cast(), size) } > 0 {
        if signal.ssi_signo == libc::SIGTERM.unsigned_abs() {
            return true;
        }
    }
    false
}

/// Reads the output that is there, but not for ever; returns whether there may be more later.
///
/// # Safety
/// In the minder.
unsafe fn read_output(descriptors: &Descriptors, said: Option<&Said>) -> bool {
    let mut buffer = [0_u8; 16 * 1024];
    for _ in 0..MOST_READ / buffer.len() {
        // SAFETY: memory of ours, with its size.
        let read = unsafe { libc::read(descriptors.pipe, buffer.as_mut_ptr().cast(), buffer.len()) };
        match usize::try_from(read) {
            Ok(0) => return false,
            Ok(length) => {
                if let Some(said) = said {
                    said.keep(&buffer[..length]);
                }
            }
            Err(_) => return errno() == libc::EAGAIN || errno() == libc::EINTR,
        }
    }
    true
}

/// Closes everything but standard input, output and error, which lead to nowhere, and opens what is needed.
///
/// # Safety
/// In a child process, with system calls only.
unsafe fn prepare_descriptors(kind: Kind) -> Result<Descriptors, ()> {
    // SAFETY: takes numbers, a static string, and memory of ours.
    unsafe {
        let end = libc::c_uint::MAX;
        // At first, because uWSGI may have none left to open. Linux before 5.9 does not know it.
        if libc::syscall(libc::SYS_close_range, 3 as libc::c_uint, end, 0 as libc::c_uint) != 0 {
            let mut limit: libc::rlimit = zeroed();
            libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit);
            // Some containers allow a billion, which would take minutes.
            for descriptor in 3..c_int::try_from(limit.rlim_cur).unwrap_or(MOST_OPEN).min(MOST_OPEN) {
                libc::close(descriptor);
            }
        }
        let null = libc::open(c"/dev/null".as_ptr(), libc::O_RDWR);
        if null < 0 {
            return Err(());
        }
        for standard in 0..3 {
            libc::dup2(null, standard);
        }
        if null > libc::STDERR_FILENO {
            libc::close(null);
        }
        let mut awaited: libc::sigset_t = zeroed();
        libc::sigemptyset(&mut awaited);
        libc::sigaddset(&mut awaited, libc::SIGCHLD);
        libc::sigaddset(&mut awaited, libc::SIGTERM);
        let signals = libc::signalfd(-1, &awaited, libc::SFD_NONBLOCK | libc::SFD_CLOEXEC);
        if signals < 0 {
            return Err(());
        }
        let mut pipe = [-1, -1];
        if kind == Kind::Call {
            if libc::pipe2(pipe.as_mut_ptr(), libc::O_CLOEXEC) != 0 {
                return Err(());
            }
            // Only this end: programs are not made for an output that does not block.
            libc::fcntl(pipe[0], libc::F_SETFL, libc::O_NONBLOCK);
        }
        Ok(Descriptors { output: pipe[1], pipe: pipe[0], signals })
    }
}

/// Becomes the command. It shares the minder's memory, and the minder waits until it is another program.
extern "C" fn become_command(plan: *mut c_void) -> c_int {
    unsafe extern "C" {
        static environ: *const *const c_char;
    }
    // SAFETY: `plan` is the minder's. Only system calls; handlers, mask and descriptors are this process's own, also with
    // shared memory.
    unsafe {
        let (plan, output) = &*plan.cast::<(&Plan, c_int)>();
        libc::setpgid(0, 0);
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as c_long);
        for signal in 1..=libc::SIGRTMAX() {
            libc::signal(signal, libc::SIG_DFL);
        }
        let mut none: libc::sigset_t = zeroed();
        libc::sigemptyset(&mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &none, ptr::null_mut());
        if *output >= 0 {
            libc::dup2(*output, libc::STDOUT_FILENO);
            libc::dup2(*output, libc::STDERR_FILENO);
        }
        let environment = if plan.environment.is_null() { environ } else { plan.environment };
        libc::execve(*plan.arguments, plan.arguments, environment);
        plan.said.value.store(errno(), Ordering::Relaxed);
        libc::_exit(127)
    }
}

/// Kills a process group until nothing is left of it, for no longer than `limit`. Returns whether nothing is left.
///
/// # Safety
/// In the minder, whose child `group` is or was.
unsafe fn clear(group: pid_t, limit: Duration) -> bool {
    let began = Instant::now();
    let mut pause = Duration::from_micros(200);
    loop {
        // SAFETY: takes numbers, and NULL where that is allowed.
        unsafe {
            libc::kill(-group, libc::SIGKILL);
            while libc::waitpid(-1, ptr::null_mut(), libc::WNOHANG) > 0 {}
            if is_gone(group) {
                return true;
            }
            if began.elapsed() >= limit {
                return false;
            }
            libc::nanosleep(&timespec(pause), ptr::null_mut());
        }
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

/// Whether nothing is left of a process group. What runs as another user, as sudo does, cannot be killed, but is there.
fn is_gone(group: pid_t) -> bool {
    // SAFETY: takes numbers.
    unsafe { libc::kill(-group, 0) != 0 && errno() == libc::ESRCH }
}

fn errno() -> i32 {
    io::Error::last_os_error().raw_os_error().unwrap_or_default()
}
