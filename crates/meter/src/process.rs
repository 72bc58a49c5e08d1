//! Figures of a single process.

use std::time::Duration;

use procfs::ProcError;
use procfs::process::Process;

use crate::MeterError;

/// CPU time, user and system, that the process has used so far in all its threads, including those that have ended.
///
/// From `/proc/PID/stat`, which counts in ticks (10 ms on nearly every kernel) and rounds down: good for one process that
/// ran for seconds, and 0 for each of 10,000 children that ran for less than a tick. For those, ask
/// [`Cgroup::cpu_usec`](crate::Cgroup::cpu_usec). Children are not included.
///
/// # Errors
/// [`MeterError::NoSuchProcess`]; [`MeterError::Proc`] if `/proc` cannot be read.
pub fn cpu_time(pid: i32) -> Result<Duration, MeterError> {
    let stat = Process::new(pid).and_then(|process| process.stat());
    let stat = stat.map_err(|error| gone(pid, error))?;
    let ticks = stat.utime + stat.stime;
    Ok(Duration::from_secs_f64(ticks as f64 / procfs::ticks_per_second() as f64))
}

/// The highest RSS that the process ever had, in bytes: `VmHWM` of `/proc/PID/status`. A lifetime maximum, not this run's.
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
    let stat = Process::new(pid).and_then(|process| process.stat());
    let threads = stat.map_err(|error| gone(pid, error))?.num_threads;
    Ok(u64::try_from(threads).unwrap_or(0))
}

fn gone(pid: i32, error: ProcError) -> MeterError {
    match error {
        ProcError::NotFound(_) => MeterError::NoSuchProcess { pid },
        other => MeterError::Proc(other),
    }
}
