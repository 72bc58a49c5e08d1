//! `--slo`: what a server is to keep at a rate (a service level objective), such as `p99 < 50ms`.

use std::fmt;
use std::str::FromStr;

use crate::condition::Condition;
use crate::figure::{Figure, FigureValues};
use crate::latency::Bounded;

/// What grows as a server nears its limit. Other figures follow from the rate, or have nothing to do with it.
const KEPT: [&str; 6] =
    ["latency_us.", "above_wait_us.", "errors.", "connections.held_", "connections.waiting_", "connections.queued_"];
const KEPT_TOTALS: [&str; 3] = ["errors", "in_flight", "memory.peak_bytes"];
/// So many answers above a percentile make it more than the chance of a few.
const ANSWERS_ABOVE: u64 = 10;
/// What a figure needs that is no percentile.
const ANSWERS_OF_ANY: u64 = 100;

/// A figure and what it must not exceed.
#[derive(Clone, Debug)]
pub struct Objective(Condition);

impl Objective {
    /// Why a run missed it, or why that is unknown; `None` if it was kept.
    pub fn miss(&self, figures: &FigureValues) -> Option<String> {
        self.0.miss(figures)
    }

    /// The figure as a run measured it.
    pub fn value(&self, figures: &FigureValues) -> Option<Bounded<f64>> {
        figures.get(self.0.figure())
    }

    /// The figure.
    pub fn figure(&self) -> Figure {
        self.0.figure()
    }

    /// The figure's name, as the user wrote it.
    pub fn name(&self) -> &str {
        self.0.name()
    }

    /// The limit of a latency, in microseconds; `None` for any other figure, also for the latency above the wait.
    pub fn latency_limit_us(&self) -> Option<f64> {
        self.figure().0.starts_with("latency_us.").then_some(self.0.limit())
    }

    /// Whether it is about failed requests.
    pub fn is_about_errors(&self) -> bool {
        self.figure().0.starts_with("errors")
    }

    /// How many answers its figure needs.
    pub fn needed_answers(&self) -> u64 {
        match self.figure().0.rsplit('.').next() {
            Some("p50") => 2 * ANSWERS_ABOVE,
            Some("p75") => 4 * ANSWERS_ABOVE,
            Some("p90") => 10 * ANSWERS_ABOVE,
            Some("p99") => 100 * ANSWERS_ABOVE,
            Some("p999") => 1_000 * ANSWERS_ABOVE,
            _ => ANSWERS_OF_ANY,
        }
    }
}

impl fmt::Display for Objective {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

impl FromStr for Objective {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let condition: Condition = text.parse()?;
        let name = condition.figure().0;
        if !KEPT.iter().any(|kept| name.starts_with(kept)) && !KEPT_TOTALS.contains(&name) {
            return Err(format!(
                "{} says nothing of whether a server keeps up with a rate: take a latency (p50 to p999, max, mean, or \
                 above.p99 for the latency above the database wait), errors, in_flight, memory.peak, held, waiting or queued",
                condition.name()
            ));
        }
        if !condition.is_upper_bound() {
            return Err(format!(
                "an objective says what must hold, not what fails: write what {} must stay below, such as p99 < 50ms",
                condition.name()
            ));
        }
        Ok(Self(condition))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::sample;

    #[test]
    fn an_objective_bounds_what_grows_with_the_rate() {
        for (text, needed) in
            [("p99 < 50ms", 1_000), ("above.p999 <= 5ms", 10_000), ("errors == 0", 100), ("memory.peak < 64MiB", 100)]
        {
            let objective: Objective = text.parse().unwrap();
            assert_eq!((objective.to_string().as_str(), objective.needed_answers()), (text, needed));
        }
        for (text, expected) in [
            ("p99 > 50ms", "an objective says what must hold"),
            ("errors != 0", "an objective says what must hold"),
            ("p99 == 50ms", "an objective says what must hold"),
            ("host.cpus < 3", "host.cpus says nothing"),
            ("rps < 3", "rps says nothing"),
            ("errors_before < 3", "errors_before says nothing"),
            ("p99", "write a figure, an operator and a limit"),
        ] {
            let error = text.parse::<Objective>().unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn a_miss_names_the_figure_as_it_was_asked_for() {
        let miss = |text: &str, target| {
            let objective: Objective = text.parse().unwrap();
            objective.miss(&FigureValues::new(&sample(target)))
        };
        assert_eq!(miss("p99 < 2s", "threads"), None);
        assert_eq!(miss("p99 < 1s", "threads").unwrap(), "p99 was 1.01 s");
        assert_eq!(miss("latency.p99<1s", "threadpool").unwrap(), "latency.p99 was ≥ 10.2 s");
        assert_eq!(miss("p99 < 20s", "threadpool").unwrap(), "p99 is only known to be ≥ 10.2 s");
        let mut unknown = sample("threads");
        unknown.memory.peak_bytes = None;
        let objective: Objective = "memory.peak < 1GB".parse().unwrap();
        assert_eq!(objective.miss(&FigureValues::new(&unknown)).unwrap(), "memory.peak was not measured");
    }
}
