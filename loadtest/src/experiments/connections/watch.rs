//! What the scheduler has to do in a run, seen from beside it.

use std::fs;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use meter::Switches;
use results::event::{Event, RunPhase, Sink};

use crate::subject::admin::ServerCounters;

/// How often the machine is asked how many threads want a CPU.
const SAMPLE_INTERVAL: Duration = Duration::from_millis(5);
/// How long context switches are counted: at least so long, and so many times as long as it takes to read them, because
/// reading takes a CPU from those that are counted.
const MIN_COUNTED_TIME: Duration = Duration::from_millis(200);
const READING_TIMES: u32 = 5;

/// What is known of the run that is watched.
#[derive(Default)]
pub(super) struct Watch {
    is_measuring: AtomicBool,
    is_over: AtomicBool,
    switches_per_request: OnceLock<f64>,
}

/// Hears of the phases of the run.
pub(super) struct Phases {
    /// Where to note it.
    pub(super) watch: Arc<Watch>,
    /// Whether to count context switches, which holds the run up.
    pub(super) counts_switches: bool,
    /// The server: its pid and its admin port.
    pub(super) server: Option<(i32, SocketAddr)>,
}

/// The switches of all its threads, and how many requests it has answered, at one moment.
struct Reading {
    switches: Switches,
    answered: f64,
}

impl Sink for Phases {
    fn take(&mut self, event: &Event) {
        match event {
            Event::Listening { pid, admin, .. } => {
                self.server = pid.zip(admin.as_ref().and_then(|admin| admin.parse().ok()));
            }
            Event::Entered { phase } => {
                self.watch.is_measuring.store(*phase == RunPhase::Measuring, Relaxed);
                // After the measured time, while the load goes on: reading 10,000 threads would be in the latencies.
                if let Some(server) = self.server.filter(|_| *phase == RunPhase::Ledger && self.counts_switches) {
                    switches_per_request(server).map(|switches| self.watch.switches_per_request.set(switches));
                }
            }
            _ => {}
        }
    }
}

impl Watch {
    /// The run is over.
    pub(super) fn end(&self) {
        self.is_over.store(true, Relaxed);
    }

    /// The mean of `procs_running` of `/proc/stat` in the measured time, without the thread that reads it.
    pub(super) fn mean_runnable(&self) -> Option<f64> {
        let mut samples = Vec::new();
        while !self.is_over.load(Relaxed) {
            if self.is_measuring.load(Relaxed) {
                let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
                let running = stat.lines().find_map(|line| line.strip_prefix("procs_running ")?.parse::<f64>().ok());
                samples.extend(running.map(|running| (running - 1.0).max(0.0)));
            }
            thread::sleep(SAMPLE_INTERVAL);
        }
        (!samples.is_empty()).then(|| samples.iter().sum::<f64>() / samples.len() as f64)
    }

    /// Context switches of the server, a request. `None` if they were not counted, or threads came or went meanwhile.
    pub(super) fn switches_per_request(&self) -> Option<f64> {
        self.switches_per_request.get().copied()
    }
}

fn switches_per_request(server: (i32, SocketAddr)) -> Option<f64> {
    let start = Instant::now();
    let before = Reading::take(server)?;
    thread::sleep(MIN_COUNTED_TIME.max(start.elapsed() * READING_TIMES));
    let after = Reading::take(server)?;
    let answered = after.answered - before.answered;
    (answered > 0.0).then_some(after.switches.since(&before.switches)? as f64 / answered)
}

impl Reading {
    fn take((pid, admin): (i32, SocketAddr)) -> Option<Self> {
        let answered = || Some(ServerCounters::fetch(admin).ok()?.answered as f64);
        let before = answered()?;
        let switches = Switches::read(&meter::process_tree(pid)).ok()?;
        // The threads are read one after the other: on average, in the middle.
        Some(Self { switches, answered: (before + answered()?) / 2.0 })
    }
}
