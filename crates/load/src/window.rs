//! The part of a run that counts.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::time::Duration;

/// No time yet.
const NEVER: u64 = u64::MAX;

/// The window that is measured, in microseconds since the load was created.
#[derive(Debug)]
pub(crate) struct Window {
    start_us: AtomicU64,
    end_us: AtomicU64,
}

impl Window {
    /// A window that has not opened.
    pub(crate) fn new() -> Self {
        Self { start_us: AtomicU64::new(NEVER), end_us: AtomicU64::new(NEVER) }
    }

    /// Opens it. It closes after `duration` at the latest.
    pub(crate) fn open(&self, now_us: u64, duration: Duration) {
        self.end_us.store(now_us + duration.as_micros() as u64, SeqCst);
        self.start_us.store(now_us, SeqCst);
    }

    /// Closes it, unless it has closed already, or never opened.
    pub(crate) fn close(&self, now_us: u64) {
        if self.length().is_some() {
            self.end_us.fetch_min(now_us, SeqCst);
        }
    }

    /// When it opens and when it closes; both are later than any time before it opens.
    pub(crate) fn bounds_us(&self) -> (u64, u64) {
        (self.start_us.load(Relaxed), self.end_us.load(Relaxed))
    }

    /// Its length; `None` before it opens.
    pub(crate) fn length(&self) -> Option<Duration> {
        let (start_us, end_us) = self.bounds_us();
        (start_us != NEVER).then(|| Duration::from_micros(end_us.saturating_sub(start_us)))
    }

    /// Whether it is open.
    pub(crate) fn contains(&self, time_us: u64) -> bool {
        let (start_us, end_us) = self.bounds_us();
        (start_us..end_us).contains(&time_us)
    }
}
