//! One connection on a blocking socket, for the servers that give each connection a process or a thread.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsRawFd as _;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use nix::sys::socket::{MsgFlags, recv};

use crate::config::Timeouts;
use crate::counters::Counters;
use crate::http::{Decoder, Limits, Phase, Reject, Request, Response, Step, response};
use crate::linger::LINGER_TIMEOUT;

/// How much is read at first, onto the stack: enough for a small request, and little enough that 10,000 waiting stacks
/// keep no further page for it.
const FIRST_READ_BYTES: usize = 512;
/// How much is read at once of a request that is larger than that.
const NEXT_READ_BYTES: usize = 16 * 1024;

/// Reads requests from a socket and writes responses to it, each within its timeout.
#[derive(Debug)]
pub struct Connection<'a> {
    stream: &'a TcpStream,
    decoder: Decoder,
    timeouts: Timeouts,
    /// The timeout that the socket has now: setting it is a system call, which the usual request does without.
    read_timeout: Duration,
    counters: &'a Counters,
    /// Whether to end as soon as no request is in hand.
    is_stopping: &'a AtomicBool,
    /// When the request in hand was whole.
    request_start: Option<Instant>,
}

impl<'a> Connection<'a> {
    /// Takes over a new connection. Once `is_stopping` is set, a signal ends its wait for the next request.
    ///
    /// # Errors
    /// The socket's options could not be set.
    pub fn new(
        stream: &'a TcpStream,
        limits: Limits,
        timeouts: Timeouts,
        counters: &'a Counters,
        is_stopping: &'a AtomicBool,
    ) -> io::Result<Self> {
        stream.set_read_timeout(Some(timeouts.idle))?;
        stream.set_write_timeout(Some(timeouts.write))?;
        Ok(Self {
            stream,
            decoder: Decoder::new(limits),
            timeouts,
            read_timeout: timeouts.idle,
            counters,
            is_stopping,
            request_start: None,
        })
    }

    /// The next request; `None` when there will be none, because the client has gone, was silent for too long, was refused
    /// and told so, or has sent none before the server stops. Then the connection has to [`linger`](Self::linger).
    ///
    /// # Errors
    /// The connection failed.
    pub fn read(&mut self) -> io::Result<Option<Request>> {
        match self.read_or_reject()? {
            Ok(request) => {
                self.request_start = Some(Instant::now());
                Ok(request)
            }
            Err(reject) => {
                self.write(&reject.into())?;
                Ok(None)
            }
        }
    }

    fn read_or_reject(&mut self) -> io::Result<Result<Option<Request>, Reject>> {
        let mut phase = self.decoder.phase();
        let mut phase_start = Instant::now();
        let mut step = self.decoder.decode(b"");
        let mut is_first = true;
        loop {
            match step {
                Ok(Step::Request(request)) => return Ok(Ok(Some(request))),
                Ok(Step::Continue) => self.write_all(response::CONTINUE)?,
                Ok(Step::Need) => {}
                Err(reject) => return Ok(Err(reject)),
            }
            if phase != self.decoder.phase() {
                phase = self.decoder.phase();
                phase_start = Instant::now();
            }
            // At first nothing has come that could have taken time: the socket's timeout stays as it is.
            let elapsed = if is_first { Duration::ZERO } else { phase_start.elapsed() };
            is_first = false;
            step = match self.read_some(self.timeouts.limit(phase).saturating_sub(elapsed)) {
                Ok(Some(step)) => step,
                Ok(None) => return Ok(Ok(None)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(Step::Need),
                Err(error) if is_timeout(&error) && (phase == Phase::Idle || self.is_done(phase)) => {
                    return Ok(Ok(None));
                }
                Err(error) if is_timeout(&error) => return Ok(Err(self.decoder.too_slow())),
                Err(error) => return Err(error),
            };
        }
    }

    /// Reads once, and decodes what came; `None` at the end of the input.
    // Like `write`, not inlined: its buffer would be part of a frame that is there all the time.
    #[inline(never)]
    fn read_some(&mut self, timeout: Duration) -> io::Result<Option<Result<Step, Reject>>> {
        // What has come before the server stops is not left unread, nor what came in time while this process had no CPU.
        let waits = !timeout.is_zero() && !self.is_done(self.decoder.phase());
        if waits && timeout != self.read_timeout {
            self.stream.set_read_timeout(Some(timeout))?;
            self.read_timeout = timeout;
        }
        let mut few = [0; FIRST_READ_BYTES];
        let mut many = Vec::new();
        let bytes = if self.decoder.phase() == Phase::Idle {
            &mut few[..]
        } else {
            many.resize(NEXT_READ_BYTES, 0);
            &mut many[..]
        };
        let count = match waits {
            true => self.stream.read(bytes)?,
            false => recv(self.stream.as_raw_fd(), bytes, MsgFlags::MSG_DONTWAIT)?,
        };
        Ok((count > 0).then(|| self.decoder.decode(&bytes[..count])))
    }

    /// Whether the server stops and need not wait for the client: it is not in the middle of a body.
    fn is_done(&self, phase: Phase) -> bool {
        phase != Phase::Body && self.is_stopping.load(Relaxed)
    }

    /// Writes a response.
    ///
    /// # Errors
    /// The connection failed, or the client took too long to take the response.
    #[inline(never)]
    pub fn write(&mut self, response: &Response) -> io::Result<()> {
        self.write_all(&response.encode())?;
        self.counters.answer(response.status, self.request_start.take());
        Ok(())
    }

    /// Writes all of `bytes` within the write timeout, however often the client takes a few of them.
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        let deadline = Instant::now() + self.timeouts.write;
        let written = unless_interrupted(self.stream.write(bytes))?.unwrap_or(0);
        if written == bytes.len() {
            return Ok(());
        }
        let result = self.write_rest(&bytes[written..], deadline);
        self.stream.set_write_timeout(Some(self.timeouts.write))?;
        result
    }

    fn write_rest(&mut self, mut bytes: &[u8], deadline: Instant) -> io::Result<()> {
        while !bytes.is_empty() {
            let remaining = deadline.saturating_duration_since(Instant::now());
            if remaining.is_zero() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            self.stream.set_write_timeout(Some(remaining))?;
            let written = unless_interrupted(self.stream.write(bytes))?.unwrap_or(0);
            bytes = &bytes[written..];
        }
        Ok(())
    }

    /// Closes without losing the last answer: see [`crate::linger`].
    ///
    /// # Errors
    /// The connection failed, or the client took too long.
    // Not inlined either: see `read_some`.
    #[inline(never)]
    pub fn linger(&mut self) -> io::Result<()> {
        self.stream.shutdown(Shutdown::Write)?;
        let deadline = Instant::now() + LINGER_TIMEOUT;
        // On the stack, and small: of 10,000 processes each would have pages of its own for more.
        let mut dropped = [0; FIRST_READ_BYTES];
        loop {
            let remaining = deadline.saturating_duration_since(Instant::now());
            if remaining.is_zero() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            self.stream.set_read_timeout(Some(remaining))?;
            if unless_interrupted(self.stream.read(&mut dropped))? == Some(0) {
                return Ok(());
            }
        }
    }
}

/// What was read or written; `None` if a signal came before: to be tried again, with the time that is left.
fn unless_interrupted(result: io::Result<usize>) -> io::Result<Option<usize>> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(None),
        result => result.map(Some),
    }
}

/// Linux says EAGAIN when a socket's timeout has passed.
fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}
