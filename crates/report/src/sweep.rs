//! The summary of a sweep as text and as Markdown: two tables of cells, and one of the slopes or of where the models
//! failed. They fit a terminal of 80 columns.

use quantity::format::{self, UNKNOWN};
use results::statistics::Spread;
use results::sweep::{CellSummary, ModelSummary, Slope, Sweep};

use crate::markdown;
use crate::table::{Cells, table};

const NOTES: &str = "\
Medians, and below them the lowest and highest of all rounds. RAM is the peak,
while every connection waits for its query; keep-alive is what the same
connections cost before that: open and idle, each after one answer without a
query. Possible: what the requests waiting at once allow.
";
const SLOPE_NOTE: &str = "\
A connection more costs the slope of RAM over connections (least squares); its
95 % confidence interval is below it.
";
const TCP_NOTE: &str = "\
The limit of cgroup v1 excludes TCP buffers, which RAM includes: RAM may be
above the limit.
";

/// As text for the terminal.
pub fn text(sweep: &Sweep) -> String {
    let tables: Vec<_> = tables(sweep).iter().map(|cells| table(cells).to_string()).collect();
    format!("{}\n{NOTES}{}", tables.join("\n\n"), note(sweep))
}

/// As Markdown for an issue or a README.
pub fn markdown(sweep: &Sweep) -> String {
    let tables: Vec<_> = tables(sweep).iter().map(markdown::table).collect();
    let below = markdown::below(&sweep.runs);
    format!("{}\n{}{}\n{below}", tables.join("\n"), NOTES, note(sweep))
}

fn tables(sweep: &Sweep) -> [Cells; 3] {
    let cells = |header: &[&str], row: fn(&CellSummary) -> Vec<String>| -> Cells {
        let names = ["model", "connections"].iter().chain(header).map(ToString::to_string).collect();
        let rows = sweep.models.iter().flat_map(|model| {
            let named = move |cell: &CellSummary| [model.target.clone(), format::count(cell.connections as f64)];
            model.cells.iter().map(move |cell| named(cell).into_iter().chain(row(cell)).collect())
        });
        [names].into_iter().chain(rows).collect()
    };
    let conclusion = match sweep.plan.ram_limit_bytes {
        Some(limit_bytes) => limits(sweep, limit_bytes),
        None => slopes(sweep),
    };
    [
        cells(&["RAM", "above idle", "keep-alive"], ram_row),
        cells(&["rounds", "requests/s", "possible", "p99"], answers_row),
        conclusion,
    ]
}

fn ram_row(cell: &CellSummary) -> Vec<String> {
    let bytes = |spread: Option<Spread>| spread_text(spread, format::short_bytes);
    vec![bytes(cell.peak_bytes), bytes(cell.above_idle_bytes), bytes(cell.keep_alive_bytes)]
}

fn answers_row(cell: &CellSummary) -> Vec<String> {
    let rounds = match cell.sound_rounds {
        sound if sound == cell.rounds => sound.to_string(),
        sound => format!("{sound} of {}", cell.rounds),
    };
    let mark = if cell.is_p99_lower_bound { "≥ " } else { "" };
    let p99 = spread_text(cell.p99_us, |us| format::micros(us as u64));
    let rate = |spread| spread_text(spread, format::count);
    vec![rounds, rate(cell.rps), rate(cell.rps_ceiling), format!("{mark}{p99}")]
}

fn slopes(sweep: &Sweep) -> Cells {
    let row = |model: &ModelSummary| vec![model.target.clone(), slope_text(model.active), slope_text(model.keep_alive)];
    let header = ["a connection more", "active", "keep-alive"].map(String::from).to_vec();
    [header].into_iter().chain(sweep.models.iter().map(row)).collect()
}

