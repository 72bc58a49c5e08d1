//! The main thread accepts; every connection has a thread, which blocks.

use std::collections::HashMap;
use std::io;
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};
use common::admin::Admin;
use common::app::{self, Plan, Work};
use common::blocking::Connection;
use common::config::{Config, Overload};
use common::counters::Counters;
use common::db::Database;
use common::draining::{Draining, Interrupts};
use common::held::Held;
use common::http::{Persistence, Request, Response};
use common::limits;
use common::linger::{Lingerers, TURN_INTERVAL};
use common::listener::{self, AcceptError};
use common::log;
use common::postgres::pool::Pool;
use common::postgres::{self, Question};
use common::shutdown::{self, Shutdown};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::pthread::{Pthread, pthread_self};

use crate::Cli;

/// What all threads share. It lives as long as the process.
struct Shared {
    config: Config,
    stack_bytes: usize,
    max_connections: usize,
    database: Database,
    /// The connections to a real database, if there is one.
    postgres: Option<Pool>,
    counters: Counters,
    /// The thread of each open connection, once it runs, so that the drain can interrupt those that wait for a request.
    connections: Mutex<HashMap<u64, Option<Pthread>>>,
    connection_closed: Condvar,
    next_id: AtomicU64,
}

/// Starts the server, and runs it until it is asked to stop.
pub(crate) fn run(cli: &Cli) -> Result<()> {
    let config = cli.config.clone();
    let ceilings = [limits::descriptors()?, limits::threads()];
    let max_connections = limits::max_connections(config.max_connections, &ceilings)?;
    let shutdown = Shutdown::install()?;
    let listener = listener::bind("--listen", config.listen, config.backlog, config.reuse_port)?;
    let address = listener.local_addr()?;
    listener.set_nonblocking(true)?;
    let admin = Admin::bind(&config, env!("CARGO_BIN_NAME"), max_connections)?;
    let admin_address = admin.as_ref().map(Admin::local_addr).transpose()?;
    let shared: &'static Shared = Box::leak(Box::new(Shared {
        database: config.database(),
        postgres: Pool::open(&config.database)?,
        config,
        // What `--touch-stack` uses comes on top of what the server itself needs.
        stack_bytes: cli.stack_size + cli.config.touch_stack,
        max_connections: max_connections.count,
        counters: Counters::default(),
        connections: Mutex::default(),
        connection_closed: Condvar::new(),
        next_id: AtomicU64::new(0),
    }));
    log::count_dropped(&shared.counters.log_lines_dropped);
    shutdown::let_interrupt()?;
    if let Some(admin) = admin {
        thread::Builder::new().spawn(|| admin.run(&shared.counters)).context("no thread for --admin")?;
    }
    listener::announce(address, admin_address);
    let refused = accept(&listener, &shutdown, shared);
    drain(listener, refused, shared);
    Ok(())
}

/// Accepts connections, each for a thread of its own, until the server is asked to stop. Returns those that have got a 503
/// and have not closed yet.
fn accept(listener: &TcpListener, shutdown: &Shutdown, shared: &'static Shared) -> Lingerers {
    let mut refused = Lingerers::default();
    loop {
        // Backpressure: when full, the next connection gets a 503, or stays in the backlog.
        let holds_back = shared.is_full() && shared.config.overload == Overload::Wait;
        let is_busy = holds_back || !refused.is_empty();
        match wait_for_connection(listener, shutdown, is_busy.then_some(TURN_INTERVAL), !holds_back) {
            Event::Stop => return refused,
            Event::Connection => drop(accept_one(listener, &mut refused, shared)),
            Event::Nothing => {}
        }
        refused.turn();
    }
}

enum Event {
    Connection,
    Stop,
    Nothing,
}

fn wait_for_connection(listener: &TcpListener, shutdown: &Shutdown, timeout: Option<Duration>, accepts: bool) -> Event {
    let timeout = timeout.map_or(PollTimeout::NONE, |timeout| timeout.try_into().unwrap_or(PollTimeout::MAX));
    let interest = if accepts { PollFlags::POLLIN } else { PollFlags::empty() };
    let mut ready = [PollFd::new(shutdown.as_fd(), PollFlags::POLLIN), PollFd::new(listener.as_fd(), interest)];
    // EINTR is no matter: the signal has made its descriptor readable for the next turn.
    match poll(&mut ready, timeout) {
        Ok(_) if ready[0].any() == Some(true) => Event::Stop,
        Ok(_) if ready[1].any() == Some(true) => Event::Connection,
        _ => Event::Nothing,
    }
}

