//! What stands between the socket and hyper, which is more lenient than this project's contract: it takes a request
//! without Host, or with two, and has no timeout for a body or for an answer.
//!
//! Bytes reach hyper only after `common`'s validator has passed them, whole heads at a time. When it rejects some, hyper
//! sees the end of the input: it answers the requests before, and shuts the connection down, which is when the guard
//! sends the rejection.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll, ready};

use common::config::Config;
use common::counters::Counters;
use common::http::{Phase, Reject, Response, Status, Validator};
use common::linger::LINGER_TIMEOUT;
use hyper::rt::ReadBufCursor;
use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::deadline::Deadline;

/// How much is read at once. The buffer is on the stack, and not kept while the task waits.
const READ_BYTES: usize = 8 * 1024;

/// What the guard and the handler tell each other of the request in hand.
#[derive(Default)]
pub(crate) struct Exchange {
    /// Why the body was cut off, for the handler that was reading it: it has to answer, the guard cannot.
    pub(crate) body_verdict: OnceLock<Reject>,
    /// The answer that hyper has been given and when the request was whole, for the guard: it sees when hyper has written.
    answer: Mutex<Option<Answer>>,
}

type Answer = (Status, Option<Instant>);

impl Exchange {
    /// Says what hyper is given now.
    pub(crate) fn answer(&self, status: Status, request_start: Option<Instant>) {
        *self.answer.lock().unwrap_or_else(PoisonError::into_inner) = Some((status, request_start));
    }

