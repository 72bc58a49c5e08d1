//! Users in several workers, as one load generator.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use load::{Elsewhere, Generator, Outcome, PortableSpec, Progress, Snapshot};
use results::Warning;
use results::latency::Latencies;
use results::run::{ClientSummary, ErrorReason, Fleet, Worker};

use super::clock::{self, Offset};
use super::link::{Link, State};
use super::wire::{Finished, ToWorker};

const PREPARE_TIMEOUT: Duration = Duration::from_secs(30);
const SNAPSHOT_TIMEOUT: Duration = Duration::from_secs(2);
/// The users may take 5 s to end, and a large outcome some more.
const FINISH_TIMEOUT: Duration = Duration::from_secs(30);
/// How far ahead the start of the window is announced, besides some round trips.
const LEAD_US: i64 = 30_000;

/// Users in several workers.
#[derive(Debug)]
pub(super) struct FleetGenerator {
    parts: Vec<Part>,
    /// Started by this process, on this machine.
    pids: Vec<i32>,
    /// The instant that was agreed on, by this clock.
    window_us: Option<i64>,
    snapshots: AtomicU64,
}

/// A worker's part of the load.
#[derive(Debug)]
struct Part {
    link: Arc<Link>,
    users: usize,
    clock: Offset,
}

impl FleetGenerator {
    /// Users in these workers, each of which is given specs and has so many users.
    ///
    /// # Errors
    /// A worker is lost, or cannot have so many users.
    pub(super) fn new(shares: Vec<(Arc<Link>, Vec<PortableSpec>)>, pids: Vec<i32>) -> Result<Self> {
        let mut parts = Vec::new();
        for (link, specs) in shares {
            link.reset();
            let users = specs.iter().map(|spec| spec.users).sum();
            link.send(&ToWorker::Prepare { specs });
            parts.push(Part { link, users, clock: Offset::default() });
        }
        for part in &mut parts {
            let link = &part.link;
            let prepare = || {
                link.wait(PREPARE_TIMEOUT, |state| state.is_prepared.then_some(()))?;
                link.clock_offset()
            };
            part.clock = prepare().with_context(|| format!("worker {}", link.name))?;
        }
        Ok(Self { parts, pids, window_us: None, snapshots: AtomicU64::new(0) })
    }

    fn tell(&self, message: &ToWorker) {
        self.parts.iter().for_each(|part| part.link.send(message));
    }

    /// What a worker's users observed; of one that is lost, what it has told.
    fn collect(part: &Part) -> (Finished, Option<String>) {
        match part.link.wait(FINISH_TIMEOUT, |state| state.finished.take()) {
            Ok(finished) => (*finished, None),
            Err(error) => (what_was_told(&part.link.state()), Some(format!("{error:#}"))),
        }
    }

    fn summary(&self, part: &Part, outcome: &Outcome, lost: Option<String>) -> Worker {
        let started_us = part.link.state().started_window_us.map(|at_us| at_us - part.clock.ahead_us);
        Worker {
            name: part.link.name.clone(),
            host: part.link.host.clone(),
            connections: part.users,
            requests: outcome.latencies.answered(),
            clock_offset_us: part.clock.ahead_us,
            round_trip_us: part.clock.round_trip_us,
            start_late_us: started_us.zip(self.window_us).map(|(started_us, window_us)| started_us - window_us),
            lost,
        }
    }
}

impl Generator for FleetGenerator {
    fn start(&mut self) -> Result<()> {
        self.tell(&ToWorker::Start);
        self.failure().map_or(Ok(()), |why| Err(anyhow!(why)))
    }

    fn permit(&mut self, users: usize) {
        self.tell(&ToWorker::Permit { users: users.div_ceil(self.parts.len().max(1)) });
    }

    fn go(&mut self) {
        self.tell(&ToWorker::Go);
    }

    /// Returns at the instant at which the workers were told to start the window.
    fn start_window(&mut self, duration: Duration) {
        let slowest_us = self.parts.iter().map(|part| part.clock.round_trip_us as i64).max().unwrap_or_default();
        let window_us = clock::now_us() + LEAD_US + 4 * slowest_us;
        for part in &self.parts {
            part.link.send(&ToWorker::StartWindow { at_us: window_us + part.clock.ahead_us, duration });
        }
        self.window_us = Some(window_us);
        clock::sleep_until(window_us);
    }

