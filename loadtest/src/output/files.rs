//! The result files, one per format.
//!
//! All are checked to be writable before the load runs, and replaced atomically after each run: however loadtest ends,
//! they hold the finished runs.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Error, Result, bail, ensure};
use clap::Args;
use serde::Serialize;

use report::{csv, html, markdown, peers, pools, slo, sweep};
use results::clients::{self, ClientComparison};
use results::peers::PeerComparison;
use results::pools::PoolStudy;
use results::slo::Searches;
use results::sweep::Sweep;
use results::{RunResult, file};

use super::file::OutputFile;
use crate::machine::command_line::WrongArguments;

const NOT_FOR_CLIENTS: &str =
    "a comparison of load generators has no rows and draws no charts: take --json or --markdown";

/// The flags for result files.
#[derive(Args, Clone, Debug, Default)]
#[group(id = "output", multiple = true)]
pub(crate) struct OutputArgs {
    /// Write the result to this file: an object, an array of several runs, or a sweep or searches with their summary. Rewritten after
    /// each run, like the files below. One of them may be -, standard output; what is for people then goes to standard
    /// error
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// Write a row for each run to this file. Columns have the JSON's names, joined by dots; errors, errors_before and
    /// warnings are totals, and figures that were not measured are empty
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,

    /// Write a row for each second of each run to this file: latency, throughput, errors, RAM
    #[arg(long, value_name = "FILE")]
    csv_series: Option<PathBuf>,

    /// Write the table to this file as Markdown, with the machine and the servers' command lines, for an issue or a
    /// README
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,

    /// Write a page with charts to this file, as self-contained HTML. Runs of the same server with the same number of
    /// connections count as rounds
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,

    /// Write the page's first chart, RAM beside what the article says, to this file as SVG, for a README
    #[arg(long, value_name = "FILE")]
    chart: Option<PathBuf>,
}

/// The format of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    /// Everything.
    Json,
    /// A row for each run.
    Csv,
    /// A row for each second of each run.
    CsvSeries,
    /// The table.
    Markdown,
    /// Charts.
    Page,
    /// The first chart.
    Chart,
}

impl OutputArgs {
    /// Whether a page or a chart is among them.
    pub(crate) fn has_charts(&self) -> bool {
        self.report.is_some() || self.chart.is_some()
    }

    /// Checks that a comparison of load generators can be written to these files.
    ///
    /// # Errors
    /// It cannot: it has no rows and no charts.
    pub(crate) fn ensure_for_clients(&self) -> Result<()> {
        let is_possible = self.files().all(|(format, ..)| matches!(format, Format::Json | Format::Markdown));
        ensure!(is_possible, WrongArguments(NOT_FOR_CLIENTS.to_owned()));
        Ok(())
    }

    /// Adds this JSON file if there is no other.
    pub(crate) fn or_json(mut self, path: Option<&Path>) -> Self {
        self.json = self.json.or(path.map(Path::to_owned));
        self
    }

    /// Adds the usual files in this folder where no others are named.
    pub(crate) fn or_in(self, folder: &Path) -> Self {
        let or = |path: Option<PathBuf>, name| path.or_else(|| Some(folder.join(name)));
        Self {
            json: or(self.json, "results.json"),
            csv: or(self.csv, "results.csv"),
            csv_series: self.csv_series,
            markdown: or(self.markdown, "results.md"),
            report: or(self.report, "index.html"),
            chart: self.chart,
        }
    }

    fn files(&self) -> impl Iterator<Item = (Format, &'static str, &Path)> {
        let files = [
            (Format::Json, "--json", &self.json),
            (Format::Csv, "--csv", &self.csv),
            (Format::CsvSeries, "--csv-series", &self.csv_series),
            (Format::Markdown, "--markdown", &self.markdown),
            (Format::Page, "--report", &self.report),
            (Format::Chart, "--chart", &self.chart),
        ];
        files.into_iter().filter_map(|(format, flag, path)| Some((format, flag, path.as_deref()?)))
    }
}

/// The files, ready to be written.
#[derive(Debug)]
pub(crate) struct Outputs {
    files: Vec<(Format, OutputFile)>,
    /// Whether the JSON is an array even for a single run.
    is_list: bool,
}

