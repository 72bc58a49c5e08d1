//! The seam between the load and whoever measures: what a run needs of a load generator, wherever its users are.

use std::ops::Add;
use std::time::Duration;

use anyhow::Result;
use hdrhistogram::Histogram;
use results::latency::Latencies;
use results::run::Errors;

/// A load generator.
///
/// Its users connect when they are [permitted](Self::permit), send from [`go`](Self::go) on, are measured from
/// [`open_window`](Self::open_window) to [`close_window`](Self::close_window), and wait for the server to close after
/// [`stop`](Self::stop).
pub trait Generator {
    /// Starts the users.
    ///
    /// # Errors
    /// There are no threads for them.
    fn start(&mut self) -> Result<()>;

    /// Lets so many more users connect.
    fn permit(&mut self, users: usize);

    /// Lets the users send, and send again whenever an answer has come.
    fn go(&mut self);

    /// Starts the window that is measured; it ends after `duration` at the latest.
    fn open_window(&mut self, duration: Duration);

    /// Ends the window now, unless it has ended already.
    fn close_window(&mut self);

    /// How far the users are.
    fn progress(&self) -> Progress;

    /// What they have seen within the window so far.
    fn snapshot(&self) -> Snapshot;

    /// Why no user goes on, if none does.
    fn failure(&mut self) -> Option<String>;

    /// Tells the users that the server is about to stop: what fails from now on does not count.
    fn stop(&mut self);

    /// Ends the users, closes their connections, and gives all that they have seen.
    fn finish(self: Box<Self>) -> Outcome;
}

/// How far the users are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Users that have had a connection.
    pub established: usize,
    /// Users whose first request, which needs no database, is over.
    pub greeted: usize,
    /// Users that no longer send in step with the others.
    pub settled: usize,
}

/// What users have seen within the window so far.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The latencies of good answers, in microseconds.
    pub good_answers: Histogram<u64>,
    /// Failures of all kinds.
    pub errors: u64,
}

/// All that users have seen.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The latencies of answers within the window, and the ages of requests that had none.
    pub latencies: Latencies,
    /// With a rate: latencies from when requests were sent, though they were due earlier.
    pub uncorrected: Latencies,
    /// Answers a second, of each thread, in every tenth of a second.
    pub rates: Histogram<u64>,
    /// Answers within the window, of whatever status.
    pub answers: u64,
    /// Bytes of those answers.
    pub bytes: u64,
    /// Requests without an answer when the window ended.
    pub in_flight: u64,
    /// Users that have had a connection.
    pub established: usize,
    /// Connections that were lost and replaced.
    pub reconnected: u64,
    /// What failed before the window.
    pub errors_before: Errors,
    /// What failed within the window.
    pub errors: Errors,
    /// How often there was no port to connect from.
    pub port_shortages: u64,
    /// How often there was no descriptor to connect with.
    pub descriptor_shortages: u64,
    /// How late the generator's timers were: the 99th percentile, in microseconds.
    pub lag_p99_us: Option<u64>,
    /// How long the window was; nothing if it was never opened.
    pub window: Option<Duration>,
    /// Whether each user sends as soon as it has an answer.
    pub is_closed_loop: bool,
}

impl Outcome {
    /// Of a load without users.
    pub(crate) fn empty() -> Self {
        Self {
            latencies: Latencies::new(),
            uncorrected: Latencies::new(),
            rates: Latencies::empty_histogram(),
            answers: 0,
            bytes: 0,
            in_flight: 0,
            established: 0,
            reconnected: 0,
            errors_before: Errors::default(),
            errors: Errors::default(),
            port_shortages: 0,
            descriptor_shortages: 0,
            lag_p99_us: None,
            window: None,
            is_closed_loop: true,
        }
    }
}

impl Add for Outcome {
    type Output = Self;

    /// What two loads have seen together.
    fn add(mut self, other: Self) -> Self {
        self.latencies += &other.latencies;
        self.uncorrected += &other.uncorrected;
        self.rates += &other.rates;
        self.errors_before += other.errors_before;
        self.errors += other.errors;
        Self {
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
            ..self
        }
    }
}
