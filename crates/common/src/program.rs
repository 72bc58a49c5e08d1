//! What every server's `main` does.

use std::process::ExitCode;

use anyhow::Result;
use clap::{CommandFactory, FromArgMatches};

use crate::allocator;
use crate::config::{self, Config};
use crate::log;

/// Parses the command line, starts the log, and runs the server. With bad flags, also those that `check` says are wrong
/// together, the process ends with status 2, and status 1 is a server that could not start.
pub fn main<Cli: CommandFactory + FromArgMatches>(
    default_listen: &'static str,
    config: impl FnOnce(&Cli) -> &Config,
    check: impl FnOnce(&Cli) -> Result<(), String>,
    run: impl FnOnce(&Cli) -> Result<()>,
) -> ExitCode {
    allocator::give_back_large_blocks();
    let cli: Cli = config::parse(default_listen);
    let config = config(&cli);
    log::start(config.log_format, config.log_level);
    if let Err(why) = check(&cli) {
        log::error!("{why}");
        return ExitCode::from(2);
    }
    match run(&cli) {
        Ok(()) => {
            log::info!("stopped");
            ExitCode::SUCCESS
        }
        Err(error) => {
            log::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
