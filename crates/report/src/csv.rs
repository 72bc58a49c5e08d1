//! Results as CSV.

use anyhow::{Context as _, Result};
use csv::Writer;
use serde_json::Value;

use crate::command::command_line;
use results::figure::{Figure, FigureValues};
use results::run::RunResult;

/// The columns that identify a run.
const NAMES: [&str; 11] = [
    "schema",
    "target",
    "complete",
    "failure",
    "started_at",
    "command",
    "wait.spec",
    "host.kernel",
    "memory.source",
    "server.exit",
    "latency_us.lower_bounds",
];
/// The columns that identify the run of a second.
const SERIES_NAMES: [&str; 3] = ["target", "connections.requested", "started_at"];
/// The columns of a second.
const SECOND: [&str; 8] = ["end_s", "rps", "p50_us", "p99_us", "errors", "open", "held", "ram_bytes"];

/// A row for each run: its identity, every figure in JSON order, and the kinds of its warnings.
pub fn runs(results: &[RunResult]) -> Result<Vec<u8>> {
    let mut writer = Writer::from_writer(Vec::new());
    let figures: Vec<&str> = Figure::all().map(|figure| figure.0).collect();
    writer.write_record(NAMES.iter().chain(&figures).chain(&["warnings.kind"]))?;
    for result in results {
        let values = FigureValues::new(result);
        let names = NAMES.iter().map(|name| text(values.json(name)));
        let figures = figures.iter().map(|name| match values.json(name) {
            Value::Object(_) | Value::Array(_) => {
                values.get(Figure(name)).map_or_else(String::new, |sum| sum.value.to_string())
            }
            number => text(number),
        });
        let kinds = values
            .json("warnings")
            .as_array()
            .map_or(&[][..], Vec::as_slice)
            .iter()
            .map(|warning| text(&warning["kind"]));
        let kinds = kinds.collect::<Vec<_>>().join(" ");
        writer.write_record(names.chain(figures).chain([kinds]))?;
    }
    writer.into_inner().context("the rows cannot be collected")
}

/// A row for each second of each run.
pub fn series(results: &[RunResult]) -> Result<Vec<u8>> {
    let mut writer = Writer::from_writer(Vec::new());
    writer.write_record(SERIES_NAMES.iter().chain(&SECOND))?;
    for result in results {
        let values = FigureValues::new(result);
        let names = SERIES_NAMES.map(|name| text(values.json(name)));
        for second in values.json("series").as_array().into_iter().flatten() {
            writer.write_record(names.iter().cloned().chain(SECOND.iter().map(|name| text(&second[name]))))?;
        }
    }
    writer.into_inner().context("the rows cannot be collected")
}

/// The text of a field: empty for null, and the entries of a list, quoted as for a shell.
fn text(json: &Value) -> String {
    match json {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(entries) => command_line(&entries.iter().map(text).collect::<Vec<_>>()),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use csv::{Reader, StringRecord};
    use results::samples::sample;
    use results::{Warning, WarningKind};
    use std::collections::BTreeMap;

    fn read(bytes: &[u8]) -> Vec<BTreeMap<String, String>> {
        let mut reader = Reader::from_reader(bytes);
        let names = reader.headers().unwrap().clone();
        let row = |row: StringRecord| names.iter().zip(&row).map(|(a, b)| (a.to_owned(), b.to_owned())).collect();
        reader.records().map(|record| row(record.unwrap())).collect()
    }

    #[test]
    fn a_run_is_a_row_with_json_names() {
        let mut runs = [sample("threads"), sample("threadpool")];
        runs[0].failure = Some("it said \"no\",\nand ended".into());
        runs[0].command = vec!["a server".into(), "-x".into()];
        runs[0].memory.peak_bytes = None;
        (runs[0].errors.connect, runs[0].errors.read) = (2, 3);
        let warnings = [WarningKind::Failures, WarningKind::BusyMachine].map(|kind| Warning::new(kind, "so"));
        runs[0].warnings = warnings.to_vec();
        let rows = read(&super::runs(&runs).unwrap());
        let field = |name: &str| rows[0][name].as_str();
        assert_eq!(field("failure"), "it said \"no\",\nand ended");
        assert_eq!(field("command"), "'a server' -x");
        assert_eq!((field("memory.peak_bytes"), field("memory.processes")), ("", "1"));
        assert_eq!((field("errors"), field("errors.read"), field("errors_before")), ("5", "3", "0"));
        assert_eq!((field("warnings"), field("warnings.kind")), ("2", "failures busy_machine"));
        assert_eq!((field("latency_us.p99"), field("rps")), ("1012479", "9991.333333333334"));
        assert_eq!(rows[1]["target"], "threadpool");
        assert_eq!(rows[1]["latency_us.lower_bounds"], "p50 p75 p90 p99 p999 max mean stdev");
    }

    #[test]
    fn a_second_is_a_row_with_every_field() {
        let run = sample("threads");
        let rows = read(&super::series(&[run.clone(), run.clone()]).unwrap());
        assert_eq!(rows.len(), 2 * run.series.len());
        let Ok(Value::Object(second)) = serde_json::to_value(run.series[0]) else { panic!() };
        for (name, value) in second {
            assert_eq!(rows[0][&name], text(&value), "{name}");
        }
        assert_eq!(rows[3]["connections.requested"], "10000");
    }
}
