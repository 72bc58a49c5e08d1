//! Finds what kept a server from holding all connections.

use results::run::Fleet;
use results::{Cause, RunResult, WarningKind};

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// It finished.
    Complete,
    /// The user stopped it.
    Interrupted,
    /// The server did not start.
    NotStarted,
    /// A server that loadtest started exited or was killed.
    ServerDied,
    /// A remote server no longer answers.
    RemoteServerLost {
        /// Whether it was near its RAM limit at the last poll.
        was_near_limit: bool,
    },
    /// Something else failed.
    Failed,
}

/// What is known apart from the figures of the result.
#[derive(Clone, Debug)]
pub(super) struct Circumstances {
    /// How the run ended.
    pub(super) ending: Ending,
    /// The server is one of this project's, which answers 503 when it is full.
    pub(super) is_ours: bool,
    /// The system refused the server a thread or process, by the server's own count.
    pub(super) refused_spawn: Option<Cause>,
    /// The server's open-file limit determines its maximum number of connections.
    pub(super) is_limited_by_open_files: bool,
}

impl Circumstances {
    /// Circumstances where only the ending is known.
    pub(super) fn new(ending: Ending) -> Self {
        Self { ending, is_ours: false, refused_spawn: None, is_limited_by_open_files: false }
    }
}

/// The cause of what went wrong; `None` if every connection was held and nothing failed.
pub(super) fn find(result: &RunResult, circumstances: &Circumstances) -> Option<Cause> {
    let Circumstances { ending, is_ours, refused_spawn, is_limited_by_open_files } = circumstances;
    let has_failed = result.failure.is_some();
    let mut errors = result.errors_before;
    errors += result.errors;
    let requested = result.connections.requested;
    // Only this project's servers report how many are open.
    let is_open = result.connections.open_peak.is_none_or(|open| open >= requested as u64);
    let is_connected = result.connections.established >= requested && is_open;
    let was_oom_killed = result.server.oom_kills > Some(0);
    // A server that did not start has no exit status. A kill may also come after the measurement, during the drain.
    let was_killed = result.server.exit.is_none() || result.server.exit_signal.is_some();
    let is_gone_near_limit = *ending == Ending::RemoteServerLost { was_near_limit: true };
    // Causes come before their symptoms: a server killed because memory ran out also loses connections.
    let causes = [
        (Cause::Interrupted, *ending == Ending::Interrupted),
        (Cause::WorkerLost, result.fleet.as_ref().is_some_and(Fleet::has_lost)),
        (Cause::OutOfMemory, was_oom_killed && was_killed),
        (Cause::OutOfMemory, is_gone_near_limit),
        (Cause::ChildrenOutOfMemory, was_oom_killed),
        (refused_spawn.unwrap_or(Cause::Other), refused_spawn.is_some()),
        (Cause::NotStarted, *ending == Ending::NotStarted),
        (Cause::ServerDied, matches!(ending, Ending::ServerDied | Ending::RemoteServerLost { .. })),
        (Cause::Descriptors, errors.status > 0 && *is_limited_by_open_files),
        (Cause::Refused, errors.status > 0 && *is_ours),
        (Cause::NotConnected, errors.connect > 0 || (!has_failed && !is_connected)),
        (Cause::ConnectionsLost, errors.read + errors.write > 0),
        (Cause::TimedOut, errors.timeout > 0),
        (Cause::Impossible, result.warnings.iter().any(|warning| warning.kind == WarningKind::AboveCeiling)),
        (Cause::Other, has_failed),
        (Cause::Status, errors.status > 0),
        (Cause::NothingAnswered, result.requests == 0),
        // One of this project's servers reports that it holds them, and why they wait.
        (Cause::NeverAnswered, !is_ours && result.connections.never_answered > Some(0)),
    ];
    causes.into_iter().find(|(_, is_it)| *is_it).map(|(cause, _)| cause)
}

#[cfg(test)]
mod tests {
    use super::*;
    use results::run::{Connections, Errors, Memory, ServerSummary};
    use results::samples::empty;

    const COMPLETE: Circumstances =
        Circumstances { ending: Ending::Complete, is_ours: true, refused_spawn: None, is_limited_by_open_files: false };

    fn ended(ending: Ending) -> Circumstances {
        Circumstances { ending, ..COMPLETE }
    }

