//! The server under test, as far as it can be metered: one that we start, one that runs here or elsewhere, or nothing that
//! we know of.

pub(crate) mod admin;
pub(crate) mod build;
pub(crate) mod launch;
pub(crate) mod memory;
pub(crate) mod null;
mod process;
pub(crate) mod remote;

use std::env;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Error, Result, anyhow, bail};
use load::net::Url;
use meter::Cgroup;
use nix::sys::signal::Signal;
use results::run::{Memory, RunResult};
use results::{Warning, WarningKind};

use self::admin::ServerMemory;
use self::memory::MemorySource;
use self::process::{ServerProcess, describe_exit};
use self::remote::RemoteMemory;
use crate::machine::cpus::Cpus;
use crate::machine::interrupt::Interrupt;
use crate::machine::usage::Usage;

/// Which server to meter behind a URL.
#[derive(Clone, Debug)]
pub(crate) enum MeteredServer {
    /// None: of the server nothing is known but its address.
    Unknown,
    /// What this command starts; a shell runs it.
    Exec(String),
    /// The process of this number, and all that descend from it.
    Pid(i32),
    /// What this URL, the admin port of one of this project's servers, says.
    Admin(Url),
}

/// Why a server did not start: the kernel has killed so many of its processes for want of memory.
#[derive(Debug, thiserror::Error)]
#[error("too little memory to start (OOM)")]
pub(crate) struct OomKilled(pub(crate) u64);

/// A server, and where the figures of its RAM come from.
#[derive(Debug)]
pub(crate) struct Subject {
    server: Option<ServerProcess>,
    pid: Option<i32>,
    memory_source: MemorySource,
    memory: Memory,
    warnings: Vec<Warning>,
    /// At the start of the window: when it was, and what CPU time the server had used.
    start: Option<(Usage, Option<f64>)>,
    overflows_before: Option<u64>,
    client_cpu_s: Option<f64>,
    server_cpu_s: Option<f64>,
}

impl Subject {
    /// Starts one of this project's servers, and says where it serves, and where it tells about itself.
    ///
    /// # Errors
    /// It cannot be started, or ends.
    pub(crate) fn launch(
        name: &'static str,
        argv: &[String],
        cpus: Option<&Cpus>,
        ram_limit_bytes: Option<u64>,
        interrupt: &Interrupt,
    ) -> Result<(Self, SocketAddr, SocketAddr)> {
        let memory_source = MemorySource::open();
        memory_source.limit(ram_limit_bytes)?;
        let start = || {
            let mut server = ServerProcess::spawn(name, argv, &memory_source.join_paths(), cpus, interrupt)?;
            let address = server.announced("listening on http://")?;
            let admin = server.announced("admin on http://")?;
            Ok((server, address, admin))
        };
        let (server, address, admin) = start().map_err(|error: Error| match memory_source.oom_kills() {
            Some(kills @ 1..) => error.context(OomKilled(kills)),
            _ => error,
        })?;
        let mut subject = Self::new(Some(server.pid()), Some(server), memory_source);
        subject.memory.limit_bytes = ram_limit_bytes;
        Ok((subject, address, admin))
    }

    /// Starts what is to be started, and waits until `url` takes a connection.
    ///
    /// # Errors
    /// It cannot be started, ends, or nobody listens; there is no such process.
    pub(crate) fn open(choice: &MeteredServer, url: &Url, cpus: Option<&Cpus>, interrupt: &Interrupt) -> Result<Self> {
        match choice {
            MeteredServer::Unknown => Ok(Self::new(None, None, MemorySource::Nothing)),
            MeteredServer::Admin(url) => Self::remote(url.connectable_address()?),
            MeteredServer::Pid(pid) => {
                meter::ledger(*pid).with_context(|| format!("--pid {pid} cannot be metered"))?;
                Ok(Self::new(Some(*pid), None, MemorySource::running()))
            }
            MeteredServer::Exec(command) => {
                if url.connectable_address().is_ok() {
                    bail!("somebody listens at {} already, and would be measured instead of --exec", url.as_str());
                }
                let memory_source = MemorySource::open();
                let argv = ["sh", "-c", command].map(String::from);
                let mut server = ServerProcess::spawn("--exec", &argv, &memory_source.join_paths(), cpus, interrupt)?;
                server.wait_until(|| url.connectable_address().is_ok())?;
                Ok(Self::new(Some(server.pid()), Some(server), memory_source))
            }
        }
    }

