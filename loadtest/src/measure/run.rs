//! The driver: takes a load through its phases against a server and assembles the result.
//!
//! A server of this project reports what it holds. All connections to one are made first, as fast as it accepts them;
//! then all users send at once, and the window opens only when they are no longer in step. Any other server is loaded
//! as wrk does it: the window opens with the first connection.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use common::listener::DEFAULT_BACKLOG;
use load::{Generator, Outcome, Series};
use results::event::{Event, Observation, RunPhase, Sink};
use results::run::{Memory, Second, Wait};
use results::settings::LoadSettings;
use results::{Cause, RunResult, Warning, WarningKind};

use super::cause::{self, Circumstances, Ending};
use super::conclude;
use crate::machine::command_line::without_secret;
use crate::machine::cpus::Split;
use crate::machine::host;
use crate::machine::interrupt::Interrupt;
use crate::subject::admin::ServerCounters;
use crate::subject::postgres::AskedDatabase;
use crate::subject::{self, OomKilled, Subject};

/// How often to poll the server while it accepts. Often, because the users connect at that pace; not more often,
/// because polling costs RAM: a supervisor that forks leaves the pages that it writes for each answer in its latest
/// children.
const CONNECT_POLL_INTERVAL: Duration = Duration::from_millis(40);
const HOLD_POLL_INTERVAL: Duration = Duration::from_millis(50);
const MEASURE_POLL_INTERVAL: Duration = Duration::from_millis(50);
/// How often to poll what the server holds within the window.
const HELD_SAMPLE_INTERVAL: Duration = Duration::from_millis(250);
/// How often to say what the connections do and the server costs.
const OBSERVE_INTERVAL: Duration = Duration::from_millis(250);
/// After this long without a new connection, the run continues with those it has.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the server may take to hold all requests at once, on top of three waits.
const HOLD_TIMEOUT: Duration = Duration::from_secs(2);
/// How long the users may take to fall out of step, on top of three waits.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(1);
/// The same if each connection of the server has to log in at PgBouncer first: that is no part of the window.
const LOGIN_TIMEOUT: Duration = Duration::from_secs(60);
/// How often, and how long in between, to look whether a server that does not answer has died.
const DEATH_POLLS: u32 = 10;
const DEATH_POLL_INTERVAL: Duration = Duration::from_millis(100);
/// How long a remote server may take to come back.
const RETURN_TIMEOUT: Duration = Duration::from_secs(20);
const RETURN_POLL_INTERVAL: Duration = Duration::from_millis(250);
/// How long the server needs to close the last admin connection: a closing socket is in no table of the kernel.
const ADMIN_LINGER: Duration = Duration::from_millis(200);
/// How long a server that goes on may take to end its connections, and the processes that it had for them: prefork's idle
/// children look every 5 s whether there are too many.
const REST_TIMEOUT: Duration = Duration::from_secs(15);
const REST_POLL_INTERVAL: Duration = Duration::from_millis(100);
/// How long the server may take to stop after Ctrl-C.
const INTERRUPTED_STOP_TIMEOUT: Duration = Duration::from_secs(2);

/// What to measure.
#[derive(Clone, Debug)]
pub(crate) struct RunSpec {
    /// The server's name: a target, or the URL.
    pub(crate) name: String,
    /// Its command line, if loadtest starts it.
    pub(crate) command: Vec<String>,
    /// How many connections to open.
    pub(crate) connections: usize,
    /// How long to measure.
    pub(crate) duration: Duration,
    /// The CPUs of the server and of the load generator.
    pub(crate) cpus: Option<Split>,
    /// The server's simulated database.
    pub(crate) wait: Wait,
    /// The real database that the server asks in its place.
    pub(crate) database: Option<AskedDatabase>,
    /// What the load generator is asked to do.
    pub(crate) load: LoadSettings,
    /// The round of the sweep, counted from 1.
    pub(crate) round: Option<u32>,
    /// Slower answers count as timeouts, although the users waited for them.
    pub(crate) late_after: Option<Duration>,
    /// How long the server may take to stop.
    pub(crate) stop_timeout: Duration,
}

impl RunSpec {
    /// How long an answer takes at least, if that is not random.
    fn answer_time(&self) -> Option<Duration> {
        self.wait.duration().map(|wait| AskedDatabase::answer_time(self.database.as_ref(), wait))
    }
}

