//! What a measurement *is*: a run and its figures, why it failed, what makes it doubtful, and statistics over several
//! runs.
//!
//! No clock, process, socket or terminal in here: other crates fill in these types, and others again display them.

#![forbid(unsafe_code)]

pub mod cause;
pub mod claim;
pub mod clients;
pub mod condition;
pub mod database;
pub mod event;
pub mod figure;
pub mod file;
pub mod latency;
pub mod merge;
pub mod objective;
pub mod peers;
pub mod pools;
pub mod printable;
pub mod replay;
pub mod run;
#[cfg(any(test, feature = "samples"))]
pub mod samples;
pub mod settings;
pub mod slo;
pub mod statistics;
pub mod sweep;
pub mod target;
pub mod walls;
pub mod warning;

pub use cause::Cause;
pub use run::RunResult;
pub use target::Target;
pub use warning::{Warning, WarningKind};
