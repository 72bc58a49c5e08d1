//! Whatever descends from this process.

use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;

/// How long to keep killing: a process that forks may be a step ahead.
const TIMEOUT: Duration = Duration::from_secs(2);
const RETRY_INTERVAL: Duration = Duration::from_millis(5);

/// Kills all that descends from this process, which must be the reaper of orphans, and waits for them to be gone.
pub(crate) fn kill_all() {
    let own = std::process::id() as i32;
    let deadline = Instant::now() + TIMEOUT;
    loop {
        let descent: Vec<i32> = meter::process_tree(own).into_iter().filter(|&pid| pid != own).collect();
        if descent.is_empty() || Instant::now() > deadline {
            return;
        }
        for pid in descent.into_iter().map(Pid::from_raw) {
            // It may be gone already, or be a zombie that waits for us.
            let _ = kill(pid, Signal::SIGKILL);
            let _ = waitpid(pid, Some(WaitPidFlag::WNOHANG));
        }
        thread::sleep(RETRY_INTERVAL);
    }
}
