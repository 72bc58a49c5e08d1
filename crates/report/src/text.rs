//! Results as text, for a terminal or a log: a block for each run, and a table of all runs.

use std::time::Duration;

use console::style;
use quantity::format::{self, UNKNOWN, bytes, count, duration, micros};
use results::database::Database;
use results::run::{AboveWait, Errors, Fleet, LatencySummary, Memory};
use results::{RunResult, Warning};

use crate::bars;
use crate::notes::source_notes;
use crate::table::{RUNS_IN_TABLE, cells, column_title, table};

/// One run: a line for each group of figures, and for each warning.
pub fn run(result: &RunResult) -> String {
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

fn heading(result: &RunResult) -> String {
    let measured = result.duration_s.map_or("nothing measured".into(), |time_s| {
        format!("measured for {}", duration(Duration::try_from_secs_f64(time_s).unwrap_or_default()))
    });
    let connections = count(result.connections.requested as f64);
    let partial = if result.complete { "" } else { " (partial)" };
    format!("{}: {connections} connections{}, {measured}{partial}", result.target, result.wait.as_suffix())
}

fn lines(result: &RunResult) -> Vec<(&'static str, String)> {
    let mut lines = Vec::new();
    lines.extend(held(result).map(|held| ("held", held)));
    if result.memory.peak_bytes.is_some() {
        lines.push(("RAM", ram(&result.memory)));
        lines.push(("ledger", ledger(&result.memory)));
    }
    if let Some(latency) = &result.latency_us {
        lines.push(("latency", latency_text(latency)));
        lines.extend(result.above_wait_us.map(|above| ("above wait", percentiles(latency, above))));
    }
    lines.extend(result.database.as_ref().map(|database| ("database", database_text(database))));
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
    lines.extend(result.fleet.as_ref().map(|fleet| ("workers", workers(fleet))));
    lines
}

/// The two waits of a request that asks a real database, and how long it holds its connection then.
fn database_text(database: &Database) -> String {
    let mean = |wait_us: Option<f64>| wait_us.map_or(UNKNOWN.to_owned(), |wait_us| micros(wait_us as u64));
    let pool = database.pool.map_or_else(String::new, |pool| format!(" of {}", count(pool as f64)));
    let errors = database.errors.iter().map(|(kind, errors)| format!("{kind} {}", count(*errors as f64)));
    let errors: Vec<_> = errors.collect();
    let errors = if errors.is_empty() { String::new() } else { format!("; without an answer: {}", errors.join(", ")) };
    let postgres =
        database.postgres_bytes.map_or_else(String::new, |size| format!("; PostgreSQL {}", bytes(Some(size))));
    let cost = database
        .postgres_cpu_us
        .map_or_else(String::new, |cpu_us| format!(", {} of CPU for each", micros(cpu_us as u64)));
    let hold = database.hold_us.filter(|hold_us| *hold_us > 0);
    let hold = hold.map_or_else(String::new, |hold_us| format!(", then held {}", micros(hold_us)));
    let pipeline = database.pipeline.filter(|pipeline| *pipeline > 1);
    let pipeline = pipeline.map_or_else(String::new, |pipeline| format!(", up to {pipeline} queries at once on each"));
    let answers = database.answers.map_or(UNKNOWN.to_owned(), |answers| count(answers as f64));
    format!(
        "on average {} for a connection{pool}{pipeline}, then {} for the answer{hold}; {answers} answers{errors}{postgres}{cost}",
        mean(database.connection_wait_us),
        mean(database.answer_wait_us)
    )
}

fn workers(fleet: &Fleet) -> String {
    let started = match fleet.start_skew_us.zip(fleet.start_skew_error_us) {
        Some((skew_us, error_us)) => format!("started within {} (± {})", micros(skew_us), micros(error_us)),
        None => "did not all start".into(),
    };
    let each = fleet.workers.iter().map(|worker| {
        let lost = if worker.lost.is_some() { ", LOST" } else { "" };
        let (connections, answered) = (count(worker.connections as f64), count(worker.requests as f64));
        format!("{} {connections} connections, {answered} answered{lost}", worker.name)
    });
    format!("{}, {started}: {}", fleet.workers.len(), each.collect::<Vec<_>>().join("; "))
}

fn cpu_text(who: &str, time_s: f64, requests: u64) -> String {
    match requests {
        0 => format!("{who} {time_s:.2} s"),
        _ => format!("{who} {time_s:.2} s ({:.1} µs per request)", time_s * 1e6 / requests as f64),
    }
}

/// What the server held at once, by its own count. Zero is what older files say of a server that does not count.
fn held(result: &RunResult) -> Option<String> {
    let connections = &result.connections;
    let held = connections.held_peak.filter(|held| *held > 0 || connections.held_mean.is_some())?;
    let (held, established) = (count(held as f64), count(connections.established as f64));
    let waited = count(connections.waiting_peak.unwrap_or(0) as f64);
    let what = match connections.queued_peak.unwrap_or(0) {
        0 => format!("{held} of {established} requests waited for the database at once"),
        queued => {
            let queued = count(queued as f64);
            format!("{held} of {established} requests at once: {waited} waited for the database, {queued} for a worker")
        }
    };
    let mean = connections.held_mean.map(|mean| format!("; {} on average while measured", count(mean)));
    Some(what + &mean.unwrap_or_default())
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

fn latency_text(latency: &LatencySummary) -> String {
    let LatencySummary { p50, p90, p99, p999, max, .. } = *latency;
    percentiles(latency, AboveWait { p50, p90, p99, p999, max })
}

/// Formats `figures` with the lower-bound marks of `latency`, which they derive from.
fn percentiles(latency: &LatencySummary, figures: AboveWait) -> String {
    let bounded = |name, value_us| bounded(latency, name, value_us);
    format!(
        "p50 {}, p90 {}, p99 {}, p99.9 {}, max {}",
        bounded("p50", figures.p50),
        bounded("p90", figures.p90),
        bounded("p99", figures.p99),
        bounded("p999", figures.p999),
        bounded("max", figures.max)
    )
}

fn throughput(result: &RunResult, rps: f64) -> String {
    let ceiling = result.rps_ceiling.map(|ceiling| format!(" (waiting at once / wait: {})", count(ceiling)));
    let (answered, in_flight) = (count(result.requests as f64), count(result.in_flight as f64));
    format!(
        "{} requests/s{}; {answered} answered, {in_flight} in flight at the end",
        count(rps),
        ceiling.unwrap_or_default()
    )
}

fn errors(errors: &Errors) -> String {
    let Errors { connect, read, write, timeout, status } = *errors;
    let kinds = [("connect", connect), ("read", read), ("write", write), ("timeout", timeout), ("status", status)];
    let kinds = kinds
        .iter()
        .filter(|(_, count)| *count > 0)
        .map(|(kind, count)| format!("{kind} {}", format::count(*count as f64)));
    let text = kinds.collect::<Vec<_>>().join(", ");
    if text.is_empty() { "none".into() } else { text }
}

fn bounded(latency: &LatencySummary, name: &str, value_us: u64) -> String {
    let mark = if latency.is_lower_bound(name) { "≥ " } else { "" };
    format!("{mark}{}", micros(value_us))
}

/// A table with a column for each run, or several of them if there are many, and bars of their RAM on a terminal with this many columns.
pub fn all_runs(results: &[RunResult], columns: Option<usize>) -> String {
    if results.is_empty() {
        return String::new();
    }
    let peaks: Vec<_> = results.iter().map(|result| (column_title(result), result.memory.peak_bytes)).collect();
    let bars = columns.map_or_else(String::new, |columns| bars::chart("RAM, peak", &peaks, columns));
    let tables: Vec<_> = results.chunks(RUNS_IN_TABLE).map(|runs| table(&cells(runs)).to_string()).collect();
    format!("{}\n{bars}{}\n", tables.join("\n\n"), source_notes(results).join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_of_errors_are_named() {
        assert_eq!(errors(&Errors::default()), "none");
        assert_eq!(errors(&Errors { connect: 2, status: 1000, ..Errors::default() }), "connect 2, status 1,000");
    }

    #[test]
    fn a_lower_bound_is_marked() {
        let latency = LatencySummary { p99: 2_000_000, lower_bounds: vec!["p99".into()], ..LatencySummary::default() };
        assert_eq!(bounded(&latency, "p99", latency.p99), "≥ 2.00 s");
        assert_eq!(bounded(&latency, "p50", 1_000_000), "1.00 s");
    }
}
