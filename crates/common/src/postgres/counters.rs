//! What a server counts of its database.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use super::error::{Error, Kind};
use crate::log::{self, RateLimit};
use crate::metrics::{Metrics, name};
use crate::tally::{Durations, Held};

/// What a server counts of its database. Plain atomics, so that they also work in memory that processes share.
#[derive(Debug, Default)]
pub struct DatabaseCounters {
    /// Connections in use now.
    pub in_use: AtomicU64,
    /// Requests that wait for one now.
    pub waiting: AtomicU64,
    /// Attempts to connect.
    pub connects: AtomicU64,
    errors: [AtomicU64; Kind::ALL.len()],
    error_log: RateLimit,
    connection_waits: Durations,
    answer_waits: Durations,
}

impl DatabaseCounters {
    /// Counts a request as waiting for a connection until the guard is dropped.
    pub fn wait(&self) -> Held<'_> {
        Held::new(&self.waiting).0
    }

    /// Counts a connection as in use until the guard is dropped.
    pub fn hold(&self) -> Held<'_> {
        Held::new(&self.in_use).0
    }

    /// Counts an attempt to connect.
    pub fn connect(&self) {
        self.connects.fetch_add(1, Relaxed);
    }

    /// Counts a request that has waited this long for its connection.
    pub fn got_connection(&self, waited: Duration) {
        self.connection_waits.observe(waited);
    }

    /// Counts an answer that took this long.
    pub fn got_answer(&self, waited: Duration) {
        self.answer_waits.observe(waited);
    }

    /// Counts, and logs, that a query has no answer.
    pub fn failed(&self, error: &Error) {
        if let Some((_, errors)) = Kind::ALL.iter().zip(&self.errors).find(|(of, _)| **of == error.kind) {
            errors.fetch_add(1, Relaxed);
        }
        if self.error_log.allows() {
            log::warn!("a query has no answer: {error}");
        }
    }

    pub(crate) fn report(&self, metrics: &mut Metrics) {
        let mut gauge = |name, help, value: &AtomicU64| metrics.gauge(name, help, value.load(Relaxed) as f64);
        gauge(name::DB_IN_USE, "Connections to the database in use now.", &self.in_use);
        gauge(name::DB_WAITING, "Requests waiting for a connection to the database now.", &self.waiting);
        metrics.counter(name::DB_CONNECTS, "Attempts to connect to the database.", self.connects.load(Relaxed));
        metrics.counters(
            name::DB_ERRORS,
            "Queries without an answer, by reason; each was a 503.",
            "kind",
            Kind::ALL.iter().zip(&self.errors).map(|(of, errors)| (of.name().to_owned(), errors.load(Relaxed))),
        );
        let help = "How long requests waited for a connection to the database; those that got none are not in it.";
        self.connection_waits.report(name::DB_CONNECTION_WAIT, help, metrics);
        let help = "How long requests waited for the answer of the database; those that got none are not in it.";
        self.answer_waits.report(name::DB_ANSWER_WAIT, help, metrics);
    }
}
