//! A PostgreSQL of loadtest's own. `scripts/postgres` starts and ends it, and is a part of this executable.

use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Error, Result, bail};
use procfs::process::Process;
use results::database::Database;

use crate::machine::descent;
use crate::machine::interrupt::Interrupt;

const SCRIPT: &str = include_str!("../../../scripts/postgres");
const TABLES: &str = include_str!("../../../scripts/people.sql");
/// It takes a second, or many on a busy machine.
const START_TIMEOUT: Duration = Duration::from_secs(60);
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// The database that a server of this project is to ask.
#[derive(Clone, Debug)]
pub(crate) struct AskedDatabase {
    /// Its URL, which may have a password in it: for the server's environment, and for nothing that others can read.
    pub(crate) url: String,
    /// The most connections to it.
    pub(crate) pool: usize,
    /// Whether the URL is that of PgBouncer, which then has the pool.
    pub(crate) through_pgbouncer: bool,
    /// The process whose descendants are PostgreSQL's, if they are known.
    pub(crate) pid: Option<i32>,
}

impl AskedDatabase {
    /// What a result says of it before anything is measured.
    pub(crate) fn unmeasured(&self) -> Database {
        Database { pool: Some(self.pool), through_pgbouncer: self.through_pgbouncer, ..Database::default() }
    }
}

/// A PostgreSQL that is running. Drop ends it, and so does any end of loadtest: its input is then closed.
#[derive(Debug)]
pub(crate) struct Postgres {
    script: Child,
    input: Option<ChildStdin>,
    /// The URL of PgBouncer if it was asked for, or else of PostgreSQL.
    pub(crate) url: String,
}

impl Postgres {
    /// Starts one that lets so many clients in; with `bouncer`, behind a PgBouncer with so many connections to it.
    ///
    /// # Errors
    /// It is not installed, or does not start; what it says is in the error.
    pub(crate) fn start(max_connections: usize, bouncer: Option<usize>, interrupt: &Interrupt) -> Result<Self> {
        let mut command = Command::new("sh");
        command.args(["-c", SCRIPT, "postgres", "--max-connections", &max_connections.to_string()]);
        command.args(bouncer.iter().flat_map(|pool| ["--pgbouncer".to_owned(), pool.to_string()]));
        // A process group of its own: Ctrl-C on the terminal must not end it before the server.
        command.env("TABLES_SQL", TABLES).process_group(0);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut script = command.spawn().context("cannot run sh to start PostgreSQL")?;
        descent::spare(script.id() as i32);
        let lines = send_lines(&mut script);
        let mut postgres = Self { input: script.stdin.take(), script, url: String::new() };
        // The last line is the URL that is asked for: PgBouncer's comes second.
        for _ in 0..=usize::from(bouncer.is_some()) {
            postgres.url = next_line(&lines, interrupt).map_err(|error| postgres.with_reason(error))?;
        }
        Ok(postgres)
    }

    /// Why it does not start, with what it says itself.
    fn with_reason(&mut self, error: Error) -> Error {
        self.end();
        let mut said = String::new();
        let _ = self.script.stderr.take().map(|mut stderr| stderr.read_to_string(&mut said));
        error.context(format!("PostgreSQL does not start: {}", said.trim().trim_start_matches("scripts/postgres: ")))
    }

    fn end(&mut self) {
        // The end of its input ends it, and it cleans up: it must not be killed.
        drop(self.input.take());
        let _ = self.script.wait();
    }

    /// PostgreSQL's first process, whose children are the others.
    pub(crate) fn pid(&self) -> Option<i32> {
        let script = self.script.id() as i32;
        let is_it = |pid: &i32| {
            let stat = Process::new(*pid).and_then(|process| process.stat());
            stat.is_ok_and(|stat| stat.ppid == script && stat.comm == "postgres")
        };
        meter::process_tree(script).into_iter().find(is_it)
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.end();
        descent::forget(self.script.id() as i32);
    }
}

/// Sends what it prints line by line.
fn send_lines(script: &mut Child) -> Receiver<String> {
    let (sender, lines) = mpsc::channel();
    if let Some(stdout) = script.stdout.take() {
        thread::spawn(move || {
            BufReader::new(stdout).lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
    }
    lines
}

fn next_line(lines: &Receiver<String>, interrupt: &Interrupt) -> Result<String> {
    let deadline = Instant::now() + START_TIMEOUT;
    loop {
        match lines.recv_timeout(POLL_INTERVAL) {
            Ok(line) => return Ok(line),
            Err(RecvTimeoutError::Timeout) if interrupt.is_raised() => bail!("interrupted"),
            Err(RecvTimeoutError::Timeout) if Instant::now() < deadline => {}
            Err(RecvTimeoutError::Timeout) => bail!("it says nothing for {START_TIMEOUT:?}"),
            Err(RecvTimeoutError::Disconnected) => bail!("it ended"),
        }
    }
}
