//! The server under test and its metering: a server that loadtest starts, one that runs here or elsewhere, or an
//! unknown one.

pub(crate) mod admin;
pub(crate) mod build;
pub(crate) mod client;
pub(crate) mod launch;
pub(crate) mod memory;
pub(crate) mod null;
pub(crate) mod peer;
pub(crate) mod peer_file;
pub(crate) mod postgres;
mod process;
pub(crate) mod remote;

use std::env;
use std::fs;
use std::mem;
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Error, Result, anyhow, bail, ensure};
use load::net::Url;
use meter::{Cgroup, CgroupParts};
use nix::sys::signal::Signal;
use results::run::{Memory, RunResult};
use results::{Warning, WarningKind};

use self::admin::ServerMemory;
use self::memory::MemorySource;
use self::process::{ServerProcess, describe_exit, signal_name};
use self::remote::RemoteMemory;
use crate::machine::cpus::Cpus;
use crate::machine::interrupt::Interrupt;
use crate::machine::usage::{RunCpus, Usage};

/// Which server to meter behind a URL.
#[derive(Clone, Debug)]
pub(crate) enum MeteredServer {
    /// None: only the server's address is known.
    Unknown,
    /// The server that this shell command starts.
    Exec(String),
    /// The process with this pid and its descendants.
    Pid(i32),
    /// The server that reports on this URL, the admin port of one of this project's servers.
    Admin(Url),
}

/// A server did not start because the kernel killed this many of its processes when memory ran out.
#[derive(Debug, thiserror::Error)]
#[error("too little memory to start (OOM)")]
pub(crate) struct OomKilled(pub(crate) u64);

/// How to start one of this project's servers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Launch<'a> {
    /// Its name.
    pub(crate) name: &'static str,
    /// Its program and its flags.
    pub(crate) argv: &'a [String],
    /// How many processes share its port, and are metered as one server.
    pub(crate) processes: usize,
    /// The URL of the database that it asks, for its environment, which other users cannot read.
    pub(crate) database_url: Option<&'a str>,
    /// The CPUs that it may use.
    pub(crate) cpus: Option<&'a Cpus>,
    /// The limit on its RAM.
    pub(crate) ram_limit_bytes: Option<u64>,
}

/// A server and the source of its RAM figures.
#[derive(Debug)]
pub(crate) struct Subject {
    /// Those that loadtest started: one, or several that share a port.
    servers: Vec<ServerProcess>,
    /// The roots of their process trees.
    pids: Vec<i32>,
    memory_source: MemorySource,
    memory: Memory,
    warnings: Vec<Warning>,
    /// The highest sample, where samples are needed.
    sampled_peak_bytes: Option<u64>,
    /// `None` if they cannot be read.
    cpus: Option<RunCpus>,
    /// At the start of the window: this machine's usage and the server's CPU time.
    start: Option<(Usage, Option<f64>)>,
    overflows_before: Option<u64>,
    client_cpu_s: Option<f64>,
    server_cpu_s: Option<f64>,
}

impl Subject {
    /// Starts one of this project's servers. Returns its address and those of its processes' admin ports.
    ///
    /// # Errors
    /// One of the processes cannot be started, or exits.
    pub(crate) fn launch(launch: &Launch<'_>, interrupt: &Interrupt) -> Result<(Self, SocketAddr, Vec<SocketAddr>)> {
        let &Launch { name, argv, processes, database_url, cpus, ram_limit_bytes } = launch;
        let memory_source = MemorySource::open();
        memory_source.limit(ram_limit_bytes)?;
        let join_paths = memory_source.join_paths();
        let secrets: Vec<_> = database_url.iter().map(|url| ("C10K_DB", *url)).collect();
        let start = |argv: &[String]| -> Result<_> {
            let mut server = ServerProcess::spawn_with(name, argv, &secrets, &join_paths, cpus, interrupt)?;
            let address = server.read_address("listening on http://")?;
            let admin = server.read_address("admin on http://")?;
            Ok((server, address, admin))
        };
        let start_all = || {
            let (first, address, admin) = start(argv)?;
            let (mut servers, mut admins) = (vec![first], vec![admin]);
            for number in 2..=processes {
                let started = start(&listening_at(argv, address));
                let (server, _, admin) = started.with_context(|| format!("process {number} of {processes}"))?;
                servers.push(server);
                admins.push(admin);
            }
            Ok((servers, address, admins))
        };
        let (servers, address, admins) = start_all().map_err(|error: Error| match memory_source.oom_kills() {
            Some(kills @ 1..) => error.context(OomKilled(kills)),
            _ => error,
        })?;
        let mut subject = Self::started(servers, memory_source, cpus);
        subject.memory.limit_bytes = ram_limit_bytes;
        Ok((subject, address, admins))
    }

