//! What a reader has to know of the figures.

use results::RunResult;

/// What the peak is: it may differ from run to run, if one could not be metered as the others.
pub(crate) fn source_notes(results: &[RunResult]) -> Vec<&'static str> {
    let is_any =
        |is_it: fn(&str) -> bool| results.iter().filter_map(|result| result.memory.source.as_deref()).any(is_it);
    let mut notes = vec!["RAM: 1 MB = 10^6 bytes."];
    if is_any(|source| source.starts_with("cgroup")) {
        notes.push(
            "The peak is the whole charge of the server's own cgroup, kernel memory included. The indented parts are the \
             ledger from /proc, and the kernel memory that the cgroup was charged beyond it, at the end of the measured \
             time; PSS includes the pages of executable and libraries, which the cgroup is not charged for.",
        );
    }
    if is_any(|source| source == "admin") {
        notes.push(
            "RAM of a server that runs elsewhere is what it tells of its own cgroup (a container's): with the page cache of \
             files that it was the first to read, and on cgroup v1 without TCP buffers and accepted sockets, unless their \
             accounting is on.",
        );
    }
    if is_any(|source| source == "pss") {
        notes.push(
            "Without a cgroup (run as root for one) the peak is PSS + page tables + kernel stacks + sockets at the end of \
             the measured time, which leaves out other kernel memory.",
        );
    }
    notes
}
