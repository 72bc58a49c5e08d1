//! What happens when RAM is short: a thread for each beside a bounded pool, and tasks with and without a cap. And how much
//! a handler must hold until the model no longer matters.

use std::time::Duration;

use anyhow::Result;
use quantity::format::{count, exact_bytes};
use results::Target;
use results::claim::Unit;
use results::statistics::Estimate;
use results::sweep::holds;

use super::crowd::{Crowd, Fates};
use super::lab::{Lab, NO_QUOTIENT, quotient, spec};
use crate::machine::host;
use crate::machine::walls::Asked;
use crate::measure::target::TargetSpec;
use crate::subject::memory::MemorySource;

const MIB: u64 = 1 << 20;
/// The RAM in which the models compete.
const OVERLOAD_RAM: u64 = 64 * MIB;
/// The RAM in which tasks spike, and what each holds.
const SPIKE_RAM: u64 = 128 * MIB;
const SPIKE_HOLD: &str = "128KiB";

/// How many connections each model holds in the same RAM.
pub(super) fn overload(lab: &mut Lab<'_>) -> Result<()> {
    if let Err(error) = MemorySource::open().limit(Some(OVERLOAD_RAM)) {
        lab.record_missing("overload", format!("{error:#}; root could limit the RAM"));
        return Ok(());
    }
    let ladder: &[usize] = lab.quick_or(&[1_000, 2_000, 4_000], &[500, 1_000, 1_500, 2_000, 4_000, 8_000]);
    let all = [Target::Threads, Target::Threadpool, Target::Async];
    for target in all.into_iter().take(lab.quick_or(2, 3)) {
        let name = target.name();
        let Climb { held, failed } = climb(lab, target, ladder)?;
        let what = format!("connections held in {} of RAM, {name}", exact_bytes(OVERLOAD_RAM));
        // What it holds is somewhere from the last step that went well to the first that did not.
        let (high, note) = match failed {
            Some((step, cause)) => (step, format!("at {}: {cause}", count(step as f64))),
            None => (held, format!("or more: no more than {} were tried", count(held as f64))),
        };
        let estimate = Estimate { value: held as f64, low: held as f64, high: high as f64, samples: 1 };
        lab.record_noted(format!("overload.{name}"), what, Unit::Count, Some(estimate), Some(note));
    }
    let [threads, pool] = ["threads", "threadpool"].map(|name| lab.found(&format!("overload.{name}")));
    let ratio = pool.zip(threads).and_then(|(pool, threads)| quotient(pool, threads));
    let what = "connections held in the same RAM: a bounded pool, compared with a thread for each";
    match ratio {
        Some(_) => lab.record("overload.pool_ratio", what, Unit::Ratio, ratio),
        None => lab.record_missing("overload.pool_ratio", NO_QUOTIENT),
    }
    Ok(())
}

/// How far a server got.
struct Climb {
    /// The most connections that it held.
    held: usize,
    /// The fewest that it did not, and why.
    failed: Option<(usize, String)>,
}

/// Tries more and more connections until the server fails.
fn climb(lab: &Lab<'_>, target: Target, ladder: &[usize]) -> Result<Climb> {
    let mut held = 0;
    for &connections in ladder {
        let wait = Duration::from_millis(50);
        let duration = Duration::from_millis(lab.quick_or(200, 500));
        let spec = TargetSpec { ram_limit_bytes: Some(OVERLOAD_RAM), ..spec(connections, wait, duration) };
        let run = lab.run(target, &spec)?;
        // A pool lets most of them wait, and some for too long: that is its way.
        let is_pool = target == Target::Threadpool;
        let is_held =
            holds(&run) || (is_pool && run.is_sound() && run.connections.held_peak == Some(connections as u64));
        if !is_held {
            let cause = run.cause_in_words().or(run.failure).unwrap_or_else(|| "not all were held".to_owned());
            return Ok(Climb { held, failed: Some((connections, cause)) });
        }
        held = connections;
    }
    Ok(Climb { held, failed: None })
}

