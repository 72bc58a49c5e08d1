//! What the four servers share: flags, the listener, a strict HTTP/1.1 codec, the application, the simulated
//! database and a real one, limits and shutdown.
//!
//! It knows *what* (bytes, durations, limits, signals) and never *who waits*: there are no threads, no tokio and no mio
//! in here. How a server waits is the one thing that the four differ in.

pub mod admin;
pub mod allocator;
pub mod app;
pub mod blocking;
pub mod config;
pub mod counters;
pub mod db;
pub mod draining;
pub mod held;
pub mod http;
pub mod limits;
pub mod linger;
pub mod listener;
pub mod log;
mod memory;
pub mod metrics;
pub mod postgres;
pub mod program;
pub mod shutdown;
pub mod tally;
