//! What every experiment needs: the executables, how much to measure, and where findings go.

use std::io::{self, Seek as _};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use common::db::Latency;
use load::ThisProcess;
use load::net::Sources;
use results::claim::{self, Figure, Finding, Missing, Unit};
use results::event::{Sink, Sinks};
use results::statistics::Estimate;
use results::{RunResult, Target};

use crate::machine::host;
use crate::machine::interrupt::{Interrupt, kill_group};
use crate::machine::walls::Asked;
use crate::measure::target::{self, Location, TargetSpec};
use crate::subject::admin::ServerCounters;
use crate::subject::build::{self, Executables};
use crate::subject::{Launch, Subject, launch};

/// No program takes as long, unless it hangs.
const PROGRAM_TIMEOUT: Duration = Duration::from_secs(180);
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// The bench on which all experiments run, one after the other.
pub(crate) struct Lab<'a> {
    /// Whether to measure as little as gives an interval.
    pub(crate) is_quick: bool,
    executables: &'a Executables,
    primitives: &'a Path,
    /// Whether the user asked to stop.
    pub(crate) interrupt: &'a Interrupt,
    findings: Vec<Finding>,
}

/// One of the project's servers, started for an experiment. Drop stops it.
pub(crate) struct Started {
    pub(crate) subject: Subject,
    pub(crate) address: SocketAddr,
    pub(crate) admin: SocketAddr,
}

impl<'a> Lab<'a> {
    /// A bench without findings.
    pub(crate) fn new(
        is_quick: bool,
        executables: &'a Executables,
        primitives: &'a Path,
        interrupt: &'a Interrupt,
    ) -> Self {
        Self { is_quick, executables, primitives, interrupt, findings: Vec::new() }
    }

    /// What was found since the last call.
    pub(crate) fn take_findings(&mut self) -> Vec<Finding> {
        std::mem::take(&mut self.findings)
    }

    /// What was found so far in this experiment.
    pub(crate) fn found(&self, name: &str) -> Option<Estimate> {
        claim::figure(&self.findings, name).map(|figure| figure.estimate)
    }

    /// One of two efforts.
    pub(crate) fn quick_or<T>(&self, quick: T, full: T) -> T {
        if self.is_quick { quick } else { full }
    }

    /// Records a figure; without an estimate, that there were too few samples.
    pub(crate) fn record(
        &mut self,
        name: impl Into<String>,
        what: impl Into<String>,
        unit: Unit,
        estimate: Option<Estimate>,
    ) {
        self.record_noted(name, what, unit, estimate, None);
    }

    /// Records a figure with something to know about it.
    pub(crate) fn record_noted(
        &mut self,
        name: impl Into<String>,
        what: impl Into<String>,
        unit: Unit,
        estimate: Option<Estimate>,
        note: Option<String>,
    ) {
        let (name, what) = (name.into(), what.into());
        let is_finite =
            |estimate: &Estimate| [estimate.low, estimate.value, estimate.high].iter().all(|end| end.is_finite());
        self.findings.push(match estimate.filter(is_finite) {
            Some(estimate) => Finding::Figure(Figure { name, what, unit, estimate, note }),
            None => Finding::Missing(Missing { name, why: "too few samples for an interval".into() }),
        });
    }

    /// Records why there is no figure of this name, or of those whose names begin with it.
    pub(crate) fn record_missing(&mut self, name: impl Into<String>, why: impl ToString) {
        self.findings.push(Finding::Missing(Missing { name: name.into(), why: why.to_string() }));
    }

    /// Takes over what was found elsewhere.
    pub(crate) fn record_all(&mut self, findings: impl IntoIterator<Item = Finding>) {
        self.findings.extend(findings);
    }

    /// The executable of the primitives.
    pub(crate) fn primitives(&self) -> String {
        self.primitives.to_string_lossy().into_owned()
    }

    /// Fails if the user asked to stop.
    ///
    /// # Errors
    /// The user did.
    pub(crate) fn check_interrupt(&self) -> Result<()> {
        ensure!(!self.interrupt.is_raised(), "interrupted");
        Ok(())
    }

    /// Whether a program can be run by this name.
    pub(crate) fn is_installed(program: &str) -> bool {
        host::is_in(&std::env::var_os("PATH").unwrap_or_default(), program)
    }

