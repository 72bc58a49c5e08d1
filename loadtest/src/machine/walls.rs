//! The walls of a machine, from what was read there: how many connections each limit allows. Nothing is read here.

use std::path::PathBuf;

use common::limits::{self, Ceiling, KernelLimits};
use common::listener::DEFAULT_BACKLOG;
use results::Target;
use results::walls::{Remedy, Side, Wall};

/// File descriptors that loadtest needs besides its connections.
const OWN_SPARE_DESCRIPTORS: usize = 64;
/// Ports to leave for admin connections and other programs.
const PORTS_BESIDES: usize = 256;
/// What the load generator takes: without a connection, and for each, with its socket's 3.5 kB in the kernel (measured on
/// 2026-11-30 with 100 and with 10,000: 40 MB, and 1.8 kB of its own).
const CLIENT_BYTES: (u64, u64) = (40_000_000, 5_500);
/// Data that waits to be read takes a page at least; at each end of a connection there may be some.
const PAGES_QUEUED: u64 = 1;
/// Room in each of several processes of a server, besides its part and a tenth of it.
const SPARE_ROOM: usize = 64;
/// Ports that may be used without being root.
const MOST_PORTS: usize = 65_536 - 1_024;

/// What is asked of a machine.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    /// How many connections.
    pub(crate) connections: usize,
    /// The servers that are to run here, one at a time, and the RAM of each, if that was ever measured; none if the server is
    /// elsewhere.
    pub(crate) servers: Vec<Server>,
    /// Processes of a server, which share its port.
    pub(crate) server_processes: usize,
    /// Processes of the users on this machine. Workers on others see to their own limits.
    pub(crate) client_processes: usize,
    /// Addresses that the connections come from.
    pub(crate) sources: usize,
}

/// A server, and the RAM that it takes, if that was ever measured.
pub(crate) type Server = (Target, Option<RamCost>);

/// What a server takes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RamCost {
    /// Without a connection, in bytes.
    pub(crate) base_bytes: f64,
    /// For each connection, in bytes.
    pub(crate) connection_bytes: f64,
}

/// What was read. `None`: there is no such limit, or it cannot be read.
#[derive(Clone, Debug, Default)]
pub(crate) struct Readings {
    /// Limits of processes.
    pub(crate) kernel: KernelLimits,
    /// The cgroup's file with the limit of processes.
    pub(crate) pids_file: Option<PathBuf>,
    /// Ports of an address to connect from.
    pub(crate) ports: Option<usize>,
    /// The longest backlog.
    pub(crate) somaxconn: Option<u64>,
    /// Pages that TCP may queue in all.
    pub(crate) tcp_pages: Option<u64>,
    /// Connections that the firewall may still track.
    pub(crate) conntrack: Option<Share>,
    /// Files that may still be opened on the whole machine.
    pub(crate) files: Option<Share>,
    /// Tasks in the pids cgroup, which a new limit must have room for, too.
    pub(crate) pids_used: u64,
    /// What a user's epoll instances may watch.
    pub(crate) epoll_watches: Option<u64>,
    /// RAM that is free or can be freed, in bytes.
    pub(crate) ram_bytes: Option<u64>,
}

/// What is left of something that others on this machine use, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Share {
    /// What is left.
    pub(crate) left: u64,
    /// What is used: a new limit must have room for it.
    pub(crate) used: u64,
}

/// What must be written to move a wall.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Knob {
    /// A file of the kernel's.
    File(PathBuf),
    /// A hard limit of processes, to this value.
    HardLimit(usize),
}

impl RamCost {
    /// As recorded in this repository.
    pub(crate) fn recorded(target: Target) -> Option<Self> {
        let (base, connection) = target.recorded_ram_bytes()?;
        Some(Self { base_bytes: base as f64, connection_bytes: connection as f64 })
    }
}

impl Asked {
    /// So many connections to each of these servers in turn, which take the RAM that is recorded.
    pub(crate) fn new(connections: usize, targets: &[Target]) -> Self {
        let servers = targets.iter().map(|&target| (target, RamCost::recorded(target))).collect();
        Self { connections, servers, server_processes: 1, client_processes: 1, sources: 1 }
    }

    /// The servers.
    pub(crate) fn targets(&self) -> impl Iterator<Item = Target> {
        self.servers.iter().map(|(target, _)| *target)
    }

    /// How many ends of each connection are on this machine.
    fn ends(&self) -> u64 {
        if self.servers.is_empty() { 1 } else { 2 }
    }

    fn side(&self) -> Side {
        if self.servers.is_empty() { Side::Client } else { Side::Both }
    }
}