    /// Starts the server if `choice` says so, and waits until `url` accepts a connection.
    ///
    /// # Errors
    /// The server cannot be started, exits or does not listen, or there is no such process.
    pub(crate) fn open(choice: &MeteredServer, url: &Url, cpus: Option<&Cpus>, interrupt: &Interrupt) -> Result<Self> {
        match choice {
            MeteredServer::Unknown => Ok(Self::new(Vec::new(), MemorySource::Nothing, None)),
            MeteredServer::Admin(url) => Self::remote(url.connectable_address()?),
            MeteredServer::Pid(pid) => {
                meter::ledger(*pid).with_context(|| format!("--pid {pid} cannot be metered"))?;
                let subject = Self::new(vec![*pid], MemorySource::running(), Cpus::allowed(*pid).as_ref());
                Ok(subject.with_owner_checked(url))
            }
            MeteredServer::Exec(command) => {
                if url.connectable_address().is_ok() {
                    bail!("somebody listens at {} already and would be measured instead of --exec", url.as_str());
                }
                let memory_source = MemorySource::open();
                let argv = ["sh", "-c", command].map(String::from);
                let mut server = ServerProcess::spawn("--exec", &argv, &memory_source.join_paths(), cpus, interrupt)?;
                server.wait_until_listening(|| url.connectable_address().is_ok())?;
                Ok(Self::started(vec![server], memory_source, cpus).with_owner_checked(url))
            }
        }
    }

    /// With a warning if others listen at the URL's port than those who are metered, such as a container behind its client.
    fn with_owner_checked(mut self, url: &Url) -> Self {
        let in_cgroup = self.memory_source.cgroup().and_then(|cgroup| cgroup.pids().ok());
        let metered = in_cgroup.unwrap_or_else(|| meter::process_trees(&self.pids));
        if meter::listens_at(&metered, url.port()) == Some(false) {
            let text = format!(
                "none of the metered processes listens at port {}: RAM and CPU time are not those of the server that answers",
                url.port()
            );
            self.warnings.push(Warning::new(WarningKind::NotTheServer, text));
        }
        self
    }

    /// A server that runs elsewhere and reports its own RAM.
    ///
    /// # Errors
    /// It does not answer.
    pub(crate) fn remote(admin: SocketAddr) -> Result<Self> {
        Ok(Self::new(Vec::new(), MemorySource::Remote(Box::new(RemoteMemory::fetch(admin)?)), None))
    }

    /// Starts a program that is no server, and waits until it says `ready`.
    ///
    /// # Errors
    /// It cannot be started, ends, or says something else.
    pub(crate) fn program(name: &'static str, argv: &[String], ready: &str, interrupt: &Interrupt) -> Result<Self> {
        let memory_source = MemorySource::open();
        let mut program = ServerProcess::spawn(name, argv, &memory_source.join_paths(), None, interrupt)?;
        let line = program.read_line()?;
        ensure!(line == ready, "{name} printed {line:?} instead of {ready:?}");
        Ok(Self::started(vec![program], memory_source, None))
    }

    /// The pid of the root of its process tree, or of the first.
    pub(crate) fn pid(&self) -> Option<i32> {
        self.pids.first().copied()
    }

    /// What it costs now in bytes, kernel memory included: the charge of its cgroup, or what `/proc` shows of it.
    pub(crate) fn total_bytes(&mut self) -> Option<u64> {
        let charged = self.memory_source.cgroup().and_then(|cgroup| cgroup.current_bytes().ok());
        charged.or_else(|| self.ledger_bytes())
    }

