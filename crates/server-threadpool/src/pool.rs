//! A bounded queue of work, and a fixed number of workers who may block.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use anyhow::{Context as _, Result};
use common::app::Work;
use common::counters::Counters;
use mio::{Token, Waker};

/// A worker's stack; it holds little more than a query.
const STACK_BYTES: usize = 128 * 1024;

/// Workers, what they shall do, and what they have done.
pub(crate) struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
}

struct Shared {
    max_queued: usize,
    counters: &'static Counters,
    queue: Mutex<Queue>,
    work_queued: Condvar,
    done: Mutex<Vec<Done>>,
    /// Wakes the reactor.
    waker: Waker,
}

#[derive(Default)]
struct Queue {
    /// In the order of their tickets, without a gap; one that was cancelled has left its place.
    jobs: VecDeque<Option<Job>>,
    /// The ticket of the job at the front.
    first: Ticket,
    /// How many jobs are there.
    waiting: usize,
    is_closed: bool,
}

/// The number of a job, in the order in which they were queued.
pub(crate) type Ticket = u64;

struct Job {
    token: Token,
    work: Work,
}

/// The outcome of one job.
pub(crate) struct Done {
    /// The connection that it was done for.
    pub(crate) token: Token,
    /// The work panicked: there is no answer.
    pub(crate) has_panicked: bool,
}

/// The queue is full.
pub(crate) struct Full;

impl Pool {
    /// Starts the workers, whose stacks have room for `touched_bytes` more. `waker` is woken when the first of some jobs is done.
    pub(crate) fn start(
        workers: usize,
        max_queued: usize,
        touched_bytes: usize,
        counters: &'static Counters,
        waker: Waker,
        handle: impl Fn(Work) + Clone + Send + 'static,
    ) -> Result<Self> {
        let shared = Arc::new(Shared {
            max_queued,
            counters,
            queue: Mutex::default(),
            work_queued: Condvar::new(),
            done: Mutex::default(),
            waker,
        });
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
    pub(crate) fn submit(&self, token: Token, work: Work) -> Result<Ticket, Full> {
        let mut queue = lock(&self.shared.queue);
        // Backpressure: the queue is bounded, and the client gets a 503.
        if queue.waiting >= self.shared.max_queued {
            return Err(Full);
        }
        let ticket = queue.push(Job { token, work });
        self.shared.counters.queued.fetch_add(1, Relaxed);
        self.shared.work_queued.notify_one();
        Ok(ticket)
    }

    /// Takes work back that no worker has begun; false if it is too late for that.
    pub(crate) fn cancel(&self, ticket: Ticket) -> bool {
        let is_cancelled = lock(&self.shared.queue).take(ticket).is_some();
        self.shared.counters.queued.fetch_sub(u64::from(is_cancelled), Relaxed);
        is_cancelled
    }

    /// What was done since the last call.
    pub(crate) fn done(&self) -> Vec<Done> {
        std::mem::take(&mut lock(&self.shared.done))
    }

    /// Waits until the workers have done what is queued.
    pub(crate) fn join(self) {
        lock(&self.shared.queue).is_closed = true;
        self.shared.work_queued.notify_all();
        for worker in self.workers {
            // A worker catches the panics of its work, so there is no other.
            let _ = worker.join();
        }
    }
}

impl Queue {
    fn push(&mut self, job: Job) -> Ticket {
        let ticket = self.first + self.jobs.len() as u64;
        self.jobs.push_back(Some(job));
        self.waiting += 1;
        ticket
    }

    /// The job with this ticket, if it is still there.
    fn take(&mut self, ticket: Ticket) -> Option<Job> {
        let index = usize::try_from(ticket.checked_sub(self.first)?).ok()?;
        let job = self.jobs.get_mut(index)?.take();
        self.waiting -= usize::from(job.is_some());
        job
    }

    /// The next job.
    fn pop(&mut self) -> Option<Job> {
        while let Some(place) = self.jobs.pop_front() {
            self.first += 1;
            if place.is_some() {
                self.waiting -= 1;
                return place;
            }
        }
        None
    }
}

impl Shared {
    /// One worker: does jobs until the queue is closed and empty.
    fn work(&self, handle: impl Fn(Work)) {
        while let Some(Job { token, work }) = self.next_job() {
            let has_panicked = catch_unwind(AssertUnwindSafe(|| handle(work))).is_err();
            let mut done = lock(&self.done);
            done.push(Done { token, has_panicked });
            // Whoever pushed before has woken the reactor, and it has not looked yet.
            if done.len() == 1 {
                // It fails if the reactor is gone, which then needs no answer.
                let _ = self.waker.wake();
            }
        }
    }

    fn next_job(&self) -> Option<Job> {
        let mut queue = lock(&self.queue);
        loop {
            if let Some(job) = queue.pop() {
                self.counters.queued.fetch_sub(1, Relaxed);
                return Some(job);
            }
            if queue.is_closed {
                return None;
            }
            queue = self.work_queued.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// No code panics while it holds one of these locks.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(number: usize) -> Job {
        Job { token: Token(number), work: Work::Nothing }
    }

    #[test]
    fn a_cancelled_job_is_skipped_and_no_other() {
        let mut queue = Queue::default();
        let tickets: Vec<Ticket> = (0..5).map(|number| queue.push(job(number))).collect();
        assert_eq!(queue.pop().map(|job| job.token), Some(Token(0)));
        assert!(queue.take(tickets[0]).is_none(), "a worker has it");
        assert!(queue.take(tickets[1]).is_some() && queue.take(tickets[3]).is_some());
        assert!(queue.take(tickets[3]).is_none(), "it was cancelled before");
        assert_eq!(queue.waiting, 2);
        let last = queue.push(job(5));
        let order: Vec<Token> = std::iter::from_fn(|| queue.pop()).map(|job| job.token).collect();
        assert_eq!(order, [Token(2), Token(4), Token(5)]);
        assert_eq!((queue.waiting, queue.take(last).is_none()), (0, true));
    }
}
