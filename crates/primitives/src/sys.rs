//! What needs `unsafe`: fork and its relatives, futexes, and memory that processes share.
#![expect(unsafe_code, reason = "fork, clone, futexes and shared memory have no safe interface")]

use std::ffi::c_void;
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::{self, NonNull};
use std::sync::atomic::AtomicU32;
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::libc;
use nix::sched::{CloneFlags, clone};
use nix::sys::mman::{MapFlags, MmapAdvise, ProtFlags, madvise, mmap_anonymous, munmap};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork};

/// How often to ask whether a child has exited.
const JOIN_INTERVAL: Duration = Duration::from_millis(1);

/// A child that runs some work and exits. It must be [joined](Child::join).
#[derive(Debug)]
#[must_use]
pub(crate) struct Child(Pid);

impl Child {
    /// Starts a child with fork(2).
    pub(crate) fn fork(work: impl FnOnce()) -> nix::Result<Self> {
        Self::fork_checked(|| {
            work();
            true
        })
    }

    /// The same, with work that says whether it has succeeded.
    pub(crate) fn fork_checked(work: impl FnOnce() -> bool) -> nix::Result<Self> {
        // SAFETY: the callers have one thread, or their child calls nothing that another thread may have locked.
        match unsafe { fork() }? {
            ForkResult::Parent { child } => Ok(Self(child)),
            ForkResult::Child => exit_after(work),
        }
    }

    /// Starts a child with clone3(2) and no flags: what fork does, without what the C library does around it.
    pub(crate) fn clone3(work: impl FnOnce()) -> nix::Result<Self> {
        // SAFETY: all fields may be zero.
        let mut arguments: libc::clone_args = unsafe { std::mem::zeroed() };
        arguments.exit_signal = libc::SIGCHLD as u64;
        // SAFETY: without CLONE_VM the child has its own copy of all memory and goes on where the parent does.
        let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw const arguments, size_of::<libc::clone_args>()) };
        match Errno::result(pid)? {
            0 => exit_after(|| {
                work();
                true
            }),
            pid => Ok(Self(Pid::from_raw(pid as i32))),
        }
    }

    /// Starts a child as vfork(2) does: in the memory of its parent, which waits until the child has exited, but on this stack.
    pub(crate) fn vfork(stack: &mut [u8], mut work: impl FnMut()) -> nix::Result<Self> {
        let child = Box::new(|| {
            work();
            0
        });
        let flags = CloneFlags::CLONE_VM | CloneFlags::CLONE_VFORK;
        // SAFETY: the stack and all that `work` borrows outlive the child, because this thread waits for its exit.
        unsafe { clone(child, stack, flags, Some(Signal::SIGCHLD as i32)) }.map(Self)
    }

    /// Waits until it has exited; whether it did so well.
    pub(crate) fn join(self) -> nix::Result<bool> {
        loop {
            match waitpid(self.0, None) {
                Err(Errno::EINTR) => {}
                status => return Ok(matches!(status?, WaitStatus::Exited(_, 0))),
            }
        }
    }

    /// The same, but kills it if it has not exited within `limit`.
    pub(crate) fn join_within(self, limit: Duration) -> nix::Result<bool> {
        let deadline = Instant::now() + limit;
        loop {
            match waitpid(self.0, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::StillAlive) if Instant::now() < deadline => thread::sleep(JOIN_INTERVAL),
                Ok(WaitStatus::StillAlive) => break,
                Err(Errno::EINTR) => {}
                status => return Ok(matches!(status?, WaitStatus::Exited(_, 0))),
            }
        }
        kill(self.0, Signal::SIGKILL)?;
        self.join()
    }
}

/// Ends a child without what its parent has registered for its own end.
fn exit_after(work: impl FnOnce() -> bool) -> ! {
    let has_succeeded = catch_unwind(AssertUnwindSafe(work)).unwrap_or(false);
    // SAFETY: it ends the process and does nothing else.
    unsafe { libc::_exit(i32::from(!has_succeeded)) }
}

/// Moves `value` into memory that this process and the children that it starts from now on share.
pub(crate) fn share<T: Sync>(value: T) -> nix::Result<&'static T> {
    let length = NonZeroUsize::new(size_of::<T>()).ok_or(Errno::EINVAL)?;
    let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
    // SAFETY: a new mapping touches nobody else's memory; it is writable, large enough, aligned to a page and never
    // unmapped.
    unsafe {
        let memory = mmap_anonymous(None, length, access, MapFlags::MAP_SHARED)?.cast::<T>();
        memory.write(value);
        Ok(memory.as_ref())
    }
}

/// Memory of this process that is resident: every page of it has been written.
#[derive(Debug)]
pub(crate) struct Resident {
    memory: NonNull<c_void>,
    bytes: usize,
}

impl Resident {
    /// So many bytes, in huge pages where the kernel has them, or in none.
    pub(crate) fn new(bytes: usize, is_huge: bool) -> nix::Result<Self> {
        let length = NonZeroUsize::new(bytes).ok_or(Errno::EINVAL)?;
        let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        let advice = if is_huge { MmapAdvise::MADV_HUGEPAGE } else { MmapAdvise::MADV_NOHUGEPAGE };
        // SAFETY: a new mapping touches nobody else's memory, and only this value knows it.
        unsafe {
            let memory = mmap_anonymous(None, length, access, MapFlags::MAP_PRIVATE)?;
            let resident = Self { memory, bytes };
            madvise(memory, bytes, advice)?;
            ptr::write_bytes(memory.as_ptr().cast::<u8>(), 1, bytes);
            Ok(resident)
        }
    }
}

impl Drop for Resident {
    fn drop(&mut self) {
        // SAFETY: the mapping is this value's, and nobody else has an address in it.
        let _ = unsafe { munmap(self.memory, self.bytes) };
    }
}

/// Waits until somebody wakes those who wait for `word`, unless it is no longer `expected`. `is_shared`: among processes.
pub(crate) fn futex_wait(word: &AtomicU32, expected: u32, is_shared: bool) {
    let operation = libc::FUTEX_WAIT | if is_shared { 0 } else { libc::FUTEX_PRIVATE_FLAG };
    // SAFETY: the word lives as long as the call, and no timeout is given. Errors mean that there is nothing to wait for.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), operation, expected, ptr::null::<libc::timespec>()) };
}

/// Wakes one of those who wait for `word`.
pub(crate) fn futex_wake(word: &AtomicU32, is_shared: bool) {
    let operation = libc::FUTEX_WAKE | if is_shared { 0 } else { libc::FUTEX_PRIVATE_FLAG };
    // SAFETY: the word lives as long as the call.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), operation, 1) };
}
