//! A process per connection, forked before it is needed.

mod process;
mod server;
mod supervisor;

use std::process::ExitCode;

use clap::Parser;
use common::config::{self, Config};
use common::log;

/// An HTTP server that gives each connection a process
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(flatten)]
    config: Config,

    /// How many idle children to keep ready: as many are forked at the start, and whenever fewer are left
    #[arg(long, value_name = "N", default_value = "32", value_parser = config::at_least_1, env = "C10K_START")]
    start: usize,
}

fn main() -> ExitCode {
    let cli: Cli = config::parse("127.0.0.1:8081");
    log::start(&cli.config);
    match server::run(&cli) {
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
