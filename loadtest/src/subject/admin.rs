//! The server's own counters, from its admin port.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use common::http::reply::Reply;
use common::limits::LimitedBy;
use common::metrics::{name, part};
use common::postgres::Kind;
use results::database::Database;

/// The server answers even while every worker is busy: a longer silence is a fault.
const TIMEOUT: Duration = Duration::from_secs(5);
/// The names of all that a server counts of its database begin so.
const DATABASE_PREFIX: &str = "c10k_db_";
/// A server of ours answers with some kilobytes; another one could answer without end.
const MAX_ANSWER_BYTES: usize = 1 << 20;

/// The server's counters at one moment. A missing counter is 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ServerCounters {
    /// Connections open now.
    pub(crate) open: u64,
    /// Connections accepted and kept so far.
    pub(crate) accepted: u64,
    /// Connections refused so far.
    pub(crate) refused: u64,
    /// Requests answered so far, well or not.
    pub(crate) answered: u64,
    /// Requests waiting for the database now.
    pub(crate) waiting: u64,
    /// The most requests that ever waited at once.
    pub(crate) waiting_peak: u64,
    /// Requests waiting for a worker now.
    pub(crate) queued: u64,
    /// Its child processes now.
    pub(crate) children: u64,
    /// How often the system refused a thread or a process for a connection.
    pub(crate) spawn_failures: u64,
    /// Whether the open-file limit determines the maximum number of connections.
    pub(crate) is_limited_by_open_files: bool,
    /// Its RAM.
    pub(crate) memory: ServerMemory,
    /// Its database, if it has a real one.
    pub(crate) database: Option<DatabaseCounters>,
}

/// What a server counts of its database.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct DatabaseCounters {
    connects: u64,
    /// In the order of [`Kind::ALL`].
    errors: [u64; Kind::ALL.len()],
    connection_waits: Waits,
    answer_waits: Waits,
}

/// How often something was waited for, and how long in all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Waits {
    count: u64,
    sum_us: u64,
}

/// The RAM that a server reports. A figure that it does not report is `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ServerMemory {
    /// The total of its cgroup.
    pub(crate) total_bytes: Option<u64>,
    /// The highest total ever.
    pub(crate) peak_bytes: Option<u64>,
    /// The limit of its cgroup.
    pub(crate) limit_bytes: Option<u64>,
    /// Processes of the cgroup that were killed because memory ran out.
    pub(crate) oom_kills: u64,
    /// When the figures below were read, in seconds since 1970.
    pub(crate) ledger_at_s: Option<u64>,
    /// RSS of all processes added up.
    pub(crate) rss_sum_bytes: Option<u64>,
    /// PSS of all processes added up.
    pub(crate) pss_bytes: Option<u64>,
    /// Page tables.
    pub(crate) page_tables_bytes: Option<u64>,
    /// Kernel stacks.
    pub(crate) kernel_stacks_bytes: Option<u64>,
    /// Kernel memory of sockets.
    pub(crate) sockets_bytes: Option<u64>,
}

impl ServerCounters {
    /// Fetches the counters.
    pub(crate) fn fetch(admin: SocketAddr) -> io::Result<Self> {
        let mut stream = TcpStream::connect_timeout(&admin, TIMEOUT)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        write!(stream, "GET /metrics HTTP/1.1\r\nHost: {admin}\r\nConnection: close\r\n\r\n")?;
        let (status, body) = read_answer(&mut stream).map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => io::Error::other(format!("no answer in {TIMEOUT:?}")),
            _ => error,
        })?;
        match status {
            200 => Ok(Self::parse(&String::from_utf8_lossy(&body))),
            other => Err(io::Error::other(format!("the answer has status {other}"))),
        }
    }

    /// Fetches those of all processes of a server, one after the other, and adds them up. What several processes use is read
    /// from outside: the memory is that of the first.
    pub(crate) fn fetch_all(admins: &[SocketAddr]) -> io::Result<Self> {
        let all = admins.iter().map(|&admin| Self::fetch(admin));
        all.reduce(|sum, next| Ok(sum?.plus(next?))).unwrap_or_else(|| Ok(Self::default()))
    }

    fn plus(self, other: Self) -> Self {
        Self {
            open: self.open + other.open,
            accepted: self.accepted + other.accepted,
            refused: self.refused + other.refused,
            answered: self.answered + other.answered,
            waiting: self.waiting + other.waiting,
            waiting_peak: self.waiting_peak + other.waiting_peak,
            queued: self.queued + other.queued,
            children: self.children + other.children,
            spawn_failures: self.spawn_failures + other.spawn_failures,
            is_limited_by_open_files: self.is_limited_by_open_files || other.is_limited_by_open_files,
            memory: self.memory,
            database: [self.database, other.database].into_iter().flatten().reduce(DatabaseCounters::plus),
        }
    }

    /// Parses Prometheus' text format.
    fn parse(text: &str) -> Self {
        let mut counters = Self::default();
        for line in text.lines() {
            let Some((series, value)) = line.split_once(' ') else { continue };
            let Some(value) = value.split(' ').next().and_then(|value| value.parse::<f64>().ok()) else { continue };
            let (name, label) = name_and_label(series);
            if name.starts_with(DATABASE_PREFIX) {
                counters.database.get_or_insert_default().parse(name, label, value);
                continue;
            }
            let value = value as u64;
            match name {
                name::CONNECTIONS_OPEN => counters.open = value,
                name::CONNECTIONS_ACCEPTED => counters.accepted = value,
                name::CONNECTIONS_REFUSED => counters.refused = value,
                // One for each status.
                name::REQUESTS => counters.answered += value,
                name::REQUESTS_WAITING => counters.waiting = value,
                name::REQUESTS_WAITING_PEAK => counters.waiting_peak = value,
                name::REQUESTS_QUEUED => counters.queued = value,
                name::CHILDREN => counters.children = value,
                name::SPAWN_FAILURES => counters.spawn_failures = value,
                name::CONNECTIONS_MAX => {
                    counters.is_limited_by_open_files = label == LimitedBy::OpenFiles.name();
                }
                _ => counters.memory.parse(name, label, value),
            }
        }
        counters
    }

    /// Connections that arrived so far.
    pub(crate) fn connections(&self) -> u64 {
        self.accepted + self.refused
    }
}

