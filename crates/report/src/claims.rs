//! An article's claims and what came of them: for a terminal, as Markdown and as CSV.

use anyhow::{Context as _, Result};
use console::{Style, style};
use csv::Writer;
use results::claim::{self, Article, Checked, Figure, Judged, Judgement, Unit, Verdict};
use results::statistics::Spread;

use crate::command::command_line;

/// How wide a line may be on a terminal.
const WIDTH: usize = 100;
/// Where the text of a claim begins.
const INDENT: usize = 22;

/// The claims of an article, by their names.
pub fn list(article: &Article) -> String {
    let mut text = format!("{}, \"{}\": {} claims\n", article.name, article.title, article.claims.len());
    let mut section = "";
    for claim in &article.claims {
        if section != claim.section {
            section = &claim.section;
            text += &format!("\n{}\n", style(section).bold());
        }
        text += &format!("  {:<27} {}\n", claim.name, claim.says);
    }
    text
}

/// Every claim with its verdict, what was measured, and how to read it; the count of verdicts in the end.
pub fn text(judgement: &Judgement) -> String {
    let facts: Vec<String> = judgement.facts.iter().map(|(name, value)| format!("{name}: {value}")).collect();
    let mut text = format!("{}\n{}\n", style(heading(judgement)).bold(), lines(&facts.join("; "), 0));
    let mut section = "";
    for judged in &judgement.claims {
        if section != judged.claim.section {
            section = &judged.claim.section;
            text += &format!("\n{}\n", style(section).bold());
        }
        text += &claim(judged);
    }
    for warning in &judgement.warnings {
        text += &format!("\n{} {}", style("warning").yellow(), warning.text);
    }
    text + "\n" + &summary(judgement) + &held(judgement).map_or_else(String::new, |held| held + "\n")
}

fn heading(judgement: &Judgement) -> String {
    let Judgement { article, title, quick, complete, .. } = judgement;
    let quick = if *quick { ", measured quickly" } else { "" };
    let partial = if *complete { "" } else { " (partial: --resume continues)" };
    format!("{article}, \"{title}\", on {}{quick}{partial}", judgement.host.describe())
}

fn claim(judged: &Judged) -> String {
    let verdict = format!("{:<width$}", judged.verdict.to_string(), width = INDENT - 3);
    let mut text = format!("  {} {}\n", look(judged.verdict).apply_to(verdict), style(&judged.claim.says).bold());
    for checked in &judged.findings {
        text += &wrapped(&finding(checked));
    }
    for figure in &judged.beside {
        text += &wrapped(&format!("beside: {}", described(figure)));
    }
    text + &wrapped(&format!("{} [{}]", judged.claim.reading, judged.claim.name))
}

fn finding(checked: &Checked) -> String {
    let bounds = checked.check.describe();
    match &checked.figure {
        Some(figure) => {
            let why = checked.why_missing.as_ref().map_or_else(String::new, |why| format!(": {why}"));
            format!("{} | the article: {bounds} | {}{why}", described(figure), checked.verdict)
        }
        None => format!("{}: {}", checked.check.figure, checked.why_missing.as_deref().unwrap_or("not measured")),
    }
}

/// `17.9 µs (17.5 µs to 18.2 µs): a thread, until the call returns`.
fn described(figure: &Figure) -> String {
    let note = figure.note.as_ref().map_or_else(String::new, |note| format!(" ({note})"));
    format!("{}: {}{note}", figure.display(), figure.what)
}

/// The text below its claim.
fn wrapped(text: &str) -> String {
    lines(text, INDENT) + "\n"
}

/// The text in indented lines; those after the first are indented once more.
fn lines(text: &str, indent: usize) -> String {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let line = lines.last_mut().filter(|line| line.chars().count() + word.chars().count() < WIDTH - indent);
        match line {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) => *line += &format!(" {word}"),
            None => lines.push(format!("  {word}")),
        }
    }
    let lines: Vec<String> = lines.into_iter().map(|line| format!("{:indent$}{line}", "")).collect();
    lines.join("\n")
}

fn look(verdict: Verdict) -> Style {
    match verdict {
        Verdict::Holds | Verdict::HoldsInPart => Style::new().green(),
        Verdict::Off { .. } | Verdict::DoesNotHold => Style::new().red(),
        Verdict::Depends | Verdict::Undecided => Style::new().yellow(),
        Verdict::Unchecked => Style::new().dim(),
    }
}

/// `47 claims: holds 18, off by a factor 8, ...`.
pub(crate) fn summary(judgement: &Judgement) -> String {
    let count = |is: fn(Verdict) -> bool| judgement.claims.iter().filter(|judged| is(judged.verdict)).count();
    let parts = [
        ("holds", count(|verdict| verdict == Verdict::Holds)),
        ("holds in part", count(|verdict| verdict == Verdict::HoldsInPart)),
        ("off by a factor", count(|verdict| matches!(verdict, Verdict::Off { .. }))),
        ("does not hold", count(|verdict| verdict == Verdict::DoesNotHold)),
        ("depends", count(|verdict| verdict == Verdict::Depends)),
        ("undecided", count(|verdict| verdict == Verdict::Undecided)),
        ("not checked here", count(|verdict| verdict == Verdict::Unchecked)),
    ];
    let parts = parts.iter().filter(|(_, count)| *count > 0).map(|(verdict, count)| format!("{verdict} {count}"));
    let claims = if judgement.claims.len() == 1 { "claim" } else { "claims" };
    format!("{} {claims}: {}\n", judgement.claims.len(), parts.collect::<Vec<_>>().join(", "))
}