    /// What a program prints, which is killed as soon as the user asks to stop.
    ///
    /// # Errors
    /// It cannot be started, or fails.
    pub(crate) fn output_of(&self, argv: &[String]) -> Result<String> {
        self.check_interrupt()?;
        let [mut file, mut errors] = [tempfile::tempfile()?, tempfile::tempfile()?];
        let (out, err) = (file.try_clone()?, errors.try_clone()?);
        let mut guarded = launch::start(argv, &[], None, move |command| {
            command.stdout(out).stderr(err);
        })
        .with_context(|| format!("cannot run {}", argv[0]))?;
        self.interrupt.guard_disposable(guarded.guard.id() as i32);
        let deadline = Instant::now() + PROGRAM_TIMEOUT;
        let status = loop {
            match guarded.guard.try_wait()? {
                None if Instant::now() < deadline => thread::sleep(POLL_INTERVAL),
                status => break status,
            }
        };
        if status.is_none() {
            kill_group(guarded.guard.id() as i32);
        }
        self.interrupt.guard(0);
        self.check_interrupt()?;
        let status = status.with_context(|| format!("{} did not end within {PROGRAM_TIMEOUT:?}", argv[0]))?;
        errors.rewind()?;
        let said = io::read_to_string(errors).unwrap_or_default();
        let last = said.lines().last().unwrap_or("it said nothing");
        ensure!(status.success(), "{} failed ({status}): {last}", argv[0]);
        file.rewind()?;
        Ok(io::read_to_string(file)?)
    }

    /// Starts a server whose queries take `wait`.
    ///
    /// # Errors
    /// It cannot be started.
    pub(crate) fn start(
        &self,
        target: Target,
        wait: Duration,
        flags: &[&str],
        ram_limit_bytes: Option<u64>,
    ) -> Result<Started> {
        self.check_interrupt()?;
        let mut command = build::command(target, &self.executables[&target], Latency::Fixed(wait));
        command.extend(flags.iter().map(ToString::to_string));
        let launch = Launch {
            name: build::package(target),
            argv: &command,
            processes: 1,
            database_url: None,
            cpus: None,
            ram_limit_bytes,
        };
        let (subject, address, admins) = Subject::launch(&launch, self.interrupt)?;
        Ok(Started { subject, address, admin: admins[0] })
    }

    /// A run as `loadtest --target` makes it, without progress.
    ///
    /// # Errors
    /// The machine's limits do not allow it, or the user asked to stop.
    pub(crate) fn run(&self, target: Target, spec: &TargetSpec) -> Result<RunResult> {
        self.run_watched(target, spec, &mut Sinks::default())
    }

    /// The same, watched by this sink.
    ///
    /// # Errors
    /// See [`run`](Self::run).
    pub(crate) fn run_watched(&self, target: Target, spec: &TargetSpec, sink: &mut dyn Sink) -> Result<RunResult> {
        host::prepare_for(&Asked::new(spec.connections, &[target]))?;
        let location = Location::Local(&self.executables[&target]);
        let result = target::run(target, location, spec, self.interrupt, sink);
        self.check_interrupt()?;
        Ok(result)
    }
}

/// What most runs of experiments have in common.
pub(crate) fn spec(connections: usize, wait: Duration, duration: Duration) -> TargetSpec {
    TargetSpec {
        connections,
        duration,
        rate: None,
        db_wait: Latency::Fixed(wait),
        database: None,
        timeout: Duration::from_secs(30),
        ram_limit_bytes: None,
        cpus: None,
        server_flags: Vec::new(),
        round: None,
        place: Arc::new(ThisProcess),
        processes: 1,
        sources: Sources::default(),
    }
}

/// Why there is no quotient.
pub(crate) const NO_QUOTIENT: &str =
    "the divisor's interval reaches zero: there is too little of it, or too few rounds";

/// The quotient of two independent figures: its interval has every quotient of the two intervals.
pub(crate) fn quotient(one: Estimate, other: Estimate) -> Option<Estimate> {
    let ends = [one.low / other.low, one.low / other.high, one.high / other.low, one.high / other.high];
    (other.low > 0.0).then(|| Estimate {
        value: one.value / other.value,
        low: ends.into_iter().fold(f64::INFINITY, f64::min),
        high: ends.into_iter().fold(f64::NEG_INFINITY, f64::max),
        samples: one.samples.min(other.samples),
    })
}

impl Started {
    /// Waits until the server has `count` requests that wait, up to `timeout`. How many it had in the end; `None` if it died.
    pub(crate) fn wait_for_waiting(&self, count: u64, timeout: Duration) -> Option<u64> {
        let deadline = Instant::now() + timeout;
        loop {
            let waiting = ServerCounters::fetch(self.admin).ok()?.waiting;
            if waiting >= count || Instant::now() > deadline {
                return Some(waiting);
            }
            thread::sleep(POLL_INTERVAL);
        }
    }
}
