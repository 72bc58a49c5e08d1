//! Processes.

use std::io::{Read as _, Write as _};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use anyhow::{Context as _, Result, ensure};

use super::{Created, Kind};
use crate::now_ns;
use crate::placement::Placement;
use crate::sys::{Child, share};

/// posix_spawn runs a program, whose start takes a hundred times as long as fork.
const SPAWN_SLOWNESS: usize = 10;

/// The argument with which this program only tells when it began.
pub const FIRST_INSTRUCTION: &str = "first-instruction";
/// The stack of a child that shares its parent's memory.
const VFORK_STACK_BYTES: usize = 64 * 1024;

pub(super) fn kinds() -> Result<Vec<Kind>> {
    let started: &'static AtomicU64 = share(AtomicU64::new(0))?;
    type Start = Box<dyn FnMut(&mut dyn FnMut()) -> nix::Result<Child>>;
    let process = |name, what, mut start: Start| Kind {
        name,
        what,
        slowness: 1,
        create: Box::new(move |cpus, placement| {
            let mut work = || {
                if placement == Placement::TwoCpus {
                    // It is created where its parent runs, and moves first.
                    let _ = cpus.place_second(placement);
                }
                started.store(now_ns(), SeqCst);
            };
            created(started, || start(&mut work))
        }),
    };
    let mut stack = vec![0_u8; VFORK_STACK_BYTES];
    let vfork: Start = Box::new(move |work| Child::vfork(&mut stack, work));
    Ok(vec![
        process("fork", "a process by fork", Box::new(|work| Child::fork(work))),
        process("clone3", "a process by clone3, without the C library", Box::new(|work| Child::clone3(work))),
        process("vfork", "a process by vfork (its parent waits until it has exited)", vfork),
        Kind {
            name: "spawn",
            what: "a process by posix_spawn, which runs a program",
            slowness: SPAWN_SLOWNESS,
            create: Box::new(|_, _| spawn()),
        },
    ])
}

/// The times of a child that stores when it started.
pub(super) fn created(started: &AtomicU64, start: impl FnOnce() -> nix::Result<Child>) -> Result<Created> {
    let called = now_ns();
    let child = start()?;
    let returned = now_ns();
    ensure!(child.join()?, "the child failed");
    Ok(Created { called, returned, started: started.load(SeqCst), joined: now_ns() })
}

/// Runs this program again, to tell when its `main` began.
fn spawn() -> Result<Created> {
    let mut command = Command::new("/proc/self/exe");
    command.arg(FIRST_INSTRUCTION).stdin(Stdio::null()).stdout(Stdio::piped());
    let called = now_ns();
    let mut child = command.spawn().context("cannot run this program again")?;
    let returned = now_ns();
    ensure!(child.wait()?.success(), "the child failed");
    let joined = now_ns();
    let mut started = [0; 8];
    child.stdout.take().context("no output")?.read_exact(&mut started)?;
    Ok(Created { called, returned, started: u64::from_ne_bytes(started), joined })
}

/// What this program does with [`FIRST_INSTRUCTION`]: writes the time to standard output.
///
/// # Errors
/// Nobody reads.
pub fn report_first_instruction() -> Result<()> {
    let now_ns = now_ns();
    Ok(std::io::stdout().write_all(&now_ns.to_ne_bytes())?)
}
