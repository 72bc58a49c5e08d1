//! The server behind a URL, as far as it can be metered: one that we start, one that runs here, or nothing that we know of.

use std::env;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Error, Result, anyhow, bail};
use meter::Cgroup;
use nix::sys::signal::Signal;

use crate::admin::ServerMemory;
use crate::cpus::Cpus;
use crate::interrupt::Interrupt;
use crate::machine::{self, Machine};
use crate::memory::Account;
use crate::remote::Told;
use crate::result::{Memory, RunResult};
use crate::server::{Server, describe};
use crate::warning::{Doubt, Warning};
use crate::wrk::Url;

/// What to meter.
#[derive(Clone, Debug)]
pub(crate) enum Choice {
    /// Nothing.
    Nothing,
    /// What this command starts; a shell runs it.
    Exec(String),
    /// The process of this number, and all that descend from it.
    Pid(i32),
    /// What this URL, the admin port of one of this project's servers, tells.
    Admin(Url),
}

/// Why a server did not start: the kernel has killed so many of its processes for want of memory.
#[derive(Debug, thiserror::Error)]
#[error("too little memory to start (OOM)")]
pub(crate) struct OomKilled(pub(crate) u64);

/// A server, and the account of its RAM.
#[derive(Debug)]
pub(crate) struct Subject {
    server: Option<Server>,
    pid: Option<i32>,
    account: Account,
    memory: Memory,
    warnings: Vec<Warning>,
    /// At the start of the window: when it was, and what CPU time the server had used.
    start: Option<(Machine, Option<f64>)>,
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
        let account = Account::open();
        account.limit(ram_limit_bytes)?;
        let start = || {
            let mut server = Server::spawn(name, argv, &account.join_paths(), cpus, interrupt)?;
            let address = server.announced("listening on http://")?;
            let admin = server.announced("admin on http://")?;
            Ok((server, address, admin))
        };
        let (server, address, admin) = start().map_err(|error: Error| match account.oom_kills() {
            Some(kills @ 1..) => error.context(OomKilled(kills)),
            _ => error,
        })?;
        let mut subject = Self::new(Some(server.pid()), Some(server), account);
        subject.memory.limit_bytes = ram_limit_bytes;
        Ok((subject, address, admin))
    }

    /// Starts what is to be started, and waits until `url` takes a connection.
    ///
    /// # Errors
    /// It cannot be started, ends, or nobody listens; there is no such process.
    pub(crate) fn open(choice: &Choice, url: &Url, cpus: Option<&Cpus>, interrupt: &Interrupt) -> Result<Self> {
        match choice {
            Choice::Nothing => Ok(Self::new(None, None, Account::Nothing)),
            Choice::Admin(url) => Self::remote(url.connectable_address()?),
            Choice::Pid(pid) => {
                meter::ledger(*pid).with_context(|| format!("--pid {pid} cannot be metered"))?;
                Ok(Self::new(Some(*pid), None, Account::of_running()))
            }
            Choice::Exec(command) => {
                if url.connectable_address().is_ok() {
                    bail!("somebody listens at {} already, and would be measured instead of --exec", url.as_str());
                }
                let account = Account::open();
                let argv = ["sh", "-c", command].map(String::from);
                let mut server = Server::spawn("--exec", &argv, &account.join_paths(), cpus, interrupt)?;
                server.wait_until(|| url.connectable_address().is_ok())?;
                Ok(Self::new(Some(server.pid()), Some(server), account))
            }
        }
    }

    /// A server that runs elsewhere, and tells about itself.
    ///
    /// # Errors
    /// It does not.
    pub(crate) fn remote(admin: SocketAddr) -> Result<Self> {
        Ok(Self::new(None, None, Account::Told(Box::new(Told::ask(admin)?))))
    }

    /// Starts the null server, and says where it serves.
    ///
    /// # Errors
    /// It cannot be started, or ends.
    pub(crate) fn null(cpus: Option<&Cpus>, interrupt: &Interrupt) -> Result<(Self, Url)> {
        let account = Account::open();
        let own = env::current_exe().context("the own executable cannot be found")?;
        let argv = [own.to_string_lossy().into_owned(), "null-server".into()];
        let mut server = Server::spawn("the null server", &argv, &account.join_paths(), cpus, interrupt)?;
        let url = format!("http://{}/", server.announced("listening on http://")?);
        let url = Url::parse(&url).map_err(|error| anyhow!(error))?;
        Ok((Self::new(Some(server.pid()), Some(server), account), url))
    }

    /// A server that listens, and has no connection yet.
    fn new(pid: Option<i32>, server: Option<Server>, account: Account) -> Self {
        let (mut memory, mut warnings) = (Memory::default(), Vec::new());
        account.read_idle(pid, &mut memory, &mut warnings);
        let overflows_before = machine::listen_overflows();
        Self {
            server,
            pid,
            account,
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
    pub(crate) fn death(&mut self) -> String {
        let exit = self.exit();
        self.server.as_ref().map_or_else(String::new, |server| server.death(exit))
    }

    /// What the kernel charges to the server now, in bytes.
    pub(crate) fn current_bytes(&self) -> Option<u64> {
        self.account.current_bytes()
    }

    /// Asks a server of its RAM that only tells when it is asked.
    pub(crate) fn refresh(&mut self) {
        self.account.refresh();
    }

    /// The server has told of its RAM, which matters if there is no better account.
    pub(crate) fn note(&mut self, memory: ServerMemory) {
        self.account.note(memory);
    }

    /// What a server that runs elsewhere has told before it was gone, and whether that explains it.
    pub(crate) fn last_words(&self) -> Option<(String, bool)> {
        match &self.account {
            Account::Told(told) => Some((told.describe(), told.is_at_limit())),
            _ => None,
        }
    }

    /// Notes the RAM with all connections open and idle.
    pub(crate) fn read_keep_alive(&mut self) {
        self.memory.keep_alive_bytes = self.account.current_bytes();
    }

    fn cpu_s(&self) -> Option<f64> {
        self.account.cpu_s(self.pid?)
    }

    /// The window begins.
    pub(crate) fn begin(&mut self) {
        self.account.begin();
        self.start = Some((Machine::now(), self.cpu_s()));
    }

    /// The window has ended: notes what the server, and the load generator with its `threads`, have used.
    pub(crate) fn end(&mut self, threads: usize) {
        let Some((start, server_before)) = self.start else { return };
        let now = Machine::now();
        self.refresh();
        self.client_cpu_s = now.own_cpu_s_since(&start);
        self.server_cpu_s = self.cpu_s().zip(server_before).map(|(now, before)| now - before);
        let cpu_use = now.use_since(&start, self.client_cpu_s, self.server_cpu_s);
        self.warnings.extend(cpu_use.into_iter().flat_map(|cpu_use| cpu_use.doubts(threads)));
        self.account.read_end(&mut self.memory, &mut self.warnings);
    }

    /// Takes the ledger. The connections should still be open.
    pub(crate) fn read_ledger(&mut self) {
        self.account.read_ledger(self.pid, &mut self.memory, &mut self.warnings);
    }

    /// Stops a server that we started, within `patience`, and hands over what is known. Who is in a hurry does not wait for
    /// answers in flight, and does not complain that they are cut off.
    pub(crate) fn close(mut self, patience: Duration, is_hurried: bool, result: &mut RunResult) {
        if let Some(mut server) = self.server.take() {
            let had_died = server.exit().is_some();
            server.terminate();
            let exit = server.wait(Instant::now() + patience);
            result.server.exit = Some(exit.map_or("killed by loadtest".into(), describe));
            let complaint = match exit {
                // Who does not catch the signal ends by it, as somebody else's server may.
                Some(status) if !status.success() && !had_died && status.signal() != Some(Signal::SIGTERM as i32) => {
                    Some(format!("told to stop, the server ended with {}", describe(status)))
                }
                Some(_) => None,
                None => Some(format!("told to stop, the server did not end in {patience:?}: killed")),
            };
            server.kill();
            self.warnings.extend(complaint.filter(|_| !is_hurried).map(|text| Doubt::Server.because(text)));
            self.warnings.extend(complaints(&server));
        }
        if let Account::Told(_) = self.account {
            // Also of a server that died: what it told last.
            self.account.read_end(&mut self.memory, &mut self.warnings);
            self.read_ledger();
        }
        result.server.oom_kills = self.account.oom_kills();
        self.end_stragglers(result.server.oom_kills);
        if let (Some(before), Some(now)) = (self.overflows_before, machine::listen_overflows())
            && now > before
        {
            let text = format!("{} times a connection found a full backlog, and had to try again", now - before);
            self.warnings.push(Doubt::BacklogOverflow.because(text));
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
            self.warnings.push(Doubt::OutOfMemory.because(text));
        }
        if let Some(Err(error)) = self.account.cgroup().map(Cgroup::kill_all) {
            self.warnings.push(Doubt::Left.because(format!("processes may be left: {error}")));
        }
    }
}

/// What the server has warned of. That it cut connections off is our doing: we do not wait for those that are queued.
fn complaints(server: &Server) -> impl Iterator<Item = Warning> {
    let lines = server.stderr().into_iter().filter(|line| line.starts_with("warning:"));
    lines
        .filter(|line| !line.contains("--drain-timeout"))
        .map(|line| Doubt::Server.because(format!("the server says: {line}")))
}

/// The command of a server, as the result has it.
pub(crate) fn command_of(choice: &Choice) -> Vec<String> {
    match choice {
        Choice::Nothing | Choice::Admin(_) => Vec::new(),
        Choice::Exec(command) => ["sh", "-c", command].map(String::from).to_vec(),
        Choice::Pid(pid) => {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let words = line.split(|&byte| byte == 0).filter(|word| !word.is_empty());
            words.map(|word| String::from_utf8_lossy(word).into_owned()).collect()
        }
    }
}
