//! Context switches.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::MeterError;

/// How often the kernel has taken each thread of some processes off a CPU so far: by its own will, because it had to wait,
/// and against it.
///
/// From `voluntary_ctxt_switches` and `nonvoluntary_ctxt_switches` of `/proc/PID/task/TID/status`: the counters of
/// getrusage, which every kernel has. The third field of `schedstat` would be a little cheaper to read, but it counts how
/// often a thread came to a CPU, which includes its first time, and reads 0 on a kernel without `CONFIG_SCHED_INFO`.
#[derive(Clone, Debug)]
pub struct Switches(HashMap<i32, u64>);

impl Switches {
    /// Reads those of all threads of `pids`, at some 20 µs for each thread.
    ///
    /// # Errors
    /// [`MeterError::NoSuchProcess`] or [`MeterError::File`] if a process or thread ended while it was read: a partial sum
    /// says nothing.
    pub fn read(pids: &[i32]) -> Result<Self, MeterError> {
        let mut switches = HashMap::new();
        for &pid in pids {
            let tasks = fs::read_dir(format!("/proc/{pid}/task")).map_err(|_| MeterError::NoSuchProcess { pid })?;
            for task in tasks {
                let path = task.map_err(|_| MeterError::NoSuchProcess { pid })?.path();
                let tid = path.file_name().and_then(|name| name.to_str()?.parse().ok());
                let count = read_task(&path.join("status"))?;
                switches.insert(tid.ok_or_else(|| unreadable(&path))?, count);
            }
        }
        Ok(Self(switches))
    }

    /// How many there were since `earlier`. `None` if a thread has ended or started since: its switches are unknown.
    pub fn since(&self, earlier: &Self) -> Option<u64> {
        if self.0.len() != earlier.0.len() {
            return None;
        }
        // A count that has shrunk is that of another thread with the same number.
        self.0.iter().map(|(tid, count)| count.checked_sub(*earlier.0.get(tid)?)).sum()
    }
}

/// Both counts of one thread, added up.
fn read_task(path: &Path) -> Result<u64, MeterError> {
    let status = fs::read_to_string(path).map_err(|source| MeterError::File { path: path.to_owned(), source })?;
    parse(&status).ok_or_else(|| unreadable(path))
}

fn parse(status: &str) -> Option<u64> {
    let count = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<u64>().ok());
    Some(count("voluntary_ctxt_switches:")? + count("nonvoluntary_ctxt_switches:")?)
}

fn unreadable(path: &Path) -> MeterError {
    MeterError::File { path: PathBuf::from(path), source: io::ErrorKind::InvalidData.into() }
}
