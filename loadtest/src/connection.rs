//! One TCP connection: it writes a request, and reads the answer to its last byte.

use std::future::{Future as _, poll_fn};
use std::io;
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep_until, timeout};

/// How much is read at once. It is on the stack while bytes are there, and nowhere while the connection waits for them.
const READ_BYTES: usize = 16 * 1024;
/// The longest head that is read.
const MAX_HEAD_BYTES: usize = 64 * 1024;
/// The most fields that an answer may have.
const MAX_FIELDS: usize = 64;

/// What kept a request from a good answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// No connection could be made.
    Connect,
    /// The answer did not come whole, or is no HTTP.
    Read,
    /// The request could not be sent.
    Write,
    /// The answer took too long.
    Timeout,
    /// The answer's status is not 2xx.
    Status,
}

/// A whole answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    /// Whether the status is 2xx.
    pub(crate) is_success: bool,
    /// Whether the server leaves the connection open.
    pub(crate) is_persistent: bool,
}

/// One connection, which has at most one request in flight.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    reply: Reply,
    /// Fires when the request in flight is overdue, or when an earlier one would have been: moving it with each request
    /// would cost more than to look again when it fires.
    alarm: Pin<Box<Sleep>>,
    timeout: Duration,
}

impl Connection {
    /// Connects within `limit`, which is also the timeout of each request.
    pub(crate) async fn open(address: SocketAddr, limit: Duration) -> Result<Self, Failure> {
        match timeout(limit, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => Ok(Self {
                stream,
                reply: Reply::default(),
                alarm: Box::pin(sleep_until(Instant::now() + limit)),
                timeout: limit,
            }),
            Ok(Err(_)) | Err(_) => Err(Failure::Connect),
        }
    }

    /// Sends a request and reads its answer. After a failure the connection is of no use.
    pub(crate) async fn exchange(&mut self, request: &[u8], sent: Instant) -> Result<Answer, Failure> {
        let deadline = sent + self.timeout;
        let mut unsent = request;
        while !unsent.is_empty() {
            let count = poll_fn(|context| self.poll_write(context, unsent, deadline)).await?;
            unsent = &unsent[count..];
        }
        poll_fn(|context| self.poll_answer(context, deadline)).await
    }

    /// Waits until the server closes. What it still sends is dropped.
    pub(crate) async fn closed(mut self) {
        while poll_fn(|context| self.poll_discard(context)).await {}
    }

    /// Reads and drops. Says whether more may come.
    fn poll_discard(&mut self, context: &mut Context<'_>) -> Poll<bool> {
        let mut bytes = [MaybeUninit::uninit(); READ_BYTES];
        let mut buffer = ReadBuf::uninit(&mut bytes);
        let outcome = ready!(Pin::new(&mut self.stream).poll_read(context, &mut buffer));
        Poll::Ready(outcome.is_ok() && !buffer.filled().is_empty())
    }

    fn poll_write(
        &mut self,
        context: &mut Context<'_>,
        unsent: &[u8],
        deadline: Instant,
    ) -> Poll<Result<usize, Failure>> {
        match Pin::new(&mut self.stream).poll_write(context, unsent) {
            Poll::Ready(Ok(count)) if count > 0 => Poll::Ready(Ok(count)),
            Poll::Ready(_) => Poll::Ready(Err(Failure::Write)),
            Poll::Pending => self.poll_overdue(context, deadline).map(Err),
        }
    }

    fn poll_answer(&mut self, context: &mut Context<'_>, deadline: Instant) -> Poll<Result<Answer, Failure>> {
        let mut bytes = [MaybeUninit::uninit(); READ_BYTES];
        loop {
            let mut buffer = ReadBuf::uninit(&mut bytes);
            match Pin::new(&mut self.stream).poll_read(context, &mut buffer) {
                Poll::Ready(Ok(())) if buffer.filled().is_empty() => return Poll::Ready(Err(Failure::Read)),
                Poll::Ready(Ok(())) => match self.reply.push(buffer.filled()) {
                    Ok(Some(answer)) => return Poll::Ready(Ok(answer)),
                    Ok(None) => {}
                    Err(_) => return Poll::Ready(Err(Failure::Read)),
                },
                Poll::Ready(Err(_)) => return Poll::Ready(Err(Failure::Read)),
                Poll::Pending => return self.poll_overdue(context, deadline).map(Err),
            }
        }
    }

    fn poll_overdue(&mut self, context: &mut Context<'_>, deadline: Instant) -> Poll<Failure> {
        while self.alarm.as_mut().poll(context).is_ready() {
            if Instant::now() >= deadline {
                return Poll::Ready(Failure::Timeout);
            }
            self.alarm.as_mut().reset(deadline);
        }
        Poll::Pending
    }
}

/// What has come of an answer so far.
#[derive(Debug, Default)]
struct Reply {
    /// An incomplete head. Nearly always empty: an answer of a few hundred bytes comes in one piece.
    head: Vec<u8>,
    /// After the head: the answer, and how many bytes of its body are missing.
    body: Option<(Answer, u64)>,
}

