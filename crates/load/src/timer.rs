//! A timer as precise as the kernel's. tokio's ticks once a millisecond, and with a rate that would be in every latency.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::future::poll_fn;
use std::io;
use std::mem;
use std::os::fd::AsFd as _;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::task::yield_now;

/// Zero would disarm the timer.
const SHORTEST: Duration = Duration::from_nanos(1);
/// How late an idle CPU wakes up at the most, but for 1 % of the time: 98 us were measured on a virtual machine.
pub(crate) const WAKEUP: Duration = Duration::from_micros(100);

/// One kernel timer for all who wait.
#[derive(Debug)]
pub(crate) struct Timer {
    fd: TimerFd,
    /// How long before an alarm it stops to sleep, and watches the clock instead.
    watch: Duration,
    alarms: Mutex<BinaryHeap<Alarm>>,
}

/// Whom to wake, and when.
#[derive(Debug)]
struct Alarm {
    due: Instant,
    waker: Waker,
}

impl Timer {
    /// A timer without alarms, which watches the clock for this long before each.
    ///
    /// # Errors
    /// No file descriptor is left.
    pub(crate) fn new(watch: Duration) -> io::Result<Self> {
        let fd = TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC)?;
        Ok(Self { fd, watch, alarms: Mutex::default() })
    }

    /// Whether it watches the clock before an alarm.
    pub(crate) fn watches_clock(&self) -> bool {
        !self.watch.is_zero()
    }

    /// Waits until `due`, while [`run`](Self::run) runs.
    pub(crate) async fn wait_until(&self, due: Instant) {
        let mut is_set = false;
        poll_fn(|context| {
            if Instant::now() >= due {
                return Poll::Ready(());
            }
            if !mem::replace(&mut is_set, true) {
                self.set(Alarm { due, waker: context.waker().clone() });
            }
            Poll::Pending
        })
        .await;
    }

    /// Wakes those who wait, for as long as it is polled.
    ///
    /// # Errors
    /// The runtime cannot watch the timer.
    pub(crate) async fn run(&self) -> io::Result<()> {
        #[expect(
            deprecated,
            reason = "its successor is unsafe, for types that could close or replace their descriptor"
        )]
        let fd = AsyncFd::with_interest(self.fd.as_fd(), Interest::READABLE)?;
        loop {
            // Setting the timer resets its count of expirations, so there is nothing to read.
            fd.readable().await?.clear_ready();
            while self.wake_due() {
                // Whatever else is ready comes first: answers are read as soon as they arrive.
                yield_now().await;
            }
        }
    }

    fn set(&self, alarm: Alarm) {
        let mut alarms = self.alarms();
        let is_first = alarms.peek().is_none_or(|first| alarm.due < first.due);
        alarms.push(alarm);
        if is_first {
            self.arm(&alarms);
        }
    }

    /// Wakes those whose time has come. Returns whether the next one's is so near that the clock is to be watched.
    fn wake_due(&self) -> bool {
        let mut alarms = self.alarms();
        let now = Instant::now();
        while alarms.peek().is_some_and(|alarm| alarm.due <= now) {
            alarms.pop().into_iter().for_each(|alarm| alarm.waker.wake());
        }
        let is_near = alarms.peek().is_some_and(|alarm| alarm.due <= now + self.watch);
        if !is_near {
            self.arm(&alarms);
        }
        is_near
    }

    /// Sets the kernel's timer to the first alarm.
    fn arm(&self, alarms: &BinaryHeap<Alarm>) {
        let Some(first) = alarms.peek() else { return };
        let left = first.due.saturating_duration_since(Instant::now() + self.watch).max(SHORTEST);
        // It fails only for invalid arguments.
        let _ = self.fd.set(Expiration::OneShot(TimeSpec::from(left)), TimerSetTimeFlags::empty());
    }

    fn alarms(&self) -> MutexGuard<'_, BinaryHeap<Alarm>> {
        self.alarms.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ord for Alarm {
    /// The earliest is the greatest, for the heap.
    fn cmp(&self, other: &Self) -> Ordering {
        other.due.cmp(&self.due)
    }
}

impl PartialOrd for Alarm {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Alarm {
    fn eq(&self, other: &Self) -> bool {
        self.due == other.due
    }
}

impl Eq for Alarm {}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::runtime::Builder;

    use super::*;

    #[test]
    fn those_who_wait_are_woken_in_order_and_never_early() {
        // The last one is as long as all.
        [Duration::ZERO, WAKEUP, Duration::from_secs(1)].into_iter().for_each(wakes_in_order);
    }

    fn wakes_in_order(watch: Duration) {
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let timer = Arc::new(Timer::new(watch).unwrap());
        let driver = timer.clone();
        runtime.spawn(async move { driver.run().await });
        let start = Instant::now();
        let woken = Arc::new(Mutex::new(Vec::new()));
        let waits = [30, 10, 20, 0].map(|wait_ms| {
            let (timer, woken) = (timer.clone(), woken.clone());
            runtime.spawn(async move {
                let due = start + Duration::from_millis(wait_ms);
                timer.wait_until(due).await;
                assert!(Instant::now() >= due);
                woken.lock().unwrap().push(wait_ms);
            })
        });
        runtime.block_on(async {
            for wait in waits {
                wait.await.unwrap();
            }
        });
        assert_eq!(*woken.lock().unwrap(), [0, 10, 20, 30]);
    }
}
