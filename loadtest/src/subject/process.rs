//! A running server process.

use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader, ErrorKind, Read};
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use procfs::process::Process;
use results::printable::printable;

use super::launch::{self, Guarded};
use crate::machine::cpus::Cpus;
use crate::machine::descent;
use crate::machine::interrupt::{Interrupt, kill_group};

/// How long a server may take to start listening.
const START_TIMEOUT: Duration = Duration::from_secs(30);
const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// How many of the first and of the last lines on stderr are kept.
const KEPT_LINES: usize = 10;
/// What is kept of a line.
const MAX_LINE_BYTES: usize = 4096;
/// How long to wait for the end of stderr after the server exits.
const STDERR_TIMEOUT: Duration = Duration::from_secs(1);

/// A server that loadtest started. Drop kills it.
#[derive(Debug)]
pub(crate) struct ServerProcess {
    guarded: Guarded,
    name: &'static str,
    /// Whether it is started by a shell, which may stay beside it.
    is_shell: bool,
    /// The lines of its stdout.
    stdout: Receiver<Vec<u8>>,
    stderr: Lines,
    exit: Option<ExitStatus>,
    interrupt: Interrupt,
}

/// The first and last lines of a stream, read by a thread.
#[derive(Debug, Default)]
struct Lines {
    kept: Arc<Mutex<Kept>>,
    reader: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Kept {
    first: Vec<Vec<u8>>,
    last: VecDeque<Vec<u8>>,
    omitted: usize,
}

impl ServerProcess {
    /// Starts `argv`.
    ///
    /// # Errors
    /// It cannot be started.
    pub(crate) fn spawn(
        name: &'static str,
        argv: &[String],
        join_paths: &[PathBuf],
        cpus: Option<&Cpus>,
        interrupt: &Interrupt,
    ) -> Result<Self> {
        Self::spawn_with(name, argv, &[], join_paths, cpus, interrupt)
    }

    /// Starts `argv` with these variables in its environment, where other users cannot read them.
    ///
    /// # Errors
    /// It cannot be started.
    pub(crate) fn spawn_with(
        name: &'static str,
        argv: &[String],
        secrets: &[(&str, &str)],
        join_paths: &[PathBuf],
        cpus: Option<&Cpus>,
        interrupt: &Interrupt,
    ) -> Result<Self> {
        let piped = |command: &mut Command| {
            command.envs(secrets.iter().copied()).stdout(Stdio::piped()).stderr(Stdio::piped());
        };
        let started = launch::start(argv, join_paths, cpus, piped);
        let mut guarded = started.with_context(|| format!("{name} cannot be started"))?;
        interrupt.guard(guarded.guard.id() as i32);
        let stderr = guarded.guard.stderr.take().map(keep_lines).unwrap_or_default();
        let stdout = guarded.guard.stdout.take().map(send_lines).context("its output cannot be read")?;
        let is_shell = argv.first().is_some_and(|program| program == "sh");
        Ok(Self { guarded, name, is_shell, stdout, stderr, exit: None, interrupt: interrupt.clone() })
    }

    /// Reads the next line of its output, which must be `prefix` and an address.
    pub(crate) fn read_address(&mut self, prefix: &str) -> Result<SocketAddr> {
        let line = self.read_line()?;
        let address = line.strip_prefix(prefix).and_then(|address| address.trim().parse().ok());
        address.with_context(|| format!("{} printed {line:?} instead of \"{prefix}ADDR\"", self.name))
    }

    /// Reads the next line of its output.
    pub(crate) fn read_line(&mut self) -> Result<String> {
        let deadline = Instant::now() + START_TIMEOUT;
        match next_line(&self.stdout, self.name, START_TIMEOUT, &self.interrupt)? {
            Some(line) => Ok(line),
            None => {
                let exit = self.wait(deadline);
                bail!("{}", self.describe_death(exit))
            }
        }
    }

    /// Waits until a server that prints no address listens.
    pub(crate) fn wait_until_listening(&mut self, is_listening: impl Fn() -> bool) -> Result<()> {
        let deadline = Instant::now() + START_TIMEOUT;
        while !is_listening() {
            if let Some(exit) = self.exit() {
                let hint = if exit.success() { "; it must stay in the foreground" } else { "" };
                bail!("{}{hint}", self.describe_death(Some(exit)));
            }
            ensure!(!self.interrupt.is_raised(), "interrupted");
            ensure!(Instant::now() < deadline, "{} does not listen there after {START_TIMEOUT:?}", self.name);
            thread::sleep(POLL_INTERVAL);
        }
        Ok(())
    }

