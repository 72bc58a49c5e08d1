//! `--fail-if`: exits with a failure status if a condition holds, for CI.

use clap::Args;
use results::RunResult;
use results::condition::{self, Condition};
use results::figure::Figure;

use crate::machine::terminal::say;

/// The exit status if a condition holds.
pub(crate) const EXIT_STATUS: u8 = 3;

const HELP: &str = "Exit with status 3 if this holds for a run, such as 'p99 > 1200ms', 'memory.peak > 64MiB' or \
                    'errors > 0'; repeatable. Also if it cannot be decided, because a figure was not measured or is \
                    only a lower bound";

/// The conditions on the command line.
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
         figures may use k or M.\n\n\
         Figures, which also go by their JSON names (latency_us.p99): {}",
        Figure::names()
    )
}

impl Conditions {
    /// Whether there are any.
    pub(crate) fn is_given(&self) -> bool {
        !self.fail_if.is_empty()
    }

    /// Prints to standard error which conditions hold or cannot be decided. Returns whether there are any.
    pub(crate) fn fail(&self, results: &[RunResult]) -> bool {
        let failures = condition::failures(&self.fail_if, results);
        failures.iter().for_each(|failure| say(format_args!("failed: {failure}")));
        !failures.is_empty()
    }
}
