//! One run: start a server, hold the connections, measure, stop it.

use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use indicatif::ProgressBar;

use crate::admin::ServerCounters;
use crate::args::Options;
use crate::attack::Attack;
use crate::interrupt::Interrupt;
use crate::load::{Load, Phase, Plan};
use crate::memory::Account;
use crate::requests::Requests;
use crate::result::{Client, Connections, Errors, Memory, RunResult, SCHEMA, Second, Wait};
use crate::series::Series;
use crate::server::{Server, describe};
use crate::target::Target;
use crate::warning::Doubt;
use crate::{conclude, host};

/// How often the server is asked while it accepts: often, because the users connect at that pace.
const CONNECT_POLL_INTERVAL: Duration = Duration::from_millis(10);
const HOLD_POLL_INTERVAL: Duration = Duration::from_millis(20);
const MEASURE_POLL_INTERVAL: Duration = Duration::from_millis(50);
/// How often the server is asked what it holds while it is measured.
const HELD_SAMPLE_INTERVAL: Duration = Duration::from_millis(250);
/// After this long without a new connection, the run goes on with those that there are.
const CONNECT_PATIENCE: Duration = Duration::from_secs(10);
/// How long the server may take to hold all requests at once, beside three waits.
const HOLD_PATIENCE: Duration = Duration::from_secs(2);
/// How long the users may take to be apart, beside three waits.
const SETTLE_PATIENCE: Duration = Duration::from_secs(1);
/// How long the server needs to be done with our last question: a socket that is being closed is in no table of the kernel.
const ADMIN_LINGER: Duration = Duration::from_millis(200);
/// How long the server may take for its end, beside its own drain timeout.
const STOP_PATIENCE: Duration = Duration::from_secs(10);
/// The same, after Ctrl-C.
const HURRIED_STOP_PATIENCE: Duration = Duration::from_secs(2);
/// The most connections that a server takes unless told otherwise.
const DEFAULT_MAX_CONNECTIONS: usize = 12_000;

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
    executable: &Path,
    options: &Options,
    interrupt: &Interrupt,
    progress: &ProgressBar,
) -> RunResult {
    // The peak of our own RAM starts anew; without the right to do so it is the highest of all runs so far.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
    // Puts the file into the page cache before the server does, which would be charged for it if it was the first to read it.
    let _ = std::fs::read(executable);
    let account = Account::open();
    let drain_timeout = drain_timeout(options);
    let command = command(target, executable, options, drain_timeout);
    let mut result = empty_result(target, command, options);
    match Server::start(target.package(), &result.command, &account.join_paths(), interrupt) {
        Ok(server) => Run { server, account: &account, options, interrupt, progress }.go(&mut result, drain_timeout),
        Err(error) => result.failure = Some(format!("{error:#}")),
    }
    progress.finish_and_clear();
    end_stragglers(&account, &mut result);
    result
}

