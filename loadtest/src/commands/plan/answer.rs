//! The answer, as written to the file.

use results::run::Host;
use serde::Serialize;

use super::advice::Advice;
use super::need::Need;
use super::verdict::Verdict;

/// The answer to a plan.
#[derive(Debug, Serialize)]
pub(super) struct PlanAnswer {
    pub(super) need: Need,
    /// The source of the figures, as text.
    pub(super) source: String,
    /// The machine whose limits and CPUs apply.
    pub(super) host: Host,
    pub(super) verdicts: Vec<Verdict>,
    pub(super) advice: Advice,
}
