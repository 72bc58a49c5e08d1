//! The same codec, driven by io_uring instead of tokio: the main thread accepts; every connection has a task, which awaits
//! what the kernel does for it.

mod connection;
mod reactor;
mod ring;
mod shared;
mod timers;

use std::io;
use std::net::{TcpListener, TcpStream};
use std::process;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context as _, Result};
use common::admin::Admin;
use common::app::{self, Plan, Work};
use common::config::Overload;
use common::counters::Counters;
use common::draining::Draining;
use common::held::Held;
use common::http::{Persistence, Request, Response};
use common::limits;
use common::linger::{Lingerers, TURN_INTERVAL};
use common::listener::{self, AcceptError};
use common::log;
use common::shutdown::Shutdown;
use nix::errno::Errno;
use socket2::SockRef;

use crate::Cli;
use connection::Connection;
use reactor::{Mail, Mailbox, Reactor, Socket};
use ring::{Completion, Ring};
use shared::{Permit, Shared};

/// A thread that runs tasks.
struct Worker {
    mailbox: &'static Mailbox,
    thread: JoinHandle<()>,
}

/// The main thread, which accepts.
struct Server {
    shared: &'static Shared,
    ring: Ring,
    workers: Vec<Worker>,
    /// The worker that gets the next connection.
    next_worker: usize,
    /// The kernel accepts for us.
    is_accepting: bool,
    refused: Lingerers,
}

/// Starts the server, and runs it until it is asked to stop.
pub(crate) fn run(cli: &Cli) -> Result<()> {
    let config = cli.config.clone();
    let max_connections = limits::max_connections(config.max_connections, &[limits::descriptors()?])?;
    let threads = cli.threads.map_or_else(|| thread::available_parallelism().map(usize::from), Ok)?;
    limits::check_threads("--threads", threads)?;
    let ring = Ring::new().map_err(with_advice)?;
    let shutdown = Shutdown::install()?;
    let listener = listener::bind("--listen", config.listen, config.backlog, config.reuse_port)?;
    let address = listener.local_addr()?;
    // Those that are accepted have it from the listener.
    SockRef::from(&listener).set_tcp_nodelay(true)?;
    let admin = Admin::bind(&config, env!("CARGO_BIN_NAME"), max_connections)?;
    let admin_address = admin.as_ref().map(Admin::local_addr).transpose()?;
    let shared: &'static Shared = Box::leak(Box::new(Shared {
        database: config.database(),
        config,
        burns_on_loop: cli.burn_on_loop,
        max_connections: max_connections.count,
        connections: AtomicUsize::new(0),
        counters: Counters::default(),
    }));
    log::count_dropped(&shared.counters.log_lines_dropped);
    if let Some(admin) = admin {
        thread::Builder::new().spawn(|| admin.run(&shared.counters)).context("no thread for --admin")?;
    }
    let workers = (0..threads).map(|_| Worker::start(shared)).collect::<Result<_>>()?;
    let mut server =
        Server { shared, ring, workers, next_worker: 0, is_accepting: false, refused: Lingerers::default() };
    listener::announce(address, admin_address);
    server.accept(&listener, &shutdown)?;
    drain(server, listener)?;
    Ok(())
}

impl Server {
    /// Accepts connections, each for a task of its own, until the server is asked to stop.
    fn accept(&mut self, listener: &TcpListener, shutdown: &Shutdown) -> io::Result<()> {
        self.ring.watch(shutdown);
        loop {
            // Backpressure: when full, the next connection gets a 503, or stays in the backlog.
            let waits = self.shared.config.overload == Overload::Wait;
            let holds_back = waits && self.shared.is_full();
            if !self.is_accepting && !holds_back {
                self.ring.accept(listener, !waits);
                self.is_accepting = true;
            }
            let is_busy = holds_back || !self.refused.is_empty();
            if self.turn(is_busy.then_some(TURN_INTERVAL))? {
                return Ok(());
            }
        }
    }

