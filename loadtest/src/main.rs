//! Holds 10,000 connections against a server, and says what that cost: RAM, kernel's part included, and latency.

#![forbid(unsafe_code)]

mod admin;
mod args;
mod attack;
mod cause;
mod chart;
mod compare;
mod conclude;
mod condition;
mod connection;
mod cpus;
mod figure;
mod format;
mod host;
mod html;
mod interrupt;
mod lag;
mod latency;
mod launch;
mod live;
mod load;
mod machine;
mod memory;
mod merge;
mod null;
mod output;
mod pace;
mod plan;
mod remote;
mod report;
mod requests;
mod result;
mod review;
mod run;
mod series;
mod serve;
mod server;
mod statistics;
mod stdout;
mod stream;
mod subject;
mod suite;
mod sweep;
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
        Task::Report(args) => review::run(&args),
        Task::Sweep(args) => sweep::run(&args),
        Task::Plan(args) => plan::run(&args),
        Task::Serve(options) => serve::run(*options),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}
