//! Computes the figures of the result, and warns where they are doubtful.

use std::time::Duration;

use hdrhistogram::Histogram;
use load::Outcome;
use results::run::{Connections, RunResult};
use results::{Warning, WarningKind};

use crate::machine::usage;

/// The optimisation level of this program: see `build.rs`.
const OPT_LEVEL: &str = env!("OPT_LEVEL");
/// How far off Little's law may be, because of the ends of the window and the time between an answer and the next
/// request.
const LITTLE_TOLERANCE: f64 = 0.1;

/// Computes the figures of the result, once the users have ended. With `late_after`, slower answers count as timeouts.
pub(super) fn conclude(outcome: &Outcome, late_after: Option<Duration>, result: &mut RunResult) {
    result.in_flight = outcome.in_flight;
    result.connections.established = outcome.established;
    result.connections.reconnected = outcome.reconnected;
    (result.errors_before, result.errors) = (outcome.errors_before, outcome.errors);
    result.errors.timeout += late_after.map_or(0, |limit| count_later(outcome, limit));
    result.client.lag_p99_us = outcome.lag_p99_us;
    result.client.rss_peak_bytes = meter::rss_peak_bytes(std::process::id() as i32).ok();
    result.requests = outcome.latencies.answered();
    result.duration_s = outcome.window.map(|window| window.as_secs_f64());
    result.rps = result.duration_s.filter(|&time| time > 0.0).map(|time| result.requests as f64 / time);
    let fixed_wait = result.wait.fixed();
    result.rps_ceiling = fixed_wait.map(|wait| result.connections.waiting_peak as f64 / wait.as_secs_f64());
    // Only this project's servers report how many are open.
    let connections = result.connections.open_peak.max(result.connections.established as u64);
    result.memory.per_connection_bytes = result.memory.added_per_connection_bytes(connections);
    result.latency_us = outcome.latencies.distribution().map(|distribution| distribution.summary());
    result.above_wait_us = result.latency_us.as_ref().zip(fixed_wait).map(|(latency, wait)| latency.above(wait));
    check_ceiling(fixed_wait, result);
    result.histograms = outcome.latencies.encode().ok();
    warn_of_load(fixed_wait, result);
    warn_of_client(outcome, result);
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

/// Warns about doubtful counts of connections and answers.
fn warn_of_load(fixed_wait: Option<Duration>, result: &mut RunResult) {
    let Connections { requested, established, held_peak, held_mean, .. } = result.connections;
    let warnings = &mut result.warnings;
    if established < requested {
        let text = format!("only {established} of {requested} connections were established");
        warnings.push(Warning::new(WarningKind::FewerEstablished, text));
    }
    // Only for a server that reports what it holds.
    if result.complete && held_mean.is_some() && held_peak < established as u64 {
        let text = format!("the server held at most {held_peak} of {established} requests at once");
        warnings.push(Warning::new(WarningKind::FewerHeld, text));
    }
    let failed = result.errors_before.total() + result.errors.total();
    if failed > 0 {
        warnings.push(Warning::new(WarningKind::Failures, format!("{failed} requests or connections failed")));
    }
    if result.complete && result.requests == 0 {
        let text = "nothing was answered within the measured time: -d and --timeout must exceed the wait";
        warnings.push(Warning::new(WarningKind::NothingAnswered, text));
    }
    if let Some(latency) = &result.latency_us {
        let bounds = &latency.lower_bounds;
        if !bounds.is_empty() {
            let remedy = if result.errors.timeout > 0 { "a longer --timeout" } else { "a longer -d" };
            let text = format!(
                "{} are only lower bounds, because too few requests were answered: try {remedy}",
                bounds.join(", ")
            );
            warnings.push(Warning::new(WarningKind::LowerBounds, text));
        }
        let wait_us = fixed_wait.map_or(0, |wait| wait.as_micros() as u64);
        // A histogram rounds to four digits.
        if latency.min + latency.min / 1000 < wait_us {
            let text = format!("an answer arrived after {} us, before the database could have answered", latency.min);
            warnings.push(Warning::new(WarningKind::TooFast, text));
        }
    }
}

/// Warns about a doubtful load generator.
fn warn_of_client(outcome: &Outcome, result: &mut RunResult) {
    let mean_us = result.latency_us.as_ref().map(|latency| latency.mean);
    let lag = outcome.lag_p99_us.zip(mean_us).and_then(|(lag_us, mean_us)| usage::lag_warning(lag_us, mean_us));
    let little = littles_law(result).filter(|_| outcome.is_closed_loop);
    let warnings = &mut result.warnings;
    warnings.extend(lag);
    warnings.extend(little);
    let (ports, descriptors) = (outcome.port_shortages, outcome.descriptor_shortages);
    if ports > 0 {
        let text = format!(
            "no port was left to connect from, {ports} times: net.ipv4.ip_local_port_range is too small, or ports are in \
             TIME_WAIT because this end closed first; wait a minute, or widen the range"
        );
        warnings.push(Warning::new(WarningKind::ShortOfPorts, text));
    }
    if descriptors > 0 {
        let text = format!("no file descriptor was left to connect with, {descriptors} times: raise `ulimit -n`");
        warnings.push(Warning::new(WarningKind::ShortOfDescriptors, text));
    }
    if OPT_LEVEL == "0" {
        let text =
            "this load generator is a debug build and measures itself: use the dev or release profile of its workspace";
        warnings.push(Warning::new(WarningKind::DebugBuild, text));
    }
}

/// Requests per second times mean latency is the number of requests in flight (Little's law), which is one per
/// connection if each sends without pause. Any other number means that the latencies miss something.
fn littles_law(result: &RunResult) -> Option<Warning> {
    let latency = result.latency_us.as_ref()?;
    let connections = result.connections.established as f64;
    let is_mean_open = latency.is_lower_bound("mean");
    if !result.complete || is_mean_open || result.errors.total() > 0 || connections == 0.0 {
        return None;
    }
    let in_flight = result.rps? * latency.mean / 1e6;
    ((in_flight / connections - 1.0).abs() > LITTLE_TOLERANCE).then(|| {
        let text = format!(
            "requests/s x mean latency is {in_flight:.0}, but {connections:.0} connections sent without pause (Little's law): \
             the latencies miss some time, or it was spent between requests"
        );
        Warning::new(WarningKind::LittlesLaw, text)
    })
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
