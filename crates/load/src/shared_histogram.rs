//! A histogram that several threads record into.

use std::sync::{Mutex, PoisonError};

use hdrhistogram::Histogram;

/// A histogram that grows with its values.
#[derive(Debug)]
pub(crate) struct SharedHistogram(Mutex<Histogram<u64>>);

impl SharedHistogram {
    /// An empty histogram that keeps this many digits, 1 to 5.
    pub(crate) fn new(significant_digits: u8) -> Self {
        Self(Mutex::new(Histogram::new(significant_digits).unwrap_or_else(|_| unreachable!())))
    }

    /// Everything recorded so far.
    pub(crate) fn snapshot(&self) -> Histogram<u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Records a value.
    pub(crate) fn record(&self, value: u64) {
        // It grows for any value, so this cannot fail.
        let _ = self.0.lock().unwrap_or_else(PoisonError::into_inner).record(value);
    }
}
