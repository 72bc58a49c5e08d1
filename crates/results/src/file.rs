//! Result files, as written by `--json`.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use serde_json::Value;
use serde_json::error::Category;

use crate::claim;
use crate::clients;
use crate::figure::{Figure, FigureValues};
use crate::printable::make_printable;
use crate::run::{READABLE_SCHEMAS, RunResult, SCHEMA};
use crate::slo::{self, Searches};
use crate::sweep::{self, Sweep};

/// A result file.
#[derive(Clone, Debug)]
pub struct Source {
    /// The file's name.
    pub name: String,
    /// Its runs, at least one.
    pub results: Vec<RunResult>,
    /// Whether the file holds a list or a sweep.
    pub is_list: bool,
}

/// Reads a file written by `--json`.
///
/// # Errors
/// The file cannot be read, or is not a result file.
pub fn read(path: &Path) -> Result<Source> {
    let (name, content) = open(path)?;
    from_json(name, &content)
}

/// The name and the content of a file, which may be a pipe and is read once.
///
/// # Errors
/// It cannot be read.
pub fn open(path: &Path) -> Result<(String, Vec<u8>)> {
    let name = path.display().to_string();
    let content = fs::read(path).with_context(|| format!("{name} cannot be read"))?;
    Ok((name, content))
}

/// Reads the content of the file of this name.
///
/// # Errors
/// It is not that of a result file.
pub fn from_json(name: String, content: &[u8]) -> Result<Source> {
    let json: Value = serde_json::from_slice(content).map_err(|error| match error.classify() {
        Category::Eof => anyhow!("{name} is cut off at line {}: the file is incomplete", error.line()),
        _ => anyhow!("{name} is not JSON ({error}): name a file written by --json"),
    })?;
    let (entries, is_list) = match json {
        Value::Array(entries) => (entries, true),
        mut json if json["schema"] == sweep::SCHEMA || json["schema"] == slo::SCHEMA => match json["runs"].take() {
            Value::Array(entries) => (entries, true),
            _ => bail!("{name} is a sweep or a search without runs"),
        },
        json => (vec![json], false),
    };
    ensure!(!entries.is_empty(), "{name} holds no run");
    let results = entries.into_iter().map(parse).collect::<Result<_>>().with_context(|| name.clone())?;
    Ok(Source { name, results, is_list })
}

/// The content of a file: one run, a list of runs, or a sweep or searches with their summary.
///
/// # Errors
/// A value cannot be written as JSON.
pub fn to_json(results: &[RunResult], is_list: bool) -> Result<Vec<u8>> {
    let mut json = match (results, Sweep::new(results), Searches::new(results)) {
        ([one], ..) if !is_list => serde_json::to_vec_pretty(one)?,
        (_, Some(sweep), _) => serde_json::to_vec_pretty(&sweep)?,
        (_, _, Some(searches)) => serde_json::to_vec_pretty(&searches)?,
        _ => serde_json::to_vec_pretty(results)?,
    };
    json.push(b'\n');
    Ok(json)
}

fn parse(mut json: Value) -> Result<RunResult> {
    make_printable(&mut json);
    match json.get("schema").and_then(Value::as_str) {
        Some(schema) if READABLE_SCHEMAS.contains(&schema) => {
            // Whatever is written from here on has the current layout.
            json["schema"] = SCHEMA.into();
            let result = serde_json::from_value(json).context("the result is incomplete")?;
            ensure_possible(&result)?;
            Ok(result)
        }
        Some(other) if other.starts_with("c10k-loadtest/") => {
            let readable = READABLE_SCHEMAS.join(" and ");
            bail!("the layout is {other}, and this loadtest reads {readable}: use the loadtest that wrote it")
        }
        Some(clients::SCHEMA) => bail!("it is of `loadtest peers --clients`: `loadtest report` prints it, alone"),
        Some(claim::SCHEMA) => bail!("it is of `loadtest claims`: `loadtest claims --from FILE` prints it"),
        _ => bail!("not a result of loadtest ({SCHEMA}): name a file written by --json"),
    }
}

