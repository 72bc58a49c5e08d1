//! The result as text, on stdout: a block for each run, and a table of all.
//!
//! RAM is in decimal units (1 MB = 10^6 bytes), as in the claim that it is compared with.

use std::time::Duration;

use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, LineStyle, Table, TableStyle};
use console::style;
use indicatif::{DecimalBytes, HumanCount};

use crate::result::{AboveWait, Errors, Latency, Memory, RunResult};
use crate::target::Target;
use crate::warning::Warning;

/// How many connections the article counts.
const ARTICLE_CONNECTIONS: usize = 10_000;
/// What stands where nothing could be measured.
const UNKNOWN: &str = "-";

/// One run.
pub(crate) fn of_run(result: &RunResult) -> String {
    let mut text = format!("{}\n", style(heading(result)).bold());
    for (label, line) in lines(result) {
        text += &format!("  {label:<13} {line}\n");
    }
    if let Some(failure) = &result.failure {
        text += &format!("  {} {failure}\n", style(format!("{:<13}", "FAILED")).red().bold());
    }
    for Warning { text: warning, .. } in &result.warnings {
        text += &format!("  {} {warning}\n", style(format!("{:<13}", "warning")).yellow());
    }
    text + "\n"
}

/// One run, for stderr.
pub(crate) fn of_run_on_stderr(result: &RunResult) -> String {
    let text = of_run(result);
    if console::colors_enabled_stderr() { text } else { console::strip_ansi_codes(&text).into_owned() }
}

fn heading(result: &RunResult) -> String {
    let measured = result.duration_s.map_or("nothing measured".into(), |time_s| {
        format!("measured for {}", duration(Duration::from_secs_f64(time_s)))
    });
    let connections = HumanCount(result.connections.requested as u64);
    let partial = if result.complete { "" } else { " (partial)" };
    let wait =
        if result.wait.spec.is_empty() { String::new() } else { format!("database wait {}, ", result.wait.spec) };
    format!("{}: {connections} connections, {wait}{measured}{partial}", result.target)
}

fn lines(result: &RunResult) -> Vec<(&'static str, String)> {
    let mut lines = Vec::new();
    if result.connections.held_mean.is_some() || result.connections.held_peak > 0 {
        lines.push(("held", held(result)));
    }
    if result.memory.peak_bytes.is_some() {
        lines.push(("RAM", ram(&result.memory)));
        lines.push(("ledger", ledger(&result.memory)));
    }
    if let Some(latency) = &result.latency_us {
        lines.push(("latency", latency_text(latency)));
        lines.extend(result.above_wait_us.map(|above| ("above wait", percentiles(latency, above))));
    }
    if let Some(rps) = result.rps {
        lines.push(("throughput", throughput(result, rps)));
    }
    if result.errors_before.total() > 0 {
        lines.push(("errors before", errors(&result.errors_before)));
    }
    lines.push(("errors", errors(&result.errors)));
    let cpu = [("server", result.server.cpu_s), ("load generator", result.client.cpu_s)];
    let cpu = cpu.iter().filter_map(|&(who, time_s)| Some(cpu_text(who, time_s?, result.requests)));
    let cpu = cpu.collect::<Vec<_>>().join(", ");
    lines.extend((!cpu.is_empty()).then_some(("CPU", cpu)));
    lines
}

fn cpu_text(who: &str, time_s: f64, requests: u64) -> String {
    match requests {
        0 => format!("{who} {time_s:.2} s"),
        _ => format!("{who} {time_s:.2} s ({:.1} µs a request)", time_s * 1e6 / requests as f64),
    }
}

fn held(result: &RunResult) -> String {
    let connections = &result.connections;
    let (held, of) = (HumanCount(connections.held_peak), HumanCount(connections.established as u64));
    let waited = HumanCount(connections.waiting_peak);
    let what = match connections.queued_peak {
        0 => format!("{held} of {of} requests waited for the database at once"),
        queued => {
            let queued = HumanCount(queued);
            format!("{held} of {of} requests at once: {waited} waited for the database, {queued} for a worker")
        }
    };
    let mean = connections.held_mean.map(|mean| format!("; {} on average while measured", count(mean)));
    what + &mean.unwrap_or_default()
}

fn ram(memory: &Memory) -> String {
    format!(
        "{} at the peak ({}); {} before the first connection; {} for each connection",
        bytes(memory.peak_bytes),
        memory.source.as_deref().unwrap_or("?"),
        bytes(memory.idle_bytes),
        bytes(memory.per_connection_bytes)
    )
}

fn ledger(memory: &Memory) -> String {
    format!(
        "PSS {}, page tables {}, kernel stacks {}, sockets {}; RSS added up {}",
        bytes(memory.pss_bytes),
        bytes(memory.page_tables_bytes),
        bytes(memory.kernel_stacks_bytes),
        bytes(memory.sockets_bytes),
        bytes(memory.rss_sum_bytes)
    )
}

