//! A run against a server that is compared with others: all are loaded alike, as wrk does it, ours too.

use std::net::{Ipv4Addr, TcpListener};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, ensure};
use common::db::Latency;
use conformance::rows::Level;
use conformance::{Count, PATIENCE};
use load::net::Url;
use load::{GooseGenerator, LoadSpec, Requests};
use results::RunResult;
use results::event::Sink;
use results::run::{Conformance, Peer, Tally, Wait};
use results::settings::LoadSettings;

use super::run::{self, Ready, RunSpec};
use super::target::threads;
use crate::machine::command_line;
use crate::machine::interrupt::Interrupt;
use crate::subject::peer::Installed;
use crate::subject::{MeteredServer, Subject};

/// How long a server may take to stop.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a server may take to be seen dead.
const DEATH_TIMEOUT: Duration = Duration::from_millis(500);
const SETTLE_INTERVAL: Duration = Duration::from_millis(50);

/// How to load a peer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PeerSpec {
    /// How many connections to open.
    pub(crate) connections: usize,
    /// How long to measure, from the first connection on.
    pub(crate) duration: Duration,
    /// Requests a second; `None` means as many as the server takes.
    pub(crate) rate: Option<u64>,
    /// How long the server is asked to wait before it answers.
    pub(crate) wait_ms: u64,
    /// When to give up on a request.
    pub(crate) timeout: Duration,
    /// The round, counted from 1; `None` for a step of a search.
    pub(crate) round: Option<u32>,
}

/// Runs the load against a fresh server. The result records any failure, and no process is left running.
pub(crate) fn run(installed: &Installed, spec: &PeerSpec, interrupt: &Interrupt, sink: &mut dyn Sink) -> RunResult {
    let prepared = free_port().and_then(|port| Ok((spec.url(installed, port)?, installed.command(port)?)));
    let command = prepared.as_ref().map(|(_, command)| vec!["sh".into(), "-c".into(), command.clone()]);
    let run_spec = spec.run_spec(installed, command.unwrap_or_default());
    let mut result = run::start(&run_spec, sink);
    let (model, version) = (installed.peer.model.clone(), installed.version.clone());
    result.peer = Some(Peer { model, version, conformance: installed.conformance });
    let opened = prepared.and_then(|(url, command)| {
        let subject = open(installed, command, &url, interrupt)?;
        let generator = Box::new(GooseGenerator::new([spec.load_spec(&url)?])?);
        Ok(Ready { subject, generator, own: None })
    });
    match opened {
        Ok(ready) => run::run(&run_spec, result, ready, interrupt, sink).0,
        Err(error) => run::not_started(result, &error, interrupt, sink),
    }
}

/// What a fresh server makes of well-formed and malformed requests. `None` if it has no page `/` to ask for.
///
/// # Errors
/// It cannot be started, or does not survive them.
pub(crate) fn conformance(installed: &Installed, interrupt: &Interrupt) -> Result<Option<Conformance>> {
    if installed.path(0)? != "/" {
        return Ok(None);
    }
    let port = free_port()?;
    let url = url_at(port, "/")?;
    let mut subject = open(installed, installed.command(port)?, &url, interrupt)?;
    // Nothing is lost with it.
    interrupt.guard_disposable(subject.pid().unwrap_or(0));
    let probed = conformance::probe((Ipv4Addr::LOCALHOST, port).into(), PATIENCE);
    ensure!(!interrupt.is_raised(), "interrupted");
    if probed.is_err() {
        // Who refuses connections has died, mostly, which shows soon.
        let _ = settle(&mut subject, DEATH_TIMEOUT, interrupt);
    }
    ensure!(!subject.is_gone(), "it did not survive the requests: {}", subject.describe_death());
    let findings = probed?;
    let tally = |count: Count| Tally { tried: count.tried, passed: count.passed };
    Ok(Some(Conformance {
        must: tally(Count::of_level(&findings, Level::Must)),
        should: tally(Count::of_level(&findings, Level::Should)),
        contract: tally(Count::of_contract(&findings)),
    }))
}

/// A server that listens, and is ready.
fn open(installed: &Installed, command: String, url: &Url, interrupt: &Interrupt) -> Result<Subject> {
    let mut subject = Subject::open(&MeteredServer::Exec(command), url, None, interrupt)?;
    settle(&mut subject, Duration::from_secs(installed.peer.settle_s), interrupt)?;
    Ok(subject)
}

/// Lets a server that listens get ready.
fn settle(subject: &mut Subject, time: Duration, interrupt: &Interrupt) -> Result<()> {
    let deadline = Instant::now() + time;
    while Instant::now() < deadline {
        ensure!(!interrupt.is_raised(), "interrupted");
        ensure!(!subject.is_gone(), "{}", subject.describe_death());
        thread::sleep(SETTLE_INTERVAL);
    }
    Ok(())
}

/// A port that nobody listens at now.
fn free_port() -> Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

fn url_at(port: u16, path: &str) -> Result<Url> {
    Url::parse(&format!("http://127.0.0.1:{port}{path}")).map_err(|error| anyhow!(error))
}

impl PeerSpec {
    fn url(&self, installed: &Installed, port: u16) -> Result<Url> {
        url_at(port, &installed.path(self.wait_ms)?)
    }

    fn run_spec(&self, installed: &Installed, command: Vec<String>) -> RunSpec {
        RunSpec {
            name: installed.peer.name.clone(),
            command,
            connections: self.connections,
            duration: self.duration,
            cpus: None,
            database: None,
            wait: Wait { spec: Latency::Fixed(Duration::from_millis(self.wait_ms)).to_string() },
            load: LoadSettings {
                duration_ms: self.duration.as_millis() as u64,
                rate: self.rate,
                threads: threads(),
                timeout_ms: self.timeout.as_millis() as u64,
                command: command_line::own(),
                ..LoadSettings::default()
            },
            round: self.round,
            late_after: None,
            stop_timeout: STOP_TIMEOUT,
        }
    }

    fn load_spec(&self, url: &Url) -> Result<LoadSpec> {
        Ok(LoadSpec {
            endpoint: url.endpoint(url.connectable_address()?)?,
            greeting: None,
            requests: Requests::Same(url.request(&[]).into_bytes()),
            users: self.connections,
            threads: threads(),
            timeout: Some(self.timeout),
            spread: Duration::from_millis(self.wait_ms),
            interval: self.rate.map(|rate| LoadSpec::interval_at(rate, self.connections)),
        })
    }
}
