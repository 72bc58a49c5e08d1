//! What a server counts of itself: the load generator asks it how many connections it really holds.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::{counter::ConstCounter, gauge::ConstGauge};
use prometheus_client::registry::Registry;

/// The counters of one server. They are plain atomics, so that they also work in memory that processes share.
#[derive(Debug, Default)]
pub struct Counters {
    /// Connections accepted and kept.
    pub accepted: AtomicU64,
    /// Connections answered with 503.
    pub refused: AtomicU64,
    /// Connections open now.
    pub open: AtomicU64,
    /// Requests waiting for the database now.
    pub waiting: AtomicU64,
    /// The most requests that ever waited at once.
    pub waiting_peak: AtomicU64,
    /// Requests that wait for a worker now.
    pub queued: AtomicU64,
}

impl Counters {
    /// Counts an accepted connection as open until the guard is dropped.
    pub fn open(&self) -> Held<'_> {
        self.accepted.fetch_add(1, Relaxed);
        Held::new(&self.open).0
    }

    /// Counts a request as waiting for the database until the guard is dropped.
    pub fn wait(&self) -> Held<'_> {
        let (held, waiting) = Held::new(&self.waiting);
        self.waiting_peak.fetch_max(waiting, Relaxed);
        held
    }

    /// Counts a connection that was refused.
    pub fn refuse(&self) {
        self.refused.fetch_add(1, Relaxed);
    }

    /// The counters in the OpenMetrics text format, which Prometheus reads.
    pub fn metrics(&self) -> String {
        let mut registry = Registry::with_prefix("c10k");
        let mut gauge = |name, help, value: &AtomicU64| {
            let value = i64::try_from(value.load(Relaxed)).unwrap_or(i64::MAX);
            registry.register(name, help, ConstGauge::new(value));
        };
        gauge("connections_open", "Connections open now", &self.open);
        gauge("requests_waiting", "Requests waiting for the database now", &self.waiting);
        gauge("requests_waiting_peak", "The most requests that ever waited at once", &self.waiting_peak);
        gauge("requests_queued", "Requests waiting for a worker now", &self.queued);
        let mut counter = |name, help, value: &AtomicU64| {
            registry.register(name, help, ConstCounter::new(value.load(Relaxed)));
        };
        counter("connections_accepted", "Connections accepted and kept", &self.accepted);
        counter("connections_refused", "Connections answered with 503", &self.refused);
        let mut text = String::new();
        if encode(&mut text, &registry).is_err() {
            let _ = writeln!(text, "# the metrics could not be encoded");
        }
        text
    }
}

/// Counts one up on a gauge until it is dropped, also by a panic.
#[derive(Debug)]
pub struct Held<'a>(&'a AtomicU64);

impl<'a> Held<'a> {
    fn new(gauge: &'a AtomicU64) -> (Self, u64) {
        let value = gauge.fetch_add(1, Relaxed) + 1;
        (Self(gauge), value)
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}
