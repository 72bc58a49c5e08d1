//! The source of the server's RAM figures.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use meter::{Cgroup, Ledger, LedgerWalk, MeterError};
use quantity::format;

use results::run::Memory;
use results::{Warning, WarningKind};

use super::admin::ServerMemory;
use super::remote::RemoteMemory;

/// Our cgroups are named this plus our pid, so that [`meter::remove_stale`] finds those left by a killed run.
const CGROUP_PREFIX: &str = "c10k-loadtest-";

/// How far a cgroup's total may lag behind.
const BATCH_BYTES: u64 = 1 << 20;

/// Where the RAM of one server is read.
#[derive(Debug)]
pub(crate) enum MemorySource {
    /// A cgroup with only this server in it.
    Cgroup(Cgroup),
    /// The sum over the processes in `/proc`, because there is no cgroup.
    Processes {
        /// Why not.
        why: String,
    },
    /// The reports of a server that runs elsewhere, on its admin port.
    Remote(Box<RemoteMemory>),
    /// None: only the server's address is known.
    Nothing,
}

/// What `/proc` shows of the process trees at these pids; `None` without any, or if they are gone.
pub(crate) fn of_trees(pids: &[i32]) -> Option<Memory> {
    read_all(pids)?.ok().map(|ledger| with_ledger(&Memory::default(), &ledger))
}

/// CPU time so far of the process trees at these pids, in seconds; `None` without any. A process that ends while it is read
/// counts with its parent, once that has waited for it.
pub(crate) fn cpu_s_of_trees(pids: &[i32]) -> Option<f64> {
    let times = meter::process_trees(pids).into_iter().filter_map(|pid| meter::total_cpu_time(pid).ok());
    times.reduce(|sum, time| sum + time).map(|time| time.as_secs_f64())
}

impl MemorySource {
    /// Creates a cgroup, if this machine allows it.
    pub(crate) fn open() -> Self {
        meter::remove_stale(CGROUP_PREFIX);
        let name = format!("{CGROUP_PREFIX}{}", std::process::id());
        // An earlier process with our pid may have left one, as it was killed.
        let created = Cgroup::create(&name).or_else(|_| Cgroup::create(&format!("{name}-2")));
        match created {
            Ok(cgroup) => MemorySource::Cgroup(cgroup),
            Err(error) => MemorySource::Processes { why: format!("{:#}", anyhow::Error::from(error)) },
        }
    }

    /// Limits the server's RAM, if there is a limit.
    ///
    /// # Errors
    /// There is no cgroup, or its limit cannot be set.
    pub(crate) fn limit(&self, limit_bytes: Option<u64>) -> Result<()> {
        let Some(limit_bytes) = limit_bytes else { return Ok(()) };
        match self {
            MemorySource::Cgroup(cgroup) => cgroup.set_limit_bytes(limit_bytes).context("--ram-limit cannot be set"),
            MemorySource::Processes { why } => bail!("--ram-limit needs a cgroup: {why}"),
            MemorySource::Remote(_) | MemorySource::Nothing => bail!("--ram-limit is for servers that loadtest starts"),
        }
    }

    /// How many processes the kernel killed because memory ran out, if known.
    pub(crate) fn oom_kills(&self) -> Option<u64> {
        match self {
            MemorySource::Cgroup(cgroup) => cgroup.oom_kills().ok(),
            MemorySource::Remote(remote) => Some(remote.oom_kills()),
            MemorySource::Processes { .. } | MemorySource::Nothing => None,
        }
    }

    /// The source for a running server: what it has allocated cannot move to a new cgroup.
    pub(crate) fn running() -> Self {
        MemorySource::Processes { why: "the server was not started by loadtest (--exec would)".into() }
    }

    /// The files that the server writes its pid into to be metered.
    pub(crate) fn join_paths(&self) -> Vec<PathBuf> {
        self.cgroup().map(Cgroup::join_paths).unwrap_or_default()
    }

    /// The cgroup, if there is one.
    pub(crate) fn cgroup(&self) -> Option<&Cgroup> {
        match self {
            MemorySource::Cgroup(cgroup) => Some(cgroup),
            MemorySource::Processes { .. } | MemorySource::Remote(_) | MemorySource::Nothing => None,
        }
    }

    /// CPU time so far of the process trees at `pids`, in seconds.
    pub(crate) fn cpu_s(&self, pids: &[i32]) -> Option<f64> {
        match self {
            MemorySource::Cgroup(cgroup) => Some(cgroup.cpu_usec().ok()? as f64 / 1e6),
            MemorySource::Processes { .. } => cpu_s_of_trees(pids),
            MemorySource::Remote(_) | MemorySource::Nothing => None,
        }
    }

    /// Records the start of the window.
    pub(crate) fn start_window(&mut self) {
        if let MemorySource::Remote(remote) = self {
            remote.start_window();
        }
    }

    /// Fetches a new report from a remote server.
    pub(crate) fn refresh(&mut self) {
        if let MemorySource::Remote(remote) = self {
            remote.refresh();
        }
    }

    /// Takes a report of a remote server.
    pub(crate) fn update(&mut self, memory: ServerMemory) {
        if let MemorySource::Remote(remote) = self {
            remote.update(memory);
        }
    }

    /// What the kernel charges now.
    pub(crate) fn current_bytes(&self) -> Option<u64> {
        match self {
            MemorySource::Cgroup(cgroup) => cgroup.current_bytes().ok(),
            MemorySource::Remote(remote) => remote.current_bytes(),
            MemorySource::Processes { .. } | MemorySource::Nothing => None,
        }
    }

