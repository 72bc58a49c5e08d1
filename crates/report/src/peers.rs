//! A comparison of servers as text and as Markdown.

use quantity::format::{self, UNKNOWN};
use results::peers::{Group, PeerComparison, PeerSummary};
use results::run::Tally;
use results::statistics::Estimate;

use crate::markdown;
use crate::sweep::{range, spread_text};
use crate::table::{Cells, table};

/// The columns of what RFC 9110 and 9112 require and recommend.
const MUST: &str = "MUST kept";
const SHOULD: &str = "SHOULD kept";
const NOTES: &str = "\
Medians, and below them the lowest and highest of all rounds. RAM is the peak of
the server's cgroup, the kernel's part included (without a cgroup, what /proc
shows at the end). CPU is the server's for each good answer. All are loaded
alike, as fast as they answer: client and server share this machine. Servers
with a fault in some round are below the others.
";
const CONFORMANCE_NOTE: &str = "\
MUST and SHOULD: in how many requests, most of them malformed, the server did
what RFC 9110 and 9112 require and recommend.
";

/// As text for the terminal.
pub fn text(comparison: &PeerComparison) -> String {
    let tables = |group| format!("{}\n{}\n", heading(group), table(&cells(group, false)));
    let groups: String = comparison.groups.iter().map(tables).collect();
    format!("{groups}\n{}\n{}", table(&identities(comparison)), notes(comparison))
}

/// As Markdown for an issue or a README: with a column more, for what of the RAM is anonymous pages.
pub fn markdown(comparison: &PeerComparison) -> String {
    let tables = |group| format!("{}\n\n{}\n", heading(group), markdown::table(&cells(group, true)));
    let groups: String = comparison.groups.iter().map(tables).collect();
    format!("{groups}{}\n{}", markdown::table(&identities(comparison)), notes(comparison))
}

fn notes(comparison: &PeerComparison) -> String {
    let mut peers = comparison.groups.iter().flat_map(|group| &group.peers);
    let conformance = if peers.any(|peer| peer.peer.conformance.is_some()) { CONFORMANCE_NOTE } else { "" };
    let warned = match comparison.warned_runs {
        0 => String::new(),
        runs => format!("Runs with warnings: {runs}; `loadtest report FILE --report page.html` shows them.\n"),
    };
    format!("{NOTES}{conformance}{warned}")
}

fn heading(group: &Group) -> String {
    let connections = format::count(group.connections as f64);
    match quantity::duration(&group.wait) {
        Ok(wait) if !wait.is_zero() => format!("{connections} connections, each answer after {}", group.wait),
        _ => format!("{connections} connections, answered at once"),
    }
}

fn cells(group: &Group, has_anonymous: bool) -> Cells {
    let mut header = ["server", "RAM", "CPU", "requests/s", "p99"].map(String::from).to_vec();
    let mut rows: Vec<_> = group.peers.iter().map(row).collect();
    if has_anonymous {
        header.insert(2, "anonymous".to_owned());
        for (row, peer) in rows.iter_mut().zip(&group.peers) {
            row.insert(2, spread_text(peer.anonymous_bytes, format::short_bytes));
        }
    }
    [header].into_iter().chain(rows).collect()
}

fn row(peer: &PeerSummary) -> Vec<String> {
    let micros = |micros: f64| format::nanos(micros * 1e3);
    let mark = if peer.is_p99_lower_bound { "≥ " } else { "" };
    vec![
        name_and_faults(peer),
        spread_text(peer.peak_bytes, format::short_bytes),
        spread_text(peer.cpu_us, micros),
        spread_text(peer.rps, thousands),
        format!("{mark}{}", spread_text(peer.p99_us, micros)),
    ]
}

/// `54.6 k`, or a small number as it is.
fn thousands(count: f64) -> String {
    if count < 9_999.5 { format::count(count) } else { format!("{} k", format::significant(count / 1e3)) }
}

