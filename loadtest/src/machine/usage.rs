//! Who used this machine's CPUs.

use std::thread;
use std::time::{Duration, Instant};

use meter::CpuQuota;
use meter::machine::CpuTicks;
use results::{Warning, WarningKind};

use super::cpus::Cpus;

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

/// Standing still for less than this share of the time is not worth a warning.
const THROTTLED_SHARE: f64 = 0.01;

/// The CPUs of a run. All shares are of the CPUs that the server and the load generator may use, and of no others: not
/// of a machine on which `taskset` leaves them two of 64.
#[derive(Clone, Debug)]
pub(crate) struct RunCpus {
    all: Cpus,
    client: Cpus,
    /// Whether the load generator can take CPU time from the server.
    is_shared: bool,
}

impl RunCpus {
    /// The CPUs of this thread and of a server that may use these; with `None`, those of this thread. Without the right
    /// to ask, it is `None`.
    pub(crate) fn new(server: Option<&Cpus>) -> Option<Self> {
        let client = Cpus::allowed(0)?;
        let server = server.unwrap_or(&client);
        Some(Self { all: client.union(server), is_shared: client.overlap(server), client })
    }
}

/// CPU time used up to one moment.
#[derive(Clone, Debug)]
pub(crate) struct Usage {
    at: Instant,
    cpu: Option<CpuTicks>,
    quota: Option<CpuQuota>,
    /// CPU time of the load generator, in seconds.
    own_cpu_s: Option<f64>,
}

impl Usage {
    /// Usage of these CPUs up to now. The load generator is this process and those of `client_pids`.
    pub(crate) fn now(cpus: &RunCpus, client_pids: &[i32]) -> Self {
        let own = std::process::id() as i32;
        let times = client_pids.iter().chain([&own]).map(|pid| meter::cpu_time(*pid).ok());
        let own_cpu: Option<Duration> = times.sum();
        Self {
            at: Instant::now(),
            cpu: meter::machine::cpu_ticks(|cpu| cpus.all.contains(cpu)),
            quota: meter::cpu_quota(),
            own_cpu_s: own_cpu.map(|time| time.as_secs_f64()),
        }
    }

    /// CPU time of the load generator since `earlier`, in seconds.
    pub(crate) fn own_cpu_s_since(&self, earlier: &Self) -> Option<f64> {
        Some(self.own_cpu_s? - earlier.own_cpu_s?)
    }

    /// The shares of the CPU time of `cpus` used since `earlier`: in all, by the load generator, and by the server if its CPU
    /// time is known.
    pub(crate) fn use_since(
        &self,
        earlier: &Self,
        cpus: &RunCpus,
        client_s: Option<f64>,
        server_s: Option<f64>,
    ) -> Option<CpuUse> {
        let (now, then) = (self.cpu?, earlier.cpu?);
        let (busy, idle) = (now.busy - then.busy, now.idle - then.idle);
        let all = (busy + idle).max(1) as f64;
        let all_s = (self.at - earlier.at).as_secs_f64() * cpus.all.count() as f64;
        let share = |time_s: f64| time_s / all_s.max(1e-9);
        let client = share(client_s?);
        Some(CpuUse { cpus: cpus.clone(), busy: busy as f64 / all, client, server: server_s.map(share) })
    }

    /// A warning if the cgroup that we are in, such as a container, used up its quota of CPU time since `earlier`.
    pub(crate) fn quota_warning(&self, earlier: &Self) -> Option<Warning> {
        let (now, then) = (self.quota?, earlier.quota?);
        let stood_still = now.throttled.saturating_sub(then.throttled);
        let is_much = stood_still > (self.at - earlier.at).mul_f64(THROTTLED_SHARE);
        is_much.then(|| {
            let text = format!(
                "the CPU quota of this container or cgroup ({:.2} CPUs) was used up: for {:.2} s its processes had to stand \
                 still, which is in the latencies; raise the quota, or offer less load",
                now.cpus,
                stood_still.as_secs_f64()
            );
            Warning::new(WarningKind::CpuQuota, text)
        })
    }
}

/// Shares of the CPU time of a run's CPUs.
#[derive(Clone, Debug)]
pub(crate) struct CpuUse {
    cpus: RunCpus,
    busy: f64,
    client: f64,
    server: Option<f64>,
}

