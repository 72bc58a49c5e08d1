//! The limit of processes and threads of the cgroup that this process is in, such as a container's.

use std::fs;
use std::path::{Path, PathBuf};

use crate::cgroup::own_directory;

/// A limit of processes and threads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PidsLimit {
    /// How many the cgroup may have, those of the groups below it too.
    pub max: u64,
    /// How many it has.
    pub current: u64,
    /// The file that holds the limit.
    pub file: PathBuf,
}

impl PidsLimit {
    /// How many more it may have.
    pub fn left(&self) -> u64 {
        self.max.saturating_sub(self.current)
    }
}

/// The limit that leaves the least, of our cgroup and those around it, as far as they can be seen; `None` without one.
pub fn pids_limit() -> Option<PidsLimit> {
    let (own, mount) = own_directory("pids").or_else(|| own_directory(""))?;
    lowest(&own, &mount)
}

/// The files have the same names in both versions.
fn lowest(own: &Path, mount: &Path) -> Option<PidsLimit> {
    own.ancestors().take_while(|dir| dir.starts_with(mount)).filter_map(read).min_by_key(PidsLimit::left)
}

fn read(dir: &Path) -> Option<PidsLimit> {
    let file = dir.join("pids.max");
    // Without a limit it is the word "max".
    let max = fs::read_to_string(&file).ok()?.trim().parse().ok()?;
    let current = fs::read_to_string(dir.join("pids.current")).ok()?.trim().parse().ok()?;
    Some(PidsLimit { max, current, file })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_group_that_leaves_the_least_counts() {
        let mount = tempfile::tempdir().unwrap();
        let own = mount.path().join("pod/container");
        fs::create_dir_all(&own).unwrap();
        assert_eq!(lowest(&own, mount.path()), None);
        let write = |dir: &Path, max: &str, current: &str| {
            fs::write(dir.join("pids.max"), max).unwrap();
            fs::write(dir.join("pids.current"), current).unwrap();
        };
        write(&own, "max\n", "3\n");
        assert_eq!(lowest(&own, mount.path()), None);
        write(&own, "500\n", "3\n");
        write(&mount.path().join("pod"), "600\n", "590\n");
        let found = lowest(&own, mount.path()).unwrap();
        assert_eq!((found.max, found.left()), (600, 10));
        assert_eq!(found.file, mount.path().join("pod/pids.max"));
        // More than allowed: the limit was lowered since.
        write(&mount.path().join("pod"), "600\n", "700\n");
        assert_eq!(lowest(&own, mount.path()).unwrap().left(), 0);
    }
}
