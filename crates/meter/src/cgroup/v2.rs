//! cgroup v2: one directory in a single hierarchy.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::home::lists_memory;
use super::{CgroupParts, file_error, make_dir, missing_value, read, read_number, stat_value, write, write_if_exists};
use crate::MeterError;

/// The directory of one group, and its `memory.peak` held open: a reset applies only to the descriptor that did it.
#[derive(Debug)]
pub(super) struct Files {
    pub(super) dir: PathBuf,
    peak: Option<File>,
}

impl Files {
    pub(super) fn create(own: &Path, mount: &Path, name: &str) -> Result<Files, MeterError> {
        let dir = parent(own, mount)?.join(name);
        make_dir(&dir)?;
        let peak = File::options().read(true).write(true).open(dir.join("memory.peak")).ok();
        Ok(Files { dir, peak })
    }

    /// An existing group; `None` for the root, which has no accounting.
    pub(super) fn existing(dir: PathBuf) -> Option<Files> {
        dir.join("memory.current").exists().then_some(Files { dir, peak: None })
    }

    pub(super) fn current_bytes(&self) -> Result<u64, MeterError> {
        read_number(&self.dir.join("memory.current"))
    }

    pub(super) fn peak_bytes(&self) -> Result<u64, MeterError> {
        let path = self.dir.join("memory.peak");
        let Some(file) = &self.peak else {
            return read_number(&path);
        };
        let mut digits = [0; 32];
        let length = file.read_at(&mut digits, 0).map_err(|source| file_error(&path, source))?;
        let text = str::from_utf8(&digits[..length]).unwrap_or_default();
        text.trim().parse().map_err(|_| missing_value(&path, "number"))
    }

    pub(super) fn set_limit_bytes(&self, limit_bytes: u64) -> Result<(), MeterError> {
        write(&self.dir.join("memory.max"), &limit_bytes.to_string())?;
        write_if_exists(&self.dir.join("memory.swap.max"), "0")
    }

    pub(super) fn reset_peak(&self) -> Result<(), MeterError> {
        let reset = self.peak.as_ref().map(|file| file.write_at(b"reset", 0));
        match reset {
            Some(Ok(_)) => Ok(()),
            _ => Err(MeterError::Unavailable { what: "resetting memory.peak", why: "it needs Linux 6.12" }),
        }
    }

    pub(super) fn cpu_usec(&self) -> Result<u64, MeterError> {
        self.value("cpu.stat", "usage_usec")
    }

    pub(super) fn parts(&self) -> Result<CgroupParts, MeterError> {
        let stat = read(&self.dir.join("memory.stat"))?;
        Ok(CgroupParts { total_bytes: self.current_bytes()?, ..parse_stat(&stat) })
    }

    /// The lowest limit of the group and its ancestors, as far as they are visible from here.
    pub(super) fn limit_bytes(&self) -> Result<Option<u64>, MeterError> {
        read(&self.dir.join("memory.max"))?;
        // The root has no such file, and "max" is not a number.
        let limits = self.dir.ancestors().map_while(|dir| fs::read_to_string(dir.join("memory.max")).ok());
        Ok(limits.filter_map(|limit| limit.trim().parse().ok()).min())
    }

    pub(super) fn oom_kills(&self) -> Result<u64, MeterError> {
        self.value("memory.events", "oom_kill")
    }

    fn value(&self, file: &str, key: &str) -> Result<u64, MeterError> {
        let path = self.dir.join(file);
        stat_value(&read(&path)?, key).ok_or_else(|| missing_value(&path, key))
    }
}

/// The nearest cgroup, from our own upwards, that delegates the memory controller.
fn parent<'a>(own: &'a Path, mount: &Path) -> Result<&'a Path, MeterError> {
    // Only the root may both hold processes and delegate controllers. Elsewhere the kernel refuses, as it should: other
    // groups are not ours to change.
    let _ = fs::write(own.join("cgroup.subtree_control"), "+memory");
    let mut ancestors = own.ancestors().take_while(|dir| dir.starts_with(mount));
    ancestors.find(|dir| lists_memory(&dir.join("cgroup.subtree_control"))).ok_or_else(|| MeterError::NoCgroup {
        why: format!("no cgroup from {} upwards delegates the memory controller", own.display()),
        remedy: "move this shell into a child cgroup, then write `+memory` into the parent's cgroup.subtree_control"
            .into(),
    })
}

/// The lines of `memory.stat` that are parts of the total.
fn parse_stat(stat: &str) -> CgroupParts {
    CgroupParts {
        total_bytes: 0,
        anon_bytes: stat_value(stat, "anon"),
        file_bytes: stat_value(stat, "file"),
        kernel_bytes: stat_value(stat, "kernel"),
        sockets_bytes: stat_value(stat, "sock"),
        slab_bytes: stat_value(stat, "slab"),
        page_tables_bytes: stat_value(stat, "pagetables"),
        kernel_stacks_bytes: stat_value(stat, "kernel_stack"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_limit_of_all_ancestors_counts() {
        let root = std::env::temp_dir().join(format!("meter-limits-{}", std::process::id()));
        let own = root.join("pod/container");
        fs::create_dir_all(&own).expect("make it");
        let limit_with = |pod: &str, container: &str| {
            fs::write(root.join("pod/memory.max"), pod).expect("write");
            fs::write(own.join("memory.max"), container).expect("write");
            Files { dir: own.clone(), peak: None }.limit_bytes().expect("limit")
        };
        assert_eq!(limit_with("max\n", "max\n"), None);
        assert_eq!(limit_with("max\n", "4096\n"), Some(4096));
        assert_eq!(limit_with("8192\n", "max\n"), Some(8192));
        assert_eq!(limit_with("8192\n", "4096\n"), Some(4096));
        fs::remove_dir_all(root).expect("remove it");
    }

    /// The first lines of a real `memory.stat`, Linux 6.1.
    const STAT: &str = "\
anon 5492736
file 77824
kernel 376832
kernel_stack 65536
pagetables 163840
sec_pagetables 0
percpu 0
sock 4096
vmalloc 0
shmem 0
file_mapped 69632
inactive_anon 5476352
slab_reclaimable 4592
slab_unreclaimable 75744
slab 80336
";

    #[test]
    fn stat_has_the_parts() {
        let parts = CgroupParts {
            total_bytes: 0,
            anon_bytes: Some(5_492_736),
            file_bytes: Some(77_824),
            kernel_bytes: Some(376_832),
            sockets_bytes: Some(4_096),
            slab_bytes: Some(80_336),
            page_tables_bytes: Some(163_840),
            kernel_stacks_bytes: Some(65_536),
        };
        assert_eq!(parse_stat(STAT), parts);
    }

    #[test]
    fn before_linux_5_18_there_is_no_kernel_total() {
        let parts = parse_stat("anon 8192\nkernel_stack 16384\n");
        assert_eq!((parts.kernel_bytes, parts.kernel_stacks_bytes), (None, Some(16_384)));
    }

    #[test]
    fn cpu_time_is_the_sum_not_its_halves() {
        let cpu_stat = "usage_usec 270000\nuser_usec 260000\nsystem_usec 10000\n";
        assert_eq!(stat_value(cpu_stat, "usage_usec"), Some(270_000));
    }
}
