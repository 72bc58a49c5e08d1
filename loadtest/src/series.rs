//! The measured time, second by second.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::latency::Latencies;
use crate::load::Load;
use crate::result::Second;

/// How long a row of the series is.
pub(crate) const INTERVAL: Duration = Duration::from_secs(1);

/// Takes a row of the series whenever one is due.
#[derive(Debug)]
pub(crate) struct Series {
    start: Instant,
    last: Instant,
    good_answers: Histogram<u64>,
    errors: u64,
}

impl Series {
    /// Starts now, with the window of these loads.
    pub(crate) fn start(loads: &[Arc<Load>]) -> Self {
        let now = Instant::now();
        Self { start: now, last: now, good_answers: good_answers(loads), errors: errors(loads) }
    }

    /// Whether a row is due.
    pub(crate) fn is_due(&self) -> bool {
        self.last.elapsed() >= INTERVAL
    }

    /// The time since the last row. What only the server knows is to be added.
    pub(crate) fn next(&mut self, loads: &[Arc<Load>]) -> Second {
        let (now, good_answers, errors) = (Instant::now(), good_answers(loads), errors(loads));
        let mut answered = good_answers.clone();
        // What was there then is still there, so that this cannot fail.
        let _ = answered.subtract(&self.good_answers);
        let quantile = |quantile| (!answered.is_empty()).then(|| answered.value_at_quantile(quantile));
        let row = Second {
            end_s: (now - self.start).as_secs_f64(),
            rps: answered.len() as f64 / (now - self.last).as_secs_f64(),
            p50_us: quantile(0.5),
            p99_us: quantile(0.99),
            errors: errors - self.errors,
            ..Second::default()
        };
        (self.last, self.good_answers, self.errors) = (now, good_answers, errors);
        row
    }
}

fn good_answers(loads: &[Arc<Load>]) -> Histogram<u64> {
    let mut all = Latencies::empty();
    loads.iter().for_each(|load| all += &load.good_answers());
    all
}

fn errors(loads: &[Arc<Load>]) -> u64 {
    loads.iter().map(|load| load.errors().1.total()).sum()
}
