//! The summary of a comparison: what each server cost in all rounds, at each number of connections and each wait.

use crate::cause::Cause;
use crate::run::{Peer, RunResult};
use crate::statistics::{Estimate, Spread};
use crate::sweep::holds;

/// A comparison of servers.
#[derive(Clone, Debug)]
pub struct PeerComparison {
    /// A summary of each server for each wait and number of connections.
    pub groups: Vec<Group>,
    /// How many runs gave warnings.
    pub warned_runs: usize,
}

/// Servers that were loaded alike.
#[derive(Clone, Debug)]
pub struct Group {
    /// How long each request waited in the server: `0s`, `1s`.
    pub wait: String,
    /// How many connections were asked for.
    pub connections: usize,
    /// The servers, from the one that needs the least RAM on; behind them those that did not hold all connections.
    pub peers: Vec<PeerSummary>,
}

/// The rounds of one server.
#[derive(Clone, Debug)]
pub struct PeerSummary {
    /// Its name.
    pub name: String,
    /// Its model and version.
    pub peer: Peer,
    /// How many rounds ran.
    pub rounds: usize,
    /// How many of them finished with at least one answer; only these count below.
    pub sound_rounds: usize,
    /// In how many rounds something kept the server from holding all connections and answering every request, and what it
    /// was most often.
    pub faults: Option<(usize, Cause)>,
    /// RAM at its peak, in bytes.
    pub peak_bytes: Option<Spread>,
    /// Of the RAM at the end what is anonymous pages, in bytes.
    pub anonymous_bytes: Option<Spread>,
    /// The server's CPU time for each good answer, in microseconds.
    pub cpu_us: Option<Spread>,
    /// Good answers per second.
    pub rps: Option<Spread>,
    /// The 99th percentile of the latency, in microseconds.
    pub p99_us: Option<Spread>,
    /// Whether it is a lower bound in any round.
    pub is_p99_lower_bound: bool,
    /// Failures of all kinds in all sound rounds.
    pub errors: u64,
    /// What a connection more costs, in bytes: the slope of the peak of RAM over all numbers of connections that were tried
    /// with this wait. `None` with fewer than two of them, or three rounds.
    pub slope_bytes: Option<Estimate>,
}

impl PeerComparison {
    /// Summarises runs; `None` unless all of them are of a comparison.
    pub fn new(runs: &[RunResult]) -> Option<Self> {
        if runs.is_empty() || runs.iter().any(|run| run.peer.is_none()) {
            return None;
        }
        let mut groups: Vec<Group> = Vec::new();
        for run in runs {
            let is_of = |group: &Group| group.wait == run.wait.spec && group.connections == run.connections.requested;
            if !groups.iter().any(is_of) {
                let (wait, connections) = (run.wait.spec.clone(), run.connections.requested);
                groups.push(Group { peers: summaries(runs, &wait, connections), wait, connections });
            }
        }
        groups.sort_by_key(|group| (quantity::duration(&group.wait).ok(), group.connections));
        let warned_runs = runs.iter().filter(|run| !run.warnings.is_empty()).count();
        Some(Self { groups, warned_runs })
    }
}

fn summaries(runs: &[RunResult], wait: &str, connections: usize) -> Vec<PeerSummary> {
    let waited: Vec<_> = runs.iter().filter(|run| run.wait.spec == wait).collect();
    let mut names: Vec<&str> = Vec::new();
    for run in waited.iter().filter(|run| run.connections.requested == connections) {
        if !names.contains(&run.target.as_str()) {
            names.push(&run.target);
        }
    }
    let of = |name: &&str| waited.iter().copied().filter(|run| run.target == *name).collect::<Vec<_>>();
    let mut summaries: Vec<_> = names.iter().filter_map(|name| PeerSummary::new(&of(name), connections)).collect();
    let median = |peer: &PeerSummary| peer.peak_bytes.map_or(f64::INFINITY, |bytes| bytes.median);
    summaries.sort_by(|one, other| {
        one.faults.is_some().cmp(&other.faults.is_some()).then(median(one).total_cmp(&median(other)))
    });
    summaries
}

