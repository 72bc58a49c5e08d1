//! What the users observe.
//!
//! Every request is one observation: it is answered, or has no answer at some age. Of pipelined requests each counts by
//! itself, from when they were sent together.

use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicU64};

use hdrhistogram::Histogram;
use results::latency::Latencies;
use results::run::Rate;

use crate::failures::{Failure, Failures};
use crate::generator::Outcome;
use crate::pace::Schedule;
use crate::recorder::Recorder;
use crate::shared_histogram::SharedHistogram;
use crate::spec::LoadSpec;
use crate::window::Window;

/// No request in flight, or none due yet.
const NEVER: u64 = u64::MAX;
const LAG_DIGITS: u8 = 2;
const RATE_DIGITS: u8 = 4;

/// Requests that a user has just sent together. Times are in microseconds since the load was created.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sent {
    /// Who sent them.
    pub(crate) user: usize,
    /// How many.
    pub(crate) requests: u64,
    /// When they were due; without a rate, when they were sent.
    pub(crate) due_us: u64,
    /// When they were sent.
    pub(crate) sent_us: u64,
}

/// What all users of one run have observed.
#[derive(Debug)]
pub(crate) struct Observations {
    pub(crate) window: Window,
    pub(crate) failures: Failures,
    users: Box<[UserState]>,
    schedule: Option<Schedule>,
    established: AtomicU64,
    /// How long after the start of the window users were connected, added up.
    established_late_us: AtomicU64,
    reconnected: AtomicU64,
    connect_pauses: AtomicU64,
    /// Answers within the window, of whatever status.
    answers: AtomicU64,
    /// Bytes of answers within the window.
    bytes: AtomicU64,
    /// Requests sent within the window.
    sent: AtomicU64,
    /// Requests due within the window and sent behind it.
    sent_late: AtomicU64,
    in_flight_at_end: AtomicU64,
    recorder: Recorder,
    /// With a rate: latencies from when a request was sent instead of when it was due.
    uncorrected: Option<Recorder>,
    /// How late the load generator is: see [`watch::lag`](crate::watch::lag).
    lag_us: SharedHistogram,
    /// Answers per second within the window, as [`watch::rates`](crate::watch::rates) counts them.
    pub(crate) rates: SharedHistogram,
}

#[derive(Debug)]
struct UserState {
    /// When its requests in flight were due.
    due_us: AtomicU64,
    /// How many of them have no answer yet.
    unanswered: AtomicU64,
    /// With a rate: the first of its requests that has not been sent.
    next_due_us: AtomicU64,
    /// Whether it got an answer within the window.
    has_answer: AtomicBool,
}

impl Observations {
    /// No observations yet.
    pub(crate) fn new(spec: &LoadSpec) -> Self {
        let user = || UserState {
            due_us: AtomicU64::new(NEVER),
            unanswered: AtomicU64::new(0),
            next_due_us: AtomicU64::new(NEVER),
            has_answer: AtomicBool::new(false),
        };
        Self {
            window: Window::new(),
            failures: Failures::default(),
            users: (0..spec.users).map(|_| user()).collect(),
            schedule: spec.schedule(),
            established: AtomicU64::new(0),
            established_late_us: AtomicU64::new(0),
            reconnected: AtomicU64::new(0),
            connect_pauses: AtomicU64::new(0),
            answers: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            sent_late: AtomicU64::new(0),
            in_flight_at_end: AtomicU64::new(0),
            recorder: Recorder::new(spec.threads),
            uncorrected: spec.interval.map(|_| Recorder::new(spec.threads)),
            lag_us: SharedHistogram::new(LAG_DIGITS),
            rates: SharedHistogram::new(RATE_DIGITS),
        }
    }

    /// Counts a user's first connection.
    pub(crate) fn count_established(&self, now_us: u64) {
        let (start_us, end_us) = self.window.bounds_us();
        self.established_late_us.fetch_add(now_us.min(end_us).saturating_sub(start_us), Relaxed);
        self.established.fetch_add(1, Relaxed);
    }

    /// How many users got a connection.
    pub(crate) fn established(&self) -> usize {
        self.established.load(Relaxed) as usize
    }

    /// Counts a connection that was lost and replaced.
    pub(crate) fn count_reconnected(&self) {
        self.reconnected.fetch_add(1, Relaxed);
    }

    /// Counts a pause because a user could not connect.
    pub(crate) fn count_connect_pause(&self) {
        self.connect_pauses.fetch_add(1, Relaxed);
    }

