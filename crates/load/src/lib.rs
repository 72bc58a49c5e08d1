//! Generates the load: users with one connection each, what they send and when, and what they observe.
//!
//! Measuring code needs only a [`Generator`], from a [`Place`]; [`GooseGenerator`] is the one that runs in this process.

#![forbid(unsafe_code)]

mod failures;
mod generator;
mod goose;
pub mod net;
mod observations;
mod pace;
mod pipelined;
mod place;
mod portable;
mod recorder;
mod requests;
mod series;
mod shared;
mod shared_histogram;
mod spec;
mod split;
mod timer;
mod user;
mod watch;
mod window;

pub use generator::{Elsewhere, Generator, Outcome, Progress, Snapshot};
pub use goose::GooseGenerator;
pub use pipelined::count_requests;
pub use place::{Place, ThisProcess};
pub use portable::PortableSpec;
pub use requests::{RequestSource, Requests};
pub use series::Series;
pub use spec::LoadSpec;
pub use split::split;

/// How far this crate was optimised, as cargo's profile says: the generator of a debug build measures itself.
pub const OPT_LEVEL: &str = env!("OPT_LEVEL");
