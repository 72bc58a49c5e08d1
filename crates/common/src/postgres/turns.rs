//! Turns for threads: a bounded number at once, in the order in which they came.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::error::Error;

/// Turns for threads. Fair: who ends gives his turn to whoever has waited longest, so that nobody who just comes is faster.
#[derive(Debug)]
pub(super) struct Turns {
    queue: Mutex<Queue>,
    max_waiting: usize,
}

#[derive(Debug)]
struct Queue {
    free: usize,
    waiting: VecDeque<Arc<Waiter>>,
}

#[derive(Debug, Default)]
struct Waiter {
    /// Changed under the lock of the queue only.
    has_turn: AtomicBool,
    given: Condvar,
}

impl Turns {
    /// So many at once, and so many who wait.
    pub(super) fn new(count: usize, max_waiting: usize) -> Self {
        Self { queue: Mutex::new(Queue { free: count, waiting: VecDeque::new() }), max_waiting }
    }

    /// Blocks until it is the caller's turn.
    ///
    /// # Errors
    /// Too many wait already, or it took longer than `timeout`.
    pub(super) fn wait(&self, timeout: Duration) -> Result<Turn<'_>, Error> {
        let mut queue = self.lock();
        if queue.free > 0 {
            queue.free -= 1;
            return Ok(Turn(self));
        }
        if queue.waiting.len() >= self.max_waiting {
            return Err(Error::queue_full(self.max_waiting));
        }
        let waiter = Arc::new(Waiter::default());
        queue.waiting.push_back(waiter.clone());
        let deadline = Instant::now() + timeout;
        while !waiter.has_turn.load(Relaxed) {
            let remaining = deadline.saturating_duration_since(Instant::now());
            if remaining.is_zero() {
                queue.waiting.retain(|other| !Arc::ptr_eq(other, &waiter));
                return Err(Error::pool_timeout());
            }
            queue = waiter.given.wait_timeout(queue, remaining).unwrap_or_else(PoisonError::into_inner).0;
        }
        Ok(Turn(self))
    }

    fn give_back(&self) {
        let mut queue = self.lock();
        match queue.waiting.pop_front() {
            Some(waiter) => {
                waiter.has_turn.store(true, Relaxed);
                waiter.given.notify_one();
            }
            None => queue.free += 1,
        }
    }

    /// No code panics while it holds the lock.
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A turn, which goes to the next when it is dropped, also by a panic.
#[derive(Debug)]
pub(super) struct Turn<'a>(&'a Turns);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.give_back();
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::super::error::Kind;
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn turns_are_given_in_order() {
        let turns = Turns::new(1, 10);
        let order = Mutex::new(Vec::new());
        let first = turns.wait(LONG).unwrap();
        thread::scope(|scope| {
            for number in 0..5 {
                let (turns, order) = (&turns, &order);
                scope.spawn(move || {
                    let _turn = turns.wait(LONG).unwrap();
                    order.lock().unwrap().push(number);
                });
                while turns.lock().waiting.len() <= number {
                    thread::yield_now();
                }
            }
            drop(first);
        });
        assert_eq!(*order.lock().unwrap(), [0, 1, 2, 3, 4]);
        assert_eq!(turns.lock().free, 1);
    }

    #[test]
    fn who_waits_too_long_or_too_many_is_told_so() {
        let turns = Turns::new(1, 1);
        let turn = turns.wait(LONG).unwrap();
        assert_eq!(turns.wait(Duration::from_millis(1)).unwrap_err().kind, Kind::PoolTimeout);
        thread::scope(|scope| {
            scope.spawn(|| turns.wait(LONG).map(drop).unwrap());
            while turns.lock().waiting.is_empty() {
                thread::yield_now();
            }
            assert_eq!(turns.wait(LONG).unwrap_err().kind, Kind::QueueFull);
            drop(turn);
        });
        assert!(turns.wait(LONG).is_ok(), "no turn is lost");
    }
}
