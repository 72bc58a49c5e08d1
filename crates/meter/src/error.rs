//! What can go wrong, in words that say what to do.

use std::io;
use std::path::PathBuf;

/// Why a figure, or a cgroup, could not be had.
#[derive(Debug, thiserror::Error)]
pub enum MeterError {
    /// The process does not exist, or is a zombie, which holds no memory any more.
    #[error("no process {pid} is running")]
    NoSuchProcess {
        /// The process asked for.
        pid: i32,
    },
    /// A file below `/proc` could not be read or understood; the path is part of the source's text.
    #[error("cannot read /proc")]
    Proc(#[from] procfs::ProcError),
    /// No cgroup could be made. The ledger works without one.
    #[error("no cgroup to meter in: {why}; {remedy}")]
    NoCgroup {
        /// What stood in the way.
        why: String,
        /// What to do about it.
        remedy: String,
    },
    /// A cgroup file could not be read, written or understood.
    #[error("{}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// This kernel, or the way its cgroups are mounted, does not offer this.
    #[error("{what} cannot be had here: {why}")]
    Unavailable {
        /// What was asked for.
        what: &'static str,
        /// What it would take.
        why: &'static str,
    },
    /// [`Cgroup::kill_all`](crate::Cgroup::kill_all) was called by a process inside the cgroup, or met one that does not die.
    #[error("{} cannot be emptied: {why}", dir.display())]
    Populated {
        /// The cgroup's directory.
        dir: PathBuf,
        /// Who is still in it.
        why: String,
    },
}
