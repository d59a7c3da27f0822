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

use std::ffi::{CString, c_char, c_int, c_long, c_void};
use std::io;
use std::mem::{MaybeUninit, zeroed};
use std::ptr::{self, NonNull};
use std::sync::Mutex;
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use libc::pid_t;

use super::threads::{lock, with_signals_blocked};

/// How long a process that ends waits for the commands of its checks.
pub const LONGEST_END: Duration = Duration::from_secs(1);
/// How long a command that was killed may take to be gone.
const GRACE: Duration = Duration::from_secs(1);
/// For how much longer than that the minder is waited for.
const SPARE: Duration = Duration::from_secs(1);
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
    /// This process is about to end.
    Stopped,
}

/// What the minder leaves in the shared page.
#[repr(C)]
struct Said {
    /// What has happened, or [`NOTHING`] so far; a futex.
    what: AtomicU32,
    value: AtomicI32,
    /// Not 0: nothing of the command is left, and the minder ends at once.
    is_clear: AtomicI32,
}

const NOTHING: u32 = 0;
const EXITED: u32 = 1;
const SIGNALLED: u32 = 2;
const TIMED_OUT: u32 = 3;
const NOT_RUN: u32 = 4;
const NOT_STARTED: u32 = 5;
const STOPPED: u32 = 6;

/// The minders of this process.
struct Minders {
    pids: Vec<pid_t>,
    is_ending: bool,
}

static MINDERS: Mutex<Minders> = Mutex::new(Minders { pids: Vec::new(), is_ending: false });

/// Ends all commands, and waits for that for no longer than `limit`. From now on none is started. Called before the process
/// ends or becomes another program, which knows nothing of them.
pub fn end_commands(limit: Duration) {
    let began = Instant::now();
    let mut minders = lock(&MINDERS);
    minders.is_ending = true;
    for pid in &minders.pids {
        // SAFETY: takes numbers. Under the lock no minder is waited for, so each id is still that of ours.
        unsafe { libc::kill(*pid, libc::SIGTERM) };
    }
    while !minders.pids.is_empty() && began.elapsed() < limit {
        drop(minders);
        thread::sleep(Duration::from_millis(2));
        minders = lock(&MINDERS);
    }
}

/// Runs one command again and again.
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
        let said = page.said();
        said.value.store(0, Ordering::Relaxed);
        said.what.store(NOTHING, Ordering::Relaxed);
        let pid = match start(&self.words, said, timeout) {
            Ok(Some(pid)) => pid,
            Ok(None) => return Ended::Stopped,
            Err(error) => return Ended::NotStarted(error),
        };
        said.wait(timeout + GRACE + SPARE);
        let what = said.what.load(Ordering::Acquire);
        // A minder that says so only has to end itself. Another may take as long as it likes.
        let is_clear = what != NOTHING && said.is_clear.load(Ordering::Relaxed) != 0;
        if !forget(pid, if is_clear { 0 } else { libc::WNOHANG }) {
            self.left = Some(pid);
        }
        let value = said.value.load(Ordering::Relaxed);
        match what {
            EXITED => Ended::Exited(value),
            SIGNALLED => Ended::Signalled(value),
            NOT_RUN => Ended::NotRun(io::Error::from_raw_os_error(value)),
            NOT_STARTED => Ended::NotStarted(io::Error::from_raw_os_error(value)),
            STOPPED => Ended::Stopped,
            // Or nothing: then somebody has killed or stopped the minder, or it waits for the kernel as the command does.
            _ => Ended::TimedOut,
        }
    }
}

/// Takes the minder's exit status, whatever it is. Returns whether it is gone.
fn forget(pid: pid_t, flags: c_int) -> bool {
    let waited = |flags: c_int| loop {
        // SAFETY: NULL is allowed. The id is that of a child of ours that was not waited for, since only this thread does.
        let found = unsafe { libc::waitpid(pid, ptr::null_mut(), flags | libc::__WALL) };
        if found >= 0 || io::Error::last_os_error().raw_os_error() != Some(libc::EINTR) {
            return found;
        }
    };
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
    let is_gone = waited(libc::WNOHANG) != 0;
    if is_gone {
        minders.pids.retain(|known| *known != pid);
    }
    is_gone
}

