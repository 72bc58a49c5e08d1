//! An open loop: requests are due at fixed times, whether or not the server keeps up.
//!
//! A client that waits for each answer slows down with the server, and sends least often when the server is slowest.
//! Its latencies look better than what real users see, who do not wait for each other (coordinated omission).

use std::time::Duration;

/// When the requests of all users are due.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Schedule {
    /// How often each user sends.
    interval_us: f64,
    users: f64,
}

impl Schedule {
    /// Each of `users` sends every `interval`; they take turns within it.
    pub(crate) fn new(interval: Duration, users: usize) -> Self {
        Self { interval_us: interval.as_secs_f64() * 1e6, users: users as f64 }
    }

    /// When the first request of `user` is due, who may send from `start_us` on.
    pub(crate) fn first_due_us(&self, user: usize, start_us: u64) -> f64 {
        start_us as f64 + self.interval_us * (user as f64 / self.users)
    }

    /// When the requests of a user are due, if the first one is at `first_us`.
    pub(crate) fn from(&self, first_us: f64) -> impl Iterator<Item = f64> {
        let interval_us = self.interval_us;
        (0_u64..).map(move |number| first_us + interval_us * number as f64)
    }
}

/// Which request of one user is due next.
#[derive(Debug)]
pub(crate) struct Pace {
    first_us: f64,
    interval_us: f64,
    sent: u64,
}

impl Pace {
    /// The pace of `user`, who may send from `now_us` on.
    pub(crate) fn new(schedule: Schedule, user: usize, now_us: u64) -> Self {
        Self { first_us: schedule.first_due_us(user, now_us), interval_us: schedule.interval_us, sent: 0 }
    }

    /// When the next request is due, by the load's clock.
    pub(crate) fn due_us(&self) -> u64 {
        (self.first_us + self.interval_us * self.sent as f64) as u64
    }

    /// Counts a request as sent.
    pub(crate) fn advance(&mut self) {
        self.sent += 1;
    }
}
