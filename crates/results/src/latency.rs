//! Latency that includes the requests too slow to be answered in time.
//!
//! When the window closes, some requests have no answer yet. Dropping them hides exactly the slow ones; counting them
//! as answered at that moment makes them look faster than they are. All that is known of such a request is that it
//! takes longer than its age. The Kaplan-Meier estimator is the standard way to use exactly that: an unanswered request
//! counts as open up to its age, and not after. Where such requests leave the slowest latencies undetermined, a
//! percentile is a lower bound and is marked as one. Requests given up after `--timeout`, and requests whose connection
//! broke, are treated the same way.
//!
//! The start of the window has the same trap. Of the requests sent before it, the quick ones ended unseen, so counting
//! the rest from age 0 would show too many slow ones. They count as open only from the age they had when the window
//! opened (left truncation).
//!
//! That is right as long as latency does not depend on when a request was sent. A server that stalls and recovers breaks
//! it: the requests from before the window are slow, those from within it are quick, and the quick ones have all ended
//! before the slow ones count. So where the requests that do not count yet outnumber those that do, the estimate is
//! compared with a second one, which counts all requests from age 0. What lies between the two is uncertain: a figure is
//! then a lower bound, and its upper end is that of the second estimate.

use std::collections::BTreeMap;
use std::iter;
use std::ops::AddAssign;

use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Deserializer, Serializer as _, V2DeflateSerializer};
use serde::{Deserialize, Deserializer as Read, Serialize, Serializer as Write};

use crate::run::{Histograms, LatencySummary, sum};

/// Four digits resolve the latency above a wait of 1 s to 64 us.
const SIGNIFICANT_DIGITS: u8 = 4;

/// Latencies of answered requests, and ages of unanswered ones.
#[derive(Clone, Debug)]
pub struct Latencies {
    answered: Histogram<u64>,
    /// Kept apart: refusals are quick, and would make a server that refuses everyone look fast.
    refused: Histogram<u64>,
    unanswered: Histogram<u64>,
    /// The ages of requests sent before the window, at the moment it opened.
    left_truncated: Histogram<u64>,
}

impl Default for Latencies {
    fn default() -> Self {
        Self::new()
    }
}

impl AddAssign<&Latencies> for Latencies {
    fn add_assign(&mut self, other: &Latencies) {
        self.answered += &other.answered;
        self.refused += &other.refused;
        self.unanswered += &other.unanswered;
        self.left_truncated += &other.left_truncated;
    }
}

