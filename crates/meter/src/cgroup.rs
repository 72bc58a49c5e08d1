//! The kernel's own account of a group of processes.

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

use crate::MeterError;

/// How long the kernel may take to let go of a directory whose last process has just ended.
const REMOVAL_DEADLINE: Duration = Duration::from_secs(1);
/// How long killed processes may take to end: 10,000 of them take seconds to give their memory back.
const KILL_DEADLINE: Duration = Duration::from_secs(30);
const RETRY_INTERVAL: Duration = Duration::from_millis(10);

/// A new, empty cgroup that meters whoever joins it; its directories are removed on drop.
///
/// A process joins by writing its pid (or `0`) into each of the [`join_paths`](Cgroup::join_paths), before it allocates what
/// is to be metered; its children follow. What it allocated earlier stays charged where it was.
///
/// **v2** is used where it has the memory controller. The group is a child of our own cgroup, or of the nearest ancestor that
/// already hands the memory controller down (a v2 cgroup cannot both hold processes and hand down). Otherwise **v1**: a child
/// of our own cgroup in each of the hierarchies `memory` and `cpuacct`.
///
/// What was measured on v1, Linux 6.18:
/// - `memory.usage_in_bytes` includes the kernel part (`memory.kmem.usage_in_bytes`), but not the buffers of TCP sockets.
/// - TCP accounting is off until a limit is set, and with it the charge for accepted sockets: 4,000 idle connections cost
///   their server 1.2 KiB each without, 3.5 KiB each with it; 64 MB waiting in their receive queues cost nothing without, and
///   78 MiB in `memory.kmem.tcp.usage_in_bytes` with it. [`create`](Cgroup::create) therefore sets the limit "none", which
///   switches it on, and every total here is `memory.usage_in_bytes` + `memory.kmem.tcp.usage_in_bytes`. v2 does so by itself.
/// - The charge for accepted sockets is not a matter of their cgroup alone: it is on in all of them while any on the machine
///   has TCP accounting on. A server-async with 10,000 connections, in a cgroup without, peaked at 122 MB, and at 157 MB while
///   another, empty cgroup had it.
/// - Charges are drawn in batches of 64 pages a CPU: a total may be 256 KiB too high for each CPU.
///
/// On v2 the tests of this crate were run on Linux 6.1 (user-mode Linux), from the root cgroup and from leaves; only
/// [`reset_peak`](Cgroup::reset_peak), which takes 6.12 there, never was.
///
/// In both versions page cache counts for whoever read the file first. It is part of every total, and apart in
/// [`parts`](Cgroup::parts).
#[derive(Debug)]
pub struct Cgroup {
    files: Files,
}

/// The memory cgroup that this process is in already, which is only read: in a container, the container's.
///
/// Its figures are of everybody in it, on v1 with TCP buffers only where their accounting was switched on: see [`Cgroup`].
#[derive(Debug)]
pub struct OwnCgroup {
    files: Files,
}

/// The same questions, answered from other files.
#[derive(Debug)]
enum Files {
    V1(v1::Files),
    V2(v2::Files),
}

/// What the kernel charges to a cgroup, taken apart. `None` is what this version of cgroups does not tell.
///
/// `anon + file + kernel + sockets` is about the total. Slab, page tables and kernel stacks are within `kernel`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemars", derive(schemars::JsonSchema))]
pub struct CgroupParts {
    /// Everything, in bytes; see [`Cgroup::current_bytes`].
    pub total_bytes: u64,
    /// Anonymous pages (heap, stacks, pages copied on write), in bytes.
    pub anon_bytes: Option<u64>,
    /// Page cache, shared memory included, in bytes: files that the group was the first to touch, its own binary among them.
    pub file_bytes: Option<u64>,
    /// All kernel memory except socket buffers, in bytes (v1 `memory.kmem.usage_in_bytes`; v2 `kernel`, since Linux 5.18).
    pub kernel_bytes: Option<u64>,
    /// Socket buffers, in bytes (v1 `memory.kmem.tcp.usage_in_bytes`, TCP only; v2 `sock`).
    pub sockets_bytes: Option<u64>,
    /// Kernel objects, the sockets' own among them, in bytes (v2 only).
    pub slab_bytes: Option<u64>,
    /// Page tables, in bytes (v2 only).
    pub page_tables_bytes: Option<u64>,
    /// Kernel stacks, in bytes (v2 only).
    pub kernel_stacks_bytes: Option<u64>,
}

