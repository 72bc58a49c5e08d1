//! `loadtest db`: how many connections to a real database are enough, with each server, and what they cost.

use std::env;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Args;
use common::db::Latency;
use load::ThisProcess;
use load::net::Sources;
use results::Target;
use results::pools::PoolStudy;

use super::flags::time;
use super::rounds::{self, distinct};
use super::target_choice::{TargetChoice, chosen};
use crate::machine::command_line::WrongArguments;
use crate::machine::host;
use crate::machine::interrupt::{EXIT_STATUS, Interrupt};
use crate::machine::terminal::{say, warn};
use crate::machine::walls::Asked;
use crate::measure::target::{self, Location, TargetSpec};
use crate::output::events::EventArgs;
use crate::output::files::{OutputArgs, Outputs};
use crate::subject::build;
use crate::subject::postgres::{AskedDatabase, Postgres};

/// The variable with the URL of a database of the user's own. Not a flag: others can read a command line.
const VARIABLE: &str = "C10K_DB";
/// How long a request may wait for its connection: with a pool of 1 longer than any run, and that is what is measured.
const POOL_TIMEOUT: &str = "10m";
/// How long to start, hold, stop and meter takes, beside the window.
const OVERHEAD: Duration = Duration::from_secs(9);
/// Connections that PostgreSQL lets in beside the pool: for who looks at it.
const SPARE: usize = 5;

/// Find how many connections to a real PostgreSQL are enough for many clients, and which server does best with them
///
/// Each run starts a PostgreSQL of its own in a temporary folder (Debian: apt-get install postgresql pgbouncer) and a
/// fresh server with a pool of one size, holds all clients' connections, and measures how long requests wait for a
/// connection and how long for the answer. prefork is also measured with PgBouncer between, which then has the pool: its
/// processes cannot share connections, and alone they connect for each query, unless there is a connection for each client.
///
/// To ask a database of your own, put its URL into the variable C10K_DB, and make the tables of scripts/people.sql there.
#[derive(Args, Debug)]
#[command(
    after_help = "The tables are on stdout, with what is enough. Exit status: 0 measured; 1 a run failed; 130 interrupted: \
                        the tables have what was measured."
)]
pub(crate) struct DbArgs {
    /// The servers to measure, separated by commas [default: all that can ask a database]
    #[arg(long, value_enum, value_delimiter = ',')]
    target: Option<Vec<TargetChoice>>,

    /// Numbers of connections to the database, separated by commas
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = quantity::positive_count, default_value = "1,10,50,100,500,1k")]
    pool: Vec<usize>,

    /// How many clients the server has
    #[arg(short, long, value_name = "N", value_parser = quantity::positive_count, default_value = "10k")]
    connections: usize,

    /// How long each query takes in the database besides (pg_sleep); 0s for its own time alone
    #[arg(long, value_name = "TIME", value_parser = quantity::duration, default_value = "10ms")]
    db_wait: Duration,

    /// How long each request keeps its connection after the answer, separated by commas: a handler that renders or calls
    /// another service before it gives the connection back
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = quantity::duration, default_value = "0s")]
    hold: Vec<Duration>,

    /// How many queries may be on their way at once on each connection, separated by commas: those of async and async-codec,
    /// the only ones that can have more than one
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = quantity::positive_count, default_value = "1")]
    pipeline: Vec<usize>,

    /// How many times to measure each
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..), default_value_t = 1)]
    rounds: u32,

    /// How long each run takes: 10, 10s, 2m, 500ms
    #[arg(short, long, value_name = "TIME", value_parser = time, default_value = "5s")]
    duration: Duration,

    /// When to give up on a request: with a pool of 1, the last of 10,000 clients waits for minutes
    #[arg(short = 'T', long, value_name = "TIME", value_parser = time, default_value = "10m")]
    timeout: Duration,

    /// The seed of the random order [default: the time]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,

    #[command(flatten)]
    outputs: OutputArgs,

    #[command(flatten)]
    events: EventArgs,

    /// Flags for the servers
    #[arg(last = true, value_name = "FLAGS")]
    server_flags: Vec<String>,
}

/// One measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cell {
    target: Target,
    pool: usize,
    way: Way,
    through_pgbouncer: bool,
    round: u32,
}

/// What a server does with its connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Way {
    hold: Duration,
    pipeline: usize,
}

/// Measures all cells, and prints the tables.
pub(crate) fn run(args: &DbArgs) -> Result<ExitCode> {
    let targets = args.targets()?;
    args.check_ways(&targets)?;
    host::prepare_for(&Asked::new(args.connections, &targets))?.iter().for_each(warn);
    let given = env::var(VARIABLE).ok().filter(|url| !url.is_empty());
    let outputs = Outputs::prepare(&args.outputs, true)?;
    let interrupt = Interrupt::install()?;
    let sinks = args.events.sinks(&outputs)?;
    if given.is_none() {
        // What is missing shows before anything is built or measured.
        let bouncer = targets.contains(&Target::Prefork).then_some(1);
        drop(Postgres::start(SPARE, bouncer, &interrupt)?);
    }
    let Some(executables) = build::build(&targets, &interrupt)? else { return Ok(ExitCode::from(EXIT_STATUS)) };
    let cells = args.order(&targets, given.is_none());
    let time = (args.duration + OVERHEAD) * cells.len() as u32;
    let results = rounds::measure_all(cells, time, &outputs, &interrupt, sinks, |cell, sinks| {
        // Each run has a fresh database: no backend of the run before is left, and none has grown.
        let own = if given.is_none() { Some(cell.start_database(&interrupt)?) } else { None };
        let database = cell.asked(own.as_ref(), given.as_deref());
        let location = Location::Local(&executables[&cell.target]);
        let result = target::run(cell.target, location, &args.spec(cell, database), &interrupt, sinks);
        result.failure.iter().for_each(say);
        Ok(result)
    })?;
    let text = PoolStudy::new(&results).map_or_else(String::new, |study| report::pools::text(&study));
    rounds::conclude(&results, &text, &outputs, &interrupt)
}