impl CpuUse {
    /// Warnings about a load generator with this many threads. With `None` its CPU time does not say how busy it was; how
    /// [late](lag_warning) it was does.
    pub(crate) fn warnings(&self, threads: Option<usize>) -> Vec<Warning> {
        let Self { ref cpus, busy, client, server } = *self;
        let mut warnings = Vec::new();
        let client_cpus = cpus.client.count();
        let threads_share = threads.map(|threads| client * cpus.all.count() as f64 / threads.min(client_cpus) as f64);
        if let Some((threads, share)) = threads.zip(threads_share).filter(|(_, share)| *share > CLIENT_SHARE) {
            let remedy = if threads < client_cpus { "more threads (-t)" } else { "more CPUs, or a machine of its own" };
            let text = format!(
                "the load generator was the bottleneck: it used {:.0} % of the CPU time of its threads. Give it {remedy}",
                share * 100.0
            );
            warnings.push(Warning::new(WarningKind::ClientBound, text));
        } else if cpus.is_shared && busy > 1.0 - IDLE_SHARE && client > TAKEN_SHARE {
            let text = format!(
                "no CPU time was left, and the load generator used {:.0} %: with the load on another machine, the server may \
                 do more",
                client * 100.0
            );
            warnings.push(Warning::new(WarningKind::ClientBound, text));
        }
        warnings.extend(server.and_then(|server| foreign_warning(busy - client - server, &cpus.all)));
        warnings
    }
}

/// A warning if something else uses the CPUs of this process, to be asked while it does nothing itself. Waits for `time`.
pub(crate) fn others_warning(time: Duration) -> Option<Warning> {
    let cpus = Cpus::allowed(0)?;
    let ticks = || meter::machine::cpu_ticks(|cpu| cpus.contains(cpu));
    let before = ticks()?;
    thread::sleep(time);
    let now = ticks()?;
    let (busy, idle) = (now.busy - before.busy, now.idle - before.idle);
    foreign_warning(busy as f64 / (busy + idle).max(1) as f64, &cpus)
}

/// A warning if something else used this share of the CPU time.
fn foreign_warning(share: f64, cpus: &Cpus) -> Option<Warning> {
    (share > FOREIGN_SHARE).then(|| {
        let text = format!("something else used {:.0} % of the CPU time of CPUs {cpus}", share * 100.0);
        Warning::new(WarningKind::BusyMachine, text)
    })
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
        let cpus = |all: &str, client: &str, is_shared| {
            let [all, client] = [all, client].map(|cpus| cpus.parse().unwrap());
            RunCpus { all, client, is_shared }
        };
        let kinds_of = |cpu_use: CpuUse, threads| {
            let warnings = cpu_use.warnings(threads);
            warnings.iter().map(|warning| warning.kind).collect::<Vec<_>>()
        };
        let kinds_with = |cpus, busy, client, server| kinds_of(CpuUse { cpus, busy, client, server }, Some(usize::MAX));
        let kinds = |busy, client, server| kinds_with(cpus("0-1", "0-1", true), busy, client, server);
        assert_eq!(kinds(0.5, 0.2, Some(0.25)), []);
        assert_eq!(kinds(0.5, 0.2, None), []);
        assert_eq!(kinds(0.7, 0.2, Some(0.25)), [WarningKind::BusyMachine]);
        assert_eq!(kinds(0.99, 0.95, Some(0.03)), [WarningKind::ClientBound]);
        assert_eq!(kinds(0.99, 0.45, Some(0.5)), [WarningKind::ClientBound]);
        // A load generator on CPUs of its own takes nothing from the server, but has no more than these.
        assert_eq!(kinds_with(cpus("0-1", "1", false), 0.99, 0.44, Some(0.5)), []);
        assert_eq!(kinds_with(cpus("0-1", "1", false), 0.99, 0.46, Some(0.5)), [WarningKind::ClientBound]);
        // One that watches the clock uses the whole of its one thread, and is not at its limit.
        let watching = CpuUse { cpus: cpus("0-1", "0-1", true), busy: 0.6, client: 0.5, server: Some(0.1) };
        assert_eq!(kinds_of(watching.clone(), Some(1)), [WarningKind::ClientBound]);
        assert_eq!(kinds_of(watching, None), []);
    }
}
