//! A run as a child process: a crash of it is none of the page's, and the page's RAM and CPU time are not the client's.

use std::collections::HashSet;
use std::fs;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, Result, anyhow, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use results::RunResult;
use results::event::{Event, RunPhase, Timed};

use super::keep::{Keep, Kept, State, sentence};
use super::order::Fault;
use crate::machine::terminal::say;
use crate::subject::launch;

/// How many runs may wait.
const MAX_QUEUED: usize = 8;
/// How long a run may take to end with the page.
const END_TIMEOUT: Duration = Duration::from_secs(20);
const END_POLL_INTERVAL: Duration = Duration::from_millis(50);
/// How long a faulty server may take to take its fault.
const FAULT_TIMEOUT: Duration = Duration::from_secs(5);

/// Runs what is ordered, one after the other.
#[derive(Debug)]
pub(crate) struct Runner {
    keep: Arc<Keep>,
    /// `None` once nothing more is taken.
    jobs: Mutex<Option<Sender<Job>>>,
    active: Arc<Mutex<Active>>,
    conductor: JoinHandle<()>,
}

/// What runs, and what shall not.
#[derive(Debug, Default)]
struct Active {
    /// The number of the run, and the pid of its process.
    running: Option<(u32, i32)>,
    /// Runs that were stopped before their turn.
    cancelled: HashSet<u32>,
}

/// What to run.
#[derive(Debug)]
pub(crate) struct Job {
    /// The servers' names.
    pub(crate) targets: Vec<String>,
    /// The connections that each shall hold.
    pub(crate) connections: usize,
    /// The arguments of loadtest, which write events to standard output.
    pub(crate) arguments: Vec<String>,
    /// What to inject.
    pub(super) fault: Option<Fault>,
    /// Where it is kept.
    kept: Option<Arc<Kept>>,
}

impl Job {
    /// A run with these arguments.
    pub(crate) fn new(targets: Vec<String>, connections: usize, arguments: Vec<String>) -> Self {
        Self { targets, connections, arguments, fault: None, kept: None }
    }

    /// The same with this fault in it.
    pub(super) fn with_fault(self, fault: Option<Fault>) -> Self {
        Self { fault, ..self }
    }
}

impl Runner {
    /// Starts to wait for orders.
    pub(crate) fn start(keep: Arc<Keep>) -> Self {
        let (jobs, ordered) = channel();
        let active = Arc::new(Mutex::new(Active::default()));
        let conducted = active.clone();
        let conductor = thread::spawn(move || conduct(&ordered, &conducted));
        Self { keep, jobs: Mutex::new(Some(jobs)), active, conductor }
    }

    /// Takes an order. Returns its number.
    ///
    /// # Errors
    /// Too many wait, or the run cannot be kept.
    pub(crate) fn order(&self, mut job: Job) -> Result<u32> {
        let queued = self.keep.summaries().iter().filter(|run| run.state == State::Queued).count();
        ensure!(queued < MAX_QUEUED, "{queued} runs wait already: stop some, or wait");
        let at = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
        let kept = self.keep.add(at, job.targets.clone(), job.connections, job.arguments.clone())?;
        let id = kept.id;
        job.kept = Some(kept);
        let jobs = lock(&self.jobs);
        jobs.as_ref().and_then(|jobs| jobs.send(job).ok()).context("loadtest is about to end")?;
        Ok(id)
    }

    /// Stops a run, or takes it off the queue. Once more kills its server.
    pub(crate) fn stop(&self, id: u32) {
        let mut active = lock(&self.active);
        match active.running {
            // It may just have ended. Not SIGINT, which is ignored by what a shell starts in the background.
            Some((running, pid)) if running == id => drop(kill(Pid::from_raw(pid), Signal::SIGTERM)),
            _ => drop(active.cancelled.insert(id)),
        }
    }

