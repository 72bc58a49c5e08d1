//! The supervisor forks; every connection has a process, which blocks.

use std::io;
use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use anyhow::Result;
use common::admin::Admin;
use common::app::{self, Plan, Work};
use common::blocking::Connection;
use common::config::Config;
use common::counters::Counters;
use common::draining::Draining;
use common::held::Held;
use common::http::{Persistence, Request, Response, head};
use common::limits;
use common::listener::{self, AcceptError};
use common::log;
use common::postgres::{self, Question};
use common::shutdown::Shutdown;
use nix::errno::Errno;
use nix::sys::eventfd::{EfdFlags, EventFd};
use socket2::Socket;

use crate::database::Database;
use crate::flags::Flags;
use crate::shared::{Child, Scoreboard, Shared};
use crate::supervisor::Supervisor;
use crate::{Cli, process};

/// How long an idle child waits in `accept` before it asks whether there are too many of them.
const IDLE_CHILD_TIMEOUT: Duration = Duration::from_secs(5);
/// How long killed children may take to be gone.
const KILL_TIMEOUT: Duration = Duration::from_secs(10);

/// Starts the server, and runs it until it is asked to stop.
pub(crate) fn run(cli: &Cli) -> Result<()> {
    let config = cli.config.clone();
    let max_connections = limits::max_connections(config.max_connections, &[limits::processes()])?;
    // The connections are the children's. The supervisor only needs some for those that it refuses: as many as there are.
    limits::descriptors()?;
    let shutdown = Shutdown::install()?;
    let listener = listener::bind("--listen", config.listen, config.backlog, config.reuse_port)?;
    let address = listener.local_addr()?;
    let listener = Socket::from(listener);
    listener.set_read_timeout(Some(IDLE_CHILD_TIMEOUT))?;
    let admin = Admin::bind(&config, env!("CARGO_BIN_NAME"), max_connections)?;
    let admin_address = admin.as_ref().map(Admin::local_addr).transpose()?;
    let scoreboard = Scoreboard {
        database: config.database(),
        counters: Counters::default(),
        surplus: AtomicUsize::new(0),
        children: AtomicUsize::new(0),
        next_index: AtomicUsize::new(0),
    };
    let flags = || process::share_slice(Flags::words(max_connections.count)).map(Flags);
    let shared = Shared {
        postgres: Database::open(&config.database, max_connections.count)?,
        config,
        max_connections: max_connections.count,
        listener,
        scoreboard: process::share(scoreboard)?,
        pids: process::share_slice(max_connections.count)?,
        serving: flags()?,
        waiting: flags()?,
        wakeup: EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC)?,
    };
    log::count_dropped(&shared.scoreboard.counters.log_lines_dropped);
    warm_up(&shared.config);
    supervise(&shared, shutdown, admin, cli.start.min(max_connections.count), || {
        listener::announce(address, admin_address)
    })
}

/// Keeps `start` children ready, says by `announce` when they are, and goes on until asked to stop.
fn supervise(
    shared: &Shared,
    shutdown: Shutdown,
    admin: Option<Admin>,
    start: usize,
    announce: impl FnOnce(),
) -> Result<()> {
    let mut supervisor = Supervisor::new(shared, shutdown, admin, start, accept)?;
    supervisor.spawn_missing();
    announce();
    supervisor.run();
    drain(&mut supervisor, shared);
    Ok(())
}

/// Has libraries look now which instructions this CPU knows: they note it in statics, whose page each child would copy.
fn warm_up(config: &Config) {
    let _ = head::parse(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", &config.limits());
}

/// One child: takes connections, one after the other, until it is asked to stop or there are too many idle children.
///
/// Backpressure: a child takes a connection when it is free. When none is, the supervisor answers 503, or the connection
/// stays in the backlog.
pub(crate) fn accept(child: &Child<'_>) {
    loop {
        // Blocks; the kernel wakes one child for each connection.
        match child.shared.listener.accept() {
            Ok((socket, _)) => {
                // It fails only on a connection that has failed, which shows soon.
                let _ = socket.set_tcp_nodelay(true);
                // The connection may fail: that is the end of it, and of nothing else.
                let _ = serve(socket, child);
            }
            Err(error) => {
                let is_stopping = process::is_stopping().load(Relaxed);
                match AcceptError::classify(&error) {
                    AcceptError::WouldBlock if is_stopping || child.may_leave() => return,
                    AcceptError::WouldBlock | AcceptError::TryNext => {}
                    // The drain has shut the listener down.
                    AcceptError::Exhausted if error.raw_os_error() == Some(Errno::EINVAL as i32) => return,
                    AcceptError::Exhausted if is_stopping => return,
                    AcceptError::Exhausted => {
                        child.shared.scoreboard.counters.accept_failed(&error);
                        thread::sleep(listener::EXHAUSTED_PAUSE);
                    }
                }
            }
        }
    }
}

/// Serves one connection until it ends.
fn serve(socket: Socket, child: &Child<'_>) -> io::Result<()> {
    let _serving = child.serve();
    let stream = &TcpStream::from(socket);
    // Only now does the supervisor count one idle child less. A wakeup that is pending already is enough.
    let _ = child.shared.wakeup.write(1);
    let (config, counters) = (&child.shared.config, &child.shared.scoreboard.counters);
    let is_stopping = process::is_stopping();
    let mut connection = Connection::new(stream, config.limits(), config.timeouts(), counters, is_stopping)?;
    while let Some(request) = connection.read()? {
        let mut response = handle(request, child);
        if is_stopping.load(Relaxed) {
            response.persistence = Persistence::Close;
        }
        connection.write(&response)?;
        if response.persistence == Persistence::Close {
            break;
        }
    }
    connection.linger()
}

/// Answers one request; the database wait blocks this process.
fn handle(request: Request, child: &Child<'_>) -> Response {
    let Plan { work, response } = app::plan(request, child.shared.config.allows_chaos());
    match work {
        Work::Nothing => {}
        Work::Query(wait, query) => {
            app::burn(child.shared.config.burn);
            let _waiting = child.wait();
            let _held = Held::new(&child.shared.config);
            let simulated = &child.shared.scoreboard.database;
            match &child.shared.postgres {
                None => simulated.query(wait),
                // It blocks three times: until there is a connection, until the answer is there, and for `--db-hold`.
                Some(database) => {
                    let question = Question { query, body: &response.body, sleep: simulated.latency(wait) };
                    let answer = database.query(&question, &child.database, &child.shared.scoreboard.counters.database);
                    return postgres::respond(response, answer);
                }
            }
        }
        Work::Burn(duration) => app::burn(duration),
        Work::Chaos(chaos) => chaos.strike(),
    }
    response
}

/// Stops accepting, tells the children to finish, waits for them, and kills those that take too long.
fn drain(supervisor: &mut Supervisor<'_>, shared: &Shared) {
    listener::stop(&shared.listener);
    supervisor.refuse_backlog();
    supervisor.update_counters();
    let draining = Draining::begin(&shared.config, &shared.scoreboard.counters);
    if !supervisor.wait_for_all(draining.remaining().unwrap_or_default()) {
        draining.log_cut_off(supervisor.children());
        supervisor.cut_off();
        supervisor.wait_for_all(KILL_TIMEOUT);
    }
}
