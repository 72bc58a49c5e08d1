//! Runs the users with goose. It has a user of its own for each thread, with one transaction, which lasts as long as the run
//! and starts a task for each of its slice of our users: as goose's users, they would take twice the RAM.
//!
//! goose's own client is not used: a reqwest client per user takes ten times the RAM and the start-up time, and a
//! shared one breaks "one user, one connection". So goose gets one idle client, and every user has a TCP connection of
//! its own. Latencies go to our own histograms, to the last byte and including unanswered requests: goose times the
//! first byte, and does not see what never ends.

use std::future::pending;
use std::iter::Sum;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};
use goose::client::GooseClientBuilder;
use goose::config::GooseConfiguration;
use goose::goose::{Scenario, Transaction, TransactionFunction, TransactionResult};
use goose::{GooseAttack, GooseError};
use results::latency::Latencies;
use results::run::ErrorReason;
use tokio::runtime::{Builder, Runtime};
use tokio::task::{JoinHandle, JoinSet};

use crate::generator::{Generator, Outcome, Progress, Snapshot};
use crate::shared::{Shared, Stage};
use crate::spec::LoadSpec;
use crate::split::split;
use crate::timer::WAKEUP;
use crate::{user, watch};

/// goose starts its users one by one at this rate.
const USERS_PER_SECOND: &str = "1000";
/// How long the users may take to finish.
const END_TIMEOUT: Duration = Duration::from_secs(5);

/// A generator whose users run in this process.
#[derive(Debug)]
pub struct GooseGenerator {
    /// One for each runtime, shared by its users.
    shares: Vec<Arc<Shared>>,
    running: Vec<Running>,
}

/// A runtime and the users in it.
#[derive(Debug)]
struct Running {
    runtime: Runtime,
    goose: JoinHandle<Result<(), GooseError>>,
}

impl GooseGenerator {
    /// A generator that has not started. The users of each spec get threads of their own. With a rate these watch the clock
    /// before a request is due, if this process has a CPU more than they are.
    ///
    /// # Errors
    /// No file descriptor is left.
    pub fn new(specs: impl IntoIterator<Item = LoadSpec>) -> Result<Self> {
        let specs: Vec<_> = specs.into_iter().collect();
        let threads: usize = specs.iter().map(|spec| spec.threads).sum();
        let has_spare_cpu = thread::available_parallelism().is_ok_and(|cpus| cpus.get() > threads);
        let has_rate = specs.iter().any(|spec| spec.interval.is_some());
        Self::watching(if has_rate && has_spare_cpu { WAKEUP } else { Duration::ZERO }, specs)
    }

    /// The same in one process of several, which may have the same CPUs: no thread watches the clock.
    ///
    /// # Errors
    /// No file descriptor is left.
    pub fn new_in_fleet(specs: Vec<LoadSpec>) -> Result<Self> {
        Self::watching(Duration::ZERO, specs)
    }

    fn watching(watch: Duration, specs: Vec<LoadSpec>) -> Result<Self> {
        let share = |spec| Shared::new(spec, watch).map(Arc::new).context("cannot make a timer");
        let shares = specs.into_iter().map(share).collect::<Result<_>>()?;
        Ok(Self { shares, running: Vec::new() })
    }

    fn total<T: Sum>(&self, count: impl Fn(&Shared) -> T) -> T {
        self.shares.iter().map(|shared| count(shared)).sum()
    }
}

impl Generator for GooseGenerator {
    fn start(&mut self) -> Result<()> {
        for shared in &self.shares {
            self.running.push(Running::start(shared)?);
        }
        Ok(())
    }

    fn permit(&mut self, users: usize) {
        // Every runtime has about the same number of users.
        let share = users.div_ceil(self.shares.len().max(1));
        self.shares.iter().for_each(|shared| shared.connect_permits.add_permits(share));
    }

    fn go(&mut self) {
        self.shares.iter().for_each(|shared| shared.enter(Stage::Go));
    }

    fn start_window(&mut self, duration: Duration) {
        self.shares.iter().for_each(|shared| shared.start_window(duration));
    }

    fn end_window(&mut self) {
        self.shares.iter().for_each(|shared| shared.end_window());
    }

    fn progress(&self) -> Progress {
        Progress {
            established: self.total(|shared| shared.observations.established()),
            greeted: self.total(Shared::greeted),
            settled: self.total(Shared::settled),
        }
    }

