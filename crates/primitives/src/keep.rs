//! Keeps so many of a kind until it is told to end, so that what they cost can be metered from outside.

use std::future::pending;
use std::io::{Write as _, stdout};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use clap::ValueEnum;
use common::held::touch_stack;
use corosensei::Coroutine;
use corosensei::stack::DefaultStack;
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::unistd::getppid;
use tokio::runtime::Builder;

use crate::sys::{Child, share};

/// The stack of a coroutine: what the library's documentation uses.
pub(crate) const COROUTINE_STACK_BYTES: usize = 64 << 10;
/// What is printed once all are there.
pub const READY: &str = "ready";
/// How long they may take to start.
const START_TIMEOUT: Duration = Duration::from_secs(30);
/// Nothing waits as long.
const LONG: Duration = Duration::from_secs(24 * 3600);

/// What to keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// Forked processes that sleep
    Process,
    /// Threads that sleep
    Thread,
    /// Tasks of tokio that await a timer
    Task,
    /// Suspended coroutines with a stack each
    Coroutine,
}

/// Creates `count` of a kind, says [`READY`], and sleeps until a signal ends it. Each thread has a stack of `stack_bytes`, of
/// which it touches `touched_bytes`.
///
/// # Errors
/// One of them cannot be created.
pub fn keep(kind: Kind, count: usize, stack_bytes: usize, touched_bytes: usize) -> Result<()> {
    match kind {
        Kind::Process => processes(count, touched_bytes),
        Kind::Thread => threads(count, stack_bytes, touched_bytes),
        Kind::Task => tasks(count),
        Kind::Coroutine => coroutines(count, stack_bytes, touched_bytes),
    }
}

fn processes(count: usize, touched_bytes: usize) -> Result<()> {
    let parent = nix::unistd::getpid();
    let started: &'static AtomicUsize = share(AtomicUsize::new(0))?;
    let children: Vec<Child> = (0..count)
        .map(|_| {
            Child::fork(|| {
                // The parent may have died before the first had an effect.
                if set_pdeathsig(Signal::SIGKILL).is_ok() && getppid() == parent {
                    touch_stack(touched_bytes);
                    started.fetch_add(1, SeqCst);
                    thread::sleep(LONG);
                }
            })
        })
        .collect::<nix::Result<_>>()
        .context("no further process: see `ulimit -u`, kernel.pid_max and kernel.threads-max")?;
    wait_for(started, count)?;
    sleep_ready()?;
    drop(children);
    Ok(())
}

fn threads(count: usize, stack_bytes: usize, touched_bytes: usize) -> Result<()> {
    static STARTED: AtomicUsize = AtomicUsize::new(0);
    for _ in 0..count {
        let sleep = move || {
            touch_stack(touched_bytes);
            STARTED.fetch_add(1, SeqCst);
            thread::sleep(LONG);
        };
        let thread = thread::Builder::new().stack_size(stack_bytes).spawn(sleep);
        thread.context("no further thread: see vm.max_map_count, kernel.threads-max and `ulimit -u`")?;
    }
    wait_for(&STARTED, count)?;
    sleep_ready()
}

fn tasks(count: usize) -> Result<()> {
    Builder::new_multi_thread().worker_threads(2).enable_time().build()?.block_on(async {
        for _ in 0..count {
            tokio::spawn(tokio::time::sleep(LONG));
        }
        say_ready()?;
        pending().await
    })
}

fn coroutines(count: usize, stack_bytes: usize, touched_bytes: usize) -> Result<()> {
    let mut kept = Vec::with_capacity(count);
    for _ in 0..count {
        let stack = DefaultStack::new(stack_bytes).context("no further stack: see vm.max_map_count")?;
        let mut coroutine = Coroutine::<(), (), (), _>::with_stack(stack, move |suspender, ()| {
            touch_stack(touched_bytes);
            suspender.suspend(());
        });
        coroutine.resume(());
        kept.push(coroutine);
    }
    sleep_ready()?;
    // Each would have to be unwound.
    std::mem::forget(kept);
    Ok(())
}

/// Waits until all of them have run, and so have touched what they touch.
fn wait_for(started: &AtomicUsize, count: usize) -> Result<()> {
    let deadline = Instant::now() + START_TIMEOUT;
    while started.load(SeqCst) < count {
        ensure!(Instant::now() < deadline, "{} of {count} have started", started.load(SeqCst));
        thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

fn sleep_ready() -> Result<()> {
    say_ready()?;
    thread::sleep(LONG);
    Ok(())
}

fn say_ready() -> Result<()> {
    let mut stdout = stdout();
    writeln!(stdout, "{READY}")?;
    Ok(stdout.flush()?)
}
