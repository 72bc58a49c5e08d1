//! The requirements of a plan.

use serde::Serialize;

/// The requirements of a plan.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Need {
    pub(super) connections: usize,
    pub(super) wait_s: f64,
    pub(super) ram_bytes: u64,
    /// On top of the server's own.
    pub(super) cpu_per_request_s: f64,
    /// Requests per second.
    pub(super) rate: f64,
    pub(super) isolation: bool,
    /// How many connections to the database there are; `None` for as many as wait.
    pub(super) pool: Option<usize>,
}

impl Need {
    /// The most requests per second that are possible, with each connection sending without pause.
    pub(super) fn most_rate(&self) -> f64 {
        self.connections as f64 / (self.wait_s + self.cpu_per_request_s)
    }

    /// The most requests per second that the database answers, by Little's law: each of its connections, one after the other.
    pub(super) fn most_queries(&self) -> f64 {
        self.pool.map_or(f64::INFINITY, |pool| pool as f64 / self.wait_s)
    }
}