    /// Waits for the kernel, and gives each connection that it has accepted a task. True once the server is asked to stop.
    fn turn(&mut self, timeout: Option<Duration>) -> io::Result<bool> {
        let mut accepted = Vec::new();
        let mut is_told_to_stop = false;
        self.ring.turn(timeout, |completion| match completion {
            Completion::Accepted { result, is_last } => {
                self.is_accepting = !is_last;
                match result {
                    // It was told to stop.
                    Err(error) if ring::can_ask_again(error) => {}
                    result => accepted.push(result.map_err(io::Error::from)),
                }
            }
            Completion::Readable { .. } => is_told_to_stop = true,
            Completion::Received { .. } | Completion::Sent { .. } => {}
        })?;
        for accepted in accepted {
            // An error was counted, and the next connection is asked for.
            let _ = self.admit(accepted);
        }
        self.refused.turn();
        Ok(is_told_to_stop)
    }

    /// Gives a connection that was accepted a task, or a 503 if there is no room for it.
    fn admit(&mut self, accepted: io::Result<TcpStream>) -> Result<(), AcceptError> {
        match accepted {
            Ok(stream) if self.shared.is_full() => self.refuse(stream),
            Ok(stream) => self.spawn(stream),
            Err(error) => {
                let meaning = AcceptError::classify(&error);
                if meaning == AcceptError::Exhausted {
                    self.shared.counters.accept_failed(&error);
                    thread::sleep(listener::EXHAUSTED_PAUSE);
                }
                return Err(meaning);
            }
        }
        Ok(())
    }

    /// Gives the connection to the next worker, which gives it a task.
    fn spawn(&mut self, stream: TcpStream) {
        let permit = Permit::take(self.shared);
        self.workers[self.next_worker].mailbox.send(Mail::Connection(stream, permit));
        self.next_worker = (self.next_worker + 1) % self.workers.len();
    }

    /// Answers 503 to a connection for which there is no room.
    fn refuse(&mut self, stream: TcpStream) {
        self.shared.counters.refuse();
        self.refused.push(stream, Response::full().encode_to_vec());
    }

    /// Accepts what is in the backlog. False if something is left there, because descriptors ran out. Not by the ring, which
    /// would go on with it.
    fn accept_backlog(&mut self, listener: &TcpListener) -> bool {
        loop {
            match self.admit(listener.accept().map(|(stream, _)| stream)) {
                Ok(()) | Err(AcceptError::TryNext) => {}
                Err(AcceptError::WouldBlock) => return true,
                Err(AcceptError::Exhausted) => return !listener::has_backlog(listener),
            }
        }
    }

    /// Has the ring accept nothing more.
    fn stop_accepting(&mut self, listener: &TcpListener) -> io::Result<()> {
        self.ring.cancel_accept();
        while self.is_accepting {
            self.turn(None)?;
        }
        listener.set_nonblocking(true)
    }

    fn tell_workers(&self, mail: impl Fn() -> Mail) {
        self.workers.iter().for_each(|worker| worker.mailbox.send(mail()));
    }

    fn is_busy(&self) -> bool {
        !self.workers.iter().all(|worker| worker.thread.is_finished()) || !self.refused.is_empty()
    }

    /// Waits a little. False once the drain has taken too long.
    fn pause(&mut self, draining: &Draining) -> bool {
        let Some(remaining) = draining.remaining() else { return false };
        thread::sleep(TURN_INTERVAL.min(remaining));
        self.refused.turn();
        true
    }
}

/// Serves one connection until it ends.
///
/// Not an `async fn`: each of 10,000 tasks would keep room for the arguments, besides what was made of them.
fn serve(socket: Socket, permit: Permit, shared: &'static Shared) -> impl Future<Output = io::Result<()>> {
    let held = (permit, shared.counters.open());
    let mut connection = Connection::new(socket, shared);
    async move {
        // Only mentioned, so that the task has it until its end.
        let _held = &held;
        // Not `while let`, which would keep room for what it has matched.
        loop {
            let Some(request) = connection.read().await? else { break };
            // A block, so that the task has no room for the response, besides its bytes.
            let (written, persistence) = {
                let mut response = handle(request, connection.socket, shared).await;
                if connection.socket.is_draining() {
                    response.persistence = Persistence::Close;
                }
                (connection.write(&response), response.persistence)
            };
            written.await?;
            if persistence == Persistence::Close {
                break;
            }
        }
        Box::pin(connection.linger()).await
    }
}

