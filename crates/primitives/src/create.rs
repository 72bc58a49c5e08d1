//! What it takes to create a process, a thread, a task or a coroutine, as three times from the call: until the call has
//! returned, until the first instruction of the new one runs, and until that has ended and is joined.

mod forked;
mod light;
mod rss;
mod spawned;

use std::hint::black_box;

use anyhow::Result;
use results::claim::Unit;
use results::statistics::Estimate;

use crate::placement::{Cpus, Placement};
use crate::{Sink, finding, missing, now_ns};

pub use forked::{FIRST_INSTRUCTION, report_first_instruction};

/// When something happened, in nanoseconds.
#[derive(Clone, Copy, Debug)]
struct Created {
    /// Just before the call.
    called: u64,
    /// The call has returned.
    returned: u64,
    /// The new one runs.
    started: u64,
    /// It has ended and was waited for.
    joined: u64,
}

/// Creates one, with the two sides placed like this.
type Create = dyn FnMut(&Cpus, Placement) -> Result<Created>;

/// Something to create.
struct Kind {
    name: &'static str,
    what: &'static str,
    /// Divides the number of samples: some are slow.
    slowness: usize,
    create: Box<Create>,
}

/// Measures all kinds, with so many samples of each.
///
/// # Errors
/// The CPUs cannot be chosen.
pub fn measure(samples: usize, rss_bytes: &[u64], sink: Sink<'_>) -> Result<()> {
    let cpus = Cpus::allowed()?;
    sink(finding("create.clock.ns", "reading the clock once, which is in every time", Unit::Ns, clock(samples)));
    // Processes first: fork copies what the others leave.
    rss::measure(samples, rss_bytes, sink)?;
    let kinds = forked::kinds()?.into_iter().chain(spawned::kinds()).chain(light::kinds()?);
    for mut kind in kinds {
        for placement in Placement::ALL {
            let name = format!("create.{}.{}", kind.name, placement.name());
            if !cpus.allow(placement) {
                sink(missing(&name, "this machine has only one CPU for us"));
                continue;
            }
            cpus.place_first(placement)?;
            let created = sample(samples / kind.slowness, &mut || (kind.create)(&cpus, placement));
            cpus.release()?;
            match created {
                Ok(created) => report(&name, &format!("{}, {}", kind.what, placement.describe()), &created, sink),
                Err(error) => sink(missing(&name, format!("{error:#}"))),
            }
        }
    }
    Ok(())
}

/// Creates again and again. The first tenth warms up.
fn sample(samples: usize, create: &mut dyn FnMut() -> Result<Created>) -> Result<Vec<Created>> {
    let samples = samples.max(10);
    for _ in 0..samples / 10 {
        create()?;
    }
    (0..samples).map(|_| create()).collect()
}

fn report(name: &str, what: &str, created: &[Created], sink: Sink<'_>) {
    let mut report = |time: &str, until: &str, at: fn(&Created) -> u64| {
        let samples = created.iter().map(|created| at(created).saturating_sub(created.called) as f64).collect();
        sink(finding(&format!("{name}.{time}"), &format!("{what}: {until}"), Unit::Ns, Estimate::median(samples)));
    };
    report("returned", "until the call returns", |created| created.returned);
    let started =
        if name.ends_with("two_cpus") { "until it runs on the other CPU" } else { "until its first instruction" };
    report("started", started, |created| created.started);
    report("joined", "until it has ended and is joined", |created| created.joined);
}

/// What it costs to ask for the time: batches, because one reading cannot time itself.
fn clock(samples: usize) -> Option<Estimate> {
    const BATCH: u32 = 100;
    let batch = |_| {
        let start = now_ns();
        for _ in 0..BATCH {
            black_box(now_ns());
        }
        (now_ns() - start) as f64 / f64::from(BATCH + 1)
    };
    Estimate::median((0..samples.max(10)).map(batch).collect())
}
