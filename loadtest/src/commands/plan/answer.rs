//! The answer, as it goes into the file.

use results::run::Host;
use serde::Serialize;

use super::advice::Advice;
use super::need::Need;
use super::verdict::Verdict;

/// The answer: what goes into the file.
#[derive(Debug, Serialize)]
pub(super) struct PlanAnswer {
    pub(super) need: Need,
    /// Where the figures come from, in words.
    pub(super) source: String,
    /// The machine that the limits and CPUs are of.
    pub(super) host: Host,
    pub(super) verdicts: Vec<Verdict>,
    pub(super) advice: Advice,
}
