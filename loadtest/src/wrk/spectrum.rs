//! wrk2's latency distribution: HdrHistogram's percentile spectrum.

use std::fmt;

use hdrhistogram::Histogram;

use super::units::{format_time_us, padded};

/// wrk2's range, from 1 us to a day, and its three digits.
const MAX_LATENCY_US: u64 = 24 * 3600 * 1_000_000;
const SIGNIFICANT_DIGITS: u8 = 3;
/// The size of a histogram with these limits.
const BUCKETS: u32 = 27;
const SUB_BUCKETS: u32 = 2048;
const TICKS_PER_HALF_DISTANCE: u32 = 5;
const RULE: &str = "----------------------------------------------------------";

/// A distribution in microseconds.
#[derive(Debug)]
pub(crate) struct Spectrum {
    title: &'static str,
    histogram: Histogram<u64>,
}

impl Spectrum {
    /// The distribution of all values in `histograms`.
    pub(crate) fn new<'a>(title: &'static str, histograms: impl IntoIterator<Item = &'a Histogram<u64>>) -> Self {
        let sum = Histogram::new_with_max(MAX_LATENCY_US, SIGNIFICANT_DIGITS);
        let mut sum = sum.unwrap_or_else(|_| unreachable!("the limits are constant"));
        for step in histograms.into_iter().flat_map(Histogram::iter_recorded) {
            sum.saturating_record_n(step.value_iterated_to(), step.count_at_value());
        }
        Self { title, histogram: sum }
    }
}

impl fmt::Display for Spectrum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { title, histogram } = self;
        writeln!(f, "  Latency Distribution (HdrHistogram - {title})")?;
        for percent in [50.0, 75.0, 90.0, 99.0, 99.9, 99.99, 99.999, 100.0] {
            let latency_us = histogram.value_at_percentile(percent) as f64;
            writeln!(f, "{percent:7.3}%{}", padded(&format_time_us(latency_us), 10))?;
        }
        writeln!(f, "\n  Detailed Percentile spectrum:")?;
        writeln!(f, "{:>12} {:>12} {:>12} {:>12}\n", "Value", "Percentile", "TotalCount", "1/(1-Percentile)")?;
        let mut total = 0;
        for step in histogram.iter_quantiles(TICKS_PER_HALF_DISTANCE) {
            total += step.count_since_last_iteration();
            let (value_ms, quantile) = (step.value_iterated_to() as f64 / 1e3, step.quantile_iterated_to());
            writeln!(f, "{value_ms:12.3} {quantile:12.6} {total:12} {:12.2}", 1.0 / (1.0 - quantile))?;
        }
        let (mean_ms, stdev_ms) = (histogram.mean() / 1e3, histogram.stdev() / 1e3);
        writeln!(f, "#[Mean    = {mean_ms:12.3}, StdDeviation   = {stdev_ms:12.3}]")?;
        writeln!(f, "#[Max     = {:12.3}, Total count    = {:12}]", histogram.max() as f64 / 1e3, histogram.len())?;
        writeln!(f, "#[Buckets = {BUCKETS:12}, SubBuckets     = {SUB_BUCKETS:12}]")?;
        writeln!(f, "{RULE}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The layout shown in wrk2's README.
    #[test]
    fn the_layout_is_wrk2s() {
        let mut histogram = Histogram::new(3).unwrap();
        for latency_us in 1..=1000 {
            histogram.record(latency_us * 10).unwrap();
        }
        let text = Spectrum::new("Recorded Latency", [&histogram]).to_string();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[0], "  Latency Distribution (HdrHistogram - Recorded Latency)");
        assert_eq!(lines[1], " 50.000%    5.00ms");
        assert_eq!(lines[8], "100.000%   10.01ms");
        assert_eq!(lines[10], "  Detailed Percentile spectrum:");
        assert_eq!(lines[11], "       Value   Percentile   TotalCount 1/(1-Percentile)");
        assert_eq!(lines[12], "");
        assert_eq!(lines[13], "       0.010     0.000000            1         1.00");
        assert_eq!(lines[lines.len() - 5], "      10.007     1.000000         1000          inf");
        assert_eq!(lines[lines.len() - 4], "#[Mean    =        5.006, StdDeviation   =        2.887]");
        assert_eq!(lines[lines.len() - 3], "#[Max     =       10.007, Total count    =         1000]");
        assert_eq!(lines[lines.len() - 2], "#[Buckets =           27, SubBuckets     =         2048]");
    }
}
