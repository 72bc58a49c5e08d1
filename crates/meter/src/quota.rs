//! The CPU quota of the cgroup that this process is in, such as a container's.

use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::cgroup::own_directory;

/// A limit on CPU time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CpuQuota {
    /// How many CPUs the cgroup may keep busy; 0.5 is half of one.
    pub cpus: f64,
    /// How long its processes had to stand still so far because it was used up.
    pub throttled: Duration,
}

/// The lowest quota of our cgroup and those around it, as far as they can be seen; `None` without one.
pub fn cpu_quota() -> Option<CpuQuota> {
    let quotas = match own_directory("cpu") {
        Some((own, mount)) => find(&own, &mount, read_v1),
        None => own_directory("").map(|(own, mount)| find(&own, &mount, read_v2))?,
    };
    quotas.into_iter().min_by(|one, other| one.cpus.total_cmp(&other.cpus))
}

fn find(own: &Path, mount: &Path, read: fn(&Path) -> Option<CpuQuota>) -> Vec<CpuQuota> {
    own.ancestors().take_while(|dir| dir.starts_with(mount)).filter_map(read).collect()
}

fn read_v1(dir: &Path) -> Option<CpuQuota> {
    let number = |name| fs::read_to_string(dir.join(name)).ok()?.trim().parse::<i64>().ok();
    // Without a quota it is -1.
    let quota_us = number("cpu.cfs_quota_us").filter(|&quota_us| quota_us > 0)?;
    let throttled = Duration::from_nanos(stat(dir, "throttled_time")?);
    Some(CpuQuota { cpus: quota_us as f64 / number("cpu.cfs_period_us")? as f64, throttled })
}

fn read_v2(dir: &Path) -> Option<CpuQuota> {
    let max = fs::read_to_string(dir.join("cpu.max")).ok()?;
    // Without a quota it is the word "max".
    let (quota_us, period_us) = max.trim().split_once(' ')?;
    let cpus = quota_us.parse::<f64>().ok()? / period_us.parse::<f64>().ok()?;
    Some(CpuQuota { cpus, throttled: Duration::from_micros(stat(dir, "throttled_usec")?) })
}

fn stat(dir: &Path, name: &str) -> Option<u64> {
    let stat = fs::read_to_string(dir.join("cpu.stat")).ok()?;
    stat.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        files.iter().for_each(|(name, text)| fs::write(dir.path().join(name), text).unwrap());
        dir
    }

    #[test]
    fn quotas_of_both_versions_are_read() {
        let v2 = written(&[("cpu.max", "50000 100000\n"), ("cpu.stat", "usage_usec 9\nthrottled_usec 1500\n")]);
        let expected = CpuQuota { cpus: 0.5, throttled: Duration::from_micros(1_500) };
        assert_eq!(read_v2(v2.path()), Some(expected));
        let v1 = written(&[
            ("cpu.cfs_quota_us", "50000\n"),
            ("cpu.cfs_period_us", "100000\n"),
            ("cpu.stat", "nr_periods 1\nthrottled_time 1500000\n"),
        ]);
        assert_eq!(read_v1(v1.path()), Some(expected));
        let none = written(&[("cpu.max", "max 100000\n"), ("cpu.cfs_quota_us", "-1\n"), ("cpu.stat", "")]);
        assert_eq!((read_v1(none.path()), read_v2(none.path())), (None, None));
    }
}
