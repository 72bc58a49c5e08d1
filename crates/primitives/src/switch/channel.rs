//! How the two sides wake each other.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::SeqCst};
use std::thread;

use anyhow::Result;
use nix::errno::Errno;
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::unistd::pipe;

use crate::sys::{futex_wait, futex_wake, share};

/// What wakes the other side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Primitive {
    /// What locks and condition variables are made of.
    Futex,
    /// A byte in a pipe.
    Pipe,
    /// A counter.
    Eventfd,
    /// Nothing: the CPU is given away.
    Yield,
}

impl Primitive {
    pub(crate) const ALL: [Primitive; 4] = [Primitive::Futex, Primitive::Pipe, Primitive::Eventfd, Primitive::Yield];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Primitive::Futex => "futex",
            Primitive::Pipe => "pipe",
            Primitive::Eventfd => "eventfd",
            Primitive::Yield => "yield",
        }
    }

    pub(crate) fn describe(self) -> &'static str {
        match self {
            Primitive::Futex => "futex",
            Primitive::Pipe => "pipe",
            Primitive::Eventfd => "eventfd",
            Primitive::Yield => "sched_yield",
        }
    }
}

/// Two ways, one to each side.
pub(crate) struct Channel {
    ways: Ways,
    /// How many samples side 0 has begun.
    samples: AtomicU64,
    is_given_up: &'static AtomicBool,
}

enum Ways {
    /// Whose turn it is.
    Futex { turn: &'static AtomicU32, is_shared: bool },
    /// What each side reads from, and the message.
    Files { to: [File; 2], from: [File; 2], message: &'static [u8] },
    /// Nothing at all.
    Yield,
}

impl Channel {
    /// A channel; `is_shared` among processes. Before the other side is started.
    pub(crate) fn new(primitive: Primitive, is_shared: bool) -> Result<Self> {
        let ways = match primitive {
            Primitive::Futex => Ways::Futex { turn: share(AtomicU32::new(0))?, is_shared },
            Primitive::Pipe => {
                let ((from_0, to_0), (from_1, to_1)) = (pipe()?, pipe()?);
                Ways::Files { to: [to_0.into(), to_1.into()], from: [from_0.into(), from_1.into()], message: &[1] }
            }
            Primitive::Eventfd => {
                let [to, from] = {
                    let files = [eventfd()?, eventfd()?];
                    [[files[0].try_clone()?, files[1].try_clone()?], files]
                };
                Ways::Files { to, from, message: &[1, 0, 0, 0, 0, 0, 0, 0] }
            }
            Primitive::Yield => Ways::Yield,
        };
        Ok(Self { ways, samples: AtomicU64::new(0), is_given_up: share(AtomicBool::new(false))? })
    }

    /// Wakes the other side and waits for its answer, if this is side 0; side 1 waits first.
    ///
    /// # Errors
    /// See [`wait`](Self::wait).
    pub(crate) fn take_turn(&self, side: usize) -> nix::Result<()> {
        if side == 0 {
            self.wake(1);
            self.wait(0)
        } else {
            self.wait(1)?;
            self.wake(0);
            Ok(())
        }
    }

    /// Wakes this side.
    pub(crate) fn wake(&self, side: usize) {
        match &self.ways {
            Ways::Futex { turn, is_shared } => {
                turn.store(side as u32, SeqCst);
                futex_wake(turn, *is_shared);
            }
            // Neither fails: both ends are open, and there is room.
            Ways::Files { to, message, .. } => drop((&to[side]).write_all(message)),
            Ways::Yield => {}
        }
    }

    /// Waits until this side is woken.
    ///
    /// # Errors
    /// `ETIMEDOUT` if the wait was [given up](Self::give_up).
    pub(crate) fn wait(&self, side: usize) -> nix::Result<()> {
        match &self.ways {
            Ways::Futex { turn, is_shared } => {
                while turn.load(SeqCst) != side as u32 && !self.is_given_up.load(SeqCst) {
                    futex_wait(turn, 1 - side as u32, *is_shared);
                }
            }
            Ways::Files { from, message, .. } => drop((&from[side]).read_exact(&mut [0; 8][..message.len()])),
            Ways::Yield => thread::yield_now(),
        }
        if self.is_given_up.load(SeqCst) { Err(Errno::ETIMEDOUT) } else { Ok(()) }
    }

    /// Side 0 begins another sample: whoever watches sees that the other side still answers.
    pub(crate) fn begin_sample(&self) {
        self.samples.fetch_add(1, SeqCst);
    }

    /// How many samples have begun.
    pub(crate) fn samples(&self) -> u64 {
        self.samples.load(SeqCst)
    }

    /// Ends all waits of both sides.
    pub(crate) fn give_up(&self) {
        self.is_given_up.store(true, SeqCst);
        self.wake(0);
        self.wake(1);
    }
}

fn eventfd() -> Result<File> {
    Ok(std::os::fd::OwnedFd::from(EventFd::from_flags(EfdFlags::EFD_CLOEXEC)?).into())
}
