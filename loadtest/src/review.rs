//! `loadtest report`: prints results again, compares them, or merges them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use clap::Args;
use serde_json::Value;
use serde_json::error::Category;

use crate::compare::Comparison;
use crate::condition::{self, Conditions};
use crate::merge::merge;
use crate::output::{OutputArgs, Outputs};
use crate::report;
use crate::result::{RunResult, SCHEMA};
use crate::stdout::print;

/// What to report.
#[derive(Args, Debug)]
pub(crate) struct ReportArgs {
    /// Files that --json has written. One is printed as the run has printed it; several are compared with the first, server by
    /// server, where connections and database wait are the same
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,

    /// Merge instead: each file is of one of several load generators that loaded the same server at the same time. Latencies
    /// are merged by their histograms, requests and errors add up, and RAM is the server's
    #[arg(long)]
    merge: bool,

    #[command(flatten)]
    outputs: OutputArgs,

    #[command(flatten)]
    conditions: Conditions,
}

/// A file of results.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    /// The file.
    pub(crate) name: String,
    /// Its runs: at least one.
    pub(crate) results: Vec<RunResult>,
    /// Whether they were an array.
    is_list: bool,
}

/// Reads the files, and prints and writes what was asked for.
pub(crate) fn run(args: &ReportArgs) -> Result<ExitCode> {
    let sources = args.files.iter().map(|path| read(path)).collect::<Result<Vec<_>>>()?;
    let is_list = sources.iter().any(|source| source.is_list);
    let results = if args.merge { merge(&sources)? } else { all(&sources) };
    if args.merge || sources.len() == 1 {
        let outputs = Outputs::prepare(&args.outputs, is_list)?;
        print(&text(&results, is_list))?;
        outputs.write(&results)?;
    } else {
        let comparison = Comparison::of(&sources)?;
        let outputs = Outputs::prepare(&args.outputs, true)?;
        print(&comparison.text())?;
        outputs.write_with(&results, &comparison.markdown())?;
    }
    Ok(if args.conditions.fail(&results) { ExitCode::from(condition::EXIT_STATUS) } else { ExitCode::SUCCESS })
}

fn all(sources: &[Source]) -> Vec<RunResult> {
    sources.iter().flat_map(|source| source.results.clone()).collect()
}

/// As the run prints it.
fn text(results: &[RunResult], is_list: bool) -> String {
    let runs = results.iter().map(report::of_run).collect::<String>();
    if is_list { runs + &report::of_all(results) } else { runs }
}

/// Reads a file that `--json` has written.
///
/// # Errors
/// It cannot be read, or is something else.
pub(crate) fn read(path: &Path) -> Result<Source> {
    let name = path.display().to_string();
    let content = fs::read(path).with_context(|| format!("{name} cannot be read"))?;
    let json: Value = serde_json::from_slice(&content).map_err(|error| match error.classify() {
        Category::Eof => anyhow!("{name} is cut off at line {}: it is not all of what was written", error.line()),
        _ => anyhow!("{name} is not JSON ({error}): name a file that --json has written"),
    })?;
    let is_list = json.is_array();
    let entries = if let Value::Array(entries) = json { entries } else { vec![json] };
    ensure!(!entries.is_empty(), "{name} holds no run");
    let results = entries.into_iter().map(parse).collect::<Result<_>>().with_context(|| name.clone())?;
    Ok(Source { name, results, is_list })
}

fn parse(json: Value) -> Result<RunResult> {
    match json.get("schema").and_then(Value::as_str) {
        Some(SCHEMA) => serde_json::from_value(json).context("this is no whole result"),
        Some(other) if other.starts_with("c10k-loadtest/") => {
            bail!("the layout is {other}, and this loadtest reads {SCHEMA}: use the loadtest that has written it")
        }
        _ => bail!("this is no result of loadtest ({SCHEMA}): name a file that --json has written"),
    }
}

#[cfg(test)]
pub(crate) fn source(name: &str, results: Vec<RunResult>) -> Source {
    Source { name: name.into(), results, is_list: true }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;
    use tempfile::NamedTempFile;

    const RUNS: &str = include_str!("../tests/data/runs.json");

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
    fn what_is_no_result_is_refused_with_the_reason() {
        for (text, expected) in [
            ("", "is cut off at line 1"),
            (&RUNS[..RUNS.len() / 2], "is cut off at line"),
            ("target,rps\n", "is not JSON"),
            ("[]", "holds no run"),
            ("{}", "this is no result of loadtest (c10k-loadtest/2)"),
            ("[1]", "this is no result of loadtest"),
            ("{\"schema\": \"other/2\"}", "this is no result of loadtest"),
            (
                "{\"schema\": \"c10k-loadtest/1\"}",
                "the layout is c10k-loadtest/1, and this loadtest reads c10k-loadtest/2",
            ),
            ("{\"schema\": \"c10k-loadtest/2\"}", "this is no whole result: missing field"),
        ] {
            let error = format!("{:#}", read_text(text).unwrap_err());
            assert!(error.contains(expected), "{error}");
        }
        assert!(read(Path::new("/nowhere")).unwrap_err().to_string().contains("/nowhere cannot be read"));
    }
}
