//! The main thread is the reactor: it accepts, reads and writes without blocking; workers wait for the database.

use std::collections::{HashMap, HashSet};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use common::admin::Admin;
use common::app::{self, Plan, Work};
use common::config::{Config, Overload};
use common::counters::Counters;
use common::db::Database;
use common::draining::Draining;
use common::held::Held;
use common::http::Response;
use common::limits;
use common::linger::Lingerers;
use common::listener::{self, AcceptError};
use common::log;
use common::postgres::{self, Question};
use common::shutdown::Shutdown;
use mio::net::{TcpListener, TcpStream, UnixStream};
use mio::{Events, Interest, Poll, Token, Waker};

use crate::Cli;
use crate::connection::{Connection, Progress};
use crate::jobs::Full;
use crate::pool::{Done, Pool};

const LISTENER: Token = Token(0);
const SHUTDOWN: Token = Token(1);
const WAKER: Token = Token(2);
const FIRST_CONNECTION: usize = 3;

/// How many events are taken from the kernel at once.
const EVENTS_PER_TURN: usize = 1024;
/// How often deadlines are looked at: one pass over 10,000 connections takes less than 0.1 ms.
const DEADLINE_INTERVAL: Duration = Duration::from_millis(50);
/// The scratch space into which all connections are read.
const BUFFER_BYTES: usize = 64 * 1024;

/// What the reactor and the workers share. It lives as long as the process.
struct Shared {
    config: Config,
    database: Database,
    /// The connections to a real database, if there is one.
    postgres: Option<postgres::pool::Pool>,
    counters: Counters,
}

/// The reactor.
struct Server {
    shared: &'static Shared,
    max_connections: usize,
    poll: Poll,
    /// Connections may be in the backlog. mio says so only once, so that it must be remembered.
    has_backlog: bool,
    is_draining: bool,
    pool: Pool,
    connections: HashMap<Token, Connection>,
    /// Connections that yielded to others.
    yielded: HashSet<Token>,
    refused: Lingerers,
    next_token: usize,
    next_deadline_check: Instant,
    buffer: Vec<u8>,
}

/// Starts the server, and runs it until it is asked to stop.
pub(crate) fn run(cli: &Cli) -> Result<()> {
    let config = cli.config.clone();
    let max_connections = limits::max_connections(config.max_connections, &[limits::descriptors()?])?;
    limits::check_threads("--workers", cli.workers)?;
    let mut shutdown = UnixStream::from_std(Shutdown::install()?.into_stream());
    let listener = listener::bind("--listen", config.listen, config.backlog, config.reuse_port)?;
    let address = listener.local_addr()?;
    listener.set_nonblocking(true)?;
    let mut listener = TcpListener::from_std(listener);
    let admin = Admin::bind(&config, env!("CARGO_BIN_NAME"), max_connections)?;
    let admin_address = admin.as_ref().map(Admin::local_addr).transpose()?;
    let shared: &'static Shared = Box::leak(Box::new(Shared {
        database: config.database(),
        postgres: postgres::pool::Pool::open(&config.database)?,
        config,
        counters: Counters::default(),
    }));
    log::count_dropped(&shared.counters.log_lines_dropped);

    let poll = Poll::new()?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    poll.registry().register(&mut shutdown, SHUTDOWN, Interest::READABLE)?;
    let waker = Waker::new(poll.registry(), WAKER)?;
    let touched_bytes = shared.config.touch_stack;
    let pool =
        Pool::start(cli.workers, cli.queue, touched_bytes, &shared.counters, waker, |plan| handle(plan, shared))?;
    if let Some(admin) = admin {
        thread::Builder::new().spawn(|| admin.run(&shared.counters)).context("no thread for --admin")?;
    }
    let mut server = Server {
        shared,
        max_connections: max_connections.count,
        poll,
        has_backlog: false,
        is_draining: false,
        pool,
        connections: HashMap::new(),
        yielded: HashSet::new(),
        refused: Lingerers::default(),
        next_token: FIRST_CONNECTION,
        next_deadline_check: Instant::now(),
        buffer: vec![0; BUFFER_BYTES],
    };
    listener::announce(address, admin_address);
    let mut events = Events::with_capacity(EVENTS_PER_TURN);
    while !server.turn(&mut events) {
        server.accept(&listener);
    }
    drain(server, listener, &mut events);
    Ok(())
}

