//! 10,000 connections that wait for a database, under each model: RAM, throughput, tail and CPU, and whether the scheduler
//! thrashes.

mod watch;

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::Result;
use quantity::format::count;
use results::claim::Unit;
use results::event::Sinks;
use results::statistics::Estimate;
use results::target::ARTICLE_CONNECTIONS;
use results::{RunResult, Target};

use self::watch::{Phases, Watch};
use super::lab::{Lab, NO_QUOTIENT, quotient, spec};

/// What "few" means beside the article's 10,000.
const FEW_CONNECTIONS: usize = 100;

/// One run, and what the scheduler had to do meanwhile.
struct Observed {
    run: RunResult,
    /// The mean number of threads of this machine that had or wanted a CPU.
    runnable: Option<f64>,
    /// Context switches of the server, a request.
    switches_per_request: Option<f64>,
}

/// Measures every model.
pub(super) fn run(lab: &mut Lab<'_>) -> Result<()> {
    let many = lab.quick_or(1_000, ARTICLE_CONNECTIONS);
    let rounds = lab.quick_or(2, 3);
    for target in Target::ALL {
        // The article has none of them in this example.
        if lab.is_quick && matches!(target, Target::Threadpool | Target::AsyncCodec | Target::AsyncUring) {
            continue;
        }
        // The two that are compared are measured longer, for a narrower interval.
        let rounds = if matches!(target, Target::Threads | Target::Async) { lab.quick_or(2, 5) } else { rounds };
        let wait = lab.quick_or(Duration::from_millis(100), Duration::from_secs(1));
        let observed = observe(lab, target, many, wait, rounds)?;
        let name = target.name().replace('-', "_");
        record(lab, &name, target, many, &observed);
        if is_compared(lab, target) {
            // A shorter wait, so that the requests are as many: only the threads are fewer.
            let wait = wait.mul_f64(FEW_CONNECTIONS as f64 / many as f64);
            let few = observe(lab, target, FEW_CONNECTIONS, wait, rounds)?;
            record_growth(lab, &name, target, many, &observed, &few);
            record_switches(lab, &format!("{name}.switches"), target, many, &observed);
            record_switches(lab, &format!("{name}.switches_few"), target, FEW_CONNECTIONS, &few);
        }
    }
    compare(lab);
    Ok(())
}

/// Whether a model is also measured with few connections.
fn is_compared(lab: &Lab<'_>, target: Target) -> bool {
    target == Target::Threads || (target == Target::Async && !lab.is_quick)
}

fn observe(lab: &Lab<'_>, target: Target, connections: usize, wait: Duration, rounds: usize) -> Result<Vec<Observed>> {
    let duration = lab.quick_or(Duration::from_millis(300), Duration::from_millis(1_500));
    let spec = spec(connections, wait, duration);
    (0..rounds)
        .map(|_| {
            let watch = Arc::new(Watch::default());
            thread::scope(|scope| {
                let sampler = scope.spawn(|| watch.mean_runnable());
                let mut sinks = Sinks::default();
                sinks.push(Phases { watch: watch.clone(), counts_switches: is_compared(lab, target), server: None });
                let run = lab.run_watched(target, &spec, &mut sinks);
                watch.end();
                let runnable = sampler.join().ok().flatten();
                Ok(Observed { run: run?, runnable, switches_per_request: watch.switches_per_request() })
            })
        })
        .collect()
}

fn mean(observed: &[Observed], of: impl Fn(&Observed) -> Option<f64>) -> Option<Estimate> {
    let figures: Vec<f64> = observed.iter().filter(|observed| observed.run.is_sound()).filter_map(of).collect();
    Estimate::mean(&figures)
}

/// Also of the runs that failed: what they held and answered until then is what the model could do.
fn mean_of_all(observed: &[Observed], of: impl Fn(&Observed) -> Option<f64>) -> Option<Estimate> {
    Estimate::mean(&observed.iter().filter_map(of).collect::<Vec<_>>())
}

