//! What an article claims, what was measured, and whether the claim holds.
//!
//! An article is data: each claim has a statement and some checks, and each check is a figure with bounds. A figure has an
//! interval. Where the interval is on both sides of a bound there is no verdict.

use std::fmt;

use quantity::format;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::run::Host;
use crate::statistics::Estimate;
use crate::warning::Warning;

/// The version of the layout of a file of judged claims.
pub const SCHEMA: &str = "c10k-claims/1";

/// An article and what it claims.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Article {
    /// Its short name.
    pub name: String,
    /// Its title.
    pub title: String,
    /// Where it is.
    pub url: String,
    /// Its claims, in its order.
    #[serde(rename = "claim")]
    pub claims: Vec<Claim>,
}

/// One statement that can be checked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Claim {
    /// Its name, for `--only`.
    pub name: String,
    /// The section of the article that makes it.
    pub section: String,
    /// What the article says, in short.
    pub says: String,
    /// How to read what was measured.
    pub reading: String,
    /// What must be true for it to hold.
    pub checks: Vec<Check>,
    /// The names of figures to show beside it.
    #[serde(default)]
    pub also: Vec<String>,
}

/// A figure that must be within bounds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Check {
    /// The name of the figure; what comes before the first dot is the experiment that measures it.
    pub figure: String,
    /// The lower bound, with its unit; null for none.
    #[serde(default)]
    pub at_least: Option<String>,
    /// The upper bound, with its unit; null for none.
    #[serde(default)]
    pub at_most: Option<String>,
}

/// The unit of a figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Bytes.
    Bytes,
    /// Nanoseconds.
    Ns,
    /// Cycles of a CPU.
    Cycles,
    /// A number of something.
    Count,
    /// One figure divided by another.
    Ratio,
    /// A part of a whole, from 0 to 1.
    Share,
    /// 1 for yes, 0 for no.
    Truth,
}

/// Something measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Figure {
    /// Its name: the experiment, and what of it.
    pub name: String,
    /// What it is, in words.
    pub what: String,
    /// The unit of its value and interval.
    pub unit: Unit,
    /// Its value and interval.
    #[serde(flatten)]
    pub estimate: Estimate,
    /// What to know about it, such as that it is extrapolated.
    #[serde(default)]
    pub note: Option<String>,
}

/// Something that could not be measured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Missing {
    /// The name of a figure, or the first parts of several names.
    pub name: String,
    /// Why, and what would help.
    pub why: String,
}

/// A figure, or why there is none: a line of what an experiment prints.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Finding {
    /// It was measured.
    Figure(Figure),
    /// It was not.
    Missing(Missing),
}

/// What came of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "verdict", rename_all = "snake_case")]
pub enum Verdict {
    /// It holds.
    Holds,
    /// What of it could be measured holds.
    HoldsInPart,
    /// It does not, by this factor.
    Off {
        /// How many times the nearest bound is above the figure, or below.
        factor: f64,
        /// Whether the article says more than there is.
        says_too_much: bool,
    },
    /// It does not hold, and there is no factor to it.
    DoesNotHold,
    /// Some checks hold and some do not.
    Depends,
    /// The interval is on both sides of a bound.
    Undecided,
    /// Nothing of it was measured.
    Unchecked,
}

/// What came of a check.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Checked {
    /// The check.
    pub check: Check,
    /// The figure; null if it was not measured.
    pub figure: Option<Figure>,
    /// Why it was not measured.
    pub why_missing: Option<String>,
    /// What came of it.
    #[serde(flatten)]
    pub verdict: Verdict,
}

/// A claim and what came of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Judged {
    /// The claim.
    #[serde(flatten)]
    pub claim: Claim,
    /// What came of it.
    #[serde(flatten)]
    pub verdict: Verdict,
    /// What came of each check.
    pub findings: Vec<Checked>,
    /// What is shown beside it.
    pub beside: Vec<Figure>,
}

/// Every claim of an article, and what came of it on one machine: what `loadtest claims` writes.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Judgement {
    /// [`SCHEMA`].
    pub schema: String,
    /// The article's short name.
    pub article: String,
    /// Its title.
    pub title: String,
    /// Where it is.
    pub url: String,
    /// Whether all that was to be measured was.
    pub complete: bool,
    /// Whether only as much was measured as gives an interval.
    pub quick: bool,
    /// When it began, in RFC 3339.
    pub started_at: String,
    /// The command line of loadtest.
    pub command: Vec<String>,
    /// Reasons to doubt the figures.
    pub warnings: Vec<Warning>,
    /// The machine.
    pub host: Host,
    /// What of it decides the cost of a switch: names and values.
    pub facts: Vec<(String, String)>,
    /// The experiments that have ended.
    pub experiments: Vec<String>,
    /// The claims, in the article's order.
    pub claims: Vec<Judged>,
    /// All that was found.
    pub findings: Vec<Finding>,
}

