//! The search for the highest rate at which a server keeps its objectives.
//!
//! A step is a run at one rate. All that is known of a search is in its runs: which rate to try next, and the summary, follow
//! from them.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::cause::Cause;
use crate::figure::FigureValues;
use crate::objective::Objective;
use crate::run::RunResult;
use crate::warning::WarningKind;

/// The version of the layout of a file of searches.
pub const SCHEMA: &str = "c10k-slo/1";

/// How often the rates at both ends of the interval are measured: once could be luck.
const ROUNDS: usize = 3;
/// The search ends when both ends are so near, as a share of the upper one.
const PRECISION: f64 = 0.05;
/// The first rate, as a multiple of what the server answers without a rate. No server is asked for more at once than there
/// are connections, so a rate above this is seldom held.
const HEADROOM: f64 = 1.25;
/// A low rate has longer steps, for enough answers, up to this many times longer.
const MAX_STRETCH: u32 = 10;
/// A search that needs more steps than this is of a server whose speed changes.
const MAX_STEPS: usize = 60;
/// The share of the requests due that must be sent.
const SENT_SHARE: f64 = 0.99;

/// Searches, as written to a file.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Searches {
    /// [`SCHEMA`].
    pub schema: String,
    /// A summary for each server.
    pub searches: Vec<Search>,
    /// Every run, in the order that they ran.
    pub runs: Vec<RunResult>,
}

/// The search for one server's highest rate.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Search {
    /// The server's name.
    pub target: String,
    /// Over how many connections it is loaded.
    pub connections: usize,
    /// The value of `--db-wait`; empty if the server is not one of this project's.
    pub wait: String,
    /// What it is to keep.
    pub objectives: Vec<String>,
    /// What it answers a second without a rate, each connection asking as soon as it has an answer.
    pub unlimited_rps: Option<f64>,
    /// The highest rate at which it kept them, in requests a second.
    pub holds: Option<u64>,
    /// The lowest at which it did not.
    pub fails_at: Option<u64>,
    /// Why the search ended.
    pub ended_by: Ending,
    /// What was missed at `fails_at`, or why there is none.
    pub because: Option<String>,
    /// All rates, ascending.
    pub rates: Vec<RateSummary>,
}

/// Why a search ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// The server's limit is between two rates that are near each other.
    Found,
    /// The same, but what failed at the upper one may be the load generator's fault.
    Client,
    /// Even the lowest rate that could be tried was missed.
    Lowest,
    /// The server did not start, cannot be reached any more, or answered nothing.
    Failed,
    /// There are too many steps: the server's speed changes.
    Unsteady,
    /// The user stopped it.
    Interrupted,
}

/// The steps at one rate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RateSummary {
    /// Requests a second.
    pub rate: u64,
    /// How many steps ran.
    pub steps: usize,
    /// In how many of them the objectives were kept.
    pub held: usize,
    /// What the first of the others missed.
    pub because: Option<String>,
    /// Whether one of the others may be the load generator's fault.
    pub is_client_bound: bool,
}

/// What to measure next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// Requests a second; `None` means as many as the server takes.
    pub rate: Option<u64>,
    /// How long to measure.
    pub duration: Duration,
}

impl Searches {
    /// Summarises runs; `None` unless all of them are steps of a search.
    pub fn new(runs: &[RunResult]) -> Option<Self> {
        if runs.is_empty() || !runs.iter().all(is_step) {
            return None;
        }
        let mut searches: Vec<Search> = Vec::new();
        for run in runs {
            if !searches.iter().any(|search| search.has(run)) {
                searches.push(Search::new(&runs.iter().filter(|other| is_same_search(run, other)).collect::<Vec<_>>()));
            }
        }
        Some(Self { schema: SCHEMA.to_owned(), searches, runs: runs.to_vec() })
    }

    /// The steps of `search` at `rate`.
    pub fn steps<'a>(&'a self, search: &'a Search, rate: u64) -> impl Iterator<Item = &'a RunResult> {
        self.runs.iter().filter(move |run| search.has(run) && self::rate(run) == Some(rate))
    }

