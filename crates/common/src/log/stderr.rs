//! Standard error that never makes its writer wait.
//!
//! Nobody may be reading it: a pipe is full then, and a blocking write would stop whoever has something to say, for good. So
//! what cannot be written at once is dropped, and counted.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, send};

/// Where the dropped lines are counted, once there is such a place.
static DROPPED: OnceLock<&'static AtomicU64> = OnceLock::new();

/// Counts in `lines` those that nobody took, from now on.
pub fn count_dropped(lines: &'static AtomicU64) {
    // It fails if there is another place already: there is one server a process.
    let _ = DROPPED.set(lines);
}

/// Standard error. A write is one line, and never fails.
#[derive(Debug)]
pub(super) enum Stderr {
    /// Opened a second time. Not to block is a property of what was opened, which others have, too, if it was inherited.
    Own(File),
    /// A socket, or somebody else's: it cannot be opened, and is asked before each write.
    Inherited,
}

impl Stderr {
    pub(super) fn open() -> Self {
        let flags = (OFlag::O_NONBLOCK | OFlag::O_NOCTTY).bits();
        // In a file there are two positions now, and more if standard output is the same file: all have to append.
        if fs::metadata("/proc/self/fd/2").is_ok_and(|stderr| stderr.is_file()) {
            let _ = fcntl(io::stderr(), FcntlArg::F_SETFL(OFlag::O_APPEND));
        }
        let own = OpenOptions::new().append(true).custom_flags(flags).open("/proc/self/fd/2");
        own.map_or(Stderr::Inherited, Stderr::Own)
    }

    /// Writes what can be written at once, and returns how much that was.
    fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stderr::Own(file) => (&*file).write(bytes),
            Stderr::Inherited => match send(io::stderr().as_raw_fd(), bytes, MsgFlags::MSG_DONTWAIT) {
                Err(nix::Error::ENOTSOCK) => write_if_ready(bytes),
                result => Ok(result?),
            },
        }
    }
}

/// Room for a page is room for the line, unless another process takes it in between.
fn write_if_ready(bytes: &[u8]) -> io::Result<usize> {
    let stderr = io::stderr();
    let mut polled = [PollFd::new(stderr.as_fd(), PollFlags::POLLOUT)];
    match poll(&mut polled, PollTimeout::ZERO) {
        Ok(1) => stderr.lock().write(&bytes[..bytes.len().min(PIPE_BUF)]),
        _ => Err(io::ErrorKind::WouldBlock.into()),
    }
}

/// What a pipe takes whole if it takes any of it (pipe(7)).
const PIPE_BUF: usize = 4096;

impl Write for &Stderr {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut rest = line;
        while !rest.is_empty() {
            match self.try_write(rest) {
                Ok(count) if count > 0 => rest = &rest[count..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                _ => {
                    if let Some(dropped) = DROPPED.get() {
                        dropped.fetch_add(1, Relaxed);
                    }
                    break;
                }
            }
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
