//! The worker's side: it runs users for a coordinator, for one run after the other, until the coordinator is gone.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use load::net::Sources;
use load::{Generator, GooseGenerator, LoadSpec, PortableSpec};
use results::Warning;
use results::run::ClientSummary;

use super::clock;
use super::handshake::{self, Role, Side};
use super::lines::{self, LineReader};
use super::token::{Token, TokenArgs};
use super::wire::{Finished, FromWorker, SILENCE, ToWorker};
use crate::machine::host;
use crate::machine::interrupt::Interrupt;
use crate::machine::terminal::{say, warn};
use crate::machine::usage::{RunCpus, Usage};
use crate::machine::walls::Asked;

/// How often to say how far the users are.
const SEEN_INTERVAL: Duration = Duration::from_millis(50);
const RETRY_INTERVAL: Duration = Duration::from_millis(200);
/// A coordinator that wants the window later than this has another idea of the clock.
const MAX_LEAD_US: i64 = 10_000_000;

/// Works for the coordinator at `address`, such as `host:9190`, and returns when it has no more to do. It may take
/// `patience` until the coordinator can be reached. Connections come from `sources`, or if there are none, from those that the
/// coordinator names.
///
/// # Errors
/// It cannot be reached, does not know the token, or is lost.
pub(crate) fn join(
    address: &str,
    patience: Duration,
    token: &TokenArgs,
    sources: &Sources,
    interrupt: &Interrupt,
) -> Result<()> {
    let token = token.read()?;
    let deadline = Instant::now() + patience;
    let stream = loop {
        match TcpStream::connect(address) {
            Ok(stream) => break stream,
            Err(error) if Instant::now() >= deadline => {
                return Err(error).with_context(|| format!("the coordinator cannot be reached at {address}"));
            }
            Err(_) => thread::sleep(RETRY_INTERVAL),
        }
        ensure!(!interrupt.is_raised(), "interrupted");
    };
    work(stream, Side::Dialed, &token, sources, interrupt).with_context(|| format!("the coordinator at {address}"))
}

/// Works for one coordinator after the other that connects to `address`, until it is interrupted.
///
/// # Errors
/// It cannot listen there.
pub(crate) fn listen(
    address: SocketAddr,
    token: &TokenArgs,
    sources: &Sources,
    interrupt: &Interrupt,
    ready: impl FnOnce(SocketAddr) -> Result<()>,
) -> Result<()> {
    let token = token.read()?;
    let listener = TcpListener::bind(address).with_context(|| format!("cannot listen on {address}"))?;
    listener.set_nonblocking(true)?;
    ready(listener.local_addr()?)?;
    while !interrupt.is_raised() {
        let Ok((stream, peer)) = listener.accept() else {
            thread::sleep(RETRY_INTERVAL);
            continue;
        };
        stream.set_nonblocking(false)?;
        if let Err(error) = work(stream, Side::Listened, &token, sources, interrupt) {
            say(format_args!("{peer}: {error:#}"));
        }
    }
    Ok(())
}

/// Works for the coordinator at the other end.
fn work(stream: TcpStream, side: Side, token: &Token, sources: &Sources, interrupt: &Interrupt) -> Result<()> {
    let reader = handshake::shake(&stream, Role::Worker, side, token)?;
    let outbox = Arc::new(Outbox(Mutex::new(stream)));
    outbox.send(&FromWorker::Joined { host: host::describe(None) })?;
    let (sender, orders) = channel();
    let answering = outbox.clone();
    thread::spawn(move || receive(reader, &answering, &sender));
    let users = Users { sources: sources.clone(), ..Users::default() };
    obey(users, &orders, &outbox, interrupt)
}

/// Answers at once what the clock shows, and hands on all else.
fn receive(mut reader: LineReader, outbox: &Outbox, orders: &Sender<Result<ToWorker>>) {
    loop {
        let order = match reader.read(SILENCE) {
            Ok(ToWorker::Alive) => continue,
            Ok(ToWorker::Clock { number }) => {
                let at_us = clock::now_us();
                // If it cannot be sent, the next read fails, too.
                let _ = outbox.send(&FromWorker::Clock { number, at_us });
                continue;
            }
            order => order.context("the coordinator was lost"),
        };
        let is_end = order.is_err();
        if orders.send(order).is_err() || is_end {
            return;
        }
    }
}

/// Does what it is told, and says how far it is.
fn obey(mut users: Users, orders: &Receiver<Result<ToWorker>>, outbox: &Outbox, interrupt: &Interrupt) -> Result<()> {
    let mut seen_at = Instant::now();
    loop {
        match orders.recv_timeout(SEEN_INTERVAL.saturating_sub(seen_at.elapsed())) {
            Ok(Ok(ToWorker::Bye)) => return Ok(()),
            Ok(order) => {
                if let Err(error) = users.obey(order?, outbox) {
                    outbox.send(&FromWorker::Failed { why: format!("{error:#}") })?;
                }
            }
            Err(RecvTimeoutError::Timeout) => {
                outbox.send(&users.seen())?;
                if let Some(why) = users.generator.as_mut().and_then(|generator| generator.failure()) {
                    outbox.send(&FromWorker::Failed { why })?;
                }
                seen_at = Instant::now();
            }
            Err(RecvTimeoutError::Disconnected) => bail!("the coordinator was lost"),
        }
        ensure!(!interrupt.is_raised(), "interrupted");
    }
}

