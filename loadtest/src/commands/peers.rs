//! `loadtest peers`: compares our servers with those of others, all loaded alike, in interleaved rounds; or, with
//! `--clients`, load generators.

mod clients;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use clap::Args;
use common::app::MAX_WAIT;
use results::Target;
use results::peers::PeerComparison;
use results::slo::Step;

use self::clients::ClientsArgs;
use super::flags::time;
use super::rounds;
use super::slo::{self, STEP_DURATION, SloArgs};
use crate::machine::command_line::WrongArguments;
use crate::machine::host;
use crate::machine::interrupt::{EXIT_STATUS, Interrupt};
use crate::machine::terminal::{print, say, warn};
use crate::machine::walls::Asked;
use crate::measure::peer::{self, PeerSpec};
use crate::output::events::EventArgs;
use crate::output::files::{OutputArgs, Outputs};
use crate::output::steps::Steps;
use crate::subject::build;
use crate::subject::peer::{Installed, Peer, built_in, ours, read};
use crate::subject::peer_file::{NOTHING_INSTALLED, not_a_server};

/// How long to start, stop and meter one server takes, beside its window.
const OVERHEAD: Duration = Duration::from_secs(5);
/// How many connections a server gets unless `-c` says otherwise.
const CONNECTIONS: usize = 10_000;
/// How long a run takes unless `-d` says otherwise.
const DURATION: Duration = Duration::from_secs(10);
/// How long it takes to ask one how it keeps to HTTP/1.1: more if it often says nothing.
const CONFORMANCE_TIME: Duration = Duration::from_secs(6);

/// Compare our servers with nginx, Apache, Go, Node and others, loaded alike in interleaved rounds
///
/// First each is asked what it makes of well-formed and malformed requests, as `cargo run -p conformance -- ADDRESS` does.
/// Then each run starts a fresh server in its own cgroup, opens all connections, asks as fast as answers come, and stops it.
/// Those that can wait are then asked to answer after --wait. Rounds follow one another, and within a round the order is
/// random, so that whatever else this machine does affects all alike. Peers that are not installed are left out and named.
/// With --clients, load generators are compared in the same way.
#[derive(Args, Debug)]
#[command(after_help = "The tables are on stdout. --list shows the peers and how to install them; each is a file of \
                        loadtest/peers, and --peer takes a file of your own. Exit status: 0 measured; 1 a run failed; 130 \
                        interrupted: the table has what was measured.")]
pub(crate) struct PeersArgs {
    /// Compare load generators instead of servers: loadtest with wrk and oha
    ///
    /// Each run starts a fresh server-async that answers at once, and lets one of them load it as fast as it can, with 2
    /// threads. Their figures are what they say themselves; CPU time, RAM and the time until all are connected are measured.
    #[arg(long, conflicts_with_all = ["slo", "wait", "timeout", "no_conformance", "events"])]
    clients: bool,

    /// What to compare: names of peers, of our servers, or files, separated by commas [default: all]
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    peer: Option<Vec<String>>,

    /// Say what can be compared and how to install it, and measure nothing
    #[arg(long)]
    list: bool,

    /// Numbers of connections, separated by commas. With several there is a slope of RAM [default: 10k; with --clients,
    /// 200,10k]
    #[arg(short, long, value_name = "LIST", value_delimiter = ',', value_parser = quantity::positive_count)]
    connections: Option<Vec<usize>>,

    /// How many times to measure each
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..), default_value_t = 5, conflicts_with = "slo")]
    rounds: u32,

    /// How long each run takes: 10, 10s, 2m, 500ms [default: 10s; with --slo, 3s for each step; with --clients, 5s]
    #[arg(short, long, value_name = "TIME", value_parser = time)]
    duration: Option<Duration>,

    /// How long to have those wait that can, in whole milliseconds; 0s for no such runs
    #[arg(long, value_name = "TIME", value_parser = wait, default_value = "1s", conflicts_with = "slo")]
    wait: Duration,

    /// When to give up on a request
    #[arg(short = 'T', long, value_name = "TIME", value_parser = time, default_value = "60s")]
    timeout: Duration,

    /// Do not ask them beforehand how they keep to HTTP/1.1, which takes some seconds each
    #[arg(long, conflicts_with = "slo")]
    no_conformance: bool,

    /// The seed of the random order [default: the time]
    #[arg(long, value_name = "N", conflicts_with = "slo")]
    seed: Option<u64>,

    #[command(flatten)]
    slo: SloArgs,

    #[command(flatten)]
    outputs: OutputArgs,

    #[command(flatten)]
    events: EventArgs,
}

