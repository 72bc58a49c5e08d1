//! What the users send.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use tokio::time::sleep;

use common::http::reply::Content;

/// What users send.
#[derive(Debug)]
pub enum Requests {
    /// The same, each time.
    Same(Vec<u8>),
    /// What a source of requests says.
    From(Box<dyn RequestSource>),
}

/// Makes requests, and may look at the answers: a script, for instance.
pub trait RequestSource: fmt::Debug + Send + Sync {
    /// How long to wait before the next request.
    fn delay(&self) -> Duration;

    /// The next request, or several at once; nothing if there will be none.
    fn next_request(&self) -> Option<Vec<u8>>;

    /// How many requests one call of [`next_request`](Self::next_request) gives.
    fn requests_at_once(&self) -> u64;

    /// Whether [`respond`](Self::respond) wants to see the answers.
    fn wants_content(&self) -> bool;

    /// Takes an answer.
    fn respond(&self, status: u16, content: &Content);

    /// Why it has failed, if it has.
    fn failure(&self) -> Option<String>;
}

impl Requests {
    /// The next request, when its time has come; nothing if there is none to come.
    pub(crate) async fn next(&self) -> Option<Cow<'_, [u8]>> {
        match self {
            Requests::Same(request) => Some(Cow::Borrowed(request)),
            Requests::From(source) => {
                let delay = source.delay();
                if !delay.is_zero() {
                    sleep(delay).await;
                }
                source.next_request().map(Cow::Owned)
            }
        }
    }

    /// How many answers one of them has.
    pub(crate) fn answers(&self) -> u64 {
        match self {
            Requests::Same(_) => 1,
            Requests::From(source) => source.requests_at_once(),
        }
    }

    /// Whether somebody looks at the answers.
    pub(crate) fn wants_content(&self) -> bool {
        matches!(self, Requests::From(source) if source.wants_content())
    }

    /// Shows the answers to whoever looks at them.
    pub(crate) fn respond(&self, contents: Vec<(u16, Content)>) {
        if let Requests::From(source) = self {
            contents.iter().for_each(|(status, content)| source.respond(*status, content));
        }
    }

    /// Why there are no more, if the source has failed.
    pub(crate) fn failure(&self) -> Option<String> {
        match self {
            Requests::Same(_) => None,
            Requests::From(source) => source.failure(),
        }
    }
}
