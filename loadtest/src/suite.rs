//! The whole command: check, build, run each target, report.

use std::io::{self, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use common::limits;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::args::Options;
use crate::interrupt::{EXIT_STATUS, Interrupt};
use crate::output::{self, Outputs};
use crate::result::RunResult;
use crate::run::Place;
use crate::stdout::print;
use crate::target::Target;
use crate::{condition, host, report, run, target};

/// Measures every target that was asked for, and says how that went.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let interrupt = Interrupt::install()?;
    let results = measure(options, &interrupt)?;
    let is_failed = options.conditions.fail(&results);
    Ok(exit_code(&results, &interrupt, is_failed))
}

/// Measures every target that was asked for; prints, and writes the files.
///
/// # Errors
/// This machine does not allow it, a server cannot be built, or a file cannot be written.
pub(crate) fn measure(options: &Options, interrupt: &Interrupt) -> Result<Vec<RunResult>> {
    host::prepare_for(options.connections, limits::SPARE_DESCRIPTORS)?;
    options.cpus.as_ref().map_or(Ok(()), |cpus| cpus.client.pin())?;
    let outputs = Outputs::prepare(&options.outputs, options.is_series())?;
    let targets = options.targets();
    let local: Vec<_> = targets.iter().copied().filter(|&target| options.remote(target).is_none()).collect();
    let executables = match target::build(&local, interrupt) {
        Err(_) if interrupt.is_raised() => return Ok(Vec::new()),
        built => built?,
    };
    let terminal = MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(10));
    let mut results = Vec::new();
    let mut written = Ok(());
    for &target in &targets {
        if interrupt.is_raised() {
            break;
        }
        let progress = progress_bar(&terminal, target, options.connections);
        let place = match options.remote(target) {
            Some(remote) => Place::Elsewhere(remote),
            None => Place::Here(&executables[&target]),
        };
        let result = run::run(target, place, options, interrupt, &progress);
        let text = report::of_run(&result);
        results.push(result);
        // The file first: nobody may be reading what is printed. What cannot be written now may be later, with the rest.
        written = outputs.write(&results);
        print(&text)?;
        if let Err(error) = &written {
            // Whoever sees this in time can make room. stderr may be closed.
            drop(writeln!(io::stderr(), "warning: {error:#}; it is tried again after the next run, and at the end"));
        }
    }
    if options.is_series() {
        print(&report::of_all(&results))?;
    }
    written.or_else(|_| outputs.write(&results)).map_err(|error| output::rescue(&results, error))?;
    Ok(results)
}

fn exit_code(results: &[RunResult], interrupt: &Interrupt, is_failed: bool) -> ExitCode {
    if interrupt.is_raised() {
        ExitCode::from(EXIT_STATUS)
    } else if !results.iter().all(RunResult::is_sound) {
        ExitCode::FAILURE
    } else if is_failed {
        ExitCode::from(condition::EXIT_STATUS)
    } else {
        ExitCode::SUCCESS
    }
}

/// On a terminal only, and on stderr: stdout is for the result.
pub(crate) fn progress_bar(terminal: &MultiProgress, target: Target, connections: usize) -> ProgressBar {
    let progress = terminal.add(ProgressBar::new(connections as u64));
    let style = ProgressStyle::with_template("{prefix:11} {wide_bar} {pos:>6}/{len} {elapsed:>4}\n{msg}");
    progress.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    progress.set_prefix(target.name());
    progress.enable_steady_tick(Duration::from_millis(200));
    progress
}
