//! A strict HTTP/1.1 codec that does no I/O: bytes go in, requests come out; responses go in, bytes come out.
//!
//! What is malformed is refused, never repaired: a server that guesses where a message ends can be made to disagree
//! with the proxy in front of it. Section numbers in these modules are of RFC 9112 unless another RFC is named.

pub mod body;
pub mod decoder;
pub mod head;
pub mod lines;
pub mod reply;
pub mod response;

pub use decoder::{Decoder, Phase, Step};
pub use response::{Persistence, Response};
use smol_str::SmolStr;

/// The limits that a request must keep.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The longest head (request line and fields), in bytes.
    pub max_head_bytes: usize,
    /// The longest body, in bytes.
    pub max_body_bytes: usize,
}

/// The status of an answer. Its [`code`](Self::code) and [`reason`](Self::reason) are RFC 9110's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the reason phrases")]
pub enum Status {
    Ok = 200,
    NoContent = 204,
    BadRequest = 400,
    NotFound = 404,
    MethodNotAllowed = 405,
    RequestTimeout = 408,
    ContentTooLarge = 413,
    UriTooLong = 414,
    ExpectationFailed = 417,
    RequestHeaderFieldsTooLarge = 431,
    NotImplemented = 501,
    ServiceUnavailable = 503,
    HttpVersionNotSupported = 505,
}

impl Status {
    /// All of them.
    pub const ALL: [Status; 13] = [
        Status::Ok,
        Status::NoContent,
        Status::BadRequest,
        Status::NotFound,
        Status::MethodNotAllowed,
        Status::RequestTimeout,
        Status::ContentTooLarge,
        Status::UriTooLong,
        Status::ExpectationFailed,
        Status::RequestHeaderFieldsTooLarge,
        Status::NotImplemented,
        Status::ServiceUnavailable,
        Status::HttpVersionNotSupported,
    ];

    /// The three digits.
    pub fn code(self) -> u16 {
        self as u16
    }

    /// The reason phrase.
    pub fn reason(self) -> &'static str {
        match self {
            Status::Ok => "OK",
            Status::NoContent => "No Content",
            Status::BadRequest => "Bad Request",
            Status::NotFound => "Not Found",
            Status::MethodNotAllowed => "Method Not Allowed",
            Status::RequestTimeout => "Request Timeout",
            Status::ContentTooLarge => "Content Too Large",
            Status::UriTooLong => "URI Too Long",
            Status::ExpectationFailed => "Expectation Failed",
            Status::RequestHeaderFieldsTooLarge => "Request Header Fields Too Large",
            Status::NotImplemented => "Not Implemented",
            Status::ServiceUnavailable => "Service Unavailable",
            Status::HttpVersionNotSupported => "HTTP Version Not Supported",
        }
    }
}

/// A request that is refused: what to answer before the connection is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{} {}: {why}", status.code(), status.reason())]
pub struct Reject {
    /// The status of the answer.
    pub status: Status,
    /// What was wrong, for the body of the answer.
    pub why: &'static str,
    /// The request was HEAD: its refusal has no body either (RFC 9110 §9.3.2).
    pub head_only: bool,
}

impl Reject {
    /// A refusal with this status and reason. The [`Decoder`] adds whether it is to HEAD.
    pub const fn new(status: Status, why: &'static str) -> Self {
        Self { status, why, head_only: false }
    }

    /// The refusal of a malformed message: 400.
    pub const fn bad(why: &'static str) -> Self {
        Self::new(Status::BadRequest, why)
    }
}

/// A request's method. Those that RFC 9110 names but no route serves are all `Known`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the methods")]
pub enum Method {
    Get,
    Head,
    Post,
    Options,
    Known,
    Unknown,
}

impl Method {
    /// The method of this name; methods are case-sensitive (RFC 9110 §9.1).
    pub fn from_token(token: &[u8]) -> Self {
        match token {
            b"GET" => Method::Get,
            b"HEAD" => Method::Head,
            b"POST" => Method::Post,
            b"OPTIONS" => Method::Options,
            b"PUT" | b"DELETE" | b"PATCH" | b"TRACE" => Method::Known,
            _ => Method::Unknown,
        }
    }
}

/// A whole request: its head understood, its body read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The method.
    pub method: Method,
    /// The target's path and query, or `*`; an absolute-form target is reduced to its path and query. A short one is not on
    /// the heap: see [`Decoder::decode`].
    pub target: SmolStr,
    /// What the client lets happen to the connection after the answer.
    pub persistence: Persistence,
    /// The body, its transfer coding removed.
    pub body: Vec<u8>,
}
