//! Loads a URL, as wrk does: the same options, the same output, the same meaning of each line of it.

mod report;
pub(crate) mod script;
mod spectrum;
mod stats;
pub(crate) mod units;
mod url;

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::slice;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use hdrhistogram::Histogram;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use self::report::Report;
use self::script::{Script, Summary, Thread};
use self::spectrum::Spectrum;
use self::stats::Stats;
pub(crate) use self::url::Url;
use crate::attack::Attack;
use crate::condition::{self, Conditions};
use crate::cpus::Split;
use crate::host;
use crate::interrupt::{EXIT_STATUS, Interrupt};
use crate::latency::Latencies;
use crate::load::{Load, Phase, Plan};
use crate::output::{self, OutputArgs, Outputs};
use crate::requests::Requests;
use crate::result::{Errors, RunResult, Second};
use crate::series::Series;
use crate::stdout::print;
use crate::subject::{Choice, Subject, command_of};

/// How often the answers of each thread are counted.
const RATE_INTERVAL: Duration = Duration::from_millis(100);
/// How long a server that we started may take for its end.
const STOP_PATIENCE: Duration = Duration::from_secs(10);

/// wrk's options.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// What to load; nothing for the null server.
    pub(crate) url: Option<Url>,
    /// What to meter.
    pub(crate) subject: Choice,
    /// The CPUs of each.
    pub(crate) cpus: Option<Split>,
    /// Where to write the result.
    pub(crate) outputs: OutputArgs,
    /// What it must not be.
    pub(crate) conditions: Conditions,
    /// Threads, which share the connections.
    pub(crate) threads: usize,
    /// Connections in all.
    pub(crate) connections: usize,
    /// How long.
    pub(crate) duration: Duration,
    /// Further fields of the request.
    pub(crate) headers: Vec<String>,
    /// A script in Lua.
    pub(crate) script: Option<PathBuf>,
    /// Arguments for the script.
    pub(crate) arguments: Vec<String>,
    /// Whether to print percentiles.
    pub(crate) latency: bool,
    /// Requests a second; as many as the server takes, if nothing.
    pub(crate) rate: Option<usize>,
    /// Whether to print percentiles also of the latencies that are not corrected for requests sent late.
    pub(crate) uncorrected: bool,
    /// Answers that take longer are counted as timeouts, and not in the latencies.
    pub(crate) timeout: Duration,
}

/// Loads the URL, and prints what wrk prints; on stderr, what wrk does not tell.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    host::prepare_for(options.connections, host::SPARE_DESCRIPTORS)?;
    let outputs = Outputs::prepare(&options.outputs, false)?;
    let interrupt = Interrupt::install()?;
    options.cpus.as_ref().map_or(Ok(()), |cpus| cpus.client.pin())?;
    let server_cpus = options.cpus.as_ref().map(|cpus| &cpus.server);
    let (subject, url) = match &options.url {
        Some(url) => (Subject::open(&options.subject, url, server_cpus, &interrupt)?, url.clone()),
        None => Subject::null(server_cpus, &interrupt)?,
    };
    let address = url.connectable_address()?;
    let threads: Vec<_> = std::iter::repeat_with(|| Thread::new(address)).take(options.threads).collect();
    let (setup, loads) = prepare(options, &url, &threads)?;
    print(&report::heading(url.as_str(), options.duration, options.threads, options.connections))?;

    let run = Run { options, threads: &threads, loads: &loads, interrupt: &interrupt };
    let (report, result) = run.go(subject, &url)?;
    print_report(&report, setup.as_ref())?;
    // stderr may be closed.
    let _ = write!(io::stderr(), "{}", crate::report::of_run_on_stderr(&result));
    let results = slice::from_ref(&result);
    let is_failed = options.conditions.fail(results);
    outputs.write(results).map_err(|error| output::rescue(results, error))?;
    if let Some(error) = threads.iter().find_map(|thread| thread.error()) {
        bail!("{error}");
    }
    let has_success = report.summary.complete > report.summary.errors.status;
    Ok(match interrupt.is_raised() {
        true => ExitCode::from(EXIT_STATUS),
        false if !has_success || result.failure.is_some() => ExitCode::FAILURE,
        false if is_failed => ExitCode::from(condition::EXIT_STATUS),
        false => ExitCode::SUCCESS,
    })
}

