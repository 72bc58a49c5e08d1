//! Computes the figures of the result.

use std::time::Duration;

use hdrhistogram::Histogram;
use load::Outcome;
use results::run::{ErrorKind, ErrorReason, RunResult};
use results::{Warning, WarningKind};

use super::doubts::{self, Premises};

/// Computes the figures of the result, once the users have ended. With `late_after`, slower answers count as timeouts.
pub(super) fn conclude(outcome: &Outcome, late_after: Option<Duration>, result: &mut RunResult) {
    result.in_flight = outcome.in_flight;
    result.connections.established = outcome.established;
    result.connections.reconnected = outcome.reconnected;
    result.connections.connect_pauses = Some(outcome.connect_pauses);
    result.connections.never_answered = outcome.window.map(|_| outcome.never_answered);
    result.connections.established_mean = mean_over_window(outcome, |window_us| {
        (outcome.established as f64 * window_us) - outcome.established_late_us as f64
    });
    if outcome.is_closed_loop {
        result.connections.in_flight_mean = mean_over_window(outcome, |_| outcome.in_flight_time_us);
    }
    (result.errors_before, result.errors) = (outcome.errors_before, outcome.errors);
    result.rate = outcome.rate;
    let late = late_after.map_or(0, |limit| count_later(outcome, limit));
    result.errors.timeout += late;
    let late_reason = ErrorReason { kind: ErrorKind::Timeout, reason: "answered after --timeout".into(), count: late };
    let reasons = outcome.error_reasons.iter().chain((late > 0).then_some(&late_reason));
    result.error_reasons = ErrorReason::merge(reasons);
    result.client.lag_p99_us = outcome.lag_p99_us;
    result.client.rss_peak_bytes = meter::rss_peak_bytes(std::process::id() as i32).ok();
    result.requests = outcome.latencies.answered();
    result.duration_s = outcome.window.map(|window| window.as_secs_f64());
    result.rps = result.duration_s.filter(|&time| time > 0.0).map(|time| result.requests as f64 / time);
    let fixed_wait = result.wait.fixed();
    let waiting = fixed_wait.zip(result.connections.waiting_peak);
    result.rps_ceiling = waiting.map(|(wait, waiting_peak)| waiting_peak as f64 / wait.as_secs_f64());
    // All connections are open for most of the window.
    let uncharged_bytes = result.memory.uncharged_sockets_bytes.unwrap_or(0);
    result.series.iter_mut().for_each(|second| second.ram_bytes = second.ram_bytes.map(|ram| ram + uncharged_bytes));
    let connections = result.connections.open();
    result.memory.per_connection_bytes = result.memory.added_per_connection_bytes(connections);
    result.latency_us = outcome.latencies.distribution().map(|distribution| distribution.summary());
    result.above_wait_us = result.latency_us.as_ref().zip(fixed_wait).map(|(latency, wait)| latency.above(wait));
    check_ceiling(fixed_wait, result);
    if let Some(elsewhere) = &outcome.elsewhere {
        result.client = elsewhere.client;
        result.fleet = Some(elsewhere.fleet.clone());
        result.warnings.extend(elsewhere.warnings.iter().cloned());
    }
    result.histograms = outcome.latencies.encode().ok();
    // Without an own limit on answers, the users wait for every one; slower ones are counted afterwards.
    let premises = Premises { fixed_wait, users_give_up: late_after.is_none() };
    let doubts = doubts::find(outcome, premises, result);
    result.warnings.extend(doubts);
}

/// The mean of a number of connections over the window, from its integral over the time.
fn mean_over_window(outcome: &Outcome, integral: impl Fn(f64) -> f64) -> Option<f64> {
    let window_us = outcome.window?.as_secs_f64() * 1e6;
    (window_us > 0.0).then(|| (integral(window_us) / window_us).max(0.0))
}

/// How many answers took longer than `limit`.
fn count_later(outcome: &Outcome, limit: Duration) -> u64 {
    let limit_us = limit.as_micros() as u64;
    let answers = outcome.latencies.all_answers().into_iter().flat_map(Histogram::iter_recorded);
    answers.filter(|step| step.value_iterated_to() > limit_us).map(|step| step.count_at_value()).sum()
}

/// Fails a run with more answers than the requests waiting at once allow. Each place gives one answer per wait within
/// the window, plus one that was already waiting when it opened. So the total is at most one wait's worth of answers
/// above the ceiling; more means that something was miscounted.
fn check_ceiling(fixed_wait: Option<Duration>, result: &mut RunResult) {
    let (Some(ceiling), Some(wait), Some(duration_s)) = (result.rps_ceiling, fixed_wait, result.duration_s) else {
        return;
    };
    let possible = ceiling * (duration_s + wait.as_secs_f64());
    if result.requests as f64 > possible {
        let text = format!(
            "impossible: {} answers, but the requests waiting at once allow only {possible:.0}",
            result.requests
        );
        result.warnings.push(Warning::new(WarningKind::AboveCeiling, text.clone()));
        result.failure.get_or_insert(text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use results::samples::sample;

    /// Ten waits of 100 ms at once, for a second.
    fn failure_with(requests: u64) -> Option<String> {
        let mut result = RunResult { requests, rps_ceiling: Some(100.0), duration_s: Some(1.0), ..sample("threads") };
        check_ceiling(Some(Duration::from_millis(100)), &mut result);
        assert_eq!(
            result.failure.is_some(),
            result.warnings.iter().any(|warning| warning.kind == WarningKind::AboveCeiling)
        );
        result.failure
    }

    #[test]
    fn more_answers_than_possible_are_a_failure() {
        assert_eq!(failure_with(100), None);
        // Each of the ten was already near the end of a wait when the second began.
        assert_eq!(failure_with(110), None);
        assert!(failure_with(111).unwrap().starts_with("impossible: 111 answers"));
    }
}