fn latency_text(latency: &Latency) -> String {
    let Latency { p50, p90, p99, p999, max, .. } = *latency;
    percentiles(latency, AboveWait { p50, p90, p99, p999, max })
}

/// `figures` with the marks of `latency`, which they were taken from.
fn percentiles(latency: &Latency, figures: AboveWait) -> String {
    let of = |name, value_us| bounded(latency, name, value_us);
    format!(
        "p50 {}, p90 {}, p99 {}, p99.9 {}, max {}",
        of("p50", figures.p50),
        of("p90", figures.p90),
        of("p99", figures.p99),
        of("p999", figures.p999),
        of("max", figures.max)
    )
}

fn throughput(result: &RunResult, rps: f64) -> String {
    let ceiling = result.rps_ceiling.map(|ceiling| format!(" (waiting at once / wait: {})", count(ceiling)));
    let (answered, in_flight) = (HumanCount(result.requests), HumanCount(result.in_flight));
    format!(
        "{} requests/s{}; {answered} answered, {in_flight} in flight at the end",
        count(rps),
        ceiling.unwrap_or_default()
    )
}

fn errors(errors: &Errors) -> String {
    let Errors { connect, read, write, timeout, status } = *errors;
    let kinds = [("connect", connect), ("read", read), ("write", write), ("timeout", timeout), ("status", status)];
    let kinds =
        kinds.iter().filter(|(_, count)| *count > 0).map(|(kind, count)| format!("{kind} {}", HumanCount(*count)));
    let text = kinds.collect::<Vec<_>>().join(", ");
    if text.is_empty() { "none".into() } else { text }
}

/// All runs: a column for each.
pub(crate) fn of_all(results: &[RunResult]) -> String {
    if results.is_empty() {
        return String::new();
    }
    format!("{}\n{}\n", table(results), source_notes(results).join("\n"))
}

