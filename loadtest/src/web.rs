//! The live page: watches runs, starts and stops them, and shows those that are kept.
//!
//! A run is a child process whose events are kept in a file, a line each. Whoever watches reads that file from the line that
//! they have, and waits for more: so a browser that reconnects misses nothing, and a run of yesterday is watched as one of
//! now is.

mod access;
mod child;
mod keep;
mod order;
mod plan;
mod routes;
mod stream;

pub(crate) use self::access::Access;
pub(crate) use self::child::{Job, Runner};
pub(crate) use self::keep::Keep;
pub(crate) use self::order::Bounds;
pub(crate) use self::routes::{Site, replay_page, router};
