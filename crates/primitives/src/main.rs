//! `primitives`: the measurements of this crate, one JSON line for each finding.

use std::io::{Write as _, stdout};
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use primitives::keep::{self, Kind};
use primitives::switch::Effort;
use primitives::{create, facts, refill, sharing, switch};
use results::claim::Finding;

/// Measure what one process, thread, task and coroutine cost
///
/// Prints a JSON object a line: a figure with its 95 % interval, or what is missing and why. `loadtest claims` runs all of
/// it, and compares the figures with an article's.
#[derive(Parser, Debug)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Create processes, threads, tasks and coroutines: until the call returns, the first instruction runs, and all is over
    Create {
        /// How many of each
        #[arg(long, value_name = "N", default_value = "3000", value_parser = quantity::positive_count)]
        samples: usize,
        /// Fork also by a parent with so much memory, separated by commas: 16MiB, 1GiB
        #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = quantity::positive_bytes)]
        rss: Vec<u64>,
    },
    /// Switch between threads, processes, tasks and coroutines
    Switch(EffortArgs),
    /// Walk memory after a switch: what caches and TLB have lost
    Refill(EffortArgs),
    /// See what is shared between processes, threads and tasks, and which updates are lost
    Sharing,
    /// Keep so many until a signal comes; says "ready" once they are there
    Keep {
        /// What to keep
        kind: Kind,
        /// How many
        #[arg(value_parser = quantity::count)]
        count: usize,
        /// The stack of each thread or coroutine
        #[arg(long, value_name = "BYTES", default_value = "2MiB", value_parser = quantity::positive_bytes)]
        stack: u64,
        /// How much of its stack each uses
        #[arg(long, value_name = "BYTES", default_value = "0", value_parser = quantity::bytes)]
        touch_stack: u64,
    },
    /// Print what of this machine decides the cost of a switch, as a JSON object
    Facts,
}

#[derive(clap::Args, Debug)]
struct EffortArgs {
    /// How often to start both sides anew
    #[arg(long, value_name = "N", default_value = "10", value_parser = quantity::positive_count)]
    rounds: usize,
    /// Samples in each round
    #[arg(long, value_name = "N", default_value = "200", value_parser = quantity::positive_count)]
    batches: usize,
    /// How often each side wakes the other in a sample
    #[arg(long, value_name = "N", default_value = "20", value_parser = quantity::positive_count)]
    wakes: usize,
}

impl EffortArgs {
    fn effort(&self) -> Effort {
        Effort { rounds: self.rounds, batches: self.batches, wakes: self.wakes }
    }
}

fn main() -> ExitCode {
    // Before anything else: it tells when this program began.
    let outcome = match std::env::args_os().nth(1) {
        Some(argument) if argument == create::FIRST_INSTRUCTION => create::report_first_instruction(),
        _ => run(&Cli::parse().command),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: &Command) -> Result<()> {
    let mut broken = None;
    let mut sink = |finding: Finding| {
        if let Err(error) = print(&finding) {
            broken = Some(error);
        }
    };
    match command {
        Command::Create { samples, rss } => create::measure(*samples, rss, &mut sink)?,
        Command::Switch(effort) => switch::measure(effort.effort(), &mut sink)?,
        Command::Refill(effort) => refill::measure(effort.effort(), &mut sink)?,
        Command::Sharing => sharing::measure(&mut sink)?,
        Command::Keep { kind, count, stack, touch_stack } => {
            keep::keep(*kind, *count, *stack as usize, *touch_stack as usize)?;
        }
        Command::Facts => writeln!(stdout(), "{}", serde_json::to_string(&facts::facts())?)?,
    }
    broken.map_or(Ok(()), Err)
}

fn print(finding: &Finding) -> Result<()> {
    let mut stdout = stdout();
    writeln!(stdout, "{}", serde_json::to_string(finding)?)?;
    Ok(stdout.flush()?)
}
