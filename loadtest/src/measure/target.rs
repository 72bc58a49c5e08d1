//! A run against one of the project's servers, started for it or already running elsewhere.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::Result;
use common::db::Latency;
use common::limits::DEFAULT_MAX_CONNECTIONS;
use load::net::{Endpoint, Sources};
use load::{LoadSpec, Place, Requests};
use results::event::Sink;
use results::run::Wait;
use results::settings::LoadSettings;
use results::{RunResult, Target};

use super::run::{self, OwnServer, Ready, RunSpec};
use crate::machine::command_line;
use crate::machine::cpus::Split;
use crate::machine::hash;
use crate::machine::interrupt::Interrupt;
use crate::machine::walls::room_of_process;
use crate::subject::postgres::AskedDatabase;
use crate::subject::remote::Remote;
use crate::subject::{Launch, Subject, build};

/// How long the server may take to exit, on top of its drain timeout.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the server lets connections idle, on top of the time between two requests: a million take minutes until all are
/// there, and only then each of them asks.
const IDLE_TIMEOUT: Duration = Duration::from_secs(600);

/// How to measure a target.
#[derive(Clone, Debug)]
pub(crate) struct TargetSpec {
    /// How many connections to hold.
    pub(crate) connections: usize,
    /// How long to measure, once the server holds all connections.
    pub(crate) duration: Duration,
    /// Requests a second; `None` means as many as the server takes.
    pub(crate) rate: Option<u64>,
    /// How long a database query takes in the server, for its `--db-wait`.
    pub(crate) db_wait: Latency,
    /// The real database that it asks in place of the simulated one.
    pub(crate) database: Option<AskedDatabase>,
    /// When to give up on a request, count it as a timeout, and replace its connection.
    pub(crate) timeout: Duration,
    /// The limit on the server's RAM.
    pub(crate) ram_limit_bytes: Option<u64>,
    /// The CPUs of the server and of the load generator.
    pub(crate) cpus: Option<Split>,
    /// Processes of the server, which share a port.
    pub(crate) processes: usize,
    /// Extra flags for the server.
    pub(crate) server_flags: Vec<String>,
    /// The round of the sweep, counted from 1.
    pub(crate) round: Option<u32>,
    /// Where the users are.
    pub(crate) place: Arc<dyn Place>,
    /// Where their connections come from.
    pub(crate) sources: Sources,
}

