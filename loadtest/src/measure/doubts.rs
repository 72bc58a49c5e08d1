//! Reasons to doubt what the users observed.

use std::time::Duration;

use load::Outcome;
use quantity::format;
use results::run::{Connections, ErrorReason, Rate, RunResult};
use results::{Warning, WarningKind};

use crate::machine::usage;

/// How far off Little's law may be, because of the ends of the window and the time between an answer and the next
/// request.
const LITTLE_TOLERANCE: f64 = 0.1;
/// The share of the requests due that must be sent.
const RATE_TOLERANCE: f64 = 0.99;
/// How far apart the workers of a run may start.
const START_SKEW_US: u64 = 10_000;
const REASONS_IN_WARNING: usize = 3;

/// What is known of the run apart from its figures.
#[derive(Clone, Copy, Debug)]
pub(super) struct Premises {
    /// What every query takes, if that is known.
    pub(super) fixed_wait: Option<Duration>,
    /// Whether users give up on a request after `--timeout`.
    pub(super) users_give_up: bool,
}

/// The reasons to doubt a result whose figures are computed.
pub(super) fn find(outcome: &Outcome, premises: Premises, result: &RunResult) -> Vec<Warning> {
    let skew = start_skew(result).into_iter().collect();
    [of_load(premises, result), of_latency(premises, result), of_client(outcome, result), skew].concat()
}

/// Doubtful counts of connections and answers.
fn of_load(premises: Premises, result: &RunResult) -> Vec<Warning> {
    let Connections { requested, established, held_peak, held_mean, .. } = result.connections;
    let mut warnings = Vec::new();
    if established < requested {
        let text = format!("only {established} of {requested} connections were established");
        warnings.push(Warning::new(WarningKind::FewerEstablished, text));
    }
    // Only for a server that reports what it holds, and only if all send at once.
    if let Some(held_peak) = held_peak
        .filter(|held| result.complete && held_mean.is_some() && *held < established as u64 && result.rate.is_none())
    {
        let text = format!("the server held at most {held_peak} of {established} requests at once");
        warnings.push(Warning::new(WarningKind::FewerHeld, text));
    }
    if result.complete && result.requests == 0 {
        let limits = if premises.users_give_up { "-d and --timeout" } else { "-d" };
        let text = format!("nothing was answered within the measured time: {limits} must exceed what an answer takes");
        warnings.push(Warning::new(WarningKind::NothingAnswered, text));
    }
    let never_answered = result.connections.never_answered.unwrap_or_default();
    if result.complete && never_answered > 0 {
        let text = format!("{never_answered} of {established} connections got no answer within the measured time");
        warnings.push(Warning::new(WarningKind::NeverAnswered, text));
    }
    warnings.extend(failures(result));
    warnings.extend(rate_missed(result));
    warnings
}

/// What failed, and the most frequent reasons.
fn failures(result: &RunResult) -> Option<Warning> {
    let failed = result.errors_before.total() + result.errors.total();
    if failed == 0 {
        return None;
    }
    let reason = |reason: &ErrorReason| format!("{} × {}", reason.count, reason.reason);
    let reasons = result.error_reasons.iter().take(REASONS_IN_WARNING).map(reason);
    let mut text = format!("{failed} requests or connections failed: {}", reasons.collect::<Vec<_>>().join(", "));
    if result.error_reasons.len() > REASONS_IN_WARNING {
        text += ", and other reasons";
    }
    if let Some(pauses @ 1..) = result.connections.connect_pauses {
        text += &format!("; users paused {pauses} times before they tried again");
    }
    Some(Warning::new(WarningKind::Failures, text))
}

/// With a rate: that the server did not keep up, or this load generator.
fn rate_missed(result: &RunResult) -> Option<Warning> {
    let Rate { due, sent, sent_share, .. } = result.rate?;
    sent_share.filter(|share| *share < RATE_TOLERANCE).map(|share| {
        let text = format!(
            "the rate was missed: {sent} of {due} requests due were sent ({:.0} %), because earlier ones on the same \
             connections had no answer yet; latencies count from when a request was due: use more connections, or a lower \
             rate",
            share * 100.0
        );
        Warning::new(WarningKind::RateMissed, text)
    })
}

