//! A thread per connection, each with a small stack of its own.

mod server;

use std::process::ExitCode;

use clap::Parser;
use common::config::{self, Config};
use common::log;

/// An HTTP server that gives each connection a thread
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(flatten)]
    config: Config,

    /// The stack of each thread, in bytes; only what is touched costs RAM
    #[arg(long, value_name = "BYTES", default_value_t = 131_072, value_parser = stack_bytes, env = "C10K_STACK_SIZE")]
    stack_size: usize,
}

/// A panic that prints its backtrace needs nearly 32 KiB.
fn stack_bytes(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(bytes @ 32_768..=1_073_741_824) => Ok(bytes),
        Ok(_) => Err("it must be from 32768 to 1073741824".into()),
        Err(error) => Err(format!("{error}")),
    }
}

fn main() -> ExitCode {
    let cli: Cli = config::parse("127.0.0.1:8082");
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
