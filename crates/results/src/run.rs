//! What one run gives: these structs are the JSON, field by field. What could not be measured is null.

use std::ops::AddAssign;
use std::time::Duration;

use quantity::format;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::cause::Cause;
use crate::target::Target;
use crate::warning::Warning;

/// The version of this layout.
pub const SCHEMA: &str = "c10k-loadtest/3";
/// The layouts that [`crate::file::read`] understands.
pub const READABLE_SCHEMAS: [&str; 2] = ["c10k-loadtest/2", SCHEMA];

/// One run against one server.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct RunResult {
    /// [`SCHEMA`].
    pub schema: String,
    /// Whether the run went through to its end.
    pub complete: bool,
    /// Why not.
    pub failure: Option<String>,
    /// What kept the server from holding all connections and answering each request; null if nothing did.
    pub cause: Option<Cause>,
    /// Which of a sweep's rounds this is, from 1.
    pub round: Option<u32>,
    /// The sweep that this is a cell of.
    pub sweep: Option<SweepPlan>,
    /// The server's name: a target, or the URL.
    pub target: String,
    /// The server's command line.
    pub command: Vec<String>,
    /// When the run began, in RFC 3339.
    pub started_at: String,
    /// The machine.
    pub host: Host,
    /// What was asked for, and what was reached.
    pub connections: Connections,
    /// The simulated database.
    pub wait: Wait,
    /// The length of the window that was measured.
    pub duration_s: Option<f64>,
    /// Good answers within the window.
    pub requests: u64,
    /// Good answers a second.
    pub rps: Option<f64>,
    /// The requests that waited at once, a wait: whoever holds no more of them cannot answer more often.
    pub rps_ceiling: Option<f64>,
    /// Requests without an answer when the window ended.
    pub in_flight: u64,
    /// What failed before the window.
    pub errors_before: Errors,
    /// What failed within the window.
    pub errors: Errors,
    /// From the first byte sent to the last received; null without an answer.
    pub latency_us: Option<LatencySummary>,
    /// The same, above the wait for the database; null if that is drawn at random.
    pub above_wait_us: Option<AboveWait>,
    /// All that `latency_us` was worked out from.
    pub histograms: Option<Histograms>,
    /// The window, second by second.
    pub series: Vec<Second>,
    /// The server's RAM.
    pub memory: Memory,
    /// The server, besides its RAM.
    pub server: ServerSummary,
    /// The load generator's own cost.
    pub client: ClientSummary,
    /// What to doubt.
    pub warnings: Vec<Warning>,
}

impl RunResult {
    /// The result of a run that has not measured anything yet. `started_at` is in RFC 3339.
    pub fn new(target: &str, command: Vec<String>, connections: usize, host: Host, started_at: String) -> Self {
        Self {
            schema: SCHEMA.to_owned(),
            complete: false,
            failure: None,
            cause: None,
            round: None,
            sweep: None,
            target: target.to_owned(),
            command,
            started_at,
            host,
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
            server: ServerSummary::default(),
            client: ClientSummary::default(),
            warnings: Vec::new(),
        }
    }

    /// What kept the server from holding all connections, in a sentence; nothing if nothing did.
    pub fn cause_in_words(&self) -> Option<String> {
        let oom_kills = self.server.oom_kills.unwrap_or_default();
        self.cause.map(|cause| cause.describe(oom_kills, self.failure.as_deref()))
    }

    /// The RAM that the article claims for this model.
    pub fn claimed_bytes(&self) -> Option<u64> {
        Target::from_name(&self.target)?.claimed_bytes()
    }

    /// Whether it went through to its end, and its figures are possible.
    pub fn is_sound(&self) -> bool {
        self.complete && self.failure.is_none() && self.requests > 0
    }
}

/// What a sweep was to measure: the same in all of its cells, so that it can be resumed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SweepPlan {
    /// What the order of the cells was drawn from.
    pub seed: u64,
    /// The servers' names.
    pub targets: Vec<String>,
    /// Numbers of connections.
    pub connections: Vec<usize>,
    /// How often each cell was to be measured.
    pub rounds: u32,
    /// How long a cell was to be measured.
    pub duration_ms: u64,
    /// As given to `--timeout`.
    pub timeout_ms: u64,
    /// As given to `--db-wait`.
    pub wait: String,
    /// Flags for the servers.
    pub server_flags: Vec<String>,
    /// The limit of the server's RAM.
    pub ram_limit_bytes: Option<u64>,
}

