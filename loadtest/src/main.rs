//! Holds 10,000 connections against a server and reports what they cost: RAM, including kernel memory, and latency.

#![deny(unsafe_code)]
#![deny(clippy::print_stdout, clippy::print_stderr)]

mod cli;
mod commands;
mod experiments;
mod fleet;
mod machine;
mod measure;
mod output;
mod subject;
mod web;
mod wrk;

use std::process::ExitCode;

use crate::cli::Task;
use crate::commands::{claims, db, doctor, measure as targets, peers, plan, report, serve, sweep, url, worker};
use crate::machine::command_line::WrongArguments;
use crate::machine::{interrupt, terminal};
use crate::subject::{launch, null};

/// The exit status for wrong arguments, which is clap's.
const WRONG_ARGUMENTS: u8 = 2;

fn main() -> ExitCode {
    let outcome = match cli::parse() {
        Task::Guard(args) => launch::guard(args),
        Task::Launch(args) => launch::exec(&args),
        Task::NullServer { port } => null::serve(port),
        Task::Measure(options) => targets::run(&options),
        Task::Load(options) => url::run(&options),
        Task::Report(args) => report::run(&args),
        Task::Sweep(args) => sweep::run(&args),
        Task::Plan(args) => plan::run(&args).map_err(|error| WrongArguments::from(&error).into()),
        Task::Doctor(args) => doctor::run(&args).map_err(|error| WrongArguments::from(&error).into()),
        Task::Claims(args) => claims::run(&args),
        Task::Peers(args) => peers::run(&args),
        Task::Db(args) => db::run(&args),
        Task::Worker(args) => worker::run(&args),
        Task::Serve(options) => serve::run(*options),
    };
    match outcome {
        Ok(_) if terminal::has_lost() && !interrupt::has_come() => ExitCode::FAILURE,
        Ok(status) => status,
        Err(error) => {
            terminal::say(format_args!("error: {error:#}"));
            match error.downcast_ref::<WrongArguments>() {
                _ if interrupt::has_come() => ExitCode::from(interrupt::EXIT_STATUS),
                Some(_) => ExitCode::from(WRONG_ARGUMENTS),
                None => ExitCode::FAILURE,
            }
        }
    }
}
