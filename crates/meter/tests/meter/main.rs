//! The meter against real processes that hold known amounts of memory.

mod cgroup;
mod ledger;
mod roles;
mod started;
mod switches;
mod tree;

use std::time::{Duration, Instant};

/// Polls until the condition holds. The deadline is far beyond what a loaded machine needs.
fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !condition() {
        assert!(Instant::now() < deadline, "never happened: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
