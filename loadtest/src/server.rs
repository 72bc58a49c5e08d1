//! The server under test, running.

use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader, Read};
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Child, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::interrupt::{Interrupt, kill_group};
use crate::launch;

/// How long a server may take until it accepts.
const START_TIMEOUT: Duration = Duration::from_secs(30);
const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// How many of its last lines on stderr are kept.
const STDERR_LINES: usize = 20;

/// A server that listens.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    name: &'static str,
    /// Where it serves.
    pub(crate) address: SocketAddr,
    /// Where it tells about itself.
    pub(crate) admin: SocketAddr,
    stderr: Lines,
    exit: Option<ExitStatus>,
    interrupt: Interrupt,
}

/// The last lines of a stream that a thread reads.
type Lines = Arc<Mutex<VecDeque<String>>>;

impl Server {
    /// Starts `argv` and waits until it listens. To be called on the main thread: see [`launch::command`].
    pub(crate) fn start(
        name: &'static str,
        argv: &[String],
        join_paths: &[PathBuf],
        interrupt: &Interrupt,
    ) -> Result<Self> {
        let mut command = launch::command(argv, join_paths);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("{name} cannot be started"))?;
        interrupt.guard(child.id() as i32);
        let stderr = child.stderr.take().map(keep_last_lines).unwrap_or_default();
        let stdout = child.stdout.take().map(send_lines);
        let unknown = SocketAddr::from(([0, 0, 0, 0], 0));
        let interrupt = interrupt.clone();
        let mut server = Self { child, name, address: unknown, admin: unknown, stderr, exit: None, interrupt };
        let lines = stdout.context("its output cannot be read")?;
        let deadline = Instant::now() + START_TIMEOUT;
        server.address = server.announced(&lines, "listening on http://", deadline)?;
        server.admin = server.announced(&lines, "admin on http://", deadline)?;
        Ok(server)
    }

    /// Reads the next line, which announces an address.
    fn announced(&mut self, lines: &Receiver<String>, prefix: &str, deadline: Instant) -> Result<SocketAddr> {
        loop {
            match lines.recv_timeout(POLL_INTERVAL) {
                Ok(line) => {
                    let address = line.strip_prefix(prefix).and_then(|address| address.trim().parse().ok());
                    return address.with_context(|| format!("{} said {line:?}, not \"{prefix}ADDR\"", self.name));
                }
                Err(RecvTimeoutError::Timeout) if self.interrupt.is_raised() => bail!("interrupted"),
                Err(RecvTimeoutError::Timeout) if Instant::now() < deadline => {}
                Err(RecvTimeoutError::Timeout) => bail!("{} does not listen after {START_TIMEOUT:?}", self.name),
                Err(RecvTimeoutError::Disconnected) => {
                    let exit = self.wait(deadline);
                    bail!("{}", self.death(exit));
                }
            }
        }
    }

    /// The process, the root of the server's tree.
    pub(crate) fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    /// How it ended, if it has.
    pub(crate) fn exit(&mut self) -> Option<ExitStatus> {
        if self.exit.is_none() {
            self.exit = self.child.try_wait().ok().flatten();
        }
        self.exit
    }

    /// What is to be told of a server that ended though nobody stopped it.
    pub(crate) fn death(&self, exit: Option<ExitStatus>) -> String {
        let how = exit.map_or_else(|| "its output ended".to_owned(), describe);
        let mut text = format!("{} died: {how}", self.name);
        for line in self.stderr() {
            text.push_str("\n  stderr: ");
            text.push_str(&line);
        }
        text
    }

    /// The last lines that it wrote on stderr.
    pub(crate) fn stderr(&self) -> Vec<String> {
        self.stderr.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    /// Asks it to finish what is in flight, and to end.
    pub(crate) fn terminate(&self) {
        // If it is gone already, its exit status tells.
        let _ = kill(Pid::from_raw(self.pid()), Signal::SIGTERM);
    }

    /// Waits for its end until `deadline`.
    pub(crate) fn wait(&mut self, deadline: Instant) -> Option<ExitStatus> {
        loop {
            match self.exit() {
                None if Instant::now() < deadline => thread::sleep(POLL_INTERVAL),
                exit => return exit,
            }
        }
    }

    /// Kills it and all of its process group.
    pub(crate) fn kill(&mut self) {
        kill_group(self.pid());
        if self.exit.is_none() {
            let _ = self.child.kill();
            self.exit = self.child.wait().ok();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.exit().is_none() {
            self.kill();
        }
        self.interrupt.guard(0);
    }
}

/// How a process ended, in words.
pub(crate) fn describe(exit: ExitStatus) -> String {
    match (exit.code(), exit.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(number)) => {
            let name = Signal::try_from(number).map_or("unknown", Signal::as_str);
            format!("killed by signal {number} ({name})")
        }
        (None, None) => exit.to_string(),
    }
}

fn send_lines(stream: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            // Nobody wants what comes after the addresses, but a full pipe would block the server.
            let _ = sender.send(line);
        }
    });
    receiver
}

fn keep_last_lines(stream: impl Read + Send + 'static) -> Lines {
    let lines = Lines::default();
    let kept = lines.clone();
    thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
            kept.push_back(line);
            if kept.len() > STDERR_LINES {
                kept.pop_front();
            }
        }
    });
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_told_in_words() {
        assert_eq!(describe(ExitStatus::from_raw(9)), "killed by signal 9 (SIGKILL)");
        assert_eq!(describe(ExitStatus::from_raw(3 << 8)), "exit status 3");
    }
}
