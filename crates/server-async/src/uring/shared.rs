//! What all threads share.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use common::config::Config;
use common::counters::Counters;
use common::db::Database;

/// What all threads share. It lives as long as the process.
pub(crate) struct Shared {
    pub(crate) config: Config,
    /// Whether `/cpu` burns on the threads that run the tasks.
    pub(crate) burns_on_loop: bool,
    pub(crate) max_connections: usize,
    /// How many connections have a permit.
    pub(crate) connections: AtomicUsize,
    pub(crate) database: Database,
    pub(crate) counters: Counters,
}

impl Shared {
    pub(crate) fn is_full(&self) -> bool {
        self.connections.load(Relaxed) >= self.max_connections
    }
}

/// Room for a connection, until it is dropped.
pub(crate) struct Permit(&'static Shared);

impl Permit {
    pub(crate) fn take(shared: &'static Shared) -> Self {
        shared.connections.fetch_add(1, Relaxed);
        Self(shared)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Relaxed);
    }
}
