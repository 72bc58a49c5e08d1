//! What a server counts of itself: the load generator asks it how many connections it really holds.

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use crate::http::Status;
use crate::log::{self, RateLimit};
use crate::metrics::{Metrics, name};
use crate::postgres::counters::DatabaseCounters;
use crate::tally::{Durations, Held};

/// The counters of one server. They are plain atomics, so that they also work in memory that processes share.
#[derive(Debug, Default)]
pub struct Counters {
    /// Connections accepted and kept.
    pub accepted: AtomicU64,
    /// Connections answered with 503.
    pub refused: AtomicU64,
    /// Failures to accept because descriptors or memory ran out.
    accept_errors: AtomicU64,
    accept_log: RateLimit,
    /// Failures to start a thread or a process for a connection.
    spawn_failures: AtomicU64,
    spawn_log: RateLimit,
    /// Connections open now.
    pub open: AtomicU64,
    /// Requests waiting for the database now.
    pub waiting: AtomicU64,
    /// The most requests that ever waited at once.
    pub waiting_peak: AtomicU64,
    /// Requests that wait for a worker now.
    pub queued: AtomicU64,
    /// Lines of the log that nobody took.
    pub log_lines_dropped: AtomicU64,
    /// SIGTERM or SIGINT has come: nothing more is accepted.
    pub is_draining: AtomicBool,
    /// Answers to requests, in the order of [`Status::ALL`].
    answers: [AtomicU64; Status::ALL.len()],
    durations: Durations,
    /// What is counted of a real database.
    pub database: DatabaseCounters,
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

    /// Counts, and logs, that a connection could not be accepted because descriptors or memory ran out.
    pub fn accept_failed(&self, error: &io::Error) {
        self.accept_errors.fetch_add(1, Relaxed);
        if self.accept_log.allows() {
            log::warn!("no connection could be accepted: {error}; they wait in the backlog");
        }
    }

    /// Counts, and logs, that the system refused a thread or a process for a connection, though there were some.
    pub fn spawn_failed(&self, what: &str, error: impl fmt::Display, running: usize) {
        self.spawn_failures.fetch_add(1, Relaxed);
        if self.spawn_log.allows() {
            log::warn!("no {what}: {error}; {running} are there");
        }
    }

    /// Counts a connection that was refused.
    pub fn refuse(&self) {
        self.refused.fetch_add(1, Relaxed);
    }

    /// Counts an answer that was handed to the kernel, to a request that was whole at `start`. There is no such moment if
    /// it was refused before.
    pub fn answer(&self, status: Status, start: Option<Instant>) {
        if let Some((_, answers)) = Status::ALL.iter().zip(&self.answers).find(|(of, _)| **of == status) {
            answers.fetch_add(1, Relaxed);
        }
        if let Some(start) = start {
            self.durations.observe(start.elapsed());
        }
    }

    pub(crate) fn report(&self, metrics: &mut Metrics) {
        let mut gauge = |name, help, value: &AtomicU64| metrics.gauge(name, help, value.load(Relaxed) as f64);
        gauge(name::CONNECTIONS_OPEN, "Connections open now.", &self.open);
        gauge(name::REQUESTS_WAITING, "Requests waiting for the database now.", &self.waiting);
        gauge(name::REQUESTS_WAITING_PEAK, "The most requests that ever waited at once.", &self.waiting_peak);
        gauge(name::REQUESTS_QUEUED, "Requests waiting for a worker now.", &self.queued);
        let is_draining = f64::from(u8::from(self.is_draining.load(Relaxed)));
        metrics.gauge(name::DRAINING, "Whether the server was asked to stop: 1 if it was, else 0.", is_draining);
        let mut counter = |name, help, value: &AtomicU64| metrics.counter(name, help, value.load(Relaxed));
        counter(name::CONNECTIONS_ACCEPTED, "Connections accepted and kept.", &self.accepted);
        counter(name::CONNECTIONS_REFUSED, "Connections answered with 503.", &self.refused);
        counter(name::ACCEPT_ERRORS, "Failures to accept because descriptors or memory ran out.", &self.accept_errors);
        let help = "Lines of the log that were dropped because nobody read standard error.";
        counter(name::LOG_LINES_DROPPED, help, &self.log_lines_dropped);
        counter(
            name::SPAWN_FAILURES,
            "Failures to start a thread or a process for a connection.",
            &self.spawn_failures,
        );
        metrics.counters(
            name::REQUESTS,
            "Requests answered, by status code. Connections that were refused before they could ask are not in it.",
            "code",
            Status::ALL.iter().zip(&self.answers).map(|(of, answers)| (of.code().to_string(), answers.load(Relaxed))),
        );
        let help = "From when a request was read to its end until its answer was handed to the kernel. \
             Requests that were refused before their end are not in it.";
        self.durations.report(name::REQUEST_DURATION, help, metrics);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_has_a_counter() {
        let counters = Counters::default();
        for status in Status::ALL {
            counters.answer(status, None);
        }
        assert_eq!(counters.answers.each_ref().map(|answers| answers.load(Relaxed)), [1; Status::ALL.len()]);
    }
}
