//! What counters are made of: a gauge that counts down by itself, and a histogram.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::metrics::Metrics;

/// The upper bounds of the buckets of request durations, in microseconds: 1 ms to 10 s.
const BOUNDS_US: [u64; 13] = [
    1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000, 5_000_000, 10_000_000,
];

/// A histogram of plain atomics: that of a library has locks and heap memory, which processes cannot share.
#[derive(Debug, Default)]
pub(crate) struct Durations {
    /// How many were at most as long as the bound of the same index, and longer than the one before...
    buckets: [AtomicU64; BOUNDS_US.len()],
    /// ...and how many were longer than all of them.
    above: AtomicU64,
    sum_us: AtomicU64,
}

impl Durations {
    pub(crate) fn observe(&self, duration: Duration) {
        let duration_us = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let index = BOUNDS_US.partition_point(|&bound_us| bound_us < duration_us);
        self.buckets.get(index).unwrap_or(&self.above).fetch_add(1, Relaxed);
        self.sum_us.fetch_add(duration_us, Relaxed);
    }

    pub(crate) fn report(&self, name: &str, help: &str, metrics: &mut Metrics) {
        let seconds = |us: u64| us as f64 / 1e6;
        metrics.histogram(
            name,
            help,
            BOUNDS_US.iter().zip(&self.buckets).map(|(&bound_us, count)| (seconds(bound_us), count.load(Relaxed))),
            self.above.load(Relaxed),
            seconds(self.sum_us.load(Relaxed)),
        );
    }
}

/// Counts one up on a gauge until it is dropped, also by a panic.
#[derive(Debug)]
pub struct Held<'a>(&'a AtomicU64);

impl<'a> Held<'a> {
    pub(crate) fn new(gauge: &'a AtomicU64) -> (Self, u64) {
        let value = gauge.fetch_add(1, Relaxed) + 1;
        (Self(gauge), value)
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_in_the_bucket_that_it_does_not_exceed() {
        let durations = Durations::default();
        for us in [0, 1_000, 1_001, 2_500, 9_999_999, 10_000_000, 10_000_001, 60_000_000] {
            durations.observe(Duration::from_micros(us));
        }
        let counts = durations.buckets.each_ref().map(|count| count.load(Relaxed));
        assert_eq!(counts, [2, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
        assert_eq!(durations.above.load(Relaxed), 2);
        assert_eq!(durations.sum_us.load(Relaxed), 90_004_501);
    }
}
