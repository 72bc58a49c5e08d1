//! Keeps the standard library from giving each thread a signal stack.
//!
//! It does so for its handler of SIGSEGV, which says of a stack overflow that it is one. That is two memory maps more for
//! each connection, and where the kernel refuses such a map, the library aborts the process: one connection
//! too many would end all. Without the handler an overflow is a plain SIGSEGV, as in C.
#![expect(unsafe_code, reason = "only a constructor runs before the standard library's own start")]

use nix::sys::signal::{SigHandler, Signal, signal};

/// The library leaves alone what does not have the default action when it starts.
#[used]
#[unsafe(link_section = ".init_array")]
static BEFORE_MAIN: extern "C" fn() = ignore;

extern "C" fn ignore() {
    for fault in [Signal::SIGSEGV, Signal::SIGBUS] {
        // SAFETY: no handler is installed, and there is no other thread yet. The kernel ignores this for real faults: they end
        // the process as by default.
        let _ = unsafe { signal(fault, SigHandler::SigIgn) };
    }
}
