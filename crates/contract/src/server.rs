//! A running server.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::PathBuf;
use std::process::{Child, ChildStderr, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

use crate::{Client, Target};

/// After this long something hangs. It is no measurement: a slow machine must not fail.
pub const TIMEOUT: Duration = Duration::from_secs(20);

/// A running server, which is killed with all its children when it is dropped.
#[derive(Debug)]
pub struct Server {
    child: Child,
    /// Where it listens.
    pub address: SocketAddr,
    /// Where `--admin` listens.
    pub admin: SocketAddr,
}

/// How a server ended, and what it said.
#[derive(Debug)]
pub struct Exit {
    /// The status.
    pub status: ExitStatus,
    /// What it wrote on standard output.
    pub stdout: String,
    /// What it wrote on standard error.
    pub stderr: String,
}

impl Server {
    /// Starts a server on free ports, with queries that take 1 ms unless `flags` say otherwise.
    pub fn start(target: &Target, flags: &[&str]) -> Self {
        Self::spawn(command(target), flags)
    }

    /// The same, with what it writes on standard error.
    pub fn start_logged(target: &Target, flags: &[&str]) -> (Self, ChildStderr) {
        let mut command = command(target);
        command.stderr(Stdio::piped());
        let mut server = Self::spawn(command, flags);
        let stderr = server.child.stderr.take().expect("it is piped");
        (server, stderr)
    }

    /// The same, with standard error being a pipe that is full. Who drops the second value lets writes to it fail.
    pub fn start_with_full_log(target: &Target, flags: &[&str]) -> (Self, io::PipeReader) {
        let (reader, writer) = full_pipe();
        let mut command = command(target);
        command.stderr(writer);
        (Self::spawn(command, flags), reader)
    }

    /// The same, with standard output being a pipe that is full, so that where it listens is known beforehand only.
    pub fn start_with_full_output(target: &Target) -> (Self, io::PipeReader) {
        let both = ["127.0.0.1:0"; 2].map(|address| TcpListener::bind(address).expect("a port is free"));
        let [address, admin] = both.each_ref().map(|listener| listener.local_addr().expect("it has an address"));
        drop(both);
        let (reader, writer) = full_pipe();
        let mut command = command(target);
        command.args(["--listen", &address.to_string(), "--admin", &admin.to_string()]).stdout(writer);
        let child = command.spawn().expect("the server's binary can be run");
        (Self { child, address, admin }, reader)
    }

    /// The same, with that many descriptors at most.
    pub fn start_with_files(target: &Target, files: usize, flags: &[&str]) -> Self {
        let mut command = Command::new("prlimit");
        command.arg(format!("--nofile={files}:{files}")).arg(target.program).args(target.flags);
        command.process_group(0).stdin(Stdio::null());
        Self::spawn(command, flags)
    }

    /// The same, in the cgroups that a process joins by writing its pid to these files.
    pub fn start_in(target: &Target, join_paths: &[PathBuf], flags: &[&str]) -> Self {
        let joins: String = join_paths.iter().map(|path| format!("echo $$ > '{}' && ", path.display())).collect();
        let mut command = Command::new("sh");
        command.args(["-c", &format!("{joins}exec \"$@\""), "sh", target.program]).args(target.flags);
        command.process_group(0).stdin(Stdio::null());
        Self::spawn(command, flags)
    }

    /// The same, as the first process of a new PID namespace, as it is in a container. The process of [`pid`](Self::pid) is
    /// then the one that waits for it outside; the second value is the server. `None`, and a word on standard error, where
    /// that is not allowed.
    pub fn start_as_first_process(target: &Target, flags: &[&str]) -> Option<(Self, Pid, ChildStderr)> {
        const UNSHARE: [&str; 3] = ["--pid", "--fork", "--mount-proc"];
        let probe = Command::new("unshare").args(UNSHARE).arg("true").output().expect("unshare is installed");
        if !probe.status.success() {
            eprintln!("skipped: no PID namespace here, run it as root: {}", String::from_utf8_lossy(&probe.stderr));
            return None;
        }
        let mut command = Command::new("unshare");
        command.args(UNSHARE).arg(target.program).args(target.flags);
        command.process_group(0).stdin(Stdio::null()).stderr(Stdio::piped());
        let mut server = Self::spawn(command, flags);
        let stderr = server.child.stderr.take().expect("it is piped");
        let first = children_of(server.pid())[0];
        Some((server, Pid::from_raw(first), stderr))
    }

    /// Leaves no process of the server another descriptor, until the guard is dropped. `prlimit(2)` has no safe interface,
    /// `prlimit(1)` is everywhere.
    pub fn use_up_descriptors(&self) -> UsedUp {
        let limits = self.processes().into_iter().map(|pid| (pid, soft_limit_of_files(pid)));
        let limits: Vec<_> = limits.collect();
        limits.iter().for_each(|&(pid, _)| set_soft_limit_of_files(pid, first_free_descriptor(pid)));
        UsedUp { limits }
    }

    fn spawn(mut command: Command, flags: &[&str]) -> Self {
        if !flags.contains(&"--db-wait") {
            command.args(["--db-wait", "1ms"]);
        }
        command.args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]).args(flags);
        let mut child = command.stdout(Stdio::piped()).spawn().expect("the server's binary can be run");
        let lines = lines(child.stdout.take());
        let address = |prefix: &str| {
            let line = lines.recv_timeout(TIMEOUT).expect("the server says where it listens");
            let address = line.strip_prefix(prefix).and_then(|address| address.parse().ok());
            address.unwrap_or_else(|| panic!("{line:?} is not {prefix}ADDRESS"))
        };
        let address_of = (address("listening on http://"), address("admin on http://"));
        Self { child, address: address_of.0, admin: address_of.1 }
    }

    /// A new connection.
    pub fn connect(&self) -> Client {
        Client::connect(self.address)
    }

    /// The process that was started.
    pub fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).expect("a pid fits"))
    }

    /// Sends a signal to the process that was started, as an operator or a container's engine does.
    pub fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).expect("the server is there to be signalled");
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + TIMEOUT;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait().expect("the server can be waited for") {
                return status;
            }
            thread::sleep(Duration::from_millis(5));
        }
        panic!("the server did not end within {TIMEOUT:?}");
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("the server can be waited for").is_none()
    }

    /// A metric, such as `c10k_connections_open` or `c10k_requests_total{code="200"}`.
    pub fn metric(&self, name: &str) -> u64 {
        self.number(name) as u64
    }

    /// A metric that need not be whole.
    pub fn number(&self, name: &str) -> f64 {
        let metrics = Client::connect(self.admin).get("/metrics");
        let value = metrics.text().lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no {name} in {}", metrics.text()))
    }

    /// All metrics whose names, with their labels, start with `prefix`, in their order.
    pub fn metrics(&self, prefix: &str) -> Vec<u64> {
        let metrics = Client::connect(self.admin).get("/metrics");
        let lines = metrics.text().lines().filter(|line| line.starts_with(prefix));
        lines.map(|line| line.rsplit(' ').next().and_then(|value| value.parse().ok()).expect("a number")).collect()
    }

    /// Waits until a metric has this value.
    pub fn wait_for_metric(&self, name: &str, value: u64) {
        wait_until(|| self.metric(name) == value, || format!("{name} is {}, not {value}", self.metric(name)));
    }

    /// The processes of its group that are alive.
    pub fn processes(&self) -> Vec<i32> {
        processes_of_group(self.pid())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The group is ours as long as its leader is not reaped; children die with it.
        let _ = killpg(self.pid(), Signal::SIGKILL);
        let _ = self.child.wait();
    }
}

