//! The summary of how many connections to a database are enough.

use std::time::Duration;

use crate::run::{RunResult, sum};
use crate::statistics::Spread;
use crate::target::Target;

/// A pool is large enough if it brings this share of the most that any pool brought.
const ENOUGH_SHARE: f64 = 0.95;

/// Pools of several sizes, tried with several servers.
#[derive(Clone, Debug, PartialEq)]
pub struct PoolStudy {
    /// How many connections each server had from its clients.
    pub connections: usize,
    /// How long the database took for each answer.
    pub wait: String,
    /// The sizes, ascending.
    pub pools: Vec<usize>,
    /// The servers, in the order of every table.
    pub servers: Vec<PoolsOfServer>,
    /// How many runs gave warnings.
    pub warned_runs: usize,
}

/// One server with pools of several sizes.
#[derive(Clone, Debug, PartialEq)]
pub struct PoolsOfServer {
    /// Its name, with PgBouncer where that is between.
    pub name: String,
    /// How long each request keeps its connection after the answer, such as `20ms`; `None` if it gives it back at once.
    pub hold: Option<String>,
    /// How many queries may be on their way at once on a connection; `None` if it is one, as usual.
    pub pipeline: Option<usize>,
    /// What each size brought, ascending.
    pub sizes: Vec<PoolSize>,
}

/// The rounds of one server with a pool of one size.
#[derive(Clone, Debug, PartialEq)]
pub struct PoolSize {
    /// The most connections to the database.
    pub pool: usize,
    /// Whether they are PgBouncer's.
    pub through_pgbouncer: bool,
    /// How long each request keeps its connection after the answer, in microseconds.
    pub hold_us: u64,
    /// How many queries may be on their way at once on each.
    pub pipeline: usize,
    /// How many rounds ran.
    pub rounds: usize,
    /// How many of them finished with at least one answer; only these count below.
    pub sound_rounds: usize,
    /// Good answers per second.
    pub rps: Option<Spread>,
    /// How long requests waited for a connection on average, in microseconds.
    pub connection_wait_us: Option<Spread>,
    /// How long they waited for the answer on average, in microseconds.
    pub answer_wait_us: Option<Spread>,
    /// The server's RAM at its peak, in bytes.
    pub peak_bytes: Option<Spread>,
    /// PostgreSQL's RAM, in bytes.
    pub postgres_bytes: Option<Spread>,
    /// PostgreSQL's CPU time for each answer, in microseconds.
    pub postgres_cpu_us: Option<Spread>,
    /// Queries and requests that failed, in all sound rounds.
    pub errors: u64,
}

impl PoolStudy {
    /// Summarises runs; `None` unless each is of a server with a pool of a known size, and all were loaded alike.
    pub fn new(runs: &[RunResult]) -> Option<Self> {
        let first = runs.first()?;
        let is_alike = |run: &RunResult| {
            pool(run).is_some()
                && (run.connections.requested, &run.wait.spec) == (first.connections.requested, &first.wait.spec)
        };
        if !runs.iter().all(is_alike) {
            return None;
        }
        let mut pools: Vec<usize> = runs.iter().filter_map(pool).collect();
        pools.sort_unstable();
        pools.dedup();
        // They ran in random order; these are in that of every table.
        let place = |run: &&RunResult| {
            let target = Target::ALL.iter().position(|target| target.name() == run.target);
            (target.unwrap_or(usize::MAX), Way::of(run))
        };
        let mut servers: Vec<_> = runs.iter().collect();
        servers.sort_by_key(place);
        let mut servers: Vec<_> = servers.into_iter().map(Way::of).collect();
        servers.dedup();
        Some(Self {
            connections: first.connections.requested,
            wait: first.wait.spec.clone(),
            servers: servers.iter().map(|way| PoolsOfServer::new(way, &pools, runs)).collect(),
            pools,
            warned_runs: runs.iter().filter(|run| !run.warnings.is_empty()).count(),
        })
    }
}

fn pool(run: &RunResult) -> Option<usize> {
    run.database.as_ref()?.pool
}

fn is_through_pgbouncer(run: &RunResult) -> bool {
    run.database.as_ref().is_some_and(|database| database.through_pgbouncer)
}

/// A server, and what it does with its connections.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Way {
    /// The server's name, with PgBouncer where that is between.
    name: String,
    /// Zero in files of before.
    hold_us: u64,
    /// One in files of before.
    pipeline: usize,
}

