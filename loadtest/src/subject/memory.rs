//! Whose account of the server's RAM this run uses: the kernel's own, or ours.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use meter::{Cgroup, Ledger};

use results::run::Memory;
use results::{Warning, WarningKind};

use super::admin::ServerMemory;
use super::remote::RemoteMemory;

/// Our cgroups are named by this and our pid; [`meter::remove_stale`] finds those that a killed run has left.
const CGROUP_PREFIX: &str = "c10k-loadtest-";

/// The account of one server.
#[derive(Debug)]
pub(crate) enum MemorySource {
    /// The kernel's, of a cgroup that has only this server in it.
    Cgroup(Cgroup),
    /// The sum of what `/proc` tells of the processes, because there is no cgroup.
    Processes {
        /// Why not.
        why: String,
    },
    /// What the server tells on its admin port: it runs elsewhere.
    Remote(Box<RemoteMemory>),
    /// None: of the server nothing is known but its address.
    Nothing,
}

impl MemorySource {
    /// Makes a cgroup, if this machine allows it.
    pub(crate) fn open() -> Self {
        meter::remove_stale(CGROUP_PREFIX);
        match Cgroup::create(&format!("{CGROUP_PREFIX}{}", std::process::id())) {
            Ok(cgroup) => MemorySource::Cgroup(cgroup),
            Err(error) => MemorySource::Processes { why: format!("{:#}", anyhow::Error::from(error)) },
        }
    }

    /// Allows the server no more RAM than this, if anything.
    ///
    /// # Errors
    /// There is no cgroup, or it cannot be limited.
    pub(crate) fn limit(&self, limit_bytes: Option<u64>) -> Result<()> {
        let Some(limit_bytes) = limit_bytes else { return Ok(()) };
        match self {
            MemorySource::Cgroup(cgroup) => cgroup.set_limit_bytes(limit_bytes).context("--ram-limit cannot be set"),
            MemorySource::Processes { why } => bail!("--ram-limit needs a cgroup: {why}"),
            MemorySource::Remote(_) | MemorySource::Nothing => bail!("--ram-limit is for servers that loadtest starts"),
        }
    }

    /// How many processes the kernel has killed for want of memory, if that is known.
    pub(crate) fn oom_kills(&self) -> Option<u64> {
        match self {
            MemorySource::Cgroup(cgroup) => cgroup.oom_kills().ok(),
            MemorySource::Remote(told) => Some(told.oom_kills()),
            MemorySource::Processes { .. } | MemorySource::Nothing => None,
        }
    }

    /// Of a server that runs already: it cannot be moved to a cgroup with what it has allocated.
    pub(crate) fn running() -> Self {
        MemorySource::Processes { why: "the server was not started by loadtest (--exec would)".into() }
    }

    /// Where the server writes its pid in order to be metered.
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

    /// CPU time so far of the server whose root is `pid`, in seconds.
    pub(crate) fn cpu_s(&self, pid: i32) -> Option<f64> {
        match self {
            MemorySource::Cgroup(cgroup) => Some(cgroup.cpu_usec().ok()? as f64 / 1e6),
            MemorySource::Processes { .. } => {
                let times = meter::process_tree(pid).into_iter().flat_map(meter::run_time);
                Some(times.map(|time| time.as_secs_f64()).sum())
            }
            MemorySource::Remote(_) | MemorySource::Nothing => None,
        }
    }

    /// The window begins.
    pub(crate) fn begin(&mut self) {
        if let MemorySource::Remote(told) = self {
            told.begin();
        }
    }

    /// Asks a server that has to be asked.
    pub(crate) fn refresh(&mut self) {
        if let MemorySource::Remote(told) = self {
            told.ask_again();
        }
    }

    /// The server has told of its RAM.
    pub(crate) fn note(&mut self, memory: ServerMemory) {
        if let MemorySource::Remote(told) = self {
            told.note(memory);
        }
    }

    /// What the kernel charges now.
    pub(crate) fn current_bytes(&self) -> Option<u64> {
        match self {
            MemorySource::Cgroup(cgroup) => cgroup.current_bytes().ok(),
            MemorySource::Remote(told) => told.current_bytes(),
            MemorySource::Processes { .. } | MemorySource::Nothing => None,
        }
    }

    /// Notes the RAM before the first connection.
    pub(crate) fn read_idle(&self, pid: Option<i32>, memory: &mut Memory, warnings: &mut Vec<Warning>) {
        memory.source = self.source().map(str::to_owned);
        memory.idle_bytes = match self {
            MemorySource::Cgroup(cgroup) => cgroup.current_bytes().ok(),
            MemorySource::Processes { why } => {
                warnings.push(Warning::new(WarningKind::Meter, format!(
                    "no cgroup: {why}. RAM is PSS + page tables + kernel stacks + sockets at one moment after the measured \
                     time, which leaves out other kernel memory; there is no true peak, and CPU time of the server's ended threads is not counted"
                )));
                pid.and_then(|pid| meter::ledger(pid).ok())
                    .and_then(|ledger| with_ledger(&Memory::default(), &ledger).ledger_total_bytes())
            }
            MemorySource::Remote(told) => told.current_bytes(),
            MemorySource::Nothing => None,
        };
    }

    /// Notes what the kernel charged until now.
    pub(crate) fn read_end(&self, memory: &mut Memory, warnings: &mut Vec<Warning>) {
        if let MemorySource::Remote(told) = self {
            (memory.peak_bytes, memory.end_bytes) = (told.peak_bytes(), told.current_bytes());
        }
        let Some(cgroup) = self.cgroup() else { return };
        memory.end_bytes = cgroup.current_bytes().ok();
        memory.cgroup = cgroup.parts().ok();
        match cgroup.peak_bytes() {
            Ok(peak_bytes) => memory.peak_bytes = Some(peak_bytes),
            Err(error) => {
                memory.peak_bytes = memory.end_bytes;
                warnings.push(Warning::new(
                    WarningKind::Meter,
                    format!("the peak of RAM is what was used at the end: {error}"),
                ));
            }
        }
    }

    /// Takes the ledger: slow with many processes, so after the window, while the load goes on.
    pub(crate) fn read_ledger(&self, pid: Option<i32>, memory: &mut Memory, warnings: &mut Vec<Warning>) {
        if let MemorySource::Remote(told) = self {
            *memory = told.ledger(memory);
        }
        let Some(pid) = pid else { return };
        let ledger = match meter::ledger(pid) {
            Ok(ledger) => ledger,
            Err(error) => {
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
        }
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
