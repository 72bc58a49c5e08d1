//! Answers out of bytes, however the bytes are split. No I/O in it.
//!
//! This is a client's decoder, and lenient: it takes whatever a server may send (RFC 9110 and 9112) and what other clients
//! take besides, within a client's limits. The servers parse requests with a strict one of their own.

mod chunks;

use std::io;
use std::mem::MaybeUninit;

use self::chunks::Chunks;

/// The longest head that is read, interim ones each by itself. curl stops at 300 kB.
const MAX_HEAD_BYTES: usize = 256 * 1024;
/// The most fields that an answer may have.
const MAX_FIELDS: usize = 8_192;
/// As many as nearly every answer has: these are parsed without allocating.
const USUAL_FIELDS: usize = 64;

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
    Chunked(Chunks),
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
            Some((answer, Body::Chunked(chunks))) if chunks.is_done_at_close() => Some(answer),
            _ => None,
        }
    }

    /// Takes the head: how many of the bytes belong to it, if it is whole.
    fn push_head(&mut self, bytes: &[u8]) -> io::Result<Option<usize>> {
        let known = self.head.len();
        if known > 0 {
            self.head.extend_from_slice(bytes);
            // A head ends with a line: do not parse it again for every byte that trickles in.
            if !bytes.contains(&b'\n') && self.head.len() <= MAX_HEAD_BYTES {
                return Ok(None);
            }
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
        // An interim answer (1xx) has no body, and is not the one that was asked for. After 101 comes no other.
        let is_final = head.answer.status >= 200 || head.answer.status == SWITCHING_PROTOCOLS;
        self.body = is_final.then_some((head.answer, head.body));
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
                let used = decoder.decode(bytes, keep)?;
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

const SWITCHING_PROTOCOLS: u16 = 101;

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
    let mut usual = [const { MaybeUninit::uninit() }; USUAL_FIELDS];
    let mut parsed = parse_fields(bytes, &mut usual);
    let mut many = Vec::new();
    if parsed == Err(httparse::Error::TooManyHeaders) {
        // Each has a line, so there are no more than that.
        many.reserve_exact(bytes.iter().filter(|&&byte| byte == b'\n').count().min(MAX_FIELDS));
        parsed = parse_fields(bytes, many.spare_capacity_mut());
    }
    read_fields(parsed, is_to_head, kept_fields)
}

/// A response, and how many bytes its head has, if it is complete.
type Parsed<'h, 'b> = httparse::Result<(httparse::Response<'h, 'b>, usize)>;

fn parse_fields<'h, 'b>(bytes: &'b [u8], fields: &'h mut [MaybeUninit<httparse::Header<'b>>]) -> Parsed<'h, 'b> {
    let mut response = httparse::Response::new(&mut []);
    let mut config = httparse::ParserConfig::default();
    config
        .allow_spaces_after_header_name_in_responses(true)
        .allow_obsolete_multiline_headers_in_responses(true)
        .allow_multiple_spaces_in_response_status_delimiters(true)
        .ignore_invalid_headers_in_responses(true);
    Ok(match config.parse_response_with_uninit_headers(&mut response, bytes, fields)? {
        httparse::Status::Complete(length) => httparse::Status::Complete((response, length)),
        httparse::Status::Partial => httparse::Status::Partial,
    })
}

fn read_fields(
    parsed: Parsed<'_, '_>,
    is_to_head: bool,
    kept_fields: Option<&mut Vec<(String, Vec<u8>)>>,
) -> io::Result<Option<Head>> {
    let httparse::Status::Complete((response, length)) = parsed.map_err(io::Error::other)? else { return Ok(None) };
    let Some(status) = response.code else { return Err(io::Error::other("no status")) };
    if let Some(kept) = kept_fields {
        *kept = response.headers.iter().map(|field| (field.name.to_owned(), unfolded(field.value))).collect();
    }
    let mut connection = Connection::default();
    let mut last_coding = None;
    let mut content_length = None;
    for field in response.headers.iter() {
        if field.name.eq_ignore_ascii_case("content-length") {
            read_content_length(field.value, &mut content_length)?;
        } else if field.name.eq_ignore_ascii_case("transfer-encoding") {
            last_coding = list(field.value).last().or(last_coding);
        } else if field.name.eq_ignore_ascii_case("connection") {
            list(field.value).for_each(|option| connection.read(option));
        }
    }
    let is_chunked = last_coding.is_some_and(|coding| coding.eq_ignore_ascii_case(b"chunked"));
    // Any other coding ends with the connection, except the old name of none.
    let is_coded = last_coding.is_some_and(|coding| !coding.eq_ignore_ascii_case(b"identity"));
    let (body, is_delimited) = match (status, content_length) {
        (SWITCHING_PROTOCOLS, _) => (Body::Length(0), false),
        (100..=199 | 204 | 304, _) => (Body::Length(0), true),
        _ if is_to_head => (Body::Length(0), true),
        _ if is_chunked => (Body::Chunked(Chunks::new()), true),
        (_, Some(length)) if !is_coded => (Body::Length(length), true),
        _ => (Body::UntilClose, false),
    };
    let is_persistent = is_delimited && connection.is_persistent(response.version == Some(1));
    Ok(Some(Head { answer: Answer { status, is_persistent }, body, length }))
}

/// The options of all Connection fields together.
#[derive(Default)]
struct Connection {
    is_close: bool,
    is_keep_alive: bool,
}

impl Connection {
    fn read(&mut self, option: &[u8]) {
        self.is_close |= option.eq_ignore_ascii_case(b"close");
        self.is_keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
    }

    fn is_persistent(&self, is_by_default: bool) -> bool {
        !self.is_close && (is_by_default || self.is_keep_alive)
    }
}

/// The members of a list, which commas separate and blanks surround; empty ones do not count.
fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii).filter(|member| !member.is_empty())
}

