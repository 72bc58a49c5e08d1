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
use procfs::sys::kernel::Version as KernelVersion;

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

/// The kernel memory of some sockets.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SocketBytes {
    pub(crate) all: u64,
    /// What of it no cgroup of their process is charged for.
    pub(crate) uncharged: u64,
}

/// The kernel memory of these sockets, looked up in the network namespace of `root_pid`.
pub(crate) fn kernel_bytes(root_pid: i32, inodes: &HashSet<u64>, missing: &mut Vec<Missing>) -> Option<SocketBytes> {
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
    let found: Vec<&KnownSocket> = found.iter().map(|inode| &known[inode]).collect();
    let objects_bytes: u64 = found.iter().map(|socket| socket.bytes).sum();
    Some(SocketBytes {
        all: objects_bytes + inodes.len() as u64 * file_overhead_bytes(),
        uncharged: if charges_accepted_sockets() { 0 } else { accepted_bytes(&found) },
    })
}

/// What the protocol objects of accepted connections take: those at a port where one of these sockets listens.
fn accepted_bytes(sockets: &[&KnownSocket]) -> u64 {
    let ports: HashSet<u16> = sockets.iter().filter_map(|socket| socket.listens_at).collect();
    let accepted = sockets.iter().filter(|socket| socket.connected_at.is_some_and(|port| ports.contains(&port)));
    accepted.map(|socket| socket.object_bytes).sum()
}

/// Whether one of these processes listens at this TCP port, in the network namespace of the first; `None` if that cannot be
/// read, for want of permission.
pub fn listens_at(pids: &[i32], port: u16) -> Option<bool> {
    let known = known_sockets(*pids.first()?).ok()?;
    let mut is_complete = true;
    for &pid in pids {
        match socket_inodes(pid) {
            Ok(inodes) => {
                let is_it = |inode: &u64| known.get(inode).is_some_and(|socket| socket.listens_at == Some(port));
                if inodes.iter().any(is_it) {
                    return Some(true);
                }
            }
            Err(_) => is_complete = false,
        }
    }
    is_complete.then_some(false)
}

/// Whether a cgroup is charged for the protocol objects of the TCP connections that its processes accept. The kernel makes
/// them when the handshake ends, and only since Linux 6.12 ("memcg: add charging of already allocated slab objects") does
/// `accept` charge them to the one who accepts. The version of cgroups does not matter.
fn charges_accepted_sockets() -> bool {
    KernelVersion::current().is_ok_and(|version| version >= KernelVersion::new(6, 12, 0))
}

/// A socket of the namespace.
#[derive(Clone, Copy, Debug, Default)]
struct KnownSocket {
    /// Its protocol object and its queued payload.
    bytes: u64,
    /// The same without payload, with what the slab loses between objects.
    object_bytes: u64,
    /// The port, if it is a TCP listener.
    listens_at: Option<u16>,
    /// The local port, if it is a TCP connection.
    connected_at: Option<u16>,
}

/// Every socket of the namespace by inode.
fn known_sockets(root_pid: i32) -> ProcResult<HashMap<u64, KnownSocket>> {
    let process = Process::new(root_pid)?;
    let protocols = fs::read_to_string(format!("/proc/{root_pid}/net/protocols"))?;
    let size_bytes = |protocol| object_bytes(&protocols, protocol).unwrap_or(0);
    let slabinfo = fs::read_to_string("/proc/slabinfo").unwrap_or_default();

    let mut known = HashMap::new();
    // A kernel without the protocol has neither the table nor such sockets.
    for (table, protocol) in [(process.tcp(), "TCP"), (process.tcp6(), "TCPv6")] {
        let size_bytes = size_bytes(protocol);
        let object_bytes = slab_share_bytes(&slabinfo, protocol).unwrap_or(size_bytes);
        known.extend(table.into_iter().flatten().map(|socket| {
            // The queues of a listener are numbers of connections, not bytes.
            let listens = socket.state == TcpState::Listen;
            let queued_bytes = if listens { 0 } else { u64::from(socket.rx_queue) + u64::from(socket.tx_queue) };
            let port = socket.local_address.port();
            let known = KnownSocket {
                bytes: size_bytes + queued_bytes,
                object_bytes,
                listens_at: listens.then_some(port),
                connected_at: (!listens).then_some(port),
            };
            (socket.inode, known)
        }));
    }
    for (table, protocol) in [(process.udp(), "UDP"), (process.udp6(), "UDPv6")] {
        let object_bytes = size_bytes(protocol);
        known.extend(table.into_iter().flatten().map(|socket| {
            let queued_bytes = u64::from(socket.rx_queue) + u64::from(socket.tx_queue);
            (socket.inode, KnownSocket { bytes: object_bytes + queued_bytes, ..KnownSocket::default() })
        }));
    }
    let unix = KnownSocket { bytes: size_bytes("UNIX"), ..KnownSocket::default() };
    known.extend(process.unix().into_iter().flatten().map(|socket| (socket.inode, unix)));
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

/// What an object of a cache costs: its share of the pages of a slab.
fn slab_share_bytes(slabinfo: &str, cache: &str) -> Option<u64> {
    let [objects, pages] = [column(slabinfo, cache, 4)?, column(slabinfo, cache, 5)?];
    (pages * procfs::page_size()).checked_div(objects)
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
        // Four pages hold nineteen.
        assert_eq!(slab_share_bytes(SLABINFO, "sock_inode_cache"), Some(4 * procfs::page_size() / 19));
    }

    #[test]
    fn only_connections_at_a_listeners_port_were_accepted() {
        let at = |listens_at, connected_at| KnownSocket { bytes: 9, object_bytes: 100, listens_at, connected_at };
        let sockets =
            [at(Some(80), None), at(None, Some(80)), at(None, Some(80)), at(None, Some(5432)), at(None, None)];
        assert_eq!(accepted_bytes(&sockets.iter().collect::<Vec<_>>()), 200);
    }

    #[test]
    fn only_sockets_have_socket_inodes() {
        assert_eq!(socket_inode("socket:[4711]"), Some(4711));
        assert_eq!(socket_inode("pipe:[4711]"), None);
        assert_eq!(socket_inode("/tmp/socket:[1]"), None);
    }
}
