//! What a switch costs, per switch that the kernel has counted.
//!
//! Two sides wake each other in turns: each waits until the other has signalled. They are threads of one process, or
//! processes; on one CPU, each on its own, or wherever the scheduler puts them. What a process costs more than a thread, on the same CPU and with the same
//! primitive, is the cost of the other address space.
//!
//! No wait has a limit of its own, which would be a part of what is timed: somebody else watches, and gives up for both.

mod channel;
mod light;

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::signal::Signal;
use nix::unistd::{getpid, getppid};
use results::claim::Unit;
use results::statistics::{Estimate, median};

pub(crate) use self::channel::{Channel, Primitive};
use crate::placement::{Cpus, Placement};
use crate::sys::{Child, share};
use crate::{Sink, finding, missing, now_ns};

/// How far the counted switches may be from those that the clock is divided by.
const TOLERANCE: f64 = 0.1;
/// After so long without a new sample the other side will not answer any more. A sample takes milliseconds at most.
const LIMIT: Duration = Duration::from_secs(10);

/// Whether the two sides have one address space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Space {
    /// Threads of one process.
    Thread,
    /// Two processes.
    Process,
}

/// How much to measure.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// How often to start the two sides anew, threads and processes in turns.
    pub rounds: usize,
    /// How many samples to take in each round.
    pub batches: usize,
    /// How many times each side wakes the other within a sample.
    pub wakes: usize,
}

/// Measures all combinations.
///
/// # Errors
/// The CPUs cannot be chosen.
pub fn measure(effort: Effort, sink: Sink<'_>) -> Result<()> {
    let cpus = Cpus::allowed()?;
    for placement in Placement::ALL {
        for primitive in Primitive::ALL {
            // Who yields on a CPU of his own yields to nobody, and a scheduler may give him one.
            if placement == Placement::OneCpu || primitive != Primitive::Yield {
                compare(effort, &cpus, placement, primitive, sink);
            }
        }
    }
    light::measure(effort, sink)
}

/// Threads and processes in turns, and what the one costs more than the other.
fn compare(effort: Effort, cpus: &Cpus, placement: Placement, primitive: Primitive, sink: Sink<'_>) {
    let cell = format!("switch.{}.{}", primitive.name(), placement.name());
    if !cpus.allow(placement) {
        return sink(missing(&cell, "this machine has only one CPU for us"));
    }
    let rounds = match in_turns(effort, cpus, |space| round(effort, cpus, placement, primitive, space)) {
        Ok(rounds) => rounds,
        Err(error) => return sink(missing(&cell, format!("{error:#}"))),
    };
    let of = |figure: fn(&[f64; 2]) -> f64| Estimate::mean(&rounds.iter().map(figure).collect::<Vec<_>>());
    let what = format!("a switch, {}, by {}", placement.describe(), primitive.describe());
    sink(finding(&format!("{cell}.thread"), &format!("{what}: between threads"), Unit::Ns, of(|times| times[0])));
    sink(finding(&format!("{cell}.process"), &format!("{what}: between processes"), Unit::Ns, of(|times| times[1])));
    let more = format!("{what}: what the other address space costs");
    sink(finding(&format!("{cell}.address_space"), &more, Unit::Ns, of(|times| times[1] - times[0])));
    let ratio = format!("{what}: processes, compared with threads");
    sink(finding(&format!("{cell}.ratio"), &ratio, Unit::Ratio, of(|times| times[1] / times[0])));
}

/// Threads and processes in turns: a figure of each for every round.
pub(crate) fn in_turns(effort: Effort, cpus: &Cpus, round: impl Fn(Space) -> Result<f64>) -> Result<Vec<[f64; 2]>> {
    let rounds = (0..effort.rounds).map(|_| Ok([round(Space::Thread)?, round(Space::Process)?])).collect();
    // A round moves this thread.
    cpus.release()?;
    rounds
}

/// The median time per switch of one round, in nanoseconds.
fn round(effort: Effort, cpus: &Cpus, placement: Placement, primitive: Primitive, space: Space) -> Result<f64> {
    let channel = Channel::new(primitive, space == Space::Process)?;
    let counted: &'static AtomicU64 = share(AtomicU64::new(0))?;
    let wakes = effort.batches * effort.wakes;
    // Before the other side waits for this one.
    cpus.place_first(placement)?;
    let other = || -> Result<()> {
        let before = switches();
        cpus.place_second(placement)?;
        (0..wakes).try_for_each(|_| channel.take_turn(1))?;
        counted.store(switches() - before, SeqCst);
        Ok(())
    };
    let lead = || -> Result<(Vec<f64>, u64)> {
        let before = switches();
        let batch = || -> Result<f64> {
            channel.begin_sample();
            let start = now_ns();
            (0..effort.wakes).try_for_each(|_| channel.take_turn(0))?;
            Ok((now_ns() - start) as f64)
        };
        let times = (0..effort.batches).map(|_| batch()).collect::<Result<_>>()?;
        Ok((times, switches() - before))
    };
    let (mut times, own) = beside(space, &channel, other, lead)?;
    times.sort_by(f64::total_cmp);
    let per_switch = median(&times).unwrap_or_default() / (2 * effort.wakes) as f64;
    let (counted, expected) = (own + counted.load(SeqCst), (2 * wakes) as u64);
    ensure!(
        (counted as f64 / expected as f64 - 1.0).abs() <= TOLERANCE,
        "the kernel counted {counted} switches where {expected} were to be: what was timed is not a switch"
    );
    Ok(per_switch)
}

/// Runs `lead` here, and `other` in a thread or process beside it. Both wait for each other on this channel.
pub(crate) fn beside<T>(
    space: Space,
    channel: &Channel,
    other: impl FnOnce() -> Result<()> + Send,
    lead: impl FnOnce() -> Result<T>,
) -> Result<T> {
    match space {
        Space::Thread => thread::scope(|scope| {
            let other = scope.spawn(other);
            let led = watched(channel, lead);
            other.join().map_err(|_| anyhow!("the other thread failed"))?.and(led)
        }),
        Space::Process => {
            let parent = getpid();
            let child = Child::fork_checked(|| {
                // Without its parent it would wait for ever. The parent may have died before the first had an effect.
                let is_tied = set_pdeathsig(Signal::SIGKILL).is_ok() && getppid() == parent;
                is_tied && other().is_ok()
            })?;
            let led = watched(channel, lead);
            let has_succeeded = child.join_within(if led.is_ok() { LIMIT } else { Duration::ZERO })?;
            let led = led?;
            ensure!(has_succeeded, "the other process failed");
            Ok(led)
        }
    }
}

/// Runs `lead`, and gives up what it waits for if its samples no longer come.
fn watched<T>(channel: &Channel, lead: impl FnOnce() -> Result<T>) -> Result<T> {
    let (done, end) = mpsc::channel::<()>();
    thread::scope(|scope| {
        scope.spawn(move || {
            let mut seen = channel.samples();
            while end.recv_timeout(LIMIT) == Err(RecvTimeoutError::Timeout) {
                let samples = channel.samples();
                if samples == seen {
                    return channel.give_up();
                }
                seen = samples;
            }
        });
        let led = lead();
        drop(done);
        led.with_context(|| format!("the other side has not answered for {LIMIT:?}"))
    })
}

/// How often the kernel has taken this thread off a CPU.
fn switches() -> u64 {
    let usage = getrusage(UsageWho::RUSAGE_THREAD);
    usage.map_or(0, |usage| (usage.voluntary_context_switches() + usage.involuntary_context_switches()) as u64)
}