    /// Takes nothing more, stops what runs, and waits until it has kept what it measured.
    pub(crate) fn end(&self) {
        drop(lock(&self.jobs).take());
        self.keep.summaries().iter().filter(|run| run.state == State::Queued).for_each(|run| self.stop(run.id()));
        let running = lock(&self.active).running;
        running.into_iter().for_each(|(id, _)| self.stop(id));
        let deadline = Instant::now() + END_TIMEOUT;
        // What is not over then, its guard kills.
        while !self.conductor.is_finished() && Instant::now() < deadline {
            thread::sleep(END_POLL_INTERVAL);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs the jobs, until no more can come.
fn conduct(jobs: &Receiver<Job>, active: &Mutex<Active>) {
    for job in jobs {
        let Some(kept) = &job.kept else { continue };
        let is_cancelled = lock(active).cancelled.contains(&kept.id);
        let (at_s, sentence) = match is_cancelled {
            true => (0.0, "Stopped before it began.".into()),
            false => Child::run(&job, kept, active),
        };
        if let Err(error) = kept.end(at_s, sentence) {
            say(format_args!("warning: {error:#}"));
        }
    }
}

/// A run that goes on.
struct Child<'a> {
    job: &'a Job,
    kept: &'a Arc<Kept>,
    start: Instant,
    results: Vec<RunResult>,
    last_s: f64,
    /// The last line on standard output that is no event: what `claims` says in the end.
    printed: Option<String>,
    /// The server's process and address.
    server: Option<(i32, String)>,
    duration_s: f64,
}

impl<'a> Child<'a> {
    /// Runs a job. Returns when it ended, and what it says.
    fn run(job: &'a Job, kept: &'a Arc<Kept>, active: &Mutex<Active>) -> (f64, String) {
        kept.enter(State::Running);
        let mut child = Self {
            job,
            kept,
            start: Instant::now(),
            results: Vec::new(),
            last_s: 0.0,
            printed: None,
            server: None,
            duration_s: 0.0,
        };
        let why = child.follow(active);
        lock(active).running = None;
        let sentence = match (child.results.is_empty(), child.printed, why) {
            (false, ..) => sentence(&child.results),
            (true, Some(printed), _) => printed,
            (true, None, Ok(why)) => why,
            (true, None, Err(error)) => format!("{error:#}"),
        };
        (child.last_s, sentence)
    }

    /// Starts it, keeps its events until it ends, and returns the last that it said on standard error.
    fn follow(&mut self, active: &Mutex<Active>) -> Result<String> {
        let own = std::env::current_exe().context("cannot find loadtest's own executable")?;
        let argv: Vec<String> =
            [own.to_string_lossy().into_owned()].into_iter().chain(self.job.arguments.iter().cloned()).collect();
        let piped = |command: &mut Command| {
            command.stdout(Stdio::piped()).stderr(Stdio::piped());
        };
        let mut started = launch::start(&argv, &[], None, piped).context("the run cannot be started")?;
        lock(active).running = Some((self.kept.id, started.pid));
        let stderr = started.guard.stderr.take().context("its errors cannot be read")?;
        let said = thread::spawn(move || repeat(BufReader::new(stderr)));
        let stdout = started.guard.stdout.take().context("its events cannot be read")?;
        for line in BufReader::new(stdout).lines() {
            self.take(&line.context("its events cannot be read")?)?;
        }
        started.guard.wait().context("cannot wait for the run")?;
        said.join().map_err(|_| anyhow!("its errors were lost"))
    }

    /// Keeps an event, and does what it is the time for.
    fn take(&mut self, line: &str) -> Result<()> {
        let Ok(Timed { at_s, event }) = serde_json::from_str(line) else {
            self.printed = Some(line.to_owned()).filter(|line| !line.is_empty()).or(self.printed.take());
            return Ok(());
        };
        self.last_s = at_s;
        match event {
            // Several a second, and nobody looks at them here.
            Event::Progress { .. } => return Ok(()),
            Event::Started { duration_s, .. } => self.duration_s = duration_s,
            Event::Listening { pid, address, .. } => self.server = pid.zip(address),
            Event::Entered { phase: RunPhase::Measuring } => self.inject_later(),
            Event::Finished(result) => self.results.push(*result),
            _ => {}
        }
        self.kept.append(line)
    }

    /// Injects the fault a third into the window, so that there is a before and an after.
    fn inject_later(&self) {
        let (Some(fault), Some((pid, address))) = (self.job.fault, self.server.clone()) else { return };
        let (kept, start, wait) = (self.kept.clone(), self.start, Duration::from_secs_f64(self.duration_s / 3.0));
        thread::spawn(move || {
            thread::sleep(wait);
            let injected = inject(fault, pid, &address).and_then(|()| {
                let event = Event::Injected { fault: fault.name().into() };
                kept.append(&serde_json::to_string(&Timed { at_s: start.elapsed().as_secs_f64(), event })?)
            });
            if let Err(error) = injected {
                say(format_args!("warning: the fault was not injected: {error:#}"));
            }
        });
    }
}

/// Repeats what a run says on standard error. Returns its error, or the last line.
fn repeat(lines: impl io::BufRead) -> String {
    let (mut last, mut error) = (String::new(), None);
    for line in lines.lines().map_while(Result::ok) {
        say(&line);
        if let Some(text) = line.strip_prefix("error: ") {
            error = Some(text.to_owned());
        }
        last = if line.trim().is_empty() { last } else { line };
    }
    console::strip_ansi_codes(&error.unwrap_or(last)).into_owned()
}

/// Causes a fault in a server.
fn inject(fault: Fault, pid: i32, address: &str) -> Result<()> {
    let path = match fault {
        Fault::Panic => "panic",
        Fault::Abort => "abort",
        Fault::Leak => "leak",
        Fault::KillWorker => {
            // The root comes first. Of its children, one with a connection has a file more than one that waits for it. A
            // server without children is its own worker.
            let children = meter::process_tree(pid).into_iter().skip(1);
            let files = |pid: &i32| fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count);
            let worker = children.max_by_key(files).unwrap_or(pid);
            return Ok(kill(Pid::from_raw(worker), Signal::SIGKILL)?);
        }
    };
    let mut stream = TcpStream::connect_timeout(&address.parse()?, FAULT_TIMEOUT)?;
    stream.set_write_timeout(Some(FAULT_TIMEOUT))?;
    let request =
        format!("POST /chaos/{path} HTTP/1.1\r\nHost: {address}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    // It may have no answer: the fault can take the server with it.
    stream.set_read_timeout(Some(FAULT_TIMEOUT))?;
    let _ = BufReader::new(stream).read_line(&mut String::new());
    Ok(())
}
