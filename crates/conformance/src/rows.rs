//! Rows of `HTTP-CASES.md` as data: what is sent, what ours answer, and what the RFCs let any server answer.
//!
//! The suite plays those that ours refuse ([`refused`]); [`probe`](crate::probe) plays all of them, against any server.
//! Sections are of RFC 9112 or 9110, as the number before them says.

pub mod long;
pub mod refused;
pub mod served;
pub mod smuggling;

use std::borrow::Cow;
use std::fmt;

/// How binding the words of an RFC are (RFC 2119).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Whoever does otherwise speaks no HTTP/1.1.
    Must,
    /// Recommended.
    Should,
    /// Left to the server, or said without any of these words: then only ours is held to something, its contract.
    May,
}

/// What may come back.
#[derive(Clone, Copy, Debug)]
pub struct Allowed {
    /// The status of the first answer is one of these.
    pub statuses: &'static [Status],
    /// What becomes of the connection is one of these.
    pub then: &'static [Then],
    /// What else must hold.
    pub with: Check,
}

/// A status that is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Just this one.
    Is(u16),
    /// Those that begin with this digit.
    Class(u16),
    /// No answer at all.
    Nothing,
}

/// What became of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// The request after the case was answered, and nothing else was.
    Served,
    /// It was closed without another answer, in good order or not.
    Closed,
    /// It stayed open, and nobody answered.
    Open,
    /// Something was answered that nobody had asked, or what came is not HTTP.
    OutOfStep,
}

/// What is expected of an answer beside its status.
#[derive(Clone, Copy, Debug)]
pub enum Check {
    /// Nothing.
    Nothing,
    /// The answers have these statuses, in this order. As many requests are sent.
    Order(&'static [u16]),
    /// The body is this.
    Body(&'static str),
    /// There is a Date.
    Date,
    /// There is a Content-Type.
    ContentType,
    /// A 405 has an Allow.
    AllowIn405,
    /// A success has an Allow.
    AllowIn2xx,
    /// A 204 has no Content-Length.
    NoLengthIn204,
    /// The answer says `Connection: close`.
    SaysClose,
    /// The status line says HTTP/1.1.
    Http11,
    /// No 1xx came.
    NoInterim,
    /// The answer has no Transfer-Encoding.
    NoCoding,
    /// A 1xx or the answer came before the body was sent.
    BeforeBody,
}

/// What an RFC says of a case.
#[derive(Clone, Copy, Debug)]
pub struct Demand {
    /// How binding it is.
    pub level: Level,
    /// Where it is said.
    pub section: &'static str,
    /// What it allows.
    pub allowed: Allowed,
}

/// How a case is sent. After it comes one more request, which shows whether the server knows where the case ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// The last request comes when the case was answered, if the connection is still open then.
    Alone,
    /// The last request comes in the same packet.
    Together,
    /// The same, in pieces of so many bytes.
    Pieces(usize),
    /// No last request: the client says that no more will come.
    Ended,
    /// The body, and the last request, come when something was said about the head.
    HeadFirst,
}

/// A row's input, how it is sent, and what may come back.
#[derive(Clone, Debug)]
pub struct Case {
    /// The row of `HTTP-CASES.md`.
    pub row: u8,
    /// What is sent.
    pub input: Cow<'static, [u8]>,
    /// How it is sent.
    pub manner: Manner,
    /// What any server may do.
    pub demand: Demand,
    /// What ours do: the contract.
    pub ours: Allowed,
}

/// A case that ours refuse, and close: row, input, status, what any server may do.
pub type Refusal = (u8, &'static [u8], u16, Demand);

use Status::{Class, Is, Nothing};

/// The connection is kept, and the server in step with its client, or it is closed.
pub const KEPT_OR_CLOSED: &[Then] = &[Then::Served, Then::Closed];
/// The connection is closed.
pub const CLOSED: &[Then] = &[Then::Closed];
const ANY_STATUS: &[Status] = &[Class(2), Class(3), Class(4), Class(5)];
const ANY_OR_NONE: &[Status] = &[Class(2), Class(3), Class(4), Class(5), Nothing];

/// Whatever happens.
pub const ANYTHING: Allowed = allow(ANY_OR_NONE, &[Then::Served, Then::Closed, Then::Open, Then::OutOfStep]);
/// Whatever the answer is, the server knows where the request ended, or closes.
pub const IN_STEP: Allowed = allow(ANY_STATUS, KEPT_OR_CLOSED);
/// One answer or none, and nothing more.
pub const ENDED: Allowed = allow(ANY_OR_NONE, CLOSED);
/// 400.
pub const BAD_REQUEST: Allowed = allow(&[Is(400)], KEPT_OR_CLOSED);
/// 400, and the connection is closed.
pub const BAD_REQUEST_CLOSED: Allowed = allow(&[Is(400)], CLOSED);
/// 200.
pub const OK: Allowed = allow(&[Is(200)], KEPT_OR_CLOSED);
/// Who serves files refuses a body for what it asks, and never for how it is sent.
pub const UNDERSTOOD: Allowed =
    allow(&[Class(2), Class(3), Is(403), Is(404), Is(405), Is(411), Is(413), Is(415)], KEPT_OR_CLOSED);

/// These statuses, and this to follow.
pub const fn allow(statuses: &'static [Status], then: &'static [Then]) -> Allowed {
    Allowed { statuses, then, with: Check::Nothing }
}

/// What an RFC requires.
pub const fn must(section: &'static str, allowed: Allowed) -> Demand {
    Demand { level: Level::Must, section, allowed }
}

/// What an RFC recommends.
pub const fn should(section: &'static str, allowed: Allowed) -> Demand {
    Demand { level: Level::Should, section, allowed }
}

/// What an RFC leaves open.
pub const fn may(section: &'static str) -> Demand {
    Demand { level: Level::May, section, allowed: ANYTHING }
}

impl Allowed {
    /// The same, if something else holds, too.
    pub const fn with(self, check: Check) -> Self {
        Self { with: check, ..self }
    }

    /// Whether it allows everything.
    pub fn is_anything(&self) -> bool {
        self.then.len() == ANYTHING.then.len()
    }
}

impl Case {
    /// How many requests the input has.
    pub fn requests(&self) -> usize {
        match self.ours.with {
            Check::Order(statuses) => statuses.len(),
            _ => 1,
        }
    }
}

/// All cases, in the order of their rows.
pub fn all() -> Vec<Case> {
    let mut cases: Vec<Case> =
        [refused::cases(), served::cases(), smuggling::cases(), long::cases()].into_iter().flatten().collect();
    cases.sort_by_key(|case| case.row);
    cases
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Must => "MUST",
            Self::Should => "SHOULD",
            Self::May => "may",
        })
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Is(status) => write!(f, "{status}"),
            Self::Class(digit) => write!(f, "{digit}xx"),
            Self::Nothing => f.write_str("nothing"),
        }
    }
}