    /// The pid of the root of the server's process tree.
    pub(crate) fn pid(&self) -> i32 {
        self.guarded.pid
    }

    /// Its exit status, once it has exited.
    pub(crate) fn exit(&mut self) -> Option<ExitStatus> {
        if self.exit.is_none() {
            self.exit = self.guarded.guard.try_wait().ok().flatten();
        }
        self.exit
    }

    /// Describes an exit that loadtest did not cause, with the server's stderr.
    pub(crate) fn describe_death(&self, exit: Option<ExitStatus>) -> String {
        let how = exit.map_or_else(|| "its output ended".to_owned(), describe_exit);
        let mut text = format!("{} died: {how}", self.name);
        for line in self.stderr() {
            text.push_str("\n  stderr: ");
            text.push_str(&line);
        }
        text
    }

    /// The first and last lines of its stderr; complete once it has exited.
    pub(crate) fn stderr(&self) -> Vec<String> {
        let deadline = Instant::now() + STDERR_TIMEOUT;
        let is_reading = || self.stderr.reader.as_ref().is_some_and(|reader| !reader.is_finished());
        while self.exit.is_some() && is_reading() && Instant::now() < deadline {
            thread::sleep(POLL_INTERVAL);
        }
        let kept = self.stderr.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let omitted = (kept.omitted > 0).then(|| format!("... ({} lines)", kept.omitted));
        let texts = |line: &Vec<u8>| text_of(line);
        kept.first.iter().map(texts).chain(omitted).chain(kept.last.iter().map(texts)).collect()
    }

