//! The result as text, on stdout: a block for each run, and a table of all.

use std::time::Duration;

use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, LineStyle, Table, TableStyle};
use console::style;
use indicatif::HumanCount;

use crate::chart;
use crate::figure::{Figure, Figures};
use crate::format::{UNKNOWN, bytes, count, duration, micros, significant};
use crate::result::{AboveWait, Errors, Host, Latency, Memory, RunResult};
use crate::target::Target;
use crate::warning::Warning;

/// How many connections the article counts.
pub(crate) const ARTICLE_CONNECTIONS: usize = 10_000;

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
        format!("measured for {}", duration(Duration::try_from_secs_f64(time_s).unwrap_or_default()))
    });
    let connections = HumanCount(result.connections.requested as u64);
    let partial = if result.complete { "" } else { " (partial)" };
    format!("{}: {connections} connections{}, {measured}{partial}", result.target, wait(result))
}

/// The database's wait, after a comma; of a server that is not ours nothing is known.
pub(crate) fn wait(result: &RunResult) -> String {
    match result.wait.spec.as_str() {
        "" => String::new(),
        spec => format!(", database wait {spec}"),
    }
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
    let peaks: Vec<_> = results.iter().map(|result| (column_title(result), result.memory.peak_bytes)).collect();
    let chart = chart::on_terminal("RAM, peak", &peaks);
    format!("{}\n{chart}{}\n", table(&cells(results)), source_notes(results).join("\n"))
}

/// The rows of a table, of as many cells each; the first is the header, and the first of each row its label.
pub(crate) type Cells = Vec<Vec<String>>;

/// All runs: a column for each.
pub(crate) fn cells(results: &[RunResult]) -> Cells {
    let figures: Vec<Figures> = results.iter().map(Figures::of).collect();
    let row = |label: &str, content: &Content| {
        let cell = |(result, figures): (&RunResult, &Figures)| match content {
            Of(figure) => figure.text(figures.get(*figure)),
            Text(of) => of(result),
        };
        [label.to_owned()].into_iter().chain(results.iter().zip(&figures).map(cell)).collect()
    };
    let has_broken = results.iter().any(|result| result.cause.is_some());
    let is_shown = |label: &str| match label {
        BROKE => has_broken,
        _ => !label.starts_with("the article") || is_of_the_article(results),
    };
    let rows = ROWS.iter().filter(|(label, _)| is_shown(label)).map(|(label, content)| row(label, content));
    [row("", &Text(column_title))].into_iter().chain(rows).collect()
}

