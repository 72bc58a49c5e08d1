//! `loadtest serve`: the live page, where runs are watched, started, stopped and replayed.

use std::env;
use std::fs;
use std::net::{SocketAddr, TcpListener as StdTcpListener};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use axum::Router;
use clap::Args;
use clap::error::ErrorKind;
use common::listener;
use results::{Cause, RunResult, Target};
use tokio::net::TcpListener;
use tokio::runtime::Builder;
use tokio::time::sleep;

use super::flags::Flags;
use super::measure::{self, MeasureOptions};
use crate::machine::interrupt::{EXIT_STATUS, Interrupt};
use crate::machine::terminal::say;
use crate::output::file::OutputFile;
use crate::subject::remote::Remote;
use crate::web::{self, Access, Bounds, Job, Keep, Runner, Site};

const BACKLOG: u32 = 128;
/// How often to check whether to stop.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

const EXAMPLES: &str = "\
Examples:
  Watch four servers fill, and play with them, at http://127.0.0.1:9000/:
    loadtest serve --target all

  Only the page, to start runs from it:
    loadtest serve

  Watch a run of before, or keep it as one HTML file that needs no server:
    loadtest --target all --events run.jsonl
    loadtest serve --replay run.jsonl
    loadtest serve --replay run.jsonl --html run.html

Each run is a process of its own, one at a time; the next one waits. Its
events are kept in the folder runs of --out, and are there after a restart.
On another address than loopback, whoever connects can watch; starting and
stopping needs the token in the address that is printed once.";

/// Serve the live page: watch runs, start and stop them, compare and replay them
///
/// With --target, a run begins at once and its results are also written to --out.
#[derive(Args, Debug)]
#[command(after_long_help = EXAMPLES, after_help = "--help shows examples.")]
pub(crate) struct ServeArgs {
    /// Where to serve the page; other addresses than loopback need a token to start runs
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9000")]
    listen: SocketAddr,

    /// The folder of the runs, and of index.html, results.json, results.csv and results.md of --target, rewritten after
    /// each server
    #[arg(long, value_name = "DIR", default_value = "results")]
    out: PathBuf,

    /// Exit after the runs instead of serving: with status 0 if every server was measured, which includes one that
    /// failed at its RAM limit
    #[arg(long, requires = "target")]
    once: bool,

    /// Show this run again, from a file of --events or of the folder runs, and start nothing
    #[arg(long, value_name = "FILE", conflicts_with_all = ["target", "out"])]
    replay: Option<PathBuf>,

    /// Write the page with the run in it to this file, and serve nothing
    #[arg(long, value_name = "FILE", requires = "replay")]
    html: Option<PathBuf>,

    #[command(flatten)]
    flags: Flags,
}

/// What to measure, and what to do with the results.
#[derive(Debug)]
pub(crate) enum ServeOptions {
    /// Measure, write, and end.
    Once {
        /// The folder for the results.
        out: PathBuf,
        /// What to measure.
        measure: MeasureOptions,
    },
    /// Show a run of before.
    Replay {
        /// Where to serve it.
        listen: SocketAddr,
        /// Its events.
        file: PathBuf,
        /// The file to write instead of serving.
        html: Option<PathBuf>,
    },
    /// Serve the page.
    Page {
        /// Where.
        listen: SocketAddr,
        /// The folder for the runs.
        out: PathBuf,
        /// What to measure first.
        measure: Option<MeasureOptions>,
    },
}

impl ServeArgs {
    /// Validates the flags.
    ///
    /// # Errors
    /// A flag is wrong.
    pub(crate) fn options(self) -> Result<ServeOptions, clap::Error> {
        let Self { listen, out, once, replay, html, flags } = self;
        if let Some(file) = replay {
            return Ok(ServeOptions::Replay { listen, file, html });
        }
        let measure = if flags.has_target() { Some(flags.measure()?) } else { None };
        if measure.as_ref().is_some_and(|measure| measure.slo.is_given()) {
            let why = "serve shows no search: leave out --slo, or use `loadtest --target … --slo …`\n";
            return Err(clap::Error::raw(ErrorKind::ArgumentConflict, why));
        }
        match measure {
            Some(measure) if once => Ok(ServeOptions::Once { out, measure }),
            Some(measure) if measure.events.is_some() => {
                let why = "serve keeps the events in the folder runs of --out: leave --events out\n";
                Err(clap::Error::raw(ErrorKind::ArgumentConflict, why))
            }
            measure => Ok(ServeOptions::Page { listen, out, measure }),
        }
    }
}