/// Answers one request; the database wait suspends this task. Not an `async fn`: see [`serve`].
fn handle(request: Request, socket: Socket, shared: &'static Shared) -> impl Future<Output = Response> {
    let Plan { work, response } = app::plan(request, shared.config.allows_chaos());
    async move {
        match work {
            Work::Nothing => {}
            // A real database is refused at the start.
            Work::Query(wait, _) => {
                if !shared.config.burn.is_zero() {
                    Box::pin(burn(shared.config.burn, socket, shared)).await;
                }
                let _waiting = shared.counters.wait();
                let _held = Held::new(&shared.config);
                socket.sleep(shared.database.latency(wait)).await;
            }
            Work::Burn(duration) => Box::pin(burn(duration, socket, shared)).await,
            Work::Chaos(chaos) => chaos.strike(),
        }
        response
    }
}

/// Burns CPU on a thread that does nothing else: here it would keep other tasks off this one.
async fn burn(duration: Duration, socket: Socket, shared: &'static Shared) {
    match shared.burns_on_loop {
        true => app::burn(duration),
        false => socket.burn(duration).await,
    }
}

/// Stops accepting, ends the silent connections, and waits for the requests in flight.
fn drain(mut server: Server, listener: TcpListener) -> io::Result<()> {
    listener::stop(&listener);
    server.stop_accepting(&listener)?;
    let has_backlog = !server.accept_backlog(&listener);
    let mut backlog = has_backlog.then_some(listener);
    let draining = Draining::begin(&server.shared.config, &server.shared.counters);
    server.tell_workers(|| Mail::Drain);
    while backlog.is_some() && server.pause(&draining) {
        // Who has ended has left a descriptor for the next.
        backlog = backlog.filter(|listener| !server.accept_backlog(listener));
    }
    server.tell_workers(|| Mail::Close);
    while server.is_busy() {
        if !server.pause(&draining) {
            draining.log_cut_off(server.shared.connections.load(Relaxed));
            break;
        }
    }
    Ok(())
}

impl Worker {
    /// Starts a thread that gives each connection that it is sent a task.
    fn start(shared: &'static Shared) -> Result<Self> {
        let mailbox: &'static Mailbox = Box::leak(Box::new(Mailbox::new()?));
        let (sender, started) = channel();
        let thread = thread::Builder::new().spawn(move || work(mailbox, &sender, shared));
        let thread = thread.context("no thread for --threads")?;
        started.recv().context("a thread has ended")?.map_err(with_advice)?;
        Ok(Self { mailbox, thread })
    }
}

/// Why there is no ring, and what to do.
fn with_advice(error: io::Error) -> anyhow::Error {
    let why = match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::ENOSYS) => "this kernel has none",
        Some(Errno::EPERM | Errno::EACCES) => {
            "it is forbidden, by the seccomp profile of a container or by kernel.io_uring_disabled"
        }
        Some(Errno::EINVAL) => "Linux 6.1 or newer is needed",
        _ => "the kernel refuses it",
    };
    anyhow::Error::from(error).context(format!("no io_uring: {why}; take --driver epoll"))
}

/// One worker: runs tasks until the server stops. Says first whether it can.
fn work(mailbox: &'static Mailbox, started: &Sender<io::Result<()>>, shared: &'static Shared) {
    let reactor: &'static Reactor = match Reactor::new(mailbox) {
        Ok(reactor) => Box::leak(Box::new(reactor)),
        Err(error) => return drop(started.send(Err(error))),
    };
    let _ = started.send(Ok(()));
    let run = reactor.run(|stream, permit| reactor.spawn(stream, |socket| serve(socket, permit, shared)));
    if let Err(error) = run {
        // Its connections are lost, and it would be given more.
        log::error!("a ring has failed: {error}");
        process::exit(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 10,000 connections multiply every byte.
    #[test]
    fn a_task_is_small() {
        fn bytes<Serving>(_serve: impl Fn(Socket, Permit, &'static Shared) -> Serving) -> usize {
            size_of::<Serving>()
        }
        assert!(bytes(serve) + reactor::TASK_BYTES <= 400, "{} and {}", bytes(serve), reactor::TASK_BYTES);
    }
}
