//! Merges the results of load generators that loaded the same server at the same time.
//!
//! Percentiles cannot be averaged, so the histograms are added up and the percentiles computed again.

use std::ops::Add as _;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, bail, ensure};

use crate::file::Source;
use crate::latency::Latencies;
use crate::run::{
    ClientSummary, Connections, ErrorReason, Errors, Memory, Rate, RunResult, Second, ServerSummary, sum,
};
use crate::slo;
use crate::warning::{Warning, WarningKind};

/// Merges the first run of each file, the second run of each file, and so on.
///
/// # Errors
/// There is only one file, a run has no counterpart, or its histograms cannot be read.
pub fn merge(sources: &[Source]) -> Result<Vec<RunResult>> {
    let (first, others) = sources.split_first().context("nothing to merge")?;
    ensure!(!others.is_empty(), "--merge needs the files of several load generators");
    let is_search = sources.iter().flat_map(|source| &source.results).any(slo::is_step);
    ensure!(!is_search, "searches of --slo cannot be merged: each chose its own rates");
    for other in others {
        let (expected, found) = (first.results.len(), other.results.len());
        ensure!(
            expected == found,
            "{} holds {expected} runs and {} {found}: every run needs a counterpart",
            first.name,
            other.name
        );
    }
    (0..first.results.len()).map(|at| merge_runs(&counterparts(sources, at)?)).collect()
}

/// The run at this index of every file.
fn counterparts(sources: &[Source], at: usize) -> Result<Vec<&RunResult>> {
    let server = |source: &Source| {
        let run = &source.results[at];
        format!("{}{}", run.target, run.wait.as_suffix())
    };
    let expected = server(&sources[0]);
    for source in sources {
        let found = server(source);
        ensure!(
            found == expected,
            "run {} measures {expected} in {}, but {found} in {}: they cannot be merged",
            at + 1,
            sources[0].name,
            source.name
        );
    }
    let runs: Vec<_> = sources.iter().map(|source| &source.results[at]).collect();
    for (index, run) in runs.iter().enumerate() {
        if let Some(earlier) = runs[..index].iter().position(|earlier| is_same(earlier, run)) {
            let [one, other] = [&sources[earlier].name, &sources[index].name];
            bail!("run {} is the same in {one} and {other}: merged, its requests would count twice", at + 1);
        }
    }
    Ok(runs)
}

/// Whether these are one run: no two load generators have the same latencies to the microsecond.
fn is_same(one: &RunResult, other: &RunResult) -> bool {
    one.started_at == other.started_at && one.requests == other.requests && one.histograms == other.histograms
}

fn merge_runs(runs: &[&RunResult]) -> Result<RunResult> {
    let first = runs[0];
    let latencies = latencies(runs)?;
    let failures: Vec<&str> = runs.iter().filter_map(|run| run.failure.as_deref()).collect();
    let connections = connections(runs);
    let mut merged = RunResult {
        complete: runs.iter().all(|run| run.complete),
        failure: (!failures.is_empty()).then(|| failures.join("; ")),
        cause: runs.iter().find_map(|run| run.cause),
        started_at: runs.iter().map(|run| run.started_at.clone()).min().unwrap_or_default(),
        connections,
        duration_s: runs.iter().filter_map(|run| run.duration_s).max_by(f64::total_cmp),
        requests: sum(runs.iter().map(|run| run.requests)),
        rps: runs.iter().map(|run| run.rps).sum(),
        rps_ceiling: runs.iter().filter_map(|run| run.rps_ceiling).max_by(f64::total_cmp),
        in_flight: sum(runs.iter().map(|run| run.in_flight)),
        errors_before: total(runs.iter().map(|run| run.errors_before)),
        errors: total(runs.iter().map(|run| run.errors)),
        error_reasons: ErrorReason::merge(runs.iter().flat_map(|run| &run.error_reasons)),
        rate: rate(runs),
        latency_us: None,
        above_wait_us: None,
        histograms: Some(latencies.encode()?),
        series: series(runs),
        memory: memory(runs, &connections),
        load: runs.iter().filter_map(|run| run.load.clone()).reduce(|all, load| all.add(&load)),
        server: ServerSummary {
            executable_sha256: first.server.executable_sha256.clone(),
            cpu_s: runs.iter().filter_map(|run| run.server.cpu_s).max_by(f64::total_cmp),
            exit: runs.iter().find_map(|run| run.server.exit.clone()),
            stopped_after_us: runs.iter().filter_map(|run| run.server.stopped_after_us).max(),
            exit_signal: runs.iter().find_map(|run| run.server.exit_signal.clone()),
            oom_kills: runs.iter().filter_map(|run| run.server.oom_kills).max(),
        },
        client: ClientSummary {
            cpu_s: runs.iter().map(|run| run.client.cpu_s).sum(),
            rss_peak_bytes: sum_of_all(runs.iter().map(|run| run.client.rss_peak_bytes)),
            lag_p99_us: runs.iter().filter_map(|run| run.client.lag_p99_us).max(),
        },
        // The server's count, and so that of all of them together.
        database: runs.iter().filter_map(|run| run.database.clone()).max_by_key(|database| database.answers),
        // Each run had an instant of its own to start at.
        fleet: None,
        warnings: warnings(runs),
        ..first.clone()
    };
    merged.latency_us = latencies.distribution().map(|distribution| distribution.summary());
    merged.above_wait_us =
        merged.latency_us.as_ref().zip(first.wait.fixed()).map(|(latency, wait)| latency.above(wait));
    Ok(merged)
}