    /// The summary of the search that `run` is a step of.
    pub fn search_of(&self, run: &RunResult) -> Option<&Search> {
        self.searches.iter().find(|search| search.has(run))
    }
}

/// Whether the run is a step of a search.
pub fn is_step(run: &RunResult) -> bool {
    run.load.as_ref().is_some_and(|load| !load.slo.is_empty())
}

fn is_same_search(one: &RunResult, other: &RunResult) -> bool {
    (&one.target, one.connections.requested, &one.wait.spec)
        == (&other.target, other.connections.requested, &other.wait.spec)
}

fn rate(run: &RunResult) -> Option<u64> {
    run.load.as_ref()?.rate
}

/// What to measure next, after these steps of one search; `None` if it is over. Steps take `duration`, or longer where the
/// objectives need more answers.
pub fn next_step(objectives: &[Objective], steps: &[&RunResult], duration: Duration) -> Option<Step> {
    let Some(unlimited) = steps.iter().find(|run| rate(run).is_none()) else {
        return Some(Step { rate: None, duration });
    };
    let is_over = steps.len() >= MAX_STEPS || steps.iter().any(|run| is_end(run));
    let rps = unlimited.rps.filter(|rps| *rps > 0.0 && !is_over)?;
    let answers = objectives.iter().map(Objective::needed_answers).max().unwrap_or(1) as f64;
    let lowest = (answers / (duration * MAX_STRETCH).as_secs_f64()).ceil().max(1.0) as u64;
    let rate = next_rate(&summaries(objectives, steps), lowest, rps)?;
    let needed = Duration::from_secs_f64(answers / rate as f64);
    Some(Step { rate: Some(rate), duration: duration.max(needed) })
}

/// Whether nothing more can be measured after this run.
fn is_end(run: &RunResult) -> bool {
    matches!(run.cause, Some(Cause::Interrupted | Cause::NotStarted))
}

/// The rate to try next. At first upwards until one is missed, then between the highest that was held and the lowest that was
/// not, and at last both of these again.
fn next_rate(rates: &[RateSummary], lowest: u64, unlimited_rps: f64) -> Option<u64> {
    let (held, missed) = ends(rates);
    let Some(missed) = missed else {
        return Some(held.map_or(rounded(unlimited_rps * HEADROOM).max(lowest), |held| held.rate.saturating_mul(2)));
    };
    let low = held.map_or(0, |held| held.rate);
    let middle = rounded((low as f64 + missed.rate as f64) / 2.0);
    let middle = if middle > low && middle < missed.rate { middle } else { u64::midpoint(low, missed.rate) };
    let middle = middle.max(lowest);
    let is_near = (missed.rate - low) as f64 <= missed.rate as f64 * PRECISION;
    if !is_near && middle > low && middle < missed.rate {
        return Some(middle);
    }
    [held, Some(missed)].into_iter().flatten().find(|end| end.steps < ROUNDS).map(|end| end.rate)
}

/// The highest rate that was held, and the lowest that was not, which is above it.
fn ends(rates: &[RateSummary]) -> (Option<&RateSummary>, Option<&RateSummary>) {
    let missed = rates.iter().find(|rate| !rate.is_held());
    let below = |rate: &&RateSummary| missed.is_none_or(|missed| rate.rate < missed.rate);
    (rates.iter().rfind(below), missed)
}

/// The rate to three digits: more says nothing, and is hard to read.
fn rounded(rate: f64) -> u64 {
    let step = 10_f64.powf((rate.max(1.0).log10().floor() - 2.0).max(0.0));
    ((rate / step).round() * step) as u64
}