/// Measures, and serves.
pub(crate) fn run(options: ServeOptions) -> Result<ExitCode> {
    match options {
        ServeOptions::Once { out, measure } => run_once(&out, measure),
        ServeOptions::Replay { file, html: Some(html), .. } => {
            let kept = Keep::of_file(&file)?.last().context("there is no run")?;
            OutputFile::prepare("--html", &html)?.write(web::replay_page(&kept)?.as_bytes())?;
            Ok(ExitCode::SUCCESS)
        }
        ServeOptions::Replay { listen, file, html: None } => {
            let keep = Arc::new(Keep::of_file(&file)?);
            serve(listen, keep, None, None)
        }
        ServeOptions::Page { listen, out, measure } => {
            fs::create_dir_all(&out).with_context(|| format!("cannot create --out {}", out.display()))?;
            let keep = Arc::new(Keep::open(&out.join("runs"))?);
            serve(listen, keep, Some(&out), measure.as_ref())
        }
    }
}

fn run_once(out: &Path, mut measure: MeasureOptions) -> Result<ExitCode> {
    fs::create_dir_all(out).with_context(|| format!("cannot create --out {}", out.display()))?;
    measure.outputs = measure.outputs.or_in(out);
    let interrupt = Interrupt::install()?;
    let results = measure::measure(&measure, &interrupt)?;
    Ok(match results.iter().all(is_measured) {
        _ if interrupt.is_raised() => ExitCode::from(EXIT_STATUS),
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

/// Whether there is a result, which includes a server that failed for a known cause.
fn is_measured(result: &RunResult) -> bool {
    let is_fault =
        matches!(result.cause, Some(Cause::WorkerLost | Cause::NotStarted | Cause::Impossible | Cause::Other));
    result.is_sound() || !is_fault
}

/// Serves the page until stopped, and runs `measure` first. Without `out` it only replays.
fn serve(
    listen: SocketAddr,
    keep: Arc<Keep>,
    out: Option<&Path>,
    measure: Option<&MeasureOptions>,
) -> Result<ExitCode> {
    // Before anything is measured, to find out now if the port is taken.
    let listener = listener::bind("--listen", listen, BACKLOG, false)?;
    let interrupt = Interrupt::install()?;
    let access = Arc::new(Access::to(listen)?);
    let address = listener.local_addr()?;
    let remotes = measure.map_or_else(|| Remote::from_environment().unwrap_or_default(), |of| of.remotes.clone());
    let runner = out.map(|_| Runner::start(keep.clone()));
    let site = Arc::new(Site { keep, runner, bounds: Bounds::of_machine(remotes) });
    // "All addresses" is not an address to visit.
    let host = if address.ip().is_unspecified() { "localhost".into() } else { address.ip().to_string() };
    let host = if address.is_ipv6() && host.contains(':') { format!("[{host}]") } else { host };
    say(format_args!("the page is at http://{host}:{}/{} until stopped", address.port(), access.fragment()));
    if let (Some(runner), Some(measure)) = (&site.runner, measure) {
        let names = measure.targets().into_iter().map(Target::name).map(str::to_owned).collect();
        runner.order(Job::new(names, measure.spec.connections, as_child(measure)))?;
    }
    listen_until_stopped(listener, web::router(site.clone(), access, out), &interrupt)?;
    site.runner.iter().for_each(Runner::end);
    Ok(ExitCode::SUCCESS)
}

/// Our own arguments, for a child that measures once and sends its events. A guard drops the environment.
fn as_child(measure: &MeasureOptions) -> Vec<String> {
    let mut arguments: Vec<String> = env::args().skip(1).collect();
    let is_remote = |argument: &String| argument.starts_with("--remote");
    let from_environment: &[Remote] = if arguments.iter().any(is_remote) { &[] } else { &measure.remotes };
    let remotes = from_environment.iter().flat_map(|remote| ["--remote".to_owned(), remote.to_string()]);
    let added: Vec<String> = ["--once", "--events", "-"].map(String::from).into_iter().chain(remotes).collect();
    // Right behind `serve`: what follows `--` is the server's.
    let place = arguments.iter().position(|argument| argument == "serve").map_or(0, |serve| serve + 1);
    arguments.splice(place..place, added);
    arguments
}

fn listen_until_stopped(listener: StdTcpListener, router: Router, interrupt: &Interrupt) -> Result<()> {
    listener.set_nonblocking(true)?;
    let runtime = Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .context("cannot start a thread to serve with")?;
    runtime.block_on(async {
        let server = axum::serve(TcpListener::from_std(listener)?, router);
        tokio::select! {
            ended = server.into_future() => ended.context("cannot serve the page"),
            () = stopped(interrupt) => Ok(()),
        }
    })
}

async fn stopped(interrupt: &Interrupt) {
    while !interrupt.is_raised() {
        sleep(POLL_INTERVAL).await;
    }
}
