//! Whatever descends from this process.

use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, waitid, waitpid};
use nix::unistd::Pid;

/// How long to keep killing: a process that forks may be a step ahead.
const TIMEOUT: Duration = Duration::from_secs(2);
const RETRY_INTERVAL: Duration = Duration::from_millis(5);
/// With children that are spared, so many walks in a row must find nothing else: one may miss a process whose parent dies.
const QUIET_WALKS: u32 = 3;

/// Children of this process that are no server's.
static SPARED: Mutex<Vec<i32>> = Mutex::new(Vec::new());

/// From now on [`kill_all`] spares this child and what descends from it.
pub(crate) fn spare(pid: i32) {
    SPARED.lock().unwrap_or_else(PoisonError::into_inner).push(pid);
}

/// The child has ended: its number may become another's.
pub(crate) fn forget(pid: i32) {
    SPARED.lock().unwrap_or_else(PoisonError::into_inner).retain(|spared| *spared != pid);
}

/// Kills all that descends from this process, which must be the reaper of orphans, and waits for them to be gone.
pub(crate) fn kill_all() {
    let own = std::process::id() as i32;
    let spared = SPARED.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let deadline = Instant::now() + TIMEOUT;
    let mut quiet_walks = 0;
    while has_children() && quiet_walks < QUIET_WALKS && Instant::now() < deadline {
        let kept: Vec<i32> = meter::process_trees(&spared).into_iter().chain([own]).collect();
        let descent: Vec<i32> = meter::process_tree(own).into_iter().filter(|pid| !kept.contains(pid)).collect();
        quiet_walks = if descent.is_empty() && !spared.is_empty() { quiet_walks + 1 } else { 0 };
        for pid in descent.into_iter().map(Pid::from_raw) {
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
