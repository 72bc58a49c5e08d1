//! The kernel's own accounting of a group of processes.

pub(crate) mod existing;
mod home;
mod v1;
mod v2;

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::process;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

pub(crate) use self::home::own_directory;
use crate::MeterError;

/// How long the kernel may take to release a directory after its last process exits.
const REMOVAL_DEADLINE: Duration = Duration::from_secs(1);
/// How long killed processes may take to exit: 10,000 of them need seconds to free their memory.
const KILL_DEADLINE: Duration = Duration::from_secs(30);
const RETRY_INTERVAL: Duration = Duration::from_millis(10);

/// A new, empty cgroup that meters the processes that join it. Drop removes its directories.
///
/// A process joins by writing its pid (or `0`) into each of the [`join_paths`](Cgroup::join_paths), before it allocates
/// what should be metered. Its children follow. What it allocated earlier stays charged where it was.
///
/// **v2** is used where it has the memory controller. The group is a child of our own cgroup, or of the nearest
/// ancestor that already delegates the memory controller (a v2 cgroup cannot both hold processes and delegate).
/// Otherwise **v1**: a child of our own cgroup in each of the hierarchies `memory` and `cpuacct`.
///
/// Measured on v1, Linux 6.18:
/// - `memory.usage_in_bytes` includes the kernel part (`memory.kmem.usage_in_bytes`), but not the buffers of TCP sockets.
/// - TCP accounting, and with it the charge for accepted sockets, is off until a limit is set: 4,000 idle connections
///   cost their server 1.2 KiB each without it and 3.5 KiB each with it; 64 MB waiting in their receive queues cost
///   nothing without it, and 78 MiB in `memory.kmem.tcp.usage_in_bytes` with it. [`create`](Cgroup::create) therefore
///   sets the limit "none", which turns it on, and every total here is `memory.usage_in_bytes` +
///   `memory.kmem.tcp.usage_in_bytes`. v2 does this by itself.
/// - Accepted sockets are charged in every cgroup while any cgroup on the machine has TCP accounting on. A server-async
///   with 10,000 connections in a cgroup without it peaked at 122 MB, and at 157 MB while another, empty cgroup had it
///   on.
/// - Charges are made in batches of 64 pages per CPU: a total may be 256 KiB too high for each CPU.
///
/// On v2 the tests of this crate ran on Linux 6.1 (user-mode Linux), from the root cgroup and from leaves, except for
/// [`reset_peak`](Cgroup::reset_peak), which needs 6.12 there.
///
/// Both versions charge page cache to the cgroup that read the file first. It is part of every total, and a part of its
/// own in [`parts`](Cgroup::parts).
#[derive(Debug)]
pub struct Cgroup {
    files: Files,
}

/// The files of either cgroup version.
#[derive(Debug)]
enum Files {
    V1(v1::Files),
    V2(v2::Files),
}

/// What the kernel charges to a cgroup, by part. A part that this cgroup version does not report is `None`.
///
/// `anon + file + kernel + sockets` is about the total. Slab, page tables and kernel stacks are part of `kernel`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemars", derive(schemars::JsonSchema))]
pub struct CgroupParts {
    /// Everything, in bytes; see [`Cgroup::current_bytes`].
    pub total_bytes: u64,
    /// Anonymous pages (heap, stacks, pages copied on write), in bytes.
    pub anon_bytes: Option<u64>,
    /// Page cache including shared memory, in bytes: files that the group touched first, its own binary among them.
    pub file_bytes: Option<u64>,
    /// Kernel memory without socket buffers, in bytes (v1 `memory.kmem.usage_in_bytes`; v2 `kernel`, since Linux 5.18).
    pub kernel_bytes: Option<u64>,
    /// Socket buffers, in bytes (v1 `memory.kmem.tcp.usage_in_bytes`, TCP only; v2 `sock`).
    pub sockets_bytes: Option<u64>,
    /// Kernel objects, including those of sockets, in bytes (v2 only).
    pub slab_bytes: Option<u64>,
    /// Page tables, in bytes (v2 only).
    pub page_tables_bytes: Option<u64>,
    /// Kernel stacks, in bytes (v2 only).
    pub kernel_stacks_bytes: Option<u64>,
}