/// All walls: first those of the load generator, then of both ends, then of the servers. `may` says whether this user may
/// move one, and why not.
pub(crate) fn walls(asked: &Asked, readings: &Readings, may: impl Fn(&Knob) -> Result<(), String>) -> Vec<Wall> {
    let drafts = [client(asked, readings), shared(asked, readings), servers(asked, readings)].concat();
    drafts.into_iter().map(|draft| draft.finish(asked.connections, &may)).collect()
}

/// A wall before it is compared with what is asked.
#[derive(Clone)]
struct Draft {
    name: String,
    side: Side,
    targets: Vec<Target>,
    limit: u64,
    unit: &'static str,
    allows: Option<u64>,
    is_estimate: bool,
    moves: Moves,
}

/// How a wall is moved to so many connections.
#[derive(Clone)]
enum Moves {
    /// No setting does.
    No,
    /// This sysctl, at so many units for each connection, and so many besides.
    Sysctl {
        per_connection: u64,
        besides: u64,
    },
    Ports {
        sources: usize,
    },
    TcpPages {
        ends: u64,
    },
    /// A limit for so many processes of a server.
    Limit(limits::Wall, usize),
    /// The limit of a pids cgroup in which so many tasks are already.
    Pids {
        used: u64,
        file: Option<PathBuf>,
    },
    OwnFiles {
        processes: usize,
    },
}

impl Draft {
    fn finish(self, connections: usize, may: &impl Fn(&Knob) -> Result<(), String>) -> Wall {
        let is_hit = self.allows.is_some_and(|allows| allows < connections as u64);
        let goal = if is_hit { connections } else { self.allows.map_or(connections, |allows| 2 * allows as usize) };
        let remedy = self.moves.command(&self.name, goal).map(|(command, knob)| {
            let why_not = may(&knob).err();
            Remedy { command, is_permitted: why_not.is_none(), why_not }
        });
        Wall {
            name: self.name,
            side: self.side,
            targets: self.targets.iter().map(|target| target.name().to_owned()).collect(),
            limit: self.limit,
            unit: self.unit.to_owned(),
            allows: self.allows,
            is_hit,
            is_estimate: self.is_estimate,
            remedy,
        }
    }
}

impl Moves {
    /// The command, and what it writes.
    fn command(&self, name: &str, connections: usize) -> Option<(String, Knob)> {
        let sysctl = |value: String| {
            let path = PathBuf::from("/proc/sys").join(name.replace('.', "/"));
            (format!("sysctl -w {name}={value}"), Knob::File(path))
        };
        let hard = |flag: &str, value: usize| (format!("ulimit -H{flag} {value}"), Knob::HardLimit(value));
        Some(match self {
            Moves::No => return None,
            Moves::Sysctl { per_connection, besides } => {
                sysctl((per_connection * connections as u64 + besides).to_string())
            }
            Moves::Ports { sources } if connections.div_ceil(*sources) + PORTS_BESIDES > MOST_PORTS => return None,
            Moves::Ports { .. } => sysctl("'1024 65535'".into()),
            Moves::TcpPages { ends } => {
                let max = connections as u64 * ends * PAGES_QUEUED;
                sysctl(format!("'{} {} {max}'", max / 2, max * 3 / 4))
            }
            Moves::OwnFiles { processes } => hard("n", connections.div_ceil(*processes) + OWN_SPARE_DESCRIPTORS),
            Moves::Pids { used, file } => {
                let needed = limits::needed(limits::Wall::PidsCgroup, connections) as u64 + used;
                let file = file.clone()?;
                (format!("echo {needed} > {}", file.display()), Knob::File(file))
            }
            Moves::Limit(wall, processes) => {
                let each = if is_of_each(*wall) { room_of_process(connections, *processes) } else { connections };
                let needed = limits::needed(*wall, each);
                match wall {
                    limits::Wall::OpenFiles => hard("n", needed),
                    limits::Wall::UserProcesses => hard("u", needed),
                    limits::Wall::MapCount | limits::Wall::PidMax | limits::Wall::ThreadsMax => {
                        sysctl(needed.to_string())
                    }
                    limits::Wall::PidsCgroup => return None,
                }
            }
        })
    }
}

