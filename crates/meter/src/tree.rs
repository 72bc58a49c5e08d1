//! Who descends from whom.

use std::collections::HashMap;

/// The process `root_pid` and all its descendants, the root first; empty if it does not exist.
///
/// One pass over `/proc/PID/stat` finds everyone's parent. (`/proc/PID/task/*/children` would be shorter, but needs
/// `CONFIG_PROC_CHILDREN`, and misses children while others exit.) Zombies are listed: a supervisor has to reap them.
///
/// A process whose parent died belongs to init, or to a subreaper, and is no longer found; a [`Cgroup`](crate::Cgroup)
/// still holds it.
pub fn process_tree(root_pid: i32) -> Vec<i32> {
    let Ok(everyone) = procfs::process::all_processes() else {
        return Vec::new();
    };
    let mut children: HashMap<i32, Vec<i32>> = HashMap::new();
    let mut tree = Vec::new();
    // One that vanishes between readdir and read is simply not there.
    for stat in everyone.flatten().flat_map(|process| process.stat()) {
        if stat.pid == root_pid {
            tree.push(root_pid);
        } else {
            children.entry(stat.ppid).or_default().push(stat.pid);
        }
    }
    let mut visited = 0;
    while let Some(&parent) = tree.get(visited) {
        visited += 1;
        // Removing makes the walk end, even if a pid was reused during the pass and the table has a cycle.
        tree.extend(children.remove(&parent).unwrap_or_default());
    }
    tree
}
