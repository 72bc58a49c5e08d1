//! What a server says of its own memory.
//!
//! The account of the cgroup is a few small files: it is read for every answer. The ledger costs the kernel a walk over the
//! page tables of every process, some 100 µs each: a second of CPU time for 10,000 children, and 9 kB of kernel memory for
//! each of them, for the inodes of `/proc`, which stay until somebody needs the memory. So it is taken only when somebody
//! asks, at most every `--ledger-interval`, and in slices, between which the admin port answers others. Who asks gets the
//! last one that is complete. The first is taken when the server has run for an interval, so that a short measurement from
//! outside is not disturbed by this one.

use std::time::{Duration, Instant, SystemTime};

use meter::{ExistingCgroup, Ledger, LedgerWalk};

use crate::metrics::{Metrics, name, part};

/// How long a slice of a ledger may take, but for the process or the sockets that are being read at its end.
const SLICE: Duration = Duration::from_millis(2);

#[derive(Debug)]
pub(crate) struct Memory {
    cgroup: Option<ExistingCgroup>,
    interval: Duration,
    /// When the next ledger may begin.
    due: Instant,
    walk: Option<LedgerWalk>,
    last: Option<(SystemTime, Ledger)>,
}

impl Memory {
    pub(crate) fn new(interval: Duration) -> Self {
        Self { cgroup: ExistingCgroup::own(), interval, due: Instant::now() + interval, walk: None, last: None }
    }

    /// Whether a ledger is being taken: [`turn`](Self::turn) wants to be called.
    pub(crate) fn is_walking(&self) -> bool {
        self.walk.is_some()
    }

    /// Begins a ledger of this process and its children, if it is time.
    pub(crate) fn begin_if_due(&mut self, children: &[i32]) {
        let now = Instant::now();
        if self.walk.is_none() && now >= self.due {
            self.due = now + self.interval;
            let own = own_pid();
            self.walk = Some(LedgerWalk::new(own, [&[own], children].concat()));
        }
    }

    /// Goes on with the ledger for a slice of time.
    pub(crate) fn turn(&mut self) {
        let Some(walk) = &mut self.walk else { return };
        let end = Instant::now() + SLICE;
        while walk.read_next() {
            if Instant::now() >= end {
                return;
            }
        }
        // It fails if we are not there, which cannot be.
        let ledger = self.walk.take().and_then(|walk| walk.finish().ok());
        self.last = ledger.map(|ledger| (SystemTime::now(), ledger)).or(self.last.take());
    }

    pub(crate) fn report(&self, children: usize, metrics: &mut Metrics) {
        metrics.gauge(name::CHILDREN, "Child processes now; only server-prefork has any.", children as f64);
        if let Ok(own) = meter::threads(own_pid()) {
            let threads = own + children as u64;
            metrics.gauge(name::THREADS, "Threads now, those of all children included.", threads as f64);
        }
        if let Some(cgroup) = &self.cgroup {
            report_cgroup(cgroup, metrics);
        }
        if let Some((taken, ledger)) = &self.last {
            report_ledger(ledger, metrics);
            let age = taken.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            metrics.gauge(
                name::MEMORY_TIMESTAMP,
                "When c10k_memory_bytes and c10k_memory_rss_sum_bytes were read, since 1970.",
                age.as_secs_f64(),
            );
        }
    }
}

fn report_cgroup(cgroup: &ExistingCgroup, metrics: &mut Metrics) {
    let mut gauge = |name, help, bytes: Option<u64>| {
        if let Some(bytes) = bytes {
            metrics.gauge(name, help, bytes as f64);
        }
    };
    gauge(
        name::CGROUP_MEMORY,
        "Memory of the cgroup that the server is in (a container's own, inside it), the kernel's part and the page cache \
         included; it is of everybody in that cgroup.",
        cgroup.current_bytes().ok(),
    );
    gauge(name::CGROUP_MEMORY_PEAK, "The most that c10k_cgroup_memory_bytes ever was.", cgroup.peak_bytes().ok());
    gauge(
        name::CGROUP_MEMORY_LIMIT,
        "What c10k_cgroup_memory_bytes must not exceed; absent without a limit.",
        cgroup.limit_bytes().ok().flatten(),
    );
    if let Ok(kills) = cgroup.oom_kills() {
        metrics.counter(name::CGROUP_OOM_KILLS, "Processes of the cgroup killed because memory ran out.", kills);
    }
}

fn report_ledger(ledger: &Ledger, metrics: &mut Metrics) {
    let parts = [
        (part::PSS, ledger.pss_bytes),
        (part::PAGE_TABLES, ledger.page_tables_bytes),
        (part::KERNEL_STACKS, ledger.kernel_stacks_bytes),
        (part::SOCKETS, ledger.sockets_bytes),
    ];
    let known: Vec<_> = parts.into_iter().filter_map(|(part, bytes)| Some(([("part", part)], bytes? as f64))).collect();
    metrics.gauges(
        name::MEMORY,
        "Memory of the server and its children, by parts that do not overlap: pss (proportional set sizes), page_tables, \
         kernel_stacks, sockets. Read when asked for, at most every --ledger-interval, and given as it last was.",
        known.iter().map(|(labels, bytes)| (&labels[..], *bytes)),
    );
    if let Some(bytes) = ledger.rss_sum_bytes {
        metrics.gauge(
            name::MEMORY_RSS_SUM,
            "Resident set sizes added up, read with c10k_memory_bytes. A page that children share is counted for each.",
            bytes as f64,
        );
    }
}

fn own_pid() -> i32 {
    nix::unistd::getpid().as_raw()
}