    fn take_answer(&self) -> Option<Answer> {
        self.answer.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// A socket that shows hyper only what is valid and in time.
pub(crate) struct Guard {
    stream: TcpStream,
    validator: Validator,
    config: &'static Config,
    /// What was read and not passed on yet...
    held: Vec<u8>,
    /// ...and how much of it is valid so far.
    valid_bytes: usize,
    /// Why the input ends after that...
    rejected: Option<Reject>,
    /// ...and whether hyper has got there. If not, an answer before it closed the connection.
    has_ended: bool,
    exchange: Arc<Exchange>,
    counters: &'static Counters,
    deadline: Deadline,
    /// What the client is in the middle of, and since when.
    phase: Option<(Phase, Instant)>,
    /// When the answer that is being written must be with the client.
    write_deadline: Option<Instant>,
    closing: Closing,
}

/// How far the connection is shut down.
enum Closing {
    /// Not at all.
    Open,
    /// The rejection is being sent.
    Answering(Vec<u8>),
    /// Our side is shut down: see [`common::linger`].
    Lingering { deadline: Instant },
}

impl Guard {
    pub(crate) fn new(
        stream: TcpStream,
        config: &'static Config,
        counters: &'static Counters,
        exchange: Arc<Exchange>,
    ) -> Self {
        Self {
            stream,
            validator: Validator::new(config.limits()),
            config,
            held: Vec::new(),
            valid_bytes: 0,
            rejected: None,
            has_ended: false,
            exchange,
            counters,
            deadline: Deadline::new(),
            phase: None,
            write_deadline: None,
            closing: Closing::Open,
        }
    }

    /// Passes on what is valid. False if nothing is.
    fn pass(&mut self, buffer: &mut ReadBufCursor<'_>) -> bool {
        let count = self.valid_bytes.min(buffer.remaining());
        buffer.put_slice(&self.held[..count]);
        self.valid_bytes -= count;
        if count == self.held.len() {
            self.held = Vec::new();
        } else {
            self.held.drain(..count);
        }
        count > 0
    }

    fn reject(&mut self, reject: Reject) {
        self.rejected = Some(reject);
        if self.validator.phase(self.held.len()) == Phase::Body {
            // Nobody else sets it, and only once.
            let _ = self.exchange.body_verdict.set(reject);
        }
    }

    /// Reads and validates. Ready with false at the end of the input, which is also when the client was too slow.
    fn poll_input(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        let mut bytes = [0; READ_BYTES];
        let mut buffer = ReadBuf::new(&mut bytes);
        match Pin::new(&mut self.stream).poll_read(cx, &mut buffer) {
            Poll::Ready(result) => {
                result?;
                self.held.extend_from_slice(buffer.filled());
                let (valid_bytes, rejected) = self.validator.check(&mut self.held);
                self.valid_bytes = valid_bytes;
                if let Some(reject) = rejected {
                    self.reject(reject);
                }
                Poll::Ready(Ok(!buffer.filled().is_empty()))
            }
            Poll::Pending => {
                ready!(self.poll_too_slow(cx));
                Poll::Ready(Ok(false))
            }
        }
    }

    /// Ready when the phase that the client is in has taken too long.
    fn poll_too_slow(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let phase = self.validator.phase(self.held.len());
        let since = match self.phase {
            Some((same, since)) if same == phase => since,
            _ => Instant::now(),
        };
        self.phase = Some((phase, since));
        ready!(self.deadline.poll(cx, since + self.config.timeouts().limit(phase)));
        if phase != Phase::Idle {
            self.reject(Reject::new(Status::RequestTimeout, "the request took too long"));
        }
        Poll::Ready(())
    }

    /// Sends what is left of the rejection.
    fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Closing::Answering(unsent) = &self.closing
            && !unsent.is_empty()
        {
            let mut unsent = unsent.clone();
            let count = ready!(hyper::rt::Write::poll_write(Pin::new(self), cx, &unsent))?;
            unsent.drain(..count);
            self.closing = Closing::Answering(unsent);
        }
        Poll::Ready(Ok(()))
    }

    /// Reads and drops until the client closes, or takes too long.
    fn poll_linger(&mut self, cx: &mut Context<'_>, deadline: Instant) -> Poll<io::Result<()>> {
        let mut bytes = [0; READ_BYTES];
        loop {
            if self.deadline.poll(cx, deadline).is_ready() {
                return Poll::Ready(Ok(()));
            }
            let mut buffer = ReadBuf::new(&mut bytes);
            ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buffer))?;
            if buffer.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// Whether the client waits for nothing: it was answered, and has not asked again.
    fn is_settled(&self) -> bool {
        self.rejected.is_none() && matches!(self.phase, Some((Phase::Idle, _)))
    }
}

impl hyper::rt::Read for Guard {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        while !self.pass(&mut buffer) {
            if self.rejected.is_some() || !ready!(self.poll_input(cx))? {
                self.has_ended = true;
                break;
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl hyper::rt::Write for Guard {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.phase = None;
        match Pin::new(&mut self.stream).poll_write(cx, bytes) {
            Poll::Ready(result) => Poll::Ready(result),
            Poll::Pending => {
                let timeout = self.config.write_timeout;
                let deadline = *self.write_deadline.get_or_insert_with(|| Instant::now() + timeout);
                ready!(self.deadline.poll(cx, deadline));
                Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
            }
        }
    }

    /// hyper flushes after each answer.
    fn poll_flush(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.write_deadline = None;
        if let Some((status, request_start)) = self.exchange.take_answer() {
            self.counters.answer(status, request_start.map(Instant::into_std));
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.is_settled() {
            return Poll::Ready(Ok(()));
        }
        if let Closing::Open = self.closing {
            let unanswered = self.rejected.filter(|_| self.has_ended && self.exchange.body_verdict.get().is_none());
            if let Some(reject) = unanswered {
                self.counters.answer(reject.status, None);
            }
            self.closing =
                Closing::Answering(unanswered.map(|reject| Response::from(reject).encode_to_vec()).unwrap_or_default());
        }
        if let Closing::Answering(_) = self.closing {
            ready!(self.poll_answer(cx))?;
            ready!(Pin::new(&mut self.stream).poll_shutdown(cx))?;
            self.closing = Closing::Lingering { deadline: Instant::now() + LINGER_TIMEOUT };
        }
        match self.closing {
            Closing::Lingering { deadline } => self.poll_linger(cx, deadline),
            Closing::Open | Closing::Answering(_) => Poll::Ready(Ok(())),
        }
    }
}
