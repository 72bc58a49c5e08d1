//! What the users send.

use std::borrow::Cow;

use tokio::time::sleep;

use crate::wrk::script::Script;
use common::http::reply::Content;

/// What users send.
#[derive(Debug)]
pub(crate) enum Requests {
    /// The same, each time.
    Same(Vec<u8>),
    /// What a script says.
    Scripted(Box<Script>),
}

impl Requests {
    /// The next request, when its time has come; nothing if there is none to come.
    pub(crate) async fn next(&self) -> Option<Cow<'_, [u8]>> {
        match self {
            Requests::Same(request) => Some(Cow::Borrowed(request)),
            Requests::Scripted(script) => {
                let delay = script.delay();
                if !delay.is_zero() {
                    sleep(delay).await;
                }
                script.next_request().map(Cow::Owned)
            }
        }
    }

    /// How many answers one of them has.
    pub(crate) fn answers(&self) -> u64 {
        match self {
            Requests::Same(_) => 1,
            Requests::Scripted(script) => script.requests_at_once,
        }
    }

    /// Whether somebody looks at the answers.
    pub(crate) fn wants_content(&self) -> bool {
        matches!(self, Requests::Scripted(script) if script.wants_content())
    }

    /// Shows the answers to whoever looks at them.
    pub(crate) fn respond(&self, contents: Vec<(u16, Content)>) {
        if let Requests::Scripted(script) = self {
            contents.iter().for_each(|(status, content)| script.respond(*status, content));
        }
    }
}