impl Reply {
    /// Takes what was read; gives the answer once it is whole.
    fn push(&mut self, bytes: &[u8]) -> io::Result<Option<Answer>> {
        if let Some((answer, missing)) = self.body {
            return self.take_body(answer, missing, bytes.len() as u64);
        }
        if self.head.is_empty() {
            return match parse_head(bytes)? {
                Some(head) => self.take_body(head.answer, head.content_length, (bytes.len() - head.length) as u64),
                None => self.keep(bytes),
            };
        }
        let known = self.head.len();
        self.keep(bytes)?;
        let Some(head) = parse_head(&self.head)? else { return Ok(None) };
        self.head = Vec::new();
        self.take_body(head.answer, head.content_length, (known + bytes.len() - head.length) as u64)
    }

    fn keep(&mut self, bytes: &[u8]) -> io::Result<Option<Answer>> {
        self.head.extend_from_slice(bytes);
        if self.head.len() > MAX_HEAD_BYTES {
            return Err(io::Error::other("the head does not end"));
        }
        Ok(None)
    }

    fn take_body(&mut self, answer: Answer, missing: u64, count: u64) -> io::Result<Option<Answer>> {
        let Some(missing) = missing.checked_sub(count) else {
            return Err(io::Error::other("more bytes than Content-Length says"));
        };
        self.body = (missing > 0).then_some((answer, missing));
        Ok((missing == 0).then_some(answer))
    }
}

struct Head {
    answer: Answer,
    content_length: u64,
    length: usize,
}

/// Parses a head; nothing if it is not complete.
fn parse_head(bytes: &[u8]) -> io::Result<Option<Head>> {
    let mut fields = [const { MaybeUninit::uninit() }; MAX_FIELDS];
    let mut response = httparse::Response::new(&mut []);
    let status =
        httparse::ParserConfig::default().parse_response_with_uninit_headers(&mut response, bytes, &mut fields);
    let httparse::Status::Complete(length) = status.map_err(io::Error::other)? else { return Ok(None) };
    let mut is_persistent = response.version == Some(1);
    let mut content_length = None;
    for field in response.headers.iter() {
        if field.name.eq_ignore_ascii_case("content-length") {
            let text = str::from_utf8(field.value).map_err(io::Error::other)?;
            let value = text.parse::<u64>().map_err(io::Error::other)?;
            if content_length.is_some_and(|earlier| earlier != value) {
                return Err(io::Error::other("two different Content-Length fields"));
            }
            content_length = Some(value);
        } else if field.name.eq_ignore_ascii_case("connection") {
            is_persistent &= !field.value.eq_ignore_ascii_case(b"close");
        }
    }
    let Some(content_length) = content_length else { return Err(io::Error::other("no Content-Length")) };
    let is_success = matches!(response.code, Some(200..=299));
    Ok(Some(Head { answer: Answer { is_success, is_persistent }, content_length, length }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: Answer = Answer { is_success: true, is_persistent: true };

    fn read_in_pieces(bytes: &[u8], size: usize) -> io::Result<Option<Answer>> {
        let mut reply = Reply::default();
        let mut answer = None;
        for piece in bytes.chunks(size) {
            assert_eq!(answer, None, "bytes after the end");
            answer = reply.push(piece)?;
        }
        Ok(answer)
    }

    #[test]
    fn an_answer_is_whole_with_its_last_byte_however_it_is_cut() {
        let bytes = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\ncontent-length: 5\r\n\r\nhello";
        for size in 1..=bytes.len() {
            assert_eq!(read_in_pieces(bytes, size).unwrap(), Some(GOOD), "in pieces of {size}");
        }
        assert_eq!(read_in_pieces(&bytes[..bytes.len() - 1], 7).unwrap(), None);
    }

    #[test]
    fn one_connection_takes_one_answer_after_another() {
        let mut reply = Reply::default();
        for _ in 0..3 {
            assert_eq!(reply.push(b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n").unwrap(), None);
            assert_eq!(reply.push(b"\r\n").unwrap(), Some(GOOD));
        }
    }

    #[test]
    fn status_and_persistence_are_read() {
        let of = |bytes: &[u8]| read_in_pieces(bytes, 1000).unwrap().unwrap();
        let refused = of(b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
        assert_eq!(refused, Answer { is_success: false, is_persistent: false });
        assert!(!of(b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n").is_persistent);
    }

    #[test]
    fn what_is_no_answer_is_refused() {
        for bytes in [
            &b"SSH-2.0-OpenSSH_9.2\r\n\r\n"[..],
            b"HTTP/1.1 200 OK\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: five\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nab",
        ] {
            assert!(read_in_pieces(bytes, 1000).is_err(), "{:?}", String::from_utf8_lossy(bytes));
        }
        assert!(read_in_pieces(&[b'a'; 2 * MAX_HEAD_BYTES], 1000).is_err());
    }
}
