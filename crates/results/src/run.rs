//! The result of one run. These structs are the JSON, field by field; what could not be measured is null.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::ops::{Add, AddAssign};
use std::time::Duration;

use quantity::format;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::cause::Cause;
use crate::database::Database;
use crate::settings::LoadSettings;
use crate::target::Target;
use crate::warning::Warning;

/// The version of the result format.
pub const SCHEMA: &str = "c10k-loadtest/3";
/// The formats that [`crate::file::read`] reads.
pub const READABLE_SCHEMAS: [&str; 2] = ["c10k-loadtest/2", SCHEMA];

/// One run against one server.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct RunResult {
    /// [`SCHEMA`].
    pub schema: String,
    /// Whether the run finished.
    pub complete: bool,
    /// Why it did not.
    pub failure: Option<String>,
    /// What kept the server from holding all connections and answering every request; null if nothing did.
    pub cause: Option<Cause>,
    /// The round of the sweep, counted from 1.
    pub round: Option<u32>,
    /// The sweep that this run belongs to.
    pub sweep: Option<SweepPlan>,
    /// What is known of the server beside its name, if it was compared with others; null in other files.
    #[serde(default)]
    pub peer: Option<Peer>,
    /// The server's name: a target, a peer, or the URL.
    pub target: String,
    /// The server's command line.
    pub command: Vec<String>,
    /// What the load generator was asked to do; null in older files.
    #[serde(default)]
    pub load: Option<LoadSettings>,
    /// When the run began, in RFC 3339.
    pub started_at: String,
    /// The machine.
    pub host: Host,
    /// Connections requested and reached.
    pub connections: Connections,
    /// The simulated database.
    pub wait: Wait,
    /// The length of the window that was measured.
    pub duration_s: Option<f64>,
    /// Good answers within the window.
    pub requests: u64,
    /// Good answers per second.
    pub rps: Option<f64>,
    /// The most requests that waited at once, divided by the wait: no server can answer faster.
    pub rps_ceiling: Option<f64>,
    /// Requests still unanswered when the window closed.
    pub in_flight: u64,
    /// What failed before the window.
    pub errors_before: Errors,
    /// What failed within the window.
    pub errors: Errors,
    /// The reasons of all failures, before the window and within it.
    #[serde(default)]
    pub error_reasons: Vec<ErrorReason>,
    /// With a rate: what became of it; null without one.
    #[serde(default)]
    pub rate: Option<Rate>,
    /// From the first byte sent to the last byte received; null without an answer.
    pub latency_us: Option<LatencySummary>,
    /// The same less the database wait; null if the wait is random.
    pub above_wait_us: Option<AboveWait>,
    /// The data behind `latency_us`.
    pub histograms: Option<Histograms>,
    /// The window second by second.
    pub series: Vec<Second>,
    /// The server's RAM.
    pub memory: Memory,
    /// The server apart from its RAM.
    pub server: ServerSummary,
    /// The real database behind it; null without `--db`.
    #[serde(default)]
    pub database: Option<Database>,
    /// The load generator's own cost.
    pub client: ClientSummary,
    /// The processes that the users ran in, with `--workers`; null if they ran in loadtest itself.
    #[serde(default)]
    pub fleet: Option<Fleet>,
    /// Reasons to doubt the result.
    pub warnings: Vec<Warning>,
}

impl RunResult {
    /// An empty result, for a run that starts now. `started_at` is in RFC 3339.
    pub fn new(target: &str, command: Vec<String>, connections: usize, host: Host, started_at: String) -> Self {
        Self {
            schema: SCHEMA.to_owned(),
            complete: false,
            failure: None,
            cause: None,
            round: None,
            sweep: None,
            peer: None,
            target: target.to_owned(),
            command,
            load: None,
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
            error_reasons: Vec::new(),
            rate: None,
            latency_us: None,
            above_wait_us: None,
            histograms: None,
            series: Vec::new(),
            memory: Memory::default(),
            server: ServerSummary::default(),
            database: None,
            client: ClientSummary::default(),
            fleet: None,
            warnings: Vec::new(),
        }
    }

    /// The cause in a sentence; `None` if nothing went wrong.
    pub fn cause_in_words(&self) -> Option<String> {
        let oom_kills = self.server.oom_kills.unwrap_or_default();
        self.cause.map(|cause| cause.describe(oom_kills, self.failure.as_deref()))
    }