    /// The limit that a remote server reports.
    pub(crate) fn limit_bytes(&self) -> Option<u64> {
        match self {
            MemorySource::Remote(remote) => remote.limit_bytes(),
            _ => None,
        }
    }

    /// What the kernel charges now, if its own peak does not have all of it.
    pub(crate) fn sample_bytes(&self) -> Option<u64> {
        self.cgroup().filter(|cgroup| cgroup.peak_lacks_tcp() || cgroup.peak_bytes().is_err())?.current_bytes().ok()
    }

    /// Reads the RAM before the first connection.
    pub(crate) fn read_idle(&self, pids: &[i32], memory: &mut Memory, warnings: &mut Vec<Warning>) {
        memory.source = self.source().map(str::to_owned);
        memory.idle_bytes = match self {
            MemorySource::Cgroup(cgroup) => cgroup.current_bytes().ok(),
            MemorySource::Processes { why } => {
                let text = format!(
                    "{why}. RAM is PSS + page tables + kernel stacks + sockets at one moment after the \
                     measured time, which leaves out other kernel memory. There is no true peak, and the CPU time of \
                     ended threads is missing"
                );
                warnings.push(Warning::new(WarningKind::Meter, text));
                of_trees(pids).and_then(|memory| memory.ledger_total_bytes())
            }
            MemorySource::Remote(remote) => remote.current_bytes(),
            MemorySource::Nothing => None,
        };
    }

    /// Reads the figures at the end of the window.
    pub(crate) fn read_end(&self, memory: &mut Memory, warnings: &mut Vec<Warning>) {
        if let MemorySource::Remote(remote) = self {
            (memory.peak_bytes, memory.end_bytes) = (remote.peak_bytes(), remote.current_bytes());
        }
        let Some(cgroup) = self.cgroup() else { return };
        memory.end_bytes = cgroup.current_bytes().ok();
        memory.cgroup = cgroup.parts().ok();
        match cgroup.peak_bytes() {
            Ok(peak_bytes) => (memory.peak_bytes, memory.peak_is_sampled) = (Some(peak_bytes), Some(false)),
            Err(error) => {
                memory.peak_bytes = memory.end_bytes;
                warnings.push(Warning::new(
                    WarningKind::Meter,
                    format!("the peak of RAM is the highest of samples every 40 or 50 ms: {error}"),
                ));
            }
        }
    }

    /// Reads the ledger. Slow with many processes, so after the window, while the load goes on.
    pub(crate) fn read_ledger(&self, pids: &[i32], memory: &mut Memory, warnings: &mut Vec<Warning>) {
        if let MemorySource::Remote(remote) = self {
            *memory = remote.ledger(memory);
        }
        let ledger = match read_all(pids) {
            None => return,
            Some(Ok(ledger)) => ledger,
            Some(Err(error)) => {
                warnings.push(Warning::new(WarningKind::Meter, format!("no ledger: {error}")));
                return;
            }
        };
        *memory = with_ledger(memory, &ledger);
        let missing = ledger.missing.iter().map(|missing| format!("{}: {}", missing.figure, missing.why));
        warnings.extend(missing.map(|text| Warning::new(WarningKind::Meter, text)));
        if self.cgroup().is_none() {
            memory.peak_bytes = memory.ledger_total_bytes();
            memory.end_bytes = memory.peak_bytes;
            return;
        }
        if let Some(uncharged_bytes) = ledger.uncharged_sockets_bytes {
            memory.add_uncharged(uncharged_bytes);
        }
        warnings.extend(parts_exceed_total(memory));
    }

    fn source(&self) -> Option<&'static str> {
        Some(match self {
            MemorySource::Cgroup(cgroup) => {
                let is_v1 = |join: &PathBuf| join.with_file_name("memory.usage_in_bytes").exists();
                if cgroup.join_paths().iter().any(is_v1) { "cgroup v1" } else { "cgroup v2" }
            }
            MemorySource::Processes { .. } => "pss",
            MemorySource::Remote(_) => "admin",
            MemorySource::Nothing => return None,
        })
    }
}

/// One ledger of all these trees, if there is one.
fn read_all(pids: &[i32]) -> Option<Result<Ledger, MeterError>> {
    Some(LedgerWalk::new(*pids.first()?, meter::process_trees(pids)).finish())
}

/// A warning if the kernel charged something of the server elsewhere. Charges come in batches, and the figures are read one
/// after the other.
fn parts_exceed_total(memory: &Memory) -> Option<Warning> {
    let (parts, total) = (memory.known_parts_bytes()?, memory.end_bytes?);
    (parts > total + total / 20 + BATCH_BYTES).then(|| {
        let [parts, total] = [parts, total].map(|bytes| format::bytes(Some(bytes)));
        let text = format!(
            "the server's dirty pages, page tables, kernel stacks and sockets are {parts}, more than the {total} charged to \
             its cgroup: this kernel charges some of it elsewhere, and the totals are too low"
        );
        Warning::new(WarningKind::PartsExceedTotal, text)
    })
}

fn with_ledger(memory: &Memory, ledger: &Ledger) -> Memory {
    Memory {
        rss_sum_bytes: ledger.rss_sum_bytes,
        pss_bytes: ledger.pss_bytes,
        private_dirty_bytes: ledger.private_dirty_bytes,
        page_tables_bytes: ledger.page_tables_bytes,
        kernel_stacks_bytes: ledger.kernel_stacks_bytes,
        sockets_bytes: ledger.sockets_bytes,
        processes: Some(ledger.processes),
        threads: Some(ledger.threads),
        ..memory.clone()
    }
}
