//! From what the users saw to the figures of the result, and what the reader should doubt about them.

use std::sync::Arc;
use std::time::Duration;

use crate::latency::{Distribution, Latencies};
use crate::load::Load;
use crate::machine;
use crate::result::{AboveWait, Connections, Latency, Memory, RunResult};
use crate::warning::{Doubt, Warning};

/// How well this program was optimised: see `build.rs`.
const OPT_LEVEL: &str = env!("OPT_LEVEL");
/// How far off Little's law may be: the ends of the window, and what no latency includes between answer and next request.
const LITTLE_TOLERANCE: f64 = 0.1;
/// With fewer, the RAM of each cannot be told.
const MIN_CONNECTIONS: u64 = 1_000;

/// Works out the figures, once the users of all `loads` have ended. The database waits for `fixed_wait`, unless that is drawn
/// at random, or not known.
pub(crate) fn conclude(loads: &[Arc<Load>], fixed_wait: Option<Duration>, result: &mut RunResult) {
    let mut latencies = Latencies::new();
    let mut shortages = (0, 0);
    let mut lag = None;
    for load in loads {
        let (of_load, in_flight) = load.conclude();
        latencies += &of_load;
        result.in_flight += in_flight;
        result.connections.established += load.established();
        result.connections.reconnected += load.reconnected();
        let (errors_before, errors) = load.errors();
        result.errors_before += errors_before;
        result.errors += errors;
        let (ports, descriptors) = load.shortages();
        shortages = (shortages.0 + ports, shortages.1 + descriptors);
        let lag_p99_us = load.lag.histogram().value_at_quantile(0.99);
        lag = lag.max(Some(lag_p99_us));
    }
    result.client.lag_p99_us = lag;
    result.requests = latencies.answered();
    result.duration_s = loads.first().and_then(|load| load.window()).map(|window| window.as_secs_f64());
    result.rps = result.duration_s.filter(|&time| time > 0.0).map(|time| result.requests as f64 / time);
    let fixed_wait = fixed_wait.filter(|wait| !wait.is_zero());
    result.rps_ceiling = fixed_wait.map(|wait| result.connections.waiting_peak as f64 / wait.as_secs_f64());
    result.client.rss_peak_bytes = meter::rss_peak_bytes(std::process::id() as i32).ok();
    // Only our own servers are asked how many are open.
    let connections = result.connections.open_peak.max(result.connections.established as u64);
    result.memory.per_connection_bytes = per_connection_bytes(&result.memory, connections);
    conclude_latency(&latencies, fixed_wait, result);
    check_ceiling(fixed_wait, result);
    result.histograms = latencies.encode().ok();
    warn_of_load(fixed_wait, result);
    warn_of_client(loads, shortages, result);
}

/// What the connections added, each; nothing if they are so few that the coarseness of the figures shows: a cgroup v1 is
/// charged 256 KiB at a time and CPU.
pub(crate) fn per_connection_bytes(memory: &Memory, connections: u64) -> Option<u64> {
    let added = memory.peak_bytes?.saturating_sub(memory.idle_bytes?);
    (connections >= MIN_CONNECTIONS).then(|| added / connections)
}

/// Nobody answers more often than what waits at once allows: each place can give an answer for every wait within the window,
/// and one more that was waiting when the window began. So it is at most one wait's worth of answers above the ceiling,
/// and beyond that something was counted wrongly.
fn check_ceiling(fixed_wait: Option<Duration>, result: &mut RunResult) {
    let (Some(ceiling), Some(wait), Some(duration_s)) = (result.rps_ceiling, fixed_wait, result.duration_s) else {
        return;
    };
    let possible = ceiling * (duration_s + wait.as_secs_f64());
    if result.requests as f64 > possible {
        let text = format!("impossible: {} answers, where what waited at once allows {possible:.0}", result.requests);
        result.warnings.push(Doubt::AboveCeiling.because(text.clone()));
        result.failure.get_or_insert(text);
    }
}

/// The percentiles, of the latency and of what is above a fixed wait.
pub(crate) fn conclude_latency(latencies: &Latencies, fixed_wait: Option<Duration>, result: &mut RunResult) {
    let Some(distribution) = latencies.distribution() else { return };
    let latency = latency(&distribution);
    result.above_wait_us = fixed_wait.map(|wait| {
        let above = |latency_us: u64| latency_us.saturating_sub(wait.as_micros() as u64);
        let Latency { p50, p90, p99, p999, max, .. } = latency;
        AboveWait { p50: above(p50), p90: above(p90), p99: above(p99), p999: above(p999), max: above(max) }
    });
    result.latency_us = Some(latency);
}

fn latency(distribution: &Distribution) -> Latency {
    let mut lower_bounds = Vec::new();
    let mut quantile = |name, quantile| {
        let bounded = distribution.quantile_us(quantile);
        if bounded.is_lower_bound {
            lower_bounds.push(String::from(name));
        }
        bounded.value
    };
    let (p50, p75, p90) = (quantile("p50", 0.5), quantile("p75", 0.75), quantile("p90", 0.9));
    let (p99, p999) = (quantile("p99", 0.99), quantile("p999", 0.999));
    let (mean, max) = (distribution.mean_us(), distribution.max_us());
    if max.is_lower_bound {
        lower_bounds.extend(["max", "mean", "stdev"].map(String::from));
    }
    let (min, stdev, mean, max) = (distribution.min_us(), distribution.stdev_us(), mean.value, max.value);
    Latency { min, mean, stdev, p50, p75, p90, p99, p999, max, lower_bounds }
}