impl Cgroup {
    /// Creates a cgroup of this name. Name it prefix + own pid, perhaps with a dash and more, so that [`remove_stale`]
    /// finds it if its creator is killed.
    ///
    /// # Errors
    /// [`MeterError::NoCgroup`] says what is in the way (no write permission, a read-only mount, no memory controller,
    /// a name in use) and what to do about it.
    pub fn create(name: &str) -> Result<Cgroup, MeterError> {
        if name.is_empty() || name.starts_with('.') || name.contains(['/', '\0']) {
            return Err(MeterError::NoCgroup {
                why: format!("{name:?} is not a directory name"),
                remedy: "use letters, digits and dashes".into(),
            });
        }
        let home = home::find()?;
        let files = match &home {
            home::Home::V2 { own, mount } => Files::V2(v2::Files::create(own, mount, name)?),
            home::Home::V1 { memory, cpuacct } => Files::V1(v1::Files::create(memory, cpuacct.as_deref(), name)?),
        };
        Ok(Cgroup { files })
    }

    /// The files that a process must write its pid into to join. `0` stands for the writer itself.
    pub fn join_paths(&self) -> Vec<PathBuf> {
        self.dirs().into_iter().map(|dir| dir.join("cgroup.procs")).collect()
    }

    /// Everything charged to the group now, in bytes: user pages, page cache, kernel memory, socket buffers.
    ///
    /// # Errors
    /// [`MeterError::File`], as for every figure of a cgroup, if the kernel's file cannot be read or parsed.
    pub fn current_bytes(&self) -> Result<u64, MeterError> {
        self.files.current_bytes()
    }

    /// The highest [`current_bytes`](Cgroup::current_bytes) since creation or the last
    /// [`reset_peak`](Cgroup::reset_peak), in bytes. v1 keeps a separate peak for TCP buffers, which may have come at
    /// another time, and so is not in it: where [`peak_lacks_tcp`](Cgroup::peak_lacks_tcp), sample `current_bytes`.
    ///
    /// # Errors
    /// [`MeterError::File`]; v2 has no peak before Linux 5.19.
    pub fn peak_bytes(&self) -> Result<u64, MeterError> {
        match &self.files {
            Files::V1(files) => files.peak_bytes(),
            Files::V2(files) => files.peak_bytes(),
        }
    }

    /// Whether the peak lacks TCP buffers that the current total has: on v1.
    pub fn peak_lacks_tcp(&self) -> bool {
        match &self.files {
            Files::V1(files) => files.accounts_tcp(),
            Files::V2(_) => false,
        }
    }

    /// Limits the group to this many bytes, without swap. Each time it outgrows the limit the kernel kills one process,
    /// not the group ([`oom_kills`](Cgroup::oom_kills) counts them), so some children of a server may survive. v1
    /// limits user pages and kernel memory, but not the TCP buffers that [`current_bytes`] includes.
    ///
    /// # Errors
    /// [`MeterError::File`], for instance if the group already holds more.
    ///
    /// [`current_bytes`]: Cgroup::current_bytes
    pub fn set_limit_bytes(&self, limit_bytes: u64) -> Result<(), MeterError> {
        match &self.files {
            Files::V1(files) => files.set_limit_bytes(limit_bytes),
            Files::V2(files) => files.set_limit_bytes(limit_bytes),
        }
    }

    /// Resets the peak to what is charged now.
    ///
    /// # Errors
    /// [`MeterError::Unavailable`] on v2 before Linux 6.12; [`MeterError::File`].
    pub fn reset_peak(&self) -> Result<(), MeterError> {
        match &self.files {
            Files::V1(files) => files.reset_peak(),
            Files::V2(files) => files.reset_peak(),
        }
    }

    /// CPU time used in the group since its creation, user and system, including exited processes, in microseconds (v1
    /// `cpuacct.usage`; v2 `usage_usec` of `cpu.stat`). Exact even for many short-lived processes, whose ticks read 0.
    ///
    /// # Errors
    /// [`MeterError::Unavailable`] on v1 without a `cpuacct` hierarchy; [`MeterError::File`].
    pub fn cpu_usec(&self) -> Result<u64, MeterError> {
        match &self.files {
            Files::V1(files) => files.cpu_usec(),
            Files::V2(files) => files.cpu_usec(),
        }
    }