/// Runs a server that is expected to end by itself.
pub fn run(target: &Target, flags: &[&str]) -> Exit {
    let mut command = command(target);
    command.args(flags);
    wait_for_end(command)
}

/// The same, without flags, with an environment variable.
pub fn run_with_variable(target: &Target, name: &str, value: &str) -> Exit {
    let mut command = command(target);
    command.env(name, value);
    wait_for_end(command)
}

fn wait_for_end(mut command: Command) -> Exit {
    let mut child =
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the server's binary can be run");
    let pid = Pid::from_raw(i32::try_from(child.id()).expect("a pid fits"));
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let text = read_both(stdout, stderr);
        let _ = sender.send((child.wait(), text));
    });
    let Ok((status, (stdout, stderr))) = receiver.recv_timeout(TIMEOUT) else {
        let _ = killpg(pid, Signal::SIGKILL);
        panic!("{command:?} did not end within {TIMEOUT:?}");
    };
    Exit { status: status.expect("the server can be waited for"), stdout, stderr }
}

impl Exit {
    /// The status, if it was not a signal that ended it.
    pub fn code(&self) -> Option<i32> {
        assert_eq!(self.status.signal(), None, "ended by a signal: {self:?}");
        self.status.code()
    }
}

/// Waits until `condition` holds; after too long, fails with `complaint`.
pub fn wait_until(condition: impl Fn() -> bool, complaint: impl Fn() -> String) {
    let deadline = Instant::now() + TIMEOUT;
    while !condition() {
        assert!(Instant::now() < deadline, "{}", complaint());
        thread::sleep(Duration::from_millis(5));
    }
}

