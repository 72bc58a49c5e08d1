//! One TCP connection: writes a request and reads the answer to its last byte.

use std::future::{Future as _, poll_fn};
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until, timeout};

use super::stream::{Endpoint, Stream};
use common::http::reply::{Answer, Content, Reply};

/// How much to read at once. The buffer is on the stack while bytes arrive, and takes no memory while the connection
/// waits.
const READ_BYTES: usize = 16 * 1024;

/// Why a request got no good answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// No connection could be made.
    Connect,
    /// The answer is incomplete, or is not HTTP.
    Read,
    /// The request could not be sent.
    Write,
    /// The answer took too long.
    Timeout,
    /// The answer's status is 400 or above.
    Status,
}

/// The outcome of one exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Exchange {
    /// How many answers came.
    pub(crate) answers: u64,
    /// How many of them have a status of 400 or above.
    pub(crate) refusals: u64,
    /// Bytes received.
    pub(crate) bytes: u64,
    /// Whether the connection can carry another request.
    pub(crate) is_persistent: bool,
}

/// One connection, which has at most one exchange in flight.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: Stream,
    reply: Reply,
    /// The status and content of each answer, if wanted.
    contents: Vec<(u16, Content)>,
    timeout: Option<Timeout>,
}

impl Connection {
    /// Connects. `limit` bounds the time for connecting and for each exchange. `wants_content` keeps the content of
    /// answers.
    ///
    /// # Errors
    /// No connection could be made.
    pub(crate) async fn open(endpoint: &Endpoint, limit: Option<Duration>, wants_content: bool) -> io::Result<Self> {
        let connecting = endpoint.connect();
        let stream = match limit {
            Some(limit) => timeout(limit, connecting).await??,
            None => connecting.await?,
        };
        let reply = if wants_content { Reply::with_content() } else { Reply::default() };
        Ok(Self { stream, reply, contents: Vec::new(), timeout: limit.map(Timeout::new) })
    }

    /// Sends `request`, which may hold several pipelined requests, and reads as many `answers`. A connection that
    /// failed cannot be used again.
    pub(crate) async fn exchange(&mut self, request: &[u8], answers: u64) -> Result<Exchange, Failure> {
        if let Some(timeout) = &mut self.timeout {
            timeout.start();
        }
        self.reply.is_to_head = request.starts_with(b"HEAD ");
        let mut unsent = request;
        while !unsent.is_empty() {
            let count = poll_fn(|context| self.poll_write(context, unsent)).await?;
            unsent = &unsent[count..];
        }
        poll_fn(|context| self.poll_flush(context)).await?;
        let mut exchange = Exchange { answers: 0, refusals: 0, bytes: 0, is_persistent: true };
        poll_fn(|context| self.poll_answers(context, answers, &mut exchange)).await?;
        Ok(exchange)
    }

    /// The status and content of the answers since the last call, if wanted.
    pub(crate) fn take_contents(&mut self) -> Vec<(u16, Content)> {
        std::mem::take(&mut self.contents)
    }

    /// Waits until the server closes, and drops what it still sends.
    pub(crate) async fn closed(mut self) {
        while poll_fn(|context| self.poll_discard(context)).await {}
    }

    /// Reads and drops bytes. Returns whether more may come.
    fn poll_discard(&mut self, context: &mut Context<'_>) -> Poll<bool> {
        let mut bytes = [MaybeUninit::uninit(); READ_BYTES];
        let mut buffer = ReadBuf::uninit(&mut bytes);
        let outcome = ready!(Pin::new(&mut self.stream).poll_read(context, &mut buffer));
        Poll::Ready(outcome.is_ok() && !buffer.filled().is_empty())
    }

    fn poll_write(&mut self, context: &mut Context<'_>, unsent: &[u8]) -> Poll<Result<usize, Failure>> {
        match Pin::new(&mut self.stream).poll_write(context, unsent) {
            Poll::Ready(Ok(count)) if count > 0 => Poll::Ready(Ok(count)),
            Poll::Ready(_) => Poll::Ready(Err(Failure::Write)),
            Poll::Pending => self.poll_overdue(context).map(Err),
        }
    }

    fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        match Pin::new(&mut self.stream).poll_flush(context) {
            Poll::Ready(outcome) => Poll::Ready(outcome.map_err(|_| Failure::Write)),
            Poll::Pending => self.poll_overdue(context).map(Err),
        }
    }

    /// Reads until all `answers` are in.
    fn poll_answers(
        &mut self,
        context: &mut Context<'_>,
        answers: u64,
        exchange: &mut Exchange,
    ) -> Poll<Result<(), Failure>> {
        let mut bytes = [MaybeUninit::uninit(); READ_BYTES];
        loop {
            let mut buffer = ReadBuf::uninit(&mut bytes);
            let outcome = match Pin::new(&mut self.stream).poll_read(context, &mut buffer) {
                Poll::Ready(Ok(())) => self.take(buffer.filled(), answers, exchange),
                Poll::Ready(Err(_)) => Err(Failure::Read),
                Poll::Pending => return self.poll_overdue(context).map(Err),
            };
            if outcome.is_err() || exchange.answers == answers {
                return Poll::Ready(outcome);
            }
        }
    }

    /// Handles the bytes read; an empty slice means that the server closed.
    fn take(&mut self, mut bytes: &[u8], answers: u64, exchange: &mut Exchange) -> Result<(), Failure> {
        exchange.bytes += bytes.len() as u64;
        if bytes.is_empty() {
            let last = self.reply.end().ok_or(Failure::Read)?;
            self.count(last, exchange);
            return if exchange.answers == answers { Ok(()) } else { Err(Failure::Read) };
        }
        while !bytes.is_empty() {
            if exchange.answers == answers {
                // More bytes than the answers requested.
                return Err(Failure::Read);
            }
            let (used, answer) = self.reply.push(bytes).map_err(|_| Failure::Read)?;
            bytes = &bytes[used..];
            if let Some(answer) = answer {
                self.count(answer, exchange);
            }
        }
        Ok(())
    }

    fn count(&mut self, answer: Answer, exchange: &mut Exchange) {
        exchange.answers += 1;
        exchange.refusals += u64::from(!answer.is_success());
        exchange.is_persistent &= answer.is_persistent;
        self.contents.extend(self.reply.take_content().map(|content| (answer.status, content)));
    }

    fn poll_overdue(&mut self, context: &mut Context<'_>) -> Poll<Failure> {
        match &mut self.timeout {
            Some(timeout) => timeout.poll_overdue(context).map(|()| Failure::Timeout),
            None => Poll::Pending,
        }
    }
}

/// The time limit of an exchange.
#[derive(Debug)]
struct Timeout {
    limit: Duration,
    deadline: Instant,
    /// Fires when this exchange, or an earlier one, would be overdue. Checking again when it fires is cheaper than
    /// moving it with every exchange.
    alarm: Pin<Box<Sleep>>,
}

impl Timeout {
    fn new(limit: Duration) -> Self {
        let deadline = Instant::now() + limit;
        Self { limit, deadline, alarm: Box::pin(sleep_until(deadline)) }
    }

    fn start(&mut self) {
        self.deadline = Instant::now() + self.limit;
    }

    fn poll_overdue(&mut self, context: &mut Context<'_>) -> Poll<()> {
        while self.alarm.as_mut().poll(context).is_ready() {
            if Instant::now() >= self.deadline {
                return Poll::Ready(());
            }
            self.alarm.as_mut().reset(self.deadline);
        }
        Poll::Pending
    }
}
