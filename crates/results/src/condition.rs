//! `--fail-if`: conditions that fail a run, for CI.
//!
//! A lower bound stands for every value from there up. A condition that holds for some of those values and not for
//! others is unknown, and so is a condition on a figure that was not measured. Unknown counts as failed: a check that
//! could not be made has not passed.

use std::fmt;
use std::str::FromStr;

use quantity::format;

use crate::figure::{Figure, FigureValues, Unit};
use crate::latency::Bounded;
use crate::run::RunResult;

/// One line for each run and condition that holds or cannot be decided, with the reason.
pub fn failures(conditions: &[Condition], results: &[RunResult]) -> Vec<String> {
    let failures_of = |result: &RunResult| {
        let figures = FigureValues::new(result);
        let run = format!("{}, {} connections", result.target, format::count(result.connections.requested as f64));
        let failures = conditions.iter().filter_map(|condition| condition.failure(&figures));
        failures.map(|failure| format!("{run}: {failure}")).collect::<Vec<_>>()
    };
    results.iter().flat_map(failures_of).collect()
}

/// A comparison of a figure with a limit: `p99 > 1200ms`.
#[derive(Clone, Debug)]
pub struct Condition {
    /// As the user wrote it.
    text: String,
    figure: Figure,
    operator: Operator,
    /// In the figure's own unit.
    limit: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    Above,
    AtLeast,
    Below,
    AtMost,
    Equal,
    Unequal,
}

/// Longer ones come first because the parser takes the first match.
const OPERATORS: [(&str, Operator); 6] = [
    (">=", Operator::AtLeast),
    ("<=", Operator::AtMost),
    ("==", Operator::Equal),
    ("!=", Operator::Unequal),
    (">", Operator::Above),
    ("<", Operator::Below),
];

impl Operator {
    fn holds(self, value: f64, limit: f64) -> bool {
        match self {
            Operator::Above => value > limit,
            Operator::AtLeast => value >= limit,
            Operator::Below => value < limit,
            Operator::AtMost => value <= limit,
            Operator::Equal => value == limit,
            Operator::Unequal => value != limit,
        }
    }
}

impl Condition {
    /// Whether it holds; `None` if that is unknown.
    fn holds(&self, figure: Option<Bounded<f64>>) -> Option<bool> {
        let Bounded { value, is_lower_bound } = figure?;
        let holds = |value| self.operator.holds(value, self.limit);
        // From `value` up, an operator distinguishes only these three: at the bound, at the limit, and above both.
        let possible = [value, self.limit.max(value), f64::INFINITY];
        let is_certain = !is_lower_bound || possible.iter().all(|&other| holds(other) == holds(value));
        is_certain.then(|| holds(value))
    }

    /// The figure.
    pub(crate) fn figure(&self) -> Figure {
        self.figure
    }

    /// Whether it holds for every lower value, too; no figure is below 0.
    pub(crate) fn is_upper_bound(&self) -> bool {
        matches!(self.operator, Operator::Below | Operator::AtMost)
            || (self.operator == Operator::Equal && self.limit == 0.0)
    }

    /// The limit, in the figure's own unit.
    pub(crate) fn limit(&self) -> f64 {
        self.limit
    }

    /// The figure's name, as the user wrote it.
    pub(crate) fn name(&self) -> &str {
        self.text.split(['<', '>', '=', '!']).next().unwrap_or_default().trim()
    }

    /// Why it does not hold, or cannot be decided; `None` if it holds.
    pub(crate) fn miss(&self, figures: &FigureValues) -> Option<String> {
        let value = figures.get(self.figure);
        let Some(known) = value else { return Some(format!("{} was not measured", self.name())) };
        match self.holds(value) {
            Some(true) => None,
            None if known.is_lower_bound => {
                Some(format!("{} is only known to be {}", self.name(), self.figure.text(value)))
            }
            _ => Some(format!("{} was {}", self.name(), self.figure.text(value))),
        }
    }