    /// The RAM that the article claims for this model.
    pub fn claimed_bytes(&self) -> Option<u64> {
        Target::from_name(&self.target)?.claimed_bytes()
    }

    /// Whether the run finished without failure and with at least one answer.
    pub fn is_sound(&self) -> bool {
        self.complete && self.failure.is_none() && self.requests > 0
    }
}

/// What a sweep measures. Every cell records it, so that the sweep can be resumed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SweepPlan {
    /// The seed of the cells' random order.
    pub seed: u64,
    /// The servers' names.
    pub targets: Vec<String>,
    /// The connection counts.
    pub connections: Vec<usize>,
    /// How often to measure each cell.
    pub rounds: u32,
    /// How long to measure each cell.
    pub duration_ms: u64,
    /// The value of `--timeout`.
    pub timeout_ms: u64,
    /// The value of `--db-wait`.
    pub wait: String,
    /// Extra flags for the servers.
    pub server_flags: Vec<String>,
    /// The limit on each server's RAM.
    pub ram_limit_bytes: Option<u64>,
}

/// A server that is compared with others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Peer {
    /// How it serves many connections at once: `event loop`, `thread per connection`.
    pub model: String,
    /// What its program says of its version; null if it says nothing.
    pub version: Option<String>,
    /// How it keeps to HTTP/1.1; null if that was not asked.
    #[serde(default)]
    pub conformance: Option<Conformance>,
}

/// What a server made of the cases of HTTP-CASES.md.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Conformance {
    /// What RFC 9110 and 9112 require.
    pub must: Tally,
    /// What they recommend.
    pub should: Tally,
    /// What the servers of this project answer, whose contract is stricter.
    pub contract: Tally,
}

/// How many cases there were, and how many of them went well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Tally {
    /// All of them.
    pub tried: usize,
    /// Those that went well.
    pub passed: usize,
}

/// The machine.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Host {
    /// The kernel's release.
    pub kernel: Option<String>,
    /// CPUs available to the load generator and to the server that it starts.
    pub cpus: u64,
    /// How many of them a quota of the container or cgroup allows to be busy, such as 0.5; null without one.
    #[serde(default)]
    pub cpu_quota: Option<f64>,
    /// Total RAM.
    pub ram_bytes: Option<u64>,
    /// The open-file limit.
    pub nofile: Option<u64>,
    /// The longest backlog that the kernel allows (`net.core.somaxconn`).
    pub somaxconn: Option<u64>,
}

impl Host {
    /// The machine in one line.
    pub fn describe(&self) -> String {
        let kernel = self.kernel.as_ref().map_or_else(String::new, |kernel| format!(", Linux {kernel}"));
        let quota = self.cpu_quota.map_or_else(String::new, |quota| format!(" (a quota of {quota:.2})"));
        format!("{} CPUs{quota}, {} of RAM{kernel}", self.cpus, format::bytes(self.ram_bytes))
    }
}

/// Connections requested and reached.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct Connections {
    /// Asked for.
    pub requested: usize,
    /// Connected.
    pub established: usize,
    /// How long it took until all were made and each had its first answer; null unless that was before the window.
    #[serde(default)]
    pub connected_after_us: Option<u64>,
    /// How many were connected on average within the window.
    #[serde(default)]
    pub established_mean: Option<f64>,
    /// How many had a request in flight on average within the window; null with a rate or a script.
    #[serde(default)]
    pub in_flight_mean: Option<f64>,
    /// Connected, but without any answer within the window.
    #[serde(default)]
    pub never_answered: Option<u64>,
    /// The most open at once, by the server's count; null, as for the next three, if it is not one of this project's.
    pub open_peak: Option<u64>,
    /// The most requests held at once, waiting for the database or for a worker, by the server's count.
    pub held_peak: Option<u64>,
    /// How many it held on average within the window, sampled four times a second.
    pub held_mean: Option<f64>,
    /// The most held requests that waited for the database at once.
    pub waiting_peak: Option<u64>,
    /// The most held requests seen waiting for a worker.
    pub queued_peak: Option<u64>,
    /// Lost and replaced.
    pub reconnected: u64,
    /// How often a user paused (10 ms to 1 s) because it could not connect.
    #[serde(default)]
    pub connect_pauses: Option<u64>,
}

impl Connections {
    /// The most open at once: by the server's count, or by the load generator's if it is higher or the only one.
    pub fn open(&self) -> u64 {
        self.open_peak.unwrap_or(0).max(self.established as u64)
    }
}