/// A wait that can be written into a path, and that our servers do not cut.
fn wait(text: &str) -> Result<Duration, String> {
    match quantity::duration(text)? {
        wait if wait > MAX_WAIT => Err("it must be at most 60s".into()),
        wait if wait.subsec_nanos() % 1_000_000 != 0 => Err("it must be whole milliseconds".into()),
        wait => Ok(wait),
    }
}

/// One measurement: which peer, and how.
#[derive(Clone, Copy, Debug)]
struct Cell {
    peer: usize,
    spec: PeerSpec,
}

/// What was chosen: our servers, which must be built, and others.
struct Choice {
    targets: Vec<Target>,
    peers: Vec<Peer>,
}

/// Measures all cells, and prints the tables.
pub(crate) fn run(args: &PeersArgs) -> Result<ExitCode> {
    if args.clients {
        return clients::run(&args.of_clients());
    }
    let choice = Choice::new(args.peer.as_deref())?;
    if args.list {
        let clients = if args.peer.is_none() { clients::list(None)? } else { String::new() };
        print(&(choice.list() + &clients))?;
        return Ok(ExitCode::SUCCESS);
    }
    let interrupt = Interrupt::install()?;
    let most = args.connections().iter().copied().max().unwrap_or(1);
    host::prepare_for(&Asked::new(most, &[]))?.iter().for_each(warn);
    if args.slo.is_given() {
        return search(args, choice, most, &interrupt);
    }
    let outputs = Outputs::prepare(&args.outputs, true)?;
    let sinks = args.events.sinks(&outputs)?;
    let Some(mut installed) = choice.install(most, &interrupt)? else { return Ok(ExitCode::from(EXIT_STATUS)) };
    ensure!(!installed.is_empty(), NOTHING_INSTALLED);
    if !args.no_conformance && !ask_conformance(&mut installed, &interrupt) {
        return Ok(ExitCode::from(EXIT_STATUS));
    }
    let cells = args.order(&installed);
    let settle = |cell: &Cell| Duration::from_secs(installed[cell.peer].peer.settle_s);
    let time: Duration = cells.iter().map(|cell| cell.spec.duration + settle(cell) + OVERHEAD).sum();
    let results = rounds::measure_all(cells, time, &outputs, &interrupt, sinks, |cell, sinks| {
        Ok(peer::run(&installed[cell.peer], &cell.spec, &interrupt, sinks))
    })?;
    let text = PeerComparison::new(&results).map_or_else(String::new, |comparison| report::peers::text(&comparison));
    rounds::conclude(&results, &text, &outputs, &interrupt)
}

/// Asks each how it keeps to HTTP/1.1. False if interrupted.
fn ask_conformance(installed: &mut [Installed], interrupt: &Interrupt) -> bool {
    let mut steps = Steps::new(installed.len(), CONFORMANCE_TIME * installed.len() as u32);
    for peer in installed {
        steps.begin(&peer.peer.name, "HTTP/1.1 conformance", CONFORMANCE_TIME);
        match peer::conformance(peer, interrupt) {
            Ok(conformance) => peer.conformance = conformance,
            Err(_) if interrupt.is_raised() => return false,
            Err(error) => say(format_args!("{}: its conformance is not known: {error:#}", peer.peer.name)),
        }
    }
    true
}

/// Finds the highest rate of each, answered at once, one after the other.
fn search(args: &PeersArgs, choice: Choice, most: usize, interrupt: &Interrupt) -> Result<ExitCode> {
    let mut bench = slo::Bench::new(&args.slo, args.duration.unwrap_or(STEP_DURATION), &args.outputs, interrupt)?;
    let mut sinks = args.events.sinks(bench.outputs())?;
    let Some(installed) = choice.install(most, interrupt)? else { return Ok(ExitCode::from(EXIT_STATUS)) };
    ensure!(!installed.is_empty(), NOTHING_INSTALLED);
    for peer in &installed {
        for connections in args.connections() {
            bench.search(|Step { rate, duration }| {
                let spec = PeerSpec { connections, duration, rate, wait_ms: 0, timeout: args.timeout, round: None };
                peer::run(peer, &spec, interrupt, &mut sinks)
            });
        }
    }
    bench.finish()
}

