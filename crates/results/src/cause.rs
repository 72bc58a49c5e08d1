//! What kept a server from holding all connections.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What went wrong first, as far as it can be seen from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// The user stopped the run.
    Interrupted,
    /// A worker of the load generator was lost.
    WorkerLost,
    /// The kernel killed the server because memory ran out.
    OutOfMemory,
    /// The kernel killed some of the server's processes because memory ran out; the others kept running.
    ChildrenOutOfMemory,
    /// The system refused to fork another process.
    ForkRefused,
    /// The system refused another thread.
    ThreadRefused,
    /// The open-file limit allowed fewer connections than requested.
    Descriptors,
    /// The server did not start.
    NotStarted,
    /// The server exited or was killed before loadtest stopped it.
    ServerDied,
    /// The server answered with a status of 400 or above, usually 503 because it was full.
    Refused,
    /// A server that is not one of this project's answered with a status of 400 or above.
    Status,
    /// Connections failed, or the server did not accept them.
    NotConnected,
    /// Connections broke.
    ConnectionsLost,
    /// Answers took longer than `--timeout`.
    TimedOut,
    /// More requests were answered than is possible.
    Impossible,
    /// No request was answered in the measured time.
    NothingAnswered,
    /// Some connections got no answer in the measured time.
    NeverAnswered,
    /// Something else; `failure` says what.
    Other,
    /// A cause that this version does not know: a newer loadtest wrote the file.
    #[serde(other)]
    Unknown,
}

impl Cause {
    /// The cause in a word or two.
    pub fn name(self) -> &'static str {
        match self {
            Cause::Interrupted => "interrupted",
            Cause::WorkerLost => "worker lost",
            Cause::OutOfMemory => "RAM limit",
            Cause::ChildrenOutOfMemory => "RAM limit (children)",
            Cause::ForkRefused => "no fork",
            Cause::ThreadRefused => "no thread",
            Cause::Descriptors => "open files",
            Cause::NotStarted => "not started",
            Cause::ServerDied => "died",
            Cause::Refused => "503",
            Cause::Status => "status",
            Cause::NotConnected => "not connected",
            Cause::ConnectionsLost => "lost",
            Cause::TimedOut => "timeouts",
            Cause::Impossible => "impossible",
            Cause::NothingAnswered => "no answer",
            Cause::NeverAnswered => "no answer to some",
            Cause::Other => "failed",
            Cause::Unknown => "unknown",
        }
    }

    /// The cause in a sentence. `oom_kills` is how many of the server's processes the kernel killed, and `failure` is
    /// what ended the run.
    pub fn describe(self, oom_kills: u64, failure: Option<&str>) -> String {
        match self {
            Cause::Interrupted => "the run was interrupted".into(),
            Cause::WorkerLost => {
                "a worker of the load generator was lost, so the figures are not those of the whole load".into()
            }
            Cause::OutOfMemory => "the kernel killed the server because memory ran out (OOM)".into(),
            Cause::ChildrenOutOfMemory => {
                format!(
                    "the kernel killed {oom_kills} of its processes because memory ran out (OOM); the others kept running"
                )
            }
            Cause::ForkRefused => "the system refused to fork a process".into(),
            Cause::ThreadRefused => "the system refused to create a thread".into(),
            Cause::Descriptors => "the open-file limit is too low, so it answered 503".into(),
            Cause::NotStarted => "the server did not start".into(),
            Cause::ServerDied => "the server died".into(),
            Cause::Refused => "it answered 503: it was full, or could not get memory".into(),
            Cause::Status => "it answered with a status of 400 or above".into(),
            Cause::NotConnected => "some connections could not be made".into(),
            Cause::ConnectionsLost => "connections broke".into(),
            Cause::TimedOut => "answers took too long".into(),
            Cause::Impossible => "it answered more requests than is possible".into(),
            Cause::NothingAnswered => "no request was answered".into(),
            Cause::NeverAnswered => "some connections got no answer".into(),
            Cause::Other => failure.unwrap_or_default().to_owned(),
            Cause::Unknown => failure.unwrap_or("only a newer loadtest knows the cause").to_owned(),
        }
    }
}
