//! What the users send.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use common::http::reply::Content;

/// What users send.
#[derive(Debug)]
pub enum Requests {
    /// The same request each time.
    Same(Vec<u8>),
    /// Requests from a source.
    From(Box<dyn RequestSource>),
}

/// Makes requests and may look at the answers: a script, for instance.
pub trait RequestSource: fmt::Debug + Send + Sync {
    /// How long to wait before the next request.
    fn delay(&self) -> Duration;

    /// The next request, or several pipelined ones; `None` if there are no more.
    fn next_request(&self) -> Option<Vec<u8>>;

    /// How many requests each call of [`next_request`](Self::next_request) returns.
    fn requests_at_once(&self) -> u64;

    /// Whether [`respond`](Self::respond) wants to see the answers.
    fn wants_content(&self) -> bool;

    /// Handles an answer.
    fn respond(&self, status: u16, content: &Content);

    /// Why the source failed, if it did.
    fn failure(&self) -> Option<String>;
}

impl Requests {
    /// How long to wait before the next request.
    pub(crate) fn delay(&self) -> Duration {
        match self {
            Requests::Same(_) => Duration::ZERO,
            Requests::From(source) => source.delay(),
        }
    }

    /// The next request, or several pipelined ones; `None` if there are no more.
    pub(crate) fn next(&self) -> Option<Cow<'_, [u8]>> {
        match self {
            Requests::Same(request) => Some(Cow::Borrowed(request)),
            Requests::From(source) => source.next_request().map(Cow::Owned),
        }
    }

    /// How many requests each call of [`next`](Self::next) returns.
    pub(crate) fn at_once(&self) -> u64 {
        match self {
            Requests::Same(_) => 1,
            Requests::From(source) => source.requests_at_once(),
        }
    }

    /// Whether the source looks at the answers.
    pub(crate) fn wants_content(&self) -> bool {
        matches!(self, Requests::From(source) if source.wants_content())
    }

    /// Passes the answers to the source.
    pub(crate) fn respond(&self, contents: Vec<(u16, Content)>) {
        if let Requests::From(source) = self {
            contents.iter().for_each(|(status, content)| source.respond(*status, content));
        }
    }

    /// Why the source failed, if it did.
    pub(crate) fn failure(&self) -> Option<String> {
        match self {
            Requests::Same(_) => None,
            Requests::From(source) => source.failure(),
        }
    }
}