    /// What `/proc` shows of its RAM, in bytes: proportional shares of what is mapped, files too, and the kernel's part.
    pub(crate) fn ledger_bytes(&mut self) -> Option<u64> {
        self.read_ledger();
        self.memory.ledger_total_bytes()
    }

    /// How many of its processes the kernel has killed because memory ran out.
    pub(crate) fn oom_kills(&self) -> Option<u64> {
        self.memory_source.oom_kills()
    }

    /// Starts the null server. Returns its URL.
    ///
    /// # Errors
    /// It cannot be started, or exits.
    pub(crate) fn null(cpus: Option<&Cpus>, interrupt: &Interrupt) -> Result<(Self, Url)> {
        let memory_source = MemorySource::open();
        let own = env::current_exe().context("cannot find loadtest's own executable")?;
        let argv = [own.to_string_lossy().into_owned(), "null-server".into()];
        let mut server = ServerProcess::spawn("the null server", &argv, &memory_source.join_paths(), cpus, interrupt)?;
        let url = format!("http://{}/", server.read_address("listening on http://")?);
        let url = Url::parse(&url).map_err(|error| anyhow!(error))?;
        Ok((Self::started(vec![server], memory_source, cpus), url))
    }

    /// These processes, as one server.
    fn started(servers: Vec<ServerProcess>, memory_source: MemorySource, cpus: Option<&Cpus>) -> Self {
        let pids = servers.iter().map(ServerProcess::pid).collect();
        Self { servers, ..Self::new(pids, memory_source, cpus) }
    }

    /// A server that listens and has no connections yet, and may use these CPUs; with `None`, those of this thread.
    fn new(pids: Vec<i32>, memory_source: MemorySource, cpus: Option<&Cpus>) -> Self {
        let (mut memory, mut warnings) = (Memory::default(), Vec::new());
        memory_source.read_idle(&pids, &mut memory, &mut warnings);
        let overflows_before = meter::machine::listen_overflows();
        Self {
            servers: Vec::new(),
            pids,
            memory_source,
            memory,
            warnings,
            sampled_peak_bytes: None,
            cpus: RunCpus::new(cpus),
            start: None,
            overflows_before,
            client_cpu_s: None,
            server_cpu_s: None,
        }
    }

    /// Whether the server is gone, or one of its processes: of those that loadtest started, or that it only meters.
    pub(crate) fn is_gone(&mut self) -> bool {
        let is_gone = |pid: &i32| meter::threads(*pid).is_err() || meter::rss_peak_bytes(*pid).is_err();
        if self.servers.is_empty() { self.pids.iter().any(is_gone) } else { self.exit().is_some() }
    }

    /// The exit status of a server that loadtest started, once it has exited; of several, of the first that has.
    pub(crate) fn exit(&mut self) -> Option<ExitStatus> {
        self.servers.iter_mut().find_map(ServerProcess::exit)
    }

    /// Describes the death of a server that loadtest did not stop.
    pub(crate) fn describe_death(&mut self) -> String {
        let processes = self.servers.len();
        let dead = self.servers.iter_mut().position(|server| server.exit().is_some()).unwrap_or_default();
        match self.servers.get_mut(dead) {
            Some(server) => {
                let exit = server.exit();
                let death = server.describe_death(exit);
                if processes > 1 { format!("one of {processes} processes ended: {death}") } else { death }
            }
            None => format!("the process {} ended", self.pid().unwrap_or_default()),
        }
    }

    /// What the kernel charges to the server now, in bytes.
    pub(crate) fn current_bytes(&mut self) -> Option<u64> {
        let current_bytes = self.memory_source.current_bytes();
        if self.sampled_peak_bytes.is_some() {
            // No figure is above the peak.
            self.sampled_peak_bytes = self.sampled_peak_bytes.max(current_bytes);
        }
        current_bytes
    }

    /// The limit of its RAM in bytes, if there is one.
    pub(crate) fn limit_bytes(&self) -> Option<u64> {
        self.memory_source.limit_bytes().or(self.memory.limit_bytes)
    }

    /// What the kernel charges to the server now, by part.
    pub(crate) fn ram_parts(&self) -> Option<CgroupParts> {
        self.memory_source.cgroup()?.parts().ok()
    }

