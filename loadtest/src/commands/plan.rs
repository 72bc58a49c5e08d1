//! `loadtest plan`: which models fit a number of connections into an amount of RAM, and which one to choose.

mod advice;
mod answer;
pub(crate) mod cost;
mod need;
mod questions;
mod text;
mod verdict;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use clap::Args;
use common::db::Latency;
use results::run::SweepPlan;
use results::{RunResult, Target, file};

use self::answer::PlanAnswer;
use self::cost::ModelCost;
use self::need::Need;
use self::questions::Answers;
use super::flags::time;
use super::sweep::bench::{Bench, SweepCell};
use crate::machine::host;
use crate::machine::interrupt::{EXIT_STATUS, Interrupt};
use crate::machine::terminal::{print, say, warn};
use crate::machine::walls::Asked;
use crate::output::events::EventArgs;
use crate::output::file::OutputFile;
use crate::output::files::{OutputArgs, Outputs};
use crate::subject::build;

/// The most connections of a quick measurement.
const QUICK_CONNECTIONS: usize = 2_000;
const QUICK_DURATION: Duration = Duration::from_secs(2);

/// Say which models fit a number of connections into an amount of RAM, and recommend one
///
/// The figures come from the sweep that --from names. Without --from, plan first measures a small sweep of at most 2,000
/// connections, which gives rough figures. The RAM of a connection is the upper end of its 95 % confidence interval, to
/// be on the safe side.
#[derive(Args, Debug)]
#[command(
    after_help = "Better figures:\n  loadtest sweep --json sweep.json\n  loadtest plan --from sweep.json ...\n\n\
                        Exit status: 0 a model fits; 1 none does; 2 wrong arguments, or nothing to judge by; 130 interrupted."
)]
pub(crate) struct PlanArgs {
    /// How many connections to hold open at once
    #[arg(short, long, value_name = "N", value_parser = quantity::positive_count)]
    connections: usize,

    /// How long a request waits for the database, on average: 200ms, 1s
    #[arg(short, long, value_name = "TIME", value_parser = time)]
    wait: Duration,

    /// How much RAM the server may have: 2GiB, 512M
    #[arg(short, long, value_name = "BYTES", value_parser = quantity::positive_bytes)]
    ram: u64,

    /// How much CPU time a request needs on top of the server's own [default: none; asked on a terminal]
    #[arg(long, value_name = "TIME", value_parser = time)]
    cpu_per_request: Option<Duration>,

    /// Requests per second over all connections together [default: connections ÷ wait, each sends without pause]
    #[arg(long, value_name = "N", value_parser = quantity::positive_count)]
    rate: Option<usize>,

    /// How many connections to the database the server may have, which bounds its requests per second (pool ÷ wait) and how many
    /// workers a thread pool has use for; `loadtest db` measures how many are enough [default: as many as wait]
    #[arg(long, value_name = "N", value_parser = quantity::positive_count)]
    pool: Option<usize>,

    /// A crash must end one connection only, which leaves prefork: a process for each
    #[arg(long)]
    isolation: bool,

    /// Use this sweep, as written by loadtest sweep --json FILE [default: measure a small one]
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,

