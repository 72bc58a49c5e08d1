//! wrk's output, scripts and statistics.

pub(crate) mod printout;
pub(crate) mod script;
pub(crate) mod spectrum;
pub(crate) mod stats;
mod units;
