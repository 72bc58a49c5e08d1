//! The progress bar: only on a terminal, and on standard error because standard output is for results.

use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use quantity::format;
use report::live;
use results::RunResult;
use results::event::{Event, RunPhase, Sink};
use results::run::Second;

use crate::machine::terminal::say;

const RUN_STYLE: &str = "{prefix:11} {wide_bar} {pos:>6}/{len} {elapsed:>4}\n{msg}";
const PLAN_STYLE: &str = "{prefix:11} {wide_bar} {pos:>6}/{len} {elapsed:>4} {msg}";
const TICK_INTERVAL: Duration = Duration::from_millis(200);

/// Shows the progress of a run, and of several runs.
pub(crate) struct ProgressSink {
    terminal: MultiProgress,
    run: Option<ProgressBar>,
    plan: Option<ProgressBar>,
    series: Vec<Second>,
}

impl ProgressSink {
    /// A sink that shows nothing yet.
    pub(crate) fn new() -> Self {
        let terminal = MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(10));
        Self { terminal, run: None, plan: None, series: Vec::new() }
    }

    fn add(&self, template: &str, prefix: &str, length: u64) -> ProgressBar {
        let bar = self.terminal.add(ProgressBar::new(length));
        let style = ProgressStyle::with_template(template);
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.set_prefix(prefix.to_owned());
        bar
    }

    fn start(&mut self, target: &str, connections: usize) {
        self.series.clear();
        let bar = self.add(RUN_STYLE, target, connections as u64);
        bar.enable_steady_tick(TICK_INTERVAL);
        self.run = Some(bar);
    }

    fn enter(&self, phase: RunPhase) {
        if let Some(bar) = &self.run {
            bar.set_message(phase.name());
        }
    }

    fn advance(&self, done: u64, total: u64) {
        if let Some(bar) = &self.run {
            bar.set_length(total);
            bar.set_position(done);
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
            Event::Warned(_) => {}
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

fn outcome(result: &RunResult) -> String {
    let outcome = result.cause_in_words().unwrap_or_else(|| {
        let ram = format::bytes(result.memory.peak_bytes);
        format!("{ram}, {} requests/s", format::count(result.rps.unwrap_or(0.0)))
    });
    let connections = format::count(result.connections.requested as f64);
    let round = result.round.map_or_else(String::new, |round| format!(", round {round}"));
    format!("{}, {connections} connections{round}: {outcome}", result.target)
}
