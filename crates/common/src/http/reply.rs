//! Answers out of bytes, however the bytes are split. No I/O in it.

use std::io;
use std::mem::MaybeUninit;

use super::Limits;
use super::body::{BodyDecoder, Framing};

/// The longest head that is read.
const MAX_HEAD_BYTES: usize = 64 * 1024;
/// The most fields that an answer may have.
const MAX_FIELDS: usize = 64;

/// A whole answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The three digits.
    pub status: u16,
    /// Whether the server leaves the connection open.
    pub is_persistent: bool,
}

impl Answer {
    /// Whether it is what the client wanted: wrk's criterion, too.
    pub fn is_success(&self) -> bool {
        self.status < 400
    }
}

/// An answer's fields and body, for whoever wants more than its end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Content {
    /// Names and values, as they came.
    pub fields: Vec<(String, Vec<u8>)>,
    /// The body, its transfer coding removed.
    pub body: Vec<u8>,
}

/// What has come of an answer so far.
#[derive(Debug, Default)]
pub struct Reply {
    /// The content of this answer, if it is wanted.
    content: Option<Box<Content>>,
    /// The request was a HEAD: whatever the fields say, no body comes.
    pub is_to_head: bool,
    /// An incomplete head. Nearly always empty: an answer of a few hundred bytes comes in one piece.
    head: Vec<u8>,
    /// After the head: the answer, and what is missing of its body.
    body: Option<(Answer, Body)>,
}

/// A body that is not whole yet.
#[derive(Debug)]
enum Body {
    /// This many bytes are missing.
    Length(u64),
    /// Boxed: with one, 10,000 connections would all be larger for it.
    Chunked(Box<BodyDecoder>),
    /// It ends with the connection.
    UntilClose,
}

impl Reply {
    /// One that keeps the content of answers.
    pub fn with_content() -> Self {
        Self { content: Some(Box::default()), ..Self::default() }
    }

    /// The content of the answer that has just become whole, if it is wanted.
    pub fn take_content(&mut self) -> Option<Content> {
        self.content.as_deref_mut().map(std::mem::take)
    }

    /// Takes what was read: says how many of the bytes belong to this answer, and gives it once it is whole.
    ///
    /// # Errors
    /// This is not HTTP.
    pub fn push(&mut self, bytes: &[u8]) -> io::Result<(usize, Option<Answer>)> {
        let mut used = 0;
        while self.body.is_none() {
            let Some(head_bytes) = self.push_head(&bytes[used..])? else { return Ok((bytes.len(), None)) };
            used += head_bytes;
        }
        let (body_bytes, answer) = self.push_body(&bytes[used..])?;
        Ok((used + body_bytes, answer))
    }

    /// The server has closed. That ends some answers, and cuts others off.
    pub fn end(&mut self) -> Option<Answer> {
        match self.body.take() {
            Some((answer, Body::UntilClose)) => Some(answer),
            _ => None,
        }
    }

    /// Takes the head: how many of the bytes belong to it, if it is whole.
    fn push_head(&mut self, bytes: &[u8]) -> io::Result<Option<usize>> {
        let known = self.head.len();
        if known > 0 {
            self.head.extend_from_slice(bytes);
        }
        let fields = self.content.as_deref_mut().map(|content| &mut content.fields);
        let Some(head) = parse_head(if known > 0 { &self.head } else { bytes }, self.is_to_head, fields)? else {
            if known == 0 {
                self.head.extend_from_slice(bytes);
            }
            if self.head.len() > MAX_HEAD_BYTES {
                return Err(io::Error::other("the head does not end"));
            }
            return Ok(None);
        };
        self.head = Vec::new();
        // An interim answer (1xx) has no body, and is not the one that was asked for.
        self.body = (head.answer.status >= 200).then_some((head.answer, head.body));
        Ok(Some(head.length - known))
    }

    fn push_body(&mut self, bytes: &[u8]) -> io::Result<(usize, Option<Answer>)> {
        let Some((answer, body)) = &mut self.body else { return Ok((0, None)) };
        let mut keep = |data: &[u8]| {
            if let Some(content) = &mut self.content {
                content.body.extend_from_slice(data);
            }
        };
        let (used, is_whole) = match body {
            Body::Length(missing) => {
                let used = usize::try_from(*missing).map_or(bytes.len(), |missing| missing.min(bytes.len()));
                *missing -= used as u64;
                keep(&bytes[..used]);
                (used, *missing == 0)
            }
            Body::Chunked(decoder) => {
                let used = decoder.decode(bytes, keep).map_err(|reject| io::Error::other(reject.why))?;
                (used, decoder.is_done())
            }
            Body::UntilClose => {
                keep(bytes);
                (bytes.len(), false)
            }
        };
        let answer = *answer;
        if is_whole {
            self.body = None;
        }
        Ok((used, is_whole.then_some(answer)))
    }
}

/// A whole head, interim ones included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplyHead {
    /// The three digits.
    pub status: u16,
    /// Names and values, as they came.
    pub fields: Vec<(String, Vec<u8>)>,
    /// How many bytes it has, its empty line included.
    pub length: usize,
}

/// Reads the head that `bytes` begin with; nothing if it is not complete.
///
/// # Errors
/// This is not HTTP.
pub fn read_head(bytes: &[u8]) -> io::Result<Option<ReplyHead>> {
    let mut fields = Vec::new();
    let head = parse_head(bytes, false, Some(&mut fields))?;
    Ok(head.map(|head| ReplyHead { status: head.answer.status, fields, length: head.length }))
}

struct Head {
    answer: Answer,
    body: Body,
    length: usize,
}

