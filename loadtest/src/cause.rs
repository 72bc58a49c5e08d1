//! What kept a server from holding all connections.

use serde::{Deserialize, Serialize};

use crate::result::RunResult;
use crate::warning::Doubt;

/// How the failure of a server elsewhere ends that was about to reach its RAM limit when it last told.
pub(crate) const KILLED_BY_LIMIT: &str = "its RAM limit, most likely, has killed it";

/// What went wrong first, as far as can be told from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Cause {
    /// The user stopped the run.
    Interrupted,
    /// The kernel killed the server for want of memory.
    OutOfMemory,
    /// The kernel killed some of the server's processes for want of memory; the others went on.
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
    /// The cause of what went wrong in a run that has ended; nothing if every connection was held, and nothing failed.
    pub(crate) fn of(result: &RunResult, is_interrupted: bool) -> Option<Self> {
        let has_failed = result.failure.is_some();
        let mut errors = result.errors_before;
        errors += result.errors;
        let requested = result.connections.requested;
        let is_connected =
            result.connections.established >= requested && result.connections.open_peak >= requested as u64;
        // It has no exit if it did not start. It may also have been killed when all was measured, by its own drain.
        let was_killed = result.server.exit.as_deref().is_none_or(|exit| exit.starts_with("killed by signal"));
        // From the cause to its symptoms: who is killed for want of memory also loses connections.
        let causes = [
            (Cause::Interrupted, is_interrupted && !result.complete),
            (Cause::OutOfMemory, was_oom_killed(result) && was_killed),
            (Cause::OutOfMemory, is_at_limit(result)),
            (Cause::ChildrenOutOfMemory, was_oom_killed(result)),
            (Cause::ForkRefused, server_says(result, "no child could be forked")),
            (Cause::ThreadRefused, server_says(result, "no thread could be spawned")),
            (Cause::NotStarted, has_failed && result.memory.source.is_none()),
            (Cause::ServerDied, result.failure.as_ref().is_some_and(|failure| failure.contains(" died: "))),
            (Cause::Descriptors, errors.status > 0 && server_says(result, "limit of open files")),
            (Cause::Refused, errors.status > 0),
            (Cause::NotConnected, errors.connect > 0 || (!has_failed && !is_connected)),
            (Cause::ConnectionsLost, errors.read + errors.write > 0),
            (Cause::TimedOut, errors.timeout > 0),
            (Cause::Impossible, result.warnings.iter().any(|warning| warning.kind == Doubt::AboveCeiling)),
            (Cause::Other, has_failed),
            (Cause::NothingAnswered, result.requests == 0),
        ];
        causes.into_iter().find(|(_, is_it)| *is_it).map(|(cause, _)| cause)
    }

    /// The cause in a word or two.
    pub(crate) fn name(self) -> &'static str {
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

    /// The cause in words.
    pub(crate) fn describe(self, result: &RunResult) -> String {
        let kills = result.server.oom_kills.unwrap_or_default();
        match self {
            Cause::Interrupted => "it was interrupted".into(),
            Cause::OutOfMemory => "the kernel killed the server for want of memory (OOM)".into(),
            Cause::ChildrenOutOfMemory => {
                format!("the kernel killed {kills} of its processes for want of memory (OOM); the others lived on")
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
            Cause::Other => result.failure.clone().unwrap_or_default(),
        }
    }
}

fn was_oom_killed(result: &RunResult) -> bool {
    result.server.oom_kills > Some(0)
}

/// A server elsewhere that has died: only its last words can tell of what.
fn is_at_limit(result: &RunResult) -> bool {
    result.failure.as_ref().is_some_and(|failure| failure.ends_with(KILLED_BY_LIMIT))
}

fn server_says(result: &RunResult, text: &str) -> bool {
    result.warnings.iter().any(|warning| warning.kind == Doubt::Server && warning.text.contains(text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::{Connections, Errors, Memory, Server};

    /// A run that held all of 10 connections.
    fn sound() -> RunResult {
        RunResult {
            complete: true,
            requests: 100,
            connections: Connections { requested: 10, established: 10, open_peak: 10, ..Connections::default() },
            memory: Memory { source: Some("cgroup v2".into()), ..Memory::default() },
            server: Server { exit: Some("exit status 0".into()), oom_kills: Some(0), ..Server::default() },
            ..RunResult::new("threads", Vec::new(), 10)
        }
    }

    fn died(exit: &str, oom_kills: u64) -> RunResult {
        let server = Server { exit: Some(exit.into()), oom_kills: Some(oom_kills), ..Server::default() };
        let failure = Some(format!("server-threads died: {exit}"));
        let errors = Errors { read: 10, ..Errors::default() };
        RunResult { complete: false, failure, server, errors, ..sound() }
    }

    #[test]
    fn who_holds_all_has_no_cause() {
        assert_eq!(Cause::of(&sound(), false), None);
        // Ctrl-C after the end of this run, and before the next.
        assert_eq!(Cause::of(&sound(), true), None);
    }

    #[test]
    fn the_death_of_a_server_is_told_from_that_of_its_children() {
        let killed = "killed by signal 9 (SIGKILL)";
        assert_eq!(Cause::of(&died(killed, 1), false), Some(Cause::OutOfMemory));
        assert_eq!(Cause::of(&died(killed, 0), false), Some(Cause::ServerDied));
        assert_eq!(Cause::of(&died("exit status 101", 0), false), Some(Cause::ServerDied));
        let at_the_end = RunResult { server: died(killed, 1).server, ..sound() };
        assert_eq!(Cause::of(&at_the_end, false), Some(Cause::OutOfMemory));
        let server = Server { oom_kills: Some(3), ..sound().server };
        let limping = RunResult { server, errors: Errors { read: 3, ..Errors::default() }, ..sound() };
        assert_eq!(Cause::of(&limping, false), Some(Cause::ChildrenOutOfMemory));
        let at_start = RunResult { failure: Some("server-threads died".into()), memory: Memory::default(), ..sound() };
        assert_eq!(Cause::of(&at_start, false), Some(Cause::NotStarted));
    }

    #[test]
    fn causes_come_before_their_symptoms() {
        let refusing = RunResult { errors: Errors { status: 5, read: 2, ..Errors::default() }, ..sound() };
        assert_eq!(Cause::of(&refusing, false), Some(Cause::Refused));
        let says = |text: &str| vec![Doubt::Server.because(format!("the server says: warning: {text}"))];
        let forkless =
            RunResult { warnings: says("no child could be forked: EAGAIN; 7 are there"), ..refusing.clone() };
        assert_eq!(Cause::of(&forkless, false), Some(Cause::ForkRefused));
        let threadless =
            RunResult { warnings: says("no thread could be spawned: EAGAIN; 7 are there"), ..refusing.clone() };
        assert_eq!(Cause::of(&threadless, false), Some(Cause::ThreadRefused));
        let short = RunResult {
            warnings: says("accepting only 5 connections at once: raise the hard limit of open files (`ulimit -Hn`)"),
            ..refusing
        };
        assert_eq!(Cause::of(&short, false), Some(Cause::Descriptors));
        let connections = Connections { open_peak: 9, ..sound().connections };
        assert_eq!(Cause::of(&RunResult { connections, ..sound() }, false), Some(Cause::NotConnected));
        let interrupted = RunResult { complete: false, failure: Some("interrupted".into()), ..sound() };
        assert_eq!(Cause::of(&interrupted, true), Some(Cause::Interrupted));
    }
}
