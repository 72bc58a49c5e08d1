//! The queue between the reactor and the workers: bounded, and what nobody waits for can be taken back.

use std::collections::VecDeque;
use std::sync::PoisonError;

use common::app::Plan;
use mio::Token;

use crate::sync::{Condvar, Mutex, MutexGuard};

/// Work that is queued, in the order in which it was.
pub(crate) struct Jobs {
    max: usize,
    queue: Mutex<Queue>,
    queued: Condvar,
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

pub(crate) struct Job {
    /// The connection that it is for.
    pub(crate) token: Token,
    pub(crate) plan: Plan,
}

/// The queue is full.
#[derive(Debug)]
pub(crate) struct Full;

impl Jobs {
    /// A queue for at most so many.
    pub(crate) fn new(max: usize) -> Self {
        Self { max, queue: Mutex::new(Queue::default()), queued: Condvar::new() }
    }

    pub(crate) fn push(&self, job: Job) -> Result<Ticket, Full> {
        let mut queue = self.lock();
        // Backpressure: the queue is bounded, and the client gets a 503.
        if queue.waiting >= self.max {
            return Err(Full);
        }
        let ticket = queue.first + queue.jobs.len() as u64;
        queue.jobs.push_back(Some(job));
        queue.waiting += 1;
        self.queued.notify_one();
        Ok(ticket)
    }

    /// Takes a job back; false if somebody has it already.
    pub(crate) fn cancel(&self, ticket: Ticket) -> bool {
        let mut queue = self.lock();
        let index = ticket.checked_sub(queue.first).and_then(|index| usize::try_from(index).ok());
        let job = index.and_then(|index| queue.jobs.get_mut(index)?.take());
        queue.waiting -= usize::from(job.is_some());
        job.is_some()
    }

    /// The next job, as soon as there is one; `None` when the queue is closed and empty.
    pub(crate) fn pop(&self) -> Option<Job> {
        let mut queue = self.lock();
        loop {
            while let Some(place) = queue.jobs.pop_front() {
                queue.first += 1;
                if place.is_some() {
                    queue.waiting -= 1;
                    return place;
                }
            }
            if queue.is_closed {
                return None;
            }
            queue = self.queued.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Nothing more will be queued: whoever waits for a job when all are done waits no longer.
    pub(crate) fn close(&self) {
        self.lock().is_closed = true;
        self.queued.notify_all();
    }

    /// No code panics while it holds the lock.
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use common::app::Work;
    use common::http::Response;
    use loom::sync::Arc;
    use loom::thread;

    use super::*;

    fn job(number: usize) -> Job {
        Job { token: Token(number), plan: Plan { work: Work::Nothing, response: Response::full() } }
    }

    fn drain(jobs: &Jobs) -> Vec<usize> {
        std::iter::from_fn(|| jobs.pop()).map(|job| job.token.0).collect()
    }

    #[test]
    fn a_cancelled_job_is_skipped_and_no_other() {
        loom::model(|| {
            let jobs = Jobs::new(5);
            let tickets: Vec<Ticket> = (0..5).map(|number| jobs.push(job(number)).unwrap()).collect();
            assert!(jobs.push(job(9)).is_err(), "there is room for five");
            assert_eq!(jobs.pop().map(|job| job.token), Some(Token(0)));
            assert!(!jobs.cancel(tickets[0]), "somebody has it");
            assert!(jobs.cancel(tickets[1]) && jobs.cancel(tickets[3]));
            assert!(!jobs.cancel(tickets[3]), "it was cancelled before");
            let last = jobs.push(job(5)).unwrap();
            jobs.close();
            assert_eq!(drain(&jobs), [2, 4, 5]);
            assert!(!jobs.cancel(last));
        });
    }

    /// Whatever the order: each job is done once, or cancelled, and all workers come to an end.
    #[test]
    fn each_job_is_done_or_cancelled_and_the_workers_end() {
        // More preemptions than two find nothing else, and take minutes.
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(2);
        model.check(|| {
            let jobs = Arc::new(Jobs::new(2));
            let workers = [(); 2].map(|()| {
                let jobs = jobs.clone();
                thread::spawn(move || drain(&jobs))
            });
            let first = jobs.push(job(0)).unwrap();
            let second = jobs.push(job(1));
            let cancelled = jobs.cancel(first).then_some(0);
            jobs.close();
            let done = workers.into_iter().flat_map(|worker| worker.join().unwrap());
            let mut all: Vec<usize> = done.chain(cancelled).collect();
            all.sort_unstable();
            let expected: Vec<usize> = (0..1 + usize::from(second.is_ok())).collect();
            assert_eq!(all, expected);
        });
    }
}
