//! How many answers a second there are, in every tenth of a second, as wrk counts them.

use std::sync::{Mutex, PoisonError};

use hdrhistogram::Histogram;
use results::latency::Latencies;

/// Answers a second within the window.
#[derive(Debug)]
pub(crate) struct Rates(Mutex<Histogram<u64>>);

impl Default for Rates {
    fn default() -> Self {
        Self(Mutex::new(Latencies::empty_histogram()))
    }
}

impl Rates {
    /// All that were counted so far.
    pub(crate) fn histogram(&self) -> Histogram<u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// There were so many answers a second.
    pub(crate) fn record(&self, rate: f64) {
        // It grows as needed, so this cannot fail.
        let _ = self.0.lock().unwrap_or_else(PoisonError::into_inner).record(rate as u64);
    }
}
