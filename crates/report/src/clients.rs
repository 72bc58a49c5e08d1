//! A comparison of load generators as text and as Markdown.

use quantity::format;
use results::clients::{Client, ClientComparison, ClientFigure, ClientRuns, OURS};

use crate::markdown;
use crate::sweep::spread_text;
use crate::table::{Cells, table};

const NOTES: &str = "\
Medians, and below them the lowest and highest of all rounds; a ratio is taken
within each round. Requests/s, p99 and errors are what the client says. CPU is
for each request, RAM the client's peak RSS, and connected how long it took
until the server had all connections. Client and server share this machine.
";

/// What a client did; and what that cost. Side by side they do not fit a terminal of 80 columns.
const TABLES: [&[ClientFigure]; 2] = [
    &[ClientFigure::Rps, ClientFigure::P99Us, ClientFigure::ConnectedAfterUs],
    &[ClientFigure::ClientCpuUs, ClientFigure::ServerCpuUs, ClientFigure::ClientRssBytes],
];

/// As text for the terminal.
pub fn text(comparison: &ClientComparison) -> String {
    let groups = groups(comparison).map(|(heading, clients)| {
        let tables = TABLES.map(|figures| format!("{}\n", table(&cells(&clients, figures))));
        format!("{heading}\n{}\n", tables.concat())
    });
    let groups: String = groups.collect();
    format!("{groups}{}\n\n{NOTES}{}", table(&versions(comparison)), partial(comparison))
}

/// As Markdown for an issue or a README.
pub fn markdown(comparison: &ClientComparison) -> String {
    let groups = groups(comparison).map(|(heading, clients)| {
        let cells = cells(&clients, &TABLES.concat());
        format!("{heading}\n\n{}\n", markdown::table(&cells))
    });
    let groups: String = groups.collect();
    let (versions, partial) = (markdown::table(&versions(comparison)), partial(comparison));
    let below = format!("{}\n\n    {}\n", comparison.host.describe(), comparison.command.join(" "));
    format!("{groups}{versions}\n{NOTES}{partial}\n{below}")
}

/// Those numbers of connections at which something ran, each with its heading.
fn groups(comparison: &ClientComparison) -> impl Iterator<Item = (String, Vec<ClientRuns<'_>>)> {
    let groups = comparison.connections.iter().map(|&connections| (connections, comparison.at(connections)));
    groups.filter(|(_, clients)| !clients.is_empty()).map(|(connections, clients)| {
        let connections = format::count(connections as f64);
        let rounds = clients.iter().map(|client| client.runs.len()).max().unwrap_or_default();
        let rounds = if rounds == 1 { "1 round".to_owned() } else { format!("{rounds} rounds") };
        (format!("{connections} connections, {rounds} of {} s", comparison.duration_s), clients)
    })
}

/// A row for each client, and below them one for how ours compares with each other one.
fn cells(clients: &[ClientRuns<'_>], figures: &[ClientFigure]) -> Cells {
    let header = ["client"].into_iter().chain(figures.iter().map(|&figure| label(figure))).map(str::to_owned);
    let row = |client: &ClientRuns<'_>| {
        let cells = figures.iter().map(|&figure| spread_text(client.spread(figure), |value| value_text(figure, value)));
        [name_and_faults(client)].into_iter().chain(cells).collect()
    };
    let ours = clients.iter().find(|client| client.name == OURS);
    let ratios = ours.into_iter().flat_map(|ours| {
        clients.iter().filter(|other| other.name != OURS).map(move |other| {
            let ratio =
                |&figure: &ClientFigure| spread_text(ours.ratio_to(other, figure), |ratio| format!("{ratio:.2}"));
            [format!("{OURS} / {}", other.name)].into_iter().chain(figures.iter().map(ratio)).collect()
        })
    });
    [header.collect()].into_iter().chain(clients.iter().map(row)).chain(ratios).collect()
}