impl Outputs {
    /// Checks that all files can be written.
    ///
    /// # Errors
    /// A directory is missing, read-only or full, or two files are the same.
    pub(crate) fn prepare(args: &OutputArgs, is_list: bool) -> Result<Self> {
        let mut outputs = Self { files: Vec::new(), is_list };
        for (format, flag, path) in args.files() {
            let file = OutputFile::prepare(flag, path)?;
            outputs.ensure_apart(flag, path)?;
            outputs.files.push((format, file));
        }
        Ok(outputs)
    }

    /// Checks that no result is written to this file.
    ///
    /// # Errors
    /// One is.
    pub(crate) fn ensure_apart(&self, flag: &str, path: &Path) -> Result<()> {
        self.files.iter().try_for_each(|(_, file)| file.ensure_apart(flag, path))
    }

    /// Writes these results to the files, but not to standard output: more may come.
    ///
    /// # Errors
    /// Some files could not be written; the others were.
    pub(crate) fn write(&self, results: &[RunResult]) -> Result<()> {
        self.write_if(|file| !file.is_stdout(), |format| self.content(format, results, &markdown_of(results)))
    }

    /// Writes the final results to the files and to standard output.
    ///
    /// # Errors
    /// See [`write`](Self::write).
    pub(crate) fn finish(&self, results: &[RunResult]) -> Result<()> {
        self.finish_with(results, &markdown_of(results))
    }

    /// [`finish`](Self::finish) with other Markdown.
    ///
    /// # Errors
    /// See [`write`](Self::write).
    pub(crate) fn finish_with(&self, results: &[RunResult], markdown: &str) -> Result<()> {
        self.write_if(|_| true, |format| self.content(format, results, markdown))
    }

    /// Writes a comparison of load generators; to standard output only the final one.
    ///
    /// # Errors
    /// See [`write`](Self::write).
    pub(crate) fn write_clients(&self, comparison: &ClientComparison, is_final: bool) -> Result<()> {
        let content = |format| match format {
            Format::Json => clients::to_json(comparison),
            Format::Markdown => Ok(report::clients::markdown(comparison).into_bytes()),
            _ => bail!(NOT_FOR_CLIENTS),
        };
        self.write_if(|file| is_final || !file.is_stdout(), content)
    }

    fn content(&self, format: Format, results: &[RunResult], markdown: &str) -> Result<Vec<u8>> {
        Ok(match format {
            Format::Json => file::to_json(results, self.is_list)?,
            Format::Csv => csv::runs(results)?,
            Format::CsvSeries => csv::series(results)?,
            Format::Markdown => markdown.as_bytes().to_vec(),
            Format::Page => html::page(results)?.into_bytes(),
            Format::Chart => html::first_chart(results)?.into_bytes(),
        })
    }

    fn write_if(
        &self,
        is_written: impl Fn(&OutputFile) -> bool,
        content: impl Fn(Format) -> Result<Vec<u8>>,
    ) -> Result<()> {
        let write = |(format, file): &(Format, OutputFile)| file.write(&content(*format)?);
        let failures: Vec<_> =
            self.files.iter().filter(|(_, file)| is_written(file)).filter_map(|file| write(file).err()).collect();
        let failures: Vec<_> = failures.iter().map(|error| format!("{error:#}")).collect();
        ensure!(failures.is_empty(), "{}", failures.join("; "));
        Ok(())
    }
}

fn markdown_of(results: &[RunResult]) -> String {
    if let Some(searches) = Searches::new(results) {
        return slo::markdown(&searches);
    }
    if let Some(comparison) = PeerComparison::new(results) {
        return peers::markdown(&comparison);
    }
    if let Some(study) = PoolStudy::new(results) {
        return pools::markdown(&study);
    }
    Sweep::new(results).map_or_else(|| markdown::runs(results), |sweep| sweep::markdown(&sweep))
}

