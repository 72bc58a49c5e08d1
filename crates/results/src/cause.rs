//! What kept a server from holding all connections.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What went wrong first, as far as can be told from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// The user stopped the run.
    Interrupted,
    /// The kernel killed the server because memory ran out.
    OutOfMemory,
    /// The kernel killed some of the server's processes because memory ran out; the others went on.
    ChildrenOutOfMemory,
    /// The system refused to fork another process.
    ForkRefused,
    /// The system refused another thread.
    ThreadRefused,
    /// The limit of open files left room for fewer connections.
    Descriptors,
    /// The server did not start.
    NotStarted,
    /// The server ended, or was killed, though nobody stopped it.
    ServerDied,
    /// The server answered with a status of 400 or more: 503, mostly, because it was full.
    Refused,
    /// Connections could not be made, or the server did not accept them.
    NotConnected,
    /// Connections broke.
    ConnectionsLost,
    /// Answers took longer than `--timeout`.
    TimedOut,
    /// More was answered than can be.
    Impossible,
    /// Nothing was answered within the measured time.
    NothingAnswered,
    /// Something else: `failure` says what.
    Other,
}

impl Cause {
    /// The cause in a word or two.
    pub fn name(self) -> &'static str {
        match self {
            Cause::Interrupted => "interrupted",
            Cause::OutOfMemory => "RAM limit",
            Cause::ChildrenOutOfMemory => "RAM limit (children)",
            Cause::ForkRefused => "no fork",
            Cause::ThreadRefused => "no thread",
            Cause::Descriptors => "open files",
            Cause::NotStarted => "not started",
            Cause::ServerDied => "died",
            Cause::Refused => "503",
            Cause::NotConnected => "not connected",
            Cause::ConnectionsLost => "lost",
            Cause::TimedOut => "timeouts",
            Cause::Impossible => "impossible",
            Cause::NothingAnswered => "no answer",
            Cause::Other => "failed",
        }
    }

    /// The cause in a sentence. The kernel killed `oom_kills` of the server's processes, and `failure` is what ended the run.
    pub fn describe(self, oom_kills: u64, failure: Option<&str>) -> String {
        match self {
            Cause::Interrupted => "it was interrupted".into(),
            Cause::OutOfMemory => "the kernel killed the server because memory ran out (OOM)".into(),
            Cause::ChildrenOutOfMemory => {
                format!(
                    "the kernel killed {oom_kills} of its processes because memory ran out (OOM); the others lived on"
                )
            }
            Cause::ForkRefused => "the system refused to fork".into(),
            Cause::ThreadRefused => "the system refused a thread".into(),
            Cause::Descriptors => "too few open files are allowed, so it answered 503".into(),
            Cause::NotStarted => "the server did not start".into(),
            Cause::ServerDied => "the server died".into(),
            Cause::Refused => "it answered 503: it was full, or was given no memory".into(),
            Cause::NotConnected => "not all connections could be made".into(),
            Cause::ConnectionsLost => "connections broke".into(),
            Cause::TimedOut => "answers took too long".into(),
            Cause::Impossible => "it answered more than is possible".into(),
            Cause::NothingAnswered => "nothing was answered".into(),
            Cause::Other => failure.unwrap_or_default().to_owned(),
        }
    }
}