/// A spike of requests on tasks, without a cap and with one.
pub(super) fn spike(lab: &mut Lab<'_>) -> Result<()> {
    let clients = lab.quick_or(2_000, 5_000);
    host::prepare_for(&Asked::new(clients, &[Target::Async]))?;
    if let Err(error) = MemorySource::open().limit(Some(SPIKE_RAM)) {
        lab.record_missing("spike", format!("{error:#}; root could limit the RAM"));
        return Ok(());
    }
    for (name, what, most) in [("uncapped", "no cap", "10000"), ("capped", "a cap of 500 connections", "500")] {
        let flags = ["--hold", SPIKE_HOLD, "--max-connections", most];
        let mut server = lab.start(Target::Async, Duration::from_secs(1), &flags, Some(SPIKE_RAM))?;
        let fates = Crowd::gather(server.address, clients, "/")?.fates();
        lab.check_interrupt()?;
        let died = server.subject.is_gone() || server.subject.oom_kills().is_some_and(|kills| kills > 0);
        let what = format!(
            "{} requests at once that hold {SPIKE_HOLD} each, tasks with {what}, in {}",
            count(clients as f64),
            exact_bytes(SPIKE_RAM)
        );
        let dies = Some(Estimate::exact(f64::from(u8::from(died))));
        lab.record(format!("spike.{name}.dies"), format!("whether the server dies: {what}"), Unit::Truth, dies);
        record_fates(lab, name, &what, fates, clients);
    }
    Ok(())
}

/// What became of the clients of a spike.
fn record_fates(lab: &mut Lab<'_>, name: &str, what: &str, fates: Fates, clients: usize) {
    let Fates { answered, turned_away, lost } = fates;
    for (fate, said, number) in [
        ("answered", "share answered", answered),
        ("told", "share answered or told 503", answered + turned_away),
        ("lost", "share without an answer", lost),
    ] {
        let share = Some(Estimate::exact(number as f64 / clients as f64));
        lab.record(format!("spike.{name}.{fate}"), format!("{said}: {what}"), Unit::Share, share);
    }
}

/// How much each request must hold until threads and tasks cost about the same.
pub(super) fn hold(lab: &mut Lab<'_>) -> Result<()> {
    let connections = lab.quick_or(300, 1_000);
    let rounds = lab.quick_or(2, 3);
    let mut bare = Vec::new();
    for &held in lab.quick_or(&["0", "256KiB"][..], &["0", "64KiB", "256KiB"]) {
        let mut ratios = Vec::new();
        for _ in 0..rounds {
            let [threads, tasks] =
                [Target::Threads, Target::Async].map(|target| bytes_per_connection(lab, target, connections, held));
            let (Some(threads), Some(tasks)) = (threads?, tasks?) else { continue };
            ratios.push(threads / tasks);
            if held == "0" {
                bare.push((threads, tasks));
            }
        }
        let what = format!("RAM of a connection that holds {held}: a thread for each, compared with a task for each");
        lab.record(format!("hold.ratio_{held}"), what, Unit::Ratio, Estimate::mean(&ratios));
    }
    // (threads + h) / (tasks + h) = 1.1
    let same: Vec<f64> = bare.iter().map(|(threads, tasks)| (10.0 * threads - 11.0 * tasks).max(0.0)).collect();
    let note = Some("by calculation from what each costs that holds nothing".to_owned());
    let what = "what a request must hold until a thread for each costs less than 10 % more than a task for each";
    // Nothing holds less than nothing, whatever the spread of two rounds says.
    let same_at = Estimate::mean(&same).map(|mean| Estimate { low: mean.low.max(0.0), ..mean });
    lab.record_noted("hold.same_at", what, Unit::Bytes, same_at, note);
    Ok(())
}

fn bytes_per_connection(lab: &Lab<'_>, target: Target, connections: usize, held: &str) -> Result<Option<f64>> {
    let server_flags = ["--hold", held].map(String::from).to_vec();
    let spec = TargetSpec {
        server_flags,
        ..spec(connections, Duration::from_millis(100), Duration::from_millis(lab.quick_or(150, 300)))
    };
    let run = lab.run(target, &spec)?;
    let bytes = run.memory.peak_bytes.zip(run.memory.idle_bytes).filter(|_| run.is_sound());
    Ok(bytes.map(|(peak, idle)| peak.saturating_sub(idle) as f64 / connections as f64))
}