/// Reads a length. Some servers, and proxies that join fields, give it several times.
fn read_content_length(value: &[u8], length: &mut Option<u64>) -> io::Result<()> {
    for member in list(value) {
        let is_number = member.iter().all(u8::is_ascii_digit);
        let number = str::from_utf8(member).ok().filter(|_| is_number).and_then(|text| text.parse::<u64>().ok());
        let number = number.ok_or_else(|| io::Error::other("invalid Content-Length"))?;
        if length.replace(number).is_some_and(|earlier| earlier != number) {
            return Err(io::Error::other("two different Content-Lengths"));
        }
    }
    Ok(())
}

/// The value of a field that may have been folded over several lines.
fn unfolded(value: &[u8]) -> Vec<u8> {
    if !value.contains(&b'\n') {
        return value.to_vec();
    }
    value.split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii).collect::<Vec<_>>().join(&b' ')
}

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
    fn connection_is_a_list_in_any_number_of_fields() {
        let is_persistent = |fields: &str| {
            let head = format!("HTTP/1.1 200 OK\r\n{fields}\r\nContent-Length: 0\r\n\r\n");
            read_in_pieces(head.as_bytes(), 1000).unwrap()[0].is_persistent
        };
        for closing in [
            "Connection: Upgrade, close",
            "Connection: close,",
            "Connection: a\r\nConnection:close",
            "Connection: keep-alive, Close",
        ] {
            assert!(!is_persistent(closing), "{closing}");
        }
        for lasting in ["Connection: Upgrade", "Connection: closed", "Connection: ,", "Connection: Keep-Alive, Upgrade"]
        {
            assert!(is_persistent(lasting), "{lasting}");
        }
    }

    #[test]
    fn whatever_can_be_understood_is_taken_however_it_is_cut() {
        let many: String = (0..5_000).map(|number| format!("X-Field-{number}: value\r\n")).collect();
        let many = format!("HTTP/1.1 200 OK\r\n{many}Content-Length: 5\r\n\r\nhello");
        for bytes in [
            "\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
            "HTTP/1.1 200\r\nContent-Length: 5\r\n\r\nhello",
            "HTTP/1.1  200  OK\r\nContent-Length:5\r\n\r\nhello",
            "HTTP/1.1 200 OK\nContent-Length: 5\n\nhello",
            "HTTP/1.1 200 OK\r\nContent-Length : 5 \r\n\r\nhello",
            "HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\nContent-Length: 005\r\n\r\nhello",
            "HTTP/1.1 200 OK\r\nX-Folded: a\r\n b\r\n\tc\r\nContent-Length:\r\n 5\r\n\r\nhello",
            "HTTP/1.1 200 OK\r\nno field at all\r\nX y: z\r\nContent-Length: 5\r\n\r\nhello",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip,\r\nTransfer-Encoding: Chunked\r\nContent-Length: 9\r\n\r\n5;a=b\r\nhello\r\n0 \r\nA: b\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\nContent-Length: 5\r\n\r\nhello",
            "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 100\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
            &many,
        ] {
            let start = &bytes[..bytes.len().min(80)];
            let sizes: Vec<usize> = if bytes.len() > 1000 { vec![997, 16_384] } else { (1..=bytes.len()).collect() };
            for size in sizes {
                assert_eq!(read_in_pieces(bytes.as_bytes(), size).unwrap(), [GOOD], "{start:?} in pieces of {size}");
            }
            let mut reply = Reply::with_content();
            assert_eq!(reply.push(bytes.as_bytes()).unwrap(), (bytes.len(), Some(GOOD)), "{start:?}");
            assert_eq!(reply.take_content().unwrap().body, b"hello", "{start:?}");
        }
    }

    #[test]
    fn a_folded_field_has_one_value() {
        let mut reply = Reply::with_content();
        reply.push(b"HTTP/1.1 204 No\r\nX-A: one\r\n  two\r\n\tthree\r\n\r\n").unwrap();
        assert_eq!(reply.take_content().unwrap().fields, [("X-A".to_owned(), b"one two three".to_vec())]);
    }

    #[test]
    fn other_ends_of_answers_are_known() {
        let last = |bytes: &[u8]| read_in_pieces(bytes, 1000).unwrap();
        let closing = Answer { status: 200, is_persistent: false };
        assert_eq!(last(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\nContent-Length: 2\r\n\r\nabc"), [closing]);
        // The connection ends instead of the last empty line.
        assert_eq!(last(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n"), [GOOD]);
        assert_eq!(last(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"), []);
        assert_eq!(last(b"HTTP/1.1 101 Switching Protocols\r\n\r\n"), [Answer { status: 101, is_persistent: false }]);
    }

    #[test]
    fn what_is_no_answer_is_refused() {
        for bytes in [
            &b"SSH-2.0-OpenSSH_9.2\r\n\r\n"[..],
            b"HTTP/1.1 200 OK\r\nContent-Length: five\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551616\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
        ] {
            assert!(read_in_pieces(bytes, 1000).is_err(), "{:?}", String::from_utf8_lossy(bytes));
        }
        assert!(read_in_pieces(&[b'a'; 2 * MAX_HEAD_BYTES], 1000).is_err());
    }
}
