//! The clients that mean well while others attack.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use contract::trial::crowd::{Crowd, ask_once};

/// Each asks so often.
const INTERVAL: Duration = Duration::from_millis(50);
/// Somebody new comes so often.
const VISIT_INTERVAL: Duration = Duration::from_millis(100);

/// What the well-meaning clients saw.
pub(crate) struct Seen {
    /// Of each answer, from when the request was due, sorted.
    pub(crate) latencies: Vec<Duration>,
    /// How many of those that were there before lost their connection.
    pub(crate) lost: usize,
    /// How many came anew, and how many of them were served.
    pub(crate) visitors: (usize, usize),
}

impl Seen {
    /// The latency that one in a hundred answers exceeds; `None` if there was none.
    pub(crate) fn p99(&self) -> Option<Duration> {
        self.latencies.get(self.latencies.len().saturating_mul(99) / 100).copied()
    }
}

/// Asks for so long on each of these connections, and lets somebody new come now and then.
pub(crate) fn ask_for(duration: Duration, address: SocketAddr, neighbours: Vec<Crowd>) -> Seen {
    let end = Instant::now() + duration;
    thread::scope(|scope| {
        let visitors = scope.spawn(|| visit_until(end, address));
        let asking: Vec<_> = neighbours.into_iter().map(|one| scope.spawn(move || ask_until(end, one))).collect();
        let (mut latencies, mut lost) = (Vec::new(), 0);
        for thread in asking {
            let (of_one, is_lost) = thread.join().expect("it does not panic");
            latencies.extend(of_one);
            lost += usize::from(is_lost);
        }
        latencies.sort_unstable();
        Seen { latencies, lost, visitors: visitors.join().expect("it does not panic") }
    })
}

/// Asks at fixed times. The latencies, from when each request was due, and whether the connection was lost.
fn ask_until(end: Instant, mut neighbour: Crowd) -> (Vec<Duration>, bool) {
    let mut latencies = Vec::new();
    let mut due = Instant::now();
    while due < end {
        thread::sleep(due.saturating_duration_since(Instant::now()));
        if neighbour.ask_again() == 0 {
            return (latencies, true);
        }
        latencies.push(due.elapsed());
        due += INTERVAL;
    }
    (latencies, false)
}

/// How many came, one after the other, and how many of them were answered 200.
fn visit_until(end: Instant, address: SocketAddr) -> (usize, usize) {
    let mut visitors = (0, 0);
    while Instant::now() < end {
        visitors.0 += 1;
        visitors.1 += usize::from(ask_once(address, "/health").is_ok_and(|status| status == 200));
        thread::sleep(VISIT_INTERVAL);
    }
    visitors
}