/// A series' name, and the value of its label, "" without one. No series that is read here has two.
fn name_and_label(series: &str) -> (&str, &str) {
    match series.split_once('{') {
        Some((name, label)) => (name, label.split('"').nth(1).unwrap_or_default()),
        None => (series, ""),
    }
}

/// Reads one answer's status and body.
fn read_answer(stream: &mut TcpStream) -> io::Result<(u16, Vec<u8>)> {
    let mut reply = Reply::with_content();
    let mut bytes = [0; 16 * 1024];
    let mut come = 0;
    loop {
        let count = stream.read(&mut bytes)?;
        come += count;
        if come > MAX_ANSWER_BYTES {
            return Err(io::Error::other("the answer is too long"));
        }
        let answer = if count > 0 { reply.push(&bytes[..count])?.1 } else { reply.end() };
        match answer {
            Some(answer) => return Ok((answer.status, reply.take_content().unwrap_or_default().body)),
            None if count == 0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            None => {}
        }
    }
}

impl DatabaseCounters {
    fn parse(&mut self, name: &str, label: &str, value: f64) {
        let kind = || Kind::ALL.iter().position(|kind| kind.name() == label);
        match name {
            name::DB_CONNECTS => self.connects = value as u64,
            name::DB_ERRORS => kind().into_iter().for_each(|kind| self.errors[kind] = value as u64),
            _ => {
                for (histogram, waits) in [
                    (name::DB_CONNECTION_WAIT, &mut self.connection_waits),
                    (name::DB_ANSWER_WAIT, &mut self.answer_waits),
                ] {
                    match name.strip_prefix(histogram) {
                        Some("_count") => waits.count = value as u64,
                        Some("_sum") => waits.sum_us = (value * 1e6) as u64,
                        _ => {}
                    }
                }
            }
        }
    }

    fn plus(self, other: Self) -> Self {
        Self {
            connects: self.connects + other.connects,
            errors: std::array::from_fn(|kind| self.errors[kind] + other.errors[kind]),
            connection_waits: self.connection_waits.plus(other.connection_waits),
            answer_waits: self.answer_waits.plus(other.answer_waits),
        }
    }

    /// What is `known` of the database, and what has happened since these `earlier` counts.
    pub(crate) fn since(&self, earlier: &Self, known: Database) -> Database {
        let errors = Kind::ALL.iter().zip(self.errors).zip(earlier.errors).filter_map(|((kind, now), before)| {
            let count = now.saturating_sub(before);
            (count > 0).then(|| (kind.name().to_owned(), count))
        });
        let answers = self.answer_waits.since(earlier.answer_waits);
        Database {
            answers: Some(answers.count),
            connection_wait_us: self.connection_waits.since(earlier.connection_waits).mean_us(),
            answer_wait_us: answers.mean_us(),
            connects: Some(self.connects.saturating_sub(earlier.connects)),
            errors: errors.collect(),
            ..known
        }
    }
}

impl Waits {
    fn since(self, earlier: Self) -> Self {
        let Self { count, sum_us } = self;
        Self { count: count.saturating_sub(earlier.count), sum_us: sum_us.saturating_sub(earlier.sum_us) }
    }