impl Finding {
    /// The experiment that it is from.
    pub fn experiment(&self) -> &str {
        match self {
            Finding::Figure(figure) => experiment_of(&figure.name),
            Finding::Missing(missing) => experiment_of(&missing.name),
        }
    }
}

impl Unit {
    const ALL: [Unit; 7] = [Unit::Bytes, Unit::Ns, Unit::Cycles, Unit::Count, Unit::Ratio, Unit::Share, Unit::Truth];

    /// A bound as the article's file has it: `10MB`, `2us`, `5`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(self, text: &str) -> Result<f64, String> {
        match self {
            Unit::Bytes => quantity::bytes(text).map(|bytes| bytes as f64),
            Unit::Ns => quantity::duration(text).map(|time| time.as_nanos() as f64),
            Unit::Truth if text == "yes" => Ok(1.0),
            Unit::Truth if text == "no" => Ok(0.0),
            Unit::Truth => Err(format!("{text:?} is neither yes nor no")),
            Unit::Share => match text.strip_suffix('%') {
                Some(percent) => quantity::number(percent.trim()).map(|percent| percent / 100.0),
                None => Err(format!("{text:?} is not a share: write 90%")),
            },
            Unit::Cycles | Unit::Count | Unit::Ratio => quantity::number(text),
        }
    }

    /// A value for people: `17.9 µs`, `2.31x`, `no`.
    pub fn display(self, value: f64) -> String {
        let sign = if value < 0.0 { "-" } else { "" };
        let size = value.abs();
        match self {
            Unit::Bytes => format!("{sign}{}", format::short_bytes(size)),
            Unit::Ns => format!("{sign}{}", format::nanos(size)),
            Unit::Cycles => format!("{sign}{} cycles", format::count(size)),
            Unit::Count if size >= 100.0 || size.fract() == 0.0 => format!("{sign}{}", format::count(size)),
            Unit::Count => format!("{sign}{}", format::significant(size)),
            Unit::Ratio => format!("{sign}{}x", format::significant(size)),
            Unit::Share => format!("{sign}{}", format::percent(size)),
            Unit::Truth => (if value >= 0.5 { "yes" } else { "no" }).to_owned(),
        }
    }
}

impl Figure {
    /// `17.9 µs (17.5 µs to 18.2 µs)`; an exact figure has no interval.
    pub fn display(&self) -> String {
        let Estimate { value, low, high, .. } = self.estimate;
        let [shown, low_shown, high_shown] = [value, low, high].map(|value| self.unit.display(value));
        if low_shown == high_shown { shown } else { format!("{shown} ({low_shown} to {high_shown})") }
    }
}

impl Check {
    /// The bounds for people: `10 to 100 MB`.
    ///
    /// # Errors
    /// A bound cannot be read in this unit.
    pub fn bounds(&self, unit: Unit) -> Result<(Option<f64>, Option<f64>), String> {
        let read = |bound: &Option<String>| {
            bound.as_deref().map(|text| unit.parse(text)).transpose().map_err(|why| format!("{}: {why}", self.figure))
        };
        let (low, high) = (read(&self.at_least)?, read(&self.at_most)?);
        match (low, high) {
            (None, None) => Err(format!("{} has neither at_least nor at_most", self.figure)),
            (Some(low), Some(high)) if low > high => Err(format!("{}: at_least is above at_most", self.figure)),
            bounds => Ok(bounds),
        }
    }

    /// The bounds as written: `10MB to 100MB`, `at most 1us`.
    pub fn describe(&self) -> String {
        match (&self.at_least, &self.at_most) {
            (Some(low), Some(high)) if low == high => low.clone(),
            (Some(low), Some(high)) => format!("{low} to {high}"),
            (Some(truth), None) | (None, Some(truth)) if ["yes", "no"].contains(&truth.as_str()) => truth.clone(),
            (Some(low), None) => format!("at least {low}"),
            (None, Some(high)) => format!("at most {high}"),
            (None, None) => String::new(),
        }
    }

