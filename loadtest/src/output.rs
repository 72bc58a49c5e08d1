//! Outputs: files, events, a progress bar, the exit status.

pub(crate) mod conditions;
pub(crate) mod events;
pub(crate) mod file;
pub(crate) mod files;
pub(crate) mod progress;
pub(crate) mod steps;
