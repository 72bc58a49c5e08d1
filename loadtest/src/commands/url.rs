//! `loadtest URL`: loads a URL as wrk does, with the same options and the same output, line by line.

use std::iter;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::slice;
use std::time::Duration;

use anyhow::Result;
use load::net::{Endpoint, Url};
use load::{Generator, GooseGenerator, LoadSpec, Outcome, Place, Requests, split};
use report::text;
use results::RunResult;
use results::run::{Errors, Wait};
use results::settings::{self, LoadSettings};

use super::place::PlaceArgs;
use super::slo::{self, SloArgs};
use crate::machine::command_line::{self, without_secret};
use crate::machine::cpus::Split;
use crate::machine::hash;
use crate::machine::interrupt::{EXIT_STATUS, Interrupt};
use crate::machine::terminal::{print, print_to_stderr};
use crate::machine::walls::Asked;
use crate::measure::run::{self, Ready, RunSpec};
use crate::output::conditions::{self, Conditions};
use crate::output::events::EventArgs;
use crate::output::files::{self, OutputArgs, Outputs};
use crate::subject::{self, MeteredServer, Subject};
use crate::wrk::printout::{self, Printout};
use crate::wrk::script::{Script, ScriptFile, ScriptSummary, Thread};
use crate::wrk::spectrum::Spectrum;
use crate::wrk::stats::Stats;

/// How long a started server may take to stop.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// wrk's options, and ours.
#[derive(Clone, Debug)]
pub(crate) struct UrlOptions {
    /// The URL to load; `None` for the null server.
    pub(crate) url: Option<Url>,
    /// What to meter.
    pub(crate) server: MeteredServer,
    /// The CPUs of the server and of the load generator.
    pub(crate) cpus: Option<Split>,
    /// Where the users are.
    pub(crate) place: PlaceArgs,
    /// What to find the highest rate for.
    pub(crate) slo: SloArgs,
    /// Where to write the result.
    pub(crate) outputs: OutputArgs,
    /// Where to write events.
    pub(crate) events: EventArgs,
    /// Conditions that fail the run.
    pub(crate) conditions: Conditions,
    /// Threads, which share the connections.
    pub(crate) threads: usize,
    /// Total connections.
    pub(crate) connections: usize,
    /// How long to load.
    pub(crate) duration: Duration,
    /// Extra fields of the request.
    pub(crate) headers: Vec<String>,
    /// A Lua script.
    pub(crate) script: Option<ScriptFile>,
    /// Arguments for the script.
    pub(crate) arguments: Vec<String>,
    /// Whether to print percentiles.
    pub(crate) has_percentiles: bool,
    /// Requests per second; `None` means as many as the server takes.
    pub(crate) rate: Option<usize>,
    /// Whether to also print percentiles of the latencies without correction for requests sent late.
    pub(crate) has_uncorrected: bool,
    /// Slower answers count as timeouts and not in the latencies.
    pub(crate) timeout: Duration,
}

/// Loads the URL and prints wrk's output, and on stderr what wrk does not report.
pub(crate) fn run(options: &UrlOptions) -> Result<ExitCode> {
    let interrupt = Interrupt::install()?;
    options.cpus.as_ref().map_or(Ok(()), Split::pin_client)?;
    let place = options.place.open(Asked::new(options.connections, &[]), &interrupt)?;
    if options.slo.is_given() {
        return search(options, &*place, &interrupt);
    }
    let outputs = Outputs::prepare(&options.outputs, false)?;
    let mut sinks = options.events.sinks(&outputs)?;
    let (ready, url, setup) = options.open(&*place, &interrupt)?;
    let threads = options.threads * place.processes();
    print(&printout::heading(url.as_str(), options.duration, threads, options.connections))?;

    let spec = options.run_spec(url.as_str(), &*place);
    let result = run::start(&spec, &mut sinks);
    let (result, outcome) = run::run(&spec, result, ready, &interrupt, &mut sinks);
    let results = slice::from_ref(&result);
    // Files first: stdout may be full, and a script's `done` may fail.
    let written = outputs.finish(results).map_err(|error| files::rescue(results, error));
    let printout = options.printout(&outcome, result.errors);
    let printed = print_printout(&printout, setup.as_ref());
    print_to_stderr(&(text::run(&result) + &report::answer(results)));
    let is_failed = options.conditions.fail(results);
    written.and(printed)?;
    Ok(exit_code(&result, &printout.summary, &interrupt, is_failed))
}

