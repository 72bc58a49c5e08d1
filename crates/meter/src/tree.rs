//! Process trees.

use std::collections::HashMap;

/// The process `root_pid` and all its descendants, the root first; empty if it does not exist.
///
/// One pass over `/proc/PID/stat` finds every parent. (`/proc/PID/task/*/children` would be shorter, but needs
/// `CONFIG_PROC_CHILDREN` and misses children while others exit.) Zombies are included, because a supervisor has to
/// reap them.
///
/// A process whose parent died belongs to init or a subreaper and is no longer found here; a [`Cgroup`](crate::Cgroup)
/// still has it.
pub fn process_tree(root_pid: i32) -> Vec<i32> {
    process_trees(&[root_pid])
}

/// The same of several processes, each process once, the roots first. One pass finds them all: a pass each would be slow.
pub fn process_trees(root_pids: &[i32]) -> Vec<i32> {
    let Ok(everyone) = procfs::process::all_processes() else {
        return Vec::new();
    };
    let mut children: HashMap<i32, Vec<i32>> = HashMap::new();
    let mut trees = Vec::new();
    // A process may exit between readdir and read.
    for stat in everyone.flatten().flat_map(|process| process.stat()) {
        if root_pids.contains(&stat.pid) {
            trees.push(stat.pid);
        } else {
            children.entry(stat.ppid).or_default().push(stat.pid);
        }
    }
    let mut visited = 0;
    while let Some(&parent) = trees.get(visited) {
        visited += 1;
        // Removing entries ends the walk even if a pid was reused during the pass and made a cycle.
        trees.extend(children.remove(&parent).unwrap_or_default());
    }
    trees
}
