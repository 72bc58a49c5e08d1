//! SIGTERM and SIGINT become a descriptor to poll; a second signal forces the exit. Threads that block can be interrupted.
#![expect(unsafe_code, reason = "signal handlers have no safe interface")]

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use nix::sys::pthread::{Pthread, pthread_kill};
use nix::sys::signal::Signal;
use signal_hook::consts::{SIGINT, SIGTERM, SIGUSR1};
use signal_hook::flag;
use signal_hook::low_level::{self, pipe};

/// Lets [`interrupt`] end system calls, and nothing else.
///
/// # Errors
/// The handler could not be installed.
pub fn let_interrupt() -> io::Result<()> {
    flag::register(SIGUSR1, Arc::default()).map(drop)
}

/// Has a read or write of `thread` return EINTR if it blocks in one that has a timeout: others go on (signal(7)). The thread
/// must be alive.
pub fn interrupt(thread: Pthread) {
    // It fails only for a signal that does not exist.
    let _ = pthread_kill(thread, Signal::SIGUSR1);
}

/// Becomes readable when the server is asked to stop.
#[derive(Debug)]
pub struct Shutdown(UnixStream);

impl Shutdown {
    /// Takes over SIGTERM and SIGINT. After the first, the next one ends the process at once, with status 128 plus the
    /// signal's number, as a shell would say it; that of SIGTERM if both came, for they may come in either order.
    ///
    /// # Errors
    /// The handlers could not be installed.
    pub fn install() -> io::Result<Self> {
        let (readable, writable) = UnixStream::pair()?;
        readable.set_nonblocking(true)?;
        // A bit for each signal: two threads that handle one each cannot both be the first.
        let came = Arc::new(AtomicU32::new(0));
        for signal in [SIGTERM, SIGINT] {
            let came = came.clone();
            let handler = move || match came.fetch_or(1 << signal, Relaxed) {
                0 => {}
                before => low_level::exit(128 + (before | 1 << signal).ilog2() as i32),
            };
            // First, so that no signal is noted without anybody being told.
            pipe::register(signal, writable.try_clone()?)?;
            // SAFETY: the handler does no more than change an atomic and `_exit`, which both may be done in one.
            unsafe { low_level::register(signal, handler) }?;
        }
        Ok(Self(readable))
    }

    /// The descriptor, for an event loop that wants to own it.
    pub fn into_stream(self) -> UnixStream {
        self.0
    }
}

impl AsFd for Shutdown {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