    /// A server that runs elsewhere, and tells about itself.
    ///
    /// # Errors
    /// It does not.
    pub(crate) fn remote(admin: SocketAddr) -> Result<Self> {
        Ok(Self::new(None, None, MemorySource::Remote(Box::new(RemoteMemory::ask(admin)?))))
    }

    /// Starts the null server, and says where it serves.
    ///
    /// # Errors
    /// It cannot be started, or ends.
    pub(crate) fn null(cpus: Option<&Cpus>, interrupt: &Interrupt) -> Result<(Self, Url)> {
        let memory_source = MemorySource::open();
        let own = env::current_exe().context("the own executable cannot be found")?;
        let argv = [own.to_string_lossy().into_owned(), "null-server".into()];
        let mut server = ServerProcess::spawn("the null server", &argv, &memory_source.join_paths(), cpus, interrupt)?;
        let url = format!("http://{}/", server.announced("listening on http://")?);
        let url = Url::parse(&url).map_err(|error| anyhow!(error))?;
        Ok((Self::new(Some(server.pid()), Some(server), memory_source), url))
    }

    /// A server that listens, and has no connection yet.
    fn new(pid: Option<i32>, server: Option<ServerProcess>, memory_source: MemorySource) -> Self {
        let (mut memory, mut warnings) = (Memory::default(), Vec::new());
        memory_source.read_idle(pid, &mut memory, &mut warnings);
        let overflows_before = meter::machine().listen_overflows;
        Self {
            server,
            pid,
            memory_source,
            memory,
            warnings,
            start: None,
            overflows_before,
            client_cpu_s: None,
            server_cpu_s: None,
        }
    }

    /// How a server that we started has ended, if it has.
    pub(crate) fn exit(&mut self) -> Option<ExitStatus> {
        self.server.as_mut()?.exit()
    }

    /// What is to be told of a server that ended though nobody stopped it.
    pub(crate) fn describe_death(&mut self) -> String {
        let exit = self.exit();
        self.server.as_ref().map_or_else(String::new, |server| server.describe_death(exit))
    }

    /// What the kernel charges to the server now, in bytes.
    pub(crate) fn current_bytes(&self) -> Option<u64> {
        self.memory_source.current_bytes()
    }

    /// Asks a server of its RAM that only tells when it is asked.
    pub(crate) fn refresh(&mut self) {
        self.memory_source.refresh();
    }

    /// The server has told of its RAM, which matters if there is no better source.
    pub(crate) fn note(&mut self, memory: ServerMemory) {
        self.memory_source.note(memory);
    }

    /// What a server that runs elsewhere has told before it was gone, and whether that explains it.
    pub(crate) fn last_known_memory(&self) -> Option<(String, bool)> {
        match &self.memory_source {
            MemorySource::Remote(told) => Some((told.describe(), told.is_at_limit())),
            _ => None,
        }
    }

    /// Notes the RAM with all connections open and idle.
    pub(crate) fn read_keep_alive(&mut self) {
        self.memory.keep_alive_bytes = self.memory_source.current_bytes();
    }

    fn cpu_s(&self) -> Option<f64> {
        self.memory_source.cpu_s(self.pid?)
    }

    /// The window begins.
    pub(crate) fn begin(&mut self) {
        self.memory_source.begin();
        self.start = Some((Usage::now(), self.cpu_s()));
    }

    /// The window has ended: notes what the server, and the load generator with its `threads`, have used.
    pub(crate) fn end(&mut self, threads: usize) {
        let Some((start, server_before)) = self.start else { return };
        let now = Usage::now();
        self.refresh();
        self.client_cpu_s = now.own_cpu_s_since(&start);
        self.server_cpu_s = self.cpu_s().zip(server_before).map(|(now, before)| now - before);
        let cpu_use = now.use_since(&start, self.client_cpu_s, self.server_cpu_s);
        self.warnings.extend(cpu_use.into_iter().flat_map(|cpu_use| cpu_use.warnings(threads)));
        self.memory_source.read_end(&mut self.memory, &mut self.warnings);
    }