/// The simulated database.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct Wait {
    /// The value of `--db-wait`; empty if the server is not one of this project's.
    pub spec: String,
}

impl Wait {
    /// How long every query takes, possibly no time; `None` if that is random or unknown.
    pub fn duration(&self) -> Option<Duration> {
        // A random wait does not parse as a time.
        quantity::duration(&self.spec).ok()
    }

    /// How long every query takes; `None` if that is random, zero or unknown.
    pub fn fixed(&self) -> Option<Duration> {
        self.duration().filter(|wait| !wait.is_zero())
    }

    /// `, database wait 1s`, to append to other text; empty if the wait is unknown.
    pub fn as_suffix(&self) -> String {
        match self.spec.as_str() {
            "" => String::new(),
            spec => format!(", database wait {spec}"),
        }
    }
}

/// The sum of counts. A file that another program wrote may hold any: no sum may fail for it.
pub(crate) fn sum(counts: impl IntoIterator<Item = u64>) -> u64 {
    counts.into_iter().fold(0, u64::saturating_add)
}

/// Failures by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Errors {
    /// Failed attempts to connect.
    pub connect: u64,
    /// Answers that ended early or were not HTTP.
    pub read: u64,
    /// Requests that could not be sent.
    pub write: u64,
    /// Requests not answered within `--timeout`.
    pub timeout: u64,
    /// Answers with a status of 400 or above.
    pub status: u64,
}

impl AddAssign for Errors {
    fn add_assign(&mut self, other: Self) {
        self.connect = self.connect.saturating_add(other.connect);
        self.read = self.read.saturating_add(other.read);
        self.write = self.write.saturating_add(other.write);
        self.timeout = self.timeout.saturating_add(other.timeout);
        self.status = self.status.saturating_add(other.status);
    }
}

impl Errors {
    /// The sum of all kinds.
    pub fn total(&self) -> u64 {
        let Errors { connect, read, write, timeout, status } = *self;
        sum([connect, read, write, timeout, status])
    }
}

/// What failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ErrorKind {
    /// No connection could be made.
    Connect,
    /// The answer is incomplete, or is not HTTP.
    Read,
    /// The request could not be sent.
    Write,
    /// The answer took too long.
    Timeout,
    /// The answer's status is 400 or above.
    Status,
}

/// Why something failed, and how often.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ErrorReason {
    /// What failed.
    pub kind: ErrorKind,
    /// Why: an error of the operating system, a TLS alert, what is wrong with the answer, or its status.
    pub reason: String,
    /// How often.
    pub count: u64,
}

impl ErrorReason {
    /// Each reason once with the sum of its counts, the most frequent first.
    pub fn merge<'a>(reasons: impl IntoIterator<Item = &'a ErrorReason>) -> Vec<ErrorReason> {
        let mut sums: BTreeMap<_, u64> = BTreeMap::new();
        for ErrorReason { kind, reason, count } in reasons {
            let known = sums.entry((*kind, reason)).or_default();
            *known = known.saturating_add(*count);
        }
        let sum = |((kind, reason), count): ((_, &String), _)| ErrorReason { kind, reason: reason.clone(), count };
        let mut merged: Vec<_> = sums.into_iter().map(sum).collect();
        merged.sort_by_key(|reason| Reverse(reason.count));
        merged
    }
}

/// What became of the requests that were due at a fixed rate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Rate {
    /// Requests that were due within the window.
    pub due: u64,
    /// How many of them were sent.
    pub sent: u64,
    /// Answers within the window, whatever their status.
    pub answered: u64,
    /// Sent, as a share of those that were due.
    pub sent_share: Option<f64>,
}

impl Rate {
    /// A rate of which so many requests were due, sent and answered.
    pub fn new(due: u64, sent: u64, answered: u64) -> Self {
        let sent_share = (due > 0).then(|| sent as f64 / due as f64);
        Self { due, sent, answered, sent_share }
    }
}

impl Add for Rate {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        let [due, sent, answered] =
            [[self.due, other.due], [self.sent, other.sent], [self.answered, other.answered]].map(sum);
        Self::new(due, sent, answered)
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
    /// The fields that are lower bounds, because requests were unanswered when the window closed, or because the requests
    /// sent before the window disagree with those sent within it.
    pub lower_bounds: Vec<String>,
    /// For lower bounds of the second kind: what these fields do not exceed. Absent where there are none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub upper_ends: BTreeMap<String, f64>,
}

