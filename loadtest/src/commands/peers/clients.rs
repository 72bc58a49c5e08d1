//! `loadtest peers --clients`: compares load generators on one server, in interleaved rounds.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use anyhow::{Result, bail, ensure};
use quantity::format;
use results::Target;
use results::clients::{self, ClientComparison, ClientRun, OURS};

use crate::commands::rounds;
use crate::machine::command_line::{self, WrongArguments};
use crate::machine::host;
use crate::machine::interrupt::{EXIT_STATUS, Interrupt};
use crate::machine::terminal::{print, say, warn};
use crate::machine::walls::Asked;
use crate::measure::client::{self, ClientSpec};
use crate::output::files::{self, OutputArgs, Outputs};
use crate::output::steps::Steps;
use crate::subject::build;
use crate::subject::client::{Client, built_in, read};
use crate::subject::peer;
use crate::subject::peer_file::{NOTHING_INSTALLED, not_a_client};

/// How long to start and stop a server and a load generator takes, beside the load.
const OVERHEAD: Duration = Duration::from_secs(2);
/// How long a run takes unless `-d` says otherwise.
const DURATION: Duration = Duration::from_secs(5);
/// How many connections they open unless `-c` says otherwise.
const CONNECTIONS: [usize; 2] = [200, 10_000];

/// What was asked for.
pub(super) struct ClientsArgs<'a> {
    /// Names of load generators, or files.
    pub(super) peer: Option<&'a [String]>,
    /// Only say what there is.
    pub(super) list: bool,
    /// Numbers of connections.
    pub(super) connections: Option<&'a [usize]>,
    /// How many times to run each.
    pub(super) rounds: u32,
    /// How long each run takes.
    pub(super) duration: Option<Duration>,
    /// The seed of the random order.
    pub(super) seed: Option<u64>,
    /// Where to write the comparison.
    pub(super) outputs: &'a OutputArgs,
}

