//! This process's clock, and how far another one is ahead of it.

use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

/// Microseconds since this process first looked at its clock.
pub(super) fn now_us() -> i64 {
    static EPOCH: OnceLock<Instant> = OnceLock::new();
    EPOCH.get_or_init(Instant::now).elapsed().as_micros() as i64
}

/// Sleeps until the clock shows this time.
pub(super) fn sleep_until(at_us: i64) {
    let missing_us = at_us - now_us();
    thread::sleep(Duration::from_micros(missing_us.max(0) as u64));
}

/// One question for another clock's time.
#[derive(Clone, Copy, Debug)]
pub(super) struct RoundTrip {
    /// When it was asked, by this clock.
    pub(super) asked_us: i64,
    /// The answer, by the other clock.
    pub(super) other_us: i64,
    /// When the answer came, by this clock.
    pub(super) answered_us: i64,
}

/// How far another clock is ahead of this one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Offset {
    /// Microseconds to add to this clock's time. It is right to half a round trip.
    pub(super) ahead_us: i64,
    /// The round trip that says so.
    pub(super) round_trip_us: u64,
}

impl Offset {
    /// The offset by the quickest of these round trips: whatever makes one slower, makes it less certain.
    pub(super) fn by_quickest(trips: impl IntoIterator<Item = RoundTrip>) -> Option<Self> {
        let quickest = trips.into_iter().min_by_key(|trip| trip.answered_us - trip.asked_us)?;
        let half_way_us = quickest.asked_us + (quickest.answered_us - quickest.asked_us) / 2;
        let round_trip_us = quickest.asked_us.abs_diff(quickest.answered_us);
        Some(Self { ahead_us: quickest.other_us - half_way_us, round_trip_us })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_quickest_round_trip_counts() {
        let trip = |asked_us, other_us, answered_us| RoundTrip { asked_us, other_us, answered_us };
        // The other clock is 1,000 us ahead; the way back of the first answer was slow.
        let trips = [trip(0, 1_100, 9_000), trip(10_000, 11_050, 10_100), trip(20_000, 21_400, 20_500)];
        assert_eq!(Offset::by_quickest(trips), Some(Offset { ahead_us: 1_000, round_trip_us: 100 }));
        assert_eq!(Offset::by_quickest([]), None);
    }
}
