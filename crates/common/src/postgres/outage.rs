//! When to try again after no connection could be had.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

use super::error::{Error, Kind};

/// How long nobody tries after the first failure: doubled each time...
const FIRST_PAUSE_MS: u64 = 10;
/// ...up to this.
const LAST_PAUSE_MS: u64 = 1_000;

/// Whether connections can be had. While they cannot, one request in a pause may try, and all others are answered at once: a
/// storm of requests is no storm of connections. It also works in memory that processes share.
#[derive(Debug, Default)]
pub struct Outage {
    /// When somebody may try, in milliseconds of the monotonic clock; 0 while all is well.
    next_ms: AtomicU64,
    pause_ms: AtomicU64,
    /// The index of the last failure's kind in [`Kind::ALL`].
    kind: AtomicU64,
}

impl Outage {
    /// Whether the caller may try to connect now.
    ///
    /// # Errors
    /// Nobody may: the last failure.
    pub fn check(&self) -> Result<(), Error> {
        self.check_at(now_ms())
    }

    fn check_at(&self, now_ms: u64) -> Result<(), Error> {
        let next_ms = self.next_ms.load(Relaxed);
        if next_ms == 0 {
            return Ok(());
        }
        if now_ms >= next_ms {
            let pause_ms = (self.pause_ms.load(Relaxed) * 2).clamp(FIRST_PAUSE_MS, LAST_PAUSE_MS);
            // Of those who come now, one wins.
            if self.next_ms.compare_exchange(next_ms, now_ms + pause_ms, Relaxed, Relaxed).is_ok() {
                self.pause_ms.store(pause_ms, Relaxed);
                return Ok(());
            }
        }
        Err(self.error())
    }

    /// Whether nobody may try now.
    ///
    /// # Errors
    /// Nobody may: the last failure.
    pub fn is_over(&self) -> Result<(), Error> {
        let next_ms = self.next_ms.load(Relaxed);
        if next_ms == 0 || now_ms() >= next_ms { Ok(()) } else { Err(self.error()) }
    }

    /// A connection could not be had.
    pub fn failed(&self, kind: Kind) {
        self.failed_at(kind, now_ms());
    }

    fn failed_at(&self, kind: Kind, now_ms: u64) {
        let index = Kind::ALL.iter().position(|&other| other == kind).unwrap_or_default();
        self.kind.store(index as u64, Relaxed);
        // If it is not the first, whoever tried has set the next pause.
        if self.next_ms.compare_exchange(0, now_ms + FIRST_PAUSE_MS, Relaxed, Relaxed).is_ok() {
            self.pause_ms.store(FIRST_PAUSE_MS, Relaxed);
        }
    }

    /// A connection was made.
    pub fn end(&self) {
        // Not written while all is well: processes that share it would take its cache line from each other.
        if self.next_ms.load(Relaxed) != 0 {
            self.next_ms.store(0, Relaxed);
        }
    }

    fn error(&self) -> Error {
        let kind = Kind::ALL.get(self.kind.load(Relaxed) as usize).copied().unwrap_or(Kind::Refused);
        Error::new(kind, "so it was a moment ago; nobody tries again yet")
    }
}

/// The monotonic clock, which processes share, in milliseconds; never 0.
fn now_ms() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(Duration::ZERO, Duration::from);
    (now.as_millis() as u64).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_tries_in_each_pause_and_the_pauses_grow() {
        let outage = Outage::default();
        assert!(outage.check_at(1_000).is_ok());
        outage.failed_at(Kind::Refused, 1_000);
        outage.failed_at(Kind::Refused, 1_001);
        let tried = (1_000..11_000).filter(|&now_ms| {
            let may = outage.check_at(now_ms);
            may.as_ref().err().inspect(|error| assert_eq!(error.kind, Kind::Refused));
            may.inspect(|()| outage.failed_at(Kind::Refused, now_ms)).is_ok()
        });
        let tried: Vec<u64> = tried.collect();
        assert_eq!(&tried[..5], [1_010, 1_030, 1_070, 1_150, 1_310]);
        assert_eq!(tried.len(), 15, "then one a second: {tried:?}");
    }

    #[test]
    fn a_connection_ends_it() {
        let outage = Outage::default();
        outage.failed_at(Kind::TooManyClients, 1_000);
        assert_eq!(outage.check_at(1_001).unwrap_err().kind, Kind::TooManyClients);
        outage.end();
        assert!(outage.check_at(1_001).is_ok() && outage.check_at(1_001).is_ok());
        outage.failed_at(Kind::Refused, 1_001);
        assert!(outage.check_at(1_011).is_ok(), "the pauses begin anew");
    }
}
