//! Tasks of tokio, and coroutines with a stack.

use anyhow::{Context as _, Result, bail};
use corosensei::stack::{DefaultStack, Stack};
use corosensei::{Coroutine, CoroutineResult};
use tokio::runtime::{Builder, Runtime};

use super::{Created, Kind};
use crate::keep::COROUTINE_STACK_BYTES;
use crate::now_ns;
use crate::placement::Placement;

pub(super) fn kinds() -> Result<Vec<Kind>> {
    let one = Builder::new_current_thread().build()?;
    let mut kept = Some(DefaultStack::new(COROUTINE_STACK_BYTES)?);
    Ok(vec![
        Kind {
            name: "task",
            what: "a task (tokio::spawn)",
            slowness: 1,
            create: Box::new(move |_, placement| match placement {
                Placement::OneCpu | Placement::Unpinned => spawn(&one),
                Placement::TwoCpus => bail!("a task is created and run by the threads that there are"),
            }),
        },
        Kind {
            name: "coroutine",
            what: "a coroutine (corosensei) whose stack was used before",
            slowness: 1,
            create: Box::new(move |_, placement| {
                only_here(placement)?;
                let (created, stack) = resume(kept.take().context("the stack is lost")?)?;
                kept = Some(stack);
                Ok(created)
            }),
        },
        Kind {
            name: "coroutine_cold",
            what: "a coroutine (corosensei) with a new stack",
            slowness: 1,
            create: Box::new(|_, placement| {
                only_here(placement)?;
                let called = now_ns();
                let (created, stack) = resume(DefaultStack::new(COROUTINE_STACK_BYTES)?)?;
                drop(stack);
                Ok(Created { called, joined: now_ns(), ..created })
            }),
        },
    ])
}

fn only_here(placement: Placement) -> Result<()> {
    match placement {
        Placement::TwoCpus => bail!("a coroutine runs where it is resumed"),
        Placement::OneCpu | Placement::Unpinned => Ok(()),
    }
}

fn spawn(runtime: &Runtime) -> Result<Created> {
    runtime.block_on(async {
        let called = now_ns();
        let task = tokio::spawn(async { now_ns() });
        let returned = now_ns();
        let started = task.await?;
        Ok(Created { called, returned, started, joined: now_ns() })
    })
}

fn resume<S: Stack + 'static>(stack: S) -> Result<(Created, S)> {
    let called = now_ns();
    let mut coroutine = Coroutine::<(), (), u64, S>::with_stack(stack, |_, ()| now_ns());
    let returned = now_ns();
    let CoroutineResult::Return(started) = coroutine.resume(()) else { bail!("it did not return") };
    let joined = now_ns();
    Ok((Created { called, returned, started, joined }, coroutine.into_stack()))
}