fn summaries(objectives: &[Objective], steps: &[&RunResult]) -> Vec<RateSummary> {
    let mut rates: Vec<u64> = steps.iter().filter_map(|run| rate(run)).collect();
    rates.sort_unstable();
    rates.dedup();
    let summary = |at| {
        let steps: Vec<_> = steps.iter().filter(|run| rate(run) == Some(at) && !is_end(run)).collect();
        let missed: Vec<_> =
            steps.iter().filter_map(|run| Some((miss(objectives, run)?, is_client_bound(run)))).collect();
        RateSummary {
            rate: at,
            steps: steps.len(),
            held: steps.len() - missed.len(),
            is_client_bound: missed.iter().any(|(_, is_client_bound)| *is_client_bound),
            because: missed.into_iter().next().map(|(because, _)| because),
        }
    };
    rates.into_iter().map(summary).filter(|summary| summary.steps > 0).collect()
}

/// What a run at a rate missed; `None` if it held the rate.
pub fn miss(objectives: &[Objective], run: &RunResult) -> Option<String> {
    if run.failure.is_some() {
        return run.cause_in_words().or_else(|| run.failure.clone());
    }
    if run.requests == 0 {
        return Some("nothing was answered".into());
    }
    let figures = FigureValues::new(run);
    let mut misses: Vec<_> = objectives.iter().filter_map(|objective| objective.miss(&figures)).collect();
    let failed = run.errors.total();
    if failed > 0 && !objectives.iter().any(Objective::is_about_errors) {
        misses.push(format!("{failed} requests failed"));
    }
    if let Some(share) = run.rate.and_then(|rate| rate.sent_share).filter(|share| *share < SENT_SHARE) {
        misses.push(format!("only {:.1} % of the requests due were sent", share * 100.0));
    }
    (!misses.is_empty()).then(|| misses.join(", "))
}

/// Whether the load generator, and not the server, may be what ended here.
fn is_client_bound(run: &RunResult) -> bool {
    const KINDS: [WarningKind; 5] = [
        WarningKind::ClientBound,
        WarningKind::ClientLate,
        WarningKind::CpuQuota,
        WarningKind::ShortOfDescriptors,
        WarningKind::ShortOfPorts,
    ];
    const DEATHS: [Cause; 2] = [Cause::ServerDied, Cause::OutOfMemory];
    // A death is the server's, however busy the load generator is.
    run.cause.is_none_or(|cause| !DEATHS.contains(&cause))
        && run.warnings.iter().any(|warning| KINDS.contains(&warning.kind))
}

impl RateSummary {
    /// Whether the objectives were kept in most of the steps.
    pub fn is_held(&self) -> bool {
        self.held * 2 > self.steps
    }
}

impl Search {
    /// Whether the run is one of its steps.
    fn has(&self, run: &RunResult) -> bool {
        (&run.target, run.connections.requested, &run.wait.spec) == (&self.target, self.connections, &self.wait)
    }

    fn new(steps: &[&RunResult]) -> Self {
        let first = steps[0];
        let load = first.load.clone().unwrap_or_default();
        let objectives: Vec<Objective> = load.slo.iter().filter_map(|text| text.parse().ok()).collect();
        let rates = summaries(&objectives, steps);
        let (held, missed) = ends(&rates);
        let is_over = next_step(&objectives, steps, Duration::from_millis(load.duration_ms)).is_none();
        let ended_by = ending(steps, held, missed, is_over);
        let failure = || steps.iter().rev().find_map(|run| run.failure.clone().or(run.cause_in_words()));
        let because = match ended_by {
            Ending::Failed => failure(),
            _ => missed.and_then(|missed| missed.because.clone()),
        };
        Self {
            target: first.target.clone(),
            connections: first.connections.requested,
            wait: first.wait.spec.clone(),
            objectives: load.slo,
            unlimited_rps: steps.iter().find(|run| rate(run).is_none()).and_then(|run| run.rps),
            holds: held.map(|held| held.rate),
            fails_at: missed.map(|missed| missed.rate),
            ended_by,
            because,
            rates,
        }
    }
}

