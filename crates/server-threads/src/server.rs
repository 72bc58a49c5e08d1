//! The main thread accepts; every connection has a thread, which blocks.

use std::collections::HashMap;
use std::io;
use std::net::{self, TcpListener, TcpStream};
use std::os::fd::AsFd as _;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use common::admin::Admin;
use common::app::{self, Plan, Work};
use common::blocking::Connection;
use common::config::{Config, Overload};
use common::counters::Counters;
use common::db::Database;
use common::http::{Persistence, Request, Response};
use common::limits;
use common::linger::{Lingerers, TURN_INTERVAL};
use common::listener::{self, AcceptError};
use common::log;
use common::shutdown::Shutdown;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::Cli;

/// How often it is said at most that the system refuses threads.
const WARNING_INTERVAL: Duration = Duration::from_secs(1);

/// What all threads share. It lives as long as the process.
struct Shared {
    config: Config,
    stack_bytes: usize,
    max_connections: usize,
    database: Database,
    counters: Counters,
    /// The open connections, so that the drain can end the silent ones.
    connections: Mutex<HashMap<u64, Arc<TcpStream>>>,
    connection_closed: Condvar,
}

/// Starts the server, and runs it until it is told to stop.
pub(crate) fn run(cli: &Cli) -> Result<()> {
    let config = cli.config.clone();
    let max_connections =
        limits::max_connections(config.max_connections, &[limits::descriptors()?, limits::threads()])?;
    let shutdown = Shutdown::install()?;
    let listener = listener::bind("--listen", config.listen, config.backlog)?;
    listener.set_nonblocking(true)?;
    let admin = Admin::bind(&config, env!("CARGO_BIN_NAME"), max_connections)?;
    let shared: &'static Shared = Box::leak(Box::new(Shared {
        database: config.database(),
        config,
        stack_bytes: cli.stack_size,
        max_connections,
        counters: Counters::default(),
        connections: Mutex::default(),
        connection_closed: Condvar::new(),
    }));
    listener::announce(listener.local_addr()?, admin.as_ref().map(Admin::local_addr).transpose()?);
    if let Some(admin) = admin {
        thread::Builder::new().spawn(|| admin.run(&shared.counters)).context("no thread for --admin")?;
    }
    accept(&listener, &shutdown, shared);
    drain(listener, shared);
    Ok(())
}

/// Accepts connections, each for a thread of its own, until the server is told to stop.
fn accept(listener: &TcpListener, shutdown: &Shutdown, shared: &'static Shared) {
    let mut refused = Lingerers::default();
    let mut next_warning = Instant::now();
    for id in 0.. {
        // Backpressure: when full, the next connection gets a 503, or stays in the backlog.
        let holds_back = shared.is_full() && shared.config.overload == Overload::Wait;
        let is_busy = holds_back || !refused.is_empty();
        match wait_for_connection(listener, shutdown, is_busy.then_some(TURN_INTERVAL), !holds_back) {
            Event::Stop => return,
            Event::Connection => {
                if let Err(Refused { stream, why }) = accept_one(listener, id, shared) {
                    shared.counters.refuse();
                    refused.push(stream, Response::full().encode_to_vec());
                    if let Some(error) = why.filter(|_| Instant::now() >= next_warning) {
                        next_warning = Instant::now() + WARNING_INTERVAL;
                        let count = shared.connections().len();
                        log::warn!("no thread could be spawned: {error}; {count} are there");
                    }
                }
            }
            Event::Nothing => {}
        }
        refused.turn();
    }
}

/// A connection for which there is no room.
struct Refused {
    stream: TcpStream,
    /// The system's reason, if it was the system's doing.
    why: Option<io::Error>,
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

/// Accepts a connection and gives it a thread; hands it back if there is no room for it.
fn accept_one(listener: &TcpListener, id: u64, shared: &'static Shared) -> Result<(), Refused> {
    match listener.accept() {
        Ok((stream, _)) if shared.is_full() => Err(Refused { stream, why: None }),
        Ok((stream, _)) => spawn(stream, id, shared),
        Err(error) => {
            if AcceptError::of(&error) == AcceptError::Exhausted {
                thread::sleep(listener::EXHAUSTED_PAUSE);
            }
            Ok(())
        }
    }
}

/// Gives the connection a thread; hands it back if the system refuses one.
fn spawn(stream: TcpStream, id: u64, shared: &'static Shared) -> Result<(), Refused> {
    let stream = Arc::new(stream);
    let registered = Registered::new(id, stream.clone(), shared);
    let thread = thread::Builder::new().stack_size(shared.stack_bytes).spawn(move || {
        let _open = shared.counters.open();
        // The connection failed: that is the end of it, and of nothing else.
        let _ = serve(&registered.stream, shared);
    });
    match thread {
        Ok(_) => Ok(()),
        // The thread that did not start has dropped its share of the socket: this is the last.
        Err(error) => Arc::try_unwrap(stream).map_or(Ok(()), |stream| Err(Refused { stream, why: Some(error) })),
    }
}

/// Serves one connection until it ends.
fn serve(stream: &TcpStream, shared: &Shared) -> io::Result<()> {
    let mut connection = Connection::new(stream, shared.config.limits(), shared.config.timeouts(), &shared.counters)?;
    while let Some(request) = connection.read()? {
        let mut response = handle(request, shared);
        if shared.counters.is_draining.load(Relaxed) {
            response.persistence = Persistence::Close;
        }
        connection.write(&response)?;
        if response.persistence == Persistence::Close {
            return connection.linger();
        }
    }
    Ok(())
}

/// Answers one request; the database wait blocks this thread.
fn handle(request: Request, shared: &Shared) -> Response {
    let Plan { work, response } = app::plan(request, shared.config.allow_chaos);
    match work {
        Work::Nothing => {}
        Work::Query(wait) => {
            let _waiting = shared.counters.wait();
            shared.database.query(wait);
        }
        Work::Burn(duration) => app::burn(duration),
        Work::Chaos(chaos) => chaos.strike(),
    }
    response
}

/// Stops accepting, ends the silent connections, and waits for the requests in flight.
fn drain(listener: TcpListener, shared: &Shared) {
    drop(listener);
    shared.counters.drain();
    let deadline = Instant::now() + shared.config.drain_timeout;
    let mut connections = shared.connections();
    for stream in connections.values() {
        // A thread that waits for a request sees the end of input; one that waits for the database can still answer.
        let _ = stream.shutdown(net::Shutdown::Read);
    }
    while !connections.is_empty() {
        let remaining = deadline.saturating_duration_since(Instant::now());
        if remaining.is_zero() {
            log::warn!("{} connections were cut off by --drain-timeout", connections.len());
            return;
        }
        let woken = shared.connection_closed.wait_timeout(connections, remaining);
        connections = woken.unwrap_or_else(PoisonError::into_inner).0;
    }
}

impl Shared {
    fn connections(&self) -> MutexGuard<'_, HashMap<u64, Arc<TcpStream>>> {
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
    stream: Arc<TcpStream>,
    shared: &'static Shared,
}

impl Registered {
    fn new(id: u64, stream: Arc<TcpStream>, shared: &'static Shared) -> Self {
        shared.connections().insert(id, stream.clone());
        Self { id, stream, shared }
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.shared.connections().remove(&self.id);
        self.shared.connection_closed.notify_one();
    }
}