/// The name, and below it what was wrong.
fn name_and_faults(peer: &PeerSummary) -> String {
    match peer.faults {
        None if peer.errors == 0 => peer.name.clone(),
        None => format!("{}\n{} errors", peer.name, format::count(peer.errors as f64)),
        Some((rounds, cause)) => format!("{}\n{rounds} of {}:\n{}", peer.name, peer.rounds, cause.name()),
    }
}

/// A row for each server: its model and version, how it keeps to HTTP/1.1, and what a connection more costs, where that was
/// measured.
fn identities(comparison: &PeerComparison) -> Cells {
    let mut peers: Vec<&PeerSummary> = Vec::new();
    for peer in comparison.groups.iter().flat_map(|group| &group.peers) {
        if peers.iter().all(|other| (&other.name, &other.peer.model) != (&peer.name, &peer.peer.model)) {
            peers.push(peer);
        }
    }
    let column = |name: &str, cell: &dyn Fn(&PeerSummary) -> Option<String>| {
        let cells: Vec<_> = peers.iter().map(|peer| cell(peer)).collect();
        let cells = cells.iter().any(Option::is_some).then_some(cells)?;
        let texts = cells.into_iter().map(|cell| cell.unwrap_or_else(|| UNKNOWN.to_owned()));
        Some([name.to_owned()].into_iter().chain(texts).collect::<Vec<_>>())
    };
    let kept = |tally: Tally| format!("{} of {}", tally.passed, tally.tried);
    let columns: Vec<_> = [
        column("server", &|peer| Some(format!("{}: {}", peer.name, peer.peer.model))),
        column("version", &|peer| peer.peer.version.clone()),
        column(MUST, &|peer| Some(kept(peer.peer.conformance?.must))),
        column(SHOULD, &|peer| Some(kept(peer.peer.conformance?.should))),
        column("a connection more", &|peer| peer.slope_bytes.map(slope_text)),
    ]
    .into_iter()
    .flatten()
    .collect();
    (0..=peers.len()).map(|row| columns.iter().map(|column| column[row].clone()).collect()).collect()
}

fn slope_text(slope: Estimate) -> String {
    // A negative slope is noise.
    let [value, low, high] = [slope.value, slope.low, slope.high].map(|bytes| format::short_bytes(bytes.max(0.0)));
    format!("{value}\n{}", range(&low, &high))
}

#[cfg(test)]
mod tests {
    use super::*;
    use results::run::{Conformance, Peer};
    use results::samples::sample;
    use results::{Cause, RunResult};

    fn comparison() -> PeerComparison {
        let run = |name: &str, wait: &str, connections: usize| {
            let mut run = sample("threads");
            name.clone_into(&mut run.target);
            wait.clone_into(&mut run.wait.spec);
            run.connections.requested = connections;
            run.connections.open_peak = Some(connections as u64);
            let version = Some("2.6.12-1+deb12u4".to_owned());
            let all = |tried| Tally { tried, passed: tried };
            let conformance = Some(Conformance { must: all(144), should: all(73), contract: all(258) });
            run.peer = Some(Peer { model: "thread per connection, one at a time (GIL)".into(), version, conformance });
            run
        };
        let mut runs: Vec<RunResult> = vec![run("java-virtual-threads", "0s", 10_000), run("go", "1s", 10_000)];
        let cause = Some(Cause::ServerDied);
        runs.push(RunResult { complete: false, cause, ..run("java-virtual-threads", "0s", 10_000) });
        PeerComparison::new(&runs).unwrap()
    }

    #[test]
    fn the_tables_fit_80_columns_and_name_what_failed() {
        let text = text(&comparison());
        for line in text.lines() {
            assert!(console::measure_text_width(line) <= 80, "{line}");
        }
        for expected in [
            "10,000 connections, answered at once",
            "each answer after 1s",
            "1 of 2:",
            "(GIL)",
            "144 of 144",
            "require and",
        ] {
            assert!(text.contains(expected), "{expected}: {text}");
        }
    }

    #[test]
    fn markdown_has_a_row_for_each_server_and_each_wait() {
        let markdown = markdown(&comparison());
        assert_eq!(markdown.lines().filter(|line| line.starts_with("| go")).count(), 2, "{markdown}");
    }
}