/// What limits the load generator.
fn client(asked: &Asked, readings: &Readings) -> Vec<Draft> {
    if asked.client_processes == 0 {
        return Vec::new();
    }
    let draft = |name: &str, limit: usize, unit, allows: usize, moves| Draft {
        name: name.to_owned(),
        side: Side::Client,
        targets: Vec::new(),
        limit: limit as u64,
        unit,
        allows: Some(allows as u64),
        is_estimate: false,
        moves,
    };
    let (processes, sources) = (asked.client_processes, asked.sources);
    let files = |files: usize| {
        let allows = files.saturating_sub(OWN_SPARE_DESCRIPTORS).saturating_mul(processes);
        draft("open files", files, "files", allows, Moves::OwnFiles { processes })
    };
    let ports = |ports: usize| {
        let allows = ports.saturating_sub(PORTS_BESIDES) * sources;
        draft("net.ipv4.ip_local_port_range", ports * sources, "ports", allows, Moves::Ports { sources })
    };
    readings.kernel.open_files.map(files).into_iter().chain(readings.ports.map(ports)).collect()
}

/// What limits both ends together.
fn shared(asked: &Asked, readings: &Readings) -> Vec<Draft> {
    let (ends, side) = (asked.ends(), asked.side());
    let draft = |name: &str, limit: u64, unit, allows: Option<u64>, moves| Draft {
        name: name.to_owned(),
        side,
        targets: Vec::new(),
        limit,
        unit,
        allows,
        is_estimate: matches!(moves, Moves::TcpPages { .. }),
        moves,
    };
    let sysctl = |per_connection| Moves::Sysctl { per_connection, besides: 0 };
    let files = |Share { left, used }| {
        let moves = Moves::Sysctl { per_connection: ends, besides: used };
        draft("fs.file-max", left, "left", Some(left / ends), moves)
    };
    let tracked = |Share { left, used }| {
        let moves = Moves::Sysctl { per_connection: 1, besides: 1_024 + used };
        draft("net.netfilter.nf_conntrack_max", left, "left", Some(left), moves)
    };
    let pages =
        |pages| draft("net.ipv4.tcp_mem", pages, "pages", Some(pages / ends / PAGES_QUEUED), Moves::TcpPages { ends });
    let backlog = |longest: u64| {
        let wanted = DEFAULT_BACKLOG.into();
        let moves = if longest < wanted { Moves::Sysctl { per_connection: 0, besides: wanted } } else { Moves::No };
        Draft { side: Side::Server, ..draft("net.core.somaxconn", longest, "waiting", None, moves) }
    };
    let somaxconn = readings.somaxconn.filter(|_| !asked.servers.is_empty());
    let watches = |watches| draft("fs.epoll.max_user_watches", watches, "watches", Some(watches / ends), sysctl(ends));
    let drafts = [
        readings.files.map(files),
        readings.epoll_watches.map(watches),
        readings.conntrack.map(tracked),
        readings.tcp_pages.map(pages),
        somaxconn.map(backlog),
    ];
    drafts.into_iter().flatten().collect()
}

/// What limits the servers, each wall once with those that it limits; and RAM, which limits each differently.
fn servers(asked: &Asked, readings: &Readings) -> Vec<Draft> {
    let mut drafts: Vec<Draft> = Vec::new();
    for &(target, _) in &asked.servers {
        for ceiling in ceilings(target, &readings.kernel) {
            let draft = of_ceiling(ceiling, target, asked.server_processes, readings);
            match drafts.iter_mut().find(|known| (&known.name, known.allows) == (&draft.name, draft.allows)) {
                Some(known) => known.targets.push(target),
                None => drafts.push(draft),
            }
        }
    }
    drafts.extend(
        asked.servers.iter().filter_map(|&(target, cost)| Some(ram(asked, target, cost?, readings.ram_bytes?))),
    );
    drafts
}

/// What the kernel allows a server with a connection for each file, thread or process.
fn ceilings(target: Target, kernel: &KernelLimits) -> Vec<Ceiling> {
    match target {
        Target::Prefork => kernel.processes(),
        Target::Threads => [vec![kernel.descriptors()], kernel.threads()].concat(),
        Target::Threadpool | Target::Async | Target::AsyncCodec | Target::AsyncUring => vec![kernel.descriptors()],
    }
}

