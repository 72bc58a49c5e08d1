//! The summary of a sweep: what each model cost at each number of connections, what a connection more costs, and where
//! a model failed.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::cause::Cause;
use crate::run::{RunResult, SweepPlan};
use crate::statistics::{Line, Spread};
use crate::target::Target;

/// The version of the layout of a sweep's file.
pub const SCHEMA: &str = "c10k-sweep/1";

/// A sweep, as written to a file.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Sweep {
    /// [`SCHEMA`].
    pub schema: String,
    /// What was to be measured.
    pub plan: SweepPlan,
    /// A summary for each model, in the order of every table.
    pub models: Vec<ModelSummary>,
    /// Every run, in the order that they ran.
    pub runs: Vec<RunResult>,
}

/// One model.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ModelSummary {
    /// Its name.
    pub target: String,
    /// What a connection more costs while it waits: the slope of the peak of RAM; null with fewer than two numbers of
    /// connections.
    pub active: Option<Slope>,
    /// What a connection more costs while it is idle.
    pub keep_alive: Option<Slope>,
    /// The most connections that were held with every request answered.
    pub holds: Option<usize>,
    /// The fewest that were not.
    pub fails_at: Option<usize>,
    /// Why these were not.
    pub fails_by: Option<Cause>,
    /// The same in a sentence.
    pub fails_because: Option<String>,
    /// Its figures at each number of connections, ascending.
    pub cells: Vec<CellSummary>,
}

/// A straight line through RAM over connections (least squares).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Slope {
    /// What a connection more costs.
    pub bytes: f64,
    /// The lower end of the 95 % confidence interval; null for fewer than three points.
    pub low_bytes: Option<f64>,
    /// The upper end.
    pub high_bytes: Option<f64>,
    /// The line at no connections.
    pub intercept_bytes: f64,
}

/// The rounds of one model at one number of connections.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct CellSummary {
    /// How many connections were asked for.
    pub connections: usize,
    /// How many rounds ran.
    pub rounds: usize,
    /// How many of them finished with at least one answer; only these count below.
    pub sound_rounds: usize,
    /// RAM at its peak, in bytes.
    pub peak_bytes: Option<Spread>,
    /// The same less the RAM before the first connection.
    pub above_idle_bytes: Option<Spread>,
    /// RAM with all connections open and idle.
    pub keep_alive_bytes: Option<Spread>,
    /// Good answers per second.
    pub rps: Option<Spread>,
    /// The most that were possible.
    pub rps_ceiling: Option<Spread>,
    /// The 99th percentile of the latency, in microseconds.
    pub p99_us: Option<Spread>,
    /// Whether it is a lower bound in any round.
    pub is_p99_lower_bound: bool,
}

impl Sweep {
    /// Summarises runs; `None` unless all of them belong to a sweep.
    pub fn new(runs: &[RunResult]) -> Option<Self> {
        let plan = runs.first()?.sweep.clone()?;
        if runs.iter().any(|run| run.sweep.is_none()) {
            return None;
        }
        let models = Target::ALL.into_iter().filter_map(|target| ModelSummary::new(target, runs)).collect();
        Some(Self { schema: SCHEMA.to_owned(), plan, models, runs: runs.to_vec() })
    }

    /// The runs by model, connections and round: they ran in random order.
    pub fn sorted_runs(&self) -> Vec<&RunResult> {
        let place = |run: &RunResult| self.models.iter().position(|model| model.target == run.target);
        let mut runs: Vec<_> = self.runs.iter().collect();
        runs.sort_by_key(|run| (place(run), run.connections.requested, run.round));
        runs
    }

    /// The summary of the model of this name.
    pub fn model(&self, target: &str) -> Option<&ModelSummary> {
        self.models.iter().find(|model| model.target == target)
    }
}

impl ModelSummary {
    fn new(target: Target, runs: &[RunResult]) -> Option<Self> {
        let runs: Vec<_> = runs.iter().filter(|run| run.target == target.name()).collect();
        let mut connections: Vec<_> = runs.iter().map(|run| run.connections.requested).collect();
        connections.sort_unstable();
        connections.dedup();
        let failed = runs.iter().filter(|run| !holds(run)).min_by_key(|run| run.connections.requested);
        (!runs.is_empty()).then(|| Self {
            target: target.name().to_owned(),
            active: line(&runs, |run| run.memory.peak_bytes).map(Slope::from),
            keep_alive: line(&runs, |run| run.memory.keep_alive_bytes).map(Slope::from),
            holds: runs.iter().filter(|run| holds(run)).map(|run| run.connections.requested).max(),
            fails_at: failed.map(|run| run.connections.requested),
            fails_by: failed.and_then(|run| run.cause),
            fails_because: failed.and_then(|run| run.cause_in_words()),
            cells: connections.into_iter().map(|connections| CellSummary::new(connections, &runs)).collect(),
        })
    }
}

