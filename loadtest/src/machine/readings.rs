//! Reads the limits of this machine, and whether this user may move them.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::Path;

use common::limits::KernelLimits;

use super::walls::{Knob, Readings, Share};

/// The bit of CAP_SYS_RESOURCE, without which no hard limit can be raised.
const CAP_SYS_RESOURCE: u32 = 24;

impl Readings {
    /// Those of this machine, as this process sees it.
    pub(crate) fn now() -> Self {
        let text = |path: &str| fs::read_to_string(path).ok();
        let range = text("/proc/sys/net/ipv4/ip_local_port_range");
        let reserved = text("/proc/sys/net/ipv4/ip_local_reserved_ports").unwrap_or_default();
        let share = |max: &str, used: &str| {
            let used = number(used).unwrap_or(0);
            Some(Share { left: number(max)?.saturating_sub(used), used })
        };
        let netfilter = "/proc/sys/net/netfilter/nf_conntrack";
        let cgroup_bytes = meter::ExistingCgroup::own().and_then(|cgroup| cgroup.headroom_bytes().ok().flatten());
        Self {
            kernel: KernelLimits::read(),
            pids_used: meter::pids_limit().map_or(0, |limit| limit.current),
            pids_file: meter::pids_limit().map(|limit| limit.file),
            ports: range.and_then(|range| count_of_ports(&range, &reserved)),
            somaxconn: number("/proc/sys/net/core/somaxconn"),
            tcp_pages: text("/proc/sys/net/ipv4/tcp_mem").and_then(|pages| nth(&pages, 2)),
            conntrack: share(&format!("{netfilter}_max"), &format!("{netfilter}_count")),
            files: share("/proc/sys/fs/file-max", "/proc/sys/fs/file-nr"),
            epoll_watches: number("/proc/sys/fs/epoll/max_user_watches"),
            ram_bytes: meter::machine::available_ram_bytes().into_iter().chain(cgroup_bytes).min(),
        }
    }
}

/// Whether this user may turn it, without turning it.
///
/// # Errors
/// Why not, and who may.
pub(crate) fn may(knob: &Knob) -> Result<(), String> {
    match knob {
        // Opened for writing, and nothing written.
        Knob::File(path) => match File::options().write(true).open(path) {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == ErrorKind::ReadOnlyFilesystem => {
                Err("read-only here, as in a container: set it on the host, or when the container is started".into())
            }
            Err(error) if error.kind() == ErrorKind::PermissionDenied => Err("only root may".into()),
            Err(error) => Err(format!("{}: {error}", path.display())),
        },
        Knob::HardLimit(value) => may_raise(*value, capabilities(), number("/proc/sys/fs/nr_open")),
    }
}

fn may_raise(value: usize, capabilities: u64, nr_open: Option<u64>) -> Result<(), String> {
    if (capabilities >> CAP_SYS_RESOURCE) & 1 == 0 {
        return Err("without CAP_SYS_RESOURCE; set it where the session, container (--ulimit nofile=) or unit (LimitNOFILE=) starts"
            .into());
    }
    match nr_open {
        Some(most) if value as u64 > most => Err(format!("fs.nr_open is {most}: raise it first")),
        _ => Ok(()),
    }
}

/// The effective capabilities of this process.
fn capabilities() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let hex = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    hex.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(0)
}

/// The first number of a file.
fn number(path: impl AsRef<Path>) -> Option<u64> {
    nth(&fs::read_to_string(path).ok()?, 0)
}

fn nth(text: &str, at: usize) -> Option<u64> {
    text.split_whitespace().nth(at)?.parse().ok()
}

/// Ports within the range, without those that are reserved: `8080,9000-9010`.
fn count_of_ports(range: &str, reserved: &str) -> Option<usize> {
    let (first, last) = (nth(range, 0)?, nth(range, 1)?);
    let count = |first: u64, last: u64| (last + 1).saturating_sub(first);
    let within = |part: &str| {
        let (from, to) = part.trim().split_once('-').unwrap_or((part.trim(), part.trim()));
        Some(count(from.parse::<u64>().ok()?.max(first), to.parse::<u64>().ok()?.min(last)))
    };
    let reserved: u64 = reserved.split(',').filter_map(within).sum();
    usize::try_from(count(first, last).saturating_sub(reserved)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn port_ranges_are_parsed() {
        assert_eq!(count_of_ports("32768\t60999\n", "\n"), Some(28_232));
        assert_eq!(count_of_ports("32768\t60999\n", "8080,32768-32777,60999-61010,x\n"), Some(28_221));
        assert_eq!(count_of_ports("none", ""), None);
    }

    #[test]
    fn a_hard_limit_needs_a_capability_and_has_an_upper_end() {
        let all = u64::MAX;
        assert!(may_raise(100, all, Some(100)).is_ok() && may_raise(100, all, None).is_ok());
        assert!(may_raise(101, all, Some(100)).unwrap_err().contains("fs.nr_open is 100"));
        assert!(may_raise(1, all & !(1 << CAP_SYS_RESOURCE), None).unwrap_err().contains("CAP_SYS_RESOURCE"));
    }

    #[test]
    fn a_file_that_cannot_be_written_says_why() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("limit");
        fs::write(&file, "7").unwrap();
        assert_eq!(may(&Knob::File(file.clone())), Ok(()));
        // Nothing was written.
        assert_eq!(number(&file), Some(7));
        assert!(may(&Knob::File(directory.path().join("none"))).unwrap_err().contains("No such file"));
    }
}
