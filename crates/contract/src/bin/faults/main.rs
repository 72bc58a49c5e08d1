//! Real faults, on a server that holds many connections: what survives, and what is lost?
//!
//! Each fault meets a fresh server. Every connection has asked once before, and asks again after. It is no test: `scripts/faults`
//! runs it against several servers and makes a table of its lines.

mod fault;

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use contract::trial::{Crowd, ServerArgs, Subject};

use crate::fault::Fault;

/// Causes real faults in a server that holds many connections, and says what survived
#[derive(Parser)]
#[command(version)]
struct Cli {
    /// How many connections the server holds
    #[arg(short, long, value_name = "N", default_value_t = 10_000)]
    connections: usize,

    /// Only these faults
    #[arg(long, value_name = "FAULT", value_enum)]
    only: Vec<Fault>,

    #[command(flatten)]
    server: ServerArgs,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let faults = if cli.only.is_empty() { Fault::ALL.to_vec() } else { cli.only.clone() };
    let mut is_all_well = true;
    for fault in faults {
        match meet(&cli, fault) {
            Ok(Some(outcome)) => {
                is_all_well &= outcome.is_well();
                println!("{}", outcome.line(&cli.server.label, fault));
            }
            Ok(None) => println!("{}\t{}\tnot tried: {}", cli.server.label, fault.name(), fault.why_not()),
            Err(error) => {
                is_all_well = false;
                println!("{}\t{}\tfailed: {error}", cli.server.label, fault.name());
            }
        }
    }
    if is_all_well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What became of a server and its connections.
struct Outcome {
    /// Whether a new connection was answered in the end, and how long after the fault.
    recovered_after: Option<Duration>,
    /// Connections that were cut, though the fault did not concern them.
    lost: usize,
    /// Connections that the fault took with it, as it had to.
    taken: usize,
    /// Whether CPU was used though nobody asked for anything.
    is_busy: bool,
    /// Descriptors that stayed open after all connections were closed.
    leaked_descriptors: usize,
    zombies: usize,
    /// Processes that were there after the end.
    orphans: usize,
}

/// Starts the server, lets the fault happen, and looks. `None` if the fault cannot happen to this server, or not here.
fn meet(cli: &Cli, fault: Fault) -> anyhow::Result<Option<Outcome>> {
    let mut subject = Subject::start(&cli.server)?;
    let descriptors_before = subject.descriptors();
    let mut crowd = Crowd::connect(subject.address, cli.connections)?;
    let Some(effect) = fault.cause(&mut subject, &mut crowd)? else { return Ok(None) };
    let recovered_after = if effect.ends_server { None } else { subject.time_until_answer(effect.since) };
    let survivors = crowd.ask_again();
    let cut = cli.connections - survivors;
    let (is_busy, zombies) = (subject.is_busy(), subject.zombies());
    drop(crowd);
    let leaked_descriptors = subject.descriptors_above(descriptors_before);
    Ok(Some(Outcome {
        recovered_after,
        lost: cut.saturating_sub(effect.may_take).saturating_sub(effect.answered),
        taken: cut.min(effect.may_take),
        is_busy,
        leaked_descriptors,
        zombies,
        orphans: subject.stop(),
    }))
}

impl Outcome {
    fn is_well(&self) -> bool {
        self.lost == 0 && !self.is_busy && self.orphans == 0
    }

    fn line(&self, label: &str, fault: Fault) -> String {
        let recovered = self.recovered_after.map_or("-".into(), |after| format!("{} ms", after.as_millis()));
        let Self { lost, taken, is_busy, leaked_descriptors, zombies, orphans, .. } = self;
        let busy = if *is_busy { "yes" } else { "no" };
        let name = fault.name();
        format!("{label}\t{name}\t{recovered}\t{taken}\t{lost}\t{busy}\t{leaked_descriptors}\t{zombies}\t{orphans}")
    }
}
