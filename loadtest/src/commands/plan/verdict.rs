//! Whether a model fits, and why not.

use anyhow::Result;
use common::limits::{self, Ceiling};
use quantity::format;
use results::Target;
use serde::Serialize;

use super::cost::ModelCost;
use super::need::Need;

/// Above this share of busy CPUs, requests wait for each other noticeably (in an M/M/1 queue about three times as long
/// as they compute).
const BUSY_SHARE: f64 = 0.7;
/// A task that computes for longer than this between `.await`s blocks the others on its thread; tokio's authors advise
/// 10 to 100 µs.
const LONG_TASK_S: f64 = 100e-6;
/// More than this many times the measured connections is far beyond them.
const FAR: f64 = 2.0;

/// The verdict on one model.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Verdict {
    /// The model's name.
    pub(super) target: &'static str,
    /// What rules it out; empty if it fits.
    pub(super) against: Vec<String>,
    /// What to know before choosing it.
    pub(super) cautions: Vec<String>,
    /// RAM for the connections, at most.
    pub(super) ram_bytes: u64,
    /// What a connection costs, as measured.
    pub(super) per_connection_bytes: u64,
    /// What it costs at most.
    pub(super) per_connection_high_bytes: u64,
    /// How many connections the RAM holds.
    pub(super) connections_in_ram: u64,
    /// The workers of a pool, which wait for the database.
    pub(super) workers: Option<u64>,
    /// CPUs that would be busy.
    pub(super) cpus: Option<f64>,
}

impl Verdict {
    /// Whether the model meets the need.
    pub(super) fn fits(&self) -> bool {
        self.against.is_empty()
    }
}

/// A verdict on every measured model.
///
/// # Errors
/// The limits of this machine cannot be read.
pub(super) fn judge_all(costs: &[ModelCost], need: &Need, cpus: u64) -> Result<Vec<Verdict>> {
    let thread_bytes = costs.iter().find(|cost| cost.target == Target::Threads);
    let thread_bytes = thread_bytes.map(ModelCost::per_connection_high_bytes);
    costs.iter().map(|cost| judge(cost, need, cpus as f64, thread_bytes)).collect()
}

fn judge(cost: &ModelCost, need: &Need, cpus: f64, thread_bytes: Option<f64>) -> Result<Verdict> {
    let connections = need.connections as f64;
    let is_pool = cost.target == Target::Threadpool;
    let workers = is_pool.then(|| workers(need));
    let missing_workers = (workers.unwrap_or(0.0) - cost.most_waiting).max(0.0);
    // A worker costs no more than a thread with its connection.
    let workers_bytes = missing_workers * thread_bytes.unwrap_or(0.0);
    let cpus_busy = cost.cpu_per_request_s.map(|own_s| need.rate * (own_s + need.cpu_per_request_s));
    let mut verdict = Verdict {
        target: cost.target.name(),
        against: Vec::new(),
        cautions: Vec::new(),
        ram_bytes: (cost.ram_high_bytes(connections) + workers_bytes) as u64,
        per_connection_bytes: cost.per_connection_bytes().max(0.0) as u64,
        per_connection_high_bytes: cost.per_connection_high_bytes().max(0.0) as u64,
        connections_in_ram: cost.connections_within(need.ram_bytes as f64 - workers_bytes) as u64,
        workers: workers.map(|workers| workers as u64),
        cpus: cpus_busy,
    };
    verdict.judge_ram(need);
    verdict.judge_limits(cost.target, need)?;
    verdict.judge_cpu(cost, need, cpus);
    if need.isolation && cost.target != Target::Prefork {
        verdict
            .against
            .push("a crash ends all connections; with --isolation only prefork is left, where it ends one".into());
    }
    if connections > FAR * cost.most_connections {
        let text = format!(
            "measured up to {} connections; the figures for {}, {} times as many, are extrapolated",
            format::count(cost.most_connections),
            format::count(connections),
            format::count(connections / cost.most_connections)
        );
        verdict.cautions.push(text);
    }
    if missing_workers > 0.0 && thread_bytes.is_none() {
        verdict.cautions.push("the RAM excludes workers beyond those measured: sweep threads, too".into());
    }
    Ok(verdict)
}

/// Little's law: on average rate × wait requests wait at once. Random arrivals need more workers than that to avoid
/// queueing, by three times its square root (square-root staffing), but never more than there are connections, or connections
/// to the database.
fn workers(need: &Need) -> f64 {
    let waiting = need.rate * (need.wait_s + need.cpu_per_request_s);
    let most = need.pool.map_or(need.connections, |pool| pool.min(need.connections));
    (waiting + 3.0 * waiting.sqrt()).ceil().min(most as f64)
}

impl Verdict {
    fn judge_ram(&mut self, need: &Need) {
        if self.ram_bytes > need.ram_bytes {
            self.against.push(format!("may need more RAM than {}", format::exact_bytes(need.ram_bytes)));
        }
    }

    /// Checks the limits of this machine.
    fn judge_limits(&mut self, target: Target, need: &Need) -> Result<()> {
        let connections = need.connections as u64;
        let needed = match target {
            Target::Prefork => vec![("processes", connections, limits::processes())],
            Target::Threads => {
                vec![("threads", connections, limits::threads()), ("connections", connections, limits::descriptors()?)]
            }
            Target::Threadpool => {
                let workers = self.workers.unwrap_or(0);
                vec![("workers", workers, limits::threads()), ("connections", connections, limits::descriptors()?)]
            }
            Target::Async | Target::AsyncCodec | Target::AsyncUring => {
                vec![("connections", connections, limits::descriptors()?)]
            }
        };
        for (what, needed, Ceiling { connections: allowed, advice, .. }) in needed {
            if needed > allowed as u64 {
                let (needed, allowed) = (format::count(needed as f64), format::count(allowed as f64));
                self.against.push(format!("needs {needed} {what}, but this machine allows {allowed}: {advice}"));
            }
        }
        Ok(())
    }

    fn judge_cpu(&mut self, cost: &ModelCost, need: &Need, cpus: f64) {
        let is_async = matches!(cost.target, Target::Async | Target::AsyncCodec | Target::AsyncUring);
        if is_async && need.cpu_per_request_s > LONG_TASK_S {
            self.cautions.push("computing in a task blocks the others on its thread: use spawn_blocking".into());
        }
        let Some(busy) = self.cpus else {
            self.cautions.push("the server's CPU time was not metered: that needs a cgroup (root)".into());
            return;
        };
        let rate = format::count(need.rate);
        if busy > cpus {
            self.against.push(format!("{rate} requests/s need more CPU time than {cpus} CPUs have"));
        } else if busy > BUSY_SHARE * cpus {
            self.cautions
                .push(format!("{rate} requests/s leave the CPUs little idle time: requests will wait for each other"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn need(connections: usize, rate: f64, wait_s: f64) -> Need {
        Need { connections, wait_s, ram_bytes: 1 << 30, cpu_per_request_s: 0.0, rate, isolation: false, pool: None }
    }

    #[test]
    fn workers_follow_littles_law() {
        // 400 wait on average; with 60 more, queueing is rare.
        assert_eq!(workers(&need(50_000, 2_000.0, 0.2)), 460.0);
        // Each connection sends without pause, so all of them wait and there is nothing to share.
        assert_eq!(workers(&need(1_000, 1_000.0, 1.0)), 1_000.0);
        // More workers than the database has connections only wait for one.
        let pooled = Need { pool: Some(50), ..need(10_000, 5_000.0, 0.01) };
        assert_eq!((workers(&pooled), pooled.most_queries()), (50.0, 5_000.0));
    }
}