    fn judge(&self, findings: &[Finding]) -> Checked {
        let figure = figure(findings, &self.figure);
        let judged = match figure {
            Some(figure) => self.bounds(figure.unit).map(|bounds| verdict(figure.unit, figure.estimate, bounds)),
            None => Err(self.why_missing(findings)),
        };
        let (verdict, why_missing) = match judged {
            Ok(verdict) => (verdict, None),
            Err(why) => (Verdict::Unchecked, Some(why)),
        };
        Checked { check: self.clone(), figure: figure.cloned(), why_missing, verdict }
    }

    fn why_missing(&self, findings: &[Finding]) -> String {
        let is_about =
            |name: &str| self.figure.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
        let reasons = findings.iter().filter_map(|finding| match finding {
            Finding::Missing(missing) if is_about(&missing.name) => Some(missing),
            _ => None,
        });
        let nearest = reasons.max_by_key(|missing| missing.name.len());
        nearest.map_or_else(|| "it was not measured".to_owned(), |missing| missing.why.clone())
    }
}

/// The figure of this name, if it was measured.
pub fn figure<'a>(findings: &'a [Finding], name: &str) -> Option<&'a Figure> {
    findings.iter().find_map(|finding| match finding {
        Finding::Figure(figure) if figure.name == name => Some(figure),
        _ => None,
    })
}

/// The experiment that measures a figure: what comes before the first dot.
fn experiment_of(figure: &str) -> &str {
    figure.split('.').next().unwrap_or_default()
}

/// Whether the whole interval is within the bounds, or the whole of it is outside.
fn verdict(unit: Unit, estimate: Estimate, (at_least, at_most): (Option<f64>, Option<f64>)) -> Verdict {
    let is_below = |bound: f64| estimate.high < bound;
    let is_above = |bound: f64| estimate.low > bound;
    let off = |factor: f64, says_too_much| match unit {
        Unit::Truth | Unit::Share => Verdict::DoesNotHold,
        // From 0, or to it, there is no factor.
        _ if !factor.is_finite() || factor <= 0.0 => Verdict::DoesNotHold,
        _ => Verdict::Off { factor, says_too_much },
    };
    match (at_least, at_most) {
        _ if ![estimate.low, estimate.value, estimate.high].iter().all(|value| value.is_finite()) => Verdict::Unchecked,
        (Some(bound), _) if is_below(bound) => off(bound / estimate.value, true),
        (_, Some(bound)) if is_above(bound) => off(estimate.value / bound, false),
        _ if at_least.is_some_and(|bound| estimate.low < bound) => Verdict::Undecided,
        _ if at_most.is_some_and(|bound| estimate.high > bound) => Verdict::Undecided,
        _ => Verdict::Holds,
    }
}

impl Claim {
    /// Judges the claim by what was measured.
    pub fn judge(&self, found: &[Finding]) -> Judged {
        let findings: Vec<Checked> = self.checks.iter().map(|check| check.judge(found)).collect();
        let verdicts: Vec<Verdict> = findings.iter().map(|checked| checked.verdict).collect();
        Judged { claim: self.clone(), verdict: combined(&verdicts), findings, beside: self.beside(found) }
    }

    /// The experiments that measure its figures, also those beside it.
    pub fn experiments(&self) -> impl Iterator<Item = &str> {
        let figures = self.checks.iter().map(|check| &check.figure).chain(&self.also);
        figures.map(|figure| experiment_of(figure))
    }

    fn beside(&self, findings: &[Finding]) -> Vec<Figure> {
        self.also.iter().filter_map(|name| figure(findings, name)).cloned().collect()
    }
}

/// The verdict of several checks.
fn combined(verdicts: &[Verdict]) -> Verdict {
    let is_wrong = |verdict: &Verdict| matches!(verdict, Verdict::Off { .. } | Verdict::DoesNotHold);
    let wrong: Vec<Verdict> = verdicts.iter().copied().filter(is_wrong).collect();
    let has = |verdict| verdicts.contains(&verdict);
    match wrong.as_slice() {
        [_, ..] if has(Verdict::Holds) => Verdict::Depends,
        // One is enough. Several differ: by how much is said of each.
        [_, ..] => nearest(&wrong),
        [] if has(Verdict::Undecided) => Verdict::Undecided,
        [] if !has(Verdict::Holds) => Verdict::Unchecked,
        [] if has(Verdict::Unchecked) => Verdict::HoldsInPart,
        [] => Verdict::Holds,
    }
}

