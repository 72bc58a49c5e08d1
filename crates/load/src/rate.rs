//! Answers per second, sampled every tenth of a second as in wrk.

use std::sync::{Mutex, PoisonError};

use hdrhistogram::Histogram;
use results::latency::Latencies;

/// Answers per second within the window.
#[derive(Debug)]
pub(crate) struct Rates(Mutex<Histogram<u64>>);

impl Default for Rates {
    fn default() -> Self {
        Self(Mutex::new(Latencies::empty_histogram()))
    }
}

impl Rates {
    /// Everything recorded so far.
    pub(crate) fn histogram(&self) -> Histogram<u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Records a rate.
    pub(crate) fn record(&self, rate: f64) {
        // It grows for any value, so this cannot fail.
        let _ = self.0.lock().unwrap_or_else(PoisonError::into_inner).record(rate as u64);
    }
}
