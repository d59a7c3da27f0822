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
    let mut runners =
        [runner(&["/bin/true"]), runner(&["/nonexistent/check"]), runner(&["/bin/sh", "-c", "kill -9 $$"])];
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
    let pid = start(&[c"/bin/true".into()], ptr::null(), Kind::Check, page.said(), LONG).unwrap().unwrap();
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

fn call(script: &str, timeout: Duration) -> (String, String) {
    let words = [c"/bin/sh".to_owned(), c"-c".to_owned(), CString::new(script).unwrap()];
    let (ended, output) = Call { words: &words, environment: &[] }.run(timeout, &|| true);
    (format!("{ended:?}"), String::from_utf8(output).unwrap())
}

#[test]
fn a_call_ends_as_it_ends_with_the_end_of_its_output() {
    for (script, ended, output) in [
        ("echo out; echo err >&2; exit 3", "Exited(3)", "out\nerr\n"),
        ("printf %s \"$HOME$A\"", "Exited(0)", ""),
        ("kill -SEGV $$", "Signalled(11)", ""),
        ("exec /nonexistent/program 2>&-", "Exited(127)", ""),
        ("head -c 300000000 /dev/zero; echo end", "Exited(0)", "end\n"),
        // Also where the pipe is closed early.
        ("exec >&- 2>&-; sleep 0.2; exit 9", "Exited(9)", ""),
    ] {
        let (how, said) = call(script, LONG);
        assert_eq!((&*how, said.trim_start_matches('\0')), (ended, output), "{script}");
    }
    let (ended, _) = Call { words: &[c"/nonexistent/program".into()], environment: &[] }.run(LONG, &|| true);
    assert!(format!("{ended:?}").starts_with("NotRun(Os { code: 2,"));
}

#[test]
fn who_has_no_descriptor_left_can_call_a_command() {
    // SAFETY: takes numbers, and concerns this thread alone.
    unsafe {
        assert_eq!(libc::unshare(libc::CLONE_FILES), 0);
        while libc::dup(libc::STDIN_FILENO) >= 0 {}
    }
    assert_eq!(io::Error::last_os_error().raw_os_error(), Some(libc::EMFILE));
    assert_eq!(call("echo called; cat", LONG), ("Exited(0)".into(), "called\n".into()));
}

#[test]
fn a_call_that_hangs_is_killed_in_time_with_all_that_it_has_started() {
    let mark = format!("mark-{}", fastrand::u64(..));
    let began = Instant::now();
    for script in [
        "echo begun; sleep 1000",
        "echo begun; trap '' TERM; sleep 1000 & sleep 1000",
        "echo begun; kill -STOP $$",
    ] {
        let (ended, output) = call(&format!("{script} # {mark}"), SHORT);
        assert_eq!((&*ended, &*output), ("TimedOut", "begun\n"), "{script}");
    }
    assert!(began.elapsed() < LONG, "{:?}", began.elapsed());
    assert_eq!(marked(&mark), [""; 0]);
}

/// Such as one that tells the network about an address that has moved.
#[test]
fn what_a_call_leaves_behind_holds_nothing_up_and_has_the_rest_of_its_time() {
    let mark = format!("mark-{}", fastrand::u64(..));
    let began = Instant::now();
    // It keeps the pipe, and fills it.
    let writer = format!("/bin/sh -c 'while :; do echo $0; done' {mark}");
    let (ended, _) = call(&format!("{writer} & echo begun; exit 3"), Duration::from_secs(10));
    assert_eq!(ended, "Exited(3)");
    assert!(began.elapsed() < Duration::from_secs(10), "it was waited for");
    assert_eq!(marked(&mark).len(), 1);
    while !marked(&mark).is_empty() {
        assert!(began.elapsed() < LONG, "it was not killed");
        thread::sleep(Duration::from_millis(20));
    }
    assert!(began.elapsed() >= Duration::from_secs(10), "{:?}", began.elapsed());
    // What has ended by itself is gone too, and nothing is left of its minder.
    while {
        lock(&MINDERS).forget_left();
        !lock(&MINDERS).left.is_empty()
    } {
        assert!(began.elapsed() < LONG, "a minder is left");
        thread::sleep(Duration::from_millis(20));
    }
}