impl Way {
    fn of(run: &RunResult) -> Self {
        let database = run.database.as_ref();
        let name = match is_through_pgbouncer(run) {
            true => format!("{} + PgBouncer", run.target),
            false => run.target.clone(),
        };
        Self {
            name,
            hold_us: database.and_then(|database| database.hold_us).unwrap_or(0),
            pipeline: database.and_then(|database| database.pipeline).unwrap_or(1),
        }
    }
}

impl PoolsOfServer {
    fn new(way: &Way, pools: &[usize], runs: &[RunResult]) -> Self {
        let own: Vec<_> = runs.iter().filter(|run| Way::of(run) == *way).collect();
        let of_size = |&size: &usize| {
            let runs: Vec<_> = own.iter().copied().filter(|run| pool(run) == Some(size)).collect();
            (!runs.is_empty()).then(|| PoolSize::new(size, way, &runs))
        };
        let sizes = pools.iter().filter_map(of_size).collect();
        let hold = || humantime::format_duration(Duration::from_micros(way.hold_us)).to_string();
        Self {
            name: way.name.clone(),
            hold: (way.hold_us > 0).then(hold),
            pipeline: (way.pipeline > 1).then_some(way.pipeline),
            sizes,
        }
    }

    /// Its name, with what it does with its connections if that is not the usual: `threads (holds 20ms)`.
    pub fn full_name(&self) -> String {
        self.way().map_or_else(|| self.name.clone(), |way| format!("{} ({way})", self.name))
    }

    /// What it does with its connections: `holds 20ms` or `pipelines 8`; `None` if each request has one until its answer.
    pub fn way(&self) -> Option<String> {
        let hold = self.hold.as_ref().map(|hold| format!("holds {hold}"));
        hold.or_else(|| self.pipeline.map(|pipeline| format!("pipelines {pipeline}")))
    }

    /// The smallest pool that brings all but a twentieth of the most that any brought: a larger one gains nothing.
    pub fn enough(&self) -> Option<&PoolSize> {
        let rps = |size: &PoolSize| size.rps.map_or(0.0, |rps| rps.median);
        let most = self.sizes.iter().map(rps).max_by(f64::total_cmp).filter(|most| *most > 0.0)?;
        self.sizes.iter().find(|size| rps(size) >= most * ENOUGH_SHARE)
    }

    /// Whether a larger pool may bring more: the one that is enough is the largest that was tried.
    pub fn may_need_more(&self) -> bool {
        self.enough().map(|size| size.pool) == self.sizes.last().map(|size| size.pool)
    }
}

impl PoolSize {
    fn new(pool: usize, way: &Way, runs: &[&RunResult]) -> Self {
        let sound: Vec<_> = runs.iter().filter(|run| run.is_sound()).collect();
        let spread = |figure: fn(&RunResult) -> Option<f64>| Spread::new(sound.iter().filter_map(|run| figure(run)));
        let failed = |run: &RunResult| {
            let queries = run.database.iter().flat_map(|database| database.errors.values().copied());
            // A query without an answer was a request with a status of 503.
            sum(queries).max(run.errors.total())
        };
        Self {
            pool,
            through_pgbouncer: runs.iter().any(|run| is_through_pgbouncer(run)),
            hold_us: way.hold_us,
            pipeline: way.pipeline,
            rounds: runs.len(),
            sound_rounds: sound.len(),
            rps: spread(|run| run.rps),
            connection_wait_us: spread(|run| run.database.as_ref()?.connection_wait_us),
            answer_wait_us: spread(|run| run.database.as_ref()?.answer_wait_us),
            peak_bytes: spread(|run| run.memory.peak_bytes.map(|bytes| bytes as f64)),
            postgres_bytes: spread(|run| run.database.as_ref()?.postgres_bytes.map(|bytes| bytes as f64)),
            postgres_cpu_us: spread(|run| run.database.as_ref()?.postgres_cpu_us),
            errors: sum(sound.iter().map(|run| failed(run))),
        }
    }

