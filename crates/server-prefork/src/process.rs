//! What needs `unsafe`: fork, the memory that parent and children share, and a signal handler.
#![expect(unsafe_code, reason = "fork, shared memory and signal handlers have no safe interface")]

use std::num::NonZeroUsize;
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::slice;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering::SeqCst};

use nix::Result;
use nix::errno::Errno;
use nix::libc;
use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous};
use nix::sys::prctl;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use nix::unistd::{ForkResult, Pid, fork, getpid, getppid};

/// Forks a child that runs `work` and exits; returns its pid. The child dies with its parent, however that dies.
///
/// The caller has blocked `signals`; the child unblocks them once its handler is there, so that none is lost.
pub(crate) fn spawn(signals: &SigSet, work: impl FnOnce()) -> Result<Pid> {
    let parent = getpid();
    // SAFETY: this process has one thread, so the child finds no lock held and may do whatever its parent may.
    match unsafe { fork() }? {
        ForkResult::Parent { child } => Ok(child),
        ForkResult::Child => {
            let is_ready = leave_with(parent).is_ok() && handle_stop().is_ok() && signals.thread_unblock().is_ok();
            // A panic must not unwind into the supervisor's frames, which this process has copies of.
            let has_panicked = catch_unwind(AssertUnwindSafe(|| is_ready.then(work))).is_err();
            std::process::exit(if has_panicked { 101 } else { i32::from(!is_ready) });
        }
    }
}

/// Has the kernel kill this process when `parent` dies.
fn leave_with(parent: Pid) -> Result<()> {
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    // The parent may have died before that: then nobody would kill us.
    if getppid() == parent { Ok(()) } else { Err(Errno::ESRCH) }
}

/// Set by SIGTERM or SIGINT in a child.
static IS_STOPPING: AtomicBool = AtomicBool::new(false);
thread_local! {
    /// The descriptor of the connection that this child serves, or -1. No plain static: a child that wrote to the page of
    /// the statics would have a copy of it, while that of the thread is the child's own anyway. Being `const` and without
    /// destructor, it needs no initialising, so that a signal handler may use it.
    static CONNECTION: AtomicI32 = const { AtomicI32::new(-1) };
}

/// Has SIGTERM and SIGINT call [`stop`]. Without SA_RESTART: a child that waits in `accept` must notice.
fn handle_stop() -> Result<()> {
    let action = SigAction::new(SigHandler::Handler(stop), SaFlags::empty(), SigSet::empty());
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        // SAFETY: `stop` only does what a signal handler may do.
        unsafe { sigaction(signal, &action) }?;
    }
    Ok(())
}

/// Ends the input of the connection: a child that waits for a request leaves, one that answers can still do so.
extern "C" fn stop(_signal: libc::c_int) {
    IS_STOPPING.store(true, SeqCst);
    let connection = CONNECTION.with(|connection| connection.load(SeqCst));
    if connection >= 0 {
        // The code that this interrupts may be about to look at errno.
        let errno = Errno::last_raw();
        // SAFETY: shutdown(2) is async-signal-safe, and the descriptor is open while CONNECTION names it.
        unsafe { libc::shutdown(connection, libc::SHUT_RD) };
        Errno::set_raw(errno);
    }
}

/// Whether this child was asked to stop.
pub(crate) fn is_stopping() -> bool {
    IS_STOPPING.load(SeqCst)
}

/// Lets [`stop`] end the input of `connection` as long as the guard lives.
pub(crate) fn stoppable(connection: BorrowedFd<'_>) -> Stoppable<'_> {
    CONNECTION.with(|current| current.store(connection.as_raw_fd(), SeqCst));
    if is_stopping() {
        // The signal came before the descriptor was there.
        stop(0);
    }
    Stoppable(connection)
}

/// Names the connection that [`stop`] may touch.
pub(crate) struct Stoppable<'a>(#[expect(dead_code, reason = "it keeps the connection borrowed")] BorrowedFd<'a>);

impl Drop for Stoppable<'_> {
    fn drop(&mut self) {
        CONNECTION.with(|current| current.store(-1, SeqCst));
    }
}

/// Moves `value` into memory that this process and the children that it forks from now on share.
pub(crate) fn share<T: Sync>(value: T) -> Result<&'static T> {
    let memory = shared_memory(size_of::<T>())?.cast::<T>();
    // SAFETY: the memory is writable, large enough, aligned to a page (no type here needs more) and never unmapped.
    unsafe {
        memory.write(value);
        Ok(&*memory)
    }
}

/// Moves `count` default values into memory that this process and the children that it forks from now on share.
pub(crate) fn share_slice<T: Default + Sync>(count: usize) -> Result<&'static [T]> {
    let memory = shared_memory(count * size_of::<T>())?.cast::<T>();
    for index in 0..count {
        // SAFETY: as above, for `count` values.
        unsafe { memory.add(index).write(T::default()) };
    }
    // SAFETY: all of them are there now.
    Ok(unsafe { slice::from_raw_parts(memory, count) })
}

fn shared_memory(bytes: usize) -> Result<*mut libc::c_void> {
    let length = NonZeroUsize::new(bytes).ok_or(Errno::EINVAL)?;
    // SAFETY: a new mapping at an address that the kernel chooses touches nobody else's memory.
    let memory =
        unsafe { mmap_anonymous(None, length, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE, MapFlags::MAP_SHARED) }?;
    Ok(memory.as_ptr())
}