/// Where the server is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Location<'a> {
    /// To be started from this executable.
    Local(&'a Path),
    /// Already running elsewhere.
    Remote(&'a Remote),
}

/// Runs the load against a fresh server. The result records any failure, and no process is left running.
pub(crate) fn run(
    target: Target,
    location: Location<'_>,
    spec: &TargetSpec,
    interrupt: &Interrupt,
    sink: &mut dyn Sink,
) -> RunResult {
    let drain_timeout = spec.drain_timeout();
    let command = match location {
        Location::Local(executable) => spec.command(target, executable, drain_timeout),
        Location::Remote(_) => Vec::new(),
    };
    let run_spec = RunSpec {
        name: target.name().to_owned(),
        command,
        connections: spec.connections,
        duration: spec.duration,
        cpus: spec.cpus.clone(),
        wait: Wait { spec: spec.db_wait.to_string() },
        database: spec.database.clone(),
        load: LoadSettings {
            duration_ms: spec.duration.as_millis() as u64,
            rate: spec.rate,
            threads: threads() * spec.place.processes(),
            timeout_ms: spec.timeout.as_millis() as u64,
            command: command_line::own(),
            ..LoadSettings::default()
        },
        round: spec.round,
        late_after: None,
        stop_timeout: drain_timeout + STOP_TIMEOUT,
    };
    let mut result = run::start(&run_spec, sink);
    if let Location::Local(executable) = location {
        result.server.executable_sha256 = hash::file_sha256(executable).ok();
    }
    match spec.open(target, location, &run_spec.command, interrupt) {
        Ok(ready) => run::run(&run_spec, result, ready, interrupt, sink).0,
        Err(error) => run::not_started(result, &error, interrupt, sink),
    }
}

/// Threads of each process of the load generator: one per CPU.
pub(crate) fn threads() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

impl TargetSpec {
    /// How long every query takes; `None` if that is random.
    pub(crate) fn fixed_wait(&self) -> Option<Duration> {
        match self.db_wait {
            Latency::Fixed(wait) => Some(wait),
            _ => None,
        }
    }

    /// How long an answer takes at least, if that is not random.
    fn answer_time(&self) -> Option<Duration> {
        self.fixed_wait().map(|wait| AskedDatabase::answer_time(self.database.as_ref(), wait))
    }

    /// Starts or finds the server, and prepares a load for it.
    fn open(&self, target: Target, location: Location<'_>, command: &[String], interrupt: &Interrupt) -> Result<Ready> {
        let (subject, address, admins) = match location {
            Location::Local(executable) => {
                // Warm the page cache: the first reader of the file is charged for it, and that must not be the server.
                let _ = std::fs::read(executable);
                let launch = Launch {
                    name: build::package(target),
                    argv: command,
                    processes: self.processes,
                    database_url: self.database.as_ref().map(|database| database.url.as_str()),
                    cpus: self.cpus.as_ref().map(|cpus| &cpus.server),
                    ram_limit_bytes: self.ram_limit_bytes,
                };
                Subject::launch(&launch, interrupt)?
            }
            Location::Remote(remote) => {
                let (address, admin) = remote.addresses()?;
                (Subject::remote(admin)?, address, vec![admin])
            }
        };
        let is_remote = matches!(location, Location::Remote(_));
        let specs = |users| Ok(vec![self.load_spec(address, is_remote, users)?]);
        let generator = self.place.generator(self.connections, &specs)?;
        Ok(Ready {
            subject,
            generator,
            own: Some(OwnServer { address, admins, is_remote, spawns_processes: target == Target::Prefork }),
        })
    }

    /// What a process with so many of the users is to do.
    fn load_spec(&self, address: SocketAddr, is_remote: bool, users: usize) -> Result<LoadSpec> {
        // A remote server has its own wait, so each request overrides it.
        let wait = self.fixed_wait().filter(|_| is_remote);
        let query = wait.map_or_else(String::new, |wait| format!("?wait={}us", wait.as_micros()));
        let get = |path: &str| format!("GET /{path} HTTP/1.1\r\nHost: {address}\r\n\r\n").into_bytes();
        Ok(LoadSpec {
            endpoint: Endpoint::tcp(address).from_sources(self.sources.clone())?,
            greeting: Some(get("health")),
            requests: Requests::Same(get(&query)),
            users,
            threads: threads(),
            timeout: Some(self.timeout),
            // A rate spreads them from the start.
            spread: self.answer_time().filter(|_| self.rate.is_none()).unwrap_or_default(),
            interval: self.interval(),
        })
    }

    /// The time from one request of a connection to its next, at a rate.
    fn interval(&self) -> Option<Duration> {
        self.rate.map(|rate| LoadSpec::interval_at(rate, self.connections))
    }

    fn command(&self, target: Target, executable: &Path, drain_timeout: Duration) -> Vec<String> {
        let mut command = build::command(target, executable, self.db_wait);
        if self.flag_value("--drain-timeout").is_none() {
            command.extend(["--drain-timeout".into(), format!("{}ms", drain_timeout.as_millis())]);
        }
        if self.flag_value("--idle-timeout").is_none() {
            let idle_timeout = IDLE_TIMEOUT + self.interval().unwrap_or_default();
            command.extend(["--idle-timeout".into(), format!("{}s", idle_timeout.as_secs())]);
        }
        let (is_shared, room) = (self.processes > 1, room_of_process(self.connections, self.processes));
        if (is_shared || room > DEFAULT_MAX_CONNECTIONS) && self.flag_value("--max-connections").is_none() {
            command.extend(["--max-connections".into(), room.to_string()]);
        }
        if is_shared {
            command.push("--reuse-port".into());
        }
        command.extend(self.server_flags.iter().cloned());
        command
    }

    /// How long requests in flight may take at the end: about as long as a normal answer.
    fn drain_timeout(&self) -> Duration {
        let given = self.flag_value("--drain-timeout").and_then(|time| quantity::duration(time).ok());
        given.unwrap_or_else(|| self.answer_time().unwrap_or_default() + Duration::from_secs(3))
    }

    /// The value of one of the server's flags.
    fn flag_value(&self, name: &str) -> Option<&str> {
        let mut flags = self.server_flags.iter();
        let rest = flags.find_map(|flag| flag.strip_prefix(name))?;
        // `--flag=value`, or `--flag value`.
        Some(rest.strip_prefix('=').unwrap_or_else(|| flags.next().map_or("", String::as_str)))
    }
}
