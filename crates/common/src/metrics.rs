//! Metrics as Prometheus reads them.
//!
//! The format is the classic text format, version 0.0.4, whatever the client would also accept: every Prometheus reads it,
//! and so do `promtool check metrics` and the agents that know nothing of OpenMetrics, which would add nothing here.

use prometheus::TextEncoder;
use prometheus::proto::{Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType};

/// The media type of [`Metrics::encode`].
pub(crate) const MEDIA_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The names of all metrics, for those who write them and those who read them.
pub mod name {
    /// Which server this is, as labels; always 1.
    pub const BUILD_INFO: &str = "c10k_build_info";
    /// The most connections at once; a label says what decides the number.
    pub const CONNECTIONS_MAX: &str = "c10k_connections_max";
    /// Connections open now.
    pub const CONNECTIONS_OPEN: &str = "c10k_connections_open";
    /// Connections accepted and kept.
    pub const CONNECTIONS_ACCEPTED: &str = "c10k_connections_accepted_total";
    /// Connections answered with 503.
    pub const CONNECTIONS_REFUSED: &str = "c10k_connections_refused_total";
    /// Failures to accept because descriptors or memory ran out.
    pub const ACCEPT_ERRORS: &str = "c10k_accept_errors_total";
    /// Failures to start a thread or a process for a connection.
    pub const SPAWN_FAILURES: &str = "c10k_spawn_failures_total";
    /// Lines of the log that nobody took.
    pub const LOG_LINES_DROPPED: &str = "c10k_log_lines_dropped_total";
    /// Requests answered, by status code.
    pub const REQUESTS: &str = "c10k_requests_total";
    /// Requests waiting for the database now.
    pub const REQUESTS_WAITING: &str = "c10k_requests_waiting";
    /// The most requests that ever waited at once.
    pub const REQUESTS_WAITING_PEAK: &str = "c10k_requests_waiting_peak";
    /// Requests waiting for a worker now.
    pub const REQUESTS_QUEUED: &str = "c10k_requests_queued";
    /// How long requests took.
    pub const REQUEST_DURATION: &str = "c10k_request_duration_seconds";
    /// Connections to the database in use.
    pub const DB_IN_USE: &str = "c10k_db_connections_in_use";
    /// Requests that wait for one.
    pub const DB_WAITING: &str = "c10k_db_requests_waiting";
    /// Attempts to connect to the database.
    pub const DB_CONNECTS: &str = "c10k_db_connects_total";
    /// Queries without an answer, by reason.
    pub const DB_ERRORS: &str = "c10k_db_errors_total";
    /// How long requests waited for a connection to the database.
    pub const DB_CONNECTION_WAIT: &str = "c10k_db_connection_wait_seconds";
    /// How long they waited for its answer.
    pub const DB_ANSWER_WAIT: &str = "c10k_db_answer_wait_seconds";
    /// Whether the server was asked to stop.
    pub const DRAINING: &str = "c10k_draining";
    /// Child processes.
    pub const CHILDREN: &str = "c10k_children";
    /// Threads.
    pub const THREADS: &str = "c10k_threads";
    /// The total of the cgroup that the server is in.
    pub const CGROUP_MEMORY: &str = "c10k_cgroup_memory_bytes";
    /// The most that this total ever was.
    pub const CGROUP_MEMORY_PEAK: &str = "c10k_cgroup_memory_peak_bytes";
    /// What it must not exceed.
    pub const CGROUP_MEMORY_LIMIT: &str = "c10k_cgroup_memory_limit_bytes";
    /// Processes that the kernel killed because memory ran out.
    pub const CGROUP_OOM_KILLS: &str = "c10k_cgroup_oom_kills_total";
    /// The ledger, by parts: see [`super::part`].
    pub const MEMORY: &str = "c10k_memory_bytes";
    /// Resident set sizes added up.
    pub const MEMORY_RSS_SUM: &str = "c10k_memory_rss_sum_bytes";
    /// When the ledger was taken.
    pub const MEMORY_TIMESTAMP: &str = "c10k_memory_timestamp_seconds";
}

/// The values of the label `part` of [`name::MEMORY`].
pub mod part {
    /// Proportional set sizes.
    pub const PSS: &str = "pss";
    /// Page tables.
    pub const PAGE_TABLES: &str = "page_tables";
    /// Kernel stacks.
    pub const KERNEL_STACKS: &str = "kernel_stacks";
    /// The kernel's part of sockets.
    pub const SOCKETS: &str = "sockets";
}

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
        family.set_name(name.to_owned());
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
