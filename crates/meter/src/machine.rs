//! The machine as a whole: its RAM, its CPU time, and the connections that its kernel dropped.

use std::fs;

use procfs::{CpuTime, Current as _, CurrentSI as _, KernelStats, Meminfo};

/// Time of all CPUs together since boot, in ticks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuTicks {
    /// Busy, including stolen time: that was not ours to use.
    pub busy: u64,
    /// Idle, or waiting for a disk.
    pub idle: u64,
}

/// Total RAM, in bytes: `MemTotal` of `/proc/meminfo`. `None`, as for all these figures, if it cannot be read.
pub fn ram_bytes() -> Option<u64> {
    Meminfo::current().ok().map(|meminfo| meminfo.mem_total)
}

/// CPU time: the first line of `/proc/stat`.
pub fn cpu_ticks() -> Option<CpuTicks> {
    KernelStats::current().ok().map(|stats| CpuTicks::new(&stats.total))
}

/// Connections dropped since boot because a backlog was full, in this network namespace: `ListenOverflows` of
/// `/proc/net/netstat`.
pub fn listen_overflows() -> Option<u64> {
    parse_listen_overflows(&fs::read_to_string("/proc/net/netstat").ok()?)
}

impl CpuTicks {
    fn new(time: &CpuTime) -> Self {
        let CpuTime { user, nice, system, idle, iowait, irq, softirq, steal, .. } = time;
        let interrupts = irq.unwrap_or(0) + softirq.unwrap_or(0);
        // `user` already includes guest time.
        Self { busy: user + nice + system + interrupts + steal.unwrap_or(0), idle: idle + iowait.unwrap_or(0) }
    }
}

/// Parses `/proc/net/netstat`, which the procfs crate does not.
fn parse_listen_overflows(netstat: &str) -> Option<u64> {
    let mut lines = netstat.lines().filter_map(|line| line.strip_prefix("TcpExt: "));
    let index = lines.next()?.split(' ').position(|name| name == "ListenOverflows")?;
    lines.next()?.split(' ').nth(index)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overflows_are_found_by_name() {
        let netstat = "TcpExt: SyncookiesSent ListenOverflows ListenDrops\nTcpExt: 1 23 4\nIpExt: InOctets\nIpExt: 9\n";
        assert_eq!(parse_listen_overflows(netstat), Some(23));
        assert_eq!(parse_listen_overflows(""), None);
    }

    #[test]
    fn this_machine_has_ram_and_its_cpu_time_grows() {
        assert!(ram_bytes() > Some(1 << 20));
        let ticks = || cpu_ticks().map(|cpu| cpu.busy + cpu.idle);
        let (earlier, later) = (ticks(), ticks());
        assert!(earlier > Some(0) && later >= earlier, "{earlier:?} {later:?}");
    }
}
