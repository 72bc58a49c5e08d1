//! Meters a command from its start to its end.

use std::ffi::OsString;
use std::fs::File;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::PathBuf;
use std::process::{Child, ExitCode, ExitStatus, id};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use meter::Cgroup;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::account::{Account, Charged, End, PAUSE_PER_READING};
use crate::cli::Cli;
use crate::join;
use crate::output::Output;

/// The first reading comes so soon, that also a short command is seen; the pauses double until they are `--interval`.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
/// How often the total is looked at where the kernel's own peak lacks something.
const SAMPLE_INTERVAL: Duration = Duration::from_millis(20);
/// Our cgroups are named this plus our pid, so that those of a killed run are found.
const CGROUP_PREFIX: &str = "ramledger-";
/// Runs the command and reports. Returns its exit status.
pub(crate) fn measure(argv: &[OsString], cli: &Cli, mut output: Output) -> Result<ExitCode> {
    meter::remove_stale(CGROUP_PREFIX);
    let cgroup = Cgroup::create(&format!("{CGROUP_PREFIX}{}", id()));
    let join_paths = cgroup.as_ref().map(Cgroup::join_paths).unwrap_or_default();
    let has_terminal = File::open("/dev/tty").is_ok();
    // Before the child is there, or one would end us and not it.
    let signals = [SIGHUP, SIGINT, SIGQUIT, SIGTERM].into_iter().filter(|&signal| !is_ignored(signal));
    let signals = Signals::new(signals)?;
    let start_time = Instant::now();
    let child = start(&join_paths, argv, has_terminal)?;
    let mut reader = Reader {
        subject: argv.iter().map(|argument| argument.to_string_lossy()).collect::<Vec<_>>().join(" "),
        pid: child.id() as i32,
        start: start_time,
        cgroup: cgroup.as_ref().ok(),
        why_no_cgroup: cgroup.as_ref().err().map(|error| format!("{error}: RAM is what /proc shows")),
        peak_bytes: None,
    };
    pass_on(signals, reader.pid, has_terminal);
    let mut written = Ok(());
    let (highest, status) = watch(
        &mut reader,
        &wait_for(child),
        |account| {
            // The command goes on, also if nobody can be told of it.
            if cli.watch && written.is_ok() {
                written = output.write(account);
            }
        },
        cli.interval,
    )?;
    let account = reader.conclude(highest, status);
    written.and_then(|()| output.write(&account))?;
    Ok(ExitCode::from(exit_status(status)))
}

/// The status with which a shell would report this end.
fn exit_status(status: ExitStatus) -> u8 {
    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
    u8::try_from(code).unwrap_or(u8::MAX)
}

/// Starts the command. Without a terminal it has a process group of its own: what is sent to ours is passed on once.
fn start(join_paths: &[PathBuf], argv: &[OsString], has_terminal: bool) -> Result<Child> {
    let mut command = join::command(join_paths, argv);
    if !has_terminal {
        command.process_group(0);
    }
    command.spawn().context("the command cannot be started")
}

/// Whether we were started so that this signal is ignored, as by nohup(1): then it is for the command, too.
fn is_ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    ignored >> (signal - 1) & 1 == 1
}

/// Passes signals on to the command, but those that a terminal sends to both.
fn pass_on(mut signals: Signals, pid: i32, has_terminal: bool) {
    thread::spawn(move || {
        let passed = |signal: &i32| !has_terminal || ![SIGINT, SIGQUIT].contains(signal);
        for signal in signals.forever().filter(passed).filter_map(|signal| Signal::try_from(signal).ok()) {
            // It may have ended: then so do we.
            let _ = kill(Pid::from_raw(pid), signal);
        }
    });
}

/// Where the exit status will come.
fn wait_for(mut child: Child) -> Receiver<ExitStatus> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        if let Ok(status) = child.wait() {
            let _ = sender.send(status);
        }
    });
    receiver
}

/// Reads until the command has ended. Returns the reading with the highest total, and the status.
fn watch(
    reader: &mut Reader<'_>,
    ended: &Receiver<ExitStatus>,
    mut show: impl FnMut(&Account),
    interval: Duration,
) -> Result<(Option<Account>, ExitStatus)> {
    let mut highest: Option<Account> = None;
    let mut pause = FIRST_PAUSE.min(interval);
    let mut next = Instant::now() + pause;
    loop {
        let left = next.saturating_duration_since(Instant::now());
        match ended.recv_timeout(left.min(SAMPLE_INTERVAL)) {
            Ok(status) => return Ok((highest, status)),
            Err(RecvTimeoutError::Disconnected) => anyhow::bail!("the command's end was lost"),
            Err(RecvTimeoutError::Timeout) => reader.sample(),
        }
        if Instant::now() < next {
            continue;
        }
        let begin = Instant::now();
        if let Some(account) = reader.read() {
            show(&account);
            if highest.as_ref().is_none_or(|highest| account.total_bytes() >= highest.total_bytes()) {
                highest = Some(account);
            }
        }
        pause = (pause * 2).min(interval).max(begin.elapsed() * PAUSE_PER_READING);
        next = Instant::now() + pause;
    }
}

/// Reads the accounts of a command.
struct Reader<'a> {
    subject: String,
    pid: i32,
    start: Instant,
    cgroup: Option<&'a Cgroup>,
    why_no_cgroup: Option<String>,
    /// The highest total that was seen.
    peak_bytes: Option<u64>,
}

impl Reader<'_> {
    /// Notes the total, in case the kernel's own peak lacks something.
    fn sample(&mut self) {
        let current_bytes = self.cgroup.and_then(|cgroup| cgroup.current_bytes().ok());
        self.peak_bytes = self.peak_bytes.max(current_bytes);
    }

    fn peak_bytes(&self) -> Option<u64> {
        let kernels = self.cgroup.and_then(|cgroup| cgroup.peak_bytes().ok());
        self.peak_bytes.max(kernels)
    }

    /// `None` once the command is gone.
    fn read(&mut self) -> Option<Account> {
        let at_s = self.start.elapsed().as_secs_f64();
        let seen = meter::ledger(self.pid).ok()?;
        let parts = self.cgroup.and_then(|cgroup| cgroup.parts().ok());
        self.peak_bytes = self.peak_bytes.max(parts.map(|parts| parts.total_bytes));
        let charged = parts.map(|parts| Charged::new(&parts, Some(&seen)));
        let notes = self.why_no_cgroup.clone().into_iter().collect();
        let peak_bytes = self.peak_bytes();
        Some(Account { peak_bytes, charged, seen: Some(seen), notes, ..Account::new(&self.subject, at_s) })
    }

    /// The last account: the highest reading, with the peak and the end.
    fn conclude(&self, highest: Option<Account>, status: ExitStatus) -> Account {
        let after_s = self.start.elapsed().as_secs_f64();
        let is_read = highest.is_some();
        let mut account = highest.unwrap_or_else(|| Account::new(&self.subject, after_s));
        account.peak_bytes = self.peak_bytes();
        if !is_read {
            account.notes.push("it ended before it could be read".to_owned());
        }
        let left = self.cgroup.and_then(|cgroup| cgroup.pids().ok()).unwrap_or_default();
        if !left.is_empty() {
            let count = left.len();
            account
                .notes
                .push(format!("{count} processes that it started still run, such as {}: they are left", left[0]));
        }
        account.end = Some(End { how: describe(status), after_s });
        account
    }
}

fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(number)) => {
            format!("killed by {}", Signal::try_from(number).map_or("a signal", Signal::as_str))
        }
        (None, None) => "ended".to_owned(),
    }
}
