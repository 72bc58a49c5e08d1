//! What the users of one runtime share: what to send where, the stage, and what they observe.
//!
//! A run has four parts. **Connect**: every user connects, as fast as the server accepts, and may send one greeting, so
//! that an idle connection is one that has served a request. **Go**: all send at once, so that the server has to hold
//! all of their requests, and send again after each answer. After its first answer each user pauses once, for its own
//! share of the wait; otherwise all would stay in step, and 10,000 answers at once each second would measure that crowd
//! and not the server. **Measure**: the window opens when they have drifted apart. **Stop**: the server stops first,
//! and the users wait for it to close. The side that closes first keeps the port in TIME_WAIT, and the client has only
//! some 28,000 ports.

use std::io;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use nix::errno::Errno;
use results::latency::Latencies;
use results::run::Errors;
use tokio::sync::{Semaphore, watch};
use tokio::time::sleep;

use crate::generator::Outcome;
use crate::net::{Endpoint, Exchange, Failure};
use crate::recorder::Recorder;
use crate::requests::Requests;
use crate::shared_histogram::SharedHistogram;

/// No time yet: before the window is set, and for a user without a request in flight.
const NEVER: u64 = u64::MAX;
const LAG_DIGITS: u8 = 2;
const RATE_DIGITS: u8 = 4;

/// What the users are doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    /// They connect, greet, and then wait.
    Connect,
    /// They send, and send again after each answer.
    Go,
    /// They wait for the server to close.
    Stop,
}

/// What the users should do.
#[derive(Debug)]
pub struct LoadSpec {
    /// Where to connect.
    pub endpoint: Endpoint,
    /// A request that each user sends once after it connects.
    pub greeting: Option<Vec<u8>>,
    /// What to send.
    pub requests: Requests,
    /// How many users, and so connections.
    pub users: usize,
    /// How many threads they share.
    pub threads: usize,
    /// When to give up on a request, or on connecting; `None` means never.
    pub timeout: Option<Duration>,
    /// The time over which the users' second requests are spread.
    pub spread: Duration,
    /// How often each user sends; `None` means as soon as it has an answer.
    pub interval: Option<Duration>,
}

impl LoadSpec {
    /// Whether each user sends as soon as it has an answer.
    pub(crate) fn is_closed_loop(&self) -> bool {
        self.interval.is_none() && matches!(self.requests, Requests::Same(_))
    }
}

/// What all users of one run share.
#[derive(Debug)]
pub(crate) struct Shared {
    /// What they should do.
    pub(crate) spec: LoadSpec,
    /// How many users are past their pause.
    settled: AtomicUsize,
    /// Each first connection takes one. They are handed out as the server accepts, so that its backlog never overflows.
    pub(crate) connect_permits: Semaphore,
    epoch: Instant,
    stage: watch::Sender<Stage>,
    /// Mirrors `stage`, to be read without a lock.
    is_stopping: AtomicBool,
    established: AtomicUsize,
    greeted: AtomicUsize,
    reconnected: AtomicU64,
    window_start_us: AtomicU64,
    window_end_us: AtomicU64,
    /// When each user sent its request in flight.
    sent_us: Box<[AtomicU64]>,
    in_flight_at_end: AtomicU64,
    /// Answers within the window, of whatever status.
    answers: AtomicU64,
    /// Bytes of answers within the window.
    bytes: AtomicU64,
    recorder: Recorder,
    /// With an interval: latencies from when a request was sent instead of when it was due.
    uncorrected: Option<Recorder>,
    failures_before: Failures,
    failures: Failures,
    shortage: Shortage,
    /// How late the load generator is to read answers within the window: see [`watch::lag`](crate::watch::lag).
    pub(crate) lag_us: SharedHistogram,
    /// Answers per second within the window, as [`watch::rates`](crate::watch::rates) counts them.
    pub(crate) rates: SharedHistogram,
}

/// What this machine ran out of.
#[derive(Debug, Default)]
struct Shortage {
    ports: AtomicU64,
    descriptors: AtomicU64,
}

#[derive(Debug, Default)]
struct Failures {
    connect: AtomicU64,
    read: AtomicU64,
    write: AtomicU64,
    timeout: AtomicU64,
    status: AtomicU64,
}

