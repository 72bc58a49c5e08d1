//! What a cell's result is good for.

use results::run::SweepPlan;
use results::{Cause, RunResult};

/// Whether the cell need not be measured again: within a limit, a server that breaks is a result.
pub(super) fn is_result(result: &RunResult, plan: &SweepPlan) -> bool {
    let is_fault =
        matches!(result.cause, Some(Cause::Interrupted | Cause::NotStarted | Cause::Impossible | Cause::Other));
    result.is_sound() || (plan.ram_limit_bytes.is_some() && !is_fault)
}

/// Whether the server held all connections, and answered on all of them.
pub(super) fn holds(result: &RunResult) -> bool {
    result.is_sound() && result.cause.is_none()
}
