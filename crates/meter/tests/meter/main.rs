//! The meter against real processes: whatever it reads, somebody really allocated.

mod cgroup;
mod ledger;
mod roles;
mod started;
mod tree;

use std::time::{Duration, Instant};

/// Asks until the answer is yes. The deadline is for a broken meter, far beyond what a loaded machine takes.
fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !condition() {
        assert!(Instant::now() < deadline, "never happened: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
