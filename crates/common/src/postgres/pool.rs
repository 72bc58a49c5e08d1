//! Connections that threads share: each waits for one, and then for its answer.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};

use super::counters::DatabaseCounters;
use super::error::{Error, Kind};
use super::session::Session;
use super::settings::{DEFAULT_POOL, DatabaseFlags, Settings};
use super::slots::{Open, Slots};
use super::turns::Turns;
use super::{Answer, Question};
use crate::app::Query;

/// Connections that threads share, at most `--db-pool` of them. They are made when they are needed.
pub struct Pool {
    settings: Settings,
    turns: Turns,
    slots: Slots<Session>,
}

impl Pool {
    /// The pool of the database that the flags name; `None` if they name none. Asks it once, so that what is wrong shows now.
    ///
    /// # Errors
    /// The database cannot be reached, does not let us in, or has no people.
    pub fn open(flags: &DatabaseFlags) -> Result<Option<Self>> {
        let Some(settings) = flags.settings().map_err(anyhow::Error::msg)? else { return Ok(None) };
        let session = check(&settings)?;
        let turns = Turns::new(settings.pool.unwrap_or(DEFAULT_POOL), settings.max_waiting);
        let slots = Slots::default();
        slots.put(slots.note(Ok(session))?);
        Ok(Some(Self { settings, turns, slots }))
    }

    /// Asks, and blocks: first for a connection, then for the answer, then for as long as a handler keeps the connection.
    ///
    /// # Errors
    /// There is no answer. It is counted and logged already.
    // Not inlined: its frame would be on the stack of each of 10,000 threads, also without a database.
    #[inline(never)]
    pub fn query(&self, question: &Question<'_>, counters: &DatabaseCounters) -> Result<Answer, Error> {
        self.try_query(question, counters).inspect_err(|error| counters.failed(error))
    }

    fn try_query(&self, question: &Question<'_>, counters: &DatabaseCounters) -> Result<Answer, Error> {
        let start = Instant::now();
        self.slots.check()?;
        let waiting = counters.wait();
        let _turn = self.turns.wait(self.settings.pool_timeout)?;
        let mut session = self.session(counters)?;
        drop(waiting);
        counters.got_connection(start.elapsed());
        let _in_use = counters.hold();
        let asked = Instant::now();
        // After an error it is dropped: what comes over it later would be the answer to somebody else's question.
        let answer = session.connection.ask(question, self.settings.timeout)?;
        counters.got_answer(asked.elapsed());
        thread::sleep(self.settings.hold);
        self.slots.put(session);
        answer
    }

    /// A connection that nobody uses, or a new one.
    fn session(&self, counters: &DatabaseCounters) -> Result<Open<Session>, Error> {
        while let Some(session) = self.slots.take()? {
            if session.connection.is_fresh() {
                return Ok(session);
            }
        }
        counters.connect();
        self.slots.note(Session::connect(&self.settings.target, self.settings.timeout))
    }
}

/// Asks the database once, before a server starts.
///
/// # Errors
/// What is wrong, and what to do about it.
pub fn check(settings: &Settings) -> Result<Session> {
    let Settings { target, timeout, .. } = settings;
    let question = Question { query: Query::Find(1), body: b"", sleep: Duration::ZERO };
    let checked =
        Session::connect(target, *timeout).and_then(|mut session| match session.ask(&question, *timeout)? {
            Ok(Some(_)) => Ok(session),
            Ok(None) => Err(Error::new(Kind::Query, "nobody has the id 1")),
            Err(error) => Err(error),
        });
    checked.map_err(|error| anyhow!("{target}: {error}; {}", error.kind.advice()))
}