    /// Counts a failure. Those after the window do not count.
    pub(crate) fn count_failure(&self, failure: Failure, now_us: u64) {
        let (start_us, end_us) = self.window.bounds_us();
        if now_us < end_us {
            self.failures.count(failure, now_us < start_us);
        }
    }

    /// Notes which of a user's requests is due next.
    pub(crate) fn note_next_due(&self, user: usize, next_due_us: u64) {
        self.users[user].next_due_us.store(next_due_us, Relaxed);
    }

    /// Records that requests were sent.
    pub(crate) fn record_sent(&self, sent: Sent) {
        if self.is_late(sent) {
            return self.record_sent_late(sent);
        }
        let user = &self.users[sent.user];
        user.unanswered.store(sent.requests, Relaxed);
        user.due_us.store(sent.due_us, Relaxed);
        if self.window.contains(sent.sent_us) {
            self.sent.fetch_add(sent.requests, Relaxed);
        }
    }

    /// Whether these requests were sent when the window had closed.
    fn is_late(&self, sent: Sent) -> bool {
        let (_, end_us) = self.window.bounds_us();
        sent.sent_us >= end_us
    }

    /// With a rate: requests that were due within the window and are sent behind it, because their user had to wait for an
    /// answer. For the window they are among those that were never sent.
    fn record_sent_late(&self, sent: Sent) {
        let (_, end_us) = self.window.bounds_us();
        if sent.due_us < end_us {
            (0..sent.requests).for_each(|_| self.recorder.record_unanswered(sent.user, end_us - sent.due_us));
            self.sent_late.fetch_add(sent.requests, Relaxed);
        }
    }

    /// Records an answer to one of the requests in `sent`.
    pub(crate) fn record_answer(&self, sent: Sent, now_us: u64, status: u16, is_success: bool, bytes: u64) {
        if self.is_late(sent) {
            return;
        }
        let user = &self.users[sent.user];
        user.unanswered.fetch_sub(1, Relaxed);
        let (start_us, end_us) = self.window.bounds_us();
        if now_us >= end_us {
            // Too late, whatever the answer: the request was open when the window closed.
            self.record_in_flight(sent.user, sent.due_us, 1);
            return;
        }
        if !is_success {
            self.count_failure(Failure::of_status(status), now_us);
        }
        if now_us < start_us {
            return;
        }
        self.record_left_truncated(sent.user, sent.due_us);
        self.recorder.record_answered(sent.user, now_us.saturating_sub(sent.due_us), is_success);
        if let Some(uncorrected) = &self.uncorrected {
            uncorrected.record_answered(sent.user, now_us.saturating_sub(sent.sent_us), is_success);
        }
        self.answers.fetch_add(1, Relaxed);
        self.bytes.fetch_add(bytes, Relaxed);
        user.has_answer.store(true, Relaxed);
    }

    /// Records that no more answers to `sent` will come, and why, if some are missing.
    pub(crate) fn record_end(&self, sent: Sent, now_us: u64, failure: Option<Failure>) {
        if self.is_late(sent) {
            return;
        }
        let user = &self.users[sent.user];
        user.due_us.store(NEVER, Relaxed);
        let unanswered = user.unanswered.swap(0, Relaxed);
        let (start_us, end_us) = self.window.bounds_us();
        if now_us >= end_us {
            self.record_in_flight(sent.user, sent.due_us, unanswered);
            return;
        }
        failure.into_iter().for_each(|failure| self.count_failure(failure, now_us));
        if now_us >= start_us {
            for _ in 0..unanswered {
                self.record_left_truncated(sent.user, sent.due_us);
                self.recorder.record_unanswered(sent.user, now_us.saturating_sub(sent.due_us));
            }
        }
    }

    /// A request sent before the window is known only from the start of the window on.
    fn record_left_truncated(&self, user: usize, due_us: u64) {
        let (start_us, _) = self.window.bounds_us();
        if due_us < start_us {
            self.recorder.record_left_truncated(user, start_us - due_us);
        }
    }

    /// Requests that were open when the window closed.
    fn record_in_flight(&self, user: usize, due_us: u64, requests: u64) {
        let (_, end_us) = self.window.bounds_us();
        if due_us >= end_us {
            return;
        }
        for _ in 0..requests {
            self.record_left_truncated(user, due_us);
            self.recorder.record_unanswered(user, end_us - due_us);
        }
        self.in_flight_at_end.fetch_add(requests, Relaxed);
    }

