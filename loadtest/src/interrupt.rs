//! Ctrl-C: the first stops the run and keeps what was measured, the second kills at once.

use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

use anyhow::{Context as _, Result};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

/// The exit status of a process that SIGINT has ended, as shells give it.
pub(crate) const EXIT_STATUS: u8 = 130;

/// Whether the user wants to stop.
#[derive(Clone, Debug)]
pub(crate) struct Interrupt {
    state: Arc<State>,
}

#[derive(Debug, Default)]
struct State {
    is_raised: AtomicBool,
    /// The process group of the running server; 0 if there is none.
    server_group: AtomicI32,
}

impl Interrupt {
    /// Catches SIGINT, SIGTERM and SIGHUP from now on.
    ///
    /// goose sets a handler with the same crate when an attack starts. The crate keeps the first: this one.
    pub(crate) fn install() -> Result<Self> {
        let state = Arc::new(State::default());
        let caught = state.clone();
        ctrlc::set_handler(move || {
            if caught.is_raised.swap(true, Ordering::SeqCst) {
                kill_group(caught.server_group.load(Ordering::SeqCst));
                process::exit(EXIT_STATUS.into());
            }
            eprintln!("\nstopping; once more to kill");
        })
        .context("Ctrl-C cannot be caught")?;
        Ok(Self { state })
    }

    /// Whether it came.
    pub(crate) fn is_raised(&self) -> bool {
        self.state.is_raised.load(Ordering::SeqCst)
    }

    /// Names the process group that a second Ctrl-C kills; 0 for none.
    pub(crate) fn guard(&self, process_group: i32) {
        self.state.server_group.store(process_group, Ordering::SeqCst);
    }
}

/// Kills a process group, if there is one.
pub(crate) fn kill_group(process_group: i32) {
    if process_group > 1 {
        // It may have ended meanwhile: all the better.
        let _ = killpg(Pid::from_raw(process_group), Signal::SIGKILL);
    }
}