/// A server that listens, and a load ready to start.
pub(crate) struct Ready {
    /// The server.
    pub(crate) subject: Subject,
    /// The load, not started yet.
    pub(crate) generator: Box<dyn Generator>,
    /// Its ports and traits, if it is one of this project's servers.
    pub(crate) own: Option<OwnServer>,
}

/// A server of this project, which reports what it holds.
#[derive(Clone, Debug)]
pub(crate) struct OwnServer {
    /// The address that it serves.
    pub(crate) address: SocketAddr,
    /// The addresses of its admin ports, one for each of its processes.
    pub(crate) admins: Vec<SocketAddr>,
    /// It runs elsewhere, before and after this run.
    pub(crate) is_remote: bool,
    /// It has a process per connection.
    pub(crate) spawns_processes: bool,
}

/// Why a run did not finish.
#[derive(Debug)]
enum Stopped {
    Interrupted,
    ServerDied,
    RemoteServerLost { failure: String, was_near_limit: bool },
    Failed(String),
}

/// Announces a run, and returns an empty result for it.
pub(crate) fn start(spec: &RunSpec, sink: &mut dyn Sink) -> RunResult {
    // Resets the peak of our own RSS. Without permission, it stays the peak of all runs so far.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
    let started_at = humantime::format_rfc3339_millis(SystemTime::now()).to_string();
    let (target, connections, round) = (spec.name.clone(), spec.connections, spec.round);
    let (wait, duration_s) = (spec.wait.spec.clone(), spec.duration.as_secs_f64());
    let started = started_at.clone();
    sink.take(&Event::Started { target, connections, round, started_at: started, wait, duration_s });
    let mut result = RunResult::new(
        &spec.name,
        spec.command.iter().map(|word| without_secret(word)).collect(),
        spec.connections,
        host::describe(spec.cpus.as_ref()),
        started_at,
    );
    (result.wait, result.round) = (spec.wait.clone(), spec.round);
    result.database = spec.database.as_ref().map(AskedDatabase::unmeasured);
    result.load = Some(spec.load.clone());
    result
}

/// Runs the load against the server. The result records any failure, and no process is left running.
pub(crate) fn run(
    spec: &RunSpec,
    mut result: RunResult,
    ready: Ready,
    interrupt: &Interrupt,
    sink: &mut dyn Sink,
) -> (RunResult, Outcome) {
    let Ready { subject, generator, own } = ready;
    let address = own.as_ref().map(|own| own.address.to_string());
    let admin = own.as_ref().and_then(|own| own.admins.first()).map(SocketAddr::to_string);
    sink.take(&Event::Listening { pid: subject.pid(), admin, address });
    let mut warned = Vec::new();
    let run = Run {
        spec,
        subject,
        generator,
        own: own.as_ref(),
        counters: ServerCounters::default(),
        at_rest: None,
        interrupt,
        sink,
        warned: &mut warned,
        observed_at: None,
    };
    let outcome = run.execute(&mut result);
    finish(&result, &warned, sink);
    (result, outcome)
}

/// The result of a run whose server did not start.
pub(crate) fn not_started(
    mut result: RunResult,
    error: &anyhow::Error,
    interrupt: &Interrupt,
    sink: &mut dyn Sink,
) -> RunResult {
    result.server.oom_kills = error.downcast_ref().map(|OomKilled(kills)| *kills);
    result.failure = Some(format!("{error:#}"));
    let ending = if interrupt.is_raised() { Ending::Interrupted } else { Ending::NotStarted };
    result.cause = cause::find(&result, &Circumstances::new(ending));
    finish(&result, &[], sink);
    result
}

/// Sends the warnings that were not `warned` of yet, and the result.
fn finish(result: &RunResult, warned: &[Warning], sink: &mut dyn Sink) {
    let new = result.warnings.iter().filter(|warning| !warned.contains(warning));
    new.for_each(|warning| sink.take(&Event::Warned(warning.clone())));
    sink.take(&Event::Finished(Box::new(result.clone())));
}

/// A run whose server listens.
struct Run<'a> {
    spec: &'a RunSpec,
    subject: Subject,
    generator: Box<dyn Generator>,
    own: Option<&'a OwnServer>,
    /// The server's latest counters.
    counters: ServerCounters,
    /// Its counters before the first connection.
    at_rest: Option<ServerCounters>,
    interrupt: &'a Interrupt,
    sink: &'a mut dyn Sink,
    /// The warnings that were sent as they arose.
    warned: &'a mut Vec<Warning>,
    /// When the last observation was sent.
    observed_at: Option<Instant>,
}

