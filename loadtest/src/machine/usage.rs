//! Who used this machine's CPUs.

use std::time::Instant;

use meter::machine::CpuTicks;
use results::{Warning, WarningKind};

/// Other programs may use this share of all CPU time without a warning.
const FOREIGN_SHARE: f64 = 0.1;
/// With an idle share below this, no CPU time was left.
const IDLE_SHARE: f64 = 0.05;
/// A load generator that uses this share of its threads' time is at its limit.
const CLIENT_SHARE: f64 = 0.9;
/// On a machine with no CPU time left, a load generator with this share takes it from the server.
const TAKEN_SHARE: f64 = 0.25;
/// How late the load generator may be: this share of the mean latency, or this many microseconds.
const LAG_SHARE: f64 = 0.1;
const LAG_US: f64 = 5_000.0;

/// CPU time used up to one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Usage {
    at: Instant,
    cpu: Option<CpuTicks>,
    /// CPU time of this process, in seconds.
    own_cpu_s: Option<f64>,
}

impl Usage {
    /// Usage up to now.
    pub(crate) fn now() -> Self {
        let own_cpu = meter::cpu_time(std::process::id() as i32);
        Self {
            at: Instant::now(),
            cpu: meter::machine::cpu_ticks(),
            own_cpu_s: own_cpu.ok().map(|time| time.as_secs_f64()),
        }
    }

    /// CPU time of this process since `earlier`, in seconds.
    pub(crate) fn own_cpu_s_since(&self, earlier: &Self) -> Option<f64> {
        Some(self.own_cpu_s? - earlier.own_cpu_s?)
    }

    /// The shares of all CPU time used since `earlier`: in all, by the load generator, and by the server if its CPU
    /// time is known.
    pub(crate) fn use_since(&self, earlier: &Self, client_s: Option<f64>, server_s: Option<f64>) -> Option<CpuUse> {
        let (now, then) = (self.cpu?, earlier.cpu?);
        let (busy, idle) = (now.busy - then.busy, now.idle - then.idle);
        let all = (busy + idle).max(1) as f64;
        let cpus = std::thread::available_parallelism().map_or(1, usize::from) as f64;
        let seconds = (self.at - earlier.at).as_secs_f64();
        let share = |time_s: f64| time_s / (seconds * cpus).max(1e-9);
        let client = share(client_s?);
        Some(CpuUse { busy: busy as f64 / all, client, server: server_s.map(share) })
    }
}

/// Shares of all CPU time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct CpuUse {
    busy: f64,
    client: f64,
    server: Option<f64>,
}

impl CpuUse {
    /// Warnings about a load generator with this many threads.
    pub(crate) fn warnings(&self, threads: usize) -> Vec<Warning> {
        let Self { busy, client, server } = *self;
        let mut warnings = Vec::new();
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        let thread_share = client * cpus as f64 / threads.min(cpus) as f64;
        if thread_share > CLIENT_SHARE {
            let text = format!(
                "the load generator was the bottleneck: it used {:.0} % of the CPU time of its threads. \
                 Give it more threads or CPUs, or a machine of its own",
                thread_share * 100.0
            );
            warnings.push(Warning::new(WarningKind::ClientBound, text));
        } else if busy > 1.0 - IDLE_SHARE && client > TAKEN_SHARE {
            let text = format!(
                "no CPU time was left, and the load generator used {:.0} %: with the load on another machine, the server may \
                 do more",
                client * 100.0
            );
            warnings.push(Warning::new(WarningKind::ClientBound, text));
        }
        if let Some(server) = server
            && busy - client - server > FOREIGN_SHARE
        {
            let foreign = (busy - client - server) * 100.0;
            let text = format!("something else used {foreign:.0} % of this machine's CPU time");
            warnings.push(Warning::new(WarningKind::BusyMachine, text));
        }
        warnings
    }
}

/// A warning if the load generator's timers were late compared with the mean latency.
pub(crate) fn lag_warning(lag_p99_us: u64, mean_us: f64) -> Option<Warning> {
    let is_late = lag_p99_us as f64 > (mean_us * LAG_SHARE).max(LAG_US);
    is_late.then(|| {
        let text = format!(
            "the load generator was late: 1 % of its timers fired {:.1} ms late or more, which adds to the latencies",
            lag_p99_us as f64 / 1e3
        );
        Warning::new(WarningKind::ClientLate, text)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_depend_on_who_used_the_cpus() {
        let kinds = |busy, client, server| {
            let warnings = CpuUse { busy, client, server }.warnings(usize::MAX);
            warnings.iter().map(|warning| warning.kind).collect::<Vec<_>>()
        };
        assert_eq!(kinds(0.5, 0.2, Some(0.25)), []);
        assert_eq!(kinds(0.5, 0.2, None), []);
        assert_eq!(kinds(0.7, 0.2, Some(0.25)), [WarningKind::BusyMachine]);
        assert_eq!(kinds(0.99, 0.95, Some(0.03)), [WarningKind::ClientBound]);
        assert_eq!(kinds(0.99, 0.45, Some(0.5)), [WarningKind::ClientBound]);
    }
}
