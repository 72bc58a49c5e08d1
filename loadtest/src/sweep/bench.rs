//! Where the cells of a sweep are measured, and what was measured is kept.

use std::time::Duration;

use anyhow::Result;
use common::db::Latency;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::is_result;
use crate::args::{Choice, Options};
use crate::interrupt::Interrupt;
use crate::output::{OutputArgs, Outputs};
use crate::result::{RunResult, SweepPlan};
use crate::run::{self, Place};
use crate::target::{Executables, Target};
use crate::{condition::Conditions, format, output, suite};

/// One measurement of a sweep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cell {
    /// The server.
    pub(crate) target: Target,
    /// How many connections it is to hold.
    pub(crate) connections: usize,
    /// Which round this is, from 1.
    pub(crate) round: u32,
}

impl Cell {
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
    progress: MultiProgress,
    all: ProgressBar,
}

impl<'a> Bench<'a> {
    /// A bench that has these results already.
    pub(crate) fn new(
        plan: &'a SweepPlan,
        db_wait: Latency,
        executables: &'a Executables,
        outputs: Outputs,
        interrupt: &'a Interrupt,
        results: Vec<RunResult>,
    ) -> Self {
        let progress = MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(10));
        let all = progress.add(ProgressBar::new(0));
        let style = ProgressStyle::with_template("{prefix:11} {wide_bar} {pos:>6}/{len} {elapsed:>4} {msg}");
        all.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        all.set_prefix("cells");
        Self { plan, db_wait, executables, outputs, interrupt, results, written: Ok(()), progress, all }
    }

    /// Says how long so many cells take.
    pub(crate) fn announce(&self, cells: &[Cell]) {
        let missing: Vec<_> = cells.iter().copied().filter(|cell| self.known(*cell).is_none()).collect();
        self.all.set_length(cells.len() as u64);
        self.all.set_position((cells.len() - missing.len()) as u64);
        let time = missing.iter().map(|cell| self.estimate(*cell)).sum::<Duration>();
        let known = match cells.len() - missing.len() {
            0 => String::new(),
            known => format!(", {known} others are in the file"),
        };
        let time = format::rough(time);
        self.say(&format!("{} cells to measure{known}: about {time}. Seed {}", missing.len(), self.plan.seed));
    }

    /// Measures these cells, but those that there are. Nothing if it was interrupted.
    pub(crate) fn measure_all(&mut self, cells: &[Cell]) -> Option<()> {
        self.announce(cells);
        cells.iter().try_for_each(|cell| self.measure(*cell).map(drop))
    }

    /// The result of a cell, which is measured unless it is there. Nothing if it was interrupted.
    pub(crate) fn measure(&mut self, cell: Cell) -> Option<&RunResult> {
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
        self.all.finish_and_clear();
        // What could not be written before may be now.
        let written = self.written.or_else(|_| self.outputs.write(&self.results));
        let written = written.map_err(|error| output::rescue(&self.results, error));
        (self.results, written)
    }

    fn known(&self, cell: Cell) -> Option<usize> {
        self.results.iter().position(|result| cell.is_of(result))
    }

    fn run(&mut self, cell: Cell) {
        let bar = suite::progress_bar(&self.progress, cell.target, cell.connections);
        let place = Place::Here(&self.executables[&cell.target]);
        let mut result = run::run(cell.target, place, &self.options(cell), self.interrupt, &bar);
        result.round = Some(cell.round);
        result.sweep = Some(self.plan.clone());
        self.all.inc(1);
        self.say(&line(cell, &result));
        self.results.push(result);
        self.written = self.outputs.write(&self.results);
    }

    fn options(&self, cell: Cell) -> Options {
        Options {
            // The server is named apart from it.
            target: Choice::All,
            connections: cell.connections,
            duration: Duration::from_millis(self.plan.duration_ms),
            db_wait: self.db_wait,
            timeout: Duration::from_millis(self.plan.timeout_ms),
            ram_limit_bytes: self.plan.ram_limit_bytes,
            outputs: OutputArgs::default(),
            conditions: Conditions::default(),
            cpus: None,
            remotes: Vec::new(),
            server_flags: self.plan.server_flags.clone(),
        }
    }

    /// What a cell takes: its time, four waits (held at once, apart twice, drained), start and stop, and what grows with the
    /// connections: to make them, and to read the ledger.
    fn estimate(&self, cell: Cell) -> Duration {
        let options = self.options(cell);
        let wait = options.fixed_wait().unwrap_or(Duration::from_secs(1));
        options.duration + 4 * wait + Duration::from_secs(2) + cell.connections as u32 * Duration::from_micros(400)
    }

    /// On stderr, whether or not it is a terminal.
    fn say(&self, text: &str) {
        self.progress.suspend(|| eprintln!("{text}"));
    }
}

fn line(cell: Cell, result: &RunResult) -> String {
    let outcome = match result.cause {
        Some(cause) => cause.describe(result),
        None => format!(
            "{}, {} requests/s",
            format::bytes(result.memory.peak_bytes),
            format::count(result.rps.unwrap_or(0.0))
        ),
    };
    format!(
        "{}, {} connections, round {}: {outcome}",
        result.target,
        format::count(cell.connections as f64),
        cell.round
    )
}