impl fmt::Display for Then {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Served => "next served",
            Self::Closed => "closed",
            Self::Open => "left open",
            Self::OutOfStep => "out of step",
        })
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str("nothing else"),
            Self::Order(statuses) => write!(f, "in the order {statuses:?}"),
            Self::Body(body) => write!(f, "the body {body:?}"),
            Self::Date => f.write_str("a Date"),
            Self::ContentType => f.write_str("a Content-Type"),
            Self::AllowIn405 => f.write_str("an Allow if it is 405"),
            Self::AllowIn2xx => f.write_str("an Allow if it is a success"),
            Self::NoLengthIn204 => f.write_str("no Content-Length if it is 204"),
            Self::SaysClose => f.write_str("Connection: close"),
            Self::Http11 => f.write_str("HTTP/1.1 as its version"),
            Self::NoInterim => f.write_str("no 1xx"),
            Self::NoCoding => f.write_str("no Transfer-Encoding"),
            Self::BeforeBody => f.write_str("a word before the body"),
        }
    }
}

impl fmt::Display for Allowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_anything() {
            return f.write_str("anything");
        }
        let list = |parts: Vec<String>| parts.join(" or ");
        match self.statuses {
            ANY_STATUS => f.write_str("any answer")?,
            ANY_OR_NONE => f.write_str("any answer or none")?,
            _ => f.write_str(&list(self.statuses.iter().map(Status::to_string).collect()))?,
        }
        write!(f, ", {}", list(self.then.iter().map(Then::to_string).collect()))?;
        match self.with {
            Check::Nothing => Ok(()),
            check => write!(f, ", with {check}"),
        }
    }
}
