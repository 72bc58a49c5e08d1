//! Closing without losing the answer.
//!
//! A socket that is closed while the client still sends makes the kernel reset the connection, and the reset can
//! overtake the answer. So the last answer is written, our side is shut down, and what the client still sends is read
//! and dropped until it closes too, or until it took too long (§9.6).

use std::io::{self, Write as _};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

/// How long a client may take to read the last answer and close.
pub const LINGER_TIMEOUT: Duration = Duration::from_secs(2);
/// How often [`Lingerers::turn`] wants to be called while it is not empty.
pub const TURN_INTERVAL: Duration = Duration::from_millis(10);
/// The most connections that linger at once; beyond it the oldest is closed.
const MAX_LINGERERS: usize = 1024;

/// Connections that were given their last answer, kept without blocking anybody.
#[derive(Debug, Default)]
pub struct Lingerers(Vec<Lingerer>);

#[derive(Debug)]
struct Lingerer {
    stream: TcpStream,
    unsent: Vec<u8>,
    deadline: Instant,
}

impl Lingerers {
    /// Sends `answer` as the last thing on `stream`.
    pub fn push(&mut self, stream: TcpStream, answer: Vec<u8>) {
        if self.0.len() == MAX_LINGERERS {
            self.0.remove(0);
        }
        let mut lingerer = Lingerer { stream, unsent: answer, deadline: Instant::now() + LINGER_TIMEOUT };
        if lingerer.stream.set_nonblocking(true).is_ok() && lingerer.turn().is_ok_and(|closed| !closed) {
            self.0.push(lingerer);
        }
    }

    /// Goes on with every connection, as far as that goes without waiting.
    pub fn turn(&mut self) {
        let now = Instant::now();
        self.0.retain_mut(|lingerer| now < lingerer.deadline && lingerer.turn().is_ok_and(|closed| !closed));
    }

    /// Closes all of them in a forked child, without freeing the memory that it shares with its parent.
    pub fn close_in_child(mut self) {
        for Lingerer { stream, unsent, .. } in self.0.drain(..) {
            drop(stream);
            std::mem::forget(unsent);
        }
        std::mem::forget(self);
    }

    /// Whether nobody lingers.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Lingerer {
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