impl DbArgs {
    /// The servers that can ask a database.
    fn targets(&self) -> Result<Vec<Target>> {
        let chosen = chosen(self.target.as_deref().unwrap_or(&[TargetChoice::All]));
        let targets: Vec<_> = chosen.into_iter().filter(|target| *target != Target::AsyncUring).collect();
        let text = "async-uring cannot ask a database: its own driver waits for sockets of clients only";
        ensure!(!targets.is_empty(), WrongArguments(text.to_owned()));
        Ok(targets)
    }

    /// All cells, round after round, each round in its own random order.
    fn order(&self, targets: &[Target], has_bouncer: bool) -> Vec<Cell> {
        let pools = &distinct(&self.pool);
        let cells_of_round = |round| {
            let cells = targets.iter().flat_map(|&target| {
                let bouncers = if target == Target::Prefork && has_bouncer { &[false, true][..] } else { &[false] };
                let all_ways = move |through_pgbouncer, pool| {
                    let cell = move |way| Cell { target, pool, way, through_pgbouncer, round };
                    self.ways(target).into_iter().map(cell)
                };
                let sized =
                    move |through_pgbouncer| pools.iter().flat_map(move |&pool| all_ways(through_pgbouncer, pool));
                bouncers.iter().copied().flat_map(sized)
            });
            cells.collect()
        };
        rounds::shuffled(self.rounds, self.seed.unwrap_or_else(rounds::seed_of_now), cells_of_round)
    }

    fn check_ways(&self, targets: &[Target]) -> Result<()> {
        let text = "nothing is left to measure: only async and async-codec can have several queries on their way at once on a \
                    connection, and they give it back at once then; add 1 to --pipeline, or 0s to --hold";
        ensure!(targets.iter().any(|target| !self.ways(*target).is_empty()), WrongArguments(text.to_owned()));
        Ok(())
    }

    /// What this server can do with its connections, of what was asked for.
    fn ways(&self, target: Target) -> Vec<Way> {
        let pipelines = distinct(&self.pipeline);
        let can_pipeline = matches!(target, Target::Async | Target::AsyncCodec);
        let ways = distinct(&self.hold)
            .into_iter()
            .flat_map(|hold| pipelines.iter().map(move |&pipeline| Way { hold, pipeline }));
        ways.filter(|way| way.pipeline == 1 || (can_pipeline && way.hold.is_zero())).collect()
    }

    fn spec(&self, cell: Cell, database: AskedDatabase) -> TargetSpec {
        let mut flags = vec!["--db-pool-timeout".to_owned(), POOL_TIMEOUT.to_owned()];
        flags.extend(["--db-timeout".to_owned(), POOL_TIMEOUT.to_owned()]);
        match cell.way {
            Way { hold, pipeline: 1 } => flags.extend(["--db-hold".to_owned(), Latency::Fixed(hold).to_string()]),
            Way { pipeline, .. } => flags.extend(["--db-pipeline".to_owned(), pipeline.to_string()]),
        }
        // One that gives up and comes again may be there twice for a moment.
        flags.extend(["--db-queue".to_owned(), (2 * self.connections).to_string()]);
        // Processes that need not share keep a connection each.
        let keeps_one_each = cell.target == Target::Prefork && database.lets_each_log_in(self.connections);
        if !keeps_one_each {
            flags.extend(["--db-pool".to_owned(), cell.pool.to_string()]);
        }
        flags.extend(self.server_flags.iter().cloned());
        TargetSpec {
            connections: self.connections,
            duration: self.duration,
            rate: None,
            db_wait: Latency::Fixed(self.db_wait),
            database: Some(database),
            processes: 1,
            sources: Sources::default(),
            timeout: self.timeout,
            ram_limit_bytes: None,
            cpus: None,
            server_flags: flags,
            round: Some(cell.round),
            place: Arc::new(ThisProcess),
        }
    }
}

impl Cell {
    fn start_database(self, interrupt: &Interrupt) -> Result<Postgres> {
        let bouncer = self.through_pgbouncer.then_some(self.pool);
        Postgres::start(self.pool + SPARE, bouncer, interrupt)
    }

    /// What the server asks: loadtest's own database, or the one that was given.
    fn asked(self, own: Option<&Postgres>, given: Option<&str>) -> AskedDatabase {
        AskedDatabase {
            url: own.map_or(given.unwrap_or_default(), |own| &own.url).to_owned(),
            pool: self.pool,
            through_pgbouncer: self.through_pgbouncer,
            hold: self.way.hold,
            pipeline: self.way.pipeline,
            pid: own.and_then(Postgres::pid),
        }
    }
}
