//! Generates the load: users with one connection each, what they send and when, and what they observe.
//!
//! Measuring code needs only a [`Generator`]; [`GooseGenerator`] is the one that runs in this process.

#![forbid(unsafe_code)]

mod generator;
mod goose;
pub mod net;
mod pace;
mod recorder;
mod requests;
mod series;
mod shared;
mod shared_histogram;
mod user;
mod watch;

pub use generator::{Generator, Outcome, Progress, Snapshot};
pub use goose::GooseGenerator;
pub use requests::{RequestSource, Requests};
pub use series::Series;
pub use shared::LoadSpec;
