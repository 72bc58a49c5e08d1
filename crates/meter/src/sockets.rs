//! Estimates the kernel memory of sockets from `/proc`.
//!
//! A socket is several slab objects: the protocol's own (`struct tcp_sock`; `/proc/net/protocols` has its size), the
//! inode that contains the `struct socket`, a dentry and a `struct file`. Its queued payload comes on top.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;

use procfs::ProcResult;
use procfs::net::TcpState;
use procfs::process::Process;

use crate::Missing;

/// The fallback for file, dentry and inode of one socket where `/proc/slabinfo` is not readable: the object sizes of
/// `filp` (192), `dentry` (192) and `sock_inode_cache` (832) on Linux 6.18, x86-64. Other versions differ by some tens
/// of bytes.
const FILE_OVERHEAD_BYTES: u64 = 192 + 192 + 832;

/// The inodes of the sockets that a process has open.
pub(crate) fn socket_inodes(pid: i32) -> io::Result<Vec<u64>> {
    let mut inodes = Vec::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fd"))? {
        // A descriptor may be closed between readdir and readlink.
        if let Ok(target) = fs::read_link(entry?.path()) {
            inodes.extend(target.to_str().and_then(socket_inode));
        }
    }
    Ok(inodes)
}

/// The kernel memory of these sockets, looked up in the network namespace of `root_pid`.
pub(crate) fn kernel_bytes(root_pid: i32, inodes: &HashSet<u64>, missing: &mut Vec<Missing>) -> Option<u64> {
    let figure = "sockets_bytes";
    let known = match known_sockets(root_pid) {
        Ok(known) => known,
        Err(error) => {
            let why = format!("the socket tables: {error}");
            missing.push(Missing { figure, why });
            return None;
        }
    };
    let (found, unknown): (Vec<u64>, Vec<u64>) = inodes.iter().partition(|&inode| known.contains_key(inode));
    if !unknown.is_empty() {
        // Neither bound nor connected, reset by the peer, of another protocol (netlink), or in another namespace.
        let why = format!("{} sockets are not listed in /proc/net: only their files are counted", unknown.len());
        missing.push(Missing { figure, why });
    }
    let objects_bytes: u64 = found.iter().map(|inode| known[inode]).sum();
    Some(objects_bytes + inodes.len() as u64 * file_overhead_bytes())
}

/// Every socket of the namespace by inode, with the size of its protocol object and its queued payload.
fn known_sockets(root_pid: i32) -> ProcResult<HashMap<u64, u64>> {
    let process = Process::new(root_pid)?;
    let protocols = fs::read_to_string(format!("/proc/{root_pid}/net/protocols"))?;
    let size_bytes = |protocol| object_bytes(&protocols, protocol).unwrap_or(0);

    let mut known = HashMap::new();
    // A kernel without the protocol has neither the table nor such sockets.
    for (table, protocol) in [(process.tcp(), "TCP"), (process.tcp6(), "TCPv6")] {
        let object_bytes = size_bytes(protocol);
        known.extend(table.into_iter().flatten().map(|socket| {
            // The queues of a listener are numbers of connections, not bytes.
            let listens = socket.state == TcpState::Listen;
            let queued_bytes = if listens { 0 } else { u64::from(socket.rx_queue) + u64::from(socket.tx_queue) };
            (socket.inode, object_bytes + queued_bytes)
        }));
    }
    for (table, protocol) in [(process.udp(), "UDP"), (process.udp6(), "UDPv6")] {
        let object_bytes = size_bytes(protocol);
        known.extend(table.into_iter().flatten().map(|socket| {
            let queued_bytes = u64::from(socket.rx_queue) + u64::from(socket.tx_queue);
            (socket.inode, object_bytes + queued_bytes)
        }));
    }
    let object_bytes = size_bytes("UNIX");
    known.extend(process.unix().into_iter().flatten().map(|socket| (socket.inode, object_bytes)));
    Ok(known)
}

/// The size of a socket's file, dentry and inode, from `/proc/slabinfo` (root only) or the fallback.
fn file_overhead_bytes() -> u64 {
    let slabinfo = fs::read_to_string("/proc/slabinfo").unwrap_or_default();
    let slab = |name| slab_object_bytes(&slabinfo, name);
    let overhead = || Some(slab("filp")? + slab("dentry")? + slab("sock_inode_cache")?);
    overhead().unwrap_or(FILE_OVERHEAD_BYTES)
}

/// Parses `socket:[4711]`, the form of a socket in `/proc/PID/fd`.
fn socket_inode(fd_target: &str) -> Option<u64> {
    fd_target.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

/// The `size` column of `/proc/net/protocols`.
fn object_bytes(protocols: &str, protocol: &str) -> Option<u64> {
    column(protocols, protocol, 1)
}

/// The `<objsize>` column of `/proc/slabinfo`.
fn slab_object_bytes(slabinfo: &str, cache: &str) -> Option<u64> {
    column(slabinfo, cache, 3)
}

/// The number in one column of the line that starts with `name`.
fn column(table: &str, name: &str, column: usize) -> Option<u64> {
    let mut lines = table.lines().map(str::split_whitespace);
    let mut line = lines.find(|line| line.clone().next() == Some(name))?;
    line.nth(column)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROTOCOLS: &str = "\
protocol  size sockets  memory press maxhdr  slab module     cl co di ac io in de sh ss gs se re bi br ha uh gp em
TCPv6     2432      0      65   no     192   yes  kernel      y  y  y  y  y  y  y  y  y  y  y  y  n  y  y  y  y  y
UNIX-STREAM 1152     14      -1   NI       0   yes  kernel      y  n  n  n  n  n  n  n  n  n  n  n  n  n  n  n  n  n
UNIX      1152      1      -1   NI       0   yes  kernel      y  n  n  n  n  n  n  n  n  n  n  n  n  n  n  n  n  n
TCP       2304      1      65   no     192   yes  kernel      y  y  y  y  y  y  y  y  y  y  y  y  n  y  y  y  y  y
";
    const SLABINFO: &str = "\
slabinfo - version: 2.1
# name            <active_objs> <num_objs> <objsize> <objperslab> <pagesperslab> : tunables <limit> <batchcount>
sock_inode_cache     114    114    832   19    4 : tunables    0    0    0 : slabdata      6      6      0
filp                 462    483    192   21    1 : tunables    0    0    0 : slabdata     23     23      0
";

    #[test]
    fn protocol_sizes_match_whole_names() {
        assert_eq!(object_bytes(PROTOCOLS, "TCP"), Some(2304));
        assert_eq!(object_bytes(PROTOCOLS, "TCPv6"), Some(2432));
        assert_eq!(object_bytes(PROTOCOLS, "UNIX"), Some(1152));
        assert_eq!(object_bytes(PROTOCOLS, "SCTP"), None);
    }

    #[test]
    fn slab_sizes_are_per_object() {
        assert_eq!(slab_object_bytes(SLABINFO, "sock_inode_cache"), Some(832));
        assert_eq!(slab_object_bytes(SLABINFO, "filp"), Some(192));
        assert_eq!(slab_object_bytes(SLABINFO, "dentry"), None);
    }

    #[test]
    fn only_sockets_have_socket_inodes() {
        assert_eq!(socket_inode("socket:[4711]"), Some(4711));
        assert_eq!(socket_inode("pipe:[4711]"), None);
        assert_eq!(socket_inode("/tmp/socket:[1]"), None);
    }
}