    /// A run that held all of 10 connections.
    fn sound() -> RunResult {
        RunResult {
            complete: true,
            requests: 100,
            connections: Connections { requested: 10, established: 10, open_peak: Some(10), ..Connections::default() },
            memory: Memory { source: Some("cgroup v2".into()), ..Memory::default() },
            server: ServerSummary {
                exit: Some("exit status 0".into()),
                oom_kills: Some(0),
                ..ServerSummary::default()
            },
            ..empty("threads", 10)
        }
    }

    /// By this signal, or on its own.
    fn died(signal: Option<&str>, oom_kills: u64) -> RunResult {
        let server = ServerSummary {
            exit: Some("in words".into()),
            exit_signal: signal.map(String::from),
            oom_kills: Some(oom_kills),
            ..ServerSummary::default()
        };
        let failure = Some("server-threads died".into());
        let errors = Errors { read: 10, ..Errors::default() };
        RunResult { complete: false, failure, server, errors, ..sound() }
    }

    #[test]
    fn a_server_that_holds_all_has_no_cause() {
        assert_eq!(find(&sound(), &COMPLETE), None);
        let elsewhere = Connections { open_peak: None, ..sound().connections };
        assert_eq!(find(&RunResult { connections: elsewhere, ..sound() }, &COMPLETE), None);
    }

    #[test]
    fn the_death_of_a_server_differs_from_that_of_its_children() {
        let killed = Some("SIGKILL");
        let died_with = |signal, kills| find(&died(signal, kills), &ended(Ending::ServerDied));
        assert_eq!(died_with(killed, 1), Some(Cause::OutOfMemory));
        assert_eq!(died_with(killed, 0), Some(Cause::ServerDied));
        assert_eq!(died_with(None, 0), Some(Cause::ServerDied));
        // A child was killed, and the server ended by itself for another reason.
        assert_eq!(died_with(None, 1), Some(Cause::ChildrenOutOfMemory));
        let at_the_end = RunResult { server: died(killed, 1).server, ..sound() };
        assert_eq!(find(&at_the_end, &COMPLETE), Some(Cause::OutOfMemory));
        let server = ServerSummary { oom_kills: Some(3), ..sound().server };
        let limping = RunResult { server, errors: Errors { read: 3, ..Errors::default() }, ..sound() };
        assert_eq!(find(&limping, &COMPLETE), Some(Cause::ChildrenOutOfMemory));
        let server = ServerSummary { oom_kills: None, ..sound().server };
        let gone = RunResult { failure: Some("gone".into()), server, ..sound() };
        let gone_with = |was_near_limit| find(&gone, &ended(Ending::RemoteServerLost { was_near_limit }));
        assert_eq!([true, false].map(gone_with), [Some(Cause::OutOfMemory), Some(Cause::ServerDied)]);
        let at_start = RunResult { failure: Some("no such flag".into()), memory: Memory::default(), ..sound() };
        assert_eq!(find(&at_start, &ended(Ending::NotStarted)), Some(Cause::NotStarted));
    }

    #[test]
    fn any_server_has_a_cause() {
        let other = Circumstances { is_ours: false, ..COMPLETE };
        let failing = RunResult { errors: Errors { status: 5, ..Errors::default() }, ..sound() };
        assert_eq!(find(&failing, &other), Some(Cause::Status));
        let connections = Connections { never_answered: Some(9), ..sound().connections };
        let silent = RunResult { connections, ..sound() };
        assert_eq!(find(&silent, &other), Some(Cause::NeverAnswered));
        assert_eq!(find(&silent, &COMPLETE), None, "a full queue is no failure");
    }

    #[test]
    fn causes_come_before_their_symptoms() {
        let refusing = RunResult { errors: Errors { status: 5, read: 2, ..Errors::default() }, ..sound() };
        assert_eq!(find(&refusing, &COMPLETE), Some(Cause::Refused));
        for cause in [Cause::ForkRefused, Cause::ThreadRefused] {
            let circumstances = Circumstances { refused_spawn: Some(cause), ..COMPLETE };
            assert_eq!(find(&refusing, &circumstances), Some(cause));
        }
        let short = Circumstances { is_limited_by_open_files: true, ..COMPLETE };
        assert_eq!(find(&refusing, &short), Some(Cause::Descriptors));
        assert_eq!(find(&sound(), &short), None);
        let connections = Connections { open_peak: Some(9), ..sound().connections };
        assert_eq!(find(&RunResult { connections, ..sound() }, &COMPLETE), Some(Cause::NotConnected));
        let interrupted = RunResult { complete: false, failure: Some("interrupted".into()), ..sound() };
        assert_eq!(find(&interrupted, &ended(Ending::Interrupted)), Some(Cause::Interrupted));
    }
}
