//! wrk's statistics over a histogram.

use hdrhistogram::Histogram;

/// Recorded values in ascending order, with their counts.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stats {
    values: Vec<(u64, u64)>,
    count: u64,
}

impl Stats {
    /// The values up to `limit` of several histograms together.
    pub(crate) fn up_to<'a>(limit: u64, histograms: impl IntoIterator<Item = &'a Histogram<u64>>) -> Self {
        let all = histograms.into_iter().flat_map(Histogram::iter_recorded);
        let all = all.map(|step| (step.value_iterated_to(), step.count_at_value()));
        Self::from_unsorted(all.filter(|step| step.0 <= limit).collect())
    }

    fn from_unsorted(mut values: Vec<(u64, u64)>) -> Self {
        values.sort_unstable();
        values.dedup_by(|later, earlier| {
            let is_same = later.0 == earlier.0;
            earlier.1 += if is_same { later.1 } else { 0 };
            is_same
        });
        let count = values.iter().map(|value| value.1).sum();
        Self { values, count }
    }

    /// The smallest value; without any, the largest possible number, as in wrk.
    pub(crate) fn min(&self) -> u64 {
        self.values.first().map_or(u64::MAX, |value| value.0)
    }

    /// How many different values there are.
    pub(crate) fn distinct(&self) -> usize {
        self.values.len()
    }

    /// One of the different values, counted from 1, and its count.
    pub(crate) fn value(&self, number: usize) -> Option<(u64, u64)> {
        self.values.get(number.checked_sub(1)?).copied()
    }

    /// The largest value; 0 without any.
    pub(crate) fn max(&self) -> u64 {
        self.values.last().map_or(0, |value| value.0)
    }

    /// The mean; 0 without values.
    pub(crate) fn mean(&self) -> f64 {
        if self.count == 0 {
            return 0.0;
        }
        self.values.iter().map(|&(value, count)| value as f64 * count as f64).sum::<f64>() / self.count as f64
    }

    /// The sample standard deviation.
    pub(crate) fn stdev(&self) -> f64 {
        if self.count < 2 {
            return 0.0;
        }
        let mean = self.mean();
        let squares = self.values.iter().map(|&(value, count)| (value as f64 - mean).powi(2) * count as f64);
        (squares.sum::<f64>() / (self.count - 1) as f64).sqrt()
    }

    /// The percentage of values within one standard deviation of the mean; NaN without values, as in wrk.
    pub(crate) fn within_stdev_percent(&self) -> f64 {
        let (mean, stdev) = (self.mean(), self.stdev());
        let within = self.values.iter().filter(|value| (value.0 as f64 - mean).abs() <= stdev);
        within.map(|value| value.1).sum::<u64>() as f64 / self.count as f64 * 100.0
    }

    /// The value that `percent` of all values do not exceed.
    pub(crate) fn percentile(&self, percent: f64) -> u64 {
        let rank = (percent / 100.0 * self.count as f64 + 0.5).round() as u64;
        let mut total = 0;
        let found = self.values.iter().find(|value| {
            total += value.1;
            total >= rank
        });
        found.map_or(0, |value| value.0)
    }

    /// Adds the requests that a client waiting for each answer failed to send every `expected_interval`: for a value of
    /// several intervals, one request after each of them, which would have waited for the rest.
    pub(crate) fn correct(&mut self, expected_interval: u64) {
        if expected_interval == 0 {
            return;
        }
        let missed = self.values.iter().filter(|value| value.0 >= expected_interval.saturating_mul(2));
        let missed: Vec<(u64, u64)> = missed
            .flat_map(|&(value, count)| {
                let waits = std::iter::successors(value.checked_sub(expected_interval), move |wait| {
                    wait.checked_sub(expected_interval)
                });
                waits.take_while(move |&wait| wait > expected_interval).map(move |wait| (wait, count))
            })
            .collect();
        self.values.extend(missed);
        *self = Self::from_unsorted(std::mem::take(&mut self.values));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stats(values: &[u64]) -> Stats {
        let mut histogram = Histogram::new(4).unwrap();
        for &value in values {
            histogram.record(value).unwrap();
        }
        Stats::up_to(u64::MAX, [&histogram])
    }

    #[test]
    fn figures_match_wrk() {
        let stats = stats(&[2, 4, 4, 4, 5, 5, 7, 9]);
        assert_eq!((stats.count, stats.max(), stats.mean()), (8, 9, 5.0));
        assert!((stats.stdev() - (32.0_f64 / 7.0).sqrt()).abs() < 1e-12);
        assert_eq!(stats.within_stdev_percent(), 75.0);
        assert_eq!([50.0, 75.0, 90.0, 99.0].map(|percent| stats.percentile(percent)), [5, 7, 9, 9]);
    }

    #[test]
    fn values_beyond_the_limit_are_left_out() {
        let mut histogram = Histogram::<u64>::new(4).unwrap();
        histogram.record_n(100, 3).unwrap();
        histogram.record_n(3_000_000, 2).unwrap();
        let stats = Stats::up_to(2_000_000, [&histogram, &histogram]);
        assert_eq!((stats.count, stats.max()), (6, 100));
    }

    #[test]
    fn a_stall_is_corrected_as_wrk_does() {
        let mut stats = stats(&[10, 100]);
        stats.correct(30);
        // 100 adds 70 and 40; a wait of 10 is not above the interval.
        assert_eq!(stats.values, [(10, 1), (40, 1), (70, 1), (100, 1)]);
        assert_eq!(stats.count, 4);
    }

    #[test]
    fn no_values_give_zeros() {
        let stats = stats(&[]);
        assert_eq!((stats.max(), stats.mean(), stats.stdev(), stats.percentile(99.0)), (0, 0.0, 0.0, 0));
        assert!(stats.within_stdev_percent().is_nan());
    }
}
