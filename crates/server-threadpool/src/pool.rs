//! A fixed number of workers who may block, behind a bounded queue.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context as _, Result};
use common::app::Plan;
use common::counters::Counters;
use common::draining::Draining;
use common::http::Response;
use mio::{Token, Waker};

use crate::jobs::{Full, Job, Jobs, Ticket};

/// A worker's stack; it holds little more than a query.
const STACK_BYTES: usize = 128 * 1024;

/// How often it is looked whether all workers have ended.
const JOIN_INTERVAL: Duration = Duration::from_millis(5);

/// Workers, what they shall do, and what they have done.
pub(crate) struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
}

struct Shared {
    counters: &'static Counters,
    jobs: Jobs,
    done: Mutex<Vec<Done>>,
    /// Wakes the reactor.
    waker: Waker,
}

/// The outcome of one job.
pub(crate) struct Done {
    /// The connection that it was done for.
    pub(crate) token: Token,
    /// The answer; `None` if the work panicked.
    pub(crate) response: Option<Response>,
}

impl Pool {
    /// Starts the workers, whose stacks have room for `touched_bytes` more. `waker` is woken when the first of some jobs is done.
    pub(crate) fn start(
        workers: usize,
        max_queued: usize,
        touched_bytes: usize,
        counters: &'static Counters,
        waker: Waker,
        handle: impl Fn(Plan) -> Response + Clone + Send + 'static,
    ) -> Result<Self> {
        let shared = Arc::new(Shared { counters, jobs: Jobs::new(max_queued), done: Mutex::default(), waker });
        let start_one = |_| {
            let (shared, handle) = (shared.clone(), handle.clone());
            thread::Builder::new().stack_size(STACK_BYTES + touched_bytes).spawn(move || shared.work(handle))
        };
        let workers = (0..workers)
            .map(start_one)
            .collect::<Result<_, _>>()
            .context("the workers could not be started: lower --workers, or raise `ulimit -u`")?;
        Ok(Self { shared, workers })
    }

    /// Queues work for a connection.
    pub(crate) fn submit(&self, token: Token, plan: Plan) -> Result<Ticket, Full> {
        // Counted before, for a worker may be faster than this.
        self.shared.counters.queued.fetch_add(1, Relaxed);
        self.shared.jobs.push(Job { token, plan }).inspect_err(|Full| self.shared.uncount())
    }

    /// Takes work back that no worker has begun; false if it is too late for that.
    pub(crate) fn cancel(&self, ticket: Ticket) -> bool {
        let is_cancelled = self.shared.jobs.cancel(ticket);
        if is_cancelled {
            self.shared.uncount();
        }
        is_cancelled
    }

    /// What was done since the last call.
    pub(crate) fn done(&self) -> Vec<Done> {
        std::mem::take(&mut lock(&self.shared.done))
    }

    /// Waits until the workers have done what is queued, or for as long as the drain may take: who left before his query
    /// was answered must not hold it up.
    pub(crate) fn join(self, draining: &Draining) {
        self.shared.jobs.close();
        while !self.workers.iter().all(JoinHandle::is_finished) && draining.remaining().is_some() {
            thread::sleep(JOIN_INTERVAL);
        }
    }
}

impl Shared {
    /// One worker: does jobs until the queue is closed and empty.
    fn work(&self, handle: impl Fn(Plan) -> Response) {
        while let Some(Job { token, plan }) = self.jobs.pop() {
            self.uncount();
            let response = catch_unwind(AssertUnwindSafe(|| handle(plan))).ok();
            let mut done = lock(&self.done);
            done.push(Done { token, response });
            // Whoever pushed before has woken the reactor, and it has not looked yet.
            if done.len() == 1 {
                // It fails if the reactor is gone, which then needs no answer.
                let _ = self.waker.wake();
            }
        }
    }

    /// One request less waits for a worker.
    fn uncount(&self) {
        self.counters.queued.fetch_sub(1, Relaxed);
    }
}

/// No code panics while it holds this lock.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
