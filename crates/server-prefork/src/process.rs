//! What needs `unsafe`: fork, the memory that parent and children share and wait for changes of, and a signal handler.
#![expect(unsafe_code, reason = "fork, shared memory, futexes and signal handlers have no safe interface")]

use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::slice;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use nix::Result;
use nix::errno::Errno;
use nix::libc;
use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous};
use nix::sys::prctl;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, SigmaskHow, Signal, sigaction};
use nix::sys::time::TimeSpec;
use nix::unistd::{Pid, getpid, getppid};

/// Forks a child that runs `work` and exits; returns its pid. The child dies with its parent, however that dies.
///
/// The signals that stop the child are blocked until it has a handler of its own: its parent's must not run there.
pub(crate) fn spawn(work: impl FnOnce()) -> Result<Pid> {
    let parent = getpid();
    let signals = SigSet::from_iter(STOP_SIGNALS);
    let unblocked = signals.thread_swap_mask(SigmaskHow::SIG_BLOCK)?;
    // SAFETY: this process has one thread, so the child finds no lock held and may do whatever its parent may.
    let forked = Errno::result(unsafe { _Fork() });
    if forked != Ok(0) {
        unblocked.thread_set_mask()?;
    }
    match forked? {
        0 => {
            let is_ready = leave_with(parent).is_ok() && handle_stop().is_ok() && signals.thread_unblock().is_ok();
            // A panic must not unwind into the supervisor's frames, which this process has copies of.
            let has_panicked = catch_unwind(AssertUnwindSafe(|| is_ready.then(work))).is_err();
            std::process::exit(if has_panicked { 101 } else { i32::from(!is_ready) });
        }
        child => Ok(Pid::from_raw(child)),
    }
}

unsafe extern "C" {
    /// The `fork` of POSIX 2024 that a signal handler may call. The usual one takes the locks of malloc, stdio and others,
    /// for the sake of other threads, and so writes to three pages, of which each of 10,000 children would have a copy.
    fn _Fork() -> libc::pid_t;
}

/// Has the kernel kill this process when `parent` dies.
fn leave_with(parent: Pid) -> Result<()> {
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    // The parent may have died before that: then nobody would kill us.
    if getppid() == parent { Ok(()) } else { Err(Errno::ESRCH) }
}

const STOP_SIGNALS: [Signal; 2] = [Signal::SIGTERM, Signal::SIGINT];
/// Set by SIGTERM or SIGINT in a child.
static IS_STOPPING: AtomicBool = AtomicBool::new(false);

/// Has SIGTERM and SIGINT call [`stop`]. Without SA_RESTART: a child that waits for a connection or a request must notice.
fn handle_stop() -> Result<()> {
    let action = SigAction::new(SigHandler::Handler(stop), SaFlags::empty(), SigSet::empty());
    for signal in STOP_SIGNALS {
        // SAFETY: `stop` only does what a signal handler may do.
        unsafe { sigaction(signal, &action) }?;
    }
    Ok(())
}

extern "C" fn stop(_signal: libc::c_int) {
    IS_STOPPING.store(true, Relaxed);
}

/// Whether this child was asked to stop.
pub(crate) fn is_stopping() -> &'static AtomicBool {
    &IS_STOPPING
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

/// Blocks while a word in shared memory is `seen`, for `timeout` at most. A signal or nothing at all may end it earlier.
pub(crate) fn wait_for_change(word: &AtomicU32, seen: u32, timeout: Duration) {
    let timeout = TimeSpec::from(timeout);
    // SAFETY: word and timeout live as long as the call. Errors mean that there is nothing to wait for.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAIT, seen, timeout.as_ref()) };
}

/// Wakes one of the processes that wait for `word`.
pub(crate) fn wake_one(word: &AtomicU32) {
    // SAFETY: the word lives as long as the call.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, 1) };
}
