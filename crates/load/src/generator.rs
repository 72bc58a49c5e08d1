//! The interface between a run and its load generator, wherever the users are.

use std::ops::Add;
use std::time::Duration;

use anyhow::Result;
use hdrhistogram::Histogram;
use results::Warning;
use results::latency::{Latencies, histogram};
use results::run::{ClientSummary, ErrorReason, Errors, Fleet, Rate};
use serde::{Deserialize, Serialize};

/// A load generator.
///
/// Its users connect when [permitted](Self::permit) and send from [`go`](Self::go) on. What they observe counts from
/// [`start_window`](Self::start_window) to [`end_window`](Self::end_window), and after [`stop`](Self::stop) they wait
/// for the server to close.
pub trait Generator {
    /// Starts the users.
    ///
    /// # Errors
    /// Their threads cannot be started.
    fn start(&mut self) -> Result<()>;

    /// Lets this many more users connect.
    fn permit(&mut self, users: usize);

    /// Lets the users send, and send again after each answer.
    fn go(&mut self);

    /// Starts the window, which ends after `duration` at the latest.
    fn start_window(&mut self, duration: Duration);

    /// Ends the window now, unless it already has ended.
    fn end_window(&mut self);

    /// How far the users are.
    fn progress(&self) -> Progress;

    /// What the users have observed within the window so far.
    fn snapshot(&self) -> Snapshot;

    /// The reasons of all failures so far, within the window and before.
    fn failures(&self) -> Vec<ErrorReason>;

    /// Why all users stopped, if they did.
    fn failure(&mut self) -> Option<String>;

    /// The processes on this machine that its users run in, besides this one.
    fn pids(&self) -> Vec<i32> {
        Vec::new()
    }

    /// Whether its threads watch the clock while a request is due soon. That takes CPU time which is no work.
    fn watches_clock(&self) -> bool {
        false
    }

    /// Announces that the server is about to stop: failures from now on do not count.
    fn stop(&mut self);

    /// Ends the users, closes their connections, and returns everything they observed.
    fn finish(self: Box<Self>) -> Outcome;
}

/// How far the users are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Users that got a connection.
    pub established: usize,
    /// Users whose greeting, a request without a query, is over.
    pub greeted: usize,
    /// Users that no longer send in step with the others.
    pub settled: usize,
}

/// What users have observed within the window so far.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Snapshot {
    /// The latencies of good answers, in microseconds.
    #[serde(with = "histogram")]
    pub good_answers: Histogram<u64>,
    /// Failures of all kinds.
    pub errors: u64,
}

/// Everything that users observed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Outcome {
    /// The latencies of answers within the window, and the ages of unanswered requests.
    pub latencies: Latencies,
    /// The time that requests were in flight within the window, added up, in microseconds.
    pub in_flight_time_us: f64,
    /// With a rate: what became of the requests that were due.
    pub rate: Option<Rate>,
    /// With a rate: latencies from when requests were sent, although they were due earlier.
    pub uncorrected: Latencies,
    /// Answers per second of each thread, sampled every tenth of a second.
    #[serde(with = "histogram")]
    pub rates: Histogram<u64>,
    /// Answers within the window, whatever their status.
    pub answers: u64,
    /// Bytes of those answers.
    pub bytes: u64,
    /// Requests still unanswered when the window closed.
    pub in_flight: u64,
    /// Users that got a connection.
    pub established: usize,
    /// How long after the start of the window users were connected, added up, in microseconds.
    pub established_late_us: u64,
    /// Users with a connection, but without any answer within the window.
    pub never_answered: u64,
    /// Connections that were lost and replaced.
    pub reconnected: u64,
    /// How often a user paused because it could not connect.
    pub connect_pauses: u64,
    /// Failures before the window.
    pub errors_before: Errors,
    /// Failures within the window.
    pub errors: Errors,
    /// The reasons of all failures.
    pub error_reasons: Vec<ErrorReason>,
    /// How often no port was left to connect from.
    pub port_shortages: u64,
    /// How often no file descriptor was left to connect with.
    pub descriptor_shortages: u64,
    /// How late the generator's timers fired: the 99th percentile, in microseconds.
    pub lag_p99_us: Option<u64>,
    /// How long the window was; `None` if it never opened.
    pub window: Option<Duration>,
    /// Whether each user sends as soon as it has an answer.
    pub is_closed_loop: bool,
    /// Why the load failed, if that was only seen at its end.
    pub failure: Option<String>,
    /// What is known of the processes that the users ran in, if it was not this one.
    #[serde(skip)]
    pub elsewhere: Option<Elsewhere>,
}

/// What other processes that users ran in say of themselves.
#[derive(Clone, Debug)]
pub struct Elsewhere {
    /// The processes.
    pub fleet: Fleet,
    /// What they cost together.
    pub client: ClientSummary,
    /// Why to doubt what they did.
    pub warnings: Vec<Warning>,
}

impl Outcome {
    /// The outcome of a load without users.
    pub fn empty() -> Self {
        Self {
            latencies: Latencies::new(),
            in_flight_time_us: 0.0,
            rate: None,
            uncorrected: Latencies::new(),
            rates: Latencies::empty_histogram(),
            answers: 0,
            bytes: 0,
            in_flight: 0,
            established: 0,
            established_late_us: 0,
            never_answered: 0,
            reconnected: 0,
            connect_pauses: 0,
            errors_before: Errors::default(),
            errors: Errors::default(),
            error_reasons: Vec::new(),
            port_shortages: 0,
            descriptor_shortages: 0,
            lag_p99_us: None,
            window: None,
            is_closed_loop: true,
            failure: None,
            elsewhere: None,
        }
    }
}

impl Add for Outcome {
    type Output = Self;

    /// The combined outcome of two loads.
    fn add(mut self, other: Self) -> Self {
        self.latencies += &other.latencies;
        self.uncorrected += &other.uncorrected;
        self.rates += &other.rates;
        self.errors_before += other.errors_before;
        self.errors += other.errors;
        self.error_reasons.extend(other.error_reasons);
        Self {
            in_flight_time_us: self.in_flight_time_us + other.in_flight_time_us,
            rate: self.rate.map_or(other.rate, |rate| other.rate.map(|other| rate + other)),
            established_late_us: self.established_late_us + other.established_late_us,
            never_answered: self.never_answered + other.never_answered,
            connect_pauses: self.connect_pauses + other.connect_pauses,
            answers: self.answers + other.answers,
            bytes: self.bytes + other.bytes,
            in_flight: self.in_flight + other.in_flight,
            established: self.established + other.established,
            reconnected: self.reconnected + other.reconnected,
            port_shortages: self.port_shortages + other.port_shortages,
            descriptor_shortages: self.descriptor_shortages + other.descriptor_shortages,
            lag_p99_us: self.lag_p99_us.max(other.lag_p99_us),
            window: self.window.or(other.window),
            is_closed_loop: self.is_closed_loop && other.is_closed_loop,
            failure: self.failure.or(other.failure),
            ..self
        }
    }
}
