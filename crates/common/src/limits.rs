//! The limits of the machine: raise them, or say what stops us.

use anyhow::{Result, bail, ensure};
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, rlim_t, setrlimit};
use nix::unistd::Uid;

use crate::log;

/// The connections that a server accepts by default: 10,000 and some room, so that a client that reconnects
/// is not turned away by its own old connection.
pub const DEFAULT_MAX_CONNECTIONS: usize = 12_000;
/// Descriptors that a server needs beside its connections: standard streams, listeners, epoll, pipes, clients of the admin
/// port, and 503s on their way, where there are enough of them.
pub const SPARE_DESCRIPTORS: usize = 1_200;
/// As many as it cannot do without.
const MIN_SPARE_DESCRIPTORS: usize = 96;
/// The most connections that linger at once after a 503.
const MAX_LINGERERS: usize = 1_024;
/// Memory maps of one thread of server-threads: its stack, and the guard page.
const MAPS_PER_THREAD: usize = 2;
/// Processes and threads that are left to the rest of the machine.
const SPARE_TASKS: usize = 512;
/// The same within a cgroup, whose processes are counted: those that start a server, and its own threads.
const SPARE_CGROUP_TASKS: usize = 16;

/// How many connections a server accepts at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MaxConnections {
    /// So many.
    pub count: usize,
    /// What decided that.
    pub limited_by: LimitedBy,
}

/// What decides how many connections there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitedBy {
    /// `--max-connections`.
    Flag,
    /// [`DEFAULT_MAX_CONNECTIONS`].
    Default,
    /// The limit of open files.
    OpenFiles,
    /// The limits of threads and memory maps.
    Threads,
    /// The limits of processes.
    Processes,
}

impl LimitedBy {
    /// Its name in metrics.
    pub fn name(self) -> &'static str {
        match self {
            LimitedBy::Flag => "flag",
            LimitedBy::Default => "default",
            LimitedBy::OpenFiles => "open_files",
            LimitedBy::Threads => "threads",
            LimitedBy::Processes => "processes",
        }
    }
}

/// Something that limits how many connections fit.
#[derive(Clone, Copy, Debug)]
pub struct Ceiling {
    /// How many connections it allows, or threads.
    pub connections: usize,
    /// What kind of limit it is.
    pub limited_by: LimitedBy,
    /// Which limit of the kernel.
    pub wall: Wall,
    /// What to do about it.
    pub advice: &'static str,
}

/// A limit of the kernel for a server's processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wall {
    /// The hard limit of open files, of each process.
    OpenFiles,
    /// Memory maps of each process.
    MapCount,
    /// The highest number of a process or thread.
    PidMax,
    /// All threads of the machine.
    ThreadsMax,
    /// Processes and threads of a user.
    UserProcesses,
    /// Processes and threads of a cgroup.
    PidsCgroup,
}

impl Wall {
    /// What to do about it.
    fn advice(self) -> &'static str {
        match self {
            Wall::OpenFiles => "raise the hard limit of open files (`ulimit -Hn`, or LimitNOFILE= in systemd)",
            Wall::MapCount => "raise vm.max_map_count (2 maps a thread)",
            Wall::PidMax => "raise kernel.pid_max",
            Wall::ThreadsMax => "raise kernel.threads-max",
            Wall::UserProcesses => "raise the limit of processes of a user (`ulimit -u`)",
            Wall::PidsCgroup => "raise pids.max of the cgroup (--pids-limit of a container, TasksMax= in systemd)",
        }
    }

    fn ceiling(self, connections: usize, limited_by: LimitedBy) -> Ceiling {
        Ceiling { connections, limited_by, wall: self, advice: self.advice() }
    }
}

/// How many connections to accept: what was asked for, or the default, or less if a ceiling is lower.
///
/// # Errors
/// More was asked for than the ceilings allow.
pub fn max_connections(requested: Option<usize>, ceilings: &[Ceiling]) -> Result<MaxConnections> {
    let lowest = ceilings.iter().min_by_key(|ceiling| ceiling.connections);
    let wanted = requested.unwrap_or(DEFAULT_MAX_CONNECTIONS);
    match lowest.filter(|lowest| wanted > lowest.connections) {
        Some(Ceiling { connections: 0, advice, .. }) => bail!("this machine allows not even one connection: {advice}"),
        Some(Ceiling { connections: allowed, advice, .. }) if requested.is_some() => {
            bail!("--max-connections {wanted} is above the {allowed} that this machine allows: {advice}")
        }
        Some(&Ceiling { connections: allowed, limited_by, advice, .. }) => {
            log::warn!("accepting only {allowed} connections at once: {advice}");
            Ok(MaxConnections { count: allowed, limited_by })
        }
        None => {
            let limited_by = if requested.is_some() { LimitedBy::Flag } else { LimitedBy::Default };
            Ok(MaxConnections { count: wanted, limited_by })
        }
    }
}

