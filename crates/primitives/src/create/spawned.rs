//! Threads.

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::thread;

use anyhow::{Result, anyhow};

use super::{Created, Kind};
use crate::now_ns;
use crate::placement::{Cpus, Placement};

/// glibc keeps up to 40 MB of stacks of ended threads, and reuses one that is large enough. A larger one it never keeps.
const NEVER_CACHED_STACK_BYTES: usize = 64 << 20;
/// What Rust's threads have.
const USUAL_STACK_BYTES: usize = 2 << 20;

pub(super) fn kinds() -> Vec<Kind> {
    let thread = |name, what, stack_bytes| Kind {
        name,
        what,
        slowness: 1,
        create: Box::new(move |cpus, placement| spawn(stack_bytes, cpus, placement)),
    };
    vec![
        thread("thread", "a thread (std::thread) whose stack was used before", USUAL_STACK_BYTES),
        thread("thread_cold", "a thread (std::thread) with a new stack", NEVER_CACHED_STACK_BYTES),
    ]
}

fn spawn(stack_bytes: usize, cpus: &Cpus, placement: Placement) -> Result<Created> {
    let started = AtomicU64::new(0);
    let work = || {
        if placement == Placement::TwoCpus {
            let _ = cpus.place_second(placement);
        }
        started.store(now_ns(), SeqCst);
    };
    let (called, returned) = thread::scope(|scope| {
        let called = now_ns();
        let handle = thread::Builder::new().stack_size(stack_bytes).spawn_scoped(scope, work)?;
        let returned = now_ns();
        handle.join().map_err(|_| anyhow!("the thread failed"))?;
        Ok::<_, anyhow::Error>((called, returned))
    })?;
    Ok(Created { called, returned, started: started.load(SeqCst), joined: now_ns() })
}
