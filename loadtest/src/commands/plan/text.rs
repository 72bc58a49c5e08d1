//! The plan as text.

use quantity::format::{self, UNKNOWN};
use report::TextTable;
use results::RunResult;
use results::run::Host;

use super::answer::PlanAnswer;
use super::need::Need;
use super::verdict::Verdict;

/// The source of the figures.
pub(super) fn source(name: &str, results: &[RunResult], here: &Host) -> String {
    let mut text = format!("Figures: {name}");
    if let Some(first) = results.first() {
        text += &format!("; {} runs from {} on, database wait {}", results.len(), first.started_at, first.wait.spec);
        if first.host != *here {
            text += ". They come from another machine; the limits and CPUs below are this machine's";
        }
    }
    text + "."
}

/// The table of models, the objections to each, and the recommendation.
pub(super) fn answer(plan: &PlanAnswer) -> String {
    let reasons = plan.verdicts.iter().flat_map(reasons).collect::<Vec<_>>();
    let reasons = if reasons.is_empty() { String::new() } else { reasons.join("\n") + "\n\n" };
    let advice = &plan.advice;
    let take = advice.target.map_or(String::new(), |target| format!("Take {target}. "));
    format!("{}\n\n{}\n\n{reasons}{take}{}\n\n{}\n", need(&plan.need), table(plan), advice.why.join(" "), plan.source)
}

fn need(need: &Need) -> String {
    let is_closed_loop = need.rate == need.most_rate();
    format!(
        "{} connections, {} requests/s{}, each waiting {} and computing {}, within {}{}:",
        format::count(need.connections as f64),
        format::count(need.rate),
        if is_closed_loop { " (each sends without pause; set --rate otherwise)" } else { "" },
        format::micros((need.wait_s * 1e6) as u64),
        format::micros((need.cpu_per_request_s * 1e6) as u64),
        format::bytes(Some(need.ram_bytes)),
        if need.isolation { ", a crash ending one connection only" } else { "" }
    )
}

fn table(plan: &PlanAnswer) -> TextTable {
    let header = ["model", "fits", "RAM, at most", "a connection", "at most", "the RAM holds", "workers", "CPUs"];
    report::table_of(header, plan.verdicts.iter().map(row))
}

fn row(verdict: &Verdict) -> [String; 8] {
    let bytes = |bytes| format::bytes(Some(bytes));
    [
        verdict.target.to_owned(),
        if verdict.fits() { "yes" } else { "no" }.into(),
        bytes(verdict.ram_bytes),
        bytes(verdict.per_connection_bytes),
        bytes(verdict.per_connection_high_bytes),
        format::count(verdict.connections_in_ram as f64),
        verdict.workers.map_or(UNKNOWN.into(), |workers| format::count(workers as f64)),
        verdict.cpus.map_or(UNKNOWN.into(), |cpus| format!("{cpus:.2}")),
    ]
}

fn reasons(verdict: &Verdict) -> Vec<String> {
    let against = verdict.against.iter().map(|text| ("no", text));
    let cautions = verdict.cautions.iter().map(|text| ("but", text));
    against.chain(cautions).map(|(kind, text)| format!("{}: {kind}: {text}.", verdict.target)).collect()
}
