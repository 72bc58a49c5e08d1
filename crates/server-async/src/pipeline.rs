//! Connections to a real database that carry several queries at once (`--db-pipeline`): a task drives each of them, and hands
//! every request its own answer.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use common::app::Query;
use common::postgres::connection::Step;
use common::postgres::counters::DatabaseCounters;
use common::postgres::error::{Error, Kind};
use common::postgres::outage::Outage;
use common::postgres::settings::Settings;
use common::postgres::{Answer, Question};
use common::tally::Held;
use tokio::sync::{SemaphorePermit, mpsc, oneshot};
use tokio::time::sleep_until;

use crate::session::Session;

/// The connections, which are made when they are needed.
pub(crate) struct Pipelines {
    settings: Settings,
    /// The most connections.
    pool: usize,
    /// The most queries on the way on each of them.
    depth: usize,
    lines: Mutex<Vec<Line>>,
    /// Whether new ones can be had.
    outage: Outage,
}

/// A connection, as those see it who ask.
struct Line {
    number: u64,
    /// Its database has let it in.
    is_ready: bool,
    on_way: usize,
    queries: mpsc::UnboundedSender<Pending>,
}

/// What a request has, that may ask now.
pub(crate) struct Place {
    /// One of as many as all connections have room for. It ends with the query, not with the request: a client that leaves
    /// takes no query off its way.
    pub(crate) turn: SemaphorePermit<'static>,
    /// It waits for a connection until its query is sent.
    pub(crate) waiting: Held<'static>,
    /// Since then.
    pub(crate) since: Instant,
}

/// A query that is not sent yet.
struct Pending {
    query: Query,
    body: Vec<u8>,
    sleep: Duration,
    place: Place,
    answer: oneshot::Sender<Result<Answer, Error>>,
}

/// A query that is sent.
struct OnWay {
    asked: Instant,
    answer: oneshot::Sender<Result<Answer, Error>>,
    _turn: SemaphorePermit<'static>,
}

impl Pipelines {
    pub(crate) fn new(settings: Settings, pool: usize, depth: usize) -> Self {
        Self { settings, pool, depth, lines: Mutex::default(), outage: Outage::default() }
    }

    /// Asks, and awaits the answer.
    pub(crate) async fn ask(
        &'static self,
        question: &Question<'_>,
        place: Place,
        counters: &'static DatabaseCounters,
    ) -> Result<Answer, Error> {
        let Question { query, body, sleep } = *question;
        // Only an insert sends it; that of a row is the answer of the simulation.
        let body = if query == Query::Insert { body.to_vec() } else { Vec::new() };
        let (answer, answered) = oneshot::channel();
        self.send(Pending { query, body, sleep, place, answer }, counters)?;
        // It is never dropped without a word.
        answered.await.unwrap_or_else(|_| Err(Error::closed()))
    }

    /// Gives the query to a connection. If none is idle, one more is made, of which there may be so many.
    fn send(&'static self, pending: Pending, counters: &'static DatabaseCounters) -> Result<(), Error> {
        let mut lines = self.lines();
        let mut outage = Ok(());
        if lines.len() < self.pool && lines.iter().all(|line| line.on_way > 0) {
            outage = self.outage.check();
            if outage.is_ok() {
                self.open(&mut lines, counters);
            }
        }
        self.give(&mut lines, pending).map_err(|_| outage.err().unwrap_or_else(Error::closed))
    }

    /// Gives the query to the connection with the fewest, rather to one that is ready; back if none has room for it.
    fn give(&self, lines: &mut [Line], pending: Pending) -> Result<(), Pending> {
        let with_room = lines.iter_mut().filter(|line| line.on_way < self.depth);
        let Some(line) = with_room.min_by_key(|line| (!line.is_ready, line.on_way)) else { return Err(pending) };
        line.on_way += 1;
        // Its task takes it off this list before it stops to receive.
        line.queries.send(pending).map_err(|mpsc::error::SendError(pending)| pending)
    }

    /// Has a task connect.
    fn open(&'static self, lines: &mut Vec<Line>, counters: &'static DatabaseCounters) {
        let (queries, received) = mpsc::unbounded_channel();
        let number = lines.iter().map(|line| line.number + 1).max().unwrap_or_default();
        lines.push(Line { number, is_ready: false, on_way: 0, queries });
        let driver =
            Driver { pipelines: self, number, counters, pending: received, on_way: VecDeque::new(), in_use: None };
        tokio::spawn(driver.drive());
    }

    /// A connection is made.
    fn ready(&self, number: u64) {
        self.outage.end();
        if let Some(line) = self.lines().iter_mut().find(|line| line.number == number) {
            line.is_ready = true;
        }
    }