impl LatencySummary {
    /// The same percentiles, less a fixed wait.
    pub fn above(&self, wait: Duration) -> AboveWait {
        let above = |latency_us: u64| latency_us.saturating_sub(wait.as_micros() as u64);
        let Self { p50, p90, p99, p999, max, .. } = *self;
        AboveWait { p50: above(p50), p90: above(p90), p99: above(p99), p999: above(p999), max: above(max) }
    }

    /// Whether the figure of this name is only a lower bound.
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

/// Latencies in microseconds, each an HDR histogram (V2, deflated, base64) that HdrHistogram tools can read. Merging
/// runs adds these up.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Histograms {
    /// Latencies of good answers.
    pub answered: String,
    /// Latencies of answers with a status of 400 or above.
    pub refused: String,
    /// Ages of unanswered requests, when they were given up or the window closed.
    pub unanswered: String,
    /// Ages of requests sent before the window, at the moment it opened (left truncation).
    #[serde(alias = "joined")]
    pub left_truncated: String,
}

/// One second of the window, or the remainder at its end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Second {
    /// When it ended, counted from the start of the window.
    pub end_s: f64,
    /// Good answers per second.
    pub rps: f64,
    /// The median latency of those answers; null if there were none.
    pub p50_us: Option<u64>,
    /// Their 99th percentile.
    pub p99_us: Option<u64>,
    /// Failures of all kinds.
    pub errors: u64,
    /// Open connections, by the server's count.
    pub open: Option<u64>,
    /// Held requests, by the server's count.
    pub held: Option<u64>,
    /// The server's RAM, as in [`Memory::peak_bytes`]; null without a cgroup.
    pub ram_bytes: Option<u64>,
}

/// The server's RAM.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct Memory {
    /// Where `peak_bytes` and `idle_bytes` come from: `cgroup v2`, `cgroup v1`, `pss` (the ledger's parts added up), or
    /// `admin` (the server's own cgroup, reported on its admin port).
    pub source: Option<String>,
    /// The highest value until the window closed.
    pub peak_bytes: Option<u64>,
    /// Whether that is the highest of many samples, and not the kernel's own record, which on cgroup v1 lacks TCP buffers;
    /// null without a cgroup.
    #[serde(default)]
    pub peak_is_sampled: Option<bool>,
    /// Before the first connection.
    pub idle_bytes: Option<u64>,
    /// With all connections open and idle, each after one answer without a query; null without a cgroup.
    pub keep_alive_bytes: Option<u64>,
    /// When the window closed.
    pub end_bytes: Option<u64>,
    /// What each connection added to the idle server; null for fewer than 1,000.
    pub per_connection_bytes: Option<u64>,
    /// RSS of all processes added up, which counts shared pages once per process.
    pub rss_sum_bytes: Option<u64>,
    /// PSS of all processes added up.
    pub pss_bytes: Option<u64>,
    /// Private dirty pages.
    pub private_dirty_bytes: Option<u64>,
    /// Page tables.
    pub page_tables_bytes: Option<u64>,
    /// Kernel stacks.
    pub kernel_stacks_bytes: Option<u64>,
    /// Kernel memory of sockets.
    pub sockets_bytes: Option<u64>,
    /// What of it the kernel did not charge to the cgroup, and is added to the figures above: accepted TCP connections before
    /// Linux 6.12; null without a cgroup.
    #[serde(default)]
    pub uncharged_sockets_bytes: Option<u64>,
    /// The cgroup's limit; null without one.
    pub limit_bytes: Option<u64>,
    /// Processes.
    pub processes: Option<u64>,
    /// Threads in all processes.
    pub threads: Option<u64>,
    /// What the kernel charged to the cgroup when the window closed, by part.
    pub cgroup: Option<meter::CgroupParts>,
}

/// With fewer connections the RAM of each drowns in noise: cgroup v1 charges 256 KiB at a time per CPU.
const MIN_CONNECTIONS: u64 = 1_000;

impl Memory {
    /// What each connection added to the idle server; `None` if there are too few to say.
    pub fn added_per_connection_bytes(&self, connections: u64) -> Option<u64> {
        let added = self.peak_bytes?.saturating_sub(self.idle_bytes?);
        (connections >= MIN_CONNECTIONS).then(|| added / connections)
    }

    /// The parts of the ledger that do not overlap.
    pub fn ledger_total_bytes(&self) -> Option<u64> {
        let sockets_bytes = self.sockets_bytes.unwrap_or(0);
        Some(sum([self.pss_bytes?, self.page_tables_bytes?, self.kernel_stacks_bytes?, sockets_bytes]))
    }

