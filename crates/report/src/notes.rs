//! Notes below the figures.

use results::RunResult;

/// What the RAM figures include, which depends on how each run was metered.
pub(crate) fn source_notes(results: &[RunResult]) -> Vec<&'static str> {
    let is_any =
        |is_it: fn(&str) -> bool| results.iter().filter_map(|result| result.memory.source.as_deref()).any(is_it);
    let mut notes = vec!["RAM: 1 MB = 10^6 bytes."];
    if is_any(|source| source.starts_with("cgroup")) {
        notes.push(
            "The peak is the whole charge of the server's own cgroup, including kernel memory. The indented parts are \
             the ledger from /proc, and the kernel memory charged to the cgroup beyond it, at the end of the measured \
             time; PSS includes the pages of the executable and libraries, which are not charged to the cgroup.",
        );
    }
    if is_any(|source| source == "admin") {
        notes.push(
            "RAM of a server that runs elsewhere is what it reports of its own cgroup (a container's): with the page \
             cache of files that it read first, and on cgroup v1 without TCP buffers and accepted sockets, unless \
             their accounting is on.",
        );
    }
    if is_any(|source| source == "pss") {
        notes.push(
            "Without a cgroup (run as root to get one) the peak is PSS + page tables + kernel stacks + sockets at the \
             end of the measured time, which leaves out other kernel memory.",
        );
    }
    notes
}