impl Run<'_> {
    fn execute(mut self, result: &mut RunResult) -> Outcome {
        let driven = self.drive(result);
        self.generator.end_window();
        let ending = self.record_ending(driven, result);
        // The server stops while the users still hold their sockets, so it closes first.
        self.enter(RunPhase::Stopping);
        self.generator.stop();
        let is_interrupted = self.interrupt.is_raised();
        let timeout = if is_interrupted { INTERRUPTED_STOP_TIMEOUT } else { self.spec.stop_timeout };
        self.subject.close(timeout, is_interrupted, result);
        if self.spec.database.is_some() {
            // The database shares this machine: it is what else is busy.
            result.warnings.retain(|warning| warning.kind != WarningKind::BusyMachine);
        }
        let outcome = self.generator.finish();
        await_rest(self.own, self.at_rest, self.interrupt);
        if let Some(failure) = &outcome.failure {
            result.complete = false;
            result.failure.get_or_insert_with(|| failure.clone());
        }
        conclude::conclude(&outcome, self.spec.late_after, result);
        let spawn_cause =
            self.own.map(|own| if own.spawns_processes { Cause::ForkRefused } else { Cause::ThreadRefused });
        let circumstances = Circumstances {
            ending,
            is_ours: self.own.is_some(),
            refused_spawn: spawn_cause.filter(|_| self.counters.spawn_failures > 0),
            is_limited_by_open_files: self.counters.is_limited_by_open_files,
        };
        result.cause = cause::find(result, &circumstances);
        outcome
    }

    /// Records in the result how the run ended.
    fn record_ending(&mut self, driven: Result<(), Stopped>, result: &mut RunResult) -> Ending {
        let (ending, failure) = match driven {
            Ok(()) => (Ending::Complete, None),
            Err(Stopped::Interrupted) => {
                self.subject.read_ledger();
                (Ending::Interrupted, Some("interrupted".into()))
            }
            Err(Stopped::Failed(failure)) => (Ending::Failed, Some(failure)),
            Err(Stopped::ServerDied) => (Ending::ServerDied, Some(self.subject.describe_death())),
            Err(Stopped::RemoteServerLost { failure, was_near_limit }) => {
                (Ending::RemoteServerLost { was_near_limit }, Some(failure))
            }
        };
        result.complete = ending == Ending::Complete;
        result.failure = failure;
        ending
    }

    fn drive(&mut self, result: &mut RunResult) -> Result<(), Stopped> {
        match self.own {
            Some(own) => self.drive_own(own, result)?,
            None => self.drive_as_wrk(result)?,
        }
        self.enter(RunPhase::Ledger);
        self.pause(if self.own.is_some() { ADMIN_LINGER } else { Duration::ZERO })?;
        self.subject.read_ledger();
        self.read_database_ledger(result);
        self.pause(Duration::ZERO)
    }

    /// Reads what PostgreSQL's own processes take, while the load goes on.
    fn read_database_ledger(&self, result: &mut RunResult) {
        let pid = self.spec.database.as_ref().and_then(|database| database.pid);
        let (Some(pid), Some(database)) = (pid, &mut result.database) else { return };
        let memory = subject::memory::of_trees(&[pid]);
        database.postgres_bytes = memory.as_ref().and_then(Memory::ledger_total_bytes);
        database.postgres_processes = memory.and_then(|memory| memory.processes);
    }

    /// Holds all connections, then opens the window. At a rate the requests are never all in flight at once, and never in
    /// step.
    fn drive_own(&mut self, own: &OwnServer, result: &mut RunResult) -> Result<(), Stopped> {
        self.generator.start().map_err(failed)?;
        let begun = Instant::now();
        self.connect(own)?;
        let has_all = self.generator.progress().greeted >= self.spec.connections;
        result.connections.connected_after_us = has_all.then(|| begun.elapsed().as_micros() as u64);
        self.subject.read_keep_alive();
        if self.spec.load.rate.is_some() {
            self.generator.go();
        } else {
            self.hold(own, result)?;
            self.settle()?;
        }
        // Before the window opens: among thousands of processes it takes a while to find PostgreSQL's.
        let postgres_before_s = self.postgres_cpu_s();
        self.enter(RunPhase::Measuring);
        // A generator on other machines returns at the instant that they agreed on.
        self.generator.start_window(self.spec.duration);
        self.subject.start_window(&self.generator.pids());
        let before = self.poll_server(own)?.database;
        let measured = self.measure(result);
        // Both times just before the server's count, so that they are of the same answers.
        let postgres_cpu_s = self.postgres_cpu_s().zip(postgres_before_s).map(|(now_s, before_s)| now_s - before_s);
        // Less than before: the account of processes that have ended is in ticks.
        let postgres_cpu_s = postgres_cpu_s.filter(|cpu_s| *cpu_s >= 0.0);
        let measured = measured.and_then(|()| self.record_held(own, result));
        if let Some((before, after)) = before.zip(self.counters.database) {
            let mut database = after.since(&before, result.database.take().unwrap_or_default());
            let answers = database.answers.filter(|answers| *answers > 0 && measured.is_ok());
            database.postgres_cpu_us = postgres_cpu_s.zip(answers).map(|(cpu_s, answers)| cpu_s / answers as f64 * 1e6);
            result.database = Some(database);
        }
        measured
    }

    /// CPU time so far of PostgreSQL's own processes, in seconds.
    fn postgres_cpu_s(&self) -> Option<f64> {
        subject::memory::cpu_s_of_trees(&[self.spec.database.as_ref()?.pid?])
    }

    /// Opens the window, then lets all users connect and send.
    fn drive_as_wrk(&mut self, result: &mut RunResult) -> Result<(), Stopped> {
        self.enter(RunPhase::Measuring);
        // A generator on other machines returns at the instant that they agreed on.
        self.generator.start_window(self.spec.duration);
        self.subject.start_window(&self.generator.pids());
        self.generator.go();
        self.generator.permit(self.spec.connections);
        self.generator.start().map_err(failed)?;
        self.measure(result)
    }

    /// Lets the users connect, never more at once than the server's backlog can take.
    fn connect(&mut self, own: &OwnServer) -> Result<(), Stopped> {
        self.enter(RunPhase::Connecting);
        let users = self.spec.connections;
        let backlog_room = (host::somaxconn().min(u64::from(DEFAULT_BACKLOG)) / 4).max(16) as usize;
        let at_rest = self.poll_server(own)?;
        self.at_rest = Some(at_rest);
        let seen_before = at_rest.connections();
        let mut granted = 0;
        let mut last_progress = (Instant::now(), 0);
        loop {
            let counters = self.poll_server(own)?;
            let seen = counters.connections().saturating_sub(seen_before);
            let goal = users.min(seen as usize + backlog_room);
            if goal > granted {
                self.generator.permit(goal - granted);
                granted = goal;
            }
            let progress = self.generator.progress();
            self.report(progress.established, users);
            // The kernel completes connections that the server has not accepted yet, so check both sides.
            if progress.established >= users && counters.open as usize >= users && progress.greeted >= users {
                return Ok(());
            }
            let reached = progress.established + counters.open as usize + progress.greeted;
            if reached != last_progress.1 {
                last_progress = (Instant::now(), reached);
            } else if last_progress.0.elapsed() > CONNECT_TIMEOUT {
                let failure = format!("none of {users} connections could be made");
                return if progress.established > 0 { Ok(()) } else { Err(Stopped::Failed(failure)) };
            }
            self.check_generator()?;
            self.pause(CONNECT_POLL_INTERVAL)?;
        }
    }

    /// Lets all users send at once, and waits until the server reports that it holds all of their requests.
    fn hold(&mut self, own: &OwnServer, result: &mut RunResult) -> Result<(), Stopped> {
        self.enter(RunPhase::Holding);
        let established = self.generator.progress().established;
        let deadline = Instant::now() + HOLD_TIMEOUT + 3 * self.spec.answer_time().unwrap_or(HOLD_TIMEOUT);
        self.generator.go();
        loop {
            self.record_held(own, result)?;
            let held_peak = result.connections.held_peak.unwrap_or(0) as usize;
            self.report(held_peak.min(established), established);
            if held_peak >= established || Instant::now() > deadline {
                return Ok(());
            }
            self.pause(HOLD_POLL_INTERVAL)?;
        }
    }

    /// Waits until the users are no longer in step. With most requests queued that takes too long, and queueing spreads
    /// them anyway.
    fn settle(&mut self) -> Result<(), Stopped> {
        self.enter(RunPhase::Settling);
        let logs_in =
            self.spec.database.as_ref().is_some_and(|database| database.lets_each_log_in(self.spec.connections));
        let timeout = if logs_in { LOGIN_TIMEOUT } else { SETTLE_TIMEOUT };
        let deadline = Instant::now() + timeout + 3 * self.spec.answer_time().unwrap_or_default();
        loop {
            let progress = self.generator.progress();
            self.report(progress.settled, progress.established);
            if progress.settled >= progress.established || Instant::now() >= deadline {
                return Ok(());
            }
            self.pause(HOLD_POLL_INTERVAL)?;
        }
    }

    fn record_held(&mut self, own: &OwnServer, result: &mut RunResult) -> Result<(), Stopped> {
        let counters = self.poll_server(own)?;
        let connections = &mut result.connections;
        // A remote server's peak may come from an earlier run, and the peaks of several processes from different moments.
        let has_own_peak = !own.is_remote && own.admins.len() == 1;
        let waiting_peak = if has_own_peak { counters.waiting_peak } else { counters.waiting };
        let held = waiting_peak.max(counters.waiting + counters.queued);
        connections.open_peak = connections.open_peak.max(Some(counters.open));
        connections.held_peak = connections.held_peak.max(Some(held));
        connections.waiting_peak = connections.waiting_peak.max(Some(waiting_peak));
        connections.queued_peak = connections.queued_peak.max(Some(counters.queued));
        Ok(())
    }

    /// Watches the window until it ends or is cut short, and reads what it cost.
    fn measure(&mut self, result: &mut RunResult) -> Result<(), Stopped> {
        let watched = self.watch(result);
        self.generator.end_window();
        let threads = (!self.generator.watches_clock()).then_some(self.spec.load.threads);
        self.subject.end_window(threads, &self.generator.pids());
        watched
    }

    fn watch(&mut self, result: &mut RunResult) -> Result<(), Stopped> {
        let start = Instant::now();
        let duration = self.spec.duration;
        let mut series = Series::start(self.generator.snapshot());
        let mut held_mean = Mean::default();
        let watched = loop {
            let elapsed = start.elapsed();
            self.report(elapsed.min(duration).as_millis() as usize, duration.as_millis() as usize);
            let Some(remaining) = duration.checked_sub(elapsed).filter(|time| !time.is_zero()) else { break Ok(()) };
            if let Some(own) = self.own.filter(|_| elapsed >= held_mean.count * HELD_SAMPLE_INTERVAL) {
                match self.poll_server(own) {
                    Ok(counters) => held_mean.add(counters.waiting + counters.queued),
                    Err(stopped) => break Err(stopped),
                }
                result.connections.held_mean = held_mean.mean();
            }
            if series.is_due() {
                self.record_second(&mut series, result);
            }
            if let Err(stopped) = self.check_generator().and_then(|()| self.pause(remaining.min(MEASURE_POLL_INTERVAL)))
            {
                break Err(stopped);
            }
        };
        // The remainder of the last second.
        self.record_second(&mut series, result);
        watched
    }

    /// Adds a row to the series.
    fn record_second(&mut self, series: &mut Series, result: &mut RunResult) {
        if self.own.is_none() {
            self.subject.refresh_memory();
        }
        let is_ours = self.own.is_some();
        let second = Second {
            open: is_ours.then_some(self.counters.open),
            held: is_ours.then_some(self.counters.waiting + self.counters.queued),
            ram_bytes: self.subject.current_bytes(),
            ..series.next(self.generator.snapshot())
        };
        result.series.push(second);
        self.sink.take(&Event::Second(second));
    }

    /// Fetches the server's counters.
    fn poll_server(&mut self, own: &OwnServer) -> Result<ServerCounters, Stopped> {
        match ServerCounters::fetch_all(&own.admins) {
            Ok(counters) => {
                self.subject.update_memory(counters.memory);
                self.counters = counters;
                Ok(counters)
            }
            Err(error) => {
                // If the server has just died, that is the cause. On a busy machine its end is seen only after a moment.
                for _ in 0..DEATH_POLLS {
                    self.pause(DEATH_POLL_INTERVAL)?;
                }
                let silence = format!("the server does not answer on its admin port: {error}");
                Err(self.explain_silence(own).unwrap_or(Stopped::Failed(silence)))
            }
        }
    }

    /// Finds out why a remote server does not answer. It may be restarting.
    fn explain_silence(&mut self, own: &OwnServer) -> Option<Stopped> {
        let (memory, was_near_limit) = self.subject.last_known_memory()?;
        self.enter(RunPhase::Gone);
        let deadline = Instant::now() + RETURN_TIMEOUT;
        let connections = loop {
            match ServerCounters::fetch_all(&own.admins) {
                Ok(counters) => break Some(counters.connections()),
                Err(_) if Instant::now() > deadline || self.interrupt.is_raised() => break None,
                Err(_) => thread::sleep(RETURN_POLL_INTERVAL),
            }
        };
        let name = &self.spec.name;
        let limit = if was_near_limit { ": most likely its RAM limit killed it" } else { "" };
        let failure = match connections {
            Some(connections) if connections >= self.counters.connections() => {
                let failure = format!("{name} did not answer on its admin port for a while; {memory}");
                return Some(Stopped::Failed(failure));
            }
            Some(_) => format!("{name} died and was restarted; {memory}{limit}"),
            None => format!("{name} died or hangs: it no longer answers on its admin port; {memory}{limit}"),
        };
        Some(Stopped::RemoteServerLost { failure, was_near_limit })
    }

    fn check_generator(&mut self) -> Result<(), Stopped> {
        self.generator.failure().map_or(Ok(()), |failure| Err(Stopped::Failed(failure)))
    }

    /// Waits, unless there is a reason to stop.
    fn pause(&mut self, time: Duration) -> Result<(), Stopped> {
        thread::sleep(time);
        self.subject.sample_memory();
        if self.observed_at.is_none_or(|at| at.elapsed() >= OBSERVE_INTERVAL) {
            self.observe();
        }
        if self.interrupt.is_raised() {
            return Err(Stopped::Interrupted);
        }
        if self.subject.is_gone() { Err(Stopped::ServerDied) } else { Ok(()) }
    }

    /// Sends what the connections do and the server costs now, and what has become doubtful.
    fn observe(&mut self) {
        self.observed_at = Some(Instant::now());
        let count = |count: fn(&ServerCounters) -> u64| self.own.map(|_| count(&self.counters));
        let observation = Observation {
            established: self.generator.progress().established as u64,
            open: count(|counters| counters.open),
            waiting: count(|counters| counters.waiting),
            queued: count(|counters| counters.queued),
            failures: self.generator.failures(),
            ram_bytes: self.subject.current_bytes(),
            ram_limit_bytes: self.subject.limit_bytes(),
            ram_parts: self.subject.ram_parts(),
        };
        self.sink.take(&Event::Observed(observation));
        for warning in &self.subject.warnings()[self.warned.len()..] {
            self.sink.take(&Event::Warned(warning.clone()));
            self.warned.push(warning.clone());
        }
    }

    fn enter(&mut self, phase: RunPhase) {
        self.sink.take(&Event::Entered { phase });
    }

    fn report(&mut self, done: usize, total: usize) {
        self.sink.take(&Event::Progress { done: done as u64, total: total as u64 });
    }
}

/// The mean of samples.
#[derive(Debug, Default)]
struct Mean {
    sum: u64,
    count: u32,
}

impl Mean {
    fn add(&mut self, sample: u64) {
        self.sum += sample;
        self.count += 1;
    }

    fn mean(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum as f64 / f64::from(self.count))
    }
}

/// Waits until a server that goes on is as it was before the run: ten thousand processes that end would disturb whoever is
/// measured next.
fn await_rest(own: Option<&OwnServer>, at_rest: Option<ServerCounters>, interrupt: &Interrupt) {
    let Some((own, before)) = own.filter(|own| own.is_remote).zip(at_rest) else { return };
    let deadline = Instant::now() + REST_TIMEOUT;
    while Instant::now() < deadline && !interrupt.is_raised() {
        match ServerCounters::fetch_all(&own.admins) {
            // Of idle children it keeps up to twice as many as it has ready.
            Ok(now) if now.open > before.open || now.children > 2 * before.children => {
                thread::sleep(REST_POLL_INTERVAL)
            }
            Ok(_) | Err(_) => return,
        }
    }
}

fn failed(error: anyhow::Error) -> Stopped {
    Stopped::Failed(format!("{error:#}"))
}
