//! Meters what runs already.

use std::collections::HashSet;
use std::process::{Command, ExitCode};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use meter::{ExistingCgroup, Ledger, LedgerWalk};

use crate::account::{Account, Charged, PAUSE_PER_READING};
use crate::cli::{Cli, Subject};
use crate::output::Output;

/// Programs that know containers, in the order in which they are asked.
const CONTAINER_TOOLS: [&str; 2] = ["docker", "podman"];

/// Reports once, or with `--watch` until it ends.
pub(crate) fn measure(subject: &Subject, cli: &Cli, mut output: Output) -> Result<ExitCode> {
    let running = Running::find(subject)?;
    let start = Instant::now();
    let mut account = running.read(start.elapsed())?;
    loop {
        output.write(&account)?;
        if !cli.watch {
            return Ok(ExitCode::SUCCESS);
        }
        let taken = start.elapsed().saturating_sub(Duration::from_secs_f64(account.at_s));
        thread::sleep(cli.interval.max(taken * PAUSE_PER_READING));
        account = match running.read(start.elapsed()) {
            Ok(account) => account,
            // It has ended, and its last account stands there.
            Err(_) => return Ok(ExitCode::SUCCESS),
        };
    }
}

/// What was found.
struct Running {
    name: String,
    /// The root of the tree; without one it is all processes of the cgroup.
    pid: Option<i32>,
    cgroup: Option<ExistingCgroup>,
}

impl Running {
    fn find(subject: &Subject) -> Result<Self> {
        match subject {
            Subject::Tree(pid) => {
                Ok(Self { name: format!("process {pid}"), pid: Some(*pid), cgroup: ExistingCgroup::of(*pid) })
            }
            Subject::Cgroup(directory) => {
                let cgroup = ExistingCgroup::at(directory).with_context(|| {
                    format!("{} is no cgroup with a memory controller, or the root", directory.display())
                })?;
                Ok(Self { name: format!("cgroup {}", directory.display()), pid: None, cgroup: Some(cgroup) })
            }
            Subject::Container(name) => {
                let pid = pid_of_container(name)?;
                let cgroup = ExistingCgroup::of(pid)
                    .with_context(|| format!("the container {name} has no cgroup of its own"))?;
                Ok(Self { name: format!("container {name}"), pid: None, cgroup: Some(cgroup) })
            }
        }
    }

    fn read(&self, at: Duration) -> Result<Account> {
        let members = self.cgroup.as_ref().and_then(|cgroup| cgroup.pids().ok()).unwrap_or_default();
        let seen = self.ledger(&members)?;
        let mut notes = Vec::new();
        let tree: HashSet<i32> = self.pid.map(meter::process_tree).unwrap_or_default().into_iter().collect();
        let members: HashSet<i32> = members.into_iter().collect();
        if self.pid.is_some() && self.cgroup.is_some() {
            for (count, what) in [
                (
                    members.difference(&tree).count(),
                    "processes of others are in the cgroup: what is charged is theirs, too",
                ),
                (
                    tree.difference(&members).count(),
                    "processes of the tree are in another cgroup: they are charged there",
                ),
            ] {
                notes.extend((count > 0).then(|| format!("{count} {what}")));
            }
        }
        if self.cgroup.is_none() {
            notes.push("it is in no cgroup with a memory controller but the root: RAM is what /proc shows".to_owned());
        }
        let parts = self.cgroup.as_ref().and_then(|cgroup| cgroup.parts().ok());
        let peak_bytes = self.cgroup.as_ref().and_then(|cgroup| cgroup.peak_bytes().ok());
        // The kernel's own part is taken apart by the ledger: it must be of the same processes.
        let same = (self.pid.is_none() || tree == members).then_some(&seen);
        let charged = parts.map(|parts| Charged::new(&parts, same));
        Ok(Account { peak_bytes, charged, seen: Some(seen), notes, ..Account::new(&self.name, at.as_secs_f64()) })
    }

    fn ledger(&self, members: &[i32]) -> Result<Ledger> {
        if let Some(pid) = self.pid {
            return meter::ledger(pid).map_err(Into::into);
        }
        let Some(&first) = members.first() else { bail!("{}: no process is in it", self.name) };
        Ok(LedgerWalk::new(first, members.to_vec()).finish()?)
    }
}

/// The pid of a container's first process, as the program that started it knows it.
fn pid_of_container(name: &str) -> Result<i32> {
    let mut answers = Vec::new();
    for tool in CONTAINER_TOOLS {
        let asked = Command::new(tool)
            .args(["inspect", "--type", "container", "--format", "{{.State.Pid}}", "--", name])
            .output();
        let Ok(asked) = asked else { continue };
        let text = String::from_utf8_lossy(if asked.status.success() { &asked.stdout } else { &asked.stderr });
        match text.trim().parse() {
            Ok(pid) if asked.status.success() => {
                ensure!(pid > 0, "the container {name} does not run");
                return Ok(pid);
            }
            _ => answers.push(format!("{tool}: {}", text.trim())),
        }
    }
    ensure!(!answers.is_empty(), "neither docker nor podman is installed");
    bail!("there is no container {name}: {}", answers.join("; "))
}
