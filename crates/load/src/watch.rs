//! What runs beside the users, on their threads, and watches them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::sleep;

use crate::shared::Shared;

/// How long the timer sleeps whose lag is measured.
const NAP: Duration = Duration::from_millis(10);
/// How often answers are counted, as in wrk.
const RATE_INTERVAL: Duration = Duration::from_millis(100);

/// Sleeps, and notes how late it wakes up, for as long as the users run.
pub(crate) async fn lag(shared: Arc<Shared>) {
    while !shared.is_stopping() {
        let start = Instant::now();
        sleep(NAP).await;
        if shared.is_measuring() {
            shared.lag.note(start.elapsed().saturating_sub(NAP));
        }
    }
}

/// Counts the answers of each interval, for as long as the users run.
pub(crate) async fn rates(shared: Arc<Shared>) {
    let mut last = (shared.answers(), Instant::now());
    while !shared.is_stopping() {
        sleep(RATE_INTERVAL).await;
        let now = (shared.answers(), Instant::now());
        // As in wrk, an interval without an answer is continued.
        if shared.is_measuring() && now.0 > last.0 {
            shared.rates.record((now.0 - last.0) as f64 / (now.1 - last.1).as_secs_f64());
            last = now;
        }
    }
}
