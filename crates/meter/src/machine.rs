//! The machine as a whole: its RAM, its CPU time, and the connections that its kernel dropped.

use std::fs;

use procfs::{Current as _, Meminfo};

/// Time of some CPUs together since boot, in ticks.
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

/// RAM that programs could have without swapping, in bytes: `MemAvailable`.
pub fn available_ram_bytes() -> Option<u64> {
    Meminfo::current().ok()?.mem_available
}

/// CPU time of those CPUs for which `is_counted` holds, by their numbers in `/proc/stat`. `None` if there are none.
pub fn cpu_ticks(is_counted: impl Fn(usize) -> bool) -> Option<CpuTicks> {
    parse_cpu_ticks(&fs::read_to_string("/proc/stat").ok()?, is_counted)
}

/// Connections dropped since boot because a backlog was full, in this network namespace: `ListenOverflows` of
/// `/proc/net/netstat`.
pub fn listen_overflows() -> Option<u64> {
    parse_listen_overflows(&fs::read_to_string("/proc/net/netstat").ok()?)
}

/// Parses `/proc/stat`. The procfs crate numbers the CPUs by their lines, but one that is offline has no line.
fn parse_cpu_ticks(stat: &str, is_counted: impl Fn(usize) -> bool) -> Option<CpuTicks> {
    let mut sum = None;
    for line in stat.lines().filter_map(|line| line.strip_prefix("cpu")) {
        let Some((Ok(number), times)) = line.split_once(' ').map(|(number, times)| (number.parse(), times)) else {
            continue;
        };
        if is_counted(number) {
            let ticks = sum.get_or_insert(CpuTicks { busy: 0, idle: 0 });
            // user, nice, system, idle, iowait, irq, softirq, steal; the guests' time after them is part of user.
            for (at, time) in times.split_whitespace().take(8).enumerate() {
                let kind = if matches!(at, 3 | 4) { &mut ticks.idle } else { &mut ticks.busy };
                *kind += time.parse::<u64>().ok()?;
            }
        }
    }
    sum
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
    fn only_chosen_cpus_are_counted_by_their_numbers() {
        let stat = "cpu  9 9 9 9 9 9 9 9 9 9\ncpu0 1 2 3 40 5 6 7 8 1 1\ncpu2 10 0 0 90 0 0 0 0 0 0\nintr 5\n";
        let ticks = |cpus: &[usize]| parse_cpu_ticks(stat, |cpu| cpus.contains(&cpu));
        assert_eq!(ticks(&[0]), Some(CpuTicks { busy: 27, idle: 45 }));
        assert_eq!(ticks(&[0, 2]), Some(CpuTicks { busy: 37, idle: 135 }));
        assert_eq!(ticks(&[1]), None);
    }

    #[test]
    fn this_machine_has_ram_and_its_cpu_time_grows() {
        assert!(ram_bytes() > Some(1 << 20));
        let ticks = || cpu_ticks(|_| true).map(|cpu| cpu.busy + cpu.idle);
        let (earlier, later) = (ticks(), ticks());
        assert!(earlier > Some(0) && later >= earlier, "{earlier:?} {later:?}");
    }
}
