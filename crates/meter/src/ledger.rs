//! The ledger: the memory of a process tree according to `/proc`, part by part.

use std::collections::HashSet;
use std::io;
use std::vec;

use procfs::ProcError;
use procfs::process::{Process, SmapsRollup, Status};
use serde::Serialize;

use crate::sockets::{self, SocketWalk};
use crate::{MeterError, process_tree};

/// A kernel stack: `THREAD_SIZE`, 16 KiB on x86-64 (`arch/x86/include/asm/page_64_types.h`) and on arm64
/// (`arch/arm64/include/asm/memory.h`), or one page where pages are larger.
const KERNEL_STACK_BYTES: u64 = 16 * 1024;

/// The RAM of a process tree at one moment, part by part. A figure that could not be read for every process is `None`,
/// never a partial sum, and [`missing`](Ledger::missing) says why.
///
/// PSS, page tables, kernel stacks and sockets do not overlap and may be added; RSS and private dirty may not. The sum
/// is a lower bound: see the crate's documentation for what `/proc` leaves out.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Ledger {
    /// Resident set sizes added up, in bytes (`VmRSS` of `/proc/PID/status`). Counts a shared page once per process. It
    /// is the popular figure, kept to show how far off it is.
    pub rss_sum_bytes: Option<u64>,
    /// Proportional set sizes added up, in bytes (`Pss` of `smaps_rollup`): a page shared by n processes counts 1/n in
    /// each. Shares of processes outside the tree are not counted.
    pub pss_bytes: Option<u64>,
    /// Pages that only one process uses and that cannot be dropped, in bytes (`Private_Dirty` of `smaps_rollup`).
    pub private_dirty_bytes: Option<u64>,
    /// Page tables, in bytes (`VmPTE` of `/proc/PID/status`: all levels but the topmost page).
    pub page_tables_bytes: Option<u64>,
    /// Kernel stacks, in bytes: 16 KiB per thread.
    pub kernel_stacks_bytes: Option<u64>,
    /// Kernel memory of the distinct sockets that the tree holds, in bytes: the protocol object, file, dentry and inode
    /// of each, and the payload queued in it. A lower bound, because the buffers around that payload are not visible.
    pub sockets_bytes: Option<u64>,
    /// What of `sockets_bytes` a cgroup is not charged for, although the tree holds it, in bytes: the objects of accepted TCP
    /// connections, before Linux 6.12. 0 where all is charged.
    pub uncharged_sockets_bytes: Option<u64>,
    /// How many distinct sockets the tree holds; one inherited by 10,000 children counts once.
    pub sockets: Option<u64>,
    /// Running processes in the tree, without zombies.
    pub processes: u64,
    /// Threads in the tree, at least one per process.
    pub threads: u64,
    /// Figures that are missing or incomplete, and why.
    pub missing: Vec<Missing>,
}

/// A figure that is missing or incomplete.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Missing {
    /// The name of the field in [`Ledger`].
    pub figure: &'static str,
    /// Why, in one sentence.
    pub why: String,
}

/// Reads the ledger of the process `root_pid` and all its descendants.
///
/// Processes that exit while being read are left out. Reading takes tens of microseconds per process, and more where
/// much is mapped: `smaps_rollup` walks the page tables and blocks page faults of the process for that time.
///
/// # Errors
/// [`MeterError::NoSuchProcess`] if no process of the tree exists (any more). Anything else that cannot be read becomes
/// an entry in [`Ledger::missing`].
pub fn ledger(root_pid: i32) -> Result<Ledger, MeterError> {
    LedgerWalk::new(root_pid, process_tree(root_pid)).finish()
}

/// A ledger that is read step by step, for callers with other work to do in between.
#[derive(Debug)]
pub struct LedgerWalk {
    root_pid: i32,
    unread: vec::IntoIter<i32>,
    processes: u64,
    threads: u64,
    rss_kib: u64,
    page_tables_kib: u64,
    pss: Tally,
    private_dirty: Tally,
    fds: Tally,
    socket_inodes: HashSet<u64>,
    /// Once all processes are read.
    sockets: Option<io::Result<SocketWalk>>,
}

impl LedgerWalk {
    /// A walk over the processes `pids`, whose sockets are looked up in the network namespace of `root_pid`.
    pub fn new(root_pid: i32, pids: Vec<i32>) -> Self {
        Self {
            root_pid,
            unread: pids.into_iter(),
            processes: 0,
            threads: 0,
            rss_kib: 0,
            page_tables_kib: 0,
            pss: Tally::default(),
            private_dirty: Tally::default(),
            fds: Tally::default(),
            socket_inodes: HashSet::new(),
            sockets: None,
        }
    }

    /// Reads the next process, or the next of the sockets. Returns false if there is nothing more.
    pub fn read_next(&mut self) -> bool {
        match self.unread.next() {
            Some(pid) => {
                if let Some(reading) = Reading::take(pid) {
                    self.add(reading);
                }
                true
            }
            None => self.read_sockets(),
        }
    }

