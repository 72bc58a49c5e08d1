//! One run: start a server, hold the connections, measure, stop it.

use std::net::SocketAddr;
use std::path::Path;
use std::slice;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use indicatif::ProgressBar;

use crate::admin::ServerCounters;
use crate::args::Options;
use crate::attack::Attack;
use crate::cause::{Cause, KILLED_BY_LIMIT};
use crate::interrupt::Interrupt;
use crate::load::{Load, Phase, Plan};
use crate::remote::Remote;
use crate::requests::Requests;
use crate::result::{RunResult, Second};
use crate::series::Series;
use crate::stream::Endpoint;
use crate::subject::{OomKilled, Subject};
use crate::target::Target;
use crate::{conclude, host, live};

/// How often the server is asked while it accepts: often, because the users connect at that pace; and not more often, because
/// asking costs. A supervisor that forks leaves the pages that it writes for each answer behind in its latest children.
const CONNECT_POLL_INTERVAL: Duration = Duration::from_millis(40);
const HOLD_POLL_INTERVAL: Duration = Duration::from_millis(50);
const MEASURE_POLL_INTERVAL: Duration = Duration::from_millis(50);
/// How often the server is asked what it holds while it is measured.
const HELD_SAMPLE_INTERVAL: Duration = Duration::from_millis(250);
/// After this long without a new connection, the run goes on with those that there are.
const CONNECT_PATIENCE: Duration = Duration::from_secs(10);
/// How long the server may take to hold all requests at once, beside three waits.
const HOLD_PATIENCE: Duration = Duration::from_secs(2);
/// How long the users may take to be apart, beside three waits.
const SETTLE_PATIENCE: Duration = Duration::from_secs(1);
/// How long a server elsewhere may take to come back.
const RETURN_PATIENCE: Duration = Duration::from_secs(20);
const RETURN_POLL_INTERVAL: Duration = Duration::from_millis(250);
/// How long the server needs to be done with our last question: a socket that is being closed is in no table of the kernel.
const ADMIN_LINGER: Duration = Duration::from_millis(200);
/// How long the server may take for its end, beside its own drain timeout.
const STOP_PATIENCE: Duration = Duration::from_secs(10);
/// The same, after Ctrl-C.
const HURRIED_STOP_PATIENCE: Duration = Duration::from_secs(2);
/// The most connections that a server takes unless told otherwise.
const DEFAULT_MAX_CONNECTIONS: usize = 12_000;

