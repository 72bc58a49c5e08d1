//! What one run gives: these structs are the JSON, field by field. What could not be measured is null.

use std::ops::AddAssign;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::cause::Cause;
use crate::host;
use crate::warning::Warning;

/// The version of this layout.
pub(crate) const SCHEMA: &str = "c10k-loadtest/2";

/// One run against one server.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct RunResult {
    /// [`SCHEMA`].
    pub(crate) schema: String,
    /// Whether the run went through to its end.
    pub(crate) complete: bool,
    /// Why not.
    pub(crate) failure: Option<String>,
    /// What kept the server from holding all connections and answering each request; null if nothing did.
    pub(crate) cause: Option<Cause>,
    /// Which of a sweep's rounds this is, from 1.
    pub(crate) round: Option<u32>,
    /// The sweep that this is a cell of.
    pub(crate) sweep: Option<SweepPlan>,
    /// The server's name: a target, or the URL.
    pub(crate) target: String,
    /// The server's command line.
    pub(crate) command: Vec<String>,
    /// When the run began, in RFC 3339.
    pub(crate) started_at: String,
    /// The machine.
    pub(crate) host: Host,
    /// What was asked for, and what was reached.
    pub(crate) connections: Connections,
    /// The simulated database.
    pub(crate) wait: Wait,
    /// The length of the window that was measured.
    pub(crate) duration_s: Option<f64>,
    /// Good answers within the window.
    pub(crate) requests: u64,
    /// Good answers a second.
    pub(crate) rps: Option<f64>,
    /// The requests that waited at once, a wait: whoever holds no more of them cannot answer more often.
    pub(crate) rps_ceiling: Option<f64>,
    /// Requests without an answer when the window ended.
    pub(crate) in_flight: u64,
    /// What failed before the window.
    pub(crate) errors_before: Errors,
    /// What failed within the window.
    pub(crate) errors: Errors,
    /// From the first byte sent to the last received; null without an answer.
    pub(crate) latency_us: Option<Latency>,
    /// The same, above the wait for the database; null if that is drawn at random.
    pub(crate) above_wait_us: Option<AboveWait>,
    /// All that `latency_us` was worked out from.
    pub(crate) histograms: Option<Histograms>,
    /// The window, second by second.
    pub(crate) series: Vec<Second>,
    /// The server's RAM.
    pub(crate) memory: Memory,
    /// The server, besides its RAM.
    pub(crate) server: Server,
    /// The load generator's own cost.
    pub(crate) client: Client,
    /// What to doubt.
    pub(crate) warnings: Vec<Warning>,
}

impl RunResult {
    /// Of a run that begins now.
    pub(crate) fn new(target: &str, command: Vec<String>, connections: usize) -> Self {
        Self {
            schema: SCHEMA.to_owned(),
            complete: false,
            failure: None,
            cause: None,
            round: None,
            sweep: None,
            target: target.to_owned(),
            command,
            started_at: humantime::format_rfc3339_millis(SystemTime::now()).to_string(),
            host: host::describe(),
            connections: Connections { requested: connections, ..Connections::default() },
            wait: Wait::default(),
            duration_s: None,
            requests: 0,
            rps: None,
            rps_ceiling: None,
            in_flight: 0,
            errors_before: Errors::default(),
            errors: Errors::default(),
            latency_us: None,
            above_wait_us: None,
            histograms: None,
            series: Vec::new(),
            memory: Memory::default(),
            server: Server::default(),
            client: Client::default(),
            warnings: Vec::new(),
        }
    }

    /// Whether it went through to its end, and its figures are possible.
    pub(crate) fn is_sound(&self) -> bool {
        self.complete && self.failure.is_none() && self.requests > 0
    }
}

/// What a sweep was to measure: the same in all of its cells, so that it can be resumed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SweepPlan {
    /// What the order of the cells was drawn from.
    pub(crate) seed: u64,
    /// The servers' names.
    pub(crate) targets: Vec<String>,
    /// Numbers of connections.
    pub(crate) connections: Vec<usize>,
    /// How often each cell was to be measured.
    pub(crate) rounds: u32,
    /// How long a cell was to be measured.
    pub(crate) duration_ms: u64,
    /// As given to `--timeout`.
    pub(crate) timeout_ms: u64,
    /// As given to `--db-wait`.
    pub(crate) wait: String,
    /// Flags for the servers.
    pub(crate) server_flags: Vec<String>,
    /// The limit of the server's RAM.
    pub(crate) ram_limit_bytes: Option<u64>,
}

