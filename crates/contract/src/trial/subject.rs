//! The server that has to stand it.

use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use std::{fs, io, thread};

use anyhow::{Context as _, bail};
use clap::Args;
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

use super::crowd::ask_once;
use crate::server::{cpu_time, processes_of_group};

/// How long a server may take to start, to recover, and to end.
const PATIENCE: Duration = Duration::from_secs(20);
/// For how long the CPU time of a server is watched that nobody asks for anything.
const WATCH: Duration = Duration::from_secs(2);
/// More than this share of one CPU is a busy loop.
const BUSY_SHARE: f64 = 0.2;

/// The flags that say which server it is.
#[derive(Args, Debug)]
pub struct ServerArgs {
    /// What the server is called in the output
    #[arg(long, value_name = "NAME")]
    pub label: String,

    /// The port of 127.0.0.1 that it listens on; {port} in the command stands for it
    #[arg(long, value_name = "PORT", default_value_t = 18_090)]
    port: u16,

    /// The command that starts the server in the foreground
    #[arg(trailing_var_arg = true, required = true, value_name = "COMMAND")]
    command: Vec<String>,
}

/// A started server, in a process group of its own.
pub struct Subject {
    child: Child,
    /// Outlives us, and not the server.
    guard: Child,
    /// Where it listens.
    pub address: SocketAddr,
}

impl Subject {
    /// Starts the command, in which `{port}` is the port, and waits until it answers.
    ///
    /// # Errors
    /// It cannot be started, or does not answer.
    pub fn start(server: &ServerArgs) -> anyhow::Result<Self> {
        let &ServerArgs { port, ref command, .. } = server;
        let arguments: Vec<String> = command.iter().map(|word| word.replace("{port}", &port.to_string())).collect();
        let (program, arguments) = arguments.split_first().context("no command")?;
        let mut command = Command::new(program);
        command.args(arguments).process_group(0).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().with_context(|| format!("{program} could not be started"))?;
        let guard = guard(child.id())?;
        let mut subject = Self { child, guard, address: (Ipv4Addr::LOCALHOST, port).into() };
        match subject.time_until_answer(Instant::now()) {
            Some(_) => Ok(subject),
            None => bail!("{program} does not answer on port {port}"),
        }
    }

    /// The process that was started.
    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id() as i32)
    }

    /// All processes of the server.
    pub fn processes(&self) -> Vec<i32> {
        processes_of_group(self.pid())
    }

    /// A process that serves: the youngest, if there is more than the first.
    pub fn worker(&self) -> Option<Pid> {
        let of_others = self.processes().into_iter().filter(|&pid| pid != self.pid().as_raw());
        of_others.max_by_key(|&pid| descriptors_of(pid)).map(Pid::from_raw)
    }

    /// How long after `since` a new connection is answered 200; `None` if the server has ended.
    pub fn time_until_answer(&mut self, since: Instant) -> Option<Duration> {
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end && matches!(self.child.try_wait(), Ok(None)) {
            if ask_once(self.address, "/health").is_ok_and(|status| status == 200) {
                return Some(since.elapsed());
            }
            thread::sleep(Duration::from_millis(5));
        }
        None
    }

    /// The descriptors of the first process.
    pub fn descriptors(&self) -> usize {
        descriptors_of(self.pid().as_raw())
    }

    /// How many descriptors more than `before` stay open, once the server has seen that its clients are gone.
    pub fn descriptors_above(&self, before: usize) -> usize {
        remaining(Duration::from_secs(5), || self.descriptors().saturating_sub(before))
    }

    /// Whether it uses CPU though nobody asks for anything.
    pub fn is_busy(&self) -> bool {
        let before = cpu_time(&self.processes());
        thread::sleep(WATCH);
        let used = cpu_time(&self.processes()).saturating_sub(before);
        used.as_secs_f64() / WATCH.as_secs_f64() > BUSY_SHARE
    }

    /// Dead children that it does not reap: thousands that end at once take it a while.
    pub fn zombies(&self) -> usize {
        let is_zombie = |pid: &i32| {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('Z'))
        };
        let children = || crate::server::children_of(self.pid());
        remaining(PATIENCE, || children().iter().filter(|pid| is_zombie(pid)).count())
    }

    /// Asks the server to end, and says how many processes are there after that, which are killed.
    pub fn stop(&mut self) -> usize {
        let _ = kill(self.pid(), Signal::SIGTERM);
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end && !matches!(self.child.try_wait(), Ok(Some(_))) {
            thread::sleep(Duration::from_millis(10));
        }
        thread::sleep(Duration::from_millis(100));
        self.processes().len()
    }
}

impl Drop for Subject {
    fn drop(&mut self) {
        let _ = killpg(self.pid(), Signal::SIGKILL);
        let _ = self.child.wait();
        let _ = self.guard.kill();
        let _ = self.guard.wait();
    }
}

/// Kills the server's process group when this process ends, however it does: its end of the pipe is closed then.
fn guard(group: u32) -> io::Result<Child> {
    let mut command = Command::new("sh");
    command.args(["-c", &format!("read -r _; kill -KILL -- -{group}")]);
    command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()
}

fn descriptors_of(pid: i32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count)
}

/// What is left of these after a while, or as soon as none are.
fn remaining(time: Duration, count: impl Fn() -> usize) -> usize {
    let end = Instant::now() + time;
    loop {
        match count() {
            1.. if Instant::now() < end => thread::sleep(Duration::from_millis(50)),
            count => return count,
        }
    }
}