fn command(target: Target, executable: &Path, options: &Options, drain_timeout: Duration) -> Vec<String> {
    let mut command = vec![executable.to_string_lossy().into_owned()];
    let db_wait = options.db_wait.to_string();
    command.extend(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--db-wait", &db_wait].map(String::from));
    command.extend(target.flags().iter().map(ToString::to_string));
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

fn empty_result(target: Target, command: Vec<String>, options: &Options) -> RunResult {
    RunResult {
        schema: SCHEMA.to_owned(),
        complete: false,
        failure: None,
        target: target.name().to_owned(),
        command,
        started_at: humantime::format_rfc3339_millis(SystemTime::now()).to_string(),
        host: host::describe(),
        connections: Connections { requested: options.connections, ..Connections::default() },
        wait: Wait { spec: options.db_wait.to_string() },
        duration_s: None,
        requests: 0,
        rps: None,
        rps_ceiling: None,
        in_flight: 0,
        errors_before: Errors::default(),
        errors: Errors::default(),
        latency_us: None,
        above_wait_us: None,
        histograms: None,
        series: Vec::new(),
        memory: Memory::default(),
        server: Default::default(),
        client: Client::default(),
        warnings: Vec::new(),
    }
}

/// After a server was killed, its children may need a moment, and a cgroup can only be removed empty.
fn end_stragglers(account: &Account, result: &mut RunResult) {
    let Some(cgroup) = account.cgroup() else { return };
    if let Ok(kills @ 1..) = cgroup.oom_kills() {
        let text = format!("the kernel has killed {kills} processes of the server for want of memory (OOM)");
        result.warnings.push(Doubt::OutOfMemory.because(text));
    }
    if let Err(error) = cgroup.kill_all() {
        result.warnings.push(Doubt::Left.because(format!("processes may be left: {error}")));
    }
}

/// A run whose server listens.
struct Run<'a> {
    server: Server,
    account: &'a Account,
    options: &'a Options,
    interrupt: &'a Interrupt,
    progress: &'a ProgressBar,
}

impl Run<'_> {
    fn go(mut self, result: &mut RunResult, drain_timeout: Duration) {
        let Options { connections, timeout, .. } = *self.options;
        let spread = self.options.fixed_wait().unwrap_or_default();
        let address = self.server.address;
        let request = format!("GET / HTTP/1.1\r\nHost: {address}\r\n\r\n").into_bytes();
        let load = Arc::new(Load::new(Plan {
            address,
            requests: Requests::Same(request),
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
                self.account.read_ledger(self.server.pid(), &mut result.memory, &mut result.warnings);
            }
            Err(Ended::Failed(why)) => result.failure = Some(why),
            Err(Ended::ServerDied) => {
                let exit = self.server.exit();
                result.failure = Some(self.server.death(exit));
            }
        }
        self.stop(&load, drain_timeout, result);
        if let Some(attack) = attack {
            attack.end();
        }
        conclude::conclude(&load, self.options, result);
    }

    fn drive(&mut self, load: &Arc<Load>, attack: &mut Option<Attack>, result: &mut RunResult) -> Result<(), Ended> {
        self.account.read_idle(self.server.pid(), &mut result.memory, &mut result.warnings);
        let attack = attack.insert(Attack::start(load).map_err(failed)?);
        self.connect(load, attack)?;
        self.hold(load, result)?;
        self.settle(load)?;
        self.measure(load, attack, result)?;
        self.say("ledger");
        self.pause(ADMIN_LINGER)?;
        self.account.read_ledger(self.server.pid(), &mut result.memory, &mut result.warnings);
        self.pause(Duration::ZERO)
    }

    /// Lets the users connect, never more than the server's backlog can take on top of what it has accepted.
    fn connect(&mut self, load: &Load, attack: &mut Attack) -> Result<(), Ended> {
        self.say("connecting");
        let users = self.options.connections;
        let backlog_room = (host::somaxconn().min(4096) / 4).max(16) as usize;
        let mut granted = 0;
        let mut last_progress = (Instant::now(), 0);
        loop {
            let counters = self.counters()?;
            let goal = users.min((counters.accepted + counters.refused) as usize + backlog_room);
            if goal > granted {
                load.connect_permits.add_permits(goal - granted);
                granted = goal;
            }
            let established = load.established();
            self.progress.set_position(established as u64);
            // A kernel completes connections that the server has not accepted: both must have them all.
            if established >= users && counters.open as usize >= users {
                return Ok(());
            }
            let reached = established + counters.open as usize;
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
        connections.open_peak = connections.open_peak.max(counters.open);
        connections.held_peak = connections.held_peak.max(counters.held());
        connections.waiting_peak = connections.waiting_peak.max(counters.waiting_peak);
        connections.queued_peak = connections.queued_peak.max(counters.queued);
        Ok(())
    }

    /// Measures for the given time, and reads what it cost.
    fn measure(&mut self, load: &Load, attack: &mut Attack, result: &mut RunResult) -> Result<(), Ended> {
        self.say("measuring");
        let own_cpu_s = || meter::cpu_time(std::process::id() as i32).ok().map(|time| time.as_secs_f64());
        let (client_before, server_before) = (own_cpu_s(), self.account.cpu_s());
        load.open_window(self.options.duration);
        let outcome = self.watch(load, attack, result);
        // Also of a run that was cut short: what it cost until then.
        load.close_window();
        let spent = |before: Option<f64>, after: Option<f64>| Some(after? - before?);
        result.client.cpu_s = spent(client_before, own_cpu_s());
        result.server.cpu_s = spent(server_before, self.account.cpu_s());
        self.account.read_end(&mut result.memory, &mut result.warnings);
        outcome?;
        self.note_held(result)
    }

    fn watch(&mut self, load: &Load, attack: &mut Attack, result: &mut RunResult) -> Result<(), Ended> {
        let start = Instant::now();
        let mut series = Series::start(load);
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
                    ram_bytes: self.account.current_bytes(),
                    ..series.next(load)
                });
            }
            let Some(remaining) = remaining else { return Ok(()) };
            if let Some(why) = attack.failure() {
                return Err(Ended::Failed(why));
            }
            self.pause(remaining.min(MEASURE_POLL_INTERVAL))?;
        }
    }

    /// Stops the server while the users still hold their sockets: so it closes first.
    fn stop(&mut self, load: &Load, drain_timeout: Duration, result: &mut RunResult) {
        self.say("stopping");
        load.enter(Phase::Stop);
        let had_died = self.server.exit().is_some();
        self.server.terminate();
        // Who interrupts does not want to wait for the answers in flight.
        let is_hurried = self.interrupt.is_raised();
        let patience = if is_hurried { HURRIED_STOP_PATIENCE } else { drain_timeout + STOP_PATIENCE };
        let exit = self.server.wait(Instant::now() + patience);
        result.server.exit = exit.map(describe);
        match exit {
            Some(status) if !status.success() && !had_died && !is_hurried => {
                let text = format!("told to stop, the server ended with {}", describe(status));
                result.warnings.push(Doubt::Server.because(text));
            }
            Some(_) => {}
            None => {
                self.server.kill();
                result.server.exit = Some("killed by loadtest".into());
                if !is_hurried {
                    let text = format!("told to stop, the server did not end in {patience:?}: killed");
                    result.warnings.push(Doubt::Server.because(text));
                }
            }
        }
        // That it cut connections off is our doing: we do not wait for those that are queued.
        let is_ours = |line: &String| line.contains("--drain-timeout");
        let warnings = self.server.stderr().into_iter().filter(|line| line.starts_with("warning:") && !is_ours(line));
        result.warnings.extend(warnings.map(|line| Doubt::Server.because(format!("the server says: {line}"))));
    }

    fn counters(&mut self) -> Result<ServerCounters, Ended> {
        ServerCounters::fetch(self.server.admin).or_else(|error| {
            // It may have died just now: then that is the cause.
            self.pause(Duration::from_millis(100))?;
            Err(Ended::Failed(format!("the server does not answer on its admin port: {error}")))
        })
    }

    /// Waits, unless there is a reason to stop.
    fn pause(&mut self, time: Duration) -> Result<(), Ended> {
        thread::sleep(time);
        if self.interrupt.is_raised() {
            return Err(Ended::Interrupted);
        }
        self.server.exit().map_or(Ok(()), |_| Err(Ended::ServerDied))
    }

    fn say(&self, what: &'static str) {
        self.progress.set_message(what);
    }
}

fn failed(error: anyhow::Error) -> Ended {
    Ended::Failed(format!("{error:#}"))
}
