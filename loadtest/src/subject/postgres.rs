//! A PostgreSQL of loadtest's own. `scripts/postgres` starts and ends it, and is a part of this executable.

use std::io::Read as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Error, Result};
use common::postgres::target::Url;
use procfs::process::Process;
use results::database::Database;

use super::process;
use crate::machine::descent;
use crate::machine::interrupt::Interrupt;

const SCRIPT: &str = include_str!("../../../scripts/postgres");
const TABLES: &str = include_str!("../../../scripts/people.sql");
/// It takes a second, or many on a busy machine.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// The database that a server of this project is to ask.
#[derive(Clone, Debug)]
pub(crate) struct AskedDatabase {
    /// Its URL, which may have a password in it: for the server's environment, and for nothing that others can read.
    pub(crate) url: String,
    /// The most connections to it.
    pub(crate) pool: usize,
    /// Whether the URL is that of PgBouncer, which then has the pool.
    pub(crate) through_pgbouncer: bool,
    /// How long each request keeps its connection after the answer.
    pub(crate) hold: Duration,
    /// How many queries may be on their way at once on a connection.
    pub(crate) pipeline: usize,
    /// The process whose descendants are PostgreSQL's, if they are known.
    pub(crate) pid: Option<i32>,
}

impl AskedDatabase {
    /// How long an answer takes at least: `wait`, and for as long as the request keeps its connection to `database`.
    pub(crate) fn answer_time(database: Option<&Self>, wait: Duration) -> Duration {
        wait + database.map_or(Duration::ZERO, |database| database.hold)
    }

    /// Whether each of so many clients logs in, when it first asks something: a process that has no connection of others.
    pub(crate) fn lets_each_log_in(&self, connections: usize) -> bool {
        self.through_pgbouncer || self.pool >= connections
    }

    /// What a result says of it before anything is measured.
    pub(crate) fn unmeasured(&self) -> Database {
        Database {
            pool: Some(self.pool),
            through_pgbouncer: self.through_pgbouncer,
            tls: self.url.parse().ok().map(|url: Url| url.needs_tls()),
            hold_us: Some(self.hold.as_micros() as u64),
            pipeline: Some(self.pipeline),
            ..Database::default()
        }
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
        let lines = process::send_lines(script.stdout.take().context("its output cannot be read")?);
        let mut postgres = Self { input: script.stdin.take(), script, url: String::new() };
        // The last line is the URL that is asked for: PgBouncer's comes second.
        for _ in 0..=usize::from(bouncer.is_some()) {
            let line = process::next_line(&lines, "it", START_TIMEOUT, interrupt);
            let line = line.and_then(|line| line.context("it ended"));
            postgres.url = match line {
                Err(error) if !interrupt.is_raised() => return Err(postgres.with_reason(error)),
                line => line?,
            };
        }
        Ok(postgres)
    }

    /// Why it does not start, with what it says itself.
    fn with_reason(&mut self, error: Error) -> Error {
        self.end();
        let mut said = String::new();
        let _ = self.script.stderr.take().map(|mut stderr| stderr.read_to_string(&mut said));
        match said.trim().trim_start_matches("scripts/postgres: ") {
            "" => error.context("PostgreSQL does not start"),
            said => error.context(format!("PostgreSQL does not start: {said}")),
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_url_says_whether_connections_are_encrypted() {
        let tls = |parameters: &str| {
            let url = format!("postgres://ada:hunter2@localhost/x{parameters}");
            let asked =
                AskedDatabase { url, pool: 1, through_pgbouncer: false, hold: Duration::ZERO, pipeline: 1, pid: None };
            asked.unmeasured().tls
        };
        assert_eq!((tls("?sslmode=require"), tls("?sslmode=disable"), tls("")), (Some(true), Some(false), Some(false)));
    }
}
