//! A setting of glibc's allocator.
#![expect(unsafe_code, reason = "mallopt has no safe interface")]

use nix::libc;

/// What is as large has pages of its own, which go back to the kernel when it is freed. It is glibc's own default.
const LARGE_BYTES: libc::c_int = 128 * 1024;

/// Has large blocks always go back to the kernel. By itself glibc does so only until the first one is freed: then it takes
/// them from its arenas, each of which may keep twice as much as the largest, long after the body of a request is gone.
pub fn give_back_large_blocks() {
    // SAFETY: it sets a number, and nobody else sets it.
    unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE_BYTES) };
}