impl Serialize for Latencies {
    fn serialize<S: Write>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.encode().map_err(serde::ser::Error::custom)?.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Latencies {
    fn deserialize<D: Read<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::decode(&Histograms::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

/// A histogram as text within JSON, for `#[serde(with = "histogram")]`.
pub mod histogram {
    use hdrhistogram::Histogram;
    use serde::{Deserialize as _, Deserializer, Serializer};

    /// Writes it deflated, in base64.
    ///
    /// # Errors
    /// It cannot be encoded.
    pub fn serialize<S: Serializer>(histogram: &Histogram<u64>, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&super::encode(histogram).map_err(serde::ser::Error::custom)?)
    }

    /// Reads what [`serialize`] wrote.
    ///
    /// # Errors
    /// It is no histogram.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Histogram<u64>, D::Error> {
        super::decode(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

impl Latencies {
    /// An empty collection.
    pub fn new() -> Self {
        let [answered, refused, unanswered, left_truncated] = [(); 4].map(|()| Self::empty_histogram());
        Self { answered, refused, unanswered, left_truncated }
    }

    /// Latencies of which only those of good answers are known.
    pub fn of_good_answers(answered: Histogram<u64>) -> Self {
        Self { answered, ..Self::new() }
    }

    /// Records an answer after this time: a good one, or a refusal.
    pub fn record_answered(&mut self, latency_us: u64, is_success: bool) {
        record(if is_success { &mut self.answered } else { &mut self.refused }, latency_us);
    }

    /// Records a request that had no answer yet at this age, when it was last seen.
    pub fn record_unanswered(&mut self, age_us: u64) {
        record(&mut self.unanswered, age_us);
    }

    /// Records that a request already had this age when the window opened.
    pub fn record_left_truncated(&mut self, age_us: u64) {
        record(&mut self.left_truncated, age_us);
    }

    /// How long requests were in flight within the window, added up, in microseconds.
    pub fn time_in_flight_us(&self) -> f64 {
        let total = |histogram| counts(histogram).map(|(value_us, count)| value_us as f64 * count as f64).sum::<f64>();
        let ages_us = [&self.answered, &self.refused, &self.unanswered].map(total).iter().sum::<f64>();
        (ages_us - total(&self.left_truncated)).max(0.0)
    }

    /// The latencies of the good answers.
    pub fn good_answers(&self) -> &Histogram<u64> {
        &self.answered
    }

    /// A histogram that grows with its values; one with room for an hour would take 3 MB.
    pub fn empty_histogram() -> Histogram<u64> {
        Histogram::new(SIGNIFICANT_DIGITS).unwrap_or_else(|_| unreachable!())
    }

    /// Encodes the histograms for the result.
    ///
    /// # Errors
    /// A histogram cannot be encoded.
    pub fn encode(&self) -> Result<Histograms> {
        Ok(Histograms {
            answered: encode(&self.answered)?,
            refused: encode(&self.refused)?,
            unanswered: encode(&self.unanswered)?,
            left_truncated: encode(&self.left_truncated)?,
        })
    }

    /// Decodes the histograms of a result.
    ///
    /// # Errors
    /// A histogram cannot be decoded.
    pub fn decode(histograms: &Histograms) -> Result<Self> {
        Ok(Self {
            answered: decode(&histograms.answered).context("answered")?,
            refused: decode(&histograms.refused).context("refused")?,
            unanswered: decode(&histograms.unanswered).context("unanswered")?,
            left_truncated: decode(&histograms.left_truncated).context("left_truncated")?,
        })
    }

    /// How many requests got a good answer.
    pub fn answered(&self) -> u64 {
        self.answered.len()
    }

    /// How many were answered with a refusal.
    pub fn refused(&self) -> u64 {
        self.refused.len()
    }

    /// How many got no answer.
    pub fn unanswered(&self) -> u64 {
        self.unanswered.len()
    }

    /// The latencies of all answers: the good ones, and the refusals.
    pub fn all_answers(&self) -> [&Histogram<u64>; 2] {
        [&self.answered, &self.refused]
    }

    /// The distribution that accounts for answered and unanswered requests; `None` without a good answer.
    pub fn distribution(&self) -> Option<Distribution> {
        if self.answered.is_empty() {
            return None;
        }
        let (curve, is_outnumbered) = self.curve(&self.left_truncated);
        let slowest_us = self.answered.max().max(if self.unanswered.is_empty() { 0 } else { self.unanswered.max() });
        let pooled = is_outnumbered.then(|| self.curve(&Self::empty_histogram()).0);
        Some(Distribution { curve, pooled, min_us: self.answered.min(), slowest_us })
    }

    /// The share of requests that takes each time, when those that are `left_truncated` count only from their age then
    /// on, and whether those that did not count yet ever outnumbered the others.
    fn curve(&self, left_truncated: &Histogram<u64>) -> (Curve, bool) {
        // A file that another program wrote may not add up: neither sum nor difference may fail for it.
        let all = sum([self.answered.len(), self.refused.len(), self.unanswered.len()]);
        let mut to_join = left_truncated.len();
        let mut open = all.saturating_sub(to_join);
        let mut joining = counts(left_truncated).peekable();
        let (mut share_slower, mut is_outnumbered) = (1.0, false);
        let mut steps = Vec::new();
        for (value_us, answered, unanswered) in self.by_value() {
            while let Some((_, count)) = joining.next_if(|at| at.0 <= value_us) {
                (open, to_join) = (open.saturating_add(count), to_join.saturating_sub(count));
            }
            // With so few requests at risk, a step would say nothing about those yet to join.
            let is_representative = open > all / 100 || to_join == 0;
            if answered > 0 && is_representative {
                is_outnumbered |= to_join > open;
                let still_slower = share_slower * (1.0 - (answered as f64 / open as f64).min(1.0));
                steps.push(Step { value_us, share: share_slower - still_slower });
                share_slower = still_slower;
            }
            open = open.saturating_sub(answered).saturating_sub(unanswered);
        }
        (Curve { steps, share_open: share_slower.max(0.0) }, is_outnumbered)
    }

    /// Each recorded value, ascending, with how many requests were answered and left unanswered at it. A refusal counts
    /// as unanswered: how long a good answer would have taken is unknown.
    fn by_value(&self) -> impl Iterator<Item = (u64, u64, u64)> {
        let mut answered = counts(&self.answered).peekable();
        let without_answer = {
            let mut both = self.unanswered.clone();
            both += &self.refused;
            both
        };
        let without_answer: Vec<_> = counts(&without_answer).collect();
        let mut unanswered = without_answer.into_iter().peekable();
        iter::from_fn(move || {
            let value_us = match (answered.peek(), unanswered.peek()) {
                (Some(a), Some(u)) => a.0.min(u.0),
                (Some(one), None) | (None, Some(one)) => one.0,
                (None, None) => return None,
            };
            let answered = answered.next_if(|at| at.0 == value_us).map_or(0, |at| at.1);
            let unanswered = unanswered.next_if(|at| at.0 == value_us).map_or(0, |at| at.1);
            Some((value_us, answered, unanswered))
        })
    }
}

/// Not `saturating_record`, which does not let the histogram grow.
fn record(histogram: &mut Histogram<u64>, value_us: u64) {
    // It grows for any value, so this cannot fail.
    let _ = histogram.record(value_us);
}

fn encode(histogram: &Histogram<u64>) -> Result<String> {
    let mut bytes = Vec::new();
    V2DeflateSerializer::new().serialize(histogram, &mut bytes).context("a histogram cannot be encoded")?;
    Ok(BASE64_STANDARD.encode(bytes))
}

fn decode(text: &str) -> Result<Histogram<u64>> {
    let bytes = BASE64_STANDARD.decode(text).context("not base64")?;
    let mut histogram = Deserializer::new().deserialize(&mut bytes.as_slice()).context("not an HDR histogram")?;
    // Lets other histograms be added to it.
    histogram.auto(true);
    Ok(histogram)
}

fn counts(histogram: &Histogram<u64>) -> impl Iterator<Item = (u64, u64)> {
    histogram.iter_recorded().map(|bucket| (bucket.value_iterated_to(), bucket.count_at_value()))
}

/// The share of all requests that takes this long.
#[derive(Clone, Copy, Debug)]
struct Step {
    value_us: u64,
    share: f64,
}

/// What share of requests takes how long.
#[derive(Clone, Debug)]
struct Curve {
    steps: Vec<Step>,
    /// The share of requests known only to take longer than any of the steps.
    share_open: f64,
}

/// The distribution of latencies.
#[derive(Clone, Debug)]
pub struct Distribution {
    curve: Curve,
    /// The estimate that counts all requests from age 0, where the other may be too low.
    pooled: Option<Curve>,
    min_us: u64,
    /// The longest latency or age seen.
    slowest_us: u64,
}

/// A figure that may be only a lower bound.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bounded<T> {
    /// The figure.
    pub value: T,
    /// Whether it is only a lower bound.
    pub is_lower_bound: bool,
}

/// How far apart two estimates may be before the figure counts as uncertain.
const AGREEMENT: f64 = 0.01;

impl Curve {
    /// The time that the share `quantile` does not exceed; `None` beyond the last step.
    fn quantile_us(&self, quantile: f64) -> Option<u64> {
        // Shares are sums of many small steps, so allow for rounding.
        let mut missing = quantile - 1e-9;
        self.steps.iter().find_map(|step| {
            missing -= step.share;
            (missing <= 0.0).then_some(step.value_us)
        })
    }

    fn expectation(&self, open_us: u64, function: impl Fn(f64) -> f64) -> f64 {
        let known: f64 = self.steps.iter().map(|step| step.share * function(step.value_us as f64)).sum();
        known + self.share_open * function(open_us as f64)
    }

    fn is_open(&self) -> bool {
        self.share_open > 1e-9
    }
}

impl Distribution {
    /// The fastest answer.
    pub fn min_us(&self) -> u64 {
        self.min_us
    }

    /// The longest that any request took, or had waited so far.
    pub fn max_us(&self) -> Bounded<u64> {
        let is_open = self.curve.is_open() || self.pooled.as_ref().is_some_and(Curve::is_open);
        Bounded { value: self.slowest_us, is_lower_bound: is_open }
    }

    /// The latency that the share `quantile` of all requests does not exceed.
    pub fn quantile_us(&self, quantile: f64) -> Bounded<u64> {
        let Some(value_us) = self.curve.quantile_us(quantile) else { return self.max_us() };
        let value = value_us.min(self.slowest_us);
        let is_disputed = |pooled: &Curve| match pooled.quantile_us(quantile) {
            Some(upper_us) => differs(value as f64, upper_us as f64),
            None => true,
        };
        Bounded { value, is_lower_bound: self.pooled.as_ref().is_some_and(is_disputed) }
    }

    /// Where a quantile is uncertain, but not open: what it does not exceed.
    fn upper_end_us(&self, quantile: f64) -> Option<f64> {
        let upper_us = self.pooled.as_ref()?.quantile_us(quantile)?.min(self.slowest_us);
        self.quantile_us(quantile).is_lower_bound.then_some(upper_us as f64)
    }

    /// The mean, with open requests counted at the longest time seen.
    pub fn mean_us(&self) -> Bounded<f64> {
        let mean = |curve: &Curve| curve.expectation(self.slowest_us, |value_us| value_us);
        let value = mean(&self.curve);
        let is_disputed = self.pooled.as_ref().is_some_and(|pooled| pooled.is_open() || differs(value, mean(pooled)));
        Bounded { value, is_lower_bound: self.curve.is_open() || is_disputed }
    }

    /// The standard deviation around [`mean_us`](Self::mean_us).
    pub fn stdev_us(&self) -> f64 {
        let mean = self.mean_us().value;
        self.curve.expectation(self.slowest_us, |value_us| (value_us - mean).powi(2)).sqrt()
    }

    /// The percentiles for the result, and which of them are lower bounds.
    pub fn summary(&self) -> LatencySummary {
        let (mut lower_bounds, mut upper_ends) = (Vec::new(), BTreeMap::new());
        let mut quantile = |name: &str, quantile| {
            let bounded = self.quantile_us(quantile);
            if bounded.is_lower_bound {
                lower_bounds.push(name.to_owned());
            }
            upper_ends.extend(self.upper_end_us(quantile).map(|upper_us| (name.to_owned(), upper_us)));
            bounded.value
        };
        let (p50, p75, p90) = (quantile("p50", 0.5), quantile("p75", 0.75), quantile("p90", 0.9));
        let (p99, p999) = (quantile("p99", 0.99), quantile("p999", 0.999));
        let (mean, max) = (self.mean_us(), self.max_us());
        if max.is_lower_bound {
            lower_bounds.push("max".into());
        }
        if mean.is_lower_bound {
            lower_bounds.extend(["mean", "stdev"].map(String::from));
        }
        let (min, stdev, mean, max) = (self.min_us(), self.stdev_us(), mean.value, max.value);
        LatencySummary { min, mean, stdev, p50, p75, p90, p99, p999, max, lower_bounds, upper_ends }
    }
}

fn differs(lower: f64, upper: f64) -> bool {
    upper > lower * (1.0 + AGREEMENT)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn distribution(answered_ms: &[u64], unanswered_ms: &[u64]) -> Distribution {
        let mut latencies = Latencies::new();
        answered_ms.iter().for_each(|ms| latencies.record_answered(ms * 1000, true));
        unanswered_ms.iter().for_each(|ms| latencies.record_unanswered(ms * 1000));
        latencies.distribution().unwrap()
    }

    /// A histogram keeps four digits.
    fn assert_about(bounded: Bounded<u64>, expected_ms: u64, is_lower_bound: bool) {
        let expected_us = expected_ms as f64 * 1000.0;
        assert!(
            (bounded.value as f64 - expected_us).abs() <= expected_us / 1000.0,
            "{bounded:?}, not {expected_ms} ms"
        );
        assert_eq!(bounded.is_lower_bound, is_lower_bound, "{bounded:?}");
    }

    #[test]
    fn histograms_that_do_not_add_up_give_finite_figures() {
        let mut latencies = Latencies::new();
        (1..=3).for_each(|ms| latencies.record_answered(ms * 1000, true));
        (0..9).for_each(|_| latencies.record_left_truncated(2500));
        let distribution = latencies.distribution().unwrap();
        assert!(distribution.mean_us().value.is_finite() && distribution.stdev_us().is_finite());
    }

    #[test]
    fn counts_that_nobody_can_have_measured_do_not_overflow() {
        let mut latencies = Latencies::new();
        let Latencies { answered, refused, unanswered, left_truncated } = &mut latencies;
        for histogram in [answered, refused, unanswered, left_truncated] {
            (1..=3).for_each(|value_us| histogram.record_n(value_us, u64::MAX / 2).unwrap());
        }
        let latencies = Latencies::decode(&latencies.encode().unwrap()).unwrap();
        let summary = latencies.distribution().unwrap().summary();
        assert!(summary.mean.is_finite() && latencies.time_in_flight_us().is_finite(), "{summary:?}");
    }

    #[test]
    fn with_all_answered_it_is_the_plain_distribution() {
        let hundred_ms: Vec<u64> = (1..=100).collect();
        let distribution = distribution(&hundred_ms, &[]);
        assert_about(distribution.quantile_us(0.5), 50, false);
        assert_about(distribution.quantile_us(0.99), 99, false);
        assert_about(distribution.max_us(), 100, false);
        assert!((distribution.mean_us().value - 50_500.0).abs() < 50.0);
        assert!((distribution.stdev_us() - 28_866.0).abs() < 50.0);
    }

    #[test]
    fn requests_just_sent_make_nothing_faster() {
        let distribution = distribution(&[1000; 1000], &[1; 1000]);
        assert_about(distribution.quantile_us(0.01), 1000, false);
        assert_about(distribution.max_us(), 1000, false);
    }

    #[test]
    fn a_stall_shows_though_no_answer_ever_comes() {
        let distribution = distribution(&[10; 98], &[10_000; 2]);
        assert_about(distribution.quantile_us(0.5), 10, false);
        assert_about(distribution.quantile_us(0.99), 10_000, true);
        assert_about(distribution.max_us(), 10_000, true);
        assert!(distribution.mean_us().is_lower_bound);
    }

    #[test]
    fn when_most_have_no_answer_most_percentiles_are_lower_bounds() {
        // A pool of 256 workers and 10,000 connections for 10 s: the textbook case of a flattering figure.
        let answered: Vec<u64> = (1..=10).flat_map(|second| [second * 1000; 256]).collect();
        let distribution = distribution(&answered, &[10_000; 7_440]);
        assert_about(distribution.quantile_us(0.1), 4000, false);
        assert_about(distribution.quantile_us(0.5), 10_000, true);
    }

    /// Users send without pause for 5 s, seen from second 2 on: the true distribution is exponential with a mean of 1
    /// s.
    #[test]
    fn random_latencies_are_not_biased_by_the_ends_of_the_window() {
        let mut latencies = Latencies::new();
        let mut state = 1_u64;
        let mut uniform = || {
            // xorshift64
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 11) as f64 / (1_u64 << 53) as f64
        };
        for _user in 0..5_000 {
            let mut sent_us = 0;
            while sent_us < 5_000_000 {
                let ended_us = sent_us + (-uniform().ln() * 1e6) as u64;
                if ended_us >= 2_000_000 && sent_us < 2_000_000 {
                    latencies.record_left_truncated(2_000_000 - sent_us);
                }
                match ended_us {
                    0..2_000_000 => {}
                    2_000_000..5_000_000 => latencies.record_answered(ended_us - sent_us, true),
                    _ => latencies.record_unanswered(5_000_000 - sent_us),
                }
                sent_us = ended_us;
            }
        }
        let distribution = latencies.distribution().unwrap();
        for (quantile, expected_s) in [(0.5, 0.693), (0.9, 2.303), (0.99, 4.605)] {
            let found_s = distribution.quantile_us(quantile).value as f64 / 1e6;
            assert!((found_s / expected_s - 1.0).abs() < 0.05, "{quantile}: {found_s}, not {expected_s}");
        }
        assert!((distribution.mean_us().value / 1e6 - 1.0).abs() < 0.05);
    }

    /// A window of 8 s that opens while a server stalls: 300 requests from 2.4 s before it are answered after 6.4 s, and
    /// from then on each of the 300 users gets an answer every 500 ms. So 11 % of the answers took 6.4 s.
    fn after_a_stall() -> Latencies {
        let mut latencies = Latencies::new();
        for user in 0..300 {
            latencies.record_left_truncated(2_400_000 + user);
            latencies.record_answered(6_400_000 + user, true);
            (0..8).for_each(|_| latencies.record_answered(500_000 + user * 30, true));
        }
        latencies
    }

    #[test]
    fn a_stall_from_before_the_window_does_not_vanish() {
        let summary = after_a_stall().distribution().unwrap().summary();
        assert!(!summary.is_lower_bound("p50") && summary.p50 < 510_000, "{summary:?}");
        for name in ["p90", "p99", "mean", "stdev"] {
            assert!(summary.is_lower_bound(name), "{name} of {summary:?}");
        }
        assert!((summary.upper_ends["p90"] / 6_400_000.0 - 1.0).abs() < 0.001, "{summary:?}");
        assert!(!summary.upper_ends.contains_key("p50"));
    }

    #[test]
    fn requests_from_before_the_window_that_never_end_leave_no_upper_end() {
        let mut latencies = Latencies::new();
        (0..380).for_each(|_| latencies.record_left_truncated(2_000_000));
        (0..380).for_each(|_| latencies.record_unanswered(4_000_000));
        (0..133).for_each(|_| latencies.record_answered(301_000, true));
        let summary = latencies.distribution().unwrap().summary();
        assert!(summary.is_lower_bound("p50") && summary.p50 < 302_000, "{summary:?}");
        assert!(summary.upper_ends.is_empty() && summary.is_lower_bound("max"), "{summary:?}");
    }

    #[test]
    fn encoded_latencies_can_be_decoded_and_merged() {
        let mut latencies = Latencies::new();
        latencies.record_answered(1_000_000, true);
        latencies.record_answered(2_000, false);
        latencies.record_unanswered(3_000_000);
        latencies.record_left_truncated(4_000);
        let once = latencies;
        let mut twice = Latencies::decode(&once.encode().unwrap()).unwrap();
        twice += &once;
        let kinds = [&twice.answered, &twice.refused, &twice.unanswered, &twice.left_truncated];
        assert_eq!(kinds.map(|histogram| histogram.len()), [2; 4]);
        assert!(Latencies::decode(&Histograms::default()).is_err());
    }

    /// Written by the Python implementation with four digits: 90 times 1 ms, 9 times 2.5 ms, once 1000.383 ms.
    const FROM_PYTHON: &str = "HISTFAAAACx4nJNpmSzMwMDAzQABLFCaEURcm7yEwf4DROA8/xbGreJC6w/yMgEAn3gIgw==";

    #[test]
    fn histograms_of_another_implementation_are_read() {
        let histogram = decode(FROM_PYTHON).unwrap();
        assert_eq!([histogram.len(), histogram.min(), histogram.value_at_quantile(0.9)], [100, 1_000, 1_000]);
        assert_eq!([histogram.value_at_quantile(0.99), histogram.max()], [2_500, 1_000_383]);
        let mut more = Latencies::new().answered;
        more += &histogram;
        record(&mut more, 3_600_000_000);
        assert_eq!(more.len(), 101);
    }

    #[test]
    fn without_answers_there_is_no_distribution() {
        let mut latencies = Latencies::new();
        latencies.record_unanswered(5);
        assert!(latencies.distribution().is_none());
    }
}
