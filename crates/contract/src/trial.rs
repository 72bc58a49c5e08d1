//! What the trials of a server have in common: the server, of whatever make, and the clients that nobody troubles on purpose.
//!
//! They are programs, not tests: `scripts/faults` and `scripts/hostile` run them against several servers.

pub mod crowd;
pub mod subject;

pub use crowd::Crowd;
pub use subject::{ServerArgs, Subject};