impl Failures {
    fn counter(&self, failure: Failure) -> &AtomicU64 {
        match failure {
            Failure::Connect => &self.connect,
            Failure::Read => &self.read,
            Failure::Write => &self.write,
            Failure::Timeout => &self.timeout,
            Failure::Status => &self.status,
        }
    }

    fn sum(&self) -> Errors {
        let Failures { connect, read, write, timeout, status } = self;
        Errors {
            connect: connect.load(Relaxed),
            read: read.load(Relaxed),
            write: write.load(Relaxed),
            timeout: timeout.load(Relaxed),
            status: status.load(Relaxed),
        }
    }
}

impl Shared {
    /// A load that has not started.
    pub(crate) fn new(spec: LoadSpec) -> Self {
        Self {
            settled: AtomicUsize::new(0),
            connect_permits: Semaphore::new(0),
            epoch: Instant::now(),
            stage: watch::Sender::new(Stage::Connect),
            is_stopping: AtomicBool::new(false),
            established: AtomicUsize::new(0),
            greeted: AtomicUsize::new(0),
            reconnected: AtomicU64::new(0),
            window_start_us: AtomicU64::new(NEVER),
            window_end_us: AtomicU64::new(NEVER),
            sent_us: (0..spec.users).map(|_| AtomicU64::new(NEVER)).collect(),
            in_flight_at_end: AtomicU64::new(0),
            answers: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            recorder: Recorder::new(spec.threads),
            uncorrected: spec.interval.map(|_| Recorder::new(spec.threads)),
            failures_before: Failures::default(),
            failures: Failures::default(),
            shortage: Shortage::default(),
            lag_us: SharedHistogram::new(LAG_DIGITS),
            rates: SharedHistogram::new(RATE_DIGITS),
            spec,
        }
    }

    /// Microseconds since the load was created.
    pub(crate) fn now_us(&self) -> u64 {
        self.epoch.elapsed().as_micros() as u64
    }

    /// Enters a stage.
    pub(crate) fn enter(&self, stage: Stage) {
        self.is_stopping.store(stage == Stage::Stop, SeqCst);
        self.stage.send_replace(stage);
    }

    /// A receiver to wait for a stage with.
    pub(crate) fn stages(&self) -> watch::Receiver<Stage> {
        self.stage.subscribe()
    }

    /// Whether the stage is [`Stage::Stop`].
    pub(crate) fn is_stopping(&self) -> bool {
        self.is_stopping.load(Relaxed)
    }

    /// Starts the window that is measured; it ends after `duration` at the latest.
    pub(crate) fn start_window(&self, duration: Duration) {
        let now_us = self.now_us();
        self.window_end_us.store(now_us + duration.as_micros() as u64, SeqCst);
        self.window_start_us.store(now_us, SeqCst);
    }

    /// Ends the window now, unless it has ended already.
    pub(crate) fn end_window(&self) {
        self.window_end_us.fetch_min(self.now_us(), SeqCst);
    }

    /// The length of the window; `None` before it opens.
    pub(crate) fn window(&self) -> Option<Duration> {
        let (start_us, end_us) = self.window_us();
        (start_us != NEVER).then(|| Duration::from_micros(end_us.saturating_sub(start_us)))
    }

    /// Whether the window is open.
    pub(crate) fn is_measuring(&self) -> bool {
        let (start_us, end_us) = self.window_us();
        (start_us..end_us).contains(&self.now_us())
    }

    fn window_us(&self) -> (u64, u64) {
        (self.window_start_us.load(Relaxed), self.window_end_us.load(Relaxed))
    }

    /// Counts a user's first connection.
    pub(crate) fn count_established(&self) {
        self.established.fetch_add(1, Relaxed);
    }

    /// How many users got a connection.
    pub(crate) fn established(&self) -> usize {
        self.established.load(Relaxed)
    }

    /// Counts a user whose greeting is over, answered or not.
    pub(crate) fn count_greeted(&self) {
        self.greeted.fetch_add(1, Relaxed);
    }

