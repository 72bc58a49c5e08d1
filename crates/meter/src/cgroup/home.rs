//! Finds our own cgroup, and so where to create a new one.

use std::fs;
use std::path::{Path, PathBuf};

use procfs::process::{MountInfo, Process};

use crate::MeterError;

/// Our own cgroup's directories.
#[derive(Debug)]
pub(super) enum Home {
    /// v2 with the memory controller: our directory and the mount point above it.
    V2 { own: PathBuf, mount: PathBuf },
    /// v1: our directory in the hierarchy of each controller; both may share one.
    V1 { memory: PathBuf, cpuacct: Option<PathBuf> },
}

impl Home {
    /// The directories where [`find`] may have placed a group.
    pub(super) fn parents(&self) -> Vec<PathBuf> {
        match self {
            Home::V2 { own, mount } => {
                own.ancestors().take_while(|dir| dir.starts_with(mount)).map(Path::to_owned).collect()
            }
            Home::V1 { memory, cpuacct } => [memory].into_iter().chain(cpuacct).cloned().collect(),
        }
    }
}

/// Finds our cgroup.
pub(super) fn find() -> Result<Home, MeterError> {
    of(&Process::myself()?)
}

/// Finds the cgroup of `process`. Prefers v2, unless v1 has the memory controller, as in a hybrid setup.
pub(super) fn of(process: &Process) -> Result<Home, MeterError> {
    if let Some((own, mount)) = directory(process, "")
        && lists_memory(&own.join("cgroup.controllers"))
    {
        return Ok(Home::V2 { own, mount });
    }
    let Some((memory, _)) = directory(process, "memory") else {
        return Err(MeterError::NoCgroup {
            why: "neither cgroup v2 nor v1 offers a memory controller here".into(),
            remedy: "boot without cgroup_disable=memory; on v2 enable `+memory` in the parent's cgroup.subtree_control"
                .into(),
        });
    };
    let cpuacct = directory(process, "cpuacct").map(|(own, _)| own);
    Ok(Home::V1 { memory, cpuacct })
}

/// Our cgroup's directory in the hierarchy of a v1 controller, and the mount point above it; with "", those of v2.
pub(crate) fn own_directory(controller: &str) -> Option<(PathBuf, PathBuf)> {
    directory(&Process::myself().ok()?, controller)
}

/// The same for `process`, as this one sees it.
fn directory(process: &Process, controller: &str) -> Option<(PathBuf, PathBuf)> {
    let group = process.cgroups().ok()?.0.into_iter().find(|group| match controller {
        "" => group.controllers.is_empty(),
        _ => group.controllers.iter().any(|name| name == controller),
    })?;
    let mounts = Process::myself().ok()?.mountinfo().ok()?;
    let mount = mounts.0.into_iter().find(|mount| mounts_controller(mount, controller))?;
    Some((below_mount(&mount.mount_point, &mount.root, &group.pathname), mount.mount_point))
}

/// Whether a v2 list of controllers includes memory; false without a list.
pub(super) fn lists_memory(list: &Path) -> bool {
    let controllers = fs::read_to_string(list).unwrap_or_default();
    controllers.split_whitespace().any(|name| name == "memory")
}

/// The controller "" stands for v2 as a whole.
fn mounts_controller(mount: &MountInfo, controller: &str) -> bool {
    match controller {
        "" => mount.fs_type == "cgroup2",
        _ => mount.fs_type == "cgroup" && mount.super_options.contains_key(controller),
    }
}

/// The directory of a cgroup. Its path in `/proc/self/cgroup` is relative to the root of the hierarchy, but a container
/// may see only the part below `mount_root`. Outside of that it cannot be reached, and the mount point is the best
/// guess.
fn below_mount(mount_point: &Path, mount_root: &str, cgroup_path: &str) -> PathBuf {
    match Path::new(cgroup_path).strip_prefix(mount_root) {
        Ok(below) if below.as_os_str().is_empty() => mount_point.to_owned(),
        Ok(below) => mount_point.join(below),
        Err(_) => mount_point.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cgroup_path_is_relative_to_the_mounts_root() {
        let dir = |root, path| below_mount(Path::new("/cg"), root, path);
        assert_eq!(dir("/", "/"), Path::new("/cg"));
        assert_eq!(dir("/", "/a/b"), Path::new("/cg/a/b"));
        assert_eq!(dir("/docker/1", "/docker/1"), Path::new("/cg"));
        assert_eq!(dir("/docker/1", "/docker/1/a"), Path::new("/cg/a"));
        assert_eq!(dir("/docker/1", "/elsewhere"), Path::new("/cg"));
    }

    #[test]
    fn a_v2_group_may_be_below_any_ancestor_within_the_mount() {
        let home = Home::V2 { own: "/cg/a/b".into(), mount: "/cg".into() };
        assert_eq!(home.parents(), ["/cg/a/b", "/cg/a", "/cg"].map(PathBuf::from));
    }
}