fn label(figure: ClientFigure) -> &'static str {
    match figure {
        ClientFigure::Rps => "requests/s",
        ClientFigure::P99Us => "p99",
        ClientFigure::ConnectedAfterUs => "connected",
        ClientFigure::ClientCpuUs => "client's CPU",
        ClientFigure::ServerCpuUs => "server's CPU",
        ClientFigure::ClientRssBytes => "client's RAM",
    }
}

fn value_text(figure: ClientFigure, value: f64) -> String {
    match figure {
        ClientFigure::Rps => format::count(value),
        ClientFigure::ClientRssBytes => format::short_bytes(value),
        _ => format::nanos(value * 1e3),
    }
}

/// The name, and below it what was wrong.
fn name_and_faults(client: &ClientRuns<'_>) -> String {
    let failed = match client.failed() {
        0 => String::new(),
        failed => format!("\n{failed} of {} failed", client.runs.len()),
    };
    let errors = match client.errors() {
        0 => String::new(),
        errors => format!("\n{} errors", format::count(errors as f64)),
    };
    format!("{}{failed}{errors}", client.name)
}

fn versions(comparison: &ClientComparison) -> Cells {
    let version = |client: &Client| client.version.clone().unwrap_or_else(|| format::UNKNOWN.to_owned());
    let rows = comparison.clients.iter().map(|client| vec![client.name.clone(), version(client)]);
    [["client", "version"].map(str::to_owned).to_vec()].into_iter().chain(rows).collect()
}

fn partial(comparison: &ClientComparison) -> String {
    if comparison.complete {
        return String::new();
    }
    let planned = comparison.clients.len() * comparison.connections.len() * comparison.rounds as usize;
    format!("Partial: interrupted after {} of {planned} runs.\n", comparison.runs.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use results::samples::{client_comparison, client_run};

    fn comparison() -> ClientComparison {
        let mut comparison = client_comparison();
        for name in ["oha", "somebody-elses"] {
            comparison.clients.push(Client { name: name.into(), version: None });
        }
        comparison.rounds = 3;
        comparison.runs.extend([client_run("oha", 1, 52_000.0), client_run("somebody-elses", 1, 700.0)]);
        comparison.runs.extend([client_run("loadtest", 2, 41_000.0), client_run("wrk", 2, 62_000.0)]);
        comparison.runs[3].failure = Some("exit status 1".into());
        comparison.runs[1].errors = Some(12);
        comparison.runs[2].p99_us = None;
        for (run, factor) in comparison.runs.iter_mut().zip(1..) {
            run.client_cpu_s = run.client_cpu_s.map(|cpu_s| cpu_s * f64::from(factor) * 10.0);
        }
        comparison.complete = false;
        comparison
    }

    #[test]
    fn the_tables_fit_80_columns_and_have_a_row_for_each_client_and_each_ratio() {
        let text = text(&comparison());
        for line in text.lines() {
            assert!(console::measure_text_width(line) <= 80, "{line}");
        }
        for expected in [
            "200 connections, 2 rounds of 5 s",
            "41,000..61,200",
            "loadtest / wrk",
            "0.66..1.02",
            "12 errors",
            "1 of 1 failed",
            "Partial: interrupted after 6 of 12 runs.",
        ] {
            assert!(text.contains(expected), "{expected}: {text}");
        }
    }

    #[test]
    fn markdown_has_one_table_and_what_is_absent_is_a_dash() {
        let markdown = markdown(&comparison());
        let row = |name: &str| {
            let row = markdown.lines().find(|line| line.starts_with(&format!("| {name} "))).unwrap();
            row.split('|').map(str::trim).collect::<Vec<_>>()
        };
        assert_eq!(row("oha")[2..5], ["52,000", format::UNKNOWN, "262 ms"], "{markdown}");
        assert_eq!(row("somebody-elses (1 of 1 failed)")[2..8], [format::UNKNOWN; 6], "{markdown}");
        assert!(!text(&client_comparison()).contains("Partial"));
    }
}
