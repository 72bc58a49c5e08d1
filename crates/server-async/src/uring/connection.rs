//! A connection over `common`'s codec: what [`crate::codec`] does with a socket that is ready, done with one that the kernel
//! has read.

use std::io;
use std::time::Instant;

use common::http::{Decoder, Phase, Reject, Request, Response, Step, response};
use common::linger::LINGER_TIMEOUT;

use super::reactor::Socket;
use super::shared::Shared;

/// Reads requests from a socket and writes responses to it, each within its timeout.
///
/// What is awaited seldom is boxed: a task has room for all that it may await, and there are 10,000 tasks.
pub(crate) struct Connection {
    pub(crate) socket: Socket,
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
    Wait,
}

impl Connection {
    pub(crate) fn new(socket: Socket, shared: &'static Shared) -> Self {
        Self { socket, decoder: Decoder::new(shared.config.limits()), shared, request_start: None }
    }

    /// The next request; `None` when there will be none: the client has gone, was silent for too long, was refused and
    /// told so, or the server is draining.
    pub(crate) async fn read(&mut self) -> io::Result<Option<Request>> {
        let mut phase = self.decoder.phase();
        let mut phase_start = Instant::now();
        loop {
            // Two matches: what is matched is kept while an arm awaits.
            let next = match self.try_read() {
                Ok(Some(Ok(Step::Request(request)))) => {
                    self.request_start = Some(Instant::now());
                    return Ok(Some(request));
                }
                Ok(Some(Ok(Step::Continue))) => Next::Continue,
                Ok(Some(Ok(Step::Need))) => Next::ReadOn,
                Ok(Some(Err(reject))) => Next::Reject(reject),
                Ok(None) => return Ok(None),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Next::Wait,
                Err(error) => return Err(error),
            };
            match next {
                Next::Continue => Box::pin(self.write_all(response::CONTINUE.to_vec())).await?,
                Next::ReadOn => {}
                Next::Reject(reject) => return Box::pin(self.reject(reject)).await,
                Next::Wait if self.is_done() => return Ok(None),
                Next::Wait => {
                    if phase != self.decoder.phase() {
                        phase = self.decoder.phase();
                        phase_start = Instant::now();
                    }
                    let deadline = phase_start + self.shared.config.timeouts().limit(phase);
                    // What has come before the server stops is not left unread: it is looked at once more.
                    match self.socket.readable(deadline, phase != Phase::Body).await {
                        Ok(()) => {}
                        Err(_) if phase == Phase::Idle => return Ok(None),
                        Err(_) => return Box::pin(self.reject(self.decoder.too_slow())).await,
                    }
                }
            }
        }
    }

    /// What is in the bytes so far, or else in those that have come; `None` at the end of the input.
    fn try_read(&mut self) -> io::Result<Option<Result<Step, Reject>>> {
        match self.decoder.decode(b"") {
            Ok(Step::Need) => {
                let bytes = self.socket.try_read()?;
                Ok((!bytes.is_empty()).then(|| self.decoder.decode(&bytes)))
            }
            found => Ok(Some(found)),
        }
    }

    /// Whether the server stops and need not wait for the client: it is not in the middle of a body.
    fn is_done(&self) -> bool {
        self.socket.is_draining() && self.decoder.phase() != Phase::Body
    }

    async fn reject(&mut self, reject: Reject) -> io::Result<Option<Request>> {
        self.write(&reject.into()).await?;
        Ok(None)
    }

    /// Writes a response. Not an `async fn`: a task would have room for the response, besides its bytes.
    pub(crate) fn write(&mut self, response: &Response) -> impl Future<Output = io::Result<()>> + use<> {
        let written = self.write_all(response.encode_to_vec());
        let (counters, status) = (&self.shared.counters, response.status);
        let request_start = self.request_start.take();
        async move {
            written.await?;
            counters.answer(status, request_start);
            Ok(())
        }
    }

    fn write_all(&self, bytes: Vec<u8>) -> impl Future<Output = io::Result<()>> + use<> {
        self.socket.send(bytes, Instant::now() + self.shared.config.write_timeout)
    }

    /// Closes without losing the last answer: see [`common::linger`].
    pub(crate) async fn linger(&mut self) -> io::Result<()> {
        self.socket.shutdown()?;
        let deadline = Instant::now() + LINGER_TIMEOUT;
        loop {
            match self.socket.try_read() {
                Ok(bytes) if bytes.is_empty() => return Ok(()),
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
                // However much comes.
                _ if Instant::now() >= deadline => return Err(io::ErrorKind::TimedOut.into()),
                _ => self.socket.readable(deadline, false).await?,
            }
        }
    }
}
