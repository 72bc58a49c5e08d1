//! Holds 10,000 connections against a server, and says what that cost: RAM, kernel's part included, and latency.

#![forbid(unsafe_code)]

mod admin;
mod args;
mod attack;
mod conclude;
mod connection;
mod cpus;
mod host;
mod interrupt;
mod json;
mod lag;
mod latency;
mod launch;
mod load;
mod machine;
mod memory;
mod null;
mod pace;
mod remote;
mod reply;
mod report;
mod requests;
mod result;
mod run;
mod series;
mod server;
mod stdout;
mod stream;
mod subject;
mod suite;
mod target;
mod user;
mod warning;
mod wrk;

use std::process::ExitCode;

use crate::args::Task;

fn main() -> ExitCode {
    let outcome = match args::parse() {
        Task::Launch(launch) => launch::exec(&launch),
        Task::NullServer => null::serve(),
        Task::Measure(options) => suite::run(&options),
        Task::Load(options) => wrk::run(&options),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}