/// Accepts a connection and gives it a thread, or a 503 if there is no room for it.
fn accept_one(listener: &TcpListener, refused: &mut Lingerers, shared: &'static Shared) -> Result<(), AcceptError> {
    match listener.accept() {
        Ok((stream, _)) if shared.is_full() => refuse(stream, refused, shared),
        Ok((stream, _)) => {
            if let Err(stream) = spawn(stream, shared) {
                refuse(stream, refused, shared);
            }
        }
        Err(error) => {
            let meaning = AcceptError::classify(&error);
            if meaning == AcceptError::Exhausted {
                shared.counters.accept_failed(&error);
                thread::sleep(listener::EXHAUSTED_PAUSE);
            }
            return Err(meaning);
        }
    }
    Ok(())
}

/// Accepts what is in the backlog. False if something is left there, because descriptors ran out.
fn accept_backlog(listener: &TcpListener, refused: &mut Lingerers, shared: &'static Shared) -> bool {
    loop {
        match accept_one(listener, refused, shared) {
            Ok(()) | Err(AcceptError::TryNext) => {}
            Err(AcceptError::WouldBlock) => return true,
            Err(AcceptError::Exhausted) => return !listener::has_backlog(listener),
        }
    }
}

/// Gives the connection a thread; hands it back if the system refuses one.
fn spawn(stream: TcpStream, shared: &'static Shared) -> Result<(), TcpStream> {
    // It fails only on a connection that has failed, which shows soon.
    let _ = stream.set_nodelay(true);
    let stream = Arc::new(stream);
    let registered = Registered::new(shared);
    let own_stream = stream.clone();
    let thread = thread::Builder::new().stack_size(shared.stack_bytes).spawn(move || {
        registered.start();
        // The connection may fail: that is the end of it, and of nothing else.
        let _ = serve(&own_stream, shared);
    });
    let Err(error) = thread else { return Ok(()) };
    shared.counters.spawn_failed("thread could be spawned", error, shared.connections().len());
    // The thread that did not start has dropped its share of the socket: this is the last.
    Arc::try_unwrap(stream).map_or(Ok(()), Err)
}

/// Answers 503 to a connection for which there is no room.
fn refuse(stream: TcpStream, refused: &mut Lingerers, shared: &Shared) {
    shared.counters.refuse();
    refused.push(stream, Response::full().encode_to_vec());
}

/// Serves one connection until it ends.
fn serve(stream: &TcpStream, shared: &Shared) -> io::Result<()> {
    let _open = shared.counters.open();
    let (config, counters) = (&shared.config, &shared.counters);
    let mut connection = Connection::new(stream, config.limits(), config.timeouts(), counters, &counters.is_draining)?;
    while let Some(request) = connection.read()? {
        let mut response = handle(request, shared);
        if shared.counters.is_draining.load(Relaxed) {
            response.persistence = Persistence::Close;
        }
        connection.write(&response)?;
        if response.persistence == Persistence::Close {
            break;
        }
    }
    connection.linger()
}

/// Answers one request; the database wait blocks this thread.
fn handle(request: Request, shared: &Shared) -> Response {
    let Plan { work, response } = app::plan(request, shared.config.allows_chaos());
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

/// Stops accepting, ends the silent connections, and waits for the requests in flight.
fn drain(listener: TcpListener, mut refused: Lingerers, shared: &'static Shared) {
    listener::stop(&listener);
    let has_backlog = !accept_backlog(&listener, &mut refused, shared);
    let mut backlog = has_backlog.then_some(listener);
    let draining = Draining::begin(&shared.config, &shared.counters);
    let mut interrupts = Interrupts::default();
    while backlog.is_some() || !shared.connections().is_empty() || !refused.is_empty() {
        let connections = shared.connections();
        let Some(remaining) = draining.remaining() else { return draining.log_cut_off(connections.len()) };
        if interrupts.is_due() {
            // A thread that waits for a request hears it, and ends; one that is about to wait will hear the next.
            connections.values().flatten().for_each(|&thread| shutdown::interrupt(thread));
        }
        let turn = TURN_INTERVAL.min(remaining);
        drop(shared.connection_closed.wait_timeout_while(connections, turn, |connections| !connections.is_empty()));
        refused.turn();
        // Who has ended has left a descriptor for the next.
        backlog = backlog.filter(|listener| !accept_backlog(listener, &mut refused, shared));
    }
}

impl Shared {
    fn connections(&self) -> MutexGuard<'_, HashMap<u64, Option<Pthread>>> {
        // A thread that panicked has left the map as it was.
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_full(&self) -> bool {
        self.connections().len() >= self.max_connections
    }
}

/// Keeps a connection in [`Shared::connections`] until its thread ends, also by a panic.
struct Registered {
    id: u64,
    shared: &'static Shared,
}

impl Registered {
    fn new(shared: &'static Shared) -> Self {
        let id = shared.next_id.fetch_add(1, Relaxed);
        shared.connections().insert(id, None);
        Self { id, shared }
    }

    /// Says which thread serves the connection: this one.
    fn start(&self) {
        self.shared.connections().insert(self.id, Some(pthread_self()));
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.shared.connections().remove(&self.id);
        self.shared.connection_closed.notify_one();
    }
}