/// Where messages to the coordinator go. Two threads write to it.
#[derive(Debug)]
struct Outbox(Mutex<TcpStream>);

impl Outbox {
    fn send(&self, message: &FromWorker) -> Result<()> {
        let stream = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines::write(&stream, message).context("the coordinator was lost")
    }
}

/// The users of one run, and what they cost.
#[derive(Default)]
struct Users {
    /// This worker's own addresses to connect from.
    sources: Sources,
    generator: Option<Box<dyn Generator>>,
    threads: usize,
    /// At the start of the window.
    start: Option<(RunCpus, Usage)>,
    cpu_s: Option<f64>,
    warnings: Vec<Warning>,
}

impl Users {
    fn obey(&mut self, order: ToWorker, outbox: &Outbox) -> Result<()> {
        if let ToWorker::Prepare { specs } = order {
            self.prepare(specs)?;
            return outbox.send(&FromWorker::Prepared);
        }
        let generator = self.generator.as_mut().context("no users were prepared")?;
        match order {
            ToWorker::Start => generator.start()?,
            ToWorker::Permit { users } => generator.permit(users),
            ToWorker::Go => generator.go(),
            ToWorker::StartWindow { at_us, duration } => {
                ensure!(at_us - clock::now_us() < MAX_LEAD_US, "the window would be too far in the future");
                clock::sleep_until(at_us);
                generator.start_window(duration);
                let at_us = clock::now_us();
                self.start = RunCpus::new(None).map(|cpus| (cpus.clone(), Usage::now(&cpus, &[])));
                outbox.send(&FromWorker::StartedWindow { at_us })?;
            }
            ToWorker::EndWindow => {
                generator.end_window();
                self.read_usage();
            }
            ToWorker::Snapshot { number } => {
                outbox.send(&FromWorker::Snapshot { number, snapshot: generator.snapshot() })?;
            }
            ToWorker::Stop => generator.stop(),
            ToWorker::Finish => {
                let finished = self.finish()?;
                outbox.send(&FromWorker::Finished(Box::new(finished)))?;
            }
            ToWorker::Prepare { .. } | ToWorker::Alive | ToWorker::Clock { .. } | ToWorker::Bye => {}
        }
        Ok(())
    }

    /// Makes new users, instead of those of a run before.
    fn prepare(&mut self, specs: Vec<PortableSpec>) -> Result<()> {
        if let Some(before) = self.generator.take() {
            before.finish();
        }
        let specs: Vec<LoadSpec> = specs.into_iter().map(|spec| self.load_spec(spec)).collect::<Result<_>>()?;
        let sources = specs.iter().map(|spec| spec.endpoint.sources().count()).max().unwrap_or(1);
        let asked = Asked { sources, ..Asked::new(specs.iter().map(|spec| spec.users).sum(), &[]) };
        host::prepare_for(&asked)?.iter().for_each(warn);
        // Resets the peak of our own RSS. Without permission, it stays the peak of all runs so far.
        let _ = fs::write("/proc/self/clear_refs", "5");
        let threads = specs.iter().map(|spec| spec.threads).sum();
        let generator: Option<Box<dyn Generator>> = Some(Box::new(GooseGenerator::new_in_fleet(specs)?));
        *self = Self { generator, threads, sources: self.sources.clone(), ..Self::default() };
        Ok(())
    }

    /// What the coordinator wants, from this worker's own addresses if it has some.
    fn load_spec(&self, spec: PortableSpec) -> Result<LoadSpec> {
        let spec = LoadSpec::try_from(spec)?;
        let sources = if self.sources.addresses().is_empty() { spec.endpoint.sources() } else { &self.sources };
        sources.check()?;
        let endpoint = spec.endpoint.clone().from_sources(sources.clone())?;
        Ok(LoadSpec { endpoint, ..spec })
    }

    fn seen(&self) -> FromWorker {
        let generator = self.generator.as_ref();
        FromWorker::Seen {
            progress: generator.map(|generator| generator.progress()).unwrap_or_default(),
            failures: generator.map(|generator| generator.failures()).unwrap_or_default(),
        }
    }

    /// What the users cost since the start of the window, once.
    fn read_usage(&mut self) {
        let Some((cpus, start)) = self.start.take() else { return };
        let now = Usage::now(&cpus, &[]);
        self.cpu_s = now.own_cpu_s_since(&start);
        let cpu_use = now.use_since(&start, &cpus, self.cpu_s, None);
        self.warnings.extend(cpu_use.into_iter().flat_map(|cpu_use| cpu_use.warnings(Some(self.threads))));
        self.warnings.extend(now.quota_warning(&start));
    }

    fn finish(&mut self) -> Result<Finished> {
        self.read_usage();
        let outcome = self.generator.take().context("no users were prepared")?.finish();
        let client = ClientSummary {
            cpu_s: self.cpu_s,
            rss_peak_bytes: meter::rss_peak_bytes(process::id() as i32).ok(),
            lag_p99_us: outcome.lag_p99_us,
        };
        Ok(Finished { outcome, client, warnings: std::mem::take(&mut self.warnings) })
    }
}