/// Runs all, and prints the tables.
pub(super) fn run(args: &ClientsArgs<'_>) -> Result<ExitCode> {
    if args.list {
        print(&list(args.peer)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    let chosen = choose(args.peer)?;
    args.outputs.ensure_for_clients()?;
    let duration = args.duration.unwrap_or(DURATION);
    let text = "-d must be whole seconds with --clients: wrk takes nothing else";
    ensure!(duration.subsec_nanos() == 0, WrongArguments(text.to_owned()));
    let interrupt = Interrupt::install()?;
    let connections = rounds::distinct(args.connections.unwrap_or(&CONNECTIONS));
    let most = connections.iter().copied().max().unwrap_or(1);
    host::prepare_for(&Asked::new(most, &[]))?.iter().for_each(warn);
    let outputs = Outputs::prepare(args.outputs, true)?;
    let clients = installed(chosen);
    ensure!(!clients.is_empty(), NOTHING_INSTALLED);
    let Some(executables) = build::build(&[Target::Async], &interrupt)? else { return Ok(ExitCode::from(EXIT_STATUS)) };
    let mut comparison = ClientComparison {
        schema: clients::SCHEMA.to_owned(),
        complete: false,
        started_at: humantime::format_rfc3339_millis(SystemTime::now()).to_string(),
        host: host::describe(None),
        command: command_line::own(),
        server: client::server_command(&executables[&Target::Async], most),
        seed: args.seed.unwrap_or_else(rounds::seed_of_now),
        rounds: args.rounds,
        duration_s: duration.as_secs(),
        connections,
        clients: clients.iter().map(described).collect(),
        runs: Vec::new(),
    };
    measure(&clients, &mut comparison, &outputs, &interrupt);
    conclude(&comparison, &outputs)
}

/// Runs all in their random order, unless interrupted. The comparison is written after each.
fn measure(clients: &[Client], comparison: &mut ClientComparison, outputs: &Outputs, interrupt: &Interrupt) {
    let cells = cells(clients, comparison);
    let time = Duration::from_secs(comparison.duration_s) + OVERHEAD;
    let total = time * cells.len() as u32;
    say(format_args!("{} runs: about {}", cells.len(), format::rough_duration(total)));
    let mut steps = Steps::new(cells.len(), total);
    for (client, spec) in cells {
        let (connections, round) = (format::count(spec.connections as f64), spec.round);
        steps.begin(&client.name, &format!("{connections} connections, round {round} of {}", comparison.rounds), time);
        let run = client::run(client, &comparison.server, &spec, interrupt);
        if interrupt.is_raised() {
            return;
        }
        if let Some(failure) = &run.failure {
            say(format_args!("{} failed: {failure}", client.name));
        }
        comparison.runs.push(run);
        // The last write repeats one that fails.
        let _ = outputs.write_clients(comparison, false);
    }
    comparison.complete = true;
}

/// All runs, round after round, each round in its own random order.
fn cells<'a>(clients: &'a [Client], comparison: &ClientComparison) -> Vec<(&'a Client, ClientSpec)> {
    let seconds = comparison.duration_s;
    let cells_of_round = |round| {
        let specs = comparison.connections.iter().map(|&connections| ClientSpec { connections, seconds, round });
        specs.flat_map(|spec| clients.iter().map(move |client| (client, spec))).collect()
    };
    rounds::shuffled(comparison.rounds, comparison.seed, cells_of_round)
}

/// Writes the files, prints the text, and returns the exit status.
fn conclude(comparison: &ClientComparison, outputs: &Outputs) -> Result<ExitCode> {
    let written = outputs.write_clients(comparison, true).map_err(|error| files::rescue(comparison, error));
    let printed = print(&report::clients::text(comparison));
    written.and(printed)?;
    Ok(match comparison.complete {
        false => ExitCode::from(EXIT_STATUS),
        true if comparison.runs.iter().all(ClientRun::is_sound) => ExitCode::SUCCESS,
        true => ExitCode::FAILURE,
    })
}

/// What these names mean; all that loadtest knows without names.
fn choose(names: Option<&[String]>) -> Result<Vec<Client>> {
    let known = built_in()?;
    let Some(names) = names else { return Ok(known) };
    let mut chosen: Vec<Client> = Vec::new();
    for name in names {
        let is_known = |name: &str| known.iter().find(|client| client.name == name);
        let client = match is_known(name) {
            Some(client) => client.clone(),
            None if name.ends_with(".toml") => read(&PathBuf::from(name))?,
            None if is_server(name)? => bail!(not_a_client(name)),
            None => bail!(WrongArguments(format!(
                "there is no load generator {name}: --list shows those there are, and a file ends in .toml"
            ))),
        };
        // Nobody's file has the name of one that loadtest knows: whose figures are in the table would not be clear.
        let is_taken = chosen.iter().any(|other| other.name == client.name)
            || (client.name != *name && is_known(&client.name).is_some());
        ensure!(!is_taken, WrongArguments(format!("there is more than one peer {}", client.name)));
        chosen.push(client);
    }
    Ok(chosen)
}

/// Whether loadtest knows a load generator of this name.
pub(super) fn is_one(name: &str) -> Result<bool> {
    Ok(built_in()?.iter().any(|client| client.name == name))
}

fn is_server(name: &str) -> Result<bool> {
    Ok(Target::from_name(name).is_some() || peer::built_in()?.iter().any(|peer| peer.name == name))
}

/// The load generators, each with how to install it.
pub(super) fn list(names: Option<&[String]>) -> Result<String> {
    let state = |client: &Client| match client.missing() {
        Some(missing) => missing,
        None if client.name == OURS => "of this project".to_owned(),
        None => "installed".to_owned(),
    };
    let line = |client: &Client| format!("{:<22} load generator (--clients); {}\n", client.name, state(client));
    Ok(choose(names)?.iter().map(line).collect())
}

/// Those that can be run; the others are named.
fn installed(chosen: Vec<Client>) -> Vec<Client> {
    let is_installed = |client: &Client| match client.missing() {
        Some(why) => {
            say(format_args!("{} is left out: {why}", client.name));
            false
        }
        None => true,
    };
    chosen.into_iter().filter(is_installed).collect()
}

fn described(client: &Client) -> clients::Client {
    clients::Client { name: client.name.clone(), version: client.version() }
}
