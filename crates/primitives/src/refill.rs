//! What a switch costs afterwards: the other side has used caches and TLB, and what was in them has to be fetched again.
//!
//! Two sides take turns on one CPU. Each walks its own memory when it is woken, and twice more; what the first walk takes
//! longer than the quicker of the others is the refill. It is the same walk for threads and for processes, so what processes take longer is due to
//! the other address space.

use std::hint::black_box;

use anyhow::Result;
use quantity::format::exact_bytes;
use results::claim::Unit;
use results::statistics::{Estimate, median};

use crate::placement::{Cpus, Placement};
use crate::switch::{Channel, Effort, Primitive, Space, beside, in_turns};
use crate::{Sink, finding, missing, now_ns};

const PAGE_BYTES: usize = 4096;
const LINE_BYTES: usize = 64;
/// Pages of which one line each is walked: what the TLB has to know.
const PAGES: [usize; 4] = [8, 64, 512, 4096];
/// Memory that is walked line by line: what the caches have to hold.
const SIZES_BYTES: [usize; 4] = [16 << 10, 128 << 10, 1 << 20, 8 << 20];

/// Memory, and which bytes of it to touch.
#[derive(Clone, Copy)]
struct Walk {
    bytes: usize,
    step_bytes: usize,
}

/// Measures walks over few and many pages, and over little and much memory.
///
/// # Errors
/// The CPUs cannot be chosen.
pub fn measure(effort: Effort, sink: Sink<'_>) -> Result<()> {
    let cpus = Cpus::allowed()?;
    for pages in PAGES {
        // A line further in each page, or all would compete for one place in the cache.
        let walk = Walk { bytes: pages * PAGE_BYTES, step_bytes: PAGE_BYTES + LINE_BYTES };
        compare(
            effort,
            &cpus,
            walk,
            &format!("refill.pages_{pages}"),
            &format!("a line in each of {pages} pages"),
            sink,
        );
    }
    for bytes in SIZES_BYTES {
        let walk = Walk { bytes, step_bytes: LINE_BYTES };
        let size = exact_bytes(bytes as u64);
        compare(effort, &cpus, walk, &format!("refill.{}", size.replace(' ', "")), &size, sink);
    }
    Ok(())
}

fn compare(effort: Effort, cpus: &Cpus, walk: Walk, name: &str, what: &str, sink: Sink<'_>) {
    let rounds = match in_turns(effort, cpus, |space| round(effort, cpus, walk, space)) {
        Ok(rounds) => rounds,
        Err(error) => return sink(missing(name, format!("{error:#}"))),
    };
    let of = |figure: fn(&[f64; 2]) -> f64| Estimate::mean(&rounds.iter().map(figure).collect::<Vec<_>>());
    let what = format!("the refill of {what} after a switch");
    sink(finding(&format!("{name}.thread"), &format!("{what} between threads"), Unit::Ns, of(|times| times[0])));
    sink(finding(&format!("{name}.process"), &format!("{what} between processes"), Unit::Ns, of(|times| times[1])));
    let more = format!("{what}: what the other address space costs");
    sink(finding(&format!("{name}.address_space"), &more, Unit::Ns, of(|times| times[1] - times[0])));
}

/// The median refill of one round, in nanoseconds.
fn round(effort: Effort, cpus: &Cpus, walk: Walk, space: Space) -> Result<f64> {
    let channel = Channel::new(Primitive::Pipe, space == Space::Process)?;
    cpus.place_first(Placement::OneCpu)?;
    let other = || -> Result<()> {
        let memory = vec![1_u8; walk.bytes];
        cpus.place_second(Placement::OneCpu)?;
        for _ in 0..effort.batches {
            channel.wait(1)?;
            walk.refill_ns(&memory);
            channel.wake(0);
        }
        Ok(())
    };
    let lead = || {
        let memory = vec![1_u8; walk.bytes];
        let turn = || -> Result<f64> {
            channel.begin_sample();
            channel.take_turn(0)?;
            // The other side sleeps until it is woken again: nobody else walks now.
            Ok(walk.refill_ns(&memory))
        };
        (0..effort.batches).map(|_| turn()).collect::<Result<Vec<_>>>()
    };
    let mut refills = beside(space, &channel, other, lead)?;
    refills.sort_by(f64::total_cmp);
    Ok(median(&refills).unwrap_or_default())
}

impl Walk {
    /// How much longer the first walk takes than the quicker of two more, in nanoseconds.
    fn refill_ns(self, memory: &[u8]) -> f64 {
        let [first, second, third] = [(); 3].map(|()| self.timed(memory));
        first as f64 - second.min(third) as f64
    }

    /// One walk. Not inlined, so that all are the same code.
    #[inline(never)]
    fn timed(self, memory: &[u8]) -> u64 {
        let memory = black_box(memory);
        let start = now_ns();
        black_box(memory.iter().step_by(self.step_bytes).map(|&byte| u64::from(byte)).sum::<u64>());
        now_ns() - start
    }
}