    /// How many users have greeted.
    pub(crate) fn greeted(&self) -> usize {
        self.greeted.load(Relaxed)
    }

    /// Pauses `user` after its first answer. There is no pause once the window is open.
    pub(crate) async fn settle(&self, user: usize) {
        if self.window().is_none() {
            sleep(self.spec.spread.mul_f64(user as f64 / self.spec.users as f64)).await;
        }
        self.settled.fetch_add(1, Relaxed);
    }

    /// How many users are past their pause.
    pub(crate) fn settled(&self) -> usize {
        self.settled.load(Relaxed)
    }

    /// Counts a connection that was lost and replaced.
    pub(crate) fn count_reconnected(&self) {
        self.reconnected.fetch_add(1, Relaxed);
    }

    /// Counts a failed attempt to connect.
    pub(crate) fn count_connect_failure(&self, error: &io::Error) {
        self.count_failures(Failure::Connect, 1, self.now_us());
        match error.raw_os_error().map(Errno::from_raw) {
            Some(Errno::EADDRNOTAVAIL) => drop(self.shortage.ports.fetch_add(1, Relaxed)),
            Some(Errno::EMFILE | Errno::ENFILE) => drop(self.shortage.descriptors.fetch_add(1, Relaxed)),
            _ => {}
        }
    }

    /// Failures while the server stops are our doing and do not count.
    fn count_failures(&self, failure: Failure, count: u64, now_us: u64) {
        let (start_us, end_us) = self.window_us();
        if now_us >= end_us || self.is_stopping() {
            return;
        }
        let failures = if now_us < start_us { &self.failures_before } else { &self.failures };
        failures.counter(failure).fetch_add(count, Relaxed);
    }

    /// Failures before the window, and within it.
    pub(crate) fn errors(&self) -> (Errors, Errors) {
        (self.failures_before.sum(), self.failures.sum())
    }

    /// Records that `user` sends a request.
    pub(crate) fn record_sent(&self, user: usize, sent_us: u64) {
        self.sent_us[user].store(sent_us, Relaxed);
    }

    /// Records the outcome of the request that `user` sent.
    pub(crate) fn record_outcome(&self, user: usize, sent_us: u64, ended_us: u64, outcome: Result<Exchange, Failure>) {
        self.sent_us[user].store(NEVER, Relaxed);
        let (start_us, end_us) = self.window_us();
        if ended_us >= end_us {
            // Too late, whatever the outcome: the request was open when the window closed.
            self.count_in_flight(user, sent_us);
            return;
        }
        match outcome {
            Ok(Exchange { refusals: 0, .. }) => {}
            Ok(Exchange { refusals, .. }) => self.count_failures(Failure::Status, refusals, ended_us),
            Err(failure) => self.count_failures(failure, 1, ended_us),
        }
        if ended_us < start_us {
            return;
        }
        self.record_left_truncated(user, sent_us);
        let elapsed_us = ended_us.saturating_sub(sent_us);
        match outcome {
            Ok(exchange) => {
                self.answers.fetch_add(exchange.answers, Relaxed);
                self.bytes.fetch_add(exchange.bytes, Relaxed);
                self.recorder.record_answered(user, elapsed_us, exchange.refusals == 0);
            }
            Err(_) => self.recorder.record_unanswered(user, elapsed_us),
        }
    }

    /// A request sent before the window is known only from the start of the window on.
    fn record_left_truncated(&self, user: usize, sent_us: u64) {
        let (start_us, _) = self.window_us();
        if sent_us < start_us {
            self.recorder.record_left_truncated(user, start_us - sent_us);
        }
    }

    /// Records the latency of an answer from when its request was sent, with a rate.
    pub(crate) fn record_uncorrected(&self, user: usize, latency_us: u64) {
        if let Some(uncorrected) = self.uncorrected.as_ref().filter(|_| self.is_measuring()) {
            uncorrected.record_answered(user, latency_us, true);
        }
    }

    /// The latencies of the good answers so far.
    pub(crate) fn good_answers(&self) -> Histogram<u64> {
        self.recorder.good_answers()
    }

    /// Answers within the window so far, whatever their status.
    pub(crate) fn answers(&self) -> u64 {
        self.answers.load(Relaxed)
    }

