//! A task accepts; every connection has a task, which awaits.

use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use std::{io, net, thread};

use anyhow::{Context as _, Result};
use common::admin::Admin;
use common::app::{self, Plan, Query, Work};
use common::config::Overload;
use common::counters::Counters;
use common::draining::Draining;
use common::held::Held;
use common::http::{Persistence, Request, Response};
use common::limits;
use common::listener::{self, AcceptError};
use common::log;
use common::postgres::{self, Question};
use common::shutdown::Shutdown;
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{consume_budget, spawn_blocking};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::codec::Connection;
use crate::database::Pool;
use crate::shared::Shared;
use crate::{Cli, Http, http1};

/// Starts the server, and runs it until it is asked to stop.
pub(crate) fn run(cli: &Cli) -> Result<()> {
    let config = cli.config.clone();
    let max_connections = limits::max_connections(config.max_connections, &[limits::descriptors()?])?;
    let shutdown = Shutdown::install()?;
    let listener = listener::bind("--listen", config.listen, config.backlog, config.reuse_port)?;
    let address = listener.local_addr()?;
    listener.set_nonblocking(true)?;
    let admin = Admin::bind(&config, env!("CARGO_BIN_NAME"), max_connections)?;
    let admin_address = admin.as_ref().map(Admin::local_addr).transpose()?;
    let shared: &'static Shared = Box::leak(Box::new(Shared {
        database: config.database(),
        postgres: Pool::open(&config.database, cli.db_pipeline)?,
        config,
        http: cli.http,
        burns_on_loop: cli.burn_on_loop,
        counters: Counters::default(),
        room: Arc::new(Semaphore::new(max_connections.count)),
        lingering: Mutex::default(),
        tasks: TaskTracker::new(),
        draining: CancellationToken::new(),
    }));
    log::count_dropped(&shared.counters.log_lines_dropped);
    if let Some(admin) = admin {
        thread::Builder::new().spawn(|| admin.run(&shared.counters)).context("no thread for --admin")?;
    }
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    if let Some(threads) = cli.threads {
        limits::check_threads("--threads", threads)?;
        runtime.worker_threads(threads);
    }
    let runtime = runtime.enable_io().enable_time().build().context("the runtime could not be started")?;
    runtime.block_on(async {
        let listener = TcpListener::from_std(listener)?;
        let shutdown = UnixStream::from_std(shutdown.into_stream())?;
        listener::announce(address, admin_address);
        accept(&listener, &shutdown, shared).await;
        drain(listener.into_std()?, shared).await;
        anyhow::Ok(())
    })?;
    // A burn that runs on the blocking pool must not hold up the exit.
    runtime.shutdown_background();
    Ok(())
}

/// Accepts connections, each for a task of its own, until the server is asked to stop.
async fn accept(listener: &TcpListener, shutdown: &UnixStream, shared: &'static Shared) {
    loop {
        let accepted = tokio::select! {
            _ = shutdown.readable() => return,
            accepted = accept_one(listener, shared) => accepted,
        };
        match accepted {
            Ok((stream, Some(permit))) => spawn(stream, permit, shared),
            Ok((stream, None)) => refuse(stream, shared),
            Err(error) => {
                if AcceptError::classify(&error) == AcceptError::Exhausted {
                    shared.counters.accept_failed(&error);
                    sleep(listener::EXHAUSTED_PAUSE).await;
                }
            }
        }
    }
}

/// Accepts one connection, with a permit if there is room for it.
async fn accept_one(listener: &TcpListener, shared: &Shared) -> io::Result<(TcpStream, Option<OwnedSemaphorePermit>)> {
    // Backpressure: when full, the next connection gets a 503, or stays in the backlog.
    let permit = match shared.config.overload {
        Overload::Wait => shared.room.clone().acquire_owned().await.ok(),
        Overload::Reject => None,
    };
    let (stream, _) = listener.accept().await?;
    Ok((stream, permit.or_else(|| shared.room.clone().try_acquire_owned().ok())))
}

/// Accepts what is in the backlog. False if something is left there, because descriptors ran out. Not by `accept_one`, which
/// looks there only when tokio knows that somebody has come.
fn accept_backlog(listener: &net::TcpListener, shared: &'static Shared) -> bool {
    let accept = || -> io::Result<TcpStream> {
        let (stream, _) = listener.accept()?;
        stream.set_nonblocking(true)?;
        TcpStream::from_std(stream)
    };
    loop {
        match accept() {
            Ok(stream) => match shared.room.clone().try_acquire_owned() {
                Ok(permit) => spawn(stream, permit, shared),
                Err(_) => refuse(stream, shared),
            },
            Err(error) => match AcceptError::classify(&error) {
                AcceptError::WouldBlock => return true,
                AcceptError::TryNext => {}
                AcceptError::Exhausted => {
                    shared.counters.accept_failed(&error);
                    return !listener::has_backlog(listener);
                }
            },
        }
    }
}