impl CellSummary {
    fn new(connections: usize, runs: &[&RunResult]) -> Self {
        let rounds: Vec<&RunResult> =
            runs.iter().copied().filter(|run| run.connections.requested == connections).collect();
        let sound: Vec<&RunResult> = rounds.iter().copied().filter(|run| run.is_sound()).collect();
        let spread = |figure: fn(&RunResult) -> Option<f64>| Spread::new(sound.iter().filter_map(|run| figure(run)));
        let is_open = |run: &&RunResult| run.latency_us.as_ref().is_some_and(|latency| latency.is_lower_bound("p99"));
        Self {
            connections,
            rounds: rounds.len(),
            sound_rounds: sound.len(),
            peak_bytes: spread(|run| run.memory.peak_bytes.map(|bytes| bytes as f64)),
            above_idle_bytes: spread(|run| Some(run.memory.peak_bytes?.saturating_sub(run.memory.idle_bytes?) as f64)),
            keep_alive_bytes: spread(|run| run.memory.keep_alive_bytes.map(|bytes| bytes as f64)),
            rps: spread(|run| run.rps),
            rps_ceiling: spread(|run| run.rps_ceiling),
            p99_us: spread(|run| run.latency_us.as_ref().map(|latency| latency.p99 as f64)),
            is_p99_lower_bound: sound.iter().any(is_open),
        }
    }
}

impl From<Line> for Slope {
    fn from(line: Line) -> Self {
        let (low_bytes, high_bytes) = line.slope_interval.unzip();
        Self { bytes: line.slope, low_bytes, high_bytes, intercept_bytes: line.intercept }
    }
}

/// Whether the server held all connections and answered every request.
pub fn holds(run: &RunResult) -> bool {
    run.is_sound() && run.cause.is_none()
}

/// Fits a line to a figure over connections, from the runs that finished.
pub fn line(runs: &[&RunResult], figure: fn(&RunResult) -> Option<u64>) -> Option<Line> {
    let sound = runs.iter().filter(|run| run.is_sound());
    let points = sound.filter_map(|run| Some((run.connections.open_peak? as f64, figure(run)? as f64)));
    Line::through(&points.collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::sample;

    fn run(target: &str, connections: usize, round: u32, peak_bytes: u64) -> RunResult {
        let mut run = sample("threads");
        target.clone_into(&mut run.target);
        (run.connections.requested, run.connections.open_peak) = (connections, Some(connections as u64));
        (run.round, run.memory.peak_bytes) = (Some(round), Some(peak_bytes));
        run.sweep = Some(SweepPlan::sample());
        run
    }

    #[test]
    fn models_have_slopes_and_limits_and_runs_are_sorted() {
        let mut runs = vec![
            run("threads", 200, 1, 21_000),
            run("prefork", 100, 1, 110_000),
            run("threads", 100, 2, 11_000),
            run("threads", 100, 1, 11_000),
            run("threads", 300, 1, 0),
        ];
        (runs[4].complete, runs[4].cause) = (false, Some(Cause::OutOfMemory));
        let sweep = Sweep::new(&runs).unwrap();
        let names: Vec<_> = sweep.models.iter().map(|model| model.target.as_str()).collect();
        assert_eq!(names, ["prefork", "threads"]);
        let threads = sweep.model("threads").unwrap();
        let slope = threads.active.unwrap();
        assert_eq!((slope.bytes, slope.intercept_bytes, slope.low_bytes.is_some()), (100.0, 1_000.0, true));
        assert_eq!(
            (threads.holds, threads.fails_at, threads.fails_by),
            (Some(200), Some(300), Some(Cause::OutOfMemory))
        );
        let cells: Vec<_> =
            threads.cells.iter().map(|cell| (cell.connections, cell.rounds, cell.sound_rounds)).collect();
        assert_eq!(cells, [(100, 2, 2), (200, 1, 1), (300, 1, 0)]);
        assert_eq!(threads.cells[0].peak_bytes.unwrap().median, 11_000.0);
        assert_eq!(sweep.model("prefork").unwrap().active, None);
        let order: Vec<_> = sweep.sorted_runs().iter().map(|run| (run.connections.requested, run.round)).collect();
        assert_eq!(order, [(100, Some(1)), (100, Some(1)), (100, Some(2)), (200, Some(1)), (300, Some(1))]);
        runs[0].sweep = None;
        assert!(Sweep::new(&runs).is_none() && Sweep::new(&[]).is_none());
    }
}
