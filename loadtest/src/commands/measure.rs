//! `loadtest --target`: checks, builds, runs each target, reports.

use std::process::ExitCode;

use anyhow::Result;
use common::limits;
use report::text;
use results::{RunResult, Target};

use super::target_choice::{self, TargetChoice};
use crate::machine::host;
use crate::machine::interrupt::{EXIT_STATUS, Interrupt};
use crate::machine::terminal::{columns, print, say};
use crate::measure::target::{self, Location, TargetSpec};
use crate::output::conditions::{self, Conditions};
use crate::output::events::EventArgs;
use crate::output::files::{self, OutputArgs, Outputs};
use crate::subject::build;
use crate::subject::remote::Remote;

/// What to measure, and where the results go.
#[derive(Clone, Debug)]
pub(crate) struct MeasureOptions {
    /// The servers to measure.
    pub(crate) choices: Vec<TargetChoice>,
    /// How to measure each.
    pub(crate) spec: TargetSpec,
    /// The targets that run elsewhere.
    pub(crate) remotes: Vec<Remote>,
    /// Where to write the results.
    pub(crate) outputs: OutputArgs,
    /// Where to write events.
    pub(crate) events: EventArgs,
    /// Conditions that fail the run.
    pub(crate) conditions: Conditions,
}

impl MeasureOptions {
    /// The servers to measure, in the order of every table.
    pub(crate) fn targets(&self) -> Vec<Target> {
        if self.choices.contains(&TargetChoice::All) && !self.remotes.is_empty() {
            return self.remotes.iter().map(|remote| remote.target).collect();
        }
        target_choice::chosen(&self.choices)
    }

    /// The remote server for `target`, if there is one.
    fn remote(&self, target: Target) -> Option<&Remote> {
        self.remotes.iter().find(|remote| remote.target == target)
    }

    /// Whether the result is a list, even if an interrupt leaves one run.
    fn is_series(&self) -> bool {
        self.choices.contains(&TargetChoice::All) || self.choices.len() > 1
    }
}

/// Measures every requested target, and returns the exit status.
pub(crate) fn run(options: &MeasureOptions) -> Result<ExitCode> {
    let interrupt = Interrupt::install()?;
    let results = measure(options, &interrupt)?;
    let is_failed = options.conditions.fail(&results);
    Ok(exit_code(&results, &interrupt, is_failed))
}

/// Measures every requested target, prints the results and writes the files.
///
/// # Errors
/// This machine's limits are too low, a server cannot be built, or a file cannot be written.
pub(crate) fn measure(options: &MeasureOptions, interrupt: &Interrupt) -> Result<Vec<RunResult>> {
    host::prepare_for(options.spec.connections, limits::SPARE_DESCRIPTORS)?;
    options.spec.cpus.as_ref().map_or(Ok(()), |cpus| cpus.client.pin())?;
    let outputs = Outputs::prepare(&options.outputs, options.is_series())?;
    let mut sinks = options.events.sinks(&outputs)?;
    let targets = options.targets();
    let local: Vec<_> = targets.iter().copied().filter(|&target| options.remote(target).is_none()).collect();
    let Some(executables) = build::build(&local, interrupt)? else { return Ok(Vec::new()) };
    let mut results = Vec::new();
    let mut printed = Ok(());
    for &target in &targets {
        if interrupt.is_raised() {
            break;
        }
        let location = match options.remote(target) {
            Some(remote) => Location::Remote(remote),
            None => Location::Local(&executables[&target]),
        };
        results.push(target::run(target, location, &options.spec, interrupt, &mut sinks));
        // Write before printing: stdout may block or be closed. A failed write is retried with the next run.
        let written = outputs.write(&results);
        // What cannot be printed is in the files all the same, and so are the runs to come.
        printed = printed.and(results.last().map_or(Ok(()), |result| print(&text::run(result))));
        if let Err(error) = &written {
            // The user may be able to make room in time.
            say(format_args!("warning: {error:#}; retrying after the next run and at the end"));
        }
    }
    let written = outputs.finish(&results).map_err(|error| files::rescue(&results, error));
    let table = if options.is_series() { text::all_runs(&results, columns()) } else { String::new() };
    printed = printed.and_then(|()| print(&(table + &report::answer(&results))));
    written.and(printed)?;
    Ok(results)
}

fn exit_code(results: &[RunResult], interrupt: &Interrupt, is_failed: bool) -> ExitCode {
    if interrupt.is_raised() {
        ExitCode::from(EXIT_STATUS)
    } else if !results.iter().all(RunResult::is_sound) {
        ExitCode::FAILURE
    } else if is_failed {
        ExitCode::from(conditions::EXIT_STATUS)
    } else {
        ExitCode::SUCCESS
    }
}
