//! The tasks that are to be polled at a certain time.

use std::collections::BTreeSet;
use std::num::NonZeroU64;
use std::time::{Duration, Instant};

use super::ring::Token;

/// Nanoseconds since the timers were made: half as large as an [`Instant`], of which there would be two for each of 10,000
/// tasks.
pub(crate) type Moment = NonZeroU64;

/// When to poll which task.
pub(crate) struct Timers {
    start: Instant,
    queue: BTreeSet<(Moment, Token)>,
}

impl Timers {
    pub(crate) fn new() -> Self {
        Self { start: Instant::now(), queue: BTreeSet::new() }
    }

    /// Sets the timer of a task, unless it is set to an earlier time: who is polled too early asks again, and to postpone
    /// costs nothing.
    pub(crate) fn set(&mut self, token: Token, timer: &mut Option<Moment>, at: Instant) {
        let at = self.moment(at);
        if timer.is_none_or(|timer| timer > at) {
            self.remove(token, timer.replace(at));
            self.queue.insert((at, token));
        }
    }

    /// Forgets a timer that was set.
    pub(crate) fn remove(&mut self, token: Token, timer: Option<Moment>) {
        if let Some(timer) = timer {
            self.queue.remove(&(timer, token));
        }
    }

    /// A task whose time has come. Its timer is no longer set.
    pub(crate) fn pop(&mut self, now: Instant) -> Option<Token> {
        let now = self.moment(now);
        self.queue.first().is_some_and(|(at, _)| *at <= now).then(|| self.queue.pop_first())?.map(|(_, token)| token)
    }

    /// How long until the first.
    pub(crate) fn remaining(&self) -> Option<Duration> {
        let (at, _) = self.queue.first()?;
        Some(Duration::from_nanos(at.get()).saturating_sub(self.start.elapsed()))
    }

    fn moment(&self, at: Instant) -> Moment {
        let since_start = at.saturating_duration_since(self.start).as_nanos();
        Moment::MIN.saturating_add(u64::try_from(since_start).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timer_comes_forward_and_is_not_put_off() {
        let mut timers = Timers::new();
        let at = |seconds| timers.start + Duration::from_secs(seconds);
        let [one, two, three, four] = [1, 2, 3, 4].map(at);
        let (mut first, mut second) = (None, None);
        timers.set(7, &mut first, three);
        timers.set(8, &mut second, two);
        timers.set(8, &mut second, four);
        assert_eq!((timers.pop(one), timers.queue.len()), (None, 2));
        timers.set(7, &mut first, one);
        assert!(timers.remaining().is_some_and(|remaining| remaining <= Duration::from_secs(1)));
        assert_eq!([timers.pop(three), timers.pop(three), timers.pop(four)], [Some(7), Some(8), None]);
        let mut third = None;
        timers.set(9, &mut third, one);
        timers.remove(9, third);
        assert_eq!((timers.pop(four), timers.remaining()), (None, None));
    }
}