    /// What is doubtful about it so far.
    pub(crate) fn warnings(&self) -> &[Warning] {
        &self.warnings
    }

    /// Notes what the kernel charges now, where it keeps no peak of all of it.
    pub(crate) fn sample_memory(&mut self) {
        self.sampled_peak_bytes = self.sampled_peak_bytes.max(self.memory_source.sample_bytes());
    }

    /// Fetches the RAM of a remote server, which reports it only on request.
    pub(crate) fn refresh_memory(&mut self) {
        self.memory_source.refresh();
    }

    /// Updates the RAM of a remote server; other servers have a better source.
    pub(crate) fn update_memory(&mut self, memory: ServerMemory) {
        self.memory_source.update(memory);
    }

    /// The last RAM that a lost remote server reported, and whether it was near its limit.
    pub(crate) fn last_known_memory(&self) -> Option<(String, bool)> {
        match &self.memory_source {
            MemorySource::Remote(remote) => Some((remote.describe_usage(), remote.is_near_limit())),
            _ => None,
        }
    }

    /// Reads the RAM with all connections open and idle.
    pub(crate) fn read_keep_alive(&mut self) {
        self.memory.keep_alive_bytes = self.current_bytes();
    }

    /// Its CPU time so far, in seconds.
    pub(crate) fn cpu_s(&self) -> Option<f64> {
        self.memory_source.cpu_s(&self.pids)
    }

    /// Records the state at the start of the window. The load generator is this process and those of `client_pids`.
    pub(crate) fn start_window(&mut self, client_pids: &[i32]) {
        self.memory_source.start_window();
        self.start = self.cpus.as_ref().map(|cpus| (Usage::now(cpus, client_pids), self.cpu_s()));
    }

    /// Records what the server, and the load generator with its `threads`, used within the window; `None` if they used CPU
    /// time for more than their work.
    pub(crate) fn end_window(&mut self, threads: Option<usize>, client_pids: &[i32]) {
        let Some((cpus, (start, server_before))) = self.cpus.clone().zip(self.start.clone()) else { return };
        let now = Usage::now(&cpus, client_pids);
        self.refresh_memory();
        self.client_cpu_s = now.own_cpu_s_since(&start);
        // Less than before: processes left the tree with what they had used.
        let server_cpu_s = self.cpu_s().zip(server_before).map(|(now, before)| now - before);
        self.server_cpu_s = server_cpu_s.filter(|time_s| *time_s >= 0.0);
        let cpu_use = now.use_since(&start, &cpus, self.client_cpu_s, self.server_cpu_s);
        self.warnings.extend(cpu_use.into_iter().flat_map(|cpu_use| cpu_use.warnings(threads)));
        self.warnings.extend(now.quota_warning(&start));
        self.sample_memory();
        self.memory_source.read_end(&mut self.memory, &mut self.warnings);
        if let Some(sampled) = self.sampled_peak_bytes {
            self.memory.peak_bytes = self.memory.peak_bytes.max(Some(sampled)).max(self.memory.end_bytes);
            self.memory.peak_is_sampled = Some(true);
        }
    }

    /// Reads the ledger, while the connections are still open.
    pub(crate) fn read_ledger(&mut self) {
        self.memory_source.read_ledger(&self.pids, &mut self.memory, &mut self.warnings);
    }

    /// Stops a server that loadtest started, within `timeout`, and fills in the result. After an interrupt, answers cut
    /// off in flight are not worth a warning.
    pub(crate) fn close(mut self, timeout: Duration, is_interrupted: bool, result: &mut RunResult) {
        self.stop(timeout, is_interrupted, result);
        if let MemorySource::Remote(_) = self.memory_source {
            // Even a server that died leaves its last report.
            self.memory_source.read_end(&mut self.memory, &mut self.warnings);
            self.read_ledger();
        }
        result.server.oom_kills = self.memory_source.oom_kills();
        self.kill_stragglers(result.server.oom_kills);
        if let (Some(before), Some(now)) = (self.overflows_before, meter::machine::listen_overflows())
            && now > before
        {
            let text = format!(
                "a full backlog dropped connections {} times, and they had to try again; the kernel counts this for all \
                 listeners of this network namespace together, so it may have been another program's",
                now - before
            );
            self.warnings.push(Warning::new(WarningKind::BacklogOverflow, text));
        }
        result.memory = self.memory;
        result.server.cpu_s = self.server_cpu_s;
        result.client.cpu_s = self.client_cpu_s;
        result.warnings.append(&mut self.warnings);
    }

