//! Figures of a single process.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use procfs::ProcError;
use procfs::process::{Process, Stat};

use crate::MeterError;

/// CPU time, user and system, used so far by all threads of the process, including those that have ended.
///
/// From `/proc/PID/stat`, which counts in ticks (10 ms on nearly every kernel) and rounds down: fine for one process
/// that ran for seconds, but 0 for each of 10,000 children that ran for less than a tick. Use
/// [`Cgroup::cpu_usec`](crate::Cgroup::cpu_usec) for those. Children are not included.
///
/// # Errors
/// [`MeterError::NoSuchProcess`]; [`MeterError::Proc`] if `/proc` cannot be read.
pub fn cpu_time(pid: i32) -> Result<Duration, MeterError> {
    stat(pid).map(|stat| own_time(&stat))
}

/// CPU time used so far by the process, by its threads that have ended, and by its children that have ended and that it, or
/// one of them, has waited for. A parent that ignores SIGCHLD has none of its children's.
///
/// # Errors
/// [`MeterError::NoSuchProcess`]; [`MeterError::Proc`] or [`MeterError::File`] if `/proc` cannot be read.
pub fn total_cpu_time(pid: i32) -> Result<Duration, MeterError> {
    let stat = stat(pid)?;
    // The one is exact, but without ended threads; the other has them, but in ticks.
    let own = run_time(pid)?.max(own_time(&stat));
    Ok(own + from_ticks(u64::try_from(stat.cutime + stat.cstime).unwrap_or(0)))
}

/// CPU time used so far by the living threads of the process, from the first field of `/proc/PID/task/TID/schedstat`,
/// in nanoseconds. Unlike [`cpu_time`] it is exact, so it adds up over 10,000 children, but it excludes threads that
/// have ended.
///
/// # Errors
/// [`MeterError::NoSuchProcess`]; [`MeterError::File`] on a kernel without `CONFIG_SCHED_INFO`.
pub fn run_time(pid: i32) -> Result<Duration, MeterError> {
    let path = PathBuf::from(format!("/proc/{pid}/task"));
    let tasks = fs::read_dir(&path).map_err(|_| MeterError::NoSuchProcess { pid })?;
    let mut run_ns = 0;
    for task in tasks.flatten() {
        // A thread may end between readdir and read.
        if let Ok(text) = fs::read_to_string(task.path().join("schedstat")) {
            let number = text.split(' ').next().and_then(|number| number.parse::<u64>().ok());
            let no_number = || MeterError::File { path: task.path(), source: io::ErrorKind::InvalidData.into() };
            run_ns += number.ok_or_else(no_number)?;
        }
    }
    Ok(Duration::from_nanos(run_ns))
}

/// The peak RSS of the process, in bytes: `VmHWM` of `/proc/PID/status`. A lifetime maximum.
///
/// # Errors
/// [`MeterError::NoSuchProcess`], also for a zombie; [`MeterError::Proc`] if `/proc` cannot be read.
pub fn rss_peak_bytes(pid: i32) -> Result<u64, MeterError> {
    let status = Process::new(pid).and_then(|process| process.status());
    let peak_kib = status.map_err(|error| gone(pid, error))?.vmhwm;
    peak_kib.map(|kib| kib * 1024).ok_or(MeterError::NoSuchProcess { pid })
}

/// How many threads the process has.
///
/// # Errors
/// [`MeterError::NoSuchProcess`]; [`MeterError::Proc`] if `/proc` cannot be read.
pub fn threads(pid: i32) -> Result<u64, MeterError> {
    Ok(u64::try_from(stat(pid)?.num_threads).unwrap_or(0))
}

fn stat(pid: i32) -> Result<Stat, MeterError> {
    Process::new(pid).and_then(|process| process.stat()).map_err(|error| gone(pid, error))
}

fn own_time(stat: &Stat) -> Duration {
    from_ticks(stat.utime + stat.stime)
}

fn from_ticks(ticks: u64) -> Duration {
    Duration::from_secs_f64(ticks as f64 / procfs::ticks_per_second() as f64)
}

fn gone(pid: i32, error: ProcError) -> MeterError {
    match error {
        ProcError::NotFound(_) => MeterError::NoSuchProcess { pid },
        other => MeterError::Proc(other),
    }
}
