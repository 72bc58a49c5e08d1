//! Ctrl-C: the first stops the run and keeps the results so far, the second also kills the server, the third exits at
//! once.

use std::process;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, Ordering::SeqCst};

use anyhow::{Context as _, Result};
use nix::sys::signal::{SigHandler, Signal, killpg};
use nix::unistd::Pid;
use procfs::process::Process;

use super::terminal::say;

const CAUGHT: [Signal; 3] = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP];
/// The exit status that shells report for a process ended by SIGINT.
pub(crate) const EXIT_STATUS: u8 = 130;

/// What the handler changes: a process has one.
static STATE: State =
    State { count: AtomicU32::new(0), group: AtomicI32::new(0), is_group_disposable: AtomicBool::new(false) };

/// Whether a signal has arrived that this process catches: an error after that is no failure.
pub(crate) fn has_come() -> bool {
    STATE.count.load(SeqCst) > 0
}

/// Whether the user asked to stop.
#[derive(Clone, Debug)]
pub(crate) struct Interrupt {
    state: &'static State,
}

#[derive(Debug)]
struct State {
    /// How many signals have arrived.
    count: AtomicU32,
    /// The process group of the server or build; 0 if there is none.
    group: AtomicI32,
    /// Whether the first signal kills the group.
    is_group_disposable: AtomicBool,
}

impl Interrupt {
    /// Catches SIGINT, SIGTERM and SIGHUP from now on, except those that are ignored, as SIGHUP under `nohup`: they stay
    /// so, here and in the server.
    ///
    /// goose sets a handler with the same crate when an attack starts, but the crate keeps the first one, which is
    /// this.
    pub(crate) fn install() -> Result<Self> {
        let ignored: Vec<Signal> = CAUGHT.into_iter().filter(|&signal| is_ignored(signal)).collect();
        ctrlc::set_handler(|| STATE.interrupt()).context("cannot handle Ctrl-C")?;
        ignored.into_iter().try_for_each(ignore).context("cannot go on to ignore a signal")?;
        Ok(Self { state: &STATE })
    }

    /// Whether a signal has arrived.
    pub(crate) fn is_raised(&self) -> bool {
        has_come()
    }

    /// Sets the process group that a second Ctrl-C kills; 0 for none.
    pub(crate) fn guard(&self, process_group: i32) {
        self.state.is_group_disposable.store(false, SeqCst);
        self.state.group.store(process_group, SeqCst);
    }

    /// Sets a process group that the first Ctrl-C kills, because nothing is lost with it.
    pub(crate) fn guard_disposable(&self, process_group: i32) {
        self.state.is_group_disposable.store(true, SeqCst);
        self.state.group.store(process_group, SeqCst);
    }
}

/// Whether this process ignores a signal.
fn is_ignored(signal: Signal) -> bool {
    let status = Process::myself().and_then(|process| process.status());
    status.is_ok_and(|status| status.sigign & (1 << (signal as i32 - 1)) != 0)
}

/// Ignores a signal; processes started from now on do, too.
#[expect(unsafe_code, reason = "the only way to ignore a signal")]
fn ignore(signal: Signal) -> nix::Result<()> {
    // SAFETY: no handler of ours runs, so none can do what a handler must not.
    unsafe { nix::sys::signal::signal(signal, SigHandler::SigIgn) }.map(drop)
}

impl State {
    fn interrupt(&self) {
        let count = self.count.fetch_add(1, SeqCst) + 1;
        let group = self.group.load(SeqCst);
        if count > 1 || self.is_group_disposable.load(SeqCst) {
            // Without the server, the run ends by itself and keeps its results so far.
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
        // The group may already be gone.
        let _ = killpg(Pid::from_raw(process_group), Signal::SIGKILL);
    }
}