fn of_ceiling(ceiling: Ceiling, target: Target, processes: usize, readings: &Readings) -> Draft {
    let kernel = &readings.kernel;
    let (name, limit, unit) = match ceiling.wall {
        limits::Wall::OpenFiles => ("open files", kernel.open_files, "files"),
        limits::Wall::MapCount => ("vm.max_map_count", kernel.map_count, "maps"),
        limits::Wall::PidMax => ("kernel.pid_max", kernel.pid_max, "tasks"),
        limits::Wall::ThreadsMax => ("kernel.threads-max", kernel.threads_max, "tasks"),
        limits::Wall::UserProcesses => ("processes of a user", kernel.user_processes, "tasks"),
        limits::Wall::PidsCgroup => ("pids cgroup", kernel.pids_left, "tasks left"),
    };
    let each = ceiling.connections;
    let allows = if is_of_each(ceiling.wall) { held_by(processes, each) } else { each };
    Draft {
        name: name.to_owned(),
        side: Side::Server,
        targets: vec![target],
        limit: limit.unwrap_or(usize::MAX) as u64,
        unit,
        allows: Some(allows as u64),
        is_estimate: false,
        moves: match ceiling.wall {
            limits::Wall::PidsCgroup => Moves::Pids { used: readings.pids_used, file: readings.pids_file.clone() },
            wall => Moves::Limit(wall, processes),
        },
    }
}

/// Whether each process has this limit for itself.
fn is_of_each(wall: limits::Wall) -> bool {
    matches!(wall, limits::Wall::OpenFiles | limits::Wall::MapCount)
}

/// How many connections each of several processes of a server must have room for: its part, a tenth of it, and 64. A hash
/// chooses the process, so parts differ by chance, by the root of a part or less (one standard deviation): this is at least
/// five of them, whatever the part.
pub(crate) fn room_of_process(connections: usize, processes: usize) -> usize {
    let part = connections.div_ceil(processes);
    if processes == 1 { part } else { part + part / 10 + SPARE_ROOM }
}

/// How many connections so many processes hold together, with this room in each: the inverse.
fn held_by(processes: usize, room: usize) -> usize {
    if processes == 1 { room } else { (room.saturating_sub(SPARE_ROOM) / 11 * 10).saturating_mul(processes) }
}