/// Fails with a figure that nobody can have measured: none is below zero.
fn ensure_possible(result: &RunResult) -> Result<()> {
    let figures = FigureValues::new(result);
    for figure in Figure::all() {
        let value = figures.get(figure).map_or(0.0, |figure| figure.value);
        ensure!(
            value >= 0.0,
            "{} is {value}, which no run can have measured: the file was edited or damaged",
            figure.0
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;
    use tempfile::NamedTempFile;

    use crate::samples::RUNS;
    use crate::{Cause, Warning, WarningKind};

    /// The same runs, as an earlier loadtest wrote them.
    const OLD_RUNS: &str = include_str!("../tests/data/runs-v2.json");

    fn read_text(text: &str) -> Result<Source> {
        let mut file = NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        read(file.path())
    }

    #[test]
    fn a_file_holds_a_run_or_a_list() {
        let list = read_text(RUNS).unwrap();
        assert_eq!((list.results.len(), list.is_list), (2, true));
        let one = read_text(&serde_json::to_string(&list.results[1]).unwrap()).unwrap();
        assert_eq!((one.results[0].target.as_str(), one.is_list), ("threadpool", false));
    }

    #[test]
    fn a_sweep_is_written_with_its_summary_and_read_again() {
        let mut runs = read_text(RUNS).unwrap().results;
        runs.iter_mut().for_each(|run| run.sweep = Some(crate::run::SweepPlan::sample()));
        let json = String::from_utf8(to_json(&runs, true).unwrap()).unwrap();
        let file: Value = serde_json::from_str(&json).unwrap();
        assert_eq!((&file["schema"], &file["models"][0]["target"]), (&"c10k-sweep/1".into(), &"threads".into()));
        let source = read_text(&json).unwrap();
        assert!(source.is_list);
        assert_eq!(serde_json::to_value(source.results).unwrap(), serde_json::to_value(runs).unwrap());
        let error = read_text("{\"schema\": \"c10k-sweep/1\"}").unwrap_err().to_string();
        assert!(error.contains("a sweep or a search without runs"), "{error}");
    }

    #[test]
    fn what_nobody_can_have_measured_is_no_result() {
        for (name, part, value) in [("rps", "", -5.0), ("latency_us", "mean", -1e300), ("server", "cpu_s", -0.001)] {
            let mut runs: Value = serde_json::from_str(RUNS).unwrap();
            let figure = if part.is_empty() { &mut runs[1][name] } else { &mut runs[1][name][part] };
            *figure = value.into();
            let error = format!("{:#}", read_text(&runs.to_string()).unwrap_err());
            assert!(error.contains(name) && error.contains("which no run can have measured"), "{error}");
        }
    }

    #[test]
    fn what_it_says_is_harmless_to_a_terminal() {
        let mut runs: Value = serde_json::from_str(RUNS).unwrap();
        runs[0]["failure"] = "\x1b[2Jgone".into();
        runs[0]["warnings"] = serde_json::json!([{"kind": "server", "text": "\x07"}]);
        let results = read_text(&runs.to_string()).unwrap().results;
        assert_eq!(results[0].failure.as_deref(), Some("\u{fffd}[2Jgone"));
        assert_eq!(results[0].warnings[0].text, "\u{fffd}");
    }

    #[test]
    fn an_older_layout_is_read_and_upgraded() {
        let [old, new] = [OLD_RUNS, RUNS].map(|text| serde_json::to_value(read_text(text).unwrap().results).unwrap());
        assert_eq!(old, new);
        assert!(OLD_RUNS.contains("joined") && old.to_string().contains("left_truncated"));
    }

    #[test]
    fn kinds_and_causes_of_a_newer_version_are_read_as_unknown() {
        let mut runs: Value = serde_json::from_str(RUNS).unwrap();
        runs[0]["warnings"] = serde_json::json!([{"kind": "solar_flare", "text": "The sun was active."}]);
        runs[0]["cause"] = "solar_flare".into();
        let results = read_text(&runs.to_string()).unwrap().results;
        assert_eq!(results[0].warnings, [Warning::new(WarningKind::Unknown, "The sun was active.")]);
        assert_eq!(results[0].cause, Some(Cause::Unknown));
        let again = read_text(std::str::from_utf8(&to_json(&results, true).unwrap()).unwrap()).unwrap().results;
        assert_eq!((&again[0].warnings, again[0].cause), (&results[0].warnings, results[0].cause));
    }

    #[test]
    fn files_that_are_not_results_are_refused_with_the_reason() {
        for (text, expected) in [
            ("", "is cut off at line 1"),
            (&RUNS[..RUNS.len() / 2], "is cut off at line"),
            ("target,rps\n", "is not JSON"),
            ("[]", "holds no run"),
            ("{}", "not a result of loadtest (c10k-loadtest/3)"),
            ("[1]", "not a result of loadtest"),
            ("{\"schema\": \"other/2\"}", "not a result of loadtest"),
            (
                "{\"schema\": \"c10k-loadtest/1\"}",
                "the layout is c10k-loadtest/1, and this loadtest reads c10k-loadtest/2 and c10k-loadtest/3",
            ),
            ("{\"schema\": \"c10k-loadtest/3\"}", "the result is incomplete: missing field"),
        ] {
            let error = format!("{:#}", read_text(text).unwrap_err());
            assert!(error.contains(expected), "{error}");
        }
        assert!(read(Path::new("/nowhere")).unwrap_err().to_string().contains("/nowhere cannot be read"));
    }
}
