//! The charts of a run that goes on, each with its figures as a table for those who do not see it.

use anyhow::Result;
use maud::{Markup, html};

use quantity::format::{UNKNOWN, bytes, count, micros, short_bytes};
use results::RunResult;

use super::models::Study;
use super::{cost, lines};

/// A column of a table: its heading, and its figure of a run.
type Column = (&'static str, fn(&RunResult) -> String);

const RAM: [Column; 4] = [
    ("now", |run| bytes(run.memory.end_bytes)),
    ("at its peak", |run| bytes(run.memory.peak_bytes)),
    ("limit", |run| bytes(run.memory.limit_bytes)),
    ("the article, for 10,000", |run| bytes(run.claimed_bytes())),
];
const THROUGHPUT: [Column; 3] = [
    ("requests/s", |run| run.rps.map_or(UNKNOWN.into(), count)),
    ("at most", |run| run.rps_ceiling.map_or(UNKNOWN.into(), count)),
    ("held at once", |run| run.connections.held_peak.map_or(UNKNOWN.into(), |held| count(held as f64))),
];

/// The charts that have something to show, one below the other.
pub(super) fn charts(study: &Study<'_>) -> Result<Markup> {
    Ok(html! {
        (with_table(cost::ram(study)?, table(study, &RAM)))
        (with_table(cost::charges(study)?, charges(study)))
        (with_table(cost::throughput(study)?, table(study, &THROUGHPUT)))
        @for chart in lines::time_charts(study)? { (with_table(Some(chart), seconds(study))) }
    })
}

fn with_table(chart: Option<Markup>, table: Markup) -> Markup {
    html! {
        @if let Some(chart) = chart {
            section.chart {
                (chart)
                details { summary { "The same as a table" } div.scroll tabindex="0" role="region" aria-label="table" { (table) } }
            }
        }
    }
}

fn runs<'a>(study: &'a Study<'a>) -> impl Iterator<Item = (&'a str, &'a RunResult)> {
    study.in_focus().into_iter().filter_map(|(model, cell)| Some((model.name, cell.typical()?)))
}

fn table(study: &Study<'_>, columns: &[Column]) -> Markup {
    html! {
        table {
            thead { tr { td {} @for (heading, _) in columns { th scope="col" { (heading) } } } }
            tbody {
                @for (name, run) in runs(study) {
                    tr { th scope="row" { (name) } @for (_, figure) in columns { td { (figure(run)) } } }
                }
            }
        }
    }
}

fn charges(study: &Study<'_>) -> Markup {
    let rows = runs(study).filter_map(|(name, run)| Some((name, cost::charge(run)?)));
    html! {
        table {
            thead { tr { td {} @for part in cost::CHARGE_NAMES { th scope="col" { (part) } } } }
            tbody {
                @for (name, parts) in rows {
                    tr { th scope="row" { (name) } @for part in parts { td { (short_bytes(part)) } } }
                }
            }
        }
    }
}

/// Latency and RAM, second by second.
fn seconds(study: &Study<'_>) -> Markup {
    let time = |time_us: Option<u64>| time_us.map_or(UNKNOWN.into(), micros);
    html! {
        table {
            thead {
                tr {
                    td {}
                    @for heading in ["until", "requests/s", "p50", "p99", "failures", "RAM"] { th scope="col" { (heading) } }
                }
            }
            tbody {
                @for (name, run) in runs(study) {
                    @for second in &run.series {
                        tr {
                            th scope="row" { (name) }
                            td { (format!("{:.1} s", second.end_s)) }
                            td { (count(second.rps)) }
                            td { (time(second.p50_us)) }
                            td { (time(second.p99_us)) }
                            td { (count(second.errors as f64)) }
                            td { (bytes(second.ram_bytes)) }
                        }
                    }
                }
            }
        }
    }
}