/// Finds the highest rate of the URL, and returns the exit status.
fn search(options: &UrlOptions, place: &dyn Place, interrupt: &Interrupt) -> Result<ExitCode> {
    let mut bench = slo::Bench::new(&options.slo, options.duration, &options.outputs, interrupt)?;
    let mut sinks = options.events.sinks(bench.outputs())?;
    bench.search(|step| {
        let rate = step.rate.map(|rate| rate as usize);
        let options = UrlOptions { rate, duration: step.duration, ..options.clone() };
        let spec = options.run_spec(options.url.as_ref().map_or("the null server", Url::as_str), place);
        let result = run::start(&spec, &mut sinks);
        match options.open(place, interrupt) {
            Ok((ready, ..)) => run::run(&spec, result, ready, interrupt, &mut sinks).0,
            Err(error) => run::not_started(result, &error, interrupt, &mut sinks),
        }
    });
    bench.finish()
}

fn exit_code(result: &RunResult, summary: &ScriptSummary, interrupt: &Interrupt, is_failed: bool) -> ExitCode {
    let has_success = summary.complete > summary.errors.status;
    match interrupt.is_raised() {
        true => ExitCode::from(EXIT_STATUS),
        false if !has_success || result.failure.is_some() => ExitCode::FAILURE,
        false if is_failed => ExitCode::from(conditions::EXIT_STATUS),
        false => ExitCode::SUCCESS,
    }
}

impl UrlOptions {
    /// The users of all threads. As in wrk, the remainder of the division is dropped; workers share all.
    fn users(&self) -> usize {
        match self.place.is_elsewhere() {
            true => self.connections,
            false => self.connections / self.threads * self.threads,
        }
    }

    /// Starts or finds the server, and prepares a load for it. Also returns its URL, and with a script its setup state.
    fn open(&self, place: &dyn Place, interrupt: &Interrupt) -> Result<(Ready, Url, Option<Script>)> {
        let server_cpus = self.cpus.as_ref().map(|cpus| &cpus.server);
        let (subject, url) = match &self.url {
            Some(url) => (Subject::open(&self.server, url, server_cpus, interrupt)?, url.clone()),
            None => Subject::null(server_cpus, interrupt)?,
        };
        let address = url.connectable_address()?;
        let (generator, setup) = self.generator(&url, address, place)?;
        Ok((Ready { subject, generator, own: None }, url, setup))
    }

    /// The users, and with a script its setup state.
    fn generator(
        &self,
        url: &Url,
        address: SocketAddr,
        place: &dyn Place,
    ) -> Result<(Box<dyn Generator>, Option<Script>)> {
        if let Some(file) = &self.script {
            let (setup, specs) = prepare(self, file, url, address)?;
            return Ok((Box::new(GooseGenerator::new(specs)?), Some(setup)));
        }
        let request = url.request(&self.headers).into_bytes();
        let specs = |users| {
            let spec = |users| {
                let endpoint = url.endpoint(address)?.from_sources(self.place.sources())?;
                Ok(self.load_spec(endpoint, users, Requests::Same(request.clone())))
            };
            split(users, self.threads).filter(|users| *users > 0).map(spec).collect()
        };
        Ok((place.generator(self.users(), &specs)?, None))
    }

    /// The load of a thread with so many of the users.
    fn load_spec(&self, endpoint: Endpoint, users: usize, requests: Requests) -> LoadSpec {
        let interval = self.rate.map(|rate| LoadSpec::interval_at(rate as u64, self.users()));
        let (greeting, spread) = (None, Duration::ZERO);
        LoadSpec { endpoint, greeting, requests, users, threads: 1, timeout: None, spread, interval }
    }