/// Parses a head, and keeps its fields if somebody wants them; nothing if it is not complete.
fn parse_head(
    bytes: &[u8],
    is_to_head: bool,
    kept_fields: Option<&mut Vec<(String, Vec<u8>)>>,
) -> io::Result<Option<Head>> {
    let mut fields = [const { MaybeUninit::uninit() }; MAX_FIELDS];
    let mut response = httparse::Response::new(&mut []);
    let status =
        httparse::ParserConfig::default().parse_response_with_uninit_headers(&mut response, bytes, &mut fields);
    let httparse::Status::Complete(length) = status.map_err(io::Error::other)? else { return Ok(None) };
    let Some(status) = response.code else { return Err(io::Error::other("no status")) };
    if let Some(kept) = kept_fields {
        *kept = response.headers.iter().map(|field| (field.name.to_owned(), field.value.to_vec())).collect();
    }
    let mut is_persistent = response.version == Some(1);
    let mut is_chunked = false;
    let mut content_length = None;
    for field in response.headers.iter() {
        if field.name.eq_ignore_ascii_case("content-length") {
            let text = str::from_utf8(field.value).map_err(io::Error::other)?;
            let value = text.parse::<u64>().map_err(io::Error::other)?;
            if content_length.is_some_and(|earlier| earlier != value) {
                return Err(io::Error::other("two Content-Lengths"));
            }
            content_length = Some(value);
        } else if field.name.eq_ignore_ascii_case("transfer-encoding") {
            is_chunked = field.value.to_ascii_lowercase().ends_with(b"chunked");
        } else if field.name.eq_ignore_ascii_case("connection") {
            is_persistent = match field.value.to_ascii_lowercase().as_slice() {
                b"close" => false,
                b"keep-alive" => true,
                _ => is_persistent,
            };
        }
    }
    let body = match (status, content_length) {
        (100..=199 | 204 | 304, _) => Body::Length(0),
        _ if is_to_head => Body::Length(0),
        _ if is_chunked => Body::Chunked(Box::new(BodyDecoder::new(Framing::Chunked, &LIMITS))),
        (_, Some(length)) => Body::Length(length),
        (_, None) => {
            is_persistent = false;
            Body::UntilClose
        }
    };
    Ok(Some(Head { answer: Answer { status, is_persistent }, body, length }))
}

/// Of trailers, and of the whole body: as much as there is.
const LIMITS: Limits = Limits { max_head_bytes: MAX_HEAD_BYTES, max_body_bytes: usize::MAX };

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: Answer = Answer { status: 200, is_persistent: true };

    /// All answers, and how many bytes were left after the last.
    fn read_in_pieces(bytes: &[u8], size: usize) -> io::Result<Vec<Answer>> {
        let mut reply = Reply::default();
        let mut answers = Vec::new();
        for mut piece in bytes.chunks(size) {
            while !piece.is_empty() {
                let (used, answer) = reply.push(piece)?;
                answers.extend(answer);
                piece = &piece[used..];
            }
        }
        answers.extend(reply.end());
        Ok(answers)
    }

    #[test]
    fn answers_are_whole_with_their_last_byte_however_they_are_cut() {
        let bytes = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\ncontent-length: 5\r\n\r\nhello\
            HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n\
            HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n\
            HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        let expected = [GOOD, Answer { status: 204, ..GOOD }, GOOD, Answer { status: 404, is_persistent: false }];
        for size in 1..=bytes.len() {
            assert_eq!(read_in_pieces(bytes, size).unwrap(), expected, "in pieces of {size}");
        }
        for end in 1..67 {
            assert_eq!(read_in_pieces(&bytes[..end], 7).unwrap(), [], "of {end} bytes");
        }
    }

    #[test]
    fn an_answer_without_a_length_ends_with_the_connection() {
        let bytes = b"HTTP/1.1 200 OK\r\n\r\nwhatever";
        assert_eq!(read_in_pieces(bytes, 5).unwrap(), [Answer { status: 200, is_persistent: false }]);
        assert_eq!(read_in_pieces(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nwhatever", 5).unwrap(), []);
    }

    #[test]
    fn the_content_is_kept_if_it_is_wanted() {
        let bytes = b"HTTP/1.1 200 OK\r\nX-A: 1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
        let mut reply = Reply::with_content();
        for _ in 0..2 {
            assert!(reply.push(bytes).unwrap().1.is_some());
            let content = reply.take_content().unwrap();
            assert_eq!((content.fields[0].0.as_str(), content.body.as_slice()), ("X-A", &b"abcde"[..]));
        }
    }

    #[test]
    fn an_answer_to_head_has_no_body() {
        let bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n";
        let mut reply = Reply { is_to_head: true, ..Reply::default() };
        assert_eq!(reply.push(bytes).unwrap(), (bytes.len(), Some(GOOD)));
    }

    #[test]
    fn persistence_is_read() {
        let of = |bytes: &[u8]| read_in_pieces(bytes, 1000).unwrap()[0].is_persistent;
        assert!(of(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"));
        assert!(!of(b"HTTP/1.1 200 OK\r\nConnection: Close\r\nContent-Length: 0\r\n\r\n"));
        assert!(!of(b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n"));
        assert!(of(b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n"));
    }

    #[test]
    fn what_is_no_answer_is_refused() {
        for bytes in [
            &b"SSH-2.0-OpenSSH_9.2\r\n\r\n"[..],
            b"HTTP/1.1 200 OK\r\nContent-Length: five\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
        ] {
            assert!(read_in_pieces(bytes, 1000).is_err(), "{:?}", String::from_utf8_lossy(bytes));
        }
        assert!(read_in_pieces(&[b'a'; 2 * MAX_HEAD_BYTES], 1000).is_err());
    }
}
