//! Tasks that watch the users, on the users' threads.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::sleep;

use crate::shared::Shared;

/// How long the timer sleeps that measures the lag.
const NAP_US: u64 = 10_000;
/// How often to count answers, as in wrk.
const RATE_INTERVAL: Duration = Duration::from_millis(100);

/// Wakes the users whose requests are due.
pub(crate) async fn timer(shared: Arc<Shared>) {
    // It ends only with the runtime, which is also the only thing that it could fail without.
    let _ = shared.timer.run().await;
}

/// Sleeps, and records how late it wakes up, while the users run: that late is the load generator itself, and it adds to
/// every latency that it measures. An answer that has arrived waits until a thread of the load generator reads it. A timer
/// waits in the same way, and unlike an answer it is known when it was due.
pub(crate) async fn lag(shared: Arc<Shared>) {
    while !shared.is_stopping() {
        let due_us = shared.now_us() + NAP_US;
        shared.timer.wait_until(shared.instant(due_us)).await;
        shared.observations.record_lag(due_us, shared.now_us());
    }
}

/// Records the rate of answers in each interval, while the users run.
pub(crate) async fn rates(shared: Arc<Shared>) {
    let mut last = (shared.observations.answers(), Instant::now());
    while !shared.is_stopping() {
        sleep(RATE_INTERVAL).await;
        let now = (shared.observations.answers(), Instant::now());
        // As in wrk, an interval without an answer is extended.
        if shared.is_measuring() && now.0 > last.0 {
            shared.observations.rates.record(((now.0 - last.0) as f64 / (now.1 - last.1).as_secs_f64()) as u64);
            last = now;
        }
    }
}