/// Saves results that could not be written to a temporary file. Returns `error` with the file's name.
pub(crate) fn rescue(results: &(impl Serialize + ?Sized), error: Error) -> Error {
    let kept = || -> Result<PathBuf> {
        let file = tempfile::Builder::new().prefix("loadtest-").suffix(".json").tempfile_in(env::temp_dir())?;
        serde_json::to_writer_pretty(file.as_file(), results)?;
        Ok(file.keep()?.1)
    };
    match kept().context("and they cannot be saved elsewhere") {
        Ok(path) => {
            let path = path.display();
            error.context(format!(
                "the results are in {path}, and `loadtest report {path}` with the same flags writes the files, which \
                 are missing or hold earlier runs"
            ))
        }
        Err(why) => error.context(format!("{why:#}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use results::samples::sample;
    use std::fs;

    fn args(directory: &Path) -> OutputArgs {
        let file = |name| Some(directory.join(name));
        OutputArgs {
            json: file("a.json"),
            csv: file("a.csv"),
            csv_series: file("s.csv"),
            markdown: file("a.md"),
            report: file("a.html"),
            chart: file("a.svg"),
        }
    }

    #[test]
    fn failed_writes_are_repeated_with_the_next_run() {
        let parent = tempfile::tempdir().unwrap();
        let directory = parent.path().join("results");
        fs::create_dir(&directory).unwrap();
        let outputs = Outputs::prepare(&args(&directory), true).unwrap();
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 0, "a probe is left");
        let runs = [sample("threads"), sample("threadpool")];
        fs::remove_dir(&directory).unwrap();
        let error = outputs.write(&runs[..1]).unwrap_err().to_string();
        for flag in ["--json ", "; --csv ", "; --csv-series ", "; --markdown ", "; --report ", "; --chart "] {
            assert!(error.contains(flag), "{error}");
        }
        fs::create_dir(&directory).unwrap();
        outputs.write(&runs).unwrap();
        let json: Vec<RunResult> = serde_json::from_slice(&fs::read(directory.join("a.json")).unwrap()).unwrap();
        assert_eq!(json.len(), 2);
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 6);
    }

    #[test]
    fn one_unwritable_file_does_not_stop_the_others() {
        let [good, bad] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let args = OutputArgs { json: Some(bad.path().join("a.json")), ..args(good.path()) };
        let outputs = Outputs::prepare(&args, false).unwrap();
        drop(bad);
        assert!(outputs.write(&[sample("threads")]).is_err());
        assert_eq!(fs::read_dir(good.path()).unwrap().count(), 5);
    }

    #[test]
    fn one_run_is_an_object_unless_it_is_one_of_a_list() {
        let directory = tempfile::tempdir().unwrap();
        for (is_list, start) in [(false, "{"), (true, "[")] {
            let outputs = Outputs::prepare(&args(directory.path()), is_list).unwrap();
            outputs.write(&[sample("threads")]).unwrap();
            assert!(fs::read_to_string(directory.path().join("a.json")).unwrap().starts_with(start));
        }
    }

    #[test]
    fn two_formats_do_not_go_to_one_file() {
        let directory = tempfile::tempdir().unwrap();
        let twice = OutputArgs { csv: Some(directory.path().join("a.json")), ..args(directory.path()) };
        let error = Outputs::prepare(&twice, false).unwrap_err().to_string();
        assert!(error.contains("are the same file"), "{error}");
        let outputs = Outputs::prepare(&args(directory.path()), false).unwrap();
        let error = outputs.ensure_apart("--events", &directory.path().join("a.json")).unwrap_err().to_string();
        assert!(error.contains("--events") && error.contains("are the same file"), "{error}");
        let null = || Some("/dev/null".into());
        Outputs::prepare(&OutputArgs { json: null(), csv: null(), ..OutputArgs::default() }, false).unwrap();
    }

    #[test]
    fn unwritable_results_are_saved_elsewhere() {
        let error = format!("{:#}", rescue(&[sample("threads")][..], Error::msg("no room")));
        assert!(error.ends_with(": no room"), "{error}");
        let path = error.split_whitespace().find(|word| word.ends_with(".json,")).unwrap().trim_end_matches(',');
        let runs: Vec<RunResult> = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
        fs::remove_file(path).unwrap();
        assert_eq!(runs[0].target, "threads");
    }
}
