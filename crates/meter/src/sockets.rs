//! Estimates the kernel memory of sockets from `/proc`.
//!
//! A socket is several slab objects: the protocol's own (`struct tcp_sock`; `/proc/net/protocols` has its size), the
//! inode that contains the `struct socket`, a dentry and a `struct file`. Its queued payload comes on top.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, Split};
use std::slice;

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

/// The kernel memory of some sockets, looked up step by step: the kernel takes a second to list 100,000 of them.
#[derive(Debug)]
pub(crate) struct SocketWalk {
    root_pid: i32,
    found: HashMap<u64, KnownSocket>,
    tables: slice::Iter<'static, Table>,
    open: Option<OpenTable>,
    /// `/proc/net/protocols`.
    protocols: String,
    /// Empty where it is not readable.
    slabinfo: String,
}

impl SocketWalk {
    /// A walk through the tables of the network namespace of `root_pid`.
    ///
    /// # Errors
    /// `/proc/PID/net` cannot be read.
    pub(crate) fn new(root_pid: i32) -> io::Result<Self> {
        Ok(Self {
            root_pid,
            found: HashMap::new(),
            tables: TABLES.iter(),
            open: None,
            protocols: fs::read_to_string(format!("/proc/{root_pid}/net/protocols"))?,
            slabinfo: fs::read_to_string("/proc/slabinfo").unwrap_or_default(),
        })
    }

    /// Looks for the sockets `inodes` in the next lines. Returns false if there are none.
    pub(crate) fn read_next(&mut self, inodes: &HashSet<u64>) -> bool {
        let Some(open) = &mut self.open else {
            let Some(table) = self.tables.next() else { return false };
            self.open = OpenTable::open(table, self.root_pid, &self.protocols, &self.slabinfo);
            return true;
        };
        for _ in 0..LINES_PER_STEP {
            let Some(Ok(line)) = open.lines.next() else {
                self.open = None;
                return true;
            };
            let known = open.parse(&String::from_utf8_lossy(&line)).filter(|(inode, _)| inodes.contains(inode));
            self.found.extend(known);
        }
        true
    }

    /// The sum over the sockets `inodes`.
    pub(crate) fn finish(self, inodes: &HashSet<u64>, missing: &mut Vec<Missing>) -> SocketBytes {
        let unknown = inodes.len() - self.found.len();
        if unknown > 0 {
            // Neither bound nor connected, reset by the peer, of another protocol (netlink), or in another namespace.
            let why = format!("{unknown} sockets are not listed in /proc/net: only their files are counted");
            missing.push(Missing { figure: "sockets_bytes", why });
        }
        let found: Vec<_> = self.found.into_values().collect();
        let objects_bytes: u64 = found.iter().map(|socket| socket.bytes).sum();
        SocketBytes {
            all: objects_bytes + inodes.len() as u64 * file_overhead_bytes(&self.slabinfo),
            uncharged: if charges_accepted_sockets() { 0 } else { accepted_bytes(&found) },
        }
    }
}

/// What the protocol objects of accepted connections take: those at a port where one of these sockets listens.
fn accepted_bytes(sockets: &[KnownSocket]) -> u64 {
    let ports: HashSet<u16> = sockets.iter().filter_map(|socket| socket.listens_at).collect();
    let accepted = sockets.iter().filter(|socket| socket.connected_at.is_some_and(|port| ports.contains(&port)));
    accepted.map(|socket| socket.object_bytes).sum()
}

/// Whether one of these processes listens at this TCP port, in the network namespace of the first; `None` if that cannot be
/// read, for want of permission.
pub fn listens_at(pids: &[i32], port: u16) -> Option<bool> {
    let read: Vec<_> = pids.iter().map(|&pid| socket_inodes(pid)).collect();
    let is_complete = read.iter().all(Result::is_ok);
    let inodes = read.into_iter().flatten().flatten().collect();
    let mut walk = SocketWalk::new(*pids.first()?).ok()?;
    while walk.read_next(&inodes) {}
    let listens = walk.found.values().any(|socket| socket.listens_at == Some(port));
    (listens || is_complete).then_some(listens)
}

/// Whether a cgroup is charged for the protocol objects of the TCP connections that its processes accept. The kernel makes
/// them when the handshake ends, and only since Linux 6.12 ("memcg: add charging of already allocated slab objects") does
/// `accept` charge them to the one who accepts. The version of cgroups does not matter.
fn charges_accepted_sockets() -> bool {
    KernelVersion::current().is_ok_and(|version| version >= KernelVersion::new(6, 12, 0))
}

/// A socket of the namespace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
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

/// A table of sockets in `/proc/PID/net`.
#[derive(Debug)]
struct Table {
    name: &'static str,
    /// As in `/proc/net/protocols`.
    protocol: &'static str,
    /// The number of the column that has the inode.
    inode_column: usize,
}