/// Refuses to start `count` threads, asked for by `flag`, if this machine does not allow so many.
///
/// # Errors
/// It does not.
pub fn check_threads(flag: &str, count: usize) -> Result<()> {
    let Ceiling { connections: allowed, advice, .. } = threads();
    ensure!(count <= allowed, "{flag} {count} is above the {allowed} that this machine allows: {advice}");
    Ok(())
}

/// Raises the limit of open descriptors as far as it goes, for a server that holds every connection in one process.
///
/// # Errors
/// The limit could not be read or raised.
pub fn descriptors() -> Result<Ceiling> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    Ok(KernelLimits::read().descriptors())
}

/// How many of `all` descriptors are not for connections.
fn spare_descriptors(all: usize) -> usize {
    (all / 8).clamp(MIN_SPARE_DESCRIPTORS, SPARE_DESCRIPTORS)
}

/// The most connections that may linger at once after a 503, each of which has a descriptor.
pub fn max_lingerers() -> usize {
    let all = getrlimit(Resource::RLIMIT_NOFILE).map_or(usize::MAX, |(soft, _)| clamp(soft));
    (spare_descriptors(all) - MIN_SPARE_DESCRIPTORS).clamp(16, MAX_LINGERERS)
}

/// How many threads one process can have.
pub fn threads() -> Ceiling {
    lowest(KernelLimits::read().threads(), LimitedBy::Threads)
}

/// How many processes the machine can have.
pub fn processes() -> Ceiling {
    lowest(KernelLimits::read().processes(), LimitedBy::Processes)
}

fn lowest(ceilings: Vec<Ceiling>, limited_by: LimitedBy) -> Ceiling {
    let lowest = ceilings.into_iter().min_by_key(|ceiling| ceiling.connections);
    lowest.unwrap_or_else(|| Wall::PidMax.ceiling(usize::MAX, limited_by))
}

/// The limits of the kernel that concern a server's processes. `None`: there is none, or it cannot be read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KernelLimits {
    /// The hard limit of open files of a process, to which a server raises its own.
    pub open_files: Option<usize>,
    /// `vm.max_map_count`: memory maps of a process.
    pub map_count: Option<usize>,
    /// `kernel.pid_max`.
    pub pid_max: Option<usize>,
    /// `kernel.threads-max`.
    pub threads_max: Option<usize>,
    /// `RLIMIT_NPROC`: processes and threads of this user.
    pub user_processes: Option<usize>,
    /// Processes and threads that the cgroup may have beyond those that it has.
    pub pids_left: Option<usize>,
}

impl KernelLimits {
    /// Those of this process.
    pub fn read() -> Self {
        let limit = |(limit, infinity)| (limit != infinity).then(|| clamp(limit));
        let hard_files = getrlimit(Resource::RLIMIT_NOFILE).ok().map(|(_, hard)| (hard, RLIM_INFINITY));
        let soft_processes = getrlimit(Resource::RLIMIT_NPROC).ok().map(|(soft, _)| (soft, RLIM_INFINITY));
        Self {
            open_files: hard_files.and_then(limit),
            map_count: number("/proc/sys/vm/max_map_count"),
            pid_max: number("/proc/sys/kernel/pid_max"),
            threads_max: number("/proc/sys/kernel/threads-max"),
            user_processes: soft_processes.filter(|_| !is_real_root()).and_then(limit),
            pids_left: meter::pids_limit().map(|limit| clamp(limit.left())),
        }
    }

    /// What open files allow a process that holds every connection.
    pub fn descriptors(&self) -> Ceiling {
        let all = self.open_files.unwrap_or(usize::MAX);
        Wall::OpenFiles.ceiling(all.saturating_sub(spare_descriptors(all)), LimitedBy::OpenFiles)
    }

