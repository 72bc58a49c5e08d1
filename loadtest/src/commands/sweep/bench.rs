//! Where the cells of a sweep are measured, and what was measured is kept.

use std::time::Duration;

use anyhow::Result;
use common::db::Latency;
use quantity::format;
use results::event::{self, Event, Sink as _, Sinks};
use results::run::SweepPlan;
use results::{RunResult, Target};

use super::outcome::is_result;
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
    /// How many connections it is to hold.
    pub(crate) connections: usize,
    /// Which round this is, from 1.
    pub(crate) round: u32,
}

impl SweepCell {
    fn is_of(self, result: &RunResult) -> bool {
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
    /// What came of the last attempt to write the files.
    written: Result<()>,
    sinks: Sinks,
}

impl<'a> Bench<'a> {
    /// A bench that has these results already.
    pub(crate) fn new(
        plan: &'a SweepPlan,
        db_wait: Latency,
        executables: &'a Executables,
        outputs: Outputs,
        interrupt: &'a Interrupt,
        sinks: Sinks,
        results: Vec<RunResult>,
    ) -> Self {
        Self { plan, db_wait, executables, outputs, interrupt, results, written: Ok(()), sinks }
    }

    /// Says how long so many cells take.
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

    /// Measures these cells, but those that there are. Nothing if it was interrupted.
    pub(crate) fn measure_all(&mut self, cells: &[SweepCell]) -> Option<()> {
        self.announce(cells);
        cells.iter().try_for_each(|cell| self.measure(*cell).map(drop))
    }

    /// The result of a cell, which is measured unless it is there. Nothing if it was interrupted.
    pub(crate) fn measure(&mut self, cell: SweepCell) -> Option<&RunResult> {
        let index = match self.known(cell) {
            Some(index) => index,
            None if self.interrupt.is_raised() => return None,
            None => {
                self.run(cell);
                self.results.len() - 1
            }
        };
        self.results.get(index).filter(|result| is_result(result, self.plan) || !self.interrupt.is_raised())
    }

    /// All results, and whether the files have them.
    pub(crate) fn finish(self) -> (Vec<RunResult>, Result<()>) {
        // What could not be written before may be now.
        let written = self.written.or_else(|_| self.outputs.write(&self.results));
        let written = written.map_err(|error| files::rescue(&self.results, error));
        (self.results, written)
    }

    fn known(&self, cell: SweepCell) -> Option<usize> {
        self.results.iter().position(|result| cell.is_of(result))
    }

    fn run(&mut self, cell: SweepCell) {
        let location = Location::Local(&self.executables[&cell.target]);
        let mut result = target::run(cell.target, location, &self.spec(cell), self.interrupt, &mut self.sinks);
        result.sweep = Some(self.plan.clone());
        self.results.push(result);
        self.written = self.outputs.write(&self.results);
    }

    fn spec(&self, cell: SweepCell) -> TargetSpec {
        TargetSpec {
            connections: cell.connections,
            duration: Duration::from_millis(self.plan.duration_ms),
            db_wait: self.db_wait,
            timeout: Duration::from_millis(self.plan.timeout_ms),
            ram_limit_bytes: self.plan.ram_limit_bytes,
            cpus: None,
            server_flags: self.plan.server_flags.clone(),
            round: Some(cell.round),
        }
    }

    /// What a cell takes: its time, four waits (held at once, apart twice, drained), start and stop, and what grows with the
    /// connections: to make them, and to read the ledger.
    fn estimate(&self, cell: SweepCell) -> Duration {
        let spec = self.spec(cell);
        let wait = spec.fixed_wait().unwrap_or(Duration::from_secs(1));
        spec.duration + 4 * wait + Duration::from_secs(2) + cell.connections as u32 * Duration::from_micros(400)
    }
}
