//! `loadtest claims`: measures what an article claims, and says of each claim whether it holds on this machine.

mod cases;
mod resume;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use clap::Args;
use quantity::format;
use results::claim::{Article, Judgement, SCHEMA};
use results::{Target, Warning, WarningKind};

use self::resume::Progress;
use crate::experiments::lab::Lab;
use crate::experiments::{self, Experiment};
use crate::machine::command_line::WrongArguments;
use crate::machine::interrupt::{EXIT_STATUS, Interrupt};
use crate::machine::terminal::{print, say};
use crate::machine::usage::others_warning;
use crate::machine::{command_line, host};
use crate::output::file::OutputFile;
use crate::output::steps::Steps;
use crate::subject::build::{self, Executables};
use crate::subject::memory::MemorySource;

/// The article that this project is about.
const BEE_11001: &str = include_str!("../../claims/bee-11001.toml");

/// How long the machine is watched before an experiment, whether something else is at work.
const QUIET_TIME: Duration = Duration::from_millis(100);

const EXAMPLES: &str = "\
Examples:
  Every claim, in under ten minutes; as root also those that need cgroups:
    loadtest claims --json claims.json --report claims.html

  A first look, in under a minute:
    loadtest claims --quick

  Only some:
    loadtest claims --only thread-creation,thread-memory

  Continue after Ctrl-C; judge the same figures by another article:
    loadtest claims --resume claims.json --json claims.json
    loadtest claims --from claims.json --article mine.toml

How to read it: a claim holds if the 95 % interval of each figure is within
the claim's bounds. It does not hold if an interval is outside. If a bound is
within an interval, the claim is undecided: measure again, without --quick.
The interval is about chance only; what a figure means is said below it.

Exit status: 0 measured, whatever holds; 1 an experiment or a file failed;
2 wrong arguments; 130 interrupted: what was measured is kept, and --resume
continues.";

/// Check what the article claims on this machine, claim by claim
///
/// Measures what processes, threads and coroutines cost to create, to switch to and to keep, how they fail and what they
/// starve, and says of each claim whether it holds here, by how much it is off, or why it cannot be checked.
#[derive(Args, Debug)]
#[command(after_long_help = EXAMPLES, after_help = "--help shows examples, and how to read the result.")]
pub(crate) struct ClaimsArgs {
    /// Check only these claims, separated by commas; --list names all
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    only: Vec<String>,

    /// List the claims, and measure nothing
    #[arg(long)]
    list: bool,

    /// Measure only as much as gives an interval: under a minute, with fewer connections
    #[arg(long)]
    quick: bool,

    /// Check another article, written as loadtest/claims/bee-11001.toml is
    #[arg(long, value_name = "FILE")]
    article: Option<PathBuf>,

    /// Take over what this file of --json has, and measure the rest
    #[arg(long, value_name = "FILE")]
    resume: Option<PathBuf>,

    /// Measure nothing: print this file of --json again, judged by the article of now, and write the files below
    #[arg(long, value_name = "FILE", conflicts_with_all = ["resume", "quick"])]
    from: Option<PathBuf>,

    /// Write claims, verdicts and figures to this file; rewritten after each experiment, like the files below
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// Write a row for each figure of each claim to this file
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,

    /// Write a table to this file as Markdown
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,