impl Server {
    /// Accepts until there is nothing to accept, or no room.
    fn accept(&mut self, listener: &TcpListener) {
        while self.has_backlog {
            // Backpressure: when full, the next connection gets a 503, or stays in the backlog.
            let is_full = self.connections.len() >= self.max_connections;
            if is_full && self.shared.config.overload == Overload::Wait && !self.is_draining {
                return;
            }
            match listener.accept() {
                Ok((stream, _)) if is_full => self.refuse(stream),
                Ok((stream, _)) => self.register(stream),
                Err(error) => match AcceptError::classify(&error) {
                    AcceptError::WouldBlock => self.has_backlog = false,
                    AcceptError::TryNext => {}
                    // The backlog is remembered: the next check of deadlines is soon enough.
                    AcceptError::Exhausted => return self.shared.counters.accept_failed(&error),
                },
            }
        }
    }

    /// Answers 503 to a connection for which there is no room.
    fn refuse(&mut self, stream: TcpStream) {
        self.shared.counters.refuse();
        self.refused.push(stream.into(), Response::full().encode_to_vec());
    }

    fn register(&mut self, mut stream: TcpStream) {
        // It fails only on a connection that has failed, which shows soon.
        let _ = stream.set_nodelay(true);
        // Tokens are never reused: a late event or outcome must not hit another connection.
        let token = Token(self.next_token);
        self.next_token += 1;
        let interest = Interest::READABLE | Interest::WRITABLE;
        // It fails only if memory runs out; the connection is closed then.
        if self.poll.registry().register(&mut stream, token, interest).is_ok() {
            let connection = Connection::new(stream, &self.shared.counters, &self.shared.config);
            self.connections.insert(token, connection);
        }
    }

    /// Serves one connection as far as that goes without blocking.
    fn serve(&mut self, token: Token) {
        let Some(connection) = self.connections.get_mut(&token) else { return };
        match connection.advance(&self.shared.config, &mut self.buffer) {
            Progress::Blocked => {}
            Progress::Yielded => drop(self.yielded.insert(token)),
            Progress::Closed => self.close(token),
            Progress::Needs(plan) => match self.pool.submit(token, plan) {
                Ok(ticket) => connection.queued(ticket),
                Err(Full) => self.turn_away(token),
            },
        }
    }

    /// Answers 503 to a request that no worker will do.
    fn turn_away(&mut self, token: Token) {
        let Some(connection) = self.connections.get_mut(&token) else { return };
        self.shared.counters.refuse();
        connection.respond(Response::full(), &self.shared.config);
        self.yielded.insert(token);
    }
}

/// Answers one request; the database wait blocks this worker.
fn handle(plan: Plan, shared: &Shared) -> Response {
    let Plan { work, response } = plan;
    match work {
        Work::Nothing => {}
        Work::Query(wait, query) => {
            app::burn(shared.config.burn);
            let _waiting = shared.counters.wait();
            let _held = Held::new(&shared.config);
            match &shared.postgres {
                None => shared.database.query(wait),
                // It blocks three times: until there is a connection, until the answer is there, and for `--db-hold`.
                Some(pool) => {
                    let question = Question { query, body: &response.body, sleep: shared.database.latency(wait) };
                    let answer = pool.query(&question, &shared.counters.database);
                    return postgres::respond(response, answer);
                }
            }
        }
        Work::Burn(duration) => app::burn(duration),
        Work::Chaos(chaos) => chaos.strike(),
    }
    response
}

/// Stops accepting, ends the silent connections, waits for the requests in flight, and for the workers.
fn drain(mut server: Server, listener: TcpListener, events: &mut Events) {
    listener::stop(&listener);
    server.is_draining = true;
    server.has_backlog = true;
    server.accept(&listener);
    let mut backlog = Some(listener).filter(listener::has_backlog);
    let draining = Draining::begin(&server.shared.config, &server.shared.counters);
    server.end_silent_connections();
    while backlog.is_some() || !server.connections.is_empty() || !server.refused.is_empty() {
        // Who still waits for a worker is told so, and whoever has one gets its answer.
        if draining.is_half_over() {
            server.turn_away_queued(|_| true);
        }
        if draining.remaining().is_none() {
            return draining.log_cut_off(server.connections.len());
        }
        server.turn(events);
        // Descriptors had run out: who has ended has left one for the next.
        backlog = backlog.filter(|listener| {
            server.accept(listener);
            server.end_silent_connections();
            listener::has_backlog(listener)
        });
    }
    server.pool.join(&draining);
}