/// The machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Host {
    /// The kernel's release.
    pub kernel: Option<String>,
    /// CPUs that may be used.
    pub cpus: u64,
    /// RAM in all.
    pub ram_bytes: Option<u64>,
    /// The limit of open files.
    pub nofile: Option<u64>,
    /// The longest backlog that the kernel allows.
    pub somaxconn: Option<u64>,
}

impl Host {
    /// The machine, in a line.
    pub fn describe(&self) -> String {
        let kernel = self.kernel.as_ref().map_or_else(String::new, |kernel| format!(", Linux {kernel}"));
        format!("{} CPUs, {} of RAM{kernel}", self.cpus, format::bytes(self.ram_bytes))
    }
}

/// What was asked for, and what was reached.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct Connections {
    /// Asked for.
    pub requested: usize,
    /// Connected.
    pub established: usize,
    /// The most that the server said were open at once.
    pub open_peak: u64,
    /// The most requests that the server said it held at once, waiting for the database or for a worker.
    pub held_peak: u64,
    /// How many it held on average within the window, asked four times a second.
    pub held_mean: Option<f64>,
    /// The most of them that waited for the database at once.
    pub waiting_peak: u64,
    /// The most of them that were seen waiting for a worker.
    pub queued_peak: u64,
    /// Lost and replaced.
    pub reconnected: u64,
}

/// The simulated database.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct Wait {
    /// As given to `--db-wait`; empty if the server is not ours.
    pub spec: String,
}

impl Wait {
    /// How long every query takes; nothing if that is drawn at random, is nothing, or is not known.
    pub fn fixed(&self) -> Option<Duration> {
        // What is drawn at random is not written as a time.
        quantity::duration(&self.spec).ok().filter(|wait| !wait.is_zero())
    }

    /// `, database wait 1s`, to follow other words; empty if it is not known.
    pub fn as_suffix(&self) -> String {
        match self.spec.as_str() {
            "" => String::new(),
            spec => format!(", database wait {spec}"),
        }
    }
}

/// What failed, by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Errors {
    /// Attempts to connect.
    pub connect: u64,
    /// Answers that ended early, or were no HTTP.
    pub read: u64,
    /// Requests that could not be sent.
    pub write: u64,
    /// Requests without an answer within `--timeout`.
    pub timeout: u64,
    /// Answers with a status of 400 or more.
    pub status: u64,
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
    pub fn total(&self) -> u64 {
        let Errors { connect, read, write, timeout, status } = self;
        connect + read + write + timeout + status
    }
}

/// Latency, in microseconds.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct LatencySummary {
    /// The fastest answer.
    pub min: u64,
    /// The mean.
    pub mean: f64,
    /// The standard deviation.
    pub stdev: f64,
    /// The median.
    pub p50: u64,
    /// 75 % are at most this.
    pub p75: u64,
    /// 90 % are at most this.
    pub p90: u64,
    /// 99 % are at most this.
    pub p99: u64,
    /// 99.9 % are at most this.
    pub p999: u64,
    /// The slowest.
    pub max: u64,
    /// Which of these are only known to be at least this much, because requests were unanswered when the window ended.
    pub lower_bounds: Vec<String>,
}

impl LatencySummary {
    /// The same percentiles, less a fixed wait.
    pub fn above(&self, wait: Duration) -> AboveWait {
        let above = |latency_us: u64| latency_us.saturating_sub(wait.as_micros() as u64);
        let Self { p50, p90, p99, p999, max, .. } = *self;
        AboveWait { p50: above(p50), p90: above(p90), p99: above(p99), p999: above(p999), max: above(max) }
    }

    /// Whether the figure of this name is only known to be at least what it says.
    pub fn is_lower_bound(&self, name: &str) -> bool {
        self.lower_bounds.iter().any(|bound| bound == name)
    }
}

/// Latency above a fixed wait for the database, in microseconds.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct AboveWait {
    /// The median.
    pub p50: u64,
    /// 90 % are at most this.
    pub p90: u64,
    /// 99 % are at most this.
    pub p99: u64,
    /// 99.9 % are at most this.
    pub p999: u64,
    /// The slowest.
    pub max: u64,
}

/// Latencies in microseconds, each an HDR histogram (V2, deflated, base64) as the tools around HdrHistogram read it. Runs are
/// merged by adding these up.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Histograms {
    /// Of good answers.
    pub answered: String,
    /// Of answers with a status of 400 or more.
    pub refused: String,
    /// Ages of the requests that had no answer, when they were given up or the window ended.
    pub unanswered: String,
    /// Ages that requests sent before the window had when it began (left truncation).
    #[serde(alias = "joined")]
    pub left_truncated: String,
}

