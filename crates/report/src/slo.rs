//! Searches for the highest rate as text and as Markdown: a table of all rates for each server, and the answer below it.

use quantity::format::{self, UNKNOWN};
use results::figure::FigureValues;
use results::latency::Bounded;
use results::objective::Objective;
use results::slo::{Ending, RateSummary, Search, Searches};

use crate::markdown;
use crate::table::{Cells, table};

const NOTES: &str = "\
A rate is held if its objectives are kept, no request fails and at least 99 % of
the requests due are sent, in most of its steps. Shown is the worst step.
Latency counts from when a request was due.
";

/// As text for the terminal.
pub fn text(searches: &Searches) -> String {
    let of = |search: &Search| {
        // Without a rate that was tried there is nothing but the answer.
        let table =
            if search.rates.is_empty() { String::new() } else { format!("{}\n", table(&cells(searches, search))) };
        format!("{}\n{table}{}\n\n", heading(search), answer(search))
    };
    searches.searches.iter().map(of).collect::<String>() + NOTES + &warned(searches)
}

/// As Markdown for an issue or a README.
pub fn markdown(searches: &Searches) -> String {
    let of = |search: &Search| {
        let table = markdown::table(&cells(searches, search));
        format!("{}\n\n{table}\n{}\n\n", heading(search), answer(search))
    };
    let tables: String = searches.searches.iter().map(of).collect();
    format!("{tables}{NOTES}{}\n{}", warned(searches), markdown::below(&searches.runs))
}

fn heading(search: &Search) -> String {
    let wait = if search.wait.is_empty() { String::new() } else { format!(", database wait {}", search.wait) };
    let connections = format::count(search.connections as f64);
    format!(
        "{}: {connections} connections{wait}, the highest rate with {}",
        search.target,
        search.objectives.join(" and ")
    )
}

fn cells(searches: &Searches, search: &Search) -> Cells {
    let objectives: Vec<Objective> = search.objectives.iter().filter_map(|text| text.parse().ok()).collect();
    let figures = objectives.iter().map(|objective| objective.name().to_owned());
    let header = ["requests/s", "held"].map(str::to_owned).into_iter().chain(figures).chain(["missed".to_owned()]);
    let row = |rate: &RateSummary| {
        let names = [format::count(rate.rate as f64), format!("{} of {}", rate.held, rate.steps)];
        let worst = objectives.iter().map(|objective| worst(searches, search, rate.rate, objective));
        names.into_iter().chain(worst).chain([rate.because.clone().unwrap_or_default()]).collect()
    };
    [header.collect()].into_iter().chain(search.rates.iter().map(row)).collect()
}

/// The highest value of the objective's figure in any step at a rate.
fn worst(searches: &Searches, search: &Search, rate: u64, objective: &Objective) -> String {
    let values = searches.steps(search, rate).filter_map(|run| objective.value(&FigureValues::new(run)));
    let worst = values.max_by(|one: &Bounded<f64>, other| one.value.total_cmp(&other.value));
    worst.map_or_else(|| UNKNOWN.into(), |worst| objective.figure().text(Some(worst)))
}