fn latencies(runs: &[&RunResult]) -> Result<Latencies> {
    let mut all = Latencies::new();
    for run in runs {
        match &run.histograms {
            Some(histograms) => all += &Latencies::decode(histograms).context("the histograms cannot be read")?,
            None => ensure!(run.requests == 0, "a run of {} has no histograms: it cannot be merged", run.target),
        }
    }
    Ok(all)
}

/// The load generators' own connections add up; the server's counts already include all of them.
fn connections(runs: &[&RunResult]) -> Connections {
    let each = || runs.iter().map(|run| run.connections);
    let most = |count: fn(Connections) -> Option<u64>| each().filter_map(count).max();
    Connections {
        requested: each().map(|each| each.requested).fold(0, usize::saturating_add),
        established: each().map(|each| each.established).fold(0, usize::saturating_add),
        connected_after_us: most(|each| each.connected_after_us),
        open_peak: most(|each| each.open_peak),
        held_peak: most(|each| each.held_peak),
        held_mean: each().filter_map(|each| each.held_mean).max_by(f64::total_cmp),
        waiting_peak: most(|each| each.waiting_peak),
        queued_peak: most(|each| each.queued_peak),
        reconnected: sum(each().map(|each| each.reconnected)),
        connect_pauses: sum_of_all(each().map(|each| each.connect_pauses)),
        established_mean: each().map(|each| each.established_mean).sum(),
        in_flight_mean: each().map(|each| each.in_flight_mean).sum(),
        never_answered: sum_of_all(each().map(|each| each.never_answered)),
    }
}

/// `None` unless all of them were measured.
fn sum_of_all(counts: impl Iterator<Item = Option<u64>>) -> Option<u64> {
    counts.collect::<Option<Vec<_>>>().map(sum)
}

fn total(errors: impl Iterator<Item = Errors>) -> Errors {
    errors.fold(Errors::default(), |mut sum, errors| {
        sum += errors;
        sum
    })
}

fn rate(runs: &[&RunResult]) -> Option<Rate> {
    runs.iter().map(|run| run.rate).collect::<Option<Vec<_>>>()?.into_iter().reduce(Rate::add)
}

/// The server's RAM as seen by the load generator with the highest peak; parts from different ones would not add up.
fn memory(runs: &[&RunResult], connections: &Connections) -> Memory {
    let most = runs.iter().map(|run| &run.memory).max_by_key(|memory| memory.peak_bytes);
    let mut memory = most.cloned().unwrap_or_default();
    // Only the first to connect finds the server idle.
    memory.idle_bytes = runs.iter().filter_map(|run| run.memory.idle_bytes).min();
    memory.per_connection_bytes = memory.added_per_connection_bytes(connections.open());
    memory
}

/// Row by row, as far as all have one. A second's percentiles come without a histogram, so they cannot be merged.
fn series(runs: &[&RunResult]) -> Vec<Second> {
    let rows = runs.iter().map(|run| run.series.len()).min().unwrap_or(0);
    let row = |at: usize| {
        let each = || runs.iter().map(|run| run.series[at]);
        Second {
            end_s: each().map(|row| row.end_s).fold(0.0, f64::max),
            rps: each().map(|row| row.rps).sum(),
            p50_us: None,
            p99_us: None,
            errors: sum(each().map(|row| row.errors)),
            open: each().filter_map(|row| row.open).max(),
            held: each().filter_map(|row| row.held).max(),
            ram_bytes: each().filter_map(|row| row.ram_bytes).max(),
        }
    };
    (0..rows).map(row).collect()
}