    /// Takes the ledger. The connections should still be open.
    pub(crate) fn read_ledger(&mut self) {
        self.memory_source.read_ledger(self.pid, &mut self.memory, &mut self.warnings);
    }

    /// Stops a server that we started, within `timeout`, and hands over what is known. Who is in a hurry does not wait for
    /// answers in flight, and does not complain that they are cut off.
    pub(crate) fn close(mut self, timeout: Duration, is_hurried: bool, result: &mut RunResult) {
        if let Some(mut server) = self.server.take() {
            let had_died = server.exit().is_some();
            server.terminate();
            let exit = server.wait(Instant::now() + timeout);
            result.server.exit = Some(exit.map_or("killed by loadtest".into(), describe_exit));
            let complaint = match exit {
                // Who does not catch the signal ends by it, as somebody else's server may.
                Some(status) if !status.success() && !had_died && status.signal() != Some(Signal::SIGTERM as i32) => {
                    Some(format!("told to stop, the server ended with {}", describe_exit(status)))
                }
                Some(_) => None,
                None => Some(format!("told to stop, the server did not end in {timeout:?}: killed")),
            };
            server.kill();
            self.warnings.extend(complaint.filter(|_| !is_hurried).map(|text| Warning::new(WarningKind::Server, text)));
            self.warnings.extend(warnings_of_server(&server));
        }
        if let MemorySource::Remote(_) = self.memory_source {
            // Also of a server that died: what it told last.
            self.memory_source.read_end(&mut self.memory, &mut self.warnings);
            self.read_ledger();
        }
        result.server.oom_kills = self.memory_source.oom_kills();
        self.end_stragglers(result.server.oom_kills);
        if let (Some(before), Some(now)) = (self.overflows_before, meter::machine().listen_overflows)
            && now > before
        {
            let text = format!("{} times a connection found a full backlog, and had to try again", now - before);
            self.warnings.push(Warning::new(WarningKind::BacklogOverflow, text));
        }
        result.memory = self.memory;
        result.server.cpu_s = self.server_cpu_s;
        result.client.cpu_s = self.client_cpu_s;
        result.warnings.append(&mut self.warnings);
    }

    /// After a server was killed, its children may need a moment, and a cgroup can only be removed empty.
    fn end_stragglers(&mut self, oom_kills: Option<u64>) {
        if let Some(kills @ 1..) = oom_kills {
            let text = format!("the kernel has killed {kills} processes of the server for want of memory (OOM)");
            self.warnings.push(Warning::new(WarningKind::OutOfMemory, text));
        }
        if let Some(Err(error)) = self.memory_source.cgroup().map(Cgroup::kill_all) {
            self.warnings.push(Warning::new(WarningKind::Left, format!("processes may be left: {error}")));
        }
    }
}

/// What the server has warned of. That it cut connections off is our doing: we do not wait for those that are queued.
fn warnings_of_server(server: &ServerProcess) -> impl Iterator<Item = Warning> {
    let lines = server.stderr().into_iter().filter(|line| line.starts_with("warning:"));
    lines
        .filter(|line| !line.contains("--drain-timeout"))
        .map(|line| Warning::new(WarningKind::Server, format!("the server says: {line}")))
}

/// The command of a server, as the result has it.
pub(crate) fn command(choice: &MeteredServer) -> Vec<String> {
    match choice {
        MeteredServer::Unknown | MeteredServer::Admin(_) => Vec::new(),
        MeteredServer::Exec(command) => ["sh", "-c", command].map(String::from).to_vec(),
        MeteredServer::Pid(pid) => {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let words = line.split(|&byte| byte == 0).filter(|word| !word.is_empty());
            words.map(|word| String::from_utf8_lossy(word).into_owned()).collect()
        }
    }
}
