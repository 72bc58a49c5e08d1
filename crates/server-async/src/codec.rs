//! A connection over `common`'s codec: what [`common::blocking`] does with a thread, done with a task.

use std::future::poll_fn;
use std::io::{self, Read as _};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use common::http::{Decoder, Phase, Reject, Request, Response, Step, response};
use common::linger::{Input, LINGER_TIMEOUT, drop_input};
use socket2::SockRef;
use tokio::io::{AsyncRead as _, ReadBuf};
use tokio::net::TcpStream;
use tokio::task::consume_budget;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::WaitForCancellationFuture;

use crate::shared::Shared;

/// How much is read at once. The buffer is on the stack of the thread that runs the task, and not kept while it waits.
const READ_BYTES: usize = 16 * 1024;

/// Reads requests from a socket and writes responses to it, each within its timeout.
///
/// What is awaited seldom is boxed: a task has room for all that it may await, and there are 10,000 tasks.
pub(crate) struct Connection {
    stream: TcpStream,
    decoder: Decoder,
    shared: &'static Shared,
    /// When the request in hand was whole.
    request_start: Option<Instant>,
}

/// What [`Connection::read`] does next if it has no request yet.
#[derive(Clone, Copy)]
enum Next {
    Continue,
    ReadOn,
    Reject(Reject),
}

impl Connection {
    pub(crate) fn new(stream: TcpStream, shared: &'static Shared) -> Self {
        Self { stream, decoder: Decoder::new(shared.config.limits()), shared, request_start: None }
    }

    /// The next request; `None` when there will be none: the client has gone, was silent for too long, was refused and
    /// told so, or the server is draining.
    pub(crate) async fn read(
        &mut self,
        mut draining: Pin<&mut WaitForCancellationFuture<'_>>,
    ) -> io::Result<Option<Request>> {
        let mut phase = self.decoder.phase();
        let mut phase_start = Instant::now();
        loop {
            let deadline = phase_start + self.shared.config.timeouts().limit(phase);
            let step = poll_fn(|cx| match phase {
                // What has come before the server stops is not left unread: it is looked at once more. Only a body is awaited.
                Phase::Idle | Phase::Head if draining.as_mut().poll(cx).is_ready() => Poll::Ready(self.try_read()),
                _ => self.poll_read(cx),
            });
            // Two matches: what is matched is kept while an arm awaits.
            let next = match timeout_at(deadline, step).await {
                Ok(Ok(Some(Ok(Step::Request(request))))) => {
                    self.request_start = Some(Instant::now());
                    return Ok(Some(request));
                }
                Ok(Ok(Some(Ok(Step::Continue)))) => Next::Continue,
                Ok(Ok(Some(Ok(Step::Need)))) => Next::ReadOn,
                Ok(Ok(Some(Err(reject)))) => Next::Reject(reject),
                Ok(Ok(None)) => return Ok(None),
                // The server stops, and nothing has come.
                Ok(Err(error)) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Ok(Err(error)) => return Err(error),
                Err(_) if phase == Phase::Idle => return Ok(None),
                Err(_) => Next::Reject(self.decoder.too_slow()),
            };
            match next {
                Next::Continue => Box::pin(self.write_all(response::CONTINUE)).await?,
                Next::ReadOn => consume_budget().await,
                Next::Reject(reject) => return Box::pin(self.reject(reject)).await,
            }
            if phase != self.decoder.phase() {
                phase = self.decoder.phase();
                phase_start = Instant::now();
            }
        }
    }

    /// What is in the bytes so far, or else in those that can be read now; `None` at the end of the input. Not async: the
    /// buffer must not become a part of the task.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Result<Step, Reject>>>> {
        match self.decoder.decode(b"") {
            Ok(Step::Need) => {
                // Not cleared: that would take as many instructions as all the rest.
                let mut bytes = [MaybeUninit::uninit(); READ_BYTES];
                let mut bytes = ReadBuf::uninit(&mut bytes);
                ready!(Pin::new(&mut self.stream).poll_read(cx, &mut bytes))?;
                let bytes = bytes.filled();
                Poll::Ready(Ok((!bytes.is_empty()).then(|| self.decoder.decode(bytes))))
            }
            found => Poll::Ready(Ok(Some(found))),
        }
    }

    /// The same without waiting, by the kernel, which may have what tokio does not know of yet.
    fn try_read(&mut self) -> io::Result<Option<Result<Step, Reject>>> {
        match self.decoder.decode(b"") {
            Ok(Step::Need) => {
                let mut bytes = [0; READ_BYTES];
                let count = (&*SockRef::from(&self.stream)).read(&mut bytes)?;
                Ok((count > 0).then(|| self.decoder.decode(&bytes[..count])))
            }
            found => Ok(Some(found)),
        }
    }

    async fn reject(&mut self, reject: Reject) -> io::Result<Option<Request>> {
        self.write(&reject.into()).await?;
        Ok(None)
    }

    /// Writes a response.
    pub(crate) async fn write(&mut self, response: &Response) -> io::Result<()> {
        if let Some(unsent) = self.try_write(response)? {
            Box::pin(self.write_all(&unsent)).await?;
        }
        self.shared.counters.answer(response.status, self.request_start.take().map(Instant::into_std));
        Ok(())
    }

    /// Writes what the socket takes now, and returns the rest. Not async either.
    fn try_write(&self, response: &Response) -> io::Result<Option<Vec<u8>>> {
        let bytes = response.encode();
        let count = match self.stream.try_write(&bytes) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            result => result?,
        };
        Ok((count < bytes.len()).then(|| bytes[count..].to_vec()))
    }

    async fn write_all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        let deadline = Instant::now() + self.shared.config.write_timeout;
        while !bytes.is_empty() {
            match self.stream.try_write(bytes) {
                Ok(count) => bytes = &bytes[count..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.ready_before(deadline, TcpStream::poll_write_ready).await?;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Closes without losing the last answer: see [`common::linger`].
    pub(crate) async fn linger(&mut self) -> io::Result<()> {
        socket2::SockRef::from(&self.stream).shutdown(std::net::Shutdown::Write)?;
        let deadline = Instant::now() + LINGER_TIMEOUT;
        loop {
            match drop_input(&mut TryRead(&self.stream))? {
                Input::Ended => return Ok(()),
                Input::Awaited => self.ready_before(deadline, TcpStream::poll_read_ready).await?,
                Input::Unread => consume_budget().await,
            }
        }
    }

    /// Waits for the socket, which `poll_ready` asks.
    async fn ready_before(&self, deadline: Instant, poll_ready: PollReady) -> io::Result<()> {
        timeout_at(deadline, poll_fn(|cx| poll_ready(&self.stream, cx))).await?
    }
}

type PollReady = fn(&TcpStream, &mut Context<'_>) -> Poll<io::Result<()>>;

/// Reads what is there, for code that knows nothing of tasks.
struct TryRead<'a>(&'a TcpStream);

impl io::Read for TryRead<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(bytes)
    }
}
