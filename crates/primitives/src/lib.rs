//! What one process, thread, task and coroutine cost: to create, to switch to, and to keep.
//!
//! Each measurement prints figures with their 95 % intervals, or says why there is none:
//!
//! - [`create`]: from the call to its return, to the first instruction, and until it has ended and is joined;
//! - [`switch`]: per switch that the kernel has counted, between threads and between processes;
//! - [`refill`]: what a switch costs afterwards, in caches and TLB;
//! - [`keep`]: so many of them, to be metered from outside;
//! - [`sharing`]: what one sees of another's writes, and what is lost without synchronisation.
//!
//! # Mistake 2, as far as Rust lets one make it
//!
//! A counter that several threads change without synchronisation does not compile:
//!
//! ```compile_fail,E0499
//! let mut counter = 0_u64;
//! std::thread::scope(|scope| {
//!     scope.spawn(|| counter += 1);
//!     scope.spawn(|| counter += 1);
//! });
//! ```
//!
//! Nor does sharing what is not made for it:
//!
//! ```compile_fail,E0277
//! let counter = std::rc::Rc::new(std::cell::Cell::new(0_u64));
//! std::thread::spawn(move || counter.set(counter.get() + 1));
//! ```

pub mod create;
pub mod facts;
pub mod keep;
pub mod placement;
pub mod refill;
pub mod sharing;
pub mod switch;
mod sys;

use nix::time::{ClockId, clock_gettime};
use results::claim::{Figure, Finding, Missing, Unit};
use results::statistics::Estimate;

/// Receives what was found, as it is found.
pub type Sink<'a> = &'a mut dyn FnMut(Finding);

/// The time of the clock that all processes share, in nanoseconds.
fn now_ns() -> u64 {
    // It cannot fail: the clock exists on every Linux.
    clock_gettime(ClockId::CLOCK_MONOTONIC)
        .map_or(0, |time| time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64)
}

/// A finding: the figure, if there were enough samples for one.
fn finding(name: &str, what: &str, unit: Unit, estimate: Option<Estimate>) -> Finding {
    match estimate {
        Some(estimate) => {
            Finding::Figure(Figure { name: name.to_owned(), what: what.to_owned(), unit, estimate, note: None })
        }
        None => missing(name, "too few samples for an interval: raise --samples or --rounds"),
    }
}

fn missing(name: &str, why: impl ToString) -> Finding {
    Finding::Missing(Missing { name: name.to_owned(), why: why.to_string() })
}
