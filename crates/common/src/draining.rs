//! The drain: after SIGTERM nothing more is accepted, and what is in flight may take a while to finish.

use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use crate::config::Config;
use crate::counters::Counters;
use crate::log;

/// A drain that has begun.
#[derive(Clone, Copy, Debug)]
pub struct Draining {
    deadline: Instant,
}

impl Draining {
    /// Begins: the admin port says from now on that the server is not ready.
    pub fn begin(config: &Config, counters: &Counters) -> Self {
        log::info!("draining: {} connections are open", counters.open.load(Relaxed));
        counters.is_draining.store(true, Relaxed);
        Self { deadline: Instant::now() + config.drain_timeout }
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
