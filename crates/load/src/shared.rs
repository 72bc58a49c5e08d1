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
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, watch};

use crate::failures::Failure;
use crate::generator::Outcome;
use crate::observations::Observations;
use crate::spec::LoadSpec;
use crate::timer::Timer;

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

/// What all users of one run share.
#[derive(Debug)]
pub(crate) struct Shared {
    /// What they should do.
    pub(crate) spec: LoadSpec,
    /// What they observe.
    pub(crate) observations: Observations,
    /// Wakes them when a request is due.
    pub(crate) timer: Timer,
    /// Each first connection takes one. They are handed out as the server accepts, so that its backlog never overflows.
    pub(crate) connect_permits: Semaphore,
    epoch: Instant,
    stage: watch::Sender<Stage>,
    /// Mirrors `stage`, to be read without a lock.
    is_stopping: AtomicBool,
    greeted: AtomicUsize,
    /// How many users are past their pause.
    settled: AtomicUsize,
}

impl Shared {
    /// A load that has not started, whose timer watches the clock for so long before each alarm.
    ///
    /// # Errors
    /// No file descriptor is left for its timer.
    pub(crate) fn new(spec: LoadSpec, watch: Duration) -> io::Result<Self> {
        Ok(Self {
            observations: Observations::new(&spec),
            timer: Timer::new(watch)?,
            connect_permits: Semaphore::new(0),
            epoch: Instant::now(),
            stage: watch::Sender::new(Stage::Connect),
            is_stopping: AtomicBool::new(false),
            greeted: AtomicUsize::new(0),
            settled: AtomicUsize::new(0),
            spec,
        })
    }

    /// Microseconds since the load was created.
    pub(crate) fn now_us(&self) -> u64 {
        self.epoch.elapsed().as_micros() as u64
    }

    /// The instant of a time that is in microseconds since the load was created.
    pub(crate) fn instant(&self, time_us: u64) -> Instant {
        self.epoch + Duration::from_micros(time_us)
    }

    /// Enters a stage.
    pub(crate) fn enter(&self, stage: Stage) {
        self.is_stopping.store(stage == Stage::Stop, SeqCst);
        self.stage.send_replace(stage);
    }

    /// Waits until the users may send.
    pub(crate) async fn wait_for_go(&self) {
        // The sender is in `self`, and so is not gone.
        let _ = self.stage.subscribe().wait_for(|stage| *stage != Stage::Connect).await;
    }

    /// Whether the stage is [`Stage::Stop`].
    pub(crate) fn is_stopping(&self) -> bool {
        self.is_stopping.load(Relaxed)
    }

    /// Starts the window that is measured; it ends after `duration` at the latest.
    pub(crate) fn start_window(&self, duration: Duration) {
        self.observations.window.open(self.now_us(), duration);
    }

    /// Ends the window now, unless it has ended already.
    pub(crate) fn end_window(&self) {
        self.observations.window.close(self.now_us());
    }

    /// Whether the window is open.
    pub(crate) fn is_measuring(&self) -> bool {
        self.observations.window.contains(self.now_us())
    }

    /// Counts a failure. Those while the server stops are our doing and do not count.
    pub(crate) fn count_failure(&self, failure: Failure) {
        if !self.is_stopping() {
            self.observations.count_failure(failure, self.now_us());
        }
    }

    /// Counts a user whose greeting is over, answered or not.
    pub(crate) fn count_greeted(&self) {
        self.greeted.fetch_add(1, Relaxed);
    }

    /// How many users have greeted.
    pub(crate) fn greeted(&self) -> usize {
        self.greeted.load(Relaxed)
    }

    /// How long `user` pauses after its first answer. There is no pause once the window is open.
    pub(crate) fn settling_pause(&self, user: usize) -> Duration {
        match self.observations.window.length() {
            None => self.spec.spread.mul_f64(user as f64 / self.spec.users as f64),
            Some(_) => Duration::ZERO,
        }
    }

    /// Counts a user that is past its pause.
    pub(crate) fn count_settled(&self) {
        self.settled.fetch_add(1, Relaxed);
    }

    /// How many users are past their pause.
    pub(crate) fn settled(&self) -> usize {
        self.settled.load(Relaxed)
    }

    /// Everything the users observed. Call it once, after they have ended.
    pub(crate) fn finish(&self) -> Outcome {
        self.observations.finish(self.spec.is_closed_loop())
    }
}