/// Gives the connection a task.
fn spawn(stream: TcpStream, permit: OwnedSemaphorePermit, shared: &'static Shared) {
    // It fails only on a connection that has failed, which shows soon.
    let _ = stream.set_nodelay(true);
    // The connection may fail: that is the end of it, and of nothing else.
    match shared.http {
        Http::Hyper => drop(shared.tasks.spawn(http1::serve(stream, permit, shared, handle))),
        Http::Codec => drop(shared.tasks.spawn(serve(stream, permit, shared))),
    }
}

/// Answers 503 to a connection for which there is no room.
fn refuse(stream: TcpStream, shared: &'static Shared) {
    shared.counters.refuse();
    // A new socket has room for it. tokio does not know that yet, and would have us wait.
    if SockRef::from(&stream).send(&Response::full().encode()).is_ok() {
        let lingering = shared.tasks.spawn(async move { Connection::new(stream, shared).linger().await });
        shared.linger(lingering.abort_handle());
    }
}

/// Serves one connection until it ends.
///
/// Not an `async fn`: each of 10,000 tasks would keep room for the arguments, besides what was made of them.
fn serve(
    stream: TcpStream,
    permit: OwnedSemaphorePermit,
    shared: &'static Shared,
) -> impl Future<Output = io::Result<()>> {
    let held = (permit, shared.counters.open());
    let mut connection = Connection::new(stream, shared);
    async move {
        // Only mentioned, so that the task has it until its end.
        let _held = &held;
        let mut draining = pin!(shared.draining.cancelled());
        // Not `while let`, which would keep room for what it has matched.
        loop {
            let Some(request) = connection.read(draining.as_mut()).await? else { break };
            // A client that sends without pause never makes us wait: others want their turn.
            consume_budget().await;
            let mut response = handle(request, shared).await;
            if shared.draining.is_cancelled() {
                response.persistence = Persistence::Close;
            }
            connection.write(&response).await?;
            if response.persistence == Persistence::Close {
                break;
            }
        }
        Box::pin(connection.linger()).await
    }
}

/// Answers one request; the database wait suspends this task. Not an `async fn`: see [`serve`].
fn handle(request: Request, shared: &'static Shared) -> impl Future<Output = Response> {
    let Plan { work, response } = app::plan(request, shared.config.allows_chaos());
    async move {
        match work {
            Work::Nothing => {}
            Work::Query(wait, query) => {
                if !shared.config.burn.is_zero() {
                    Box::pin(burn(shared.config.burn, shared)).await;
                }
                let _waiting = shared.counters.wait();
                let _held = Held::new(&shared.config);
                if let Some(pool) = &shared.postgres {
                    // Boxed: a task has no room for what only a real database needs.
                    return Box::pin(ask(pool, query, wait, response, shared)).await;
                }
                // Even for a wait of zero, tokio sleeps to the next millisecond. Not `if latency.is_zero()`: what is
                // borrowed has room in the task.
                if let Some(latency) = Some(shared.database.latency(wait)).filter(|latency| !latency.is_zero()) {
                    sleep(latency).await;
                }
            }
            Work::Burn(duration) => Box::pin(burn(duration, shared)).await,
            Work::Chaos(chaos) => chaos.strike(),
        }
        response
    }
}

/// Burns CPU on a thread of the blocking pool: here it would keep other tasks off this one.
async fn burn(duration: Duration, shared: &'static Shared) {
    match shared.burns_on_loop {
        true => app::burn(duration),
        false => spawn_blocking(move || app::burn(duration)).await.unwrap_or_default(),
    }
}

/// Has a real database answer. It suspends this task three times: until there is a connection, until the answer is there,
/// and for `--db-hold`.
async fn ask(
    pool: &'static Pool,
    query: Query,
    wait: Option<Duration>,
    response: Response,
    shared: &'static Shared,
) -> Response {
    let question = Question { query, body: &response.body, sleep: shared.database.latency(wait) };
    let answer = pool.query(&question, &shared.counters.database).await;
    postgres::respond(response, answer)
}

/// Stops accepting, ends the silent connections, and waits for the requests in flight.
async fn drain(listener: net::TcpListener, shared: &'static Shared) {
    listener::stop(&listener);
    let has_backlog = !accept_backlog(&listener, shared);
    let mut backlog = has_backlog.then_some(listener);
    let draining = Draining::begin(&shared.config, &shared.counters);
    shared.draining.cancel();
    let finish = async {
        while backlog.is_some() {
            sleep(listener::EXHAUSTED_PAUSE).await;
            // Who has ended has left a descriptor for the next.
            backlog = backlog.take().filter(|listener| !accept_backlog(listener, shared));
        }
        shared.tasks.close();
        shared.tasks.wait().await;
    };
    if timeout(draining.remaining().unwrap_or_default(), finish).await.is_err() {
        draining.log_cut_off(shared.tasks.len());
    }
}