fn table(results: &[RunResult]) -> Table {
    let mut table = Table::new();
    table.load_style(STYLE);
    let cells = |label: &str, of: &dyn Fn(&RunResult) -> String| {
        [label.to_owned()].into_iter().chain(results.iter().map(of)).collect::<Vec<_>>()
    };
    table.set_header(cells("", &|result| partial_mark(result)));
    for (label, of) in ROWS {
        if label.starts_with("the article") && !is_of_the_article(results) {
            continue;
        }
        table.add_row(cells(label, of));
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

const RULE: LineStyle = LineStyle::none().fill('─').junction('─');
const STYLE: TableStyle = NOTHING.top_border(RULE).header_separator(RULE).bottom_border(RULE);

type Row = (&'static str, &'static (dyn Fn(&RunResult) -> String + Sync));

const ROWS: [Row; 23] = [
    ("connections held at once", &|result| HumanCount(result.connections.held_peak).to_string()),
    ("  on average while measured", &|result| result.connections.held_mean.map_or(UNKNOWN.into(), count)),
    ("  waiting for the database", &|result| HumanCount(result.connections.waiting_peak).to_string()),
    ("RAM, peak", &|result| bytes(result.memory.peak_bytes)),
    ("the article says", &|result| bytes(claimed_bytes(result))),
    ("the article / measured", &|result| claim_ratio(result)),
    ("RAM a connection", &|result| bytes(result.memory.per_connection_bytes)),
    ("  PSS", &|result| bytes(result.memory.pss_bytes)),
    ("  page tables", &|result| bytes(result.memory.page_tables_bytes)),
    ("  kernel stacks", &|result| bytes(result.memory.kernel_stacks_bytes)),
    ("  sockets", &|result| bytes(result.memory.sockets_bytes)),
    ("  other kernel memory", &|result| bytes(result.memory.unledgered_kernel_bytes())),
    ("RSS added up", &|result| bytes(result.memory.rss_sum_bytes)),
    ("requests/s", &|result| result.rps.map_or(UNKNOWN.into(), count)),
    ("latency p50", &|result| percentile(result, "p50", |latency| latency.p50)),
    ("  p99", &|result| percentile(result, "p99", |latency| latency.p99)),
    ("  max", &|result| percentile(result, "max", |latency| latency.max)),
    ("above the wait, p50", &|result| above_wait(result, "p50", |above| above.p50)),
    ("  p99", &|result| above_wait(result, "p99", |above| above.p99)),
    ("  max", &|result| above_wait(result, "max", |above| above.max)),
    ("server's CPU, s", &|result| result.server.cpu_s.map_or(UNKNOWN.into(), |time_s| format!("{time_s:.2}"))),
    ("errors", &|result| HumanCount(result.errors_before.total() + result.errors.total()).to_string()),
    ("warnings", &|result| result.warnings.len().to_string()),
];

fn partial_mark(result: &RunResult) -> String {
    if result.complete { result.target.clone() } else { format!("{} (partial)", result.target) }
}

fn is_of_the_article(results: &[RunResult]) -> bool {
    results.iter().all(|result| result.connections.requested == ARTICLE_CONNECTIONS)
}

fn claimed_bytes(result: &RunResult) -> Option<u64> {
    Target::ALL.into_iter().find(|target| target.name() == result.target)?.claimed_bytes()
}

/// How often the measured RAM fits into what the article says.
fn claim_ratio(result: &RunResult) -> String {
    match claimed_bytes(result).zip(result.memory.peak_bytes) {
        Some((claimed, measured)) if measured > 0 => format!("{}x", significant(claimed as f64 / measured as f64)),
        _ => UNKNOWN.into(),
    }
}

/// What the peak is: it may differ from run to run, if one could not be metered as the others.
fn source_notes(results: &[RunResult]) -> Vec<&'static str> {
    let is_any =
        |is_it: fn(&str) -> bool| results.iter().filter_map(|result| result.memory.source.as_deref()).any(is_it);
    let mut notes = vec!["RAM: 1 MB = 10^6 bytes."];
    if is_any(|source| source.starts_with("cgroup")) {
        notes.push(
            "The peak is the whole charge of the server's own cgroup, kernel memory included. The indented parts are the \
             ledger from /proc, and the kernel memory that the cgroup was charged beyond it, at the end of the measured \
             time; PSS includes the pages of executable and libraries, which the cgroup is not charged for.",
        );
    }
    if is_any(|source| source == "pss") {
        notes.push(
            "Without a cgroup (run as root for one) the peak is PSS + page tables + kernel stacks + sockets at the end of \
             the measured time, which leaves out other kernel memory.",
        );
    }
    notes
}

fn percentile(result: &RunResult, name: &str, of: impl Fn(&Latency) -> u64) -> String {
    result.latency_us.as_ref().map_or(UNKNOWN.into(), |latency| bounded(latency, name, of(latency)))
}

fn above_wait(result: &RunResult, name: &str, of: impl Fn(&AboveWait) -> u64) -> String {
    let figures = result.latency_us.as_ref().zip(result.above_wait_us.as_ref());
    figures.map_or(UNKNOWN.into(), |(latency, above)| bounded(latency, name, of(above)))
}

fn bounded(latency: &Latency, name: &str, value_us: u64) -> String {
    let mark = if latency.lower_bounds.iter().any(|bound| bound == name) { "≥ " } else { "" };
    format!("{mark}{}", micros(value_us))
}

fn bytes(bytes: Option<u64>) -> String {
    bytes.map_or(UNKNOWN.into(), |bytes| DecimalBytes(bytes).to_string())
}

fn count(value: f64) -> String {
    HumanCount(value.round() as u64).to_string()
}

fn micros(micros: u64) -> String {
    duration(Duration::from_micros(micros))
}

/// Three digits and a unit: `7.39 ms`, `1.18 s`.
fn duration(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    // A figure that would be rounded up to 1000 belongs to the next unit.
    match seconds {
        _ if seconds >= 0.9995 => format!("{} s", significant(seconds)),
        _ if seconds >= 0.000_999_5 => format!("{} ms", significant(seconds * 1e3)),
        _ => format!("{} µs", significant(seconds * 1e6)),
    }
}

/// Three significant digits, or all that are before the point.
fn significant(value: f64) -> String {
    let decimals = match value {
        _ if value >= 99.95 || value == 0.0 => 0,
        _ if value >= 9.995 => 1,
        _ => 2,
    };
    format!("{value:.decimals$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_three_digits_and_a_unit() {
        let cases = [
            (0, "0 µs"),
            (7, "7.00 µs"),
            (999, "999 µs"),
            (1_000, "1.00 ms"),
            (7_391, "7.39 ms"),
            (95_359, "95.4 ms"),
            (999_400, "999 ms"),
            (999_600, "1.00 s"),
            (1_180_364, "1.18 s"),
            (60_000_000, "60.0 s"),
        ];
        for (value_us, expected) in cases {
            assert_eq!(micros(value_us), expected);
        }
    }

    #[test]
    fn kinds_of_errors_are_named() {
        assert_eq!(errors(&Errors::default()), "none");
        assert_eq!(errors(&Errors { connect: 2, status: 1000, ..Errors::default() }), "connect 2, status 1,000");
    }

    #[test]
    fn a_lower_bound_is_marked() {
        let latency = Latency { p99: 2_000_000, lower_bounds: vec!["p99".into()], ..Latency::default() };
        assert_eq!(bounded(&latency, "p99", latency.p99), "≥ 2.00 s");
        assert_eq!(bounded(&latency, "p50", 1_000_000), "1.00 s");
    }
}