impl Server {
    /// Waits for events and handles them. True once the server is asked to stop.
    fn turn(&mut self, events: &mut Events) -> bool {
        let mut is_told_to_stop = false;
        // EINTR is no matter: the signal's descriptor is readable in the next turn.
        if self.poll.poll(events, self.timeout()).is_err() {
            events.clear();
        }
        for token in std::mem::take(&mut self.yielded) {
            self.serve(token);
        }
        for event in events.iter() {
            match event.token() {
                LISTENER => self.has_backlog = true,
                SHUTDOWN => is_told_to_stop = true,
                WAKER => self.finish_waits(),
                token if event.is_error() => self.abandon(token),
                token => {
                    if event.is_read_closed() {
                        self.note_half_close(token);
                    }
                    self.serve(token);
                }
            }
        }
        self.check_deadlines();
        self.refused.turn();
        is_told_to_stop
    }

    fn timeout(&self) -> Option<Duration> {
        if !self.yielded.is_empty() {
            return Some(Duration::ZERO);
        }
        let is_idle = self.connections.is_empty() && self.refused.is_empty() && !self.has_backlog;
        (!is_idle).then(|| self.next_deadline_check.saturating_duration_since(Instant::now()))
    }

    /// Sends the answers that workers have finished.
    fn finish_waits(&mut self) {
        for Done { token, response } in self.pool.done() {
            match (self.connections.get_mut(&token), response) {
                (Some(connection), Some(response)) => {
                    connection.respond(response, &self.shared.config);
                    self.serve(token);
                }
                (Some(_), None) => self.close(token),
                (None, _) => {}
            }
        }
    }

    /// The connection was reset: nobody waits for what is done for it.
    fn abandon(&mut self, token: Token) {
        if let Some(ticket) = self.connections.get(&token).and_then(Connection::ticket) {
            self.pool.cancel(ticket);
        }
        self.close(token);
    }

    fn note_half_close(&mut self, token: Token) {
        if let Some(connection) = self.connections.get_mut(&token) {
            connection.half_close();
        }
    }

    /// Answers 503 to those of these connections whose work no worker has begun.
    fn turn_away_queued(&mut self, concerns: impl Fn(&Connection) -> bool) {
        let concerned = self.connections.iter().filter(|(_, connection)| concerns(connection));
        let queued = concerned.filter_map(|(&token, connection)| Some((token, connection.ticket()?)));
        for (token, ticket) in queued.collect::<Vec<_>>() {
            if self.pool.cancel(ticket) {
                self.turn_away(token);
                self.serve(token);
            }
        }
    }

    fn check_deadlines(&mut self) {
        let now = Instant::now();
        if now < self.next_deadline_check {
            return;
        }
        self.next_deadline_check = now + DEADLINE_INTERVAL;
        // Of clients that send no more, most have left; who has not is as well served by a 503 as others are by a full queue.
        self.turn_away_queued(|connection| connection.may_be_left(now));
        let late = self.connections.iter().filter(|(_, connection)| connection.is_late(now));
        for token in late.map(|(&token, _)| token).collect::<Vec<_>>() {
            // What came in time while this thread had no CPU is not late.
            self.serve(token);
            let late = self.connections.get_mut(&token).filter(|connection| connection.is_late(now));
            let Some(connection) = late else { continue };
            if connection.time_out(&self.shared.config) {
                self.close(token);
            } else {
                self.serve(token);
            }
        }
    }

    fn end_silent_connections(&mut self) {
        for token in self.connections.keys().copied().collect::<Vec<_>>() {
            if let Some(connection) = self.connections.get_mut(&token) {
                connection.drain();
                self.serve(token);
            }
        }
    }

    /// Forgets a connection, which closes it.
    fn close(&mut self, token: Token) {
        if let Some(mut connection) = self.connections.remove(&token) {
            // A closed descriptor leaves epoll by itself: an error here changes nothing.
            let _ = self.poll.registry().deregister(connection.stream());
        }
    }
}