/// What a reader needs to carry the result to a handler of his own; `None` if it was not measured.
pub(crate) fn held(judgement: &Judgement) -> Option<String> {
    claim::figure(&judgement.findings, "hold.same_at").map(|figure| {
        let size = figure.display();
        format!(
            "If each request holds more than {size} while it waits, threads and async differ by less than 10 % in RAM."
        )
    })
}

/// A table with a row for each claim, then each figure with its interval.
pub fn markdown(judgement: &Judgement) -> String {
    let escaped = |text: &str| text.replace('|', "\\|");
    let mut text = format!("{}\n\n| the article says | measured | verdict |\n|---|---|---|\n", heading(judgement));
    for judged in &judgement.claims {
        text += &format!("| {} | {} | **{}** |\n", escaped(&judged.claim.says), in_short(judged), judged.verdict);
    }
    text += &format!("\n{}", summary(judgement));
    text += &held(judgement).map_or_else(String::new, |held| format!("\n{held}\n"));
    text += &judgement.warnings.iter().map(|warning| format!("\n- {}\n", warning.text)).collect::<String>();
    text += &format!("\n```sh\n{}\n```\n\n### The figures\n", command_line(&judgement.command));
    for judged in &judgement.claims {
        text += &format!("\n**{}** ({}): {}\n\n", escaped(&judged.claim.says), judged.claim.section, judged.verdict);
        text += &judged.findings.iter().map(|checked| format!("- {}\n", finding(checked))).collect::<String>();
        text += &judged.beside.iter().map(|figure| format!("- beside: {}\n", described(figure))).collect::<String>();
    }
    text
}

/// `66.0 µs to 11.9 ms`: the lowest and the highest of a claim's figures in each unit; why, if there is none.
fn in_short(judged: &Judged) -> String {
    let figures: Vec<&Figure> = judged.findings.iter().filter_map(|checked| checked.figure.as_ref()).collect();
    let mut units: Vec<Unit> = Vec::new();
    units.extend(figures.iter().map(|figure| figure.unit));
    units.dedup();
    let ranges = units.iter().filter_map(|&unit| {
        let values = figures.iter().filter(|figure| figure.unit == unit).map(|figure| figure.estimate.value);
        let Spread { min, max, .. } = Spread::new(values)?;
        let [min, max] = [min, max].map(|value| unit.display(value));
        Some(if min == max { min } else { format!("{min} to {max}") })
    });
    let ranges: Vec<String> = ranges.collect();
    let why = || judged.findings.iter().find_map(|checked| checked.why_missing.clone()).unwrap_or_default();
    if ranges.is_empty() { format!("*{}*", why()) } else { ranges.join(", ") }
}

/// The columns of the CSV.
const COLUMNS: [&str; 15] = [
    "claim",
    "section",
    "says",
    "verdict",
    "figure",
    "what",
    "unit",
    "value",
    "low",
    "high",
    "samples",
    "at_least",
    "at_most",
    "check_verdict",
    "why_missing",
];

/// A row for each check of each claim.
///
/// # Errors
/// A row cannot be written.
pub fn csv(judgement: &Judgement) -> Result<Vec<u8>> {
    let mut writer = Writer::from_writer(Vec::new());
    writer.write_record(COLUMNS)?;
    for judged in &judgement.claims {
        for checked in &judged.findings {
            writer.write_record(row(judged, checked)?)?;
        }
    }
    writer.into_inner().context("the rows cannot be kept")
}

/// The fields of [`COLUMNS`]; empty where there is no figure, no bound, or no reason.
fn row(judged: &Judged, checked: &Checked) -> Result<[String; 15]> {
    let of = |field: fn(&Figure) -> String| checked.figure.as_ref().map(field).unwrap_or_default();
    let unit = checked.figure.as_ref().map(|figure| serde_json::to_value(figure.unit)).transpose()?;
    let or_empty = |text: &Option<String>| text.clone().unwrap_or_default();
    Ok([
        judged.claim.name.clone(),
        judged.claim.section.clone(),
        judged.claim.says.clone(),
        judged.verdict.to_string(),
        checked.check.figure.clone(),
        of(|figure| figure.what.clone()),
        unit.as_ref().and_then(|unit| unit.as_str()).unwrap_or_default().to_owned(),
        of(|figure| figure.estimate.value.to_string()),
        of(|figure| figure.estimate.low.to_string()),
        of(|figure| figure.estimate.high.to_string()),
        of(|figure| figure.estimate.samples.to_string()),
        or_empty(&checked.check.at_least),
        or_empty(&checked.check.at_most),
        checked.verdict.to_string(),
        or_empty(&checked.why_missing),
    ])
}