fn record(lab: &mut Lab<'_>, name: &str, target: Target, many: usize, observed: &[Observed]) {
    let connections = format!("{} connections, {}", count(many as f64), target.name());
    let scale = ARTICLE_CONNECTIONS as f64 / many as f64;
    let ram = mean(observed, |observed| {
        let memory = &observed.run.memory;
        Some(memory.peak_bytes?.saturating_sub(memory.idle_bytes.unwrap_or(0)) as f64)
    });
    let note = (scale != 1.0).then(|| format!("from {} connections, scaled", count(many as f64)));
    let what = format!("RAM of {} connections, {}", count(ARTICLE_CONNECTIONS as f64), target.name());
    lab.record_noted(format!("connections.{name}.ram"), what, Unit::Bytes, ram.map(|ram| ram.times(scale)), note);
    let held = mean_of_all(observed, |observed| Some(observed.run.connections.held_peak? as f64 / many as f64));
    let what = format!("share that is held at once, {connections}");
    lab.record(format!("connections.{name}.held"), what, Unit::Share, held);
    let answered = mean_of_all(observed, |observed| Some(observed.run.rps? / possible(&observed.run)?));
    let what = format!("requests/s of all that are possible, {connections}");
    lab.record(format!("connections.{name}.answered"), what, Unit::Share, answered);
    let rps = mean(observed, |observed| observed.run.rps);
    lab.record(format!("connections.{name}.rps"), format!("requests/s, {connections}"), Unit::Count, rps);
    let p99 = mean(observed, |observed| Some(observed.run.above_wait_us.as_ref()?.p99 as f64 * 1e3));
    let what = format!("99th percentile of the latency above the wait, {connections}");
    lab.record(format!("connections.{name}.p99"), what, Unit::Ns, p99);
    let cpu = mean(observed, cpu_ns_per_request);
    lab.record(format!("connections.{name}.cpu"), format!("CPU time a request, {connections}"), Unit::Ns, cpu);
    let runnable = mean(observed, |observed| observed.runnable);
    let what = format!(
        "threads of the whole machine that had or wanted a CPU while it was measured, on average, {connections}"
    );
    lab.record(format!("connections.{name}.runnable"), what, Unit::Count, runnable);
}

/// Each connection sends as soon as it has its answer.
fn possible(run: &RunResult) -> Option<f64> {
    Some(run.connections.requested as f64 / run.wait.fixed()?.as_secs_f64())
}

fn cpu_ns_per_request(observed: &Observed) -> Option<f64> {
    let run = Some(&observed.run).filter(|run| run.is_sound())?;
    Some(run.server.cpu_s? * 1e9 / run.requests as f64)
}

/// How CPU time grows with the connections: a scheduler that thrashes makes each request dearer.
fn record_growth(lab: &mut Lab<'_>, name: &str, target: Target, many: usize, observed: &[Observed], few: &[Observed]) {
    let pairs: Option<Vec<f64>> = observed
        .iter()
        .zip(few)
        .map(|(many, few)| Some(cpu_ns_per_request(many)? / cpu_ns_per_request(few)?))
        .collect();
    let what = format!(
        "CPU time a request at {} connections, compared with {FEW_CONNECTIONS} and as many requests/s, {}",
        count(many as f64),
        target.name()
    );
    lab.record(
        format!("connections.{name}.cpu_growth"),
        what,
        Unit::Ratio,
        pairs.and_then(|pairs| Estimate::mean(&pairs)),
    );
}

/// How often the scheduler was at work for a request: a wait is a switch, whatever the number of threads.
fn record_switches(lab: &mut Lab<'_>, name: &str, target: Target, connections: usize, observed: &[Observed]) {
    let name = format!("connections.{name}");
    let switches = mean(observed, |observed| observed.switches_per_request);
    if switches.is_none() {
        return lab.record_missing(name, "threads of the server came or went while their switches were counted");
    }
    let what = format!(
        "context switches a request, of all threads of the server, {} connections, {}",
        count(connections as f64),
        target.name()
    );
    lab.record(name, what, Unit::Count, switches);
}

/// Threads beside async: the article's "orders of magnitude", each apart.
fn compare(lab: &mut Lab<'_>) {
    let figures = [
        ("ram", "RAM: a thread for each, compared with a task for each", true),
        ("answered", "throughput: a task for each, compared with a thread for each", false),
        ("p99", "99th percentile above the wait: a thread for each, compared with a task for each", true),
        ("cpu", "CPU time a request: a thread for each, compared with a task for each", true),
    ];
    for (figure, what, is_cost) in figures {
        let [threads, tasks] = ["threads", "async"].map(|name| lab.found(&format!("connections.{name}.{figure}")));
        let (Some(threads), Some(tasks)) = (threads, tasks) else { continue };
        let ratio = if is_cost { quotient(threads, tasks) } else { quotient(tasks, threads) };
        match ratio {
            Some(_) => lab.record(format!("connections.gain.{figure}"), what, Unit::Ratio, ratio),
            None => lab.record_missing(format!("connections.gain.{figure}"), NO_QUOTIENT),
        }
    }
}
