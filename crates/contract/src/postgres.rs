//! A PostgreSQL of one's own, and what may happen to it.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;

use crate::server::TIMEOUT;

/// A PostgreSQL that `scripts/postgres` has started, and ends when this is dropped.
#[derive(Debug)]
pub struct Postgres {
    child: Child,
    orders: Option<ChildStdin>,
    lines: Receiver<String>,
    /// The URL for `--db`.
    pub url: String,
}

impl Postgres {
    /// Starts one with these flags of `scripts/postgres`.
    pub fn start(flags: &[&str]) -> Self {
        let mut command = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../scripts/postgres"));
        command.args(flags).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("scripts/postgres can be run");
        let (sender, lines) = mpsc::channel();
        let stdout = child.stdout.take().expect("it is piped");
        thread::spawn(move || {
            BufReader::new(stdout).lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        let mut postgres = Self { orders: child.stdin.take(), child, lines, url: String::new() };
        postgres.url = postgres.line();
        postgres
    }

    /// The URL of its PgBouncer.
    pub fn bouncer_url(&self) -> String {
        self.line()
    }

    /// Gives an order of `scripts/postgres`, and waits until it is done.
    pub fn order(&mut self, order: &str) {
        let orders = self.orders.as_mut().expect("it is piped");
        writeln!(orders, "{order}").expect("scripts/postgres takes orders");
        assert_eq!(self.line(), format!("done {order}"));
    }

    /// What it answers to a statement, as text.
    pub fn query(&self, statement: &str) -> String {
        // The same database, and encrypted if it can be: the statement may be about that.
        let url = self.url.split_once('?').map_or(self.url.as_str(), |(url, _)| url);
        let output = Command::new("psql").args([url, "-Atc", statement]).output().expect("psql can be run");
        assert!(output.status.success(), "{statement}: {output:?}");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    fn line(&self) -> String {
        // It takes a second, or many on a machine that is busy.
        self.lines.recv_timeout(3 * TIMEOUT).expect("scripts/postgres says what it has done")
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // The end of its input ends it, and it cleans up: it must not be killed.
        drop(self.orders.take());
        let _ = self.child.wait();
    }
}
