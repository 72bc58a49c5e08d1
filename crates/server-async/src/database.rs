//! Connections to a real database that tasks share: each awaits one, and then its answer. Those that carry several queries
//! at once are in [`pipeline`](crate::pipeline).

use std::time::Instant;

use anyhow::Result;
use common::postgres::counters::DatabaseCounters;
use common::postgres::error::Error;
use common::postgres::pool::check;
use common::postgres::settings::{DEFAULT_POOL, DatabaseFlags, Settings};
use common::postgres::slots::{Open, Slots};
use common::postgres::{Answer, Question};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{sleep, timeout};

use crate::pipeline::{Pipelines, Place};
use crate::session::Session;

/// What [`common::postgres::pool`] does with threads, done with tasks.
pub(crate) struct Pool {
    settings: Settings,
    /// A permit for each connection. tokio gives them in the order in which they were asked for.
    turns: Semaphore,
    /// A permit for each task that may wait for one.
    places: Semaphore,
    slots: Slots<Session>,
    /// In place of the slots, if a connection carries several queries at once.
    pipelines: Option<Pipelines>,
}

impl Pool {
    /// The pool of the database that the flags name, with as many queries at once on each connection; `None` if they name
    /// none. Asks it once, so that what is wrong shows now.
    pub(crate) fn open(flags: &DatabaseFlags, depth: usize) -> Result<Option<Self>> {
        let Some(settings) = flags.settings().map_err(anyhow::Error::msg)? else { return Ok(None) };
        check(&settings)?;
        let pool = settings.pool.unwrap_or(DEFAULT_POOL);
        let permits = |count: usize| Semaphore::new(count.min(Semaphore::MAX_PERMITS));
        Ok(Some(Self {
            turns: permits(pool.saturating_mul(depth)),
            places: permits(settings.max_waiting),
            slots: Slots::default(),
            pipelines: (depth > 1).then(|| Pipelines::new(settings.clone(), pool, depth)),
            settings,
        }))
    }

    /// Asks, and awaits: first a connection, then the answer, then for as long as a handler keeps the connection. An error
    /// is counted and logged already.
    pub(crate) async fn query(
        &'static self,
        question: &Question<'_>,
        counters: &'static DatabaseCounters,
    ) -> Result<Answer, Error> {
        self.try_query(question, counters).await.inspect_err(|error| counters.failed(error))
    }

    async fn try_query(
        &'static self,
        question: &Question<'_>,
        counters: &'static DatabaseCounters,
    ) -> Result<Answer, Error> {
        let start = Instant::now();
        self.slots.check()?;
        let waiting = counters.wait();
        let turn = self.turn().await?;
        if let Some(pipelines) = &self.pipelines {
            return pipelines.ask(question, Place { turn, waiting, since: start }, counters).await;
        }
        let mut session = self.session(counters).await?;
        drop(waiting);
        counters.got_connection(start.elapsed());
        let _in_use = counters.hold();
        let asked = Instant::now();
        // After an error it is dropped, and also if the client leaves: what comes over it later would be the answer to
        // somebody else's question.
        let answer = session.connection.ask(question, self.settings.timeout).await?;
        counters.got_answer(asked.elapsed());
        // Even for a time of zero, tokio sleeps to the next millisecond.
        if !self.settings.hold.is_zero() {
            sleep(self.settings.hold).await;
        }
        self.slots.put(session);
        answer
    }

    async fn turn(&self) -> Result<SemaphorePermit<'_>, Error> {
        if let Ok(turn) = self.turns.try_acquire() {
            return Ok(turn);
        }
        let _place = self.places.try_acquire().map_err(|_| Error::queue_full(self.settings.max_waiting))?;
        match timeout(self.settings.pool_timeout, self.turns.acquire()).await {
            Ok(Ok(turn)) => Ok(turn),
            // It is never closed.
            Ok(Err(_)) | Err(_) => Err(Error::pool_timeout()),
        }
    }

    /// A connection that nobody uses, or a new one.
    async fn session(&self, counters: &DatabaseCounters) -> Result<Open<Session>, Error> {
        while let Some(session) = self.slots.take()? {
            if session.connection.is_fresh() {
                return Ok(session);
            }
        }
        counters.connect();
        self.slots.note(Session::connect(&self.settings.target, self.settings.timeout).await)
    }
}