/// The machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Host {
    /// The kernel's release.
    pub(crate) kernel: Option<String>,
    /// CPUs that may be used.
    pub(crate) cpus: u64,
    /// RAM in all.
    pub(crate) ram_bytes: Option<u64>,
    /// The limit of open files.
    pub(crate) nofile: Option<u64>,
    /// The longest backlog that the kernel allows.
    pub(crate) somaxconn: Option<u64>,
}

/// What was asked for, and what was reached.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Connections {
    /// Asked for.
    pub(crate) requested: usize,
    /// Connected.
    pub(crate) established: usize,
    /// The most that the server said were open at once.
    pub(crate) open_peak: u64,
    /// The most requests that the server said it held at once, waiting for the database or for a worker.
    pub(crate) held_peak: u64,
    /// How many it held on average within the window, asked four times a second.
    pub(crate) held_mean: Option<f64>,
    /// The most of them that waited for the database at once.
    pub(crate) waiting_peak: u64,
    /// The most of them that were seen waiting for a worker.
    pub(crate) queued_peak: u64,
    /// Lost and replaced.
    pub(crate) reconnected: u64,
}

/// The simulated database.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Wait {
    /// As given to `--db-wait`; empty if the server is not ours.
    pub(crate) spec: String,
}

/// What failed, by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Errors {
    /// Attempts to connect.
    pub(crate) connect: u64,
    /// Answers that ended early, or were no HTTP.
    pub(crate) read: u64,
    /// Requests that could not be sent.
    pub(crate) write: u64,
    /// Requests without an answer within `--timeout`.
    pub(crate) timeout: u64,
    /// Answers with a status of 400 or more.
    pub(crate) status: u64,
}

impl AddAssign for Errors {
    fn add_assign(&mut self, other: Self) {
        let Errors { connect, read, write, timeout, status } = other;
        self.connect += connect;
        self.read += read;
        self.write += write;
        self.timeout += timeout;
        self.status += status;
    }
}

impl Errors {
    /// All kinds together.
    pub(crate) fn total(&self) -> u64 {
        let Errors { connect, read, write, timeout, status } = self;
        connect + read + write + timeout + status
    }
}

/// Latency, in microseconds.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Latency {
    /// The fastest answer.
    pub(crate) min: u64,
    /// The mean.
    pub(crate) mean: f64,
    /// The standard deviation.
    pub(crate) stdev: f64,
    /// The median.
    pub(crate) p50: u64,
    /// 75 % are at most this.
    pub(crate) p75: u64,
    /// 90 % are at most this.
    pub(crate) p90: u64,
    /// 99 % are at most this.
    pub(crate) p99: u64,
    /// 99.9 % are at most this.
    pub(crate) p999: u64,
    /// The slowest.
    pub(crate) max: u64,
    /// Which of these are only known to be at least this much, because requests were unanswered when the window ended.
    pub(crate) lower_bounds: Vec<String>,
}

/// Latency above a fixed wait for the database, in microseconds.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct AboveWait {
    /// The median.
    pub(crate) p50: u64,
    /// 90 % are at most this.
    pub(crate) p90: u64,
    /// 99 % are at most this.
    pub(crate) p99: u64,
    /// 99.9 % are at most this.
    pub(crate) p999: u64,
    /// The slowest.
    pub(crate) max: u64,
}

/// Latencies in microseconds, each an HDR histogram (V2, deflated, base64) as the tools around HdrHistogram read it. Runs are
/// merged by adding these up.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Histograms {
    /// Of good answers.
    pub(crate) answered: String,
    /// Of answers with a status of 400 or more.
    pub(crate) refused: String,
    /// Ages of the requests that had no answer, when they were given up or the window ended.
    pub(crate) unanswered: String,
    /// Ages that some of all these had when the window began.
    pub(crate) joined: String,
}