const TABLES: [Table; 5] = [
    Table { name: "tcp", protocol: "TCP", inode_column: 9 },
    Table { name: "tcp6", protocol: "TCPv6", inode_column: 9 },
    Table { name: "udp", protocol: "UDP", inode_column: 9 },
    Table { name: "udp6", protocol: "UDPv6", inode_column: 9 },
    Table { name: "unix", protocol: "UNIX", inode_column: 6 },
];
/// Some 100 µs.
const LINES_PER_STEP: usize = 64;
/// `TCP_LISTEN` of `include/net/tcp_states.h`.
const LISTEN: &str = "0A";

#[derive(Debug)]
struct OpenTable {
    table: &'static Table,
    /// Not text: a UNIX socket may have any bytes for a name.
    lines: Split<BufReader<File>>,
    /// The size of a protocol object.
    size_bytes: u64,
    /// The same with what the slab loses between objects.
    object_bytes: u64,
}

impl OpenTable {
    /// `None` if the kernel lacks the protocol: then there are no such sockets either.
    fn open(table: &'static Table, root_pid: i32, protocols: &str, slabinfo: &str) -> Option<Self> {
        let file = File::open(format!("/proc/{root_pid}/net/{}", table.name)).ok()?;
        let size_bytes = object_bytes(protocols, table.protocol).unwrap_or(0);
        let object_bytes = slab_share_bytes(slabinfo, table.protocol).unwrap_or(size_bytes);
        Some(Self { table, lines: BufReader::new(file).split(b'\n'), size_bytes, object_bytes })
    }

    /// The inode of the socket in this line, and the socket; `None` for the heading.
    fn parse(&self, line: &str) -> Option<(u64, KnownSocket)> {
        let columns: Vec<&str> = line.split_whitespace().collect();
        let inode = columns.get(self.table.inode_column)?.parse().ok()?;
        let (mut bytes, mut listens_at, mut connected_at) = (self.size_bytes, None, None);
        let is_tcp = self.table.protocol.starts_with("TCP");
        let listens = is_tcp && columns[3] == LISTEN;
        // The queues of a listener are numbers of connections, not bytes.
        if !listens && self.table.protocol != "UNIX" {
            let queues = columns[4].split(':').map(|bytes| u64::from_str_radix(bytes, 16).unwrap_or(0));
            bytes += queues.sum::<u64>();
        }
        if is_tcp {
            let port = columns[1].rsplit(':').next().and_then(|port| u16::from_str_radix(port, 16).ok());
            (listens_at, connected_at) = if listens { (port, None) } else { (None, port) };
        }
        Some((inode, KnownSocket { bytes, object_bytes: self.object_bytes, listens_at, connected_at }))
    }
}

/// The size of a socket's file, dentry and inode, from `/proc/slabinfo` (root only) or the fallback.
fn file_overhead_bytes(slabinfo: &str) -> u64 {
    let slab = |name| slab_object_bytes(slabinfo, name);
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
        assert_eq!(accepted_bytes(&sockets), 200);
    }

    fn parse(name: &str, line: &str) -> Option<(u64, KnownSocket)> {
        let table = TABLES.iter().find(|table| table.name == name).unwrap();
        let lines = BufReader::new(File::open("/dev/null").unwrap()).split(b'\n');
        OpenTable { table, lines, size_bytes: 1000, object_bytes: 1100 }.parse(line)
    }

    #[test]
    fn a_connection_has_its_queued_bytes_and_a_listener_none() {
        let heading =
            "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode";
        assert_eq!(parse("tcp", heading), None);
        let line =
            "   7: 0100007F:1F90 0100007F:C350 01 00000010:00000200 00:00000000 00000000     0        0 4711 1 0 20";
        let known = KnownSocket { bytes: 1528, object_bytes: 1100, listens_at: None, connected_at: Some(8080) };
        assert_eq!(parse("tcp", line), Some((4711, known)));
        let line = "   0: 00000000000000000000000000000000:1F90 00000000000000000000000000000000:0000 0A \
                    00000000:00001000 00:00000000 00000000     0        0 4712 1 0 100";
        let known = KnownSocket { bytes: 1000, object_bytes: 1100, listens_at: Some(8080), connected_at: None };
        assert_eq!(parse("tcp6", line), Some((4712, known)));
    }

    #[test]
    fn other_sockets_have_no_port_of_tcp() {
        let line = "  123: 00000000:0044 00000000:0000 07 00000000:00000300 00:00000000 00000000   0   0 815 2 0 0";
        let known = KnownSocket { bytes: 1768, object_bytes: 1100, ..KnownSocket::default() };
        assert_eq!(parse("udp", line), Some((815, known)));
        let line = "0000000000000000: 00000002 00000000 00010000 0001 01 816 /run/some socket";
        let known = KnownSocket { bytes: 1000, object_bytes: 1100, ..KnownSocket::default() };
        assert_eq!(parse("unix", line), Some((816, known)));
    }

    #[test]
    fn only_sockets_have_socket_inodes() {
        assert_eq!(socket_inode("socket:[4711]"), Some(4711));
        assert_eq!(socket_inode("pipe:[4711]"), None);
        assert_eq!(socket_inode("/tmp/socket:[1]"), None);
    }
}