    fn read_sockets(&mut self) -> bool {
        if self.processes == 0 || self.fds.unread > 0 {
            return false;
        }
        match self.sockets.get_or_insert_with(|| SocketWalk::new(self.root_pid)) {
            Ok(walk) => walk.read_next(&self.socket_inodes),
            Err(_) => false,
        }
    }

    fn add(&mut self, reading: Reading) {
        self.processes += 1;
        self.threads += reading.status.threads;
        self.rss_kib += reading.status.vmrss.unwrap_or(0);
        self.page_tables_kib += reading.status.vmpte.unwrap_or(0);
        self.pss.add(rollup_bytes(&reading.rollup, "Pss"));
        self.private_dirty.add(rollup_bytes(&reading.rollup, "Private_Dirty"));
        self.fds.add(reading.socket_inodes.map(|inodes| {
            self.socket_inodes.extend(inodes);
            0
        }));
    }

    /// Reads what is left. The ledger.
    ///
    /// # Errors
    /// [`MeterError::NoSuchProcess`] if none of the processes existed (any more).
    pub fn finish(mut self) -> Result<Ledger, MeterError> {
        while self.read_next() {}
        if self.processes == 0 {
            return Err(MeterError::NoSuchProcess { pid: self.root_pid });
        }
        let mut missing = Vec::new();
        let sockets = self.fds.total("sockets_bytes", &mut missing).map(|_| self.socket_inodes.len() as u64);
        let socket_bytes = match self.sockets {
            Some(Ok(walk)) => Some(walk.finish(&self.socket_inodes, &mut missing)),
            Some(Err(error)) => {
                missing.push(Missing { figure: "sockets_bytes", why: format!("the socket tables: {error}") });
                None
            }
            None => None,
        };
        Ok(Ledger {
            rss_sum_bytes: Some(self.rss_kib * 1024),
            pss_bytes: self.pss.total("pss_bytes", &mut missing),
            private_dirty_bytes: self.private_dirty.total("private_dirty_bytes", &mut missing),
            page_tables_bytes: Some(self.page_tables_kib * 1024),
            kernel_stacks_bytes: Some(self.threads * kernel_stack_bytes()),
            sockets_bytes: socket_bytes.map(|bytes| bytes.all),
            uncharged_sockets_bytes: socket_bytes.map(|bytes| bytes.uncharged),
            sockets,
            processes: self.processes,
            threads: self.threads,
            missing,
        })
    }
}

/// The figures of one process.
struct Reading {
    status: Status,
    rollup: Result<SmapsRollup, ProcError>,
    socket_inodes: io::Result<Vec<u64>>,
}

impl Reading {
    /// `None` if the process is gone or exits while being read.
    fn take(pid: i32) -> Option<Reading> {
        let process = Process::new(pid).ok()?;
        let reading = Reading::try_take(&process)?;
        // Retry once: an exec may replace the memory between open and read. Missing permission fails the second time,
        // too.
        if reading.is_complete() { Some(reading) } else { Reading::try_take(&process) }
    }

    fn try_take(process: &Process) -> Option<Reading> {
        let reading = Reading {
            status: living_status(process)?,
            rollup: process.smaps_rollup(),
            socket_inodes: sockets::socket_inodes(process.pid()),
        };
        // Anyone may read the status. If that fails now, the process has exited.
        (reading.is_complete() || living_status(process).is_some()).then_some(reading)
    }

    fn is_complete(&self) -> bool {
        self.rollup.is_ok() && self.socket_inodes.is_ok()
    }
}

/// `None` for a process without memory: a zombie, or one that is exiting, whose state is still "running" although its
/// `smaps_rollup` no longer exists.
fn living_status(process: &Process) -> Option<Status> {
    process.status().ok().filter(|status| status.vmrss.is_some())
}

/// The sum of a figure over all processes, or the first reason why there is none.
#[derive(Debug, Default)]
struct Tally {
    bytes: u64,
    unread: u64,
    why: String,
}

impl Tally {
    fn add(&mut self, bytes: Result<u64, impl ToString>) {
        match bytes {
            Ok(bytes) => self.bytes += bytes,
            Err(why) => {
                if self.unread == 0 {
                    self.why = why.to_string();
                }
                self.unread += 1;
            }
        }
    }

    fn total(self, figure: &'static str, missing: &mut Vec<Missing>) -> Option<u64> {
        if self.unread == 0 {
            return Some(self.bytes);
        }
        let why = format!("unreadable for {} processes: {}", self.unread, self.why);
        missing.push(Missing { figure, why });
        None
    }
}

fn rollup_bytes(rollup: &Result<SmapsRollup, ProcError>, field: &str) -> Result<u64, String> {
    let rollup = rollup.as_ref().map_err(ProcError::to_string)?;
    let mapping = rollup.memory_map_rollup.0.first();
    let bytes = mapping.and_then(|mapping| mapping.extension.map.get(field));
    bytes.copied().ok_or_else(|| format!("smaps_rollup has no {field}"))
}

fn kernel_stack_bytes() -> u64 {
    KERNEL_STACK_BYTES.max(procfs::page_size())
}
