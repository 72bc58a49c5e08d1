//! Closing without losing the answer.
//!
//! A socket that is closed while the client still sends makes the kernel reset the connection, and the reset can
//! overtake the answer. So the last answer is written, our side is shut down, and what the client still sends is read
//! and dropped until it closes too, or until it took too long (§9.6).

use std::collections::VecDeque;
use std::io::{self, Write as _};
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::close;

use crate::limits;

/// How long a client may take to read the last answer and close.
pub const LINGER_TIMEOUT: Duration = Duration::from_secs(2);
/// How often [`Lingerers::turn`] wants to be called while it is not empty, and works at most.
pub const TURN_INTERVAL: Duration = Duration::from_millis(10);

/// Connections that were given their last answer, kept without blocking anybody.
#[derive(Debug)]
pub struct Lingerers {
    lingerers: VecDeque<Lingerer>,
    /// The most at once; beyond it the oldest is closed.
    max: usize,
    next_turn: Instant,
}

#[derive(Debug)]
struct Lingerer {
    stream: TcpStream,
    unsent: Vec<u8>,
    deadline: Instant,
}

impl Default for Lingerers {
    fn default() -> Self {
        Self { lingerers: VecDeque::new(), max: limits::max_lingerers(), next_turn: Instant::now() }
    }
}

impl Lingerers {
    /// Sends `answer` as the last thing on `stream`.
    pub fn push(&mut self, stream: TcpStream, answer: Vec<u8>) {
        if self.lingerers.len() >= self.max {
            self.lingerers.pop_front();
        }
        let mut lingerer = Lingerer { stream, unsent: answer, deadline: Instant::now() + LINGER_TIMEOUT };
        if lingerer.stream.set_nonblocking(true).is_ok() && lingerer.turn().is_ok_and(|closed| !closed) {
            self.lingerers.push_back(lingerer);
        }
    }

    /// Goes on with every connection, as far as that goes without waiting; but not more often than every
    /// [`TURN_INTERVAL`], however often it is called: who was refused must not slow down who is served.
    pub fn turn(&mut self) {
        let now = Instant::now();
        if self.is_empty() || now < self.next_turn {
            return;
        }
        self.next_turn = now + TURN_INTERVAL;
        let mut ready = self.ready().into_iter();
        self.lingerers.retain_mut(|lingerer| {
            let is_ready = ready.next().unwrap_or(true);
            now < lingerer.deadline && (!is_ready || lingerer.turn().is_ok_and(|closed| !closed))
        });
    }

    /// Which of them can go on, found out by one system call for all.
    fn ready(&self) -> Vec<bool> {
        let mut polled: Vec<PollFd<'_>> = self.lingerers.iter().map(Lingerer::poll_fd).collect();
        match poll(&mut polled, PollTimeout::ZERO) {
            Ok(_) => polled.iter().map(|polled| polled.any().unwrap_or(true)).collect(),
            Err(_) => Vec::new(),
        }
    }

    /// Closes all of them in a forked child, which must not use or drop them after that, and writes to no memory.
    pub fn close_in_child(&self) {
        for lingerer in &self.lingerers {
            let _ = close(lingerer.stream.as_raw_fd());
        }
    }

    /// Whether nobody lingers.
    pub fn is_empty(&self) -> bool {
        self.lingerers.is_empty()
    }
}

impl Lingerer {
    fn poll_fd(&self) -> PollFd<'_> {
        let interest = if self.unsent.is_empty() { PollFlags::POLLIN } else { PollFlags::POLLOUT };
        PollFd::new(self.stream.as_fd(), interest)
    }

    /// Whether the client has closed.
    fn turn(&mut self) -> io::Result<bool> {
        while !self.unsent.is_empty() {
            match self.stream.write(&self.unsent) {
                Ok(count) => {
                    self.unsent.drain(..count);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
            if self.unsent.is_empty() {
                self.stream.shutdown(Shutdown::Write)?;
            }
        }
        Ok(drop_input(&mut self.stream)? == Input::Ended)
    }
}

/// What [`drop_input`] leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// The client has closed.
    Ended,
    /// Nothing has come yet.
    Awaited,
    /// There may be more, for the next turn.
    Unread,
}

/// Reads and drops what a nonblocking `stream` holds, but no more than a turn's worth.
///
/// # Errors
/// The connection was reset.
pub fn drop_input(stream: &mut impl io::Read) -> io::Result<Input> {
    let mut dropped = [0; 16 * 1024];
    for _ in 0..16 {
        match stream.read(&mut dropped) {
            Ok(0) => return Ok(Input::Ended),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Input::Awaited),
            Err(error) => return Err(error),
        }
    }
    Ok(Input::Unread)
}
