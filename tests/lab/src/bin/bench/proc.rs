//! What the kernel says of a process.

#![allow(unsafe_code)]

use std::collections::BTreeSet;
use std::fs;
use std::mem::MaybeUninit;
use std::time::Duration;

/// CPU time of a process with all its threads, also those that have ended, without its children. From its own clock,
/// since /proc counts in hundredths of a second.
pub fn cpu(pid: u32) -> Duration {
    let pid = libc::pid_t::try_from(pid).expect("the kernel gave it as one");
    let mut clock = 0;
    let mut time = MaybeUninit::<libc::timespec>::zeroed();
    // SAFETY: both write into variables of ours only; a process that is not there is an error, and leaves zero.
    let time = unsafe {
        if libc::clock_getcpuclockid(pid, &mut clock) == 0 {
            libc::clock_gettime(clock, time.as_mut_ptr());
        }
        time.assume_init()
    };
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs().try_into().unwrap_or_default())
}

/// CPU time of the children that it has waited for, and of theirs. Here the hundredths are fine enough.
pub fn cpu_of_children(pid: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name, in brackets, may hold blanks. Behind it cutime and cstime are the 14th and the 15th.
    let after = stat.rsplit_once(')').map_or("", |(_, after)| after);
    let ticks: u64 =
        after.split_whitespace().skip(13).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    // USER_HZ, which is 100 wherever Linux runs today.
    Duration::from_millis(ticks * 10)
}

/// CPU time of all children of this program that it has waited for, to the microsecond.
pub fn cpu_of_own_children() -> Duration {
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: writes into a variable of ours only.
    let usage = unsafe {
        libc::getrusage(libc::RUSAGE_CHILDREN, usage.as_mut_ptr());
        usage.assume_init()
    };
    let duration = |time: libc::timeval| {
        Duration::from_secs(time.tv_sec.unsigned_abs()) + Duration::from_micros(time.tv_usec.unsigned_abs())
    };
    duration(usage.ru_utime) + duration(usage.ru_stime)
}

/// The proportional set size of a process, in kB.
pub fn pss(pid: u32) -> Option<u64> {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    line.trim().strip_suffix(" kB")?.parse().ok()
}

/// The shared libraries that a process has mapped.
pub fn libraries(pid: u32) -> BTreeSet<String> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
    let files = maps.lines().filter_map(|line| line.split_whitespace().nth(5));
    files.filter(|file| file.contains(".so")).map(str::to_string).collect()
}

/// What a thread has used so far.
#[derive(Clone, Copy, Default)]
pub struct Use {
    pub cpu: Duration,
    pub wake_ups: u64,
}

/// What the threads of that name have used, as far as they live.
pub fn threads_named(pid: u32, name: &str) -> Use {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let of_that_name = tasks
        .map(|task| task.path())
        .filter(|task| fs::read_to_string(task.join("comm")).is_ok_and(|comm| comm.trim() == name));
    of_that_name.fold(Use::default(), |sum, task| {
        let schedstat = fs::read_to_string(task.join("schedstat")).unwrap_or_default();
        let on_cpu = schedstat.split_whitespace().next().and_then(|field| field.parse().ok()).unwrap_or(0);
        let status = fs::read_to_string(task.join("status")).unwrap_or_default();
        // Each time that a thread gave up the CPU to wait, it was woken.
        let waits = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        let waits: u64 = waits.and_then(|field| field.trim().parse().ok()).unwrap_or(0);
        Use { cpu: sum.cpu + Duration::from_nanos(on_cpu), wake_ups: sum.wake_ups + waits }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_has_used_something_and_one_that_is_not_there_nothing() {
        let own = std::process::id();
        assert!(!cpu(own).is_zero() && pss(own) > Some(100));
        assert!(libraries(own).iter().any(|library| library.contains("libc.so")));
        // Linux gives none beyond 2^22.
        let none = 1 << 23;
        assert!(cpu(none).is_zero() && pss(none).is_none() && libraries(none).is_empty());
    }
}
