//! The limits of the machine: raise them, or say what stops us.

use anyhow::{Result, bail, ensure};
use nix::sys::resource::{Resource, getrlimit, rlim_t, setrlimit};

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
/// Memory maps of one thread: stack, its guard page, the signal stack, its guard page.
const MAPS_PER_THREAD: usize = 4;
/// Processes and threads that are left to the rest of the machine.
const SPARE_TASKS: usize = 512;

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
    /// What it is.
    pub limited_by: LimitedBy,
    /// What it is, and what to do about it.
    pub advice: &'static str,
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
        Some(&Ceiling { connections: allowed, limited_by, advice }) => {
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
    Ok(Ceiling {
        connections: clamp(hard).saturating_sub(spare_descriptors(clamp(hard))),
        limited_by: LimitedBy::OpenFiles,
        advice: "raise the hard limit of open files (`ulimit -Hn`, or LimitNOFILE= in systemd)",
    })
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
    let by_maps = number("/proc/sys/vm/max_map_count").map_or(usize::MAX, |maps| maps / MAPS_PER_THREAD);
    Ceiling {
        // Beyond the map count a thread that was started can abort the whole process: stay well below.
        connections: by_maps.saturating_sub(SPARE_TASKS).min(tasks()),
        limited_by: LimitedBy::Threads,
        advice: "raise vm.max_map_count (4 maps a thread), kernel.threads-max, kernel.pid_max or `ulimit -u`",
    }
}

/// How many processes the machine can have.
pub fn processes() -> Ceiling {
    Ceiling {
        connections: tasks(),
        limited_by: LimitedBy::Processes,
        advice: "raise kernel.pid_max, kernel.threads-max or `ulimit -u`",
    }
}

/// How many processes and threads this user can have.
fn tasks() -> usize {
    let nproc = getrlimit(Resource::RLIMIT_NPROC).map_or(usize::MAX, |(soft, _)| clamp(soft));
    let kernel = ["/proc/sys/kernel/pid_max", "/proc/sys/kernel/threads-max"].into_iter().filter_map(number).min();
    nproc.min(kernel.unwrap_or(usize::MAX)).saturating_sub(SPARE_TASKS)
}

fn clamp(limit: rlim_t) -> usize {
    usize::try_from(limit).unwrap_or(usize::MAX)
}

fn number(path: &str) -> Option<usize> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}
