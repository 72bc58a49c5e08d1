//! Progress, on standard error because standard output is for results: a bar on a terminal, and a line every few seconds
//! elsewhere, so that a log shows that something happens.

use std::time::{Duration, Instant};

use console::Term;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use quantity::format;
use report::live;
use results::RunResult;
use results::database::Database;
use results::event::{Event, RunPhase, Sink};
use results::run::Second;

use crate::machine::terminal::say;

const RUN_STYLE: &str = "{prefix:11} {wide_bar} {amount:>15} {elapsed:>4}\n{msg}";
const PLAN_STYLE: &str = "{prefix:11} {wide_bar} {pos:>6}/{len} {elapsed:>4} {msg}";
const TICK_INTERVAL: Duration = Duration::from_millis(200);
/// How often a log gets a line.
const LINE_INTERVAL: Duration = Duration::from_secs(5);

/// Shows the progress of a run, and of several runs.
pub(crate) struct ProgressSink {
    terminal: MultiProgress,
    run: Option<ProgressBar>,
    plan: Option<ProgressBar>,
    series: Vec<Second>,
    phase: RunPhase,
    /// Where there is no terminal.
    log: Option<ProgressLog>,
}

/// Lines for a log.
struct ProgressLog {
    target: String,
    /// When the last line was written, or the run began.
    last: Instant,
}

impl ProgressSink {
    /// A sink that shows nothing yet.
    pub(crate) fn new() -> Self {
        let terminal = MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(10));
        let log = (!Term::stderr().is_term()).then(|| ProgressLog { target: String::new(), last: Instant::now() });
        Self { terminal, run: None, plan: None, series: Vec::new(), phase: RunPhase::Connecting, log }
    }

    fn add(&self, template: &str, prefix: &str, length: u64) -> ProgressBar {
        let bar = self.terminal.add(ProgressBar::new(length));
        bar.set_style(style(template, self.phase));
        bar.set_prefix(prefix.to_owned());
        bar
    }

    fn start(&mut self, target: &str, connections: usize) {
        self.series.clear();
        self.phase = RunPhase::Connecting;
        if let Some(log) = &mut self.log {
            *log = ProgressLog { target: target.to_owned(), last: Instant::now() };
        }
        let bar = self.add(RUN_STYLE, target, connections as u64);
        bar.enable_steady_tick(TICK_INTERVAL);
        self.run = Some(bar);
    }

    fn enter(&mut self, phase: RunPhase) {
        self.phase = phase;
        if let Some(bar) = &self.run {
            bar.set_style(style(RUN_STYLE, phase));
            bar.set_message(phase.name());
        }
    }

    fn advance(&mut self, done: u64, total: u64) {
        if let Some(bar) = &self.run {
            bar.set_length(total);
            bar.set_position(done);
        }
        if let Some(log) = self.log.as_mut().filter(|log| log.last.elapsed() >= LINE_INTERVAL) {
            log.last = Instant::now();
            let seen = if self.phase == RunPhase::Measuring { live::line(&self.series) } else { String::new() };
            let seen = if seen.is_empty() { seen } else { format!(": {seen}") };
            say(format_args!("{}: {} {}{seen}", log.target, self.phase.name(), amount(self.phase, done, total)));
        }
    }

    fn show_second(&mut self, second: Second) {
        self.series.push(second);
        if let Some(bar) = &self.run {
            bar.set_message(live::line(&self.series));
        }
    }

    /// Prints a line for each finished run if there are several.
    fn finish(&mut self, result: &RunResult) {
        if let Some(bar) = self.run.take() {
            bar.finish_and_clear();
        }
        if let Some(plan) = &self.plan {
            plan.inc(1);
            self.terminal.suspend(|| say(outcome(result)));
        }
    }

    fn plan(&mut self, runs: usize) {
        match &self.plan {
            Some(bar) => bar.set_length(runs as u64),
            None => self.plan = Some(self.add(PLAN_STYLE, "cells", runs as u64)),
        }
    }
}

impl Sink for ProgressSink {
    fn take(&mut self, event: &Event) {
        match event {
            Event::Planned { runs, .. } => self.plan(*runs),
            Event::Started { target, connections, .. } => self.start(target, *connections),
            Event::Entered { phase } => self.enter(*phase),
            Event::Progress { done, total } => self.advance(*done, *total),
            Event::Second(second) => self.show_second(*second),
            // The report prints warnings.
            Event::Listening { .. } | Event::Observed(_) | Event::Injected { .. } | Event::Warned(_) => {}
            // Of a run that is kept, by who keeps it.
            Event::Ordered { .. } | Event::Ended { .. } => {}
            Event::Finished(result) => self.finish(result),
        }
    }
}

impl Drop for ProgressSink {
    fn drop(&mut self) {
        if let Some(plan) = self.plan.take() {
            plan.finish_and_clear();
        }
    }
}

fn style(template: &str, phase: RunPhase) -> ProgressStyle {
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    style.with_key("amount", move |state: &ProgressState, text: &mut dyn std::fmt::Write| {
        let _ = text.write_str(&amount(phase, state.pos(), state.len().unwrap_or_default()));
    })
}

/// How far a phase is: `3.2 of 10.0 s` of the measured time, or `2,500 of 10,000` connections; nothing where that is not
/// known.
fn amount(phase: RunPhase, done: u64, total: u64) -> String {
    match phase {
        RunPhase::Measuring => format!("{:.1} of {:.1} s", done as f64 / 1e3, total as f64 / 1e3),
        RunPhase::Connecting | RunPhase::Holding | RunPhase::Settling => {
            format!("{} of {}", format::count(done as f64), format::count(total as f64))
        }
        RunPhase::Ledger | RunPhase::Stopping | RunPhase::Gone => String::new(),
    }
}

fn outcome(result: &RunResult) -> String {
    let outcome = result.cause_in_words().unwrap_or_else(|| {
        let ram = format::bytes(result.memory.peak_bytes);
        format!("{ram}, {} requests/s", format::count(result.rps.unwrap_or(0.0)))
    });
    let connections = format::count(result.connections.requested as f64);
    let round = result.round.map_or_else(String::new, |round| format!(", round {round}"));
    let database = result.database.as_ref().map_or_else(String::new, pool);
    format!("{}, {connections} connections{database}{round}: {outcome}", result.target)
}

/// The pool of connections to a database, which tells the runs of `db` apart.
fn pool(database: &Database) -> String {
    let pool = database.pool.map_or_else(String::new, |pool| format!(", pool of {}", format::count(pool as f64)));
    let bouncer = if database.through_pgbouncer { " at PgBouncer" } else { "" };
    let hold_us = database.hold_us.filter(|hold_us| *hold_us > 0);
    let hold = hold_us.map_or_else(String::new, |hold_us| format!(", held {}", format::micros(hold_us)));
    let pipeline = database.pipeline.filter(|pipeline| *pipeline > 1);
    let pipeline = pipeline.map_or_else(String::new, |pipeline| format!(", pipelines {pipeline}"));
    format!("{pool}{bouncer}{hold}{pipeline}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_progress_of_the_measured_time_is_time() {
        assert_eq!(amount(RunPhase::Measuring, 3_200, 10_000), "3.2 of 10.0 s");
        assert_eq!(amount(RunPhase::Connecting, 2_500, 10_000), "2,500 of 10,000");
    }
}