/// Of many IPs, each with a program that goes on for a while.
#[test]
fn there_is_room_for_one_more_even_if_each_call_leaves_something() {
    let page = Page::new().unwrap();
    let words = [c"/bin/sh".into(), c"-c".into(), c"sleep 1000 & exit".into()];
    let one = |_| start(&words, ptr::null(), Kind::Call, page.said(), LONG).unwrap().unwrap();
    let mut minders = Minders { pids: Vec::new(), left: (0..MOST_LEFT).map(one).collect(), ended_by: None };
    let (all, began) = (minders.left.clone(), Instant::now());
    while !minders.has_room() {
        assert!(began.elapsed() < LONG / 2, "none has ended");
        thread::sleep(PAUSE);
    }
    assert!(!minders.left.contains(&all[0]), "the oldest goes on");
    for pid in &minders.left {
        // SAFETY: takes numbers; these children were not waited for.
        unsafe { libc::kill(*pid, libc::SIGTERM) };
    }
    while !minders.left.is_empty() {
        assert!(began.elapsed() < LONG, "a minder is left");
        minders.forget_left();
        thread::sleep(PAUSE);
    }
    lock(&MINDERS).pids.retain(|pid| !all.contains(pid));
}

#[test]
fn nothing_is_left_of_many_calls() {
    let runs: usize = std::env::var("RUNS").ok().and_then(|runs| runs.parse().ok()).unwrap_or(100);
    let descriptors = || -> BTreeSet<_> {
        fs::read_dir("/proc/thread-self/fd").unwrap().flatten().map(|entry| entry.file_name()).collect()
    };
    // SAFETY: takes a number, and concerns this thread alone.
    assert_eq!(unsafe { libc::unshare(libc::CLONE_FILES) }, 0);
    let before = descriptors();
    for at in 0..runs {
        let (script, expected) =
            [("exit 0", "Exited(0)"), ("kill -9 $$", "Signalled(9)"), ("echo x; exit 7", "Exited(7)")]
                [at % 3];
        assert_eq!(call(script, LONG).0, expected);
    }
    assert_eq!(descriptors(), before);
}

/// As with sudo, which has another user's id by then.
#[test]
fn what_runs_as_another_user_counts_until_it_ends() {
    // SAFETY: takes nothing.
    if unsafe { libc::geteuid() } != 0 {
        return println!("skipped: only root may start a program as another user");
    }
    let folder = tempfile::tempdir().unwrap();
    let (sudo, file) = (folder.path().join("sudo"), folder.path().join("pid"));
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let mut shell = std::process::Command::new("/bin/sh");
    shell.args(["-c", "cp $(command -v setpriv) \"$0\"; chmod 4755 \"$0\""]).arg(&sudo);
    assert!(shell.status().unwrap().success());
    let script = format!("{} --reuid 0 sleep 1000 & echo $! >{}; wait", sudo.display(), file.display());
    // As this thread's user only: the C library would change that of all.
    let ended = thread::spawn(move || {
        // SAFETY: takes numbers, and concerns this thread alone.
        assert_eq!(unsafe { libc::syscall(libc::SYS_setresuid, 65534, 65534, 65534) }, 0);
        let mut runner = runner(&["/bin/sh", "-c", &script]);
        let ended = [runner.run(SHORT), runner.run(SHORT)].map(|ended| format!("{ended:?}"));
        (ended, runner.left)
    });
    let (ended, left) = ended.join().unwrap();
    let pid: pid_t = fs::read_to_string(file).unwrap().trim().parse().unwrap();
    // SAFETY: takes numbers; the process is the one from above, which nobody else could end.
    assert_eq!(unsafe { libc::kill(pid, libc::SIGKILL) }, 0);
    assert_eq!(ended, ["TimedOut", "Stuck"]);
    assert!(forget(left.unwrap(), 0));
}

#[test]
fn a_call_that_is_not_wanted_any_more_is_killed() {
    let mark = format!("mark-{}", fastrand::u64(..));
    let script = CString::new(format!("echo begun; sleep 1000 # {mark}")).unwrap();
    let words = [c"/bin/sh".to_owned(), c"-c".to_owned(), script];
    let began = Instant::now();
    let (ended, _) = Call { words: &words, environment: &[] }.run(2 * LONG, &|| marked(&mark).is_empty());
    assert_eq!(format!("{ended:?}"), "Stopped");
    assert!(began.elapsed() < LONG, "{:?}", began.elapsed());
    assert_eq!(marked(&mark), [""; 0]);
}

#[test]
fn once_the_process_ends_only_the_thread_that_ends_it_starts_commands() {
    let [this, other] = [thread::current().id(), thread::spawn(|| thread::current().id()).join().unwrap()];
    let minders = |ended_by| Minders { pids: Vec::new(), left: Vec::new(), ended_by };
    let may = |ended_by| [Kind::Check, Kind::Call].map(|kind| minders(ended_by).may_start(kind, this));
    assert_eq!([None, Some(other), Some(this)].map(may), [[true, true], [false, false], [false, true]]);
}