    /// Write a page with charts to this file, as self-contained HTML
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

/// The files to write.
struct Files(Vec<(Format, OutputFile)>);

#[derive(Clone, Copy)]
enum Format {
    Json,
    Csv,
    Markdown,
    Page,
}

/// Measures, judges and prints.
pub(crate) fn run(args: &ClaimsArgs) -> Result<ExitCode> {
    let article = args.article()?;
    if args.list {
        print(&report::claims::list(&article))?;
        return Ok(ExitCode::SUCCESS);
    }
    let files = args.files()?;
    if let Some(path) = &args.from {
        return print_again(path, &article, &files);
    }
    let mut progress = match &args.resume {
        Some(path) => resume::read(path, args.quick, &host::describe(None))?,
        None => Progress::default(),
    };
    let missing: Vec<&Experiment> = needed(&article).filter(|experiment| !progress.has(experiment.name)).collect();
    let mut judgement = args.judgement();
    let interrupt = Interrupt::install()?;
    let ended = measure(args.quick, &missing, &interrupt, &mut progress, |progress| {
        judgement.judge(&article, progress);
        files.write(&judgement.0, false)
    })?;
    judgement.0.complete = ended == Some(0);
    judgement.judge(&article, &progress);
    files.write(&judgement.0, true)?;
    print(&report::claims::text(&judgement.0))?;
    Ok(match ended {
        Some(0) => ExitCode::SUCCESS,
        Some(_) => ExitCode::FAILURE,
        None => ExitCode::from(EXIT_STATUS),
    })
}

/// Judges what was measured earlier, anywhere.
fn print_again(path: &Path, article: &Article, files: &Files) -> Result<ExitCode> {
    let earlier = resume::read_judgement("--from", path)?;
    let progress = Progress::of(&earlier);
    let mut judgement = Running(earlier);
    judgement.judge(article, &progress);
    files.write(&judgement.0, true)?;
    print(&report::claims::text(&judgement.0))?;
    Ok(ExitCode::SUCCESS)
}

/// The experiments that the claims need, in the order in which they run.
fn needed(article: &Article) -> impl Iterator<Item = &'static Experiment> {
    let source = |name: &str| if name == cases::NAME { cases::SOURCE } else { name }.to_owned();
    let names: Vec<String> = article.claims.iter().flat_map(|claim| claim.experiments()).map(source).collect();
    experiments::ALL.iter().filter(move |experiment| names.iter().any(|name| name == experiment.name))
}

/// Runs the experiments, one after the other. How many failed; `None` if interrupted.
fn measure(
    is_quick: bool,
    experiments: &[&Experiment],
    interrupt: &Interrupt,
    progress: &mut Progress,
    mut keep: impl FnMut(&Progress) -> Result<()>,
) -> Result<Option<usize>> {
    let Some((executables, primitives)) = build(experiments, interrupt)? else { return Ok(None) };
    let mut lab = Lab::new(is_quick, &executables, &primitives, interrupt);
    if !experiments.is_empty() {
        progress.warn(root_warning());
    }
    let estimate = |experiment: &Experiment| {
        let (quick, full) = experiment.seconds;
        Duration::from_secs(if is_quick { quick } else { full })
    };
    let total = experiments.iter().map(|experiment| estimate(experiment)).sum();
    if !experiments.is_empty() {
        let noun = if experiments.len() == 1 { "experiment" } else { "experiments" };
        say(format_args!("{} {noun}: about {}", experiments.len(), format::rough_duration(total)));
    }
    let (mut steps, mut failed) = (Steps::new(experiments.len(), total), 0);
    for experiment in experiments {
        steps.begin(experiment.name, experiment.what, estimate(experiment));
        let Some(has_succeeded) = conduct(experiment, &mut lab, progress) else { return Ok(None) };
        failed += usize::from(!has_succeeded);
        keep(progress)?;
    }
    Ok(Some(failed))
}

/// Runs an experiment, and adds what it found. Whether it has succeeded; `None` if interrupted.
fn conduct(experiment: &Experiment, lab: &mut Lab<'_>, progress: &mut Progress) -> Option<bool> {
    let busy = others_warning(QUIET_TIME).map(|mut warning| {
        warning.text = format!("before {}: {}", experiment.name, warning.text);
        warning
    });
    let outcome = (experiment.run)(lab);
    // What an experiment found before it was stopped is half of something: it is measured again.
    if lab.interrupt.is_raised() {
        return None;
    }
    let findings = lab.take_findings();
    let has_succeeded = outcome.is_ok();
    match outcome {
        Ok(()) => progress.add(experiment.name, findings),
        Err(error) => {
            say(format_args!("{}: {error:#}", experiment.name));
            progress.fail(experiment.name, findings, &error);
        }
    }
    progress.warn(busy);
    Some(has_succeeded)
}

/// What root would add, if this machine gives us no cgroup.
fn root_warning() -> Option<Warning> {
    match MemorySource::open() {
        MemorySource::Processes { why } => {
            let text = format!(
                "{why}. RAM is what /proc shows of it, without some of the kernel's, and no server's RAM can be \
                 limited; as root, RAM would be the kernel's own account"
            );
            Some(Warning::new(WarningKind::Meter, text))
        }
        _ => None,
    }
}

/// Builds what the experiments need. `None` if interrupted.
fn build(experiments: &[&Experiment], interrupt: &Interrupt) -> Result<Option<(Executables, PathBuf)>> {
    let uses = |of: fn(&Experiment) -> bool| experiments.iter().any(|experiment| of(experiment));
    let primitives = match uses(|experiment| experiment.uses_primitives) {
        true => build::build_primitives(interrupt)?,
        false => Some(PathBuf::new()),
    };
    let targets: &[Target] = if uses(|experiment| experiment.uses_servers) { &Target::ALL } else { &[] };
    Ok(build::build(targets, interrupt)?.zip(primitives))
}

