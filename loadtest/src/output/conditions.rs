//! `--fail-if`: the exit status says whether a condition holds, for CI.

use clap::Args;
use results::RunResult;
use results::condition::{self, Condition};
use results::figure::Figure;

use crate::machine::terminal::say;

/// The exit status if a condition holds.
pub(crate) const EXIT_STATUS: u8 = 3;

const HELP: &str = "End with status 3 if this holds for a run, such as 'p99 > 1200ms', 'memory.peak > 64MiB' or \
                    'errors > 0'; as often as wanted. It also ends so if this cannot be told: a figure was not measured, or \
                    is only known to be at least something";

/// The conditions that were given.
#[derive(Args, Clone, Debug, Default)]
#[group(id = "conditions")]
pub(crate) struct Conditions {
    #[arg(long, value_name = "CONDITION", help = HELP, long_help = long_help())]
    fail_if: Vec<Condition>,
}

fn long_help() -> String {
    format!(
        "{HELP}.\n\n\
         Operators: > >= < <= == !=. Times are in us, ms, s, m or h, sizes in B, kB, KiB, MB, MiB, GB or GiB, and other \
         figures may be in k or M.\n\n\
         Figures, which may also be called as in the JSON (latency_us.p99): {}",
        Figure::names()
    )
}

impl Conditions {
    /// Says on standard error which conditions hold, or cannot be decided. Returns whether any does.
    pub(crate) fn fail(&self, results: &[RunResult]) -> bool {
        let failures = condition::failures(&self.fail_if, results);
        failures.iter().for_each(|failure| say(format_args!("failed: {failure}")));
        !failures.is_empty()
    }
}