    /// A query is off its way.
    fn arrived(&self, number: u64) {
        if let Some(line) = self.lines().iter_mut().find(|line| line.number == number) {
            line.on_way -= 1;
        }
    }

    /// A connection has ended. What was not sent over it is given to another, if there is one with room for it.
    fn forget(&self, number: u64, unsent: &mut mpsc::UnboundedReceiver<Pending>, error: &Error) {
        let mut lines = self.lines();
        lines.retain(|line| line.number != number);
        while let Ok(pending) = unsent.try_recv() {
            if let Err(pending) = self.give(&mut lines, pending) {
                let _ = pending.answer.send(Err(error.clone()));
            }
        }
    }

    /// No code panics while it holds the lock.
    fn lines(&self) -> MutexGuard<'_, Vec<Line>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What drives a connection.
struct Driver {
    pipelines: &'static Pipelines,
    number: u64,
    counters: &'static DatabaseCounters,
    pending: mpsc::UnboundedReceiver<Pending>,
    /// In the order in which they were sent, which is that of their answers.
    on_way: VecDeque<OnWay>,
    /// While any are on the way.
    in_use: Option<Held<'static>>,
}

impl Driver {
    /// Drives the connection until it fails, and tells those whose queries were on their way why.
    async fn drive(mut self) {
        let Err(error) = self.run().await;
        self.pipelines.forget(self.number, &mut self.pending, &error);
        for on_way in self.on_way {
            let _ = on_way.answer.send(Err(error.clone()));
        }
    }

    async fn run(&mut self) -> Result<Infallible, Error> {
        let Settings { target, timeout, .. } = &self.pipelines.settings;
        self.counters.connect();
        let connected = Session::connect(target, *timeout).await;
        let mut session = connected.inspect_err(|error| self.pipelines.outage.failed(error.kind))?;
        self.pipelines.ready(self.number);
        let mut output = BytesMut::new();
        loop {
            let deadline = self.on_way.front().map(|first| first.asked + *timeout);
            tokio::select! {
                // In this order: that the database has closed shows before it is asked.
                biased;
                readable = session.stream.readable() => {
                    readable.map_err(|error| Error::socket(&error))?;
                    self.receive(&mut session, &mut output)?;
                }
                // Reading goes on: a database that sends much reads nothing until that is read.
                written = session.stream.write(&mut output), if !output.is_empty() => {
                    written.map_err(|error| Error::socket(&error))?;
                }
                pending = self.pending.recv() => self.ask_all(pending, &mut session, &mut output),
                () = sleep_until(deadline.unwrap_or_else(Instant::now).into()), if deadline.is_some() => {
                    return Err(Error::timeout());
                }
            }
        }
    }

    /// Writes all queries that wait, so that one system call sends them.
    fn ask_all(&mut self, first: Option<Pending>, session: &mut Session, output: &mut BytesMut) {
        let mut next = first;
        while let Some(pending) = next {
            self.ask(pending, session, output);
            next = self.pending.try_recv().ok();
        }
    }

    fn ask(&mut self, pending: Pending, session: &mut Session, output: &mut BytesMut) {
        let Pending { query, body, sleep, place: Place { turn, waiting, since }, answer } = pending;
        // If nobody waits for the answer any more, it is not asked for.
        let sent = match answer.is_closed() {
            true => Err(Error::closed()),
            false => session.connection.ask(&Question { query, body: &body, sleep }, output),
        };
        match sent {
            Ok(()) => {
                drop(waiting);
                self.counters.got_connection(since.elapsed());
                self.in_use.get_or_insert_with(|| self.counters.hold());
                self.on_way.push_back(OnWay { asked: Instant::now(), answer, _turn: turn });
            }
            Err(error) => {
                self.pipelines.arrived(self.number);
                let _ = answer.send(Err(error));
            }
        }
    }

    /// Takes what has come, and hands out the answers in it.
    fn receive(&mut self, session: &mut Session, output: &mut BytesMut) -> Result<(), Error> {
        session.try_receive(output)?;
        while let Some(step) = session.connection.next(output)? {
            let (Step::Answer(answer), Some(first)) = (step, self.on_way.pop_front()) else {
                return Err(Error::new(Kind::Protocol, "no answer to a question"));
            };
            self.counters.got_answer(first.asked.elapsed());
            self.pipelines.arrived(self.number);
            let _ = first.answer.send(answer);
        }
        if self.on_way.is_empty() {
            self.in_use = None;
        }
        Ok(())
    }
}