    fn failure(&self, figures: &FigureValues) -> Option<String> {
        let Self { text, figure, .. } = self;
        let value = figures.get(*figure);
        let holds = self.holds(value);
        let Some(known) = value else { return Some(format!("unknown whether {text}: {} was not measured", figure.0)) };
        let exact = format!("{} = {}", figure.0, known.value);
        match (holds, known.is_lower_bound) {
            (Some(false), _) => None,
            (Some(true), false) => Some(format!("{text}: it is {} ({exact})", figure.text(value))),
            (Some(true), true) => Some(format!("{text}: it is {} ({exact}, a lower bound)", figure.text(value))),
            (None, _) => {
                Some(format!("unknown whether {text}: it is only known to be {} ({exact})", figure.text(value)))
            }
        }
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

impl FromStr for Condition {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let at =
            text.find(['<', '>', '=', '!']).ok_or("write a figure, an operator and a limit, such as p99 > 1200ms")?;
        let (name, rest) = (text[..at].trim(), &text[at..]);
        let operator = OPERATORS.iter().find_map(|(sign, operator)| Some((rest.strip_prefix(sign)?, *operator)));
        let (limit, operator) = operator.ok_or("the operators are > >= < <= == !=")?;
        let figure = Figure::from_name(name)
            .ok_or_else(|| format!("unknown figure {name:?}; the figures are {}", Figure::names()))?;
        let limit = parse_limit(limit.trim(), figure.unit())?;
        Ok(Self { text: text.trim().to_owned(), figure, operator, limit })
    }
}

/// Parses a limit into the figure's own unit.
fn parse_limit(text: &str, unit: Unit) -> Result<f64, String> {
    match unit {
        // Whole nanoseconds keep 4.35 ms at exactly 4350 us.
        Unit::Micros => quantity::duration(text).map(|time| time.as_nanos() as f64 / 1e3),
        Unit::Seconds => quantity::duration(text).map(|time| time.as_secs_f64()),
        Unit::Bytes => quantity::bytes(text).map(|bytes| bytes as f64),
        Unit::Share => match text.strip_suffix('%') {
            Some(percent) => quantity::number(percent.trim_end()).map(|percent| percent / 100.0),
            None => quantity::number(text),
        },
        Unit::Count => quantity::number(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::sample;
    use proptest::prelude::*;

    fn condition(text: &str) -> Condition {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn limits_are_in_the_unit_of_the_figure() {
        for (text, limit) in [
            ("p99 > 1200ms", 1_200_000.0),
            ("p99>4.35ms", 4_350.0),
            ("above.p50 <= 7 us", 7.0),
            ("max > 1m", 60_000_000.0),
            ("client.cpu >= 1500ms", 1.5),
            ("memory.peak > 64MiB", 67_108_864.0),
            // A binary size, as in --ram-limit.
            ("memory.peak > 64M", 67_108_864.0),
            ("memory.pss_bytes > 1.5 gb", 1.5e9),
            ("rps < 9.9k", 9_900.0),
            ("requests < 1M", 1e6),
            ("errors != 0", 0.0),
            ("rate < 99%", 0.99),
            ("rate.sent_share >= 0.5", 0.5),
            ("p50 == 0", 0.0),
        ] {
            assert_eq!(condition(text).limit, limit, "{text}");
        }
    }

    #[test]
    fn parse_errors_say_what_to_write() {
        for (text, expected) in [
            ("p99", "write a figure, an operator and a limit"),
            ("p98 > 1s", "unknown figure \"p98\"; the figures are"),
            ("> 1s", "unknown figure"),
            ("p99 = 1s", "the operators are"),
            ("p99 > 1200", "\"1200\" has no unit"),
            ("p99 > 64MB", "is not a time"),
            ("memory.peak > 64s", "is not a size"),
            ("errors > x", "is not a number"),
            ("errors > -1", "is not a number"),
            ("errors > 1.2.3", "is not a number"),
            ("errors > ", "is not a number"),
            ("errors >> 1", "is not a number"),
        ] {
            let error = text.parse::<Condition>().unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
        assert!("x > 1".parse::<Condition>().unwrap_err().contains("p99, p999, max, above.p50"));
    }

    #[test]
    fn a_lower_bound_decides_some_conditions() {
        let bound = Some(Bounded { value: 1_300_000.0, is_lower_bound: true });
        for (text, expected) in [
            ("p99 > 1.2s", Some(true)),
            ("p99 > 1.5s", None),
            ("p99 >= 1.3s", Some(true)),
            ("p99 > 1.3s", None),
            ("p99 < 1.5s", None),
            ("p99 < 1.3s", Some(false)),
            ("p99 <= 1.3s", None),
            ("p99 == 1.3s", None),
            ("p99 == 1.2s", Some(false)),
            ("p99 != 1.2s", Some(true)),
            ("p99 != 1.5s", None),
        ] {
            assert_eq!(condition(text).holds(bound), expected, "{text}");
        }
        assert_eq!(condition("p99 > 0").holds(None), None);
    }

    #[test]
    fn failures_name_the_run_and_the_figure() {
        let fail_if = ["p99 > 1s", "errors > 0", "p50 < 60s", "memory.peak > 64MB", "memory.cgroup.slab > 1kB"];
        assert_eq!(
            failures(&fail_if.map(condition), &[sample("threads"), sample("threadpool")]),
            [
                "threads, 10,000 connections: p99 > 1s: it is 1.01 s (latency_us.p99 = 1012479)",
                "threads, 10,000 connections: p50 < 60s: it is 1.00 s (latency_us.p50 = 1000383)",
                "threads, 10,000 connections: memory.peak > 64MB: it is 377.43 MB (memory.peak_bytes = 377434112)",
                "threads, 10,000 connections: unknown whether memory.cgroup.slab > 1kB: memory.cgroup.slab_bytes was not measured",
                "threadpool, 10,000 connections: p99 > 1s: it is ≥ 10.2 s (latency_us.p99 = 10188287, a lower bound)",
                "threadpool, 10,000 connections: unknown whether p50 < 60s: it is only known to be ≥ 10.2 s \
                 (latency_us.p50 = 10188287)",
                "threadpool, 10,000 connections: unknown whether memory.cgroup.slab > 1kB: memory.cgroup.slab_bytes was not measured",
            ]
        );
    }

    proptest! {
        #[test]
        fn the_parser_never_panics(text in "\\PC*", tail in "(p99|errors|memory.peak) ?[<>=!]{1,2} ?\\PC*") {
            let _ = text.parse::<Condition>();
            let _ = tail.parse::<Condition>();
        }

        #[test]
        fn what_a_lower_bound_decides_holds_for_every_higher_value(
            (bound, limit) in (0..40_u32, 0..40_u32),
            more in 0..80_u32,
            operator in prop::sample::select(OPERATORS.map(|(sign, _)| sign).to_vec()),
        ) {
            let condition = condition(&format!("requests {operator} {limit}"));
            let holds = |value: u32, is_lower_bound| {
                condition.holds(Some(Bounded { value: value.into(), is_lower_bound }))
            };
            if let Some(certain) = holds(bound, true) {
                prop_assert_eq!(holds(bound + more, false), Some(certain));
            } else {
                // Undecided means that it holds for one possible value and not for another.
                let outcomes: Vec<_> = [bound, bound.max(limit), 1000].map(|value| holds(value, false)).into();
                prop_assert!(outcomes.contains(&Some(true)) && outcomes.contains(&Some(false)));
            }
        }

        #[test]
        fn a_known_figure_is_below_equal_or_above(value in 0..100_u32, limit in 0..100_u32) {
            let holds = |operator: &str| {
                let condition = condition(&format!("requests {operator} {limit}"));
                condition.holds(Some(Bounded { value: value.into(), is_lower_bound: false })).unwrap()
            };
            prop_assert_eq!([holds("<"), holds("=="), holds(">")].iter().filter(|holds| **holds).count(), 1);
            prop_assert_eq!([holds(">="), holds("!="), holds("<=")], [!holds("<"), !holds("=="), !holds(">")]);
        }
    }
}
