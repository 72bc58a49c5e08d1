//! The window, second by second.

use std::time::{Duration, Instant};

use results::run::Second;

use crate::generator::Snapshot;

/// The length of a row.
const INTERVAL: Duration = Duration::from_secs(1);

/// Produces a row for each second.
#[derive(Debug)]
pub struct Series {
    start: Instant,
    last: Instant,
    seen: Snapshot,
}

impl Series {
    /// Starts now, as the window opens. `seen` is what was counted before.
    pub fn start(seen: Snapshot) -> Self {
        let now = Instant::now();
        Self { start: now, last: now, seen }
    }

    /// Whether a row is due.
    pub fn is_due(&self) -> bool {
        self.last.elapsed() >= INTERVAL
    }

    /// The row since the last one, given everything `seen` so far. The caller adds the figures that only the server
    /// knows.
    pub fn next(&mut self, seen: Snapshot) -> Second {
        let now = Instant::now();
        let mut answered = seen.good_answers.clone();
        // A later snapshot contains the earlier one, so this cannot fail.
        let _ = answered.subtract(&self.seen.good_answers);
        let quantile = |quantile| (!answered.is_empty()).then(|| answered.value_at_quantile(quantile));
        let row = Second {
            end_s: (now - self.start).as_secs_f64(),
            rps: answered.len() as f64 / (now - self.last).as_secs_f64(),
            p50_us: quantile(0.5),
            p99_us: quantile(0.99),
            errors: seen.errors - self.seen.errors,
            ..Second::default()
        };
        (self.last, self.seen) = (now, seen);
        row
    }
}
