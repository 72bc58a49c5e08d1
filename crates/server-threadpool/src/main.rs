//! A reactor holds every connection; a fixed pool of workers waits for the database.

mod connection;
mod pool;
mod server;

use std::process::ExitCode;

use clap::Parser;
use common::config::{self, Config};
use common::log;

/// An HTTP server that holds connections in one thread and blocks in a fixed pool of others
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(flatten)]
    config: Config,

    /// How many workers wait for the database: as many queries run at once, the others are queued
    #[arg(long, value_name = "N", default_value = "256", value_parser = config::at_least_1, env = "C10K_WORKERS")]
    workers: usize,

    /// How many requests may wait for a worker; the next one is answered with 503
    #[arg(long, value_name = "N", default_value = "12000", value_parser = config::at_least_1, env = "C10K_QUEUE")]
    queue: usize,
}

fn main() -> ExitCode {
    let cli: Cli = config::parse("127.0.0.1:8083");
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
