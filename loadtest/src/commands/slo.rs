//! `--slo`: looks for the highest rate at which a server keeps its objectives, step by step.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Args;
use quantity::format;
use results::figure::FigureValues;
use results::objective::Objective;
use results::slo::{self, Searches, Step};
use results::{Cause, RunResult};

use crate::machine::command_line::WrongArguments;
use crate::machine::interrupt::{EXIT_STATUS, Interrupt};
use crate::machine::terminal::{print, say};
use crate::output::files::{self, OutputArgs, Outputs};

/// How long a step takes unless `-d` says otherwise.
pub(crate) const STEP_DURATION: Duration = Duration::from_secs(3);

/// The objectives on the command line.
#[derive(Args, Clone, Debug, Default)]
#[group(id = "slo")]
pub(crate) struct SloArgs {
    /// Find the highest rate at which this is kept, such as 'p99 < 50ms' or 'memory.peak < 64MiB'; repeatable, and then
    /// all must be
    ///
    /// First a step without a rate shows what the server answers; then rates are tried, each in a step of -d [default:
    /// 3s], or of more where a percentile needs more answers: a p99 needs 1,000. The search ends when a rate that is held
    /// and one that is not are within 5 %, each measured three times. A rate is held if the objectives are kept, at least
    /// 99 % of the requests due are sent, and, unless an objective is about errors, none fails. A server that loadtest
    /// starts is started anew for each step.
    ///
    /// The figures and their units are those of --fail-if, the operators < and <= (and errors == 0). Exit status 1 if no
    /// rate is held.
    #[arg(long = "slo", value_name = "OBJECTIVE")]
    pub(crate) objectives: Vec<Objective>,
}

impl SloArgs {
    /// Whether there are any.
    pub(crate) fn is_given(&self) -> bool {
        !self.objectives.is_empty()
    }

    /// Checks that they can be kept by a server whose every answer takes so long.
    ///
    /// # Errors
    /// One cannot.
    pub(crate) fn ensure_possible(&self, wait: Duration) -> Result<()> {
        for objective in &self.objectives {
            let is_possible = objective.latency_limit_us().is_none_or(|limit_us| limit_us > wait.as_secs_f64() * 1e6);
            let text = || {
                format!(
                    "--slo '{objective}' cannot be kept at any rate, because every answer waits {} for the database: name a \
                     shorter --db-wait, or a limit on what is above it (above.p99)",
                    format::duration(wait)
                )
            };
            ensure!(is_possible, WrongArguments(text()));
        }
        Ok(())
    }
}

/// Searches, and keeps all steps.
pub(crate) struct Bench<'a> {
    objectives: &'a [Objective],
    duration: Duration,
    outputs: Outputs,
    interrupt: &'a Interrupt,
    results: Vec<RunResult>,
}

impl<'a> Bench<'a> {
    /// A bench whose steps take `duration` at least.
    ///
    /// # Errors
    /// A file cannot be written, or there is none of this kind for a search.
    pub(crate) fn new(
        slo: &'a SloArgs,
        duration: Duration,
        outputs: &OutputArgs,
        interrupt: &'a Interrupt,
    ) -> Result<Self> {
        let text = "--slo draws no charts: take --markdown, --csv or --json instead of --report and --chart";
        ensure!(!outputs.has_charts(), WrongArguments(text.to_owned()));
        let outputs = Outputs::prepare(outputs, true)?;
        Ok(Self { objectives: &slo.objectives, duration, outputs, interrupt, results: Vec::new() })
    }

    /// The files.
    pub(crate) fn outputs(&self) -> &Outputs {
        &self.outputs
    }

    /// Searches with the steps that `measure` takes.
    pub(crate) fn search(&mut self, mut measure: impl FnMut(Step) -> RunResult) {
        let first = self.results.len();
        while let Some(step) = self.next_step(first).filter(|_| !self.interrupt.is_raised()) {
            let mut result = measure(step);
            if let Some(load) = &mut result.load {
                load.slo = self.objectives.iter().map(ToString::to_string).collect();
            }
            say(self.outcome(step, &result));
            self.results.push(result);
            // The last write repeats one that fails.
            let _ = self.outputs.write(&self.results);
        }
    }

    fn next_step(&self, first: usize) -> Option<Step> {
        let steps: Vec<_> = self.results.iter().skip(first).collect();
        slo::next_step(self.objectives, &steps, self.duration)
    }

    /// A step in a line.
    fn outcome(&self, step: Step, result: &RunResult) -> String {
        let target = &result.target;
        let Some(rate) = step.rate else {
            let rps = result.rps.map_or_else(String::new, |rps| format!("{} requests/s", format::count(rps)));
            let failure = result.failure.clone().or(result.cause_in_words()).unwrap_or_default();
            let separator = if rps.is_empty() || failure.is_empty() { "" } else { ", " };
            return format!("{target}, without a rate: {rps}{separator}{failure}");
        };
        let rate = format::count(rate as f64);
        match slo::miss(self.objectives, result) {
            _ if result.cause == Some(Cause::Interrupted) => format!("{target}, {rate}/s: interrupted"),
            Some(missed) => format!("{target}, {rate}/s is missed: {missed}"),
            None => {
                let figures = FigureValues::new(result);
                let value = |objective: &Objective| {
                    format!("{} {}", objective.name(), objective.figure().text(objective.value(&figures)))
                };
                let values: Vec<_> = self.objectives.iter().map(value).collect();
                format!("{target}, {rate}/s is held: {}", values.join(", "))
            }
        }
    }

    /// Writes the files, prints the tables and the answers, and returns the exit status.
    ///
    /// # Errors
    /// A file cannot be written.
    pub(crate) fn finish(self) -> Result<ExitCode> {
        let Self { outputs, results, interrupt, .. } = self;
        let written = outputs.finish(&results).map_err(|error| files::rescue(&results, error));
        let searches = Searches::new(&results);
        let printed = searches.as_ref().map_or(Ok(()), |searches| print(&report::slo::text(searches)));
        written.and(printed)?;
        let is_held = searches.is_some_and(|all| all.searches.iter().all(|search| search.holds.is_some()));
        Ok(match is_held {
            _ if interrupt.is_raised() => ExitCode::from(EXIT_STATUS),
            true => ExitCode::SUCCESS,
            false => ExitCode::FAILURE,
        })
    }
}