/// Waits until the server accepts no more.
pub fn wait_until_refused(server: &Server) {
    // Who comes while it stops is told nothing: a knock must not wait for an answer.
    let is_refused = || {
        let knock = TcpStream::connect_timeout(&server.address, Duration::from_millis(100));
        knock.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
    };
    wait_until(is_refused, || "the server still accepts".into());
}

/// The RSS of a server and its children, added up.
pub fn rss_bytes(server: &Server) -> u64 {
    let of = |pid: i32| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok()).unwrap_or(0) * 1024
    };
    server.processes().into_iter().map(of).sum()
}

/// The CPU time that these processes have used, in steps of 10 ms.
pub fn cpu_time(pids: &[i32]) -> Duration {
    let ticks_of = |pid: &i32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // Behind the name, which may have spaces in it: user time is the 12th field, system time the 13th.
        let fields = stat.rsplit(") ").next().unwrap_or_default().split(' ').skip(11).take(2);
        fields.filter_map(|field| field.parse::<u64>().ok()).sum::<u64>()
    };
    Duration::from_millis(10 * pids.iter().map(ticks_of).sum::<u64>())
}

/// The processes of a group that are alive; the dead that nobody has reaped are not.
pub fn processes_of_group(group: Pid) -> Vec<i32> {
    let group = group.to_string();
    processes(|state, _, pgrp| pgrp == group && state != "Z" && state != "X")
}

/// The children of a process, those included that are dead and that it has not reaped.
pub fn children_of(parent: Pid) -> Vec<i32> {
    let parent = parent.to_string();
    processes(|_, ppid, _| ppid == parent)
}

/// The processes of that state, parent and group.
fn processes(matches: impl Fn(&str, &str, &str) -> bool) -> Vec<i32> {
    let entries = std::fs::read_dir("/proc").expect("/proc can be read");
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| {
        // pid (comm) state ppid pgrp ...
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let mut fields = stat.rsplit(") ").next().unwrap_or_default().split(' ');
        matches!((fields.next(), fields.next(), fields.next()), (Some(state), Some(ppid), Some(pgrp)) if matches(state, ppid, pgrp))
    })
    .collect()
}

/// The server in a process group of its own, so that all of it can be found and killed.
fn full_pipe() -> (io::PipeReader, io::PipeWriter) {
    let (reader, mut writer) = io::pipe().expect("there can be a pipe");
    fcntl(&writer, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).expect("it is ours");
    while writer.write(&[b'.'; 1024]).is_ok() || writer.write(b".").is_ok() {}
    fcntl(&writer, FcntlArg::F_SETFL(OFlag::empty())).expect("it is ours");
    (reader, writer)
}

fn command(target: &Target) -> Command {
    let mut command = Command::new(target.program);
    command.args(target.flags).process_group(0).stdin(Stdio::null());
    command
}

fn lines(stdout: Option<ChildStdout>) -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for line in stdout.into_iter().flat_map(|stdout| BufReader::new(stdout).lines().map_while(Result::ok)) {
            let _ = sender.send(line);
        }
    });
    receiver
}

fn read_both(stdout: Option<ChildStdout>, stderr: Option<ChildStderr>) -> (String, String) {
    let (mut out, mut err) = (String::new(), String::new());
    let _ = stderr.map(|mut stderr| stderr.read_to_string(&mut err));
    let _ = stdout.map(|mut stdout| stdout.read_to_string(&mut out));
    (out, err)
}

/// Processes that have no descriptor left, each with the limit that it had before.
#[derive(Debug)]
pub struct UsedUp {
    limits: Vec<(i32, u64)>,
}

impl Drop for UsedUp {
    fn drop(&mut self) {
        self.limits.iter().for_each(|&(pid, limit)| set_soft_limit_of_files(pid, limit));
    }
}

fn soft_limit_of_files(pid: i32) -> u64 {
    let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).expect("the server is running");
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files")).expect("there is a limit");
    line.split_whitespace().next().and_then(|soft| soft.parse().ok()).expect("the limit is a number")
}

fn set_soft_limit_of_files(pid: i32, limit: u64) {
    let flags = [format!("--pid={pid}"), format!("--nofile={limit}:")];
    // A child may have ended meanwhile.
    Command::new("prlimit").args(flags).output().expect("prlimit is installed");
}

/// The number that the next descriptor would get: with it as the limit, there is none.
fn first_free_descriptor(pid: i32) -> u64 {
    (0..).find(|number| !std::path::Path::new(&format!("/proc/{pid}/fd/{number}")).exists()).unwrap_or(0)
}