impl ClaimsArgs {
    /// The article, with the claims that were asked for.
    fn article(&self) -> Result<Article> {
        let (name, text) = match &self.article {
            Some(path) => {
                let name = format!("--article {}", path.display());
                let text = fs::read_to_string(path).with_context(|| format!("{name} cannot be read"))?;
                (name, text)
            }
            None => ("bee-11001.toml".to_owned(), BEE_11001.to_owned()),
        };
        let mut article: Article = toml::from_str(&text).with_context(|| format!("{name} is no article"))?;
        let measured = experiments::ALL.iter().map(|experiment| experiment.name);
        let experiments: Vec<&str> = measured.chain([cases::NAME]).collect();
        article.validate(&experiments).map_err(|error| anyhow!("{name}: {error}"))?;
        for only in &self.only {
            if !article.claims.iter().any(|claim| claim.name == *only) {
                bail!(WrongArguments(format!("there is no claim {only:?}: `loadtest claims --list` names all")));
            }
        }
        article.claims.retain(|claim| self.only.is_empty() || self.only.contains(&claim.name));
        ensure!(!article.claims.is_empty(), "{name} has no claims");
        Ok(article)
    }

    fn files(&self) -> Result<Files> {
        let named = [
            (Format::Json, "--json", &self.json),
            (Format::Csv, "--csv", &self.csv),
            (Format::Markdown, "--markdown", &self.markdown),
            (Format::Page, "--report", &self.report),
        ];
        let mut files: Vec<(Format, OutputFile)> = Vec::new();
        for (format, flag, path) in named {
            let Some(path) = path else { continue };
            files.iter().try_for_each(|(_, file)| file.ensure_apart(flag, path))?;
            files.push((format, OutputFile::prepare(flag, path)?));
        }
        Ok(Files(files))
    }

    fn judgement(&self) -> Running {
        Running(Judgement {
            schema: SCHEMA.to_owned(),
            article: String::new(),
            title: String::new(),
            url: String::new(),
            complete: false,
            warnings: Vec::new(),
            quick: self.quick,
            started_at: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
            command: command_line::own(),
            host: host::describe(None),
            facts: primitives::facts::facts(),
            experiments: Vec::new(),
            claims: Vec::new(),
            findings: Vec::new(),
        })
    }
}

/// A judgement that is not over.
struct Running(Judgement);

impl Running {
    /// Judges all claims by what is known now.
    fn judge(&mut self, article: &Article, progress: &Progress) {
        let Judgement { article: name, title, url, experiments, claims, findings, warnings, .. } = &mut self.0;
        name.clone_from(&article.name);
        title.clone_from(&article.title);
        url.clone_from(&article.url);
        experiments.clone_from(&progress.experiments);
        findings.clone_from(&progress.findings);
        findings.extend(cases::derive(&progress.findings));
        warnings.clone_from(&progress.warnings);
        *claims = article.claims.iter().map(|claim| claim.judge(findings)).collect();
    }
}

impl Files {
    /// Writes the files; standard output takes it only once, as the last.
    fn write(&self, judgement: &Judgement, is_last: bool) -> Result<()> {
        for (format, file) in &self.0 {
            let content = match format {
                Format::Json => serde_json::to_vec_pretty(judgement)?,
                Format::Csv => report::claims::csv(judgement)?,
                Format::Markdown => report::claims::markdown(judgement).into_bytes(),
                Format::Page => report::html::claims_page(judgement)?.into_bytes(),
            };
            if !file.is_stdout() || is_last {
                file.write(&content)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        args: ClaimsArgs,
    }

    #[test]
    fn the_article_is_whole_and_every_bound_has_a_unit() {
        let article = Cli::parse_from(["claims"]).args.article().unwrap();
        assert!(article.claims.len() >= 40, "{}", article.claims.len());
        let some = Cli::parse_from(["claims", "--only", "thread-memory,gil-waits"]).args.article().unwrap();
        assert_eq!(some.claims.len(), 2);
        assert_eq!(needed(&some).map(|experiment| experiment.name).collect::<Vec<_>>(), ["keep", "interpreters"]);
        let error = Cli::parse_from(["claims", "--only", "nothing"]).args.article().unwrap_err().to_string();
        assert!(error.contains("there is no claim \"nothing\""), "{error}");
    }
}
