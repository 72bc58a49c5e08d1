//! A program under valgrind's callgrind, which counts its instructions and those of its threads and children.

use std::fs;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

/// How long a program may take to end.
const END_TIMEOUT: Duration = Duration::from_secs(60);
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// A program that is being counted. It ends with this.
pub(crate) struct Counted {
    child: Child,
    /// A file for each process.
    counts: TempDir,
}

/// Starts it.
///
/// # Errors
/// A program is missing.
pub(crate) fn start(program: &Path, arguments: &[&str]) -> Result<Counted> {
    let counts = TempDir::new().context("cannot make a folder for the counts")?;
    // It ends with this program, however this one ends.
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "TERM"]);
    // Its threads share a CPU, and whoever is woken up waits until it is free: they never meet at a lock, where spinning would
    // be counted.
    command.args(["taskset", "--cpu-list", &first_cpu()?, "chrt", "--batch", "0"]);
    command.args(["valgrind", "--quiet", "--tool=callgrind"]);
    command.arg(format!("--callgrind-out-file={}/%p", counts.path().display())).arg("--").arg(program).args(arguments);
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
    let child = child.context("cannot run setpriv, taskset and chrt: apt-get install util-linux")?;
    Ok(Counted { child, counts })
}

/// The first CPU that this program may use.
fn first_cpu() -> Result<String> {
    let status = fs::read_to_string("/proc/self/status")?;
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    let first = list.and_then(|list| list.trim().split([',', '-']).next());
    first.map(str::to_owned).context("the kernel does not say which CPUs this program may use")
}

impl Counted {
    /// What it prints.
    pub(crate) fn stdout(&mut self) -> Option<ChildStdout> {
        self.child.stdout.take()
    }

    /// Asks it to stop.
    pub(crate) fn stop(&self) -> Result<()> {
        kill(Pid::from_raw(self.child.id() as i32), Signal::SIGTERM).context("cannot stop the program")
    }

    /// Waits until it has ended, and returns its instructions.
    ///
    /// # Errors
    /// It fails, or does not end.
    pub(crate) fn finish(mut self) -> Result<u64> {
        let deadline = Instant::now() + END_TIMEOUT;
        let status = loop {
            match self.child.try_wait()? {
                Some(status) => break status,
                None if Instant::now() > deadline => bail!("it does not end"),
                None => thread::sleep(POLL_INTERVAL),
            }
        };
        ensure!(status.success(), "it ended with {status}: see above");
        let mut all = 0;
        for file in fs::read_dir(self.counts.path())? {
            all += total(&fs::read_to_string(file?.path())?).context("callgrind's file has no total")?;
        }
        Ok(all)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        // It has ended, unless something failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The sum in a file of callgrind's.
fn total(text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix("totals:"))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_is_the_files_last_word() {
        assert_eq!(total("events: Ir\nfn=(0) x\n1 12\n\ntotals: 1333119\n"), Some(1_333_119));
        assert_eq!(total("events: Ir\n"), None);
    }
}