    /// The total and its parts. The kernel reads them one after the other, so under load they do not add up exactly.
    ///
    /// # Errors
    /// [`MeterError::File`].
    pub fn parts(&self) -> Result<CgroupParts, MeterError> {
        self.files.parts()
    }

    /// How many processes of the group the kernel killed because memory ran out.
    ///
    /// # Errors
    /// [`MeterError::File`].
    pub fn oom_kills(&self) -> Result<u64, MeterError> {
        self.files.oom_kills()
    }

    /// The processes in the group now, in no order, without zombies.
    ///
    /// # Errors
    /// [`MeterError::File`].
    pub fn pids(&self) -> Result<Vec<i32>, MeterError> {
        let procs = self.memory_dir().join("cgroup.procs");
        Ok(parse_pids(&read(&procs)?))
    }

    /// Kills every process in the group with SIGKILL until it is empty, for cleaning up. Repeats to catch processes
    /// that keep forking. Killed children of the caller remain zombies until it waits for them.
    ///
    /// # Errors
    /// [`MeterError::Populated`] if the caller itself is in the group (then nothing is killed), or if a process is
    /// still there after 30 seconds; [`MeterError::File`].
    pub fn kill_all(&self) -> Result<(), MeterError> {
        let populated = |why| MeterError::Populated { dir: self.memory_dir().to_owned(), why };
        let deadline = Instant::now() + KILL_DEADLINE;
        loop {
            let pids = self.pids()?;
            if pids.is_empty() {
                return Ok(());
            }
            if pids.contains(&(process::id() as i32)) {
                return Err(populated("the caller is in it".into()));
            }
            if Instant::now() > deadline {
                return Err(populated(format!("{} processes do not die, such as {}", pids.len(), pids[0])));
            }
            for pid in pids {
                // Ignore errors: a process may be gone already, and one that cannot be killed shows at the deadline.
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
            thread::sleep(RETRY_INTERVAL);
        }
    }

    fn memory_dir(&self) -> &Path {
        self.files.memory_dir()
    }

    fn dirs(&self) -> Vec<&Path> {
        match &self.files {
            Files::V1(files) => files.dirs(),
            Files::V2(files) => vec![&files.dir],
        }
    }
}

impl Files {
    fn memory_dir(&self) -> &Path {
        match self {
            Files::V1(files) => &files.memory,
            Files::V2(files) => &files.dir,
        }
    }

    fn parts(&self) -> Result<CgroupParts, MeterError> {
        match self {
            Files::V1(files) => files.parts(),
            Files::V2(files) => files.parts(),
        }
    }

    /// The page cache that was not used for long, in bytes: the kernel drops it before it kills anybody.
    fn inactive_file_bytes(&self) -> Result<u64, MeterError> {
        let key = match self {
            Files::V1(_) => "total_inactive_file",
            Files::V2(_) => "inactive_file",
        };
        let path = self.memory_dir().join("memory.stat");
        stat_value(&read(&path)?, key).ok_or_else(|| missing_value(&path, key))
    }

    fn current_bytes(&self) -> Result<u64, MeterError> {
        match self {
            Files::V1(files) => files.current_bytes(),
            Files::V2(files) => files.current_bytes(),
        }
    }

    fn oom_kills(&self) -> Result<u64, MeterError> {
        match self {
            Files::V1(files) => files.oom_kills(),
            Files::V2(files) => files.oom_kills(),
        }
    }
}

impl Drop for Cgroup {
    /// Removes the directories. Waits up to a second for processes that are exiting; if some remain, the directories
    /// stay, and [`remove_stale`] finds them later.
    fn drop(&mut self) {
        let deadline = Instant::now() + REMOVAL_DEADLINE;
        for dir in self.dirs() {
            while let Err(error) = fs::remove_dir(dir)
                && error.kind() == ErrorKind::ResourceBusy
                && Instant::now() < deadline
            {
                thread::sleep(RETRY_INTERVAL);
            }
        }
    }
}

/// Removes the empty cgroups named `prefix` + pid whose creator `pid` no longer runs, because it was killed before it
/// could clean up. Returns the removed directories. Looks only where [`Cgroup::create`] would put a new one, so it
/// misses creators that ran in another cgroup. A cgroup that still holds processes stays.
pub fn remove_stale(prefix: &str) -> Vec<PathBuf> {
    let parents = home::find().map(|home| home.parents()).unwrap_or_default();
    let entries = parents.into_iter().flat_map(fs::read_dir).flatten().flatten();
    let dirs = entries.map(|entry| entry.path());
    dirs.filter(|dir| is_stale(dir, prefix) && fs::remove_dir(dir).is_ok()).collect()
}

fn is_stale(dir: &Path, prefix: &str) -> bool {
    let name = dir.file_name().and_then(|name| name.to_str());
    let creator = name.and_then(|name| name.strip_prefix(prefix)?.split('-').next()?.parse::<u32>().ok());
    creator.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists())
}