impl PeerSummary {
    /// The summary of these runs of one server with one wait, and their slope.
    fn new(runs: &[&RunResult], connections: usize) -> Option<Self> {
        let rounds: Vec<_> = runs.iter().filter(|run| run.connections.requested == connections).collect();
        let sound: Vec<_> = rounds.iter().filter(|run| run.is_sound()).collect();
        let spread = |figure: fn(&RunResult) -> Option<f64>| Spread::new(sound.iter().filter_map(|run| figure(run)));
        let is_open = |run: &&RunResult| run.latency_us.as_ref().is_some_and(|latency| latency.is_lower_bound("p99"));
        let first = rounds.first()?;
        Some(Self {
            name: first.target.clone(),
            peer: first.peer.clone()?,
            rounds: rounds.len(),
            sound_rounds: sound.len(),
            faults: faults(&rounds),
            peak_bytes: spread(|run| run.memory.peak_bytes.map(|bytes| bytes as f64)),
            anonymous_bytes: spread(|run| run.memory.cgroup?.anon_bytes.map(|bytes| bytes as f64)),
            cpu_us: spread(|run| Some(run.server.cpu_s? / run.requests as f64 * 1e6)),
            rps: spread(|run| run.rps),
            p99_us: spread(|run| run.latency_us.as_ref().map(|latency| latency.p99 as f64)),
            is_p99_lower_bound: sound.iter().any(|run| is_open(run)),
            errors: sound.iter().map(|run| run.errors.total()).fold(0, u64::saturating_add),
            slope_bytes: slope(runs),
        })
    }
}

/// How many rounds had a fault, and the most frequent one.
fn faults(rounds: &[&&RunResult]) -> Option<(usize, Cause)> {
    let causes: Vec<Cause> = rounds.iter().filter_map(|run| run.cause).collect();
    let count = |cause: &Cause| causes.iter().filter(|other| *other == cause).count();
    Some((causes.len(), *causes.iter().max_by_key(|cause| count(cause))?))
}

/// From the rounds in which all connections were held.
fn slope(runs: &[&RunResult]) -> Option<Estimate> {
    let held = runs.iter().filter(|run| holds(run));
    let points = held.filter_map(|run| Some((run.connections.requested as f64, run.memory.peak_bytes? as f64)));
    Estimate::slope(&points.collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::sample;

    fn run(name: &str, wait: &str, connections: usize, peak_bytes: u64) -> RunResult {
        let mut run = sample("threads");
        name.clone_into(&mut run.target);
        run.peer = Some(Peer { model: "event loop".into(), version: Some("1.0".into()), conformance: None });
        wait.clone_into(&mut run.wait.spec);
        (run.connections.requested, run.connections.established) = (connections, connections);
        run.connections.open_peak = None;
        run.memory.peak_bytes = Some(peak_bytes);
        (run.requests, run.server.cpu_s) = (1_000, Some(0.02));
        run
    }

    #[test]
    fn servers_are_grouped_by_wait_and_connections_the_lightest_first() {
        let mut runs = vec![
            run("nginx", "1s", 100, 2_000),
            run("nginx", "0s", 200, 3_000),
            run("h2o", "0s", 100, 1_000),
            run("nginx", "0s", 100, 2_000),
            run("nginx", "0s", 100, 2_200),
            run("nginx", "0s", 100, 9_000),
            run("lost", "0s", 100, 10),
        ];
        (runs[5].complete, runs[5].cause) = (false, Some(Cause::ServerDied));
        runs[6].cause = Some(Cause::NeverAnswered);
        let comparison = PeerComparison::new(&runs).unwrap();
        let groups: Vec<_> = comparison.groups.iter().map(|group| (group.wait.as_str(), group.connections)).collect();
        assert_eq!(groups, [("0s", 100), ("0s", 200), ("1s", 100)]);
        let names: Vec<_> = comparison.groups[0].peers.iter().map(|peer| peer.name.as_str()).collect();
        assert_eq!(names, ["h2o", "lost", "nginx"]);
        let nginx = &comparison.groups[0].peers[2];
        assert_eq!((nginx.rounds, nginx.sound_rounds, nginx.faults), (3, 2, Some((1, Cause::ServerDied))));
        assert_eq!(nginx.peak_bytes.unwrap(), Spread { median: 2_100.0, min: 2_000.0, max: 2_200.0 });
        assert_eq!(nginx.cpu_us.unwrap().median, 20.0);
        assert_eq!(nginx.slope_bytes.unwrap().value, 9.0);
        assert_eq!(comparison.groups[0].peers[0].slope_bytes, None);
    }

    #[test]
    fn other_runs_are_no_comparison() {
        assert!(PeerComparison::new(&[]).is_none());
        assert!(PeerComparison::new(&[run("nginx", "0s", 100, 1), sample("threads")]).is_none());
    }
}
