//! Judges the results of cells.

use results::run::SweepPlan;
use results::{Cause, RunResult};

/// Whether the cell is finished. With a RAM limit, a failing server is a result.
pub(super) fn is_finished(result: &RunResult, plan: &SweepPlan) -> bool {
    let is_fault = matches!(
        result.cause,
        Some(
            Cause::Interrupted
                | Cause::WorkerLost
                | Cause::NotStarted
                | Cause::Impossible
                | Cause::Other
                | Cause::Unknown
        )
    );
    result.is_sound() || (plan.ram_limit_bytes.is_some() && !is_fault)
}
