//! Results as Markdown, for an issue or a README.

use std::collections::BTreeSet;

use comfy_table::presets::ASCII_MARKDOWN;
use comfy_table::{CellAlignment, Table};

use crate::command::command_line;
use crate::table::{Cells, cells};
use results::RunResult;

/// The table of all runs, followed by the machines and the servers' command lines.
pub fn runs(results: &[RunResult]) -> String {
    format!("{}\n{}", table(&cells(results)), below(results))
}

/// The machines and the servers' command lines.
pub(crate) fn below(results: &[RunResult]) -> String {
    machines(results) + &commands(results)
}

/// A table in Markdown, which has no second line in a cell and drops indentation: brackets and a dash replace them.
pub(crate) fn table(cells: &Cells) -> String {
    let in_one_line = |text: &String| match text.split_once('\n') {
        Some((first, second)) => format!("{first} ({})", second.replace('\n', " ")),
        None => text.clone(),
    };
    let cell = |text: &String| in_one_line(text).replacen("  ", "— ", 1).replace('|', "\\|");
    let mut rows = cells.iter().map(|row| row.iter().map(cell));
    let mut table = Table::new();
    table.load_style(ASCII_MARKDOWN);
    table.set_header(rows.next().into_iter().flatten());
    table.add_rows(rows);
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    let mut lines: Vec<String> = table.lines().collect();
    // Right-align all columns but the first.
    if let Some((label, figures)) = lines.get(1).and_then(|line| line[1..].split_once('|')) {
        lines[1] = format!("|{label}|{}", figures.replace("-|", ":|"));
    }
    lines.join("\n") + "\n"
}

fn machines(results: &[RunResult]) -> String {
    let line = |result: &RunResult| {
        let day = result.started_at.split('T').next().unwrap_or_default();
        format!("{}{}, {day}\n", result.host.describe(), result.wait.as_suffix())
    };
    results.iter().map(line).collect::<BTreeSet<_>>().into_iter().collect()
}

/// Empty if loadtest started no server.
fn commands(results: &[RunResult]) -> String {
    let commands: BTreeSet<String> = results
        .iter()
        .filter(|result| !result.command.is_empty())
        .map(|result| command_line(&result.command) + "\n")
        .collect();
    if commands.is_empty() {
        String::new()
    } else {
        format!("\n```sh\n{}```\n", commands.into_iter().collect::<String>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use results::samples::sample;

    #[test]
    fn figures_are_aligned_and_pipes_are_escaped() {
        let cells = [["", "a|b"], ["RAM", "1 MB"], ["  PSS", "10 MB"]];
        let cells: Cells = cells.iter().map(|row| row.map(String::from).to_vec()).collect();
        assert_eq!(table(&cells), "|       |  a\\|b |\n|-------|------:|\n| RAM   |  1 MB |\n| — PSS | 10 MB |\n");
    }

    #[test]
    fn machine_and_commands_are_below_the_table() {
        let text = runs(&[sample("threads"), sample("threadpool"), sample("threads")]);
        let (table, below) = text.split_once("\n\n").unwrap();
        assert!(table.starts_with("| ") && table.lines().all(|line| line.matches('|').count() == 5), "{table}");
        assert_eq!(below.matches("2 CPUs, 25.28 GB of RAM, Linux 6.18.44, database wait 1s, 2026-11-24\n").count(), 1);
        let elsewhere = RunResult { command: Vec::new(), ..sample("threads") };
        assert!(runs(&[elsewhere]).ends_with(", 2026-11-24\n"));
        assert_eq!(below.matches("\ntarget/release/server-threads --listen 127.0.0.1:0").count(), 1);
    }
}
