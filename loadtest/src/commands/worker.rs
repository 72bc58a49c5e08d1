//! `loadtest worker`: runs users for a loadtest with `--workers`.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::{ArgGroup, Args};
use load::net::Sources;

use super::flags::time;
use crate::fleet::{TokenArgs, worker};
use crate::machine::command_line::WrongArguments;
use crate::machine::interrupt::{EXIT_STATUS, Interrupt};
use crate::machine::terminal::print;

const EXAMPLES: &str = "\
Examples:
  Two machines load a third. Each gets the token in its environment, and
  waits for its orders:
    export C10K_TOKEN=...
    loadtest worker --listen 10.0.0.2:9190
    loadtest worker --listen 10.0.0.3:9190
  and the coordinator, with the same token:
    loadtest -c 20k --workers 10.0.0.2:9190,10.0.0.3:9190 http://10.0.0.1:8084/

  The other way round, for jobs of a scheduler: four workers join the
  coordinator, and end with it:
    loadtest -c 20k --workers 4@0.0.0.0:9190 http://10.0.0.1:8084/
    loadtest worker --join coordinator:9190

What is sent is not encrypted: use a network of your own, or a tunnel.";

/// Run users for a loadtest with --workers, on this machine
///
/// Both sides prove that they know the same token, which is in C10K_TOKEN or in a file, and is never sent. With
/// `--workers N`, loadtest starts its workers itself.
#[derive(Args, Debug)]
#[command(
    after_long_help = EXAMPLES,
    after_help = "--help shows examples.",
    group = ArgGroup::new("coordinator").required(true).args(["join", "listen"])
)]
pub(crate) struct WorkerArgs {
    /// Work for the coordinator that waits here, and end with it
    #[arg(long, value_name = "HOST:PORT")]
    join: Option<String>,

    /// Work for one coordinator after the other that connects here, until stopped
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,

    /// With --join: how long to try to reach the coordinator
    #[arg(long, value_name = "TIME", default_value = "1m", value_parser = patience)]
    patience: Duration,

    #[command(flatten)]
    token: TokenArgs,

    /// Connect from these addresses of this machine in turn: 10.0.0.2-10.0.0.9, or 10.0.0.2,10.0.1.2
    #[arg(long, value_name = "ADDR-ADDR|ADDR,…")]
    bind: Option<Sources>,
}

/// Zero is a time here: not to try again.
fn patience(text: &str) -> Result<Duration, String> {
    if quantity::duration(text) == Ok(Duration::ZERO) { Ok(Duration::ZERO) } else { time(text) }
}

/// Works until the coordinator is gone, or until stopped.
pub(crate) fn run(args: &WorkerArgs) -> Result<ExitCode> {
    let interrupt = Interrupt::install()?;
    let sources = args.bind.clone().unwrap_or_default();
    sources.check().map_err(|error| WrongArguments::from(&error))?;
    match (&args.join, args.listen) {
        (Some(address), _) => worker::join(address, args.patience, &args.token, &sources, &interrupt)?,
        (None, Some(address)) => {
            worker::listen(address, &args.token, &sources, &interrupt, |at| print(&format!("listening on {at}\n")))?;
        }
        (None, None) => {}
    }
    Ok(if interrupt.is_raised() { ExitCode::from(EXIT_STATUS) } else { ExitCode::SUCCESS })
}