/// Where the server is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Place<'a> {
    /// It is to be started from this executable.
    Here(&'a Path),
    /// It runs already.
    Elsewhere(&'a Remote),
}

/// Why a run does not go through to its end.
#[derive(Debug)]
enum Ended {
    Interrupted,
    ServerDied,
    Failed(String),
}

/// Runs the load against a fresh server. Whatever happens, the result says so, and no process is left.
pub(crate) fn run(
    target: Target,
    place: Place<'_>,
    options: &Options,
    interrupt: &Interrupt,
    progress: &ProgressBar,
) -> RunResult {
    // The peak of our own RAM starts anew; without the right to do so it is the highest of all runs so far.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
    let drain_timeout = drain_timeout(options);
    let command = match place {
        Place::Here(executable) => command(target, executable, options, drain_timeout),
        Place::Elsewhere(_) => Vec::new(),
    };
    let mut result = RunResult::new(target.name(), command, options.connections);
    result.wait.spec = options.db_wait.to_string();
    match open(target, place, &result.command, options, interrupt) {
        Ok((subject, address, admin)) => {
            let is_elsewhere = matches!(place, Place::Elsewhere(_));
            let (target, connections_seen) = (target.name(), 0);
            let run =
                Run { subject, address, admin, is_elsewhere, target, connections_seen, options, interrupt, progress };
            run.go(&mut result, drain_timeout);
        }
        Err(error) => {
            result.server.oom_kills = error.downcast_ref().map(|OomKilled(kills)| *kills);
            result.failure = Some(format!("{error:#}"));
        }
    }
    result.cause = Cause::of(&result, interrupt.is_raised());
    progress.finish_and_clear();
    result
}

/// The server, where it serves, and where it tells about itself.
fn open(
    target: Target,
    place: Place<'_>,
    command: &[String],
    options: &Options,
    interrupt: &Interrupt,
) -> Result<(Subject, SocketAddr, SocketAddr)> {
    match place {
        Place::Here(executable) => {
            // Puts the file into the page cache before the server does, which would be charged for it if it was the first.
            let _ = std::fs::read(executable);
            let cpus = options.cpus.as_ref().map(|cpus| &cpus.server);
            Subject::launch(target.package(), command, cpus, options.ram_limit_bytes, interrupt)
        }
        Place::Elsewhere(remote) => {
            let (address, admin) = remote.addresses()?;
            Ok((Subject::remote(admin)?, address, admin))
        }
    }
}

fn command(target: Target, executable: &Path, options: &Options, drain_timeout: Duration) -> Vec<String> {
    let mut command = vec![executable.to_string_lossy().into_owned()];
    let db_wait = options.db_wait.to_string();
    command.extend(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--db-wait", &db_wait].map(String::from));
    command.extend(target.flags().iter().map(ToString::to_string));
    // We take the ledger ourselves, when it disturbs nothing.
    command.extend(["--ledger-interval", "1h"].map(String::from));
    if flag_value(options, "--drain-timeout").is_none() {
        command.extend(["--drain-timeout".into(), format!("{}ms", drain_timeout.as_millis())]);
    }
    if options.connections > DEFAULT_MAX_CONNECTIONS && flag_value(options, "--max-connections").is_none() {
        command.extend(["--max-connections".into(), options.connections.to_string()]);
    }
    command.extend(options.server_flags.iter().cloned());
    command
}

/// How long requests in flight may take at the end: about as long as one that is answered normally.
fn drain_timeout(options: &Options) -> Duration {
    let given = flag_value(options, "--drain-timeout").and_then(|time| humantime::parse_duration(time).ok());
    given.unwrap_or_else(|| options.fixed_wait().unwrap_or_default() + Duration::from_secs(3))
}

/// The value of a flag among the server's.
fn flag_value<'a>(options: &'a Options, name: &str) -> Option<&'a str> {
    let mut flags = options.server_flags.iter();
    flags.find_map(|flag| flag.strip_prefix(name)).map(|rest| rest.strip_prefix('=').unwrap_or_default()).map(|value| {
        // `--flag=value`, or `--flag value`.
        if value.is_empty() { flags.next().map_or("", String::as_str) } else { value }
    })
}

/// A run whose server listens.
struct Run<'a> {
    subject: Subject,
    /// Where the server serves.
    address: SocketAddr,
    /// Where it tells about itself.
    admin: SocketAddr,
    /// It ran before us, and will after us.
    is_elsewhere: bool,
    /// What it is called.
    target: &'static str,
    /// How many connections it has said it has had.
    connections_seen: u64,
    options: &'a Options,
    interrupt: &'a Interrupt,
    progress: &'a ProgressBar,
}

