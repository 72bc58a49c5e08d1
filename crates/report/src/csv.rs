//! Results as CSV.

use anyhow::{Context as _, Result};
use csv::Writer;
use serde_json::Value;

use crate::command::command_line;
use results::figure::{Figure, FigureValues};
use results::run::RunResult;
use results::slo::{self, Searches};
use results::sweep::{ModelSummary, Slope, Sweep};

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

/// The columns of a sweep that every run of a model has in common.
const MODEL: [&str; 9] = [
    "model.active.bytes",
    "model.active.low_bytes",
    "model.active.high_bytes",
    "model.keep_alive.bytes",
    "model.keep_alive.low_bytes",
    "model.keep_alive.high_bytes",
    "model.holds",
    "model.fails_at",
    "model.fails_by",
];

/// The columns of a search for the highest rate: of a step, and what all steps of its server have in common.
const SEARCH: [&str; 6] = ["load.rate", "slo.objectives", "slo.missed", "slo.holds", "slo.fails_at", "slo.ended_by"];

/// A row for each run: its identity, every figure in JSON order, and the kinds of its warnings. The runs of a sweep are
/// in the order of its table, and each has the slopes and limits of its model; the steps of a search have its rates.
pub fn runs(results: &[RunResult]) -> Result<Vec<u8>> {
    let mut writer = Writer::from_writer(Vec::new());
    let figures: Vec<&str> = Figure::all().map(|figure| figure.0).collect();
    let sweep = Sweep::new(results);
    let searches = Searches::new(results);
    let model_columns = if sweep.is_some() { &MODEL[..] } else { &[] };
    let search_columns = if searches.is_some() { &SEARCH[..] } else { &[] };
    writer.write_record(
        NAMES.iter().chain(&figures).chain(&["warnings.kind"]).chain(model_columns).chain(search_columns),
    )?;
    let sorted = sweep.as_ref().map_or_else(|| results.iter().collect(), Sweep::sorted_runs);
    for result in sorted {
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
        let model = sweep.as_ref().and_then(|sweep| sweep.model(&result.target)).map_or(Vec::new(), model_fields);
        let search = searches.as_ref().map_or(Vec::new(), |searches| search_fields(searches, result));
        writer.write_record(names.chain(figures).chain([kinds]).chain(model).chain(search))?;
    }
    writer.into_inner().context("the rows cannot be collected")
}

/// The fields of a model, as in [`MODEL`].
fn model_fields(model: &ModelSummary) -> Vec<String> {
    let number = |number: Option<f64>| number.map_or_else(String::new, |number| number.to_string());
    let slope = |slope: Option<Slope>| {
        let slope = [slope.map(|s| s.bytes), slope.and_then(|s| s.low_bytes), slope.and_then(|s| s.high_bytes)];
        slope.map(number)
    };
    let limits = [model.holds, model.fails_at].map(|connections| number(connections.map(|count| count as f64)));
    let cause = model.fails_by.map_or_else(String::new, |cause| cause.name().to_owned());
    [&slope(model.active)[..], &slope(model.keep_alive), &limits, &[cause]].concat()
}

/// The fields of a step, as in [`SEARCH`].
fn search_fields(searches: &Searches, step: &RunResult) -> Vec<String> {
    let number = |number: Option<u64>| number.map_or_else(String::new, |number| number.to_string());
    let load = step.load.clone().unwrap_or_default();
    let objectives: Vec<_> = load.slo.iter().filter_map(|text| text.parse().ok()).collect();
    let missed = load.rate.and_then(|_| slo::miss(&objectives, step)).unwrap_or_default();
    let search = searches.search_of(step);
    let ended_by = search.map_or(Value::Null, |search| serde_json::to_value(search.ended_by).unwrap_or_default());
    let [holds, fails_at] = [search.and_then(|search| search.holds), search.and_then(|search| search.fails_at)];
    vec![number(load.rate), load.slo.join(" and "), missed, number(holds), number(fails_at), text(&ended_by)]
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
    use results::run::SweepPlan;
    use results::samples::sample;
    use results::settings::LoadSettings;
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
    fn the_runs_of_a_sweep_are_sorted_and_have_its_slopes() {
        let run = |connections: usize, peak_bytes| {
            let mut run = sample("threads");
            (run.connections.requested, run.connections.open_peak) = (connections, Some(connections as u64));
            (run.memory.peak_bytes, run.sweep) = (Some(peak_bytes), Some(SweepPlan::sample()));
            run
        };
        let rows = read(&super::runs(&[run(300, 30_000), run(100, 10_000), run(200, 20_000)]).unwrap());
        let column = |name: &str| rows.iter().map(|row| row[name].clone()).collect::<Vec<_>>();
        assert_eq!(column("connections.requested"), ["100", "200", "300"]);
        assert_eq!(column("model.active.bytes"), ["100", "100", "100"]);
        assert_eq!((column("model.holds")[0].as_str(), column("model.fails_at")[0].as_str()), ("300", ""));
    }

    #[test]
    fn the_steps_of_a_search_have_its_rates() {
        let steps = [None, Some(12_500), Some(5)].map(|rate| {
            let mut run = sample("threads");
            run.load = Some(LoadSettings {
                rate,
                slo: vec!["p99 < 2s".into()],
                duration_ms: 3_000,
                ..LoadSettings::default()
            });
            run.errors.status = rate.map_or(0, |rate| rate / 5_000);
            run
        });
        let rows = read(&super::runs(&steps).unwrap());
        let column = |name: &str| rows.iter().map(|row| row[name].clone()).collect::<Vec<_>>();
        assert_eq!(column("load.rate"), ["", "12500", "5"]);
        assert_eq!(column("slo.missed"), ["", "2 requests failed", ""]);
        assert_eq!(
            [&rows[0]["slo.holds"], &rows[0]["slo.fails_at"], &rows[0]["slo.ended_by"]],
            ["5", "12500", "interrupted"]
        );
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