fn ending(steps: &[&RunResult], held: Option<&RateSummary>, missed: Option<&RateSummary>, is_over: bool) -> Ending {
    if steps.iter().any(|run| run.cause == Some(Cause::Interrupted)) || !is_over {
        return Ending::Interrupted;
    }
    match missed {
        _ if steps.iter().any(|run| is_end(run)) => Ending::Failed,
        None => Ending::Failed,
        _ if steps.len() >= MAX_STEPS => Ending::Unsteady,
        Some(missed) if missed.is_client_bound => Ending::Client,
        Some(_) if held.is_none() => Ending::Lowest,
        Some(_) => Ending::Found,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Warning;
    use crate::run::{LatencySummary, Rate};
    use crate::samples::empty;
    use crate::settings::LoadSettings;
    use proptest::prelude::*;

    const DURATION: Duration = Duration::from_secs(3);

    /// A step at this rate with this 99th percentile.
    fn step(rate: Option<u64>, p99: u64) -> RunResult {
        let mut run = RunResult { complete: true, requests: 10_000, rps: Some(1_000.0), ..empty("async", 10) };
        let slo = vec!["p99 < 50ms".to_owned()];
        run.load = Some(LoadSettings { rate, slo, duration_ms: 3_000, ..LoadSettings::default() });
        run.latency_us = Some(LatencySummary { p99, ..LatencySummary::default() });
        run.rate = rate.map(|rate| Rate::new(rate, rate, rate));
        run
    }

    fn objectives() -> Vec<Objective> {
        vec!["p99 < 50ms".parse().unwrap()]
    }

    /// Searches a server that answers so at each rate.
    fn searched(answer: impl Fn(u64, usize) -> RunResult) -> (Search, Vec<RunResult>) {
        let mut runs = vec![step(None, 9_000)];
        while let Some(next) = next_step(&objectives(), &runs.iter().collect::<Vec<_>>(), DURATION) {
            runs.push(answer(next.rate.unwrap(), runs.len()));
            assert!(runs.len() <= MAX_STEPS);
        }
        let mut searches = Searches::new(&runs).unwrap().searches;
        (searches.remove(0), runs)
    }

    fn up_to(limit: u64) -> impl Fn(u64, usize) -> RunResult {
        move |rate, _| step(Some(rate), if rate <= limit { 40_000 } else { 60_000 })
    }

    #[test]
    fn the_ends_are_near_each_other_and_measured_three_times() {
        let (search, runs) = searched(up_to(820));
        let (holds, fails_at) = (search.holds.unwrap(), search.fails_at.unwrap());
        assert!(holds <= 820 && 820 < fails_at && fails_at - holds <= fails_at / 20, "{search:?}");
        assert_eq!((search.ended_by, search.because.as_deref()), (Ending::Found, Some("p99 was 60.0 ms")));
        for end in [holds, fails_at] {
            assert_eq!(search.rates.iter().find(|rate| rate.rate == end).unwrap().steps, ROUNDS);
        }
        assert!(runs.len() < 16, "{}", runs.len());
    }

    #[test]
    fn a_server_that_does_more_at_a_rate_than_without_one_is_followed_upwards() {
        let (search, _) = searched(up_to(70_000));
        assert!(search.holds.unwrap() > 66_000 && search.ended_by == Ending::Found, "{search:?}");
    }

    #[test]
    fn an_end_that_was_luck_is_corrected() {
        // Above 600 it is held only the first time.
        let seen = std::cell::RefCell::new(std::collections::BTreeSet::new());
        let (search, _) = searched(|rate, _| {
            let is_new = seen.borrow_mut().insert(rate);
            step(Some(rate), if rate <= 600 || (rate < 900 && is_new) { 40_000 } else { 60_000 })
        });
        assert!(search.holds.unwrap() <= 600, "{search:?}");
    }

    #[test]
    fn what_the_load_generator_cannot_send_is_not_the_servers_limit() {
        let (search, _) = searched(|rate, _| {
            let mut run = step(Some(rate), 40_000);
            if rate > 500 {
                run.rate = Some(Rate::new(100, 60, 60));
                run.warnings = vec![Warning::new(WarningKind::ClientBound, "busy")];
            }
            run
        });
        assert_eq!(
            (search.ended_by, search.because.unwrap()),
            (Ending::Client, "only 60.0 % of the requests due were sent".into())
        );
        assert!(search.holds.unwrap() <= 500);
    }

    #[test]
    fn what_fails_at_the_lowest_rate_is_held_at_none() {
        let (search, runs) = searched(up_to(0));
        // A thousand answers in thirty seconds.
        assert_eq!((search.holds, search.fails_at, search.ended_by), (None, Some(34), Ending::Lowest));
        assert_eq!(search.rates[0].steps, ROUNDS);
        let steps: Vec<_> = runs[..1].iter().collect();
        assert_eq!(next_step(&objectives(), &steps, DURATION).unwrap().duration, DURATION);
        let slow = RunResult { rps: Some(20.0), ..step(None, 9_000) };
        let next = next_step(&objectives(), &[&slow], DURATION).unwrap();
        assert_eq!((next.rate, next.duration.as_secs()), (Some(34), 29), "longer, for enough answers");
    }

    #[test]
    fn a_server_that_dies_or_is_gone_ends_the_search_with_what_is_known() {
        let died =
            |run| RunResult { complete: false, failure: Some("it died".into()), cause: Some(Cause::ServerDied), ..run };
        let (search, _) =
            searched(|rate, steps| if rate > 700 { died(step(Some(rate), 0)) } else { up_to(700)(rate, steps) });
        assert_eq!((search.ended_by, search.because.as_deref()), (Ending::Found, Some("the server died")));
        let busy = Warning::new(WarningKind::ClientBound, "busy");
        let (search, _) = searched(|rate, _| RunResult { warnings: vec![busy.clone()], ..died(step(Some(rate), 0)) });
        assert_eq!(search.ended_by, Ending::Lowest, "however busy the load generator was");
        let (search, runs) = searched(|rate, steps| match steps {
            4 => RunResult { failure: Some("refused".into()), cause: Some(Cause::NotStarted), ..step(Some(rate), 0) },
            _ => up_to(700)(rate, steps),
        });
        assert_eq!((search.ended_by, runs.len()), (Ending::Failed, 5));
        let silent = RunResult { rps: None, requests: 0, ..step(None, 0) };
        assert_eq!(Searches::new(&[silent]).unwrap().searches[0].ended_by, Ending::Failed);
    }

    #[test]
    fn an_interrupted_search_is_not_over_but_ends() {
        let runs = [step(None, 9_000), step(Some(1_250), 60_000)];
        let search = Searches::new(&runs).unwrap().searches.remove(0);
        assert_eq!((search.ended_by, search.fails_at, search.holds), (Ending::Interrupted, Some(1_250), None));
        let cut = RunResult { cause: Some(Cause::Interrupted), ..step(Some(620), 0) };
        assert!(next_step(&objectives(), &[&runs[0], &runs[1], &cut], DURATION).is_none());
    }

    #[test]
    fn failed_requests_count_unless_an_objective_is_about_them() {
        let mut run = step(Some(10), 40_000);
        run.errors.timeout = 7;
        assert_eq!(miss(&objectives(), &run).unwrap(), "7 requests failed");
        let lenient = ["p99 < 50ms", "errors < 8"].map(|text| text.parse().unwrap());
        assert_eq!(miss(&lenient, &run), None);
    }

    #[test]
    fn other_runs_are_no_search() {
        assert!(Searches::new(&[]).is_none() && Searches::new(&[step(None, 1), empty("async", 10)]).is_none());
    }

    proptest! {
        #[test]
        fn every_search_ends_and_its_interval_has_the_limit(limit in 100..100_000_u64) {
            let (search, _) = searched(up_to(limit));
            prop_assert_eq!(search.ended_by, Ending::Found);
            prop_assert!(search.holds.unwrap() <= limit && limit < search.fails_at.unwrap());
        }

        #[test]
        fn a_server_whose_speed_changes_ends_a_search_too(seed in any::<u64>()) {
            let (search, _) = searched(|rate, steps| {
                let chance = (seed ^ rate ^ steps as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 63;
                step(Some(rate), if chance == 0 { 40_000 } else { 60_000 })
            });
            prop_assert!(search.ended_by != Ending::Interrupted);
        }
    }
}