impl Cgroup {
    /// Makes a cgroup of that name. Name it prefix + own pid, so that [`remove_stale`] finds it should its creator be killed.
    ///
    /// # Errors
    /// [`MeterError::NoCgroup`] says what is in the way (no right to write, a read-only mount, no memory controller, a name
    /// that is taken) and what to do about it.
    pub fn create(name: &str) -> Result<Cgroup, MeterError> {
        if name.is_empty() || name.starts_with('.') || name.contains(['/', '\0']) {
            return Err(MeterError::NoCgroup {
                why: format!("{name:?} is no name for a directory"),
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

    /// The files into which a process writes its pid in order to join, all of them. `0` stands for the writer itself.
    pub fn join_paths(&self) -> Vec<PathBuf> {
        self.dirs().into_iter().map(|dir| dir.join("cgroup.procs")).collect()
    }

    /// All that is charged to the group now, in bytes: user pages, page cache, kernel memory, socket buffers.
    ///
    /// # Errors
    /// [`MeterError::File`], as with all figures of a cgroup, if the kernel's file cannot be read or understood.
    pub fn current_bytes(&self) -> Result<u64, MeterError> {
        self.files.current_bytes()
    }

    /// The highest [`current_bytes`](Cgroup::current_bytes) since creation or the last [`reset_peak`](Cgroup::reset_peak), in
    /// bytes. v1 keeps the peak of TCP buffers apart; both are added, an upper bound if they came at different times.
    ///
    /// # Errors
    /// [`MeterError::File`]; v2 has no peak before Linux 5.19.
    pub fn peak_bytes(&self) -> Result<u64, MeterError> {
        self.files.peak_bytes()
    }

    /// Allows the group no more than this, in bytes, and no swap beside it: who outgrows it is killed. Each kill takes one
    /// process, not the group ([`oom_kills`](Cgroup::oom_kills) counts them), so that of a server with children some may live
    /// on. v1 limits user pages and kernel memory, and leaves out the buffers of TCP sockets, which [`current_bytes`] has.
    ///
    /// # Errors
    /// [`MeterError::File`]: the group holds more already, for instance.
    ///
    /// [`current_bytes`]: Cgroup::current_bytes
    pub fn set_limit_bytes(&self, limit_bytes: u64) -> Result<(), MeterError> {
        match &self.files {
            Files::V1(files) => files.set_limit_bytes(limit_bytes),
            Files::V2(files) => files.set_limit_bytes(limit_bytes),
        }
    }

    /// Lets the peak start anew from what is charged now.
    ///
    /// # Errors
    /// [`MeterError::Unavailable`] on v2 before Linux 6.12; [`MeterError::File`].
    pub fn reset_peak(&self) -> Result<(), MeterError> {
        match &self.files {
            Files::V1(files) => files.reset_peak(),
            Files::V2(files) => files.reset_peak(),
        }
    }

    /// CPU time used in the group since its creation, user and system, by processes that have ended too, in microseconds
    /// (v1 `cpuacct.usage`; v2 `usage_usec` of `cpu.stat`). Exact, where ticks read 0 over many short-lived processes.
    ///
    /// # Errors
    /// [`MeterError::Unavailable`] on v1 without a `cpuacct` hierarchy; [`MeterError::File`].
    pub fn cpu_usec(&self) -> Result<u64, MeterError> {
        match &self.files {
            Files::V1(files) => files.cpu_usec(),
            Files::V2(files) => files.cpu_usec(),
        }
    }

    /// The total and its parts, which the kernel reads one after the other: under load they do not add up exactly.
    ///
    /// # Errors
    /// [`MeterError::File`].
    pub fn parts(&self) -> Result<CgroupParts, MeterError> {
        match &self.files {
            Files::V1(files) => files.parts(),
            Files::V2(files) => files.parts(),
        }
    }

    /// How many processes of the group the kernel has killed for want of memory.
    ///
    /// # Errors
    /// [`MeterError::File`].
    pub fn oom_kills(&self) -> Result<u64, MeterError> {
        self.files.oom_kills()
    }

    /// Who is in the group now, in no order. Zombies are not.
    ///
    /// # Errors
    /// [`MeterError::File`].
    pub fn pids(&self) -> Result<Vec<i32>, MeterError> {
        let procs = self.memory_dir().join("cgroup.procs");
        Ok(parse_pids(&read(&procs)?))
    }

    /// Sends SIGKILL to everybody in the group until it is empty: for its creator, cleaning up. Forks are outrun by repeating.
    /// Killed children of the caller remain zombies until it waits for them.
    ///
    /// # Errors
    /// [`MeterError::Populated`] if the caller is in the group itself (nobody is killed then), or if somebody is still there
    /// after 30 seconds; [`MeterError::File`].
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
                return Err(populated(format!("{} processes do not die, {} for one", pids.len(), pids[0])));
            }
            for pid in pids {
                // One that is gone already is what we want; one that may not be killed shows at the deadline.
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
            thread::sleep(RETRY_INTERVAL);
        }
    }

    fn memory_dir(&self) -> &Path {
        match &self.files {
            Files::V1(files) => &files.memory,
            Files::V2(files) => &files.dir,
        }
    }

    fn dirs(&self) -> Vec<&Path> {
        match &self.files {
            Files::V1(files) => files.dirs(),
            Files::V2(files) => vec![&files.dir],
        }
    }
}

impl OwnCgroup {
    /// Our own; nothing in the root cgroup, whose account is of the whole machine, nor without a memory controller.
    pub fn find() -> Option<OwnCgroup> {
        let files = match home::find().ok()? {
            home::Home::V2 { own, .. } => Files::V2(v2::Files::existing(own)?),
            home::Home::V1 { memory, .. } => Files::V1(v1::Files::existing(memory)?),
        };
        Some(OwnCgroup { files })
    }

    /// As [`Cgroup::current_bytes`].
    ///
    /// # Errors
    /// [`MeterError::File`], as with all these figures, if the kernel's file cannot be read or understood.
    pub fn current_bytes(&self) -> Result<u64, MeterError> {
        self.files.current_bytes()
    }

    /// The highest [`current_bytes`](OwnCgroup::current_bytes) since the cgroup was made, in bytes.
    ///
    /// # Errors
    /// [`MeterError::File`]; v2 has no peak before Linux 5.19.
    pub fn peak_bytes(&self) -> Result<u64, MeterError> {
        self.files.peak_bytes()
    }

    /// What the group may use before the kernel kills somebody in it, in bytes: the lowest limit from it upwards, as far as
    /// that can be seen from inside. `None` is no limit.
    ///
    /// # Errors
    /// [`MeterError::File`].
    pub fn limit_bytes(&self) -> Result<Option<u64>, MeterError> {
        match &self.files {
            Files::V1(files) => files.limit_bytes(),
            Files::V2(files) => files.limit_bytes(),
        }
    }

    /// As [`Cgroup::oom_kills`].
    ///
    /// # Errors
    /// [`MeterError::File`].
    pub fn oom_kills(&self) -> Result<u64, MeterError> {
        self.files.oom_kills()
    }
}

impl Files {
    fn current_bytes(&self) -> Result<u64, MeterError> {
        match self {
            Files::V1(files) => files.current_bytes(),
            Files::V2(files) => files.current_bytes(),
        }
    }

    fn peak_bytes(&self) -> Result<u64, MeterError> {
        match self {
            Files::V1(files) => files.peak_bytes(),
            Files::V2(files) => files.peak_bytes(),
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
    /// Removes the directories. Waits up to a second for processes that are just ending; if some live on, the directories stay,
    /// and [`remove_stale`] finds them later.
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

/// Removes the empty cgroups named `prefix` + pid whose creator `pid` no longer runs, and says which; it was killed before it
/// could. Looks where [`Cgroup::create`] would put a new one, so a creator that ran in another cgroup is not found. One that
/// still holds processes stays.
pub fn remove_stale(prefix: &str) -> Vec<PathBuf> {
    let parents = home::find().map(|home| home.parents()).unwrap_or_default();
    let entries = parents.into_iter().flat_map(fs::read_dir).flatten().flatten();
    let dirs = entries.map(|entry| entry.path());
    dirs.filter(|dir| is_stale(dir, prefix) && fs::remove_dir(dir).is_ok()).collect()
}

fn is_stale(dir: &Path, prefix: &str) -> bool {
    let name = dir.file_name().and_then(|name| name.to_str());
    let creator = name.and_then(|name| name.strip_prefix(prefix)?.parse::<u32>().ok());
    creator.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists())
}

/// Makes the directory of a group, or says why not and what to do.
fn make_dir(dir: &Path) -> Result<(), MeterError> {
    fs::create_dir(dir).map_err(|error| {
        let remedy = match error.kind() {
            ErrorKind::PermissionDenied => "run as root, or inside `systemd-run --user --scope` on cgroup v2",
            ErrorKind::ReadOnlyFilesystem => {
                "give the container a writable cgroup mount (`--privileged --cgroupns=host`)"
            }
            ErrorKind::AlreadyExists => {
                "another run uses this name, or a killed one left it: choose another, or rmdir it"
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
    text.trim().parse().map_err(|_| not_found(path, "number"))
}

/// The lines of `cgroup.procs`. Processes of other pid namespaces read as 0, which `kill` would take for our own process group.
fn parse_pids(procs: &str) -> Vec<i32> {
    procs.lines().flat_map(str::parse).filter(|&pid| pid > 0).collect()
}

/// The value of a line `key value`, the shape of all the kernel's cgroup statistics.
fn value_of(text: &str, key: &str) -> Option<u64> {
    let mut pairs = text.lines().filter_map(|line| line.split_once(' '));
    pairs.find(|&(name, _)| name == key)?.1.trim().parse().ok()
}

fn write(path: &Path, text: &str) -> Result<(), MeterError> {
    fs::write(path, text).map_err(|source| file_error(path, source))
}

/// The same, for a file that there is only on machines with swap.
fn write_if_there(path: &Path, text: &str) -> Result<(), MeterError> {
    if path.exists() { write(path, text) } else { Ok(()) }
}

fn file_error(path: &Path, source: io::Error) -> MeterError {
    MeterError::File { path: path.to_owned(), source }
}

fn not_found(path: &Path, what: &str) -> MeterError {
    let source = io::Error::new(ErrorKind::InvalidData, format!("there is no {what} in it"));
    file_error(path, source)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_belong_to_whole_keys() {
        let oom_control = "oom_kill_disable 0\nunder_oom 1\noom_kill 7\n";
        assert_eq!(value_of(oom_control, "oom_kill"), Some(7));
        assert_eq!(value_of(oom_control, "oom"), None);
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
        assert!(!is_stale(&dir(&format!("loadtest-{}", process::id())), "loadtest-"));
        assert!(!is_stale(&dir("loadtest-server"), "loadtest-"));
        assert!(!is_stale(&dir(&format!("other-{beyond_pid_max}")), "loadtest-"));
    }
}
