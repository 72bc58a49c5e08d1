//! `ramledger`: where the RAM of a command, a process, a cgroup or a container is.

mod account;
mod cli;
mod command;
mod join;
mod output;
mod running;

use std::io::{self, Write as _};
use std::process::ExitCode;

use anyhow::Result;

use crate::cli::{Cli, What};
use crate::output::Output;

/// The exit status of a failure of our own, as of env(1) and timeout(1): those of the command are its own.
const OWN_FAILURE: u8 = 125;

fn main() -> ExitCode {
    if let Some(status) = join::join_if_asked() {
        return ExitCode::from(status);
    }
    let cli = cli::parse();
    let failure = if matches!(cli.what(), What::Command(_)) { OWN_FAILURE } else { 1 };
    measure(&cli).unwrap_or_else(|error| {
        // Nobody may be reading.
        let _ = writeln!(io::stderr(), "ramledger: {error:#}");
        ExitCode::from(failure)
    })
}

fn measure(cli: &Cli) -> Result<ExitCode> {
    // Before anything runs: what cannot be written need not be measured.
    let output = Output::new(cli)?;
    match cli.what() {
        What::Command(argv) => command::measure(argv, cli, output),
        What::Running(subject) => running::measure(&subject, cli, output),
    }
}
