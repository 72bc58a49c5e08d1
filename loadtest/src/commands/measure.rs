//! `loadtest --target`: checks, builds, runs each target, reports.

use std::process::ExitCode;

use anyhow::Result;
use report::text;
use results::{RunResult, Target};

use super::place::PlaceArgs;
use super::slo::{self, SloArgs};
use super::target_choice::{self, TargetChoice};
use crate::machine::cpus::Split;
use crate::machine::interrupt::{EXIT_STATUS, Interrupt};
use crate::machine::terminal::{columns, print, warn};
use crate::machine::walls::Asked;
use crate::measure::target::{self, Location, TargetSpec};
use crate::output::conditions::{self, Conditions};
use crate::output::events::EventArgs;
use crate::output::files::{self, OutputArgs, Outputs};
use crate::subject::build::{self, Executables};
use crate::subject::remote::Remote;

/// What to measure, and where the results go.
#[derive(Clone, Debug)]
pub(crate) struct MeasureOptions {
    /// The servers to measure.
    pub(crate) choices: Vec<TargetChoice>,
    /// How to measure each.
    pub(crate) spec: TargetSpec,
    /// Where the users are.
    pub(crate) place: PlaceArgs,
    /// The targets that run elsewhere.
    pub(crate) remotes: Vec<Remote>,
    /// What to find the highest rate for.
    pub(crate) slo: SloArgs,
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

    /// The servers to build and start.
    fn local(&self) -> Vec<Target> {
        self.targets().into_iter().filter(|&target| self.remote(target).is_none()).collect()
    }

    fn location<'a>(&'a self, target: Target, executables: &'a Executables) -> Location<'a> {
        self.remote(target).map_or_else(|| Location::Local(&executables[&target]), Location::Remote)
    }

    /// What is asked of this machine.
    fn asked(&self) -> Asked {
        Asked { server_processes: self.spec.processes, ..Asked::new(self.spec.connections, &self.local()) }
    }

    /// Whether the result is a list, even if an interrupt leaves one run.
    fn is_series(&self) -> bool {
        self.choices.contains(&TargetChoice::All) || self.choices.len() > 1
    }
}

/// Measures every requested target, and returns the exit status.
pub(crate) fn run(options: &MeasureOptions) -> Result<ExitCode> {
    let interrupt = Interrupt::install()?;
    if options.slo.is_given() {
        return search(options, &interrupt);
    }
    let results = measure(options, &interrupt)?;
    let is_failed = options.conditions.fail(&results);
    Ok(exit_code(&results, &interrupt, is_failed))
}

/// Measures every requested target, prints the results and writes the files.
///
/// # Errors
/// This machine's limits are too low, a server cannot be built, or a file cannot be written.
pub(crate) fn measure(options: &MeasureOptions, interrupt: &Interrupt) -> Result<Vec<RunResult>> {
    options.spec.cpus.as_ref().map_or(Ok(()), Split::pin_client)?;
    let outputs = Outputs::prepare(&options.outputs, options.is_series())?;
    let mut sinks = options.events.sinks(&outputs)?;
    let place = options.place.open(options.asked(), interrupt)?;
    let spec = TargetSpec { place, ..options.spec.clone() };
    let Some(executables) = build::build(&options.local(), interrupt)? else { return Ok(Vec::new()) };
    let mut results = Vec::new();
    let mut printed = Ok(());
    for target in options.targets() {
        if interrupt.is_raised() {
            break;
        }
        let location = options.location(target, &executables);
        results.push(target::run(target, location, &spec, interrupt, &mut sinks));
        // Write before printing: stdout may block or be closed. A failed write is retried with the next run.
        let written = outputs.write(&results);
        // What cannot be printed is in the files all the same, and so are the runs to come.
        printed = printed.and(results.last().map_or(Ok(()), |result| print(&text::run(result))));
        if let Err(error) = &written {
            // The user may be able to make room in time.
            warn(format_args!("{error:#}; retrying after the next run and at the end"));
        }
    }
    let written = outputs.finish(&results).map_err(|error| files::rescue(&results, error));
    let table = if options.is_series() { text::all_runs(&results, columns()) } else { String::new() };
    printed = printed.and_then(|()| print(&(table + &report::answer(&results))));
    written.and(printed)?;
    Ok(results)
}

/// Finds the highest rate of every requested target, and returns the exit status.
fn search(options: &MeasureOptions, interrupt: &Interrupt) -> Result<ExitCode> {
    options.slo.ensure_possible(options.spec.fixed_wait().unwrap_or_default())?;
    options.spec.cpus.as_ref().map_or(Ok(()), Split::pin_client)?;
    let mut bench = slo::Bench::new(&options.slo, options.spec.duration, &options.outputs, interrupt)?;
    let mut sinks = options.events.sinks(bench.outputs())?;
    let place = options.place.open(options.asked(), interrupt)?;
    let Some(executables) = build::build(&options.local(), interrupt)? else { return Ok(EXIT_STATUS.into()) };
    for target in options.targets() {
        bench.search(|step| {
            let place = place.clone();
            let spec = TargetSpec { rate: step.rate, duration: step.duration, place, ..options.spec.clone() };
            target::run(target, options.location(target, &executables), &spec, interrupt, &mut sinks)
        });
    }
    bench.finish()
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
