//! Records latencies while the load runs.

use std::iter;
use std::sync::{Mutex, MutexGuard, PoisonError};

use hdrhistogram::Histogram;
use results::latency::Latencies;

/// Latencies and ages, sharded by user.
#[derive(Debug)]
pub(crate) struct Recorder {
    /// Users are spread over the shards, so that two threads seldom contend for one.
    shards: Vec<Mutex<Latencies>>,
}

impl Recorder {
    /// An empty recorder for this many threads.
    pub(crate) fn new(threads: usize) -> Self {
        Self { shards: iter::repeat_with(|| Mutex::new(Latencies::new())).take(threads).collect() }
    }

    /// Records an answer after this time: a good one, or a refusal.
    pub(crate) fn record_answered(&self, user: usize, latency_us: u64, is_success: bool) {
        self.shard(user).record_answered(latency_us, is_success);
    }

    /// Records a request that had no answer yet at this age, when it was last seen.
    pub(crate) fn record_unanswered(&self, user: usize, age_us: u64) {
        self.shard(user).record_unanswered(age_us);
    }

    /// Records that a request already had this age when the window opened.
    pub(crate) fn record_left_truncated(&self, user: usize, age_us: u64) {
        self.shard(user).record_left_truncated(age_us);
    }

    /// Everything recorded so far.
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
