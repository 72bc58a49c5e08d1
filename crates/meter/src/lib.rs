//! The RAM of a process tree, the kernel's part included.
//!
//! No single figure tells what a server costs. Summed RSS counts a page that 10,000 forked children share 10,000 times;
//! PSS is fair to pages, and blind to everything that the kernel holds on the server's behalf: page tables, stacks,
//! sockets. So there are two independent views, and the reader may compare them:
//!
//! - [`ledger()`] walks `/proc` and keeps each part apart. It needs no privilege for one's own processes. It costs the
//!   kernel a walk over every page table of every process: take it seldom.
//! - [`Cgroup`] is the kernel's own account, its whole charge for everything in the group. It costs one small read: poll
//!   it often. It needs root, or a delegated cgroup. [`OwnCgroup`] reads the same of the group that one is in, and needs neither.
//!
//! The two never agree to the byte. The ledger does not know of `task_struct`, `mm_struct`, VMAs, `files_struct` and
//! other slab (22 KiB for each of 500 `sleep`s on Linux 6.18), nor of page cache; the cgroup knows all of these, and leaves
//! out pages that somebody else touched first, such as a binary that was already in the page cache.
//!
//! ```
//! let ledger = meter::ledger(std::process::id() as i32)?;
//! assert!(ledger.pss_bytes <= ledger.rss_sum_bytes);
//! # Ok::<(), meter::MeterError>(())
//! ```

#![forbid(unsafe_code)]

mod cgroup;
mod error;
mod ledger;
mod machine;
mod process;
mod sockets;
mod tree;

pub use cgroup::{Cgroup, CgroupParts, OwnCgroup, remove_stale};
pub use error::MeterError;
pub use ledger::{Ledger, LedgerWalk, Missing, ledger};
pub use machine::{CpuTicks, Machine, machine};
pub use process::{cpu_time, rss_peak_bytes, run_time, threads};
pub use tree::process_tree;
