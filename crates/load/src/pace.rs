//! An open loop: requests are due at fixed times, whether or not the server keeps up.
//!
//! A client that waits for each answer slows down with the server, and sends least often when the server is slowest.
//! Its latencies look better than what real users see, who do not wait for each other (coordinated omission).

use std::time::Duration;

use tokio::time::sleep;

use crate::shared::Shared;

/// When one user's requests are due.
#[derive(Debug)]
pub(crate) struct Pace {
    first_us: f64,
    interval_us: f64,
    sent: u64,
}

impl Pace {
    /// The pace of `user`, who sends every `interval` from now on; the users take turns within it.
    pub(crate) fn new(shared: &Shared, user: usize, interval: Duration) -> Self {
        let interval_us = interval.as_secs_f64() * 1e6;
        let share = user as f64 / shared.spec.users as f64;
        Self { first_us: shared.now_us() as f64 + interval_us * share, interval_us, sent: 0 }
    }

    /// Waits until the next request is due and returns that time by the load's clock; returns at once if it is overdue.
    pub(crate) async fn next(&mut self, shared: &Shared) -> u64 {
        let due_us = (self.first_us + self.interval_us * self.sent as f64) as u64;
        self.sent += 1;
        if let Some(early_us @ 1..) = due_us.checked_sub(shared.now_us()) {
            sleep(Duration::from_micros(early_us)).await;
        }
        due_us
    }
}
