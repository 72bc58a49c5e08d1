//! From what the users saw to the figures of the result, and what the reader should doubt about them.

use std::time::Duration;

use crate::args::Options;
use crate::latency::{Distribution, Latencies};
use crate::load::Load;
use crate::result::{AboveWait, Connections, Latency, Memory, RunResult};
use crate::warning::Doubt;

/// With fewer, the RAM of each cannot be told.
const MIN_CONNECTIONS: u64 = 1_000;

/// Works out the figures, once the users have ended.
pub(crate) fn conclude(load: &Load, options: &Options, result: &mut RunResult) {
    let (latencies, in_flight) = load.conclude();
    result.connections.established = load.established();
    result.connections.reconnected = load.reconnected();
    (result.errors_before, result.errors) = load.errors();
    result.in_flight = in_flight;
    result.requests = latencies.answered();
    result.duration_s = load.window().map(|window| window.as_secs_f64());
    result.rps = result.duration_s.filter(|&time| time > 0.0).map(|time| result.requests as f64 / time);
    let fixed_wait = options.fixed_wait().filter(|wait| !wait.is_zero());
    result.rps_ceiling = fixed_wait.map(|wait| result.connections.waiting_peak as f64 / wait.as_secs_f64());
    result.client.rss_peak_bytes = meter::rss_peak_bytes(std::process::id() as i32).ok();
    result.memory.per_connection_bytes = per_connection_bytes(&result.memory, result.connections.open_peak);
    conclude_latency(&latencies, fixed_wait, result);
    result.histograms = latencies.encode().ok();
    warn(options, result);
}

/// What the connections added, each; nothing if they are so few that the coarseness of the figures shows: a cgroup v1 is
/// charged 256 KiB at a time and CPU.
fn per_connection_bytes(memory: &Memory, connections: u64) -> Option<u64> {
    let added = memory.peak_bytes?.saturating_sub(memory.idle_bytes?);
    (connections >= MIN_CONNECTIONS).then(|| added / connections)
}

fn conclude_latency(latencies: &Latencies, fixed_wait: Option<Duration>, result: &mut RunResult) {
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

/// Says what the reader should doubt.
fn warn(options: &Options, result: &mut RunResult) {
    let Connections { requested, established, held_peak, .. } = result.connections;
    let warnings = &mut result.warnings;
    if established < requested {
        let text = format!("only {established} of {requested} connections were established");
        warnings.push(Doubt::FewerEstablished.because(text));
    }
    if result.complete && held_peak < established as u64 {
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
        let wait_us = options.fixed_wait().map_or(0, |wait| wait.as_micros() as u64);
        // A histogram rounds to four digits.
        if latency.min + latency.min / 1000 < wait_us {
            let text = format!("an answer came after {} us, before the database had answered", latency.min);
            warnings.push(Doubt::TooFast.because(text));
        }
    }
}
