//! How late the load generator itself is, which adds to every latency that it measures.
//!
//! An answer that has arrived waits until a thread of the load generator reads it. A timer waits in the same way, and
//! unlike an answer it is known when it was due.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use hdrhistogram::Histogram;

const SIGNIFICANT_DIGITS: u8 = 2;

/// How late timers fired within the window.
#[derive(Debug)]
pub(crate) struct Lag(Mutex<Histogram<u64>>);

impl Default for Lag {
    fn default() -> Self {
        Self(Mutex::new(Histogram::new(SIGNIFICANT_DIGITS).unwrap_or_else(|_| unreachable!())))
    }
}

impl Lag {
    /// Everything recorded so far, in microseconds.
    pub(crate) fn histogram(&self) -> Histogram<u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Records how late a timer fired.
    pub(crate) fn record(&self, lag: Duration) {
        // It grows for any value, so this cannot fail.
        let _ = self.0.lock().unwrap_or_else(PoisonError::into_inner).record(lag.as_micros() as u64);
    }
}
