//! One TCP connection: sends requests and reads the answers to their last byte, both at the same time.

use std::future::{Future, poll_fn};
use std::mem::MaybeUninit;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use common::http::reply::{Answer, Content, Reply};
use results::run::ErrorKind;
use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until, timeout};

use super::stream::{Endpoint, Stream};
use crate::failures::Failure;

/// How much to read at once. The buffer is on the stack while bytes arrive, and takes no memory while the connection
/// waits.
const READ_BYTES: usize = 16 * 1024;

/// One connection, closed or open, which has at most one exchange in flight.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: Stream,
    reply: Reply,
    /// Whether an answer came since it was opened.
    has_answered: bool,
    wants_content: bool,
    /// The status and content of each answer, if wanted.
    contents: Vec<(u16, Content)>,
    timeout: Option<Timeout>,
}

/// Requests that are being sent, and what is missing of their answers.
struct Exchange<'a, F> {
    unsent: &'a [u8],
    is_flushed: bool,
    /// Why no more could be sent. The answer may be there all the same: a server that does not want a whole body
    /// answers, and closes.
    send_failure: Option<Failure>,
    missing_answers: u64,
    /// Bytes since the last answer.
    bytes: u64,
    is_persistent: bool,
    /// Takes each answer, and how many bytes came with it.
    on_answer: F,
}

impl Connection {
    /// A closed connection. `limit` bounds the time for connecting and for each exchange. `wants_content` keeps the
    /// content of answers.
    pub(crate) fn new(limit: Option<Duration>, wants_content: bool) -> Self {
        Self {
            stream: Stream::Closed,
            reply: Reply::default(),
            has_answered: false,
            wants_content,
            contents: Vec::new(),
            timeout: limit.map(Timeout::new),
        }
    }

    /// Connects, and before that closes what was open.
    ///
    /// # Errors
    /// No connection could be made.
    pub(crate) async fn open(&mut self, endpoint: &Endpoint) -> Result<(), Failure> {
        self.stream = Stream::Closed;
        self.reply = if self.wants_content { Reply::with_content() } else { Reply::default() };
        self.has_answered = false;
        let connecting = endpoint.connect();
        let outcome = match &self.timeout {
            Some(limited) => match timeout(limited.limit, connecting).await {
                Ok(outcome) => outcome,
                Err(_) => return Err(Failure::new(ErrorKind::Connect, "no connection within the time limit")),
            },
            None => connecting.await,
        };
        self.stream = outcome.map_err(|error| Failure::of_io(ErrorKind::Connect, &error))?;
        Ok(())
    }

    /// Whether an answer came since it was opened.
    pub(crate) fn has_answered(&self) -> bool {
        self.has_answered
    }

    /// Sends `request`, which may hold several pipelined requests, and reads as many `answers`. `on_answer` takes each,
    /// and how many bytes came with it. Returns whether the connection can carry another request; one that failed
    /// cannot.
    pub(crate) async fn exchange(
        &mut self,
        request: &[u8],
        answers: u64,
        on_answer: impl FnMut(Answer, u64),
    ) -> Result<bool, Failure> {
        if let Some(timeout) = &mut self.timeout {
            timeout.start();
        }
        self.reply.is_to_head = request.starts_with(b"HEAD ");
        let mut exchange = Exchange {
            unsent: request,
            is_flushed: false,
            send_failure: None,
            missing_answers: answers,
            bytes: 0,
            is_persistent: true,
            on_answer,
        };
        poll_fn(|context| {
            self.poll_send(context, &mut exchange);
            self.poll_answers(context, &mut exchange)
        })
        .await?;
        Ok(exchange.is_persistent && exchange.is_flushed && exchange.send_failure.is_none())
    }

    /// Waits for `until`; `None` if the server closes before that, or sends what nobody asked for.
    pub(crate) async fn idle<T>(&mut self, until: impl Future<Output = T>) -> Option<T> {
        let mut until = pin!(until);
        poll_fn(|context| match until.as_mut().poll(context) {
            Poll::Ready(outcome) => Poll::Ready(Some(outcome)),
            Poll::Pending => self.poll_unwanted(context).map(|()| None),
        })
        .await
    }

    /// The status and content of the answers since the last call, if wanted.
    pub(crate) fn take_contents(&mut self) -> Vec<(u16, Content)> {
        std::mem::take(&mut self.contents)
    }

    /// Waits until the server closes, and drops what it still sends.
    pub(crate) async fn closed(&mut self) {
        while poll_fn(|context| self.poll_discard(context)).await {}
    }