    /// How many threads each limit allows one process.
    pub fn threads(&self) -> Vec<Ceiling> {
        let by_maps = self.map_count.map(|maps| {
            Wall::MapCount.ceiling((maps / MAPS_PER_THREAD).saturating_sub(SPARE_TASKS), LimitedBy::Threads)
        });
        by_maps.into_iter().chain(self.tasks(LimitedBy::Threads)).collect()
    }

    /// How many processes each limit allows.
    pub fn processes(&self) -> Vec<Ceiling> {
        self.tasks(LimitedBy::Processes)
    }

    /// Processes and threads are the same to the kernel.
    fn tasks(&self, limited_by: LimitedBy) -> Vec<Ceiling> {
        let all = [
            (Wall::PidMax, self.pid_max),
            (Wall::ThreadsMax, self.threads_max),
            (Wall::UserProcesses, self.user_processes),
        ];
        let shared = all.into_iter().filter_map(|(wall, limit)| Some((wall, limit?.saturating_sub(SPARE_TASKS))));
        // What others in the cgroup have is counted already.
        let left = self.pids_left.map(|left| (Wall::PidsCgroup, left.saturating_sub(SPARE_CGROUP_TASKS)));
        shared.chain(left).map(|(wall, tasks)| wall.ceiling(tasks, limited_by)).collect()
    }
}

/// Whether this user is root outside of every user namespace: the kernel does not limit the number of his processes.
fn is_real_root() -> bool {
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let mut numbers = map.split_whitespace();
    Uid::current().is_root() && numbers.next() == Some("0") && numbers.next() == Some("0")
}

/// The limit of open files, or of anything, that a number of connections or tasks needs: the inverse of the ceilings.
pub fn needed(wall: Wall, connections: usize) -> usize {
    match wall {
        Wall::OpenFiles => connections + SPARE_DESCRIPTORS.min(connections / 7 + MIN_SPARE_DESCRIPTORS),
        Wall::MapCount => (connections + SPARE_TASKS) * MAPS_PER_THREAD,
        Wall::PidMax | Wall::ThreadsMax | Wall::UserProcesses => connections + SPARE_TASKS,
        Wall::PidsCgroup => connections + SPARE_CGROUP_TASKS,
    }
}

fn clamp(limit: rlim_t) -> usize {
    usize::try_from(limit).unwrap_or(usize::MAX)
}

fn number(path: &str) -> Option<usize> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A small virtual machine as it is installed.
    fn small() -> KernelLimits {
        KernelLimits {
            open_files: Some(4_096),
            map_count: Some(65_530),
            pid_max: Some(32_768),
            threads_max: Some(7_623),
            user_processes: Some(3_811),
            pids_left: None,
        }
    }

    fn allowed(ceilings: &[Ceiling]) -> Vec<(Wall, usize)> {
        ceilings.iter().map(|ceiling| (ceiling.wall, ceiling.connections)).collect()
    }

    #[test]
    fn each_limit_allows_so_many() {
        let small = small();
        assert_eq!(small.descriptors().connections, 4_096 - 512);
        let tasks = [(Wall::PidMax, 32_256), (Wall::ThreadsMax, 7_111), (Wall::UserProcesses, 3_299)];
        assert_eq!(allowed(&small.processes()), tasks);
        assert_eq!(allowed(&small.threads()), [&[(Wall::MapCount, 32_253)][..], &tasks].concat());
        let contained = KernelLimits { pids_left: Some(100), ..KernelLimits::default() };
        assert_eq!(allowed(&contained.threads()), [(Wall::PidsCgroup, 84)]);
        assert_eq!(lowest(KernelLimits::default().processes(), LimitedBy::Processes).connections, usize::MAX);
    }

    #[test]
    fn what_is_needed_is_allowed() {
        for connections in [1, 700, 10_000, 100_000] {
            let limit = |wall| Some(needed(wall, connections));
            let limits = KernelLimits {
                open_files: limit(Wall::OpenFiles),
                map_count: limit(Wall::MapCount),
                pid_max: limit(Wall::PidMax),
                threads_max: limit(Wall::ThreadsMax),
                user_processes: limit(Wall::UserProcesses),
                pids_left: limit(Wall::PidsCgroup),
            };
            let all = [vec![limits.descriptors()], limits.threads(), limits.processes()].concat();
            assert!(all.iter().all(|ceiling| ceiling.connections >= connections), "{connections}: {all:?}");
            assert!(limits.threads().iter().all(|ceiling| ceiling.connections == connections), "{limits:?}");
        }
    }
}
