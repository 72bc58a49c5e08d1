//! A reactor holds every connection; a fixed pool of workers waits for the database.

mod connection;
mod jobs;
mod pool;
mod server;
mod sync;

use std::process::ExitCode;

use clap::Parser;
use common::config::Config;
use common::program;

/// An HTTP server that holds connections in one thread and blocks in a fixed pool of others
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(flatten)]
    config: Config,

    /// How many workers wait for the database: as many queries run at once, the others are queued
    #[arg(long, value_name = "N", default_value = "256", value_parser = quantity::positive_count, env = "C10K_WORKERS")]
    workers: usize,

    /// How many requests may wait for a worker; the next one is answered with 503
    #[arg(long, value_name = "N", default_value = "12000", value_parser = quantity::positive_count, env = "C10K_QUEUE")]
    queue: usize,
}

fn main() -> ExitCode {
    program::main("127.0.0.1:8083", |cli: &Cli| &cli.config, |cli| cli.config.check(), server::run)
}
