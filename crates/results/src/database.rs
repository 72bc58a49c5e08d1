//! The database behind a server.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The database behind a server, by the server's own count, within the window.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Database {
    /// The most connections to it that were allowed: those of the server's pool, or of PgBouncer's; null if unknown.
    pub pool: Option<usize>,
    /// Whether the server asked through PgBouncer.
    pub through_pgbouncer: bool,
    /// Whether the server's connections to it were encrypted; null if unknown.
    #[serde(default)]
    pub tls: Option<bool>,
    /// How long each request kept its connection after the answer (`--db-hold`); null if unknown.
    #[serde(default)]
    pub hold_us: Option<u64>,
    /// The most queries that may have been on their way at once on each connection (`--db-pipeline`); null if unknown.
    #[serde(default)]
    pub pipeline: Option<usize>,
    /// Answers of the database; null if that was not measured.
    pub answers: Option<u64>,
    /// How long requests waited for a connection on average; null if none got one.
    pub connection_wait_us: Option<f64>,
    /// How long they waited for the answer on average; null without an answer.
    pub answer_wait_us: Option<f64>,
    /// Attempts to connect; null if that was not measured.
    pub connects: Option<u64>,
    /// Queries without an answer, by reason; those that are 0 are left out.
    pub errors: BTreeMap<String, u64>,
    /// The RAM of PostgreSQL's processes under load: PSS, page tables, kernel stacks and sockets; null if loadtest did not
    /// start it.
    pub postgres_bytes: Option<u64>,
    /// How many processes those were.
    pub postgres_processes: Option<u64>,
    /// Their CPU time for each answer, with that of processes that ended within the window, and without PgBouncer's; null
    /// without an answer, or if loadtest did not start it.
    #[serde(default)]
    pub postgres_cpu_us: Option<f64>,
}
