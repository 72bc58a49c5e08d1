//! One run of a load generator, ours or another, against a fresh server-async that answers at once.

use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitStatus;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use common::db::Latency;
use common::limits::DEFAULT_MAX_CONNECTIONS;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike as _;
use results::Target;
use results::clients::ClientRun;

use crate::machine::interrupt::Interrupt;
use crate::subject::admin::ServerCounters;
use crate::subject::client::{Client, RunningClient};
use crate::subject::{Launch, Subject, build};

/// How often to look what RAM it takes, and how many connections the server has.
const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// How long it may take beyond its time: to open all connections, and to close them.
const PATIENCE: Duration = Duration::from_secs(60);

/// How to run a load generator.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ClientSpec {
    /// How many connections it is to open.
    pub(crate) connections: usize,
    /// How long it is to load the server.
    pub(crate) seconds: u64,
    /// The round, counted from 1.
    pub(crate) round: u32,
}

/// The command line of a server for so many connections.
pub(crate) fn server_command(executable: &Path, connections: usize) -> Vec<String> {
    let mut command = build::command(Target::Async, executable, Latency::Fixed(Duration::ZERO));
    command.extend(["--max-connections".to_owned(), connections.max(DEFAULT_MAX_CONNECTIONS).to_string()]);
    command
}

/// Runs it against a fresh server. The result records any failure, and no process is left running.
pub(crate) fn run(client: &Client, server: &[String], spec: &ClientSpec, interrupt: &Interrupt) -> ClientRun {
    let &ClientSpec { connections, round, .. } = spec;
    let mut run = ClientRun { client: client.name.clone(), round, connections, ..ClientRun::default() };
    let measured = measure(client, server, spec, interrupt, &mut run);
    run.failure = measured.err().map(|error| format!("{error:#}"));
    run
}

fn measure(
    client: &Client,
    server: &[String],
    spec: &ClientSpec,
    interrupt: &Interrupt,
    run: &mut ClientRun,
) -> Result<()> {
    let name = build::package(Target::Async);
    let launch = Launch { name, argv: server, processes: 1, database_url: None, cpus: None, ram_limit_bytes: None };
    let (mut subject, address, admins) = Subject::launch(&launch, interrupt)?;
    run.command = client.command(spec.connections, spec.seconds, &format!("http://{address}/"));
    let before = (client_cpu_s(), subject.cpu_s());
    let mut running = RunningClient::start(&run.command, interrupt)?;
    let exit = watch(&mut running, admins[0], spec, interrupt, run)?;
    run.client_cpu_s = since(before.0, client_cpu_s());
    run.server_cpu_s = since(before.1, subject.cpu_s());
    ensure!(!interrupt.is_raised(), "interrupted");
    ensure!(!subject.is_gone(), "{}", subject.describe_death());
    ensure!(exit.success(), "{}", running.failure(exit));
    let said = client.figures(&running.printed()?)?;
    (run.requests, run.rps, run.p99_us, run.errors) = (Some(said.requests), said.rps, said.p99_us, said.errors);
    ensure!(said.requests > 0, "it had no answer");
    Ok(())
}

/// Waits for its end. Notes its RAM, and when the server has all connections.
fn watch(
    running: &mut RunningClient,
    admin: SocketAddr,
    spec: &ClientSpec,
    interrupt: &Interrupt,
    run: &mut ClientRun,
) -> Result<ExitStatus> {
    let begun = Instant::now();
    let time = Duration::from_secs(spec.seconds) + PATIENCE;
    let mut is_asking = true;
    loop {
        if let Some(exit) = running.exit()? {
            return Ok(exit);
        }
        ensure!(!interrupt.is_raised(), "interrupted");
        ensure!(begun.elapsed() < time, "it did not end within {time:?}");
        // The last is the peak: before it became the load generator, the process was loadtest.
        run.client_rss_peak_bytes = meter::rss_peak_bytes(running.pid()).ok().or(run.client_rss_peak_bytes);
        if is_asking {
            match ServerCounters::fetch(admin) {
                Ok(counters) if counters.open < spec.connections as u64 => {}
                // Who does not answer has died, which shows at the end.
                answer => {
                    is_asking = false;
                    run.connected_after_us = answer.ok().map(|_| begun.elapsed().as_micros() as u64);
                }
            }
        }
        thread::sleep(POLL_INTERVAL);
    }
}

/// CPU time of all processes that this one has waited for, and of those that they have.
fn client_cpu_s() -> Option<f64> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).ok()?;
    Some((usage.user_time() + usage.system_time()).num_microseconds() as f64 / 1e6)
}

fn since(before: Option<f64>, now: Option<f64>) -> Option<f64> {
    Some(now? - before?).filter(|time_s| *time_s >= 0.0)
}