    /// Waits until the server closes or sends anything but the empty lines that old servers send after an answer.
    fn poll_unwanted(&mut self, context: &mut Context<'_>) -> Poll<()> {
        loop {
            let mut bytes = [MaybeUninit::uninit(); READ_BYTES];
            let mut buffer = ReadBuf::uninit(&mut bytes);
            let outcome = ready!(Pin::new(&mut self.stream).poll_read(context, &mut buffer));
            if outcome.is_err() || buffer.filled().is_empty() || !buffer.filled().iter().all(u8::is_ascii_whitespace) {
                return Poll::Ready(());
            }
        }
    }

    /// Reads and drops bytes. Returns whether more may come.
    fn poll_discard(&mut self, context: &mut Context<'_>) -> Poll<bool> {
        let mut bytes = [MaybeUninit::uninit(); READ_BYTES];
        let mut buffer = ReadBuf::uninit(&mut bytes);
        let outcome = ready!(Pin::new(&mut self.stream).poll_read(context, &mut buffer));
        Poll::Ready(outcome.is_ok() && !buffer.filled().is_empty())
    }

    /// Sends as much as the socket takes.
    fn poll_send<F>(&mut self, context: &mut Context<'_>, exchange: &mut Exchange<'_, F>) {
        let mut stream = Pin::new(&mut self.stream);
        while !exchange.is_flushed && exchange.send_failure.is_none() {
            let outcome = match exchange.unsent {
                [] => stream.as_mut().poll_flush(context).map_ok(|()| exchange.is_flushed = true),
                unsent => stream.as_mut().poll_write(context, unsent).map_ok(|sent| exchange.unsent = &unsent[sent..]),
            };
            match outcome {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => exchange.send_failure = Some(Failure::of_io(ErrorKind::Write, &error)),
                Poll::Pending => return,
            }
        }
    }

    /// Reads until all answers are in.
    fn poll_answers<F: FnMut(Answer, u64)>(
        &mut self,
        context: &mut Context<'_>,
        exchange: &mut Exchange<'_, F>,
    ) -> Poll<Result<(), Failure>> {
        let mut bytes = [MaybeUninit::uninit(); READ_BYTES];
        loop {
            let mut buffer = ReadBuf::uninit(&mut bytes);
            let outcome = match Pin::new(&mut self.stream).poll_read(context, &mut buffer) {
                Poll::Ready(Ok(())) => self.take(buffer.filled(), exchange),
                Poll::Ready(Err(error)) => Err(Failure::of_io(ErrorKind::Read, &error)),
                Poll::Pending => return self.poll_overdue(context).map(Err),
            };
            if let Err(failure) = outcome {
                // That the request could not be sent comes first.
                return Poll::Ready(Err(exchange.send_failure.take().unwrap_or(failure)));
            }
            if exchange.missing_answers == 0 {
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// Handles the bytes read; an empty slice means that the server closed.
    fn take<F: FnMut(Answer, u64)>(&mut self, mut bytes: &[u8], exchange: &mut Exchange<'_, F>) -> Result<(), Failure> {
        if bytes.is_empty() {
            return self.take_end(exchange);
        }
        while !bytes.is_empty() && exchange.missing_answers > 0 {
            let outcome = self.reply.push(bytes);
            let (used, answer) = outcome.map_err(|error| Failure::of_io(ErrorKind::Read, &error))?;
            exchange.bytes += used as u64;
            bytes = &bytes[used..];
            if let Some(answer) = answer {
                self.finish_answer(answer, exchange);
            }
        }
        // What nobody asked for cannot be told from the next answer. Old servers send an empty line more.
        exchange.is_persistent &= bytes.iter().all(u8::is_ascii_whitespace);
        Ok(())
    }

    /// The server closed. That ends some answers, and cuts others off.
    fn take_end<F: FnMut(Answer, u64)>(&mut self, exchange: &mut Exchange<'_, F>) -> Result<(), Failure> {
        let is_within_answer = exchange.bytes > 0;
        if let Some(last) = self.reply.end() {
            self.finish_answer(last, exchange);
        }
        exchange.is_persistent = false;
        match exchange.missing_answers {
            0 => Ok(()),
            _ if is_within_answer => Err(Failure::new(ErrorKind::Read, "closed within an answer")),
            _ => Err(Failure::new(ErrorKind::Read, "closed before an answer")),
        }
    }

    fn finish_answer<F: FnMut(Answer, u64)>(&mut self, answer: Answer, exchange: &mut Exchange<'_, F>) {
        self.has_answered = true;
        exchange.missing_answers -= 1;
        exchange.is_persistent &= answer.is_persistent;
        self.contents.extend(self.reply.take_content().map(|content| (answer.status, content)));
        (exchange.on_answer)(answer, std::mem::take(&mut exchange.bytes));
    }

    fn poll_overdue(&mut self, context: &mut Context<'_>) -> Poll<Failure> {
        match &mut self.timeout {
            Some(timeout) => timeout
                .poll_overdue(context)
                .map(|()| Failure::new(ErrorKind::Timeout, "no answer within the time limit")),
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
