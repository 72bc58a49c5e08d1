//! Measures the cells of a sweep and keeps the results.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use common::db::Latency;
use load::ThisProcess;
use load::net::Sources;
use quantity::format;
use results::event::{self, Event, Sink as _, Sinks};
use results::run::SweepPlan;
use results::{RunResult, Target};

use super::outcome::is_finished;
use crate::machine::interrupt::Interrupt;
use crate::machine::terminal::say;
use crate::measure::target::{self, Location, TargetSpec};
use crate::output::files::{self, Outputs};
use crate::subject::build::Executables;

/// One measurement of a sweep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SweepCell {
    /// The server.
    pub(crate) target: Target,
    /// How many connections to hold.
    pub(crate) connections: usize,
    /// The round, counted from 1.
    pub(crate) round: u32,
}

impl SweepCell {
    fn matches(self, result: &RunResult) -> bool {
        (self.target.name(), self.connections, Some(self.round))
            == (&result.target, result.connections.requested, result.round)
    }
}

/// Measures cells, one after the other.
pub(crate) struct Bench<'a> {
    plan: &'a SweepPlan,
    db_wait: Latency,
    executables: &'a Executables,
    outputs: Outputs,
    interrupt: &'a Interrupt,
    results: Vec<RunResult>,
    sinks: Sinks,
}

impl<'a> Bench<'a> {
    /// A bench with these results so far.
    pub(crate) fn new(
        plan: &'a SweepPlan,
        db_wait: Latency,
        executables: &'a Executables,
        outputs: Outputs,
        interrupt: &'a Interrupt,
        sinks: Sinks,
        results: Vec<RunResult>,
    ) -> Self {
        Self { plan, db_wait, executables, outputs, interrupt, results, sinks }
    }

    /// Prints how long the cells will take.
    pub(crate) fn announce(&mut self, cells: &[SweepCell]) {
        let missing: Vec<_> = cells.iter().copied().filter(|cell| self.known(*cell).is_none()).collect();
        let time = missing.iter().map(|cell| self.estimate(*cell)).sum::<Duration>();
        let known = match cells.len() - missing.len() {
            0 => String::new(),
            known => format!(", {known} others are in the file"),
        };
        let rough_time = format::rough_duration(time);
        let seed = self.plan.seed;
        say(format_args!("{} cells to measure{known}: about {rough_time}. Seed {seed}", missing.len()));
        let (schema, estimate_s) = (event::SCHEMA.to_owned(), Some(time.as_secs_f64()));
        self.sinks.take(&Event::Planned { schema, runs: missing.len(), estimate_s });
    }

    /// Measures the cells that have no result yet. `None` if interrupted.
    pub(crate) fn measure_all(&mut self, cells: &[SweepCell]) -> Option<()> {
        self.announce(cells);
        cells.iter().try_for_each(|cell| self.measure(*cell).map(drop))
    }

    /// The result of a cell, measured now unless there is one. `None` if interrupted.
    pub(crate) fn measure(&mut self, cell: SweepCell) -> Option<&RunResult> {
        let index = match self.known(cell) {
            Some(index) => index,
            None if self.interrupt.is_raised() => return None,
            None => {
                self.run(cell);
                self.results.len() - 1
            }
        };
        self.results.get(index).filter(|result| is_finished(result, self.plan) || !self.interrupt.is_raised())
    }

    /// All results, and whether they are written.
    pub(crate) fn finish(self) -> (Vec<RunResult>, Result<()>) {
        // Retry a failed write.
        let written = self.outputs.finish(&self.results).map_err(|error| files::rescue(&self.results, error));
        (self.results, written)
    }

    fn known(&self, cell: SweepCell) -> Option<usize> {
        self.results.iter().position(|result| cell.matches(result))
    }

    fn run(&mut self, cell: SweepCell) {
        let location = Location::Local(&self.executables[&cell.target]);
        let mut result = target::run(cell.target, location, &self.spec(cell), self.interrupt, &mut self.sinks);
        result.sweep = Some(self.plan.clone());
        self.results.push(result);
        // The last write repeats one that fails.
        let _ = self.outputs.write(&self.results);
    }

    fn spec(&self, cell: SweepCell) -> TargetSpec {
        TargetSpec {
            connections: cell.connections,
            duration: Duration::from_millis(self.plan.duration_ms),
            rate: None,
            db_wait: self.db_wait,
            database: None,
            timeout: Duration::from_millis(self.plan.timeout_ms),
            ram_limit_bytes: self.plan.ram_limit_bytes,
            cpus: None,
            server_flags: self.plan.server_flags.clone(),
            round: Some(cell.round),
            place: Arc::new(ThisProcess),
            processes: 1,
            sources: Sources::default(),
        }
    }

    /// The duration of a cell: its window, four waits (holding, settling twice, draining), start and stop, and the time
    /// to connect and to read the ledger, which grows with the connections.
    fn estimate(&self, cell: SweepCell) -> Duration {
        let spec = self.spec(cell);
        let wait = spec.fixed_wait().unwrap_or(Duration::from_secs(1));
        spec.duration + 4 * wait + Duration::from_secs(2) + cell.connections as u32 * Duration::from_micros(400)
    }
}