/// A run whose server listens.
struct Run<'a> {
    options: &'a Options,
    threads: &'a [Arc<Thread>],
    loads: &'a [Arc<Load>],
    interrupt: &'a Interrupt,
}

impl<'a> Run<'a> {
    fn go(&self, mut subject: Subject, url: &Url) -> Result<(Report<'a>, RunResult)> {
        let Self { options, loads, .. } = *self;
        let mut result = RunResult::new(url.as_str(), command_of(&options.subject), options.connections);
        subject.begin();
        let start = Instant::now();
        let attacks = loads.iter().map(|load| begin(load, options.duration)).collect::<Result<Vec<_>>>()?;
        let rates = Stats::up_to(u64::MAX, [&self.watch(&mut subject, &mut result)]);
        loads.iter().for_each(|load| load.close_window());
        let runtime = start.elapsed();
        subject.end(options.threads);
        let (latency, summary) = conclude(loads, options, runtime);
        let spectra = spectra(loads, options);
        subject.read_ledger();
        loads.iter().for_each(|load| load.enter(Phase::Stop));
        let died = subject.exit().map(|_| subject.death());
        subject.close(STOP_PATIENCE, self.interrupt.is_raised(), &mut result);
        attacks.into_iter().for_each(Attack::end);

        result.failure = died.or_else(|| self.interrupt.is_raised().then(|| "interrupted".into()));
        // As in wrk, they were waited for; so no user has counted them.
        result.errors.timeout = summary.errors.timeout;
        result.complete = result.failure.is_none() && self.threads.iter().all(|thread| thread.error().is_none());
        crate::conclude::conclude(loads, None, &mut result);
        Ok((Report { latency, requests_per_s: rates, options, spectra, summary }, result))
    }

    /// Waits for the end, and counts how many answers a second each thread has meanwhile.
    fn watch(&self, subject: &mut Subject, result: &mut RunResult) -> Histogram<u64> {
        let Self { options: Options { duration, .. }, loads, .. } = *self;
        let progress = progress_bar(*duration);
        let mut rates = Histogram::new(4).unwrap_or_else(|_| unreachable!());
        let start = Instant::now();
        let mut series = Series::start(loads);
        let mut last: Vec<_> = loads.iter().map(|_| (0, start)).collect();
        while let Some(remaining) = duration.checked_sub(start.elapsed()).filter(|time| !time.is_zero()) {
            thread::sleep(remaining.min(RATE_INTERVAL));
            let has_failed = self.threads.iter().any(|thread| thread.error().is_some());
            if self.interrupt.is_raised() || has_failed || subject.exit().is_some() {
                break;
            }
            for (load, last) in loads.iter().zip(&mut last) {
                let now = (load.complete(), Instant::now());
                if now.0 > last.0 {
                    let rate = (now.0 - last.0) as f64 / (now.1 - last.1).as_secs_f64();
                    // It grows as needed, and so cannot fail.
                    let _ = rates.record(rate as u64);
                    *last = now;
                }
            }
            if series.is_due() {
                subject.refresh();
                result.series.push(Second { ram_bytes: subject.current_bytes(), ..series.next(loads) });
            }
            progress.set_position(start.elapsed().as_secs());
        }
        // What is left of the last second.
        subject.refresh();
        result.series.push(Second { ram_bytes: subject.current_bytes(), ..series.next(loads) });
        progress.finish_and_clear();
        rates
    }
}