/// The answer in a sentence or two.
pub fn answer(search: &Search) -> String {
    let per_s = |rate: u64| format!("{} requests/s", format::count(rate as f64));
    let objectives = search.objectives.join(" and ");
    let because = search.because.as_deref().unwrap_or("nothing was measured");
    let missed = search.fails_at.map(|rate| format!("at {} {because}", per_s(rate)));
    let missed = missed.unwrap_or_else(|| because.to_owned());
    let held = search.holds.map(per_s);
    let (target, connections) = (&search.target, format::count(search.connections as f64));
    match (search.ended_by, held) {
        (Ending::Found, Some(held)) => {
            format!("{target} holds {held} over {connections} connections with {objectives}: {missed}.")
        }
        (Ending::Client, Some(held)) => format!(
            "{target} holds at least {held} over {connections} connections with {objectives}: {missed}, but there the load generator was at its limit, so the \
             server's own is not known. Give the load generator more threads (-t, with a URL), CPUs of its own (--cpus), or another machine."
        ),
        (Ending::Client, None) => format!(
            "No rate of {target} is known to be held with {objectives}: {missed}, but there the load generator was at its limit."
        ),
        (Ending::Lowest, _) => format!(
            "{target} holds no rate with {objectives}: even {missed}. Lower rates need longer steps (-d) for enough answers."
        ),
        (Ending::Failed, None) => format!("{target} holds no rate: {because}."),
        (Ending::Failed, Some(held)) => format!("{target} held {held} with {objectives}, and then ended: {because}."),
        (Ending::Unsteady | Ending::Found, held) => format!(
            "{target} did not settle: its speed changes between steps. It mostly held {}. Longer steps (-d) may help.",
            held.as_deref().unwrap_or("no rate")
        ),
        (Ending::Interrupted, held) => {
            let held = held.as_deref().unwrap_or("no rate");
            let missed = search.fails_at.map_or_else(String::new, |_| format!("; {missed}"));
            format!("The search is partial, because it was interrupted: so far {target} held {held}{missed}.")
        }
    }
}

fn warned(searches: &Searches) -> String {
    match searches.runs.iter().filter(|run| !run.warnings.is_empty()).count() {
        0 => String::new(),
        steps => format!("Steps with warnings: {steps}; --json has them.\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use results::RunResult;
    use results::run::Rate;
    use results::samples::sample;
    use results::settings::LoadSettings;

    fn searches() -> Searches {
        let step = |rate: Option<u64>, p99| {
            let mut run = sample("threads");
            let slo = vec!["p99 < 50ms".to_owned(), "memory.peak <= 1GB".to_owned()];
            run.load = Some(LoadSettings { rate, slo, duration_ms: 3_000, ..LoadSettings::default() });
            run.latency_us.as_mut().unwrap().p99 = p99;
            RunResult { rate: rate.map(|rate| Rate::new(rate, rate, rate)), ..run }
        };
        let steps = [(None, 10_000), (Some(12_500), 61_000), (Some(11_000), 30_000), (Some(11_000), 40_000)];
        Searches::new(&steps.map(|(rate, p99)| step(rate, p99))).unwrap()
    }

    #[test]
    fn the_table_has_every_rate_and_fits_80_columns() {
        let text = text(&searches());
        for line in text.lines().filter(|line| !line.contains("threads")) {
            assert!(console::measure_text_width(line) <= 80, "{line}");
        }
        for expected in ["11,000", "2 of 2", "40.0 ms", "12,500", "0 of 1", "p99 was 61.0 ms", "377.43 MB"] {
            assert!(text.contains(expected), "{expected}: {text}");
        }
        let markdown = markdown(&searches());
        assert!(markdown.contains("| 12,500") && markdown.contains("2 CPUs"), "{markdown}");
    }

    #[test]
    fn each_ending_has_its_sentence() {
        let mut search = searches().searches.remove(0);
        for (ended_by, expected) in [
            (
                Ending::Found,
                "threads holds 11,000 requests/s over 10,000 connections with p99 < 50ms and memory.peak <= 1GB: at 12,500 requests/s p99 was",
            ),
            (Ending::Client, "holds at least 11,000 requests/s"),
            (
                Ending::Interrupted,
                "partial, because it was interrupted: so far threads held 11,000 requests/s; at 12,500",
            ),
            (Ending::Failed, "and then ended: p99 was 61.0 ms"),
            (Ending::Unsteady, "mostly held 11,000 requests/s"),
        ] {
            search.ended_by = ended_by;
            assert!(answer(&search).contains(expected), "{}", answer(&search));
        }
        search.holds = None;
        for (ended_by, expected) in [
            (
                Ending::Lowest,
                "threads holds no rate with p99 < 50ms and memory.peak <= 1GB: even at 12,500 requests/s p99 was",
            ),
            (Ending::Client, "No rate of threads is known to be held"),
            (Ending::Failed, "threads holds no rate: p99 was"),
            (Ending::Interrupted, "so far threads held no rate; at 12,500"),
        ] {
            search.ended_by = ended_by;
            assert!(answer(&search).contains(expected), "{}", answer(&search));
        }
    }
}