    /// What is known to be the server's alone, and charged to it or added: its dirty pages and its kernel memory.
    pub fn known_parts_bytes(&self) -> Option<u64> {
        Some(sum([self.private_dirty_bytes?, self.page_tables_bytes?, self.kernel_stacks_bytes?, self.sockets_bytes?]))
    }

    /// Adds what the kernel did not charge to the cgroup, once.
    pub fn add_uncharged(&mut self, bytes: u64) {
        if self.uncharged_sockets_bytes.is_some() {
            return;
        }
        self.uncharged_sockets_bytes = Some(bytes);
        for total in [&mut self.peak_bytes, &mut self.keep_alive_bytes, &mut self.end_bytes] {
            *total = total.map(|total| total.saturating_add(bytes));
        }
    }

    /// Kernel memory charged to the cgroup beyond the ledger: mostly what the kernel keeps for each task, mapping and
    /// file.
    pub fn unledgered_kernel_bytes(&self) -> Option<u64> {
        let ledgered = sum([self.page_tables_bytes?, self.kernel_stacks_bytes?, self.sockets_bytes?]);
        let charged = sum([self.cgroup.as_ref()?.kernel_bytes?, self.uncharged_sockets_bytes.unwrap_or(0)]);
        Some(charged.saturating_sub(ledgered))
    }
}

/// The server apart from its RAM.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct ServerSummary {
    /// The SHA-256 of its executable in hexadecimal, for one of this project's that loadtest started.
    #[serde(default)]
    pub executable_sha256: Option<String>,
    /// CPU time within the window; null for a server that is not metered.
    pub cpu_s: Option<f64>,
    /// How it exited, in words.
    pub exit: Option<String>,
    /// The signal that killed it, such as `SIGKILL`; null if none did.
    #[serde(default)]
    pub exit_signal: Option<String>,
    /// How long after SIGTERM it had ended, with every connection open until then; null if it did not end so.
    #[serde(default)]
    pub stopped_after_us: Option<u64>,
    /// How many of its processes the kernel killed because memory ran out; null if unknown.
    pub oom_kills: Option<u64>,
}

/// The load generator's own cost.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct ClientSummary {
    /// CPU time within the window.
    pub cpu_s: Option<f64>,
    /// The peak RSS of this run.
    pub rss_peak_bytes: Option<u64>,
    /// How late its timers fired, and so how late it saw answers: the 99th percentile.
    pub lag_p99_us: Option<u64>,
}

/// The workers of a run, which loaded the server together.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Fleet {
    /// Between the first worker that opened the window and the last; null if one of them did not open it.
    pub start_skew_us: Option<u64>,
    /// How far off that can be, because a clock's offset is known to half a round trip.
    pub start_skew_error_us: Option<u64>,
    /// Each worker.
    pub workers: Vec<Worker>,
}

impl Fleet {
    /// A fleet of these workers.
    pub fn new(workers: Vec<Worker>) -> Self {
        let late: Option<Vec<i64>> = workers.iter().map(|worker| worker.start_late_us).collect();
        let bounds = late.and_then(|late| Some((*late.iter().min()?, *late.iter().max()?)));
        let mut errors_us: Vec<u64> = workers.iter().map(|worker| worker.round_trip_us.div_ceil(2)).collect();
        errors_us.sort_unstable();
        Self {
            start_skew_us: bounds.map(|(first, last)| first.abs_diff(last)),
            start_skew_error_us: bounds.map(|_| sum(errors_us.iter().rev().take(2).copied())),
            workers,
        }
    }

    /// Whether a worker was lost before the run ended.
    pub fn has_lost(&self) -> bool {
        self.workers.iter().any(|worker| worker.lost.is_some())
    }
}

/// One worker of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Worker {
    /// Its address.
    pub name: String,
    /// Its machine.
    pub host: Host,
    /// Its share of the connections.
    pub connections: usize,
    /// Good answers that it got within the window.
    pub requests: u64,
    /// How far its clock was ahead of the coordinator's: each counts from the start of its process.
    pub clock_offset_us: i64,
    /// The quickest round trip to it, from which that was estimated.
    pub round_trip_us: u64,
    /// How long after the agreed instant it opened the window; null if it did not.
    pub start_late_us: Option<i64>,
    /// Why it was lost; null if it was not.
    pub lost: Option<String>,
}
