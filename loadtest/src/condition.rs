//! `--fail-if`: conditions that a result must not meet, for CI.
//!
//! A figure that is only a lower bound stands for every value from there up. A condition that holds for some of those and not
//! for others is unknown, as is one of a figure that was not measured; that fails, too: a check that could not be made is not
//! one that was passed.

use std::io::{self, Write as _};
use std::str::FromStr;

use clap::Args;
use indicatif::HumanCount;

use crate::figure::{Figure, Figures, Unit};
use crate::latency::Bounded;
use crate::result::RunResult;

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
    /// Says on stderr which conditions fail. Gives whether any does.
    pub(crate) fn fail(&self, results: &[RunResult]) -> bool {
        let failures = self.failures(results);
        // stderr may be closed.
        failures.iter().for_each(|failure| drop(writeln!(io::stderr(), "failed: {failure}")));
        !failures.is_empty()
    }

    /// For which run and why, a line for each.
    fn failures(&self, results: &[RunResult]) -> Vec<String> {
        let of_run = |result: &RunResult| {
            let figures = Figures::of(result);
            let run = format!("{}, {} connections", result.target, HumanCount(result.connections.requested as u64));
            let failures = self.fail_if.iter().filter_map(|condition| condition.failure(&figures));
            failures.map(|failure| format!("{run}: {failure}")).collect::<Vec<_>>()
        };
        results.iter().flat_map(of_run).collect()
    }
}

/// That a figure compares so with a limit.
#[derive(Clone, Debug)]
struct Condition {
    /// As it was given.
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

/// Longer ones first, for the parser.
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
    /// Whether it holds; nothing if that cannot be told.
    fn holds(&self, figure: Option<Bounded<f64>>) -> Option<bool> {
        let Bounded { value, is_lower_bound } = figure?;
        let holds = |value| self.operator.holds(value, self.limit);
        // All that an operator can tell apart among the values from here up.
        let possible = [value, self.limit.max(value), f64::INFINITY];
        let is_certain = !is_lower_bound || possible.iter().all(|&other| holds(other) == holds(value));
        is_certain.then(|| holds(value))
    }

