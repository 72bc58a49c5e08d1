//! Errors that say what to do about them.

use std::io;
use std::path::PathBuf;

/// Why a figure or a cgroup is not available.
#[derive(Debug, thiserror::Error)]
pub enum MeterError {
    /// The process does not exist, or is a zombie, which no longer holds memory.
    #[error("no process {pid} is running")]
    NoSuchProcess {
        /// The process asked for.
        pid: i32,
    },
    /// A file below `/proc` could not be read or parsed; the source's text includes the path.
    #[error("cannot read /proc")]
    Proc(#[from] procfs::ProcError),
    /// No cgroup could be created. The ledger works without one.
    #[error("no cgroup to meter in: {why}; {remedy}")]
    NoCgroup {
        /// What is in the way.
        why: String,
        /// What to do about it.
        remedy: String,
    },
    /// A cgroup file could not be read, written or parsed.
    #[error("{}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The error from the kernel.
        source: io::Error,
    },
    /// This kernel or its cgroup mounts do not support this.
    #[error("{what} is not available here: {why}")]
    Unavailable {
        /// What was requested.
        what: &'static str,
        /// What it would need.
        why: &'static str,
    },
    /// [`Cgroup::kill_all`](crate::Cgroup::kill_all) was called from inside the cgroup, or a process did not die.
    #[error("{} cannot be emptied: {why}", dir.display())]
    Populated {
        /// The cgroup's directory.
        dir: PathBuf,
        /// Which processes are still in it.
        why: String,
    },
}
