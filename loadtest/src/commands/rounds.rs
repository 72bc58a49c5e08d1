//! What subcommands share that measure many cells, round after round: the order, the loop and the end.

use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use quantity::format;
use rand::SeedableRng as _;
use rand::rngs::SmallRng;
use rand::seq::SliceRandom as _;
use results::RunResult;
use results::event::{self, Event, Sink as _, Sinks};

use crate::machine::interrupt::{EXIT_STATUS, Interrupt};
use crate::machine::terminal::{print, say};
use crate::output::files::{self, Outputs};

/// A seed that is short enough to type.
pub(crate) fn seed_of_now() -> u64 {
    u64::from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().subsec_micros())
}

/// Each once, in the order in which they were named: nobody wants to wait twice, or to have a ratio to two runs.
pub(crate) fn distinct<T: Copy + PartialEq>(named: &[T]) -> Vec<T> {
    let is_first = |(index, value): &(usize, &T)| !named[..*index].contains(value);
    named.iter().enumerate().filter(is_first).map(|(_, value)| *value).collect()
}

/// The cells of all rounds, each round in its own random order, so that whatever else the machine does affects all alike.
pub(crate) fn shuffled<Cell>(rounds: u32, seed: u64, cells_of_round: impl Fn(u32) -> Vec<Cell>) -> Vec<Cell> {
    let mut random = SmallRng::seed_from_u64(seed);
    let round = |round| {
        let mut cells = cells_of_round(round);
        cells.shuffle(&mut random);
        cells
    };
    (1..=rounds).flat_map(round).collect()
}

/// Measures all cells, which take about `time`, unless interrupted; the results are written as they come.
///
/// # Errors
/// Those of `measure`.
pub(crate) fn measure_all<Cell>(
    cells: Vec<Cell>,
    time: Duration,
    outputs: &Outputs,
    interrupt: &Interrupt,
    mut sinks: Sinks,
    mut measure: impl FnMut(Cell, &mut Sinks) -> Result<RunResult>,
) -> Result<Vec<RunResult>> {
    let runs = if cells.len() == 1 { "run" } else { "runs" };
    say(format_args!("{} {runs}: about {}", cells.len(), format::rough_duration(time)));
    let (schema, estimate_s) = (event::SCHEMA.to_owned(), Some(time.as_secs_f64()));
    sinks.take(&Event::Planned { schema, runs: cells.len(), estimate_s });
    let mut results = Vec::new();
    for cell in cells {
        if interrupt.is_raised() {
            break;
        }
        match measure(cell, &mut sinks) {
            Err(_) if interrupt.is_raised() => break,
            result => results.push(result?),
        }
        // The last write repeats one that fails.
        let _ = outputs.write(&results);
    }
    Ok(results)
}

/// Writes the files, prints the text, and returns the exit status.
///
/// # Errors
/// A file cannot be written.
pub(crate) fn conclude(
    results: &[RunResult],
    text: &str,
    outputs: &Outputs,
    interrupt: &Interrupt,
) -> Result<ExitCode> {
    let written = outputs.finish(results).map_err(|error| files::rescue(results, error));
    let printed = print(text);
    written.and(printed)?;
    Ok(match interrupt.is_raised() {
        true => ExitCode::from(EXIT_STATUS),
        false if results.iter().all(RunResult::is_sound) => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}