/// The verdict that is nearest to holding, if all are off in the same direction.
fn nearest(verdicts: &[Verdict]) -> Verdict {
    let factors: Option<Vec<(f64, bool)>> = verdicts
        .iter()
        .map(|verdict| match *verdict {
            Verdict::Off { factor, says_too_much } => Some((factor, says_too_much)),
            _ => None,
        })
        .collect();
    let nearest = factors.as_ref().and_then(|factors| {
        let first = factors.first()?;
        let agrees = factors.iter().all(|factor| factor.1 == first.1);
        agrees.then(|| factors.iter().min_by(|one, other| one.0.total_cmp(&other.0))).flatten()
    });
    nearest.map_or(Verdict::DoesNotHold, |&(factor, says_too_much)| Verdict::Off { factor, says_too_much })
}

impl fmt::Display for Verdict {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Verdict::Holds => formatter.write_str("holds"),
            Verdict::HoldsInPart => formatter.write_str("holds in part"),
            Verdict::Off { factor, says_too_much: true } => {
                write!(formatter, "off: {}x too much", format::significant(*factor))
            }
            Verdict::Off { factor, says_too_much: false } => {
                write!(formatter, "off: {}x too little", format::significant(*factor))
            }
            Verdict::DoesNotHold => formatter.write_str("does not hold"),
            Verdict::Depends => formatter.write_str("depends"),
            Verdict::Undecided => formatter.write_str("undecided"),
            Verdict::Unchecked => formatter.write_str("not checked here"),
        }
    }
}

