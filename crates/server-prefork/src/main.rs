//! A process per connection, forked before it is needed.

mod database;
mod flags;
mod process;
mod ram;
mod server;
mod shared;
mod supervisor;

use std::process::ExitCode;

use clap::Parser;
use common::config::Config;
use common::program;

/// An HTTP server that gives each connection a process
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(flatten)]
    config: Config,

    /// How many idle children to keep ready: as many are forked at the start, and whenever fewer are left
    #[arg(long, value_name = "N", default_value = "32", value_parser = quantity::positive_count, env = "C10K_START")]
    start: usize,
}

fn main() -> ExitCode {
    program::main("127.0.0.1:8081", |cli: &Cli| &cli.config, |cli| cli.config.check(), server::run)
}