    fn snapshot(&self) -> Snapshot {
        let mut good_answers = Latencies::empty_histogram();
        self.shares.iter().for_each(|shared| good_answers += &shared.observations.good_answers());
        Snapshot { good_answers, errors: self.total(|shared| shared.observations.failures.within().total()) }
    }

    fn failures(&self) -> Vec<ErrorReason> {
        let reasons: Vec<_> = self.shares.iter().flat_map(|shared| shared.observations.failures.reasons()).collect();
        ErrorReason::merge(&reasons)
    }

    fn failure(&mut self) -> Option<String> {
        let source_failure = self.shares.iter().find_map(|shared| shared.spec.requests.failure());
        source_failure.or_else(|| self.running.iter_mut().find_map(Running::failure))
    }

    fn watches_clock(&self) -> bool {
        self.shares.iter().any(|shared| shared.timer.watches_clock())
    }

    fn stop(&mut self) {
        self.shares.iter().for_each(|shared| shared.enter(Stage::Stop));
    }

    fn finish(self: Box<Self>) -> Outcome {
        // goose checks every half second whether its users finished; nothing is left to wait for.
        self.running.into_iter().for_each(|running| running.runtime.shutdown_timeout(END_TIMEOUT));
        let failure = self.shares.iter().find_map(|shared| shared.spec.requests.failure());
        let outcome = self.shares.iter().fold(Outcome::empty(), |outcome, shared| outcome + shared.finish());
        Outcome { failure, ..outcome }
    }
}

impl Running {
    /// Starts the users on threads of their own.
    fn start(shared: &Arc<Shared>) -> Result<Self> {
        let mut builder = Builder::new_multi_thread();
        let runtime = builder.worker_threads(shared.spec.threads).enable_all().thread_name("load").build();
        let runtime = runtime.context("cannot start the load generator's threads")?;
        let attack = attack(shared).context("cannot start goose")?;
        runtime.spawn(watch::timer(shared.clone()));
        runtime.spawn(watch::lag(shared.clone()));
        runtime.spawn(watch::rates(shared.clone()));
        let goose = runtime.spawn(async { attack.execute().await.map(drop) });
        Ok(Self { runtime, goose })
    }

    /// Why goose stopped, if it did.
    fn failure(&mut self) -> Option<String> {
        if !self.goose.is_finished() {
            return None;
        }
        let outcome = self.runtime.block_on(&mut self.goose);
        Some(match outcome {
            Ok(Ok(())) => "all users ended".into(),
            Ok(Err(error)) => error.to_string(),
            Err(panic) => panic.to_string(),
        })
    }
}

fn attack(shared: &Arc<Shared>) -> Result<GooseAttack, GooseError> {
    let slices = slices(shared.spec.users, shared.spec.threads);
    let count = slices.len();
    let slices = Arc::new(Mutex::new(slices));
    let shared_by_slices = shared.clone();
    let function: TransactionFunction = Arc::new(move |_| {
        let slice = slices.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default();
        Box::pin(run_users(shared_by_slices.clone(), slice))
    });
    let idle_client = GooseClientBuilder::new().without_cookies().accept_invalid_certs(true);
    let scenario = Scenario::new("hold").register_transaction(Transaction::new(function));
    Ok(GooseAttack::initialize_with_config(configuration(shared.spec.endpoint.address, count)?)?
        .set_client_builder_without_cookies(idle_client)?
        .register_scenario(scenario))
}

/// The users' numbers, divided evenly among so many threads.
fn slices(users: usize, threads: usize) -> Vec<Range<usize>> {
    let mut start = 0;
    let slice = |users| {
        start += users;
        start - users..start
    };
    split(users, threads).map(slice).filter(|slice| !slice.is_empty()).collect()
}

/// Runs these users to their end, and then waits: otherwise goose starts the transaction again.
async fn run_users(shared: Arc<Shared>, numbers: Range<usize>) -> TransactionResult {
    let mut users = JoinSet::new();
    for number in numbers {
        let shared = shared.clone();
        users.spawn(async move { user::run(&shared, number).await });
    }
    users.join_all().await;
    pending().await
}

fn configuration(address: SocketAddr, users: usize) -> Result<GooseConfiguration, GooseError> {
    let host = format!("http://{address}");
    let users = users.to_string();
    GooseConfiguration::parse_args_default(&[
        "--host",
        &host,
        "--users",
        &users,
        "--increase-rate",
        USERS_PER_SECOND,
        "--no-metrics",
        "--no-telnet",
        "-qqq",
    ])
}
