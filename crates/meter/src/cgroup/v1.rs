//! cgroup v1: one directory in each of two hierarchies.

use std::path::{Path, PathBuf};

use super::{CgroupParts, make_dir, missing_value, read, read_number, stat_value, write, write_if_exists};
use crate::MeterError;

/// v1 expresses "no limit" as its highest page count; a limit this high is never real.
const NO_LIMIT_BYTES: u64 = 1 << 62;

/// The directories of one group. `cpuacct` is the same as `memory` where both controllers share a hierarchy.
#[derive(Debug)]
pub(super) struct Files {
    pub(super) memory: PathBuf,
    cpuacct: Option<PathBuf>,
}

impl Files {
    pub(super) fn create(memory_home: &Path, cpuacct_home: Option<&Path>, name: &str) -> Result<Files, MeterError> {
        let memory = memory_home.join(name);
        make_dir(&memory)?;
        // Without permission for cpuacct, RAM alone is still worth metering.
        let cpuacct = cpuacct_home.map(|home| home.join(name)).filter(|path| *path == memory || make_dir(path).is_ok());
        let files = Files { memory, cpuacct };
        // Setting any limit, even none, turns TCP accounting on. A kernel built without it has no such file.
        let _ = files.write("memory.kmem.tcp.limit_in_bytes", "-1");
        Ok(files)
    }

    /// An existing group; `None` for the root, which accounts for the whole machine.
    pub(super) fn existing(memory: PathBuf) -> Option<Files> {
        let is_root = memory.join("cgroup.sane_behavior").exists();
        (!is_root && memory.join("memory.usage_in_bytes").exists()).then_some(Files { memory, cpuacct: None })
    }

    pub(super) fn dirs(&self) -> Vec<&Path> {
        let cpuacct = self.cpuacct.as_deref().filter(|&cpuacct| cpuacct != self.memory);
        [self.memory.as_path()].into_iter().chain(cpuacct).collect()
    }

    pub(super) fn current_bytes(&self) -> Result<u64, MeterError> {
        Ok(self.number("memory.usage_in_bytes")? + self.number("memory.kmem.tcp.usage_in_bytes").unwrap_or(0))
    }

    /// Without TCP buffers, whose own peak may have come at another time.
    pub(super) fn peak_bytes(&self) -> Result<u64, MeterError> {
        self.number("memory.max_usage_in_bytes")
    }

    /// With that other peak: an upper bound.
    pub(super) fn peak_bound_bytes(&self) -> Result<u64, MeterError> {
        Ok(self.peak_bytes()? + self.number("memory.kmem.tcp.max_usage_in_bytes").unwrap_or(0))
    }

    /// Whether TCP buffers are accounted for, and so missing in the peak.
    pub(super) fn accounts_tcp(&self) -> bool {
        self.number("memory.kmem.tcp.usage_in_bytes").is_ok()
    }

    pub(super) fn set_limit_bytes(&self, limit_bytes: u64) -> Result<(), MeterError> {
        self.write("memory.limit_in_bytes", &limit_bytes.to_string())?;
        // RAM and swap together; it must not be lower than the RAM limit, so it comes second.
        write_if_exists(&self.memory.join("memory.memsw.limit_in_bytes"), &limit_bytes.to_string())
    }

    pub(super) fn reset_peak(&self) -> Result<(), MeterError> {
        let _ = self.write("memory.kmem.tcp.max_usage_in_bytes", "0");
        self.write("memory.max_usage_in_bytes", "0")
    }

    pub(super) fn cpu_usec(&self) -> Result<u64, MeterError> {
        let cpuacct = self.cpuacct.as_ref().ok_or(MeterError::Unavailable {
            what: "CPU time of a cgroup",
            why: "the v1 controller cpuacct is not mounted",
        })?;
        let used_ns = read_number(&cpuacct.join("cpuacct.usage"))?;
        Ok(used_ns / 1000)
    }

    pub(super) fn parts(&self) -> Result<CgroupParts, MeterError> {
        let stat = read(&self.memory.join("memory.stat"))?;
        Ok(CgroupParts {
            total_bytes: self.current_bytes()?,
            kernel_bytes: self.number("memory.kmem.usage_in_bytes").ok(),
            sockets_bytes: self.number("memory.kmem.tcp.usage_in_bytes").ok(),
            ..parse_stat(&stat)
        })
    }

    /// The lowest limit of the group and its ancestors, even those not visible from here.
    pub(super) fn limit_bytes(&self) -> Result<Option<u64>, MeterError> {
        let path = self.memory.join("memory.stat");
        let key = "hierarchical_memory_limit";
        let limit = stat_value(&read(&path)?, key).ok_or_else(|| missing_value(&path, key))?;
        Ok(Some(limit).filter(|&limit| limit < NO_LIMIT_BYTES))
    }

    pub(super) fn oom_kills(&self) -> Result<u64, MeterError> {
        let path = self.memory.join("memory.oom_control");
        stat_value(&read(&path)?, "oom_kill").ok_or_else(|| missing_value(&path, "oom_kill"))
    }

    fn number(&self, file: &str) -> Result<u64, MeterError> {
        read_number(&self.memory.join(file))
    }

    fn write(&self, file: &str, text: &str) -> Result<(), MeterError> {
        write(&self.memory.join(file), text)
    }
}

/// Parses `memory.stat`. The `total_` values include groups that the metered processes created below their own.
fn parse_stat(stat: &str) -> CgroupParts {
    CgroupParts {
        anon_bytes: stat_value(stat, "total_rss"),
        file_bytes: stat_value(stat, "total_cache"),
        ..CgroupParts::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_counts_the_groups_below_too() {
        let stat = "cache 4096\nrss 8192\nrss_huge 0\ntotal_cache 12288\ntotal_rss 1183744\ntotal_rss_huge 0\n";
        let parts = parse_stat(stat);
        assert_eq!(parts.anon_bytes, Some(1_183_744));
        assert_eq!(parts.file_bytes, Some(12_288));
        assert_eq!(parts.slab_bytes, None);
    }
}
