//! Collects latencies while the load runs.

use std::iter;
use std::sync::{Mutex, MutexGuard, PoisonError};

use hdrhistogram::Histogram;
use results::latency::Latencies;

/// Latencies and ages, as users record them.
#[derive(Debug)]
pub(crate) struct Recorder {
    /// Users record into one of these in turn, so that two threads seldom want the same.
    shards: Vec<Mutex<Latencies>>,
}

impl Recorder {
    /// An empty one, for so many threads.
    pub(crate) fn new(threads: usize) -> Self {
        Self { shards: iter::repeat_with(|| Mutex::new(Latencies::new())).take(threads).collect() }
    }

    /// A request was answered after this time: with what was asked for, or with a refusal.
    pub(crate) fn answered(&self, user: usize, latency_us: u64, is_success: bool) {
        self.shard(user).record_answered(latency_us, is_success);
    }

    /// A request of this age had no answer yet when it was last looked at.
    pub(crate) fn unanswered(&self, user: usize, age_us: u64) {
        self.shard(user).record_unanswered(age_us);
    }

    /// A request of this age was there already when the measured time began.
    pub(crate) fn left_truncated(&self, user: usize, age_us: u64) {
        self.shard(user).record_left_truncated(age_us);
    }

    /// All that was recorded so far.
    pub(crate) fn merged(&self) -> Latencies {
        let mut all = Latencies::new();
        for user in 0..self.shards.len() {
            all += &*self.shard(user);
        }
        all
    }

    /// The latencies of the good answers so far.
    pub(crate) fn good_answers(&self) -> Histogram<u64> {
        let mut all = Latencies::empty_histogram();
        for user in 0..self.shards.len() {
            all += self.shard(user).good_answers();
        }
        all
    }

    fn shard(&self, user: usize) -> MutexGuard<'_, Latencies> {
        self.shards[user % self.shards.len()].lock().unwrap_or_else(PoisonError::into_inner)
    }
}
