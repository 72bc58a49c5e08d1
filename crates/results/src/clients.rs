//! A comparison of load generators on one server, in rounds: what each says, and what it costs.

use anyhow::{Context as _, Result, ensure};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::printable::make_printable;
use crate::run::Host;
use crate::statistics::Spread;

/// The version of the layout of a file of this comparison.
pub const SCHEMA: &str = "c10k-clients/1";
/// The name of our own load generator in it.
pub const OURS: &str = "loadtest";

/// A comparison of load generators, as written to a file.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ClientComparison {
    /// [`SCHEMA`].
    pub schema: String,
    /// Whether all runs ran; otherwise it was interrupted.
    pub complete: bool,
    /// When it began, in RFC 3339.
    pub started_at: String,
    /// The machine.
    pub host: Host,
    /// loadtest's own command line.
    pub command: Vec<String>,
    /// The server's.
    pub server: Vec<String>,
    /// The seed of the random order.
    pub seed: u64,
    /// How often each was to run at each number of connections.
    pub rounds: u32,
    /// How long each run was to take.
    pub duration_s: u64,
    /// The numbers of connections.
    pub connections: Vec<usize>,
    /// The load generators.
    pub clients: Vec<Client>,
    /// Every run, in the order that they ran.
    pub runs: Vec<ClientRun>,
}

/// A load generator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Client {
    /// Its name.
    pub name: String,
    /// What its program says of its version; null if it says nothing.
    pub version: Option<String>,
}

/// One run of one load generator against a fresh server.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ClientRun {
    /// Its name.
    pub client: String,
    /// Its command.
    pub command: String,
    /// The round, counted from 1.
    pub round: u32,
    /// How many connections it was asked to open.
    pub connections: usize,
    /// Why the run says nothing; null if it went well.
    pub failure: Option<String>,
    /// Answers, as it says.
    pub requests: Option<u64>,
    /// Answers per second, as it says.
    pub rps: Option<f64>,
    /// The 99th percentile of the latency, as it says.
    pub p99_us: Option<f64>,
    /// Failures of all kinds, as it says; null if it does not count them.
    pub errors: Option<u64>,
    /// CPU time of it and of the processes that it started and waited for.
    pub client_cpu_s: Option<f64>,
    /// The peak of its RSS.
    pub client_rss_peak_bytes: Option<u64>,
    /// CPU time of the server from its start to its end.
    pub server_cpu_s: Option<f64>,
    /// How long after its start the server had all connections; null if it never had.
    pub connected_after_us: Option<u64>,
}

impl ClientRun {
    /// Whether it went well, with at least one answer.
    pub fn is_sound(&self) -> bool {
        self.failure.is_none() && self.requests.is_some_and(|requests| requests > 0)
    }
}

/// What load generators are compared by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientFigure {
    /// Answers per second.
    Rps,
    /// The 99th percentile of the latency, in microseconds.
    P99Us,
    /// How long it took until all were connected, in microseconds.
    ConnectedAfterUs,
    /// The client's CPU time for each request, in microseconds.
    ClientCpuUs,
    /// The server's CPU time for each request, in microseconds.
    ServerCpuUs,
    /// The client's RAM at its peak, in bytes.
    ClientRssBytes,
}

impl ClientFigure {
    /// The figure of a run that went well; `None` if it was not measured.
    pub fn of(self, run: &ClientRun) -> Option<f64> {
        let per_request_us = |cpu_s: Option<f64>| Some(cpu_s? / run.requests? as f64 * 1e6);
        match self {
            _ if !run.is_sound() => None,
            Self::Rps => run.rps,
            Self::P99Us => run.p99_us,
            Self::ConnectedAfterUs => run.connected_after_us.map(|us| us as f64),
            Self::ClientCpuUs => per_request_us(run.client_cpu_s),
            Self::ServerCpuUs => per_request_us(run.server_cpu_s),
            Self::ClientRssBytes => run.client_rss_peak_bytes.map(|bytes| bytes as f64),
        }
    }
}

/// The runs of one load generator at one number of connections.
#[derive(Clone, Debug)]
pub struct ClientRuns<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its runs.
    pub runs: Vec<&'a ClientRun>,
}

impl ClientRuns<'_> {
    /// How many of them say nothing.
    pub fn failed(&self) -> usize {
        self.runs.iter().filter(|run| !run.is_sound()).count()
    }

    /// All failures that it counted, in the runs that went well.
    pub fn errors(&self) -> u64 {
        let errors = self.runs.iter().filter(|run| run.is_sound()).filter_map(|run| run.errors);
        errors.fold(0, u64::saturating_add)
    }

    /// The figure in all runs.
    pub fn spread(&self, figure: ClientFigure) -> Option<Spread> {
        Spread::new(self.runs.iter().filter_map(|run| figure.of(run)))
    }

    /// The figure divided by that of `other` in the same round, in all rounds that have both.
    pub fn ratio_to(&self, other: &Self, figure: ClientFigure) -> Option<Spread> {
        let in_round = |round| other.runs.iter().find(|run| run.round == round);
        let ratio = |run: &&ClientRun| {
            let theirs = figure.of(in_round(run.round)?).filter(|theirs| *theirs > 0.0)?;
            Some(figure.of(run)? / theirs)
        };
        Spread::new(self.runs.iter().filter_map(ratio))
    }
}

