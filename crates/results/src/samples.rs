//! Runs to test with: from a real file with 10,000 connections, and made-up ones.

use crate::clients::{self, Client, ClientComparison, ClientRun};
use crate::database::Database;
use crate::file::Source;
use crate::run::{Host, RunResult, SweepPlan};

impl SweepPlan {
    /// What a sweep measures in a test.
    pub fn sample() -> Self {
        Self {
            seed: 7,
            targets: vec!["threads".into()],
            connections: vec![100, 300, 1_000],
            rounds: 2,
            duration_ms: 10_000,
            timeout_ms: 60_000,
            wait: "1s".into(),
            server_flags: Vec::new(),
            ram_limit_bytes: None,
        }
    }
}

/// A file with a run against threads and one against the thread pool.
pub const RUNS: &str = include_str!("../tests/data/runs.json");

/// The run against `target` in [`RUNS`].
pub fn sample(target: &str) -> RunResult {
    let runs: Vec<RunResult> = serde_json::from_str(RUNS).unwrap();
    runs.into_iter().find(|run| run.target == target).unwrap()
}

/// A result file with this name and these results.
pub fn source(name: &str, results: Vec<RunResult>) -> Source {
    Source { name: name.into(), results, is_list: true }
}

/// A run that measured nothing.
pub fn empty(target: &str, connections: usize) -> RunResult {
    RunResult::new(target, vec!["server".into()], connections, Host::default(), "2026-11-24T10:00:00Z".into())
}

/// A run that finished with this peak of RAM.
pub fn measured(target: &str, connections: usize, peak_megabytes: u64) -> RunResult {
    let mut result = RunResult { complete: true, ..empty(target, connections) };
    result.wait.spec = "1s".into();
    result.memory.peak_bytes = Some(peak_megabytes * 1_000_000);
    (result.rps, result.rps_ceiling) = (Some(connections as f64 * 0.99), Some(connections as f64));
    result
}

/// A run against a server with a pool of so many connections to a database, which answered so many requests a second.
pub fn with_pool(target: &str, pool: usize, rps: f64) -> RunResult {
    let database = Database {
        pool: Some(pool),
        answers: Some(100),
        connection_wait_us: Some(1_234_000.0),
        answer_wait_us: Some(10_400.0),
        postgres_bytes: Some(231_000_000),
        postgres_processes: Some(106),
        postgres_cpu_us: Some(310.0),
        ..Database::default()
    };
    RunResult { requests: 100, rps: Some(rps), database: Some(database), ..measured(target, 10_000, 120) }
}

/// A run that failed.
pub fn failed(target: &str, connections: usize, failure: &str) -> RunResult {
    RunResult { failure: Some(failure.into()), ..empty(target, connections) }
}

/// A run of a load generator over 200 connections that went well, with so many answers a second.
pub fn client_run(client: &str, round: u32, rps: f64) -> ClientRun {
    ClientRun {
        client: client.into(),
        command: format!("exec {client} http://127.0.0.1:8084/"),
        round,
        connections: 200,
        failure: None,
        requests: Some(300_000),
        rps: Some(rps),
        p99_us: Some(12_340.0),
        errors: Some(0),
        client_cpu_s: Some(3.63),
        client_rss_peak_bytes: Some(109_400_000),
        server_cpu_s: Some(4.04),
        connected_after_us: Some(262_000),
    }
}

/// A comparison of ours with wrk, of one round.
pub fn client_comparison() -> ClientComparison {
    let client = |name: &str, version: &str| Client { name: name.into(), version: Some(version.into()) };
    ClientComparison {
        schema: clients::SCHEMA.to_owned(),
        complete: true,
        started_at: "2026-11-24T10:00:00Z".into(),
        host: Host::default(),
        command: vec!["loadtest".into(), "peers".into(), "--clients".into()],
        server: vec!["server-async".into()],
        seed: 7,
        rounds: 1,
        duration_s: 5,
        connections: vec![200],
        clients: vec![client(clients::OURS, "0.1.0"), client("wrk", "4.1.0")],
        runs: vec![client_run(clients::OURS, 1, 61_200.0), client_run("wrk", 1, 60_100.0)],
    }
}
