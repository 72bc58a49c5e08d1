//! Whatever descends from this process.

use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, waitid, waitpid};
use nix::unistd::Pid;

/// How long to keep killing: a process that forks may be a step ahead.
const TIMEOUT: Duration = Duration::from_secs(2);
const RETRY_INTERVAL: Duration = Duration::from_millis(5);

/// Kills all that descends from this process, which must be the reaper of orphans, and waits for them to be gone.
pub(crate) fn kill_all() {
    let own = std::process::id() as i32;
    let deadline = Instant::now() + TIMEOUT;
    while has_children() && Instant::now() < deadline {
        let descent = meter::process_tree(own).into_iter().filter(|&pid| pid != own);
        for pid in descent.map(Pid::from_raw) {
            // It may be gone already, or be a zombie that waits for us.
            let _ = kill(pid, Signal::SIGKILL);
            let _ = waitpid(pid, Some(WaitPidFlag::WNOHANG));
        }
        thread::sleep(RETRY_INTERVAL);
    }
}

/// Whether there is a child, running or not yet reaped. A walk through /proc misses one whose parent dies meanwhile.
fn has_children() -> bool {
    waitid(Id::All, WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT) != Err(Errno::ECHILD)
}
