//! The drain: after SIGTERM nothing more is accepted, and what is in flight may take a while to finish.

use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use crate::config::Config;
use crate::counters::Counters;
use crate::log;

/// The first pause between two interrupts...
const FIRST_INTERVAL: Duration = Duration::from_millis(20);
/// ...which doubles up to this.
const LAST_INTERVAL: Duration = Duration::from_secs(1);

/// When to interrupt those who block: a signal that comes just before they do is lost, so it is sent again and again.
#[derive(Debug)]
pub struct Interrupts {
    next: Instant,
    interval: Duration,
}

impl Default for Interrupts {
    fn default() -> Self {
        Self { next: Instant::now(), interval: FIRST_INTERVAL }
    }
}

impl Interrupts {
    /// Whether the next is due; the one after it takes twice as long.
    pub fn is_due(&mut self) -> bool {
        let now = Instant::now();
        let is_due = now >= self.next;
        if is_due {
            self.next = now + self.interval;
            self.interval = (self.interval * 2).min(LAST_INTERVAL);
        }
        is_due
    }
}

/// A drain that has begun.
#[derive(Clone, Copy, Debug)]
pub struct Draining {
    half_time: Instant,
    deadline: Instant,
}

impl Draining {
    /// Begins: the admin port says from now on that the server is not ready.
    pub fn begin(config: &Config, counters: &Counters) -> Self {
        log::info!("draining: {} connections are open", counters.open.load(Relaxed));
        counters.is_draining.store(true, Relaxed);
        let now = Instant::now();
        Self { half_time: now + config.drain_timeout / 2, deadline: now + config.drain_timeout }
    }

    /// Whether half of the time is over: what is begun from now on might not end in time.
    pub fn is_half_over(&self) -> bool {
        Instant::now() >= self.half_time
    }

    /// How long the requests in flight may still take; nothing once that is over.
    pub fn remaining(&self) -> Option<Duration> {
        Some(self.deadline.saturating_duration_since(Instant::now())).filter(|remaining| !remaining.is_zero())
    }

    /// Logs that this many connections did not finish in time.
    pub fn log_cut_off(&self, connections: usize) {
        log::warn!("{connections} connections were cut off by --drain-timeout");
    }
}
