//! A task per connection on a tokio runtime.

mod codec;
mod database;
mod deadline;
mod guard;
mod http1;
mod server;
mod shared;

use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use common::config::{self, Config};
use common::program;

/// An HTTP server that gives each connection a task
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(flatten)]
    config: Config,

    /// How many threads run the tasks [default: one per CPU]
    #[arg(long, value_name = "N", value_parser = quantity::positive_count, env = "C10K_THREADS")]
    threads: Option<usize>,

    /// Who speaks HTTP: hyper, or the codec that the other three servers use
    #[arg(long, value_enum, default_value = "hyper", env = "C10K_HTTP")]
    http: Http,

    /// Burn the CPU of /cpu on the threads that run the tasks, as a careless handler does; needs --allow-chaos
    #[arg(long, value_parser = config::boolean, env = "C10K_BURN_ON_LOOP")]
    burn_on_loop: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Http {
    /// hyper, behind a guard that is as strict as the codec
    Hyper,
    /// The codec of the other three servers
    Codec,
}

impl Cli {
    fn check(&self) -> Result<(), String> {
        if self.burn_on_loop && !self.config.allows_chaos() {
            return Err("--burn-on-loop needs --allow-chaos: it stops every other task of the thread".into());
        }
        self.config.check()
    }
}

fn main() -> ExitCode {
    program::main("127.0.0.1:8084", |cli: &Cli| &cli.config, Cli::check, server::run)
}