/// The most connections held, the fewest not held, and the cause.
fn limits(sweep: &Sweep, limit_bytes: u64) -> Cells {
    let number = |number: Option<usize>| number.map_or(UNKNOWN.into(), |number| format::count(number as f64));
    let row = |model: &ModelSummary| {
        let because = match (&model.fails_because, model.holds) {
            (Some(because), _) => because.clone(),
            (None, Some(_)) => "nothing, up to there".into(),
            (None, None) => UNKNOWN.into(),
        };
        vec![model.target.clone(), number(model.holds), number(model.fails_at), because]
    };
    let within = format!("within {}, by", format::exact_bytes(limit_bytes));
    let header = ["model".into(), "holds".into(), "fails at".into(), within].to_vec();
    [header].into_iter().chain(sweep.models.iter().map(row)).collect()
}

fn note(sweep: &Sweep) -> &'static str {
    let is_v1 = sweep.runs.iter().any(|run| run.memory.source.as_deref() == Some("cgroup v1"));
    match sweep.plan.ram_limit_bytes {
        None => SLOPE_NOTE,
        Some(_) if is_v1 => TCP_NOTE,
        Some(_) => "",
    }
}

/// A slope, and its interval on a second line; [`UNKNOWN`] without one.
pub(crate) fn slope_text(slope: Option<Slope>) -> String {
    // A negative slope is noise.
    let bytes = |value: f64| format::bytes(Some(value.max(0.0) as u64));
    let Some(slope) = slope else { return UNKNOWN.into() };
    match slope.low_bytes.zip(slope.high_bytes) {
        Some((low, high)) => format!("{}\n{}", bytes(slope.bytes), range(&bytes(low), &bytes(high))),
        None => bytes(slope.bytes),
    }
}

pub(crate) fn spread_text(spread: Option<Spread>, text: impl Fn(f64) -> String) -> String {
    let Some(Spread { median, min, max }) = spread else { return UNKNOWN.into() };
    match [median, min, max].map(text) {
        [median, min, max] if min == max => median,
        [median, min, max] => format!("{median}\n{}", range(&min, &max)),
    }
}

/// `2.74..2.81 MB`: a common unit appears once.
pub fn range(low: &str, high: &str) -> String {
    match (low.rsplit_once(' '), high.rsplit_once(' ')) {
        (Some((low, unit)), Some((_, same))) if unit == same => format!("{low}..{high}"),
        _ => format!("{low}..{high}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use results::RunResult;
    use results::run::SweepPlan;
    use results::samples::sample;

    fn sweep() -> Sweep {
        let run = |connections: usize, round, peak_bytes: u64| {
            let mut run = sample("threads");
            (run.connections.requested, run.connections.open_peak) = (connections, Some(connections as u64));
            (run.round, run.memory.peak_bytes) = (Some(round), Some(peak_bytes));
            RunResult { sweep: Some(SweepPlan::sample()), ..run }
        };
        let runs =
            [run(100, 1, 11_000_000), run(100, 2, 999_000), run(10_000, 1, 1_001_000_000), run(200, 1, 21_000_000)];
        Sweep::new(&runs).unwrap()
    }

    #[test]
    fn the_tables_fit_80_columns_and_hold_slopes() {
        let text = text(&sweep());
        for line in text.lines() {
            assert!(console::measure_text_width(line) <= 80, "{line}");
        }
        for expected in ["999 kB..11.0 MB", "a connection more", "100.34 kB", "1.00 GB", "confidence interval"] {
            assert!(text.contains(expected), "{expected}: {text}");
        }
    }

    #[test]
    fn markdown_has_a_row_for_each_cell_and_each_model() {
        let markdown = markdown(&sweep());
        let rows = |start: &str| markdown.lines().filter(|line| line.starts_with(start)).count();
        assert_eq!((rows("| threads"), rows("| a connection more")), (2 * 3 + 1, 1), "{markdown}");
        assert!(markdown.contains("6.00 MB (999 kB..11.0 MB)"), "{markdown}");
    }

    #[test]
    fn limits_name_the_cause() {
        let mut sweep = sweep();
        sweep.plan.ram_limit_bytes = Some(512 << 20);
        sweep.models[0].fails_because = Some("the kernel killed it".into());
        let text = text(&sweep);
        assert!(text.contains("within 512 MiB, by") && text.contains("the kernel killed it"), "{text}");
    }
}