    fn plus(self, other: Self) -> Self {
        Self { count: self.count + other.count, sum_us: self.sum_us + other.sum_us }
    }

    fn mean_us(self) -> Option<f64> {
        (self.count > 0).then(|| self.sum_us as f64 / self.count as f64)
    }
}

impl ServerMemory {
    fn parse(&mut self, name: &str, label: &str, value: u64) {
        let figure = match (name, label) {
            (name::CGROUP_MEMORY, _) => &mut self.total_bytes,
            (name::CGROUP_MEMORY_PEAK, _) => &mut self.peak_bytes,
            (name::CGROUP_MEMORY_LIMIT, _) => &mut self.limit_bytes,
            (name::MEMORY_TIMESTAMP, _) => &mut self.ledger_at_s,
            (name::MEMORY_RSS_SUM, _) => &mut self.rss_sum_bytes,
            (name::MEMORY, part::PSS) => &mut self.pss_bytes,
            (name::MEMORY, part::PAGE_TABLES) => &mut self.page_tables_bytes,
            (name::MEMORY, part::KERNEL_STACKS) => &mut self.kernel_stacks_bytes,
            (name::MEMORY, part::SOCKETS) => &mut self.sockets_bytes,
            (name::CGROUP_OOM_KILLS, _) => return self.oom_kills = value,
            _ => return,
        };
        *figure = Some(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn an_answer_that_does_not_end_is_not_kept() {
        const ENDLESS_BYTES: usize = 8 << 20;
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = std::thread::spawn(move || {
            let (mut client, _) = listener.accept().unwrap();
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {ENDLESS_BYTES}\r\n\r\n");
            // It fails when the client has had enough.
            let _ = client.write_all(head.as_bytes()).and_then(|()| client.write_all(&vec![b'#'; ENDLESS_BYTES]));
        });
        let error = ServerCounters::fetch(address).unwrap_err().to_string();
        assert!(error.contains("the answer is too long"), "{error}");
        server.join().unwrap();
    }

    #[test]
    fn the_database_is_what_has_happened_since() {
        let text = |connects: u64, waited: f64| {
            format!(
                "c10k_db_connects_total {connects}\nc10k_db_errors_total{{kind=\"pool_timeout\"}} {connects}\n\
                 c10k_db_errors_total{{kind=\"timeout\"}} 7\nc10k_db_connection_wait_seconds_bucket{{le=\"0.001\"}} 5\n\
                 c10k_db_connection_wait_seconds_sum 0.5\nc10k_db_connection_wait_seconds_count 4\n\
                 c10k_db_answer_wait_seconds_sum {waited}\nc10k_db_answer_wait_seconds_count {connects}\n"
            )
        };
        let [earlier, now] = [text(2, 1.5), text(5, 4.5)].map(|text| ServerCounters::parse(&text).database.unwrap());
        let known = Database { pool: Some(7), ..Database::default() };
        let expected = Database {
            answers: Some(3),
            answer_wait_us: Some(1_000_000.0),
            connects: Some(3),
            errors: [("pool_timeout".to_owned(), 3)].into(),
            ..known.clone()
        };
        assert_eq!(now.since(&earlier, known), expected);
        let both = now.plus(earlier).since(&earlier, Database::default());
        assert_eq!(
            (both.answers, both.errors),
            (Some(5), [("pool_timeout".to_owned(), 5), ("timeout".to_owned(), 7)].into())
        );
        assert_eq!(ServerCounters::parse("c10k_connections_open 12\n").database, None);
    }

    #[test]
    fn counters_are_read_from_prometheus_text() {
        let text = "# HELP c10k_connections_open Connections open now.\n# TYPE c10k_connections_open gauge\n\
            c10k_connections_open 12\nc10k_connections_accepted_total 15 1700000000\nc10k_requests_waiting 3\n\
            c10k_requests_total{code=\"200\"} 20\nc10k_requests_total{code=\"503\"} 3\n\
            c10k_requests_waiting_peak 4\nc10k_requests_queued 7.0\nother{label=\"a b\"} 9\n\
            c10k_memory_bytes{part=\"pss\"} 2048\nc10k_cgroup_memory_limit_bytes 5.36870912e+08\n\
            c10k_spawn_failures_total 2\nc10k_connections_max{limited_by=\"open_files\"} 18800\n";
        let memory = ServerMemory { pss_bytes: Some(2048), limit_bytes: Some(536_870_912), ..ServerMemory::default() };
        let expected = ServerCounters {
            open: 12,
            accepted: 15,
            answered: 23,
            waiting: 3,
            waiting_peak: 4,
            queued: 7,
            memory,
            spawn_failures: 2,
            is_limited_by_open_files: true,
            ..ServerCounters::default()
        };
        assert_eq!(ServerCounters::parse(text), expected);
        assert_eq!(expected.connections(), 15);
    }
}