/// Starts a minder. `None` if this process is about to end.
fn start(words: &[CString], said: &Said, timeout: Duration) -> io::Result<Option<pid_t>> {
    // All that needs memory is made before the fork: another thread may hold the allocator's lock in that moment.
    let mut arguments: Vec<*const c_char> = words.iter().map(|word| word.as_ptr()).collect();
    arguments.push(ptr::null());
    let mut stack = vec![MaybeUninit::<u8>::uninit(); STACK];
    let plan =
        Plan { arguments: arguments.as_ptr(), said, timeout, stack: stack.as_mut_ptr_range().end.cast() };
    let mut minders = lock(&MINDERS);
    if minders.is_ending {
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

/// What the minder has to know.
struct Plan<'a> {
    arguments: *const *const c_char,
    said: &'a Said,
    timeout: Duration,
    /// The end of the command's stack, until it is another program.
    stack: *mut c_void,
}

/// The minder.
///
/// # Safety
/// In a child process with one thread and all signals blocked. `plan` is as [`Plan`] says.
unsafe fn mind(plan: &Plan) -> ! {
    let began = Instant::now();
    // SAFETY: only system calls, which are allowed in the child of a process with threads, on memory of this function.
    unsafe {
        libc::prctl(libc::PR_SET_NAME, c"hetzner-check".as_ptr());
        // When the thread that started this ends, as at an exec. If that is over already, the time limit is left.
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM as c_long);
        // Children of the command that it leaves behind come here, and not to uWSGI where that is process 1.
        libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1 as c_long);
        let mut signals: libc::sigset_t = zeroed();
        libc::sigemptyset(&mut signals);
        libc::sigaddset(&mut signals, libc::SIGCHLD);
        libc::sigaddset(&mut signals, libc::SIGTERM);
        // If it were ignored, nobody could be waited for.
        libc::signal(libc::SIGCHLD, libc::SIG_DFL);
        let pid = match close_all() {
            Ok(()) => {
                let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
                let plan = ptr::from_ref(plan).cast_mut().cast::<c_void>();
                libc::clone(become_command, (*plan.cast::<Plan>()).stack, flags, plan)
            }
            Err(()) => -1,
        };
        if pid < 0 {
            plan.said.say(NOT_STARTED, errno(), true);
            libc::_exit(0);
        }
        let (what, value) = loop {
            let mut info: libc::siginfo_t = zeroed();
            // It is left to be waited for, so that nobody else can get the id of its process group.
            let flags = libc::WEXITED | libc::WNOWAIT | libc::WNOHANG;
            if libc::waitid(libc::P_PID, pid.unsigned_abs(), &mut info, flags) == 0 && info.si_pid() == pid {
                let kind = if info.si_code == libc::CLD_EXITED { EXITED } else { SIGNALLED };
                break (kind, info.si_status());
            }
            let left = plan.timeout.saturating_sub(began.elapsed());
            if left.is_zero() {
                break (TIMED_OUT, 0);
            }
            if libc::sigtimedwait(&signals, ptr::null_mut(), &timespec(left)) == libc::SIGTERM {
                break (STOPPED, 0);
            }
        };
        // The command itself has said why it could not be run.
        let not_run = plan.said.value.load(Ordering::Relaxed);
        let (what, value) = if what == EXITED && not_run != 0 { (NOT_RUN, not_run) } else { (what, value) };
        let is_clear = clear(pid, GRACE);
        plan.said.say(what, value, is_clear);
        while !is_clear && !clear(pid, GRACE) {
            if libc::sigtimedwait(&signals, ptr::null_mut(), &timespec(GRACE)) == libc::SIGTERM {
                break;
            }
        }
        libc::_exit(0)
    }
}

/// Closes everything but standard input, output and error, which lead to nowhere.
///
/// # Safety
/// In a child process, with system calls only.
unsafe fn close_all() -> Result<(), ()> {
    // SAFETY: takes numbers and a static string.
    unsafe {
        let null = libc::open(c"/dev/null".as_ptr(), libc::O_RDWR);
        if null < 0 {
            return Err(());
        }
        for standard in 0..3 {
            libc::dup2(null, standard);
        }
        let end = libc::c_uint::MAX;
        // Linux before 5.9 does not know it.
        if libc::syscall(libc::SYS_close_range, 3 as libc::c_uint, end, 0 as libc::c_uint) != 0 {
            let mut limit: libc::rlimit = zeroed();
            libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit);
            for descriptor in 3..c_int::try_from(limit.rlim_cur).unwrap_or(1 << 16) {
                libc::close(descriptor);
            }
        }
        Ok(())
    }
}

