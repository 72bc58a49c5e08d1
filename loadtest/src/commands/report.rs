//! `loadtest report`: prints results again, compares them, or merges them.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use report::compare::Comparison;
use report::text;
use results::RunResult;
use results::file::{Source, read};
use results::merge::merge;

use super::sweep::summary;
use crate::machine::terminal::{columns, print};
use crate::output::conditions::{self, Conditions};
use crate::output::files::{OutputArgs, Outputs};

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

/// Reads the files, and prints and writes what was asked for.
pub(crate) fn run(args: &ReportArgs) -> Result<ExitCode> {
    let sources = args.files.iter().map(|path| read(path)).collect::<Result<Vec<_>>>()?;
    let is_list = sources.iter().any(|source| source.is_list);
    let results = if args.merge { merge(&sources)? } else { all(&sources) };
    if args.merge || sources.len() == 1 {
        let outputs = Outputs::prepare(&args.outputs, is_list)?;
        print(&as_printed(&results, is_list))?;
        outputs.write(&results)?;
    } else {
        let comparison = Comparison::new(&sources)?;
        let outputs = Outputs::prepare(&args.outputs, true)?;
        print(&comparison.text())?;
        outputs.write_with(&results, &comparison.markdown())?;
    }
    Ok(if args.conditions.fail(&results) { ExitCode::from(conditions::EXIT_STATUS) } else { ExitCode::SUCCESS })
}

fn all(sources: &[Source]) -> Vec<RunResult> {
    sources.iter().flat_map(|source| source.results.clone()).collect()
}

/// As the run prints it, or the sweep.
fn as_printed(results: &[RunResult], is_list: bool) -> String {
    if results.iter().all(|result| result.sweep.is_some()) {
        return summary::text(results);
    }
    let runs = results.iter().map(text::run).collect::<String>();
    if is_list { runs + &text::all_runs(results, columns()) } else { runs }
}