impl PeersArgs {
    fn connections(&self) -> Vec<usize> {
        rounds::distinct(self.connections.as_deref().unwrap_or(&[CONNECTIONS]))
    }

    /// What of it concerns load generators.
    fn of_clients(&self) -> ClientsArgs<'_> {
        ClientsArgs {
            peer: self.peer.as_deref(),
            list: self.list,
            connections: self.connections.as_deref(),
            rounds: self.rounds,
            duration: self.duration,
            seed: self.seed,
            outputs: &self.outputs,
        }
    }

    /// All cells, round after round, each round in its own random order.
    fn order(&self, installed: &[Installed]) -> Vec<Cell> {
        let waits = if self.wait.is_zero() { vec![0] } else { vec![0, self.wait.as_millis() as u64] };
        let cells_of_round = |round| {
            let mut cells = Vec::new();
            for (peer, installed) in installed.iter().enumerate() {
                for &wait_ms in waits.iter().filter(|&&wait_ms| wait_ms == 0 || installed.peer.can_wait()) {
                    cells.extend(self.connections().into_iter().map(|connections| {
                        let (duration, timeout) = (self.duration.unwrap_or(DURATION), self.timeout);
                        let round = Some(round);
                        Cell { peer, spec: PeerSpec { connections, duration, rate: None, wait_ms, timeout, round } }
                    }));
                }
            }
            cells
        };
        rounds::shuffled(self.rounds, self.seed.unwrap_or_else(rounds::seed_of_now), cells_of_round)
    }
}

impl Choice {
    /// What these names mean, each once; all without names.
    fn new(names: Option<&[String]>) -> Result<Self> {
        let known = built_in()?;
        let Some(names) = names else { return Ok(Self { targets: Target::ALL.to_vec(), peers: known }) };
        let mut choice = Self { targets: Vec::new(), peers: Vec::new() };
        for name in names {
            let peer = known.iter().find(|peer| peer.name == *name);
            match (Target::from_name(name), peer) {
                (Some(target), _) if choice.targets.contains(&target) => {}
                (Some(target), _) => choice.targets.push(target),
                (None, Some(peer)) => choice.add(peer.clone())?,
                (None, None) if name.ends_with(".toml") => choice.add(read(&PathBuf::from(name))?)?,
                (None, None) if clients::is_one(name)? => bail!(not_a_server(name)),
                (None, None) => {
                    let text =
                        format!("there is no peer {name}: --list shows those there are, and a file ends in .toml");
                    bail!(WrongArguments(text))
                }
            }
        }
        Ok(choice)
    }

    fn add(&mut self, peer: Peer) -> Result<()> {
        let is_taken =
            Target::from_name(&peer.name).is_some() || self.peers.iter().any(|other| other.name == peer.name);
        ensure!(!is_taken, WrongArguments(format!("there is more than one peer {}", peer.name)));
        self.peers.push(peer);
        Ok(())
    }

    fn list(&self) -> String {
        let ours = self.targets.iter().map(|target| (target.name().to_owned(), "of this project".to_owned()));
        let others = self.peers.iter().map(|peer| {
            let state = peer.missing().unwrap_or_else(|| "installed".to_owned());
            (peer.name.clone(), format!("{}; {state}", peer.model))
        });
        ours.chain(others).map(|(name, text)| format!("{name:<22} {text}\n")).collect()
    }

    /// Builds all that can be built, and says what is left out. `None` if interrupted.
    fn install(self, most: usize, interrupt: &Interrupt) -> Result<Option<Vec<Installed>>> {
        let Some(executables) = build::build(&self.targets, interrupt)? else { return Ok(None) };
        let mut installed = Vec::new();
        for target in &self.targets {
            let peer = ours(*target, &executables[target])?;
            installed.push(peer.install(most, interrupt)?);
        }
        for peer in self.peers {
            if let Some(why) = peer.missing() {
                say(format_args!("{} is left out: {why}", peer.name));
                continue;
            }
            let name = peer.name.clone();
            match peer.install(most, interrupt) {
                Ok(peer) => installed.push(peer),
                Err(_) if interrupt.is_raised() => return Ok(None),
                Err(error) => say(format_args!("{name} is left out: {error:#}")),
            }
        }
        Ok(Some(installed))
    }
}
