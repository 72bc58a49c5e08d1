//! How late the load generator itself is: what it adds to every latency that it measures.
//!
//! An answer that has come waits until a thread of the load generator looks at it. A timer waits in the same way, and of a
//! timer it is known when it was due.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use hdrhistogram::Histogram;

const SIGNIFICANT_DIGITS: u8 = 2;

/// How late timers were within the window.
#[derive(Debug)]
pub(crate) struct Lag(Mutex<Histogram<u64>>);

impl Default for Lag {
    fn default() -> Self {
        Self(Mutex::new(Histogram::new(SIGNIFICANT_DIGITS).unwrap_or_else(|_| unreachable!())))
    }
}

impl Lag {
    /// All that was noted so far, in microseconds.
    pub(crate) fn histogram(&self) -> Histogram<u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A timer was so late.
    pub(crate) fn note(&self, lag: Duration) {
        // It grows for every number there is.
        let _ = self.0.lock().unwrap_or_else(PoisonError::into_inner).record(lag.as_micros() as u64);
    }
}