    /// Asks it to finish requests in flight and exit. A shell would not pass that on, so what it runs is asked.
    pub(crate) fn terminate(&self) {
        // Some shells become the last command that they run.
        let is_still_shell = self.is_shell && is_shell(self.pid());
        let children = if is_still_shell { children(self.pid()) } else { Vec::new() };
        let asked = if children.is_empty() { vec![self.pid()] } else { children };
        for pid in asked {
            // Fails only if it has already exited, which its exit status shows.
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
    }

    /// Waits until it exits, or until `deadline`.
    pub(crate) fn wait(&mut self, deadline: Instant) -> Option<ExitStatus> {
        loop {
            match self.exit() {
                None if Instant::now() < deadline => thread::sleep(POLL_INTERVAL),
                exit => return exit,
            }
        }
    }

    /// Kills it and all that descends from it, also what has left its process group.
    pub(crate) fn kill(&mut self) {
        kill_group(self.guarded.guard.id() as i32);
        if self.exit.is_none() {
            let _ = self.guarded.guard.kill();
            self.exit = self.guarded.guard.wait().ok();
        }
        descent::kill_all();
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        self.kill();
        self.interrupt.guard(0);
    }
}

/// Whether a process is a shell now.
fn is_shell(pid: i32) -> bool {
    let name = Process::new(pid).and_then(|process| process.stat()).map(|stat| stat.comm);
    name.is_ok_and(|name| ["sh", "dash", "bash", "busybox"].contains(&name.as_str()))
}

/// The children of a process; none if they cannot be read.
fn children(pid: i32) -> Vec<i32> {
    let main_thread = Process::new(pid).and_then(|process| process.task_main_thread());
    let children = main_thread.and_then(|thread| thread.children()).unwrap_or_default();
    children.into_iter().filter_map(|pid| i32::try_from(pid).ok()).collect()
}

/// An exit status in words.
pub(crate) fn describe_exit(exit: ExitStatus) -> String {
    match (exit.code(), exit.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(number)) => format!("killed by signal {number} ({})", signal_name(number)),
        (None, None) => exit.to_string(),
    }
}

/// The name of a signal, such as `SIGKILL`.
pub(super) fn signal_name(number: i32) -> String {
    Signal::try_from(number).map_or_else(|_| format!("signal {number}"), |signal| signal.as_str().into())
}

/// The first lines of a stream, read by a thread. It reads on to the end, whatever comes: a full pipe would block the
/// server, and a closed one would kill it.
pub(super) fn send_lines(stream: impl Read + Send + 'static) -> Receiver<Vec<u8>> {
    let (sender, receiver) = sync_channel(KEPT_LINES);
    // What nobody waits for is dropped.
    thread::spawn(move || read_lines(stream, |line| drop(sender.try_send(line.to_vec()))));
    receiver
}

/// The next of these lines of `who`; `None` if there are no more.
///
/// # Errors
/// There is none within `timeout`, or the user has had enough.
pub(super) fn next_line(
    lines: &Receiver<Vec<u8>>,
    who: &str,
    timeout: Duration,
    interrupt: &Interrupt,
) -> Result<Option<String>> {
    let deadline = Instant::now() + timeout;
    loop {
        match lines.recv_timeout(POLL_INTERVAL) {
            Ok(line) => return Ok(Some(text_of(&line))),
            Err(RecvTimeoutError::Disconnected) => return Ok(None),
            Err(RecvTimeoutError::Timeout) if interrupt.is_raised() => bail!("interrupted"),
            Err(RecvTimeoutError::Timeout) if Instant::now() < deadline => {}
            Err(RecvTimeoutError::Timeout) => bail!("{who} says nothing for {timeout:?}"),
        }
    }
}

/// A line as it may be printed. Many servers colour their logs.
fn text_of(line: &[u8]) -> String {
    printable(console::strip_ansi_codes(&String::from_utf8_lossy(line)).trim_end_matches('\r'))
}

/// Reads to the end, and gives each line, cut to [`MAX_LINE_BYTES`]. Few lines are ever shown, so none is made text here: a
/// server that prints without end would wait for that.
fn read_lines(stream: impl Read, mut take: impl FnMut(&[u8])) {
    let mut stream = BufReader::new(stream);
    let mut line = Vec::new();
    loop {
        let bytes = match stream.fill_buf() {
            Ok([]) => break,
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(_) => break,
        };
        let end = memchr::memchr(b'\n', bytes);
        let part = &bytes[..end.unwrap_or(bytes.len())];
        line.extend_from_slice(&part[..part.len().min(MAX_LINE_BYTES - line.len())]);
        let used = part.len() + usize::from(end.is_some());
        stream.consume(used);
        if end.is_some() {
            take(&line);
            line.clear();
        }
    }
    if !line.is_empty() {
        take(&line);
    }
}

fn keep_lines(stream: impl Read + Send + 'static) -> Lines {
    let mut lines = Lines::default();
    let kept = lines.kept.clone();
    lines.reader = Some(thread::spawn(move || {
        read_lines(stream, |line| kept.lock().unwrap_or_else(PoisonError::into_inner).push(line));
    }));
    lines
}

impl Kept {
    fn push(&mut self, line: &[u8]) {
        if self.first.len() < KEPT_LINES {
            return self.first.push(line.to_vec());
        }
        let mut last = Vec::new();
        if self.last.len() == KEPT_LINES {
            last = self.last.pop_front().unwrap_or_default();
            last.clear();
            self.omitted += 1;
        }
        last.extend_from_slice(line);
        self.last.push_back(last);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    #[test]
    fn exit_statuses_are_described() {
        assert_eq!(describe_exit(ExitStatus::from_raw(9)), "killed by signal 9 (SIGKILL)");
        assert_eq!(describe_exit(ExitStatus::from_raw(3 << 8)), "exit status 3");
    }

    #[test]
    fn the_first_and_the_last_lines_are_kept_and_none_is_longer_than_it_may_be() {
        let numbered = (0..25).map(|number| format!("{number}\n")).collect::<String>();
        let long = "x".repeat(3 * MAX_LINE_BYTES);
        let mut lines = keep_lines(Cursor::new(format!("{numbered}\n{long}\nend")));
        lines.reader.take().unwrap().join().unwrap();
        let kept = lines.kept.lock().unwrap();
        let texts = |lines: &mut dyn Iterator<Item = &Vec<u8>>| lines.map(|line| text_of(line)).collect::<Vec<_>>();
        assert_eq!(texts(&mut kept.first.iter()), (0..10).map(|number| number.to_string()).collect::<Vec<_>>());
        let last = ["18", "19", "20", "21", "22", "23", "24", "", &long[..MAX_LINE_BYTES], "end"];
        assert_eq!(texts(&mut kept.last.iter()), last);
        assert_eq!(kept.omitted, 8);
    }

    #[test]
    fn a_line_has_no_colours() {
        assert_eq!(text_of(b"\x1b[31mERROR\x1b[0m no\tport\x07\r"), "ERROR no\tport\u{fffd}");
    }
}
