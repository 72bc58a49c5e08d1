//! Loads a URL, as wrk does: the same options, the same output, the same meaning of each line of it.

mod report;
mod stats;
pub(crate) mod units;
mod url;

use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use hdrhistogram::Histogram;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use self::report::Report;
use self::stats::Stats;
pub(crate) use self::url::Url;
use crate::attack::Attack;
use crate::host;
use crate::interrupt::{EXIT_STATUS, Interrupt};
use crate::latency::Latencies;
use crate::load::{Load, Phase};
use crate::result::Errors;

/// How often the answers of each thread are counted.
const RATE_INTERVAL: Duration = Duration::from_millis(100);

/// wrk's options.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// What to load.
    pub(crate) url: Url,
    /// Threads, which share the connections.
    pub(crate) threads: usize,
    /// Connections in all.
    pub(crate) connections: usize,
    /// How long.
    pub(crate) duration: Duration,
    /// Further fields of the request.
    pub(crate) headers: Vec<String>,
    /// Whether to print percentiles.
    pub(crate) latency: bool,
    /// Answers that take longer are counted as timeouts, and not in the latencies.
    pub(crate) timeout: Duration,
}

/// Loads the URL, and prints what wrk prints.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    host::prepare_for(options.connections)?;
    let interrupt = Interrupt::install()?;
    let address = options.url.connectable_address()?;
    let request = options.url.request(&options.headers).into_bytes();
    println!("{}", report::heading(options.url.as_str(), options.duration, options.threads, options.connections));

    // As wrk: each thread has its connections, and what is left over by the division has none.
    let users = options.connections / options.threads;
    let new_load = || Arc::new(Load::new(address, request.clone(), users, None, Duration::ZERO));
    let loads: Vec<_> = std::iter::repeat_with(new_load).take(options.threads).collect();
    let start = Instant::now();
    let attacks = loads.iter().map(|load| begin(load, users, options.duration)).collect::<Result<Vec<_>>>()?;
    let rates = watch(&loads, options.duration, &interrupt);
    for load in &loads {
        load.close_window();
    }
    let runtime = start.elapsed();
    let summary = Summary::of(&loads, options.timeout, runtime);
    for load in &loads {
        load.enter(Phase::Stop);
    }
    attacks.into_iter().for_each(Attack::end);
    print!("{}", summary.report(&rates, options.latency, runtime));
    Ok(match interrupt.is_raised() {
        true => ExitCode::from(EXIT_STATUS),
        false if summary.complete > summary.errors.status => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

/// Starts the users of one thread.
fn begin(load: &Arc<Load>, users: usize, duration: Duration) -> Result<Attack> {
    load.open_window(duration);
    load.enter(Phase::Go);
    load.connect_permits.add_permits(users);
    Attack::start(load, users, Some(1))
}

/// Waits for the end, and counts how many answers a second each thread has meanwhile.
fn watch(loads: &[Arc<Load>], duration: Duration, interrupt: &Interrupt) -> Histogram<u64> {
    let progress = progress_bar(duration);
    let mut rates = Histogram::new(4).unwrap_or_else(|_| unreachable!());
    let start = Instant::now();
    let mut last: Vec<_> = loads.iter().map(|_| (0, start)).collect();
    while let Some(remaining) = duration.checked_sub(start.elapsed()).filter(|time| !time.is_zero()) {
        thread::sleep(remaining.min(RATE_INTERVAL));
        if interrupt.is_raised() {
            break;
        }
        for (load, last) in loads.iter().zip(&mut last) {
            let now = (load.complete(), Instant::now());
            if now.0 > last.0 {
                let rate = (now.0 - last.0) as f64 / (now.1 - last.1).as_secs_f64();
                rates.saturating_record(rate as u64);
                *last = now;
            }
        }
        progress.set_position(start.elapsed().as_secs());
    }
    progress.finish_and_clear();
    rates
}

/// On a terminal only, and on stderr: stdout is for the result.
fn progress_bar(duration: Duration) -> ProgressBar {
    let progress =
        ProgressBar::with_draw_target(Some(duration.as_secs().max(1)), ProgressDrawTarget::stderr_with_hz(5));
    let style = ProgressStyle::with_template("{wide_bar} {elapsed}/{len} s");
    progress.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    progress
}

/// What all threads have seen.
#[derive(Debug)]
struct Summary {
    latency: Stats,
    complete: u64,
    bytes: u64,
    errors: Errors,
}

impl Summary {
    fn of(loads: &[Arc<Load>], timeout: Duration, runtime: Duration) -> Self {
        let latencies: Vec<Latencies> = loads.iter().map(|load| load.conclude().0).collect();
        let histograms = || latencies.iter().flat_map(Latencies::of_all_answers);
        let mut latency = Stats::up_to(timeout.as_micros() as u64, histograms());
        let answered: u64 = histograms().map(Histogram::len).sum();
        let mut errors = Errors { timeout: answered - latency.count(), ..Errors::default() };
        for load in loads {
            let Errors { connect, read, write, timeout, status } = load.errors();
            errors.connect += connect;
            errors.read += read;
            errors.write += write;
            errors.timeout += timeout;
            errors.status += status;
        }
        let complete = loads.iter().map(|load| load.complete()).sum();
        // What wrk does against coordinated omission: it assumes that each connection was to send at its mean rate.
        let users = loads.len() as u64 * loads.first().map_or(0, |load| load.users()) as u64;
        if let Some(each @ 1..) = u64::checked_div(complete, users) {
            latency.correct(runtime.as_micros() as u64 / each);
        }
        Self { latency, complete, bytes: loads.iter().map(|load| load.bytes()).sum(), errors }
    }

    fn report(&self, rates: &Histogram<u64>, shows_distribution: bool, runtime: Duration) -> String {
        let requests_per_s = &Stats::up_to(u64::MAX, [rates]);
        let Self { latency, complete, bytes, errors } = self;
        Report {
            latency,
            requests_per_s,
            shows_distribution,
            runtime,
            complete: *complete,
            bytes: *bytes,
            errors: *errors,
        }
        .to_string()
    }
}