/// Client and server are both on this machine.
fn ram(asked: &Asked, target: Target, cost: RamCost, available_bytes: u64) -> Draft {
    let client_bytes = CLIENT_BYTES.0 as f64 * asked.client_processes.max(1) as f64;
    let base_bytes = client_bytes + cost.base_bytes.max(0.0) * asked.server_processes as f64;
    let each_bytes = CLIENT_BYTES.1 as f64 + cost.connection_bytes.max(1.0);
    Draft {
        name: "RAM".to_owned(),
        side: Side::Both,
        targets: vec![target],
        limit: available_bytes,
        unit: "bytes",
        allows: Some(((available_bytes as f64 - base_bytes).max(0.0) / each_bytes) as u64),
        is_estimate: true,
        moves: Moves::No,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use results::walls::first;

    /// A small virtual machine with Docker on it.
    fn small() -> Readings {
        Readings {
            kernel: KernelLimits {
                open_files: Some(1_048_576),
                map_count: Some(65_530),
                pid_max: Some(4_194_304),
                threads_max: Some(7_623),
                user_processes: None,
                pids_left: None,
            },
            pids_file: None,
            ports: Some(28_232),
            somaxconn: Some(4_096),
            tcp_pages: Some(22_314),
            conntrack: Some(Share { left: 31_000, used: 500 }),
            pids_used: 0,
            files: Some(Share { left: 98_000, used: 2_000 }),
            epoll_watches: Some(220_000),
            ram_bytes: Some(700_000_000),
        }
    }

    fn all(connections: usize, readings: &Readings) -> Vec<Wall> {
        walls(&Asked::new(connections, &Target::ALL), readings, |_| Ok(()))
    }

    fn first_of(walls: &[Wall], target: Target) -> (&str, u64) {
        let first = first(walls, target.name()).unwrap();
        (&first.name, first.allows.unwrap())
    }

    fn named<'a>(walls: &'a [Wall], name: &str) -> &'a Wall {
        walls.iter().find(|wall| wall.name == name).unwrap()
    }

    #[test]
    fn several_processes_have_files_and_several_addresses_have_ports_of_their_own() {
        let readings = Readings {
            kernel: KernelLimits { open_files: Some(20_000), ..KernelLimits::default() },
            ports: Some(28_232),
            ..Readings::default()
        };
        let one = Asked::new(100_000, &[Target::AsyncCodec]);
        let several = Asked { server_processes: 7, client_processes: 7, sources: 8, ..one.clone() };
        let allows = |asked: &Asked| -> Vec<_> {
            walls(asked, &readings, |_| Ok(())).iter().map(|wall| wall.allows.unwrap()).collect()
        };
        assert_eq!(allows(&one), [19_936, 27_976, 18_800]);
        assert_eq!(allows(&several), [7 * 19_936, 8 * 27_976, 7 * 17_030]);
        // What moves a wall is for each process.
        let remedies = walls(&Asked { connections: 200_000, ..several }, &readings, |_| Ok(()));
        let remedies: Vec<_> = remedies.iter().map(|wall| wall.remedy.clone().unwrap().command).collect();
        assert_eq!(remedies[0], "ulimit -Hn 28636");
        assert!(remedies[2].starts_with("ulimit -Hn 3"), "{remedies:?}");
    }

    #[test]
    fn what_processes_have_room_for_they_hold() {
        for (connections, processes) in [(10_000, 1), (100_000, 7), (1_000_000, 59), (3, 2), (640, 2)] {
            let room = room_of_process(connections, processes);
            let part = connections as f64 / processes as f64;
            assert!(processes == 1 || room as f64 - part >= 5.0 * part.sqrt(), "{connections} {processes}: {room}");
            let held = held_by(processes, room + 11);
            assert!(held >= connections && room_of_process(held, processes) <= room + 11, "{held} of {connections}");
        }
    }

    #[test]
    fn each_model_has_its_own_first_wall() {
        let found = all(10_000, &small());
        assert_eq!(first_of(&found, Target::Threads), ("kernel.threads-max", 7_111));
        assert_eq!(first_of(&found, Target::AsyncCodec), ("net.ipv4.tcp_mem", 11_157));
        let (name, allows) = first_of(&found, Target::Prefork);
        assert!(name == "RAM" && (4_500..6_500).contains(&allows), "{name} {allows}");
        // A wall that is the same for several is there once.
        assert_eq!(named(&found, "kernel.threads-max").targets, ["prefork", "threads"]);
        assert_eq!(named(&found, "vm.max_map_count").targets, ["threads"]);
    }

    #[test]
    fn a_hit_wall_says_how_far_it_must_be_moved() {
        let found = all(40_000, &small());
        let remedy = |name: &str| named(&found, name).remedy.clone().unwrap().command;
        assert_eq!(remedy("kernel.threads-max"), "sysctl -w kernel.threads-max=40512");
        assert_eq!(remedy("vm.max_map_count"), "sysctl -w vm.max_map_count=81024");
        assert_eq!(remedy("net.ipv4.ip_local_port_range"), "sysctl -w net.ipv4.ip_local_port_range='1024 65535'");
        assert_eq!(remedy("net.ipv4.tcp_mem"), "sysctl -w net.ipv4.tcp_mem='40000 60000 80000'");
        assert_eq!(remedy("net.netfilter.nf_conntrack_max"), "sysctl -w net.netfilter.nf_conntrack_max=41524");
        assert!(named(&found, "RAM").remedy.is_none() && named(&found, "RAM").is_estimate);
        // No range of ports is that wide.
        assert!(named(&all(70_000, &small()), "net.ipv4.ip_local_port_range").remedy.is_none());
        let is_hit = |found: &[Wall]| found.iter().filter(|wall| wall.is_hit).count();
        assert_eq!(is_hit(&all(1_000, &small())), 0);
    }

    #[test]
    fn a_container_has_walls_of_its_own() {
        let kernel = KernelLimits { open_files: Some(1_024), pids_left: Some(90), ..KernelLimits::default() };
        let pids_file = Some(PathBuf::from("/cg/pids.max"));
        let readings = Readings { kernel, pids_file, pids_used: 30, ..Readings::default() };
        let denied = |knob: &Knob| match knob {
            Knob::File(path) => Err(format!("{} is read-only", path.display())),
            Knob::HardLimit(_) => Ok(()),
        };
        let found = walls(&Asked::new(1_000, &[Target::Prefork, Target::Async]), &readings, denied);
        assert_eq!(first_of(&found, Target::Prefork), ("pids cgroup", 74));
        let remedy = named(&found, "pids cgroup").remedy.clone().unwrap();
        assert_eq!(remedy.command, "echo 1046 > /cg/pids.max");
        assert_eq!(remedy.why_not.as_deref(), Some("/cg/pids.max is read-only"));
        assert_eq!(first_of(&found, Target::Async), ("open files", 896));
        assert!(named(&found, "open files").remedy.as_ref().unwrap().is_permitted);
        // What cannot be read is no wall.
        assert_eq!(found.len(), 3);
    }

    #[test]
    fn a_server_elsewhere_is_not_limited_here() {
        let found = walls(&Asked::new(10_000, &[]), &small(), |_| Ok(()));
        assert!(found.iter().all(|wall| wall.side == Side::Client && wall.targets.is_empty()));
        assert_eq!(named(&found, "net.ipv4.tcp_mem").allows, Some(22_314));
    }
}