    /// Also write the verdicts to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Judges each model and recommends one.
pub(crate) fn run(args: &PlanArgs) -> Result<ExitCode> {
    let need = args.need()?;
    let json = args.json.as_deref().map(|path| OutputFile::prepare("--json", path)).transpose()?;
    let measured = match &args.from {
        Some(path) => Some((file::read(path)?.results, path.display().to_string())),
        None => measure(args)?.map(|results| (results, "a quick measurement just now, so they are rough".to_owned())),
    };
    let Some((results, source)) = measured else { return Ok(ExitCode::from(EXIT_STATUS)) };
    let here = host::describe(None);
    let figures = ModelCost::for_models(&results);
    ensure!(!figures.is_empty(), "{source}: no run of a server of this project finished with its RAM metered");
    let verdicts = verdict::judge_all(&figures, &need, here.cpus)?;
    let advice = advice::advise(&verdicts, &need);
    let source = text::source(&source, &results, &here);
    let plan = PlanAnswer { need, source, host: here, verdicts, advice };
    if let Some(json) = json {
        json.write(&serde_json::to_vec_pretty(&plan)?)?;
    }
    print(&text::answer(&plan))?;
    Ok(if plan.verdicts.iter().any(|verdict| verdict.fits()) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What somebody needs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    /// Connections that each send without pause.
    pub(crate) connections: usize,
    /// How long a request waits for the database.
    pub(crate) wait: Duration,
    /// How long it computes.
    pub(crate) cpu_per_request: Duration,
    /// Requests per second over all connections; `None` for as many as they send.
    pub(crate) rate: Option<f64>,
    /// The RAM that the server may have.
    pub(crate) ram_bytes: u64,
    /// Whether a crash must end one connection only.
    pub(crate) isolation: bool,
}

/// The model that is recommended for a case, if each takes so much RAM for a connection and so much CPU time, in seconds,
/// for a request. `None` if none fits.
///
/// # Errors
/// The limits of this machine cannot be read.
pub(crate) fn recommend(case: &Case, costs: &[(Target, f64, Option<f64>)]) -> Result<Option<&'static str>> {
    let mut need = Need {
        connections: case.connections,
        wait_s: case.wait.as_secs_f64(),
        ram_bytes: case.ram_bytes,
        cpu_per_request_s: case.cpu_per_request.as_secs_f64(),
        rate: 0.0,
        isolation: case.isolation,
        pool: None,
    };
    need.rate = case.rate.unwrap_or_else(|| need.most_rate());
    let costs: Vec<_> =
        costs.iter().map(|&(target, bytes, cpu_s)| ModelCost::from_figures(target, bytes, cpu_s)).collect();
    let verdicts = verdict::judge_all(&costs, &need, host::describe(None).cpus)?;
    Ok(advice::advise(&verdicts, &need).target)
}

impl PlanArgs {
    fn need(&self) -> Result<Need> {
        let Answers { isolation, cpu_per_request } = questions::ask(self.isolation, self.cpu_per_request)?;
        let mut need = Need {
            connections: self.connections,
            wait_s: self.wait.as_secs_f64(),
            ram_bytes: self.ram,
            cpu_per_request_s: cpu_per_request.as_secs_f64(),
            rate: 0.0,
            isolation,
            pool: self.pool,
        };
        let (most, most_queries) = (need.most_rate(), need.most_queries());
        need.rate = self.rate.map_or(most.min(most_queries), |rate| rate as f64);
        if need.rate > most {
            bail!(
                "{} requests/s are too many for {} connections: with {:?} per request, each sends {:.3} per second, so at most \
                 {most:.0} in all. Lower --rate, or raise --connections",
                need.rate,
                self.connections,
                self.wait + cpu_per_request,
                most / self.connections as f64
            );
        }
        if let Some(pool) = self.pool.filter(|_| need.rate > most_queries) {
            bail!(
                "{} requests/s are too many for {pool} connections to the database: each answers {:.1} per second, so at most \
                 {most_queries:.0} in all. Lower --rate, or raise --pool to {:.0} (Little's law: rate × wait)",
                need.rate,
                1.0 / need.wait_s,
                (need.rate * need.wait_s).ceil()
            );
        }
        Ok(need)
    }
}

/// A small sweep: three sizes, one round, two seconds. `None` if interrupted.
fn measure(args: &PlanArgs) -> Result<Option<Vec<RunResult>>> {
    let most = args.connections.clamp(QUICK_CONNECTIONS / 10, QUICK_CONNECTIONS);
    let plan = SweepPlan {
        seed: 0,
        targets: Target::ALL.map(|target| target.name().to_owned()).to_vec(),
        connections: vec![most / 4, most / 2, most],
        rounds: 1,
        duration_ms: QUICK_DURATION.as_millis() as u64,
        timeout_ms: 60_000,
        wait: Latency::Fixed(args.wait).to_string(),
        server_flags: Vec::new(),
        ram_limit_bytes: None,
    };
    host::prepare_for(&Asked::new(most, &Target::ALL))?.iter().for_each(warn);
    let interrupt = Interrupt::install()?;
    let Some(executables) = build::build(&Target::ALL, &interrupt)? else { return Ok(None) };
    say("no --from: measuring a small sweep");
    let outputs = Outputs::prepare(&OutputArgs::default(), true)?;
    let sinks = EventArgs::default().sinks(&outputs)?;
    let mut bench = Bench::new(&plan, Latency::Fixed(args.wait), &executables, outputs, &interrupt, sinks, Vec::new());
    let cells = Target::ALL.into_iter().flat_map(|target| {
        plan.connections.iter().map(move |&connections| SweepCell { target, connections, round: 1 })
    });
    let measured = bench.measure_all(&cells.collect::<Vec<_>>());
    let (results, _) = bench.finish();
    Ok(measured.map(|()| results))
}
