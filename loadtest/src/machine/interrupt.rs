//! Ctrl-C: the first stops the run and keeps what was measured, the second also kills the server, the third ends at once.

use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, Ordering::SeqCst};

use anyhow::{Context as _, Result};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use super::terminal::say;

/// The exit status of a process that SIGINT has ended, as shells give it.
pub(crate) const EXIT_STATUS: u8 = 130;

/// Whether the user wants to stop.
#[derive(Clone, Debug)]
pub(crate) struct Interrupt {
    state: Arc<State>,
}

#[derive(Debug, Default)]
struct State {
    /// How often the user has said so.
    count: AtomicU32,
    /// The process group that runs for us; 0 if there is none.
    group: AtomicI32,
    /// Whether the group is to be killed at the first signal already.
    is_group_idle: AtomicBool,
}

impl Interrupt {
    /// Catches SIGINT, SIGTERM and SIGHUP from now on.
    ///
    /// goose sets a handler with the same crate when an attack starts. The crate keeps the first: this one.
    pub(crate) fn install() -> Result<Self> {
        let state = Arc::new(State::default());
        let caught = state.clone();
        ctrlc::set_handler(move || caught.interrupt()).context("Ctrl-C cannot be caught")?;
        Ok(Self { state })
    }

    /// Whether it came.
    pub(crate) fn is_raised(&self) -> bool {
        self.state.count.load(SeqCst) > 0
    }

    /// Names the process group that a second Ctrl-C kills; 0 for none.
    pub(crate) fn guard(&self, process_group: i32) {
        self.state.is_group_idle.store(false, SeqCst);
        self.state.group.store(process_group, SeqCst);
    }

    /// Names a process group that the first Ctrl-C kills, because nothing is lost with it.
    pub(crate) fn guard_idle(&self, process_group: i32) {
        self.state.is_group_idle.store(true, SeqCst);
        self.state.group.store(process_group, SeqCst);
    }
}

impl State {
    fn interrupt(&self) {
        let count = self.count.fetch_add(1, SeqCst) + 1;
        let group = self.group.load(SeqCst);
        if count > 1 || self.is_group_idle.load(SeqCst) {
            // With the server gone, the run ends by itself, and keeps what it has.
            kill_group(group);
        }
        match count {
            1 => say("\nstopping; once more to kill the server"),
            2 => {}
            _ => process::exit(EXIT_STATUS.into()),
        }
    }
}

/// Kills a process group, if there is one.
pub(crate) fn kill_group(process_group: i32) {
    if process_group > 1 {
        // It may have ended meanwhile: all the better.
        let _ = killpg(Pid::from_raw(process_group), Signal::SIGKILL);
    }
}
