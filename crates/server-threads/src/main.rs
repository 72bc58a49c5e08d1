//! A thread per connection, each with a small stack of its own.

mod server;
mod signal_stack;

use std::process::ExitCode;

use clap::Parser;
use common::config::{self, Config};
use common::program;

/// An HTTP server that gives each connection a thread
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(flatten)]
    config: Config,

    /// The stack of each thread: 128K, 1M; only what is touched costs RAM
    #[arg(long, value_name = "BYTES", default_value = "128K", value_parser = stack_bytes, env = "C10K_STACK_SIZE")]
    stack_size: usize,
}

/// A panic that prints its backtrace needs nearly 32 KiB.
fn stack_bytes(text: &str) -> Result<usize, String> {
    match config::bytes(text)? {
        bytes @ 32_768..=1_073_741_824 => Ok(bytes),
        _ => Err("it must be from 32K to 1G".into()),
    }
}

fn main() -> ExitCode {
    program::main("127.0.0.1:8082", |cli: &Cli| &cli.config, |cli| cli.config.check(), server::run)
}
