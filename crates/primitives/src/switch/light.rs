//! Switches that the kernel has no part in.

use anyhow::{Context as _, Result};
use corosensei::stack::DefaultStack;
use corosensei::{Coroutine, CoroutineResult};
use results::claim::Unit;
use results::statistics::{Estimate, median};
use tokio::runtime::Builder;
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, yield_now};

use super::Effort;
use crate::keep::COROUTINE_STACK_BYTES;
use crate::{Sink, finding, now_ns};

/// A batch of the kernel's switches takes as long as so many of these.
const QUICKNESS: usize = 20;

pub(super) fn measure(effort: Effort, sink: Sink<'_>) -> Result<()> {
    let effort = Effort { wakes: effort.wakes * QUICKNESS, ..effort };
    let mut report = |name: &str, what: &str, round: fn(Effort) -> Result<f64>| -> Result<()> {
        let rounds = (0..effort.rounds).map(|_| round(effort)).collect::<Result<Vec<_>>>()?;
        sink(finding(&format!("switch.{name}"), &format!("a switch {what}"), Unit::Ns, Estimate::mean(&rounds)));
        Ok(())
    };
    report("task_yield", "between tasks (tokio's yield_now, one thread)", yields)?;
    report("task_channel", "between tasks (tokio's mpsc, one thread)", messages)?;
    report("coroutine", "between coroutines (corosensei)", resumes)
}

/// The median time per switch, where each sample has two switches per wake.
fn per_switch(mut times: Vec<f64>, effort: Effort) -> Result<f64> {
    times.sort_by(f64::total_cmp);
    Ok(median(&times).context("no samples")? / (2 * effort.wakes) as f64)
}

fn yields(effort: Effort) -> Result<f64> {
    let times = Builder::new_current_thread().build()?.block_on(async {
        let turns = effort.batches * effort.wakes;
        let other = tokio::spawn(async move {
            for _ in 0..turns {
                yield_now().await;
            }
        });
        // Both in tasks: what `block_on` itself runs is woken in another way.
        let times: JoinHandle<Vec<f64>> = tokio::spawn(async move {
            let mut times = Vec::with_capacity(effort.batches);
            for _ in 0..effort.batches {
                let start = now_ns();
                for _ in 0..effort.wakes {
                    yield_now().await;
                }
                times.push((now_ns() - start) as f64);
            }
            times
        });
        other.await?;
        times.await
    })?;
    per_switch(times, effort)
}

fn messages(effort: Effort) -> Result<f64> {
    let times = Builder::new_current_thread().build()?.block_on(async {
        let (ping, mut pings) = mpsc::channel::<()>(1);
        let (pong, mut pongs) = mpsc::channel::<()>(1);
        tokio::spawn(async move { while pings.recv().await.is_some() && pong.send(()).await.is_ok() {} });
        let times: JoinHandle<Vec<f64>> = tokio::spawn(async move {
            let mut times = Vec::with_capacity(effort.batches);
            for _ in 0..effort.batches {
                let start = now_ns();
                for _ in 0..effort.wakes {
                    // The other side ends after this one.
                    let _ = ping.send(()).await;
                    let _ = pongs.recv().await;
                }
                times.push((now_ns() - start) as f64);
            }
            times
        });
        times.await
    })?;
    per_switch(times, effort)
}

fn resumes(effort: Effort) -> Result<f64> {
    let stack = DefaultStack::new(COROUTINE_STACK_BYTES)?;
    let mut coroutine = Coroutine::<bool, (), (), _>::with_stack(stack, |suspender, mut goes_on| {
        while goes_on {
            goes_on = suspender.suspend(());
        }
    });
    let mut batch = || {
        let start = now_ns();
        for _ in 0..effort.wakes {
            coroutine.resume(true);
        }
        (now_ns() - start) as f64
    };
    let times = (0..effort.batches).map(|_| batch()).collect();
    // One that is dropped halfway has to be unwound.
    let CoroutineResult::Return(()) = coroutine.resume(false) else { unreachable!("it was told to end") };
    per_switch(times, effort)
}
