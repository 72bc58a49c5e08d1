//! What wrk prints, how it scripts, and how it counts.

pub(crate) mod printout;
pub(crate) mod script;
pub(crate) mod spectrum;
pub(crate) mod stats;
mod units;
