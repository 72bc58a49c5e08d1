//! `loadtest report`: prints, compares or merges results.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, ensure};
use clap::Args;
use report::compare::Comparison;
use report::{peers, pools, slo, sweep, text};
use results::RunResult;
use results::clients::{self, ClientComparison};
use results::file::{self, Source};
use results::merge::merge;
use results::peers::PeerComparison;
use results::pools::PoolStudy;
use results::slo::Searches;
use results::sweep::Sweep;

use crate::machine::command_line::WrongArguments;
use crate::machine::terminal::{columns, print};
use crate::output::conditions::{self, Conditions};
use crate::output::files::{OutputArgs, Outputs};

/// Print results again, compare them, or merge those of several load generators
#[derive(Args, Debug)]
pub(crate) struct ReportArgs {
    /// Files written by --json. One is printed as its run printed it; several are compared with the first, server by
    /// server, where connections and database wait are the same
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,

    /// Merge the files of several load generators that loaded the same server at the same time. Latencies are merged
    /// through their histograms, requests and errors add up, and RAM is the server's
    #[arg(long)]
    merge: bool,

    #[command(flatten)]
    outputs: OutputArgs,

    #[command(flatten)]
    conditions: Conditions,
}

/// Reads the files, prints the report and writes the output files.
pub(crate) fn run(args: &ReportArgs) -> Result<ExitCode> {
    let contents = args.files.iter().map(|path| file::open(path)).collect::<Result<Vec<_>>>()?;
    if let [(name, content)] = &contents[..]
        && let Some(comparison) = clients::from_json(name, content)?
    {
        return print_clients(args, &comparison);
    }
    let sources = contents.into_iter().map(|(name, content)| file::from_json(name, &content));
    let sources = sources.collect::<Result<Vec<_>>>()?;
    let is_list = sources.iter().any(|source| source.is_list);
    let results = if args.merge { merge(&sources)? } else { all(&sources) };
    if args.merge || sources.len() == 1 {
        let outputs = Outputs::prepare(&args.outputs, is_list)?;
        outputs.finish(&results)?;
        print(&as_printed(&results, is_list))?;
    } else {
        let comparison = Comparison::new(&sources)?;
        let outputs = Outputs::prepare(&args.outputs, true)?;
        outputs.finish_with(&results, &comparison.markdown())?;
        print(&comparison.text())?;
    }
    Ok(if args.conditions.fail(&results) { ExitCode::from(conditions::EXIT_STATUS) } else { ExitCode::SUCCESS })
}

/// Prints a comparison of load generators.
fn print_clients(args: &ReportArgs, comparison: &ClientComparison) -> Result<ExitCode> {
    args.outputs.ensure_for_clients()?;
    let text = "--merge and --fail-if are for runs, and this is a comparison of load generators: leave them out";
    ensure!(!args.merge && !args.conditions.is_given(), WrongArguments(text.to_owned()));
    Outputs::prepare(&args.outputs, true)?.write_clients(comparison, true)?;
    print(&report::clients::text(comparison))?;
    Ok(ExitCode::SUCCESS)
}

fn all(sources: &[Source]) -> Vec<RunResult> {
    sources.iter().flat_map(|source| source.results.clone()).collect()
}

/// The text that a run, a sweep or a search prints.
fn as_printed(results: &[RunResult], is_list: bool) -> String {
    if let Some(searches) = Searches::new(results) {
        return slo::text(&searches);
    }
    if let Some(comparison) = PeerComparison::new(results) {
        return peers::text(&comparison);
    }
    if let Some(study) = PoolStudy::new(results) {
        return pools::text(&study);
    }
    let answer = report::answer(results);
    if let Some(sweep) = Sweep::new(results) {
        return sweep::text(&sweep) + "\n" + &answer;
    }
    let runs = results.iter().map(text::run).collect::<String>();
    let table = if is_list { text::all_runs(results, columns()) } else { String::new() };
    runs + &table + &answer
}
