//! Connections to a real database that tasks share: each awaits one, and then its answer. Those that carry several queries
//! at once are in [`pipeline`](crate::pipeline).

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::pipeline::{Pipelines, Place};
use anyhow::Result;
use bytes::BytesMut;
use common::postgres::connection::{Connection, Step};
use common::postgres::counters::DatabaseCounters;
use common::postgres::error::{Error, Kind};
use common::postgres::pool::check;
use common::postgres::session::{is_silent, socket_path};
use common::postgres::settings::{DEFAULT_POOL, DatabaseFlags, Settings};
use common::postgres::slots::{Open, Slots};
use common::postgres::target::{Host, Target};
use common::postgres::{Answer, Question};
use socket2::SockRef;
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{sleep, timeout};

/// How much is read at once: more than the answer to a query.
const READ_BYTES: usize = 2048;

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

/// What [`common::postgres::session`] does with a thread, done with a task.
pub(crate) struct Session {
    pub(crate) stream: Stream,
    pub(crate) connection: Connection,
}

impl Session {
    pub(crate) async fn connect(target: &Arc<Target>, limit: Duration) -> Result<Self, Error> {
        let connect = async {
            let stream = Stream::open(target).await.map_err(|error| Error::socket(&error))?;
            let mut session = Self { stream, connection: Connection::new(target.clone()) };
            let mut output = BytesMut::new();
            session.connection.start(&mut output)?;
            match session.exchange(output).await? {
                Step::Ready => Ok(session),
                _ => Err(Error::new(Kind::Protocol, "an answer before a question")),
            }
        };
        timeout(limit, connect).await.unwrap_or_else(|_| Err(Error::timeout()))
    }

    async fn ask(&mut self, question: &Question<'_>, limit: Duration) -> Result<Result<Answer, Error>, Error> {
        let mut output = BytesMut::new();
        self.connection.ask(question, &mut output)?;
        match timeout(limit, self.exchange(output)).await.unwrap_or_else(|_| Err(Error::timeout()))? {
            Step::Answer(answer) => Ok(answer),
            _ => Err(Error::new(Kind::Protocol, "no answer to the question")),
        }
    }

    /// Sends `output`, and reads until something is complete.
    async fn exchange(&mut self, mut output: BytesMut) -> Result<Step, Error> {
        loop {
            self.stream.write_all(&mut output).await.map_err(|error| Error::socket(&error))?;
            self.stream.readable().await.map_err(|error| Error::socket(&error))?;
            self.try_receive(&mut output)?;
            if let Some(step) = self.connection.next(&mut output)? {
                return Ok(step);
            }
        }
    }

    /// Takes what has come. Not async: the buffer must not become a part of the task.
    pub(crate) fn try_receive(&mut self, output: &mut BytesMut) -> Result<(), Error> {
        let mut bytes = [0; READ_BYTES];
        match self.stream.try_read(&mut bytes) {
            Ok(0) => Err(Error::closed()),
            Ok(count) => self.connection.receive(&bytes[..count], output),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(Error::socket(&error)),
        }
    }

    fn is_fresh(&self) -> bool {
        self.connection.is_idle() && self.stream.is_silent()
    }
}

pub(crate) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    async fn open(target: &Target) -> io::Result<Self> {
        match &target.host {
            Host::Unix(folder) => UnixStream::connect(socket_path(folder, target.port)).await.map(Stream::Unix),
            Host::Tcp(host) => {
                let stream = TcpStream::connect((host.as_str(), target.port)).await?;
                stream.set_nodelay(true)?;
                Ok(Stream::Tcp(stream))
            }
        }
    }

    async fn write_all(&self, bytes: &mut BytesMut) -> io::Result<()> {
        while !bytes.is_empty() {
            self.write(bytes).await?;
        }
        Ok(())
    }

    /// Sends as many of the bytes as the socket takes at once. If it is not awaited to its end, none are lost.
    pub(crate) async fn write(&self, bytes: &mut BytesMut) -> io::Result<()> {
        let written = match self {
            Stream::Tcp(stream) => stream.writable().await.and_then(|()| stream.try_write(bytes)),
            Stream::Unix(stream) => stream.writable().await.and_then(|()| stream.try_write(bytes)),
        };
        match written {
            Ok(count) => drop(bytes.split_to(count)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn is_silent(&self) -> bool {
        match self {
            Stream::Tcp(stream) => is_silent(&SockRef::from(stream)),
            Stream::Unix(stream) => is_silent(&SockRef::from(stream)),
        }
    }

    pub(crate) async fn readable(&self) -> io::Result<()> {
        match self {
            Stream::Tcp(stream) => stream.readable().await,
            Stream::Unix(stream) => stream.readable().await,
        }
    }

    fn try_read(&self, bytes: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.try_read(bytes),
            Stream::Unix(stream) => stream.try_read(bytes),
        }
    }
}
