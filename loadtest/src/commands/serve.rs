//! `loadtest serve`: measures, writes the results to a folder, and serves it until stopped.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result};
use axum::Router;
use clap::Args;
use common::listener;
use results::{Cause, RunResult};
use tokio::net::TcpListener;
use tokio::runtime::Builder;
use tokio::time::sleep;
use tower_http::services::ServeDir;

use super::flags::Flags;
use super::measure::{self, MeasureOptions};
use crate::machine::interrupt::{EXIT_STATUS, Interrupt};
use crate::machine::terminal::say;

const BACKLOG: u32 = 128;
/// How often to check whether to stop.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// Measure, write the results to a folder and serve it, as the container demo does
#[derive(Args, Debug)]
pub(crate) struct ServeArgs {
    /// Where to serve the folder after the runs, with the page of charts as its index
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9000")]
    listen: SocketAddr,

    /// The folder for index.html, results.json, results.csv and results.md, rewritten after each run
    #[arg(long, value_name = "DIR", default_value = "results")]
    out: PathBuf,

    /// Exit after the runs instead of serving: with status 0 if every server was measured, which includes one that
    /// failed at its RAM limit
    #[arg(long)]
    once: bool,

    #[command(flatten)]
    flags: Flags,
}

/// What to measure, and what to do with the results.
#[derive(Debug)]
pub(crate) struct ServeOptions {
    listen: SocketAddr,
    out: PathBuf,
    once: bool,
    measure: MeasureOptions,
}

impl ServeArgs {
    /// Validates the flags.
    ///
    /// # Errors
    /// There is no target, or a flag is wrong.
    pub(crate) fn options(self) -> Result<ServeOptions, clap::Error> {
        let Self { listen, out, once, flags } = self;
        let measure = flags.measure()?;
        if measure.slo.is_given() {
            let why = "serve shows no search: leave out --slo, or use `loadtest --target … --slo …`\n";
            return Err(clap::Error::raw(clap::error::ErrorKind::ArgumentConflict, why));
        }
        Ok(ServeOptions { listen, out, once, measure })
    }
}

/// Measures, and serves.
pub(crate) fn run(mut options: ServeOptions) -> Result<ExitCode> {
    let ServeOptions { listen, ref out, once, .. } = options;
    fs::create_dir_all(out).with_context(|| format!("cannot create --out {}", out.display()))?;
    options.measure.outputs = options.measure.outputs.or_in(out);
    // Bind before the runs, to find out now if the port is taken.
    let listener = if once { None } else { Some(listener::bind("--listen", listen, BACKLOG)?) };
    let interrupt = Interrupt::install()?;
    let results = measure::measure(&options.measure, &interrupt)?;
    if let Some(listener) = listener.filter(|_| !interrupt.is_raised()) {
        let address = listener.local_addr()?;
        // "All addresses" is not an address to visit.
        let host = if address.ip().is_unspecified() { "localhost".into() } else { address.ip().to_string() };
        say(format_args!("serving the report at http://{host}:{}/ until stopped", address.port()));
        serve(listener, out.clone(), &interrupt)?;
        return Ok(ExitCode::SUCCESS);
    }
    Ok(match results.iter().all(is_measured) {
        _ if interrupt.is_raised() => ExitCode::from(EXIT_STATUS),
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

/// Whether there is a result, which includes a server that failed for a known cause.
fn is_measured(result: &RunResult) -> bool {
    let is_fault = matches!(result.cause, Some(Cause::NotStarted | Cause::Impossible | Cause::Other));
    result.is_sound() || !is_fault
}

fn serve(listener: std::net::TcpListener, out: PathBuf, interrupt: &Interrupt) -> Result<()> {
    listener.set_nonblocking(true)?;
    let runtime = Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .context("cannot start a thread to serve with")?;
    runtime.block_on(async {
        let server = axum::serve(TcpListener::from_std(listener)?, Router::new().fallback_service(ServeDir::new(out)));
        tokio::select! {
            ended = server.into_future() => ended.context("cannot serve the report"),
            () = stopped(interrupt) => Ok(()),
        }
    })
}

async fn stopped(interrupt: &Interrupt) {
    while !interrupt.is_raised() {
        sleep(POLL_INTERVAL).await;
    }
}