impl ClientComparison {
    /// The runs at this number of connections, of those load generators that ran.
    pub fn at(&self, connections: usize) -> Vec<ClientRuns<'_>> {
        let of = |name: &str| {
            self.runs.iter().filter(|run| run.client == name && run.connections == connections).collect::<Vec<_>>()
        };
        let all = self.clients.iter().map(|client| ClientRuns { name: &client.name, runs: of(&client.name) });
        all.filter(|client| !client.runs.is_empty()).collect()
    }
}

/// The comparison of load generators in the file of this name; `None` if it is one of another kind.
///
/// # Errors
/// The comparison is damaged.
pub fn from_json(name: &str, content: &[u8]) -> Result<Option<ClientComparison>> {
    let Ok(mut json) = serde_json::from_slice::<Value>(content) else { return Ok(None) };
    if json["schema"] != SCHEMA {
        return Ok(None);
    }
    make_printable(&mut json);
    let comparison: ClientComparison = serde_json::from_value(json).with_context(|| format!("{name} is incomplete"))?;
    let is_possible = |run: &ClientRun| {
        let figures = [run.rps, run.p99_us, run.client_cpu_s, run.server_cpu_s];
        figures.into_iter().flatten().all(|figure| figure >= 0.0)
    };
    ensure!(comparison.runs.iter().all(is_possible), "{name} has figures below zero: it was edited or damaged");
    Ok(Some(comparison))
}

/// The content of its file.
///
/// # Errors
/// A value cannot be written as JSON.
pub fn to_json(comparison: &ClientComparison) -> Result<Vec<u8>> {
    let mut json = serde_json::to_vec_pretty(comparison)?;
    json.push(b'\n');
    Ok(json)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{client_comparison, client_run};

    #[test]
    fn ratios_are_taken_within_a_round_and_failed_runs_say_nothing() {
        let mut comparison = client_comparison();
        comparison.runs = vec![
            client_run(OURS, 1, 200.0),
            client_run("wrk", 1, 100.0),
            client_run("wrk", 2, 1_000.0),
            client_run(OURS, 2, 1_100.0),
            client_run(OURS, 3, 7.0),
            client_run("wrk", 3, 500.0),
        ];
        comparison.runs[4].failure = Some("exit status 1".into());
        let clients = comparison.at(200);
        let [ours, wrk] = &clients[..] else { panic!("{clients:?}") };
        assert_eq!((ours.failed(), ours.runs.len(), wrk.failed()), (1, 3, 0));
        assert_eq!(ours.spread(ClientFigure::Rps).unwrap(), Spread { median: 650.0, min: 200.0, max: 1_100.0 });
        let ratio = ours.ratio_to(wrk, ClientFigure::Rps).unwrap();
        assert_eq!((ratio.min, ratio.max), (1.1, 2.0));
        assert!(comparison.at(10_000).is_empty());
    }

    #[test]
    fn what_was_not_measured_is_absent() {
        let run = ClientRun { requests: Some(10), ..ClientRun::default() };
        assert!(run.is_sound());
        assert_eq!(ClientFigure::ClientCpuUs.of(&run), None);
        assert_eq!(ClientFigure::Rps.of(&run), None);
        let silent = ClientRun { requests: Some(0), client_cpu_s: Some(1.0), ..ClientRun::default() };
        assert_eq!(ClientFigure::ClientCpuUs.of(&silent), None);
    }

    #[test]
    fn a_file_is_read_again_and_others_are_left_to_others() {
        let read_text = |text: &[u8]| from_json("a.json", text);
        let mut comparison = client_comparison();
        let json = to_json(&comparison).unwrap();
        assert_eq!(read_text(&json).unwrap().unwrap().runs, comparison.runs);
        for other in ["[]", "{}", "no JSON", "{\"schema\": \"c10k-slo/1\"}"] {
            assert!(read_text(other.as_bytes()).unwrap().is_none(), "{other}");
        }
        assert!(read_text(b"{\"schema\": \"c10k-clients/1\"}").unwrap_err().to_string().contains("incomplete"));
        comparison.runs[0].rps = Some(-1.0);
        assert!(read_text(&to_json(&comparison).unwrap()).unwrap_err().to_string().contains("below zero"));
    }
}
