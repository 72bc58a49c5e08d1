//! A cgroup that is there already: it is only read.

use std::fs;
use std::path::{Path, PathBuf};

use procfs::process::Process;

use super::{CgroupParts, Files, home, parse_pids, read, v1, v2};
use crate::MeterError;

/// A memory cgroup that somebody else made, read-only: that of this process (in a container, the container's), of another
/// process, or one by its directory.
///
/// Its figures cover every process in it and in the groups below it. On v1 they include TCP buffers only where TCP
/// accounting is on: see [`Cgroup`](crate::Cgroup).
#[derive(Debug)]
pub struct ExistingCgroup {
    files: Files,
}

impl ExistingCgroup {
    /// The cgroup of this process; `None` in the root cgroup, which accounts for the whole machine, or without a memory
    /// controller.
    pub fn own() -> Option<Self> {
        Self::from_home(home::find().ok()?)
    }

    /// The cgroup of the process `pid`; `None` as for [`own`](Self::own), if there is no such process, and if its cgroup
    /// cannot be seen from here, as from inside a container.
    pub fn of(pid: i32) -> Option<Self> {
        let cgroup = Self::from_home(home::of(&Process::new(pid).ok()?).ok()?)?;
        cgroup.pids().ok()?.contains(&pid).then_some(cgroup)
    }

    /// The cgroup at this directory, of either version; `None` if it is none with a memory controller, or the root.
    pub fn at(directory: &Path) -> Option<Self> {
        let directory = directory.to_owned();
        let v1 = || v1::Files::existing(directory.clone()).map(Files::V1);
        let files = v1().or_else(|| v2::Files::existing(directory.clone()).map(Files::V2))?;
        Some(Self { files })
    }

    fn from_home(home: home::Home) -> Option<Self> {
        let files = match home {
            home::Home::V2 { own, .. } => Files::V2(v2::Files::existing(own)?),
            home::Home::V1 { memory, .. } => Files::V1(v1::Files::existing(memory)?),
        };
        Some(Self { files })
    }

    /// Its directory; on v1 that of the memory controller.
    pub fn directory(&self) -> &Path {
        self.files.memory_dir()
    }

    /// See [`Cgroup::current_bytes`](crate::Cgroup::current_bytes).
    ///
    /// # Errors
    /// [`MeterError::File`], as for all these figures, if the kernel's file cannot be read or parsed.
    pub fn current_bytes(&self) -> Result<u64, MeterError> {
        self.files.current_bytes()
    }

    /// The highest [`current_bytes`](Self::current_bytes) since the cgroup was created, in bytes; on v1 an upper bound,
    /// because TCP buffers have a peak of their own.
    ///
    /// # Errors
    /// [`MeterError::File`]; v2 has no peak before Linux 5.19.
    pub fn peak_bytes(&self) -> Result<u64, MeterError> {
        match &self.files {
            Files::V1(files) => files.peak_bound_bytes(),
            Files::V2(files) => files.peak_bytes(),
        }
    }

    /// See [`Cgroup::parts`](crate::Cgroup::parts).
    ///
    /// # Errors
    /// [`MeterError::File`].
    pub fn parts(&self) -> Result<CgroupParts, MeterError> {
        self.files.parts()
    }

    /// What the group may use before the kernel kills a process in it, in bytes: the lowest limit of the group and its
    /// ancestors, as far as they are visible from inside. `None` means no limit.
    ///
    /// # Errors
    /// [`MeterError::File`].
    pub fn limit_bytes(&self) -> Result<Option<u64>, MeterError> {
        match &self.files {
            Files::V1(files) => files.limit_bytes(),
            Files::V2(files) => files.limit_bytes(),
        }
    }

    /// How much more the group may use, in bytes, page cache that nobody uses counting as free: what Kubernetes calls the
    /// working set is the rest. `None` without a limit.
    ///
    /// # Errors
    /// [`MeterError::File`].
    pub fn headroom_bytes(&self) -> Result<Option<u64>, MeterError> {
        let Some(limit_bytes) = self.limit_bytes()? else { return Ok(None) };
        let used_bytes = self.current_bytes()?.saturating_sub(self.files.inactive_file_bytes()?);
        Ok(Some(limit_bytes.saturating_sub(used_bytes)))
    }

    /// See [`Cgroup::oom_kills`](crate::Cgroup::oom_kills).
    ///
    /// # Errors
    /// [`MeterError::File`].
    pub fn oom_kills(&self) -> Result<u64, MeterError> {
        self.files.oom_kills()
    }

    /// The processes now in the group and in those below it, in no order, without zombies.
    ///
    /// # Errors
    /// [`MeterError::File`].
    pub fn pids(&self) -> Result<Vec<i32>, MeterError> {
        let mut pids = parse_pids(&read(&self.directory().join("cgroup.procs"))?);
        for group in groups_below(self.directory()) {
            // It may be gone meanwhile.
            pids.extend(parse_pids(&read(&group.join("cgroup.procs")).unwrap_or_default()));
        }
        Ok(pids)
    }
}

fn groups_below(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let children = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path());
    children.flat_map(|child| [vec![child.clone()], groups_below(&child)].concat()).collect()
}
