//! How the two sides wake each other.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::thread;

use anyhow::Result;
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
pub(crate) enum Channel {
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
        Ok(match primitive {
            Primitive::Futex => Channel::Futex { turn: share(AtomicU32::new(0))?, is_shared },
            Primitive::Pipe => {
                let ((from_0, to_0), (from_1, to_1)) = (pipe()?, pipe()?);
                Channel::Files { to: [to_0.into(), to_1.into()], from: [from_0.into(), from_1.into()], message: &[1] }
            }
            Primitive::Eventfd => {
                let [to, from] = {
                    let files = [eventfd()?, eventfd()?];
                    [[files[0].try_clone()?, files[1].try_clone()?], files]
                };
                Channel::Files { to, from, message: &[1, 0, 0, 0, 0, 0, 0, 0] }
            }
            Primitive::Yield => Channel::Yield,
        })
    }

    /// Wakes the other side and waits for its answer, if this is side 0; side 1 waits first.
    pub(crate) fn take_turn(&self, side: usize) {
        if side == 0 {
            self.wake(1);
            self.wait(0);
        } else {
            self.wait(1);
            self.wake(0);
        }
    }

    /// Wakes this side.
    pub(crate) fn wake(&self, side: usize) {
        match self {
            Channel::Futex { turn, is_shared } => {
                turn.store(side as u32, SeqCst);
                futex_wake(turn, *is_shared);
            }
            // Neither fails: both ends are open, and there is room.
            Channel::Files { to, message, .. } => drop((&to[side]).write_all(message)),
            Channel::Yield => {}
        }
    }

    /// Waits until this side is woken.
    pub(crate) fn wait(&self, side: usize) {
        match self {
            Channel::Futex { turn, is_shared } => {
                while turn.load(SeqCst) != side as u32 {
                    futex_wait(turn, 1 - side as u32, *is_shared);
                }
            }
            Channel::Files { from, message, .. } => drop((&from[side]).read_exact(&mut [0; 8][..message.len()])),
            Channel::Yield => thread::yield_now(),
        }
    }
}

fn eventfd() -> Result<File> {
    Ok(std::os::fd::OwnedFd::from(EventFd::from_flags(EfdFlags::EFD_CLOEXEC)?).into())
}
