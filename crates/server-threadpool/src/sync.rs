//! What the queue waits with. A benchmark, which is compiled as a test, has a module of its own in this place.

// Loom's twins try every order in which threads may meet.
#[cfg(test)]
pub(crate) use loom::sync::{Condvar, Mutex, MutexGuard};
#[cfg(not(test))]
pub(crate) use std::sync::{Condvar, Mutex, MutexGuard};
