//! What one sees of another's writes, and what is lost where nobody synchronises.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Barrier, Mutex, PoisonError};
use std::thread;

use anyhow::{Result, anyhow, ensure};
use quantity::format::count;
use results::claim::Unit;
use results::statistics::Estimate;

use crate::sys::{Child, share};
use crate::{Sink, finding};

/// Threads that count at once, and how far each counts.
const THREADS: u64 = 4;
const INCREMENTS: u64 = 250_000;
/// How often the race is run.
const ROUNDS: usize = 20;

/// Measures what is shared and what is lost.
///
/// # Errors
/// A process or thread cannot be started.
pub fn measure(sink: Sink<'_>) -> Result<()> {
    let what = |who: &str| format!("whether a write by a {who} is seen by the others");
    let truth = |seen: bool| Some(Estimate::exact(f64::from(u8::from(seen))));
    sink(finding("sharing.process", &what("process"), Unit::Truth, truth(is_seen_by_process()?)));
    sink(finding(
        "sharing.mapped",
        &what("process to memory that it shares on purpose"),
        Unit::Truth,
        truth(is_mapped()?),
    ));
    sink(finding("sharing.thread", &what("thread"), Unit::Truth, truth(is_seen_by_thread()?)));
    sink(finding("sharing.task", &what("task"), Unit::Truth, truth(is_seen_by_task()?)));
    let lost = |increment: fn(&AtomicU64, &Mutex<u64>)| -> Result<Option<Estimate>> {
        // A count of all there were: how many are lost differs, that some are is the claim.
        let rounds = (0..ROUNDS).map(|_| lost_updates(increment)).collect::<Result<Vec<_>>>()?;
        Ok(Some(Estimate::exact(rounds.iter().sum())))
    };
    let all = THREADS * INCREMENTS * ROUNDS as u64;
    let what = |how: &str| format!("updates lost of {} by {THREADS} threads that count {how}", count(all as f64));
    // Each access is atomic, so that it is no undefined behaviour: only the pair of them is not.
    let unsynchronised = lost(|counter, _| counter.store(counter.load(Relaxed) + 1, Relaxed))?;
    sink(finding("sharing.lost", &what("with a load and a store"), Unit::Count, unsynchronised));
    let atomic = lost(|counter, _| {
        counter.fetch_add(1, Relaxed);
    })?;
    sink(finding("sharing.lost_atomic", &what("with an atomic addition"), Unit::Count, atomic));
    let locked = lost(|counter, lock| {
        let mut count = lock.lock().unwrap_or_else(PoisonError::into_inner);
        *count += 1;
        counter.store(*count, Relaxed);
    })?;
    sink(finding("sharing.lost_locked", &what("under a lock"), Unit::Count, locked));
    Ok(())
}

fn is_seen_by_process() -> Result<bool> {
    let value = AtomicU64::new(0);
    ensure!(Child::fork(|| value.store(1, Relaxed))?.join()?, "the child failed");
    Ok(value.load(Relaxed) == 1)
}

fn is_mapped() -> Result<bool> {
    let value: &'static AtomicU64 = share(AtomicU64::new(0))?;
    ensure!(Child::fork(|| value.store(1, Relaxed))?.join()?, "the child failed");
    Ok(value.load(Relaxed) == 1)
}

fn is_seen_by_thread() -> Result<bool> {
    let value = AtomicU64::new(0);
    let joined = thread::scope(|scope| scope.spawn(|| value.store(1, Relaxed)).join());
    joined.map_err(|_| anyhow!("the thread failed"))?;
    Ok(value.load(Relaxed) == 1)
}

fn is_seen_by_task() -> Result<bool> {
    static VALUE: AtomicU64 = AtomicU64::new(0);
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    runtime.block_on(async { tokio::spawn(async { VALUE.store(1, Relaxed) }).await })?;
    Ok(VALUE.load(Relaxed) == 1)
}

/// How many increments are missing in the end.
fn lost_updates(increment: fn(&AtomicU64, &Mutex<u64>)) -> Result<f64> {
    let (counter, lock) = (AtomicU64::new(0), Mutex::new(0));
    // A thread takes about as long to start as to count: without it they would count one after the other.
    let start = Barrier::new(THREADS as usize);
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                start.wait();
                (0..INCREMENTS).for_each(|_| increment(&counter, &lock));
            });
        }
    });
    Ok((THREADS * INCREMENTS - counter.load(Relaxed)) as f64)
}