/// Becomes the command. It shares the minder's memory, and the minder waits until it is another program.
extern "C" fn become_command(plan: *mut c_void) -> c_int {
    unsafe extern "C" {
        static environ: *const *const c_char;
    }
    // SAFETY: `plan` is the minder's. Only system calls; handlers and mask are this process's own, also with shared memory.
    unsafe {
        let plan = &*plan.cast::<Plan>();
        libc::setpgid(0, 0);
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as c_long);
        for signal in 1..=libc::SIGRTMAX() {
            libc::signal(signal, libc::SIG_DFL);
        }
        let mut none: libc::sigset_t = zeroed();
        libc::sigemptyset(&mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &none, ptr::null_mut());
        libc::execve(*plan.arguments, plan.arguments, environ);
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
            if libc::kill(-group, 0) != 0 {
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

impl Said {
    /// In the minder.
    fn say(&self, what: u32, value: i32, is_clear: bool) {
        self.value.store(value, Ordering::Relaxed);
        self.is_clear.store(is_clear.into(), Ordering::Relaxed);
        self.what.store(what, Ordering::Release);
        // SAFETY: a futex of ours, in memory that is shared.
        unsafe { libc::syscall(libc::SYS_futex, self.what.as_ptr(), libc::FUTEX_WAKE, 1 as c_long) };
    }

    /// Waits until the minder has said something, but no longer than `limit`.
    fn wait(&self, limit: Duration) {
        let began = Instant::now();
        while self.what.load(Ordering::Acquire) == NOTHING {
            let left = limit.saturating_sub(began.elapsed());
            if left.is_zero() {
                return;
            }
            let (word, nothing) = (self.what.as_ptr(), c_long::from(NOTHING));
            // SAFETY: as above; it sleeps only as long as nothing is there.
            unsafe { libc::syscall(libc::SYS_futex, word, libc::FUTEX_WAIT, nothing, &timespec(left)) };
        }
    }
}

/// A page of memory that this process shares with its children.
struct Page(NonNull<Said>);

// SAFETY: it holds atomics only, and is unmapped once, by its owner.
unsafe impl Send for Page {}

impl Page {
    fn new() -> io::Result<Page> {
        let (access, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_ANONYMOUS);
        // SAFETY: a new mapping at an address of the kernel's choice, filled with zeros, which are a valid Said.
        let page = unsafe { libc::mmap(ptr::null_mut(), size_of::<Said>(), access, flags, -1, 0) };
        match NonNull::new(page.cast()) {
            Some(said) if page != libc::MAP_FAILED => Ok(Page(said)),
            _ => Err(io::Error::last_os_error()),
        }
    }

    fn said(&self) -> &Said {
        // SAFETY: mapped as long as this value lives.
        unsafe { self.0.as_ref() }
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        // SAFETY: mapped by new(), with this length.
        unsafe { libc::munmap(self.0.as_ptr().cast(), size_of::<Said>()) };
    }
}

fn timespec(time: Duration) -> libc::timespec {
    // SAFETY: all zeros are valid; some systems have padding in it.
    let mut spec: libc::timespec = unsafe { zeroed() };
    spec.tv_sec = time.as_secs().try_into().unwrap_or(libc::time_t::MAX);
    spec.tv_nsec = time.subsec_nanos() as libc::c_long;
    spec
}

fn errno() -> i32 {
    io::Error::last_os_error().raw_os_error().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    use super::*;

    const LONG: Duration = Duration::from_secs(60);
    const SHORT: Duration = Duration::from_millis(300);

    fn runner(words: &[&str]) -> Runner {
        Runner::new(words.iter().map(|word| CString::new(*word).unwrap()).collect())
    }

    fn run(words: &[&str], timeout: Duration) -> String {
        format!("{:?}", runner(words).run(timeout))
    }

    fn shell(script: &str, timeout: Duration) -> String {
        run(&["/bin/sh", "-c", script], timeout)
    }

    /// A program in `folder`.
    fn script(folder: &Path, text: &str) -> String {
        let path = folder.join("check");
        // By a shell: a file that is open for writing in a child of another test could not be run.
        let mut shell = std::process::Command::new("/bin/sh");
        shell.args(["-c", "printf %s \"$1\" > \"$0\"; chmod 755 \"$0\""]).arg(&path).arg(text);
        assert!(shell.status().unwrap().success());
        path.to_str().unwrap().into()
    }

    /// The processes of this machine whose environment or arguments hold `mark`.
    fn marked(mark: &str) -> Vec<String> {
        let processes = fs::read_dir("/proc").unwrap().flatten();
        let line = |entry: fs::DirEntry| fs::read(entry.path().join("cmdline")).ok();
        let lines = processes.filter_map(line).map(|line| String::from_utf8_lossy(&line).into_owned());
        lines.filter(|line| line.contains(mark)).collect()
    }

    #[test]
    fn a_command_ends_as_it_ends() {
        let folder = tempfile::tempdir().unwrap();
        let plain = folder.path().join("plain");
        fs::write(&plain, "no program").unwrap();
        for (words, expected) in [
            (&["/bin/true"][..], "Exited(0)"),
            (&["/bin/false"], "Exited(1)"),
            (&["/bin/sh", "-c", "exit $#", "0", "a", "b c"], "Exited(2)"),
            (&["/bin/sh", "-c", "exit 127"], "Exited(127)"),
            (&["/bin/sh", "-c", "exit 255"], "Exited(255)"),
            (&["/bin/sh", "-c", "kill -SEGV $$"], "Signalled(11)"),
            (&["/bin/sh", "-c", "kill -KILL $$"], "Signalled(9)"),
            (&["/nonexistent/check"], "NotRun(Os { code: 2,"),
            (&["/etc"], "NotRun(Os { code: 13,"),
            (&[plain.to_str().unwrap()], "NotRun(Os { code: 13,"),
            // Output that nobody reads, and input that never comes.
            (&["/bin/sh", "-c", "head -c 1000000000 /dev/zero; cat; echo done >&2"], "Exited(0)"),
        ] {
            let ended = run(words, LONG);
            assert!(ended.starts_with(expected), "{words:?}: {ended}");
        }
    }

    #[test]
    fn what_hangs_is_killed_in_time_with_all_that_it_has_started() {
        let mark = format!("mark-{}", fastrand::u64(..));
        let began = Instant::now();
        for script in [
            "sleep 1000",
            "trap '' TERM INT HUP; while :; do sleep 1000; done",
            "sleep 1000 & sleep 1000 & wait",
            "kill -STOP $$",
            "while :; do :; done",
        ] {
            assert_eq!(shell(&format!("{script} # {mark}"), SHORT), "TimedOut", "{script}");
        }
        // Far from the thousand seconds that they sleep.
        assert!(began.elapsed() < LONG, "{:?}", began.elapsed());
        assert_eq!(marked(&mark), [""; 0]);
    }

    #[test]
    fn what_a_command_leaves_behind_neither_holds_it_up_nor_stays() {
        let mark = format!("mark-{}", fastrand::u64(..));
        let sleeps = format!("/bin/sh -c 'while :; do sleep 1; done # {mark}'");
        assert_eq!(shell(&format!("{sleeps} & exit 3"), LONG), "Exited(3)");
        assert_eq!(marked(&mark), [""; 0]);
        // One that has made itself a daemon is none of ours.
        let folder = tempfile::tempdir().unwrap();
        let there = folder.path().join("there");
        let daemon =
            format!("setsid /bin/sh -c 'echo >$0; while :; do sleep 1; done # {mark}' {}", there.display());
        let waits = format!("while [ ! -e {} ]; do sleep 0.05; done", there.display());
        assert_eq!(shell(&format!("{daemon} & {waits}; exit 0"), LONG), "Exited(0)");
        assert_eq!(marked(&mark).len(), 1);
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            if String::from_utf8_lossy(&line).contains(&mark) {
                let pid: pid_t = entry.file_name().to_str().unwrap().parse().unwrap();
                // SAFETY: takes numbers; the process is ours.
                unsafe { libc::kill(pid, libc::SIGKILL) };
            }
        }
    }

    #[test]
    fn a_command_has_nothing_of_this_process_but_its_environment_and_folder() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("said");
        // SAFETY: only concerns this process, which ends as any other by it.
        unsafe { libc::signal(libc::SIGUSR2, libc::SIG_IGN) };
        let kept = fs::File::open("/dev/null").unwrap();
        // Not closed by an exec.
        // SAFETY: a descriptor of ours.
        let open = unsafe { libc::dup(std::os::fd::AsRawFd::as_raw_fd(&kept)) };
        let script = format!(
            "exec >{}; while read name value; do case $name in Sig[BI]*) echo $value; esac; done </proc/$$/status; \
             readlink /proc/$$/fd/*; pwd; echo $PATH; [ $(ps -o pgid= -p $$) = $$ ] && echo own group",
            file.display()
        );
        assert_eq!(shell(&script, LONG), "Exited(0)");
        // SAFETY: the descriptor from above.
        unsafe { libc::close(open) };
        let (said, here) = (fs::read_to_string(&file).unwrap(), std::env::current_dir().unwrap());
        let mut lines = said.lines();
        for kind in ["blocked", "ignored"] {
            let signals = u64::from_str_radix(lines.next().unwrap(), 16).unwrap();
            // Without the two that the C library keeps for itself.
            assert_eq!(signals & 0x7fff_ffff, 0, "{kind}");
        }
        let rest: Vec<&str> = lines.collect();
        let path = std::env::var("PATH").unwrap();
        assert_eq!(
            rest,
            [
                "/dev/null",
                file.to_str().unwrap(),
                "/dev/null",
                here.to_str().unwrap(),
                path.as_str(),
                "own group"
            ]
        );
    }

    #[test]
    fn a_program_may_be_missing_or_another_at_each_run() {
        let folder = tempfile::tempdir().unwrap();
        let path = script(folder.path(), "#!/bin/sh\nexit 7\n");
        let mut runner = runner(&[&path]);
        let mut run = || format!("{:?}", runner.run(LONG));
        assert_eq!(run(), "Exited(7)");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(run().starts_with("NotRun(Os { code: 13"));
        fs::remove_file(&path).unwrap();
        assert!(run().starts_with("NotRun(Os { code: 2"));
        // It replaces itself while it runs.
        script(
            folder.path(),
            "#!/bin/sh\nprintf '#!/bin/sh\\nexit 9\\n' > $0.new; chmod 755 $0.new; mv $0.new $0; exit 8\n",
        );
        assert_eq!((run(), run()), ("Exited(8)".into(), "Exited(9)".into()));
    }

    /// In a thread that has its own table of descriptors, since other tests open some at the same time. `RUNS=10000` in the
    /// environment makes it longer.
    #[test]
    fn nothing_is_left_of_many_runs() {
        let runs: usize = std::env::var("RUNS").ok().and_then(|runs| runs.parse().ok()).unwrap_or(100);
        let descriptors = || -> BTreeSet<_> {
            fs::read_dir("/proc/thread-self/fd").unwrap().flatten().map(|entry| entry.file_name()).collect()
        };
        // SAFETY: takes a number, and concerns this thread alone.
        assert_eq!(unsafe { libc::unshare(libc::CLONE_FILES) }, 0);
        let before = descriptors();
        let (began, mut minders) = (Instant::now(), BTreeSet::new());
        let mut runners = [
            runner(&["/bin/true"]),
            runner(&["/nonexistent/check"]),
            runner(&["/bin/sh", "-c", "kill -9 $$"]),
        ];
        for at in 0..runs {
            let ended = format!("{:?}", runners[at % 3].run(LONG));
            assert!(ended.starts_with(["Exited(0)", "NotRun", "Signalled(9)"][at % 3]), "{ended}");
            minders.extend(lock(&MINDERS).pids.iter().copied());
        }
        println!("{runs} runs took {:?}", began.elapsed());
        assert_eq!(descriptors(), before);
        // Those of other tests, which run at the same time, end with their runs.
        let zombies = || {
            let processes = fs::read_dir("/proc").unwrap().flatten();
            let stat = |entry: fs::DirEntry| fs::read_to_string(entry.path().join("stat")).ok();
            let ours = format!(" Z {} ", std::process::id());
            processes
                .filter_map(stat)
                .filter(|stat| stat.contains("(hetzner-check)") && stat.contains(&ours))
                .count()
        };
        assert!(
            (0..1000).any(|_| zombies() == 0 || {
                thread::sleep(Duration::from_millis(10));
                false
            }),
            "{}",
            zombies()
        );
    }

    #[test]
    fn who_waits_for_any_child_does_not_get_the_minder() {
        let page = Page::new().unwrap();
        let pid = start(&[c"/bin/true".into()], page.said(), LONG).unwrap().unwrap();
        page.said().wait(LONG);
        let has_ended = || fs::read_to_string(format!("/proc/{pid}/stat")).unwrap().contains(" Z ");
        while !has_ended() {
            thread::sleep(Duration::from_millis(1));
        }
        // As in waitpid(-1), without the flag for such children; but of this one, because other tests have some, too.
        // SAFETY: NULL is allowed.
        let found = unsafe { libc::waitpid(pid, ptr::null_mut(), libc::WNOHANG) };
        assert_eq!((found, io::Error::last_os_error().raw_os_error()), (-1, Some(libc::ECHILD)));
        assert!(forget(pid, 0));
        assert!(!Path::new(&format!("/proc/{pid}")).exists());
    }
}