    fn end_window(&mut self) {
        self.tell(&ToWorker::EndWindow);
    }

    fn progress(&self) -> Progress {
        self.parts.iter().map(|part| part.link.state().progress).fold(Progress::default(), |sum, each| Progress {
            established: sum.established + each.established,
            greeted: sum.greeted + each.greeted,
            settled: sum.settled + each.settled,
        })
    }

    /// Asks all workers. Of one that does not answer, it is what it has last told.
    fn snapshot(&self) -> Snapshot {
        let number = self.snapshots.fetch_add(1, Relaxed) + 1;
        self.tell(&ToWorker::Snapshot { number });
        let mut sum = Snapshot { good_answers: Latencies::empty_histogram(), errors: 0 };
        for part in &self.parts {
            let is_new = |state: &mut State| state.snapshot.as_ref().filter(|(of, _)| *of == number).map(drop);
            // That it is lost shows in `failure`.
            let _ = part.link.wait(SNAPSHOT_TIMEOUT, is_new);
            if let Some((_, snapshot)) = &part.link.state().snapshot {
                sum.good_answers += &snapshot.good_answers;
                sum.errors += snapshot.errors;
            }
        }
        sum
    }

    fn failures(&self) -> Vec<ErrorReason> {
        let reasons: Vec<_> = self.parts.iter().flat_map(|part| part.link.state().failures.clone()).collect();
        ErrorReason::merge(&reasons)
    }

    fn failure(&mut self) -> Option<String> {
        self.parts.iter().find_map(|part| {
            let state = part.link.state();
            let name = &part.link.name;
            let lost = state.lost.as_ref().map(|why| lost_text(name, why));
            lost.or_else(|| state.failure.as_ref().map(|why| format!("worker {name}: {why}")))
        })
    }

    fn pids(&self) -> Vec<i32> {
        self.pids.clone()
    }

    fn stop(&mut self) {
        self.tell(&ToWorker::Stop);
    }

    /// Adds up what the workers observed, histogram by histogram and count by count.
    fn finish(self: Box<Self>) -> Outcome {
        self.tell(&ToWorker::Finish);
        let (mut sum, mut workers, mut warnings) = (Outcome::empty(), Vec::new(), Vec::new());
        let mut clients = Vec::new();
        for part in &self.parts {
            let (finished, lost) = Self::collect(part);
            if let Some(why) = &lost {
                sum.failure.get_or_insert_with(|| lost_text(&part.link.name, why));
            }
            workers.push(self.summary(part, &finished.outcome, lost));
            // This machine's CPUs are watched by this process, which knows the server, too.
            if !part.link.is_here {
                warnings.extend(finished.warnings.into_iter().map(|warning| of_worker(&part.link.name, warning)));
            }
            clients.push(finished.client);
            sum = sum + finished.outcome;
        }
        let elsewhere = Elsewhere { fleet: Fleet::new(workers), client: total(&clients), warnings };
        Outcome { elsewhere: Some(elsewhere), ..sum }
    }
}

fn lost_text(name: &str, why: &str) -> String {
    format!("worker {name} was lost: {why}; the figures are what the others measured, and it until then")
}

fn of_worker(name: &str, warning: Warning) -> Warning {
    Warning::new(warning.kind, format!("worker {name}: {}", warning.text))
}

/// What a lost worker has told: its last snapshot.
fn what_was_told(state: &State) -> Finished {
    let answers = state.snapshot.as_ref().map(|(_, snapshot)| snapshot.good_answers.clone());
    let latencies = answers.map_or_else(Latencies::new, Latencies::of_good_answers);
    let outcome = Outcome {
        answers: latencies.answered(),
        latencies,
        established: state.progress.established,
        error_reasons: state.failures.clone(),
        ..Outcome::empty()
    };
    Finished { outcome, client: ClientSummary::default(), warnings: Vec::new() }
}

/// What the workers cost together. A sum without one of them would be too low.
fn total(clients: &[ClientSummary]) -> ClientSummary {
    ClientSummary {
        cpu_s: clients.iter().map(|client| client.cpu_s).sum(),
        rss_peak_bytes: clients.iter().map(|client| client.rss_peak_bytes).sum(),
        lag_p99_us: clients.iter().map(|client| client.lag_p99_us).max().flatten(),
    }
}
