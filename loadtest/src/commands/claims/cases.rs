//! The article's decision guide, case by case: whether `loadtest plan` gives the same advice, from the figures of this
//! machine.

use std::time::Duration;

use results::Target;
use results::claim::{self, Figure, Finding, Missing, Unit};
use results::statistics::Estimate;
use results::target::ARTICLE_CONNECTIONS;

use crate::commands::plan::{self, Case};

/// What the names of the figures begin with.
pub(super) const NAME: &str = "plan";
/// The experiment that they are derived from.
pub(super) const SOURCE: &str = "connections";

const GIB: u64 = 1 << 30;
const COMPUTES: Case = Case {
    connections: 20,
    wait: Duration::from_millis(1),
    cpu_per_request: Duration::from_millis(50),
    rate: Some(10.0),
    ram_bytes: 2 * GIB,
    isolation: false,
};
const WAITS: Case = Case {
    connections: ARTICLE_CONNECTIONS,
    wait: Duration::from_secs(1),
    cpu_per_request: Duration::ZERO,
    rate: None,
    ram_bytes: 8 * GIB,
    isolation: false,
};

/// Each case: its name, what it is, the need, and the models that the article takes.
const CASES: &[(&str, &str, Case, &[&str])] = &[
    (
        "computes_isolated",
        "jobs that compute 50 ms and must be isolated: processes",
        Case { isolation: true, ..COMPUTES },
        &["prefork"],
    ),
    ("computes", "jobs that compute 50 ms and may share: threads", COMPUTES, &["threads", "threadpool"]),
    ("waits", "10,000 connections that wait 1 s, in 8 GiB: coroutines", WAITS, &["async", "async-codec"]),
    (
        "waits_512MiB",
        "10,000 connections that wait 1 s, in 512 MiB: coroutines",
        Case { ram_bytes: GIB / 2, ..WAITS },
        &["async", "async-codec"],
    ),
    (
        "waits_isolated",
        "1,000 tenants that wait 1 s and must be isolated: processes",
        Case { connections: 1_000, isolation: true, ..WAITS },
        &["prefork"],
    ),
];

/// A figure for each case, from what the experiments found.
pub(super) fn derive(findings: &[Finding]) -> Vec<Finding> {
    let costs = costs(findings);
    if costs.is_empty() {
        return vec![missing("no model was measured (connections)".to_owned())];
    }
    CASES.iter().map(|case| decide(case, &costs)).collect()
}

fn decide((name, what, case, expected): &(&str, &str, Case, &[&str]), costs: &[Cost]) -> Finding {
    // Once with each end of the RAM's intervals: if the advice differs, nothing is decided.
    let taken: anyhow::Result<Vec<_>> = [|ram: Estimate| ram.low, |ram: Estimate| ram.high]
        .iter()
        .map(|end| {
            let of = |&(target, ram, cpu_s): &Cost| (target, end(ram).max(0.0) / ARTICLE_CONNECTIONS as f64, cpu_s);
            plan::recommend(case, &costs.iter().map(of).collect::<Vec<_>>())
        })
        .collect();
    let taken: Vec<&str> = match taken {
        Ok(taken) => taken.into_iter().map(|taken| taken.unwrap_or("none")).collect(),
        Err(error) => return missing(format!("{error:#}")),
    };
    let is_expected = |taken: &&str| f64::from(u8::from(expected.contains(taken)));
    let (low, high) = (taken.first().map_or(0.0, is_expected), taken.last().map_or(0.0, is_expected));
    let mut names = taken;
    names.dedup();
    Finding::Figure(Figure {
        name: format!("{NAME}.{name}"),
        what: format!("whether plan, on these figures, takes what the article takes for {what}"),
        unit: Unit::Truth,
        estimate: Estimate { value: high, low: low.min(high), high: low.max(high), samples: 1 },
        note: Some(format!("it takes {}", names.join(" or "))),
    })
}

fn missing(why: String) -> Finding {
    Finding::Missing(Missing { name: NAME.to_owned(), why })
}

/// Whether a finding is one of these.
pub(super) fn is_derived(finding: &Finding) -> bool {
    finding.experiment() == NAME
}

/// A model, what the article's connections take with it, and the CPU time of a request in seconds.
type Cost = (Target, Estimate, Option<f64>);

/// What each measured model takes.
fn costs(findings: &[Finding]) -> Vec<Cost> {
    let found = |name: String| claim::figure(findings, &name).map(|figure| figure.estimate);
    let cost = |target: Target| {
        let name = target.name().replace('-', "_");
        let ram = found(format!("{SOURCE}.{name}.ram"))?;
        let cpu_s = found(format!("{SOURCE}.{name}.cpu")).map(|cpu| cpu.value / 1e9);
        Some((target, ram, cpu_s))
    };
    Target::ALL.into_iter().filter_map(cost).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ram(name: &str, bytes: f64) -> Finding {
        let estimate = Estimate { value: bytes, low: bytes, high: bytes, samples: 3 };
        let (name, what) = (format!("connections.{name}.ram"), String::new());
        Finding::Figure(Figure { name, what, unit: Unit::Bytes, estimate, note: None })
    }

    #[test]
    fn the_advice_follows_the_figures() {
        let found =
            derive(&[ram("prefork", 1.2e9), ram("threads", 373e6), ram("threadpool", 56e6), ram("async", 155e6)]);
        let verdicts: Vec<_> = found
            .iter()
            .map(|finding| match finding {
                Finding::Figure(figure) => (figure.estimate.value, figure.note.as_deref().unwrap_or_default()),
                Finding::Missing(missing) => panic!("{missing:?}"),
            })
            .collect();
        let expected = [
            (1.0, "it takes prefork"),
            (1.0, "it takes threads"),
            (0.0, "it takes threads"),
            (1.0, "it takes async"),
            (1.0, "it takes prefork"),
        ];
        assert_eq!(verdicts, expected);
        assert!(matches!(&derive(&[])[..], [Finding::Missing(_)]));
    }
}