/// Says what the reader should doubt of what was held and answered.
fn warn_of_load(fixed_wait: Option<Duration>, result: &mut RunResult) {
    let Connections { requested, established, held_peak, held_mean, .. } = result.connections;
    let warnings = &mut result.warnings;
    if established < requested {
        let text = format!("only {established} of {requested} connections were established");
        warnings.push(Doubt::FewerEstablished.because(text));
    }
    // Only of a server that was asked.
    if result.complete && held_mean.is_some() && held_peak < established as u64 {
        let text = format!("the server held at most {held_peak} of {established} requests at once");
        warnings.push(Doubt::FewerHeld.because(text));
    }
    let failed = result.errors_before.total() + result.errors.total();
    if failed > 0 {
        warnings.push(Doubt::Failures.because(format!("{failed} requests or connections failed")));
    }
    if result.complete && result.requests == 0 {
        let text = "nothing was answered within the measured time: -d and --timeout must exceed the wait";
        warnings.push(Doubt::NothingAnswered.because(text));
    }
    if let Some(latency) = &result.latency_us {
        let bounds = &latency.lower_bounds;
        if !bounds.is_empty() {
            let remedy = if result.errors.timeout > 0 { "a longer --timeout" } else { "a longer -d" };
            let text = format!("{} are lower bounds, for want of answers: try {remedy}", bounds.join(", "));
            warnings.push(Doubt::LowerBounds.because(text));
        }
        let wait_us = fixed_wait.map_or(0, |wait| wait.as_micros() as u64);
        // A histogram rounds to four digits.
        if latency.min + latency.min / 1000 < wait_us {
            let text = format!("an answer came after {} us, before the database had answered", latency.min);
            warnings.push(Doubt::TooFast.because(text));
        }
    }
}

/// Says what the reader should doubt of the load generator.
fn warn_of_client(loads: &[Arc<Load>], (ports, descriptors): (u64, u64), result: &mut RunResult) {
    let lag = result.client.lag_p99_us.and_then(|lag_us| machine::lag_doubt(lag_us, result));
    let is_closed_loop = loads.iter().all(|load| load.plan.is_closed_loop());
    let little = littles_law(result).filter(|_| is_closed_loop);
    let warnings = &mut result.warnings;
    warnings.extend(lag);
    warnings.extend(little);
    if ports > 0 {
        let text = format!(
            "{ports} times there was no port to connect from: net.ipv4.ip_local_port_range is too small, or ports wait in \
             TIME_WAIT, because this end closed first; wait a minute, or widen the range"
        );
        warnings.push(Doubt::ShortOfPorts.because(text));
    }
    if descriptors > 0 {
        let text = format!("{descriptors} times there was no descriptor to connect with: raise `ulimit -n`");
        warnings.push(Doubt::ShortOfDescriptors.because(text));
    }
    if OPT_LEVEL == "0" {
        let text = "this load generator is a debug build, which measures itself: use the dev or release profile of its workspace";
        warnings.push(Doubt::DebugBuild.because(text));
    }
}

/// Requests a second times mean latency is how many requests were in flight (Little's law): one for each connection, if each
/// sends again as soon as it has an answer. If it is another number, something is not in the latencies.
fn littles_law(result: &RunResult) -> Option<Warning> {
    let latency = result.latency_us.as_ref()?;
    let connections = result.connections.established as f64;
    let is_mean_open = latency.lower_bounds.iter().any(|bound| bound == "mean");
    if !result.complete || is_mean_open || result.errors.total() > 0 || connections == 0.0 {
        return None;
    }
    let in_flight = result.rps? * latency.mean / 1e6;
    ((in_flight / connections - 1.0).abs() > LITTLE_TOLERANCE).then(|| {
        let text = format!(
            "requests/s x mean latency is {in_flight:.0}, but {connections:.0} connections sent without pause (Little's law): \
             some time is missing in the latencies, or was spent between requests"
        );
        Doubt::LittlesLaw.because(text)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::sample;

    /// Ten waits at once, each 100 ms, for a second.
    fn failure_with(requests: u64) -> Option<String> {
        let mut result = RunResult { requests, rps_ceiling: Some(100.0), duration_s: Some(1.0), ..sample("threads") };
        check_ceiling(Some(Duration::from_millis(100)), &mut result);
        assert_eq!(result.failure.is_some(), result.warnings.iter().any(|warning| warning.kind == Doubt::AboveCeiling));
        result.failure
    }

    #[test]
    fn more_answers_than_can_be_are_a_failure() {
        assert_eq!(failure_with(100), None);
        // Each of the ten was waiting already when the second began, for nearly as long as it takes.
        assert_eq!(failure_with(110), None);
        assert!(failure_with(111).unwrap().starts_with("impossible: 111 answers"));
    }
}