impl Article {
    /// Checks what the file's syntax does not: that names differ, and that each claim has a check with bounds.
    ///
    /// # Errors
    /// What is wrong.
    pub fn validate(&self, experiments: &[&str]) -> Result<(), String> {
        for (index, claim) in self.claims.iter().enumerate() {
            if self.claims[..index].iter().any(|other| other.name == claim.name) {
                return Err(format!("two claims are named {:?}", claim.name));
            }
            if claim.checks.is_empty() {
                return Err(format!("the claim {:?} has no checks", claim.name));
            }
            for check in &claim.checks {
                // Which unit it must have is known when the figure is.
                if Unit::ALL.iter().all(|unit| check.bounds(*unit).is_err()) {
                    let why = check.bounds(Unit::Bytes).err().unwrap_or_default();
                    return Err(format!("{:?}: {why}; a bound is a size, a time, a number, yes or no", claim.name));
                }
            }
            if let Some(unknown) = claim.experiments().find(|name| !experiments.contains(name)) {
                let known = experiments.join(", ");
                return Err(format!("{:?}: there is no experiment {unknown:?}, but {known}", claim.name));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(name: &str, unit: Unit, low: f64, value: f64, high: f64) -> Finding {
        let estimate = Estimate { value, low, high, samples: 9 };
        Finding::Figure(Figure { name: name.into(), what: name.into(), unit, estimate, note: None })
    }

    fn claim(checks: &[(&str, Option<&str>, Option<&str>)]) -> Claim {
        let check = |&(figure, at_least, at_most): &(&str, Option<&str>, Option<&str>)| Check {
            figure: figure.into(),
            at_least: at_least.map(str::to_owned),
            at_most: at_most.map(str::to_owned),
        };
        Claim {
            name: "a".into(),
            section: "b".into(),
            says: "c".into(),
            reading: "d".into(),
            checks: checks.iter().map(check).collect(),
            also: Vec::new(),
        }
    }

    fn verdict_of(claim: &Claim, findings: &[Finding]) -> Verdict {
        claim.judge(findings).verdict
    }

    #[test]
    fn a_claim_holds_only_if_the_whole_interval_is_within_its_bounds() {
        let claim = claim(&[("create.a", Some("10us"), Some("100us"))]);
        let judged =
            |low: f64, value: f64, high: f64| verdict_of(&claim, &[found("create.a", Unit::Ns, low, value, high)]);
        assert_eq!(judged(11e3, 12e3, 13e3), Verdict::Holds);
        assert_eq!(judged(9e3, 11e3, 13e3), Verdict::Undecided);
        assert_eq!(judged(95e3, 99e3, 101e3), Verdict::Undecided);
        assert_eq!(judged(4e3, 5e3, 6e3), Verdict::Off { factor: 2.0, says_too_much: true });
        assert_eq!(judged(290e3, 300e3, 310e3), Verdict::Off { factor: 3.0, says_too_much: false });
    }

    #[test]
    fn several_checks_make_it_depend() {
        let two = claim(&[("a.x", None, Some("10")), ("a.y", None, Some("10"))]);
        let figures = |x: f64, y: f64| [found("a.x", Unit::Count, x, x, x), found("a.y", Unit::Count, y, y, y)];
        assert_eq!(verdict_of(&two, &figures(1.0, 2.0)), Verdict::Holds);
        assert_eq!(verdict_of(&two, &figures(1.0, 20.0)), Verdict::Depends);
        assert_eq!(verdict_of(&two, &figures(50.0, 20.0)), Verdict::Off { factor: 2.0, says_too_much: false });
        let straddles = found("a.x", Unit::Count, 9.0, 10.0, 11.0);
        let both = |other: f64| [straddles.clone(), found("a.y", Unit::Count, other, other, other)];
        assert_eq!(verdict_of(&two, &both(1.0)), Verdict::Undecided);
        // One that is outside decides.
        assert_eq!(verdict_of(&two, &both(30.0)), Verdict::Off { factor: 3.0, says_too_much: false });
    }

    #[test]
    fn what_was_not_measured_is_neither_true_nor_false() {
        let two = claim(&[("a.x", None, Some("10")), ("b.y.z", None, Some("10"))]);
        let missing = |name: &str, why: &str| Finding::Missing(Missing { name: name.into(), why: why.into() });
        let findings = [missing("a", "no root"), missing("b", "no Go"), missing("b.y", "no Go here")];
        let judged = two.judge(&findings);
        assert_eq!(judged.verdict, Verdict::Unchecked);
        let why: Vec<_> = judged.findings.iter().map(|checked| checked.why_missing.as_deref()).collect();
        assert_eq!(why, [Some("no root"), Some("no Go here")]);
        let partly = [found("a.x", Unit::Count, 1.0, 1.0, 1.0), missing("b", "no Go")];
        assert_eq!(verdict_of(&two, &partly), Verdict::HoldsInPart);
        let none = [found("a.x", Unit::Count, f64::NAN, f64::NAN, f64::NAN)];
        assert_eq!(verdict_of(&two, &none), Verdict::Unchecked);
    }

    #[test]
    fn a_truth_has_no_factor() {
        let claim = claim(&[("a.x", Some("yes"), None)]);
        assert_eq!(verdict_of(&claim, &[found("a.x", Unit::Truth, 0.0, 0.0, 0.0)]), Verdict::DoesNotHold);
        assert_eq!(verdict_of(&claim, &[found("a.x", Unit::Truth, 1.0, 1.0, 1.0)]), Verdict::Holds);
        let judged = claim.judge(&[found("a.x", Unit::Bytes, 1.0, 1.0, 1.0)]);
        let why = judged.findings[0].why_missing.clone().unwrap();
        assert!(judged.verdict == Verdict::Unchecked && why.starts_with("a.x: \"yes\" is not a size"), "{why}");
    }

    #[test]
    fn an_article_is_checked_before_anything_is_measured() {
        let article = |claims: Vec<Claim>| Article { name: "a".into(), title: "b".into(), url: "c".into(), claims };
        let good = claim(&[("create.a", Some("1us"), None)]);
        article(vec![good.clone()]).validate(&["create"]).unwrap();
        for (claims, expected) in [
            (vec![good.clone(), good.clone()], "two claims are named"),
            (vec![claim(&[])], "has no checks"),
            (vec![claim(&[("create.a", None, None)])], "neither at_least nor at_most"),
            (vec![claim(&[("create.a", Some("8.1MiB"), None)])], "8.1MiB is not a whole number"),
            (vec![claim(&[("create.a", Some("2"), Some("1"))])], "at_least is above at_most"),
            (vec![claim(&[("other.a", Some("1"), None)])], "there is no experiment \"other\""),
        ] {
            let error = article(claims).validate(&["create"]).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn figures_are_shown_in_their_unit() {
        let shown = |unit: Unit, value: f64| unit.display(value);
        assert_eq!(shown(Unit::Ns, 42.3), "42.3 ns");
        assert_eq!(shown(Unit::Ns, -1_500.0), "-1.50 µs");
        assert_eq!(shown(Unit::Bytes, 37_300.0), "37.3 kB");
        assert_eq!((shown(Unit::Ratio, 2.314), shown(Unit::Truth, 0.0)), ("2.31x".into(), "no".into()));
        assert_eq!((shown(Unit::Share, 0.25), Unit::Share.parse("90%")), ("25 %".into(), Ok(0.9)));
        assert_eq!((shown(Unit::Count, 2.5), shown(Unit::Count, 10_000.0)), ("2.50".into(), "10,000".into()));
        let Finding::Figure(figure) = found("a", Unit::Ns, 1_000.0, 1_100.0, 1_200.0) else { panic!() };
        assert_eq!(figure.display(), "1.10 µs (1.00 µs to 1.20 µs)");
    }
}