    /// Everything the users observed, including the requests that never ended. Call it once, after the users have
    /// ended.
    pub(crate) fn finish(&self) -> Outcome {
        if self.window().is_some() {
            for (user, sent_us) in self.sent_us.iter().enumerate() {
                self.count_in_flight(user, sent_us.load(SeqCst));
            }
        }
        Outcome {
            latencies: self.recorder.merged(),
            uncorrected: self.uncorrected.as_ref().map_or_else(Latencies::new, Recorder::merged),
            rates: self.rates.snapshot(),
            answers: self.answers(),
            bytes: self.bytes.load(Relaxed),
            in_flight: self.in_flight_at_end.load(SeqCst),
            established: self.established(),
            reconnected: self.reconnected.load(Relaxed),
            errors_before: self.failures_before.sum(),
            errors: self.failures.sum(),
            port_shortages: self.shortage.ports.load(Relaxed),
            descriptor_shortages: self.shortage.descriptors.load(Relaxed),
            lag_p99_us: Some(self.lag_us.snapshot().value_at_quantile(0.99)),
            window: self.window(),
            is_closed_loop: self.spec.is_closed_loop(),
        }
    }

    fn count_in_flight(&self, user: usize, sent_us: u64) {
        let (_, end_us) = self.window_us();
        if sent_us < end_us {
            self.record_left_truncated(user, sent_us);
            self.recorder.record_unanswered(user, end_us - sent_us);
            self.in_flight_at_end.fetch_add(1, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shared() -> Shared {
        let shared = Shared::new(LoadSpec {
            endpoint: Endpoint::tcp(([127, 0, 0, 1], 1).into()),
            greeting: None,
            requests: Requests::Same(Vec::new()),
            users: 4,
            threads: 2,
            timeout: None,
            spread: Duration::ZERO,
            interval: None,
        });
        shared.window_start_us.store(1_000, SeqCst);
        shared.window_end_us.store(11_000, SeqCst);
        shared
    }

    const ANSWERED: Result<Exchange, Failure> =
        Ok(Exchange { answers: 1, refusals: 0, bytes: 100, is_persistent: true });
    const REFUSED: Result<Exchange, Failure> =
        Ok(Exchange { answers: 1, refusals: 1, bytes: 100, is_persistent: true });

    #[test]
    fn only_what_ends_within_the_window_is_an_answer() {
        let shared = shared();
        shared.record_outcome(0, 0, 999, ANSWERED);
        shared.record_outcome(0, 999, 1_000, ANSWERED);
        shared.record_outcome(0, 1_000, 10_999, ANSWERED);
        shared.record_outcome(0, 10_999, 11_000, ANSWERED);
        shared.record_outcome(0, 11_000, 12_000, ANSWERED);
        let outcome = shared.finish();
        assert_eq!((outcome.latencies.answered(), outcome.in_flight), (2, 1));
        assert_eq!((outcome.answers, outcome.bytes), (2, 200));
    }

    #[test]
    fn a_request_that_never_ends_is_in_flight_once() {
        let shared = shared();
        shared.record_sent(0, 500);
        shared.record_sent(1, 11_000);
        shared.record_sent(2, 600);
        shared.record_outcome(2, 600, 20_000, Err(Failure::Read));
        shared.record_sent(2, 20_000);
        let outcome = shared.finish();
        assert_eq!((outcome.latencies.answered(), outcome.in_flight), (0, 2));
    }

    #[test]
    fn failures_before_the_window_and_within_it_are_kept_apart() {
        let shared = shared();
        shared.record_outcome(0, 0, 10, REFUSED);
        shared.record_outcome(0, 10, 2_000, REFUSED);
        shared.record_outcome(0, 2_000, 3_000, Err(Failure::Read));
        shared.record_outcome(0, 10, 11_000, REFUSED);
        shared.enter(Stage::Stop);
        shared.record_outcome(0, 10, 5_000, Err(Failure::Read));
        let before = Errors { status: 1, ..Errors::default() };
        assert_eq!(shared.errors(), (before, Errors { status: 1, read: 1, ..Errors::default() }));
    }
}
