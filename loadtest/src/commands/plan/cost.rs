//! The cost of each model, from measurements.

use results::statistics::{Line, Spread};
use results::target::ARTICLE_CONNECTIONS;
use results::{RunResult, Target, sweep};

use crate::machine::walls::RamCost;

/// The cost of one model.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ModelCost {
    /// The model.
    pub(crate) target: Target,
    /// RAM in bytes over connections.
    line: Line,
    /// The most connections measured.
    pub(super) most_connections: f64,
    /// The most requests that waited for the database at once: with a pool, its workers.
    pub(super) most_waiting: f64,
    /// CPU time of the server per request.
    pub(super) cpu_per_request_s: Option<f64>,
}

impl ModelCost {
    /// The costs of every measured model.
    pub(crate) fn for_models(results: &[RunResult]) -> Vec<Self> {
        Target::ALL.into_iter().filter_map(|target| Self::new(target, results)).collect()
    }

    /// The cost of a model of which only this is known: what a connection takes at most, and the CPU time of a request.
    pub(super) fn from_figures(target: Target, bytes_per_connection: f64, cpu_per_request_s: Option<f64>) -> Self {
        let most_waiting = if target == Target::Threadpool { 0.0 } else { ARTICLE_CONNECTIONS as f64 };
        Self {
            target,
            line: Line { intercept: 0.0, slope: bytes_per_connection, slope_interval: None },
            most_connections: ARTICLE_CONNECTIONS as f64,
            most_waiting,
            cpu_per_request_s,
        }
    }

    fn new(target: Target, results: &[RunResult]) -> Option<Self> {
        let is_usable =
            |result: &&RunResult| result.target == target.name() && result.is_sound() && !computes(&result.command);
        let results: Vec<_> = results.iter().filter(is_usable).collect();
        let most = |figure: fn(&RunResult) -> Option<u64>| {
            results.iter().filter_map(|result| figure(result)).max().unwrap_or(0) as f64
        };
        let most_connections = most(|result| result.connections.open_peak);
        let largest =
            results.iter().filter(|result| result.connections.open_peak.unwrap_or(0) as f64 == most_connections);
        let cpu_s = largest.filter_map(|result| Some(result.server.cpu_s? / result.requests as f64));
        Some(Self {
            target,
            line: sweep::line(&results, |result| result.memory.peak_bytes).or_else(|| from_idle(&results))?,
            most_connections,
            most_waiting: most(|result| result.connections.waiting_peak),
            cpu_per_request_s: Spread::new(cpu_s).map(|cpu_s| cpu_s.median),
        })
    }

    /// The measured cost of a connection.
    pub(super) fn per_connection_bytes(&self) -> f64 {
        self.line.slope
    }

    /// The highest cost of a connection: the upper end of the confidence interval, if there is one.
    pub(super) fn per_connection_high_bytes(&self) -> f64 {
        self.line.slope_interval.map_or(self.line.slope, |(_, high)| high)
    }

    /// The highest cost of this many connections.
    pub(super) fn ram_high_bytes(&self, connections: f64) -> f64 {
        self.base_bytes() + self.per_connection_high_bytes() * connections
    }

    /// How many connections fit at the highest cost.
    pub(super) fn connections_within(&self, ram_bytes: f64) -> f64 {
        // Assume at least a byte per connection, so that a slope of zero does not promise infinity.
        ((ram_bytes - self.base_bytes()) / self.per_connection_high_bytes().max(1.0)).max(0.0).floor()
    }

    /// The highest RAM, for the limits of a machine.
    pub(crate) fn ram(&self) -> RamCost {
        RamCost { base_bytes: self.base_bytes(), connection_bytes: self.per_connection_high_bytes() }
    }

    fn base_bytes(&self) -> f64 {
        self.line.intercept.max(0.0)
    }
}

/// Whether the server's queries computed, too: that is not what the model itself costs.
fn computes(command: &[String]) -> bool {
    command.iter().any(|argument| argument == "--burn" || argument.starts_with("--burn="))
}

/// With only one measured number of connections: the line from the idle server to there.
fn from_idle(results: &[&RunResult]) -> Option<Line> {
    let idle = results.iter().filter_map(|result| Some((0.0, result.memory.idle_bytes? as f64)));
    let busy = results
        .iter()
        .filter_map(|result| Some((result.connections.open_peak? as f64, result.memory.peak_bytes? as f64)));
    let line = Line::through(&idle.chain(busy).collect::<Vec<_>>())?;
    // Two places say nothing about the fit.
    Some(Line { slope_interval: None, ..line })
}