    /// Records how late the load generator was to do what was due at `due_us`.
    pub(crate) fn record_lag(&self, due_us: u64, now_us: u64) {
        if self.window.contains(now_us) {
            self.lag_us.record(now_us.saturating_sub(due_us));
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
    pub(crate) fn finish(&self, is_closed_loop: bool) -> Outcome {
        let window = self.window.length();
        let (mut never_sent, mut never_answered) = (self.sent_late.load(SeqCst), 0);
        if window.is_some() {
            for (number, user) in self.users.iter().enumerate() {
                self.record_in_flight(number, user.due_us.load(SeqCst), user.unanswered.load(SeqCst));
                never_sent += self.record_never_sent(number, user);
                never_answered += u64::from(!user.has_answer.load(SeqCst));
            }
        }
        let users_not_established = self.users.len() as u64 - self.established.load(SeqCst);
        let (sent, latencies) = (self.sent.load(SeqCst), self.recorder.merged());
        Outcome {
            failure: None,
            in_flight_time_us: latencies.time_in_flight_us(),
            latencies,
            uncorrected: self.uncorrected.as_ref().map_or_else(Latencies::new, Recorder::merged),
            rates: self.rates.snapshot(),
            rate: self.schedule.as_ref().map(|_| Rate::new(sent + never_sent, sent, self.answers())),
            answers: self.answers(),
            bytes: self.bytes.load(SeqCst),
            in_flight: self.in_flight_at_end.load(SeqCst),
            established: self.established(),
            established_late_us: self.established_late_us.load(SeqCst),
            never_answered: never_answered.saturating_sub(users_not_established),
            reconnected: self.reconnected.load(SeqCst),
            connect_pauses: self.connect_pauses.load(SeqCst),
            errors_before: self.failures.before(),
            errors: self.failures.within(),
            error_reasons: self.failures.reasons(),
            port_shortages: self.failures.port_shortages(),
            descriptor_shortages: self.failures.descriptor_shortages(),
            lag_p99_us: Some(self.lag_us.snapshot().value_at_quantile(0.99)),
            window,
            is_closed_loop,
            elsewhere: None,
        }
    }

    /// With a rate: requests that were due within the window, and had to wait for an earlier answer beyond its end. They
    /// have no answer either, and they waited from when they were due.
    fn record_never_sent(&self, number: usize, user: &UserState) -> u64 {
        let Some(schedule) = &self.schedule else { return 0 };
        let (start_us, end_us) = self.window.bounds_us();
        let next_due_us = match user.next_due_us.load(SeqCst) {
            NEVER => schedule.first_due_us(number, start_us),
            next_due_us => next_due_us as f64,
        };
        let due_us = schedule.from(next_due_us).take_while(|due_us| *due_us < end_us as f64);
        let mut count = 0;
        for due_us in due_us {
            self.recorder.record_unanswered(number, end_us - due_us as u64);
            count += 1;
        }
        count
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use results::run::{ErrorKind, Errors};

    use super::*;
    use crate::net::Endpoint;
    use crate::requests::Requests;

    const READ_FAILURE: Failure = Failure::new(ErrorKind::Read, "closed");

    /// A window from 1 to 11 ms.
    fn observations(interval: Option<Duration>) -> Observations {
        let observations = Observations::new(&LoadSpec {
            endpoint: Endpoint::tcp(([127, 0, 0, 1], 1).into()),
            greeting: None,
            requests: Requests::Same(Vec::new()),
            users: 4,
            threads: 2,
            timeout: None,
            spread: Duration::ZERO,
            interval,
        });
        observations.window.open(1_000, Duration::from_millis(10));
        observations
    }

    fn send(observations: &Observations, user: usize, requests: u64, sent_us: u64) -> Sent {
        let sent = Sent { user, requests, due_us: sent_us, sent_us };
        observations.record_sent(sent);
        sent
    }

    /// One request and its answer.
    fn exchange(observations: &Observations, user: usize, sent_us: u64, ended_us: u64, status: u16) {
        let sent = send(observations, user, 1, sent_us);
        observations.record_answer(sent, ended_us, status, status < 400, 100);
        observations.record_end(sent, ended_us, None);
    }

    #[test]
    fn only_what_ends_within_the_window_is_an_answer() {
        let observations = observations(None);
        for (sent_us, ended_us) in [(0, 999), (999, 1_000), (1_000, 10_999), (10_999, 11_000), (11_000, 12_000)] {
            exchange(&observations, 0, sent_us, ended_us, 200);
        }
        let outcome = observations.finish(true);
        assert_eq!((outcome.latencies.answered(), outcome.in_flight), (2, 1));
        assert_eq!((outcome.answers, outcome.bytes), (2, 200));
        // 1 us in the window of the one from before it, 9,999 us and 1 us.
        assert_eq!(outcome.in_flight_time_us, 10_000.0);
    }

    #[test]
    fn a_request_that_never_ends_is_in_flight_once() {
        let observations = observations(None);
        send(&observations, 0, 1, 500);
        send(&observations, 1, 1, 11_000);
        let late = send(&observations, 2, 1, 600);
        observations.record_end(late, 20_000, Some(READ_FAILURE));
        send(&observations, 2, 1, 20_000);
        let outcome = observations.finish(true);
        assert_eq!((outcome.latencies.answered(), outcome.in_flight, outcome.errors.total()), (0, 2, 0));
    }

    #[test]
    fn failures_before_the_window_and_within_it_are_kept_apart() {
        let observations = observations(None);
        exchange(&observations, 0, 0, 10, 503);
        exchange(&observations, 0, 10, 2_000, 503);
        let sent = send(&observations, 0, 1, 2_000);
        observations.record_end(sent, 3_000, Some(READ_FAILURE));
        exchange(&observations, 0, 10, 11_000, 503);
        let outcome = observations.finish(true);
        assert_eq!(outcome.errors_before, Errors { status: 1, ..Errors::default() });
        assert_eq!(outcome.errors, Errors { status: 1, read: 1, ..Errors::default() });
        assert_eq!(outcome.error_reasons.iter().map(|reason| reason.count).sum::<u64>(), 3);
    }

    #[test]
    fn each_pipelined_request_counts_by_itself() {
        let observations = observations(None);
        let sent = send(&observations, 0, 4, 2_000);
        observations.record_answer(sent, 3_000, 200, true, 10);
        observations.record_answer(sent, 4_000, 404, false, 10);
        observations.record_end(sent, 5_000, Some(READ_FAILURE));
        let outcome = observations.finish(false);
        assert_eq!((outcome.answers, outcome.latencies.answered(), outcome.latencies.refused()), (2, 1, 1));
        assert_eq!(outcome.latencies.unanswered(), 2);
        assert_eq!(outcome.errors, Errors { status: 1, read: 1, ..Errors::default() });
    }

    #[test]
    fn what_was_due_and_not_sent_counts_from_when_it_was_due() {
        // Each of the four users sends every 2 ms: 20 requests are due within the window.
        let observations = observations(Some(Duration::from_millis(2)));
        (0..4).for_each(|_| observations.count_established(0));
        let sent = send(&observations, 0, 1, 1_000);
        observations.note_next_due(0, 3_000);
        observations.record_answer(sent, 2_000, 200, true, 10);
        observations.record_end(sent, 2_000, None);
        // One is in flight, and four more of this user were due after it.
        send(&observations, 1, 1, 1_500);
        observations.note_next_due(1, 3_500);
        let outcome = observations.finish(false);
        assert_eq!(outcome.rate, Some(Rate::new(20, 2, 1)));
        assert_eq!((outcome.in_flight, outcome.latencies.unanswered()), (1, 19));
        assert_eq!(outcome.never_answered, 3);
    }

    #[test]
    fn what_is_sent_behind_the_window_was_not_in_flight_at_its_end() {
        let observations = observations(Some(Duration::from_millis(2)));
        (0..4).for_each(|_| observations.count_established(0));
        let first = send(&observations, 0, 1, 1_000);
        observations.record_answer(first, 11_500, 200, true, 10);
        observations.record_end(first, 11_500, None);
        let second = Sent { user: 0, requests: 1, due_us: 3_000, sent_us: 11_500 };
        observations.record_sent(second);
        observations.note_next_due(0, 5_000);
        observations.record_answer(second, 12_000, 200, true, 10);
        observations.record_end(second, 12_000, None);
        let outcome = observations.finish(false);
        assert_eq!(outcome.rate, Some(Rate::new(20, 1, 0)));
        assert_eq!((outcome.in_flight, outcome.latencies.unanswered()), (1, 20));
    }
}
