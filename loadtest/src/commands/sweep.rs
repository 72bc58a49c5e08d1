//! `loadtest sweep`: measures each server at several numbers of connections, in several rounds, each time freshly
//! started.

pub(crate) mod bench;
mod limit;
mod outcome;
mod resume;
pub(crate) mod summary;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use clap::Args;
use common::db::Latency;
use common::limits;
use rand::SeedableRng as _;
use rand::rngs::SmallRng;
use rand::seq::SliceRandom as _;

use results::Target;
use results::run::SweepPlan;

use self::bench::{Bench, SweepCell};
use self::outcome::is_finished;
use super::flags::time;
use super::target_choice::TargetChoice;
use crate::machine::host;
use crate::machine::interrupt::{EXIT_STATUS, Interrupt};
use crate::machine::terminal::print;
use crate::output::events::EventArgs;
use crate::output::files::{OutputArgs, Outputs};
use crate::subject::build;
use crate::subject::memory::MemorySource;

/// The flags of a sweep.
///
/// Each cell of the sweep (a server, a number of connections, a round) starts a fresh server. Rounds follow one
/// another, and within a round the order of cells is random, so that disturbances on this machine affect all alike.
#[derive(Args, Debug)]
#[command(
    after_help = "The table and the slopes are on stdout. Exit status: 0 measured; 1 a cell failed; 130 interrupted: \
                        finished cells are in the --json file, and --resume continues from it."
)]
pub(crate) struct SweepArgs {
    /// The servers to measure, separated by commas
    #[arg(long, value_enum, value_delimiter = ',', default_value = "all")]
    target: Vec<TargetChoice>,

    /// Numbers of connections, separated by commas
    #[arg(short, long, value_name = "LIST", value_delimiter = ',', default_value = "100,300,1k,3k,10k", value_parser = quantity::positive_count)]
    connections: Vec<usize>,

    /// How often to measure each cell
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,

    /// How long to measure each cell: 10, 10s, 2m, 500ms
    #[arg(short, long, value_name = "TIME", default_value = "10s", value_parser = time)]
    duration: Duration,

    /// How long a database query takes in the server: 1s, uniform:50ms..150ms, exp:100ms, or lognormal:100ms,p99=1s
    #[arg(long, value_name = "LATENCY", default_value = "1s")]
    db_wait: Latency,

    /// When to give up on a request
    #[arg(short = 'T', long, value_name = "TIME", default_value = "60s", value_parser = time)]
    timeout: Duration,

    /// The seed of the random order [default: the time; with --resume, the original seed]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,

    /// Limit the RAM of each server (256M, 2GiB; needs root) and find how many connections it can hold: tries the
    /// numbers upwards until the server fails, then numbers in between, to within a tenth
    #[arg(long, value_name = "BYTES", value_parser = quantity::positive_bytes, conflicts_with = "rounds")]
    ram_limit: Option<u64>,

    /// Continue an interrupted sweep: cells in its file are not measured again
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
    let targets = args.targets();
    let mut plan = args.plan(&targets);
    let most = *plan.connections.last().unwrap_or(&1);
    host::prepare_for(most, limits::SPARE_DESCRIPTORS)?;
    let results = match &args.resume {
        Some(path) => resume::read(path, &mut plan, args.seed, &host::describe(None))?,
        None => Vec::new(),
    };
    // Fail now if there is no cgroup, not in each cell.
    MemorySource::open().limit(plan.ram_limit_bytes)?;
    // By default, continue in the resumed file.
    let outputs = args.outputs.clone().or_json(args.resume.as_deref());
    let outputs = Outputs::prepare(&outputs, true)?;
    let interrupt = Interrupt::install()?;
    let sinks = args.events.sinks(&outputs)?;
    let Some(executables) = build::build(&targets, &interrupt)? else { return Ok(ExitCode::from(EXIT_STATUS)) };
    let mut bench = Bench::new(&plan, args.db_wait, &executables, outputs, &interrupt, sinks, results);
    let measured = match args.ram_limit {
        Some(_) => limit::search(&mut bench, &targets, &plan.connections),
        None => bench.measure_all(&order(&plan, &targets)),
    };
    let (results, written) = bench.finish();
    print(&summary::text(&results))?;
    written?;
    Ok(match measured {
        None => ExitCode::from(EXIT_STATUS),
        Some(()) if results.iter().all(|result| is_finished(result, &plan)) => ExitCode::SUCCESS,
        Some(()) => ExitCode::FAILURE,
    })
}

/// All cells, round after round, each round in its own random order.
fn order(plan: &SweepPlan, targets: &[Target]) -> Vec<SweepCell> {
    let mut random = SmallRng::seed_from_u64(plan.seed);
    let mut order = Vec::new();
    for round in 1..=plan.rounds {
        let cells = targets.iter().flat_map(|&target| {
            plan.connections.iter().map(move |&connections| SweepCell { target, connections, round })
        });
        let mut cells: Vec<_> = cells.collect();
        cells.shuffle(&mut random);
        order.extend(cells);
    }
    order
}

impl SweepArgs {
    /// Each server once, in the order of every table.
    fn targets(&self) -> Vec<Target> {
        let chosen: Vec<_> = self.target.iter().flat_map(|choice| choice.targets()).collect();
        Target::ALL.into_iter().filter(|target| chosen.contains(&target)).collect()
    }

    fn plan(&self, targets: &[Target]) -> SweepPlan {
        let mut connections = self.connections.clone();
        connections.sort_unstable();
        connections.dedup();
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        SweepPlan {
            // Short enough to type.
            seed: self.seed.unwrap_or(u64::from(since_1970.subsec_micros())),
            targets: targets.iter().map(|target| target.name().to_owned()).collect(),
            connections,
            rounds: if self.ram_limit.is_some() { 1 } else { self.rounds },
            duration_ms: self.duration.as_millis() as u64,
            timeout_ms: self.timeout.as_millis() as u64,
            wait: self.db_wait.to_string(),
            server_flags: self.server_flags.clone(),
            ram_limit_bytes: self.ram_limit,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(seed: u64) -> SweepPlan {
        SweepPlan {
            seed,
            targets: Vec::new(),
            connections: vec![100, 300, 1_000],
            rounds: 2,
            duration_ms: 10_000,
            timeout_ms: 60_000,
            wait: "1s".into(),
            server_flags: Vec::new(),
            ram_limit_bytes: None,
        }
    }

    #[test]
    fn each_round_has_every_cell_once_in_its_own_order() {
        let cells = order(&plan(7), &Target::ALL);
        assert_eq!(cells.len(), 5 * 3 * 2);
        let (first, second) = cells.split_at(15);
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
