//! `loadtest sweep`: measures each server at several numbers of connections, in several rounds, each time freshly
//! started.

pub(crate) mod bench;
mod limit;
mod outcome;
mod resume;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, anyhow};
use clap::Args;
use common::db::Latency;

use results::Target;
use results::run::SweepPlan;
use results::sweep::Sweep;

use self::bench::{Bench, SweepCell};
use self::outcome::is_finished;
use super::flags::time;
use super::rounds;
use super::target_choice::{TargetChoice, chosen};
use crate::machine::host;
use crate::machine::interrupt::{EXIT_STATUS, Interrupt};
use crate::machine::terminal::{print, warn};
use crate::machine::walls::Asked;
use crate::output::events::EventArgs;
use crate::output::files::{OutputArgs, Outputs};
use crate::subject::build;
use crate::subject::memory::MemorySource;

/// Measure each server at several numbers of connections: what one more costs, and where it ends
///
/// A cell of the sweep is one server at one number of connections, in one round. Each cell starts a fresh server.
/// Rounds follow one another, and within a round the order of the cells is random, so that whatever else this machine
/// does affects all servers alike.
#[derive(Args, Debug)]
#[command(
    after_help = "The table and the slopes are on stdout. Exit status: 0 measured; 1 a cell failed; 130 interrupted: \
                        finished cells are in the --json file, and --resume continues from it."
)]
pub(crate) struct SweepArgs {
    /// The servers to measure, separated by commas [default: all]
    #[arg(long, value_enum, value_delimiter = ',')]
    target: Option<Vec<TargetChoice>>,

    /// Numbers of connections, separated by commas [default: 100,300,1k,3k,10k]
    #[arg(short, long, value_name = "LIST", value_delimiter = ',', value_parser = quantity::positive_count)]
    connections: Option<Vec<usize>>,

    /// How many times to measure each server at each number of connections [default: 3]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    rounds: Option<u32>,

    /// How long to measure each cell: 10, 10s, 2m, 500ms [default: 10s]
    #[arg(short, long, value_name = "TIME", value_parser = time)]
    duration: Option<Duration>,

    /// How long a database query takes in the server: 1s, uniform:50ms..150ms, exp:100ms, or lognormal:100ms,p99=1s
    /// [default: 1s]
    #[arg(long, value_name = "LATENCY")]
    db_wait: Option<Latency>,

    /// When to give up on a request [default: 60s]
    #[arg(short = 'T', long, value_name = "TIME", value_parser = time)]
    timeout: Option<Duration>,

    /// The seed of the random order [default: the time]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,

    /// Limit the RAM of each server (256M, 2GiB; needs root) and find how many connections it can hold: tries the
    /// numbers upwards until the server fails, then numbers in between, to within a tenth
    #[arg(long, value_name = "BYTES", value_parser = quantity::positive_bytes, conflicts_with = "rounds")]
    ram_limit: Option<u64>,

    /// Continue an interrupted sweep: cells in its file are not measured again, and its settings are those of the file
    #[arg(long, value_name = "FILE")]
    resume: Option<PathBuf>,

    #[command(flatten)]
    outputs: OutputArgs,

    #[command(flatten)]
    events: EventArgs,

    /// Flags for the servers
    #[arg(last = true, value_name = "FLAGS")]
    server_flags: Vec<String>,
}