/// Latencies that are uncertain or impossible.
fn of_latency(premises: Premises, result: &RunResult) -> Vec<Warning> {
    let Some(latency) = &result.latency_us else { return Vec::new() };
    let mut warnings = Vec::new();
    let open: Vec<_> = latency.lower_bounds.iter().filter(|name| !latency.upper_ends.contains_key(*name)).collect();
    if !open.is_empty() {
        let has_given_up = premises.users_give_up && result.errors.timeout > 0;
        let remedy = if has_given_up { "a longer --timeout" } else { "a longer -d" };
        let names = open.into_iter().map(String::as_str).collect::<Vec<_>>().join(", ");
        let text = format!("{names} are only lower bounds, because too few requests were answered: try {remedy}");
        warnings.push(Warning::new(WarningKind::LowerBounds, text));
    }
    if !latency.upper_ends.is_empty() {
        let interval = |(name, upper_us): (&String, &f64)| {
            let time = |micros: f64| format::duration(Duration::from_secs_f64(micros / 1e6));
            format!("{name} is up to {}", time(*upper_us))
        };
        let intervals = latency.upper_ends.iter().map(interval).collect::<Vec<_>>().join(", ");
        let text = format!(
            "requests sent before the measured time were slower than those sent within it, so the server's speed changed: \
             {intervals}; look at it second by second, and measure for longer (-d)"
        );
        warnings.push(Warning::new(WarningKind::EstimatesDisagree, text));
    }
    let wait_us = premises.fixed_wait.map_or(0, |wait| wait.as_micros() as u64);
    // A histogram rounds to four digits.
    if latency.min + latency.min / 1000 < wait_us {
        let text = format!("an answer arrived after {} us, before the database could have answered", latency.min);
        warnings.push(Warning::new(WarningKind::TooFast, text));
    }
    warnings
}

/// A doubtful load generator.
fn of_client(outcome: &Outcome, result: &RunResult) -> Vec<Warning> {
    let mean_us = result.latency_us.as_ref().map(|latency| latency.mean);
    let lag = outcome.lag_p99_us.zip(mean_us).and_then(|(lag_us, mean_us)| usage::lag_warning(lag_us, mean_us));
    let mut warnings: Vec<_> = lag.into_iter().chain(littles_law(result)).collect();
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
    if load::OPT_LEVEL == "0" {
        let text =
            "this load generator is a debug build and measures itself: use the dev or release profile of its workspace";
        warnings.push(Warning::new(WarningKind::DebugBuild, text));
    }
    warnings
}

/// Workers that did not start together measured different seconds.
fn start_skew(result: &RunResult) -> Option<Warning> {
    let fleet = result.fleet.as_ref()?;
    let (skew_us, error_us) = (fleet.start_skew_us?, fleet.start_skew_error_us.unwrap_or_default());
    (skew_us + error_us > START_SKEW_US).then(|| {
        let text = format!(
            "the workers started {} apart, give or take {}: let nothing else run on them, and use a nearer network",
            format::micros(skew_us),
            format::micros(error_us)
        );
        Warning::new(WarningKind::StartSkew, text)
    })
}

/// In a closed loop every connection has a request in flight at any time, but for the moments between an answer and the
/// next request, and requests per second times mean latency is their number (Little's law). Any other number means that
/// time was spent between requests, or that the latencies miss some.
fn littles_law(result: &RunResult) -> Option<Warning> {
    let Connections { in_flight_mean, established_mean, reconnected, connect_pauses, .. } = result.connections;
    let (in_flight, connected) = (in_flight_mean?, established_mean.filter(|mean| *mean > 0.0)?);
    if !result.complete {
        return None;
    }
    let text = if (in_flight / connected - 1.0).abs() > LITTLE_TOLERANCE {
        let pauses = match connect_pauses {
            Some(pauses @ 1..) => format!(" and {pauses} pauses after failed attempts to connect"),
            _ => String::new(),
        };
        format!(
            "on average {in_flight:.1} of {connected:.1} connections had a request in flight: the rest of the time was spent \
             between requests, with {reconnected} reconnects{pauses}"
        )
    } else {
        let product = product_of_littles_law(result)?;
        format!(
            "requests/s x mean latency is {product:.1}, but {in_flight:.1} requests were in flight on average (Little's \
             law): the server's speed changed, and the latencies miss some of it; measure for longer (-d)"
        )
    };
    Some(Warning::new(WarningKind::LittlesLaw, text))
}

/// Requests per second times mean latency, if that contradicts what was in flight. An open mean is too low, and each
/// connection may have one answer more or less within the window than its share.
fn product_of_littles_law(result: &RunResult) -> Option<f64> {
    let latency = result.latency_us.as_ref()?;
    if latency.is_lower_bound("mean") || result.errors.total() > 0 {
        return None;
    }
    let product = result.rps? * latency.mean / 1e6;
    let tolerance = LITTLE_TOLERANCE + latency.mean / (result.duration_s? * 1e6);
    ((product / result.connections.in_flight_mean? - 1.0).abs() > tolerance).then_some(product)
}
