//! What stands between the socket and hyper, which is more lenient than this project's contract, and does by itself what the
//! contract does in its own way: upgrades, `100 Continue`, refusals, timeouts.
//!
//! So hyper gets none of the client's bytes. `common`'s codec takes requests out of them, and each is written anew for hyper,
//! in one form that leaves nothing to decide: method, target, Host, Content-Length, Connection, the body without its
//! chunks. One at a time, the next after hyper has written its answer. A request that is refused becomes one whose handler
//! answers the refusal: hyper writes all answers, in order.

use std::io::{self, IoSlice, Read as _, Write as _};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use common::http::{Decoder, Method, Persistence, Phase, Reject, Request, Status, Step, response};
use common::linger::LINGER_TIMEOUT;
use hyper::rt::ReadBufCursor;
use socket2::SockRef;
use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::deadline::Deadline;
use crate::shared::Shared;

/// How much is read at once. The buffer is on the stack, and not kept while the task waits.
const READ_BYTES: usize = 8 * 1024;
/// How much hyper is given at once: half of its smallest buffer, which it would double for the life of the connection if it
/// were ever filled.
const PASS_BYTES: usize = 4 * 1024;

/// What the guard and the handler tell each other of the request in hand.
#[derive(Default)]
pub(crate) struct Exchange(Mutex<InHand>);

#[derive(Default)]
struct InHand {
    /// When it was whole, unless it was refused before.
    request_start: Option<Instant>,
    /// Why it is refused.
    reject: Option<Reject>,
    /// Its answer was given to hyper.
    answer: Option<Status>,
}

impl Exchange {
    /// Why the request that hyper has called the handler with is refused, if it is.
    pub(crate) fn take_reject(&self) -> Option<Reject> {
        self.in_hand().reject.take()
    }

    /// Says what hyper is given now.
    pub(crate) fn answer(&self, status: Status) {
        self.in_hand().answer = Some(status);
    }

    fn begin(&self, result: Result<Instant, Reject>) {
        *self.in_hand() = InHand { request_start: result.ok(), reject: result.err(), answer: None };
    }

    /// The answer that hyper has written, and when its request was whole.
    fn finish(&self) -> Option<(Status, Option<Instant>)> {
        let mut in_hand = self.in_hand();
        let status = in_hand.answer.take()?;
        Some((status, in_hand.request_start))
    }

    fn in_hand(&self) -> MutexGuard<'_, InHand> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A socket that shows hyper only what is valid and in time.
pub(crate) struct Guard {
    stream: TcpStream,
    decoder: Decoder,
    shared: &'static Shared,
    exchange: Arc<Exchange>,
    state: State,
    deadline: Deadline,
    /// What the client is in the middle of, and since when.
    phase: Option<(Phase, Instant)>,
    /// When the answer that is being written must be with the client.
    write_deadline: Option<Instant>,
    /// Until when to linger once our side is shut down: see [`common::linger`].
    linger_deadline: Option<Instant>,
}

enum State {
    /// A request is awaited or arriving.
    Reading,
    /// This is what the client is told meanwhile.
    Continuing(&'static [u8]),
    /// A request is being passed to hyper.
    Passing { request: Vec<u8>, passed: usize },
    /// hyper has the request, and has not written its answer; who asks for the next is woken then.
    Answering(Option<Waker>),
    /// hyper was told that there is no more.
    Ended,
}

impl Guard {
    pub(crate) fn new(stream: TcpStream, shared: &'static Shared, exchange: Arc<Exchange>) -> Self {
        Self {
            stream,
            decoder: Decoder::new(shared.config.limits()),
            shared,
            exchange,
            state: State::Reading,
            deadline: Deadline::new(),
            phase: None,
            write_deadline: None,
            linger_deadline: None,
        }
    }

    /// Reads and decodes until there is something to do.
    fn poll_request(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut step = self.decoder.decode(b"");
        loop {
            self.state = match step {
                Ok(Step::Request(request)) => self.pass(&request, Ok(Instant::now())),
                Ok(Step::Continue) => State::Continuing(response::CONTINUE),
                Ok(Step::Need) => {
                    let mut bytes = [0; READ_BYTES];
                    match ready!(self.poll_read_some(cx, &mut bytes)) {
                        Ok(0) => State::Ended,
                        Ok(count) => {
                            step = self.decoder.decode(&bytes[..count]);
                            continue;
                        }
                        Err(error) if error.kind() == io::ErrorKind::TimedOut && !self.is_idle() => {
                            step = Err(self.decoder.too_slow());
                            continue;
                        }
                        Err(error) if error.kind() == io::ErrorKind::TimedOut => State::Ended,
                        Err(error) => return Poll::Ready(Err(error)),
                    }
                }
                Err(reject) => self.pass(&refused(reject), Err(reject)),
            };
            return Poll::Ready(Ok(()));
        }
    }

    fn pass(&mut self, request: &Request, result: Result<Instant, Reject>) -> State {
        self.exchange.begin(result);
        State::Passing { request: rewrite(request), passed: 0 }
    }

