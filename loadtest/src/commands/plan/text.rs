//! The plan as text.

use quantity::format::{self, UNKNOWN, short_bytes};
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
            text += ". They come from another machine; the limits and CPUs above are this machine's";
        }
    }
    text + "."
}

/// The recommendation first, then what was asked, the table of models, what speaks against them, and the source.
pub(super) fn answer(plan: &PlanAnswer) -> String {
    let advice = &plan.advice;
    let take = advice.target.map_or(String::new(), |target| format!("Take {target}. "));
    let remarks = remarks(&plan.verdicts);
    let remarks = if remarks.is_empty() { remarks } else { format!("\n{remarks}") };
    let (need, table) = (need(&plan.need), table(plan));
    format!("{take}{}\n\n{need}\n{table}\n{}{remarks}\n{}\n", advice.why.join(" "), explanation(plan), plan.source)
}

fn need(need: &Need) -> String {
    let how = match need.rate {
        rate if rate == need.most_rate() => " (each sends without pause; set --rate otherwise)",
        rate if rate == need.most_queries() => {
            " (all that the database answers; the others wait for a connection to it)"
        }
        _ => "",
    };
    let pool = need.pool.map_or_else(String::new, |pool| format!(", {} to the database", format::count(pool as f64)));
    let computing = match need.cpu_per_request_s {
        0.0 => String::new(),
        cpu_s => format!(" and computing {}", format::micros((cpu_s * 1e6) as u64)),
    };
    format!(
        "{} connections{pool}, {} requests/s{how}, each waiting {}{computing}, within {}{}:",
        format::count(need.connections as f64),
        format::count(need.rate),
        format::micros((need.wait_s * 1e6) as u64),
        format::exact_bytes(need.ram_bytes),
        if need.isolation { ", a crash ending one connection only" } else { "" }
    )
}

fn table(plan: &PlanAnswer) -> String {
    let header = ["model", "fits", "RAM needed", "a connection", "RAM holds", "CPUs busy"];
    let row = |verdict: &Verdict| {
        let [low, high] =
            [verdict.per_connection_bytes, verdict.per_connection_high_bytes].map(|bytes| short_bytes(bytes as f64));
        [
            verdict.target.to_owned(),
            if verdict.fits() { "yes" } else { "no" }.into(),
            short_bytes(verdict.ram_bytes as f64),
            if low == high { low } else { report::sweep::range(&low, &high) },
            format::count(verdict.connections_in_ram as f64),
            verdict.cpus.map_or(UNKNOWN.into(), |cpus| format!("{cpus:.2} of {}", plan.host.cpus)),
        ]
    };
    report::table_of(header, plan.verdicts.iter().map(row)).to_string()
}

fn explanation(plan: &PlanAnswer) -> String {
    let workers = plan.verdicts.iter().find_map(|verdict| Some((verdict.target, verdict.workers?)));
    let workers = workers.map_or_else(String::new, |(target, workers)| format!(" {target}: with --workers {workers}."));
    format!(
        "RAM needed: at most, for all connections. A connection: as measured, up to the end of its\n\
         95 % interval. RAM holds: the connections that {} is enough for.{workers}\n",
        format::exact_bytes(plan.need.ram_bytes)
    )
}

/// What rules models out, and what to know of them: each remark once, with its models.
fn remarks(verdicts: &[Verdict]) -> String {
    let against = verdicts.iter().flat_map(|verdict| verdict.against.iter().map(|text| ("no ", verdict.target, text)));
    let cautions =
        verdicts.iter().flat_map(|verdict| verdict.cautions.iter().map(|text| ("but", verdict.target, text)));
    let mut remarks: Vec<(&str, &String, Vec<&str>)> = Vec::new();
    for (kind, target, text) in against.chain(cautions) {
        match remarks.iter_mut().find(|remark| (remark.0, remark.1) == (kind, text)) {
            Some((_, _, targets)) => targets.push(target),
            None => remarks.push((kind, text, vec![target])),
        }
    }
    remarks.iter().map(|(kind, text, targets)| format!("{kind} {}: {text}.\n", targets.join(", "))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_remark_is_made_once_with_all_its_models() {
        let verdict = |target, against: &[&str]| Verdict {
            target,
            against: against.iter().map(ToString::to_string).collect(),
            cautions: vec!["extrapolated".into()],
            ram_bytes: 1,
            per_connection_bytes: 1,
            per_connection_high_bytes: 1,
            connections_in_ram: 1,
            workers: None,
            cpus: None,
        };
        let verdicts = [verdict("prefork", &["too big", "too slow"]), verdict("threads", &["too big"])];
        let expected = "no  prefork, threads: too big.\nno  prefork: too slow.\nbut prefork, threads: extrapolated.\n";
        assert_eq!(remarks(&verdicts), expected);
    }
}