    /// How many connections were in use on average, by Little's law: the answers of a second, times how long each took and
    /// its connection was held after it. `None` behind PgBouncer, where the server sees only how long both waits took
    /// together, and if several queries share a connection.
    pub fn busy(&self) -> Option<f64> {
        if self.through_pgbouncer || self.pipeline > 1 {
            return None;
        }
        Some(self.rps?.median * (self.answer_wait_us?.median + self.hold_us as f64) / 1e6)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{measured, with_pool as run};

    #[test]
    fn the_smallest_pool_that_brings_nearly_the_most_is_enough() {
        let mut runs = vec![run("async", 100, 1_000.0), run("async", 10, 500.0), run("async", 1_000, 1_040.0)];
        runs.push(run("prefork", 10, 7.0));
        let behind = runs[3].database.as_mut().unwrap();
        (behind.through_pgbouncer, behind.errors) = (true, [("pool_timeout".to_owned(), 2)].into());
        let study = PoolStudy::new(&runs).unwrap();
        assert_eq!(study.pools, [10, 100, 1_000]);
        let names: Vec<_> = study.servers.iter().map(|server| server.name.as_str()).collect();
        assert_eq!(names, ["prefork + PgBouncer", "async"]);
        let enough = study.servers[1].enough().unwrap();
        assert_eq!((enough.pool, enough.busy().map(f64::round)), (100, Some(10.0)));
        assert!(!study.servers[1].may_need_more());
        let rising = PoolStudy::new(&[run("async", 10, 500.0), run("async", 20, 1_000.0)]).unwrap();
        assert!(rising.servers[0].may_need_more() && rising.servers[0].enough().unwrap().pool == 20);
        let behind = &study.servers[0].sizes[0];
        assert_eq!((study.servers[0].sizes.len(), behind.busy(), behind.errors), (1, None, 2));
    }

    /// Each hold is a server of its own, and what is enough for it is judged among its own pools.
    #[test]
    fn a_held_connection_is_in_use_longer() {
        let held = |pool, rps, hold_us| {
            let mut run = run("async", pool, rps);
            run.database.as_mut().unwrap().hold_us = Some(hold_us);
            run
        };
        let mut runs = vec![held(10, 90.0, 100_000), held(100, 890.0, 100_000), held(10, 325.0, 20_000)];
        runs.extend([run("async", 10, 950.0), held(100, 950.0, 0)]);
        let study = PoolStudy::new(&runs).unwrap();
        let names: Vec<_> = study.servers.iter().map(PoolsOfServer::full_name).collect();
        assert_eq!(
            names,
            ["async", "async (holds 20ms)", "async (holds 100ms)"],
            "a file of before says nothing of it"
        );
        let enough = study.servers.iter().map(|server| server.enough().unwrap());
        let enough: Vec<_> = enough.map(|size| (size.pool, size.busy().map(f64::round))).collect();
        assert_eq!(enough, [(10, Some(10.0)), (10, Some(10.0)), (100, Some(98.0))]);
    }

    /// So is each number of queries on the way, and nobody knows how many connections those have in use.
    #[test]
    fn queries_that_share_a_connection_are_no_connections_in_use() {
        let pipelined = |pool, rps, pipeline| {
            let mut run = run("async", pool, rps);
            run.database.as_mut().unwrap().pipeline = Some(pipeline);
            run
        };
        let runs =
            [pipelined(10, 3_000.0, 8), pipelined(1, 1_000.0, 8), run("async", 10, 1_000.0), pipelined(1, 100.0, 1)];
        let study = PoolStudy::new(&runs).unwrap();
        let names: Vec<_> = study.servers.iter().map(PoolsOfServer::full_name).collect();
        assert_eq!(names, ["async", "async (pipelines 8)"], "a file of before says nothing of it");
        let [one, several] = [0, 1].map(|index| &study.servers[index].sizes[1]);
        assert_eq!((one.busy().map(f64::round), several.busy()), (Some(10.0), None));
    }

    #[test]
    fn what_failed_is_enough_for_nobody() {
        let failed = RunResult { complete: false, ..run("async", 10, 500.0) };
        let study = PoolStudy::new(&[failed]).unwrap();
        let size = &study.servers[0].sizes[0];
        assert_eq!((size.rounds, size.sound_rounds, size.rps, size.busy()), (1, 0, None, None));
        assert_eq!(study.servers[0].enough(), None);
    }

    #[test]
    fn other_runs_are_no_study() {
        assert!(PoolStudy::new(&[]).is_none());
        assert!(PoolStudy::new(&[run("async", 10, 1.0), measured("async", 10_000, 1)]).is_none());
        let mut other_wait = run("async", 10, 1.0);
        other_wait.wait.spec = "2s".into();
        assert!(PoolStudy::new(&[run("async", 10, 1.0), other_wait]).is_none());
    }
}