impl Run<'_> {
    fn go(mut self, result: &mut RunResult, drain_timeout: Duration) {
        let Options { connections, timeout, .. } = *self.options;
        let spread = self.options.fixed_wait().unwrap_or_default();
        let address = self.address;
        // A server elsewhere was not told how long its database is to take: each request says so.
        let wait = self.options.fixed_wait().filter(|_| self.is_elsewhere);
        let query = wait.map_or_else(String::new, |wait| format!("?wait={}us", wait.as_micros()));
        let get = |path: &str| format!("GET /{path} HTTP/1.1\r\nHost: {address}\r\n\r\n").into_bytes();
        let load = Arc::new(Load::new(Plan {
            endpoint: Endpoint::tcp(address),
            greeting: Some(get("health")),
            requests: Requests::Same(get(&query)),
            users: connections,
            threads: thread::available_parallelism().map_or(1, usize::from),
            timeout: Some(timeout),
            spread,
            interval: None,
        }));
        let mut attack = None;
        let outcome = self.drive(&load, &mut attack, result);
        load.close_window();
        match outcome {
            Ok(()) => result.complete = true,
            Err(Ended::Interrupted) => {
                result.failure = Some("interrupted".into());
                self.subject.read_ledger();
            }
            Err(Ended::Failed(why)) => result.failure = Some(why),
            Err(Ended::ServerDied) => result.failure = Some(self.subject.death()),
        }
        // The server is stopped while the users still hold their sockets: so it closes first.
        self.say("stopping");
        load.enter(Phase::Stop);
        let is_hurried = self.interrupt.is_raised();
        let patience = if is_hurried { HURRIED_STOP_PATIENCE } else { drain_timeout + STOP_PATIENCE };
        self.subject.close(patience, is_hurried, result);
        if let Some(attack) = attack {
            attack.end();
        }
        conclude::conclude(&[load], self.options.fixed_wait(), result);
    }

    fn drive(&mut self, load: &Arc<Load>, attack: &mut Option<Attack>, result: &mut RunResult) -> Result<(), Ended> {
        let attack = attack.insert(Attack::start(load).map_err(failed)?);
        self.connect(load, attack)?;
        self.subject.read_keep_alive();
        self.hold(load, result)?;
        self.settle(load)?;
        self.measure(load, attack, result)?;
        self.say("ledger");
        self.pause(ADMIN_LINGER)?;
        self.subject.read_ledger();
        self.pause(Duration::ZERO)
    }

    /// Lets the users connect, never more than the server's backlog can take on top of what it has accepted.
    fn connect(&mut self, load: &Load, attack: &mut Attack) -> Result<(), Ended> {
        self.say("connecting");
        let users = self.options.connections;
        let backlog_room = (host::somaxconn().min(4096) / 4).max(16) as usize;
        let seen_before = self.counters()?.connections();
        let mut granted = 0;
        let mut last_progress = (Instant::now(), 0);
        loop {
            let counters = self.counters()?;
            let seen = counters.connections().saturating_sub(seen_before);
            let goal = users.min(seen as usize + backlog_room);
            if goal > granted {
                load.connect_permits.add_permits(goal - granted);
                granted = goal;
            }
            let established = load.established();
            self.progress.set_position(established as u64);
            // A kernel completes connections that the server has not accepted: both must have them all.
            if established >= users && counters.open as usize >= users && load.greeted() >= users {
                return Ok(());
            }
            let reached = established + counters.open as usize + load.greeted();
            if reached != last_progress.1 {
                last_progress = (Instant::now(), reached);
            } else if last_progress.0.elapsed() > CONNECT_PATIENCE {
                let why = format!("none of {users} connections could be made");
                return if established > 0 { Ok(()) } else { Err(Ended::Failed(why)) };
            }
            if let Some(why) = attack.failure() {
                return Err(Ended::Failed(why));
            }
            self.pause(CONNECT_POLL_INTERVAL)?;
        }
    }

    /// Lets all users send at once, and waits until the server says that it holds all of their requests.
    fn hold(&mut self, load: &Load, result: &mut RunResult) -> Result<(), Ended> {
        self.say("holding");
        let established = load.established() as u64;
        let deadline = Instant::now() + HOLD_PATIENCE + 3 * self.options.fixed_wait().unwrap_or(HOLD_PATIENCE);
        load.enter(Phase::Go);
        loop {
            self.note_held(result)?;
            self.progress.set_position(result.connections.held_peak.min(established));
            if result.connections.held_peak >= established || Instant::now() > deadline {
                return Ok(());
            }
            self.pause(HOLD_POLL_INTERVAL)?;
        }
    }

    /// Waits until the users no longer send in step. Where most requests are queued, that takes too long, and they are apart
    /// anyway.
    fn settle(&mut self, load: &Load) -> Result<(), Ended> {
        self.say("settling");
        let deadline = Instant::now() + SETTLE_PATIENCE + 3 * self.options.fixed_wait().unwrap_or_default();
        while load.settled() < load.established() && Instant::now() < deadline {
            self.progress.set_position(load.settled() as u64);
            self.pause(HOLD_POLL_INTERVAL)?;
        }
        Ok(())
    }

    fn note_held(&mut self, result: &mut RunResult) -> Result<(), Ended> {
        let counters = self.counters()?;
        let connections = &mut result.connections;
        // The peak that a server elsewhere tells of may be of an earlier run.
        let waiting_peak = if self.is_elsewhere { counters.waiting } else { counters.waiting_peak };
        connections.open_peak = connections.open_peak.max(counters.open);
        connections.held_peak = connections.held_peak.max(waiting_peak.max(counters.waiting + counters.queued));
        connections.waiting_peak = connections.waiting_peak.max(waiting_peak);
        connections.queued_peak = connections.queued_peak.max(counters.queued);
        Ok(())
    }

    /// Measures for the given time, and reads what it cost.
    fn measure(&mut self, load: &Arc<Load>, attack: &mut Attack, result: &mut RunResult) -> Result<(), Ended> {
        self.say("measuring");
        self.subject.begin();
        load.open_window(self.options.duration);
        let outcome = self.watch(load, attack, result);
        // Also of a run that was cut short: what it cost until then.
        load.close_window();
        self.subject.end(load.plan.threads);
        outcome?;
        self.note_held(result)
    }

    fn watch(&mut self, load: &Arc<Load>, attack: &mut Attack, result: &mut RunResult) -> Result<(), Ended> {
        let start = Instant::now();
        let mut series = Series::start(slice::from_ref(load));
        let (mut held_sum, mut samples) = (0, 0);
        let mut counters = ServerCounters::default();
        loop {
            let elapsed = start.elapsed();
            let share = elapsed.as_secs_f64() / self.options.duration.as_secs_f64();
            self.progress.set_position((share.min(1.0) * load.established() as f64) as u64);
            let remaining = self.options.duration.checked_sub(elapsed).filter(|time| !time.is_zero());
            if elapsed >= samples * HELD_SAMPLE_INTERVAL && remaining.is_some() {
                counters = self.counters()?;
                held_sum += counters.waiting + counters.queued;
                samples += 1;
                result.connections.held_mean = Some(held_sum as f64 / f64::from(samples));
            }
            if series.is_due() || remaining.is_none() {
                result.series.push(Second {
                    open: Some(counters.open),
                    held: Some(counters.waiting + counters.queued),
                    ram_bytes: self.subject.current_bytes(),
                    ..series.next(slice::from_ref(load))
                });
                self.progress.set_message(live::line(&result.series));
            }
            let Some(remaining) = remaining else { return Ok(()) };
            if let Some(why) = attack.failure() {
                return Err(Ended::Failed(why));
            }
            self.pause(remaining.min(MEASURE_POLL_INTERVAL))?;
        }
    }

    fn counters(&mut self) -> Result<ServerCounters, Ended> {
        match ServerCounters::fetch(self.admin) {
            Ok(counters) => {
                self.subject.note(counters.memory);
                self.connections_seen = counters.connections();
                Ok(counters)
            }
            Err(error) => {
                // It may have died just now: then that is the cause.
                self.pause(Duration::from_millis(100))?;
                let silence = format!("the server does not answer on its admin port: {error}");
                Err(Ended::Failed(self.subject.last_words().map_or(silence, |words| self.mourn(words))))
            }
        }
    }

    /// What is to be told of a server elsewhere that is gone: whoever runs it may start it again.
    fn mourn(&mut self, (words, is_at_limit): (String, bool)) -> String {
        self.say("gone");
        let deadline = Instant::now() + RETURN_PATIENCE;
        let is_back = loop {
            match ServerCounters::fetch(self.admin) {
                Ok(counters) => break Some(counters.connections()),
                Err(_) if Instant::now() > deadline || self.interrupt.is_raised() => break None,
                Err(_) => thread::sleep(RETURN_POLL_INTERVAL),
            }
        };
        let name = self.target;
        let cause = if is_at_limit { format!(": {KILLED_BY_LIMIT}") } else { String::new() };
        match is_back {
            Some(connections) if connections >= self.connections_seen => {
                format!("{name} did not answer on its admin port for a while; {words}")
            }
            Some(_) => format!("{name} died: it was gone, and was started again; {words}{cause}"),
            None => format!("{name} has died, or hangs: it answers on its admin port no more; {words}{cause}"),
        }
    }

    /// Waits, unless there is a reason to stop.
    fn pause(&mut self, time: Duration) -> Result<(), Ended> {
        thread::sleep(time);
        if self.interrupt.is_raised() {
            return Err(Ended::Interrupted);
        }
        self.subject.exit().map_or(Ok(()), |_| Err(Ended::ServerDied))
    }

    fn say(&self, what: &'static str) {
        self.progress.set_message(what);
    }
}

fn failed(error: anyhow::Error) -> Ended {
    Ended::Failed(format!("{error:#}"))
}
