//! Meters the RAM of a process tree, including kernel memory.
//!
//! No single figure says what a server costs. Summed RSS counts a page that 10,000 forked children share 10,000 times;
//! PSS divides it fairly, but misses everything that the kernel holds for the server: page tables, stacks, sockets. So
//! there are two independent views to compare:
//!
//! - [`ledger()`] walks `/proc` and keeps the parts apart. It needs no privileges for your own processes. The kernel
//!   walks every page table of every process for it, so read it seldom.
//! - [`Cgroup`] is the kernel's own accounting, with every charge to the group. It costs one small read, so poll it
//!   often. It needs root or a delegated cgroup. [`ExistingCgroup`] reads one that somebody else made, such as that of this
//!   process, and needs neither.
//!
//! The two never agree to the byte. The ledger misses `task_struct`, `mm_struct`, VMAs, `files_struct` and other slab
//! (22 KiB for each of 500 `sleep`s on Linux 6.18), and page cache. The cgroup includes all of these, but not pages
//! that another cgroup touched first, such as a binary already in the page cache.
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
pub mod machine;
mod pids;
mod process;
mod quota;
mod sockets;
mod switches;
mod tree;

pub use cgroup::existing::ExistingCgroup;
pub use cgroup::{Cgroup, CgroupParts, remove_stale};
pub use error::MeterError;
pub use ledger::{Ledger, LedgerWalk, Missing, ledger};
pub use pids::{PidsLimit, pids_limit};
pub use process::{cpu_time, rss_peak_bytes, run_time, threads, total_cpu_time};
pub use quota::{CpuQuota, cpu_quota};
pub use sockets::listens_at;
pub use switches::Switches;
pub use tree::{process_tree, process_trees};
