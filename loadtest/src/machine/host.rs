//! Describes this machine, and checks whether its limits allow the run.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::sync::OnceLock;

use anyhow::{Context as _, Result, bail};
use common::limits;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use results::run::Host;

use super::cpus::{Cpus, Split};

static SOFT_NOFILE_AT_START: OnceLock<u64> = OnceLock::new();
/// File descriptors that loadtest needs for itself.
pub(crate) const SPARE_DESCRIPTORS: usize = 64;
/// Ports to leave for admin connections and other programs.
const PORTS_BESIDES: usize = 256;

/// Describes this machine, with the CPUs of this thread and those that the server gets.
pub(crate) fn describe(split: Option<&Split>) -> Host {
    let cpus = Cpus::allowed(0).map(|own| split.map_or(own.clone(), |split| own.union(&split.server)));
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").ok();
    Host {
        kernel: kernel.map(|release| release.trim().to_owned()),
        cpus: cpus.map_or(1, |cpus| cpus.count() as u64),
        cpu_quota: meter::cpu_quota().map(|quota| quota.cpus),
        ram_bytes: meter::machine::ram_bytes(),
        // The hard limit, which every run raises the soft one to.
        nofile: getrlimit(Resource::RLIMIT_NOFILE).ok().map(|(_, hard)| hard),
        somaxconn: read_number("/proc/sys/net/core/somaxconn"),
    }
}

/// Raises the limits as far as possible and refuses a run beyond them, before anything is built or started. A process
/// needs `spare_descriptors` besides its connections.
pub(crate) fn prepare_for(connections: usize, spare_descriptors: usize) -> Result<()> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).context("cannot read the open-file limit")?;
    // Only the first call sees it.
    let _ = SOFT_NOFILE_AT_START.set(soft);
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).context("cannot raise the open-file limit")?;
    check_descriptors(connections, spare_descriptors, hard)?;
    let ports = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").ok();
    check_ports(connections, ports.as_deref().and_then(count_of_ports))
}

/// The most connections to one address that this machine's limits allow.
pub(crate) fn most_connections() -> usize {
    let hard = getrlimit(Resource::RLIMIT_NOFILE).map_or(0, |(_, hard)| hard as usize);
    let ports = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").ok();
    let ports =
        ports.as_deref().and_then(count_of_ports).map_or(usize::MAX, |ports| ports.saturating_sub(PORTS_BESIDES));
    hard.saturating_sub(limits::SPARE_DESCRIPTORS).min(ports)
}

fn check_descriptors(connections: usize, spare: usize, hard: u64) -> Result<()> {
    let needed = (connections + spare) as u64;
    if needed > hard {
        bail!(
            "{connections} connections need {needed} open files, but the hard limit is {hard}: raise it \
             (as root: `ulimit -Hn {needed}`, or LimitNOFILE= in a unit, or --ulimit nofile={needed} for a container), \
             or hold fewer connections with -c {}",
            hard.saturating_sub(spare as u64)
        );
    }
    Ok(())
}

fn check_ports(connections: usize, ports: Option<usize>) -> Result<()> {
    match ports {
        Some(ports) if connections + PORTS_BESIDES > ports => bail!(
            "{connections} connections to one address need as many ports, but net.ipv4.ip_local_port_range has only \
             {ports}: widen it (as root: `sysctl -w net.ipv4.ip_local_port_range='10240 65535'`), or hold fewer \
             connections with -c {}",
            ports.saturating_sub(PORTS_BESIDES)
        ),
        _ => Ok(()),
    }
}

/// The soft limit of open files that this process was started with, if [`prepare_for`] has raised it since. A server is
/// started with the same: it is not for us to raise.
pub(crate) fn soft_nofile_at_start() -> Option<u64> {
    SOFT_NOFILE_AT_START.get().copied()
}

/// Sets the soft limit of open files.
///
/// # Errors
/// It is above the hard one.
pub(crate) fn set_soft_nofile(soft: u64) -> Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).context("cannot read the open-file limit")?;
    setrlimit(Resource::RLIMIT_NOFILE, soft.min(hard), hard).context("cannot set the open-file limit")
}

/// The longest backlog that the kernel allows.
pub(crate) fn somaxconn() -> u64 {
    read_number("/proc/sys/net/core/somaxconn").unwrap_or(128)
}

fn read_number(path: impl AsRef<Path>) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

fn count_of_ports(range: &str) -> Option<usize> {
    let mut bounds = range.split_whitespace().map(str::parse::<usize>);
    let (first, last) = (bounds.next()?.ok()?, bounds.next()?.ok()?);
    Some((last + 1).saturating_sub(first))
}

/// Whether one of the folders of `path`, in the form of `PATH`, has this program.
pub(crate) fn is_in(path: &OsStr, program: &str) -> bool {
    env::split_paths(path).any(|directory| directory.join(program).is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn port_ranges_are_parsed() {
        assert_eq!(count_of_ports("32768\t60999\n"), Some(28_232));
        assert_eq!(count_of_ports("none"), None);
    }

    #[test]
    fn low_limits_are_reported_with_the_remedy() {
        let error = check_descriptors(10_000, 64, 4096).unwrap_err().to_string();
        assert!(error.contains("10064") && error.contains("ulimit") && error.contains("-c 4032"), "{error}");
        let error = check_ports(10_000, Some(5_000)).unwrap_err().to_string();
        assert!(error.contains("ip_local_port_range"), "{error}");
        assert!(check_descriptors(10_000, 1_200, 20_000).is_ok() && check_ports(10_000, Some(28_232)).is_ok());
    }

    #[test]
    fn the_open_file_limit_is_the_same_before_and_after_a_run_raises_it() {
        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        setrlimit(Resource::RLIMIT_NOFILE, hard - 1, hard).unwrap();
        let before = describe(None).nofile;
        prepare_for(1, SPARE_DESCRIPTORS).unwrap();
        assert_eq!((before, describe(None).nofile), (Some(hard), Some(hard)));
    }
}
