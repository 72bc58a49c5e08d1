//! What a load is asked to do.

use std::time::Duration;

use crate::net::Endpoint;
use crate::pace::Schedule;
use crate::requests::Requests;

/// What the users should do.
#[derive(Debug)]
pub struct LoadSpec {
    /// Where to connect.
    pub endpoint: Endpoint,
    /// A request that each user sends once after it connects.
    pub greeting: Option<Vec<u8>>,
    /// What to send.
    pub requests: Requests,
    /// How many users, and so connections.
    pub users: usize,
    /// How many threads they share.
    pub threads: usize,
    /// When to give up on a request, or on connecting; `None` means never.
    pub timeout: Option<Duration>,
    /// The time over which the users' second requests are spread.
    pub spread: Duration,
    /// How often each user sends; `None` means as soon as it has an answer.
    pub interval: Option<Duration>,
}

impl LoadSpec {
    /// Whether each user sends as soon as it has an answer.
    pub(crate) fn is_closed_loop(&self) -> bool {
        self.interval.is_none() && matches!(self.requests, Requests::Same(_))
    }

    /// How often each of `users` sends, for so many requests a second of all.
    pub fn interval_at(rate: u64, users: usize) -> Duration {
        Duration::from_secs_f64(users as f64 / rate as f64)
    }

    /// When requests are due, with an interval.
    pub(crate) fn schedule(&self) -> Option<Schedule> {
        self.interval.map(|interval| Schedule::new(interval, self.users))
    }
}