/// Measures all cells, and prints the summary.
pub(crate) fn run(args: &SweepArgs) -> Result<ExitCode> {
    let (plan, results) = match &args.resume {
        Some(path) => resume::read(path, |recorded| args.plan(recorded.clone()), &host::describe(None))?,
        None => (args.plan(default_plan()), Vec::new()),
    };
    let db_wait: Latency = plan.wait.parse().map_err(|error| anyhow!("database wait {:?}: {error}", plan.wait))?;
    let targets: Vec<_> = plan.targets.iter().filter_map(|name| Target::from_name(name)).collect();
    let most = *plan.connections.last().unwrap_or(&1);
    host::prepare_for(&Asked::new(most, &targets))?.iter().for_each(warn);
    // Fail now if there is no cgroup, not in each cell.
    MemorySource::open().limit(plan.ram_limit_bytes)?;
    // By default, continue in the resumed file.
    let outputs = args.outputs.clone().or_json(args.resume.as_deref());
    let outputs = Outputs::prepare(&outputs, true)?;
    let interrupt = Interrupt::install()?;
    let sinks = args.events.sinks(&outputs)?;
    let Some(executables) = build::build(&targets, &interrupt)? else { return Ok(ExitCode::from(EXIT_STATUS)) };
    resume::check_builds(&results, &executables)?;
    let mut bench = Bench::new(&plan, db_wait, &executables, outputs, &interrupt, sinks, results);
    let measured = match plan.ram_limit_bytes {
        Some(_) => limit::search(&mut bench, &targets, &plan.connections),
        None => bench.measure_all(&order(&plan, &targets)),
    };
    let (results, written) = bench.finish();
    let table = Sweep::new(&results).map_or_else(String::new, |sweep| report::sweep::text(&sweep) + "\n");
    let printed = print(&(table + &report::answer(&results)));
    written.and(printed)?;
    Ok(match measured {
        None => ExitCode::from(EXIT_STATUS),
        Some(()) if results.iter().all(|result| is_finished(result, &plan)) => ExitCode::SUCCESS,
        Some(()) => ExitCode::FAILURE,
    })
}

/// All cells, round after round, each round in its own random order.
fn order(plan: &SweepPlan, targets: &[Target]) -> Vec<SweepCell> {
    let cells_of_round = |round| {
        let cells = targets.iter().flat_map(|&target| {
            plan.connections.iter().map(move |&connections| SweepCell { target, connections, round })
        });
        cells.collect()
    };
    rounds::shuffled(plan.rounds, plan.seed, cells_of_round)
}

/// What a sweep measures unless its flags say otherwise.
fn default_plan() -> SweepPlan {
    SweepPlan {
        seed: rounds::seed_of_now(),
        targets: Target::ALL.map(|target| target.name().to_owned()).into(),
        connections: vec![100, 300, 1_000, 3_000, 10_000],
        rounds: 3,
        duration_ms: 10_000,
        timeout_ms: 60_000,
        wait: "1s".into(),
        server_flags: Vec::new(),
        ram_limit_bytes: None,
    }
}

impl SweepArgs {
    /// This plan, as changed by the flags.
    fn plan(&self, mut plan: SweepPlan) -> SweepPlan {
        let millis = |time: Duration| time.as_millis() as u64;
        plan.seed = self.seed.unwrap_or(plan.seed);
        if let Some(choices) = &self.target {
            plan.targets = chosen(choices).into_iter().map(|target| target.name().to_owned()).collect();
        }
        if let Some(connections) = &self.connections {
            plan.connections.clone_from(connections);
            plan.connections.sort_unstable();
            plan.connections.dedup();
        }
        plan.duration_ms = self.duration.map_or(plan.duration_ms, millis);
        plan.timeout_ms = self.timeout.map_or(plan.timeout_ms, millis);
        plan.wait = self.db_wait.map_or(plan.wait, |wait| wait.to_string());
        plan.ram_limit_bytes = self.ram_limit.or(plan.ram_limit_bytes);
        plan.rounds = if plan.ram_limit_bytes.is_some() { 1 } else { self.rounds.unwrap_or(plan.rounds) };
        if !self.server_flags.is_empty() {
            plan.server_flags.clone_from(&self.server_flags);
        }
        plan
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(seed: u64) -> SweepPlan {
        SweepPlan { seed, connections: vec![100, 300, 1_000], rounds: 2, ..default_plan() }
    }

    #[test]
    fn each_round_has_every_cell_once_in_its_own_order() {
        let cells = order(&plan(7), &Target::ALL);
        let cells_of_round = Target::ALL.len() * 3;
        assert_eq!(cells.len(), cells_of_round * 2);
        let (first, second) = cells.split_at(cells_of_round);
        for (number, round) in [(1, first), (2, second)] {
            assert!(round.iter().all(|cell| cell.round == number));
            for target in Target::ALL {
                let mut connections: Vec<_> =
                    round.iter().filter(|cell| cell.target == target).map(|cell| cell.connections).collect();
                connections.sort_unstable();
                assert_eq!(connections, [100, 300, 1_000]);
            }
        }
        let places = |round: &[SweepCell]| round.iter().map(|cell| (cell.target, cell.connections)).collect::<Vec<_>>();
        assert_ne!(places(first), places(second));
        assert_eq!(order(&plan(7), &Target::ALL), cells);
        assert_ne!(order(&plan(8), &Target::ALL), cells);
    }
}