/// A table for the terminal.
pub(crate) fn table(cells: &Cells) -> Table {
    let mut table = Table::new();
    table.load_style(STYLE);
    let mut rows = cells.iter();
    table.set_header(rows.next().into_iter().flatten());
    table.add_rows(rows);
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// A table of this header and these rows.
pub(crate) fn table_of<const N: usize>(header: [&str; N], rows: impl IntoIterator<Item = [String; N]>) -> Table {
    let rows = rows.into_iter().map(|row| row.to_vec());
    table(&[header.map(str::to_owned).to_vec()].into_iter().chain(rows).collect())
}

/// The figures of the table, under its labels.
pub(crate) fn rows() -> impl Iterator<Item = (&'static str, Figure)> {
    ROWS.iter().filter_map(|(label, content)| match content {
        Content::Of(figure) => Some((*label, *figure)),
        Content::Text(_) => None,
    })
}

/// The machine, in a line.
pub(crate) fn machine(host: &Host) -> String {
    let kernel = host.kernel.as_ref().map_or_else(String::new, |kernel| format!(", Linux {kernel}"));
    format!("{} CPUs, {} of RAM{kernel}", host.cpus, bytes(host.ram_bytes))
}

const RULE: LineStyle = LineStyle::none().fill('─').junction('─');
const STYLE: TableStyle = NOTHING.top_border(RULE).header_separator(RULE).bottom_border(RULE);

/// What stands in a row.
enum Content {
    Of(Figure),
    Text(fn(&RunResult) -> String),
}

use Content::{Of, Text};

/// The label of the row that only stands there if a server broke.
const BROKE: &str = "broke by, at connections";

const ROWS: [(&str, Content); 25] = [
    (BROKE, Text(broke)),
    ("connections held at once", Of(Figure("connections.held_peak"))),
    ("  on average while measured", Of(Figure("connections.held_mean"))),
    ("  waiting for the database", Of(Figure("connections.waiting_peak"))),
    ("RAM, peak", Of(Figure("memory.peak_bytes"))),
    ("the article says", Text(|result| bytes(claimed_bytes(result)))),
    ("the article / measured", Text(claim_ratio)),
    ("RAM a connection", Of(Figure("memory.per_connection_bytes"))),
    ("  PSS", Of(Figure("memory.pss_bytes"))),
    ("  page tables", Of(Figure("memory.page_tables_bytes"))),
    ("  kernel stacks", Of(Figure("memory.kernel_stacks_bytes"))),
    ("  sockets", Of(Figure("memory.sockets_bytes"))),
    ("  other kernel memory", Text(|result| bytes(result.memory.unledgered_kernel_bytes()))),
    ("RSS added up", Of(Figure("memory.rss_sum_bytes"))),
    ("requests/s", Of(Figure("rps"))),
    ("latency p50", Of(Figure("latency_us.p50"))),
    ("  p99", Of(Figure("latency_us.p99"))),
    ("  max", Of(Figure("latency_us.max"))),
    ("above the wait, p50", Of(Figure("above_wait_us.p50"))),
    ("  p99", Of(Figure("above_wait_us.p99"))),
    ("  max", Of(Figure("above_wait_us.max"))),
    ("server's CPU", Of(Figure("server.cpu_s"))),
    ("errors", Of(Figure("errors"))),
    ("  before the measured time", Of(Figure("errors_before"))),
    ("warnings", Of(Figure("warnings"))),
];

/// The server's name, marked if the run was cut short.
fn column_title(result: &RunResult) -> String {
    if result.complete { result.target.clone() } else { format!("{} (partial)", result.target) }
}

fn is_of_the_article(results: &[RunResult]) -> bool {
    results.iter().all(|result| result.connections.requested == ARTICLE_CONNECTIONS)
}

/// What the article says of this model.
pub(crate) fn claimed_bytes(result: &RunResult) -> Option<u64> {
    Target::ALL.into_iter().find(|target| target.name() == result.target)?.claimed_bytes()
}

/// What kept the server from holding all connections, and how many it had then.
fn broke(result: &RunResult) -> String {
    let had = (result.connections.open_peak).max(result.connections.established as u64);
    let at = HumanCount(had.min(result.connections.requested as u64));
    result.cause.map_or_else(|| UNKNOWN.into(), |cause| format!("{} at {at}", cause.name()))
}

/// How often the measured RAM fits into what the article says.
fn claim_ratio(result: &RunResult) -> String {
    match claimed_bytes(result).zip(result.memory.peak_bytes) {
        // The RAM of a server that broke is not that of all connections.
        Some((claimed, measured)) if measured > 0 && result.complete => {
            format!("{}x", significant(claimed as f64 / measured as f64))
        }
        _ => UNKNOWN.into(),
    }
}

/// What the peak is: it may differ from run to run, if one could not be metered as the others.
pub(crate) fn source_notes(results: &[RunResult]) -> Vec<&'static str> {
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
    if is_any(|source| source == "admin") {
        notes.push(
            "RAM of a server that runs elsewhere is what it tells of its own cgroup (a container's): with the page cache of \
             files that it was the first to read, and on cgroup v1 without TCP buffers and accepted sockets, unless their \
             accounting is on.",
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

fn bounded(latency: &Latency, name: &str, value_us: u64) -> String {
    let mark = if latency.lower_bounds.iter().any(|bound| bound == name) { "≥ " } else { "" };
    format!("{mark}{}", micros(value_us))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cause::Cause;
    use crate::result::sample;

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

    #[test]
    fn what_broke_a_server_is_in_the_table_and_not_compared_with_the_article() {
        let sound = sample("threads");
        let is_row = |cells: &Cells, label: &str| cells.iter().any(|row| row[0] == label);
        assert!(!is_row(&cells(std::slice::from_ref(&sound)), BROKE));
        let mut broken = RunResult { complete: false, cause: Some(Cause::OutOfMemory), ..sound };
        broken.connections.open_peak = 2_604;
        broken.connections.established = 2_600;
        let cells = cells(&[broken]);
        assert!(cells.contains(&vec![BROKE.to_owned(), "RAM limit at 2,604".to_owned()]), "{cells:?}");
        let ratio = cells.iter().find(|row| row[0] == "the article / measured");
        assert!(ratio.is_none_or(|row| row[1] == UNKNOWN), "{ratio:?}");
    }

    #[test]
    fn the_table_has_a_column_for_each_run_and_only_known_figures() {
        let table = table(&cells(&[sample("threads"), sample("threadpool")])).to_string();
        let row = |label| table.lines().find(|line| line.contains(label)).unwrap();
        for (label, expected) in [
            ("RAM, peak", ["377.43 MB", "54.10 MB"]),
            ("the article / measured", ["26.5x", "-"]),
            ("latency p50", ["1.00 s", "≥ 10.2 s"]),
            ("server's CPU", ["2.43 s", "80.3 ms"]),
        ] {
            assert!(expected.iter().all(|figure| row(label).contains(figure)), "{}", row(label));
        }
        for (label, figure) in rows() {
            assert_eq!(Figure::called(figure.0), Some(figure), "{label}");
        }
    }
}