/// One second of the window, or what was left of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Second {
    /// When it ended, from the window's start.
    pub(crate) end_s: f64,
    /// Good answers a second.
    pub(crate) rps: f64,
    /// The median latency of those answers; null if there were none.
    pub(crate) p50_us: Option<u64>,
    /// Their 99th percentile.
    pub(crate) p99_us: Option<u64>,
    /// What failed, of all kinds.
    pub(crate) errors: u64,
    /// Connections that the server said were open.
    pub(crate) open: Option<u64>,
    /// Requests that it said it held.
    pub(crate) held: Option<u64>,
    /// The server's RAM, as in [`Memory::peak_bytes`]; null without a cgroup.
    pub(crate) ram_bytes: Option<u64>,
}

/// The server's RAM.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Memory {
    /// Where `peak_bytes` and `idle_bytes` come from: `cgroup v2`, `cgroup v1`, `pss` (the ledger's parts added up), or
    /// `admin` (the server's own cgroup, as it tells on its admin port).
    pub(crate) source: Option<String>,
    /// The most until the window ended.
    pub(crate) peak_bytes: Option<u64>,
    /// Before the first connection.
    pub(crate) idle_bytes: Option<u64>,
    /// With all connections open and idle, each after one answer that needed no database; null without a cgroup.
    pub(crate) keep_alive_bytes: Option<u64>,
    /// When the window ended.
    pub(crate) end_bytes: Option<u64>,
    /// What the connections added to idle, each; null for fewer than 1,000.
    pub(crate) per_connection_bytes: Option<u64>,
    /// RSS of all processes added up, which counts shared pages again and again.
    pub(crate) rss_sum_bytes: Option<u64>,
    /// PSS of all processes added up.
    pub(crate) pss_bytes: Option<u64>,
    /// Private dirty pages.
    pub(crate) private_dirty_bytes: Option<u64>,
    /// Page tables.
    pub(crate) page_tables_bytes: Option<u64>,
    /// Kernel stacks.
    pub(crate) kernel_stacks_bytes: Option<u64>,
    /// The kernel's part of sockets.
    pub(crate) sockets_bytes: Option<u64>,
    /// What the cgroup may not exceed; null without a limit.
    pub(crate) limit_bytes: Option<u64>,
    /// Processes.
    pub(crate) processes: Option<u64>,
    /// Threads in all processes.
    pub(crate) threads: Option<u64>,
    /// What the kernel charges to the cgroup, by part, when the window ended.
    pub(crate) cgroup: Option<meter::CgroupParts>,
}

impl Memory {
    /// The parts of the ledger that do not overlap.
    pub(crate) fn ledger_total_bytes(&self) -> Option<u64> {
        Some(self.pss_bytes? + self.page_tables_bytes? + self.kernel_stacks_bytes? + self.sockets_bytes.unwrap_or(0))
    }

    /// The kernel memory that the cgroup was charged beyond the ledger: what the kernel keeps of each task, mapping and
    /// file, mostly.
    pub(crate) fn unledgered_kernel_bytes(&self) -> Option<u64> {
        let ledgered = self.page_tables_bytes? + self.kernel_stacks_bytes? + self.sockets_bytes?;
        Some(self.cgroup.as_ref()?.kernel_bytes?.saturating_sub(ledgered))
    }
}

/// The server, besides its RAM.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Server {
    /// CPU time within the window; null for a server that is not metered.
    pub(crate) cpu_s: Option<f64>,
    /// How it ended.
    pub(crate) exit: Option<String>,
    /// How many of its processes the kernel has killed for want of memory; null if that is not known.
    pub(crate) oom_kills: Option<u64>,
}

/// The load generator's own cost.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Client {
    /// CPU time within the window.
    pub(crate) cpu_s: Option<f64>,
    /// The highest RSS of this run.
    pub(crate) rss_peak_bytes: Option<u64>,
    /// How late its timers were, which is how late it looks at answers: the 99th percentile.
    pub(crate) lag_p99_us: Option<u64>,
}

/// The run of this target in a file of results, at 10,000 connections.
#[cfg(test)]
pub(crate) fn sample(target: &str) -> RunResult {
    let runs: Vec<RunResult> = serde_json::from_str(include_str!("../tests/data/runs.json")).unwrap();
    runs.into_iter().find(|run| run.target == target).unwrap()
}
