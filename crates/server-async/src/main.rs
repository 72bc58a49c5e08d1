//! A task per connection, on a tokio runtime or on io_uring.

mod codec;
mod database;
mod deadline;
mod guard;
mod http1;
mod pipeline;
mod server;
mod session;
mod shared;
mod uring;

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

    /// What drives the codec: epoll, by way of tokio, or io_uring; needs --http codec
    #[arg(long, value_enum, default_value = "epoll", env = "C10K_DRIVER")]
    driver: Driver,

    /// How many queries may be on their way at once on each connection to a real database, which answers them one after
    /// another; more than one saves time between them, and gains nothing for queries that sleep. One that takes longer than
    /// --db-timeout ends all that are on their way with it
    #[arg(
        long, value_name = "N", value_parser = quantity::positive_count, default_value = "1",
        requires = "db", conflicts_with = "db_hold", env = "C10K_DB_PIPELINE"
    )]
    db_pipeline: usize,

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

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Driver {
    /// The kernel says what is ready; tokio reads and writes
    Epoll,
    /// The kernel reads and writes; needs Linux 6.1
    Uring,
}

impl Cli {
    fn check(&self) -> Result<(), String> {
        if self.burn_on_loop && !self.config.allows_chaos() {
            return Err("--burn-on-loop needs --allow-chaos: it stops every other task of the thread".into());
        }
        if self.driver == Driver::Uring && self.http != Http::Codec {
            return Err("--driver uring needs --http codec: hyper is not driven by it".into());
        }
        if self.driver == Driver::Uring && self.config.database.db.is_some() {
            return Err("--db needs --driver epoll: with io_uring, this server does not ask a real database yet".into());
        }
        self.config.check()
    }
}

fn main() -> ExitCode {
    program::main(
        "127.0.0.1:8084",
        |cli: &Cli| &cli.config,
        Cli::check,
        |cli| match cli.driver {
            Driver::Epoll => server::run(cli),
            Driver::Uring => uring::run(cli),
        },
    )
}
