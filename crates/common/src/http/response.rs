//! Responses into bytes.

use std::borrow::Cow;
use std::fmt;
use std::io;
use std::time::SystemTime;

use httpdate::HttpDate;
use smallvec::SmallVec;

use super::{Reject, Status};

/// The interim answer to `Expect: 100-continue` (RFC 9110 §15.2.1).
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// Seconds after which a client that was turned away may come back (RFC 9110 §10.2.3).
const RETRY_AFTER_S: usize = 1;

/// What a head hardly ever exceeds.
const HEAD_BYTES: usize = 192;

/// What happens to the connection after an answer (§9.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Persistence {
    /// It stays open, as HTTP/1.1 does by default.
    KeepAlive,
    /// It stays open, and the answer says so to an HTTP/1.0 client.
    KeepAliveSaid,
    /// It is closed, and the answer says so.
    Close,
}

impl Persistence {
    /// The value of the Connection field, where one is due.
    pub fn connection_field(self) -> Option<&'static str> {
        match self {
            Persistence::KeepAlive => None,
            Persistence::KeepAliveSaid => Some("keep-alive"),
            Persistence::Close => Some("close"),
        }
    }
}

/// An answer in bytes. A small one is not on the heap: see [`Decoder::decode`](super::Decoder::decode).
pub type Encoded = SmallVec<[u8; 512]>;

/// The value of a field.
#[derive(Clone, Copy, Debug)]
pub enum Value {
    /// Any text.
    Text(&'static str),
    /// A number.
    Number(usize),
    /// A date (RFC 9110 §5.6.7).
    Date(HttpDate),
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Text(text) => f.write_str(text),
            Value::Number(number) => number.fmt(f),
            Value::Date(date) => date.fmt(f),
        }
    }
}

/// An answer. All four servers send the same fields in the same order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The status.
    pub status: Status,
    /// The media type of the body.
    pub content_type: &'static str,
    /// The Allow field: which methods the target knows.
    pub allow: Option<&'static str>,
    /// The body.
    pub body: Cow<'static, [u8]>,
    /// The answer is to HEAD: the fields are those of GET, the body is not sent (RFC 9110 §9.3.2).
    pub head_only: bool,
    /// What happens to the connection after it.
    pub persistence: Persistence,
}

impl Response {
    /// An answer with a body, on a connection that stays open.
    pub fn new(status: Status, content_type: &'static str, body: impl Into<Cow<'static, [u8]>>) -> Self {
        Self {
            status,
            content_type,
            allow: None,
            body: body.into(),
            head_only: false,
            persistence: Persistence::KeepAlive,
        }
    }

    /// An answer that only says its status, and why, on a connection that stays open.
    pub fn text(status: Status, why: &str) -> Self {
        Self::new(status, "text/plain", format!("{} {}: {why}\n", status.code(), status.reason()).into_bytes())
    }

    /// The answer to whoever there is no room for. It has no body, for the request may be HEAD: often nobody has read it.
    pub fn full() -> Self {
        let mut response = Self::new(Status::ServiceUnavailable, "text/plain", &b""[..]);
        response.persistence = Persistence::Close;
        response
    }

    /// The fields, in the order in which they are sent; `None` where one is not due.
    pub fn fields(&self) -> [Option<(&'static str, Value)>; 6] {
        let has_body = self.status != Status::NoContent;
        let is_unavailable = self.status == Status::ServiceUnavailable;
        [
            Some(("Date", Value::Date(SystemTime::now().into()))),
            has_body.then_some(("Content-Type", Value::Text(self.content_type))),
            has_body.then_some(("Content-Length", Value::Number(self.body.len()))),
            self.allow.map(|allow| ("Allow", Value::Text(allow))),
            is_unavailable.then_some(("Retry-After", Value::Number(RETRY_AFTER_S))),
            self.persistence.connection_field().map(|option| ("Connection", Value::Text(option))),
        ]
    }

    /// Whether a body follows the fields.
    pub fn sends_body(&self) -> bool {
        !self.head_only && self.status != Status::NoContent
    }

    /// The bytes to send at once.
    pub fn encode(&self) -> Encoded {
        let mut bytes = Encoded::with_capacity(HEAD_BYTES + self.body.len());
        // Writing to memory cannot fail.
        let _ = self.write(&mut bytes);
        bytes
    }

    /// The bytes to send, to be kept until they are sent.
    pub fn encode_to_vec(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEAD_BYTES + self.body.len());
        let _ = self.write(&mut bytes);
        bytes
    }

    fn write(&self, to: &mut impl io::Write) -> io::Result<()> {
        write!(to, "HTTP/1.1 {} {}\r\n", self.status.code(), self.status.reason())?;
        for (name, value) in self.fields().iter().flatten() {
            write!(to, "{name}: {value}\r\n")?;
        }
        to.write_all(b"\r\n")?;
        if self.sends_body() {
            to.write_all(&self.body)?;
        }
        Ok(())
    }
}

impl From<Reject> for Response {
    fn from(reject: Reject) -> Self {
        let mut response = Self::text(reject.status, reject.why);
        response.head_only = reject.head_only;
        response.persistence = Persistence::Close;
        response
    }
}
