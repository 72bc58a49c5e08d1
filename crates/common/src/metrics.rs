//! Metrics as Prometheus reads them.
//!
//! The format is the classic text format, version 0.0.4, whatever the client would also accept: every Prometheus reads it,
//! and so do `promtool check metrics` and the agents that know nothing of OpenMetrics, which would add nothing here.

use prometheus::TextEncoder;
use prometheus::proto::{Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType};

/// The media type of [`Metrics::encode`].
pub(crate) const MEDIA_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What all names start with.
const PREFIX: &str = "c10k";

/// Figures of one moment, on their way to a client.
#[derive(Debug, Default)]
pub(crate) struct Metrics(Vec<MetricFamily>);

impl Metrics {
    /// A figure that goes up and down.
    pub(crate) fn gauge(&mut self, name: &str, help: &str, value: f64) {
        self.gauges(name, help, [(&[][..], value)]);
    }

    /// The same, of several things that labels tell apart.
    pub(crate) fn gauges<'a>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = (&'a [(&'a str, &'a str)], f64)>,
    ) {
        let metrics = values.into_iter().map(|(labels, value)| {
            let mut gauge = Gauge::default();
            gauge.set_value(value);
            let mut metric = labelled(labels);
            metric.set_gauge(gauge);
            metric
        });
        self.push(name, help, MetricType::GAUGE, metrics.collect());
    }

    /// A figure that only goes up; its name ends with `_total`.
    pub(crate) fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.push(name, help, MetricType::COUNTER, vec![counter(&[], value)]);
    }

    /// The same, by the values of one label.
    pub(crate) fn counters(
        &mut self,
        name: &str,
        help: &str,
        label: &str,
        values: impl IntoIterator<Item = (String, u64)>,
    ) {
        let metrics = values.into_iter().map(|(of, value)| counter(&[(label, &of)], value));
        self.push(name, help, MetricType::COUNTER, metrics.collect());
    }

    /// How often something lay below each of some upper bounds, and above all of them.
    pub(crate) fn histogram(
        &mut self,
        name: &str,
        help: &str,
        buckets: impl IntoIterator<Item = (f64, u64)>,
        above: u64,
        sum: f64,
    ) {
        let mut count = 0;
        let cumulate = |(upper_bound, in_bucket): (f64, u64)| {
            count += in_bucket;
            let mut bucket = Bucket::default();
            bucket.set_upper_bound(upper_bound);
            bucket.set_cumulative_count(count);
            bucket
        };
        let buckets = buckets.into_iter().map(cumulate).collect();
        let mut histogram = Histogram::default();
        histogram.set_bucket(buckets);
        histogram.set_sample_count(count + above);
        histogram.set_sample_sum(sum);
        let mut metric = Metric::default();
        metric.set_histogram(histogram);
        self.push(name, help, MetricType::HISTOGRAM, vec![metric]);
    }

    fn push(&mut self, name: &str, help: &str, kind: MetricType, metrics: Vec<Metric>) {
        let mut family = MetricFamily::default();
        family.set_name(format!("{PREFIX}_{name}"));
        family.set_help(help.to_owned());
        family.set_field_type(kind);
        family.set_metric(metrics);
        self.0.push(family);
    }

    /// The text.
    pub(crate) fn encode(&self) -> String {
        let text = TextEncoder::new().encode_to_string(&self.0);
        text.unwrap_or_else(|error| format!("# the metrics could not be encoded: {error}\n"))
    }
}

fn counter(labels: &[(&str, &str)], value: u64) -> Metric {
    let mut counter = Counter::default();
    counter.set_value(value as f64);
    let mut metric = labelled(labels);
    metric.set_counter(counter);
    metric
}

fn labelled(labels: &[(&str, &str)]) -> Metric {
    let pair = |&(name, value): &(&str, &str)| {
        let mut pair = LabelPair::default();
        pair.set_name(name.to_owned());
        pair.set_value(value.to_owned());
        pair
    };
    Metric::from_label(labels.iter().map(pair).collect())
}