/// Every distinct warning, and one more if the runs should not have been merged.
fn warnings(runs: &[&RunResult]) -> Vec<Warning> {
    let mut warnings: Vec<Warning> = Vec::new();
    for warning in runs.iter().flat_map(|run| &run.warnings) {
        if !warnings.contains(warning) {
            warnings.push(warning.clone());
        }
    }
    if let Some(apart) = apart(runs) {
        let text =
            format!("the merged runs began {apart:?} apart, longer than they measured: their figures do not add up");
        warnings.push(Warning::new(WarningKind::Merge, text));
    }
    warnings
}

/// How far apart the runs began, if too far to have been measured at the same time.
fn apart(runs: &[&RunResult]) -> Option<Duration> {
    let starts = || runs.iter().filter_map(|run| humantime::parse_rfc3339(&run.started_at).ok());
    let apart = starts().max()?.duration_since(starts().min().unwrap_or(SystemTime::UNIX_EPOCH)).ok()?;
    let longest_s = runs.iter().filter_map(|run| run.duration_s).fold(0.0, f64::max);
    (apart.as_secs_f64() > longest_s).then_some(apart)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::ErrorKind;
    use crate::samples::{sample, source};
    use crate::settings::LoadSettings;

    /// A run of 5,000 connections with every answer after `latency_ms`.
    fn worker(answers: usize, latency_ms: u64) -> RunResult {
        let mut latencies = Latencies::new();
        (0..answers).for_each(|_| latencies.record_answered(latency_ms * 1000, true));
        let mut run = sample("threads");
        run.histograms = Some(latencies.encode().unwrap());
        run.requests = answers as u64;
        run.rps = Some(answers as f64 / 6.0);
        (run.connections.requested, run.connections.established) = (5_000, 5_000);
        run
    }

    fn merge_two(one: RunResult, other: RunResult) -> Result<RunResult> {
        Ok(merge(&[source("a", vec![one]), source("b", vec![other])])?.remove(0))
    }

    #[test]
    fn percentiles_come_from_all_requests_not_from_averages() {
        let merged = merge_two(worker(9_000, 1_001), worker(1_000, 3_000)).unwrap();
        let (latency, above) = (merged.latency_us.unwrap(), merged.above_wait_us.unwrap());
        assert!((1_000_900..=1_001_100).contains(&latency.p50), "{latency:?}");
        assert!((1_000_900..=1_001_100).contains(&latency.p90), "{latency:?}");
        assert!((2_999_000..=3_001_000).contains(&latency.p99), "{latency:?}");
        assert_eq!(above.p99, latency.p99 - 1_000_000);
        assert_eq!((merged.requests, merged.rps.map(f64::round)), (10_000, Some(1_667.0)));
        let histograms = Latencies::decode(&merged.histograms.unwrap()).unwrap();
        assert_eq!(histograms.answered(), 10_000);
    }

    #[test]
    fn client_figures_add_up_and_server_figures_do_not() {
        let (mut one, mut other) = (worker(10, 1_001), worker(10, 1_002));
        (one.errors.timeout, other.errors.timeout, other.errors.read) = (1, 2, 3);
        (one.memory.peak_bytes, one.memory.pss_bytes) = (Some(7_000_000), Some(5_000_000));
        other.memory =
            Memory { peak_bytes: Some(6_000_000), idle_bytes: Some(9), pss_bytes: Some(6), ..Memory::default() };
        (one.server.cpu_s, other.server.cpu_s) = (Some(2.0), None);
        (one.client.cpu_s, other.client.cpu_s) = (Some(1.5), Some(1.0));
        let (same, own) = (Warning::new(WarningKind::BusyMachine, "busy"), Warning::new(WarningKind::Failures, "5"));
        (one.warnings, other.warnings) = (vec![same.clone()], vec![same.clone(), own.clone()]);
        (other.complete, other.failure) = (false, Some("interrupted".into()));
        other.series.truncate(1);
        let rps = one.series[0].rps + other.series[0].rps;
        let merged = merge_two(one, other).unwrap();
        assert_eq!((merged.errors.timeout, merged.errors.total()), (3, 6));
        let connections = merged.connections;
        assert_eq!([connections.requested, connections.established], [10_000; 2]);
        assert_eq!(connections.held_peak, Some(10_000));
        let memory = &merged.memory;
        assert_eq!([memory.peak_bytes, memory.pss_bytes, memory.idle_bytes], [7_000_000, 5_000_000, 9].map(Some));
        assert_eq!(memory.per_connection_bytes, Some(699));
        assert_eq!((merged.server.cpu_s, merged.client.cpu_s), (Some(2.0), Some(2.5)));
        assert_eq!(merged.warnings, [same, own]);
        assert_eq!((merged.complete, merged.failure.as_deref()), (false, Some("interrupted")));
        assert_eq!((merged.series.len(), merged.series[0].rps, merged.series[0].p50_us), (1, rps, None));
    }

    /// The same run with this value for each count.
    fn with_counts(run: &RunResult, value: u64) -> RunResult {
        fn replace(json: &mut serde_json::Value, value: u64) {
            match json {
                serde_json::Value::Number(number) if number.is_u64() => *json = value.into(),
                serde_json::Value::Array(entries) => entries.iter_mut().for_each(|entry| replace(entry, value)),
                serde_json::Value::Object(fields) => fields.values_mut().for_each(|field| replace(field, value)),
                _ => {}
            }
        }
        let mut json = serde_json::to_value(run).unwrap();
        json["round"] = serde_json::Value::Null;
        replace(&mut json, value);
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn counts_that_nobody_can_have_measured_do_not_overflow() {
        let mut one = worker(10, 1_001);
        one.rate = Some(Rate::new(1, 1, 1));
        one.load = Some(LoadSettings { rate: Some(1), ..LoadSettings::default() });
        one.error_reasons = vec![ErrorReason { kind: ErrorKind::Read, reason: "cut off".into(), count: 1 }];
        one.memory.uncharged_sockets_bytes = Some(1);
        let one = with_counts(&one, u64::MAX);
        let merged = merge_two(one.clone(), RunResult { started_at: String::new(), ..one }).unwrap();
        assert_eq!(
            (merged.requests, merged.errors.total(), merged.connections.requested),
            (u64::MAX, u64::MAX, usize::MAX)
        );
        assert_eq!((merged.rate.unwrap().due, merged.error_reasons[0].count), (u64::MAX, u64::MAX));
        let memory = &merged.memory;
        assert_eq!([memory.ledger_total_bytes(), memory.known_parts_bytes()], [Some(u64::MAX); 2]);
        assert_eq!(memory.unledgered_kernel_bytes(), Some(0));
        let mut memory = Memory { uncharged_sockets_bytes: None, ..memory.clone() };
        memory.add_uncharged(u64::MAX);
        assert_eq!(memory.peak_bytes, Some(u64::MAX));
    }

    #[test]
    fn runs_at_different_times_get_a_warning() {
        let (one, mut other) = (worker(10, 1_001), worker(10, 1_001));
        "2026-11-25T18:39:13Z".clone_into(&mut other.started_at);
        let merged = merge_two(one, other).unwrap();
        assert!(merged.warnings.iter().any(|warning| warning.kind == WarningKind::Merge), "{:?}", merged.warnings);
        let merged = merge_two(worker(10, 1_001), worker(11, 1_001)).unwrap();
        assert_eq!(merged.warnings, []);
    }

    #[test]
    fn a_run_is_not_merged_with_itself() {
        let error = merge_two(worker(10, 1_001), worker(10, 1_001)).unwrap_err().to_string();
        assert!(error.contains("run 1 is the same in a and b"), "{error}");
    }

    #[test]
    fn only_counterparts_with_histograms_are_merged() {
        let error = |one, other| merge_two(one, other).unwrap_err().to_string();
        assert!(
            error(sample("threads"), sample("threadpool"))
                .contains("run 1 measures threads, database wait 1s in a, but threadpool")
        );
        let without = RunResult { histograms: None, ..sample("threads") };
        assert!(error(sample("threads"), without.clone()).contains("has no histograms"));
        // A run without any answer has nothing to add.
        merge_two(sample("threads"), RunResult { requests: 0, ..without }).unwrap();
        let (one, two) = (vec![sample("threads")], vec![sample("threads"); 2]);
        let error = merge(&[source("a", one.clone()), source("b", two)]).unwrap_err().to_string();
        assert!(error.contains("a holds 1 runs and b 2"), "{error}");
        assert!(merge(&[source("a", one)]).unwrap_err().to_string().contains("several"));
    }
}
