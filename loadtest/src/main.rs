//! Holds 10,000 connections against a server, and says what that cost: RAM, kernel's part included, and latency.

#![forbid(unsafe_code)]

mod admin;
mod args;
mod attack;
mod connection;
mod host;
mod interrupt;
mod json;
mod latency;
mod launch;
mod load;
mod memory;
mod report;
mod result;
mod run;
mod server;
mod suite;
mod target;
mod user;

use std::process::ExitCode;

use clap::Parser as _;

use crate::args::{Cli, Command};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome = match cli.command {
        Some(Command::Launch(launch)) => launch::exec(&launch),
        None => suite::run(&cli.options),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}