    fn run_spec(&self, name: &str, place: &dyn Place) -> RunSpec {
        RunSpec {
            name: without_secret(name),
            command: subject::command(&self.server),
            connections: self.users(),
            duration: self.duration,
            cpus: self.cpus.clone(),
            wait: Wait::default(),
            database: None,
            load: self.load_settings(place),
            round: None,
            late_after: Some(self.timeout),
            stop_timeout: STOP_TIMEOUT,
        }
    }

    fn load_settings(&self, place: &dyn Place) -> LoadSettings {
        LoadSettings {
            duration_ms: self.duration.as_millis() as u64,
            rate: self.rate.map(|rate| rate as u64),
            threads: self.threads * place.processes(),
            timeout_ms: self.timeout.as_millis() as u64,
            headers: self.headers.iter().map(|header| without_secret(header)).collect(),
            script: self.script.as_ref().map(|ScriptFile { path, .. }| settings::Script {
                path: path.display().to_string(),
                // It was read before, so this is a formality.
                sha256: hash::file_sha256(path).unwrap_or_default(),
                arguments: self.arguments.clone(),
            }),
            slo: Vec::new(),
            command: command_line::own(),
        }
    }

    /// wrk's output. Timeouts are not in the latencies, except with a rate, as in wrk2.
    fn printout(&self, outcome: &Outcome, errors: Errors) -> Printout {
        let limit_us = if self.rate.is_some() { u64::MAX } else { self.timeout.as_micros() as u64 };
        let mut latency = Stats::up_to(limit_us, outcome.latencies.all_answers());
        let runtime = outcome.window.unwrap_or_default();
        let summary = ScriptSummary { runtime, complete: outcome.answers, bytes: outcome.bytes, errors };
        // wrk's correction for coordinated omission assumes that each connection should have sent at its mean rate.
        if self.rate.is_none()
            && let Some(each @ 1..) = summary.complete.checked_div(self.users() as u64)
        {
            latency.correct(runtime.as_micros() as u64 / each);
        }
        Printout {
            latency,
            requests_per_s: Stats::up_to(u64::MAX, [&outcome.rates]),
            has_percentiles: self.has_percentiles && self.rate.is_none(),
            spectra: self.spectra(outcome),
            summary,
        }
    }

    /// The distributions that wrk2 prints with a rate.
    fn spectra(&self, outcome: &Outcome) -> Vec<Spectrum> {
        if self.rate.is_none() || !self.has_percentiles {
            return Vec::new();
        }
        let mut spectra = vec![Spectrum::new("Recorded Latency", outcome.latencies.all_answers())];
        if self.has_uncorrected {
            let title = "Uncorrected Latency (measured without taking delayed starts into account)";
            spectra.push(Spectrum::new(title, outcome.uncorrected.all_answers()));
        }
        spectra
    }
}

/// The load of each thread when a script makes the requests, and the script's setup state.
fn prepare(options: &UrlOptions, file: &ScriptFile, url: &Url, address: SocketAddr) -> Result<(Script, Vec<LoadSpec>)> {
    let threads: Vec<_> = iter::repeat_with(|| Thread::new(address)).take(options.threads).collect();
    let new_script = |thread| Script::load(file, url, &options.headers, thread);
    let setup = new_script(&threads[0])?;
    let mut requests_at_once = None;
    let mut specs = Vec::new();
    for thread in &threads {
        let mut script = new_script(thread)?;
        setup.set_up(&script)?;
        script.start(url, &options.arguments)?;
        let counted = match requests_at_once {
            Some(count) => count,
            None => script.count_requests_at_once()?,
        };
        script.requests_at_once = *requests_at_once.insert(counted);
        let endpoint = url.endpoint(thread.address())?.from_sources(options.place.sources())?;
        let users = options.users() / options.threads;
        specs.push(options.load_spec(endpoint, users, Requests::From(Box::new(script))));
    }
    Ok((setup, specs))
}

fn print_printout(printout: &Printout, setup: Option<&Script>) -> Result<()> {
    setup.map_or(Ok(()), Script::flush)?;
    print(&printout.to_string())?;
    setup.map_or(Ok(()), |setup| setup.finish(&printout.summary, &printout.latency, &printout.requests_per_s))
}
