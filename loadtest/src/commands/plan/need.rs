//! What is needed.

use serde::Serialize;

/// What is needed.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Need {
    pub(super) connections: usize,
    pub(super) wait_s: f64,
    pub(super) ram_bytes: u64,
    /// Beside what the server itself takes.
    pub(super) cpu_per_request_s: f64,
    /// Requests a second.
    pub(super) rate: f64,
    pub(super) isolation: bool,
}

impl Need {
    /// The most requests a second that can come, if each connection asks again as soon as it has an answer.
    pub(super) fn most_rate(&self) -> f64 {
        self.connections as f64 / (self.wait_s + self.cpu_per_request_s)
    }
}