/// Creates the directory of a group; the error says what to do.
fn make_dir(dir: &Path) -> Result<(), MeterError> {
    fs::create_dir(dir).map_err(|error| {
        let remedy = match error.kind() {
            ErrorKind::PermissionDenied => "run as root, or inside `systemd-run --user --scope` on cgroup v2",
            ErrorKind::ReadOnlyFilesystem => {
                "give the container a writable cgroup mount (`--privileged --cgroupns=host`)"
            }
            ErrorKind::AlreadyExists => {
                "another run uses this name, or a killed run left it: choose another name, or rmdir it"
            }
            _ => "see cgroups(7)",
        };
        MeterError::NoCgroup { why: format!("cannot make {}: {error}", dir.display()), remedy: remedy.into() }
    })
}

fn read(path: &Path) -> Result<String, MeterError> {
    fs::read_to_string(path).map_err(|source| file_error(path, source))
}

fn read_number(path: &Path) -> Result<u64, MeterError> {
    let text = read(path)?;
    text.trim().parse().map_err(|_| missing_value(path, "number"))
}

/// The pids in `cgroup.procs`. Processes of other pid namespaces read as 0, which `kill` would take for our own process
/// group.
fn parse_pids(procs: &str) -> Vec<i32> {
    procs.lines().flat_map(str::parse).filter(|&pid| pid > 0).collect()
}

/// The value in a line `key value`, the format of all cgroup statistics.
fn stat_value(text: &str, key: &str) -> Option<u64> {
    let mut pairs = text.lines().filter_map(|line| line.split_once(' '));
    pairs.find(|&(name, _)| name == key)?.1.trim().parse().ok()
}

fn write(path: &Path, text: &str) -> Result<(), MeterError> {
    fs::write(path, text).map_err(|source| file_error(path, source))
}

/// [`write()`], for files that exist only with swap.
fn write_if_exists(path: &Path, text: &str) -> Result<(), MeterError> {
    if path.exists() { write(path, text) } else { Ok(()) }
}

fn file_error(path: &Path, source: io::Error) -> MeterError {
    MeterError::File { path: path.to_owned(), source }
}

fn missing_value(path: &Path, what: &str) -> MeterError {
    let source = io::Error::new(ErrorKind::InvalidData, format!("it contains no {what}"));
    file_error(path, source)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_belong_to_whole_keys() {
        let oom_control = "oom_kill_disable 0\nunder_oom 1\noom_kill 7\n";
        assert_eq!(stat_value(oom_control, "oom_kill"), Some(7));
        assert_eq!(stat_value(oom_control, "oom"), None);
    }

    #[test]
    fn processes_of_other_pid_namespaces_are_left_out() {
        assert_eq!(parse_pids("17\n0\n4711\n"), [17, 4711]);
    }

    #[test]
    fn only_groups_of_dead_creators_are_stale() {
        let dir = |name: &str| PathBuf::from("/sys/fs/cgroup").join(name);
        let beyond_pid_max = u32::MAX;
        assert!(is_stale(&dir(&format!("loadtest-{beyond_pid_max}")), "loadtest-"));
        assert!(is_stale(&dir(&format!("loadtest-{beyond_pid_max}-2")), "loadtest-"));
        assert!(!is_stale(&dir(&format!("loadtest-{}", process::id())), "loadtest-"));
        assert!(!is_stale(&dir("loadtest-server"), "loadtest-"));
        assert!(!is_stale(&dir(&format!("other-{beyond_pid_max}")), "loadtest-"));
    }
}