/// One second of the window, or what was left of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Second {
    /// When it ended, from the window's start.
    pub end_s: f64,
    /// Good answers a second.
    pub rps: f64,
    /// The median latency of those answers; null if there were none.
    pub p50_us: Option<u64>,
    /// Their 99th percentile.
    pub p99_us: Option<u64>,
    /// What failed, of all kinds.
    pub errors: u64,
    /// Connections that the server said were open.
    pub open: Option<u64>,
    /// Requests that it said it held.
    pub held: Option<u64>,
    /// The server's RAM, as in [`Memory::peak_bytes`]; null without a cgroup.
    pub ram_bytes: Option<u64>,
}

/// The server's RAM.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct Memory {
    /// Where `peak_bytes` and `idle_bytes` come from: `cgroup v2`, `cgroup v1`, `pss` (the ledger's parts added up), or
    /// `admin` (the server's own cgroup, as it tells on its admin port).
    pub source: Option<String>,
    /// The most until the window ended.
    pub peak_bytes: Option<u64>,
    /// Before the first connection.
    pub idle_bytes: Option<u64>,
    /// With all connections open and idle, each after one answer that needed no database; null without a cgroup.
    pub keep_alive_bytes: Option<u64>,
    /// When the window ended.
    pub end_bytes: Option<u64>,
    /// What the connections added to idle, each; null for fewer than 1,000.
    pub per_connection_bytes: Option<u64>,
    /// RSS of all processes added up, which counts shared pages again and again.
    pub rss_sum_bytes: Option<u64>,
    /// PSS of all processes added up.
    pub pss_bytes: Option<u64>,
    /// Private dirty pages.
    pub private_dirty_bytes: Option<u64>,
    /// Page tables.
    pub page_tables_bytes: Option<u64>,
    /// Kernel stacks.
    pub kernel_stacks_bytes: Option<u64>,
    /// The kernel's part of sockets.
    pub sockets_bytes: Option<u64>,
    /// What the cgroup may not exceed; null without a limit.
    pub limit_bytes: Option<u64>,
    /// Processes.
    pub processes: Option<u64>,
    /// Threads in all processes.
    pub threads: Option<u64>,
    /// What the kernel charges to the cgroup, by part, when the window ended.
    pub cgroup: Option<meter::CgroupParts>,
}

/// With fewer connections, the RAM of each cannot be told: a cgroup v1 is charged 256 KiB at a time and CPU.
const MIN_CONNECTIONS: u64 = 1_000;

impl Memory {
    /// What each of so many connections added to the idle server; nothing if they are too few to tell.
    pub fn added_per_connection_bytes(&self, connections: u64) -> Option<u64> {
        let added = self.peak_bytes?.saturating_sub(self.idle_bytes?);
        (connections >= MIN_CONNECTIONS).then(|| added / connections)
    }

    /// The parts of the ledger that do not overlap.
    pub fn ledger_total_bytes(&self) -> Option<u64> {
        Some(self.pss_bytes? + self.page_tables_bytes? + self.kernel_stacks_bytes? + self.sockets_bytes.unwrap_or(0))
    }

    /// The kernel memory that the cgroup was charged beyond the ledger: what the kernel keeps of each task, mapping and
    /// file, mostly.
    pub fn unledgered_kernel_bytes(&self) -> Option<u64> {
        let ledgered = self.page_tables_bytes? + self.kernel_stacks_bytes? + self.sockets_bytes?;
        Some(self.cgroup.as_ref()?.kernel_bytes?.saturating_sub(ledgered))
    }
}

/// The server, besides its RAM.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct ServerSummary {
    /// CPU time within the window; null for a server that is not metered.
    pub cpu_s: Option<f64>,
    /// How it ended.
    pub exit: Option<String>,
    /// How many of its processes the kernel has killed for want of memory; null if that is not known.
    pub oom_kills: Option<u64>,
}

/// The load generator's own cost.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct ClientSummary {
    /// CPU time within the window.
    pub cpu_s: Option<f64>,
    /// The highest RSS of this run.
    pub rss_peak_bytes: Option<u64>,
    /// How late its timers were, which is how late it looks at answers: the 99th percentile.
    pub lag_p99_us: Option<u64>,
}