    /// Stops the processes that loadtest started, all at the same time. The result has the exit of the one that died, or else
    /// of the first that did not end well.
    fn stop(&mut self, timeout: Duration, is_interrupted: bool, result: &mut RunResult) {
        let mut servers = mem::take(&mut self.servers);
        let death = servers.iter_mut().find_map(ServerProcess::exit);
        let running: Vec<_> =
            servers.iter_mut().filter_map(|server| server.exit().is_none().then_some(server)).collect();
        running.iter().for_each(|server| server.terminate());
        let asked = Instant::now();
        let exits: Vec<_> = running.into_iter().map(|server| server.wait(asked + timeout)).collect();
        let is_bad = |exit: &&Option<ExitStatus>| !exit.is_some_and(|status| status.success());
        let is_well = death.is_none() && !exits.is_empty() && !exits.iter().any(|exit| is_bad(&exit));
        result.server.stopped_after_us = is_well.then(|| asked.elapsed().as_micros() as u64);
        let told = death.map(Some).or(exits.iter().find(is_bad).or(exits.first()).copied());
        result.server.exit = told.map(|exit| exit.map_or("killed by loadtest".into(), describe_exit));
        result.server.exit_signal = told.flatten().and_then(|exit| exit.signal()).map(signal_name);
        let problems = exits.into_iter().filter_map(|exit| stop_problem(exit, timeout)).filter(|_| !is_interrupted);
        self.warnings.extend(problems.map(|text| Warning::new(WarningKind::Server, text)));
        servers.iter_mut().for_each(ServerProcess::kill);
        self.warnings.extend(servers.iter().flat_map(warnings_of_server));
    }

    /// Kills what is left of the server: only an empty cgroup can be removed.
    fn kill_stragglers(&mut self, oom_kills: Option<u64>) {
        if let Some(kills @ 1..) = oom_kills {
            let text = format!("the kernel killed {kills} processes of the server because memory ran out (OOM)");
            self.warnings.push(Warning::new(WarningKind::OutOfMemory, text));
        }
        if let Some(Err(error)) = self.memory_source.cgroup().map(Cgroup::kill_all) {
            self.warnings
                .push(Warning::new(WarningKind::Left, format!("server processes may still be running: {error}")));
        }
    }
}

/// The same command line, listening at `address` instead of at a free port.
fn listening_at(argv: &[String], address: SocketAddr) -> Vec<String> {
    let mut argv = argv.to_vec();
    let value = argv.iter().position(|flag| flag == "--listen").and_then(|flag| argv.get_mut(flag + 1));
    value.into_iter().for_each(|value| *value = address.to_string());
    argv
}

/// What went wrong as a server was stopped.
fn stop_problem(exit: Option<ExitStatus>, timeout: Duration) -> Option<String> {
    match exit {
        Some(status) if !status.success() && !died_of_sigterm(status) => {
            Some(format!("after SIGTERM, the server ended with {}", describe_exit(status)))
        }
        Some(_) => None,
        None => Some(format!("after SIGTERM, the server did not exit within {timeout:?}: killed")),
    }
}

/// A server that does not catch SIGTERM dies of it, which is fine; a shell around it says so by its exit status.
fn died_of_sigterm(status: ExitStatus) -> bool {
    let number = Signal::SIGTERM as i32;
    status.signal() == Some(number) || status.code() == Some(128 + number)
}

/// The server's own warnings, except that it cut off connections: that is our doing, as we do not wait for queued
/// requests.
fn warnings_of_server(server: &ServerProcess) -> impl Iterator<Item = Warning> {
    let lines = server.stderr().into_iter().filter(|line| line.starts_with("warning:"));
    lines
        .filter(|line| !line.contains("--drain-timeout"))
        .map(|line| Warning::new(WarningKind::Server, format!("from the server: {line}")))
}

/// The server's command line, for the result.
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