    /// Reads what is there. [`TimedOut`](io::ErrorKind::TimedOut) when the client takes too long, and at once if the server
    /// stops and the client is not in the middle of a body.
    fn poll_read_some(&mut self, cx: &mut Context<'_>, bytes: &mut [u8]) -> Poll<io::Result<usize>> {
        let phase = self.decoder.phase();
        if phase != Phase::Body && self.shared.draining.is_cancelled() {
            // tokio may not know yet of what the kernel has, and what has come before is not left unread.
            return Poll::Ready((&*SockRef::from(&self.stream)).read(bytes).or(Ok(0)));
        }
        let mut buffer = ReadBuf::new(bytes);
        if let Poll::Ready(result) = Pin::new(&mut self.stream).poll_read(cx, &mut buffer) {
            return Poll::Ready(result.map(|()| buffer.filled().len()));
        }
        let since = match self.phase {
            Some((same, since)) if same == phase => since,
            _ => Instant::now(),
        };
        self.phase = Some((phase, since));
        ready!(self.deadline.poll(cx, since + self.shared.config.timeouts().limit(phase)));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    fn is_idle(&self) -> bool {
        self.decoder.phase() == Phase::Idle
    }

    /// Sends the interim answer. hyper has written all that came before.
    fn poll_continue(&mut self, cx: &mut Context<'_>, mut unsent: &'static [u8]) -> Poll<io::Result<()>> {
        while !unsent.is_empty() {
            let count = ready!(hyper::rt::Write::poll_write(Pin::new(self), cx, unsent))?;
            unsent = &unsent[count..];
            self.state = State::Continuing(unsent);
        }
        self.write_deadline = None;
        self.state = State::Reading;
        Poll::Ready(Ok(()))
    }

    /// Waits until what `written` says was written, or the client takes too long to take it.
    fn poll_written(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if written.is_pending() {
            let timeout = self.shared.config.write_timeout;
            let deadline = *self.write_deadline.get_or_insert_with(|| Instant::now() + timeout);
            ready!(self.deadline.poll(cx, deadline));
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        written
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
}

/// The request as hyper gets it.
fn rewrite(request: &Request) -> Vec<u8> {
    let method = match request.method {
        Method::Get => "GET",
        Method::Head => "HEAD",
        Method::Post => "POST",
        Method::Options => "OPTIONS",
        Method::Known => "PUT",
        Method::Unknown => "UNKNOWN",
    };
    let connection = match request.persistence {
        Persistence::KeepAlive => "",
        Persistence::KeepAliveSaid => "Connection: keep-alive\r\n",
        Persistence::Close => "Connection: close\r\n",
    };
    let (target, length) = (&request.target, request.body.len());
    let mut bytes = Vec::with_capacity(128 + target.len() + length);
    // Writing to memory cannot fail.
    let _ = write!(bytes, "{method} {target} HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n{connection}\r\n");
    bytes.extend_from_slice(&request.body);
    bytes
}

/// The request that stands for one that is refused.
fn refused(reject: Reject) -> Request {
    Request {
        method: if reject.head_only { Method::Head } else { Method::Get },
        target: "/".into(),
        persistence: Persistence::Close,
        body: Vec::new(),
    }
}

impl hyper::rt::Read for Guard {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, mut to: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        loop {
            match &mut self.state {
                State::Reading => ready!(self.poll_request(cx))?,
                State::Continuing(unsent) => {
                    let unsent = *unsent;
                    ready!(self.poll_continue(cx, unsent))?;
                }
                State::Passing { request, passed } => {
                    let rest = &request[*passed..];
                    let count = rest.len().min(to.remaining()).min(PASS_BYTES);
                    to.put_slice(&rest[..count]);
                    *passed += count;
                    if *passed == request.len() {
                        self.state = State::Answering(None);
                    }
                    return Poll::Ready(Ok(()));
                }
                State::Answering(waker) => {
                    *waker = Some(cx.waker().clone());
                    return Poll::Pending;
                }
                State::Ended => return Poll::Ready(Ok(())),
            }
        }
    }
}

impl hyper::rt::Write for Guard {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.poll_written(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.poll_written(cx, written)
    }

    /// With it, hyper sends a body from where it is, and does not copy it to a buffer that it keeps.
    fn is_write_vectored(&self) -> bool {
        true
    }

    /// hyper flushes after each answer.
    fn poll_flush(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.write_deadline = None;
        if let Some((status, request_start)) = self.exchange.finish() {
            self.shared.counters.answer(status, request_start.map(Instant::into_std));
            self.phase = None;
            if let State::Answering(Some(waker)) = std::mem::replace(&mut self.state, State::Reading) {
                waker.wake();
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.linger_deadline.is_none() {
            ready!(Pin::new(&mut self.stream).poll_shutdown(cx))?;
            self.linger_deadline = Some(Instant::now() + LINGER_TIMEOUT);
        }
        match self.linger_deadline {
            Some(deadline) => self.poll_linger(cx, deadline),
            None => Poll::Ready(Ok(())),
        }
    }
}
