//! This machine: what it is, and whether its limits allow the run.

use std::fs;
use std::path::Path;
use std::thread;

use anyhow::{Context as _, Result, bail};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use results::run::Host;

/// Descriptors that loadtest needs for itself.
pub(crate) const SPARE_DESCRIPTORS: usize = 64;
/// Ports that must be left for the questions to the admin port, and for others.
const PORTS_BESIDES: usize = 256;

/// What this machine is.
pub(crate) fn describe() -> Host {
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").ok();
    Host {
        kernel: kernel.map(|release| release.trim().to_owned()),
        cpus: thread::available_parallelism().map_or(1, |count| count.get() as u64),
        ram_bytes: meter::machine().ram_bytes,
        nofile: getrlimit(Resource::RLIMIT_NOFILE).ok().map(|(soft, _)| soft),
        somaxconn: read_number("/proc/sys/net/core/somaxconn"),
    }
}

/// Raises the limits as far as they go, and refuses what they do not allow, before anything is built or started. Beside its
/// connections a process has `spare_descriptors`.
pub(crate) fn prepare_for(connections: usize, spare_descriptors: usize) -> Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).context("the limit of open files cannot be read")?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).context("the limit of open files cannot be raised")?;
    check_descriptors(connections, spare_descriptors, hard)?;
    let ports = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").ok();
    check_ports(connections, ports.as_deref().and_then(count_of_ports))
}

fn check_descriptors(connections: usize, spare: usize, hard: u64) -> Result<()> {
    let needed = (connections + spare) as u64;
    if needed > hard {
        bail!(
            "{connections} connections need {needed} open files, and the hard limit is {hard}: raise it \
             (as root: `ulimit -Hn {needed}`, or LimitNOFILE= in a unit, or --ulimit nofile={needed} for a container), \
             or hold fewer, with -c {}",
            hard.saturating_sub(spare as u64)
        );
    }
    Ok(())
}

fn check_ports(connections: usize, ports: Option<usize>) -> Result<()> {
    match ports {
        Some(ports) if connections + PORTS_BESIDES > ports => bail!(
            "{connections} connections to one address need as many ports, and net.ipv4.ip_local_port_range has {ports}: \
             widen it (as root: `sysctl -w net.ipv4.ip_local_port_range='10240 65535'`), or hold fewer, with -c {}",
            ports.saturating_sub(PORTS_BESIDES)
        ),
        _ => Ok(()),
    }
}

/// The length of the backlog that the kernel allows.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_proc_says_is_read() {
        assert_eq!(count_of_ports("32768\t60999\n"), Some(28_232));
        assert_eq!(count_of_ports("none"), None);
    }

    #[test]
    fn too_low_limits_are_named_with_the_remedy() {
        let error = check_descriptors(10_000, 64, 4096).unwrap_err().to_string();
        assert!(error.contains("10064") && error.contains("ulimit") && error.contains("-c 4032"), "{error}");
        let error = check_ports(10_000, Some(5_000)).unwrap_err().to_string();
        assert!(error.contains("ip_local_port_range"), "{error}");
        assert!(check_descriptors(10_000, 1_200, 20_000).is_ok() && check_ports(10_000, Some(28_232)).is_ok());
    }
}
