//! Connections to a real database. Processes cannot hand them to each other: each child has one of its own and keeps it, or with
//! `--db-pool` connects for each query, when it is its turn.

use std::cell::Cell;
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use common::postgres::counters::DatabaseCounters;
use common::postgres::error::Error;
use common::postgres::outage::Outage;
use common::postgres::pool::check;
use common::postgres::session::Session;
use common::postgres::settings::{DatabaseFlags, Settings};
use common::postgres::{Answer, Question};

use crate::flags::{Flags, Raised};
use crate::process;

/// Who waits for his turn looks this often whether a turn is free: a child that was woken may be killed before it takes it.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// Many look less often each, so that all of them together look about this often: else they would keep the CPUs busy.
const LOOK_SPACING: Duration = Duration::from_millis(5);

/// What a child has of the database for itself.
pub(crate) struct Client {
    /// The child's place among the others.
    index: usize,
    session: Cell<Option<Session>>,
}

impl Client {
    /// A child's, which is not connected yet.
    pub(crate) fn new(index: usize) -> Self {
        Self { index, session: Cell::default() }
    }
}

/// What all children share of the database: every child has a copy, and its references point to the same memory.
pub(crate) struct Database {
    settings: Settings,
    outage: &'static Outage,
    /// With `--db-pool`, who may connect now.
    turns: Option<Turns>,
    /// Which children wait for their turn...
    waiting: Flags,
    /// ...and which use their connection.
    using: Flags,
}

impl Database {
    /// The database that the flags name, for that many children; `None` if they name none. Asks it once, so that what is wrong
    /// shows now.
    pub(crate) fn open(flags: &DatabaseFlags, children: usize) -> Result<Option<Self>> {
        let Some(settings) = flags.settings().map_err(anyhow::Error::msg)? else { return Ok(None) };
        // In a thread, which has ended before the first fork: the random numbers of a login are the thread's own, and children
        // that had a copy of them would all begin with the same.
        let checked = thread::scope(|scope| scope.spawn(|| check(&settings).map(drop)).join());
        checked.ok().context("the database could not be asked")??;
        let flags = || process::share_slice(Flags::words(children)).map(Flags);
        Ok(Some(Self {
            outage: process::share(Outage::default())?,
            turns: settings.pool.map(Turns::new).transpose()?,
            settings,
            waiting: flags()?,
            using: flags()?,
        }))
    }

    /// How many children wait for their turn, and how many use their connection.
    pub(crate) fn counts(&self) -> (u64, u64) {
        (self.waiting.count(), self.using.count())
    }

    /// Takes back what a child that is gone has said of itself.
    pub(crate) fn forget(&self, index: usize) {
        self.waiting.clear(index);
        self.using.clear(index);
        if let Some(turns) = &self.turns {
            turns.end(index);
        }
    }

    /// Asks, and blocks: first for a connection, then for the answer, then for as long as a handler keeps the connection.
    /// An error is counted and logged already.
    // Not inlined: its frame would be there in each of 10,000 processes, also without a database.
    #[inline(never)]
    pub(crate) fn query(
        &self,
        question: &Question<'_>,
        client: &Client,
        counters: &DatabaseCounters,
    ) -> Result<Answer, Error> {
        self.try_query(question, client, counters).inspect_err(|error| counters.failed(error))
    }

    fn try_query(
        &self,
        question: &Question<'_>,
        client: &Client,
        counters: &DatabaseCounters,
    ) -> Result<Answer, Error> {
        let timeout = self.settings.timeout;
        let start = Instant::now();
        let kept = client.session.take().filter(Session::is_fresh);
        let _turn = match kept {
            Some(_) => None,
            None => self.turn(client.index)?,
        };
        let mut session = kept.map_or_else(|| self.connect(counters), Ok)?;
        counters.got_connection(start.elapsed());
        let _using = Raised::new(self.using, client.index);
        let asked = Instant::now();
        // After an error it is dropped: what comes over it later would be the answer to somebody else's question.
        let answer = session.ask(question, timeout)?;
        counters.got_answer(asked.elapsed());
        thread::sleep(self.settings.hold);
        match self.turns {
            // The next may find no room if this one was still on its way out.
            Some(_) => session.close(timeout),
            None => client.session.set(Some(session)),
        }
        answer
    }

    fn turn(&self, index: usize) -> Result<Option<Turn<'_>>, Error> {
        self.outage.is_over()?;
        let Some(turns) = &self.turns else { return Ok(None) };
        if let Some(turn) = turns.begin(index) {
            return Ok(Some(turn));
        }
        let others = self.waiting.count();
        if others >= self.settings.max_waiting as u64 {
            return Err(Error::queue_full(self.settings.max_waiting));
        }
        let _waiting = Raised::new(self.waiting, index);
        let look_interval = LOOK_INTERVAL.max(LOOK_SPACING * others as u32);
        turns.wait(index, self.settings.pool_timeout, look_interval).map(Some)
    }

    fn connect(&self, counters: &DatabaseCounters) -> Result<Session, Error> {
        self.outage.check()?;
        counters.connect();
        let connected = Session::connect(&self.settings.target, self.settings.timeout);
        match &connected {
            Ok(_) => self.outage.end(),
            Err(error) => self.outage.failed(error.kind),
        }
        connected
    }
}

/// Turns for processes: so many at once. In no strict order: who comes just when a turn ends may be faster than who waits.
struct Turns {
    /// Whose each turn is: the index of the child plus one, or zero. Taken in one step, so that a child that is killed leaves
    /// no turn that is nobody's.
    owners: &'static [AtomicI32],
    /// How many turns have ended: who waits sleeps until it changes.
    ended: &'static AtomicU32,
}

impl Turns {
    fn new(count: usize) -> Result<Self> {
        Ok(Self { owners: process::share_slice(count)?, ended: process::share(AtomicU32::new(0))? })
    }

    fn begin(&self, index: usize) -> Option<Turn<'_>> {
        let owner = owner(index);
        let is_taken = |place: &AtomicI32| place.compare_exchange(0, owner, Relaxed, Relaxed).is_ok();
        self.owners.iter().any(is_taken).then_some(Turn { turns: self, index })
    }

    fn wait(&self, index: usize, timeout: Duration, look_interval: Duration) -> Result<Turn<'_>, Error> {
        let deadline = Instant::now() + timeout;
        loop {
            let ended = self.ended.load(Relaxed);
            if let Some(turn) = self.begin(index) {
                return Ok(turn);
            }
            let remaining = deadline.saturating_duration_since(Instant::now());
            if remaining.is_zero() {
                return Err(Error::pool_timeout());
            }
            process::wait_for_change(self.ended, ended, remaining.min(look_interval));
        }
    }

    /// Ends the turn of a child, if it has one.
    fn end(&self, index: usize) {
        let owner = owner(index);
        let is_freed = |place: &AtomicI32| place.compare_exchange(owner, 0, Relaxed, Relaxed).is_ok();
        if self.owners.iter().any(is_freed) {
            self.ended.fetch_add(1, Relaxed);
            process::wake_one(self.ended);
        }
    }
}

fn owner(index: usize) -> i32 {
    index as i32 + 1
}

/// A turn, which ends when it is dropped, also by a panic.
struct Turn<'a> {
    turns: &'a Turns,
    index: usize,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.turns.end(self.index);
    }
}