/// The load of each thread, and the script's own state beside theirs, if there is a script.
fn prepare(options: &Options, url: &Url, threads: &[Arc<Thread>]) -> Result<(Option<Script>, Vec<Arc<Load>>)> {
    // As wrk: what is left over by the division has no thread.
    let users = options.connections / options.threads;
    let interval = options.rate.map(|rate| Duration::from_secs_f64((users * options.threads) as f64 / rate as f64));
    let load = |address, requests| {
        let endpoint = url.endpoint(address)?;
        let (greeting, spread) = (None, Duration::ZERO);
        let plan = Plan { endpoint, greeting, requests, users, threads: 1, timeout: None, spread, interval };
        anyhow::Ok(Arc::new(Load::new(plan)))
    };
    let Some(file) = &options.script else {
        let request = url.request(&options.headers).into_bytes();
        let loads = threads.iter().map(|thread| load(thread.address(), Requests::Same(request.clone())));
        return Ok((None, loads.collect::<Result<_>>()?));
    };
    let new_script = |thread| Script::load(file, url, &options.headers, thread);
    let setup = new_script(&threads[0])?;
    let mut requests_at_once = None;
    let mut loads = Vec::new();
    for thread in threads {
        let mut script = new_script(thread)?;
        setup.set_up(&script)?;
        script.start(url, &options.arguments)?;
        let counted = match requests_at_once {
            Some(count) => count,
            None => script.count_requests_at_once()?,
        };
        script.requests_at_once = *requests_at_once.insert(counted);
        loads.push(load(thread.address(), Requests::Scripted(Box::new(script)))?);
    }
    Ok((Some(setup), loads))
}

/// The distributions that wrk2 prints with a rate.
fn spectra(loads: &[Arc<Load>], options: &Options) -> Vec<Spectrum> {
    if options.rate.is_none() || !options.latency {
        return Vec::new();
    }
    let corrected: Vec<Latencies> = loads.iter().map(|load| load.latencies()).collect();
    let mut spectra = vec![Spectrum::new("Recorded Latency", corrected.iter().flat_map(Latencies::of_all_answers))];
    if options.uncorrected {
        let title = "Uncorrected Latency (measured without taking delayed starts into account)";
        let uncorrected: Vec<Latencies> = loads.iter().map(|load| load.uncorrected()).collect();
        spectra.push(Spectrum::new(title, uncorrected.iter().flat_map(Latencies::of_all_answers)));
    }
    spectra
}

fn print_report(report: &Report<'_>, setup: Option<&Script>) -> Result<()> {
    setup.map_or(Ok(()), Script::flush)?;
    print(&report.to_string())?;
    setup.map_or(Ok(()), |setup| setup.finish(&report.summary, &report.latency, &report.requests_per_s))
}

/// Starts the users of one thread.
fn begin(load: &Arc<Load>, duration: Duration) -> Result<Attack> {
    load.open_window(duration);
    load.enter(Phase::Go);
    load.connect_permits.add_permits(load.plan.users);
    Attack::start(load)
}

/// On a terminal only, and on stderr: stdout is for the result.
fn progress_bar(duration: Duration) -> ProgressBar {
    let progress =
        ProgressBar::with_draw_target(Some(duration.as_secs().max(1)), ProgressDrawTarget::stderr_with_hz(5));
    let style = ProgressStyle::with_template("{wide_bar} {elapsed}/{len} s");
    progress.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    progress
}

/// Adds up what the threads have seen: the latencies that are no timeouts, and the rest. With a rate, timeouts are among the
/// latencies, as in wrk2.
fn conclude(loads: &[Arc<Load>], options: &Options, runtime: Duration) -> (Stats, Summary) {
    let latencies: Vec<Latencies> = loads.iter().map(|load| load.latencies()).collect();
    let histograms = || latencies.iter().flat_map(Latencies::of_all_answers);
    let in_time = Stats::up_to(options.timeout.as_micros() as u64, histograms());
    let all = Stats::up_to(u64::MAX, histograms());
    let mut summary = Summary { runtime, complete: 0, bytes: 0, errors: Errors::default() };
    for load in loads {
        summary.complete += load.complete();
        summary.bytes += load.bytes();
        summary.errors += load.errors().1;
    }
    summary.errors.timeout += all.count() - in_time.count();
    if options.rate.is_some() {
        return (all, summary);
    }
    // What wrk does against coordinated omission: it assumes that each connection was to send at its mean rate.
    let mut latency = in_time;
    let users: usize = loads.iter().map(|load| load.plan.users).sum();
    if let Some(each @ 1..) = summary.complete.checked_div(users as u64) {
        latency.correct(runtime.as_micros() as u64 / each);
    }
    (latency, summary)
}