    fn failure(&self, figures: &Figures) -> Option<String> {
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

impl FromStr for Condition {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let at = text.find(['<', '>', '=', '!']).ok_or("write a figure, an operator and a limit: p99 > 1200ms")?;
        let (name, rest) = (text[..at].trim(), &text[at..]);
        let operator = OPERATORS.iter().find_map(|(sign, operator)| Some((rest.strip_prefix(sign)?, *operator)));
        let (limit, operator) = operator.ok_or("the operators are > >= < <= == !=")?;
        let figure = Figure::called(name)
            .ok_or_else(|| format!("there is no figure {name:?}; there are {}", Figure::names()))?;
        let limit = parse_limit(limit.trim(), figure.unit())?;
        Ok(Self { text: text.trim().to_owned(), figure, operator, limit })
    }
}

/// A number and its unit, in the figure's own unit.
fn parse_limit(text: &str, unit: Unit) -> Result<f64, String> {
    let end = text.find(|character: char| !character.is_ascii_digit() && character != '.').unwrap_or(text.len());
    let (number, scale) = (text[..end].parse::<f64>(), scale(text[end..].trim(), unit));
    match (number, scale) {
        // Times and sizes need their unit: only nothing is nothing in all of them.
        (Ok(0.0), _) if end == text.len() => Ok(0.0),
        // So that 4.35 ms is 4350 us.
        (Ok(number), Some(scale)) => Ok((number * scale * 1e6).round() / 1e6),
        _ => Err(match unit {
            Unit::Micros | Unit::Seconds => format!("{text:?} is no time: write 500us, 1200ms, 1.5s, 2m or 1h"),
            Unit::Bytes => format!("{text:?} is no size: write 512B, 64kB, 64KiB, 64MB, 64MiB, 1.5GB or 1.5GiB"),
            Unit::Count => format!("{text:?} is no number: write 200, 10k or 1.5M"),
        }),
    }
}

/// How many of `unit` one of this is, in whatever case.
fn scale(text: &str, unit: Unit) -> Option<f64> {
    let times = |second: f64| match text.to_ascii_lowercase().as_str() {
        "us" | "µs" => Some(second / 1e6),
        "ms" => Some(second / 1e3),
        "s" => Some(second),
        "m" => Some(60.0 * second),
        "h" => Some(3600.0 * second),
        _ => None,
    };
    match unit {
        Unit::Micros => times(1e6),
        Unit::Seconds => times(1.0),
        Unit::Bytes => Some(match text.to_ascii_lowercase().as_str() {
            "b" => 1.0,
            "kb" => 1e3,
            "mb" => 1e6,
            "gb" => 1e9,
            "tb" => 1e12,
            "kib" => 1024.0,
            "mib" => f64::from(1 << 20),
            "gib" => f64::from(1 << 30),
            "tib" => 1024.0 * f64::from(1 << 30),
            _ => return None,
        }),
        Unit::Count => Some(match text.to_ascii_lowercase().as_str() {
            "" => 1.0,
            "k" => 1e3,
            "m" => 1e6,
            _ => return None,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::sample;
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
            ("memory.pss_bytes > 1.5 gb", 1.5e9),
            ("rps < 9.9k", 9_900.0),
            ("requests < 1M", 1e6),
            ("errors != 0", 0.0),
            ("p50 == 0", 0.0),
        ] {
            assert_eq!(condition(text).limit, limit, "{text}");
        }
    }

    #[test]
    fn what_cannot_be_read_says_what_can() {
        for (text, expected) in [
            ("p99", "write a figure, an operator and a limit"),
            ("p98 > 1s", "there is no figure \"p98\"; there are"),
            ("> 1s", "there is no figure"),
            ("p99 = 1s", "the operators are"),
            ("p99 > 1200", "\"1200\" is no time"),
            ("p99 > 64MB", "is no time"),
            ("memory.peak > 64M", "is no size"),
            ("errors > x", "is no number"),
            ("errors > -1", "is no number"),
            ("errors > 1.2.3", "is no number"),
            ("errors > ", "is no number"),
            ("errors >> 1", "is no number"),
        ] {
            let error = text.parse::<Condition>().unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
        assert!("x > 1".parse::<Condition>().unwrap_err().contains("p99, p999, max, above.p50"));
    }

    #[test]
    fn a_lower_bound_tells_what_it_can() {
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
        let conditions = Conditions { fail_if: fail_if.map(condition).to_vec() };
        assert_eq!(
            conditions.failures(&[sample("threads"), sample("threadpool")]),
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
        fn nothing_breaks_the_parser(text in "\\PC*", tail in "(p99|errors|memory.peak) ?[<>=!]{1,2} ?\\PC*") {
            let _ = text.parse::<Condition>();
            let _ = tail.parse::<Condition>();
        }

        #[test]
        fn what_is_certain_of_a_lower_bound_is_true_of_all_above(
            (bound, limit) in (0..40_u32, 0..40_u32),
            more in 0..80_u32,
            operator in prop::sample::select(OPERATORS.map(|(sign, _)| sign).to_vec()),
        ) {
            let condition = condition(&format!("requests {operator} {limit}"));
            let of = |value: u32, is_lower_bound| condition.holds(Some(Bounded { value: value.into(), is_lower_bound }));
            if let Some(certain) = of(bound, true) {
                prop_assert_eq!(of(bound + more, false), Some(certain));
            } else {
                // Then there is a value for which it holds, and one for which it does not.
                let holds: Vec<_> = [bound, bound.max(limit), 1000].map(|value| of(value, false)).into();
                prop_assert!(holds.contains(&Some(true)) && holds.contains(&Some(false)));
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
