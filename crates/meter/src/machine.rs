//! The machine as a whole: its RAM, what its CPUs did, and whether its kernel dropped connections.

use std::fs;

use procfs::{CpuTime, Current as _, CurrentSI as _, KernelStats, Meminfo};

/// The machine at one moment. What could not be read is nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    /// RAM in all, in bytes: `MemTotal` of `/proc/meminfo`.
    pub ram_bytes: Option<u64>,
    /// What the CPUs did: the first line of `/proc/stat`.
    pub cpu: Option<CpuTicks>,
    /// How often a connection was dropped since the machine started because a backlog was full, in this network
    /// namespace: `ListenOverflows` of `/proc/net/netstat`.
    pub listen_overflows: Option<u64>,
}

/// What all CPUs together did since the machine started, in ticks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuTicks {
    /// They worked, here or for another virtual machine: stolen time was not ours to use.
    pub busy: u64,
    /// They had nothing to do, or waited for a disk.
    pub idle: u64,
}

/// Reads what the machine is, and what it did until now.
pub fn machine() -> Machine {
    Machine {
        ram_bytes: Meminfo::current().ok().map(|meminfo| meminfo.mem_total),
        cpu: KernelStats::current().ok().map(|stats| CpuTicks::new(&stats.total)),
        listen_overflows: fs::read_to_string("/proc/net/netstat").ok().and_then(|text| listen_overflows(&text)),
    }
}

impl CpuTicks {
    fn new(time: &CpuTime) -> Self {
        let CpuTime { user, nice, system, idle, iowait, irq, softirq, steal, .. } = time;
        let interrupts = irq.unwrap_or(0) + softirq.unwrap_or(0);
        // Guests' time is in user's already.
        Self { busy: user + nice + system + interrupts + steal.unwrap_or(0), idle: idle + iowait.unwrap_or(0) }
    }
}

/// procfs does not read this file.
fn listen_overflows(netstat: &str) -> Option<u64> {
    let mut lines = netstat.lines().filter_map(|line| line.strip_prefix("TcpExt: "));
    let index = lines.next()?.split(' ').position(|name| name == "ListenOverflows")?;
    lines.next()?.split(' ').nth(index)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overflows_are_found_by_their_name() {
        let netstat = "TcpExt: SyncookiesSent ListenOverflows ListenDrops\nTcpExt: 1 23 4\nIpExt: InOctets\nIpExt: 9\n";
        assert_eq!(listen_overflows(netstat), Some(23));
        assert_eq!(listen_overflows(""), None);
    }

    #[test]
    fn this_machine_has_ram_and_its_cpus_go_on() {
        let (earlier, later) = (machine(), machine());
        assert!(earlier.ram_bytes > Some(1 << 20));
        let ticks = |machine: Machine| machine.cpu.map(|cpu| cpu.busy + cpu.idle);
        assert!(ticks(earlier) > Some(0) && ticks(later) >= ticks(earlier), "{earlier:?} {later:?}");
    }
}
